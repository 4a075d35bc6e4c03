/*
 * bench_scrape.c - what being watched costs: gets of a store that keeps a statistics page, beside a
 * process that makes Prometheus' text of it four times a second, and gets of the same files through
 * a handle without a page that nobody looks at.
 *
 * The other process does what `cistern metrics --listen` does for each request; it is made before
 * this one has threads. CPU seconds are this process's alone, throughput suffers from both.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_figures.h"
#include "bench_store.h"
#include "cli.h"
#include "metrics.h"

#define SEED_FROM 1
#define SEED_TO   2
#define PERIOD_US 250000u
#define NAP_US    10000u

/* In memory of both processes. */
struct watch {
    _Atomic bool on;
    _Atomic uint64_t scrapes, failed;
};

struct watched {
    struct watch *w;
    struct store_job job;
};

/* ---- The other process ---- */

static _Noreturn void scrape(struct watch *w)
{
    size_t len;
    int code;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        char *text;

        if (!atomic_load(&w->on)) {
            (void)usleep(NAP_US);
            continue;
        }
        text = metrics_text((uint32_t)getppid(), &len, &code);
        (void)atomic_fetch_add(text != NULL ? &w->scrapes : &w->failed, 1);
        free(text);
        (void)usleep(PERIOD_US);
    }
}

static int watch_start(struct watch **out, pid_t *pid)
{
    struct watch *w =
        mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (w == MAP_FAILED)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    *pid = fork();
    if (*pid == 0)
        scrape(w);
    if (*pid < 0) {
        (void)munmap(w, sizeof(*w));
        return cli_fail(CLI_ENVIRONMENT, "the process that looks cannot be made");
    }
    *out = w;
    return CLI_OK;
}

static void watch_end(struct watch *w, pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)munmap(w, sizeof(*w));
}

/* ---- This process ---- */

static int get_watched(void *arg, double seconds, struct slice *out)
{
    struct watched *x = arg;
    int r;

    atomic_store(&x->w->on, true);
    r = store_get_run(&x->job, seconds, out);
    atomic_store(&x->w->on, false);
    return r;
}

static int figure_take(struct bench_run *run, struct watched *x)
{
    struct bench_store alone = *x->job.s; /* one slice at a time: shared ops */
    struct store_job unseen = x->job;
    struct side ours = {"watched", get_watched, NULL, x};
    struct side base = {"unseen", store_get_run, NULL, &unseen};
    struct figure *f = figure_add(&run->figures);
    struct cistern_options o;
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    snprintf(f->what, sizeof(f->what), "get, watched");
    f->block = run->c.block;
    store_options(&alone, &o);
    o.flags |= CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL;
    o.stat_page = -1;
    alone.handle = NULL;
    r = cistern_open(&o, &alone.handle);
    if (r != 0)
        return cli_fail_lib(r, "opening it again");
    unseen.s = &alone;
    r = slices_run(&run->c, f, &ours, &base);
    (void)cistern_close(alone.handle);
    if (r == CLI_OK && (atomic_load(&x->w->failed) || !atomic_load(&x->w->scrapes)))
        r = cli_fail(CLI_IO, "the numbers could not be read while the store was at work");
    snprintf(f->remark, sizeof(f->remark), "%llu scrapes; base: no page, nobody looks",
             (unsigned long long)atomic_load(&x->w->scrapes));
    return r;
}

int bench_scrape(struct bench_run *run)
{
    struct bench_store store = {0};
    struct bench_area from = {0}, to = {0};
    struct watched x = {0};
    pid_t pid = 0;
    int r = place_room(&run->place, run->c.total + 2 * run->c.segment);

    if (r == CLI_OK)
        r = watch_start(&x.w, &pid);
    if (r != CLI_OK)
        return r;
    r = area_open(&from, run->c.arena, SEED_FROM);
    if (r == CLI_OK)
        r = area_open(&to, run->c.arena, SEED_TO);
    if (r == CLI_OK)
        r = store_open(&store, &run->c, &run->place, run->c.total / run->c.block);
    x.job =
        (struct store_job){.s = &store, .area = &from, .limit = store.nkeys, .seed = run->c.seed};
    if (r == CLI_OK)
        r = store_fill(&x.job, false);
    x.job = (struct store_job){.s = &store, .area = &to, .limit = store.next, .seed = run->c.seed};
    if (r == CLI_OK)
        r = figure_take(run, &x);
    watch_end(x.w, pid);
    store_close(&store);
    area_close(&to);
    area_close(&from);
    if (r == CLI_OK && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}
