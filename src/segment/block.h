/*
 * block.h - one stored block as the contents describe it, in host order.
 */
#ifndef SEGMENT_BLOCK_H
#define SEGMENT_BLOCK_H

#include <stdint.h>

#include "segment/format.h"

/* The first `parts` elements of length and check are valid: the parts of `mask` in ascending order.
 */
struct block_info {
    uint8_t key[32];
    uint32_t offset; /* of the first part in the data file, 4 KiB units */
    uint32_t depth;  /* place in its chain */
    uint16_t mask;
    uint8_t parts;
    uint32_t length[FORMAT_MAX_PARTS];
    uint64_t check[FORMAT_MAX_PARTS];
};

/* Bytes that the block takes in the data file: every part rounded up to 4 KiB. */
static inline uint64_t block_extent(const struct block_info *b)
{
    uint64_t bytes = 0;
    unsigned i;

    for (i = 0; i < b->parts; i++)
        bytes += ((uint64_t)b->length[i] + FORMAT_PAGE - 1) / FORMAT_PAGE * FORMAT_PAGE;
    return bytes;
}

#endif
