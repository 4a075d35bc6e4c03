/*
 * checksum.c - the checksum of the format, straight from the header-only XXH3.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "fuzz.h"

uint64_t fuzz_checksum(const void *bytes, size_t len, size_t field)
{
    uint8_t *copy = fuzz_copy(bytes, len);
    uint64_t sum;

    memset(copy + field, 0, 8);
    sum = XXH3_64bits(copy, len);
    free(copy);
    return sum;
}
