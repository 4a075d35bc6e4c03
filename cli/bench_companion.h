/*
 * bench_companion.h - a second process on the store of a bench: it follows what the first one
 * stores, and while it is told to it stores a block a second of its own.
 *
 * Made before this process has threads; it opens nothing until it is told to. One thread commands
 * it.
 */
#ifndef CLI_BENCH_COMPANION_H
#define CLI_BENCH_COMPANION_H

#include <sys/types.h>

#include "bench_store.h"

struct companion {
    pid_t pid; /* 0 = none */
    int fd;    /* a stream socket: one byte a command, one byte back */
};

/* The config and the place are copied. CLI_OK or an exit code. */
int companion_start(struct companion *p, const struct bench_config *c,
                    const struct bench_place *place);
int companion_open(struct companion *p);
int companion_work(struct companion *p, bool on);
int companion_close(struct companion *p);
void companion_end(struct companion *p); /* a zeroed one is fine */

#endif
