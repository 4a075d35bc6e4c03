/*
 * api.c - the calls of an open handle: arguments are checked here, the work is done by lanes and
 * index.
 *
 * Lifetime rule: once a share is pushed, the operation belongs to the lanes, and once it is told,
 * its slot may be another's. So *op is written before the push, and nothing is read off the
 * operation after op_tell() except by a direct get's own reference.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/admission.h"
#include "engine/carry.h"
#include "engine/engine.h"
#include "engine/memory.h"
#include "engine/retire.h"

#define MAX_BLOCKS (1u << 24)
#define SHARE_MIN  (8ull << 20) /* bytes that make another lane worth it */

/* ---- Completion ---- */

static void ticket_drop(cistern *c, uint64_t ticket)
{
    uint64_t mine = ticket;

    if (ticket)
        (void)atomic_compare_exchange_strong(&c->tickets[ticket % TICKETS], &mine, 0);
}

/* What a run that was delivered would have cost to compute, and what it cost. */
static void count_saved(cistern *c, const struct op *op)
{
    uint64_t tokens = (uint64_t)op->event.run * c->cfg.block_tokens, rate = c->cfg.prefill_rate;

    metric_add(&c->metrics, METRIC_saved_tokens, tokens);
    if (rate)
        metric_add(&c->metrics, METRIC_saved_ns,
                   tokens / rate * NS_PER_S + tokens % rate * NS_PER_S / rate);
    metric_add(&c->metrics, METRIC_spent_ns, op->event.nanoseconds);
}

void engine_get_done(cistern *c, struct op *op)
{
    struct metrics *m = &c->metrics;
    bool direct = op->direct;

    (void)atomic_fetch_sub_explicit(&c->gets_open, 1, memory_order_relaxed);
    if (op->asked_bytes)
        (void)atomic_fetch_sub_explicit(&c->waiting_bytes, op->asked_bytes, memory_order_relaxed);
    op_sum(&c->ops, op);
    metric_add(m, METRIC_get_ops, 1);
    metric_add(m, METRIC_get_hit_blocks, op->event.hits);
    metric_add(m, METRIC_get_miss_blocks, op->event.misses);
    metric_add(m, METRIC_get_error_blocks, op->event.errors);
    metric_add(m, METRIC_get_bytes, op->event.bytes);
    metric_add(m, METRIC_get_timeouts, op->event.status == -ETIMEDOUT);
    metric_add(m, METRIC_get_failed_ops, op->event.status != 0 || op->event.errors);
    metric_add(m, METRIC_get_ns, op->event.nanoseconds);
    metric_record(m, HISTOGRAM_get_latency_ns, op->event.nanoseconds);
    metric_record(m, HISTOGRAM_get_length_blocks, op->r.blocks);
    count_saved(c, op);
    ticket_drop(c, op->r.ticket);
    op_tell(&c->ops, op);
    if (direct)
        op_buffer_free(&c->ops, op);
}

void engine_put_done(cistern *c, struct op *op)
{
    struct metrics *m = &c->metrics;
    uint64_t i, present = 0, dropped = 0, failed = 0;

    op_sum(&c->ops, op);
    for (i = 0; i < (uint64_t)op->r.blocks * c->cfg.nparts; i++) {
        uint8_t r = op->r.results[i];

        present += r == CISTERN_PRESENT || r == CISTERN_UNDERWAY;
        dropped += r == CISTERN_DROPPED;
        failed += r == CISTERN_ERROR;
        if (r == CISTERN_DROPPED || r == CISTERN_ERROR)
            admission_again(c, &op->r.keys[i / c->cfg.nparts]);
    }
    metric_add(m, METRIC_put_ops, 1);
    metric_add(m, METRIC_put_present_blocks, present / c->cfg.nparts);
    metric_add(m, METRIC_put_dropped_blocks, dropped / c->cfg.nparts);
    metric_add(m, METRIC_put_error_blocks, failed / c->cfg.nparts);
    metric_add(m, METRIC_put_timeouts, op->event.status == -ETIMEDOUT);
    metric_add(m, METRIC_put_failed_ops, op->event.status != 0 || op->event.errors);
    metric_add(m, METRIC_put_ns, op->event.nanoseconds);
    metric_record(m, HISTOGRAM_put_latency_ns, op->event.nanoseconds);
    metric_record(m, HISTOGRAM_put_length_blocks, op->r.blocks);
    op_tell(&c->ops, op);
}

/* ---- Requests ---- */

static int check_spans(const cistern *c, const struct cistern_request *r, bool is_put,
                       uint64_t *bytes)
{
    uint64_t i, n = (uint64_t)r->blocks * c->cfg.nparts;
    uint32_t v;

    *bytes = 0;
    for (i = 0; i < n; i++) {
        const struct cistern_span *s = &r->spans[i];
        uint64_t len = 0;

        if (s->count && !s->vecs)
            return err_set(-EINVAL, "spans[%llu].vecs is NULL", (unsigned long long)i);
        for (v = 0; v < s->count; v++) {
            if (!s->vecs[v].base || !s->vecs[v].len || s->vecs[v].len > 1u << 30)
                return err_set(-EINVAL, "spans[%llu].vecs[%u] is NULL, empty or above 1 GiB",
                               (unsigned long long)i, v);
            len += s->vecs[v].len;
        }
        if (is_put && len > c->cfg.part_bytes[i % c->cfg.nparts])
            return err_set(-EINVAL,
                           "spans[%llu] has %llu bytes; part %llu of the space has at most %llu",
                           (unsigned long long)i, (unsigned long long)len,
                           (unsigned long long)(i % c->cfg.nparts),
                           (unsigned long long)c->cfg.part_bytes[i % c->cfg.nparts]);
        if (r->flags & CISTERN_GET_DIRECT && s->count &&
            (s->count != 1 || !memory_holds(r->memory, &s->vecs[0])))
            return err_set(
                -EINVAL, "spans[%llu]: a direct read needs one piece inside the registered memory",
                (unsigned long long)i);
        *bytes += len;
    }
    return 0;
}

static int check_request(cistern *c, const struct cistern_request *theirs,
                         struct cistern_request *r, bool is_put, uint64_t *bytes)
{
    int rc = guard_check(c);

    if (rc || (rc = config_take_struct(r, sizeof *r, theirs)))
        return rc;
    if (c->cfg.flags & CISTERN_OPEN_MATCH_ONLY || (is_put && !c->writer))
        return err_set(-EROFS, "this handle was opened %s: it takes no %s",
                       c->cfg.flags & CISTERN_OPEN_MATCH_ONLY ? "match-only" : "read-only",
                       is_put ? "put" : "get");
    if (!r->keys || !r->spans || !r->results)
        return err_set(-EINVAL, "request.%s is NULL",
                       !r->keys    ? "keys"
                       : !r->spans ? "spans"
                                   : "results");
    if (!r->blocks || r->blocks > MAX_BLOCKS)
        return err_set(-EINVAL, "request.blocks is %u; it can be 1 to %u", r->blocks, MAX_BLOCKS);
    if (r->flags & ~(uint32_t)(is_put ? 0 : CISTERN_GET_DIRECT | CISTERN_GET_BY_PART))
        return err_set(-EINVAL, "request.flags has unknown bits: 0x%x", r->flags);
    if (r->flags & CISTERN_GET_DIRECT &&
        (!r->memory || r->memory->owner != c || r->mem != CISTERN_MEM_HOST))
        return err_set(
            -EINVAL,
            "a direct read needs request.memory, registered with this handle, of host memory");
    return check_spans(c, r, is_put, bytes);
}

/*
 * The first request with device memory pins the staging for it, on the caller's thread, whose
 * device context it is. Without the pin copies are slower, not wrong.
 */
static void pin_staging(cistern *c, const struct mem_ops *mem)
{
    struct pool *pools[2] = {c->read_pool, c->write_pool};
    int i;

    if (!mem->pin || atomic_load_explicit(&c->pinned, memory_order_acquire))
        return;
    (void)pthread_mutex_lock(&c->pin_lock);
    if (!atomic_load_explicit(&c->pinned, memory_order_relaxed)) {
        for (i = 0; i < 2; i++) {
            const struct io_mem *m =
                pools[i] ? pool_generation(pools[i], atomic_load(&c->epoch) != 0) : NULL;

            if (m && mem->pin(m->base, m->size))
                log_line(&c->cfg.log, LOG_INFO,
                         "staging could not be pinned for %s: copies go slower", mem->name);
        }
        atomic_store_explicit(&c->pinned, mem, memory_order_release);
    }
    (void)pthread_mutex_unlock(&c->pin_lock);
}

static void init_parts(cistern *c, struct op *op)
{
    uint32_t b, p;

    op->by_part = (op->r.flags & CISTERN_GET_BY_PART) != 0;
    op->direct = (op->r.flags & CISTERN_GET_DIRECT) != 0;
    for (b = 0; op->by_part && b < op->r.blocks; b++) {
        for (p = 0; p < c->cfg.nparts; p++)
            op->part_left[p] += op_span(&c->ops, op, b, p)->count != 0;
    }
    if (op->direct) {
        atomic_store(&op->buffers, 1);
        (void)atomic_fetch_add(&op->r.memory->reads, 1);
    }
}

static struct op *start(cistern *c, const struct cistern_request *r, const struct mem_ops *mem,
                        bool is_put)
{
    struct op *op = op_take(&c->ops, r);
    uint32_t timeout = r->timeout_ms ? r->timeout_ms
                       : is_put      ? c->cfg.put_timeout_ms
                                     : c->cfg.get_timeout_ms;

    if (!op)
        return NULL;
    pin_staging(c, mem);
    op->mem = mem;
    op->is_put = is_put;
    op->deadline_ns = op->start_ns + timeout * NS_PER_MS;
    memset(r->results, CISTERN_NONE, (size_t)r->blocks * c->cfg.nparts);
    return op;
}

/* Without a lane: nothing is read and nothing is written. */
static void answer_now(cistern *c, struct op *op, int status)
{
    uint64_t i, n = (uint64_t)op->r.blocks * c->cfg.nparts;

    for (i = 0; i < n; i++) {
        if (op->r.spans[i].count)
            op->r.results[i] = op->is_put ? CISTERN_DROPPED : CISTERN_MISS;
    }
    if (op->by_part)
        op->parts_ready = c->cfg.nparts;
    atomic_store(&op->status, status);
    if (op->is_put)
        engine_put_done(c, op);
    else
        engine_get_done(c, op);
}

uint32_t engine_get_shares(const cistern *c, uint32_t blocks, uint64_t bytes)
{
    return (uint32_t)min_u64(min_u64(c->nlanes, OP_SHARES), min_u64(blocks, 1 + bytes / SHARE_MIN));
}

int cistern_get(cistern *c, const struct cistern_request *theirs, uint64_t *op_id)
{
    struct cistern_request r;
    const struct mem_ops *mem;
    struct op *op;
    uint64_t bytes;
    uint32_t i, n, lane;
    int rc = check_request(c, theirs, &r, false, &bytes);

    if (rc)
        return rc;
    if (!op_id)
        return err_set(-EINVAL, "op is NULL");
    if (!(mem = mem_ops_get(r.mem)))
        return -EINVAL;
    if (!(op = start(c, &r, mem, false)))
        return err_set(-EAGAIN, "%u operations are open: take their completions", c->cfg.max_ops);
    (void)atomic_fetch_add_explicit(&c->gets_open, 1, memory_order_relaxed);
    init_parts(c, op);
    *op_id = op->id;
    if (engine_tripped(c) || engine_stops_gets(c)) {
        metric_add(&c->metrics, METRIC_breaker_gets, !engine_tripped(c));
        answer_now(c, op, engine_tripped(c) ? CISTERN_ETRIPPED : 0);
        return 0;
    }
    n = engine_get_shares(c, r.blocks, bytes);
    if (c->cfg.prefill_rate) {
        op->asked_bytes = bytes;
        (void)atomic_fetch_add_explicit(&c->waiting_bytes, bytes, memory_order_relaxed);
    }
    lane = atomic_fetch_add_explicit(&c->next_lane, n, memory_order_relaxed);
    op->nshares = n;
    atomic_store(&op->shares_left, n);
    for (i = 0; i < n; i++) {
        op->share[i].op = op;
        op->share[i].from = (uint32_t)((uint64_t)r.blocks * i / n);
        op->share[i].to = (uint32_t)((uint64_t)r.blocks * (i + 1) / n);
    }
    for (i = 0; i < n; i++)
        lane_push(c, (lane + i) % c->nlanes, &op->share[i]);
    return 0;
}

int cistern_put(cistern *c, const struct cistern_request *theirs, uint64_t *op_id)
{
    struct cistern_request r;
    const struct mem_ops *mem;
    struct op *op;
    uint64_t bytes;
    int rc = check_request(c, theirs, &r, true, &bytes);

    if (rc)
        return rc;
    if (!op_id)
        return err_set(-EINVAL, "op is NULL");
    if (!(mem = mem_ops_get(r.mem)))
        return -EINVAL;
    if (!(op = start(c, &r, mem, true)))
        return err_set(-EAGAIN, "%u operations are open: take their completions", c->cfg.max_ops);
    *op_id = op->id;
    if (engine_tripped(c) || atomic_load_explicit(&c->draining, memory_order_relaxed)) {
        answer_now(c, op, engine_tripped(c) ? CISTERN_ETRIPPED : 0);
        return 0;
    }
    if (engine_stops_puts(c, op->start_ns)) {
        metric_add(&c->metrics, METRIC_breaker_puts, 1);
        answer_now(c, op, 0);
        return 0;
    }
    if (retire_drops(c, r.blocks)) {
        answer_now(c, op, 0);
        return 0;
    }
    if (!admission_decide(c, op)) {
        engine_put_done(c, op);
        return 0;
    }
    op->share[0] = (struct share){.op = op, .from = 0, .to = r.blocks};
    writer_push(c, &op->share[0]);
    return 0;
}

/* ---- Events ---- */

int cistern_poll(cistern *c, struct cistern_event *events, int max)
{
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!events || max < 1)
        return err_set(-EINVAL, "events is NULL or max is below 1");
    return ops_poll(&c->ops, events, max);
}

int cistern_event_fd(const cistern *c)
{
    int rc = guard_check(c);

    return rc ? rc : c->ops.event_fd;
}

int cistern_wait(cistern *c, uint64_t op, uint32_t timeout_ms, struct cistern_event *event)
{
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!event)
        return err_set(-EINVAL, "event is NULL");
    return ops_wait(&c->ops, op, clock_ns() + timeout_ms * NS_PER_MS, event);
}

/* The operation ends itself at its deadline; the wait is only a little longer. In slices, for the
 * caller knows no name of the operation, and takes its memory for its own again: after a process
 * was stopped all clocks are over, and the lanes still have to run. */
static int wait_out(cistern *c, const struct cistern_request *r, uint32_t timeout_ms, uint64_t op,
                    struct cistern_event *event)
{
    int i, rc = cistern_wait(c, op, r->timeout_ms ? r->timeout_ms : timeout_ms, event);

    for (i = 0; rc == -ETIMEDOUT && i < 10; i++)
        rc = cistern_wait(c, op, 100, event);
    return rc;
}

int cistern_get_sync(cistern *c, const struct cistern_request *r, struct cistern_event *event)
{
    uint64_t op;
    int rc;

    if (!event)
        return err_set(-EINVAL, "event is NULL");
    rc = cistern_get(c, r, &op);
    return rc ? rc : wait_out(c, r, c->cfg.get_timeout_ms, op, event);
}

int cistern_put_sync(cistern *c, const struct cistern_request *r, struct cistern_event *event)
{
    uint64_t op;
    int rc;

    if (!event)
        return err_set(-EINVAL, "event is NULL");
    rc = cistern_put(c, r, &op);
    return rc ? rc : wait_out(c, r, c->cfg.put_timeout_ms, op, event);
}

int cistern_flush(cistern *c, uint32_t timeout_ms)
{
    uint64_t deadline, seq, laid;
    struct timespec until;
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!c->writer)
        return 0;
    deadline = clock_ns() + timeout_ms * NS_PER_MS;
    (void)pthread_mutex_lock(&c->ops.lock);
    seq = c->ops.next_seq;
    (void)pthread_mutex_unlock(&c->ops.lock);
    laid = carry_laid(c); /* deletions of what was on its way are noted when it is published */
    while (ops_put_open_before(&c->ops, seq) || !carry_is_settled(c, laid) || writer_dead_open(c)) {
        uint64_t now = clock_ns();

        if (now >= deadline)
            return err_set(-ETIMEDOUT, "puts are still under way");
        until = clock_timespec(min_u64(deadline, now + NS_PER_MS));
        (void)pthread_mutex_lock(&c->ops.lock);
        (void)pthread_cond_timedwait(&c->ops.changed, &c->ops.lock, &until);
        (void)pthread_mutex_unlock(&c->ops.lock);
        if (laid == CARRY_LAYING)
            laid = carry_laid(c);
    }
    return keeper_sync_wait(c, deadline);
}
