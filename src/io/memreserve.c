/*
 * memreserve.c - staging memory that cannot fault.
 *
 * An iov is a sparse object in /dev/shm. Where /dev/shm is smaller than the object (64 MiB in a
 * container by default), creating it succeeds and touching it later kills the process with SIGBUS.
 * So: ask statvfs (and what memory is left at all) first, create, then let the file system allocate
 * every page with fallocate. After that the name is removed, so that a killed process leaves
 * nothing behind.
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

static int allocate_pages(const struct io_mem *m)
{
    char path[SHM_PATH_MAX];
    struct statvfs v;
    int fd, rc = shm_path_of_mapping(m->base, m->size, path);

    if (rc)
        return rc;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(-errno, "%s: %s", path, strerror(errno));
    do {
        rc = fallocate(fd, 0, 0, (off_t)m->size) == 0 ? 0 : -errno;
    } while (rc == -EINTR);
    if (rc == -ENOSPC || rc == -ENOMEM)
        rc = no_room(m->size, fstatvfs(fd, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0);
    else if (rc)
        rc = err_set(CISTERN_ESTAGING, "%s: %zu bytes cannot be reserved: %s", path, m->size,
                     strerror(-rc));
    (void)close(fd);
    return rc;
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
    int rc;

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
    rc = allocate_pages(m);
    if (rc) {
        io->ops->mem_destroy(io, m);
        return rc;
    }
    u->lib.call.iovunlink(&m->iov);
    return 0;
}
