/*
 * tier2.c - all calls of Cistern that this engine makes: the page to copy from.
 *
 * Switches: the library knows RTP-LLM's names as environment variables and flags; an engine need
 * not list them. Identity: everything that makes two KV blocks differ goes into struct
 * cistern_space. Keys: chained over the tokens, so that equal keys mean equal prefixes. Memory: a
 * block is layers x 2 pieces of the pool, given as a scatter list; the blocks of a put are held
 * until its completion. Failure: nothing here can stop the engine; a cache that cannot help costs a
 * prefill.
 */
#include "tier2.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cistern.h"

#define PUT_BLOCKS 16  /* of one put */
#define REFRESH_MS 200 /* at most, and not while a request waits for its first token */

/* One get or put under way: what the library may look at until its completion. */
struct transfer {
    struct transfer *next;
    uint64_t op;
    int blocks;
    int *block;                 /* numbers in the pool */
    cistern_key *keys;          /* one per block */
    struct cistern_span *spans; /* one per block */
    struct cistern_vec *vecs;   /* layers x 2 per block */
    uint8_t *results;           /* enum cistern_result, one per block */
};

struct tier2 {
    struct cistern_options options;
    cistern *store; /* NULL until opened */
    struct shape shape;
    struct kvpool *pool;
    cistern_key root;
    cistern_key *keys; /* of the current prompt */
    int nkeys;
    uint64_t ticket;       /* of the last match */
    struct transfer *puts; /* under way */
    struct tier2_counts counts;
};

/* ---- Switches ---- */

int tier2_new(struct tier2 **out)
{
    struct tier2 *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->options.size = sizeof t->options;
    int err = cistern_options_from_env(&t->options);
    if (err < 0) {
        free(t);
        return err;
    }
    *out = t;
    return 0;
}

int tier2_arguments(struct tier2 *t, int *argc, char **argv)
{
    int err = cistern_options_from_args(&t->options, argc, argv);
    return err < 0 ? err : 0;
}

bool tier2_reuse_cache(const struct tier2 *t)
{
    return t->options.reuse_cache > 0;
}

bool tier2_enable_3fs(const struct tier2 *t)
{
    return t->options.enable_3fs > 0;
}

const char *tier2_error(int err)
{
    const char *text = cistern_error_text();
    return *text ? text : cistern_error_string(err);
}

/* ---- Open and close ---- */

static void log_line(void *arg, int level, const char *line)
{
    const struct tier2 *t = arg;
    if (level <= CISTERN_LOG_WARN)
        fprintf(stderr, "minillm: rank %d: cistern: %s\n", t->shape.rank, line);
}

int tier2_open(struct tier2 *t, const struct shape *s, struct kvpool *pool, const char *arithmetic)
{
    char revision[32], extra[160];
    struct cistern_part part = {.name = "kv", .bytes = shape_block_bytes(s)};
    struct cistern_space space = {
        .size = sizeof space,
        .name = "minillm",
        .model = "minillm",
        .revision = revision,
        .dtype = "f32",
        .layout = "layers x (K head,dim,token; V head,token,dim)/1",
        .extra = extra,
        .block_tokens = (uint32_t)s->block_tokens,
        .layers = (uint32_t)s->layers,
        .kv_heads = (uint32_t)s->kv_heads,
        .head_dim = (uint32_t)s->head_dim,
        .shards = (uint32_t)s->tp,
        .nparts = 1,
        .parts = &part,
    };
    snprintf(revision, sizeof revision, "seed-%llu", (unsigned long long)s->seed);
    snprintf(extra, sizeof extra, "d_model=%d heads=%d ffn=%d arithmetic=%s", s->d_model, s->heads,
             s->ffn, arithmetic);

    t->shape = *s;
    t->pool = pool;
    t->options.space = &space;
    t->options.shard = (uint32_t)s->rank;
    t->options.log = log_line;
    t->options.log_arg = t;
    int err = cistern_open(&t->options, &t->store);
    t->options.space = NULL;
    if (!err)
        err = cistern_key_root(t->store, NULL, &t->root);
    return err < 0 ? err : 0;
}

static void transfer_free(struct transfer *x)
{
    if (!x)
        return;
    free(x->block);
    free(x->keys);
    free(x->spans);
    free(x->vecs);
    free(x->results);
    free(x);
}

void tier2_free(struct tier2 *t)
{
    if (!t)
        return;
    cistern_close(t->store); /* completions that were not taken are lost, the stored blocks not */
    while (t->puts) {
        struct transfer *x = t->puts;
        t->puts = x->next;
        kvpool_drop(t->pool, x->block, x->blocks);
        transfer_free(x);
    }
    free(t->keys);
    free(t);
}

/* ---- Names ---- */

int tier2_prefix(struct tier2 *t, const uint8_t *tokens, int ntokens)
{
    int n = ntokens / t->shape.block_tokens;
    uint32_t *wide = malloc(sizeof *wide * ((size_t)ntokens + 1));
    cistern_key *keys = realloc(t->keys, sizeof *keys * ((size_t)n + 1));

    t->nkeys = 0;
    if (keys)
        t->keys = keys;
    if (!wide || !keys) {
        free(wide);
        return -ENOMEM;
    }
    for (int i = 0; i < ntokens; i++)
        wide[i] = tokens[i];
    int64_t made =
        cistern_key_chain(&t->root, wide, (size_t)ntokens, (uint32_t)t->shape.block_tokens, keys);
    free(wide);
    if (made < 0)
        return (int)made;
    t->nkeys = (int)made;
    return 0;
}

/* ---- Match and get ---- */

int tier2_match(struct tier2 *t, int first, int n)
{
    struct cistern_match found;

    if (first + n > t->nkeys)
        n = t->nkeys - first;
    if (n <= 0 || cistern_match(t->store, t->keys + first, (size_t)n, &found) < 0)
        return 0;
    t->ticket = found.ticket;
    return (int)found.blocks;
}

void tier2_touch(struct tier2 *t, int n)
{
    if (n > 0 && n <= t->nkeys)
        (void)cistern_touch(t->store, t->keys, (size_t)n);
}

/* Keys and scatter lists of n blocks. */
static struct transfer *transfer_new(const struct tier2 *t, int first, int n, const int *blocks)
{
    size_t count = (size_t)n, pieces = (size_t)t->shape.layers * 2;
    struct transfer *x = calloc(1, sizeof *x);

    if (!x)
        return NULL;
    x->blocks = n;
    x->block = calloc(count, sizeof *x->block);
    x->keys = calloc(count, sizeof *x->keys);
    x->spans = calloc(count, sizeof *x->spans);
    x->vecs = calloc(count * pieces, sizeof *x->vecs);
    x->results = calloc(count, sizeof *x->results);
    if (!x->block || !x->keys || !x->spans || !x->vecs || !x->results) {
        transfer_free(x);
        return NULL;
    }
    memcpy(x->block, blocks, count * sizeof *blocks);
    memcpy(x->keys, t->keys + first, count * sizeof *x->keys);
    struct cistern_vec *vec = x->vecs;
    for (int i = 0; i < n; i++) {
        x->spans[i] = (struct cistern_span){.vecs = vec, .count = (uint32_t)pieces};
        for (int layer = 0; layer < t->shape.layers; layer++)
            for (int which = 0; which < 2; which++)
                *vec++ = (struct cistern_vec){kvpool_piece(t->pool, blocks[i], layer, which),
                                              shape_piece_bytes(&t->shape)};
    }
    return x;
}

static struct cistern_request transfer_request(const struct transfer *x, int first)
{
    return (struct cistern_request){
        .size = sizeof(struct cistern_request),
        .keys = x->keys,
        .spans = x->spans,
        .results = x->results,
        .blocks = (uint32_t)x->blocks,
        .first = (uint32_t)first,
        .mem = CISTERN_MEM_HOST,
    };
}

void tier2_get(struct tier2 *t, int first, int n, const int *blocks, struct tier2_read *out)
{
    struct cistern_event done = {0};
    bool named = n > 0 && first + n <= t->nkeys;
    struct transfer *x = named ? transfer_new(t, first, n, blocks) : NULL;

    *out = (struct tier2_read){0};
    if (x) {
        struct cistern_request r = transfer_request(x, first);
        r.ticket = t->ticket; /* given back at the completion */
        int err = cistern_get_sync(t->store, &r, &done);
        if (err < 0)
            fprintf(stderr, "minillm: rank %d: get: %s\n", t->shape.rank, tier2_error(err));
        else
            *out = (struct tier2_read){(int)done.run, done.bytes, done.nanoseconds};
        for (int i = 0; i < n; i++)
            kvpool_mark_stored(t->pool, blocks[i], x->results[i] == CISTERN_HIT);
    } else {
        cistern_ticket_release(t->store, t->ticket);
    }
    t->ticket = 0;
    transfer_free(x);
}

/* ---- Shadow compare ---- */

void tier2_shadow_every(struct tier2 *t, int every)
{
    t->options.shadow_every = (uint32_t)every;
}

bool tier2_shadow_due(struct tier2 *t)
{
    return cistern_shadow_due(t->store) == 1;
}

int tier2_shadow_check(struct tier2 *t, int index, int loaded, int computed)
{
    static const char *const verdicts[] = {"", "computed otherwise than it is stored",
                                           "not loaded as it is stored"};
    int both[2] = {computed, loaded};
    struct transfer *x[2] = {transfer_new(t, index, 1, &both[0]),
                             transfer_new(t, index, 1, &both[1])};
    uint64_t at = 0;
    int verdict = -ENOMEM;

    if (x[0] && x[1]) {
        struct cistern_shadow s = {
            .size = sizeof s, .key = x[0]->keys, .computed = x[0]->spans, .loaded = x[1]->spans};
        verdict = cistern_shadow_report(t->store, &s, &at);
    }
    if (verdict == CISTERN_SHADOW_COMPUTED || verdict == CISTERN_SHADOW_LOADED)
        fprintf(stderr, "minillm: rank %d: block %d was %s, from byte %llu on\n", t->shape.rank,
                index, verdicts[verdict], (unsigned long long)at);
    transfer_free(x[0]);
    transfer_free(x[1]);
    if (verdict < 0 || verdict == CISTERN_SHADOW_GONE)
        return -1;
    return verdict != CISTERN_SHADOW_SAME;
}

/* ---- Put ---- */

/* false: no room for it now; the blocks stay unmarked and are offered again with a later request */
static bool put_start(struct tier2 *t, int first, int n, const int *blocks)
{
    struct transfer *x = transfer_new(t, first, n, blocks);
    if (!x)
        return false;
    struct cistern_request r = transfer_request(x, first);
    if (cistern_put(t->store, &r, &x->op) < 0) {
        t->counts.dropped += (uint64_t)n;
        transfer_free(x);
        return false;
    }
    for (int i = 0; i < n; i++)
        kvpool_hold(t->pool, blocks[i]); /* not touched and not evicted until the completion */
    x->next = t->puts;
    t->puts = x;
    return true;
}

void tier2_put(struct tier2 *t, int first, int n, const int *blocks)
{
    for (int i = 0; i < n;) { /* parents before children */
        if (kvpool_is_stored(t->pool, blocks[i]) || first + i >= t->nkeys) {
            i++;
            continue;
        }
        int end = i + 1;
        while (end < n && end < i + PUT_BLOCKS && first + end < t->nkeys &&
               !kvpool_is_stored(t->pool, blocks[end]))
            end++;
        if (!put_start(t, first + i, end - i, blocks + i))
            return;
        i = end;
    }
}

static void put_finish(struct tier2 *t, struct transfer *x)
{
    for (int i = 0; i < x->blocks; i++) {
        int result = x->results[i];
        bool there = result == CISTERN_STORED || result == CISTERN_PRESENT;
        t->counts.stored += result == CISTERN_STORED;
        t->counts.present += result == CISTERN_PRESENT;
        t->counts.failed += result == CISTERN_ERROR;
        t->counts.dropped += !there && result != CISTERN_ERROR;
        kvpool_mark_stored(t->pool, x->block[i], there);
    }
    kvpool_drop(t->pool, x->block, x->blocks);
    transfer_free(x);
}

void tier2_poll(struct tier2 *t)
{
    struct cistern_event events[16];
    int n;

    while ((n = cistern_poll(t->store, events, 16)) > 0)
        for (int i = 0; i < n; i++) {
            struct transfer **at = &t->puts;
            while (*at && (*at)->op != events[i].op)
                at = &(*at)->next;
            if (!*at || events[i].kind != CISTERN_EV_DONE)
                continue;
            struct transfer *x = *at;
            *at = x->next;
            put_finish(t, x);
        }
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int tier2_finish(struct tier2 *t, int timeout_ms)
{
    int64_t end = now_ms() + timeout_ms;

    for (tier2_poll(t); t->puts; tier2_poll(t)) {
        int64_t left = end - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd fd = {.fd = cistern_event_fd(t->store), .events = POLLIN};
        (void)poll(&fd, 1, (int)left);
    }
    return 0;
}

int tier2_drain(struct tier2 *t, int timeout_ms)
{
    int left = cistern_drain(t->store, (uint32_t)timeout_ms);
    tier2_poll(t);
    return left;
}

void tier2_refresh(struct tier2 *t)
{
    if (cistern_refresh(t->store, REFRESH_MS) < 0)
        return; /* a later one will do as well */
}

/* ---- Looking at it ---- */

struct tier2_counts tier2_counts(const struct tier2 *t)
{
    return t->counts;
}

void tier2_describe(const struct tier2 *t, char *buf, size_t size)
{
    if (!t->store || cistern_describe(t->store, buf, size) < 0)
        snprintf(buf, size, "state=off\n");
}
