/*
 * hash_copy.c - XXH3 and a copy past the cache in one loop: each line is loaded once, its stores
 * drain while it is hashed, and lines far ahead are fetched meanwhile. Freshly read data lies in
 * memory, not in the cache; this loop then takes hardly longer than the copy alone.
 *
 * The library's own state is continued between whole blocks of XXH3 (1 KiB with the default
 * secret), and only there; everything else, the end above all, is the library's.
 * tests/unit/test_mem.c compares the results.
 */
#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <xxhash.h>

#include "mem/mem_internal.h"

#define STRIPE          64u
#define STRIPES         16u
#define SECRET_STEP     8u
#define SECRET_SCRAMBLE 128u /* of 192 bytes the last 64 */
#define AHEAD           4096u

#if defined(__x86_64__) && XXH_VERSION_NUMBER >= 800 && XXH_VERSION_NUMBER < 900
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

/* Half a stripe into half of the accumulators. */
AVX2 static inline __m256i accumulate(__m256i acc, __m256i data, const uint8_t *secret)
{
    __m256i keyed = _mm256_xor_si256(data, load(secret));
    __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));

    acc = _mm256_add_epi64(acc, _mm256_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm256_add_epi64(acc, product);
}

AVX2 static inline __m256i scramble(__m256i acc, const uint8_t *secret)
{
    const __m256i prime = _mm256_set1_epi32((int)0x9E3779B1u);
    __m256i mixed = _mm256_xor_si256(acc, _mm256_srli_epi64(acc, 47));
    __m256i high;

    mixed = _mm256_xor_si256(mixed, load(secret));
    high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
    return _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
}

AVX2 static void copy_blocks(XXH3_state_t *s, uint8_t *to, const uint8_t *from, size_t blocks,
                             const uint8_t *secret)
{
    __m256i low = _mm256_load_si256((const __m256i *)(const void *)&s->acc[0]);
    __m256i high = _mm256_load_si256((const __m256i *)(const void *)&s->acc[4]);
    size_t block, i;

    for (block = 0; block < blocks; block++) {
        for (i = 0; i < STRIPES; i++, to += STRIPE, from += STRIPE) {
            __m256i a = load(from), b = load(from + 32);

            __builtin_prefetch(from + AHEAD, 0, 2);
            _mm256_stream_si256((__m256i *)(void *)to, a);
            _mm256_stream_si256((__m256i *)(void *)(to + 32), b);
            low = accumulate(low, a, secret + i * SECRET_STEP);
            high = accumulate(high, b, secret + i * SECRET_STEP + 32);
        }
        low = scramble(low, secret + SECRET_SCRAMBLE);
        high = scramble(high, secret + SECRET_SCRAMBLE + 32);
    }
    _mm256_store_si256((__m256i *)(void *)&s->acc[0], low);
    _mm256_store_si256((__m256i *)(void *)&s->acc[4], high);
}

size_t host_hash_copy(struct hash64_state *state, void *dst, const void *src, size_t len)
{
    XXH3_state_t *s = (XXH3_state_t *)(void *)state->opaque;
    size_t blocks = len / HOST_HASH_BLOCK, bytes = blocks * HOST_HASH_BLOCK;

    if (blocks == 0 || (uintptr_t)dst % STRIPE != 0 || s->bufferedSize != 0 ||
        s->nbStripesSoFar != 0 || s->nbStripesPerBlock != STRIPES ||
        !__builtin_cpu_supports("avx2"))
        return 0;
    copy_blocks(s, dst, src, blocks, s->extSecret != NULL ? s->extSecret : s->customSecret);
    s->totalLen += bytes;
    /* The end of the hash may look back at the last stripe. */
    memcpy(s->buffer + sizeof s->buffer - STRIPE, (const uint8_t *)src + bytes - STRIPE, STRIPE);
    return bytes;
}
#else
size_t host_hash_copy(struct hash64_state *state, void *dst, const void *src, size_t len)
{
    (void)state;
    (void)dst;
    (void)src;
    (void)len;
    return 0;
}
#endif
