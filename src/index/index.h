/*
 * index.h - key -> where the block lies. Derived from the contents, disposable, rebuilt at every
 * open.
 *
 * Layout: 64-byte entries in one reserved range of address space, and tables of 8-byte tagged
 * slots, sharded by key bits. At most 80 bytes a block at every size. Nothing is allocated after
 * index_open(): growth touches reserved pages, table by table, no stop of the world.
 *
 * Threads: readers (find, match, mask) take no lock, make no system call and never wait for a
 * writer; writers exclude each other per table. Several copies of a key may exist (other segment or
 * offset): the newest inserted good one is found first, the next when it is removed.
 */
#ifndef INDEX_INDEX_H
#define INDEX_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern.h"
#include "segment/block.h"

struct index;

struct index_place {
    uint32_t segment; /* the engine's number of the segment, < 2^31 */
    uint8_t use;      /* what index_use() last said of it; 0 = nothing */
    struct block_info info;
};

/*
 * Reserves address space for max_blocks (1 .. 2^30); touches little. Where all blocks have more
 * than four parts, room may end earlier. -ENOMEM, -EINVAL.
 */
int index_open(uint64_t max_blocks, struct index **out) MUST_CHECK;
void index_close(struct index *ix);

/* 0; -EEXIST: this very copy is there; -ENOSPC: max_blocks reached (nothing changed). */
int index_insert(struct index *ix, uint32_t segment, const struct block_info *b) MUST_CHECK;
/*
 * The same for n blocks of one segment, in order, with the cache misses overlapped: for open.
 * Copies that are there are passed over. The first error, if any; the rest is inserted all the same
 * as far as it can be. *inserted may be NULL.
 */
int index_insert_many(struct index *ix, uint32_t segment, const struct block_info *blocks, size_t n,
                      uint64_t *inserted) MUST_CHECK;
/*
 * Around the first filling of an empty index, while one thread alone knows it: in between, inserts
 * only append (nothing is found, removed or known to exist), and the end builds the tables at their
 * final size, which takes half the time. begin: -EBUSY: it is not empty. end: -ENOSPC: some found
 * no room.
 */
int index_bulk_begin(struct index *ix) MUST_CHECK;
int index_bulk_end(struct index *ix) MUST_CHECK;
/*
 * Puts the first part of a large index on 2 MiB pages, as the rest of it is: below some 2 million
 * blocks that would be more memory than it is worth. Once; does nothing before and after. A hint, a
 * system call that copies up to 160 MiB; any thread that nobody waits for. index_bulk_end() does
 * it.
 */
void index_settle(struct index *ix);
/* Brings the cache lines of a coming insert or find; optional. */
void index_prefetch(const struct index *ix, const cistern_key *key);
/* The newest good copy. False: none, and *out holds anything. */
bool index_find(const struct index *ix, const cistern_key *key, struct index_place *out);
/* Its mask of parts; 0 = none. */
uint16_t index_mask(const struct index *ix, const cistern_key *key);
/*
 * Notes a stamp, 1 to 255, on the copy that is found first, and says which segment that is in. The
 * stamp that it replaced, 0 = none; `stamp` itself when nothing was changed. A hint: it may be
 * lost. No lock.
 */
uint8_t index_use(struct index *ix, const cistern_key *key, uint8_t stamp, uint32_t *segment);
/* Removes one copy. True if it was there. */
bool index_remove_copy(struct index *ix, const cistern_key *key, uint32_t segment, uint32_t offset);
/* Removes every copy that lies in the segment; returns how many. */
uint64_t index_remove_segment(struct index *ix, uint32_t segment);
uint64_t index_blocks(const struct index *ix);       /* copies */
uint64_t index_memory_bytes(const struct index *ix); /* touched so far: entries and slots */
/*
 * Visits every copy that lies in the segment, in no order; `others`: the key has another copy.
 * Non-zero ends it. Locks one table for one copy at a time, not while it visits.
 */
int index_walk_segment(struct index *ix, uint32_t segment,
                       int (*visit)(void *arg, const struct index_place *p, bool others),
                       void *arg) MUST_CHECK;
/* Visits every good copy, in no order; for tests and tools, excludes writers. Non-zero ends it. */
int index_walk(struct index *ix, int (*visit)(void *arg, const struct index_place *p),
               void *arg) MUST_CHECK;

/*
 * presence - which other shards have a block: small fingerprints, one table for all shards. A false
 * positive (about 2^-32 a question) costs a get that turns out a miss, never a wrong byte.
 * `variant` 0 = all parts with CISTERN_PART_ALL are there; 1 + p = part p is.
 */
struct presence;
struct match_rules;
int presence_open(uint64_t max_blocks, uint32_t shards, struct presence **out) MUST_CHECK;
void presence_close(struct presence *p);
int presence_add(struct presence *p, const cistern_key *key, uint32_t variant,
                 uint32_t shard) MUST_CHECK;
/*
 * What blocks of another shard mean for a match: variant 0 of those that have all of rules->all (if
 * there are any), variant 1 + p for every part p of last and trailing. Cache misses overlap. The
 * first error; the rest is added all the same as far as it can be.
 */
int presence_add_blocks(struct presence *p, const struct match_rules *rules, uint32_t shard,
                        const struct block_info *blocks, size_t n) MUST_CHECK;
/* As index_settle(). */
void presence_settle(struct presence *p);
void presence_remove(struct presence *p, const cistern_key *key, uint32_t variant, uint32_t shard);
uint64_t presence_memory_bytes(const struct presence *p);

/* What a run needs. */
struct match_rules {
    uint16_t all;      /* parts with CISTERN_PART_ALL */
    uint16_t last;     /* parts with CISTERN_PART_LAST */
    uint16_t trailing; /* parts with CISTERN_PART_TRAILING */
    uint32_t window[CISTERN_MAX_PARTS];
    uint32_t shards, own; /* own: this shard's number, not asked of presence */
};

struct match_answer {
    uint32_t blocks; /* longest leading run that satisfies the rules on every shard */
    uint32_t have;   /* leading blocks of which the index has anything */
};

/* others may be NULL when shards == 1. Prefetches over the chain. */
void index_match(const struct index *ix, const struct presence *others,
                 const struct match_rules *rules, const cistern_key *keys, size_t n,
                 struct match_answer *out);

#endif
