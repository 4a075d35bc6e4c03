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
 * Now that the first `bytes` are in full use, lets them have 2 MiB pages as well, those that were
 * touched at once: a system call that copies them. For open; a hint, no failure.
 */
void reserve_settle(void *base, size_t bytes);

/* How much of the region is in memory when its first `used` bytes were touched. */
static inline uint64_t reserve_touched(uint64_t used, uint64_t huge_from)
{
    uint64_t page = used > huge_from ? RESERVE_HUGE : 4096;

    return (used + page - 1) / page * page;
}

#endif
