#!/usr/bin/env python3
"""Damages a store on purpose: one seeded case of one kind on one target. For tests; never for a store that matters.

    damage.py --target data|contents|head|space --kind KIND --seed N ROOT

Targets: data and contents are aimed at what is used (a payload, a frame or the header), head and space.json at the
whole file. Kinds:

    flip       one bit                                    delete     the file
    truncate   cut inside what is used                    swap       with another file of its kind, or two places in it
    zero       a range of zeros                           append     bytes behind the end
    extend     bytes put in, what follows moves           misdirect  contents only: valid frames that point key A at
                                                                     block B and B at A, checksums in order

The same seed on the same store does the same. What was done is printed as one line of JSON. Exit status 2: wrong usage
or no such target.
"""
import argparse
import json
import os
import random
import struct
import sys

import cistern_read as cr
from xxh3 import xxh3_64

TARGETS = ("data", "contents", "head", "space")
KINDS = ("flip", "truncate", "zero", "extend", "delete", "swap", "append")


class Store:
    """The files of one space by target, and where in them something is that counts. others: of other spaces."""

    def __init__(self, root, name):
        self.segments, self.heads, self.spaces, self.others = [], [], [], []
        keys = os.environ.get("CISTERN_TEST_KEY_FILE")
        reader = cr.Reader(root, verify=False, masters=cr.keys_read(keys) if keys else None)
        for space in reader.store()["spaces"]:
            folder = os.path.join(root, space["dir"])
            if not space["dir"].startswith(name):
                self.others.append(os.path.join(folder, "space.json"))
                continue
            self.spaces.append(os.path.join(folder, "space.json"))
            for shard in space["shards"]:
                below = os.path.join(folder, f"s{shard['shard']}of{shard['shards']}")
                self.heads += [os.path.join(below, h["writer"] + ".head") for h in shard["heads"]]
                self.segments += [s for s in shard["segments"] if s["blocks"]]
        self.segments.sort(key=lambda s: s["path"])

    def payloads(self, segment):
        return [(p["offset"], p["length"]) for b in segment["blocks"] for p in b["parts"]]


def write(path, data):
    with open(path, "r+b") as f:  # in place, as rot does: an open file sees it
        f.write(data)
        f.truncate(len(data))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def noise(rng, n):
    return bytes(rng.randrange(1, 256) for _ in range(n))


def exchange(a, b):
    data_a, data_b = read(a), read(b)
    write(a, data_b)
    write(b, data_a)


def alter(path, kind, rng, place):
    """flip, truncate, zero, extend, append or delete. `place()`: an offset where a byte counts."""
    data = bytearray(read(path))
    done = {"file": path, "size": len(data)}
    if kind == "delete":
        os.unlink(path)
        return done
    if kind == "append":
        data += noise(rng, rng.randrange(1, 10000))
        done["at"] = done["size"]
    elif kind == "flip":
        at = place()
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        done.update(at=at, bit=bit)
    elif kind == "truncate":
        at = place()
        del data[at:]
        done.update(at=at)
    elif kind == "zero":
        at = place()
        n = rng.choice((1, 8, 64, 512, 4096, 65536))
        while not any(data[at:at + n]):
            at -= 1  # the bytes before, until one of them was not zero
        n = min(n, len(data) - at)
        data[at:at + n] = bytes(n)
        done.update(at=at, bytes=n)
    elif kind == "extend":
        at = place()
        put = noise(rng, rng.choice((1, 16, 64, 512, 4096)))
        data[at:at] = put
        done.update(at=at, bytes=len(put))
    else:
        raise ValueError(kind)
    write(path, bytes(data))
    return done


# ---- Targets ----

def damage_data(store, kind, rng):
    segment = rng.choice(store.segments)
    payloads = store.payloads(segment)
    if kind == "swap":
        if len(store.segments) > 1 and rng.random() < 0.5:
            other = rng.choice([s for s in store.segments if s is not segment])
            exchange(segment["path"], other["path"])
            return {"file": segment["path"], "with": other["path"]}
        (a, _), (b, _) = rng.sample(payloads, 2)
        data = bytearray(read(segment["path"]))
        data[a:a + 4096], data[b:b + 4096] = data[b:b + 4096], data[a:a + 4096]
        write(segment["path"], bytes(data))
        return {"file": segment["path"], "at": a, "with": b}

    def place():
        at, length = rng.choice(payloads)
        return at + rng.randrange(length)
    return alter(segment["path"], kind, rng, place)


def misdirect(segment, toc, rng):
    """Exchanges where two blocks lie, in a frame that stays valid: what a bug in an index would do."""
    toc = bytearray(toc)
    frames, at = [], 4096
    while len(frames) < segment["frames"]:
        if toc[at:at + 4] != cr.FRAME_MAGIC:
            at += -at % 4096
        count = struct.unpack_from("<H", toc, at + 4)[0]
        blocks = [at + 64 * i for i in range(1, count + 1) if toc[at + 64 * i + 48] == cr.BLOCK]
        if len(blocks) > 1:
            frames.append((at, count, blocks))
        else:
            frames.append(None)
        at += 64 * (1 + count)
    at, count, blocks = rng.choice([f for f in frames if f])
    a, b = rng.sample(blocks, 2)
    # key, check and lengths stay; the places are exchanged: 4 bytes at 40 of a record
    toc[a + 40:a + 44], toc[b + 40:b + 44] = toc[b + 40:b + 44], toc[a + 40:a + 44]
    frame = toc[at:at + 64 * (1 + count)]
    frame[56:64] = bytes(8)
    struct.pack_into("<Q", toc, at + 56, xxh3_64(bytes(frame)))
    return bytes(toc), {"at": at, "records": [a, b]}


def damage_contents(store, kind, rng):
    segment = rng.choice(store.segments)
    path = segment["path"][:-4] + ".toc"
    toc = read(path)

    def place():
        """In the header one time in four, else in a frame; never where a frame begins."""
        if rng.random() < 0.25:
            return rng.randrange(1, 128)
        while True:
            at = rng.randrange(4097, segment["position"])
            if at % 64 and any(toc[at - at % 64:at - at % 64 + 64]):
                return at
    if kind == "misdirect":
        changed, done = misdirect(segment, toc, rng)
        write(path, changed)
        return dict(done, file=path)
    if kind == "swap":
        if len(store.segments) > 1 and rng.random() < 0.5:
            other = rng.choice([s for s in store.segments if s is not segment])["path"][:-4] + ".toc"
            exchange(path, other)
            return {"file": path, "with": other}
        a, b = 4096, (segment["position"] - 1) // 64 * 64  # the first frame's header and the last record
        data = bytearray(toc)
        data[a:a + 64], data[b:b + 64] = data[b:b + 64], data[a:a + 64]
        write(path, bytes(data))
        return {"file": path, "at": a, "with": b}
    return alter(path, kind, rng, place)


def damage_whole(paths, others, kind, rng):
    path = rng.choice(sorted(paths))
    data = read(path)
    if kind == "swap":
        other = rng.choice([p for p in sorted(paths + others) if p != path])
        exchange(path, other)
        return {"file": path, "with": other}

    def place():
        used = len(data.rstrip(b"\0"))
        return rng.randrange(1, used)
    return alter(path, kind, rng, place)


def damage(root, target, kind, seed, space=""):
    """Does it; returns what was done. `space`: how the name of the space to damage begins."""
    rng = random.Random(f"{target} {kind} {seed}")
    store = Store(root, space)
    if target == "data":
        done = damage_data(store, kind, rng)
    elif target == "contents":
        done = damage_contents(store, kind, rng)
    elif target == "head":
        done = damage_whole(store.heads, [], kind, rng)
    else:
        done = damage_whole(store.spaces, store.others, kind, rng)
    for name in ("file", "with"):
        if isinstance(done.get(name), str):
            done[name] = os.path.relpath(done[name], root)
    return dict(done, target=target, kind=kind, seed=seed)


def main():
    p = argparse.ArgumentParser(description="Damages a store on purpose, for tests.")
    p.add_argument("root")
    p.add_argument("--target", choices=TARGETS, required=True)
    p.add_argument("--kind", choices=KINDS + ("misdirect",), required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--space", default="", help="how the name of the space begins (default: any)")
    a = p.parse_args()
    if a.kind == "misdirect" and a.target != "contents":
        p.error("misdirect is for contents")
    try:
        print(json.dumps(damage(a.root, a.target, a.kind, a.seed, a.space)))
    except (OSError, IndexError, ValueError) as e:
        print(f"cannot: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
