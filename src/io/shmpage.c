/*
 * shmpage.c - a shared page with a name. See shmpage.h.
 *
 * Everybody holds a shared lock (flock) on the file while it is open; the kernel gives it back when
 * a process dies. Who leaves asks for the exclusive one: to get it is to be the last, and the name
 * is removed, if it still leads there. Somebody may have opened the file just before that: after
 * its lock each opener looks whether the name still leads to what it opened, and else begins again.
 *
 * Space is set aside before the page is touched, so that a full /dev/shm is an error and no SIGBUS.
 */
#include "io/shmpage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io_internal.h"

#define TRIES 100 /* of an open that meets others who come and go */

/* Opens it as it is, or makes it. -EAGAIN: it came or went meanwhile. */
static int open_or_make(const char *path)
{
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    return errno == EEXIST || errno == EINTR ? -EAGAIN : -errno;
}

static bool ours(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && !(st->st_mode & 0077);
}

/* 0, or -EAGAIN: the name of what was opened is gone, or leads elsewhere by now. */
static int still_named(int fd, const char *path)
{
    struct stat own, named;

    if (fstat(fd, &own))
        return -errno;
    if (!ours(&own))
        return -EPERM;
    if (lstat(path, &named))
        return errno == ENOENT ? -EAGAIN : -errno;
    return own.st_ino == named.st_ino && own.st_dev == named.st_dev ? 0 : -EAGAIN;
}

static int lock_named(int fd, const char *path)
{
    int rc;

    do {
        rc = flock(fd, LOCK_SH | LOCK_NB);
    } while (rc && errno == EINTR);
    if (rc) /* somebody is about to remove it */
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    return still_named(fd, path);
}

/* To hold the exclusive lock of what the name leads to is to be the only one who may remove it. */
static void unlink_if_last(int fd, const char *path)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && still_named(fd, path) == 0)
        (void)unlink(path);
}

static int map_page(struct shm_page *p, int fd, size_t bytes)
{
    int rc;

    do {
        rc = fallocate(fd, 0, 0, (off_t)bytes);
    } while (rc && errno == EINTR);
    if (rc)
        return -errno;
    p->at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p->at == MAP_FAILED) {
        p->at = NULL;
        return -errno;
    }
    p->bytes = bytes;
    p->fd = fd;
    return 0;
}

int shm_page_open(struct shm_page *p, const char *name, size_t bytes)
{
    int rc = -EAGAIN, fd, i;

    *p = (struct shm_page){.fd = -1};
    (void)snprintf(p->path, sizeof p->path, SHM_DIR "/%s", name);
    for (i = 0; i < TRIES && rc == -EAGAIN; i++) {
        fd = open_or_make(p->path);
        rc = fd < 0 ? fd : lock_named(fd, p->path);
        if (!rc)
            rc = map_page(p, fd, bytes);
        if (rc && fd >= 0)
            (void)close(fd);
        if (rc == -EAGAIN)
            (void)poll(NULL, 0, 1);
    }
    return rc;
}

/* The exclusive lock tells that nobody has it open; an opener who comes between begins again. */
static void sweep_one(const char *name)
{
    char path[300];
    int fd;

    (void)snprintf(path, sizeof path, SHM_DIR "/%s", name);
    fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    unlink_if_last(fd, path);
    (void)close(fd);
}

void shm_page_sweep(const char *prefix)
{
    DIR *d = opendir(SHM_DIR);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0)
            sweep_one(e->d_name);
    }
    if (d)
        (void)closedir(d);
}

void shm_page_close(struct shm_page *p)
{
    if (!p->at)
        return;
    (void)munmap(p->at, p->bytes);
    unlink_if_last(p->fd, p->path);
    (void)close(p->fd);
    *p = (struct shm_page){.fd = -1};
}
