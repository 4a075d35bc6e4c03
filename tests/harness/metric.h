/*
 * metric.h - a counter of a handle by its name, for tests and benches.
 */
#ifndef TESTS_METRIC_H
#define TESTS_METRIC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cistern.h"

/* 0 of a handle that cannot be asked. A name that no counter has ends the program. */
static inline uint64_t metric_of(const cistern *c, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(c, m, 256);

    for (i = 0; i < n && i < 256; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    if (n < 0)
        return 0;
    fprintf(stderr, "no metric %s\n", name);
    abort();
}

#endif
