/*
 * bench_slices.h - alternating slices of two sides, and what can be said of them.
 */
#ifndef CLI_BENCH_SLICES_H
#define CLI_BENCH_SLICES_H

#include "bench.h"

struct slice {
    double seconds, cpu_seconds;
    uint64_t bytes; /* verified or written; 0 where only operations count */
    uint64_t ops;
};

/* One side of a figure. Both functions return CLI_OK or an exit code, after saying why. */
struct side {
    const char *name;
    /* Works for about `seconds` and fills bytes and ops; it may set seconds itself when only a part
     * of its time counts, else the caller's clock is used. */
    int (*run)(void *arg, double seconds, struct slice *out);
    /* Untimed, behind each slice: finish what would run on into the other side's. May be NULL. */
    int (*settle)(void *arg);
    void *arg;
};

struct estimate {
    double median, lo, hi; /* of the median, 95 %; the extremes when there are less than six */
};

struct figure {
    char what[40];
    char remark[96];
    uint64_t block;                    /* bytes, or how many of what `unit` says */
    bool by_time;                      /* nanoseconds an operation instead of GiB/s */
    const char *ours_name, *base_name; /* static; base_name NULL = nothing to compare with */
    size_t n;
    struct slice *ours, *base; /* owned */
};

struct figures {
    struct figure *list; /* owned */
    size_t n;
};

/* A zeroed figure behind the others; NULL when memory is out. Valid until the next call. */
struct figure *figure_add(struct figures *f);
void figures_release(struct figures *f);

/* Fills the figure; `base` may be NULL. CLI_OK or an exit code. */
int slices_run(const struct bench_config *c, struct figure *f, const struct side *ours,
               const struct side *base);
/* The same beside n baselines at a time: ours runs once a round, and f[i] pairs it with bases[i].
 */
int slices_run_beside(const struct bench_config *c, struct figure *const *f,
                      const struct side *ours, const struct side *bases, size_t n);

/* Median with its interval by order statistics; v is sorted in place. */
struct estimate estimate_of(double *v, size_t n);

enum figure_value { FIGURE_SPEED, FIGURE_CPU, FIGURE_CORES };
/* GiB/s or ns an operation; core-seconds per GiB; cores in use. NaN where it does not apply. */
struct estimate figure_side(const struct figure *f, bool ours, enum figure_value which);
/* Of the pairwise ratios of speed, ours over baseline: above 1, ours is faster. */
struct estimate figure_ratio(const struct figure *f);

#endif
