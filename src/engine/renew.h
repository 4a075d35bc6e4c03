/*
 * renew.h - a second set of rings, staging and files, when storage lost the first one.
 *
 * Two reasons. Storage answers, but not through the rings that the lanes have: its daemon died and
 * came back, and knows nothing of before. Or storage answers, and a part of the staging or of a
 * ring (1 / RENEW_PART) has waited for RENEW_TIMEOUTS read timeouts for answers that do not come.
 *
 * Then everything is made anew on this helper's thread, tried with a read, and the lanes switch
 * over: each ends what it has, stands still for the moment in which files and memory are exchanged,
 * and goes on. What was in flight stays with the rings of before, which are looked at now and then;
 * its memory is not used, not unmapped and not given out again before storage has answered. That is
 * done once in the life of a handle: so there is at most twice the staging. When it is used up, the
 * handle says so and answers at once with misses.
 *
 * Whether storage answers is found out by a read of a page through a ring, memory and a descriptor
 * of its own, when the breaker opens and with every probe interval; what is not answered is kept,
 * and the next one waits longer, so that there are SCRATCHES of a page each at most.
 *
 * A handle that only matches has no lanes, no staging and no helper: its follower asks, when its
 * looks are not answered, and makes its own rings and files anew, once as well.
 *
 * Threads: all of it belongs to the helper, but for `phase`, `kits`, and `files`, which the helper
 * holds while files and memory are exchanged, and the keeper while it carries. No lane ever takes
 * it.
 */
#ifndef ENGINE_RENEW_H
#define ENGINE_RENEW_H

#include <pthread.h>

#include "engine/engine.h"

#define RENEW_PART     4u  /* of a pool or a ring: one part in so many */
#define RENEW_TIMEOUTS 10u /* read timeouts that it may be lost for */
#define SCRATCHES      16u

struct lane;
struct writer;

/* One read that asks whether storage answers. */
struct scratch {
    struct io_mem mem;
    struct io_ring ring;
    struct io_file file;
    bool out; /* not answered */
};

struct renew {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake, changed; /* monotonic clock */
    bool stop, ended;             /* guarded by lock */
    _Atomic uint32_t phase;       /* odd: lanes are to stand still until it grows */
    bool kits;                    /* with this exchange lanes take their second kit */
    pthread_mutex_t files;
    struct scratch scratch[SCRATCHES];
    uint32_t tries, spacing; /* reads that asked; how many in a row were not answered */
    uint64_t next_ns;        /* when to ask again */
    uint64_t lost_ns;        /* since when too much is lost; 0 = it is not */
    uint64_t stale_ns;       /* when to look for files of before again */
    uint32_t stale_looks;    /* soon after the exchange, then less often */
    uint64_t refused_ns;     /* when it was last called for in vain */
    bool died;               /* the mount was gone meanwhile */
    bool used, told;
    struct renew *left; /* one of a handle that was closed before */
};

int renew_open(cistern *c) MUST_CHECK; /* before the lanes */
int renew_start(cistern *c) MUST_CHECK;
/* -EBUSY: it hangs on storage. Accepts a handle without. */
int renew_stop(cistern *c, uint64_t deadline_ns) MUST_CHECK;
int renew_close(cistern *c) MUST_CHECK; /* -EBUSY: storage owns a part of it */

/* The breaker opened. Any thread. Accepts a handle without. */
void renew_wake(cistern *c);
/* The follower of a handle that only matches: a look was not answered. True: the next one is made
 * with everything anew. Blocks on storage. */
bool renew_follower(cistern *c);
/* Each turn of a lane. */
void renew_turn(struct lane *l);
void renew_writer_turn(struct writer *w);

/* renew_ask.c */

/* Whether a read through a new ring, of new memory and a new descriptor is answered; waits for it.
 */
bool renew_storage_answers(cistern *c) MUST_CHECK;
/* Everything of it that is not storage's; memory that is stays where it was. */
void renew_drop_scratch(cistern *c, struct scratch *s);
/* Takes late answers of such reads. */
void renew_reap_scratch(cistern *c);
/* Sleeps; false: the helper is to end. */
bool renew_sleep(struct renew *r, uint64_t ns);

/* renew_make.c */

/* Makes everything anew and switches over. */
int renew_all(cistern *c) MUST_CHECK;
/* Opens files of before that could not be opened anew until now. */
void renew_stale_files(cistern *c);

#endif
