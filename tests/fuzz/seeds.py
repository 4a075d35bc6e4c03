#!/usr/bin/env python3
"""Writes the first inputs of the fuzz targets to tests/fuzz/corpus/<target>/, from the golden store and by hand.

    seeds.py [--to tests/fuzz/corpus]

What the targets themselves found worth keeping lies beside them (make fuzz-merge) and is not touched.
"""
import argparse
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tools"))
from xxh3 import xxh3_64  # noqa: E402

STORE = os.path.join(TOP, "tests/golden/v1/root")
SPACE = [x for x in os.listdir(STORE) if x.startswith("golden-")][0]
SHARD = os.path.join(STORE, SPACE, "s0of2")


def golden(*names):
    with open(os.path.join(*names), "rb") as f:
        return f.read()


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def blob(b):
    return u16(len(b)) + b


def frame(number, position, records, segment, data_end=1 << 30, flags=0):
    def head(checksum):
        return b"CFRM" + struct.pack("<HHQQ", len(records) // 64, flags, number, position) + segment \
            + struct.pack("<QQQ", data_end, 1, checksum)
    return head(xxh3_64(head(0) + records)) + records


def block(key, offset=0, lengths=(1,), depth=0):
    mask = (1 << len(lengths)) - 1
    out = bytes([key]) * 32 + struct.pack("<QII", key, offset, lengths[0]) \
        + struct.pack("<BBHIQ", 1, len(lengths), mask, depth, 0)
    for i in range(1, len(lengths), 4):
        part = list(lengths[i:i + 4])
        pad = [0] * (4 - len(part))
        out += struct.pack("<4Q4I", *range(len(part)), *pad, *part, *pad) + bytes([2, len(part)]) + bytes(14)
    return out


def toc_header():
    page = golden(SHARD, "00000000000000a1-00000000.toc")[:128]
    yield "golden", b"\0" + page
    yield "repaired", b"\1" + page
    yield "later", b"\1" + page[:104] + u32(1) + page[108:]
    yield "last", b"\1" + page[:72] + u64((1 << 32) - 1) + u32(255) + u32(256) + page[88:]
    yield "near", b"\7" + bytes(64) + u64(1) + u64(2) + u32(3) + u32(4)
    yield "empty", b"\3"


def pin():
    def file(keys, label=b"prompt", count=None, flags=0):
        return struct.pack("<8sII32sQQQII64s40sQ", b"CISTNPN1", 1, flags, bytes(32), 5, 9, 4096,
                           len(keys) // 32 if count is None else count, 0, label, b"", 0) + keys
    yield "one", b"\1" + file(bytes(range(32)))
    yield "several", b"\5" + file(bytes(320))
    yield "none", b"\1" + file(b"")
    yield "count", b"\1" + file(bytes(64), count=3)
    yield "label", b"\1" + file(bytes(32), label=b"x" * 64)
    yield "later", b"\1" + file(bytes(32), flags=1)
    yield "name", b"\0" + b"0123456789abcdef.pin"
    yield "empty", b"\3"


def head():
    page = golden(SHARD, "00000000000000a1.head")
    yield "golden", b"\0" + u16(4) + page[:320]
    yield "touches", b"\1" + u16(1200) + page[:184] + bytes(72) + b"".join(u32(i) for i in range(20))
    yield "host", b"\1" + u16(0) + page[:112] + b"h" * 64
    yield "near", b"\7" + u16(0) + page[:64] + u32(3) + u32(4) + u64(1) + u64(2)
    yield "empty", b"\3"


def frames():
    toc = golden(SHARD, "00000000000000a1-00000000.toc")[4096:]
    own = b"segment sixteen\0"
    yield "golden", b"\3" + toc[:3000]
    one = frame(0, 4096, block(1) + block(2, 8, (4096, 1, 2)), own)
    two = frame(1, 4096 + len(one), block(3, 9, tuple(range(1, 17))), own)
    yield "raw", b"\0" + one + two
    padded = frame(2, 8192, block(4, 1), own)
    yield "padded", b"\0" + one + two + bytes(4096 - len(one) - len(two)) + padded
    dead = bytes(32) + own + bytes([3, 2, 0, 0]) + u32(7) + bytes(8)
    aside = bytes(32) + own + bytes([4, 1, 0, 0]) + bytes(12)
    yield "kinds", b"\1" + frame(0, 4096, dead + aside + bytes(48) + b"\x09" + bytes(15), own)
    yield "later", b"\1" + one + frame(1, 4096 + len(one), block(5), own, flags=2)
    yield "full", b"\2" + bytes(4) + u16(63) + bytes(58) + b"".join(block(i, i) for i in range(63))
    yield "torn", b"\0" + one + two[:100]
    yield "crossing", b"\x0e" + u16(60) + b"CFRM" + u16(6) + bytes(58) + b"".join(block(i, i) for i in range(6))
    yield "elsewhere", b"\6" + u16(33) + one


def growing():
    many = b"".join(bytes([0, i, i]) + u16(i) for i in range(60))
    large = b"".join(bytes([0, 0x53, i]) + u16(i) + b"\xff\xff" for i in range(30))
    looks = bytes([3]) + u16(500) + bytes([9]) + u16(4100) + bytes([0])
    yield "plain", bytes([2]) + bytes([len(looks)]) + looks + bytes([0]) + bytes([0, 60]) + many
    yield "parts", bytes([4]) + bytes([len(looks)]) + looks + bytes([0]) + (bytes([5, 30]) + large) * 2
    yield "undone", bytes([3, 0, 0, 64, 20]) + many[:100] + bytes([0, 20]) + many[:100]
    yield "damaged", bytes([2, 2]) + u16(200) + bytes([1]) + bytes([1]) + u16(80) + b"\x01" + bytes(29) + bytes([0, 40]) + many
    yield "dead", bytes([1, 0, 0, 0, 9]) + b"".join(bytes([6, i]) + u32(i) + bytes([7, i]) for i in range(6))


def contents():
    toc = golden(SHARD, "00000000000000a1-00000000.toc")[4096:4096 + 1500]
    own = b"\x30" * 16
    frames_ = frame(0, 4096, block(1) + block(2, 8, (4096, 1)), own)
    first = bytes([0, 0]) + blob(frames_)
    second = bytes([5, 3]) + blob(toc)
    head_ = bytes([32, 0]) + blob(bytes([0, 1]) + u32(9) + bytes([0, 2]) + u32(8192))
    seen = u16(4200) + u16(4100) + u16(4096)
    yield "three", bytes([2]) + first + second + head_ + bytes([2]) + (seen + b"\0") * 2
    yield "faults", bytes([1]) + first + head_ + bytes([3]) + u16(4096) + u16(5) + b"\7\0\0\1" + u16(60) + u16(9000) + b"\x18" + u16(80)
    yield "names", bytes([2]) + bytes([128, 0]) + blob(b"0000000000000011-00000002.toc" + bytes(11)) + first \
        + bytes([64, 0]) + blob(b"x")
    yield "raw", bytes([0, 0, 32]) + blob(golden(SHARD, "00000000000000a1-00000000.toc")[:4500])


OWN_SPACE = b'{"block_tokens":64,"dtype":"bf16","epoch":3,"extra":"","head_dim":0,"kv_heads":0,"layers":0,"layout":"",' \
    b'"model":"m","name":"fuzz","parts":[{"bytes":4096,"name":"kv","policy":"all","window":0},{"bytes":100,"name":"swa",' \
    b'"policy":"trailing","window":4}],"revision":"","shards":1}\n'


def root():
    salt, store, space = golden(STORE, "salt"), golden(STORE, "cistern.json"), golden(STORE, SPACE, "space.json")
    yield "golden", b"\0\x0d" + u32(7) + blob(salt) + store
    yield "new", b"\0\x01" + u32(1 << 30)
    yield "later", b"\0\x0c" + u32(7) + blob(salt) + b'{"format":3}'
    yield "damaged", b"\0\x0d" + u32(7) + blob(salt) + store[:20]
    yield "small", b"\0\x0d" + u32(7) + blob(salt) + b'{"format":1,"capacity_bytes":0,"segment_bytes":1,"created_s":2}'
    yield "later-whole", b"\0\x0d" + u32(7) + blob(salt) + b'{"format":3,"capacity_bytes":0,"segment_bytes":1,"created_s":2}'
    yield "encrypted", b"\0\x0d" + u32(7) + blob(salt) + \
        b'{"format":2,"encryption":"aes-256-gcm","key_id":"0123456789abcdef","capacity_bytes":0,"segment_bytes":1,"created_s":2}'
    yield "short-salt", b"\0\x0d" + u32(7) + blob(salt[:31]) + store
    yield "faults", b"\0\x0f" + u32(7) + b"\x46" + blob(salt) + b"[]"
    yield "space", b"\1\x0d" + b"s0of1".ljust(15, b"\0") + space
    own = OWN_SPACE.replace(b',{"bytes":100,"name":"swa","policy":"trailing","window":4}', b"").replace(b'"epoch":3', b'"epoch":0')
    yield "same-space", b"\1\x15" + b"s0of1".ljust(15, b"\0") + b" " + own
    yield "no-space", b"\1\x09" + b"x".ljust(15, b"\0")


def space_text():
    yield "golden", golden(STORE, SPACE, "space.json")
    yield "own", OWN_SPACE
    yield "loose", b' { "z" : [1.5, -3, true, null, {"\\u00e9":"\\n"}], "shards": 2 } '
    yield "other", OWN_SPACE.replace(b'"layers":0', b'"layers":{"a":1}')
    yield "small", b'{"shards":256}'
    yield "long", OWN_SPACE.replace(b'"m"', b'"' + b"m" * 300 + b'"')


def space_struct():
    def text(s):
        return bytes([len(s)]) + s
    fields = text(b"demo") + text(b"model") + text(b"") + text(b"bf16") + text(b"\xff"[:0]) + text("é\"".encode())
    yield "plain", b"\0\0" + fields + b"\0"
    yield "all", b"\5\3" + fields + b"\3" + u64(9) + u32(64) + u32(2) + u32(3) + u32(4) + u16(8) + b"\0\2" + u64(1 << 30) \
        + b"\4\2" + u16(7)
    yield "long", b"\1\0" + text(b"n" * 64) + b"\xfa\2" + text(b"") + b"\xfb\2" + text(b"") + b"\xfa\5" + b"\0"
    yield "policy", b"\0\0" + fields + b"\4\1" + u16(0)
    yield "grown", b"\0\x28" + fields + b"\0" + u16(200)
    yield "cut", b"\0\x08" + fields + b"\0" + u16(104)


def options():
    line = b"--reuse_cache\nTrue\n--enable_3fs=1\n--threefs-read-iov-size\n4G\nword\n--\n--lanes\n3"
    yield "line", b"\1" + line
    yield "set", b"\x0cmount=/mnt/x//\nroot=a/b/\nlanes=4\nsegment_bytes=64MiB\nio_bytes=1M\nshard=3\nprovider=local"
    yield "environment", b"\2REUSE_CACHE=on\nCISTERN_MOUNT=/a\nTHREEFS_MATCH_TIMEOUT_MS=5\nCISTERN_DEPTH=7\nMAX_BLOCK_SIZE_PER_ITEM=2"
    yield "numbers", b"\0" + b"\n".join([b"18446744073709551615", b"18446744073709551616", b"16777215T", b"16777216T", b"4GiB", b"1k",
                                         b"4294967296", b"yes", b"OFF", b"3Kb"])
    yield "bounds", b"\x0csegment_bytes=18446744073709551615\nio_bytes=8192\ncapacity_bytes=1T\nmax_blocks=2147483648"
    yield "numbers-alone", b"\4segment_bytes=18446744073709551615\nio_bytes=8192"
    yield "strict", b"\3all\nholes,exact\n1:stale crossing\noverlap,,\n"


def clusters():
    one = b'{"name":"a","hosts":["w*","?"],"storage":"s","mount":"/m"}'
    two = b'{"name":"b","hosts":["x[0-9]"],"storage":"t","mount":"/m/n"}'
    both = b'{"clusters":[' + one + b"," + two + b"]}"
    info = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /m rw - fuse.hf3fs hf3fs.t rw\n"
    yield "own", both + b"\0w1\0/m/r\0"
    yield "other", both + b"\0w1\0/m/n/r\0"
    yield "kernel", both + b"\0w1\0/m/r\0" + info
    yield "space", both + b"\0x7\0/m/o r\0" + info.replace(b"/m rw", b"/m/o\\040r rw")
    yield "nobody", both + b"\0zz\0/data/../m\0"
    yield "named-twice", b'{"clusters":[' + one + b"," + one + b"]}\0w\0/m\0"
    yield "root", b'{"clusters":[{"name":"a","storage":"s","mount":"/"}]}\0\0\0'
    yield "dots", b'{"clusters":[{"name":"a","storage":"s","mount":"/a/..//./b/"}]}\0w\0/../b/c/..\0'
    yield "long", b'{"clusters":[{"name":"a","storage":"s","mount":"/' + b"m" * 300 + b'"}]}\0w\0/' + b"p" * 700 + b"\0"


def cli():
    yield "space", b"\0" + golden(STORE, SPACE, "space.json")
    yield "parts", b"\0" + b'{"model":"m","parts":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}'
    yield "parts-too-many", b"\0" + b'{"model":"m","parts":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}'
    yield "size", b"\1" + b"64KiB"
    yield "number", b"\1" + b"999"
    yield "tokens", b"\2[1, 2,4294967295 , 0]"
    yield "text", b"\2tell me"
    yield "keys", b"\3" + b"0123456789abcdefABCDEF0123456789" * 2 + b"\n " + b"00ff" * 16
    yield "line", b"\4--size\n4M\n--number=7\nword\n--flag\n--decimal=1.5\n--\n--string"


def importing():
    segment = bytes([1, 3]) + b"".join(bytes([i * 3]) + u16(100 * i) + u16(5000) + u16(1) for i in range(3))
    hits = b"\0" + u32(6000) + b"\1"
    yield "plain", b"\0\0" + b"\2" + segment * 2
    yield "pieces", b"\x10\1" + b"\1" + segment + u16(700)
    yield "damaged", b"\2\0" + hits.ljust(40, b"\0") + b"\2" + segment * 2
    yield "repaired", b"\x16\0" + (b"\0" + u32(700) + b"\2").ljust(40, b"\0") + b"\1" + segment
    yield "cut", b"\x08\0" + u32(9000).ljust(40, b"\0") + b"\1" + segment
    yield "faults", b"\x60\x10" + b"\2" + segment * 2
    yield "skipped", b"\0\0" + b"\1" + bytes([2, 2, 250]) + u16(9) + bytes([1]) + u16(10)


def page():
    def change(*places):
        return b"".join(u16(at) + bytes([by]) for at, by in places)

    yield "real", b"\0" + u16(0)
    yield "shorter", b"\1" + u16(9)
    yield "kind", b"\1" + u16(0) + change((128 + 48, 2))
    yield "lengths", b"\1" + u16(0) + change((130, 255), (131, 1))
    yield "head", b"\1" + u16(0) + change((12, 16), (76, 1), (80, 3))
    counter = b"\0\0" + u16(2) + u16(2) + u16(3) + u64(5) + b"a\0b\0\0\0\0"
    histogram = b"\2\2" + u16(2) + u16(2) + u16(8) + u64(9) + b"h\0b\0\0\0\0\0" + u64(1) + u64(2) + u64(0) * 2
    yield "counter", b"\3" + u16(0) + counter + b"\1"  # how many there are stands in the last byte
    yield "histogram", b"\3" + u16(0) + histogram + u64(1 << 56)
    yield "level", b"\3" + u16(0) + histogram[:-24] + u64(1) + u64(0) * 2 + u64(1 << 56)
    yield "both", b"\3" + u16(0) + counter + b"\0" + histogram + u64(2 << 56)


def names():
    yield "data", b"0123456789abcdef-00000001.seg"
    yield "contents", b"00000000000000a1-ffffffff.toc"
    yield "head", b"fedcba9876543210.head"
    yield "other", b".tmp-0123456789abcdef"


CALLS = ["prep"] * 4 + ["wait"] * 2 + ["submit", "iovcreate", "iovopen", "iovwrap"] + ["iorcreate"] * 2 + ["reg"] * 2 \
    + ["dereg", "iovunlink", "iovdestroy", "iordestroy", "sizes", "reopen", "is", "extract", "hardlink", "punch", "truncate",
       "roots", "info"]


def call(name, *arguments):
    return bytes([CALLS.index(name), *arguments])


def client(how):
    """Memory, a ring for reading and one for writing, a registered file, some I/O, a wait for it."""
    out = bytes([how]) + call("iovcreate", 0, 0, 0, 0, 0)
    out += call("iorcreate", 66, 0, 0, 1, 0, 0, 0, 0, 0, 3)  # ring 0 reads
    out += call("iorcreate", 1, 0, 4, 1, 0, 0, 0, 0, 0, 0)  # ring 1 writes
    out += call("reg", 0, 0) + call("reg", 3, 0)
    for i in range(4):
        out += call("prep", 0, 0, 0, 0, *u16(i * 4096), 0, *u16(i * 4096), *u16(4096))
        out += call("prep", 1, 0, 0, 0, *u16(i * 3000), 0, *u16(40000 + i * 3000), *u16(3000))
    out += call("submit", 0) + call("submit", 1)
    out += call("wait", 0, 4, 3, 0x20) + call("wait", 0, 20, 2, 0x60) + call("wait", 1, 20, 3, 0xc0)
    return out


def usrbio():
    for name, how in (("memory", 0), ("io_uring", 1), ("threads", 2), ("inline", 3), ("strict", 12 + 1), ("exact", 16 + 2)):
        yield name, client(how)
    yield "destroyed", client(1)[:-10] + call("iovdestroy", 0) + call("iordestroy", 0)
    yield "shared", client(0) + call("iovopen", 1, 0, 0, 0, 0, 1) + call("iovunlink", 0) + call("iovdestroy", 0) \
        + call("iovwrap", 2, 0, *u16(5000), 0, 0)
    yield "files", b"\0" + call("reg", 1, 0) + call("reopen", 1) + call("reg", 1, 0) + call("dereg", 1) \
        + call("hardlink", 2, 254, *b"name", 0, 0, 0, 0) + call("punch", 2, 0, 0) + call("truncate", 0, 0, 9) \
        + call("extract", 0, 7, 0) + call("is", 0) + call("info", 0, 200, 0) + call("roots", 2) + call("sizes", 0, 9, 0, 0)


def sealed():
    def change(*places):
        return b"".join(u16(at) + bytes([by]) for at, by in places)

    hexes = b"# keys\n" + b"ab" * 32 + b"\n" + b"CD" * 32 + b"\n"
    yield "untouched", b"\0" + u16(len(hexes)) + hexes
    yield "raw", b"\0" + u16(32) + bytes(range(32))
    yield "short", b"\0" + u16(4) + b"abcd"
    yield "wrapped", b"\0" + u16(0) + change((152, 1))
    yield "free", b"\0" + u16(0) + change((121, 1), (149, 2))
    yield "record", b"\1" + u16(0) + change((4096 + 128 + 32, 1))
    yield "serial", b"\1" + u16(0) + change((4096 + 64 + 16, 1))
    yield "torn", b"\0" + u16(0) + change((4096 + 60, 1))


TARGETS = {f.__name__.replace("importing", "import"): f for f in (importing, toc_header, pin, head, page, frames, growing, contents, root, space_text, space_struct, options, clusters, cli, names,
                                   usrbio, sealed)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--to", default=os.path.join(HERE, "corpus"))
    a = p.parse_args()
    for target, seeds in TARGETS.items():
        os.makedirs(os.path.join(a.to, target), exist_ok=True)
        for name, data in seeds():
            with open(os.path.join(a.to, target, name), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main()
