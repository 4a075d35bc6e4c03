/*
 * bench_io.c - figures of put and get beside raw I/O, or beside memcpy where storage is memory.
 *
 * Get: the store is filled once; both sides read the same files at the same places, with O_DIRECT.
 * In order, the baseline reads by io_bytes, whatever the block size; at random, a whole block at a
 * time, by at most io_bytes. Put: both sides append to fresh files of the same size and the same
 * allocation; what either has left unsynced is synced behind its slice, untimed (or timed, with
 * --sync), so that it does not run on into the other's. When `total` bytes are written, the files
 * of that side are removed, untimed, and it goes on with fresh ones.
 */
#include <stdio.h>
#include <string.h>

#include "bench_figures.h"
#include "bench_raw.h"
#include "bench_store.h"
#include "cli.h"

#define SEED_FROM 1
#define SEED_TO   2

static struct figure *figure_named(struct bench_run *run, const char *what)
{
    struct figure *f = figure_add(&run->figures);

    if (f == NULL)
        return NULL;
    snprintf(f->what, sizeof(f->what), "%s", what);
    f->block = run->c.block;
    return f;
}

/* ---- get ---- */

struct reading {
    struct bench_store store;
    struct bench_area from, to;
    struct extents extents;
    cistern_memory *memory; /* `to`, registered; NULL = gets are staged */
};

static int register_area(struct reading *x)
{
    int r = cistern_memory_register(x->store.handle, x->to.base, x->to.size, &x->memory);

    return r == 0 ? CLI_OK : cli_fail_lib(r, "--direct");
}

static int reading_open(struct bench_run *run, struct reading *x)
{
    uint64_t blocks = run->c.total / run->c.block;
    struct store_job fill;
    int r;

    r = place_room(&run->place, run->c.total + 2 * run->c.segment);
    if (r == CLI_OK)
        r = area_open(&x->from, run->c.arena, SEED_FROM);
    if (r == CLI_OK)
        r = area_open(&x->to, run->c.arena, SEED_TO);
    if (r == CLI_OK)
        r = store_open(&x->store, &run->c, &run->place, blocks);
    if (r != CLI_OK)
        return r;
    fill = (struct store_job){.s = &x->store, .area = &x->from, .limit = blocks};
    r = store_fill(&fill, false);
    if (r == CLI_OK && run->c.direct)
        r = register_area(x);
    return r == CLI_OK ? store_extents(&x->store, &x->extents) : r;
}

static int read_beside_memcpy(struct bench_run *run, struct reading *x, struct figure *f,
                              const struct side *ours, bool random)
{
    struct copier copy = {.from = &x->from,
                          .to = &x->to,
                          .block = run->c.block,
                          .random = random,
                          .seed = run->c.seed + 5};
    struct side base = {"memcpy", copier_run, NULL, &copy};

    return slices_run(&run->c, f, ours, &base);
}

static int read_beside_raw(struct bench_run *run, struct reading *x, struct figure *f,
                           const struct side *ours, bool random)
{
    struct side base = {"raw", raw_reader_run, NULL, NULL};
    struct raw_reader *raw = NULL;
    char name[40];
    int r;

    r = raw_reader_open(&run->c, &x->extents, !random, run->c.io_bytes, &raw);
    if (r != CLI_OK)
        return r;
    base.arg = raw;
    snprintf(name, sizeof(name), "raw %llu KiB",
             (unsigned long long)((random && run->c.block < run->c.io_bytes ? run->c.block
                                                                            : run->c.io_bytes) >>
                                  10));
    snprintf(f->remark, sizeof(f->remark), "%s", name);
    r = slices_run(&run->c, f, ours, &base);
    raw_reader_close(raw);
    return r;
}

static int read_figure(struct bench_run *run, struct reading *x, bool random)
{
    struct store_job job = {.s = &x->store,
                            .area = &x->to,
                            .limit = x->store.next,
                            .random = random,
                            .memory = x->memory,
                            .seed = run->c.seed};
    struct side ours = {x->memory ? "direct" : "cistern", store_get_run, NULL, &job};
    struct figure *f = figure_named(run, random ? "get at random" : "get in order");

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    if (run->place.memory_backed)
        return read_beside_memcpy(run, x, f, &ours, random);
    return read_beside_raw(run, x, f, &ours, random);
}

static void reading_close(struct reading *x)
{
    int r;

    if (x->memory != NULL && (r = cistern_memory_release(x->store.handle, x->memory)) != 0)
        (void)cli_fail_lib(r, "releasing registered memory");
    extents_release(&x->extents);
    store_close(&x->store);
    area_close(&x->to);
    area_close(&x->from);
}

/* Two more handles on the same blocks: breaker and cost gate on, and off. */
static int guard_figure(struct bench_run *run, struct reading *x)
{
    struct bench_store with = x->store, without = x->store; /* one slice at a time: shared ops */
    struct store_job on = {.s = &with, .area = &x->to, .limit = with.next, .seed = run->c.seed};
    struct store_job off = {.s = &without, .area = &x->to, .limit = with.next, .seed = run->c.seed};
    struct side ours = {"guards on", store_get_run, NULL, &on};
    struct side base = {"guards off", store_get_run, NULL, &off};
    struct figure *f = figure_named(run, "get, guarded");
    struct cistern_options o;
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    snprintf(f->remark, sizeof(f->remark), "breaker and gate off");
    with.handle = without.handle = NULL;
    store_options(&x->store, &o);
    o.flags |= CISTERN_OPEN_READ_ONLY;
    o.prefill_rate = 1;
    r = cistern_open(&o, &with.handle);
    o.breaker = -1;
    o.prefill_rate = 0;
    if (r == 0)
        r = cistern_open(&o, &without.handle);
    r = r == 0 ? slices_run(&run->c, f, &ours, &base) : cli_fail_lib(r, "opening it again");
    (void)cistern_close(with.handle);
    (void)cistern_close(without.handle);
    return r;
}

int bench_get(struct bench_run *run, bool in_order, bool random, bool guarded)
{
    struct reading x;
    int r;

    memset(&x, 0, sizeof(x));
    r = reading_open(run, &x);
    if (r == CLI_OK && in_order)
        r = read_figure(run, &x, false);
    if (r == CLI_OK && random)
        r = read_figure(run, &x, true);
    if (r == CLI_OK && guarded)
        r = guard_figure(run, &x);
    reading_close(&x);
    if (r == CLI_OK && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}

/* ---- put ---- */

struct writing {
    struct bench_run *run;
    struct bench_store store;
    struct bench_area from, to;
    struct store_job job;
    struct raw_writer *raw;
    uint64_t most_blocks, most_bytes; /* of one slice so far: what room the next one needs */
};

static int write_ours(void *arg, double seconds, struct slice *out)
{
    struct writing *x = arg;
    int r = store_put_run(&x->job, seconds, out);

    if (out->ops > x->most_blocks)
        x->most_blocks = out->ops;
    return r;
}

/* A fresh store, whose staging was touched: an engine's is, after its first second. */
static int restart_ours(struct writing *x)
{
    uint64_t some = (uint64_t)x->store.nops * x->store.batch, quarter = x->store.nkeys / 4;
    struct slice ignored = {0};
    int r = store_restart(&x->store);

    x->job.limit = some < quarter ? some : quarter;
    if (r == CLI_OK)
        r = store_put_run(&x->job, 1e6, &ignored);
    x->job.limit = x->store.nkeys;
    return r == CLI_OK ? store_flush(&x->job) : r;
}

static int settle_ours(void *arg)
{
    struct writing *x = arg;
    int r = store_flush(&x->job);

    if (r == CLI_OK && x->store.next + 3 * x->most_blocks / 2 > x->job.limit)
        r = restart_ours(x);
    return r;
}

static int write_raw(void *arg, double seconds, struct slice *out)
{
    struct writing *x = arg;
    int r = raw_writer_run(x->raw, seconds, out);

    if (out->bytes > x->most_bytes)
        x->most_bytes = out->bytes;
    if (r == CLI_OK && x->run->c.sync_inside)
        r = raw_writer_sync(x->raw);
    return r;
}

static int settle_raw(void *arg)
{
    struct writing *x = arg;
    int r = raw_writer_sync(x->raw);

    if (r == CLI_OK && raw_writer_bytes(x->raw) + 3 * x->most_bytes / 2 > x->run->c.total) {
        raw_writer_restart(x->raw);
        r = place_clear_raw(&x->run->place);
    }
    return r == CLI_OK ? raw_writer_prepare(x->raw) : r;
}

/* Puts one request, to see whether the store's files are allocated beforehand. */
static int learn_allocation(struct writing *x, bool *allocates)
{
    struct slice ignored = {0};
    int r;

    x->job.limit = x->store.batch;
    r = store_put_run(&x->job, 1e6, &ignored);
    if (r == CLI_OK)
        r = store_flush(&x->job);
    *allocates = place_allocates(&x->run->place, x->store.next * x->run->c.block);
    x->job.limit = x->store.nkeys;
    return r == CLI_OK ? restart_ours(x) : r;
}

static int write_figure(struct writing *x)
{
    struct side ours = {"cistern", write_ours, settle_ours, x}, base = {0};
    struct copier copy = {.from = &x->from, .to = &x->to, .block = x->run->c.block};
    struct figure *f = figure_named(x->run, "put");
    bool allocates = false;
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    if (x->run->place.memory_backed) {
        base = (struct side){"memcpy", copier_run, NULL, &copy};
        return slices_run(&x->run->c, f, &ours, &base);
    }
    r = learn_allocation(x, &allocates);
    if (r == CLI_OK)
        r = raw_writer_open(&x->run->c, x->run->place.raw, allocates, &x->raw);
    if (r != CLI_OK)
        return r;
    snprintf(f->remark, sizeof(f->remark), "raw %llu KiB, %s files",
             (unsigned long long)x->run->c.io_bytes >> 10, allocates ? "allocated" : "growing");
    base = (struct side){"raw", write_raw, settle_raw, x};
    r = slices_run(&x->run->c, f, &ours, &base);
    if (x->store.dropped != 0)
        cli_note("cistern: %llu blocks were dropped for want of room and put again",
                 (unsigned long long)x->store.dropped);
    return r;
}

int bench_put(struct bench_run *run)
{
    struct writing x;
    int r;

    memset(&x, 0, sizeof(x));
    x.run = run;
    r = place_room(&run->place, 2 * run->c.total + 4 * run->c.segment);
    if (r == CLI_OK)
        r = area_open(&x.from, run->c.arena, SEED_FROM);
    if (r == CLI_OK && run->place.memory_backed)
        r = area_open(&x.to, run->c.arena, SEED_TO);
    if (r == CLI_OK)
        r = store_open(&x.store, &run->c, &run->place, run->c.total / run->c.block);
    if (r == CLI_OK) {
        x.job = (struct store_job){.s = &x.store, .area = &x.from, .limit = x.store.nkeys};
        r = write_figure(&x);
    }
    raw_writer_close(x.raw);
    store_close(&x.store);
    area_close(&x.to);
    area_close(&x.from);
    if (r == CLI_OK && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}
