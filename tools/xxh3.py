"""XXH3-64 with seed 0 in plain Python, for readers of Cistern's files that have nothing installed.

`xxh3_64(data)` takes any bytes-like object. The `xxhash` module is used when there is one: it is a thousand times
faster. Tests call xxh3_64_plain() so that this code is what they test.
"""
import struct

M64 = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MIX_1, MIX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")

STRIPE = 64  # bytes taken in at once, eight lanes of eight
BLOCK = 1024  # sixteen stripes, then the lanes are scrambled
LANES = struct.Struct("<8Q")


def u32(b, at):
    return int.from_bytes(b[at:at + 4], "little")


def u64(b, at):
    return int.from_bytes(b[at:at + 8], "little")


def fold(a, b):
    """The halves of a 128-bit product, XORed."""
    product = a * b
    return (product ^ product >> 64) & M64


def avalanche(h):
    h ^= h >> 37
    h = h * MIX_1 & M64
    return h ^ h >> 32


def avalanche_short(h):
    h ^= h >> 33
    h = h * P64_2 & M64
    h ^= h >> 29
    h = h * P64_3 & M64
    return h ^ h >> 32


def mix16(b, at, secret_at):
    return fold(u64(b, at) ^ u64(SECRET, secret_at), u64(b, at + 8) ^ u64(SECRET, secret_at + 8))


def rotate(h, bits):
    return (h << bits | h >> 64 - bits) & M64


def hash_up_to_16(b):
    n = len(b)
    if n > 8:
        low = u64(b, 0) ^ u64(SECRET, 24) ^ u64(SECRET, 32)
        high = u64(b, n - 8) ^ u64(SECRET, 40) ^ u64(SECRET, 48)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return avalanche((n + swapped + high + fold(low, high)) & M64)
    if n >= 4:
        h = u32(b, n - 4) + (u32(b, 0) << 32) ^ u64(SECRET, 8) ^ u64(SECRET, 16)
        h ^= rotate(h, 49) ^ rotate(h, 24)
        h = h * MIX_2 & M64
        h ^= (h >> 35) + n
        h = h * MIX_2 & M64
        return h ^ h >> 28
    if n:
        combined = b[0] << 16 | b[n >> 1] << 24 | b[n - 1] | n << 8
        return avalanche_short(combined ^ u32(SECRET, 0) ^ u32(SECRET, 4))
    return avalanche_short(u64(SECRET, 56) ^ u64(SECRET, 64))


def hash_up_to_128(b):
    n = len(b)
    h = n * P64_1
    for i in range((n - 1) // 32 + 1):
        h += mix16(b, 16 * i, 32 * i) + mix16(b, n - 16 * (i + 1), 32 * i + 16)
    return avalanche(h & M64)


def hash_up_to_240(b):
    n = len(b)
    h = n * P64_1
    for i in range(8):
        h += mix16(b, 16 * i, 16 * i)
    h = avalanche(h & M64)
    for i in range(8, n // 16):
        h += mix16(b, 16 * i, 16 * (i - 8) + 3)
    h += mix16(b, n - 16, 136 - 17)
    return avalanche(h & M64)


def hash_long(b):
    n = len(b)
    keys = [LANES.unpack_from(SECRET, 8 * i) for i in range(16)]
    scramble = LANES.unpack_from(SECRET, 128)
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    unpack = LANES.unpack_from

    def stripe(at, key):
        values = unpack(b, at)
        for i in range(8):
            value = values[i]
            mixed = value ^ key[i]
            acc[i ^ 1] += value
            acc[i] += (mixed & 0xFFFFFFFF) * (mixed >> 32)

    blocks = (n - 1) // BLOCK
    for block in range(blocks):
        for i in range(16):
            stripe(block * BLOCK + i * STRIPE, keys[i])
        for i in range(8):
            lane = acc[i] & M64
            acc[i] = (lane ^ lane >> 47 ^ scramble[i]) * P32_1 & M64
    for i in range((n - 1 - blocks * BLOCK) // STRIPE):
        stripe(blocks * BLOCK + i * STRIPE, keys[i])
    stripe(n - STRIPE, LANES.unpack_from(SECRET, 192 - STRIPE - 7))
    h = n * P64_1
    for i in range(4):
        low, high = acc[2 * i] & M64, acc[2 * i + 1] & M64
        h += fold(low ^ u64(SECRET, 11 + 16 * i), high ^ u64(SECRET, 19 + 16 * i))
    return avalanche(h & M64)


def xxh3_64_plain(data):
    b = bytes(data)
    if len(b) <= 16:
        return hash_up_to_16(b)
    if len(b) <= 128:
        return hash_up_to_128(b)
    if len(b) <= 240:
        return hash_up_to_240(b)
    return hash_long(b)


try:
    from xxhash import xxh3_64_intdigest as xxh3_64
except ImportError:
    xxh3_64 = xxh3_64_plain
