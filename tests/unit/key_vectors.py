#!/usr/bin/python3
"""The values that test_key.c and test_space.c expect, by hashlib alone. Prints them as C."""
import hashlib
import json
import struct


def le64(n):
    return struct.pack("<Q", n)


def mark(salt, tenant):
    return b"tnt" + hashlib.sha256(salt + le64(len(tenant)) + tenant + b"cstnTENA").digest()[:5]


def root(salt, tenant=b"", lora=b"", content=b""):
    framed = b"".join(le64(len(x)) + x for x in (tenant, lora, content))
    key = hashlib.sha256(salt + framed + b"cstnROOT").digest()
    return key[:24] + mark(salt, tenant) if tenant else key


def child(parent, data, tag):
    key = hashlib.sha256(data + parent + le64(len(data)) + tag).digest()
    return key[:24] + parent[24:] if parent[24:27] == b"tnt" else key


def chain(parent, tokens, block_tokens):
    keys = []
    for i in range(0, len(tokens) - block_tokens + 1, block_tokens):
        data = struct.pack(f"<{block_tokens}I", *tokens[i : i + block_tokens])
        parent = child(parent, data, b"cstnBLCK")
        keys.append(parent)
    return keys


SALT = bytes(range(32))
TOKENS = [(i * 2654435761) % 2**32 for i in range(2000)]

SPACE = {
    "name": "demo",
    "model": "tiny-llama \"7\"\\é",
    "revision": "abc123",
    "epoch": 5,
    "dtype": "bf16",
    "layout": "paged-v1",
    "extra": "",
    "block_tokens": 64,
    "layers": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "shards": 2,
    "parts": [
        {"name": "kv", "bytes": 65536, "policy": "all", "window": 0},
        {"name": "state", "bytes": 4096, "policy": "last", "window": 0},
        {"name": "swa", "bytes": 8192, "policy": "trailing", "window": 4},
    ],
}


def main():
    bare = root(SALT)
    print("root_bare", bare.hex())
    print("root_full", root(SALT, b"tenant\0salt", b"adapter-v2", b"image digest").hex())
    sizes = (1, 2, 3, 13, 14, 15, 16, 17, 64, 512, 1000, 2000)
    for block_tokens in sizes:
        keys = chain(bare, TOKENS, block_tokens)
        print("chain", block_tokens, len(keys), keys[0].hex(), keys[-1].hex())
    tenant = root(SALT, b"tenant\0salt")
    print("tenant", tenant.hex())
    for block_tokens in (15, 16, 512):
        keys = chain(tenant, TOKENS, block_tokens)
        print("tenant chain", block_tokens, len(keys), keys[0].hex(), keys[-1].hex())
    print("tenant hash_1", child(tenant, b"\x01", b"cstnHASH").hex())
    print("tenant mix", child(tenant, b"image digest", b"cstnMIXD").hex())
    print("hash_1", child(bare, b"\x01", b"cstnHASH").hex())
    print("hash_4096", child(bare, bytes(i % 251 for i in range(4096)), b"cstnHASH").hex())
    print("mix", child(bare, b"image digest", b"cstnMIXD").hex())
    text = json.dumps(SPACE, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    print(text, end="")
    print("fingerprint", hashlib.sha256(text.encode()).hexdigest())


if __name__ == "__main__":
    main()
