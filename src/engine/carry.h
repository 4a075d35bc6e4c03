/*
 * carry.h - what of an evicted segment lives on: its used blocks (its notes about others: notes.h).
 *
 * A block is carried when the policy says so (policy.h): it was used since it was written, and
 * lately. The segment is held from its eviction until the last of them was read, or until its data
 * has to go; its blocks are verified, and laid out again by the write lane, among the puts. What is
 * put again meanwhile is not carried. All of it is best effort: a crash or slow storage loses what
 * an eviction without it would have lost.
 *
 * Threads: the keeper, but for what says otherwise, and carry_lay_out() and carry_waits(), which
 * are the write lane's.
 */
#ifndef ENGINE_CARRY_H
#define ENGINE_CARRY_H

#include "engine/engine.h"
#include "engine/policy.h"
#include "engine/usage.h"

struct carry;
struct writer;

void carry_close(cistern *c); /* the lanes and the keeper have stopped */

/* Before the segment is forgotten: chooses, and holds it if there is anything to carry. */
void carry_begin(cistern *c, uint32_t number, const struct policy_segment *victim);
/* Copies of these blocks of a segment that stays, also where carrying over is off; takes `blocks`,
 * which was allocated. Done when the index has a newer copy; nothing happens when there is no room
 * for it now, or where blocks age. */
void carry_copies(cistern *c, uint32_t number, struct block_info *blocks, size_t count,
                  enum policy_generation to);
/* This block was deleted: it is not to come back. After it was taken out of the index; any thread.
 * True: a copy of it may have gone into the index meanwhile, look once more. */
bool carry_erase(cistern *c, const cistern_key *key);
/* Another store deleted it: the same, and a copy that arrived here lately is deleted, of which that
 * store cannot have known. Not what was stored anew. */
void carry_erase_for(cistern *c, const cistern_key *key);
/* Goes up when all that was on its way arrived. Who asks before he looks into the index, and after
 * carry_erase(), and gets two answers, has to look once more as well. Any thread. */
uint32_t carry_cleared(const cistern *c);
/* The write lane, after a carried block went into the index, or its frame failed, which may land
 * yet: if it was deleted since `erased` of its group, that copy is. */
void carry_arrived(cistern *c, const uint8_t key[32], uint32_t since, uint32_t segment,
                   uint32_t offset);
/* The write lane: the next carried block was published, or failed. */
void carry_settled(cistern *c);
/* How many were ever laid out, or CARRY_LAYING: ask once more; whether the first so many are
 * settled. Any thread. */
#define CARRY_LAYING UINT64_MAX
uint64_t carry_laid(const cistern *c);
bool carry_is_settled(const cistern *c, uint64_t laid);
/* Some of them are on their way. */
bool carry_copying(const cistern *c);
/* Reads some of what was chosen, and hands it to the write lane. True: there is more. */
bool carry_step(cistern *c);
/* Something of the segment is still to be read. */
bool carry_reads(const cistern *c, uint64_t writer, uint64_t seq);
/* The data of the segment is to go now. */
void carry_cancel(cistern *c, uint64_t writer, uint64_t seq);
/* The write lane takes what waits for it, if it can. True: it took something. */
bool carry_lay_out(struct writer *w);
/* The write lane: what waits for it lies in memory that storage does not know any more. */
void carry_drop(struct writer *w);
/* Something waits for it. */
bool carry_waits(const struct writer *w);

#endif
