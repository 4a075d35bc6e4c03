/*
 * request.c - the life of a request: tier 1, tier 2, prefill of the rest, first token, put, answer.
 *
 * The ranks act as one. Whatever could differ between them - what tier 1 still holds, what tier 2
 * could read - is settled by taking the least over the ranks; what rank 0 alone knows - the match -
 * is told to the others. So all ranks compute the same blocks, which the sums need.
 *
 * Only blocks that a prefill filled are published and stored: a block finished token by token has
 * the same meaning but other last bits, since its products had another shape.
 */
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    struct engine *e;
    const uint8_t *tokens;
    int n;            /* prompt */
    int *table;       /* block table */
    int held;         /* blocks in it, each held once */
    int from1, from2; /* leading blocks from tier 1, and after them from tier 2 */
    struct report *report;
};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Blocks that may be reused: the last token is always computed, it gives the first answer. */
static int reusable(const struct job *j)
{
    const struct config *c = j->e->config;
    int most = (j->n - 1) / c->shape.block_tokens;
    if (!c->reuse_cache)
        return 0;
    return c->max_reuse >= 0 ? min_int(most, c->max_reuse) : most;
}

/* The prefix that all ranks have in tier 1. */
static int from_tier1(struct job *j)
{
    int found = kvpool_find(j->e->pool, j->tokens, reusable(j), j->table);
    int64_t least = found;
    int err = comm_least(j->e->comm, &least);
    if (err)
        return err;
    kvpool_drop(j->e->pool, j->table + least, found - (int)least);
    j->from1 = j->held = (int)least;
    return 0;
}

/* Blocks for the rest of the prompt and for the answer. */
static int make_room(struct job *j)
{
    const struct config *c = j->e->config;
    int bt = c->shape.block_tokens;
    int all = (j->n + c->max_new + bt - 1) / bt, more = all - j->held;
    int64_t room = kvpool_room(j->e->pool);
    int err = comm_least(j->e->comm, &room);
    if (err)
        return err;
    if (room < more)
        return -ENOSPC;
    err = kvpool_alloc(j->e->pool, more, j->table + j->held);
    if (!err)
        j->held = all;
    return err;
}

/* For tests: spoils a byte of `count` blocks of the table, on rank 0. */
static void spoil(const struct job *j, int first, int count, int64_t byte)
{
    const struct shape *s = &j->e->config->shape;
    size_t piece = shape_piece_bytes(s), pieces = (size_t)s->layers * 2;
    size_t at = (size_t)byte, end = (size_t)count * piece * pieces;

    if (byte < 0 || s->rank != 0 || end == 0)
        return;
    at %= end;
    int block = j->table[(size_t)first + at / (piece * pieces)];
    size_t in = at / piece % pieces;
    char *bytes = (char *)kvpool_piece(j->e->pool, block, (int)in / 2, (int)in % 2);
    bytes[at % piece] ^= (char)0x80;
}

/* Rank 0 asks, everybody reads, the shortest good run counts. */
static int from_tier2(struct job *j)
{
    struct engine *e = j->e;
    struct report *r = j->report;
    struct tier2_read read = {0};
    int64_t blocks = 0;
    double start = seconds();

    int err = tier2_prefix(e->tier2, j->tokens, j->n);
    if (e->config->shape.rank == 0 && !err)
        blocks = tier2_match(e->tier2, j->from1, reusable(j) - j->from1);
    err = comm_broadcast(e->comm, &blocks, sizeof blocks);
    if (err)
        return err;
    r->matched = (int)blocks;
    r->match = seconds() - start;
    start = seconds();
    tier2_touch(e->tier2, j->from1);
    tier2_get(e->tier2, j->from1, (int)blocks, j->table + j->from1, &read);
    err = comm_gather(e->comm, read.run, r->blocks);
    if (!err)
        err = comm_gather(e->comm, (int64_t)read.bytes, r->bytes);
    if (!err)
        err = comm_gather(e->comm, (int64_t)read.nanoseconds, r->nanoseconds);
    int64_t least = read.run;
    if (!err)
        err = comm_least(e->comm, &least);
    j->from2 = (int)least;
    r->get = seconds() - start;
    spoil(j, j->from1, j->from2, e->config->corrupt); /* what would come of a store that did not
                                                       * verify */
    return err;
}

/* Computes one block that tier 2 gave from those before it, and compares. *same: on all ranks. */
static int shadow_block(struct job *j, int i, int scratch, int64_t *same)
{
    int bt = j->e->config->shape.block_tokens, loaded = j->table[i], differs = -1;

    j->table[i] = scratch;
    int err = model_step(j->e->model, j->tokens + i * bt, i * bt, bt, j->table, NULL);
    j->table[i] = loaded;
    if (err)
        return err;
    differs = tier2_shadow_check(j->e->tier2, i, loaded, scratch);
    *same = differs != 1;
    j->report->shadow_checked += differs >= 0;
    return comm_least(j->e->comm, same);
}

/* Every so manieth run: what was read is computed all the same. From the first block on that
 * differs the request goes on with computed ones. */
static int shadow(struct job *j)
{
    int64_t go = 0, same = 1;
    int scratch, err;

    if (j->e->config->shape.rank == 0)
        go = j->from2 && tier2_shadow_due(j->e->tier2);
    err = comm_broadcast(j->e->comm, &go, sizeof go);
    if (err || !go)
        return err;
    go = kvpool_alloc(j->e->pool, 1, &scratch) == 0;
    bool mine = go;
    err = comm_least(j->e->comm, &go);
    for (int i = j->from1; i < j->from1 + j->from2 && go && same && !err; i++) {
        err = shadow_block(j, i, scratch, &same);
        if (!same)
            j->from2 = i - j->from1;
    }
    j->report->shadow_differs += !same;
    if (mine)
        kvpool_drop(j->e->pool, &scratch, 1);
    return err;
}

static int argmax(const float *logits)
{
    int best = 0;
    for (int i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* Rank 0 chooses, all use it. */
static int choose(struct job *j, int i)
{
    uint8_t *token = j->report->answer + i;
    *token = (uint8_t)argmax(j->report->logits + (size_t)i * VOCAB);
    return comm_broadcast(j->e->comm, token, 1);
}

static int prefill(struct job *j)
{
    int bt = j->e->config->shape.block_tokens, err = 0;
    double start = seconds();

    for (int at = (j->from1 + j->from2) * bt; at < j->n && !err; at += bt) {
        int n = min_int(bt, j->n - at);
        err = model_step(j->e->model, j->tokens + at, at, n, j->table,
                         at + n == j->n ? j->report->logits : NULL);
    }
    if (!err)
        err = choose(j, 0);
    j->report->compute = seconds() - start;
    return err;
}

/* The full blocks of the prompt become findable in tier 1 and go to tier 2. */
static void keep(struct job *j)
{
    const struct config *c = j->e->config;
    int full = j->n / c->shape.block_tokens;

    if (!c->reuse_cache)
        return;
    for (int i = j->from1; i < full; i++)
        kvpool_publish(j->e->pool, j->tokens, j->table, i);
    spoil(j, j->from1, full - j->from1, c->spoil);
    if (j->e->tier2)
        tier2_put(j->e->tier2, 0, full, j->table);
}

static int answer(struct job *j)
{
    struct report *r = j->report;
    int err = 0;

    for (r->new_tokens = 1; r->new_tokens < j->e->config->max_new && !err; r->new_tokens++) {
        int i = r->new_tokens;
        err = model_step(j->e->model, r->answer + i - 1, j->n + i - 1, 1, j->table,
                         r->logits + (size_t)i * VOCAB);
        if (!err)
            err = choose(j, i);
        if (j->e->tier2)
            tier2_poll(j->e->tier2);
    }
    return err;
}

int request_run(struct engine *e, const uint8_t *tokens, int n, struct report *out)
{
    const struct config *c = e->config;
    struct job j = {.e = e, .tokens = tokens, .n = n, .report = out};
    int bt = c->shape.block_tokens;
    double start = seconds();

    out->shadow_checked = out->shadow_differs = 0;
    if (n < 1 || n + c->max_new > c->max_tokens)
        return n < 1 ? -EINVAL : -E2BIG;
    j.table = calloc((size_t)(c->max_tokens / bt + 2), sizeof *j.table);
    if (!j.table)
        return -ENOMEM;
    if (e->tier2)
        tier2_poll(e->tier2); /* holds of finished puts, so that there is room */
    int err = from_tier1(&j);
    if (!err)
        err = make_room(&j);
    if (!err && e->tier2)
        err = from_tier2(&j);
    if (!err && e->tier2)
        err = shadow(&j);
    if (!err)
        err = prefill(&j);
    out->ttft = seconds() - start;
    out->prompt = n;
    out->tier1 = j.from1 * bt;
    out->tier2 = j.from2 * bt;
    out->computed = n - out->tier1 - out->tier2;
    if (!err) {
        keep(&j);
        err = answer(&j);
    }
    kvpool_drop(e->pool, j.table, j.held);
    free(j.table);
    return err;
}
