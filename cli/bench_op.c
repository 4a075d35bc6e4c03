/*
 * bench_op.c - keeps puts or gets in flight and counts what their completions say.
 *
 * Invariant: an operation's memory is not touched between its start and its completion. A put that
 * is dropped is started again with the same blocks; everything else that is not what was asked for
 * ends the slice with CLI_IO, after waiting for what is in flight.
 */
#include "bench_op.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define EVENTS  32
#define WAIT_MS 1000

struct tally {
    bool put;
    uint64_t bytes, blocks;
    unsigned inflight;
    int status;
};

struct store_op *store_ops_make(const struct bench_store *s)
{
    size_t pieces = (size_t)s->batch * s->c->parts;
    struct store_op *ops = calloc(s->nops, sizeof(*ops)), *o;
    size_t i, k;

    for (i = 0; ops != NULL && i < s->nops; i++) {
        o = &ops[i];
        o->keys = calloc(s->batch, sizeof(*o->keys));
        o->numbers = calloc(s->batch, sizeof(*o->numbers));
        o->spans = calloc(pieces, sizeof(*o->spans));
        o->vecs = calloc(pieces, sizeof(*o->vecs));
        o->results = calloc(pieces, 1);
        if (!o->keys || !o->numbers || !o->spans || !o->vecs || !o->results)
            return NULL;
        for (k = 0; k < pieces; k++)
            o->spans[k] = (struct cistern_span){&o->vecs[k], 1};
        o->r = (struct cistern_request){.size = sizeof(o->r),
                                        .keys = o->keys,
                                        .spans = o->spans,
                                        .results = o->results,
                                        .cookie = i};
    }
    return ops;
}

void store_ops_free(struct bench_store *s)
{
    size_t i;

    for (i = 0; s->ops != NULL && i < s->nops; i++) {
        free(s->ops[i].keys);
        free(s->ops[i].numbers);
        free(s->ops[i].spans);
        free(s->ops[i].vecs);
        free(s->ops[i].results);
    }
    free(s->ops);
    s->ops = NULL;
}

/* Keys and addresses for the blocks in o->numbers[0..n). */
static void op_aim(struct store_job *j, struct store_op *o, uint32_t n)
{
    const struct bench_config *c = j->s->c;
    size_t part = c->block / c->parts, p;
    uint8_t *at;
    uint32_t i;

    for (i = 0; i < n; i++) {
        o->keys[i] = j->s->keys[o->numbers[i]];
        at = area_next(j->area, &j->area_at, c->block);
        for (p = 0; p < c->parts; p++)
            o->vecs[i * c->parts + p] = (struct cistern_vec){at + p * part, part};
    }
    o->r.blocks = n;
    o->r.first = (uint32_t)o->numbers[0];
}

/* Chooses the blocks of a get. */
static void op_choose(struct store_job *j, struct store_op *o)
{
    uint32_t i;

    for (i = 0; i < j->s->batch; i++) {
        if (j->random) {
            o->numbers[i] = bench_random(&j->seed) % j->limit;
        } else {
            o->numbers[i] = j->cursor;
            j->cursor = (j->cursor + 1) % j->limit;
        }
    }
    o->r.memory = j->memory;
    o->r.flags = j->memory ? CISTERN_GET_DIRECT : 0;
    op_aim(j, o, j->s->batch);
}

/* Takes the next blocks of a put; false: none are left, or it is too early. */
static bool op_next(struct store_job *j, struct store_op *o)
{
    struct bench_store *s = j->s;
    uint64_t n = j->limit > s->next ? j->limit - s->next : 0, due, i;

    if (n > s->batch)
        n = s->batch;
    if (j->per_second != 0) {
        due = (uint64_t)((double)(bench_now_ns() - j->started_ns) * 1e-9 * (double)j->per_second);
        if (s->next + n > due)
            return false;
    }
    o->r.memory = NULL;
    o->r.flags = 0;
    for (i = 0; i < n; i++)
        o->numbers[i] = s->next++;
    if (n != 0)
        op_aim(j, o, (uint32_t)n);
    return n != 0;
}

static void op_start(struct bench_store *s, struct store_op *o, struct tally *t)
{
    int r = t->put ? cistern_put(s->handle, &o->r, &o->id) : cistern_get(s->handle, &o->r, &o->id);

    if (r == 0) {
        o->busy = true;
        t->inflight++;
    } else {
        t->status = cli_fail_lib(r, t->put ? "put" : "get");
    }
}

/* Keeps of a put the blocks that were dropped, in their order; returns how many. */
static uint32_t op_keep_dropped(const struct bench_store *s, struct store_op *o)
{
    size_t parts = s->c->parts, p;
    uint32_t i, n = 0;
    bool dropped;

    for (i = 0; i < o->r.blocks; i++) {
        for (dropped = false, p = 0; p < parts; p++)
            dropped |= o->results[i * parts + p] == CISTERN_DROPPED;
        if (dropped)
            o->numbers[n++] = o->numbers[i];
    }
    return n;
}

static void put_done(struct store_job *j, struct store_op *o, const struct cistern_event *e,
                     struct tally *t)
{
    uint32_t n;

    t->bytes += e->bytes;
    t->blocks += e->hits;
    if (e->errors != 0 || (e->status != 0 && e->status != -ETIMEDOUT)) {
        t->status =
            cli_fail(CLI_IO, "a put ended with %s: %u of %u blocks failed",
                     e->status ? cistern_error_name(e->status) : "errors", e->errors, o->r.blocks);
        return;
    }
    if (e->hits == o->r.blocks)
        return;
    n = op_keep_dropped(j->s, o);
    j->s->dropped += n;
    if (n == 0) {
        t->status =
            cli_fail(CLI_IO, "a put of %u blocks stored %u and dropped none", o->r.blocks, e->hits);
    } else if (!bench_stopped) {
        op_aim(j, o, n);
        op_start(j->s, o, t);
    }
}

static void get_done(struct store_job *j, struct store_op *o, const struct cistern_event *e,
                     struct tally *t)
{
    t->bytes += e->bytes;
    t->blocks += e->hits;
    if (e->status == 0 && e->hits == o->r.blocks && e->bytes == o->r.blocks * j->s->c->block)
        return;
    t->status = cli_fail(CLI_IO,
                         "a get of %u stored blocks verified %u (%llu bytes), missed %u, of which "
                         "%u were errors of storage; status %s",
                         o->r.blocks, e->hits, (unsigned long long)e->bytes, e->misses, e->errors,
                         e->status ? cistern_error_name(e->status) : "0");
}

/* Takes completions; waits for one when `wait_ms` is above 0. */
static void reap(struct store_job *j, struct tally *t, int wait_ms)
{
    struct pollfd fd = {.fd = cistern_event_fd(j->s->handle), .events = POLLIN};
    struct cistern_event e[EVENTS];
    int n, i;

    n = cistern_poll(j->s->handle, e, EVENTS);
    if (n == 0 && wait_ms > 0 && poll(&fd, 1, wait_ms) >= 0)
        n = cistern_poll(j->s->handle, e, EVENTS);
    if (n < 0)
        t->status = cli_fail_lib(n, "poll");
    for (i = 0; i < n; i++) {
        struct store_op *o = &j->s->ops[e[i].cookie];

        /* A direct get's memory is storage's until the second event. */
        if (e[i].kind == (o->r.memory ? CISTERN_EV_BUFFER_FREE : CISTERN_EV_DONE)) {
            o->busy = false;
            t->inflight--;
        }
        if (e[i].kind != CISTERN_EV_DONE)
            continue;
        if (t->put)
            put_done(j, o, &e[i], t);
        else
            get_done(j, o, &e[i], t);
    }
}

static void start_free(struct store_job *j, struct tally *t)
{
    struct bench_store *s = j->s;
    uint32_t i;

    for (i = 0; i < s->nops && t->status == CLI_OK; i++) {
        if (s->ops[i].busy)
            continue;
        if (!t->put)
            op_choose(j, &s->ops[i]);
        else if (!op_next(j, &s->ops[i]))
            return;
        op_start(s, &s->ops[i], t);
    }
}

static bool ended(const struct store_job *j, const struct tally *t, uint64_t until)
{
    return t->status != CLI_OK || bench_stopped || (j->stop != NULL && *j->stop) ||
           bench_now_ns() >= until || (t->put && j->s->next >= j->limit);
}

static int pump(struct store_job *j, bool put, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    struct timespec nap = {0, 200000}; /* between two looks at a put's schedule */
    struct tally t = {.put = put};

    while (!ended(j, &t, until)) {
        start_free(j, &t);
        reap(j, &t, t.inflight && !j->per_second ? WAIT_MS : 0);
        if (j->per_second)
            nanosleep(&nap, NULL);
    }
    /* The library's deadlines end what storage does not. */
    while (t.inflight > 0)
        reap(j, &t, WAIT_MS);
    out->bytes = t.bytes;
    out->ops = t.blocks;
    return t.status;
}

int store_put_run(void *job, double seconds, struct slice *out)
{
    struct store_job *j = job;
    int r = pump(j, true, seconds, out);

    if (r == CLI_OK && j->s->c->sync_inside)
        r = store_flush(j);
    return r;
}

int store_get_run(void *job, double seconds, struct slice *out)
{
    return pump(job, false, seconds, out);
}
