/* evict.h - forgetting segments: in memory, and on storage to make room. */
#ifndef ENGINE_EVICT_H
#define ENGINE_EVICT_H

#include "engine/engine.h"

/*
 * The index gives nothing of this segment any more; reads that are under way end in peace, then the
 * keeper closes the data file, so that its space comes back. What presence says of other shards
 * stays: a presence that is too good costs a miss. Returns how many copies the index had. Keeper
 * (or opener) only; no storage is touched here.
 */
uint64_t segment_forget(cistern *c, uint32_t number);

#endif
