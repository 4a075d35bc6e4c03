/*
 * bench_slices.c - runs two sides in alternating slices and takes medians of pairs.
 *
 * On a shared machine the speed of a disk drifts by a factor of two within minutes; two slices that
 * follow each other see nearly the same disk. The order within a pair alternates, so that a steady
 * drift cancels. The interval of the median is distribution-free: the k-th smallest and k-th
 * largest value, k from the binomial distribution.
 */
#include "bench_slices.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define GIB (1024.0 * 1024.0 * 1024.0)

struct figure *figure_add(struct figures *f)
{
    struct figure *list = realloc(f->list, (f->n + 1) * sizeof(*list));

    if (list == NULL)
        return NULL;
    f->list = list;
    memset(&list[f->n], 0, sizeof(*list));
    return &list[f->n++];
}

void figures_release(struct figures *f)
{
    size_t i;

    for (i = 0; i < f->n; i++) {
        free(f->list[i].ours);
        free(f->list[i].base);
    }
    free(f->list);
    f->list = NULL;
    f->n = 0;
}

static double speed(const struct figure *f, const struct slice *s)
{
    if (f->by_time)
        return s->ops ? s->seconds * 1e9 / (double)s->ops : NAN;
    return s->seconds > 0 ? (double)s->bytes / GIB / s->seconds : NAN;
}

static int slice_run(const struct side *side, double seconds, struct slice *out)
{
    uint64_t wall = bench_now_ns(), cpu = bench_cpu_ns();
    int r;

    memset(out, 0, sizeof(*out));
    r = side->run(side->arg, seconds, out);
    out->cpu_seconds = (double)(bench_cpu_ns() - cpu) / 1e9;
    if (out->seconds == 0)
        out->seconds = (double)(bench_now_ns() - wall) / 1e9;
    if (r == CLI_OK && side->settle != NULL)
        r = side->settle(side->arg);
    if (r == CLI_OK && bench_stopped)
        r = BENCH_INTERRUPTED;
    return r;
}

/* One slice of each side into place `at`: there and back again from round to round. */
static int round_run(const struct bench_config *c, size_t i, struct figure *const *f, size_t at,
                     const struct side *ours, const struct side *bases, size_t n)
{
    size_t step, k;
    int r = CLI_OK;

    for (step = 0; step <= n && r == CLI_OK; step++) {
        k = i % 2 == 0 ? step : n - step;
        r = k == 0 ? slice_run(ours, c->seconds, &f[0]->ours[at])
                   : slice_run(&bases[k - 1], c->seconds, &f[k - 1]->base[at]);
    }
    for (k = 1; k < n; k++)
        f[k]->ours[at] = f[0]->ours[at];
    return r;
}

static void progress(const struct figure *f, size_t i, size_t n, const struct slice *mine,
                     const struct slice *theirs)
{
    if (!isatty(STDERR_FILENO))
        return;
    if (i == n)
        fprintf(stderr, "\r\033[K");
    else if (f->base_name != NULL)
        fprintf(stderr, "\r\033[K%s: %zu of %zu, ours %.3g, %s %.3g %s", f->what, i + 1, n,
                speed(f, mine), f->base_name, speed(f, theirs), f->by_time ? "ns" : "GiB/s");
    else
        fprintf(stderr, "\r\033[K%s: %zu of %zu, %.3g %s", f->what, i + 1, n, speed(f, mine),
                f->by_time ? "ns" : "GiB/s");
    fflush(stderr);
}

static bool figure_begin(struct figure *f, const struct bench_config *c, const struct side *ours,
                         const struct side *base)
{
    f->ours_name = ours->name;
    f->base_name = base ? base->name : NULL;
    f->ours = calloc(c->slices, sizeof(*f->ours));
    f->base = calloc(c->slices, sizeof(*f->base));
    return f->ours != NULL && f->base != NULL;
}

int slices_run_beside(const struct bench_config *c, struct figure *const *f,
                      const struct side *ours, const struct side *bases, size_t n)
{
    size_t rounds = c->slices + c->warmup, i, at, figures = n ? n : 1;
    int r = CLI_OK;

    for (i = 0; i < figures; i++)
        if (!figure_begin(f[i], c, ours, n ? &bases[i] : NULL))
            return cli_fail(CLI_ENVIRONMENT, "out of memory");
    for (i = 0; i < rounds && r == CLI_OK; i++) {
        /* Warm-up rounds land in the first place and are written over. */
        at = i < c->warmup ? 0 : i - c->warmup;
        r = round_run(c, i, f, at, ours, bases, n);
        if (r == CLI_OK)
            progress(f[0], i, rounds, &f[0]->ours[at], &f[0]->base[at]);
    }
    progress(f[0], rounds, rounds, NULL, NULL);
    for (i = 0; i < figures && r == CLI_OK; i++)
        f[i]->n = c->slices;
    return r;
}

int slices_run(const struct bench_config *c, struct figure *f, const struct side *ours,
               const struct side *base)
{
    return slices_run_beside(c, &f, ours, base, base ? 1 : 0);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The largest k with P(fewer than k of n values lie below the median) <= 2.5 %; 0 = none. */
static size_t rank_below(size_t n)
{
    double p = pow(0.5, (double)n), sum = 0;
    size_t k = 0;

    while (k < n / 2) {
        sum += p;
        if (sum > 0.025)
            break;
        p *= (double)(n - k) / (double)(k + 1);
        k++;
    }
    return k;
}

struct estimate estimate_of(double *v, size_t n)
{
    struct estimate e = {NAN, NAN, NAN};
    size_t k;

    if (n == 0)
        return e;
    qsort(v, n, sizeof(*v), by_value);
    k = rank_below(n);
    if (k == 0)
        k = 1;
    e.median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    e.lo = v[k - 1];
    e.hi = v[n - k];
    return e;
}

static double value_of(const struct figure *f, const struct slice *s, enum figure_value which)
{
    switch (which) {
    case FIGURE_SPEED:
        return speed(f, s);
    case FIGURE_CPU:
        return s->bytes ? s->cpu_seconds * GIB / (double)s->bytes : NAN;
    case FIGURE_CORES:
        return s->seconds > 0 ? s->cpu_seconds / s->seconds : NAN;
    }
    return NAN;
}

struct estimate figure_side(const struct figure *f, bool ours, enum figure_value which)
{
    const struct slice *s = ours ? f->ours : f->base;
    struct estimate e = {NAN, NAN, NAN};
    double *v;
    size_t i;

    if (!ours && f->base_name == NULL)
        return e;
    v = malloc(f->n * sizeof(*v) + 1);
    if (v == NULL)
        return e;
    for (i = 0; i < f->n; i++)
        v[i] = value_of(f, &s[i], which);
    e = estimate_of(v, f->n);
    free(v);
    return e;
}

struct estimate figure_ratio(const struct figure *f)
{
    struct estimate e = {NAN, NAN, NAN};
    double *v, mine, theirs;
    size_t i;

    if (f->base_name == NULL)
        return e;
    v = malloc(f->n * sizeof(*v) + 1);
    if (v == NULL)
        return e;
    for (i = 0; i < f->n; i++) {
        mine = speed(f, &f->ours[i]);
        theirs = speed(f, &f->base[i]);
        v[i] = f->by_time ? theirs / mine : mine / theirs;
    }
    e = estimate_of(v, f->n);
    free(v);
    return e;
}
