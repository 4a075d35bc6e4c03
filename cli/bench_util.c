/*
 * bench_util.c - clocks, memory areas and the stop flag of `cistern bench`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

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

static int area_fill(struct bench_area *a, size_t size, uint64_t seed, void *base)
{
    uint64_t *words = base;
    size_t i;

    if (base == MAP_FAILED)
        return cli_fail(CLI_ENVIRONMENT, "%zu MiB of memory: %s; ask for less with --arena",
                        size >> 20, strerror(errno));
    *a = (struct bench_area){base, size};
    for (i = 0; i < size / sizeof(*words); i++)
        words[i] = bench_random(&seed);
    return CLI_OK;
}

int area_open(struct bench_area *a, size_t size, uint64_t seed)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return area_fill(a, size, seed, base);
}

int area_open_huge(struct bench_area *a, size_t size, uint64_t seed)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base != MAP_FAILED && madvise(base, size, MADV_HUGEPAGE) != 0)
        cli_note("cistern: no huge pages for the baseline: %s", strerror(errno));
    return area_fill(a, size, seed, base);
}

int area_open_shared(struct bench_area *a, size_t size, uint64_t seed)
{
    int fd = memfd_create("cistern-bench", MFD_CLOEXEC);
    void *base = MAP_FAILED;

    if (fd >= 0 && fallocate(fd, 0, 0, (off_t)size) == 0)
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return area_fill(a, size, seed, base);
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
