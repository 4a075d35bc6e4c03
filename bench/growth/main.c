/*
 * main.c - how open, match, memory, following and eviction grow with the number of blocks, for
 * docs/BENCHMARKS.md.
 *
 *   growth --dir DIR [--count 10k,100k,1M,10M] [--segments 1000] [--shards 1]
 *
 * For each count: contents of that many blocks of 64 KiB a shard are made in DIR, in so many
 * segments, as the engine writes them; data files are holes. Then a process of its own measures,
 * and everything is removed. DIR is best on tmpfs: the question is what the engine costs, not the
 * disk. A Markdown table goes to stdout, and behind it how much more each figure is than at the
 * count before: linear is as many times as there are more blocks. Exit code 1: something grew by
 * more than 1.3 times that a decade.
 */
#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "growth.h"

#define SIZES   16
#define TOO_FAR 1.3 /* times the growth of the blocks, a decade */

struct column {
    const char *name;
    size_t at;
    double scale; /* to what the table shows */
};

#define AT(field) offsetof(struct growth_result, field)
static const struct column columns[] = {
    {"open, ms of wall", AT(open_s), 1e3},
    {"CPU, ms", AT(open_cpu_s), 1e3},
    {"to write, CPU ms", AT(writing_s), 1e3},
    {"match p50, us", AT(match_p50), 1e-3},
    {"p99, us", AT(match_p99), 1e-3},
    {"bytes a block", AT(bytes), 1},
    {"1,000 new, ms", AT(follow_ns), 1e-6},
    {"names, ms", AT(list_ns), 1e-6},
    {"evict one, ms", AT(evict_ns), 1e-6},
    {"its blocks", AT(evicted), 1},
    {"first scan, ms", AT(scan_first_ns), 1e-6},
    {"scan, ms", AT(scan_ns), 1e-6},
};
enum { COLUMNS = sizeof columns / sizeof columns[0], BYTES = 5, EVICTED = 9 };

static double value(const struct growth_result *r, size_t i)
{
    double v;

    memcpy(&v, (const char *)r + columns[i].at, sizeof v);
    return v;
}

static uint64_t number(const char *s, char **end)
{
    uint64_t n = strtoull(s, end, 10);

    if (**end == 'k')
        n *= 1000, ++*end;
    else if (**end == 'M')
        n *= 1000000, ++*end;
    return n;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

/* In a process of its own: memory of the sizes before does not help or hurt. */
static int run(const char *dir, const struct growth_size *size, struct growth_result *shared)
{
    char root[4096];
    int status;
    pid_t child;

    (void)snprintf(root, sizeof root, "%s/growth-XXXXXX", dir);
    if (!mkdtemp(root)) {
        perror(root);
        return -1;
    }
    child = fork();
    if (child == 0)
        _exit(growth_build(root, size) || growth_measure(root, size, shared) ? 1 : 0);
    if (child < 0 || waitpid(child, &status, 0) != child)
        status = -1;
    (void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}

static void print_row(const struct growth_size *s, const struct growth_result *r)
{
    size_t i;

    printf("| %llu |", (unsigned long long)s->blocks);
    for (i = 0; i < COLUMNS; i++) {
        double v = value(r, i) * columns[i].scale;

        printf(" %.*f |", v < 10 ? 2 : v < 100 ? 1 : 0, v);
    }
    printf("\n");
    (void)fflush(stdout);
}

/* Returns how many figures grew too much. */
static int print_growth(const struct growth_size *s, const struct growth_result *r, size_t n)
{
    int bad = 0;
    size_t i, k;

    printf("\n");
    for (k = 1; k < n; k++) {
        double more = (double)s[k].blocks / (double)s[k - 1].blocks;
        double allowed = more * pow(TOO_FAR, log10(more));

        printf("%llu to %llu blocks, %.0f times as many:", (unsigned long long)s[k - 1].blocks,
               (unsigned long long)s[k].blocks, more);
        for (i = 0; i < COLUMNS; i++) {
            double times = value(&r[k], i) / value(&r[k - 1], i);
            bool far = i == BYTES ? value(&r[k], i) > 80 : i != EVICTED && times > allowed;

            printf("%s %s %.2f%s", i ? "," : "", columns[i].name, times, far ? " (TOO FAR)" : "");
            bad += far;
        }
        printf("\n");
    }
    return bad;
}

static int usage(void)
{
    fprintf(stderr, "usage: growth --dir DIR [--count 10k,100k,1M,10M] [--segments 1000] "
                    "[--shards 1]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *dir = NULL, *counts = "10k,100k,1M,10M";
    struct growth_size sizes[SIZES], base = {.segments = 1000, .shards = 1};
    struct growth_result *results;
    size_t n = 0, i;
    char *end;
    int a;

    for (a = 1; a + 1 < argc; a += 2) {
        if (strcmp(argv[a], "--dir") == 0)
            dir = argv[a + 1];
        else if (strcmp(argv[a], "--count") == 0)
            counts = argv[a + 1];
        else if (strcmp(argv[a], "--segments") == 0)
            base.segments = (uint32_t)number(argv[a + 1], &end);
        else if (strcmp(argv[a], "--shards") == 0)
            base.shards = (uint32_t)number(argv[a + 1], &end);
        else
            return usage();
    }
    for (; *counts && n < SIZES; counts = *end ? end + 1 : end, n++) {
        sizes[n] = base;
        sizes[n].blocks = number(counts, &end);
        if (end == counts || sizes[n].blocks < base.segments || sizes[n].blocks < GROWTH_CHAIN)
            return usage();
    }
    if (!dir || a != argc || !n || !base.segments || !base.shards)
        return usage();
    results = mmap(NULL, SIZES * sizeof *results, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED)
        return 3;
    printf("%u segments a shard, shards: %u\n\n| blocks |", base.segments, base.shards);
    for (i = 0; i < COLUMNS; i++)
        printf(" %s |", columns[i].name);
    printf("\n|---:|");
    for (i = 0; i < COLUMNS; i++)
        printf("---:|");
    printf("\n");
    for (i = 0; i < n; i++) {
        if (run(dir, &sizes[i], &results[i]))
            return 4;
        print_row(&sizes[i], &results[i]);
    }
    return print_growth(sizes, results, n) ? 1 : 0;
}
