/* metrics.c - names and meanings, from the table. */
#include "metrics/metrics.h"

#include <stddef.h>

enum { COUNTER, GAUGE };

static const struct {
    const char *name, *help;
    int gauge;
} table[METRIC_COUNT] = {
#define X(name, kind, help) [METRIC_##name] = {#name, help, kind},
#include "metrics/metrics.def"
#undef X
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
