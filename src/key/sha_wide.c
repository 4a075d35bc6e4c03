/*
 * sha_wide.c - see sha_wide.h. FIPS 180-4 word by word, each word a vector of the sixteen
 * messages'. Pure functions; any thread; no failure.
 */
#include "key/sha_wide.h"

#if defined(__x86_64__)

#include <immintrin.h>

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#define WITH_AVX512 __attribute__((target("avx512f,avx512bw")))
#define INLINE      WITH_AVX512 __attribute__((always_inline)) static inline

/* Truth tables of three bits for vpternlog. */
enum { XOR3 = 0x96, CHOOSE = 0xca, MAJORITY = 0xe8 };

/* Ice Lake and later (and AMD's): before, 512-bit vectors lower the clock. */
bool sha_wide_usable(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2");
}

INLINE __m512i add(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

INLINE __m512i sum0(__m512i v)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(v, 2), _mm512_ror_epi32(v, 13),
                                     _mm512_ror_epi32(v, 22), XOR3);
}

INLINE __m512i sum1(__m512i v)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(v, 6), _mm512_ror_epi32(v, 11),
                                     _mm512_ror_epi32(v, 25), XOR3);
}

INLINE __m512i sigma0(__m512i v)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(v, 7), _mm512_ror_epi32(v, 18),
                                     _mm512_srli_epi32(v, 3), XOR3);
}

INLINE __m512i sigma1(__m512i v)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(v, 17), _mm512_ror_epi32(v, 19),
                                     _mm512_srli_epi32(v, 10), XOR3);
}

/* Word i of the block that every message is at. */
INLINE __m512i word_load(const uint8_t *block, __m512i offsets, unsigned i)
{
    const __m512i swap =
        _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));

    return _mm512_shuffle_epi8(_mm512_i32gather_epi32(offsets, block + 4 * (size_t)i, 1), swap);
}

/* s[0..7] = a..h; which of them is `a` turns with the round instead of the words moving. */
INLINE void round_one(__m512i s[8], __m512i w[16], unsigned i, const uint8_t *block,
                      __m512i offsets)
{
#define V(n) s[((n) + 64 - i) % 8]
    __m512i t;

    if (i < 16)
        w[i] = word_load(block, offsets, i);
    else
        w[i % 16] = add(add(sigma1(w[(i + 14) % 16]), w[(i + 9) % 16]),
                        add(sigma0(w[(i + 1) % 16]), w[i % 16]));
    t = add(V(7), _mm512_set1_epi32((int)constants[i]));
    t = add(add(t, w[i % 16]),
            add(sum1(V(4)), _mm512_ternarylogic_epi32(V(4), V(5), V(6), CHOOSE)));
    V(3) = add(V(3), t);
    V(7) = add(t, add(sum0(V(0)), _mm512_ternarylogic_epi32(V(0), V(1), V(2), MAJORITY)));
#undef V
}

WITH_AVX512 void sha_blocks_wide(struct sha_state *states, unsigned n, const void *data,
                                 size_t stride, size_t blocks)
{
    uint32_t out[8][SHA_LANES], lane_offset[SHA_LANES];
    const uint8_t *block = data;
    __m512i s[8], w[16], offsets;
    unsigned i, lane;

    for (lane = 0; lane < SHA_LANES; lane++)
        lane_offset[lane] = (uint32_t)((lane < n ? lane : n - 1) * stride);
    offsets = _mm512_loadu_si512(lane_offset);
    for (i = 0; i < 8; i++)
        s[i] = _mm512_set1_epi32((int)initial[i]);
    for (; blocks; blocks--, block += SHA_BLOCK) {
        __m512i before[8];

        for (i = 0; i < 8; i++)
            before[i] = s[i];
#pragma GCC unroll 64
        for (i = 0; i < 64; i++)
            round_one(s, w, i, block, offsets);
        for (i = 0; i < 8; i++)
            s[i] = add(s[i], before[i]);
    }
    for (i = 0; i < 8; i++)
        _mm512_storeu_si512(out[i], s[i]);
    for (lane = 0; lane < n; lane++) {
        for (i = 0; i < 8; i++)
            states[lane].h[i] = out[i][lane];
    }
}

#else

bool sha_wide_usable(void)
{
    return false;
}

/* Never called. */
void sha_blocks_wide(struct sha_state *states, unsigned n, const void *data, size_t stride,
                     size_t blocks)
{
    (void)states, (void)n, (void)data, (void)stride, (void)blocks;
}

#endif
