/*
 * shmpage.h - a small file in /dev/shm that processes of one user share by its name, mapped.
 *
 * The file is there as long as somebody has it open, and survives the death of any of them; who
 * leaves last takes the name away. What is in it is a hint at best: whoever may open it may write
 * anything to it. Threads: open and close once each, on any thread.
 */
#ifndef IO_SHMPAGE_H
#define IO_SHMPAGE_H

#include <stddef.h>

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

#endif
