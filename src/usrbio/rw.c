/*
 * rw.c - how far an I/O has come: which descriptor and how many bytes the next system call takes,
 * and what its result means. Shared by all backends.
 *
 * Reads end at the end of the file; writes end whole or with an error. A call that was interrupted,
 * or that moved less than asked, is repeated for the rest. O_DIRECT is left for a buffered
 * descriptor where offset, length or memory is not aligned, or where the kernel says EINVAL.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A call moves at most a little less than 2 GiB; a whole number of pages keeps O_DIRECT aligned. */
#define CALL_MAX ((uint64_t)1 << 30)

/* A thread that ends takes its queued calls along (-ECANCELED), signals interrupt: try again, but
 * not for ever. */
#define RETRIES_MAX 200

int rw_fd(struct slot *slot)
{
    struct regfd *file = slot->file;
    uint64_t all;

    if (file->align == 0)
        return file->io_fd;
    all = (slot->off + slot->moved) | (slot->len - slot->moved) |
          (uintptr_t)(slot->ptr + slot->moved);
    if (slot->buffered || (all & (file->align - 1)) != 0)
        return regfd_buffered(file);
    return file->io_fd;
}

/* A direct read across the end of the file would fill the rest of its last block with whatever is
 * there; the caller's bytes past the end are not to be touched, so such a read goes through the
 * page cache. */
void rw_begin(struct slot *slot)
{
    struct regfd *file = slot->file;
    struct stat st;

    if (file->align <= 1 || !slot->ior->for_read || !file->regular ||
        slot->off + slot->len <= atomic_load_explicit(&file->size_seen, memory_order_relaxed))
        return;
    if (fstat(file->dup, &st) != 0)
        return;
    atomic_store_explicit(&file->size_seen, (uint64_t)st.st_size, memory_order_relaxed);
    slot->buffered = slot->off + slot->len > (uint64_t)st.st_size;
}

uint32_t rw_length(const struct slot *slot)
{
    uint64_t left = slot->len - slot->moved;

    return (uint32_t)(left < CALL_MAX ? left : CALL_MAX);
}

/* After a short read: true if the file ends here, so that a second call need not find out. It
 * matters for O_DIRECT, which would refuse to go on at an odd end of file. */
static bool at_end(const struct slot *slot)
{
    struct stat st;

    return slot->file->regular && fstat(slot->file->dup, &st) == 0 &&
           (uint64_t)st.st_size <= slot->off + slot->moved;
}

static enum step step_failed(struct slot *slot, int64_t res)
{
    if ((res == -EINTR || res == -EAGAIN || res == -ECANCELED) && slot->retries < RETRIES_MAX) {
        slot->retries++;
        return STEP_AGAIN;
    }
    if (res == -EINVAL && slot->file->align != 0 && !slot->buffered) {
        slot->buffered = true;
        return STEP_AGAIN;
    }
    slot->result = res;
    return STEP_DONE;
}

enum step rw_step(struct slot *slot, int64_t res)
{
    bool read = slot->ior->for_read, is_short;

    if (res < 0)
        return step_failed(slot, res);
    is_short = res < rw_length(slot);
    slot->moved += (uint64_t)res;
    if (slot->moved < slot->len && res > 0 && !(read && is_short && at_end(slot)))
        return STEP_AGAIN;
    if (res == 0 && !read) {
        slot->result = -EIO; /* a write that moves nothing would be repeated for ever */
        return STEP_DONE;
    }
    slot->result = (int64_t)slot->moved;
    return STEP_DONE;
}

static int64_t call(struct slot *slot)
{
    struct iovec vec = {.iov_base = slot->ptr + slot->moved, .iov_len = rw_length(slot)};
    off_t off = (off_t)(slot->off + slot->moved);
    ssize_t n;

    if (slot->ior->for_read)
        n = pread(rw_fd(slot), vec.iov_base, vec.iov_len, off);
    else if (slot->file->rw_flags == 0)
        n = pwrite(rw_fd(slot), vec.iov_base, vec.iov_len, off);
    else
        n = pwritev2(rw_fd(slot), &vec, 1, off, slot->file->rw_flags);
    return n < 0 ? -errno : n;
}

int64_t rw_run(struct slot *slot)
{
    while (rw_step(slot, call(slot)) == STEP_AGAIN)
        ;
    return slot->result;
}
