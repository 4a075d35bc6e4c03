/*
 * segment_internal.h - what the reader and the writer of contents agree on. For src/segment only.
 */
#ifndef SEGMENT_SEGMENT_INTERNAL_H
#define SEGMENT_SEGMENT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/format.h"

#define PART_BYTES_MAX (1u << 30)

/* Records that a block of `parts` parts takes: itself and its continuations. */
static inline unsigned block_records(unsigned parts)
{
    return 1 + (parts - 1 + FORMAT_CONT_PARTS - 1) / FORMAT_CONT_PARTS;
}

static inline bool part_mask_ok(uint16_t mask, unsigned parts)
{
    if (parts == 1)
        return mask && !(mask & (mask - 1));
    return parts >= 1 && parts <= FORMAT_MAX_PARTS && (unsigned)__builtin_popcount(mask) == parts;
}

static inline bool part_length_ok(uint32_t length)
{
    return length >= 1 && length <= PART_BYTES_MAX;
}

/* Bytes from `position` to the end of its page; never 0. */
static inline size_t page_rest(uint64_t position)
{
    return (size_t)(FORMAT_PAGE - position % FORMAT_PAGE);
}

/* What a check, or the tag of an encrypted part, covers beside the payload. */
void identity_encode(const struct check_identity *identity,
                     uint8_t out[sizeof(struct check_identity)]);
/* Puts the right checksum into a header page. */
void toc_header_sum(void *page);
/* cipher.c: cipher_begin() with any nonce, for the wrapping of keys. */
struct cipher;
int cipher_begin_at(struct cipher *c, bool encrypt, const uint8_t key[32], const uint8_t nonce[12],
                    const void *aad, size_t len) MUST_CHECK;

/* XXH3-64 of bytes[0..len) with eight bytes at `field` taken as zero; len <= FORMAT_PAGE. `scratch`
 * has room for it and holds that copy afterwards. */
uint64_t checksum_without(const void *bytes, size_t len, size_t field, void *scratch);

#endif
