/*
 * bench_copy.c - memcpy over areas larger than the caches: the baseline where storage is memory.
 */
#include <string.h>

#include "bench_raw.h"
#include "cli.h"

#define COPY_BATCH (4u << 20) /* bytes between two looks at the clock */

const uint8_t *copier_source(struct copier *c)
{
    size_t blocks = c->from->size / c->block;

    if (c->random)
        return c->from->base + (size_t)(bench_random(&c->seed) % blocks) * c->block;
    return area_next(c->from, &c->from_at, c->block);
}

int copier_run(void *arg, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    struct copier *c = arg;
    size_t n = COPY_BATCH / c->block ? COPY_BATCH / c->block : 1, i;

    do {
        for (i = 0; i < n; i++)
            memcpy(area_next(c->to, &c->to_at, c->block), copier_source(c), c->block);
        out->ops += n;
        out->bytes += (uint64_t)n * c->block;
    } while (bench_now_ns() < until && !bench_stopped);
    return CLI_OK;
}
