/* metrics.c - names and meanings, from the table; histograms. No state of its own; any thread. */
#include "metrics/metrics.h"

#include <stdio.h>
#include <string.h>

enum { COUNTER, GAUGE };

static const struct {
    const char *name, *help;
    int gauge;
} table[METRIC_COUNT] = {
#define X(name, kind, help) [METRIC_##name] = {#name, help, kind},
#include "metrics/metrics.def"
};

static const struct {
    const char *name, *help;
    uint64_t first;
} histograms[HISTOGRAM_COUNT] = {
#define H(name, first, help) [HISTOGRAM_##name] = {#name, help, first},
#include "metrics/metrics.def"
};

const char *metric_name(enum metric which)
{
    return (unsigned)which < METRIC_COUNT ? table[which].name : NULL;
}

const char *metric_help(enum metric which)
{
    return (unsigned)which < METRIC_COUNT ? table[which].help : NULL;
}

int metric_is_gauge(enum metric which)
{
    return (unsigned)which < METRIC_COUNT && table[which].gauge == GAUGE;
}

/* ---- Histograms ---- */

void metric_record(struct metrics *m, enum histogram which, uint64_t value)
{
    struct histogram_value *h = &m->histogram[which];
    uint64_t n = value ? (value - 1) / histograms[which].first : 0;
    uint32_t bucket = n ? 64u - (uint32_t)__builtin_clzll(n) : 0;

    if (bucket > METRIC_BUCKETS)
        bucket = METRIC_BUCKETS;
    (void)atomic_fetch_add_explicit(&h->bucket[bucket], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

const char *histogram_name(enum histogram which)
{
    return (unsigned)which < HISTOGRAM_COUNT ? histograms[which].name : NULL;
}

const char *histogram_help(enum histogram which)
{
    return (unsigned)which < HISTOGRAM_COUNT ? histograms[which].help : NULL;
}

uint64_t histogram_bound(enum histogram which, uint32_t bucket)
{
    return histograms[which].first << bucket;
}

/* ---- Prometheus ---- */

static size_t without(const char *name, size_t len, const char *end)
{
    size_t n = strlen(end);

    return len > n && memcmp(name + len - n, end, n) == 0 ? len - n : len;
}

uint32_t metric_export_name(const char *name, enum metric_kind kind, char out[METRIC_EXPORT_MAX])
{
    size_t len = strlen(name), bare = without(name, len, "_ns");
    const char *unit = "";
    uint32_t divisor = 1;

    if (bare < len) {
        unit = "_seconds";
        divisor = 1000000000;
    } else if ((bare = without(name, len, "_ppm")) < len) {
        unit = "_ratio";
        divisor = 1000000;
    }
    (void)snprintf(out, METRIC_EXPORT_MAX, "cistern_%.*s%s%s", (int)bare, name, unit,
                   kind == METRIC_IS_COUNTER ? "_total" : "");
    return divisor;
}
