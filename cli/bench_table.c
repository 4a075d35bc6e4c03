/*
 * bench_table.c - the answer of a bench: a table for people, or JSON with every slice.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench_figures.h"
#include "cistern.h"
#include "cli.h"
#include "json_out.h"
#include "text.h"

/* ---- The machine, in words that name no place ---- */

static void cpu_name(char *buf, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256], *at;

    snprintf(buf, size, "unknown CPU");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "model name", 10) != 0 || (at = strchr(line, ':')) == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(buf, size, "%s", at + 2);
        break;
    }
    if (f != NULL)
        fclose(f);
}

static void kernel_name(char *buf, size_t size)
{
    struct utsname u;

    if (uname(&u) != 0)
        snprintf(u.release, sizeof(u.release), "unknown");
    /* The version proper; what a distributor or a host adds behind it says nothing here. */
    snprintf(buf, size, "%.*s", (int)strspn(u.release, "0123456789."), u.release);
}

static uint64_t memory_bytes(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- Text ---- */

static void number_print(double v, int width, int digits)
{
    if (isnan(v))
        printf("%*s", width, "-");
    else
        printf("%*.*f", width, digits, v);
}

/* Nanoseconds with the unit that suits. */
static void time_print(double ns, int width)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    unsigned u = 0;

    if (isnan(ns)) {
        printf("%*s", width, "-");
        return;
    }
    while (ns >= 1000 && u < 3) {
        ns /= 1000;
        u++;
    }
    printf("%*.*f %-2s", width - 3, ns < 10 ? 2 : 1, ns, units[u]);
}

static void ratio_print(const struct figure *f)
{
    struct estimate e = figure_ratio(f);

    if (isnan(e.median))
        printf("  %-21s", "-");
    else
        printf("  %5.3f [%5.3f, %5.3f]", e.median, e.lo, e.hi);
}

static void rate_line(const struct figure *f)
{
    char block[32];

    printf("%-16s %8s", f->what, text_size(f->block, block, sizeof(block)));
    number_print(figure_side(f, true, FIGURE_SPEED).median, 9, 3);
    number_print(figure_side(f, false, FIGURE_SPEED).median, 9, 3);
    printf(" %-8s", f->base_name ? f->base_name : "-");
    ratio_print(f);
    number_print(figure_side(f, true, FIGURE_CPU).median, 9, 3);
    number_print(figure_side(f, false, FIGURE_CPU).median, 7, 3);
    number_print(figure_side(f, true, FIGURE_CORES).median, 7, 2);
    number_print(figure_side(f, false, FIGURE_CORES).median, 6, 2);
    printf("  %s\n", f->remark);
}

static void time_line(const struct figure *f)
{
    printf("%-20s %11llu", f->what, (unsigned long long)f->block);
    time_print(figure_side(f, true, FIGURE_SPEED).median, 11);
    time_print(figure_side(f, false, FIGURE_SPEED).median, 11);
    printf(" %-8s", f->base_name ? f->base_name : "-");
    ratio_print(f);
    printf("  %s\n", f->remark);
}

static size_t lines_print(const struct bench_run *run, bool by_time)
{
    size_t i, n = 0;

    for (i = 0; i < run->figures.n; i++) {
        const struct figure *f = &run->figures.list[i];

        if (f->by_time != by_time || f->n == 0)
            continue;
        if (n++ == 0 && by_time)
            printf("\n%-20s %11s %10s %10s  %-8s  %-21s\n", "each", "blocks", "ours", "base",
                   "base", "ratio of speed [95 %]");
        else if (n == 1)
            printf("\n%-16s %8s %8s %8s %-8s  %-21s %-14s  %s\n%-16s %8s %8s %8s %-8s  %-21s %8s "
                   "%6s %6s %5s\n",
                   "what", "block", "ours", "base", "base", "ratio [95 %]", "core-s/GiB", "cores",
                   "", "", "GiB/s", "GiB/s", "", "", "ours", "base", "ours", "base");
        if (by_time)
            time_line(f);
        else
            rate_line(f);
    }
    return n;
}

void table_print(const struct bench_run *run)
{
    const struct bench_config *c = &run->c;
    char cpu[128], kernel[64], mem[32], io[32], total[32];

    cpu_name(cpu, sizeof(cpu));
    kernel_name(kernel, sizeof(kernel));
    printf("cistern %s, %s, %ld cores, %s, Linux %s, %s\n", cistern_version(), cpu,
           sysconf(_SC_NPROCESSORS_ONLN), text_size(memory_bytes(), mem, sizeof(mem)), kernel,
           run->place.kind);
    if (run->figures.n != 0 && run->figures.list[0].by_time)
        printf("%llu slices a figure\n", (unsigned long long)c->slices);
    else
        printf(
            "%llu lane%s, depth %llu in all, I/O of %s, %s of data, %llu pairs of slices of %g s\n",
            (unsigned long long)c->lanes, c->lanes == 1 ? "" : "s", (unsigned long long)c->depth,
            text_size(c->io_bytes, io, sizeof(io)), text_size(c->total, total, sizeof(total)),
            (unsigned long long)c->slices, c->seconds);
    lines_print(run, false);
    lines_print(run, true);
}

/* ---- JSON ---- */

static json_t *estimate_json(struct estimate e)
{
    json_t *o = json_object();

    json_out_real(o, "median", e.median);
    json_out_real(o, "lo", e.lo);
    json_out_real(o, "hi", e.hi);
    return o;
}

static json_t *slices_json(const struct slice *s, size_t n)
{
    json_t *list = json_array(), *o;
    size_t i;

    for (i = 0; i < n; i++) {
        o = json_object();
        json_out_real(o, "seconds", s[i].seconds);
        json_out_real(o, "cpu_seconds", s[i].cpu_seconds);
        json_out_number(o, "bytes", s[i].bytes);
        json_out_number(o, "ops", s[i].ops);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *side_json(const struct figure *f, bool ours)
{
    json_t *o = json_object();

    json_out_text(o, "name", ours ? f->ours_name : f->base_name);
    json_object_set_new(o, f->by_time ? "ns" : "gib_per_s",
                        estimate_json(figure_side(f, ours, FIGURE_SPEED)));
    json_object_set_new(o, "core_s_per_gib", estimate_json(figure_side(f, ours, FIGURE_CPU)));
    json_object_set_new(o, "cores", estimate_json(figure_side(f, ours, FIGURE_CORES)));
    json_object_set_new(o, "slices", slices_json(ours ? f->ours : f->base, f->n));
    return o;
}

static json_t *figure_json(const struct figure *f)
{
    json_t *o = json_object();

    json_out_text(o, "what", f->what);
    json_out_number(o, f->by_time ? "blocks" : "block_bytes", f->block);
    json_out_text(o, "remark", f->remark);
    json_object_set_new(o, "ours", side_json(f, true));
    if (f->base_name != NULL) {
        json_object_set_new(o, "base", side_json(f, false));
        json_object_set_new(o, "ratio", estimate_json(figure_ratio(f)));
    }
    return o;
}

static json_t *machine_json(const struct bench_run *run)
{
    char cpu[128], kernel[64];
    json_t *o = json_object();

    cpu_name(cpu, sizeof(cpu));
    kernel_name(kernel, sizeof(kernel));
    json_out_text(o, "cpu", cpu);
    json_out_number(o, "cores", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    json_out_number(o, "memory_bytes", memory_bytes());
    json_out_text(o, "kernel", kernel);
    json_out_text(o, "file_system", run->place.kind);
    return o;
}

static json_t *plan_json(const struct bench_config *c)
{
    json_t *o = json_object();

    json_out_number(o, "lanes", c->lanes);
    json_out_number(o, "depth", c->depth);
    json_out_number(o, "io_bytes", c->io_bytes);
    json_out_number(o, "parts", c->parts);
    json_out_number(o, "total_bytes", c->total);
    json_out_number(o, "request_bytes", c->request);
    json_out_number(o, "inflight", c->inflight);
    json_out_number(o, "arena_bytes", c->arena);
    json_out_number(o, "slices", c->slices);
    json_out_real(o, "slice_seconds", c->seconds);
    return o;
}

int table_print_json(const struct bench_run *run)
{
    json_t *o = json_object(), *list = json_array();
    size_t i;

    json_out_text(o, "version", cistern_version());
    json_object_set_new(o, "machine", machine_json(run));
    json_object_set_new(o, "plan", plan_json(&run->c));
    for (i = 0; i < run->figures.n; i++)
        if (run->figures.list[i].n != 0)
            json_array_append_new(list, figure_json(&run->figures.list[i]));
    json_object_set_new(o, "figures", list);
    return json_out_print(o);
}
