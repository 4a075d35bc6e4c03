/*
 * smallfile.c - whole small files of the USRBIO rows, through ordinary reads and writes.
 *
 * A write goes to a temporary name in the same directory, is synced and then gets its name by link
 * (exclusive) or rename, so that a reader on any host sees the whole file or none. A crash leaves
 * at most a file named ".tmp-*". Threads: any. May hang on a dead mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "io/io_internal.h"

#define SMALL_PATH_MAX 1024

/* Up to `size` bytes; fewer only at the end of the file. */
static int64_t read_full(int fd, char *buf, size_t size)
{
    size_t got = 0;

    while (got < size) {
        ssize_t n = pread(fd, buf + got, size - got, (off_t)got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

int64_t verb_small_read(struct io *io, const char *path, void *buf, size_t size)
{
    int64_t n;
    char more;
    int fd = mount_openat(io, path, O_RDONLY, 0);

    if (fd < 0)
        return fd;
    n = read_full(fd, buf, size);
    if (n == (int64_t)size && pread(fd, &more, 1, (off_t)size) > 0)
        n = -EFBIG;
    (void)close(fd);
    return n;
}

static int write_full(int fd, const char *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, data + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* "<directory of path>/.tmp-<random>"; dir_len is the length of the directory part. */
static int temporary_name(const char *path, char out[SMALL_PATH_MAX], size_t *dir_len)
{
    const char *slash = strrchr(path, '/');
    uint64_t salt;
    int n;

    *dir_len = slash ? (size_t)(slash - path) : 0;
    if (getrandom(&salt, sizeof salt, GRND_NONBLOCK) != sizeof salt)
        salt = (uint64_t)(uintptr_t)out ^ ((uint64_t)getpid() << 32);
    n = snprintf(out, SMALL_PATH_MAX, "%.*s%s.tmp-%016llx", (int)*dir_len, path, slash ? "/" : "",
                 (unsigned long long)salt);
    return n > 0 && n < SMALL_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Gives the temporary file its name; it has none of its own afterwards, whatever the result. */
static int publish(int dir, const char *temporary, const char *path, bool exclusive)
{
    int rc = 0;

    if (!exclusive) {
        rc = renameat(dir, temporary, dir, path) == 0 ? 0 : -errno;
    } else if (linkat(dir, temporary, dir, path, 0) != 0) {
        rc = -errno;
        /* no hard links on this file system */
        if ((rc == -EPERM || rc == -EOPNOTSUPP || rc == -ENOSYS) &&
            renameat2(dir, temporary, dir, path, RENAME_NOREPLACE) == 0)
            return 0;
    }
    if (exclusive || rc)
        (void)unlinkat(dir, temporary, 0);
    return rc;
}

int verb_small_write(struct io *io, const char *path, const void *data, size_t len, bool exclusive)
{
    const struct usrbio *u = io->private_data;
    char temporary[SMALL_PATH_MAX];
    size_t dir_len;
    int fd, rc;

    path = mount_relative(path);
    rc = temporary_name(path, temporary, &dir_len);
    if (rc)
        return rc;
    if (exclusive && faccessat(u->dir, path, F_OK, 0) == 0)
        return -EEXIST;
    fd = mount_openat(io, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return fd;
    rc = write_full(fd, data, len);
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc) {
        (void)unlinkat(u->dir, temporary, 0);
        return rc;
    }
    rc = publish(u->dir, temporary, path, exclusive);
    if (rc)
        return rc;
    temporary[dir_len] = 0;
    return verb_sync_dir(io, temporary);
}
