/*
 * watch.c - the follower's thread: it looks at once when a bell of this host rings, at the heads of
 * live writers every poll_ms, at directories every list_ms, and at everything when somebody asks.
 *
 * It is a thread of its own, so that seals and syncs do not wait for a look that hangs. After each
 * look it rests for a few milliseconds, so that a writer that publishes thousands of times a second
 * costs its followers a bounded number of looks. A look that fails is told in the log once; that
 * one and one that did not find all that the heads promise are repeated soon, less and less often,
 * whether a bell rings again or not. A handle that does not follow only asks, every list_ms,
 * whether some of its segments are gone (gone.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/futex.h"
#include "engine/follow.h"
#include "engine/gone.h"
#include "engine/renew.h"

#define REST_NS      (5 * NS_PER_MS)
#define LIST_REST_NS (100 * NS_PER_MS) /* between listings that bells ask for */
#define AGAIN_NS     (20 * NS_PER_MS)  /* until a look is repeated; twice as long each time */

struct watch {
    struct bell_heard heard;   /* what was acted on */
    uint64_t poll_ns, list_ns; /* when the next ones are due */
    uint64_t listed_ns;        /* when the last listing ended; 0 = none yet */
    uint64_t done;             /* refreshes that were answered */
    uint32_t again;            /* looks in a row that have to be repeated */
    bool failing;
};

static void report(cistern *c, uint64_t asked, int rc)
{
    struct follower *f = c->follower;

    metric_add(&c->metrics, METRIC_refreshes, 1);
    (void)pthread_mutex_lock(&f->lock);
    f->done = asked;
    f->result = rc;
    err_copy_text(f->text, sizeof f->text);
    (void)pthread_cond_broadcast(&f->changed);
    (void)pthread_mutex_unlock(&f->lock);
}

static void note_result(cistern *c, struct watch *w, int rc)
{
    if (rc && !w->failing && rc != -ECANCELED)
        log_line(&c->cfg.log, LOG_WARN, "other writers cannot be followed now: %s", err_text());
    w->failing = rc != 0;
}

/* What rang since: the look that it asks for, and at which shards. A listing becomes due. */
static unsigned rung(struct watch *w, const struct bell_heard *now, uint32_t *shards)
{
    const struct bell_heard *before = &w->heard;
    unsigned what = 0;
    uint32_t i, s;

    if (now->names != before->names)
        w->list_ns = min_u64(w->list_ns, w->listed_ns + LIST_REST_NS);

    for (i = 0; i < BELL_SHARDS; i++) {
        if (now->shard[i] == before->shard[i])
            continue;
        what |= LOOK_HEADS;
        /* A word stands for every BELL_SHARDS-th shard; bit s % 32 for every 32nd. */
        for (s = i; s < CISTERN_MAX_SHARDS; s += BELL_SHARDS)
            *shards |= 1u << s % 32;
    }
    return what;
}

/* A look left something: the next one does not wait for its time. */
static void look_again(cistern *c, struct watch *w, unsigned what, int rc, uint64_t now)
{
    uint64_t soon = now + (AGAIN_NS << min_u64(w->again, 12));

    w->again = rc || look_unfinished(c->follower) ? w->again + 1 : 0;
    if (!w->again)
        return;
    w->poll_ns = min_u64(w->poll_ns, soon);
    if (rc && what & LOOK_LIST)
        w->list_ns = min_u64(w->list_ns, soon);
}

static void turn(cistern *c, struct watch *w, const struct bell_heard *heard)
{
    struct follower *f = c->follower;
    bool follows = !(c->cfg.flags & CISTERN_OPEN_NO_FOLLOW);
    uint32_t shards = 0;
    uint64_t asked, now = clock_ns();
    unsigned what = follows ? rung(w, heard, &shards) : 0;
    int rc;

    doubts_settle(c);
    (void)pthread_mutex_lock(&f->lock);
    asked = f->asked;
    (void)pthread_mutex_unlock(&f->lock);
    if (asked != w->done)
        what |= LOOK_LIST | LOOK_HEADS | LOOK_ALL;
    if (follows && now >= w->poll_ns) {
        what |= LOOK_HEADS;
        shards = UINT32_MAX;
    }
    if (follows && now >= w->list_ns)
        what |= LOOK_LIST;
    if (!follows && now >= w->list_ns) {
        gone_sweep(c);
        w->list_ns = clock_ns() + c->cfg.list_ms * NS_PER_MS;
    }
    w->heard = *heard;
    if (!what)
        return;
    rc = follow_renew(c);
    rc = rc ? rc : look_run(c, what, shards);
    note_result(c, w, rc);
    if (rc == -ETIMEDOUT && c->cfg.flags & CISTERN_OPEN_MATCH_ONLY && renew_follower(c))
        w->again = 0;
    if (asked != w->done)
        report(c, asked, rc);
    w->done = asked;
    now = clock_ns();
    if (what & (LOOK_ALL | LOOK_LIST) || shards == UINT32_MAX)
        w->poll_ns = now + c->cfg.poll_ms * NS_PER_MS;
    if (what & LOOK_LIST) {
        w->listed_ns = now;
        w->list_ns = now + c->cfg.list_ms * NS_PER_MS;
    }
    look_again(c, w, what, rc, now);
}

static void *watch_main(void *arg)
{
    cistern *c = arg;
    struct follower *f = c->follower;
    struct watch w = {.heard = f->heard};

    w.poll_ns = clock_ns() + c->cfg.poll_ms * NS_PER_MS;
    w.list_ns = clock_ns() + c->cfg.list_ms * NS_PER_MS;
    while (!atomic_load(&f->stop)) {
        uint32_t urgent = atomic_load(&f->urgent);
        struct bell_heard heard = bell_hear(&c->bell);
        uint64_t now, next;

        turn(c, &w, &heard);
        futex_wait(&f->urgent, urgent, REST_NS);
        now = clock_ns();
        next = c->cfg.flags & CISTERN_OPEN_NO_FOLLOW ? w.list_ns : min_u64(w.poll_ns, w.list_ns);
        if (now < next && atomic_load(&f->urgent) == urgent)
            bell_wait(&c->bell, &heard, next - now);
    }
    (void)pthread_mutex_lock(&f->lock);
    f->ended = true;
    (void)pthread_cond_broadcast(&f->changed);
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

int follower_start(cistern *c)
{
    struct follower *f = c->follower;
    int rc = -pthread_create(&f->thread, NULL, watch_main, c);

    if (rc)
        return err_set(rc, "no thread for the follower");
    f->started = true;
    return 0;
}

/* The thread is at work, at rest, or waits for the bell. */
void follower_wake(cistern *c)
{
    struct follower *f = c->follower;

    (void)atomic_fetch_add(&f->urgent, 1);
    futex_wake(&f->urgent, 1);
    bell_poke(&c->bell);
}

int follower_refresh_wait(cistern *c, uint64_t deadline_ns)
{
    struct follower *f = c->follower;
    struct timespec until = clock_timespec(deadline_ns);
    uint64_t target;
    int rc = 0;

    (void)pthread_mutex_lock(&f->lock);
    target = ++f->asked;
    (void)pthread_mutex_unlock(&f->lock);
    follower_wake(c);
    (void)pthread_mutex_lock(&f->lock);
    while (f->done < target && !f->ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    if (f->done < target)
        rc = err_set(f->ended ? -ECANCELED : -ETIMEDOUT, "the refresh did not finish in time");
    else
        rc = f->result ? err_set(f->result, "%s", f->text) : 0;
    (void)pthread_mutex_unlock(&f->lock);
    return rc;
}

int follower_stop(cistern *c, uint64_t deadline_ns)
{
    struct follower *f = c->follower;
    struct timespec until = clock_timespec(deadline_ns);
    int rc = 0;

    if (!f || !f->started)
        return 0;
    atomic_store(&f->stop, true);
    atomic_store(&f->reader.cancel, true);
    follower_wake(c);
    (void)pthread_mutex_lock(&f->lock);
    while (!f->ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    rc = f->ended ? 0 : -EBUSY;
    (void)pthread_mutex_unlock(&f->lock);
    if (rc) {
        (void)pthread_detach(f->thread);
        return rc;
    }
    (void)pthread_join(f->thread, NULL);
    f->started = false;
    return 0;
}
