/*
 * lane.c - the thread of a read lane: plan, issue, wait, deliver, and keep deadlines.
 *
 * The device is refilled before a finished group is verified, so that hashing and copying overlap
 * with reading; where submit itself does the read (the drop-in on tmpfs) one group at a time is
 * read and delivered while it is in the cache. A lane never waits for anything but its ring, its
 * bell and a short sleep when staging is used up.
 *
 * After a deadline the group is abandoned: its share goes on without it, its slot is in quarantine
 * until storage answers. What storage does is told to the breaker; while that is open, every share
 * ends at once.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/files.h"
#include "engine/gone.h"
#include "engine/lane_internal.h"
#include "engine/memory.h"
#include "engine/renew.h"

#define SLICE_NS     (500 * 1000ull)  /* longest wait on a ring while new work may come */
#define SLOT_WAIT_NS (200 * 1000ull)  /* look again for a free slot */
#define CHECK_NS     (1000 * 1000ull) /* between looks at the deadlines */
#define IDLE_NS      NS_PER_S
#define NAP_MOST_NS                                                                                \
    (20 * NS_PER_MS) /* between looks at what is late, when nothing else is to do                  \
                      */
#define REAP 64

void lane_free_group(struct lane *l, struct group *g)
{
    if (g->staged && g->late)
        pool_unquarantine(l->c->read_pool, g->buf);
    else if (g->staged)
        pool_give(l->c->read_pool, g->buf);
    else
        op_buffer_free(&l->c->ops, g->op);
    if (g->taken)
        file_give(l->c, g->segment);
    segment_release(&l->c->segs, g->segment);
    if (g->before)
        g->before->next = g->next;
    else
        l->live = g->next;
    if (g->next)
        g->next->before = g->before;
    g->link = l->free_groups;
    l->free_groups = g;
}

/* ---- Shares ---- */

static void share_end(struct lane *l, struct share *s, int status)
{
    struct share **at = &l->shares;
    struct op *op = s->op;

    while (*at != s)
        at = &(*at)->link;
    *at = s->link;
    if (status)
        atomic_store(&op->status, status);
    if (atomic_fetch_sub(&op->shares_left, 1) == 1)
        engine_get_done(l->c, op);
}

/* What still waits for its file is storage's in no way: look_at_waiting() frees it. */
static void abandon(struct lane *l, struct group *g)
{
    if (g->staged && g->taken && !g->late)
        pool_quarantine(l->c->read_pool, g->buf);
    if (!g->late)
        l->lost += g->ios;
    g->late = g->taken;
    if (g->share)
        g->share->groups--;
    g->share = NULL;
}

/* What storage did not answer for is an error; the group's share goes on without it. */
static void give_up(struct lane *l, struct group *g)
{
    uint32_t i, p;

    for (i = 0; i < g->count; i++) {
        for (p = 0; p < l->c->cfg.nparts; p++) {
            if (!(g->parts[i] & (1u << p)))
                continue;
            *op_result(&l->c->ops, g->op, g->block + i, p) = CISTERN_ERROR;
            if (g->op->by_part)
                op_part_settled(&l->c->ops, g->op, p, 1);
        }
    }
    abandon(l, g);
}

/* Ends a share before its time: what is in flight is abandoned, what has no result gets one. */
static void share_cut(struct lane *l, struct share *s, int status, uint8_t result)
{
    struct group *g;

    for (g = l->live; g; g = g->next) {
        if (g->share == s)
            abandon(l, g);
    }
    get_settle_rest(l, s, result);
    share_end(l, s, status);
}

static void take_new(struct lane *l)
{
    struct share *s = inbox_take_all(&l->in), *next;
    struct share **tail = &l->shares;

    if (s && l->lost)
        l->check_ns = 0; /* look at what is lost before planning */
    while (*tail)
        tail = &(*tail)->link;
    for (; s; s = next) {
        next = s->link;
        s->link = NULL;
        s->next = s->from;
        s->part = 0;
        s->groups = 0;
        *tail = s;
        tail = &s->link;
    }
}

static bool staging_lost(const struct lane *l)
{
    struct pool_counts n;

    pool_count(l->c->read_pool, &n);
    return n.quarantined >= (n.slots + 1) / 2;
}

/* Half of what may be in flight waits for storage that did not answer in time: new reads would only
 * wait behind it. */
static bool queue_lost(const struct lane *l)
{
    return l->lost && l->lost >= (l->limit + 1) / 2;
}

/* ---- Issuing ---- */

/* The next I/O of a group ends at a multiple of io_bytes in the file, and inside one block of its
 * memory. */
static uint64_t next_len(const struct lane *l, const struct group *g, const struct io_mem *mem)
{
    uint64_t at = g->offset + g->issued, io_bytes = l->c->cfg.io_bytes, block = mem->iov.block_size;
    uint64_t len = min_u64(g->len - g->issued, round_down(at, io_bytes) + io_bytes - at);

    if (!g->staged && block)
        len = min_u64(len, block - (uint64_t)(g->buf + g->issued - mem->base) % block);
    return len;
}

static uint64_t place_of(const struct group *g)
{
    return (uint64_t)g->segment << 32 | g->offset / FORMAT_PAGE;
}

static void group_failed(struct lane *l, struct group *g, int error)
{
    if (!g->error && !g->late)
        engine_io_failed(l->c, BREAKER_READ, g->epoch, error, place_of(g));
    g->error = g->error ? g->error : error;
}

static bool prep_one(struct lane *l, struct group *g)
{
    cistern *c = l->c;
    const struct io_mem *mem = g->staged ? pool_mem(c->read_pool, g->buf) : &g->op->r.memory->mem;
    uint64_t at = g->offset + g->issued, len = next_len(l, g, mem);
    struct rio *io = l->free_rios;
    int rc;

    if (!io)
        return false;
    io->group = g;
    io->offset = at;
    io->len = (uint32_t)len;
    rc = c->io->ops->prep(c->io, l->ring, mem, g->buf + g->issued, &c->segs.at[g->segment].data, at,
                          len, io);
    if (rc == -EAGAIN)
        return false;
    g->issued += len;
    if (rc < 0) {
        g->bad_from = min_u64(g->bad_from, at);
        group_failed(l, g, rc);
        return true;
    }
    l->free_rios = io->link;
    g->ios++;
    l->inflight++;
    l->prepared++;
    return true;
}

static void push_ready(struct lane *l, struct group *g)
{
    g->link = NULL;
    if (l->ready_last)
        l->ready_last->link = g;
    else
        l->ready = g;
    l->ready_last = g;
}

/* ---- Waiting for files ---- */

static void append_issue(struct lane *l, struct group *g)
{
    g->link = NULL;
    if (l->issue)
        l->issue_last->link = g;
    else
        l->issue = g;
    l->issue_last = g;
}

static void wait_for_file(struct lane *l, struct group *g, uint64_t now)
{
    g->deadline_ns = now + l->c->cfg.read_timeout_ms * NS_PER_MS;
    g->epoch = breaker_epoch(&l->c->breaker, BREAKER_READ);
    g->opens = files_answers(l->c);
    g->link = l->waiting;
    l->waiting = g;
    file_ask(l->c, g->segment);
}

/* It cannot be opened: as if it had been read, and nothing came. */
static void not_opened(struct lane *l, struct group *g, int error)
{
    g->issued = g->len;
    g->bad_from = g->offset;
    if (error == -ENOENT)
        g->error = DOUBT_NO_FILE;
    else
        group_failed(l, g, error);
    push_ready(l, g);
}

/* True: it does not wait any more. */
static bool waited(struct lane *l, struct group *g)
{
    int asked = file_asked(l->c, g->segment);
    enum file_state file;

    if (!g->share) {
        lane_free_group(l, g);
        return true;
    }
    file = file_take(l->c, g->segment);
    if (file == FILE_SHUT && asked >= 0) {
        if (!asked) /* it was opened, and shut again before this lane came to it */
            file_ask(l->c, g->segment);
        return false;
    }
    if ((g->taken = file == FILE_TAKEN))
        append_issue(l, g);
    else
        not_opened(l, g, file == FILE_NONE ? -ESTALE : asked);
    return true;
}

static void look_at_waiting(struct lane *l)
{
    struct group *g = l->waiting, *next;

    l->waiting = NULL;
    for (; g; g = next) {
        next = g->link;
        if (!waited(l, g)) {
            g->link = l->waiting;
            l->waiting = g;
        }
    }
}

/* ---- To the ring ---- */

/* Puts what was planned into the ring, as far as the depth allows. */
static void issue(struct lane *l, uint64_t now)
{
    struct group *g;

    while ((g = l->issue) && l->inflight < l->limit) {
        if (!g->issued) {
            g->deadline_ns = now + l->c->cfg.read_timeout_ms * NS_PER_MS;
            g->epoch = breaker_epoch(&l->c->breaker, BREAKER_READ);
            g->struck = false;
        }
        if (g->late) /* abandoned before all of it went out */
            g->issued = g->len;
        else if (!prep_one(l, g))
            break;
        if (g->issued < g->len)
            continue;
        l->issue = g->link;
        if (!l->issue)
            l->issue_last = NULL;
        g->link = NULL;
        if (!g->ios)
            push_ready(l, g);
    }
}

/* All that is in the ring at once: a system call for many reads. */
static void send_issued(struct lane *l)
{
    if (l->prepared && l->c->io->ops->submit(l->c->io, l->ring) >= 0)
        l->prepared = 0; /* else once more at the next look */
}

/* Makes and issues groups until the depth is reached. True: there is work that found no slot. */
static bool plan(struct lane *l)
{
    struct share *s, *next;
    uint64_t now = clock_ns();
    bool stuck = false;

    issue(l, now);
    for (s = l->shares; s && !stuck && !l->issue && l->inflight < l->limit; s = next) {
        struct group *g = NULL;

        next = s->link;
        while (!get_planned(s) && !stuck && !l->issue && l->inflight < l->limit) {
            g = get_plan(l, s, &stuck);
            if (!g)
                break;
            if (!g->taken) {
                wait_for_file(l, g, now);
                continue;
            }
            append_issue(l, g);
            issue(l, now);
        }
        if (stuck && staging_lost(l))
            share_cut(l, s, 0, CISTERN_ERROR);
        else if (get_planned(s) && !s->groups)
            share_end(l, s, 0);
    }
    send_issued(l);
    return stuck;
}

/* ---- Completions ---- */

static void answered(struct lane *l, const struct io_done *d)
{
    struct rio *io = d->userdata;
    struct group *g = io->group;
    int64_t got = d->result;

    if (!g && probe_answered(l, io, got))
        return;
    if (!HOLDS(l->c, g && g->ios && l->inflight))
        return;
    if (got < (int64_t)io->len) {
        uint64_t from = io->offset + (uint64_t)(got > 0 ? got : 0);

        if (got < 0) {
            metric_add(&l->c->metrics, METRIC_io_read_errors, 1);
            group_failed(l, g, (int)got);
        } else if (!g->error) {
            g->error = -EBADMSG;
        }
        g->bad_from = min_u64(g->bad_from, from);
    }
    if (g->late) {
        metric_add(&l->c->metrics, METRIC_io_late, 1);
        l->lost--;
    }
    if (got >= 0 && !g->late)
        breaker_answered(&l->c->breaker, BREAKER_READ);
    else if (got >= 0)
        breaker_hint(&l->c->breaker, BREAKER_READ, clock_ns());
    io->link = l->free_rios;
    l->free_rios = io;
    l->inflight--;
    g->ios--;
    if (!g->ios && g->issued >= g->len)
        push_ready(l, g);
}

static int reap(struct lane *l, int min, uint64_t timeout_ns)
{
    struct io_done done[REAP];
    int i, n = l->c->io->ops->wait(l->c->io, l->ring, done, REAP, min, timeout_ns);

    for (i = 0; i < n; i++)
        answered(l, &done[i]);
    return n;
}

static void deliver_one(struct lane *l)
{
    struct group *g = l->ready;
    struct share *s = g->share;

    l->ready = g->link;
    if (!l->ready)
        l->ready_last = NULL;
    get_deliver(l, g);
    if (s && get_planned(s) && !s->groups)
        share_end(l, s, 0);
}

/* ---- The ring of before ---- */

void lane_leave_kit(struct lane *l)
{
    struct group *g, *next;
    uint32_t i;

    while (l->shares)
        share_cut(l, l->shares, 0, CISTERN_MISS);
    look_at_waiting(l); /* nobody wants them any more */
    l->issue = l->issue_last = l->ready = l->ready_last = NULL;
    for (g = l->live; g; g = next) {
        next = g->next;
        g->issued = g->len;
        g->old = g->struck = true; /* late are those that storage has something of: abandon() */
        if (!g->ios)
            lane_free_group(l, g);
    }
    for (i = 0; i < PROBES; i++) {
        if (l->now->probe[i].buf)
            pool_quarantine(l->c->read_pool, l->now->probe[i].buf);
    }
    l->old_inflight += l->inflight + l->probing;
    l->inflight = l->probing = l->lost = l->prepared = 0;
}

static void old_answered(struct lane *l, struct rio *io)
{
    struct group *g = io->group;

    l->old_inflight--;
    metric_add(&l->c->metrics, METRIC_io_late, 1);
    if (!g) {
        probe_late(l, io);
        return;
    }
    io->link = l->free_rios;
    l->free_rios = io;
    if (!--g->ios)
        lane_free_group(l, g);
}

void lane_reap_old(struct lane *l)
{
    struct io_done done[REAP];
    uint64_t now = clock_ns();
    int i, n;

    if (!l->old_inflight || now < l->old_ns)
        return;
    l->old_ns = now + NAP_MOST_NS;
    n = l->c->io->ops->wait(l->c->io, &l->kit[0].ring, done, REAP, 0, 0);
    for (i = 0; i < n; i++)
        old_answered(l, done[i].userdata);
}

/* ---- Deadlines ---- */

/* With failures in a row an I/O gets less and less time: those who wait for it, wait for the same
 * storage. */
static bool overdue(const struct lane *l, const struct group *g, uint64_t now)
{
    uint64_t full = l->c->cfg.read_timeout_ms * NS_PER_MS;

    return (g->ios || (!g->taken && !g->issued)) &&
           now + (full - breaker_timeout_ns(&l->c->breaker, BREAKER_READ, full)) >= g->deadline_ns;
}

/* Storage opened files of others meanwhile: this one waited for its turn. */
static bool queued(const struct lane *l, const struct group *g)
{
    return !g->taken && !g->issued && g->opens != files_answers(l->c);
}

static void check_deadlines(struct lane *l, uint64_t now)
{
    struct share *s, *next;
    struct group *g;
    bool lost;

    if (now < l->check_ns)
        return;
    l->check_ns = now + CHECK_NS;
    lost = l->lost && (queue_lost(l) || staging_lost(l));
    for (s = l->shares; s; s = next) {
        next = s->link;
        if (atomic_load(&l->c->closing))
            share_cut(l, s, -ECANCELED, CISTERN_ERROR);
        else if (now >= s->op->deadline_ns)
            share_cut(l, s, -ETIMEDOUT, CISTERN_ERROR);
        else if (lost && !get_planned(s))
            share_cut(l, s, 0, CISTERN_ERROR);
    }
    for (g = l->live; g; g = g->next) {
        struct share *of = g->share;

        if (!overdue(l, g, now))
            continue;
        if (!g->struck && !queued(l, g))
            engine_io_failed(l->c, BREAKER_READ, g->epoch, -ETIMEDOUT, place_of(g));
        g->struck = true;
        if (!of)
            continue;
        metric_add(&l->c->metrics, METRIC_io_timeouts, 1);
        give_up(l, g);
        if (get_planned(of) && !of->groups)
            share_end(l, of, 0);
    }
}

/* The breaker is open: nobody waits for storage. */
static void end_all(struct lane *l)
{
    struct share *s, *next;
    struct group *g;

    for (s = l->shares; s; s = next) {
        next = s->link;
        for (g = l->live; g; g = g->next) {
            if (g->share == s)
                give_up(l, g);
        }
        share_cut(l, s, 0, CISTERN_MISS);
    }
}

/* ---- The thread ---- */

static bool closed(const struct lane *l)
{
    const struct group *g = l->live;

    while (g && g->old) /* the answers of the ring of before are not waited for */
        g = g->next;
    return atomic_load(&l->c->closing) && !l->shares &&
           ((!g && !l->probing) || clock_ns() >= atomic_load(&l->c->close_deadline_ns));
}

/* Until the next probe, when the breaker is open. */
static uint64_t idle_ns(const struct lane *l, uint64_t now)
{
    uint64_t next = breaker_next_ns(&l->c->breaker);

    return next <= now ? CHECK_NS : min_u64(IDLE_NS, next - now);
}

/* Waits for storage, but not for long: new work may come. What is late is looked for less and less
 * often, when that is all there is. */
static void wait_for_storage(struct lane *l, uint32_t seen)
{
    bool only_late = !l->shares && l->lost == l->inflight;
    int n = reap(l, only_late ? 0 : 1, only_late ? 0 : SLICE_NS);

    if (!only_late || n > 0)
        l->nap_ns = SLICE_NS;
    if (only_late && n <= 0) {
        inbox_sleep(&l->in, seen, l->nap_ns);
        l->nap_ns = min_u64(2 * l->nap_ns, NAP_MOST_NS);
    } else if (n < 0) {
        inbox_sleep(&l->in, seen, SLOT_WAIT_NS); /* a ring that refuses to wait must not spin */
    }
}

void *lane_main(void *arg)
{
    struct lane *l = arg;

    while (!closed(l)) {
        uint32_t seen = atomic_load(&l->in.bell);
        uint64_t now = clock_ns();
        bool stuck = false;

        take_new(l);
        renew_turn(l);
        gate_meter_turn(&l->meter, l->shares != NULL, now);
        check_deadlines(l, now);
        if (engine_stops_gets(l->c)) {
            end_all(l);
            probe_send(l, now);
        } else if (atomic_load_explicit(&l->c->probe_wanted, memory_order_relaxed)) {
            probe_send(l, now);
        }
        if (l->waiting) /* after what ends them: what nobody wants is free before the lane sleeps */
            look_at_waiting(l);
        if (!l->ready || !l->c->io->inline_reads)
            stuck = plan(l);
        if (l->meter.since_ns && !l->shares) /* before it sleeps */
            gate_meter_turn(&l->meter, false, clock_ns());
        if (l->ready) {
            if (l->inflight)
                (void)reap(l, 0, 0);
            deliver_one(l);
        } else if (l->inflight || l->probing) {
            wait_for_storage(l, seen);
        } else if (stuck || l->issue) {
            inbox_sleep(&l->in, seen, SLOT_WAIT_NS);
        } else {
            if (!l->shares)
                files_trim(l->c); /* while all were in use, more were opened */
            inbox_sleep(&l->in, seen, l->shares ? CHECK_NS : idle_ns(l, now));
        }
    }
    atomic_store(&l->ended, 1);
    return NULL;
}
