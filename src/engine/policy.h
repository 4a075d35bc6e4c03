/*
 * policy.h - which segment goes next, what of it is carried over, what is stored at all.
 *
 * Pure: functions of their arguments, no I/O, no clock, nothing allocated after creation. The only
 * measure of time is bytes: the age of a thing is how many bytes of payload, carried ones included,
 * were written to the root since. So the policy is the same on a fast and on a slow day.
 *
 * The shape. A segment is as cold as its blocks are idle on the mean; the coldest goes next. Of its
 * blocks those go along to a new segment that were used since they were written and are clearly
 * less idle than the rest: not more than a mean segment's worth, so write amplification limits
 * itself; a budget makes sure of it. There are two generations. Puts go to YOUNG segments; what is
 * carried over, and what is put again soon after its eviction (the ghost list knows), goes to OLD
 * ones, which count as less idle than they are, the more so the more often evicted blocks come
 * back: a stream of prompts that are seen once then passes by without washing out what is used.
 * Figures: docs/BENCHMARKS.md, "Eviction policy".
 *
 * Threads: policy_*() any, they hold no state; a struct policy_history belongs to its caller. A
 * ghost list (and an admission filter, which is one) may be used by any number of threads without a
 * lock: entries are single atomic words, and when two threads meet, a note may be lost, which costs
 * a hit and nothing else. Creating and freeing: one thread, before and after all others.
 */
#ifndef ENGINE_POLICY_H
#define ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum policy_generation { POLICY_YOUNG = 0, POLICY_OLD = 1 };

#define POLICY_PINNED 1u /* being read, warmed for ever, or not ours to take: never chosen */
#define POLICY_TINY   2u /* far below the size of a segment: left by a crash or a short life */
#define POLICY_SILENT 4u /* its writer is gone */

/* rank of a segment whose blocks may not be used any more: time to live over, model retired, set
 * aside. It goes before everything else and nothing of it is carried over. */
#define POLICY_RANK_EXPIRED UINT32_MAX

#define POLICY_UNKNOWN UINT64_MAX

/* One sealed segment as the policy sees it. Owned by the caller; order of the array is free. */
struct policy_segment {
    uint64_t number;     /* the caller's name for it; the lower one goes first when all is equal */
    uint32_t rank;       /* of its space: 0 = in use, greater = colder; colder spaces go first */
    uint32_t flags;      /* POLICY_... */
    uint32_t generation; /* enum policy_generation */
    uint32_t depth;      /* mean depth of its blocks in their chains: children go before parents */
    uint64_t age;        /* bytes written to the root since it was sealed */
    uint64_t idle;       /* mean over its live blocks of the bytes written to the root since a block
                          * was last used or, never used, written; POLICY_UNKNOWN: see touches */
    uint64_t bytes;      /* of the file: what its eviction gives back */
    uint64_t live_bytes; /* of blocks that the index would still return; bytes when unknown */
    /* Where idle is unknown it is guessed: from how many of the blocks were used and when the last
     * of them was. After a restart, and of segments of others, the heads have touches alone. */
    uint32_t blocks;    /* live ones; 0: touches tell nothing */
    uint32_t touches;   /* uses of its blocks since it was written */
    uint64_t touch_age; /* bytes written to the root since the last of these; 0 = not known */
};

/* One live block of a victim. */
struct policy_block {
    uint64_t use_age; /* bytes written to the root since its last use; steps of capacity/16 are fine
                       * enough, so one byte a block holds it */
    bool used;        /* since it was written here, be it put or carried */
    bool pinned;      /* always carried over */
    bool copied;      /* another good copy is in the index: never carried over */
};

struct policy_params {
    uint64_t capacity;   /* bytes of the root */
    uint32_t carry_idle; /* percent of the victim's mean idleness below which a block is carried */
    uint32_t carry_victim; /* percent of a victim that may be carried, below 100 */
    uint32_t carry_budget; /* percent of the bytes put that may be carried in the long run */
    uint32_t old_weight; /* percent by which OLD segments count as less idle, at least; 100 = not */
    uint32_t old_weight_max; /* and at most */
    uint32_t ghost_weight;   /* percent to add when as many blocks come back as are hit */
    uint32_t tiny_count;     /* so many TINY segments are worth merging */
};

/* What happened lately, in bytes. Zero it at open; kept by the caller. */
struct policy_history {
    uint64_t hit;     /* of blocks that were asked for and found */
    uint64_t ghost;   /* of puts that ghost_take() knew */
    uint64_t stored;  /* of puts that were written */
    uint64_t carried; /* of blocks carried over */
};

void policy_defaults(struct policy_params *p, uint64_t capacity);
/* Adds what happened since the last call; what is long ago loses weight. */
void policy_history_add(struct policy_history *h, const struct policy_history *more,
                        const struct policy_params *p);

/* How idle its live blocks are on the mean, guessed where it is not known. */
uint64_t policy_idle(const struct policy_segment *s);

#define POLICY_NONE SIZE_MAX

/* The next victim: an index into segs, or POLICY_NONE when all are pinned. O(n). */
size_t policy_choose(const struct policy_segment *segs, size_t n, const struct policy_params *p,
                     const struct policy_history *h);
/*
 * A TINY segment to merge, that is, to evict with all its live blocks carried over, or POLICY_NONE
 * while there are fewer than tiny_count. For collection when there is no lack of room. O(n).
 */
size_t policy_merge(const struct policy_segment *segs, size_t n, const struct policy_params *p);
/* Whether a live block of a victim that policy_choose() chose is carried over. */
bool policy_carry(const struct policy_segment *victim, const struct policy_block *b,
                  const struct policy_params *p, const struct policy_history *h);
/*
 * How many bytes of a victim may be carried over, so that an eviction always gives room and write
 * amplification stays within the budget. Offer the blocks in the order of the file (parents first)
 * and stop there; pinned ones are carried all the same.
 */
uint64_t policy_carry_limit(const struct policy_segment *victim, const struct policy_params *p,
                            const struct policy_history *h);
/* Where a put goes: `ghost` = ghost_take() said so. What is carried over goes to POLICY_OLD. */
enum policy_generation policy_place(bool ghost);

/*
 * Ghost list: keys that were evicted lately without being carried over. Fixed memory (5.3 bytes
 * an entry), set-associative: a note takes the place of the oldest of its set. A wrong yes comes
 * about in a hundred thousand questions. `hash`: any 64 well-mixed bits of the key.
 */
struct ghost;
/* Remembers about `entries` keys, 1 .. 2^32. -ENOMEM, -EINVAL. */
int ghost_create(uint64_t entries, struct ghost **out) MUST_CHECK;
void ghost_free(struct ghost *g); /* accepts NULL */
void ghost_note(struct ghost *g, uint64_t hash);
bool ghost_seen(const struct ghost *g, uint64_t hash);
/* The same, and forgets it. */
bool ghost_take(struct ghost *g, uint64_t hash);
uint64_t ghost_bytes(const struct ghost *g);
/* How many entries pay: four capacities of blocks, at most 2^24 (85 MiB). */
uint64_t ghost_entries_for(uint64_t capacity, uint64_t block_bytes);

/*
 * Admission: is a block that is not stored worth a write? ADMIT_ALL: yes. ADMIT_REUSED: the second
 * time that its key is asked for. Asked once for each put, by the one who decides for all shards.
 */
enum admit_mode { ADMIT_ALL = 0, ADMIT_REUSED = 1 };
struct admit;
/* Remembers about `entries` keys that were asked for once (see ghost_entries_for()). */
int admit_create(enum admit_mode mode, uint64_t entries, struct admit **out) MUST_CHECK;
void admit_free(struct admit *a); /* accepts NULL */
/* Whether to store it; a "no" is remembered, so that the next time is a "yes". */
bool admit_put(struct admit *a, uint64_t hash);
/* A key that was offered was not stored, whatever the answer had been: the next time is a "yes". */
void admit_again(struct admit *a, uint64_t hash);

#endif
