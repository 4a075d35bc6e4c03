/*
 * replay_store.c - a trace of requests through the store itself: real segments of small real
 * blocks, real evictions, beside LRU and the functions of the policy alone (replay_policy.c).
 *
 *   replay_store [--trace PATH | --synthetic SEED] [--capacity N,N,...] [--segments N]
 *                [--block BYTES] [--admission all|reused] [--dir PATH] [--requests N] [--json]
 *
 * A request is what an engine does: match, get of the run, put of everything. The capacity is N
 * blocks in bytes, contents and heads included; a put that finds no room is tried again until it
 * does. Every byte of a hit is compared. The one thing left out is time: an hour of requests passes
 * in seconds, so the room that a store keeps ahead for what is written during a grace is not kept
 * (the store is told that it grows slowly), and the grace is a millisecond. The keeper works beside
 * the requests, so figures differ a little from run to run.
 *
 * Needs room for the largest capacity in PATH, by default /dev/shm. Exit: 0, 1 a wrong byte, 2
 * usage, 3 the trace cannot be read or the store cannot be opened.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "cistern.h"
#include "engine/capacity.h"
#include "replay/replay.h"

#define CAPACITIES_MAX 32
#define BATCH          64u
#define PATIENCE_NS    (60 * NS_PER_S)

struct options {
    const char *path, *dir, *admission;
    uint64_t seed, requests;
    uint32_t capacity[CAPACITIES_MAX], segments, block;
    size_t capacities;
    bool json;
};

struct row {
    uint32_t capacity;
    uint64_t refs, lru;
    struct replay_result policy;
    uint64_t hits, put, carried, evictions, missed; /* of the store; missed: promised, not read */
};

struct store {
    cistern *c;
    uint32_t block;
    cistern_key *keys; /* of one request */
    uint8_t *bytes;    /* BATCH blocks */
    struct cistern_vec vecs[BATCH];
    struct cistern_span spans[BATCH];
    uint8_t results[BATCH];
};

static int usage(void)
{
    fputs("usage: replay_store [--trace PATH | --synthetic SEED] [--capacity N,N,...]\n"
          "                    [--segments N] [--block BYTES] [--admission all|reused]\n"
          "                    [--dir PATH] [--requests N] [--json]\n",
          stderr);
    return 2;
}

static bool number_parse(const char *s, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    unsigned long long v = strtoull(s, &end, 10);

    if (end == s || *s == '-' || *end || v < least || v > most)
        return false;
    *out = v;
    return true;
}

static bool capacities_parse(struct options *o, const char *s)
{
    unsigned long long v;
    char *end;

    for (o->capacities = 0; o->capacities < CAPACITIES_MAX; s = end + 1) {
        v = strtoull(s, &end, 10);
        if (end == s || *s == '-' || v < 64 || v > UINT32_MAX / 2)
            return false;
        o->capacity[o->capacities++] = (uint32_t)v;
        if (*end != ',')
            return !*end;
    }
    return false;
}

static bool option_parse(struct options *o, int c)
{
    uint64_t v;

    if (c == 't' || c == 'd')
        *(c == 't' ? &o->path : &o->dir) = optarg;
    else if (c == 's')
        return number_parse(optarg, 0, UINT64_MAX, &o->seed);
    else if (c == 'r')
        return number_parse(optarg, 1, UINT64_MAX, &o->requests);
    else if (c == 'c')
        return capacities_parse(o, optarg);
    else if (c == 'g' && number_parse(optarg, 16, 1u << 12, &v))
        o->segments = (uint32_t)v;
    else if (c == 'b' && number_parse(optarg, 4096, 1 << 20, &v) && v % 4096 == 0)
        o->block = (uint32_t)v;
    else if (c == 'a' && (strcmp(optarg, "all") == 0 || strcmp(optarg, "reused") == 0))
        o->admission = optarg;
    else if (c == 'j')
        o->json = true;
    else
        return false;
    return true;
}

static bool options_parse(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {{"trace", 1, NULL, 't'},     {"synthetic", 1, NULL, 's'},
                                          {"capacity", 1, NULL, 'c'},  {"segments", 1, NULL, 'g'},
                                          {"block", 1, NULL, 'b'},     {"dir", 1, NULL, 'd'},
                                          {"requests", 1, NULL, 'r'},  {"json", 0, NULL, 'j'},
                                          {"admission", 1, NULL, 'a'}, {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (!option_parse(o, c))
            return false;
    }
    return optind == argc;
}

/* ---- The store ---- */

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void fill(uint8_t *to, uint32_t len, uint32_t id)
{
    uint64_t x = (id + 1) * 0x9e3779b97f4a7c15ull;
    uint32_t i;

    for (i = 0; i < len; i += 8, x += 0x2545f4914f6cdd1dull)
        memcpy(to + i, &x, 8);
}

static void key_make(cistern_key *key, uint32_t id)
{
    uint64_t x = id + 0x6b6579;
    int i;

    for (i = 0; i < 4; i++) {
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull + (uint64_t)i;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        x ^= x >> 31;
        memcpy(key->b + 8 * i, &x, 8);
    }
}

static void store_open(struct store *s, const struct options *o, uint32_t capacity, const char *dir,
                       size_t longest)
{
    const struct cistern_part part = {.name = "kv", .bytes = o->block};
    const struct cistern_space space = {.size = sizeof space,
                                        .model = "replay",
                                        .dtype = "bf16",
                                        .block_tokens = 512,
                                        .nparts = 1,
                                        .parts = &part};
    uint64_t bytes = (uint64_t)capacity * o->block, segment = bytes / o->segments;
    struct cistern_options co = {.size = sizeof co,
                                 .reuse_cache = 1,
                                 .enable_3fs = 1,
                                 .mount = dir,
                                 .provider = "local",
                                 .space = &space,
                                 .read_iov_bytes = 32 << 20,
                                 .write_iov_bytes = 32 << 20,
                                 .capacity_bytes = bytes,
                                 .segment_bytes = segment / 4096 * 4096,
                                 .io_bytes = 4096,
                                 .max_blocks = 1 << 22,
                                 .lanes = 1,
                                 .get_timeout_ms = 60000,
                                 .put_timeout_ms = 60000,
                                 .read_timeout_ms = 60000,
                                 .write_timeout_ms = 60000,
                                 .evict_grace_ms = 1,
                                 .admission = o->admission};
    uint32_t i;

    while (co.io_bytes < o->block && co.io_bytes * 2 <= co.segment_bytes)
        co.io_bytes *= 2;
    s->block = o->block;
    s->keys = replay_alloc(longest, sizeof *s->keys);
    s->bytes = replay_alloc(BATCH, o->block);
    for (i = 0; i < BATCH; i++) {
        s->vecs[i] = (struct cistern_vec){s->bytes + (size_t)i * o->block, o->block};
        s->spans[i] = (struct cistern_span){&s->vecs[i], 1};
    }
    if (cistern_open(&co, &s->c))
        replay_fail("the store cannot be opened: %s", cistern_error_text());
}

static void store_close(struct store *s)
{
    (void)cistern_close(s->c);
    free(s->keys);
    free(s->bytes);
}

static struct cistern_request request_of(struct store *s, size_t from, size_t n)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = s->keys + from,
                                    .spans = s->spans,
                                    .results = s->results,
                                    .first = (uint32_t)from,
                                    .blocks = (uint32_t)(n < BATCH ? n : BATCH)};
}

/* Reads and compares a run; how long it really was. */
static size_t read_run(struct store *s, const uint32_t *ids, size_t run)
{
    uint8_t *want = replay_alloc(1, s->block);
    struct cistern_event ev;
    size_t from, got = 0;
    uint32_t i;

    for (from = 0; from < run && got == from; from += BATCH) {
        struct cistern_request r = request_of(s, from, run - from);

        if (cistern_get_sync(s->c, &r, &ev))
            replay_fail("get: %s", cistern_error_text());
        for (i = 0; i < ev.run; i++) {
            fill(want, s->block, ids[from + i]);
            if (memcmp(want, s->bytes + (size_t)i * s->block, s->block) != 0) {
                fprintf(stderr, "replay_store: block %u: other bytes than were stored\n",
                        ids[from + i]);
                exit(1);
            }
        }
        got += ev.run;
    }
    free(want);
    return got;
}

/* Leading blocks that are stored, or were refused. */
static uint32_t count_settled(const struct store *s, uint32_t blocks)
{
    uint32_t i;

    for (i = 0; i < blocks; i++) {
        uint8_t r = s->results[i];

        if (r != CISTERN_NOT_ADMITTED && r != CISTERN_STORED && r != CISTERN_PRESENT &&
            r != CISTERN_UNDERWAY)
            break;
    }
    return i;
}

static void write_all(struct store *s, const uint32_t *ids, size_t n)
{
    uint64_t end = clock_ns() + PATIENCE_NS;
    struct cistern_event ev;
    uint8_t admit[BATCH]; /* of the next blocks that were asked about already: `known` of them */
    uint32_t i, settled, known = 0;
    size_t from;

    for (from = 0; from < n;) {
        struct cistern_request r = request_of(s, from, known ? known : n - from);

        for (i = 0; i < r.blocks; i++)
            fill(s->bytes + (size_t)i * s->block, s->block, ids[from + i]);
        s->c->capacity->rate_ns = clock_ns(); /* it grows slowly: see above */
        if (known)
            r.admit = admit;
        if (cistern_put_sync(s->c, &r, &ev))
            replay_fail("put: %s", cistern_error_text());
        settled = count_settled(s, r.blocks);
        for (i = 0; i < r.blocks && !known; i++)
            admit[i] = s->results[i] != CISTERN_NOT_ADMITTED;
        known = r.blocks - settled;
        memmove(admit, admit + settled, known);
        from += settled; /* what is there is not put again: that would be a use */
        if (!known)
            continue;
        if (clock_ns() > end)
            replay_fail("a put found no room for a minute");
        (void)usleep(1000);
    }
}

static uint64_t metric(cistern *c, const char *name)
{
    struct cistern_metric m[METRIC_COUNT];
    int i, n = cistern_metrics(c, m, METRIC_COUNT);

    for (i = 0; i < n && i < METRIC_COUNT; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    replay_fail("no metric %s", name);
}

/* What a match promised stays for as long as a get may take, which here is a good part of the hour.
 */
static void let_go(cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++)
        atomic_store(&c->segs.at[i].pinned_ns, 0);
}

static void replay_real(const struct trace *t, const struct options *o, struct row *row)
{
    struct store s = {0};
    struct cistern_match m;
    size_t r, i, longest = 1;
    char dir[512];

    if (snprintf(dir, sizeof dir, "%s/cistern-replay-XXXXXX", o->dir) >= (int)sizeof dir ||
        !mkdtemp(dir))
        replay_fail("no folder can be made in %s: %s", o->dir, strerror(errno));
    for (r = 0; r < t->requests; r++)
        longest =
            t->starts[r + 1] - t->starts[r] > longest ? t->starts[r + 1] - t->starts[r] : longest;
    store_open(&s, o, row->capacity, dir, longest);
    for (r = 0; r < t->requests; r++) {
        const uint32_t *ids = t->ids + t->starts[r];
        size_t n = t->starts[r + 1] - t->starts[r], run;

        for (i = 0; i < n; i++)
            key_make(&s.keys[i], ids[i]);
        if (n && cistern_match(s.c, s.keys, n, &m))
            replay_fail("match: %s", cistern_error_text());
        run = n ? read_run(&s, ids, m.blocks) : 0;
        if (n && m.ticket)
            (void)cistern_ticket_release(s.c, m.ticket);
        row->hits += run;
        row->missed += n ? m.blocks - run : 0;
        let_go(s.c);
        write_all(&s, ids, n);
    }
    row->put = metric(s.c, "put_bytes") / o->block;
    row->carried = metric(s.c, "carried_bytes") / o->block;
    row->evictions = metric(s.c, "evicted_segments");
    store_close(&s);
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void row_fill(struct row *row, const struct trace *t, const struct options *o)
{
    struct replay_options r = {.capacity = row->capacity,
                               .segments = o->segments,
                               .admit =
                                   strcmp(o->admission, "reused") == 0 ? ADMIT_REUSED : ADMIT_ALL};

    row->refs = t->starts[t->requests];
    row->lru = replay_lru(t, row->capacity);
    replay_store(t, &r, &row->policy);
    replay_real(t, o, row);
}

/* ---- The report ---- */

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static double amplification(const struct row *r)
{
    return percent(r->put + r->carried, r->put) / 100;
}

static void print_text(const struct row *rows, size_t n)
{
    double mean[3] = {0};
    size_t i, k;

    printf("%8s %7s %7s | %7s %6s %9s %9s\n", "blocks", "LRU", "policy", "store", "WA", "written",
           "evictions");
    for (i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        double v[3] = {percent(r->lru, r->refs), percent(r->policy.hits, r->refs),
                       percent(r->hits, r->refs)};

        for (k = 0; k < 3; k++)
            mean[k] += v[k] / (double)n;
        printf("%8u %7.2f %7.2f | %7.2f %6.3f %9llu %9llu\n", r->capacity, v[0], v[1], v[2],
               amplification(r), (unsigned long long)(r->put + r->carried),
               (unsigned long long)r->evictions);
    }
    printf("%8s %7.2f %7.2f | %7.2f\n", "mean", mean[0], mean[1], mean[2]);
}

static void print_json(const struct row *rows, size_t n)
{
    json_t *list = json_array(), *o;
    size_t i;

    for (i = 0; i < n; i++) {
        const struct row *r = &rows[i];

        json_array_append_new(
            list,
            json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "capacity",
                      (json_int_t)r->capacity, "references", (json_int_t)r->refs, "lru_percent",
                      percent(r->lru, r->refs), "policy_percent", percent(r->policy.hits, r->refs),
                      "store_percent", percent(r->hits, r->refs), "write_amplification",
                      amplification(r), "put", (json_int_t)r->put, "carried",
                      (json_int_t)r->carried, "evictions", (json_int_t)r->evictions, "missed",
                      (json_int_t)r->missed));
    }
    o = json_pack("{s:o}", "rows", list);
    if (!o || json_dumpf(o, stdout, JSON_INDENT(2)))
        replay_fail("no JSON could be written");
    putchar('\n');
    json_decref(o);
}

int main(int argc, char **argv)
{
    struct options o = {.dir = "/dev/shm",
                        .admission = "all",
                        .seed = 1,
                        .capacity = {1000, 5000, 10000, 20000, 50000},
                        .capacities = 5,
                        .segments = 128,
                        .block = 16384};
    struct row rows[CAPACITIES_MAX] = {0};
    struct trace t;
    size_t i;

    if (!options_parse(&o, argc, argv))
        return usage();
    if (o.path)
        trace_load(&t, o.path);
    else
        trace_synthetic(&t, o.seed);
    if (o.requests && o.requests < t.requests)
        t.requests = o.requests;
    for (i = 0; i < o.capacities; i++) {
        rows[i].capacity = o.capacity[i];
        row_fill(&rows[i], &t, &o);
    }
    if (o.json)
        print_json(rows, o.capacities);
    else
        print_text(rows, o.capacities);
    trace_free(&t);
    return 0;
}
