/*
 * budget.h - how much this handle writes: bytes a day, and bytes a second.
 *
 * The budget of a day (write_budget_bytes_per_day) counts the places in data files that puts and
 * carried blocks take. A quarter of it may be saved up, the rest comes evenly over the day; so in
 * any 24 hours no more than the budget is written. It begins with nothing saved up, and needs no
 * memory on storage for that: a process that starts again and again writes no more than one that
 * stays. What is beyond it is dropped at once and never waits; once a block of a put is dropped for
 * it, so are the blocks after it, which nobody would find without their parents.
 *
 * The bandwidths pace. Puts and carried blocks are laid out while nothing is owed, so that a put
 * waits with its caller's memory and not in staging, and is dropped at its deadline as usual; one
 * group, at most a staging slot, goes beyond. Reads of carrying over have a pace of their own; gets
 * have none.
 *
 * Threads: any; `waits` is the write lane's.
 */
#ifndef ENGINE_BUDGET_H
#define ENGINE_BUDGET_H

#include "base/clock.h"
#include "engine/bucket.h"

struct cistern;
struct share;

struct budget {
    struct bucket day;         /* puts and carried blocks: taken or dropped */
    struct bucket write, read; /* paced */
    bool waits;                /* puts wait for `write` */
};

/* The clock of the buckets: so far from zero that a burst of a day fits before it. */
static inline uint64_t budget_clock_ns(void)
{
    return clock_ns() + 86400 * NS_PER_S;
}

void budget_open(struct cistern *c);
/* A block of a put is about to be laid out; false: dropped and counted. */
bool budget_puts(struct cistern *c, struct share *s, uint64_t bytes);
/* Blocks are about to be read, to be carried over; false: dropped and counted. */
bool budget_carries(struct cistern *c, uint32_t blocks, uint64_t bytes);

/* The write lane: whether something may be laid out now. */
bool pace_writes(struct cistern *c);
void pace_written(struct cistern *c, uint64_t bytes);
/* How long it may sleep instead of `ns`. */
uint64_t pace_nap_ns(const struct cistern *c, uint64_t ns);
/* The keeper: whether something may be read in the background now. */
bool pace_reads(const struct cistern *c);
void pace_read(struct cistern *c, uint64_t bytes);

#endif
