/*
 * ttl_file.h - the small file `ttl` of a space: how long its blocks live, for all who share it.
 *
 * One JSON object, {"ttl_seconds": <0 to 2^32 - 1>}; 0 = blocks do not age. There whole or not at
 * all. What cannot be read as that says nothing about how long anything lives.
 *
 * Threads: any; calls may hang on a dead mount, so helper threads only.
 */
#ifndef SEGMENT_TTL_FILE_H
#define SEGMENT_TTL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/io.h"

#define SPACE_TTL "ttl"

/* Pure. 0, or -EBADMSG. */
int ttl_file_parse(const char *text, size_t len, uint32_t *seconds) MUST_CHECK;

/* `path`: of the file, relative to the mount. 0; -ENOENT: there is none; -EBADMSG: it says nothing;
 * or what storage answered. */
int ttl_file_read(struct io *io, const char *path, uint32_t *seconds) MUST_CHECK;
/* exclusive: -EEXIST when there is one. */
int ttl_file_write(struct io *io, const char *path, uint32_t seconds, bool exclusive) MUST_CHECK;

#endif
