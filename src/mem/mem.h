/*
 * mem.h - kinds of memory that KV blocks live in, as rows of operations: host is memcpy, CUDA is
 * libcuda.so.1 by dlopen.
 */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern.h"

struct mem_ops {
    const char *name;
    /* Both block until the bytes are there. dst/src is memory of the kind, staging is host memory.
     */
    int (*copy_out)(void *dst, const void *staging, size_t len);
    int (*copy_in)(void *staging, const void *src, size_t len);
    /* Lets the device reach staging at full speed (cuMemHostRegister). Call it on a thread of the
     * engine, whose context is used. NULL where there is nothing to do; failure costs speed only.
     */
    int (*pin)(void *base, size_t len);
    void (*unpin)(void *base);
};

/* NULL and an err text when the kind is unknown or its driver is absent. */
const struct mem_ops *mem_ops_get(uint32_t kind) MUST_CHECK;

/* The processor reads and writes it itself. */
bool mem_is_host(const struct mem_ops *m);

/* Total bytes of a span. */
uint64_t mem_span_bytes(const struct cistern_span *s);

/*
 * Copies the pieces of a span into staging (put) or out of it (get) and returns the XXH3-64 of the
 * bytes in *hash, in one pass through the cache. 0 or a copy's error.
 */
int mem_gather(const struct mem_ops *m, void *staging, const struct cistern_span *s,
               uint64_t *hash) MUST_CHECK;
int mem_scatter(const struct mem_ops *m, const void *staging, const struct cistern_span *s,
                uint64_t *hash) MUST_CHECK;

#endif
