/*
 * pins.h - blocks that an operator wants to stay: which keys, and which victims must wait for them.
 *
 * Pins are small files in the directories of spaces (segment/pin.h). Whoever evicts reads them
 * before its first eviction, again when a listing shows others, and when one expires.
 *
 * A victim of this handle's own shard that has the only copy of a pinned block, or the one that
 * stays, is not evicted: the block is copied to a new segment first, and the victim is an ordinary
 * one at a later look. So a crash at any point loses nothing that is pinned. The copy that stays is
 * the same for all writers of a shard: the one in the segment with the greater id, so that two of
 * them never take each other's. Blocks of other shards and spaces cannot be copied from here; a
 * victim that has a pinned one is left to the writers of that shard, and stays where there are
 * none.
 *
 * A segment whose blocks may not be used any more (POLICY_RANK_EXPIRED) goes, pinned or not.
 *
 * Threads: the keeper.
 */
#ifndef ENGINE_PINS_H
#define ENGINE_PINS_H

#include "engine/engine.h"

struct usage;

struct pin_key {
    uint32_t space; /* of usage.spaces */
    uint8_t key[32];
};

struct pin_file {
    uint32_t space;
    uint64_t id;
};

/* What was read of a segment of another shard. */
struct pins_verdict {
    uint32_t dir;
    uint64_t writer, seq;
    bool keeps;
};

struct pins {
    struct pin_key *keys; /* sorted */
    size_t count, room;
    struct pin_file *files; /* those that they come from: a listing may leave one out */
    size_t nfiles, rfiles;
    uint64_t names;  /* of the listing that they were read after */
    uint64_t next_s; /* when the next one expires, seconds since 1970 */
    bool read;       /* they were, once */
    uint32_t failed; /* looks in a row that could not read one */
    struct pins_verdict *verdicts;
    size_t nverdicts, rverdicts;
};

void pins_free(struct pins *p);
/* After a scan: takes up what changed. 0, or why nothing can be decided now. */
int pins_look(cistern *c) MUST_CHECK;
/* Is the key pinned in the handle's own space? */
bool pins_has(const cistern *c, const uint8_t key[32]);
/* Must this victim, a place in usage.segs, wait? Copies what keeps it, where that can be done. */
bool pins_keep(cistern *c, size_t victim);

#endif
