/*
 * host.c - memory that the CPU reaches.
 *
 * Two copies. Plain memcpy brings the destination into the cache. The copy past the cache does not,
 * and saves reading the destination's old bytes: with blocks larger than the cache it is what makes
 * a hashed copy as fast as a bare one. No state; any thread.
 */
#include <string.h>

#include "base/bits.h"
#include "mem/mem_internal.h"

#define LINE       64u
/* Below this the partly filled lines at both ends cost more than is saved. */
#define STREAM_MIN 512u

static int host_copy_out(void *dst, const void *staging, size_t len)
{
    memcpy(dst, staging, len);
    return 0;
}

static int host_copy_in(void *staging, const void *src, size_t len)
{
    memcpy(staging, src, len);
    return 0;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* `lines` whole lines to an aligned place; half as many instructions as with SSE2, which lets more
 * stores be on their way at a time. */
__attribute__((target("avx2"))) static void stream_avx2(uint8_t *to, const uint8_t *from,
                                                        size_t lines)
{
    for (; lines > 0; lines--, to += LINE, from += LINE) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)from);
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + 32));

        __builtin_prefetch(from + HOST_COPY_AHEAD, 0, 2);
        _mm256_stream_si256((__m256i *)(void *)to, a);
        _mm256_stream_si256((__m256i *)(void *)(to + 32), b);
    }
}

static void stream_sse2(uint8_t *to, const uint8_t *from, size_t lines)
{
    for (; lines > 0; lines--, to += LINE, from += LINE) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));

        __builtin_prefetch(from + HOST_COPY_AHEAD, 0, 2);
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
}

void host_copy_past_cache(void *dst, const void *src, size_t len)
{
    const uint8_t *from = src;
    uint8_t *to = dst;
    size_t head = (size_t)(-(uintptr_t)to % LINE), lines;

    if (len < STREAM_MIN) {
        memcpy(to, from, len);
        return;
    }
    lines = (len - head) / LINE;
    if (head)
        memcpy(to, from, head);
    if (__builtin_cpu_supports("avx2"))
        stream_avx2(to + head, from + head, lines);
    else
        stream_sse2(to + head, from + head, lines);
    head += lines * LINE;
    if (head < len)
        memcpy(to + head, from + head, len - head);
}

void host_copy_fence(void)
{
    _mm_sfence();
}
#else
void host_copy_past_cache(void *dst, const void *src, size_t len)
{
    memcpy(dst, src, len);
}

void host_copy_fence(void)
{
}
#endif

const struct mem_ops mem_host = {
    .name = "host",
    .copy_out = host_copy_out,
    .copy_in = host_copy_in,
};
