/*
 * replay_run.c - drives a store with a trace, as an engine would: match on the first rank, get on
 * all, put what was missing on all.
 *
 * Every 4 KiB of a block say which block, rank and page they are; a hit whose bytes say something
 * else is counted as wrong. Puts of a request are waited for, so that the next one finds them: what
 * is measured is what the store keeps, and not who came first.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "replay.h"

#define PAGE        4096
#define BATCH_BYTES (UINT64_C(32) << 20)
#define BATCH_MOST  256
#define OP_MS       60000
#define FLUSH_MS    60000

struct rank {
    cistern *handle;
    uint8_t *memory; /* BATCH blocks */
    uint8_t *results;
    struct cistern_vec *vecs;
    struct cistern_span *spans;
    uint64_t op;
};

struct run {
    const struct replay_config *c;
    const struct replay_trace *t;
    struct replay_result *out;
    struct rank *ranks;
    cistern_key root, *keys; /* of one request */
    uint32_t batch, longest;
    struct cistern_part part;
    struct cistern_space space;
};

struct stamp {
    uint32_t id, rank;
    uint64_t page;
};

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- Bytes ---- */

static void stamp_block(uint8_t *at, uint64_t bytes, uint32_t id, uint32_t rank)
{
    struct stamp s = {id, rank, 0};
    uint64_t p;

    for (p = 0; p + sizeof(s) <= bytes; p += PAGE, s.page++)
        memcpy(at + p, &s, sizeof(s));
}

static bool is_stamped(const uint8_t *at, uint64_t bytes, uint32_t id, uint32_t rank)
{
    struct stamp s = {id, rank, 0};
    uint64_t p;

    for (p = 0; p + sizeof(s) <= bytes; p += PAGE, s.page++) {
        if (memcmp(at + p, &s, sizeof(s)) != 0)
            return false;
    }
    return true;
}

/* ---- Open and close ---- */

static void log_line(void *arg, int level, const char *line)
{
    (void)arg;
    if (level <= CISTERN_LOG_WARN)
        cli_note("cistern: %s", line);
}

static void options(const struct run *x, uint32_t shard, struct cistern_options *o)
{
    const struct replay_config *c = x->c;

    *o = c->target.options;
    o->reuse_cache = o->enable_3fs = 1;
    o->space = &x->space;
    o->shard = shard;
    o->read_iov_bytes = o->write_iov_bytes = c->staging;
    o->get_timeout_ms = o->put_timeout_ms = OP_MS;
    o->read_timeout_ms = o->write_timeout_ms = OP_MS / 2;
    o->close_timeout_ms = FLUSH_MS;
    o->log = log_line;
    if (c->capacity)
        o->capacity_bytes = c->capacity;
    if (c->segment)
        o->segment_bytes = c->segment;
}

static int open_rank(struct run *x, uint32_t r)
{
    struct rank *k = &x->ranks[r];
    struct cistern_options o;
    uint32_t i;
    int rc;

    k->memory = calloc(x->batch, x->c->block_bytes);
    k->results = calloc(x->batch, 1);
    k->vecs = calloc(x->batch, sizeof(*k->vecs));
    k->spans = calloc(x->batch, sizeof(*k->spans));
    if (!k->memory || !k->results || !k->vecs || !k->spans)
        return cli_fail(CLI_ENVIRONMENT, "out of memory for %u blocks", x->batch);
    for (i = 0; i < x->batch; i++) {
        k->vecs[i] = (struct cistern_vec){k->memory + i * x->c->block_bytes, x->c->block_bytes};
        k->spans[i] = (struct cistern_span){&k->vecs[i], 1};
    }
    options(x, r, &o);
    rc = cistern_open(&o, &k->handle);
    return rc ? cli_fail_lib(rc, "opening %s for rank %u", x->c->target.root_path, r) : CLI_OK;
}

static void close_ranks(struct run *x)
{
    uint64_t r;

    for (r = 0; x->ranks && r < x->c->tp; r++) {
        (void)cistern_close(x->ranks[r].handle);
        free(x->ranks[r].memory);
        free(x->ranks[r].results);
        free(x->ranks[r].vecs);
        free(x->ranks[r].spans);
    }
    free(x->ranks);
    free(x->keys);
}

static int prepare(struct run *x)
{
    const struct replay_config *c = x->c;
    uint64_t most = BATCH_BYTES / c->block_bytes, r;
    size_t i;
    int rc = CLI_OK;

    x->batch = (uint32_t)(most > BATCH_MOST ? BATCH_MOST : most ? most : 1);
    for (i = 0; i < x->t->nrequests; i++)
        x->longest = x->t->requests[i].count > x->longest ? x->t->requests[i].count : x->longest;
    x->part = (struct cistern_part){.name = "kv", .bytes = c->block_bytes};
    x->space = (struct cistern_space){.size = sizeof(x->space),
                                      .name = "replay",
                                      .model = c->model,
                                      .dtype = "bytes",
                                      .block_tokens = x->t->block_tokens,
                                      .shards = (uint32_t)c->tp,
                                      .nparts = 1,
                                      .parts = &x->part};
    x->ranks = calloc(c->tp, sizeof(*x->ranks));
    x->keys = calloc(x->longest, sizeof(*x->keys));
    x->out->samples = calloc(x->t->nrequests, sizeof(*x->out->samples));
    if (!x->ranks || !x->keys || !x->out->samples)
        return cli_fail(CLI_ENVIRONMENT, "out of memory for the replay");
    for (r = 0; r < c->tp && rc == CLI_OK; r++)
        rc = open_rank(x, (uint32_t)r);
    if (rc == CLI_OK && (rc = cistern_key_root(x->ranks[0].handle, NULL, &x->root)))
        rc = cli_fail_lib(rc, "keys");
    return rc;
}

/* ---- One batch, on all ranks side by side ---- */

static int start(struct run *x, uint32_t r, bool get, uint32_t first, uint32_t count,
                 uint64_t ticket)
{
    struct rank *k = &x->ranks[r];
    struct cistern_request q = {.size = sizeof(q),
                                .keys = x->keys + first,
                                .spans = k->spans,
                                .results = k->results,
                                .blocks = count,
                                .first = first,
                                .ticket = ticket};
    int rc;

    memset(k->results, 0, count);
    rc = get ? cistern_get(k->handle, &q, &k->op) : cistern_put(k->handle, &q, &k->op);
    return rc ? cli_fail_lib(rc, get ? "get" : "put") : CLI_OK;
}

static int finish(struct run *x, uint32_t r, struct cistern_event *ev)
{
    int rc = cistern_wait(x->ranks[r].handle, x->ranks[r].op, 2 * OP_MS, ev);

    return rc ? cli_fail_lib(rc, "waiting for the store") : CLI_OK;
}

/* Reads x->keys[first ...); *run: blocks that all ranks have. */
static int get_batch(struct run *x, const uint32_t *ids, uint32_t first, uint32_t count,
                     uint64_t ticket, uint32_t *run)
{
    struct cistern_event ev = {0};
    uint32_t r, i;
    int rc = CLI_OK;

    *run = count;
    for (r = 0; r < x->c->tp && rc == CLI_OK; r++)
        rc = start(x, r, true, first, count, r ? 0 : ticket);
    for (r = 0; r < x->c->tp && rc == CLI_OK; r++) {
        if ((rc = finish(x, r, &ev)))
            break;
        *run = ev.run < *run ? ev.run : *run;
        x->out->errors += ev.errors;
        x->out->bytes_read += ev.bytes;
        for (i = 0; i < count; i++)
            x->out->wrong +=
                x->ranks[r].results[i] == CISTERN_HIT &&
                !is_stamped(x->ranks[r].vecs[i].base, x->c->block_bytes, ids[first + i], r);
    }
    return rc;
}

static int put_batch(struct run *x, const uint32_t *ids, uint32_t first, uint32_t count)
{
    struct cistern_event ev = {0};
    uint32_t r, i;
    int rc = CLI_OK;

    for (r = 0; r < x->c->tp && rc == CLI_OK; r++) {
        for (i = 0; i < count; i++)
            stamp_block(x->ranks[r].vecs[i].base, x->c->block_bytes, ids[first + i], r);
        rc = start(x, r, false, first, count, 0);
    }
    for (r = 0; r < x->c->tp && rc == CLI_OK; r++) {
        if ((rc = finish(x, r, &ev)))
            break;
        x->out->bytes_put += ev.bytes;
        for (i = 0; i < count; i++) {
            x->out->dropped += x->ranks[r].results[i] == CISTERN_DROPPED;
            x->out->errors += x->ranks[r].results[i] == CISTERN_ERROR;
        }
    }
    return rc;
}

/* ---- One request ---- */

static int load(struct run *x, const struct replay_request *q, uint32_t *hits)
{
    const uint32_t *ids = x->t->ids + q->first;
    struct cistern_match m = {0};
    uint32_t done = 0, n, run;
    int rc = cistern_match(x->ranks[0].handle, x->keys, q->count, &m);

    if (rc)
        return cli_fail_lib(rc, "match");
    while (done < m.blocks && rc == CLI_OK) {
        n = m.blocks - done < x->batch ? m.blocks - done : x->batch;
        rc = get_batch(x, ids, done, n, done ? 0 : m.ticket, &run);
        done += run;
        if (run < n)
            break;
    }
    *hits = done;
    return rc;
}

static int store(struct run *x, const struct replay_request *q, uint32_t from)
{
    uint32_t n;
    int rc = CLI_OK;
    uint64_t r;

    for (; from < q->count && rc == CLI_OK; from += n) {
        n = q->count - from < x->batch ? q->count - from : x->batch;
        rc = put_batch(x, x->t->ids + q->first, from, n);
    }
    /* Other ranks' blocks count in a match once they were taken up. */
    for (r = 0; x->c->tp > 1 && r < 1 && rc == CLI_OK; r++) {
        if (cistern_refresh(x->ranks[r].handle, OP_MS))
            x->out->errors++;
    }
    return rc;
}

static int one_request(struct run *x, size_t i)
{
    const struct replay_request *q = &x->t->requests[i];
    struct replay_result *o = x->out;
    uint32_t k, hits = 0;
    uint64_t saved;
    double began, loaded;
    int rc = 0;

    for (k = 0; k < q->count && rc == 0; k++) {
        uint64_t name = x->t->ids[q->first + k];

        rc = cistern_key_from_hash(&x->root, &name, sizeof(name), &x->keys[k]);
    }
    if (rc)
        return cli_fail_lib(rc, "keys");
    began = now();
    rc = load(x, q, &hits);
    loaded = now();
    if (rc == CLI_OK)
        rc = store(x, q, hits);
    o->load_seconds += loaded - began;
    o->put_seconds += now() - loaded;
    saved = (uint64_t)hits * x->t->block_tokens;
    saved = saved < q->tokens ? saved : q->tokens;
    o->requests++;
    o->references += q->count;
    o->hits += hits;
    o->tokens += q->tokens;
    o->tokens_saved += saved;
    o->samples[i].recompute = (float)(q->tokens / x->c->prefill_rate);
    o->samples[i].with = (float)(loaded - began + (double)(q->tokens - saved) / x->c->prefill_rate);
    return rc;
}

static void wait_for_turn(const struct run *x, double began, double at)
{
    double left;

    if (!(x->c->speed > 0))
        return;
    while ((left = began + at / x->c->speed - now()) > 0) {
        struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};

        (void)nanosleep(&t, NULL);
    }
}

static void progress(const struct run *x, size_t i)
{
    if (isatty(STDERR_FILENO) && (i % 100 == 0 || i == x->t->nrequests))
        fprintf(stderr, "\r\033[K%zu of %zu requests%s", i, x->t->nrequests,
                i == x->t->nrequests ? "\r\033[K" : "");
}

/* What the files took more than the puts: blocks that were carried over. */
static void take_metrics(struct run *x)
{
    struct cistern_metric m[256];
    uint64_t r;
    int n, i;

    for (r = 0; r < x->c->tp; r++) {
        n = cistern_metrics(x->ranks[r].handle, m, 256);
        for (i = 0; i < n && i < 256; i++) {
            if (strcmp(m[i].name, "put_bytes") == 0 || strcmp(m[i].name, "carried_bytes") == 0)
                x->out->bytes_written += m[i].value;
        }
    }
}

int replay_run(const struct replay_config *c, const struct replay_trace *t,
               struct replay_result *out)
{
    struct run x = {.c = c, .t = t, .out = out};
    double began;
    size_t i;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = prepare(&x);
    began = now();
    for (i = 0; i < t->nrequests && rc == CLI_OK; i++) {
        wait_for_turn(&x, began, t->requests[i].at);
        rc = one_request(&x, i);
        progress(&x, i + 1);
    }
    out->wall_seconds = now() - began;
    if (rc == CLI_OK)
        take_metrics(&x);
    close_ranks(&x);
    return rc;
}

void replay_result_free(struct replay_result *r)
{
    free(r->samples);
    r->samples = NULL;
}
