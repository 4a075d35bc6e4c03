/*
 * measure.c - the figures of one size. The handle neither follows by itself nor has a capacity, so
 * its threads are idle while the functions that the follower and the keeper would call are called
 * and timed here. Times are CPU time of the process, but of opens, which have both: waiting for a
 * processor that others use says nothing about growth.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../tests/harness/metric.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/follow.h"
#include "growth.h"

#define OPENS   3
#define MATCHES 2000u
#define ROUNDS  9

static uint64_t cpu_ns(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;

    return (a > b) - (a < b);
}

static double rank(double *v, size_t n, double which)
{
    qsort(v, n, sizeof *v, by_value);
    return v[(size_t)((double)(n - 1) * which)];
}

static int failed(const char *what)
{
    fprintf(stderr, "growth: %s: %s\n", what, cistern_error_text());
    return -1;
}

static int failed_count(const char *what, uint64_t got, uint64_t wanted)
{
    fprintf(stderr, "growth: %s took up %llu of %llu blocks\n", what, (unsigned long long)got,
            (unsigned long long)wanted);
    return -1;
}

static int measure_open(struct cistern_options o, const struct growth_size *size,
                        struct growth_result *out)
{
    double wall[OPENS], cpu[OPENS];
    int i;

    o.flags |= CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY;
    for (i = 0; i < OPENS; i++) {
        uint64_t t = clock_ns(), used = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        cistern *c;

        if (cistern_open(&o, &c))
            return failed("open");
        wall[i] = (double)(clock_ns() - t) / 1e9;
        cpu[i] = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - used) / 1e9;
        if (metric_of(c, "index_blocks") != size->blocks)
            return failed_count("an open", metric_of(c, "index_blocks"), size->blocks);
        (void)cistern_close(c);
    }
    out->open_s = rank(wall, OPENS, 0.5);
    out->open_cpu_s = rank(cpu, OPENS, 0.5);
    return 0;
}

static int measure_match(cistern *c, const struct growth_size *size, struct growth_result *out)
{
    static cistern_key keys[GROWTH_CHAIN];
    static double ns[MATCHES];
    uint64_t state = 1;
    uint32_t i, k;

    for (i = 0; i < MATCHES; i++) {
        uint64_t first, t;
        struct cistern_match m;

        state = state * 6364136223846793005u + 1442695040888963407u;
        first = (state >> 20) % (size->blocks - GROWTH_CHAIN + 1);
        for (k = 0; k < GROWTH_CHAIN; k++)
            growth_key(&keys[k], first + k);
        t = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        if (cistern_match(c, keys, GROWTH_CHAIN, &m) || m.blocks != GROWTH_CHAIN)
            return failed("a match found too little");
        ns[i] = (double)(cpu_ns(CLOCK_THREAD_CPUTIME_ID) - t);
        (void)cistern_ticket_release(c, m.ticket);
    }
    out->match_p50 = rank(ns, MATCHES, 0.5);
    out->match_p99 = rank(ns, MATCHES, 0.99);
    return 0;
}

/* As the follower does it: when a bell rang or a poll is due, and when a listing is. */
static int measure_follow(cistern *c, const struct growth_size *size, struct growth_result *out)
{
    double heads[ROUNDS], names[ROUNDS];
    uint64_t t, before, seq = 0;
    int i;

    if (growth_add(c, size->blocks, 1, seq++) || look_run(c, LOOK_LIST, UINT32_MAX))
        return failed("a new writer");
    for (i = 0; i < ROUNDS; i++) {
        before = metric_of(c, "index_blocks");
        if (growth_add(c, size->blocks + 1 + (uint64_t)i * GROWTH_NEW, GROWTH_NEW, seq++))
            return -1;
        t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (look_run(c, LOOK_HEADS, UINT32_MAX))
            return failed("a look");
        heads[i] = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t);
        if (metric_of(c, "index_blocks") != before + GROWTH_NEW)
            return failed_count("a look", metric_of(c, "index_blocks") - before, GROWTH_NEW);
        t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (look_run(c, LOOK_LIST, UINT32_MAX))
            return failed("a listing");
        names[i] = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t);
    }
    out->follow_ns = rank(heads, ROUNDS, 0.5);
    out->list_ns = rank(names, ROUNDS, 0.5);
    return 0;
}

static bool is_victim(const struct usage *u, const struct usage_segment *s)
{
    return s->sealed && s->toc && u->dirs[s->dir].own && s->writer != GROWTH_LIVE;
}

static int measure_evict(cistern *c, struct growth_result *out)
{
    double ns[ROUNDS], scans[ROUNDS];
    struct usage u = {0};
    uint64_t t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID), before;
    int i;

    if (usage_scan(&u, c))
        return failed("a scan");
    out->scan_first_ns = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t);
    for (i = 0; i < ROUNDS; i++) {
        t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (usage_scan(&u, c))
            return failed("a scan");
        scans[i] = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t);
    }
    out->scan_ns = rank(scans, ROUNDS, 0.5);
    before = metric_of(c, "index_blocks");
    for (i = 0; i < ROUNDS; i++) {
        size_t at = u.nsegs * (size_t)i / ROUNDS;

        while (at < u.nsegs && !is_victim(&u, &u.segs[at]))
            at++;
        if (at == u.nsegs)
            return failed("there is nothing to evict");
        t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (evict_begin(c, &u, &u.segs[at]))
            return failed("an eviction");
        ns[i] = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t);
    }
    out->evict_ns = rank(ns, ROUNDS, 0.5);
    out->evicted = (double)(before - metric_of(c, "index_blocks")) / ROUNDS;
    usage_free(&u);
    return out->evicted > 0 ? 0 : failed("an eviction forgot nothing");
}

int growth_measure(const char *dir, const struct growth_size *size, struct growth_result *out)
{
    struct cistern_options o;
    struct cistern_space space;
    cistern *c;
    uint64_t t;
    int rc;

    growth_options(&o, &space, dir, size->shards);
    if (measure_open(o, size, out))
        return -1;
    t = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (cistern_open(&o, &c))
        return failed("open");
    out->writing_s = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - t) / 1e9;
    out->bytes = (double)metric_of(c, "index_bytes") / (double)(size->blocks * size->shards);
    rc = measure_match(c, size, out);
    if (!rc)
        rc = measure_follow(c, size, out);
    if (!rc)
        rc = measure_evict(c, out);
    return cistern_close(c) || rc ? -1 : 0;
}
