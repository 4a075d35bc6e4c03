/*
 * sha_pair.h - SHA-256 of two messages at once, by the SHA instructions of x86-64. One message
 * alone leaves their pipeline half empty: each step needs the result of the one before.
 */
#ifndef KEY_SHA_PAIR_H
#define KEY_SHA_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA_BLOCK 64u

struct sha_state {
    uint32_t h[8];
};

extern const uint32_t sha_constants[64];

/* This CPU has them. A load and a branch; the first calls ask the CPU. */
bool sha_pair_usable(void);
void sha_begin(struct sha_state *s);
/* Takes whole blocks of one message, or as many of each of two. Only where sha_pair_usable(). */
void sha_blocks(struct sha_state *s, const void *data, size_t blocks);
void sha_blocks_pair(struct sha_state *a, const void *data_a, struct sha_state *b,
                     const void *data_b, size_t blocks);
/* The hash, big-endian as the standard has it, after the padding went in. */
void sha_end(const struct sha_state *s, uint8_t out[32]);

#endif
