/* memory.h - memory that the caller registered for direct reads. */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/engine.h"

struct cistern_memory {
    cistern *owner;
    struct io_mem mem;
    uint32_t epoch;         /* of the handle, when it was registered */
    bool created;           /* by cistern_memory_alloc */
    _Atomic uint32_t reads; /* operations that storage may still write for */
};

/* The whole span lies in it, in one piece. */
static inline bool memory_holds(const struct cistern_memory *m, const struct cistern_vec *v)
{
    uintptr_t base = (uintptr_t)m->mem.base, at = (uintptr_t)v->base;

    return at >= base && v->len <= m->mem.size && at - base <= m->mem.size - v->len;
}

#endif
