/*
 * fixed.c - registered ("fixed") buffers: memory of our own iovs that an io_uring pins once instead
 * of on every I/O, which is most of the processor time of a large direct read (compare with
 * CISTERN_USRBIO_FIXED=0).
 *
 * Memory is registered in units of 64 MiB, per io_uring, and only after as many bytes as the unit
 * is long went through it unregistered: then pinning pays for itself within the next pass,
 * short-lived memory is never pinned, and no call stalls for longer than pinning one unit takes.
 * Where the locked-memory limit forbids it, I/O goes on without. Wrapped memory is never
 * registered: its pages may change under the same address.
 *
 * Units have process-wide numbers, handed out when an iov is made (proc.lock); what an io_uring
 * registered of them is guarded by its sq_lock.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define UNIT        ((size_t)64 << 20)
#define WORTH_BYTES ((size_t)64 << 10) /* smaller iovs are not considered */

#define REGISTERED UINT32_MAX
#define REFUSED    (UINT32_MAX - 1)
#define PAGE_SHIFT 12

/* As the kernel defines them; older liburing headers lack the flags. */
struct buffers_table {
    uint32_t count, flags;
    uint64_t reserved, data, tags;
};
#define TABLE_SPARSE 1u

struct buffers_update {
    uint32_t offset, reserved;
    uint64_t data, tags;
    uint32_t count, reserved2;
};

static long ring_register(struct uring *uring, unsigned what, const void *arg, size_t size)
{
    return syscall(__NR_io_uring_register, uring->ring.ring_fd, what, arg, (unsigned)size);
}

/* An empty table, to be filled later. Kernels before 5.19 have none, and then there are no fixed
 * buffers. */
void fixed_attach(struct uring *uring)
{
    const char *off = getenv("CISTERN_USRBIO_FIXED");
    struct buffers_table table = {.count = FIXED_UNITS, .flags = TABLE_SPARSE};

    if (off != NULL && strcmp(off, "0") == 0)
        return;
    if (ring_register(uring, IORING_REGISTER_BUFFERS2, &table, sizeof(table)) < 0)
        return;
    uring->fixed = calloc(FIXED_UNITS, sizeof(*uring->fixed));
}

static bool update(struct uring *uring, unsigned unit, void *base, size_t size)
{
    struct iovec vec = {.iov_base = base, .iov_len = size};
    struct buffers_update arg = {.offset = unit, .data = (uintptr_t)&vec, .count = 1};

    return ring_register(uring, IORING_REGISTER_BUFFERS_UPDATE, &arg, sizeof(arg)) == 1;
}

/* sq_lock held. True: the I/O may name the buffer. Its memory may be gone already, and the number
 * another's. */
bool fixed_use(struct uring *uring, const struct slot *slot)
{
    struct proc *proc = &the_proc;
    uint8_t *base = atomic_load_explicit(&proc->units[slot->unit].base, memory_order_relaxed);
    size_t size = atomic_load_explicit(&proc->units[slot->unit].size, memory_order_relaxed);
    uint32_t *state = uring->fixed != NULL ? &uring->fixed[slot->unit] : NULL;

    if (state == NULL || *state == REFUSED || base == NULL || slot->ptr < base ||
        slot->ptr + slot->len > base + size)
        return false;
    if (*state == REGISTERED)
        return true;
    *state += (uint32_t)(slot->len >> PAGE_SHIFT) + 1;
    if (*state < size >> PAGE_SHIFT)
        return false;
    if (atomic_load_explicit(&proc->fixed_refused, memory_order_relaxed) ||
        !update(uring, (unsigned)slot->unit, base, size)) {
        atomic_store_explicit(&proc->fixed_refused, true, memory_order_relaxed);
        *state = REFUSED;
        return false;
    }
    *state = REGISTERED;
    return true;
}

/* proc.lock held. The first of the numbers for this memory, or -1. */
int fixed_assign(struct proc *proc, uint8_t *base, size_t size)
{
    size_t count = (size + UNIT - 1) / UNIT, run = 0, first;

    if (size < WORTH_BYTES || count > FIXED_UNITS)
        return -1;
    for (first = 0; first + run < FIXED_UNITS && run < count;) {
        if (proc->units[first + run].base == NULL) {
            run++;
        } else {
            first += run + 1;
            run = 0;
        }
    }
    if (run < count)
        return -1;
    for (size_t i = 0; i < count; i++) {
        size_t left = size - i * UNIT;

        atomic_store_explicit(&proc->units[first + i].base, base + i * UNIT, memory_order_relaxed);
        atomic_store_explicit(&proc->units[first + i].size, left < UNIT ? left : UNIT,
                              memory_order_relaxed);
    }
    return (int)first;
}

static void forget(struct uring *uring, unsigned unit)
{
    lock_take(&uring->sq_lock);
    if (uring->fixed != NULL) {
        if (uring->fixed[unit] == REGISTERED)
            (void)update(uring, unit, NULL, 0);
        uring->fixed[unit] = 0;
    }
    lock_drop(&uring->sq_lock);
}

/* proc.lock held. I/O in flight keeps its pages. */
void fixed_release(struct proc *proc, int first, size_t size)
{
    size_t count = (size + UNIT - 1) / UNIT;

    for (size_t i = (size_t)first; i < (size_t)first + count; i++) {
        for (unsigned u = 0; u < URINGS_MAX; u++) {
            if (proc->urings[u] != NULL)
                forget(proc->urings[u], (unsigned)i);
        }
        atomic_store_explicit(&proc->units[i].base, NULL, memory_order_relaxed);
    }
}

/* The number of the unit that holds a range of the memory, or -1 if none does as a whole. */
int fixed_unit_of(int first, size_t off, uint64_t len)
{
    if (first < 0 || off / UNIT != (off + len - 1) / UNIT)
        return -1;
    return first + (int)(off / UNIT);
}
