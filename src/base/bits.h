/* bits.h - rounding and checked arithmetic. */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline uint64_t round_up(uint64_t v, uint64_t step)
{
    return (v + step - 1) / step * step;
}

static inline uint64_t round_down(uint64_t v, uint64_t step)
{
    return v / step * step;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
