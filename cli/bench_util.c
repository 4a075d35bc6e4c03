/*
 * bench_util.c - clocks, memory areas and the stop flag of `cistern bench`.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"
#include "cli.h"

volatile sig_atomic_t bench_stopped;

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t bench_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int area_open(struct bench_area *a, size_t size, uint64_t seed)
{
    uint64_t *words;
    size_t i;

    a->base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (a->base == MAP_FAILED) {
        a->base = NULL;
        return cli_fail(CLI_ENVIRONMENT, "%zu MiB of memory: %s; ask for less with --arena",
                        size >> 20, strerror(errno));
    }
    a->size = size;
    words = (uint64_t *)(void *)a->base;
    for (i = 0; i < size / sizeof(*words); i++)
        words[i] = bench_random(&seed);
    return CLI_OK;
}

void area_close(struct bench_area *a)
{
    if (a->base != NULL)
        munmap(a->base, a->size);
    a->base = NULL;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

double samples_rank(uint32_t *v, size_t n, double rank)
{
    size_t at = (size_t)(rank * (double)n);

    if (n == 0)
        return 0;
    qsort(v, n, sizeof(*v), by_size);
    return v[at < n ? at : n - 1];
}
