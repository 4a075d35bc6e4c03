/*
 * hash.h - XXH3-64.
 *
 * The fastest build of XXH3 for this CPU is used (AVX2 where there is AVX2: it beats AVX-512, see
 * docs/BENCHMARKS.md).
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of a buffer, seed 0. */
uint64_t hash64(const void *data, size_t len);

/* A running XXH3-64; owned by the caller, no clean-up. */
struct hash64_state {
    _Alignas(64) unsigned char opaque[640];
};
void hash64_begin(struct hash64_state *s);
void hash64_add(struct hash64_state *s, const void *data, size_t len);
uint64_t hash64_end(struct hash64_state *s);

/* "avx2" or "baseline": which build is in use. */
const char *hash64_build(void);

#endif
