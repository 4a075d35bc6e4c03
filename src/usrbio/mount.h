/*
 * mount.h - finding the mount that holds a path or an open file, and its directory of links.
 */
#ifndef CISTERN_USRBIO_MOUNT_H
#define CISTERN_USRBIO_MOUNT_H

#include <stdbool.h>
#include <stddef.h>

#define MOUNT_VIRT      "/3fs-virt"
#define MOUNT_IOVS      "/3fs-virt/iovs"
#define MOUNT_READ_ONLY 1

/* 0, or a negative errno: -ENOENT if there is none. */
__attribute__((warn_unused_result)) int mount_find(const char *path, char *root, size_t size);
__attribute__((warn_unused_result)) int mount_find_fd(int fd, char *root, size_t size);

/* The directory for links of the mount that holds the directory `mp`, made if need be.
 * MOUNT_READ_ONLY: it cannot be made there, and links are done without. */
__attribute__((warn_unused_result)) int mount_iovs_dir(const char *mp, char *dir, size_t size);

/* The same for a mount that was found, as far as the file system lets it: on 3FS the directory is
 * always there, and a client that makes its own links does so before its first ring. */
void mount_prepare(const char *root);

#endif
