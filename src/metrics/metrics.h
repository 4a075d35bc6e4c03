/*
 * metrics.h - one table of numbers; counters are relaxed atomics, any thread.
 *
 * A histogram has METRIC_BUCKETS bounds, each the double of the one before, and one bucket for what
 * is above them all. It is recorded once per request: two additions.
 */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum metric {
#define X(name, kind, help) METRIC_##name,
#include "metrics/metrics.def"
    METRIC_COUNT
};

enum histogram {
#define H(name, first, help) HISTOGRAM_##name,
#include "metrics/metrics.def"
    HISTOGRAM_COUNT
};

#define METRIC_BUCKETS    18u /* with bounds */
#define METRIC_EXPORT_MAX 96  /* bytes of a name for Prometheus */

enum metric_kind { METRIC_IS_COUNTER, METRIC_IS_GAUGE, METRIC_IS_HISTOGRAM };

struct histogram_value {
    _Atomic uint64_t bucket[METRIC_BUCKETS + 1]; /* each by itself */
    _Atomic uint64_t sum;
};

struct metrics {
    _Atomic uint64_t value[METRIC_COUNT];
    struct histogram_value histogram[HISTOGRAM_COUNT];
};

static inline void metric_add(struct metrics *m, enum metric which, uint64_t n)
{
    (void)atomic_fetch_add_explicit(&m->value[which], n, memory_order_relaxed);
}

static inline void metric_set(struct metrics *m, enum metric which, uint64_t n)
{
    atomic_store_explicit(&m->value[which], n, memory_order_relaxed);
}

static inline uint64_t metric_get(const struct metrics *m, enum metric which)
{
    return atomic_load_explicit(&m->value[which], memory_order_relaxed);
}

const char *metric_name(enum metric which);
const char *metric_help(enum metric which);
int metric_is_gauge(enum metric which);

/* One request's number into its bucket: the first whose bound is not below it. */
void metric_record(struct metrics *m, enum histogram which, uint64_t value);
const char *histogram_name(enum histogram which);
const char *histogram_help(enum histogram which);
uint64_t histogram_bound(enum histogram which, uint32_t bucket); /* bucket < METRIC_BUCKETS */

/*
 * What Prometheus calls a metric: "cistern_" before it, base units (_ns is _seconds, _ppm is
 * _ratio), _total behind a counter. Returns what a value is to be divided by. The name is cut to
 * fit.
 */
uint32_t metric_export_name(const char *name, enum metric_kind kind, char out[METRIC_EXPORT_MAX]);

#endif
