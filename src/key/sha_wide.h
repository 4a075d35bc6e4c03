/*
 * sha_wide.h - the middle states of SHA-256 of sixteen messages at once, by AVX-512.
 *
 * The one hash that is not OpenSSL's: a chain's blocks can be hashed side by side up to their ends,
 * and OpenSSL has no call that does so. Twice as fast (docs/BENCHMARKS.md); sha_end() of OpenSSL
 * finishes each.
 */
#ifndef KEY_SHA_WIDE_H
#define KEY_SHA_WIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "key/sha.h"

#define SHA_LANES      16u
#define SHA_STRIDE_MAX ((size_t)1 << 26)

/* This CPU has what it takes, and is not of the kind that slows down for it. */
bool sha_wide_usable(void);
/*
 * Takes `blocks` whole blocks of each of n messages, 1 .. SHA_LANES, that begin `stride` bytes
 * apart, at most SHA_STRIDE_MAX; costs the same for every n. All begin anew. Only where
 * sha_wide_usable().
 */
void sha_blocks_wide(struct sha_state *states, unsigned n, const void *data, size_t stride,
                     size_t blocks);

#endif
