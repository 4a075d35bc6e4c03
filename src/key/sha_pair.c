/*
 * sha_pair.c - see sha_pair.h. FIPS 180-4; the instructions work on the state as (A B E F) and
 * (C D G H), highest word first, and do two rounds each. Pure functions; any thread; no failure.
 */
#include "key/sha_pair.h"

#include <endian.h>
#include <string.h>

_Alignas(16) const uint32_t sha_constants[64] = {
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

void sha_begin(struct sha_state *s)
{
    memcpy(s->h, initial, sizeof s->h);
}

void sha_end(const struct sha_state *s, uint8_t out[32])
{
    unsigned i;

    for (i = 0; i < 8; i++) {
        uint32_t v = htobe32(s->h[i]);

        memcpy(out + 4 * (size_t)i, &v, 4);
    }
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>

#define WITH_SHA __attribute__((target("sha,sse4.1")))

/* One message: its state and the last sixteen words of its schedule. */
struct stream {
    __m128i abef, cdgh, w[4];
};

bool sha_pair_usable(void)
{
    static _Atomic int
        known; /* 0: not asked yet, 1: yes, 2: no; every asker gets the same answer */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);

    if (!answer) {
        unsigned a, b, c, d, b7 = 0, ecx1 = 0;

        if (__get_cpuid(1, &a, &b, &c, &d))
            ecx1 = c;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
            b7 = b;
        answer = (b7 >> 29 & 1) && (ecx1 >> 19 & 1) ? 1 : 2; /* SHA; SSE4.1 */
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}

WITH_SHA static inline void stream_load(struct stream *s, const struct sha_state *from)
{
    const uint32_t *h = from->h;

    s->abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
    s->cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
}

WITH_SHA static inline void stream_store(const struct stream *s, struct sha_state *to)
{
    uint32_t abef[4], cdgh[4];

    _mm_storeu_si128((__m128i *)(void *)abef, s->abef);
    _mm_storeu_si128((__m128i *)(void *)cdgh, s->cdgh);
    memcpy(
        to->h,
        (const uint32_t[8]){abef[3], abef[2], cdgh[3], cdgh[2], abef[1], abef[0], cdgh[1], cdgh[0]},
        sizeof to->h);
}

/* Rounds 4q to 4q + 3. Until round 16 the words are the message, then they follow from it. */
WITH_SHA __attribute__((always_inline)) static inline void
stream_rounds(struct stream *s, unsigned q, const uint8_t *block)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *w = s->w, now, wk;

    if (q < 4) {
        now = _mm_loadu_si128((const __m128i *)(const void *)(block + 16 * (size_t)q));
        now = _mm_shuffle_epi8(now, swap);
    } else {
        now = _mm_sha256msg1_epu32(w[q % 4], w[(q + 1) % 4]);
        now = _mm_add_epi32(now, _mm_alignr_epi8(w[(q + 3) % 4], w[(q + 2) % 4], 4));
        now = _mm_sha256msg2_epu32(now, w[(q + 3) % 4]);
    }
    w[q % 4] = now;
    wk = _mm_add_epi32(now, _mm_load_si128((const __m128i *)(const void *)&sha_constants[4 * q]));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

WITH_SHA void sha_blocks(struct sha_state *state, const void *data, size_t blocks)
{
    const uint8_t *p = data;
    struct stream s;
    unsigned q;

    stream_load(&s, state);
    for (; blocks; blocks--, p += SHA_BLOCK) {
        __m128i abef = s.abef, cdgh = s.cdgh;

#pragma GCC unroll 16
        for (q = 0; q < 16; q++)
            stream_rounds(&s, q, p);
        s.abef = _mm_add_epi32(s.abef, abef);
        s.cdgh = _mm_add_epi32(s.cdgh, cdgh);
    }
    stream_store(&s, state);
}

WITH_SHA void sha_blocks_pair(struct sha_state *state_a, const void *data_a,
                              struct sha_state *state_b, const void *data_b, size_t blocks)
{
    const uint8_t *p = data_a, *r = data_b;
    struct stream a, b;
    unsigned q;

    stream_load(&a, state_a);
    stream_load(&b, state_b);
    for (; blocks; blocks--, p += SHA_BLOCK, r += SHA_BLOCK) {
        __m128i abef_a = a.abef, cdgh_a = a.cdgh, abef_b = b.abef, cdgh_b = b.cdgh;

#pragma GCC unroll 16
        for (q = 0; q < 16; q++) {
            stream_rounds(&a, q, p);
            stream_rounds(&b, q, r);
        }
        a.abef = _mm_add_epi32(a.abef, abef_a);
        a.cdgh = _mm_add_epi32(a.cdgh, cdgh_a);
        b.abef = _mm_add_epi32(b.abef, abef_b);
        b.cdgh = _mm_add_epi32(b.cdgh, cdgh_b);
    }
    stream_store(&a, state_a);
    stream_store(&b, state_b);
}

#else

bool sha_pair_usable(void)
{
    return false;
}

/* Never called. */
void sha_blocks(struct sha_state *s, const void *data, size_t blocks)
{
    (void)s, (void)data, (void)blocks;
}

void sha_blocks_pair(struct sha_state *a, const void *data_a, struct sha_state *b,
                     const void *data_b, size_t blocks)
{
    (void)a, (void)data_a, (void)b, (void)data_b, (void)blocks;
}

#endif
