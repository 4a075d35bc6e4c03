/*
 * sha.h - SHA-256 over pieces, by OpenSSL's low-level calls: the EVP layer costs as much as the
 * hash of a 2 KiB block, and allocates.
 */
#ifndef KEY_SHA_H
#define KEY_SHA_H

#include <stddef.h>
#include <stdint.h>

#define SHA_SUFFIX 48u /* fixed bytes that stand behind what a key names; see key.c */

struct sha_piece {
    const void *data;
    size_t len;
};

/* -EIO only if OpenSSL fails. */
int sha256(const struct sha_piece *pieces, size_t n, uint8_t out[32])
    __attribute__((warn_unused_result));

/* A SHA-256 in the middle: what it has become after `bytes` bytes, whole blocks of 64. */
#define SHA_BLOCK 64u
struct sha_state {
    uint32_t h[8];
};
/* Goes on from there over the pieces, and ends it. */
int sha256_end(const struct sha_state *s, size_t bytes, const struct sha_piece *pieces, size_t n,
               uint8_t out[32]) __attribute__((warn_unused_result));

#endif
