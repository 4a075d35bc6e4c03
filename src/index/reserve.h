/*
 * reserve.h - address space that costs nothing until it is touched.
 */
#ifndef INDEX_RESERVE_H
#define INDEX_RESERVE_H

#include <stddef.h>
#include <stdint.h>

#define RESERVE_HUGE ((size_t)2 << 20)

/*
 * Zeroed memory, aligned to 2 MiB; NULL: no address space. From byte huge_from on it may be backed
 * by 2 MiB pages: below that, the rest of a half-used one would weigh too much.
 */
void *reserve_open(size_t bytes, size_t huge_from);
void reserve_close(void *base, size_t bytes);

/*
 * Hints without failure, system calls all of them. Before a filling of unknown size: the first
 * `bytes` may have 2 MiB pages as well.
 */
void reserve_huge(void *base, size_t bytes);
/* After it: gives back what a last 2 MiB page has beyond `used`, within the first `bytes`; the rest
 * of these is as reserve_open() left it. */
void reserve_trim(void *base, size_t used, size_t bytes);
/* The first `bytes` are in full use: puts them on 2 MiB pages by copying them. */
void reserve_settle(void *base, size_t bytes);

/* How much of the region is in memory when its first `used` bytes were touched. */
static inline uint64_t reserve_touched(uint64_t used, uint64_t huge_from)
{
    uint64_t page = used > huge_from ? RESERVE_HUGE : 4096;

    return (used + page - 1) / page * page;
}

#endif
