/*
 * bench_store.h - the store under measurement: opened on a directory, filled, and driven with a
 * bounded number of puts or gets in flight, as an engine would.
 *
 * Only completion events count. A block that a get does not report as a verified hit ends the bench
 * with CLI_IO. One thread drives a handle.
 */
#ifndef CLI_BENCH_STORE_H
#define CLI_BENCH_STORE_H

#include <stdatomic.h>

#include "bench.h"
#include "bench_place.h"
#include "bench_raw.h"
#include "bench_slices.h"
#include "cistern.h"

struct bench_store {
    const struct bench_config *c;
    struct bench_place *place;
    cistern *handle;
    struct cistern_part parts[CISTERN_MAX_PARTS];
    char part_names[CISTERN_MAX_PARTS][8];
    struct cistern_space space;
    cistern_key root;
    cistern_key *keys; /* of blocks 0 .. nkeys */
    uint64_t nkeys;
    uint64_t generation; /* mixed into the keys: another one is another set of blocks */
    uint64_t next;       /* block to put next */
    uint64_t dropped;    /* blocks that puts dropped; tried again */
    uint32_t batch;      /* blocks of one put or get */
    struct store_op *ops;
    uint32_t nops;
};

/* Opens a store of nkeys blocks at most on place->root; nothing is put yet. CLI_OK or an exit code.
 */
int store_open(struct bench_store *s, const struct bench_config *c, struct bench_place *place,
               uint64_t nkeys);
void store_close(struct bench_store *s); /* a zeroed one is fine */
/* Closes, removes the root, and opens it anew with other keys. */
int store_restart(struct bench_store *s);
/* Every option that a bench sets, for other handles on the same root. */
void store_options(const struct bench_store *s, struct cistern_options *o);
/* What the space of a bench is; strings live in the struct. */
void store_space(struct bench_store *s);

struct store_job {
    struct bench_store *s;
    struct bench_area *area;
    size_t area_at;
    uint64_t limit;      /* put: blocks to put in all; get: blocks to choose from */
    uint64_t cursor;     /* get in order */
    uint64_t per_second; /* put: at most so many blocks; 0 = as fast as it goes */
    uint64_t started_ns, seed;
    bool random;
    cistern_memory *memory; /* get: read straight into it (CISTERN_GET_DIRECT); NULL = staged */
    atomic_bool *stop;      /* NULL, or ends the slice early */
};

/* Sides of figures; the argument is a struct store_job. A put ends early when `limit` is reached.
 */
int store_put_run(void *job, double seconds, struct slice *out);
int store_get_run(void *job, double seconds, struct slice *out);
int store_flush(void *job);
/* Puts blocks until `limit` are stored; a progress line on a terminal. `hollow`: gives payloads
 * back as it goes. */
int store_fill(struct store_job *j, bool hollow);

/* Where the blocks lie, from a scan; in the order of the scan. CLI_OK or an exit code. */
int store_extents(const struct bench_store *s, struct extents *out);

#endif
