/*
 * sha_wide.h - SHA-256 of sixteen messages at once, by AVX-512: more than twice as fast as two at
 * once by the SHA instructions (docs/BENCHMARKS.md).
 */
#ifndef KEY_SHA_WIDE_H
#define KEY_SHA_WIDE_H

#include "key/sha_pair.h"

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
