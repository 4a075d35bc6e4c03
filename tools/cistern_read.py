#!/usr/bin/env python3
"""Reads a Cistern store as docs/FORMAT.md describes it, without the library.

    cistern_read.py ROOT                          spaces, shards, segments, blocks; every payload is verified
    cistern_read.py --json ROOT                   the same for programs
    cistern_read.py --no-verify ROOT              contents only; payloads are not read (plain-Python XXH3 is slow)
    cistern_read.py --key HEX [--part N] ROOT     the verified bytes of one part, on stdout
    cistern_read.py --key-file FILE ROOT          of an encrypted root (else CISTERN_ENCRYPTION_KEY_FILE); needs the
                                                  Python module `cryptography`, which plain roots do without

It shares no code with the library on purpose: that two readers agree is the proof of the description. It only reads,
and may be used on a store that is being written. Exit status: 0 all good, 1 something is damaged or not found, 2 wrong
usage, 3 no store, 4 a file could not be read.
"""
import argparse
import hashlib
import json
import os
import re
import struct
import sys

from xxh3 import xxh3_64

PAGE = 4096
RECORD = 64
TOC_MAGIC, HEAD_MAGIC, FRAME_MAGIC = b"CSTNTOC1", b"CISTNHD1", b"CFRM"
BLOCK, PARTS, DEAD, ASIDE, SEAL = 1, 2, 3, 4, 5
ENCRYPTED = 1  # in the flags of a header page and of a frame
REASONS = {1: "deleted", 2: "checksum", 3: "length", 4: "io"}
STATES = {1: "live", 2: "closed"}
PART_MAX = 1 << 30

TOC_HEADER = struct.Struct("<8sII32s16sQQIIQQI12xQ")
FRAME_HEADER = struct.Struct("<4sHHQQ16sQQQ")
BLOCK_RECORD = struct.Struct("<32sQIIBBHI8x")
PARTS_RECORD = struct.Struct("<4Q4IBB14x")
DEAD_RECORD = struct.Struct("<32s16sBB2xI8x")
HEAD_RECORD = struct.Struct("<8sII32sQQIIQQQQII64sQI")
IDENTITY = struct.Struct("<32s16s32sQII")

SHARD_DIR = re.compile(r"s(\d+)of(\d+)")
SEGMENT_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})\.toc")
HEAD_NAME = re.compile(r"([0-9a-f]{16})\.head")


class Bad(Exception):
    """What a file holds is not what the format allows; the text says what."""


def read_file(path, limit=1 << 32):
    with open(path, "rb") as f:
        return f.read(limit)


def page_checked(page, magic, checksum_at, what):
    """A page with the magic first and its checksum at a place; Bad if it is not one."""
    if len(page) < PAGE or page[:8] != magic:
        raise Bad(f"no {what}")
    stored = struct.unpack_from("<Q", page, checksum_at)[0]
    if stored != xxh3_64(page[:checksum_at] + bytes(8) + page[checksum_at + 8:PAGE]):
        raise Bad(f"checksum of the {what} is wrong")
    version = struct.unpack_from("<I", page, 8)[0]
    if version != 1:
        raise Bad(f"{what} of version {version}")


# ---- Encryption ----

def cipher():
    """AES in a module that is asked for only where something is encrypted."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise Bad("encrypted, and Python has no module `cryptography` (apt-get install python3-cryptography)")
    return Cipher, algorithms, modes, InvalidTag


def gcm_open(key, nonce, data, aad, tag):
    """The plain bytes; Bad if the tag (its first bytes will do) does not fit."""
    Cipher, algorithms, modes, InvalidTag = cipher()
    d = Cipher(algorithms.AES(key), modes.GCM(nonce, tag, min_tag_length=len(tag))).decryptor()
    d.authenticate_additional_data(aad)
    try:
        return d.update(data) + d.finalize()
    except InvalidTag:
        raise Bad("the tag of something encrypted does not fit")


def nonce_of(domain, value):
    return struct.pack("<IQ", domain, value)


def key_id(key):
    return hashlib.sha256(key + b"cstnKYID").digest()[:8]


def keys_read(path):
    """id -> master key, of a key file: 32 raw bytes, or lines of 64 hex digits."""
    data = read_file(path, 4096)
    if len(data) == 32:
        return {key_id(data): data}
    lines = [x.strip() for x in data.decode("ascii", "replace").splitlines()]
    try:
        keys = [bytes.fromhex(x) for x in lines if x and not x.startswith("#")]
    except ValueError:
        keys = []
    if not keys or any(len(k) != 32 for k in keys):
        raise Bad(f"{path} is no key file")
    return {key_id(k): k for k in keys}


def segment_key(page, masters):
    """The key of a segment from its header page; None if its master is not there."""
    master = masters.get(page[128:136])
    return gcm_open(master, page[136:148], page[152:184], page[:120], page[184:200]) if master else None


def frame_open(frame, key):
    """The frame with its records as they were before they were encrypted."""
    if len(frame) < 3 * RECORD or frame[RECORD + 48] != SEAL:
        raise Bad("encrypted frame without a seal")
    tag, serial = frame[RECORD:RECORD + 16], struct.unpack_from("<Q", frame, RECORD + 16)[0]
    clear = frame[:56] + bytes(8) + bytes(16) + frame[RECORD + 16:2 * RECORD]
    return frame[:2 * RECORD] + gcm_open(key, nonce_of(2, serial), frame[2 * RECORD:], clear, tag)


# ---- Contents ----

def toc_header(page):
    page_checked(page, TOC_MAGIC, 120, "header of contents")
    (_, _, size, space, segment_id, writer, seq, shard, shards, created, segment_bytes, flags,
     _) = TOC_HEADER.unpack_from(page)
    if flags & ~ENCRYPTED:
        raise Bad(f"header of contents with unknown flags {flags:#x}")
    if size != PAGE or not 1 <= shards <= 256 or shard >= shards or seq >= 1 << 32:
        raise Bad("header of contents contradicts itself")
    return {"space": space.hex(), "id": segment_id.hex(), "writer": f"{writer:016x}", "seq": seq, "shard": shard,
            "shards": shards, "created_s": created, "segment_bytes": segment_bytes,
            **({"key_id": page[128:136].hex()} if flags else {})}


def round_up(n):
    return (n + PAGE - 1) // PAGE * PAGE


def block_parse(records):
    """The block that begins with records[0], and how many records it takes. Bad if it contradicts itself."""
    key, check, offset, length, _, nparts, mask, depth = BLOCK_RECORD.unpack(records[0])
    if not 1 <= nparts <= 16 or bin(mask).count("1") != nparts:
        raise Bad("parts and mask of a block disagree")
    lengths, checks = [length], [check]
    taken = 1
    while len(lengths) < nparts:
        if taken == len(records):
            raise Bad("parts of a block are missing")
        values = PARTS_RECORD.unpack(records[taken])
        here = min(4, nparts - len(lengths))
        if values[8] != PARTS or values[9] != here:
            raise Bad("parts of a block are not continued")
        checks += values[0:here]
        lengths += values[4:4 + here]
        taken += 1
    if any(not 1 <= n <= PART_MAX for n in lengths):
        raise Bad("a part has no possible length")
    at, parts = offset * PAGE, []
    for part, n, c in zip((p for p in range(16) if mask >> p & 1), lengths, checks):
        parts.append({"part": part, "offset": at, "length": n, "check": f"{c:016x}", "ok": None})
        at += round_up(n)
    return {"key": key.hex(), "depth": depth, "offset": offset * PAGE, "end": at, "mask": mask, "parts": parts}, taken


def frame_parse(toc, at, number, segment_id, encrypted=False, key=None):
    """The records of the frame at `at`, parsed. Bad if there is no valid one; None if it is of a later version. Of an
    encrypted one without its key there are none."""
    if len(toc) - at < RECORD or toc[at:at + 4] != FRAME_MAGIC:
        raise Bad("no frame")
    _, count, flags, own_number, position, own_id, data_end, written, checksum = FRAME_HEADER.unpack_from(toc, at)
    size = RECORD * (1 + count)
    if count == 0 or at % PAGE + size > PAGE or at + size > len(toc):
        raise Bad("frame has no possible size")
    frame = toc[at:at + size]
    if checksum != xxh3_64(frame[:56] + bytes(8) + frame[64:]):
        raise Bad("checksum of a frame is wrong")
    if own_number != number or position != at or own_id != segment_id:
        raise Bad("frame belongs somewhere else")
    if flags & ~(ENCRYPTED if encrypted else 0):
        return None
    if encrypted and not flags:
        raise Bad("plain frame in encrypted contents")
    if encrypted and key is None:
        return {"size": size, "data_end": data_end, "written_s": written, "blocks": [], "dead": [], "aside": []}
    if encrypted:
        frame = frame_open(frame, key)
    records = [frame[i:i + RECORD] for i in range(RECORD, size, RECORD)]
    out = {"size": size, "data_end": data_end, "written_s": written, "blocks": [], "dead": [], "aside": []}
    while records:
        kind, taken = records[0][48], 1
        if kind == BLOCK:
            block, taken = block_parse(records)
            if block["end"] > data_end:
                raise Bad("block lies beyond the end of the data")
            out["blocks"].append(block)
        elif kind in (DEAD, ASIDE):
            key, dead_id, _, reason, offset = DEAD_RECORD.unpack(records[0])
            entry = {"segment_id": dead_id.hex(), "reason": REASONS.get(reason, str(reason))}
            if kind == DEAD:
                entry.update(key=key.hex(), offset=offset * PAGE)
            out["dead" if kind == DEAD else "aside"].append(entry)
        elif kind in (0, PARTS):
            raise Bad("record of no kind")
        records = records[taken:]
    return out


def contents_parse(toc, segment_id, encrypted=False, key=None):
    """All valid frames. end: 'end' nothing follows, 'torn' something that is not valid, 'later' a later version."""
    got = {"blocks": [], "dead": [], "aside": [], "frames": 0, "data_end": 0, "end": "end"}
    at = PAGE
    while True:
        place = at
        if toc[at:at + 4] != FRAME_MAGIC:
            if not toc[at:].strip(b"\0"):
                break
            rest = -at % PAGE
            if rest and not any(toc[at:at + rest]):
                place = at + rest  # padding: the next frame did not fit
        try:
            frame = frame_parse(toc, place, got["frames"], segment_id, encrypted, key)
        except Bad:
            got["end"] = "torn"
            break
        if frame is None:
            got["end"] = "later"
            break
        for name in ("blocks", "dead", "aside"):
            got[name] += frame[name]
        got["frames"] += 1
        got["data_end"] = frame["data_end"]
        at = place + frame["size"]
    got["position"] = at
    return got


# ---- Payloads ----

def part_read(data, header, key, part, secret=None):
    """The bytes of a part if they are what was stored, else None. `data`: an open file, or None; `secret`: the key of an
    encrypted segment."""
    if data is None:
        return None
    data.seek(part["offset"])
    payload = data.read(part["length"])
    if len(payload) != part["length"]:
        return None
    identity = IDENTITY.pack(bytes.fromhex(header["space"]), bytes.fromhex(header["id"]), bytes.fromhex(key),
                             part["offset"], part["length"], part["part"])
    if secret:
        try:
            return gcm_open(secret, nonce_of(1, part["offset"]), payload, identity,
                            struct.pack("<Q", int(part["check"], 16)))
        except Bad:
            return None
    return payload if xxh3_64(payload) ^ xxh3_64(identity) == int(part["check"], 16) else None


class Reader:
    def __init__(self, root, verify, masters=None):
        self.root, self.verify, self.masters = root, verify, masters or {}
        self.findings, self.encrypted, self.secrets = [], False, {}

    def find(self, path, text):
        self.findings.append(f"{os.path.relpath(path, self.root)}: {text}")

    def open_data(self, path):
        try:
            return open(path, "rb")
        except FileNotFoundError:
            return None

    def segment(self, path, match, space, shard, shards):
        toc = read_file(path)
        try:
            header = toc_header(toc[:PAGE])
        except Bad as e:
            self.find(path, str(e))
            return None
        if (header["writer"], header["seq"]) != (match[1], int(match[2], 16)) or \
                (header["shard"], header["shards"]) != (shard, shards) or header["space"] != space:
            self.find(path, "contents of another segment, shard or space")
            return None
        try:
            secret = segment_key(toc, self.masters) if "key_id" in header else None
        except Bad as e:
            self.find(path, str(e))
            return None
        if self.encrypted and "key_id" not in header:
            self.find(path, "plain contents in an encrypted root: not believed")
            return None
        if "key_id" in header and not secret:
            self.find(path, f"encrypted, and key {header['key_id']} was not given")
        self.secrets[header["id"]] = secret
        segment = contents_parse(toc, bytes.fromhex(header["id"]), "key_id" in header, secret)
        segment["header"] = header
        segment["path"] = path[:-4] + ".seg"
        if segment["end"] != "end":
            self.find(path, f"contents end at {segment['position']}: {segment['end']}")
        try:
            segment["data_bytes"] = os.stat(segment["path"]).st_size
        except FileNotFoundError:
            segment["data_bytes"] = None
            self.find(segment["path"], "no data file")
        return segment

    def verify_segment(self, segment):
        data = self.open_data(segment["path"])
        for block in segment["blocks"]:
            if block["dead"]:
                continue
            for part in block["parts"]:
                part["ok"] = part_read(data, segment["header"], block["key"], part,
                                       self.secrets[segment["header"]["id"]]) is not None
                if not part["ok"]:
                    self.find(segment["path"], f"block {block['key'][:16]} part {part['part']} at {part['offset']}: "
                                               "not what was stored")
        if data:
            data.close()

    def head(self, path, writer, shard, shards):
        page = read_file(path, PAGE)
        try:
            page_checked(page, HEAD_MAGIC, 176, "head")
        except Bad as e:
            self.find(path, str(e))
            return None
        (_, _, state, space, own, counter, own_shard, own_shards, first, after, published, written, pid, health, host,
         _, generation) = HEAD_RECORD.unpack_from(page)
        if f"{own:016x}" != writer or (own_shard, own_shards) != (shard, shards) or state not in STATES or first > after:
            self.find(path, "head contradicts itself or its place")
            return None
        touches = [n for n in struct.unpack_from("<960I", page, 256)[:after - first]]
        return {"writer": writer, "space": space.hex(), "state": STATES[state], "counter": counter, "first_seq": first,
                "next_seq": after, "published": published, "written_s": written, "pid": pid, "health": health, "generation": generation,
                "host": host.split(b"\0")[0].decode("utf-8", "replace"), "touches": touches}

    def shard(self, path, shard, shards, fingerprint):
        names = sorted(os.listdir(path))
        segments = [s for n in names if (m := SEGMENT_NAME.fullmatch(n))
                    and (s := self.segment(os.path.join(path, n), m, fingerprint, shard, shards))]
        heads = [h for n in names if (m := HEAD_NAME.fullmatch(n))
                 and (h := self.head(os.path.join(path, n), m[1], shard, shards))]
        dead = {(d["segment_id"], d["key"], d["offset"]) for s in segments for d in s["dead"]}
        aside = {a["segment_id"] for s in segments for a in s["aside"]}
        for s in segments:
            for b in s["blocks"]:
                b["dead"] = s["header"]["id"] in aside or (s["header"]["id"], b["key"], b["offset"]) in dead
            if self.verify:
                self.verify_segment(s)
        return {"shard": shard, "shards": shards, "segments": segments, "heads": heads}

    def space(self, path):
        """A directory with a space.json or shards; None if it is neither."""
        name = os.path.basename(path)
        shards = sorted((int(m[1]), int(m[2])) for n in os.listdir(path) if (m := SHARD_DIR.fullmatch(n)))
        try:
            text = read_file(os.path.join(path, "space.json"))
        except FileNotFoundError:
            if not shards:
                return None
            text = b""
        fingerprint = hashlib.sha256(text).hexdigest()
        named = name[-32:] if re.fullmatch(r".*-[0-9a-f]{32}", name) else None
        try:
            description = json.loads(text)
        except ValueError:
            description = None
        if named and named != fingerprint[:32] or description is None:
            self.find(os.path.join(path, "space.json"), "not the description that the directory is named after")
            # what the contents say is the rest of the proof
            fingerprint = next((f for s in shards if (f := self.fingerprint_of(path, s, named or ""))), fingerprint)
        return {"dir": name, "fingerprint": fingerprint, "description": description,
                "shards": [self.shard(os.path.join(path, f"s{a}of{b}"), a, b, fingerprint) for a, b in shards]}

    def fingerprint_of(self, path, shard, begins):
        folder = os.path.join(path, f"s{shard[0]}of{shard[1]}")
        for name in sorted(os.listdir(folder)):  # any good header will do
            if SEGMENT_NAME.fullmatch(name):
                try:
                    space = toc_header(read_file(os.path.join(folder, name), PAGE))["space"]
                except Bad:
                    continue
                if space.startswith(begins):
                    return space
        return None

    def store(self):
        try:
            about = json.loads(read_file(os.path.join(self.root, "cistern.json")))
        except ValueError:
            about = None
        if not isinstance(about, dict):
            about = {}
            self.find(os.path.join(self.root, "cistern.json"), "cannot be read")
        if about.get("format", 1) == 2 and about.get("encryption") == "aes-256-gcm":
            self.encrypted = True
        elif about.get("format", 1) != 1:
            raise Bad(f"format version {about['format']}; this reads 1, and 2 where it is encrypted")
        salt = os.path.join(self.root, "salt")
        if not os.path.exists(salt) or os.stat(salt).st_size != 32:
            self.find(salt, "is not 32 bytes long")
        paths = sorted(e.path for e in os.scandir(self.root) if e.is_dir() and not e.name.startswith("."))
        return {"root": self.root, "about": about, "spaces": [s for p in paths if (s := self.space(p))],
                "findings": self.findings}


# ---- What people see ----

def print_store(store, verify):
    about = store["about"]
    print(f"root {store['root']}: format {about.get('format')}, capacity {about.get('capacity_bytes')}, "
          f"segments of {about.get('segment_bytes')}")
    for space in store["spaces"]:
        print(f"space {space['dir']}")
        for shard in space["shards"]:
            print(f"  shard {shard['shard']} of {shard['shards']}")
            for head in shard["heads"]:
                print(f"    head {head['writer']}: {head['state']}, counter {head['counter']}, segments "
                      f"{head['first_seq']} to {head['next_seq']}, published {head['published']}, pid {head['pid']} "
                      f"on {head['host']}")
            for s in shard["segments"]:
                print(f"    segment {s['header']['writer']}-{s['header']['seq']:08x}: {len(s['blocks'])} blocks, "
                      f"{s['frames']} frames to {s['position']} ({s['end']}), data to {s['data_end']}")
                for b in s["blocks"]:
                    parts = " ".join(f"{p['part']}:{p['length']}" + ("" if p["ok"] is not False else ":BAD")
                                     for p in b["parts"])
                    print(f"      {b['key']} depth {b['depth']} at {b['offset']} parts {parts}"
                          + (" dead" if b["dead"] else ""))
                for d in s["dead"]:
                    print(f"      dead {d['key']} in {d['segment_id']} at {d['offset']}: {d['reason']}")
                for a in s["aside"]:
                    print(f"      aside {a['segment_id']}: {a['reason']}")
    for line in store["findings"]:
        print(f"! {line}")
    if not verify:
        print("payloads were not verified")


def extract(store, key, part_number, secrets):
    """The first copy whose bytes verify. Exit status."""
    for space in store["spaces"]:
        for shard in space["shards"]:
            for s in shard["segments"]:
                for block in s["blocks"]:
                    if block["key"] != key or block["dead"]:
                        continue
                    for part in block["parts"]:
                        if part["part"] == part_number and s["data_bytes"] is not None:
                            with open(s["path"], "rb") as data:
                                payload = part_read(data, s["header"], key, part, secrets[s["header"]["id"]])
                            if payload is not None:
                                sys.stdout.buffer.write(payload)
                                return 0
    print(f"no good copy of part {part_number} of {key}", file=sys.stderr)
    return 1


def main():
    p = argparse.ArgumentParser(description="Reads a Cistern store without the library.")
    p.add_argument("root", help="the directory with cistern.json")
    p.add_argument("--json", action="store_true")
    p.add_argument("--no-verify", action="store_true", help="do not read payloads")
    p.add_argument("--key", metavar="HEX", help="write the bytes of this block to stdout")
    p.add_argument("--part", type=int, default=0, metavar="N")
    p.add_argument("--key-file", metavar="FILE", default=os.environ.get("CISTERN_ENCRYPTION_KEY_FILE"))
    a = p.parse_args()
    if a.key and not re.fullmatch(r"[0-9a-fA-F]{64}", a.key):
        p.error("--key takes 64 hex digits")
    try:
        reader = Reader(a.root, verify=not a.no_verify and not a.key, masters=keys_read(a.key_file) if a.key_file else None)
        store = reader.store()
    except FileNotFoundError as e:
        print(f"no store: {e}", file=sys.stderr)
        return 3
    except Bad as e:
        print(f"cannot read this store: {e}", file=sys.stderr)
        return 3
    except OSError as e:
        print(e, file=sys.stderr)
        return 4
    if a.key:
        return extract(store, a.key.lower(), a.part, reader.secrets)
    if a.json:
        json.dump(store, sys.stdout, indent=1)
        print()
    else:
        print_store(store, not a.no_verify)
    return 1 if store["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
