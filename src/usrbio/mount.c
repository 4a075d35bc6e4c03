/*
 * mount.c - what counts as a mount: a configured root, a directory with the marker file, or one
 * that has `3fs-virt/iovs` already. The deepest one above a path wins. Nothing is cached: this is
 * not on the I/O path.
 */
#include "usrbio/mount.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKER "/.cistern-mount"

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_configured(const char *dir)
{
    const char *list = getenv("CISTERN_USRBIO_ROOT");

    while (list != NULL && *list != '\0') {
        char entry[PATH_MAX], real[PATH_MAX];
        size_t len = strcspn(list, ":");

        if (len > 0 && len < sizeof(entry)) {
            memcpy(entry, list, len);
            entry[len] = '\0';
            if (realpath(entry, real) != NULL && strcmp(real, dir) == 0)
                return true;
        }
        list += len;
        list += *list == ':';
    }
    return false;
}

/* `dir` has room for a suffix. */
static bool is_mount(char *dir)
{
    size_t len = strlen(dir);
    bool yes;

    if (is_configured(len > 0 ? dir : "/"))
        return true;
    memcpy(dir + len, MARKER, sizeof(MARKER));
    yes = access(dir, F_OK) == 0;
    if (!yes) {
        memcpy(dir + len, MOUNT_IOVS, sizeof(MOUNT_IOVS));
        yes = is_dir(dir);
    }
    dir[len] = '\0';
    return yes;
}

/* The deepest mount at or above an absolute, canonical path. */
static int find_above(const char *path, char *root, size_t size)
{
    char dir[PATH_MAX + 32];
    size_t len = strlen(path);

    if (len >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(dir, path, len + 1);
    while (len > 0 && dir[len - 1] == '/')
        dir[--len] = '\0';
    for (;;) {
        char *slash;

        if (is_mount(dir)) {
            int n = snprintf(root, size, "%s", dir[0] != '\0' ? dir : "/");

            return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
        }
        slash = strrchr(dir, '/');
        if (slash == NULL)
            return -ENOENT;
        *slash = '\0';
    }
}

/* The path need not exist: then what exists of it decides. */
int mount_find(const char *path, char *root, size_t size)
{
    char part[PATH_MAX], real[PATH_MAX];
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(part))
        return len == 0 ? -ENOENT : -ENAMETOOLONG;
    memcpy(part, path, len + 1);
    while (realpath(part, real) == NULL) {
        char *slash = strrchr(part, '/');

        if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
        if (slash == NULL)
            memcpy(part, ".", 2);
        else if (slash == part && part[1] != '\0')
            part[1] = '\0';
        else if (slash == part)
            return -ENOENT;
        else
            *slash = '\0';
    }
    return find_above(real, root, size);
}

int mount_find_fd(int fd, char *root, size_t size)
{
    char link[32], path[PATH_MAX];
    ssize_t n;

    if (fd < 0)
        return -EBADF;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return errno == ENOENT ? -EBADF : -errno;
    path[n] = '\0';
    if (path[0] != '/')
        return -ENOENT; /* a pipe or the like */
    return find_above(path, root, size);
}

/* Everybody may add links, only their owner removes them, as in /tmp. */
static int make_dir(const char *dir)
{
    if (mkdir(dir, 0777) != 0)
        return errno == EEXIST ? 0 : -errno;
    return chmod(dir, 01777) == 0 ? 0 : -errno;
}

/* The directory of links of the mount `root`, made if need be. */
static int links_dir(const char *root, char *dir, size_t size)
{
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    int rc;

    if (len + sizeof(MOUNT_IOVS) > size)
        return -ENAMETOOLONG;
    memcpy(dir, root, len);
    memcpy(dir + len, MOUNT_IOVS, sizeof(MOUNT_IOVS));
    if (is_dir(dir))
        return 0;
    memcpy(dir + len, MOUNT_VIRT, sizeof(MOUNT_VIRT));
    rc = make_dir(dir);
    memcpy(dir + len, MOUNT_IOVS, sizeof(MOUNT_IOVS));
    if (rc == 0)
        rc = make_dir(dir);
    return rc == -EROFS ? MOUNT_READ_ONLY : rc;
}

int mount_iovs_dir(const char *mp, char *dir, size_t size)
{
    char root[PATH_MAX];
    int rc;

    if (!is_dir(mp))
        return -ENOENT;
    rc = mount_find(mp, root, sizeof(root));
    return rc != 0 ? rc : links_dir(root, dir, size);
}

void mount_prepare(const char *root)
{
    char dir[PATH_MAX + sizeof(MOUNT_IOVS)];
    int rc = links_dir(root, dir, sizeof(dir));

    (void)rc;
}
