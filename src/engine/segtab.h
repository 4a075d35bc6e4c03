/*
 * segtab.h - the segments that a handle knows, by a number that the index stores.
 *
 * Life of a number: free, in use from segtab_add() to segtab_forget(), leaving while somebody still
 * holds the segment, then its data file is closed and the number waits SEGTAB_REST_NS before it is
 * given out again: a lane that looked the number up in the index just before it was forgotten must
 * not meet another segment under it. (If a thread is stopped for longer than that, the check of the
 * block still tells the two apart.)
 *
 * Threads: the keeper, the follower and the opener add and forget, the keeper collects (under the
 * lock). Lanes read a segment while they hold it; a number that came out of the index was published
 * by the index's own release. Who inserts blocks of a segment into the index while it may be
 * forgotten holds it meanwhile.
 */
#ifndef ENGINE_SEGTAB_H
#define ENGINE_SEGTAB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/io.h"
#include "segment/toc.h"

#define SEGTAB_MAX     (1u << 16)
#define SEGTAB_REST_NS (30ull * 1000 * 1000 * 1000)
#define SEGMENT_GONE   (1u << 31) /* in `holds`: not in use, nobody can take hold of it any more */
#define SEGMENT_SHUT   (1u << 31) /* in `file_uses`: its data file is not open */

struct segment {
    uint8_t id[16];       /* constant while in use */
    uint64_t writer, seq; /* likewise */
    uint32_t shard;
    bool own;               /* this handle writes it */
    bool has_data;          /* this handle reads its data file; false: other shard, or not there */
    struct io_file data;    /* open while somebody uses it, and often longer: see files.h */
    _Atomic uint32_t epoch; /* of the handle, when `data` was opened (renew.c) */
    _Atomic uint32_t file_uses; /* how many use `data`, and SEGMENT_SHUT */
    _Atomic uint32_t file_used; /* when it was used last, in ticks of files.c */
    _Atomic int32_t file_asked; /* 1: it is to be opened, 2: it was, negative errno: it could not
                                   be; of files.c */
    _Atomic uint32_t holds;     /* how many hold it, and SEGMENT_GONE */
    _Atomic uint32_t touches;
    _Atomic uint32_t bad;       /* copies in it that turned out bad */
    _Atomic uint64_t pinned_ns; /* a match promised it until then */
    /* Sums over its blocks, of heat.c: how many, and the room they take; how many
     * of these are lost, were used; steps of the clock when they
     * were written (own ones only) and when they were used last; depths in their chains. */
    _Atomic uint64_t blocks, extents, lost, used, births, uses, depths;
    /* Of the follower's thread. */
    struct toc_cursor cursor;
    uint32_t seen;    /* listing that last showed its contents; 0 = none yet */
    bool quiet;       /* nobody writes its contents, and the last look found nothing more */
    bool ended;       /* no more contents will come: two looks in a row were quiet */
    uint64_t bare_ns; /* its data was not there, and is asked for until then; 0 = it is not */
    /* Of the table. */
    uint32_t link;     /* next leaving or free number + 1; 0 = none */
    uint64_t freed_ns; /* when its data file was closed */
};

struct segtab {
    struct segment *at;     /* SEGTAB_MAX of them, reserved */
    _Atomic uint32_t count; /* numbers that were ever given out: 0 .. count - 1 */
    _Atomic uint32_t live;  /* of these in use */
    _Atomic uint32_t open;  /* data files that are open */
    /* Guarded by lock; number + 1, 0 = none. Tables: open addressing, 2 * SEGTAB_MAX. */
    uint32_t *by_id, *by_file;
    _Atomic uint32_t leaving; /* read without the lock as a hint */
    uint32_t free_first, free_last;
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
/* In use, for walks over 0 .. count - 1. */
bool segtab_in_use(const struct segtab *t, uint32_t number);

/* Takes hold: as long as it is held its fields stay. False: it is forgotten. Any thread. */
bool segment_hold(struct segtab *t, uint32_t number) MUST_CHECK;
/* By who holds it, for somebody else; also when it is forgotten meanwhile. */
void segment_hold_again(struct segtab *t, uint32_t number);
void segment_release(struct segtab *t, uint32_t number);

/* Its data file, which was opened anew, takes the place of the one that it had, which is in *data
 * afterwards (fd -1: it had none open). It is held, and nobody reads through it meanwhile. A file
 * with fd -1 leaves it without. */
void segtab_exchange(struct segtab *t, uint32_t number, struct io_file *data, uint32_t epoch);

/* Nobody finds it or takes hold of it any more; false: it was not in use. segtab_collect() closes
 * it. */
bool segtab_forget(struct segtab *t, uint32_t number);
/* Closes the data files of forgotten segments that nobody holds any more, each after a call of
 * `left`; how many are still held. May hang on storage. */
uint32_t segtab_collect(struct segtab *t, struct io *io, void (*left)(void *arg, uint32_t number),
                        void *arg);
/* The data file of that name is open, or waits to be closed. */
bool segtab_open_file(struct segtab *t, uint32_t shard, uint64_t writer, uint64_t seq);

#endif
