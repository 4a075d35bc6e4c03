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
#include "engine/retire.h"
#include "engine/writer_internal.h"
#include "segment/root.h"

#define LOOK_NS        (500 * NS_PER_MS)
#define LOOK_MOST_NS   (30 * NS_PER_S)
#define LOOK_SHARE     20u /* of the time may be spent looking: one part in so many */
#define TICK_NS        (20 * NS_PER_MS)
#define RATE_NS        NS_PER_S
#define AGE_STEPS      16u /* of the capacity */
#define STAMPS         255u
#define AHEAD_SEGMENTS 2u
#define AHEAD_PART     4u /* of the capacity is kept free ahead at most: one part in so many */
#define URGENT_NS      (100 * NS_PER_MS)
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
    atomic_store(&k->stamp, 1);
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
    free(k->choice);
    free(k->order);
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
    uint64_t past = now - k->rate_ns, grown = k->usage.written - k->rate_written, rate;

    if (past < RATE_NS)
        return;
    rate = k->rate_ns ? (uint64_t)((double)grown * (double)NS_PER_S / (double)past) : 0;
    k->rate = max_u64(rate, k->rate / 2); /* up at once, down slowly */
    k->rate_ns = now;
    k->rate_written = k->usage.written;
}

static uint64_t age_step(const struct capacity *k)
{
    return max_u64(1, k->params.capacity / AGE_STEPS);
}

uint64_t capacity_age(const struct capacity *k, uint8_t stamp)
{
    return (atomic_load(&k->stamp) + STAMPS - stamp) % STAMPS * age_step(k);
}

static void note_history(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t hit = metric_get(&c->metrics, METRIC_get_bytes),
             stored = metric_get(&c->metrics, METRIC_put_bytes),
             carried = metric_get(&c->metrics, METRIC_carried_bytes);
    struct policy_history more = {.hit = hit - k->hit_seen,
                                  .stored = stored - k->stored_seen,
                                  .carried = carried - k->carried_seen};

    k->hit_seen = hit;
    k->stored_seen = stored;
    k->carried_seen = carried;
    policy_defaults(&k->params, atomic_load(&k->bytes) ? atomic_load(&k->bytes) : k->usage.bytes);
    if (k->params.capacity)
        policy_history_add(&k->history, &more, &k->params);
    atomic_store(&k->stamp, (uint32_t)(k->usage.written / age_step(k) % STAMPS) + 1);
}

static int look(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t began = clock_ns(), now;
    struct io_space space;
    int rc = usage_scan(&k->usage, c);

    rc = rc ? rc : pins_look(c);
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

/* Youngest first. */
static int by_age(const void *x, const void *y, void *arg)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    const struct usage *u = arg;
    const struct usage_segment *s = &u->segs[a], *t = &u->segs[b];

    if (s->mtime_ns != t->mtime_ns)
        return s->mtime_ns > t->mtime_ns ? -1 : 1;
    if (s->writer == t->writer && s->seq != t->seq)
        return s->seq > t->seq ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int make_scratch(struct capacity *k)
{
    size_t n = k->usage.nsegs;

    if (n <= k->room)
        return 0;
    n += n / 2 + 64;
    free(k->choice);
    free(k->order);
    k->choice = calloc(n, sizeof *k->choice);
    k->order = calloc(n, sizeof *k->order);
    k->room = k->choice && k->order ? n : 0;
    return k->room ? 0 : -ENOMEM;
}

/* How often a segment was read: by us, and as the head of its writer says. */
static uint32_t touches_of(cistern *c, const struct usage_segment *s, const struct segment *known)
{
    const struct usage *u = &c->capacity->usage;
    const struct usage_head *h = usage_head_of(u, s->dir, s->writer);
    uint64_t sum = known ? atomic_load_explicit(&known->touches, memory_order_relaxed) : 0;

    if (h && h->valid && !(known && known->own) && s->seq < h->h.next_seq &&
        h->h.next_seq - 1 - s->seq < HEAD_TOUCHES_MAX)
        sum += h->touches[h->h.next_seq - 1 - s->seq];
    return (uint32_t)min_u64(sum, UINT32_MAX);
}

/* One segment as the policy sees it. The scores know no clock: age is what is younger. */
static void describe(cistern *c, size_t i, uint64_t age, struct policy_segment *p)
{
    const struct usage *u = &c->capacity->usage;
    const struct usage_segment *s = &u->segs[i];
    const struct usage_dir *d = &u->dirs[s->dir];
    const struct segment *known =
        d->own ? segtab_find_file(&c->segs, d->shard, s->writer, s->seq) : NULL;
    const struct usage_head *h = usage_head_of(u, s->dir, s->writer);
    bool pinned = !s->sealed || !s->seg || !s->toc || s->unlinked;

    pinned |= known && clock_ns() < atomic_load(&known->pinned_ns);
    pinned |= usage_rests(s, clock_boot_ns());
    *p = (struct policy_segment){
        .number = i,
        .rank = u->spaces[d->space].rank,
        .flags = (pinned ? POLICY_PINNED : 0) |
                 (!h || usage_head_ended(h, c->capacity->silence_ns) ? POLICY_SILENT : 0),
        .generation = h && h->valid && h->h.generation == POLICY_OLD ? POLICY_OLD : POLICY_YOUNG,
        .age = age,
        .idle = POLICY_UNKNOWN,
        .bytes = s->seg_bytes + s->toc_bytes,
        .live_bytes = s->seg_bytes,
        .touches = touches_of(c, s, known),
        .blocks = s->toc_size > FORMAT_PAGE
                      ? (uint32_t)min_u64((s->toc_size - FORMAT_PAGE) / FORMAT_RECORD, UINT32_MAX)
                      : 0,
    };
}

static int describe_all(cistern *c)
{
    struct capacity *k = c->capacity;
    uint64_t age = 0;
    size_t i;

    if (make_scratch(k))
        return -ENOMEM;
    for (i = 0; i < k->usage.nsegs; i++)
        k->order[i] = (uint32_t)i;
    qsort_r(k->order, k->usage.nsegs, sizeof *k->order, by_age, &k->usage);
    for (i = 0; i < k->usage.nsegs; i++) {
        describe(c, k->order[i], age, &k->choice[k->order[i]]);
        age += k->usage.segs[k->order[i]].seg_bytes;
    }
    return 0;
}

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
        if (pins_keep(c, v))
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

/* Evicts until `need` fits once all that is leaving has left; finishes what has waited long enough.
 */
static void make_room(cistern *c, uint64_t need)
{
    struct capacity *k = c->capacity;
    uint64_t freed;

    freed = evict_collect(c, &k->usage, k->grace_ns, k->silence_ns);
    if (k->free_bytes != UINT64_MAX)
        k->free_bytes += freed;
    if (lacking(k, need) <= k->usage.leaving || describe_all(c))
        return;
    while (lacking(k, need) > k->usage.leaving && evict_one(c))
        ;
}

/* What is kept free ahead of its use. */
static uint64_t ahead(const cistern *c)
{
    const struct capacity *k = c->capacity;
    uint64_t bytes = atomic_load(&k->bytes), want = AHEAD_SEGMENTS * c->cfg.segment_bytes;

    want += (uint64_t)((double)k->rate * (double)(k->grace_ns + LOOK_NS) / (double)NS_PER_S);
    return bytes ? min_u64(want, max_u64(bytes / AHEAD_PART, c->cfg.segment_bytes)) : want;
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
    make_room(c, ahead(c));
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
    if (freed + k->usage.leaving < need / 2 && describe_all(c) == 0)
        (void)evict_one(c); /* what it carries is cancelled below: there is no room for it */
    if (freed < need)
        freed += evict_hurry(c, &k->usage, need - freed);
    metric_set(&c->metrics, METRIC_usage_bytes, k->usage.bytes);
    return freed != 0;
}

/* When the next thing that leaves may go. */
static uint64_t next_finish(const struct capacity *k, uint64_t now)
{
    uint64_t boot = clock_boot_ns(), soon = UINT64_MAX;
    size_t i;

    for (i = 0; i < k->usage.nsegs; i++) {
        const struct usage_segment *s = &k->usage.segs[i];

        if (s->seg && !s->toc && s->alone_ns && !usage_stuck(s))
            soon = min_u64(soon, s->alone_ns + k->grace_ns);
    }
    if (soon == UINT64_MAX)
        return soon;
    return now + max_u64(TICK_NS, soon > boot ? soon - boot : 0);
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
    if (!is_bounded(k) && !k->usage.leaving) { /* what was begun while it was is finished */
        k->next_ns = now + LOOK_MOST_NS;
        return k->next_ns;
    }
    if (look(c) == 0)
        make_room(c, ahead(c));
    k->next_ns = min_u64(k->next_ns, next_finish(k, clock_ns()));
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
    rc = keeper_capacity_wait(c, bytes, clock_ns() + c->cfg.open_timeout_ms * NS_PER_MS);
    return rc ? err_set(rc, "the capacity could not be written to cistern.json: %s",
                        cistern_error_string(rc))
              : 0;
}
