/*
 * shmfile.c - files in /dev/shm that one process writes and others read. See shmpage.h.
 *
 * The writer holds a shared lock (flock) while it has the file; the kernel gives it back when the
 * process dies. So who gets the exclusive one knows that the writer is gone, in whatever container
 * it was. A file is made under its lock as far as others can tell: one that was swept between the
 * two is made again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io_internal.h"
#include "io/shmpage.h"

#define NUMBERS 1024u
#define TRIES   100u

static bool named(int fd, const char *path)
{
    struct stat own, at;

    return fstat(fd, &own) == 0 && lstat(path, &at) == 0 && own.st_ino == at.st_ino &&
           own.st_dev == at.st_dev;
}

/* 0; -EEXIST: there is such a file; -EAGAIN: somebody swept it at once. */
static int make_one(struct shm_page *p)
{
    p->fd = open(p->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->fd < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    if (flock(p->fd, LOCK_SH | LOCK_NB) == 0 && named(p->fd, p->path))
        return 0;
    (void)close(p->fd);
    p->fd = -1;
    return -EAGAIN;
}

int shm_file_make(struct shm_page *p, const char *prefix, uint32_t *n)
{
    uint32_t tries = 0;
    int rc = -EEXIST;

    *p = (struct shm_page){.fd = -1};
    while (*n < NUMBERS && tries < TRIES) {
        (void)snprintf(p->path, sizeof p->path, SHM_DIR "/%s%u", prefix, *n);
        rc = make_one(p);
        if (rc == 0)
            return 0;
        if (rc == -EEXIST)
            ++*n;
        else if (rc == -EAGAIN)
            tries++;
        else
            break;
    }
    p->path[0] = 0;
    return rc;
}

int shm_file_write(const struct shm_page *p, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pwrite(p->fd, (const char *)data + done, len - done, (off_t)done);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

void shm_file_close(struct shm_page *p)
{
    if (!p->path[0])
        return;
    if (named(p->fd, p->path))
        (void)unlink(p->path);
    (void)close(p->fd);
    *p = (struct shm_page){.fd = -1};
}

/* ---- Reading ---- */

int shm_file_list(const char *prefix, int (*visit)(void *arg, const char *name), void *arg)
{
    DIR *d = opendir(SHM_DIR);
    struct dirent *e;
    int rc = 0;

    if (!d)
        return errno == ENOENT ? 0 : -errno;
    while (!rc && (e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0)
            rc = visit(arg, e->d_name);
    }
    (void)closedir(d);
    return rc;
}

/* A descriptor of a plain file that we may believe: of ourselves, or read as root. */
static int open_plain(const char *name)
{
    char path[300];
    struct stat st;
    int fd;

    (void)snprintf(path, sizeof path, SHM_DIR "/%s", name);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (geteuid() == 0 || st.st_uid == geteuid()))
        return fd;
    (void)close(fd);
    return -EPERM;
}

int64_t shm_file_read(const char *name, void *buf, size_t size)
{
    int fd = open_plain(name);
    size_t done = 0;
    ssize_t n = 1;

    if (fd < 0)
        return fd;
    while (done < size && n != 0) {
        n = pread(fd, (char *)buf + done, size - done, (off_t)done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    return n < 0 ? -EIO : (int64_t)done;
}

bool shm_file_sweep(const char *name)
{
    char path[300];
    int fd = open_plain(name);
    bool free;

    if (fd < 0)
        return false;
    (void)snprintf(path, sizeof path, SHM_DIR "/%s", name);
    free = flock(fd, LOCK_EX | LOCK_NB) == 0 && named(fd, path);
    if (free)
        (void)unlink(path);
    (void)close(fd);
    return free;
}
