/*
 * writer.c - the thread of the write lane: lay out, issue, wait, publish, and keep deadlines.
 */
#include "engine/writer_internal.h"
#include "engine/carry.h"
#include "engine/renew.h"
#include "engine/ttl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/clock.h"

#define SLICE_NS    (500 * 1000ull)
#define CHECK_NS    (1000 * 1000ull)
#define IDLE_NS     NS_PER_S
#define CARRY_NS    (10 * NS_PER_MS) /* a carried block waits for its turn */
#define WAIT_NS     (200 * 1000ull)  /* look again for a slot or a segment */
#define REAP        64
#define READS_FIRST 4u /* one part in so many of the writes while a get is open */
#define NAP_NS                                                                                     \
    (20 * NS_PER_MS) /* most between looks at what is late, when nothing else is to do             \
                      */

void writer_free_group(struct writer *w, struct wgroup *g)
{
    if (g->late)
        pool_unquarantine(w->c->write_pool, g->slot);
    else
        pool_give(w->c->write_pool, g->slot);
    segment_release(&w->c->segs, g->number);
    g->link = w->free_groups;
    w->free_groups = g;
}

int writer_prep(struct writer *w, struct io_file *f, void *buf, uint64_t offset, uint32_t len,
                enum wio_kind kind, struct wgroup *g)
{
    struct wio *io = w->free_ios;
    int rc;

    if (!io)
        return -EAGAIN;
    io->kind = kind;
    io->group = g;
    io->buf = buf;
    io->len = len;
    rc = w->c->io->ops->prep(w->c->io, w->ring, pool_mem(w->c->write_pool, buf), buf, f, offset,
                             len, io);
    if (rc < 0)
        return rc;
    w->free_ios = io->link;
    w->inflight++;
    w->prepared++;
    return 0;
}

/* ---- Segments ---- */

void writer_end_segment(struct writer *w, struct wstream *st)
{
    (void)pthread_mutex_lock(&w->lock);
    if (st->current)
        st->current->stage = WSEG_ENDED;
    st->current = NULL;
    (void)pthread_mutex_unlock(&w->lock);
}

bool writer_need_segment(struct writer *w, struct wstream *st)
{
    bool ask = false, waits;

    if (atomic_load(&w->fence) != FENCE_NONE)
        return false;
    (void)pthread_mutex_lock(&w->lock);
    if (!st->current && st->next) {
        st->current = st->next;
        st->current->stage = WSEG_OPEN;
        st->next = NULL;
        st->head_dirty = true;
    }
    if (!st->next && !st->making && clock_ns() >= st->make_after_ns &&
        (!st->current || st->current->reserved > w->c->cfg.segment_bytes / 2)) {
        st->making = ask = true;
        st->make_error = 0;
    }
    waits = !st->current && (st->making || (!st->make_error && clock_ns() < st->make_after_ns) ||
                             (st->refused_ns && clock_ns() - st->refused_ns < PATIENCE_NS));
    (void)pthread_mutex_unlock(&w->lock);
    if (ask)
        keeper_ask(w->c, KEEPER_SEGMENT);
    return waits;
}

/* Asks for more space ahead of the writes, where the file system gave any. */
static void need_space(struct writer *w, const struct wstream *st)
{
    uint64_t allocated = st->current ? atomic_load(&st->current->allocated) : 0;
    bool ask = false;

    if (!allocated || allocated >= w->c->cfg.segment_bytes ||
        st->current->reserved + ALLOCATE_STEP / 2 < allocated)
        return;
    (void)pthread_mutex_lock(&w->lock);
    ask = !w->allocating;
    w->allocating = true;
    (void)pthread_mutex_unlock(&w->lock);
    if (ask)
        keeper_ask(w->c, KEEPER_ALLOCATE);
}

/* Ended segments with nothing under way are the keeper's. */
static void hand_over_ended(struct writer *w)
{
    bool any = false;
    uint32_t i;

    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS; i++) {
        struct wseg *s = &w->segs[i];

        if (s->stage == WSEG_ENDED && !s->groups && !(w->toc_busy && w->batch_seg == s)) {
            s->stage = WSEG_SEALING;
            any = true;
        }
    }
    (void)pthread_mutex_unlock(&w->lock);
    if (any)
        keeper_ask(w->c, KEEPER_SEAL);
}

/* ---- Shares ---- */

static void take_new(struct writer *w)
{
    struct share *s = inbox_take_all(&w->in), *next, **tail = &w->shares;

    if (s && w->lost)
        w->check_ns = 0; /* look at what is lost before laying out */
    while (*tail)
        tail = &(*tail)->link;
    for (; s; s = next) {
        next = s->link;
        s->link = NULL;
        s->next = s->from;
        s->groups = 0;
        *tail = s;
        tail = &s->link;
    }
}

static void drop_shares(struct writer *w, bool all, uint64_t now)
{
    struct share *s, *next;

    for (s = w->shares; s; s = next) {
        next = s->link;
        if (all && now < w->pause_until_ns)
            metric_add(&w->c->metrics, METRIC_put_dropped_full_blocks, s->to - s->next);
        if (all || now >= s->op->deadline_ns)
            put_cut(w, s, all ? 0 : -ETIMEDOUT, CISTERN_DROPPED);
    }
}

/* What the breaker takes off the time that a write may take now. */
static uint64_t cut_ns(const struct writer *w)
{
    uint64_t full = w->c->cfg.write_timeout_ms * NS_PER_MS;

    return full - breaker_timeout_ns(&w->c->breaker, BREAKER_WRITE, full);
}

/* Half of the queue or of the staging waits for storage that did not answer in time: a put would
 * only wait behind it. */
static bool storage_lost(const struct writer *w)
{
    struct pool_counts n;

    pool_count(w->c->write_pool, &n);
    return (w->lost && w->lost >= (w->c->cfg.depth + 1) / 2) || n.quarantined >= (n.slots + 1) / 2;
}

static void check_deadlines(struct writer *w, uint64_t now)
{
    struct wstream *young = writer_young(w);
    struct wgroup *g;
    bool failed;

    if (now < w->check_ns)
        return;
    w->check_ns = now + CHECK_NS;
    (void)pthread_mutex_lock(&w->lock);
    failed = young->make_error != 0 && !young->current && !young->next;
    if (failed)
        w->pause_until_ns = max_u64(w->pause_until_ns, young->make_after_ns);
    (void)pthread_mutex_unlock(&w->lock);
    if (now < w->pause_until_ns || engine_tripped(w->c) ||
        (w->shares && (storage_lost(w) || engine_stops_puts(w->c, now))))
        drop_shares(w, true, now);
    drop_shares(w, false, now);
    for (g = w->order; g; g = g->link) {
        if (g->late || !g->ios || now + cut_ns(w) < g->deadline_ns)
            continue;
        metric_add(&w->c->metrics, METRIC_io_timeouts, 1);
        engine_io_failed(w->c, BREAKER_WRITE, g->epoch, -ETIMEDOUT, BREAKER_NOWHERE);
        pool_quarantine(w->c->write_pool, g->slot);
        g->late = true;
        g->again = false;
        w->lost += g->ios;
        g->error = -ETIMEDOUT;
        g->issued = g->len;
        if (w->issue == g)
            w->issue = g->link;
    }
    if (w->toc_busy && now + cut_ns(w) >= w->toc_deadline_ns)
        publish_toc_late(w);
    if (!w->toc_buf)
        w->toc_buf = pool_take(w->c->write_pool);
}

/* ---- Issuing ---- */

/* Reads go before writes: while somebody waits for a get, few writes are queued at storage. Those
 * that were given up are not counted: as many may never be answered, and gets may never end. */
static uint32_t writes_most(const struct writer *w)
{
    uint32_t depth = w->c->cfg.depth, few = (depth + READS_FIRST - 1) / READS_FIRST;

    if (!atomic_load_explicit(&w->c->gets_open, memory_order_relaxed))
        return depth;
    return (uint32_t)min_u64(depth, w->lost + w->lost_pages + w->head_busy + few);
}

static void issue(struct writer *w, uint64_t now)
{
    struct wgroup *g;

    while (!w->room_asked && (g = w->issue) && w->inflight < writes_most(w)) {
        uint64_t at = g->offset + g->issued;
        uint64_t len = min_u64(g->len - g->issued,
                               round_down(at, w->c->cfg.io_bytes) + w->c->cfg.io_bytes - at);
        int rc;

        if (g->issued >= g->len) { /* between those that are sent again */
            w->issue = g->link;
            continue;
        }
        if (!g->issued) {
            g->deadline_ns = now + w->c->cfg.write_timeout_ms * NS_PER_MS;
            g->epoch = breaker_epoch(&w->c->breaker, BREAKER_WRITE);
        }
        rc = writer_prep(w, &g->seg->data, g->slot + g->issued, at, (uint32_t)len, WIO_DATA, g);
        if (rc == -EAGAIN)
            break;
        if (rc) {
            engine_io_failed(w->c, BREAKER_WRITE, g->epoch, rc, BREAKER_NOWHERE);
            g->error = rc;
            g->issued = g->len;
        } else {
            g->ios++;
            g->issued += len;
        }
        if (g->issued >= g->len)
            w->issue = g->link;
    }
    if (w->prepared && w->c->io->ops->submit(w->c->io, w->ring) >= 0)
        w->prepared = 0; /* else once more at the next look */
}

/* Its files are gone, or nobody is to use them. */
static bool is_lost(const struct writer *w, const struct wseg *s)
{
    return engine_is_aside(w->c, s->number) || !segtab_in_use(&w->c->segs, s->number);
}

static void lay_out(struct writer *w, uint64_t now)
{
    struct wstream *young = writer_young(w), *st;
    bool more = true;

    for (st = w->streams; st < w->streams + WSTREAMS; st++) {
        if (st->current && (is_lost(w, st->current) || ttl_ends(w->c, st->current)))
            writer_end_segment(w, st);
    }
    while (w->shares && more && !w->issue && w->inflight < writes_most(w) &&
           now >= w->pause_until_ns && pace_writes(w->c)) {
        if (!young->current)
            (void)writer_need_segment(w, young);
        more = young->current && put_layout(w);
        issue(w, now);
    }
    if (carry_waits(w) && !w->issue && w->free_groups && w->inflight < writes_most(w) &&
        now >= w->pause_until_ns && !engine_stops_puts(w->c, now) && pace_writes(w->c)) {
        if (carry_lay_out(w))
            issue(w, now);
    }
    if (w->dead_count && !young->current && !engine_stops_puts(w->c, now))
        (void)writer_need_segment(w, young);
    for (st = w->streams; st < w->streams + WSTREAMS; st++) {
        if (st->current && st->current->reserved > w->c->cfg.segment_bytes / 2)
            (void)writer_need_segment(w, st);
        need_space(w, st);
    }
}

/* ---- Completions ---- */

void writer_pause_if_full(struct writer *w, int error)
{
    if (error == -ENOSPC || error == -EDQUOT || error == -EROFS)
        w->pause_until_ns = clock_ns() + NS_PER_S;
}

static void data_failed(struct writer *w, struct wgroup *g, int64_t result)
{
    if (!g->error && !g->late)
        engine_io_failed(w->c, BREAKER_WRITE, g->epoch, result < 0 ? (int)result : -EIO,
                         BREAKER_NOWHERE);
    g->error = result < 0 ? (int)result : -EIO;
    writer_pause_if_full(w, g->error);
}

static void data_done(struct writer *w, struct wgroup *g, int64_t result, uint32_t len)
{
    if (!HOLDS(w->c, g->ios))
        return;
    g->ios--;
    if (g->late)
        w->lost--;
    if (result != (int64_t)len) {
        metric_add(&w->c->metrics, METRIC_io_write_errors, 1);
        if (!full_retry(w, g, result))
            data_failed(w, g, result);
    }
    if (!g->ios)
        full_settled(w, g);
    if (!g->late)
        return;
    metric_add(&w->c->metrics, METRIC_io_late, 1);
    if (!g->ios && g->settled == g->count && g != w->order) {
        struct wgroup *in;

        for (in = w->order; in && in != g; in = in->link)
            ;
        if (!in)
            writer_free_group(w, g);
    }
}

static void page_answered_late(struct writer *w, void *buf)
{
    metric_add(&w->c->metrics, METRIC_io_late, 1);
    w->lost_pages--;
    pool_unquarantine(w->c->write_pool, buf);
}

static int reap(struct writer *w, int min, uint64_t timeout_ns)
{
    struct io_done done[REAP];
    int i, n = w->c->io->ops->wait(w->c->io, w->ring, done, REAP, min, timeout_ns);

    for (i = 0; i < n; i++) {
        struct wio *io = done[i].userdata, was = *io;

        io->link = w->free_ios;
        w->free_ios = io;
        w->inflight--;
        if (was.kind == WIO_DATA)
            data_done(w, was.group, done[i].result, was.len);
        else if (was.buf != (was.kind == WIO_TOC ? w->toc_buf : w->head_buf))
            page_answered_late(w, was.buf);
        else if (was.kind == WIO_TOC)
            publish_toc_done(w, done[i].result, was.len);
        else
            publish_head_done(w, done[i].result);
    }
    return n;
}

/* ---- The ring of before ---- */

static void leave_group(struct writer *w, struct wgroup *g)
{
    if (g->ios && !g->late)
        pool_quarantine(w->c->write_pool, g->slot);
    g->late |= g->ios != 0;
    g->again = g->full = false;
    g->error = g->error ? g->error : -EIO;
    g->issued = g->len;
}

void writer_leave_kit(struct writer *w)
{
    struct wgroup *g;
    uint32_t i;

    drop_shares(w, true, clock_ns());
    for (g = w->order; g; g = g->link)
        leave_group(w, g);
    w->issue = NULL;
    w->room_asked = false;
    if (w->toc_busy)
        publish_toc_late(w);
    else if (w->toc_buf)
        pool_give(w->c->write_pool, w->toc_buf);
    w->toc_buf = NULL;
    if (w->head_buf && !w->head_busy) {
        pool_give(w->c->write_pool, w->head_buf);
        w->head_buf = NULL;
    }
    if (atomic_load(&w->fence) != FENCE_ASKED)
        fence_give_up(w);
    publish_settle_failed(w);
    carry_drop(w);
    w->old_inflight = w->inflight;
    w->inflight = w->lost = w->lost_pages = w->prepared = 0;
    for (i = 0; i < WSTREAMS; i++)
        w->streams[i].head_dirty = false;
}

void writer_reap_old(struct writer *w)
{
    struct io_done done[REAP];
    uint64_t now = clock_ns();
    int i, n;

    if (!w->old_inflight || now < w->old_ns)
        return;
    w->old_ns = now + NAP_NS;
    n = w->c->io->ops->wait(w->c->io, &w->kit[0].ring, done, REAP, 0, 0);
    for (i = 0; i < n; i++) {
        struct wio *io = done[i].userdata, was = *io;

        io->link = w->free_ios;
        w->free_ios = io;
        w->old_inflight--;
        metric_add(&w->c->metrics, METRIC_io_late, 1);
        if (was.kind != WIO_DATA)
            pool_unquarantine(w->c->write_pool, was.buf);
        else if (!--was.group->ios)
            writer_free_group(w, was.group);
    }
}

/* ---- The thread ---- */

static bool closed(struct writer *w)
{
    if (!atomic_load(&w->c->closing))
        return false;
    if (clock_ns() >= atomic_load(&w->c->close_deadline_ns))
        return true;
    return !w->shares && !w->inflight && !inbox_waiting(&w->in) &&
           (publish_idle(w) ||
            (!w->order && (w->pause_until_ns > clock_ns() || engine_stops_puts(w->c, clock_ns()))));
}

/* As on a read lane (lane.c): what is late is looked for less and less often. */
static void wait_for_storage(struct writer *w, uint32_t seen)
{
    bool only_late =
        !w->shares && !w->issue && w->lost + w->lost_pages + w->head_busy == w->inflight;
    int n = reap(w, only_late ? 0 : 1, only_late ? 0 : SLICE_NS);

    if (!only_late || n > 0)
        w->nap_ns = SLICE_NS;
    if (only_late && n <= 0) {
        inbox_sleep(&w->in, seen, w->nap_ns);
        w->nap_ns = min_u64(2 * w->nap_ns, NAP_NS);
    } else if (n < 0) {
        inbox_sleep(&w->in, seen, WAIT_NS);
    }
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;

    while (!closed(w)) {
        uint32_t seen = atomic_load(&w->in.bell);
        uint64_t now = clock_ns();

        take_new(w);
        renew_writer_turn(w);
        check_deadlines(w, now);
        full_check(w, now);
        issue(w, now);
        lay_out(w, now);
        fence_step(w);
        publish_step(w);
        issue(w, now);
        hand_over_ended(w);
        if (w->inflight) {
            wait_for_storage(w, seen);
        } else if (w->shares || w->order || w->dead_count || atomic_load(&w->c->closing)) {
            inbox_sleep(&w->in, seen,
                        w->pause_until_ns > now ? 10 * NS_PER_MS : pace_nap_ns(w->c, WAIT_NS));
        } else {
            inbox_sleep(&w->in, seen, fence_idle_ns(w, carry_waits(w) ? CARRY_NS : IDLE_NS));
        }
    }
    drop_shares(w, true, clock_ns());
    atomic_store(&w->ended, 1);
    return NULL;
}

/* ---- Open and close ---- */

int writer_kit_make(cistern *c, struct writer_kit *kit)
{
    uint32_t i, groups = 2 * c->cfg.depth + 2, ios = c->cfg.depth + 3;
    int rc = c->io->ops->ring_create(c->io, &kit->ring, (int)ios, false);

    if (rc)
        return err_set(rc, "a write ring of %u entries cannot be made: %s", ios,
                       cistern_error_string(rc));
    kit->ring_open = true;
    kit->groups = calloc(groups, sizeof *kit->groups);
    kit->blocks = calloc((size_t)groups * c->cfg.io_blocks, sizeof *kit->blocks);
    kit->ios = calloc(ios, sizeof *kit->ios);
    if (!kit->groups || !kit->blocks || !kit->ios)
        return err_set(-ENOMEM, "no memory for the write lane");
    for (i = 0; i < groups; i++) {
        kit->groups[i].blocks = kit->blocks + (size_t)i * c->cfg.io_blocks;
        kit->groups[i].link = i + 1 < groups ? &kit->groups[i + 1] : NULL;
    }
    for (i = 0; i < ios; i++)
        kit->ios[i].link = i + 1 < ios ? &kit->ios[i + 1] : NULL;
    return 0;
}

void writer_kit_free(cistern *c, struct writer_kit *kit)
{
    if (kit->ring_open)
        c->io->ops->ring_destroy(c->io, &kit->ring);
    free(kit->groups);
    free(kit->blocks);
    free(kit->ios);
    *kit = (struct writer_kit){0};
}

void writer_take_kit(struct writer *w, struct writer_kit *kit)
{
    struct wgroup **g = &w->free_groups;
    struct wio **io = &w->free_ios;

    w->now = kit;
    w->ring = &kit->ring;
    while (*g)
        g = &(*g)->link;
    *g = kit->groups;
    while (*io)
        io = &(*io)->link;
    *io = kit->ios;
}

/* Twice over, for the blocks of both kits. */
static int writer_alloc(struct writer *w)
{
    cistern *c = w->c;
    uint32_t groups = 2 * (2 * c->cfg.depth + 2), slots = 1;

    while (slots < 4 * groups * c->cfg.io_blocks)
        slots *= 2;
    w->underway_mask = slots - 1;
    w->underway = calloc(slots, sizeof *w->underway);
    w->dead = calloc(DEAD_NOTES, sizeof *w->dead);
    return w->underway && w->dead ? 0 : err_set(-ENOMEM, "no memory for the write lane");
}

int writer_open(cistern *c)
{
    struct writer *w = calloc(1, sizeof *w);
    uint32_t i;
    int rc;

    if (!w)
        return err_set(-ENOMEM, "no memory for the write lane");
    c->writer = w;
    w->c = c;
    for (i = 0; i < WSTREAMS; i++) {
        w->streams[i].generation = i;
        w->streams[i].head.fd = -1;
    }
    for (i = 0; i < WSEGS; i++)
        w->segs[i].toc.fd = -1;
    inbox_init(&w->in);
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_mutex_init(&w->dead_lock, NULL);
    for (i = 0; i < WSTREAMS; i++) {
        if (getrandom(&w->streams[i].id, sizeof w->streams[i].id, 0) != sizeof w->streams[i].id)
            return err_set(-EIO, "no random bytes for the name of the writer");
    }
    if ((rc = writer_alloc(w)))
        return rc;
    if (c->crypt && (rc = cipher_open(&w->cipher)))
        return rc;
    w->toc_buf = pool_take(c->write_pool);
    w->head_buf = pool_take(c->write_pool);
    if (!w->toc_buf || !w->head_buf)
        return err_set(CISTERN_ECONFIG, "write staging is too small");
    if ((rc = writer_kit_make(c, &w->kit[0])))
        return rc;
    writer_take_kit(w, &w->kit[0]);
    return 0;
}

int writer_start(cistern *c)
{
    int rc = -pthread_create(&c->writer->thread, NULL, writer_main, c->writer);

    if (rc)
        return err_set(rc, "no thread for the write lane");
    c->writer->started = true;
    return 0;
}

int writer_stop(cistern *c)
{
    struct writer *w = c->writer;

    if (!w || !w->started)
        return 0;
    inbox_ring(&w->in);
    (void)pthread_join(w->thread, NULL);
    w->started = false;
    return w->inflight || w->old_inflight ? -EBUSY : 0;
}

void writer_close(cistern *c)
{
    struct writer *w = c->writer;

    if (!w)
        return;
    writer_kit_free(c, &w->kit[0]);
    writer_kit_free(c, &w->kit[1]);
    if (w->toc_buf && !w->toc_busy) /* else storage may still read from it */
        pool_give(c->write_pool, w->toc_buf);
    if (w->head_buf && !w->head_busy)
        pool_give(c->write_pool, w->head_buf);
    free(w->underway);
    cipher_close(w->cipher);
    free(w->dead);
    free(w);
    c->writer = NULL;
}

void writer_push(cistern *c, struct share *s)
{
    inbox_push(&c->writer->in, s);
}

void writer_ring(cistern *c)
{
    inbox_ring(&c->writer->in);
}

static int push_dead(cistern *c, const struct dead_note *notes, size_t n, size_t most)
{
    struct writer *w = c->writer;
    int rc = 0;
    size_t i;

    (void)pthread_mutex_lock(&w->dead_lock);
    if (w->dead_count + n > most)
        rc = -EAGAIN;
    w->dead_pushed += rc ? 0 : n;
    for (i = 0; i < n && !rc; i++)
        w->dead[(w->dead_first + w->dead_count++) % DEAD_NOTES] = notes[i];
    (void)pthread_mutex_unlock(&w->dead_lock);
    if (!rc)
        inbox_ring(&w->in);
    return rc;
}

int writer_push_dead(cistern *c, const struct dead_note *notes, size_t n)
{
    return push_dead(c, notes, n, DEAD_NOTES - DEAD_KEPT);
}

int writer_push_carried(cistern *c, const struct dead_note *note)
{
    return push_dead(c, note, 1, DEAD_NOTES);
}

uint64_t writer_dead_pushed(cistern *c)
{
    uint64_t n;

    (void)pthread_mutex_lock(&c->writer->dead_lock);
    n = c->writer->dead_pushed;
    (void)pthread_mutex_unlock(&c->writer->dead_lock);
    return n;
}

bool writer_dead_published(cistern *c, uint64_t upto)
{
    bool done;

    (void)pthread_mutex_lock(&c->writer->dead_lock);
    done = c->writer->dead_published >= upto;
    (void)pthread_mutex_unlock(&c->writer->dead_lock);
    return done;
}

bool writer_dead_open(cistern *c)
{
    bool open;

    (void)pthread_mutex_lock(&c->writer->dead_lock);
    open = c->writer->dead_count != 0;
    (void)pthread_mutex_unlock(&c->writer->dead_lock);
    return open;
}

uint64_t writer_id(const cistern *c, uint32_t generation)
{
    return c->writer->streams[generation].id;
}

bool writer_is_own(const cistern *c, uint64_t id)
{
    return c->writer && (id == writer_id(c, POLICY_YOUNG) || id == writer_id(c, POLICY_OLD));
}
