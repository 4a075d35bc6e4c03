/*
 * growth.h - bench/growth: what a store of a given number of blocks costs, measured inside one
 * process.
 */
#ifndef BENCH_GROWTH_H
#define BENCH_GROWTH_H

#include <stdint.h>

#include "cistern.h"

struct growth_size {
    uint64_t blocks; /* of each shard */
    uint32_t segments, shards;
};

struct growth_result {
    double open_s, open_cpu_s; /* match-only, read-only; the median of three */
    double writing_s;          /* CPU of an open that may write, data files and staging included */
    double match_p50, match_p99; /* ns of CPU time of a match of GROWTH_CHAIN keys */
    double bytes;                /* of the index, a block of all shards */
    double follow_ns, list_ns;   /* a look: 1,000 new blocks; names alone, nothing new */
    double evict_ns;             /* a segment: contents removed, index forgotten */
    double evicted;              /* blocks that were forgotten with it */
    double scan_first_ns, scan_ns;
};

#define GROWTH_CHAIN   2048u
#define GROWTH_NEW     1000u
#define GROWTH_LIVE    0x9071ull /* the writer of growth_add() */
#define GROWTH_LENGTH  65536u    /* bytes of a block that nobody ever wrote */
#define GROWTH_WRITERS 8u
#define GROWTH_OPTIONS (CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL)

void growth_key(cistern_key *key, uint64_t number);
void growth_options(struct cistern_options *o, struct cistern_space *space, const char *dir,
                    uint32_t shards);

/* build.c: contents with frames, heads of writers that closed, sparse data files. 0 or -1. */
int growth_build(const char *dir, const struct growth_size *size);
/* One more segment of a writer that lives: `blocks` blocks from number `first` on. */
int growth_add(cistern *c, uint64_t first, uint32_t blocks, uint64_t seq);

/* measure.c. 0 or -1, after saying why. */
int growth_measure(const char *dir, const struct growth_size *size, struct growth_result *out);

#endif
