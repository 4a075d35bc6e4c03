/*
 * pool.h - staging memory: equal slots in registered memory, handed out last in, first out so that
 * a busy slot stays in the cache.
 *
 * A slot that storage may still write to after its deadline goes to quarantine: it is counted,
 * never handed out, and comes back by pool_unquarantine() when storage has answered. Sizes are sums
 * that can be read: slots = size / slot_bytes. Threads: any; one short mutex. Nothing is allocated
 * after pool_open().
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/io.h"

struct pool;

struct pool_counts {
    uint32_t slots, free, quarantined;
};

/* slot_bytes is a multiple of 4 KiB. CISTERN_ECONFIG when not even `min_slots` fit in `bytes`;
 * CISTERN_ESTAGING. io and memory are kept until pool_close. */
int pool_open(struct io *io, const char *what, uint64_t bytes, uint64_t slot_bytes,
              uint32_t min_slots, struct pool **out) MUST_CHECK;
/* Frees the memory, unless slots are in quarantine or in use: then it is left to the process, and
 * -EBUSY is returned. */
int pool_close(struct pool *p);

/* The address of a free slot; NULL = none now. */
void *pool_take(struct pool *p) MUST_CHECK;
void pool_give(struct pool *p, void *slot);
void pool_quarantine(struct pool *p, void *slot);
void pool_unquarantine(struct pool *p, void *slot);
void pool_count(const struct pool *p, struct pool_counts *out);
const struct io_mem *pool_mem(const struct pool *p); /* for io prep */
uint64_t pool_slot_bytes(const struct pool *p);

#endif
