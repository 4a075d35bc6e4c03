/*
 * memreserve.c - staging memory that cannot fault.
 *
 * An iov is a sparse object in /dev/shm. Where /dev/shm is smaller than the object (64 MiB in a
 * container by default), creating it succeeds and touching it later kills the process with SIGBUS.
 * So: ask statvfs (and what memory is left at all) first, create, take the name away, so that a
 * killed process leaves nothing behind, and let the file system allocate every page with fallocate.
 *
 * fallocate of shared memory takes pages without clearing or mapping them, a fraction of the price
 * of touching them; the rest is paid at each page's first use. Threads: any. On failure nothing is
 * left.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/bits.h"
#include "cistern.h"
#include "io/io_internal.h"

#define MAX_IOV_BLOCK (1ull << 30)
#define MIB(bytes)    ((unsigned long long)((bytes) >> 20))

static int no_room(size_t size, uint64_t free_bytes)
{
    return err_set(CISTERN_ESTAGING,
                   SHM_DIR " cannot hold %llu MiB of staging memory, it has %llu MiB free: "
                           "`mount -o remount,size=<bytes> " SHM_DIR "`, for a container "
                           "`--shm-size` or an emptyDir of medium Memory with its sizeLimit, or "
                           "smaller read_iov_bytes and write_iov_bytes",
                   MIB(size + (1u << 20) - 1), MIB(free_bytes));
}

static int check_free(size_t size)
{
    struct statvfs v;
    uint64_t free_bytes, room;

    if (statvfs(SHM_DIR, &v) != 0)
        return err_set(CISTERN_ESTAGING, SHM_DIR ": %s", strerror(errno));
    free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    /* a tmpfs without a limit says 0 blocks */
    if (v.f_blocks && free_bytes < size)
        return no_room(size, free_bytes);
    room = memory_room();
    if (room < size)
        return err_set(CISTERN_ESTAGING,
                       "%llu MiB of staging memory are more than the %llu MiB that this machine or "
                       "container has left: raise the container's memory limit, or lower "
                       "read_iov_bytes and write_iov_bytes",
                       MIB(size), MIB(room));
    return 0;
}

/* The object behind fresh memory, opened by its name; the name is gone afterwards. */
static int take_name(const struct usrbio *u, struct io_mem *m)
{
    char path[SHM_PATH_MAX];
    int fd, rc = shm_path_of_mapping(m->base, m->size, path);

    if (rc)
        return rc;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(CISTERN_ESTAGING, "%s: %s", path, strerror(errno));
    u->lib.call.iovunlink(&m->iov);
    return fd;
}

static int allocate_pages(int fd, size_t size)
{
    struct statvfs v;
    int rc;

    do {
        rc = fallocate(fd, 0, 0, (off_t)size) == 0 ? 0 : -errno;
    } while (rc == -EINTR);
    if (rc == -ENOSPC || rc == -ENOMEM)
        return no_room(size, fstatvfs(fd, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0);
    if (rc)
        return err_set(CISTERN_ESTAGING, "%zu bytes of " SHM_DIR " cannot be reserved: %s", size,
                       strerror(-rc));
    return 0;
}

/* The largest multiple of the caller's block that a NIC surely registers as one region. */
static size_t iov_block(size_t size, size_t block_size)
{
    size_t block = block_size ? round_down(MAX_IOV_BLOCK, block_size) : MAX_IOV_BLOCK;

    return size <= block ? 0 : block;
}

int io_mem_reserve(struct io *io, struct io_mem *m, size_t size, size_t block_size)
{
    struct usrbio *u = usrbio_of(io);
    int fd, rc;

    if (block_size > MAX_IOV_BLOCK)
        return err_set(CISTERN_ECONFIG, "one staging slot of %zu bytes is above 1 GiB", block_size);
    if (!u)
        return io->ops->mem_create(io, m, size, iov_block(size, block_size));
    rc = check_free(size);
    if (rc)
        return rc;
    rc = io->ops->mem_create(io, m, size, iov_block(size, block_size));
    if (rc)
        return rc;
    fd = take_name(u, m);
    rc = fd < 0 ? fd : allocate_pages(fd, size);
    if (fd >= 0)
        (void)close(fd);
    if (rc)
        io->ops->mem_destroy(io, m);
    return rc;
}
