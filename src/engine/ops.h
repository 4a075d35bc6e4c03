/*
 * ops.h - open operations and their events.
 *
 * An operation occupies one slot of a fixed table from the call until the caller has taken its last
 * event. A get is cut into shares, one per lane that works on it; a put is one share of the write
 * lane. The lane that ends the last share finishes the operation.
 *
 * Locks: `lock` guards the free list, the event list and the flags marked so; it is a leaf (nothing
 * is called under it).
 */
#ifndef ENGINE_OPS_H
#define ENGINE_OPS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern.h"
#include "mem/mem.h"

#define OP_SHARES 8

struct op;

/* A range of an operation's blocks; owned by one lane from its queueing to its end. */
struct share {
    struct op *op;
    struct share *link;
    uint32_t from, to; /* blocks */
    uint32_t next;     /* next block to plan */
    uint32_t part;     /* part to plan, when planned part by part */
    uint32_t groups;   /* in flight */
    bool over;         /* a put: the budget of the day is used up, nothing more of it is stored */
};

struct op {
    struct cistern_request r; /* the caller's pointers */
    uint64_t id;              /* generation and slot; never 0 */
    uint64_t seq;             /* order of the calls */
    uint64_t start_ns, deadline_ns;
    const struct mem_ops *mem;
    bool is_put, by_part, direct;
    uint64_t asked_bytes; /* of a get, while the gate is on */
    uint32_t nshares;
    struct share share[OP_SHARES];
    _Atomic uint32_t shares_left;
    _Atomic int32_t status;
    _Atomic uint64_t bytes;
    _Atomic uint32_t
        buffers; /* direct reads that storage has not answered, and 1 for the operation */
    _Atomic uint32_t part_left[CISTERN_MAX_PARTS]; /* by part: blocks whose result is open */
    /* guarded by optab.lock */
    bool used, done, done_told, buffers_free;
    uint32_t parts_ready, parts_told;
    bool queued;
    struct op *link;
    struct cistern_event event;
};

struct optab {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock; an operation has an event */
    struct op *at;
    uint32_t max, nparts;
    struct op *free;
    struct op *first, *last; /* with events to tell */
    uint64_t next_seq;
    int event_fd;
    bool fd_raised;
};

int optab_open(struct optab *t, uint32_t max, uint32_t nparts) MUST_CHECK;
void optab_close(struct optab *t); /* accepts a zeroed table */

/* A free slot with the request copied in; NULL: all are open. */
struct op *op_take(struct optab *t, const struct cistern_request *r) MUST_CHECK;
/* Gives a slot back that never went to a lane. */
void op_give_back(struct optab *t, struct op *op);

static inline uint8_t *op_result(const struct optab *t, const struct op *op, uint32_t block,
                                 uint32_t part)
{
    return &op->r.results[(uint64_t)block * t->nparts + part];
}

static inline const struct cistern_span *op_span(const struct optab *t, const struct op *op,
                                                 uint32_t block, uint32_t part)
{
    return &op->r.spans[(uint64_t)block * t->nparts + part];
}

/* All results of the operation are written: sums them up in op->event. */
void op_sum(struct optab *t, struct op *op);
/* Tells the caller; unless it is a direct get, the operation must not be touched afterwards. */
void op_tell(struct optab *t, struct op *op);
/* Results of one block's part are in (operations by part only). */
void op_part_settled(struct optab *t, struct op *op, uint32_t part, uint32_t blocks);
/* Storage let go of one direct read's destination (or the operation ended): tells when it was the
 * last. */
void op_buffer_free(struct optab *t, struct op *op);

/* cistern_poll and cistern_wait. */
int ops_poll(struct optab *t, struct cistern_event *events, int max) MUST_CHECK;
int ops_wait(struct optab *t, uint64_t id, uint64_t deadline_ns,
             struct cistern_event *event) MUST_CHECK;

/* True while a put that was called before `seq` is open. */
bool ops_put_open_before(struct optab *t, uint64_t seq);
uint32_t ops_open_count(struct optab *t);
uint32_t ops_puts_open(struct optab *t); /* not complete yet */

#endif
