/*
 * bench.h - what the files of `cistern bench` share: the plan of a run, and its two areas of
 * memory.
 *
 * Method. Every figure is a ratio of two things done side by side in this process: slices of about
 * half a second alternate (ours, baseline, baseline, ours, ...), slice i of one is paired with
 * slice i of the other, the first pairs are dropped, and the median of the pairwise ratios is
 * reported with its 95 % interval. CPU seconds are the whole process's, the kernel's I/O workers
 * that belong to it included, interrupts not.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_INTERRUPTED 128 /* beside enum cli_exit: SIGINT or SIGTERM came, clean up and go */
#define BENCH_PAGE        4096u

struct bench_config {
    const char *dir, *root, *provider, *provider_path;
    uint64_t block, total, count; /* sizes in bytes; 0 = by the kind of the file system */
    uint64_t lanes, depth, io_bytes, parts;
    uint64_t request;  /* bytes that one put or get asks for */
    uint64_t inflight; /* puts or gets in flight */
    uint64_t arena;    /* bytes of each memory area */
    uint64_t staging;  /* of the store, each direction */
    uint64_t segment;  /* bytes of a data file, ours and the baseline's */
    uint64_t slices, warmup;
    uint64_t chain; /* keys of a match */
    uint64_t puts;  /* blocks a second that are put while matches are measured */
    uint64_t seed;
    double seconds;       /* of a slice */
    uint64_t capacity;    /* of the root; 0 = not limited */
    uint32_t store_flags; /* of cistern_open(), beside what others here ask for */
    bool quick, keep, json, buffered, sync_inside, direct, raw_huge, encrypt;
    char key_file[64]; /* with encrypt: made up for this run, removed at its end */
};

/* Memory that stands for an engine's pool: both sides of a figure use the same. */
struct bench_area {
    uint8_t *base;
    size_t size;
};

/* Reserved, touched, and filled with bytes that do not repeat. CLI_OK or an exit code. */
int area_open(struct bench_area *a, size_t size, uint64_t seed);
/* The same in shared memory, as the store's staging is; in huge pages, as far as the kernel has
 * them. */
int area_open_shared(struct bench_area *a, size_t size, uint64_t seed);
int area_open_huge(struct bench_area *a, size_t size, uint64_t seed);
void area_close(struct bench_area *a); /* a zeroed one is fine */
/* The next `len` bytes behind *at, from the start again at the end; page-aligned for whole pages.
 */
static inline uint8_t *area_next(const struct bench_area *a, size_t *at, size_t len)
{
    uint8_t *p;

    if (*at + len > a->size)
        *at = 0;
    p = a->base + *at;
    *at += len;
    return p;
}

/* A stream of numbers; the same seed gives the same ones. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t bench_now_ns(void); /* monotonic */
uint64_t bench_cpu_ns(void); /* of this process, all threads */

/* The value below which `rank` (0 .. 1) of n nanosecond samples lie; sorts them. The median of
 * short samples is what a slice of pure computing is measured by: other programs that take the
 * processor away now and then do not move it. */
double samples_rank(uint32_t *v, size_t n, double rank);

/* Set by SIGINT and SIGTERM. */
extern volatile sig_atomic_t bench_stopped;

#endif
