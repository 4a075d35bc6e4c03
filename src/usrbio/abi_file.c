/*
 * abi_file.c - the exported functions about files and mounts, and the one of our own that tells
 * what the drop-in is doing.
 */
#include "usrbio/mount.h"
#include "usrbio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define PUNCH_MAX 1000

EXPORT bool hf3fs_is_hf3fs(int fd)
{
    char root[PATH_MAX];

    return mount_find_fd(fd, root, sizeof(root)) == 0;
}

EXPORT int hf3fs_extract_mount_point(char *buf, int size, const char *path)
{
    char root[PATH_MAX];
    size_t len;

    if (path == NULL || mount_find(path, root, sizeof(root)) != 0)
        return -1;
    mount_prepare(root);
    len = strlen(root);
    if (buf != NULL && size > 0 && len < (size_t)size)
        memcpy(buf, root, len + 1);
    return (int)len + 1;
}

EXPORT int hf3fs_reg_fd(int fd, uint64_t flags)
{
    char root[PATH_MAX];

    (void)flags;
    proc_enter();
    if (fd < 0 || fcntl(fd, F_GETFD) < 0 || mount_find_fd(fd, root, sizeof(root)) != 0)
        return EBADF;
    mount_prepare(root);
    return regfd_add(fd);
}

EXPORT void hf3fs_dereg_fd(int fd)
{
    proc_enter();
    if (fd >= 0)
        regfd_remove(fd);
}

/* Clients read errno after hardlink: in the real library its failures come from system calls. */
static int with_errno(int rc)
{
    if (rc != 0)
        errno = rc;
    return rc;
}

static int hardlink_make(const char *target, const char *link_name)
{
    char here[PATH_MAX], there[PATH_MAX], *slash;
    struct stat st;

    if (target == NULL || link_name == NULL)
        return EINVAL;
    if (strlen(link_name) >= sizeof(there))
        return ENAMETOOLONG;
    if (stat(target, &st) != 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    slash = strrchr(link_name, '/');
    if (slash == NULL)
        return ENOENT; /* the parent's name must be there, as the real library wants it */
    memcpy(there, link_name, (size_t)(slash - link_name) + 1);
    there[slash - link_name + 1] = '\0';
    if (stat(there, &st) != 0)
        return errno;
    if (mount_find(target, here, sizeof(here)) != 0 ||
        mount_find(link_name, there, sizeof(there)) != 0)
        return ENOTTY;
    if (strcmp(here, there) != 0)
        return EINVAL;
    return linkat(AT_FDCWD, target, AT_FDCWD, link_name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

EXPORT int hf3fs_hardlink(const char *target, const char *link_name)
{
    return with_errno(hardlink_make(target, link_name));
}

static int punch_check(int n, const size_t *start, const size_t *end, size_t chunk)
{
    if (n < 0 || n > PUNCH_MAX || (n > 0 && (start == NULL || end == NULL)))
        return EINVAL;
    for (int i = 0; i < n; i++) {
        if (start[i] > end[i] || end[i] > INT64_MAX || start[i] % chunk != 0 || end[i] % chunk != 0)
            return EINVAL;
    }
    return 0;
}

/* 3FS asks for no permission here; a descriptor open for reading is opened again for writing. */
static int writable_fd(int fd)
{
    char path[32];
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_CLOEXEC);
}

static int holes_punch(int fd, int n, const size_t *start, const size_t *end)
{
    struct proc *proc = proc_enter();
    int out, rc;

    rc = punch_check(n, start, end, proc->chunk);
    if (rc != 0)
        return rc;
    if (fd < 0 || fcntl(fd, F_GETFD) < 0)
        return EBADF;
    if (!hf3fs_is_hf3fs(fd))
        return ENOTTY;
    out = writable_fd(fd);
    if (out < 0)
        return errno;
    for (int i = 0; i < n && rc == 0; i++) {
        off_t at = (off_t)start[i], len = (off_t)(end[i] - start[i]);

        if (len > 0 && fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len) != 0)
            rc = errno;
    }
    if (out != fd)
        close(out);
    return rc;
}

EXPORT int hf3fs_punchhole(int fd, int n, const size_t *start, const size_t *end, size_t flags)
{
    (void)flags;
    return with_errno(holes_punch(fd, n, start, end));
}

static const char *fs_name(long type)
{
    static const struct {
        long type;
        const char *name;
    } names[] = {
        {0x01021994, "tmpfs"}, {0xef53, "ext4"},        {0x58465342, "xfs"},  {0x9123683e, "btrfs"},
        {0x6969, "nfs"},       {0x794c7630, "overlay"}, {0x65735546, "fuse"}, {0x858458f6, "ramfs"},
        {0xff534d42, "cifs"},  {0x0bd00bd0, "lustre"},  {0x00c36400, "ceph"}, {0x2fc12fc1, "zfs"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].type == type)
            return names[i].name;
    }
    return "other";
}

static const char *backend_name(const struct proc *proc, bool in_memory)
{
    static const char *const names[] = {"auto", "io_uring", "threads", "inline"};

    if (proc->wanted == BACKEND_AUTO && in_memory)
        return names[BACKEND_INLINE];
    return names[proc->backend];
}

/* Nothing was created yet: a ring of one entry finds out what the kernel allows. */
static void backend_probe(struct proc *proc)
{
    struct ior *ring;

    pthread_mutex_lock(&proc->lock);
    bool known = proc->backend != BACKEND_AUTO;
    pthread_mutex_unlock(&proc->lock);
    if (!known && ior_create(&ring, 1, true, 0, 0) == 0)
        ior_destroy(ring);
}

/*
 * One line of key=value for people and for `cistern stat`: backend for files under `mp` (may be
 * NULL), io_uring and thread counts, rings, fixed buffers, strict switches, file system. Result:
 * its length, of which at most size - 1 bytes were written, or -EINVAL.
 */
EXPORT int cistern_usrbio_info(const char *mp, char *buf, size_t size);
EXPORT int cistern_usrbio_info(const char *mp, char *buf, size_t size)
{
    struct proc *proc = proc_enter();
    unsigned urings = 0, rings;
    bool fixed = false;
    char strict[64];
    struct statfs fs;
    bool known;

    if (buf == NULL && size > 0)
        return -EINVAL;
    backend_probe(proc);
    known = mp != NULL && statfs(mp, &fs) == 0;
    pthread_mutex_lock(&proc->lock);
    for (unsigned i = 0; i < URINGS_MAX; i++) {
        urings += proc->urings[i] != NULL;
        fixed |= proc->urings[i] != NULL && proc->urings[i]->fixed != NULL;
    }
    fixed &= !atomic_load(&proc->fixed_refused);
    rings = proc->ior_count;
    pthread_mutex_unlock(&proc->lock);
    strict_describe(&proc->strict, strict, sizeof(strict));
    return snprintf(
        buf, size, "backend=%s urings=%u threads=%u rings=%u fixed_buffers=%s strict=%s fs=%s",
        backend_name(proc, known && (fs.f_type == 0x01021994 || fs.f_type == 0x858458f6)), urings,
        pool_threads(), rings, fixed ? "yes" : "no", strict,
        known ? fs_name(fs.f_type) : "unknown");
}
