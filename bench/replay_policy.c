/*
 * replay_policy.c - what eviction and admission are worth: a trace of requests over the functions
 * of engine/policy.h, beside LRU, FIFO and Belady's MIN.
 *
 *   replay_policy [--trace PATH | --synthetic SEED] [--capacity N,N,...] [--segments N]
 *                 [--one-stream] [--no-carry] [--touches] [--json]
 *
 * Counts only, so the answer is the same on every machine. Quoted in docs/BENCHMARKS.md; checked by
 * tests/trace. Exit: 0, 2 usage, 3 the trace cannot be read.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "replay/replay.h"

#define CAPACITIES_MAX 32

struct request_options {
    const char *path;
    uint64_t seed;
    uint32_t capacity[CAPACITIES_MAX];
    size_t capacities;
    uint32_t segments;
    bool one_stream, no_carry, touches, json;
};

struct row {
    uint32_t capacity;
    uint64_t lru, fifo, min;
    struct replay_result all, reused;
};

static int usage(void)
{
    fputs("usage: replay_policy [--trace PATH | --synthetic SEED] [--capacity N,N,...]\n"
          "                     [--segments N] [--one-stream] [--no-carry] [--touches] [--json]\n",
          stderr);
    return 2;
}

static bool number_parse(const char *s, uint64_t max, uint64_t *out, char **end)
{
    unsigned long long v = strtoull(s, end, 10);

    if (*end == s || *s == '-' || v > max)
        return false;
    *out = v;
    return true;
}

static bool capacities_parse(struct request_options *o, const char *s)
{
    uint64_t v;
    char *end;

    for (o->capacities = 0; o->capacities < CAPACITIES_MAX; s = end + 1) {
        if (!number_parse(s, UINT32_MAX / 2, &v, &end) || v < 64)
            return false;
        o->capacity[o->capacities++] = (uint32_t)v;
        if (*end != ',')
            return !*end;
    }
    return false;
}

static bool options_parse(struct request_options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"trace", 1, NULL, 't'},    {"synthetic", 1, NULL, 's'},  {"capacity", 1, NULL, 'c'},
        {"segments", 1, NULL, 'g'}, {"one-stream", 0, NULL, 'o'}, {"no-carry", 0, NULL, 'n'},
        {"touches", 0, NULL, 'u'},  {"json", 0, NULL, 'j'},       {NULL, 0, NULL, 0}};
    uint64_t v;
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 't')
            o->path = optarg;
        else if (c == 's' && number_parse(optarg, UINT64_MAX, &v, &end) && !*end)
            o->seed = v;
        else if (c == 'c' && capacities_parse(o, optarg))
            continue;
        else if (c == 'g' && number_parse(optarg, 1u << 16, &v, &end) && !*end && v >= 4)
            o->segments = (uint32_t)v;
        else if (c == 'o')
            o->one_stream = true;
        else if (c == 'n')
            o->no_carry = true;
        else if (c == 'u')
            o->touches = true;
        else if (c == 'j')
            o->json = true;
        else
            return false;
    }
    return optind == argc;
}

static void row_fill(struct row *row, const struct trace *t, const struct request_options *o)
{
    struct replay_options r = {.capacity = row->capacity,
                               .segments = o->segments,
                               .one_stream = o->one_stream,
                               .no_carry = o->no_carry,
                               .touches = o->touches,
                               .admit = ADMIT_ALL};

    row->lru = replay_lru(t, row->capacity);
    row->fifo = replay_fifo(t, row->capacity);
    row->min = replay_min(t, row->capacity);
    replay_store(t, &r, &row->all);
    r.admit = ADMIT_REUSED;
    replay_store(t, &r, &row->reused);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static uint64_t written(const struct replay_result *r)
{
    return r->puts + r->carried;
}

static double amplification(const struct replay_result *r)
{
    return percent(written(r), r->puts) / 100;
}

static void print_text(const struct trace *t, const struct row *rows, size_t n)
{
    uint64_t refs = t->starts[t->requests];
    double mean[6] = {0};
    size_t i, k;

    printf("%zu requests, %llu block references, %u distinct blocks; hits of leading runs in %% of "
           "references\n\n",
           t->requests, (unsigned long long)refs, t->distinct);
    printf("%8s %7s %7s %7s | %8s %6s | %8s %7s %6s %9s\n", "blocks", "LRU", "FIFO", "MIN",
           "Cistern", "WA", "reused", "cost", "WA", "written");
    for (i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        double v[6] = {
            percent(r->lru, refs),         percent(r->fifo, refs),
            percent(r->min, refs),         percent(r->all.hits, refs),
            percent(r->reused.hits, refs), percent(written(&r->reused), written(&r->all))};

        for (k = 0; k < 6; k++)
            mean[k] += v[k] / (double)n;
        printf("%8u %7.2f %7.2f %7.2f | %8.2f %6.3f | %8.2f %7.2f %6.3f %8.1f%%\n", r->capacity,
               v[0], v[1], v[2], v[3], amplification(&r->all), v[4], v[3] - v[4],
               amplification(&r->reused), v[5]);
    }
    printf("%8s %7.2f %7.2f %7.2f | %8.2f %6s | %8.2f %7.2f %6s %8.1f%%\n", "mean", mean[0],
           mean[1], mean[2], mean[3], "", mean[4], mean[3] - mean[4], "", mean[5]);
}

static json_t *result_json(const struct replay_result *r, uint64_t refs)
{
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "hit_percent",
                     percent(r->hits, refs), "hits", (json_int_t)r->hits, "puts",
                     (json_int_t)r->puts, "carried", (json_int_t)r->carried, "refused",
                     (json_int_t)r->refused, "evictions", (json_int_t)r->evictions, "most_blocks",
                     (json_int_t)r->most, "write_amplification", amplification(r));
}

static void print_json(const struct trace *t, const struct row *rows, size_t n)
{
    uint64_t refs = t->starts[t->requests];
    json_t *list = json_array(), *o;
    size_t i;

    for (i = 0; i < n; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:f, s:f, s:f, s:o, s:o, s:f}", "capacity",
                            (json_int_t)rows[i].capacity, "lru_percent", percent(rows[i].lru, refs),
                            "fifo_percent", percent(rows[i].fifo, refs), "min_percent",
                            percent(rows[i].min, refs), "all", result_json(&rows[i].all, refs),
                            "reused", result_json(&rows[i].reused, refs), "reused_written_percent",
                            percent(written(&rows[i].reused), written(&rows[i].all))));
    o = json_pack("{s:I, s:I, s:I, s:o}", "requests", (json_int_t)t->requests, "references",
                  (json_int_t)refs, "distinct", (json_int_t)t->distinct, "rows", list);
    if (!o || json_dumpf(o, stdout, JSON_INDENT(2)))
        replay_fail("no JSON could be written");
    putchar('\n');
    json_decref(o);
}

int main(int argc, char **argv)
{
    struct request_options o = {
        .seed = 1, .capacity = {1000, 5000, 10000, 20000, 50000}, .capacities = 5, .segments = 64};
    struct row rows[CAPACITIES_MAX] = {0};
    struct trace t;
    size_t i;

    if (!options_parse(&o, argc, argv))
        return usage();
    if (o.path)
        trace_load(&t, o.path);
    else
        trace_synthetic(&t, o.seed);
    for (i = 0; i < o.capacities; i++) {
        rows[i].capacity = o.capacity[i];
        row_fill(&rows[i], &t, &o);
    }
    if (o.json)
        print_json(&t, rows, o.capacities);
    else
        print_text(&t, rows, o.capacities);
    trace_free(&t);
    return 0;
}
