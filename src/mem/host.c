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
#define STREAM_MIN 1024u

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
#include <emmintrin.h>

static inline void stream_line(uint8_t *to, const uint8_t *from)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
    __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));

    _mm_stream_si128((__m128i *)(void *)to, a);
    _mm_stream_si128((__m128i *)(void *)(to + 16), b);
    _mm_stream_si128((__m128i *)(void *)(to + 32), c);
    _mm_stream_si128((__m128i *)(void *)(to + 48), d);
}

void host_copy_past_cache(void *dst, const void *src, size_t len)
{
    const uint8_t *from = src;
    uint8_t *to = dst;
    size_t at = (size_t)(-(uintptr_t)to % LINE), ahead = 2 * len;

    if (len < STREAM_MIN) {
        memcpy(to, from, len);
        return;
    }
    memcpy(to, from, at);
    for (; at + LINE <= len; at += LINE) {
        __builtin_prefetch(from + at + ahead, 0, 2);
        stream_line(to + at, from + at);
    }
    memcpy(to + at, from + at, len - at);
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
