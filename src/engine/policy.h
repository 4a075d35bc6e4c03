/*
 * policy.h - which segment goes next, what of it is carried over, what is stored at all.
 *
 * Pure: functions of their arguments, no I/O, no clock, nothing allocated after creation. The only
 * measure of time is bytes: `age` of a thing is how many bytes of payload were written to the root
 * since. So the policy is the same on a fast and on a slow day, and after a restart.
 *
 * The shape: two generations. Puts go to YOUNG segments; what is carried over, and what comes back
 * soon after it was evicted (the ghost list knows), goes to OLD ones. Within a space the generation
 * that has more than its share gives its segment next, and of it what was used in the younger half
 * of its age is carried over. An engine with one growing segment calls everything YOUNG.
 *
 * Threads: policy_*() any, they hold no state. A ghost list (and an admission filter, which is one)
 * may be used by any number of threads without a lock: entries are single atomic words, and when
 * two threads meet, a note may be lost, which costs a hit and nothing else. Creating and freeing:
 * one thread, before and after all others.
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

/* One sealed segment as the policy sees it. Owned by the caller; order of the array is free. */
struct policy_segment {
    uint64_t number;     /* the caller's name for it; the lower one goes first when all is equal */
    uint32_t rank;       /* of its space: 0 = in use, greater = colder; colder spaces go first */
    uint32_t flags;      /* POLICY_... */
    uint32_t generation; /* enum policy_generation */
    uint32_t depth;      /* mean depth of its blocks in their chains: children go before parents */
    uint64_t age;        /* bytes written to the root since it was sealed */
    uint64_t bytes;      /* of the file, what its eviction gives back */
    uint64_t live_bytes; /* of blocks that the index would still return */
    uint32_t touches;    /* uses of its blocks since it was written */
    uint32_t young_touches; /* of these in the younger half of its age */
    uint32_t blocks;        /* live ones */
    uint32_t used;          /* of these used at all since written */
};

/* One live block of a victim. */
struct policy_block {
    uint64_t bytes;
    uint64_t age;     /* bytes written to the root since the block was; its segment's will do */
    uint64_t use_age; /* bytes written to the root since it was last used; UINT64_MAX = never. Steps
                       * of capacity/64 are fine enough */
    uint32_t uses;    /* since it was written; saturating is fine, 0 = never */
    uint32_t generation; /* of its segment */
    bool pinned;         /* always carried over */
    bool copied;         /* another good copy is in the index: never carried over */
};

struct policy_params {
    uint64_t capacity;      /* bytes of the root */
    uint32_t young_percent; /* share of the bytes of a rank that YOUNG segments may have */
    uint32_t carry_percent; /* of a victim's bytes that may be carried over at most, below 100 */
    uint32_t tiny_count;    /* so many TINY segments are worth merging */
};

void policy_defaults(struct policy_params *p, uint64_t capacity);

#define POLICY_NONE SIZE_MAX

/* The next victim: an index into segs, or POLICY_NONE when all are pinned. O(n). */
size_t policy_choose(const struct policy_segment *segs, size_t n, const struct policy_params *p);
/*
 * A TINY segment to merge, that is, to evict with all its live blocks carried over, or POLICY_NONE
 * while there are fewer than tiny_count. For collection when there is no lack of room. O(n).
 */
size_t policy_merge(const struct policy_segment *segs, size_t n, const struct policy_params *p);
/* Whether a live block of a victim, chosen by policy_choose(), is carried over. */
bool policy_carry(const struct policy_segment *victim, const struct policy_block *b,
                  const struct policy_params *p);
/* How many bytes of a victim may be carried over: so an eviction always gives room. Offer the
 * blocks in the order of the file (parents first) and stop there. */
uint64_t policy_carry_limit(const struct policy_segment *victim, const struct policy_params *p);
/* Where a put goes: `ghost` = ghost_take() said so. */
enum policy_generation policy_place(bool ghost);

/*
 * Ghost list: hashes of the keys that were evicted lately without being carried over. Fixed memory
 * (8 bytes an entry), set-associative: a note takes the place of the oldest of its set.
 * `hash`: any 64 well-mixed bits of the key.
 */
struct ghost;
/* Remembers about `entries` keys, 64 .. 2^32. -ENOMEM, -EINVAL. */
int ghost_create(uint64_t entries, struct ghost **out) MUST_CHECK;
void ghost_free(struct ghost *g); /* accepts NULL */
void ghost_note(struct ghost *g, uint64_t hash);
bool ghost_seen(const struct ghost *g, uint64_t hash);
/* The same, and forgets it. */
bool ghost_take(struct ghost *g, uint64_t hash);
/* What policy.c was tuned with: evicted keys of one whole capacity of blocks. */
uint64_t ghost_entries_for(uint64_t capacity, uint64_t block_bytes);

/*
 * Admission: is a block that is not stored worth a write? ADMIT_ALL: yes. ADMIT_REUSED: the second
 * time that its key is asked for. Asked once for each put, by the one who decides for all shards.
 */
enum admit_mode { ADMIT_ALL = 0, ADMIT_REUSED = 1 };
struct admit;
/* Remembers about `entries` keys that were asked for once. */
int admit_create(enum admit_mode mode, uint64_t entries, struct admit **out) MUST_CHECK;
void admit_free(struct admit *a); /* accepts NULL */
/* Whether to store it; a "no" is remembered, so that the next time is a "yes". */
bool admit_put(struct admit *a, uint64_t hash);

#endif
