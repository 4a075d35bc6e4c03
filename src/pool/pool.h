/*
 * pool.h - staging memory: equal slots in registered memory, handed out last in, first out so that
 * a busy slot stays in the cache.
 *
 * A slot that storage may still write to after its deadline goes to quarantine: it is counted,
 * never handed out, and comes back by pool_unquarantine() when storage has answered. Sizes are sums
 * that can be read: slots = size / slot_bytes. Threads: any; one short mutex. Nothing is allocated
 * after pool_open(), but for one second generation: pool_spare() makes as many slots again,
 * pool_renew() hands out those from then on. A slot of the first one still comes back to where it
 * belongs, and is not handed out again. So a pool never has more than twice its bytes.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/io.h"

struct pool;

struct pool_counts {
    uint32_t slots, free, quarantined; /* of those that are handed out now */
    uint32_t old; /* of the first generation, when there is a second: not given back */
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
/* The memory that a slot lies in, for io prep. */
const struct io_mem *pool_mem(const struct pool *p, const void *slot);
/* The memory of a generation, 0 or 1; NULL: there is none. */
const struct io_mem *pool_generation(const struct pool *p, uint32_t generation);

/* Makes the second generation, once; nothing uses it yet. Blocks on storage. -EALREADY. */
int pool_spare(struct pool *p) MUST_CHECK;
/* Storage owns a part of the spare, or nobody knows: it stays unused, and with the process. */
void pool_spare_lost(struct pool *p);
/* From here on the spare is what is handed out. */
void pool_renew(struct pool *p);

uint64_t pool_slot_bytes(const struct pool *p);

#endif
