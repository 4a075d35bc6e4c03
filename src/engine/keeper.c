/*
 * keeper.c - the threads of a handle that may hang on storage. The keeper makes segments, watches
 * the capacity, evicts, and closes what was forgotten. The syncer syncs and seals: it is a thread
 * of its own, so that a listing that hangs, or takes long, keeps no sync waiting. Lanes and callers
 * hand them jobs and never wait for them, except those whose function says that it blocks.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/carry.h"
#include "engine/engine.h"
#include "engine/evict.h"
#include "engine/gauges.h"

#define CARRY_NS  (2 * NS_PER_MS) /* look again for a slot */
#define SYNC_JOBS (KEEPER_SYNC | KEEPER_SEAL | KEEPER_ALLOCATE)

/* A sync that failed in the background, or at a seal, is the next flush's to tell. */
static void note_sync(struct keeper *k, int rc)
{
    (void)pthread_mutex_lock(&k->lock);
    if (rc && !k->sync_failed)
        k->sync_failed = rc;
    (void)pthread_mutex_unlock(&k->lock);
}

static void run_sync(cistern *c, uint64_t asked)
{
    struct keeper *k = &c->keeper;
    int rc = writer_sync(c);

    note_sync(k, rc);
    (void)pthread_mutex_lock(&k->lock);
    if (asked > k->syncs_done) {
        k->sync_result = k->sync_failed;
        k->sync_failed = 0;
    }
    k->syncs_done = asked;
    (void)pthread_cond_broadcast(&k->changed);
    (void)pthread_mutex_unlock(&k->lock);
}

static void run_jobs(cistern *c, uint32_t jobs)
{
    (void)segments_collect(c);
    if (jobs & KEEPER_CAPACITY)
        capacity_set(c);
    if (jobs & KEEPER_ROOM)
        writer_room_made(c, capacity_relieve(c));
    if (jobs & KEEPER_FENCE)
        fence_renew(c);
    if (jobs & KEEPER_SEGMENT)
        writer_make_segment(c);
}

/* ---- The syncer ---- */

static void *sync_main(void *arg)
{
    cistern *c = arg;
    struct keeper *k = &c->keeper;
    uint64_t every = c->cfg.sync_ms * NS_PER_MS, next = clock_ns() + every, syncs;
    uint32_t jobs = 0;

    (void)pthread_mutex_lock(&k->lock);
    while (!(jobs & KEEPER_STOP)) {
        struct timespec until = clock_timespec(next);

        while (!k->sync_jobs && clock_ns() < next)
            (void)pthread_cond_timedwait(&k->sync_wake, &k->lock, &until);
        jobs = k->sync_jobs;
        k->sync_jobs = 0;
        syncs = k->syncs_asked;
        (void)pthread_mutex_unlock(&k->lock);
        if (clock_ns() >= next) {
            jobs |= KEEPER_SYNC;
            next = clock_ns() + every;
        }
        if (jobs & KEEPER_ALLOCATE)
            writer_allocate(c);
        if (jobs & KEEPER_SEAL)
            note_sync(k, writer_seal_ended(c));
        if (jobs & KEEPER_SYNC)
            run_sync(c, syncs);
        (void)pthread_mutex_lock(&k->lock);
    }
    (void)pthread_mutex_unlock(&k->lock);
    return NULL;
}

/* Waits for it, if need be for ever: on the keeper, or before that runs. */
static void stop_syncer(struct keeper *k)
{
    (void)pthread_mutex_lock(&k->lock);
    k->sync_jobs |= KEEPER_STOP;
    (void)pthread_cond_signal(&k->sync_wake);
    (void)pthread_mutex_unlock(&k->lock);
    if (k->syncing)
        (void)pthread_join(k->syncer, NULL);
}

/* ---- The keeper ---- */

static void *keeper_main(void *arg)
{
    cistern *c = arg;
    struct keeper *k = &c->keeper;
    uint64_t next = 0;

    (void)pthread_mutex_lock(&k->lock);
    for (;;) {
        struct timespec until = clock_timespec(next);
        uint32_t jobs;

        while (!k->jobs && clock_ns() < next)
            (void)pthread_cond_timedwait(&k->wake, &k->lock, &until);
        jobs = k->jobs;
        k->jobs = 0;
        if (jobs & KEEPER_STOP)
            break;
        (void)pthread_mutex_unlock(&k->lock);
        run_jobs(c, jobs);
        gauges_room(c, clock_ns());
        next = min_u64(capacity_tick(c), clock_ns() + c->cfg.sync_ms * NS_PER_MS);
        if (carry_step(c))
            next = min_u64(next, clock_ns() + CARRY_NS);
        (void)pthread_mutex_lock(&k->lock);
    }
    (void)pthread_mutex_unlock(&k->lock);
    stop_syncer(k);
    if (c->writer)
        k->last_result =
            writer_last_rites(c); /* the lanes have stopped: close stops the keeper last */
    (void)pthread_mutex_lock(&k->lock);
    k->ended = true;
    (void)pthread_cond_broadcast(&k->changed);
    (void)pthread_mutex_unlock(&k->lock);
    return NULL;
}

int keeper_start(cistern *c)
{
    struct keeper *k = &c->keeper;
    pthread_condattr_t attr;
    int rc;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&k->lock, NULL);
    (void)pthread_cond_init(&k->wake, &attr);
    (void)pthread_cond_init(&k->changed, &attr);
    (void)pthread_cond_init(&k->sync_wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    rc = c->writer ? -pthread_create(&k->syncer, NULL, sync_main, c) : 0;
    k->syncing = c->writer && !rc;
    if (!rc && (rc = -pthread_create(&k->thread, NULL, keeper_main, c)))
        stop_syncer(k);
    if (rc)
        return err_set(rc, "no thread for the keeper");
    k->started = true;
    return 0;
}

void keeper_ask(cistern *c, uint32_t jobs)
{
    struct keeper *k = &c->keeper;

    (void)pthread_mutex_lock(&k->lock);
    k->jobs |= jobs & ~SYNC_JOBS;
    k->sync_jobs |= jobs & SYNC_JOBS;
    if (jobs & ~SYNC_JOBS)
        (void)pthread_cond_signal(&k->wake);
    if (jobs & SYNC_JOBS)
        (void)pthread_cond_signal(&k->sync_wake);
    (void)pthread_mutex_unlock(&k->lock);
}

/* Waits until *done reaches `target`; called with the lock held. */
static int wait_for(struct keeper *k, const uint64_t *done, uint64_t target, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);

    while (*done < target && !k->ended) {
        if (pthread_cond_timedwait(&k->changed, &k->lock, &until) == ETIMEDOUT && *done < target)
            return -ETIMEDOUT;
    }
    return *done < target ? -ECANCELED : 0;
}

/* `tell`: what failed is still the next flush's to hear of. */
static int sync_wait(struct keeper *k, uint64_t deadline_ns, bool tell)
{
    uint64_t target;
    int rc;

    (void)pthread_mutex_lock(&k->lock);
    target = ++k->syncs_asked;
    k->sync_jobs |= KEEPER_SYNC;
    (void)pthread_cond_signal(&k->sync_wake);
    rc = wait_for(k, &k->syncs_done, target, deadline_ns);
    if (!rc && (rc = k->sync_result) && tell && !k->sync_failed)
        k->sync_failed = rc;
    (void)pthread_mutex_unlock(&k->lock);
    return rc ? err_set(rc, "the sync did not succeed: %s", cistern_error_string(rc)) : 0;
}

int keeper_sync_wait(cistern *c, uint64_t deadline_ns)
{
    return sync_wait(&c->keeper, deadline_ns, false);
}

int keeper_sync_for(cistern *c, uint64_t deadline_ns)
{
    return sync_wait(&c->keeper, deadline_ns, true);
}

int keeper_capacity_wait(cistern *c, uint64_t bytes, uint64_t deadline_ns)
{
    struct keeper *k = &c->keeper;
    uint64_t target;
    int rc;

    (void)pthread_mutex_lock(&k->lock);
    c->capacity->wanted = bytes;
    target = ++c->capacity->sets_asked;
    k->jobs |= KEEPER_CAPACITY;
    (void)pthread_cond_signal(&k->wake);
    rc = wait_for(k, &c->capacity->sets_done, target, deadline_ns);
    if (!rc)
        rc = c->capacity->set_result;
    (void)pthread_mutex_unlock(&k->lock);
    return rc;
}

int keeper_stop(cistern *c, uint64_t deadline_ns)
{
    struct keeper *k = &c->keeper;
    struct timespec until = clock_timespec(deadline_ns);
    int rc = 0;

    if (!k->started)
        return 0;
    (void)pthread_mutex_lock(&k->lock);
    k->jobs |= KEEPER_STOP;
    (void)pthread_cond_signal(&k->wake);
    while (!k->ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&k->changed, &k->lock, &until);
    rc = k->ended ? 0 : -EBUSY;
    (void)pthread_mutex_unlock(&k->lock);
    if (rc) {
        (void)pthread_detach(k->thread);
        return rc;
    }
    (void)pthread_join(k->thread, NULL);
    k->started = false;
    return 0;
}
