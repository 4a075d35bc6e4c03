/*
 * bench_lane.h - one thread with one io_uring, kept full to its depth for a slice of time.
 */
#ifndef CLI_BENCH_LANE_H
#define CLI_BENCH_LANE_H

#include <liburing.h>
#include <pthread.h>

#include "bench.h"
#include "bench_slices.h"

struct lane_io {
    int fd;
    uint64_t offset;
    uint32_t bytes;
};

/* Owned by whoever opened it; run by one thread at a time. */
struct lane {
    struct io_uring ring;
    bool open, fixed, writes;
    unsigned depth;
    struct bench_area area; /* owned */
    size_t area_at;
    /* Fills the next I/O. 0, or an exit code after saying why. Called by the lane's thread. */
    int (*next)(struct lane *l, struct lane_io *io);
    void *source;
    unsigned number; /* of the lane, from 0 */
    /* Of the slice under way. */
    uint64_t until_ns, bytes, ops;
    int status;
    pthread_t thread;
};

/* Opens lane `number` of `c->lanes`. CLI_OK or an exit code; lane_close() either way. */
int lane_open(struct lane *l, const struct bench_config *c, unsigned number);
void lane_close(struct lane *l);
/* Runs n lanes for `seconds`, then lets what is in flight finish; sums into out. */
int lanes_run(struct lane *lanes, unsigned n, double seconds, struct slice *out);

#endif
