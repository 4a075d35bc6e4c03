/*
 * abi.c - the exported functions of rings and memory: argument checks and the sign conventions.
 * What the real library answers with a crash is -EINVAL here.
 */
#include "usrbio/iov.h"
#include "usrbio/mount.h"
#include "usrbio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#define RING_FIXED  (48 + 4096) /* markers, semaphore, spare */
#define RING_PER_IO 96

static bool mp_fits(const char *mp)
{
    return mp != NULL && strnlen(mp, 256) < 256;
}

EXPORT int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block_size,
                           int numa)
{
    if (iov == NULL || !mp_fits(mp) || size == 0 || block_size > size)
        return -EINVAL;
    return iov_create(iov, mp, size, block_size, numa);
}

EXPORT int hf3fs_iovopen(struct hf3fs_iov *iov, const uint8_t id[16], const char *mp, size_t size,
                         size_t block_size, int numa)
{
    if (iov == NULL || id == NULL || !mp_fits(mp) || size == 0)
        return -EINVAL;
    return iov_open(iov, id, mp, size, block_size, numa);
}

EXPORT int hf3fs_iovwrap(struct hf3fs_iov *iov, void *base, const uint8_t id[16], const char *mp,
                         size_t size, size_t block_size, int numa)
{
    if (iov == NULL || id == NULL || !mp_fits(mp))
        return -EINVAL;
    iov_fill(iov, base, id, mp, size, block_size, numa);
    return 0;
}

EXPORT void hf3fs_iovunlink(struct hf3fs_iov *iov)
{
    if (iov != NULL && iov->iovh != NULL)
        iov_unlink(iov);
}

EXPORT void hf3fs_iovdestroy(struct hf3fs_iov *iov)
{
    if (iov != NULL && iov->iovh != NULL)
        iov_destroy(iov);
}

EXPORT size_t hf3fs_ior_size(int entries)
{
    return RING_FIXED + RING_PER_IO * ((size_t)(int64_t)entries + 1);
}

EXPORT int hf3fs_io_entries(const struct hf3fs_ior *ior)
{
    if (ior == NULL || ior->iov.size < RING_FIXED + RING_PER_IO)
        return -EINVAL;
    return (int)((ior->iov.size - RING_FIXED) / RING_PER_IO) - 1;
}

static int ring_open(struct hf3fs_ior *ior, const char *mp, int entries, int io_depth, int numa)
{
    static const uint8_t no_id[16];
    char dir[PATH_MAX];
    struct ior *ring;
    int rc;

    rc = mount_iovs_dir(mp, dir, sizeof(dir));
    if (rc < 0)
        return rc;
    rc = ior_create(&ring, entries, ior->for_read, io_depth, ior->flags);
    if (rc != 0)
        return rc;
    iov_fill(&ior->iov, ring->client_base, no_id, mp, ring->client_size, 0, numa);
    memcpy(ior->mount_point, ior->iov.mount_point, sizeof(ior->mount_point));
    ior->iov.iovh = NULL; /* ring memory is not for hf3fs_iovdestroy */
    ior->iorh = ring;
    return 0;
}

static int ring_create(struct hf3fs_ior *ior, const char *mp, int entries,
                       const struct hf3fs_ior *want, int numa)
{
    struct hf3fs_ior made = *want;
    int rc;

    if (ior == NULL || !mp_fits(mp) || mp[0] == '\0' || want->timeout < 0)
        return -EINVAL;
    if (entries <= 0 || want->io_depth > entries)
        return -EINVAL;
    rc = ring_open(&made, mp, entries, want->io_depth, numa);
    if (rc == 0)
        *ior = made;
    return rc;
}

EXPORT int hf3fs_iorcreate(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                           int io_depth, int numa)
{
    struct hf3fs_ior want = {.for_read = for_read, .io_depth = io_depth};

    return ring_create(ior, mp, entries, &want, numa);
}

EXPORT int hf3fs_iorcreate2(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int priority, int numa)
{
    struct hf3fs_ior want = {.for_read = for_read, .io_depth = io_depth, .priority = priority};

    return ring_create(ior, mp, entries, &want, numa);
}

EXPORT int hf3fs_iorcreate3(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int priority, int timeout, int numa)
{
    struct hf3fs_ior want = {
        .for_read = for_read, .io_depth = io_depth, .priority = priority, .timeout = timeout};

    return ring_create(ior, mp, entries, &want, numa);
}

EXPORT int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int timeout, int numa, uint64_t flags)
{
    struct hf3fs_ior want = {
        .for_read = for_read, .io_depth = io_depth, .timeout = timeout, .flags = flags};

    return ring_create(ior, mp, entries, &want, numa);
}

EXPORT void hf3fs_iordestroy(struct hf3fs_ior *ior)
{
    struct ior *ring;

    if (ior == NULL || ior->iorh == NULL)
        return;
    ring = ior->iorh;
    ior->iorh = NULL;
    ior_destroy(ring);
}

static bool range_in(const struct hf3fs_iov *iov, const void *ptr, uint64_t len)
{
    uintptr_t base = (uintptr_t)iov->base, at = (uintptr_t)ptr;

    return at >= base && len <= iov->size && at - base <= iov->size - len;
}

static bool crosses_block(const struct hf3fs_iov *iov, const void *ptr, uint64_t len)
{
    uint64_t off = (uint64_t)((uintptr_t)ptr - (uintptr_t)iov->base);

    return iov->block_size > 0 && off / iov->block_size != (off + len - 1) / iov->block_size;
}

static bool access_allows(const struct regfd *file, bool read)
{
    return file->access == O_RDWR || file->access == (read ? O_RDONLY : O_WRONLY);
}

/* Lock held; `want` is complete but for its file. */
static int slot_prepare(struct ior *ring, struct slot *want, int fd)
{
    struct slot *slot;
    unsigned waiting;
    int rc;

    want->file = ior_file_get(ring, fd, &rc);
    if (want->file == NULL)
        return -rc;
    slot = access_allows(want->file, ring->for_read) ? ior_take_slot(ring) : NULL;
    if (slot == NULL) {
        rc = access_allows(want->file, ring->for_read) ? -EAGAIN : -EACCES;
        ior_file_put(ring, want->file);
        return rc;
    }
    *slot = *want;
    list_push(&ring->prepared, slot);
    waiting = atomic_load_explicit(&ring->waiting_to_start, memory_order_relaxed);
    atomic_store_explicit(&ring->waiting_to_start, waiting + 1, memory_order_relaxed);
    return (int)(slot - ring->slots);
}

EXPORT int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read,
                         void *ptr, int fd, size_t off, uint64_t len, const void *userdata)
{
    struct slot want = {
        .ptr = ptr, .off = off, .len = len, .userdata = userdata, .state = SLOT_PREPARED};
    struct ior *ring;
    int rc;

    if (ior == NULL || ior->iorh == NULL || iov == NULL || iov->base == NULL || ptr == NULL)
        return -EINVAL;
    ring = ior->iorh;
    if (!ior_is_ours(ring) || read != ring->for_read || len == 0 || !range_in(iov, ptr, len))
        return -EINVAL;
    want.ior = ring;
    want.wrapped = iov->iovh == NULL;
    want.unit = iov_unit(iov, ptr, len);
    if (off > INT64_MAX || len > INT64_MAX - off)
        want.result = -EFBIG;
    else if (the_proc.strict.crossing && crosses_block(iov, ptr, len) && !iov_is_one_block(iov))
        want.result = -EINVAL;
    lock_take(&ring->lock);
    rc = slot_prepare(ring, &want, fd);
    lock_drop(&ring->lock);
    return rc;
}

EXPORT int hf3fs_submit_ios(const struct hf3fs_ior *ior)
{
    if (ior == NULL || ior->iorh == NULL || !ior_is_ours(ior->iorh))
        return -EINVAL;
    (void)flow_start(ior->iorh, true);
    return 0;
}

EXPORT int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int cqec,
                              int min_results, const struct timespec *abs_timeout)
{
    if (ior == NULL || ior->iorh == NULL || cqes == NULL || cqec <= 0 || !ior_is_ours(ior->iorh))
        return -EINVAL;
    if (min_results > cqec)
        min_results = cqec;
    if (min_results < 0)
        min_results = 0;
    return flow_wait(ior->iorh, cqes, (unsigned)cqec, (unsigned)min_results, abs_timeout);
}
