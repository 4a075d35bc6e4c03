"""Golden files: what a release wrote stays readable, by the library and by the reader that shares no code with it.

tests/golden/v1/expected.json says what was meant to be written. It is compared with what the C reading code finds
(dump) and with what tools/cistern_read.py finds; and the C writing code must still give the same bytes.
"""
import filecmp
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
GOLDEN = os.path.join(HERE, "v1")
ROOT = os.path.join(GOLDEN, "root")
READER = os.path.join(TOP, "tools", "cistern_read.py")
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
sys.path.insert(0, os.path.join(TOP, "tools"))

import xxh3  # noqa: E402

with open(os.path.join(GOLDEN, "expected.json")) as f:
    EXPECTED = json.load(f)

# XXH3-64 of bytes (7*i*i + 13*i + i//256) mod 256, from the xxhash library.
VECTORS = {
    0: 0x2d06800538d394c2,
    1: 0xc44bdff4074eecdb,
    3: 0x6647634850539fa2,
    4: 0x26dfb56de65c55cd,
    8: 0x83a192ada40b0ce9,
    9: 0x2dac7c782402c359,
    16: 0x1e83ace8efbd71b2,
    17: 0x13de6825446895bb,
    32: 0x200d277255f7480e,
    33: 0xe6a1970abc497b1c,
    64: 0x48f834e51aae01a6,
    96: 0x094e301bca90ebbc,
    97: 0x9d86dba2cd388dad,
    128: 0x370f45fbc0443ee5,
    129: 0x81c5ee1d1813e394,
    240: 0xa638b2ea0d229925,
    241: 0x5b091583477772f7,
    1023: 0xe799f53d0da7e0b0,
    1024: 0xb8756b20ce66095f,
    1025: 0x1ccad3e25c08280e,
    2049: 0xd4ea6e660be99d76,
    5999: 0x668c8324ade7d26f,
}


def program(name):
    path = os.path.join(BUILD, "tests", "golden", name)
    if not os.path.exists(path):
        pytest.fail(f"{path} is not built: make golden-programs")
    return path


def read(*args, root=ROOT):
    return subprocess.run([sys.executable, READER, *args, root], capture_output=True, timeout=60)


def by_name(segments):
    return sorted(segments, key=lambda s: (s["shard"], s["name"]))


def blocks(segment):
    return [r for r in segment["records"] if r["kind"] == "block"]


def unusable():
    """(segment, key, offset) of all copies that are dead, and the segments that are set aside."""
    records = [r for s in EXPECTED["segments"] for r in s["records"]]
    return ({(r["segment_id"], r["key"], r["offset"]) for r in records if r["kind"] == "dead"},
            {r["segment_id"] for r in records if r["kind"] == "aside"})


def is_dead(segment, block):
    dead, aside = unusable()
    return segment["id"] in aside or (segment["id"], block["key"], block["offset"]) in dead


def from_reader(store):
    """What the Python reader found, in the shape of expected.json."""
    (space,) = store["spaces"]
    segments, heads = [], []
    for shard in space["shards"]:
        for s in shard["segments"]:
            h = s["header"]
            records = [dict(kind="block", **b) for b in s["blocks"]] + [dict(kind="dead", **d) for d in s["dead"]] + \
                      [dict(kind="aside", **a) for a in s["aside"]]
            segments.append({"name": f"{h['writer']}-{h['seq']:08x}", "shard": h["shard"], "shards": h["shards"],
                             "id": h["id"], "created_s": h["created_s"], "records": records,
                             **{k: s[k] for k in ("end", "position", "frames", "data_end")}})
        heads += [dict(h, shard=shard["shard"]) for h in shard["heads"]]
    return segments, heads


def plain(record):
    """A record without what only one side knows."""
    record = {k: v for k, v in record.items() if k not in ("dead", "end")}
    if record["kind"] == "block":
        record["parts"] = [{k: p[k] for k in ("part", "offset", "length")} for p in record["parts"]]
    return record


def compare(segments, heads):
    assert len(segments) == len(EXPECTED["segments"]) == 4
    for got, want in zip(by_name(segments), by_name(EXPECTED["segments"])):
        assert {k: v for k, v in got.items() if k != "records"} == {k: v for k, v in want.items() if k != "records"}
        for kind in ("block", "dead", "aside"):
            assert [plain(r) for r in got["records"] if r["kind"] == kind] == \
                   [plain(r) for r in want["records"] if r["kind"] == kind]
    got = sorted(heads, key=lambda h: h["writer"])
    want = sorted(EXPECTED["heads"], key=lambda h: h["writer"])
    assert [{k: g[k] for k in w} for g, w in zip(got, want)] == want
    assert len(got) == len(want)


def test_plain_python_xxh3_agrees_with_the_library():
    data = bytes((7 * i * i + 13 * i + (i >> 8)) & 255 for i in range(6000))
    for n, want in VECTORS.items():
        assert xxh3.xxh3_64_plain(data[:n]) == want, n


def test_c_reads_what_was_written():
    out = subprocess.run([program("dump"), os.path.join(ROOT, EXPECTED["space"])], capture_output=True, check=True)
    found = json.loads(out.stdout)
    compare(found["segments"], found["heads"])
    parts = [p for s in found["segments"] for b in blocks(s) for p in b["parts"]]
    assert len(parts) > 40 and all(p["ok"] for p in parts)


def test_python_reads_what_was_written():
    out = read("--json")
    store = json.loads(out.stdout)
    compare(*from_reader(store))
    assert store["about"] == {"format": 1, "capacity_bytes": 1 << 40, "created_s": 1700000000,
                              "segment_bytes": 64 << 20}
    assert store["spaces"][0]["fingerprint"] == EXPECTED["fingerprint"]
    # the torn frame is the one thing to find, and the reader says so
    assert out.returncode == 1
    assert store["findings"] == [f"{EXPECTED['space']}/s1of2/00000000000000b2-00000000.toc: "
                                 "contents end at 4480: torn"]


def test_python_verifies_every_payload_that_may_be_used():
    store = json.loads(read("--json").stdout)
    verified = 0
    for shard in store["spaces"][0]["shards"]:
        for s in shard["segments"]:
            for b in s["blocks"]:
                assert b["dead"] == is_dead({"id": s["header"]["id"]}, b)
                assert all(p["ok"] is (None if b["dead"] else True) for p in b["parts"])
                verified += not b["dead"]
    assert verified == 9


def test_python_extracts_the_bytes():
    for s in EXPECTED["segments"]:
        for b in blocks(s):
            for p in b["parts"]:
                usable = [r for other in EXPECTED["segments"] for r in blocks(other)
                          if r["key"] == b["key"] and not is_dead(other, r)]
                if p["part"] not in (0, b["parts"][-1]["part"]):
                    continue
                out = read("--key", b["key"], "--part", str(p["part"]))
                assert out.returncode == (0 if usable else 1)
                assert hashlib.sha256(out.stdout).hexdigest() == p["sha256"] if usable else not out.stdout


def test_the_cases_are_all_in_the_golden_store():
    """A golden store that loses its hard cases proves nothing."""
    all_blocks = [b for s in EXPECTED["segments"] for b in blocks(s)]
    assert {len(b["parts"]) for b in all_blocks} >= {1, 2, 5, 6, 7, 16}
    assert {p["length"] for b in all_blocks for p in b["parts"]} >= {1, 4096, 4097}
    assert {s["end"] for s in EXPECTED["segments"]} == {"end", "torn"}
    dead, aside = unusable()
    assert len(dead) == 51 and len(aside) == 1
    with open(os.path.join(ROOT, EXPECTED["space"], "s0of2", "00000000000000a1-00000000.toc"), "rb") as toc:
        page = toc.read()[4096:8192]
    assert page[-128:] == bytes(128) and page[-192:-128] != bytes(64)  # padding


def test_c_still_writes_the_same_bytes(tmp_path):
    subprocess.run([program("make_golden"), str(tmp_path)], check=True, timeout=60)
    for folder, _, names in os.walk(GOLDEN):
        for name in names:
            old = os.path.join(folder, name)
            assert filecmp.cmp(old, tmp_path / os.path.relpath(old, GOLDEN), shallow=False), old


DAMAGE = [  # file, offset, what the reader must find
    ("s0of2/00000000000000a1-00000000.seg", 16384, "not what was stored"),
    ("s0of2/00000000000000a1-00000000.toc", 130, "header of contents"),
    ("s0of2/00000000000000a1-00000000.toc", 4200, "contents end at 4096: torn"),
    ("s0of2/00000000000000a1-00000000.toc", 8100, "contents end at 8064: torn"),
    ("s0of2/00000000000000a1.head", 90, "head is wrong"),
    ("space.json", 20, "not the description"),
]


@pytest.mark.parametrize("name,offset,finding", DAMAGE)
def test_python_finds_damage(tmp_path, name, offset, finding):
    root = tmp_path / "root"
    shutil.copytree(ROOT, root)
    path = root / EXPECTED["space"] / name
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)
    out = read("--json", root=str(root))
    assert out.returncode == 1
    assert any(finding in line for line in json.loads(out.stdout)["findings"])
    if name == "space.json":  # the rest still proves itself
        assert sum(len(s["blocks"]) for sh in json.loads(out.stdout)["spaces"][0]["shards"]
                   for s in sh["segments"]) == sum(len(blocks(s)) for s in EXPECTED["segments"])


def test_python_reader_says_what_is_wrong_with_the_call(tmp_path):
    assert read(root=str(tmp_path)).returncode == 3
    assert read("--key", "xyz").returncode == 2
    assert read("--key", "0" * 64).returncode == 1
    (tmp_path / "cistern.json").write_text('{"format":9}')
    out = read(root=str(tmp_path))
    assert out.returncode == 3 and b"version 9" in out.stderr
