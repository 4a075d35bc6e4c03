/*
 * bench_place.h - the directory that a bench works in: found or made, and given back.
 *
 * Nothing is removed that was there before: a mount directory is removed only when it was made
 * here, and the root below it must not exist when a bench that writes begins.
 */
#ifndef CLI_BENCH_PLACE_H
#define CLI_BENCH_PLACE_H

#include <limits.h>

#include "bench.h"

struct bench_place {
    char mount[PATH_MAX];    /* absolute */
    char root[256];          /* of the store, relative to the mount */
    char raw[PATH_MAX + 64]; /* directory of the baseline's files, absolute */
    char kind[16];           /* "ext4", "tmpfs", "xfs", "0x..." */
    bool memory_backed;      /* tmpfs or ramfs: compared with memcpy */
    bool made_mount, made_root, made_raw;
    bool had[2]; /* what the drop-in makes in a mount directory was there before */
};

/* Finds or makes the mount directory; `fresh`: the root must not exist yet. CLI_OK or an exit code.
 */
int place_open(struct bench_place *p, const struct bench_config *c, bool fresh);
/* Fails with words when the file system has less room than `bytes`. */
int place_room(const struct bench_place *p, uint64_t bytes);
/* Empty what a bench wrote, and wait until the file system has done it: the store's root (removed;
 * the handle must be closed) or the baseline's files. */
int place_clear_root(const struct bench_place *p);
int place_clear_raw(const struct bench_place *p);
/* Gives back what was made, unless `keep`: then says where it is. */
void place_close(struct bench_place *p, bool keep);
/* Gives the payloads back to the file system and leaves holes: matching and opening never read
 * them, so that ten million blocks fit on a small machine. Nothing may be in flight. */
int place_hollow(const struct bench_place *p);
/* True when the data files below the root have clearly more disk than `used` bytes: the store
 * allocates them beforehand. */
bool place_allocates(const struct bench_place *p, uint64_t used);

#endif
