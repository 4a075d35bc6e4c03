/*
 * metrics.h - one table of numbers; counters are relaxed atomics, any thread.
 */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

enum metric {
#define X(name, kind, help) METRIC_##name,
#include "metrics/metrics.def"
#undef X
    METRIC_COUNT
};

struct metrics {
    _Atomic uint64_t value[METRIC_COUNT];
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

#endif
