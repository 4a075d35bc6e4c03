/* reserve.c - see reserve.h. No state; any thread. */
#include "index/reserve.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; older ones refuse it, which does no harm */
#endif

#define LARGEST_PAGE 65536u /* of any machine: what is cut off must begin at a page */

void *reserve_open(size_t size, size_t huge_from)
{
    size_t bytes = round_up(size, LARGEST_PAGE), all = bytes + RESERVE_HUGE, head;
    uint8_t *p =
        mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    head = (RESERVE_HUGE - (uintptr_t)p % RESERVE_HUGE) % RESERVE_HUGE;
    if (head)
        (void)munmap(p, head);
    (void)munmap(p + head + bytes, all - head - bytes);
    p += head;
    /* Elsewhere the system's default may be huge pages everywhere: a small index must stay small.
     */
    (void)madvise(p, bytes < huge_from ? bytes : huge_from, MADV_NOHUGEPAGE);
    if (bytes > huge_from)
        (void)madvise(p + huge_from, bytes - huge_from, MADV_HUGEPAGE);
    return p;
}

void reserve_close(void *base, size_t size)
{
    if (base)
        (void)munmap(base, round_up(size, LARGEST_PAGE));
}

void reserve_huge(void *base, size_t bytes)
{
    (void)madvise(base, bytes, MADV_HUGEPAGE);
}

void reserve_trim(void *base, size_t used, size_t bytes)
{
    size_t from = round_up(used, (size_t)sysconf(_SC_PAGESIZE));
    /* Behind `bytes` the region may be over, and what lies there is somebody else's. */
    size_t to = min_u64(round_up(used, RESERVE_HUGE), bytes);

    (void)madvise(base, bytes, MADV_NOHUGEPAGE);
    if (to > from)
        (void)madvise((uint8_t *)base + from, to - from, MADV_DONTNEED);
}

void reserve_settle(void *base, size_t bytes)
{
    (void)madvise(base, bytes, MADV_HUGEPAGE);
    (void)madvise(base, bytes, MADV_COLLAPSE);
}
