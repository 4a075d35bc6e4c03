/*
 * open.c - a handle from its options to its threads, and back.
 *
 * Everything that touches storage runs on a thread of its own, for the mount may be dead: the
 * caller waits for it with a deadline and goes away when that has passed; the thread then tidies up
 * alone. Opening and closing are that same shape (struct errand).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/admission.h"
#include "engine/capacity.h"
#include "engine/engine.h"
#include "engine/files.h"
#include "engine/follow.h"
#include "engine/gauges.h"
#include "engine/renew.h"
#include "engine/report.h"
#include "engine/retire.h"
#include "engine/ttl.h"
#include "engine/sealed.h"
#include "engine/space_copy.h"
#include "segment/root.h"

#define SEGMENTS_LEAST 8u /* of a root with a capacity */

/* Work on a helper thread that a caller waits for, but not for ever. Freed by whoever leaves last.
 */
struct errand {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned; /* guarded by lock */
    int result;
    char text[512];
    cistern *c;
    struct space_copy space;
};

static struct errand *errand_new(cistern *c)
{
    struct errand *e = calloc(1, sizeof *e);
    pthread_condattr_t attr;

    if (!e)
        return NULL;
    e->c = c;
    (void)pthread_mutex_init(&e->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&e->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    return e;
}

static void errand_free(struct errand *e)
{
    (void)pthread_mutex_destroy(&e->lock);
    (void)pthread_cond_destroy(&e->changed);
    space_copy_free(&e->space);
    free(e);
}

/* Returns whether the caller is still there to take the result. */
static bool errand_report(struct errand *e, int result)
{
    bool there;

    (void)pthread_mutex_lock(&e->lock);
    e->result = result;
    err_copy_text(e->text, sizeof e->text);
    e->done = true;
    there = !e->abandoned;
    (void)pthread_cond_signal(&e->changed);
    (void)pthread_mutex_unlock(&e->lock);
    return there;
}

/* Runs main(e) on a thread and waits. -ETIMEDOUT: the thread has it now, and frees it. */
static int errand_run(struct errand *e, void *(*main)(void *), uint64_t timeout_ms)
{
    struct timespec until = clock_timespec(clock_ns() + timeout_ms * NS_PER_MS);
    pthread_t thread;
    int rc = 0;

    if ((rc = -pthread_create(&thread, NULL, main, e)))
        return rc;
    (void)pthread_mutex_lock(&e->lock);
    while (!e->done && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&e->changed, &e->lock, &until);
    rc = e->done ? 0 : -ETIMEDOUT;
    e->abandoned = rc != 0;
    (void)pthread_mutex_unlock(&e->lock);
    /* A thread that reported is on its last lines: when the call is over, so is the thread. */
    if (rc)
        (void)pthread_detach(thread);
    else
        (void)pthread_join(thread, NULL);
    return rc;
}

/* ---- The log ---- */

/* The callback and its argument are the caller's again when an open has failed and when a close has
 * returned, whatever a thread that hung until then may have to say later. Freed by whoever leaves
 * last: the handle, or the caller that waits for it. */
struct voice {
    pthread_rwlock_t lock;
    struct logger to; /* guarded by lock, which is held during a call */
    _Atomic uint32_t refs;
};

static void voice_say(void *arg, int level, const char *line)
{
    struct voice *v = arg;

    (void)pthread_rwlock_rdlock(&v->lock);
    if (v->to.fn)
        v->to.fn(v->to.arg, level, line);
    (void)pthread_rwlock_unlock(&v->lock);
}

/* Stands in for the callback of the handle. */
static int voice_open(cistern *c)
{
    if (!c->cfg.log.fn)
        return 0;
    if (!(c->voice = calloc(1, sizeof *c->voice)))
        return -ENOMEM;
    (void)pthread_rwlock_init(&c->voice->lock, NULL);
    c->voice->to = c->cfg.log;
    atomic_store(&c->voice->refs, 1);
    c->cfg.log = (struct logger){.fn = voice_say, .arg = c->voice};
    return 0;
}

static struct voice *voice_hold(struct voice *v)
{
    if (v)
        (void)atomic_fetch_add(&v->refs, 1);
    return v;
}

static void voice_drop(struct voice *v)
{
    if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
        return;
    (void)pthread_rwlock_destroy(&v->lock);
    free(v);
}

/* Waits for a call that is under way. */
static void voice_end(struct voice *v)
{
    if (!v)
        return;
    (void)pthread_rwlock_wrlock(&v->lock);
    v->to.fn = NULL;
    (void)pthread_rwlock_unlock(&v->lock);
}

static void handle_free(cistern *c)
{
    if (c) {
        voice_drop(c->voice);
        free(c->space_json);
    }
    free(c);
}

/* ---- Opening ---- */

static void join_path(char *out, size_t size, const char *a, const char *b)
{
    (void)snprintf(out, size, "%s%s%s", a, *a ? "/" : "", b);
}

/* For when the space is wiped while the handle is open. */
static int keep_json(cistern *c, const struct cistern_space *s)
{
    int len;

    if (!(c->space_json = calloc(1, SPACE_JSON_MAX + 1)))
        return err_set(-ENOMEM, "no memory for the description of the space");
    len = space_json(s, c->space_json, SPACE_JSON_MAX);
    return len < 0 ? len : 0;
}

static int prepare_space(cistern *c, const struct cistern_space *s, bool may_write)
{
    char dir[SPACE_DIR_MAX + 32];
    bool healed = false;
    int rc = space_fingerprint(s, c->fingerprint);

    if (rc)
        return rc;
    space_dir_name(s, c->fingerprint, dir);
    if (c->cfg.space_dir[0])
        (void)snprintf(dir, sizeof dir, "%s", c->cfg.space_dir);
    rc = space_prepare(c->io, c->cfg.root, dir, s, c->fingerprint, may_write, &healed);
    if (rc)
        return rc;
    if (healed) {
        metric_add(&c->metrics, METRIC_space_healed, 1);
        log_line(&c->cfg.log, LOG_WARN, "the space.json of %s was not usable and was written anew",
                 dir);
    }
    if (may_write && (rc = keep_json(c, s)))
        return rc;
    join_path(c->space_path, sizeof c->space_path, c->cfg.root, dir);
    (void)snprintf(c->shard_path, sizeof c->shard_path, "%s/s%uof%u", c->space_path, c->cfg.shard,
                   c->cfg.shards);
    (void)snprintf(c->registry_name, sizeof c->registry_name, "%s/%s", c->io->mount, c->shard_path);
    return 0;
}

/* Without it followers on this host are as slow as those elsewhere. Storage that is not a
 * provider's is not shared with other processes of this host. */
static void hang_bell(cistern *c)
{
    bool shared =
        !(c->cfg.flags & CISTERN_OPEN_NO_BELL) &&
        (strcmp(c->io->ops->name, "local") == 0 || strcmp(c->io->ops->name, "hf3fs") == 0);
    int rc = bell_open(&c->bell, shared, c->salt, c->fingerprint);

    if (rc)
        log_line(&c->cfg.log, LOG_INFO, "no bell in /dev/shm (%s): others are polled",
                 cistern_error_string(rc));
}

/* A root that is small beside the segments gets smaller ones: some must be there to be evicted. */
static void fit_segments(cistern *c, uint64_t capacity)
{
    uint64_t fits = round_down(capacity / SEGMENTS_LEAST, c->cfg.io_bytes),
             least = round_up(max_u64(c->cfg.block_extent, 1), c->cfg.io_bytes);

    if (!capacity || c->cfg.segment_bytes <= fits)
        return;
    c->cfg.segment_bytes = min_u64(c->cfg.segment_bytes, max_u64(fits, least));
    log_line(&c->cfg.log, LOG_INFO, "segments of %llu bytes fit the capacity of %llu",
             (unsigned long long)c->cfg.segment_bytes, (unsigned long long)capacity);
}

/* All who share a root have to tell the dead from the living by one time: a writer gives itself up
 * after half of its own. A root of a version before says none, and each goes by its option. */
static void take_silence(cistern *c, uint32_t root_ms)
{
    if (!root_ms || root_ms == c->cfg.silence_ms)
        return;
    if (c->cfg.silence_asked)
        log_line(&c->cfg.log, LOG_WARN,
                 "silence_ms is %u in cistern.json, as all who share the root must have it: it is "
                 "used instead of %u",
                 root_ms, c->cfg.silence_ms);
    c->cfg.silence_ms = root_ms;
}

static int prepare_files(cistern *c, const struct cistern_space *s)
{
    bool may_write = !(c->cfg.flags & (CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY));
    struct root_params params = {.capacity_bytes = c->cfg.capacity_bytes,
                                 .segment_bytes = c->cfg.segment_bytes,
                                 .silence_ms = c->cfg.silence_ms,
                                 .may_write = may_write,
                                 .crypt = c->crypt};
    struct root_info root;
    int rc = root_prepare(c->io, c->cfg.root, &params, &root);

    if (rc)
        return rc;
    fault_point("open.root_made");
    memcpy(c->salt, root.salt, sizeof c->salt);
    take_silence(c, root.silence_ms);
    if ((rc = prepare_space(c, s, may_write)))
        return rc;
    retire_look(c);
    ttl_look(c);
    fault_point("open.space_made");
    if (may_write && (rc = capacity_open(c, root.capacity_bytes)))
        return rc;
    budget_open(c);
    if ((rc = admission_open(c, root.capacity_bytes)))
        return rc;
    fit_segments(c, root.capacity_bytes);
    rc = may_write ? c->io->ops->make_dir(c->io, c->shard_path) : 0;
    if (rc && rc != -ENOSPC && rc != -EDQUOT && rc != -EROFS)
        return err_set(rc, "%s/%s cannot be made: %s", c->io->mount, c->shard_path,
                       cistern_error_string(rc));
    fault_point("open.shard_made");
    hang_bell(c);
    return registry_add(c);
}

static int prepare_memory(cistern *c)
{
    struct presence *others;
    int rc;

    if ((rc = guard_open(c)) || (rc = segtab_open(&c->segs)) || (rc = files_open(c)) ||
        (rc = index_open(c->cfg.max_blocks, &c->index)))
        return rc;
    if (c->cfg.shards > 1) {
        rc = presence_open(c->cfg.max_blocks, c->cfg.shards, &others);
        if (rc)
            return rc;
        atomic_store(&c->others, others);
    }
    return optab_open(&c->ops, c->cfg.max_ops, c->cfg.nparts);
}

static int prepare_staging(cistern *c)
{
    int rc;

    if ((rc = renew_open(c)) || c->cfg.flags & CISTERN_OPEN_MATCH_ONLY)
        return rc;
    rc = pool_open(c->io, "threefs_read_iov_size", c->cfg.read_iov_bytes, c->cfg.slot_bytes, 2,
                   &c->read_pool);
    if (rc || (rc = lanes_open(c)) || c->cfg.flags & CISTERN_OPEN_READ_ONLY)
        return rc;
    rc = pool_open(c->io, "threefs_write_iov_size", c->cfg.write_iov_bytes, c->cfg.slot_bytes, 4,
                   &c->write_pool);
    return rc ? rc : writer_open(c);
}

static int open_steps(cistern *c, const struct cistern_space *s)
{
    struct io_options io = {.mount = c->cfg.mount,
                            .provider = c->cfg.provider,
                            .log = c->cfg.log,
                            .provider_path = c->cfg.provider_path[0] ? c->cfg.provider_path : NULL};
    int rc;

    if ((rc = prepare_memory(c)) || (rc = io_open(&io, &c->io)) || (rc = sealed_open(c)) ||
        (rc = prepare_files(c, s)) || (rc = prepare_staging(c)) || (rc = follower_open(c)) ||
        (rc = look_run(c, LOOK_LIST | LOOK_HEADS, 0)))
        return rc;
    fault_point("open.contents_read");
    if (!(c->cfg.flags & CISTERN_OPEN_MATCH_ONLY) && (rc = lanes_warm(c)))
        return rc;
    if ((c->nlanes && (rc = files_start(c))) || (rc = lanes_start(c)) ||
        (c->writer && (rc = writer_start(c))) || (rc = keeper_start(c)) ||
        (rc = follower_start(c)) || (c->nlanes && (rc = renew_start(c))))
        return rc;
    report_start(c, s);
    fault_point("open.ready");
    log_line(&c->cfg.log, LOG_INFO, "open: %s/%s, provider %s, %llu blocks", c->io->mount,
             c->shard_path, c->io->ops->name, (unsigned long long)index_blocks(c->index));
    return 0;
}

static void unpin_staging(cistern *c)
{
    const struct mem_ops *mem[2] = {c->pinned_before, atomic_load(&c->pinned)};
    struct pool *pools[2] = {c->read_pool, c->write_pool};
    uint32_t i, g;

    if (!c->pinned_before && !atomic_load(&c->epoch))
        mem[0] = mem[1];
    for (i = 0; i < 2; i++) {
        for (g = 0; g < 2 && pools[i]; g++) {
            const struct io_mem *m = pool_generation(pools[i], g);

            if (m && mem[g])
                mem[g]->unpin(m->base);
        }
    }
}

/* Everything but the struct itself. -EBUSY: storage or a hanging thread still owns something, which
 * is left to the process. */
static int tear_down(cistern *c)
{
    uint64_t deadline = clock_ns() + c->cfg.close_timeout_ms * NS_PER_MS;
    int rc = 0, busy = 0, hung;

    atomic_store(&c->close_deadline_ns, deadline);
    atomic_store(&c->closing, 1);
    report_stop(c);
    rc = lanes_stop(c);
    busy = writer_stop(c);
    rc = rc ? rc : busy;
    hung = renew_stop(c, deadline + c->cfg.close_timeout_ms * NS_PER_MS);
    hung |= files_stop(c, deadline + c->cfg.close_timeout_ms * NS_PER_MS);
    hung |= follower_stop(c, deadline + c->cfg.close_timeout_ms * NS_PER_MS);
    registry_remove(c); /* nothing is published any more: another handle may write the shard */
    if (keeper_stop(c, deadline + c->cfg.close_timeout_ms * NS_PER_MS) || hung)
        return -EBUSY;
    if ((busy = follower_close(c)))
        rc = rc ? rc : busy;
    bell_close(&c->bell);
    capacity_close(c);
    admission_close(c);
    if ((busy = renew_close(c)))
        rc = rc ? rc : busy;
    unpin_staging(c);
    lanes_close(c);
    writer_close(c);
    if (c->read_pool && (busy = pool_close(c->read_pool)))
        rc = rc ? rc : busy;
    if (c->write_pool && (busy = pool_close(c->write_pool)))
        rc = rc ? rc : busy;
    segtab_close(&c->segs, c->io);
    files_close(c);
    optab_close(&c->ops);
    sealed_close(c);
    if (!rc)
        io_close(c->io);
    index_close(c->index);
    presence_close(c->others);
    guard_close(c);
    return rc;
}

static void *open_main(void *arg)
{
    struct errand *e = arg;
    cistern *c = e->c;
    int rc = open_steps(c, &e->space.space);

    if (rc) {
        char text[512];

        err_copy_text(text, sizeof text);
        if (tear_down(c) == 0)
            handle_free(c);
        rc = err_set(rc, "%s", text);
    }
    if (!errand_report(e, rc)) {
        if (!rc && tear_down(c) == 0)
            handle_free(c);
        errand_free(e);
    }
    return NULL;
}

int cistern_open(const struct cistern_options *o, cistern **out)
{
    struct config cfg;
    struct voice *voice;
    struct errand *e;
    cistern *c;
    int rc;

    if (!out)
        return err_set(-EINVAL, "out is NULL");
    if ((rc = config_make(o, 1, &cfg)))
        return rc;
    config_log_cluster(&cfg);
    c = calloc(1, sizeof *c);
    if (c)
        c->cfg = cfg;
    e = c && voice_open(c) == 0 ? errand_new(c) : NULL;
    if (!e) {
        handle_free(c);
        return err_set(-ENOMEM, "no memory for a handle");
    }
    breaker_init(&c->breaker, cfg.breaker_failures, cfg.breaker_probe_ms);
    c->ops.event_fd = -1;
    (void)pthread_mutex_init(&c->pin_lock, NULL);
    gauges_open(c);
    if ((rc = space_copy_make(o->space, &e->space))) {
        errand_free(e);
        handle_free(c);
        return rc;
    }
    voice = voice_hold(c->voice);
    rc = errand_run(e, open_main, cfg.open_timeout_ms);
    if (rc || e->result)
        voice_end(voice);
    voice_drop(voice);
    if (rc == -ETIMEDOUT)
        return err_set(rc, "%s does not answer: not open after %u ms", cfg.mount,
                       cfg.open_timeout_ms);
    if (!rc) {
        rc = e->result;
        if (rc)
            (void)err_set(rc, "%s", e->text);
    } else {
        handle_free(c);
        (void)err_set(rc, "no thread for the open");
    }
    errand_free(e);
    if (!rc)
        *out = c;
    return rc;
}

/* ---- Closing ---- */

static void *close_main(void *arg)
{
    struct errand *e = arg;
    int rc = tear_down(e->c), lost = e->c->keeper.last_result;

    if (!rc) {
        handle_free(e->c);
        rc = lost;
    }
    if (!errand_report(e, rc))
        errand_free(e);
    return NULL;
}

int cistern_close(cistern *c)
{
    struct voice *voice;
    struct errand *e;
    int rc;

    if (!c)
        return 0;
    if ((rc = guard_check(c)))
        return rc;
    e = errand_new(c);
    if (!e)
        return err_set(-ENOMEM, "no memory to close the handle: try again");
    voice = voice_hold(c->voice);
    rc = errand_run(e, close_main, 2ull * c->cfg.close_timeout_ms + 1000);
    if (!rc || rc == -ETIMEDOUT) /* else there was no thread for it: nothing is closed */
        voice_end(voice);
    voice_drop(voice);
    if (rc == -ETIMEDOUT)
        return err_set(rc, "storage does not answer: what it owns is left behind");
    if (rc) {
        errand_free(e);
        return err_set(rc, "no thread to close the handle: nothing is closed, try again");
    }
    rc = e->result;
    errand_free(e);
    return rc ? err_set(rc,
                        "storage or a thread still owned a part of the handle: it is left behind")
              : 0;
}
