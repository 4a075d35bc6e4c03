/*
 * gone.h - segments that another process or machine took away, noticed beside the listings.
 *
 * A read that fell short, or was answered with ENOENT, ESTALE or EIO, may be damage, or the data
 * of a segment that was evicted elsewhere and whose grace is over. Only a look at the contents'
 * name tells, and that may hang: the lane settles the block and leaves a doubt, the follower's
 * thread asks. Contents that are gone: the segment is forgotten, nothing was damaged. Contents that
 * are there: a short read is a bad copy (bad.c). No answer: nothing is decided.
 *
 * A handle that lists no directories, because it does not follow or because they cannot be listed,
 * asks for some of its segments by name now and then, so that it does not hold the files of evicted
 * ones open for ever.
 */
#ifndef ENGINE_GONE_H
#define ENGINE_GONE_H

#include "engine/engine.h"

#define DOUBTS        256u
#define DOUBT_NO_FILE (-ENOTDIR) /* in place of an error: there was no data file to be opened */

/* A read that did not bring what the index said. */
struct doubt {
    cistern_key key;
    uint8_t id[16]; /* of the segment */
    uint32_t segment, offset;
    int error; /* -EBADMSG: it fell short; DOUBT_NO_FILE */
};

struct doubts {
    pthread_mutex_t lock;
    struct doubt at[DOUBTS]; /* guarded by lock, like count */
    _Atomic uint32_t count;  /* a look without the lock is a hint */
};

int doubts_open(cistern *c) MUST_CHECK;
void doubts_close(cistern *c); /* accepts a handle without */
/* Any thread, which holds the segment. A doubt that is there is not raised twice; when there are
 * too many this one is forgotten: the next read raises it again. */
void doubt_raise(cistern *c, const struct index_place *place, int error);

/* ---- The follower's thread, or the opener ---- */

/* Asks storage about what is in doubt. */
void doubts_settle(cistern *c);
/* Asks for the contents of some segments, all in turn; forgets those that are gone. */
void gone_sweep(cistern *c);
/* What a look noticed is forgotten; nothing of it is touched on storage. */
void gone_forget(cistern *c, uint32_t number);
/* That file of a segment is not there. */
bool gone_file(cistern *c, uint32_t shard, uint64_t writer, uint64_t seq, const char *suffix);
/* A segment of ours that is still being written is not gone, whatever a listing says. */
bool gone_not_yet(cistern *c, uint32_t number);

#endif
