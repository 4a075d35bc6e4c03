/*
 * gcm_wide.c - see gcm_wide.h.
 *
 * GHASH is computed as POLYVAL on blocks with their bytes reversed (RFC 8452, appendix A), which
 * needs no shift of products: with H' = x * H, product(a, b) = a * b * x^-128 in POLYVAL's field.
 * The sixteen blocks of a step are multiplied by H'^16 .. H'^1 and reduced once. Hash and counter
 * mode of neighbouring steps overlap in the processor, because only `hash` goes from step to step.
 *
 * Threads: none of its own. Failure: none.
 */
#include "segment/gcm_wide.h"

#include <string.h>

#include "base/le.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define WIDE                                                                                       \
    __attribute__((target("aes,pclmul,vaes,vpclmulqdq,avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE WIDE __attribute__((always_inline)) static inline

#define STEP  (GCM_WIDE_BLOCKS * GCM_BLOCK)
#define LINE  64u
#define AHEAD 4096u /* of what is worked on: fetched into the second-level cache */

/* VAES by the bit itself: some compilers do not know its name. That the kernel keeps the registers
 * is part of what the compiler's function says of AVX-512. */
bool gcm_wide_usable(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES) &&
           __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

INLINE __m128i load(const void *from)
{
    return _mm_loadu_si128((const __m128i *)from);
}

INLINE void store(void *to, __m128i v)
{
    _mm_storeu_si128((__m128i *)to, v);
}

INLINE __m128i reversed(__m128i v)
{
    return _mm_shuffle_epi8(v, _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f));
}

/* ---- The field ---- */

/* Of a product without carries (`high` and `low` halves): reduced. */
INLINE __m128i reduced(__m128i low, __m128i high)
{
    const __m128i poly = _mm_set_epi64x((long long)0xc200000000000000, 1);

    low = _mm_xor_si128(_mm_clmulepi64_si128(low, poly, 0x10), _mm_shuffle_epi32(low, 0x4e));
    low = _mm_xor_si128(_mm_clmulepi64_si128(low, poly, 0x10), _mm_shuffle_epi32(low, 0x4e));
    return _mm_xor_si128(low, high);
}

INLINE __m128i product(__m128i a, __m128i b)
{
    __m128i middle =
        _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x10), _mm_clmulepi64_si128(a, b, 0x01));

    return reduced(_mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x00), _mm_slli_si128(middle, 8)),
                   _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x11), _mm_srli_si128(middle, 8)));
}

/* v * x. */
INLINE __m128i doubled(__m128i v)
{
    const __m128i poly = _mm_set_epi64x((long long)0xc200000000000000, 1);
    __m128i sign = _mm_srai_epi32(_mm_shuffle_epi32(v, 0xff), 31);
    __m128i carry = _mm_slli_si128(_mm_srli_epi64(v, 63), 8);

    v = _mm_or_si128(_mm_slli_epi64(v, 1), carry);
    return _mm_xor_si128(v, _mm_and_si128(sign, poly));
}

/* One block of ciphertext, additional data or lengths into the hash. */
INLINE void hash_block(struct gcm_wide *g, __m128i block)
{
    __m128i sum = _mm_xor_si128(load(g->hash), reversed(block));

    store(g->hash, product(sum, load(g->power[GCM_WIDE_BLOCKS - 1])));
}

/* ---- The cipher ---- */

INLINE __m128i block_encrypt(const struct gcm_wide *g, __m128i v)
{
    unsigned r;

    v = _mm_xor_si128(v, load(g->round[0]));
    for (r = 1; r < GCM_ROUNDS; r++)
        v = _mm_aesenc_si128(v, load(g->round[r]));
    return _mm_aesenclast_si128(v, load(g->round[GCM_ROUNDS]));
}

/* The key stream of one block. */
INLINE __m128i next_pad(struct gcm_wide *g)
{
    uint8_t block[GCM_BLOCK];

    memcpy(block, g->nonce, sizeof g->nonce);
    le32_store(block + sizeof g->nonce, __builtin_bswap32(g->counter++)); /* big-endian */
    return block_encrypt(g, load(block));
}

/* FIPS 197, 5.2: the next four words, from the four of two round keys before and a transformed one.
 */
INLINE __m128i key_step(__m128i key, __m128i word)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, word);
}

WIDE static void key_expand(struct gcm_wide *g, const uint8_t key[32])
{
    __m128i a = load(key), b = load(key + GCM_BLOCK);

    store(g->round[0], a);
    store(g->round[1], b);
#define EVEN(i, constant)                                                                          \
    a = key_step(a, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(b, constant), 0xff));              \
    store(g->round[i], a)
#define BOTH(i, constant)                                                                          \
    EVEN(i, constant);                                                                             \
    b = key_step(b, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(a, 0), 0xaa));                     \
    store(g->round[(i) + 1], b)
    BOTH(2, 0x01);
    BOTH(4, 0x02);
    BOTH(6, 0x04);
    BOTH(8, 0x08);
    BOTH(10, 0x10);
    BOTH(12, 0x20);
    EVEN(14, 0x40);
#undef BOTH
#undef EVEN
}

WIDE void gcm_wide_key(struct gcm_wide *g, const uint8_t key[32])
{
    __m128i h, power;
    unsigned i;

    key_expand(g, key);
    h = power = doubled(reversed(block_encrypt(g, _mm_setzero_si128())));
    for (i = GCM_WIDE_BLOCKS; i-- > 0; power = product(power, h))
        store(g->power[i], power);
}

WIDE void gcm_wide_begin(struct gcm_wide *g, const uint8_t nonce[12], const void *aad, size_t len)
{
    const uint8_t *from = aad;
    size_t at;

    memcpy(g->nonce, nonce, sizeof g->nonce);
    memset(g->hash, 0, sizeof g->hash);
    g->counter = 1;
    g->aad = len;
    g->bytes = 0;
    store(g->mask, next_pad(g));
    for (at = 0; at < len; at += GCM_BLOCK) {
        uint8_t block[GCM_BLOCK] = {0};

        memcpy(block, from + at, len - at < GCM_BLOCK ? len - at : GCM_BLOCK);
        hash_block(g, load(block));
    }
}

/* ---- Sixteen blocks at a time ---- */

/* Counters of four blocks, as numbers in the last four bytes of each; and how they go there. */
INLINE __m512i counters(const struct gcm_wide *g)
{
    uint8_t block[GCM_BLOCK];

    memcpy(block, g->nonce, sizeof g->nonce);
    le32_store(block + sizeof g->nonce, g->counter);
    return _mm512_add_epi32(_mm512_broadcast_i32x4(load(block)),
                            _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0));
}

struct sums {
    __m512i low, middle, high;
};

INLINE void sums_add(struct sums *s, __m512i a, __m512i b)
{
    enum { XOR3 = 0x96 };

    s->low = _mm512_xor_si512(s->low, _mm512_clmulepi64_epi128(a, b, 0x00));
    s->high = _mm512_xor_si512(s->high, _mm512_clmulepi64_epi128(a, b, 0x11));
    s->middle = _mm512_ternarylogic_epi64(s->middle, _mm512_clmulepi64_epi128(a, b, 0x10),
                                          _mm512_clmulepi64_epi128(a, b, 0x01), XOR3);
}

INLINE __m128i folded(__m512i v)
{
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

INLINE __m128i sums_reduced(const struct sums *s)
{
    __m512i low = _mm512_xor_si512(s->low, _mm512_bslli_epi128(s->middle, 8));
    __m512i high = _mm512_xor_si512(s->high, _mm512_bsrli_epi128(s->middle, 8));

    return reduced(folded(low), folded(high));
}

INLINE void line_store(uint8_t *to, __m512i v, bool past)
{
    if (past)
        _mm512_stream_si512((__m512i *)(void *)to, v);
    else
        _mm512_storeu_si512(to, v);
}

INLINE void steps(struct gcm_wide *g, uint8_t *to, const uint8_t *from, size_t n, bool encrypt,
                  bool past)
{
    const __m512i whole = _mm512_broadcast_i32x4(
                      _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f)),
                  last = _mm512_broadcast_i32x4(
                      _mm_set_epi64x(0x0c0d0e0f0b0a0908, 0x0706050403020100)),
                  four = _mm512_broadcast_i32x4(_mm_set_epi32(4, 0, 0, 0));
    __m512i key[GCM_ROUNDS + 1], counter = counters(g), in[4], v[4];
    __m128i hash = load(g->hash);
    unsigned i, r;

    for (r = 0; r <= GCM_ROUNDS; r++)
        key[r] = _mm512_broadcast_i32x4(load(g->round[r]));
    g->counter += (uint32_t)(n * GCM_WIDE_BLOCKS);
    for (; n; n--, to += STEP, from += STEP) {
        struct sums s = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};

#pragma GCC unroll 4
        for (i = 0; i < 4; i++) {
            in[i] = _mm512_loadu_si512(from + i * LINE);
            __builtin_prefetch(from + i * LINE + AHEAD, 0, 2);
            v[i] = _mm512_xor_si512(_mm512_shuffle_epi8(counter, last), key[0]);
            counter = _mm512_add_epi32(counter, four);
        }
#pragma GCC unroll 16
        for (r = 1; r < GCM_ROUNDS; r++) {
#pragma GCC unroll 4
            for (i = 0; i < 4; i++)
                v[i] = _mm512_aesenc_epi128(v[i], key[r]);
        }
#pragma GCC unroll 4
        for (i = 0; i < 4; i++) {
            v[i] = _mm512_aesenclast_epi128(v[i], _mm512_xor_si512(key[GCM_ROUNDS], in[i]));
            line_store(to + i * LINE, v[i], past);
            in[i] = _mm512_shuffle_epi8(encrypt ? v[i] : in[i], whole);
        }
        in[0] = _mm512_xor_si512(in[0], _mm512_zextsi128_si512(hash));
#pragma GCC unroll 4
        for (i = 4; i-- > 0;) /* what waits for the step before comes last */
            sums_add(&s, in[i], _mm512_load_si512(g->power[4 * i]));
        hash = sums_reduced(&s);
    }
    store(g->hash, hash);
}

WIDE static void steps_run(struct gcm_wide *g, bool encrypt, bool past, uint8_t *to,
                           const uint8_t *from, size_t n)
{
    if (encrypt && past)
        steps(g, to, from, n, true, true);
    else if (encrypt)
        steps(g, to, from, n, true, false);
    else if (past)
        steps(g, to, from, n, false, true);
    else
        steps(g, to, from, n, false, false);
}

/* ---- Any length ---- */

/* Up to `len` bytes of the block that was begun, or is; returns how many. */
WIDE static size_t add_piece(struct gcm_wide *g, bool encrypt, uint8_t *to, const uint8_t *from,
                             size_t len)
{
    size_t at = g->bytes % GCM_BLOCK, n = len < GCM_BLOCK - at ? len : GCM_BLOCK - at, i;

    if (!at)
        store(g->pad, next_pad(g));
    for (i = 0; i < n; i++) {
        uint8_t in = from[i];

        to[i] = in ^ g->pad[at + i];
        g->piece[at + i] = encrypt ? to[i] : in;
    }
    g->bytes += n;
    if (at + n == GCM_BLOCK)
        hash_block(g, load(g->piece));
    return n;
}

WIDE static void add_block(struct gcm_wide *g, bool encrypt, uint8_t *to, const uint8_t *from)
{
    __m128i in = load(from), out = _mm_xor_si128(in, next_pad(g));

    store(to, out);
    hash_block(g, encrypt ? out : in);
    g->bytes += GCM_BLOCK;
}

void gcm_wide_add(struct gcm_wide *g, bool encrypt, bool past, void *to, const void *from,
                  size_t len)
{
    const uint8_t *in = from;
    uint8_t *out = to;
    size_t n;

    while (len) {
        if (g->bytes % GCM_BLOCK || len < GCM_BLOCK) {
            n = add_piece(g, encrypt, out, in, len);
        } else if (len < STEP ||
                   (past && (uintptr_t)out % GCM_BLOCK == 0 && (uintptr_t)out % LINE)) {
            n = GCM_BLOCK;
            add_block(g, encrypt, out, in);
        } else {
            n = len / STEP * STEP;
            steps_run(g, encrypt, past && (uintptr_t)out % LINE == 0, out, in, len / STEP);
            g->bytes += n;
        }
        in += n;
        out += n;
        len -= n;
    }
}

WIDE void gcm_wide_tag(struct gcm_wide *g, uint8_t tag[GCM_BLOCK])
{
    size_t at = g->bytes % GCM_BLOCK;

    if (at) {
        memset(g->piece + at, 0, GCM_BLOCK - at);
        hash_block(g, load(g->piece));
    }
    hash_block(g, reversed(_mm_set_epi64x((long long)(g->aad * 8), (long long)(g->bytes * 8))));
    store(tag, _mm_xor_si128(reversed(load(g->hash)), load(g->mask)));
    _mm_sfence();
}

#else

bool gcm_wide_usable(void)
{
    return false;
}

/* Never called. */
void gcm_wide_key(struct gcm_wide *g, const uint8_t key[32])
{
    (void)g, (void)key;
}

void gcm_wide_begin(struct gcm_wide *g, const uint8_t nonce[12], const void *aad, size_t len)
{
    (void)g, (void)nonce, (void)aad, (void)len;
}

void gcm_wide_add(struct gcm_wide *g, bool encrypt, bool past, void *to, const void *from,
                  size_t len)
{
    (void)g, (void)encrypt, (void)past, (void)to, (void)from, (void)len;
}

void gcm_wide_tag(struct gcm_wide *g, uint8_t tag[GCM_BLOCK])
{
    (void)g, (void)tag;
}

#endif
