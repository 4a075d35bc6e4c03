/*
 * evict.h - forgetting segments in memory, and taking them off storage in two steps.
 *
 * Step 1: the contents go, and with them every later open's knowledge of the blocks; this handle
 * forgets at once, others when they notice that the contents are gone. Step 2, after a grace: the
 * data goes. Data without contents is therefore always something to be taken away, whoever left it,
 * and whoever has seen it alone for the grace (by its own clock) takes it away.
 */
#ifndef ENGINE_EVICT_H
#define ENGINE_EVICT_H

#include "engine/engine.h"
#include "engine/usage.h"

/*
 * The index gives nothing of this segment any more; reads that are under way end in peace, then
 * segments_collect() closes the data file, so that its space comes back. What presence says of
 * other shards stays: a presence that is too good costs a miss. Returns how many copies the index
 * had. Keeper, follower or opener; no storage is touched here.
 */
uint64_t segment_forget(cistern *c, uint32_t number);
/* Closes the data files of forgotten segments that nobody holds any more; how many are still held.
 * May hang on storage. */
uint32_t segments_collect(cistern *c);

/*
 * What storage refuses to remove is tried USAGE_TRIES times, then it is told once, counts as used
 * and is left alone, but for a try now and then: room that never comes back must not be waited for.
 */

/* Step 1, when notes_keep() said that the contents may go. 0, or why they are still there. */
int evict_begin(cistern *c, struct usage *u, struct usage_segment *s) MUST_CHECK;
/* Step 2. True: the data is gone, or was before. */
bool evict_finish(cistern *c, struct usage *u, struct usage_segment *s);
/* Finishes what has waited for the grace, takes away what crashes left, and forgets own segments
 * whose contents somebody else took. Returns the bytes that came back. */
uint64_t evict_collect(cistern *c, struct usage *u, uint64_t grace_ns, uint64_t silence_ns);
/*
 * The file system is full: finishes what is leaving before its grace is over, until `need` bytes
 * came back; what this handle began before what others did, then what has waited longest. Reads of
 * it that are under way may end as misses. Returns the bytes that came back.
 */
uint64_t evict_hurry(cistern *c, struct usage *u, uint64_t need);

#endif
