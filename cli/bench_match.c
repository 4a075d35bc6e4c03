/*
 * bench_index.c - figures of match, of key derivation and of open: the index and the contents
 * files.
 *
 * Payloads are not read by a match or an open, so they are punched out of the data files as the
 * store is filled: ten million blocks of 4 KiB then take the room of their contents. The baseline
 * of a match is one 64-byte line read at a random place for each key, over as many lines as there
 * are blocks: what any index in memory pays at least. Only the match itself is timed, not the
 * choice of keys nor the release of its ticket.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_figures.h"
#include "bench_store.h"
#include "cli.h"

#define LINE    64u
#define SAMPLES (1u << 20) /* latencies kept for the percentiles */
#define HOLLOW  4096u      /* bytes of a block whose payload nobody reads */

struct matching {
    struct bench_store store;
    struct bench_area from, lines;
    uint64_t blocks, seed;
    cistern_key *chain;
    uint64_t keys; /* in a chain */
    bool scattered;
    uint32_t *samples; /* nanoseconds of each match, of all slices of ours */
    size_t nsamples;
    uint32_t *scratch;     /* of one slice */
    struct store_job puts; /* per_second 0 = none */
    atomic_bool stop;
    uint64_t put_blocks;
    double put_seconds;
    uint64_t sum; /* keeps the compiler from dropping the baseline's reads */
};

static void choose_keys(struct matching *m)
{
    uint64_t span = m->blocks - m->keys + 1, i;

    if (!m->scattered) {
        memcpy(m->chain, m->store.keys + bench_random(&m->seed) % span,
               m->keys * sizeof(*m->chain));
        return;
    }
    for (i = 0; i < m->keys; i++)
        m->chain[i] = m->store.keys[bench_random(&m->seed) % m->blocks];
}

static int match_once(struct matching *m, uint64_t *ns)
{
    struct cistern_match out;
    uint64_t t;
    int r;

    choose_keys(m);
    t = bench_now_ns();
    r = cistern_match(m->store.handle, m->chain, m->keys, &out);
    *ns = bench_now_ns() - t;
    if (r != 0)
        return cli_fail_lib(r, "match");
    cistern_ticket_release(m->store.handle, out.ticket);
    if (out.blocks != m->keys)
        return cli_fail(CLI_IO, "a match of %llu stored keys found %u", (unsigned long long)m->keys,
                        out.blocks);
    return CLI_OK;
}

/* A slice counts as its median match, as often as there were matches. */
static void slice_close(struct matching *m, size_t n, struct slice *out)
{
    out->ops = n * m->keys;
    out->seconds = samples_rank(m->scratch, n, 0.5) * (double)n / 1e9;
}

static uint32_t clipped(uint64_t ns)
{
    return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int match_work(struct matching *m, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), ns;
    int r = CLI_OK;
    size_t n = 0;

    while (r == CLI_OK && n < SAMPLES && bench_now_ns() < until && !bench_stopped) {
        r = match_once(m, &ns);
        m->scratch[n++] = clipped(ns);
        if (m->nsamples < SAMPLES)
            m->samples[m->nsamples++] = clipped(ns);
    }
    slice_close(m, n, out);
    return r;
}

static void *put_thread(void *arg)
{
    struct matching *m = arg;
    struct slice s = {0};
    uint64_t t = bench_now_ns();
    int r;

    /* The schedule of a slice starts with it: blocks due are counted from here. */
    m->puts.started_ns = t - (uint64_t)((double)m->store.next * 1e9 / (double)m->puts.per_second);
    r = store_put_run(&m->puts, 1e6, &s);
    m->put_blocks += s.ops;
    m->put_seconds += (double)(bench_now_ns() - t) / 1e9;
    return r == CLI_OK ? NULL : m;
}

static int match_run(void *arg, double seconds, struct slice *out)
{
    struct matching *m = arg;
    pthread_t putter;
    void *failed = NULL;
    int r;

    if (m->puts.per_second == 0)
        return match_work(m, seconds, out);
    atomic_store(&m->stop, false);
    if (pthread_create(&putter, NULL, put_thread, m) != 0)
        return cli_fail(CLI_ENVIRONMENT, "cannot start a thread");
    r = match_work(m, seconds, out);
    atomic_store(&m->stop, true);
    pthread_join(putter, &failed);
    return r == CLI_OK && failed != NULL ? CLI_IO : r;
}

static int match_settle(void *arg)
{
    struct matching *m = arg;

    return m->puts.per_second ? place_hollow(m->store.place) : CLI_OK;
}

static int lines_run(void *arg, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), t, place, i;
    struct matching *m = arg;
    size_t n = 0;

    while (n < SAMPLES && bench_now_ns() < until && !bench_stopped) {
        choose_keys(m);
        t = bench_now_ns();
        for (i = 0; i < m->keys; i++) {
            memcpy(&place, m->chain[i].b + 8, sizeof(place));
            m->sum += m->lines.base[(place % m->blocks) * LINE];
        }
        m->scratch[n++] = clipped(bench_now_ns() - t);
    }
    slice_close(m, n, out);
    return CLI_OK;
}

static void remark(const struct matching *m, struct figure *f)
{
    double rate = m->put_seconds > 0 ? (double)m->put_blocks / m->put_seconds : 0;
    size_t n = m->nsamples;
    int at;

    if (n == 0)
        return;
    at = snprintf(f->remark, sizeof(f->remark), "%llu keys: p50 %.1f, p99 %.1f, max %.1f us",
                  (unsigned long long)m->keys, samples_rank(m->samples, n, 0.5) / 1e3,
                  samples_rank(m->samples, n, 0.99) / 1e3, samples_rank(m->samples, n, 1) / 1e3);
    if (rate > 0)
        snprintf(f->remark + at, sizeof(f->remark) - (size_t)at, "; %.0f puts/s", rate);
}

static int match_figure(struct bench_run *run, struct matching *m, const char *what, uint64_t keys,
                        bool scattered, uint64_t puts)
{
    struct side ours = {"cistern", match_run, match_settle, m};
    struct side base = {"one line", lines_run, NULL, m};
    struct figure *f = figure_add(&run->figures);
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    snprintf(f->what, sizeof(f->what), "%s", what);
    f->block = m->blocks;
    f->by_time = true;
    m->keys = keys < m->blocks ? keys : m->blocks;
    m->scattered = scattered;
    m->puts.per_second = puts;
    m->nsamples = 0;
    r = slices_run(&run->c, f, &ours, puts ? NULL : &base);
    remark(m, f);
    return r;
}

/* Fills a store with `blocks` hollow blocks; `more`: keys for puts to come. */
static int hollow_open(struct bench_run *run, struct bench_store *s, struct bench_area *from,
                       uint64_t blocks, uint64_t more)
{
    struct store_job fill = {.s = s, .area = from, .limit = blocks};
    uint64_t room = blocks * (LINE + 8) + 6 * run->c.segment + (4ull << 30);
    int r;

    run->c.block = HOLLOW * run->c.parts;
    if (blocks * run->c.block < 4ull << 30)
        room = blocks * run->c.block * 2 + 6 * run->c.segment;
    r = place_room(&run->place, room);
    if (r == CLI_OK)
        r = area_open(from, 64u << 20, run->c.seed);
    if (r == CLI_OK)
        r = store_open(s, &run->c, &run->place, blocks + more);
    return r == CLI_OK ? store_fill(&fill, true) : r;
}

static int matching_open(struct bench_run *run, struct matching *m)
{
    const struct bench_config *c = &run->c;
    uint64_t most = c->chain > 2048 ? c->chain : 2048, more;
    int r;

    more = (uint64_t)((double)c->puts * c->seconds * (double)(c->slices + c->warmup + 1) * 1.2);
    m->blocks = c->count;
    m->seed = c->seed;
    r = hollow_open(run, &m->store, &m->from, m->blocks, more);
    if (r == CLI_OK)
        r = area_open(&m->lines, (m->blocks + 1) * LINE, c->seed);
    if (r != CLI_OK)
        return r;
    m->puts = (struct store_job){
        .s = &m->store, .area = &m->from, .limit = m->store.nkeys, .stop = &m->stop};
    m->chain = calloc(most, sizeof(*m->chain));
    m->samples = calloc(SAMPLES, sizeof(*m->samples));
    m->scratch = calloc(SAMPLES, sizeof(*m->scratch));
    if (m->chain == NULL || m->samples == NULL || m->scratch == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    return CLI_OK;
}

int bench_match(struct bench_run *run)
{
    struct matching m;
    int r;

    memset(&m, 0, sizeof(m));
    r = matching_open(run, &m);
    if (r == CLI_OK)
        r = match_figure(run, &m, "match, as stored", run->c.chain, false, 0);
    if (r == CLI_OK)
        r = match_figure(run, &m, "match, scattered", run->c.chain, true, 0);
    if (r == CLI_OK && run->c.puts != 0)
        r = match_figure(run, &m, "match beside puts", 2048, true, run->c.puts);
    store_close(&m.store);
    area_close(&m.lines);
    area_close(&m.from);
    free(m.chain);
    free(m.samples);
    free(m.scratch);
    if (r == CLI_OK && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}

int bench_hollow_build(struct bench_run *run)
{
    struct bench_store s;
    struct bench_area from = {0};
    int r;

    memset(&s, 0, sizeof(s));
    r = hollow_open(run, &s, &from, run->c.count, 0);
    store_close(&s);
    area_close(&from);
    return r;
}
