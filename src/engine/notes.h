/*
 * notes.h - records that a copy is not to be used, or that a segment is set aside, outlive the
 * contents they stand in for as long as what they name is there.
 *
 * Whoever evicts a segment that it did not write reads its contents first. Notes that still matter
 *
 *   of this handle's shard   go to the write lane, and the contents stay until they are published
 *                            and synced;
 *   of another shard         keep the segment for the writers of that shard while one lives; when
 *                            none does, they are written as the contents of a segment of their own:
 *                            a new writer, no blocks, a head that says closed. Any version reads
 *                            it. Of such a segment nothing is written again: it stays until what
 *                            its notes name is gone, or a writer of its shard takes them over.
 *
 * What is lost: notes of contents that cannot be read, and those that an urgent eviction (a full
 * file system, or no room for the very segment that would take them) handed to the write lane, when
 * the process dies before they are published.
 *
 * Threads: the keeper.
 */
#ifndef ENGINE_NOTES_H
#define ENGINE_NOTES_H

#include "engine/engine.h"
#include "engine/usage.h"

/*
 * 0: the contents may go. -EAGAIN: not yet. -EBUSY: not by this handle for now. Else storage
 * failed. It is not to be chosen until wait_ns. `urgent`: they may go when the notes wait in
 * memory.
 */
int notes_keep(cistern *c, struct usage *u, struct usage_segment *s, bool urgent) MUST_CHECK;

#endif
