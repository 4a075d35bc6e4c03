/*
 * capacity.c - see capacity.h.
 *
 * The bound: a segment is made only when everything that is there, growing segments as what they
 * may become, and the new one fit. So what can come on top is what others make between a look and
 * the next: at most one segment of each live writer. Room is made ahead of its use, because it
 * comes back only after the grace: as much as was written lately in that time.
 *
 * A failed look decides nothing: no eviction, and no new segment where a bound is set.
 */
#include "engine/capacity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/carry.h"
#include "engine/evict.h"
#include "engine/notes.h"
#include "engine/retire.h"
#include "engine/writer_internal.h"
#include "segment/root.h"

#define LOOK_NS        (500 * NS_PER_MS)
#define LOOK_MOST_NS   (30 * NS_PER_S)
#define LOOK_SHARE     20u /* of the time may be spent looking: one part in so many */
#define TICK_NS        (5 * NS_PER_MS)
#define RATE_NS        NS_PER_S
#define AHEAD_SEGMENTS 2u
#define AHEAD_PART     4u /* of the capacity is kept free ahead at most: one part in so many */
#define CAPACITY_LEAST 2u /* segments: one grows, one can be read */
#define URGENT_NS      (100 * NS_PER_MS)
#define PRESSED_NS     NS_PER_S
#define RETRY_NS       (50 * NS_PER_MS)

int capacity_open(cistern *c, uint64_t bytes)
{
    struct capacity *k = calloc(1, sizeof *k);

    if (!k)
        return err_set(-ENOMEM, "no memory to watch the capacity");
    c->capacity = k;
    atomic_store(&k->bytes, bytes);
    k->floor_bytes = c->cfg.free_floor_bytes;
    k->grace_ns = c->cfg.evict_grace_ms * NS_PER_MS;
    k->silence_ns = c->cfg.silence_ms * NS_PER_MS;
    k->free_bytes = UINT64_MAX;
    heat_open(&k->heat);
    metric_set(&c->metrics, METRIC_capacity_bytes, bytes);
    return 0;
}

void capacity_close(cistern *c)
{
    struct capacity *k = c->capacity;

    if (!k)
        return;
    carry_close(c);
    usage_free(&k->usage);
    pins_free(&k->pins);
    heat_close(&k->heat);
    free(k->choice);
    free(k);
    c->capacity = NULL;
}

static bool is_bounded(const struct capacity *k)
{
    return atomic_load(&k->bytes) || k->floor_bytes;
}

/* ---- Looking ---- */

/* Another process may have changed it. */
static void reread(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t bytes;

    if (root_capacity(c->io, c->cfg.root, &bytes) || bytes == atomic_load(&k->bytes))
        return;
    log_line(&c->cfg.log, LOG_INFO, "the capacity of the root is now %llu bytes",
             (unsigned long long)bytes);
    atomic_store(&k->bytes, bytes);
    metric_set(&c->metrics, METRIC_capacity_bytes, bytes);
}

static void note_rate(struct capacity *k, uint64_t now)
{
    uint64_t past = now - k->rate_ns, written = atomic_load(&k->heat.written),
             grown = written - k->rate_written, rate;

    if (past < RATE_NS)
        return;
    rate = k->rate_ns ? (uint64_t)((double)grown * (double)NS_PER_S / (double)past) : 0;
    k->rate = max_u64(rate, k->rate / 2); /* up at once, down slowly */
    k->rate_ns = now;
    k->rate_written = written;
}

static void note_history(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t hit = metric_get(&c->metrics, METRIC_get_bytes),
             stored = metric_get(&c->metrics, METRIC_put_bytes),
             carried = metric_get(&c->metrics, METRIC_carried_bytes),
             returned = metric_get(&c->metrics, METRIC_put_returned_bytes);
    struct policy_history more = {.hit = hit - k->hit_seen,
                                  .stored = stored - k->stored_seen,
                                  .carried = carried - k->carried_seen,
                                  .ghost = returned - k->returned_seen};

    k->hit_seen = hit;
    k->stored_seen = stored;
    k->carried_seen = carried;
    k->returned_seen = returned;
    policy_defaults(&k->params, atomic_load(&k->bytes) ? atomic_load(&k->bytes) : k->usage.bytes);
    if (k->params.capacity)
        policy_history_add(&k->history, &more, &k->params);
    heat_look(c, k->params.capacity, atomic_load(&k->bytes) != 0);
}

static int look(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t began = clock_ns(), now;
    struct io_space space;
    int rc = usage_scan(&k->usage, c);

    rc = rc ? rc : pins_look(c);
    if (!rc && !k->dated)
        rc = victims_date(c);
    now = clock_ns();
    k->next_ns = now + min_u64(LOOK_MOST_NS, max_u64(LOOK_NS, (now - began) * LOOK_SHARE));
    if (rc) {
        if (!k->look_failed)
            log_line(&c->cfg.log, LOG_WARN, "the usage of the root cannot be read: %s",
                     cistern_error_string(rc));
        k->look_failed = true;
        return rc;
    }
    k->look_failed = false;
    k->free_bytes = UINT64_MAX;
    if (k->floor_bytes && c->io->ops->space(c->io, &space) == 0)
        k->free_bytes = space.free_bytes;
    note_rate(k, now);
    note_history(c);
    metric_set(&c->metrics, METRIC_usage_bytes, k->usage.bytes);
    metric_set(&c->metrics, METRIC_usage_files, k->usage.files);
    metric_set(&c->metrics, METRIC_usage_blind, k->usage.blind);
    metric_set(&c->metrics, METRIC_usage_stuck_bytes, k->usage.stuck);
    return 0;
}

/* ---- Choosing ---- */

/* What of the victim lives on; segments of other shards and spaces are not ours to read. */
static void choose_carried(cistern *c, size_t v)
{
    const struct usage_segment *s = &c->capacity->usage.segs[v];
    const struct usage_dir *d = &c->capacity->usage.dirs[s->dir];
    const struct segment *known =
        d->own ? segtab_find_file(&c->segs, d->shard, s->writer, s->seq) : NULL;

    if (known)
        carry_begin(c, (uint32_t)(known - c->segs.at), &c->capacity->choice[v]);
}

/* Evicts the next victim, step 1; false: there is none. */
static bool evict_one(cistern *c)
{
    struct capacity *k = c->capacity;
    size_t v;

    for (;;) {
        v = policy_choose(k->choice, k->usage.nsegs, &k->params, &k->history);
        if (v == POLICY_NONE)
            return false;
        k->choice[v].flags |= POLICY_PINNED;
        if (pins_keep(c, v) || notes_keep(c, &k->usage, &k->usage.segs[v], k->urgent))
            continue;
        choose_carried(c, v);
        if (evict_begin(c, &k->usage, &k->usage.segs[v]) == 0)
            return true;
    }
}

/* ---- Making room ---- */

/* How much too little room there is for `need` more; UINT64_MAX - 1 at most. */
static uint64_t lacking(const struct capacity *k, uint64_t need)
{
    uint64_t limit = atomic_load(&k->bytes), lack = 0;

    if (limit && k->usage.counted + need > limit)
        lack = k->usage.counted + need - limit;
    if (k->free_bytes != UINT64_MAX && k->free_bytes < k->floor_bytes + need)
        lack = max_u64(lack, k->floor_bytes + need - k->free_bytes);
    return lack;
}

/* As evict_one(); of those too that wait until their notes stand elsewhere. */
static bool evict_urgently(cistern *c)
{
    struct capacity *k = c->capacity;
    bool any;

    k->urgent = true;
    any = victims_describe(c) == 0 && evict_one(c);
    k->urgent = false;
    return any;
}

/* Every victim has notes that wait for a segment to be written in, and there is no room for that.
 */
static void make_room_pressed(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t need = c->cfg.segment_bytes, now = clock_ns();

    if (lacking(k, need) <= k->usage.leaving) {
        k->pressed_ns = 0;
        return;
    }
    if (!k->pressed_ns)
        k->pressed_ns = now;
    while (now - k->pressed_ns >= PRESSED_NS && lacking(k, need) > k->usage.leaving &&
           evict_urgently(c))
        ;
}

/* Evicts until `need` fits once all that is leaving has left; finishes what has waited long enough.
 * Returns the bytes that came back. */
static uint64_t make_room(cistern *c, uint64_t need)
{
    struct capacity *k = c->capacity;
    uint64_t freed;

    freed = evict_collect(c, &k->usage, k->grace_ns, k->silence_ns);
    if (k->free_bytes != UINT64_MAX)
        k->free_bytes += freed;
    if (lacking(k, need) > k->usage.leaving && victims_describe(c) == 0) {
        while (lacking(k, need) > k->usage.leaving && evict_one(c))
            ;
    }
    make_room_pressed(c);
    return freed;
}

/* What is kept free ahead of its use. */
static uint64_t ahead(const cistern *c)
{
    const struct capacity *k = c->capacity;
    uint64_t bytes = atomic_load(&k->bytes), want = AHEAD_SEGMENTS * c->cfg.segment_bytes;

    want += (uint64_t)((double)k->rate * (double)(k->grace_ns + LOOK_NS) / (double)NS_PER_S);
    return bytes ? min_u64(want, max_u64(bytes / AHEAD_PART, c->cfg.segment_bytes)) : want;
}

/* When the next thing that leaves may go. */
static uint64_t next_finish(const cistern *c, uint64_t now)
{
    const struct capacity *k = c->capacity;
    uint64_t boot = clock_boot_ns(), soon = UINT64_MAX;
    size_t i;

    for (i = 0; i < k->usage.nsegs; i++) {
        const struct usage_segment *s = &k->usage.segs[i];

        if (s->seg && !s->toc && s->alone_ns && !usage_stuck(s) &&
            !carry_reads(c, s->writer, s->seq)) /* its end calls */
            soon = min_u64(soon, s->alone_ns + k->grace_ns);
    }
    if (soon == UINT64_MAX)
        return soon;
    return now + max_u64(TICK_NS, soon > boot ? soon - boot : 0);
}

int capacity_admit(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t lack;
    int rc;

    if (!k || !is_bounded(k))
        return 0;
    if ((rc = look(c)))
        return rc == -EAGAIN ? -EIO : rc; /* not at once again: storage is ill */
    (void)make_room(c, ahead(c));
    lack = lacking(k, c->cfg.segment_bytes);
    /* Every victim waits for the copies of its pinned blocks, and they for a segment: one more. */
    if (lack && lack < c->cfg.segment_bytes / 4 * 5 && carry_copying(c))
        return 0;
    return lack ? -ENOSPC : 0;
}

bool capacity_relieve(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t now = clock_ns(), need = c->cfg.segment_bytes, freed;

    if (!k || now - k->urgent_ns < URGENT_NS || look(c))
        return false;
    k->urgent_ns = now;
    freed = evict_collect(c, &k->usage, k->grace_ns, k->silence_ns);
    if (freed + k->usage.leaving < need / 2 && victims_describe(c) == 0 && !evict_one(c))
        (void)evict_urgently(c); /* what it carries is cancelled below: there is no room for it */
    if (freed < need)
        freed += evict_hurry(c, &k->usage, need - freed);
    metric_set(&c->metrics, METRIC_usage_bytes, k->usage.bytes);
    return freed != 0;
}

/* After a look. */
static void tend(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t again_ns;

    ttl_step(c);
    if (make_room(c, ahead(c)))
        writer_room_back(c);
    if (!lacking(k, ahead(c)) && merge_step(c, &again_ns))
        k->next_ns = min_u64(k->next_ns, again_ns);
}

uint64_t capacity_tick(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t now = clock_ns();

    if (!k || !c->writer)
        return UINT64_MAX;
    if (now < k->next_ns)
        return k->next_ns;
    writer_note_touches(c);
    reread(c);
    retire_look(c);
    ttl_look(c);
    /* What was begun while it was is finished. */
    if (!is_bounded(k) && !atomic_load(&c->ttl_seconds) && !k->usage.leaving) {
        k->next_ns = now + LOOK_MOST_NS;
        return k->next_ns;
    }
    if (look(c) == 0)
        tend(c);
    k->next_ns = min_u64(k->next_ns, next_finish(c, clock_ns()));
    return k->next_ns;
}

/* ---- Changing it ---- */

void capacity_set(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t asked, bytes;
    int rc;

    (void)pthread_mutex_lock(&c->keeper.lock);
    asked = k->sets_asked;
    bytes = k->wanted;
    (void)pthread_mutex_unlock(&c->keeper.lock);
    rc = root_set_capacity(c->io, c->cfg.root, bytes);
    if (!rc) {
        atomic_store(&k->bytes, bytes);
        metric_set(&c->metrics, METRIC_capacity_bytes, bytes);
        k->next_ns = 0;
    }
    (void)pthread_mutex_lock(&c->keeper.lock);
    k->sets_done = asked;
    k->set_result = rc;
    (void)pthread_cond_broadcast(&c->keeper.changed);
    (void)pthread_mutex_unlock(&c->keeper.lock);
}

int cistern_set_capacity(cistern *c, uint64_t bytes)
{
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!c->writer)
        return err_set(-EROFS, "this handle was opened without writing: it sets no capacity");
    if (bytes && bytes < CAPACITY_LEAST * c->cfg.segment_bytes)
        return err_set(
            -EINVAL,
            "a capacity of %llu bytes is less than %u segments of %llu: nothing could stay",
            (unsigned long long)bytes, CAPACITY_LEAST, (unsigned long long)c->cfg.segment_bytes);
    rc = keeper_capacity_wait(c, bytes, clock_ns() + c->cfg.open_timeout_ms * NS_PER_MS);
    return rc ? err_set(rc, "the capacity could not be written to cistern.json: %s",
                        cistern_error_string(rc))
              : 0;
}
