/*
 * renew.c - the helper that notices when storage lost what this handle registered. See renew.h.
 */
#include "engine/renew.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/lane_internal.h"
#include "engine/writer_internal.h"

#define STEP_MOST_NS  NS_PER_S
#define STEP_LEAST_NS (20 * NS_PER_MS)
#define SPACING_MOST  10u /* the longest wait is of 2^10 probe intervals */
#define FREE_ASKS     4u  /* that may be without an answer before they become seldom */
#define STALE_NS      NS_PER_S
#define STALE_LOOKS   8u
#define REFUSED_NS    (60 * NS_PER_S)

/* Of closed handles: storage may still write to what they asked with, so it is never let go. */
static struct renew *_Atomic left_behind;

bool renew_sleep(struct renew *r, uint64_t ns)
{
    struct timespec until = clock_timespec(clock_ns() + ns);
    bool go;

    (void)pthread_mutex_lock(&r->lock);
    if (!r->stop && ns)
        (void)pthread_cond_timedwait(&r->wake, &r->lock, &until);
    go = !r->stop;
    (void)pthread_mutex_unlock(&r->lock);
    return go;
}

void renew_wake(cistern *c)
{
    struct renew *r = c->renew;

    if (!r)
        return;
    (void)pthread_mutex_lock(&r->lock);
    (void)pthread_cond_signal(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
}

static bool is_open(const cistern *c)
{
    return breaker_is_open(&c->breaker, BREAKER_READ) ||
           breaker_is_open(&c->breaker, BREAKER_WRITE);
}

static uint64_t interval(const cistern *c)
{
    return max_u64(min_u64(c->breaker.probe_ns, STEP_MOST_NS), STEP_LEAST_NS);
}

/* Storage answers a newcomer. Whether it answers the lanes too is seen by a probe of theirs. */
static bool lanes_are_heard(cistern *c)
{
    uint32_t answers = atomic_load(&c->probe_answers), i;
    uint64_t until = clock_ns() + min_u64(c->cfg.read_timeout_ms * NS_PER_MS,
                                          max_u64(c->breaker.probe_ns, NS_PER_S / 4));

    atomic_store(&c->probe_wanted, 1);
    for (i = 0; i < c->nlanes; i++)
        inbox_ring(&c->lanes[i].in);
    while (clock_ns() < until && is_open(c) && atomic_load(&c->probe_answers) == answers &&
           renew_sleep(c->renew, 2 * NS_PER_MS))
        ;
    atomic_store(&c->probe_wanted, 0);
    return !is_open(c) || atomic_load(&c->probe_answers) != answers;
}

static void refuse(cistern *c, int rc)
{
    struct renew *r = c->renew;
    uint64_t now = clock_ns();

    if (r->refused_ns && now - r->refused_ns < REFUSED_NS)
        return;
    r->refused_ns = now;
    metric_add(&c->metrics, METRIC_renewals_refused, 1);
    if (!r->used)
        log_line(&c->cfg.log, LOG_ERROR,
                 "storage answers, but not through the rings and the staging that it was given, "
                 "and others cannot be made (%s): everything is a miss",
                 cistern_error_string(rc));
    else if (!r->told)
        log_line(&c->cfg.log, LOG_ERROR,
                 "storage lost the rings or the staging of this handle once more: %s until it is "
                 "closed and opened again",
                 c->nlanes ? "everything is a miss" : "it hears of nothing new");
    r->told |= r->used;
}

static void renew_now(cistern *c, const char *why)
{
    struct renew *r = c->renew;
    int rc = r->used ? -EALREADY : renew_all(c);

    if (rc) {
        refuse(c, rc);
        return;
    }
    metric_add(&c->metrics, METRIC_renewals, 1);
    log_line(&c->cfg.log, LOG_WARN, "%s: rings, staging and files were made anew", why);
    r->lost_ns = 0;
    r->died = false;
    engine_try_again(c, BREAKER_READ);
    engine_try_again(c, BREAKER_WRITE);
}

/* Asks when the breaker opens, which tells whether the mount is gone, and with every probe
 * interval; what is not answered makes it wait longer. */
static bool storage_answers(cistern *c, uint64_t now)
{
    struct renew *r = c->renew;
    uint64_t wait;
    bool answers;

    if (now < r->next_ns || atomic_load(&c->closing))
        return false;
    answers = renew_storage_answers(c);
    wait = r->spacing > FREE_ASKS ? min_u64(r->spacing - FREE_ASKS, SPACING_MOST) : 0;
    /* A mount that is gone costs a system call to ask for. */
    r->next_ns = clock_ns() + (r->died ? interval(c) / 2 : c->breaker.probe_ns << wait);
    return answers && !atomic_load(&c->closing);
}

/* While the breaker is open. */
static void ask_storage(cistern *c, uint64_t now)
{
    struct renew *r = c->renew;

    if (is_open(c) && storage_answers(c, now) && is_open(c) && (r->died || !lanes_are_heard(c)))
        renew_now(c, r->died ? "the mount was gone and came back"
                             : "storage answers, but not through the rings that it was given");
}

static bool too_much(const struct pool *p)
{
    struct pool_counts n = {0};

    if (p)
        pool_count(p, &n);
    return n.quarantined && n.quarantined >= (n.slots + RENEW_PART - 1) / RENEW_PART;
}

/* Answers that do not come, though storage answers otherwise. */
static void watch_lost(cistern *c, uint64_t now)
{
    struct renew *r = c->renew;

    if (is_open(c) || !(too_much(c->read_pool) || too_much(c->write_pool))) {
        r->lost_ns = 0;
    } else if (!r->lost_ns) {
        r->lost_ns = now;
    } else if (now - r->lost_ns > RENEW_TIMEOUTS * c->cfg.read_timeout_ms * NS_PER_MS &&
               storage_answers(c, now)) {
        renew_now(c, "too much of the staging waits for answers that do not come");
    }
}

/* Files that could not be opened anew at the exchange are looked for soon after. */
static uint64_t pause_ns(const cistern *c)
{
    bool hurry = atomic_load(&c->epoch) && c->renew->stale_looks < STALE_LOOKS;

    return hurry ? STEP_LEAST_NS : interval(c) / 2;
}

bool renew_follower(cistern *c)
{
    struct renew *r = c->renew;

    renew_reap_scratch(c);
    if (!storage_answers(c, clock_ns()))
        return false;
    if (r->used) {
        refuse(c, -EALREADY);
        return false;
    }
    r->used = true;
    r->died = false;
    (void)atomic_fetch_add(&c->coming, 1); /* follow_renew() */
    metric_add(&c->metrics, METRIC_renewals, 1);
    log_line(&c->cfg.log, LOG_WARN,
             "storage answers, but not the looks at other writers: their rings and files were made "
             "anew");
    return true;
}

static void *renew_main(void *arg)
{
    cistern *c = arg;
    struct renew *r = c->renew;

    while (renew_sleep(r, pause_ns(c))) {
        uint64_t now = clock_ns();

        renew_reap_scratch(c);
        ask_storage(c, now);
        watch_lost(c, now);
        if (!is_open(c) && !r->lost_ns) {
            r->died = false;
            r->next_ns = 0;
        }
        if (atomic_load(&c->epoch) && now >= r->stale_ns) {
            renew_stale_files(c);
            r->stale_ns = clock_ns() + min_u64(STALE_NS, STEP_LEAST_NS << r->stale_looks);
            r->stale_looks += r->stale_looks < STALE_LOOKS;
        }
    }
    (void)pthread_mutex_lock(&r->lock);
    r->ended = true;
    (void)pthread_cond_broadcast(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- Open and close ---- */

int renew_open(cistern *c)
{
    struct renew *r = calloc(1, sizeof *r);
    pthread_condattr_t attr;
    uint32_t i;

    if (!r)
        return err_set(-ENOMEM, "no memory for the helper");
    c->renew = r;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_mutex_init(&r->files, NULL);
    (void)pthread_cond_init(&r->wake, &attr);
    (void)pthread_cond_init(&r->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    for (i = 0; i < SCRATCHES; i++)
        r->scratch[i].file.fd = -1;
    return 0;
}

int renew_start(cistern *c)
{
    int rc = -pthread_create(&c->renew->thread, NULL, renew_main, c);

    if (rc)
        return err_set(rc, "no thread for the helper");
    c->renew->started = true;
    return 0;
}

int renew_stop(cistern *c, uint64_t deadline_ns)
{
    struct renew *r = c->renew;
    struct timespec until = clock_timespec(deadline_ns);
    int rc = 0;

    if (!r || !r->started)
        return 0;
    (void)pthread_mutex_lock(&r->lock);
    r->stop = true;
    (void)pthread_cond_signal(&r->wake);
    while (!r->ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&r->changed, &r->lock, &until);
    rc = r->ended ? 0 : -EBUSY;
    (void)pthread_mutex_unlock(&r->lock);
    if (rc) {
        (void)pthread_detach(r->thread);
        return rc;
    }
    (void)pthread_join(r->thread, NULL);
    r->started = false;
    return 0;
}

int renew_close(cistern *c)
{
    struct renew *r = c->renew;
    bool left = false;
    uint32_t i;

    if (!r)
        return 0;
    renew_reap_scratch(c);
    for (i = 0; i < SCRATCHES; i++) {
        left |= r->scratch[i].out;
        renew_drop_scratch(c, &r->scratch[i]);
    }
    c->renew = NULL;
    if (!left) {
        free(r);
        return 0;
    }
    r->left = atomic_load(&left_behind);
    while (!atomic_compare_exchange_weak(&left_behind, &r->left, r))
        ;
    return -EBUSY;
}
