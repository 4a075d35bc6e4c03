/*
 * keyfile.h - reads a small secret file of this host: not of the mount, and not through USRBIO.
 */
#ifndef IO_KEYFILE_H
#define IO_KEYFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Up to `size` bytes of a regular file into buf; how many. -EACCES: its group or others may read or
 * write it. -EFBIG: it is longer. The text names the file, never what is in it. May hang.
 */
int64_t keyfile_read(const char *path, void *buf, size_t size) MUST_CHECK;

#endif
