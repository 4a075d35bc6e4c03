/*
 * segtab.h - the segments that a handle knows, by a number that the index stores.
 *
 * Numbers are given out once and never reused. Only the keeper and the opener add segments (under
 * the lock); lanes read them without one: a number that came out of the index was published by the
 * index's own release.
 */
#ifndef ENGINE_SEGTAB_H
#define ENGINE_SEGTAB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/io.h"
#include "segment/toc.h"

#define SEGTAB_MAX (1u << 16)

struct segment {
    uint8_t id[16];       /* constant once added */
    uint64_t writer, seq; /* likewise */
    uint32_t shard;
    bool own;            /* this handle writes it */
    struct io_file data; /* fd -1: other shard, or not there */
    _Atomic uint32_t touches;
    /* Of the follower: guarded by the keeper being one thread. */
    struct toc_cursor cursor;
    bool over;  /* its head said so, after a look that may have been too early */
    bool ended; /* no more contents will come */
};

struct segtab {
    struct segment *at; /* SEGTAB_MAX of them, reserved */
    _Atomic uint32_t count;
    uint32_t *slots; /* id -> number + 1, open addressing, 2 * SEGTAB_MAX */
    pthread_mutex_t lock;
};

int segtab_open(struct segtab *t) MUST_CHECK;
void segtab_close(struct segtab *t,
                  struct io *io); /* closes the data files; accepts a zeroed table */
/* The number; -EEXIST: the id is there; -ENOSPC: the table is full. */
int64_t segtab_add(struct segtab *t, const struct segment *s) MUST_CHECK;
/* The number of an id, or -ENOENT. */
int64_t segtab_find(struct segtab *t, const uint8_t id[16]) MUST_CHECK;
/* The segment that a writer's file name names, or NULL. */
struct segment *segtab_find_file(struct segtab *t, uint32_t shard, uint64_t writer, uint64_t seq);

#endif
