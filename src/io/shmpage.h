/*
 * shmpage.h - a small file in /dev/shm that processes of one user share by its name, mapped.
 *
 * The file is there as long as somebody has it open, and survives the death of any of them; who
 * leaves last takes the name away. What is in it is a hint at best: whoever may open it may write
 * anything to it. Threads: open and close once each, on any thread.
 */
#ifndef IO_SHMPAGE_H
#define IO_SHMPAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct shm_page {
    void *at; /* NULL = not open */
    size_t bytes;
    int fd; /* holds the lock that says that somebody is there */
    char path[96];
};

/*
 * `name` is the file's name. New bytes are zero. -EPERM: the file is somebody else's or not a plain
 * file of mode 0600; else why /dev/shm cannot give it (-ENOSPC, -ENOENT, -EACCES, ...).
 */
int shm_page_open(struct shm_page *p, const char *name, size_t bytes) MUST_CHECK;
/* Takes away what killed processes left: pages of ours whose names begin so, and that nobody has
 * open. */
void shm_page_sweep(const char *prefix);
void shm_page_close(struct shm_page *p); /* accepts a zeroed one */

/*
 * A file of one writer, not mapped: nothing that happens to /dev/shm can end the process. It is
 * named `prefix` and the first number from *n on that is free. Kept and swept as a page is.
 */
int shm_file_make(struct shm_page *p, const char *prefix, uint32_t *n) MUST_CHECK;
/* From its beginning. */
int shm_file_write(const struct shm_page *p, const void *data, size_t len) MUST_CHECK;
void shm_file_close(struct shm_page *p); /* accepts a zeroed one */

/* ---- Who reads: any process of the user, or root */

/* Names that begin so. Ends with what `visit` returned, unless that is 0. No /dev/shm: no names. */
int shm_file_list(const char *prefix, int (*visit)(void *arg, const char *name), void *arg);
/* All of a plain file of the reader, or of anybody for root; at most `size` bytes. */
int64_t shm_file_read(const char *name, void *buf, size_t size) MUST_CHECK;
/* Removes the file if nobody has it open any more; true: nobody had. */
bool shm_file_sweep(const char *name);

#endif
