/*
 * heat.h - what eviction has to know of blocks and segments: how long ago they were used, in bytes
 * written to the root since (policy.h), and which keys went lately without being carried over.
 *
 * The clock is the bytes that this handle wrote and those by which it saw the root grow otherwise.
 * It moves in steps of a sixteenth of the capacity; the number of the step, modulo 255, is the
 * stamp that a use leaves in the index. A segment keeps sums over its blocks, so that nobody has to
 * look at blocks to know how idle it is. All of it is a hint: what is lost to a race costs a hit at
 * most.
 *
 * Threads: any, no locks; heat_look() and heat_close() are the keeper's and the closer's.
 */
#ifndef ENGINE_HEAT_H
#define ENGINE_HEAT_H

#include "engine/engine.h"
#include "engine/policy.h"

struct heat {
    _Atomic uint64_t written; /* bytes: the clock */
    _Atomic uint64_t pending; /* of these, since the last step */
    _Atomic uint64_t step;    /* bytes of a step */
    _Atomic uint64_t steps;
    struct ghost *_Atomic ghost; /* NULL: the root is not bounded */
    bool ghost_failed;
};

void heat_open(struct heat *h);
void heat_close(struct heat *h);
/* At each look: the steps follow the capacity; makes the ghost list of a bounded root. */
void heat_look(cistern *c, uint64_t capacity, bool bounded);

/* The clock goes on. */
void heat_written(struct heat *h, uint64_t bytes);
/* A block was stored in a segment of this handle. */
void heat_stored(cistern *c, struct segment *s, const struct block_info *b);
/* A block of another writer, or of before the open, was taken up. */
void heat_taken(struct segment *s, const struct block_info *b);
/* A block was read, or asked for in another way. */
void heat_used(cistern *c, const cistern_key *key);
/* A copy in it is not to be used any more. */
void heat_lost(struct segment *s, uint32_t copies);

/* Bytes written since the stamp. */
uint64_t heat_age(const struct heat *h, uint8_t stamp);
/* Fills what the sums tell of a segment; p->age, bytes, blocks and touches are there. */
void heat_describe(const struct heat *h, const struct segment *s, struct policy_segment *p);

/* The key was evicted lately. The second forgets it. */
bool heat_ghost_seen(cistern *c, const uint8_t key[32]);
bool heat_ghost_take(cistern *c, const uint8_t key[32]);
/* Before a segment is forgotten: its blocks that have no other copy become ghosts. */
void heat_forget(cistern *c, uint32_t number);

#endif
