/*
 * admission.h - which blocks of a put are stored at all.
 *
 * The policy is pure (policy.h: admit_put()); this is where a handle asks it. A block is asked
 * about once for each put, on the caller's thread, and only when the index does not have it. What
 * is refused is settled there: its results are CISTERN_NOT_ADMITTED before the write lane sees the
 * put, which passes over it.
 *
 * One decision for all shards: a request with a mask (cistern_request.admit) follows it and leaves
 * the handle's own filter alone. The mask is the answer of cistern_admit() in one process.
 *
 * The filter lives in memory and begins empty. Threads: any, without a lock.
 */
#ifndef ENGINE_ADMISSION_H
#define ENGINE_ADMISSION_H

#include "engine/engine.h"

/* `capacity` of the root; 0 = not limited. Makes nothing when everything is admitted. */
int admission_open(cistern *c, uint64_t capacity) MUST_CHECK;
void admission_close(cistern *c); /* accepts a handle without */
/* Settles the blocks of a put that are not to be stored; false: that was all of them. */
bool admission_decide(cistern *c, struct op *op) MUST_CHECK;
/* A block was admitted, or not come to, and was not stored: the next time is a yes. */
void admission_again(cistern *c, const cistern_key *key);

#endif
