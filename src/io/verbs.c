/*
 * verbs.c - file verbs of the USRBIO rows: ordinary system calls on paths below the mount.
 *
 * Files belong to their owner alone (0600, 0700). Errors go up as negative errno; only what a user
 * can mend gets a sentence. Threads: any. Everything here may hang on a dead mount.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/bits.h"
#include "cistern.h"
#include "io/io_internal.h"

const char *mount_relative(const char *path)
{
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

int mount_openat(const struct io *io, const char *path, int flags, unsigned mode)
{
    const struct usrbio *u = io->private_data;
    int fd;

    do {
        fd = openat(u->dir, mount_relative(path), flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

/*
 * O_DIRECT is set after the open: a file system without it would create the file and then fail the
 * open. It stays off where the file system wants more than 4 KiB alignment.
 */
static void try_direct(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx sx;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN) &&
        (sx.stx_dio_offset_align == 0 || sx.stx_dio_offset_align > PAGE_BYTES ||
         sx.stx_dio_mem_align > PAGE_BYTES))
        return;
#endif
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT);
}

int verb_file_open(struct io *io, const char *path, unsigned mode, struct io_file *f)
{
    const struct usrbio *u = io->private_data;
    int flags = mode & IO_WRITE ? O_RDWR : O_RDONLY;
    struct stat st;
    int fd, rc;

    if (mode & IO_CREATE)
        flags |= O_CREAT | O_EXCL;
    fd = mount_openat(io, path, flags, 0600);
    if (fd < 0)
        return fd;
    if (mode & IO_DIRECT)
        try_direct(fd);
    /* A ring would send the inode number to the wrong cluster and never notice. */
    if (u->real && (fstat(fd, &st) != 0 || st.st_dev != u->dev)) {
        (void)close(fd);
        return err_set(-EXDEV, "%s is on another mount than %s", path, io->mount);
    }
    rc = u->lib.call.reg_fd(fd, 0);
    if (rc > 0) {
        (void)close(fd);
        if (mode & IO_CREATE)
            (void)verb_unlink(io, path);
        return err_set(-rc, "hf3fs_reg_fd of %s: %s", path, strerror(rc));
    }
    f->fd = fd;
    f->registered = true;
    return 0;
}

void verb_file_close(struct io *io, struct io_file *f)
{
    const struct usrbio *u = io->private_data;

    if (f->fd < 0)
        return;
    if (f->registered)
        u->lib.call.dereg_fd(f->fd);
    (void)close(f->fd);
    f->fd = -1;
    f->registered = false;
}

/* On 3FS fdatasync does not bring the length to the other hosts. A failed sync is not tried again:
 * the kernel may have thrown the pages away. */
int verb_file_sync(struct io *io, struct io_file *f)
{
    const struct usrbio *u = io->private_data;

    return (u->real ? fsync(f->fd) : fdatasync(f->fd)) == 0 ? 0 : -errno;
}

int verb_file_truncate(struct io *io, struct io_file *f, uint64_t size)
{
    (void)io;
    return ftruncate(f->fd, (off_t)size) == 0 ? 0 : -errno;
}

/* Never posix_fallocate: where the file system cannot, it writes every block. */
int verb_file_allocate(struct io *io, struct io_file *f, uint64_t from, uint64_t len)
{
    int rc;

    (void)io;
    do {
        rc = fallocate(f->fd, 0, (off_t)from, (off_t)len);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    return errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int verb_make_dir(struct io *io, const char *path)
{
    const struct usrbio *u = io->private_data;
    struct stat st;

    path = mount_relative(path);
    if (mkdirat(u->dir, path, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (fstatat(u->dir, path, &st, 0) != 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int verb_list(struct io *io, const char *path, int (*visit)(void *arg, const char *name), void *arg)
{
    int fd = mount_openat(io, path, O_RDONLY | O_DIRECTORY, 0);
    struct dirent *e;
    int rc = 0;
    DIR *d;

    if (fd < 0)
        return fd;
    d = fdopendir(fd);
    if (!d) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    for (errno = 0; rc == 0 && (e = readdir(d)) != NULL; errno = 0) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = visit(arg, e->d_name);
    }
    if (rc == 0 && errno)
        rc = -errno;
    (void)closedir(d);
    return rc;
}

int verb_stat(struct io *io, const char *path, struct io_stat *out)
{
    const struct usrbio *u = io->private_data;
    struct stat st;

    if (fstatat(u->dir, mount_relative(path), &st, 0) != 0)
        return -errno;
    *out = (struct io_stat){.size = (uint64_t)st.st_size,
                            .disk_bytes = (uint64_t)st.st_blocks * 512,
                            .mtime_s = (uint64_t)st.st_mtime,
                            .mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u +
                                        (uint64_t)st.st_mtim.tv_nsec,
                            .mode = st.st_mode & 07777u,
                            .is_dir = S_ISDIR(st.st_mode)};
    return 0;
}

int verb_unlink(struct io *io, const char *path)
{
    const struct usrbio *u = io->private_data;

    return unlinkat(u->dir, mount_relative(path), 0) == 0 ? 0 : -errno;
}

int verb_remove_dir(struct io *io, const char *path)
{
    const struct usrbio *u = io->private_data;

    return unlinkat(u->dir, mount_relative(path), AT_REMOVEDIR) == 0 ? 0 : -errno;
}

/* File systems that cannot sync a directory make names durable in another way. */
int verb_sync_dir(struct io *io, const char *path)
{
    int rc = 0, fd = mount_openat(io, path, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0)
        return fd;
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        rc = -errno;
    (void)close(fd);
    return rc;
}

int verb_space(struct io *io, struct io_space *out)
{
    const struct usrbio *u = io->private_data;
    struct statvfs v;

    if (fstatvfs(u->dir, &v) != 0)
        return -errno;
    out->total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    out->free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}
