/*
 * tier2.h - what this engine asks of Cistern. Everything that touches the library is in tier2.c.
 *
 * Life of a request: tier2_prefix() names the blocks of the prompt; rank 0 calls tier2_match() and
 * tells the others; all ranks call tier2_get() for the same blocks, and the least of their runs is
 * what was really read; after the first token all call tier2_put() for what they computed;
 * tier2_poll() between steps takes the completions. One thread.
 */
#ifndef MINILLM_TIER2_H
#define MINILLM_TIER2_H

#include "config.h"
#include "kvpool.h"

struct tier2;

/* The switches, from the environment; then tier2_arguments() takes its flags out of argv. 0, or a
 * negative error with a sentence in tier2_error(). */
int tier2_new(struct tier2 **out) __attribute__((warn_unused_result));
int tier2_arguments(struct tier2 *t, int *argc, char **argv) __attribute__((warn_unused_result));
bool tier2_reuse_cache(const struct tier2 *t);
bool tier2_enable_3fs(const struct tier2 *t);
const char *tier2_error(int err);

/* Opens this rank's shard. `arithmetic` names what the last bits of the KV depend on. */
int tier2_open(struct tier2 *t, const struct shape *s, struct kvpool *pool, const char *arithmetic)
    __attribute__((warn_unused_result));
/* Ends everything; NULL is fine. */
void tier2_free(struct tier2 *t);

/* Names the full blocks of a prompt; the calls below count blocks from its beginning. */
int tier2_prefix(struct tier2 *t, const uint8_t *tokens, int ntokens)
    __attribute__((warn_unused_result));
/* How many of the n blocks from `first` on tier 2 can give. Memory only. */
int tier2_match(struct tier2 *t, int first, int n);
/* Tier 1 had the first n blocks: they are in use, also for tier 2. */
void tier2_touch(struct tier2 *t, int n);

struct tier2_read {
    int run;        /* leading blocks whose verified bytes are in the pool */
    uint64_t bytes; /* verified */
    uint64_t nanoseconds;
};
/* Reads the n blocks from `first` on into the pool's blocks[0..n). Waits. */
void tier2_get(struct tier2 *t, int first, int n, const int *blocks, struct tier2_read *out);

/* Shadow compare. tier2_shadow_every() goes before tier2_open(); rank 0 asks tier2_shadow_due()
 * once for a run that was read. Then each rank gives the pool's block that was loaded as the
 * index-th of the prompt, and another one that was computed for it. 0: all bits are those that are
 * stored, 1: they are not, -1: it cannot be said now. */
void tier2_shadow_every(struct tier2 *t, int every);
bool tier2_shadow_due(struct tier2 *t);
int tier2_shadow_check(struct tier2 *t, int index, int loaded, int computed);

/* Stores them, some time: holds the pool's blocks until it is done with them. */
void tier2_put(struct tier2 *t, int first, int n, const int *blocks);
/* Takes completions: drops the holds, notes in the pool what is stored. */
void tier2_poll(struct tier2 *t);
/* Waits until every put is complete. */
int tier2_finish(struct tier2 *t, int timeout_ms) __attribute__((warn_unused_result));

/* No further puts; finishes what was accepted. How many puts are left then, or a negative code. */
int tier2_drain(struct tier2 *t, int timeout_ms) __attribute__((warn_unused_result));

/* Takes up what other ranks and other machines stored since; for quiet moments, since it waits.
 * Only the rank that asks tier2_match() needs it. */
void tier2_refresh(struct tier2 *t);

struct tier2_counts {
    uint64_t stored, present, dropped, failed; /* blocks that were put */
};
struct tier2_counts tier2_counts(const struct tier2 *t);
/* Lines of "key=value": where the blocks are, which provider, how much staging. */
void tier2_describe(const struct tier2 *t, char *buf, size_t size);

#endif
