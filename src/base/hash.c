/*
 * hash.c - chooses a build of XXH3 at each call by a predictable branch (no load-time constructor,
 * no lock), and wraps SHA-256 of OpenSSL.
 */
#include "base/hash.h"

#include <stdbool.h>

#define DECLARE(build)                                                                             \
    uint64_t xxh3_##build##_hash64(const void *data, size_t len);                                  \
    void xxh3_##build##_begin(struct hash64_state *s);                                             \
    void xxh3_##build##_add(struct hash64_state *s, const void *data, size_t len);                 \
    uint64_t xxh3_##build##_end(struct hash64_state *s);
DECLARE(avx2)
DECLARE(baseline)
#undef DECLARE

static inline bool use_avx2(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

const char *hash64_build(void)
{
    return use_avx2() ? "avx2" : "baseline";
}

uint64_t hash64(const void *data, size_t len)
{
    return use_avx2() ? xxh3_avx2_hash64(data, len) : xxh3_baseline_hash64(data, len);
}

void hash64_begin(struct hash64_state *s)
{
    if (use_avx2())
        xxh3_avx2_begin(s);
    else
        xxh3_baseline_begin(s);
}

void hash64_add(struct hash64_state *s, const void *data, size_t len)
{
    if (use_avx2())
        xxh3_avx2_add(s, data, len);
    else
        xxh3_baseline_add(s, data, len);
}

uint64_t hash64_end(struct hash64_state *s)
{
    return use_avx2() ? xxh3_avx2_end(s) : xxh3_baseline_end(s);
}
