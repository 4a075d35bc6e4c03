/*
 * hostfile.h - small files of this host, not of the mount: configuration, and what the kernel says.
 */
#ifndef IO_HOSTFILE_H
#define IO_HOSTFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The whole of a regular file of at most `size` bytes; how many. -ENOENT, -EACCES, -EFBIG, -EISDIR,
 * or -EINVAL: no regular file. Sets no text. May hang where the file does. */
int64_t hostfile_read(const char *path, void *buf, size_t size) MUST_CHECK;

/* The id of the 3FS cluster that is mounted at or above an absolute path, by
 * /proc/self/mountinfo alone; "" = no 3FS, or one that does not say. Does not touch the path. */
int mounted_3fs(const char *path, char *id, size_t size) MUST_CHECK;
/* The same from the text of a mountinfo. */
void mounted_3fs_in(const char *mountinfo, const char *path, char *id, size_t size);

#endif
