/*
 * capacity.h - keeps the root within its bytes, and the file system above its floor.
 *
 * Every process that writes does this for the whole root: before it makes a segment, and every
 * second or so, it recomputes what the files take (usage.h), chooses victims (policy.h) and evicts
 * them (evict.h). Nobody agrees with anybody: two may choose the same victim, and who comes late
 * finds it gone.
 *
 * Threads: the keeper; what is atomic, any.
 */
#ifndef ENGINE_CAPACITY_H
#define ENGINE_CAPACITY_H

#include "engine/engine.h"
#include "engine/heat.h"
#include "engine/pins.h"
#include "engine/policy.h"
#include "engine/ttl.h"
#include "engine/usage.h"

struct carry; /* carry.h */

struct capacity {
    _Atomic uint64_t bytes; /* of the root; 0 = not limited */
    uint64_t floor_bytes;   /* free space that is left to others */
    uint64_t grace_ns;      /* between contents and data: longer than a reader's deadline */
    uint64_t silence_ns;
    uint64_t next_ns;    /* of the next look */
    uint64_t free_bytes; /* of the file system, at the last look; UINT64_MAX = not known */
    uint64_t rate;       /* bytes a second by which the root grew lately */
    uint64_t rate_ns, rate_written, hit_seen, stored_seen, carried_seen, returned_seen;
    struct carry *_Atomic carry;
    bool carry_failed;
    uint64_t pressed_ns; /* since when no victim can go without its notes; 0 = it is not so */
    bool urgent;         /* victims go with their notes only handed on (notes.h) */
    bool dated;          /* victims_date() */
    bool look_failed;    /* and was told */
    uint64_t urgent_ns;  /* when a full file system cost a segment last */
    struct heat heat;
    struct usage usage;
    struct ttl ttl;
    struct pins pins;
    struct policy_params params;
    struct policy_history history;
    struct policy_segment *choice; /* scratch: as many as usage.segs */
    size_t room;
    /* Guarded by keeper.lock. */
    uint64_t wanted, sets_asked, sets_done;
    int set_result;
};

int capacity_open(cistern *c, uint64_t bytes) MUST_CHECK;
void capacity_close(cistern *c); /* accepts a handle without */

/* ---- The keeper's ---- */

/* Room for one more segment of this writer: makes it. -ENOSPC: not now. */
int capacity_admit(cistern *c) MUST_CHECK;
/* The file system said that it is full: makes room for one segment at once, without grace; of what
 * is leaving already no more than that takes (evict_hurry()). True: there is room now. */
bool capacity_relieve(cistern *c);
/* Looks, evicts, collects, when it is time; returns when it wants to be called again (clock_ns). */
uint64_t capacity_tick(cistern *c);
/* A new capacity that cistern_set_capacity() asked for. */
void capacity_set(cistern *c);

/* ---- merge.c; the keeper's ---- */

/* Some of the work of merging small segments, if there is any; true: there is, and when to go on.
 */
bool merge_step(cistern *c, uint64_t *again_ns);

/* ---- victims.c; the keeper's ---- */

/* Fills k->choice, in the order of usage.segs. */
int victims_describe(cistern *c) MUST_CHECK;
/* After the first look: when the segments that were there before were written. */
int victims_date(cistern *c) MUST_CHECK;

#endif
