/*
 * bench_share.c - what sharing and a capacity cost: puts and gets of a store that another process
 * has open too, with bell, following and a capacity that is not reached, beside the same store
 * alone, with none of them.
 *
 * Put: two roots, one for each side. The other process follows all that is stored in the first.
 * Get: the same files; the other process stores five blocks a second and syncs them, so that bells
 * ring and something is there to follow. It does so while either side is measured: what its writes
 * cost the device is not what sharing costs. CPU seconds are this process's alone.
 */
#include <stdio.h>
#include <string.h>

#include "bench_companion.h"
#include "bench_figures.h"
#include "cli.h"

#define SEED_FROM 1
#define SEED_TO   2
#define CAPACITY  64 /* times what is stored */

/* One side: a store with a place and a config of its own. */
struct party {
    struct bench_config c;
    struct bench_place place;
    struct bench_store store;
    struct store_job job;
    struct companion *companion; /* NULL = alone */
    bool reader;                 /* its handle writes nothing, and hears of nothing */
    uint64_t most;               /* blocks of one slice so far */
};

struct sharing {
    struct bench_run *run;
    struct bench_area from, to;
    struct companion companion;
    struct party with, alone;
};

static int party_run(struct party *p, bool put, double seconds, struct slice *out)
{
    int r = p->companion ? companion_work(p->companion, true) : CLI_OK;
    uint64_t wall = bench_now_ns();

    if (r == CLI_OK)
        r = put ? store_put_run(&p->job, seconds, out) : store_get_run(&p->job, seconds, out);
    out->seconds = (double)(bench_now_ns() - wall) / 1e9;
    if (p->companion && r == CLI_OK)
        r = companion_work(p->companion, false);
    return r;
}

static int party_put(void *arg, double seconds, struct slice *out)
{
    struct party *p = arg;
    int r = party_run(p, true, seconds, out);

    if (out->ops > p->most)
        p->most = out->ops;
    return r;
}

static int party_get(void *arg, double seconds, struct slice *out)
{
    return party_run(arg, false, seconds, out);
}

/* Some puts whose time does not count: an engine's staging was touched. */
static int party_warm(struct party *p)
{
    uint64_t some = (uint64_t)p->store.nops * p->store.batch, quarter = p->store.nkeys / 4;
    struct slice ignored = {0};
    int r;

    p->job.limit = some < quarter ? some : quarter;
    r = store_put_run(&p->job, 1e6, &ignored);
    p->job.limit = p->store.nkeys;
    return r == CLI_OK ? store_flush(&p->job) : r;
}

/* Makes room when the next slice may not fit. */
static int party_settle(void *arg)
{
    struct party *p = arg;
    int r = store_flush(&p->job);

    if (r != CLI_OK || p->store.next + 3 * p->most / 2 <= p->job.limit)
        return r;
    if (p->companion)
        r = companion_close(p->companion);
    if (r == CLI_OK)
        r = store_restart(&p->store);
    if (r == CLI_OK && p->companion)
        r = companion_open(p->companion);
    return r == CLI_OK ? party_warm(p) : r;
}

/*
 * A fresh handle for each slice of gets: how fast one reads depends on where its rings, its memory
 * and its thread happened to come to lie, by a factor of two on some machines, for as long as it is
 * open.
 */
static int party_reopen(void *arg)
{
    struct party *p = arg;
    struct bench_store *s = p->job.s;
    struct cistern_options o;
    int r;

    store_options(s, &o);
    if (p->reader)
        o.flags |= CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL;
    r = cistern_close(s->handle);
    s->handle = NULL;
    if (r == 0)
        r = cistern_open(&o, &s->handle);
    return r == 0 ? CLI_OK : cli_fail_lib(r, "opening it again");
}

static int party_open(struct sharing *x, struct party *p)
{
    int r = store_open(&p->store, &p->c, &p->place, p->c.total / p->c.block);

    p->job = (struct store_job){
        .s = &p->store, .area = &x->from, .limit = p->store.nkeys, .seed = p->c.seed};
    return r;
}

static struct figure *figure_named(struct bench_run *run, const char *what)
{
    struct figure *f = figure_add(&run->figures);

    if (f == NULL)
        return NULL;
    snprintf(f->what, sizeof(f->what), "%s", what);
    snprintf(f->remark, sizeof(f->remark), "base: no bell, no following, no capacity");
    f->block = run->c.block;
    return f;
}

static int put_figure(struct sharing *x)
{
    struct side ours = {"shared", party_put, party_settle, &x->with};
    struct side base = {"alone", party_put, party_settle, &x->alone};
    struct figure *f = figure_named(x->run, "put, shared");
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    r = party_open(x, &x->alone);
    if (r == CLI_OK)
        r = party_warm(&x->alone);
    if (r == CLI_OK)
        r = party_warm(&x->with);
    if (r == CLI_OK)
        r = slices_run(&x->run->c, f, &ours, &base);
    store_close(&x->alone.store);
    return r;
}

/* The alone side reads the files of the other: a second handle, which writes nothing. */
static int get_figure(struct sharing *x)
{
    struct bench_store alone = x->with.store; /* one slice at a time: shared ops */
    struct side ours = {"shared", party_get, party_reopen, &x->with};
    struct side base = {"alone", party_get, party_reopen, &x->alone};
    struct figure *f = figure_named(x->run, "get, shared");
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    alone.handle = NULL;
    x->with.job = (struct store_job){
        .s = &x->with.store, .area = &x->to, .limit = x->with.store.next, .seed = x->run->c.seed};
    x->alone.job = x->with.job;
    x->alone.job.s = &alone;
    x->alone.companion = x->with.companion;
    x->alone.reader = true;
    r = party_reopen(&x->alone);
    if (r == CLI_OK)
        r = slices_run(&x->run->c, f, &ours, &base);
    x->alone.companion = NULL;
    (void)cistern_close(alone.handle);
    return r;
}

/* Puts until the root holds what is to be read. */
static int fill(struct sharing *x)
{
    int r = store_flush(&x->with.job);

    x->with.job.limit = x->with.store.nkeys;
    return r == CLI_OK ? store_fill(&x->with.job, false) : r;
}

static int sharing_run(struct sharing *x)
{
    int r = party_open(x, &x->with);

    if (r == CLI_OK)
        r = companion_open(&x->companion);
    if (r == CLI_OK)
        r = put_figure(x);
    if (r == CLI_OK)
        r = fill(x);
    return r == CLI_OK ? get_figure(x) : r;
}

int bench_share(struct bench_run *run)
{
    struct sharing x;
    int r;

    memset(&x, 0, sizeof(x));
    x.run = run;
    x.with = (struct party){.c = run->c, .place = run->place, .companion = &x.companion};
    x.with.c.capacity = CAPACITY * run->c.total;
    x.alone = (struct party){.c = run->c, .place = run->place};
    x.alone.c.store_flags = CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL;
    snprintf(x.alone.place.root, sizeof(x.alone.place.root), "%.200s.alone", run->place.root);
    r = place_room(&run->place, 2 * run->c.total + 4 * run->c.segment);
    if (r == CLI_OK)
        r = companion_start(&x.companion, &x.with.c, &x.with.place);
    if (r == CLI_OK)
        r = area_open(&x.from, run->c.arena, SEED_FROM);
    if (r == CLI_OK)
        r = area_open(&x.to, run->c.arena, SEED_TO);
    if (r == CLI_OK)
        r = sharing_run(&x);
    companion_end(&x.companion);
    store_close(&x.with.store);
    store_close(&x.alone.store);
    area_close(&x.to);
    area_close(&x.from);
    (void)place_clear_root(&x.alone.place);
    if (r == CLI_OK && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}
