/*
 * pool.c - equal slots over one or two pieces of registered memory.
 *
 * A slot is FREE, TAKEN or QUARANTINED; its state is checked at every move, so that a slot that is
 * given twice is noticed and ignored instead of being handed to two owners. The stack of free slots
 * is last in, first out. Guarded by `lock`: everything that changes.
 *
 * A generation in which storage still owns slots when the pool is closed stays, memory and all, on
 * a list: the process keeps it, leak checkers can see it.
 */
#include "pool/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cistern.h"

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_QUARANTINED };

/* One piece of registered memory. */
struct generation {
    struct io_mem mem;
    uint32_t free_count, quarantined;
    uint32_t *stack; /* [0, free_count) are free slots */
    uint8_t *state;  /* enum slot_state, per slot; NULL: there is none */
    bool lost;       /* storage may own any of it */
};

struct pool {
    struct io *io;
    uint64_t slot_bytes;
    uint32_t slots; /* of each generation */
    pthread_mutex_t lock;
    uint32_t now; /* the generation that is handed out */
    struct generation gen[2];
    struct pool *next_left;
};

static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *left_behind; /* guarded by left_lock */

static int pool_check(const char *what, uint64_t bytes, uint64_t slot_bytes, uint32_t min_slots)
{
    if (slot_bytes == 0 || slot_bytes % PAGE_BYTES)
        return err_set(-EINVAL, "%s: slots of %llu bytes", what, (unsigned long long)slot_bytes);
    if (bytes / slot_bytes < max_u64(min_slots, 1))
        return err_set(
            CISTERN_ECONFIG, "%s of %llu MiB is too small: %u slots of %llu KiB are needed", what,
            (unsigned long long)(bytes >> 20), min_slots, (unsigned long long)(slot_bytes >> 10));
    return 0;
}

static void generation_free(struct pool *p, struct generation *g)
{
    if (g->mem.base)
        p->io->ops->mem_destroy(p->io, &g->mem);
    free(g->stack);
    free(g->state);
    *g = (struct generation){0};
}

static int generation_make(struct pool *p, struct generation *out)
{
    struct generation g = {.free_count = p->slots};
    uint32_t i;
    int rc;

    g.stack = malloc(p->slots * sizeof *g.stack);
    g.state = calloc(p->slots, 1);
    rc = g.stack && g.state ? 0 : -ENOMEM;
    if (rc == 0)
        rc = io_mem_reserve(p->io, &g.mem, p->slots * p->slot_bytes, p->slot_bytes);
    if (rc) {
        free(g.stack);
        free(g.state);
        return rc;
    }
    for (i = 0; i < p->slots; i++)
        g.stack[i] = p->slots - 1 - i;
    (void)pthread_mutex_lock(&p->lock);
    *out = g;
    (void)pthread_mutex_unlock(&p->lock);
    return 0;
}

int pool_open(struct io *io, const char *what, uint64_t bytes, uint64_t slot_bytes,
              uint32_t min_slots, struct pool **out)
{
    struct pool *p;
    int rc = pool_check(what, bytes, slot_bytes, min_slots);

    if (rc)
        return rc;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->io = io;
    p->slot_bytes = slot_bytes;
    p->slots = (uint32_t)min_u64(bytes / slot_bytes, UINT32_MAX / 2);
    (void)pthread_mutex_init(&p->lock, NULL);
    rc = generation_make(p, &p->gen[0]);
    if (rc) {
        err_prefix("%s", what);
        (void)pthread_mutex_destroy(&p->lock);
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int pool_spare(struct pool *p)
{
    return p->gen[1].state ? -EALREADY : generation_make(p, &p->gen[1]);
}

void pool_spare_lost(struct pool *p)
{
    (void)pthread_mutex_lock(&p->lock);
    p->gen[1].lost = true;
    (void)pthread_mutex_unlock(&p->lock);
}

void pool_renew(struct pool *p)
{
    (void)pthread_mutex_lock(&p->lock);
    if (p->gen[1].state && !p->gen[1].lost)
        p->now = 1;
    (void)pthread_mutex_unlock(&p->lock);
}

int pool_close(struct pool *p)
{
    bool busy = false;
    int i;

    if (!p)
        return 0;
    for (i = 0; i < 2; i++) {
        struct generation *g = &p->gen[i];
        bool owned;

        (void)pthread_mutex_lock(&p->lock);
        owned = g->state && (g->lost || g->free_count != p->slots);
        (void)pthread_mutex_unlock(&p->lock);
        if (!owned)
            generation_free(p, g);
        busy |= owned;
    }
    if (busy) {
        (void)pthread_mutex_lock(&left_lock);
        p->next_left = left_behind;
        left_behind = p;
        (void)pthread_mutex_unlock(&left_lock);
        return -EBUSY;
    }
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    return 0;
}

/* The generation that an address lies in, and its slot's number; NULL: it is no slot. Memory of
 * generations stays until the pool is closed. */
static struct generation *slot_find(struct pool *p, const void *slot, uint32_t *number)
{
    int i;

    for (i = 0; slot && i < 2; i++) {
        struct generation *g = &p->gen[i];
        uint64_t at = (uint64_t)((const uint8_t *)slot - g->mem.base);

        if (!g->state || at >= p->slots * p->slot_bytes)
            continue;
        *number = (uint32_t)(at / p->slot_bytes);
        return at % p->slot_bytes ? NULL : g;
    }
    return NULL;
}

void *pool_take(struct pool *p)
{
    struct generation *g;
    void *slot = NULL;

    (void)pthread_mutex_lock(&p->lock);
    g = &p->gen[p->now];
    if (g->free_count) {
        uint32_t i = g->stack[--g->free_count];

        g->state[i] = SLOT_TAKEN;
        slot = g->mem.base + i * p->slot_bytes;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return slot;
}

/* The one transition that the states allow, or nothing. */
static void slot_move(struct pool *p, void *slot, enum slot_state from, enum slot_state to)
{
    struct generation *g;
    uint32_t i;

    (void)pthread_mutex_lock(&p->lock);
    g = slot_find(p, slot, &i);
    if (g && g->state[i] == from) {
        g->state[i] = (uint8_t)to;
        if (to == SLOT_FREE)
            g->stack[g->free_count++] = i;
        if (from == SLOT_QUARANTINED)
            g->quarantined--;
        if (to == SLOT_QUARANTINED)
            g->quarantined++;
    }
    (void)pthread_mutex_unlock(&p->lock);
}

void pool_give(struct pool *p, void *slot)
{
    slot_move(p, slot, SLOT_TAKEN, SLOT_FREE);
}

void pool_quarantine(struct pool *p, void *slot)
{
    slot_move(p, slot, SLOT_TAKEN, SLOT_QUARANTINED);
}

void pool_unquarantine(struct pool *p, void *slot)
{
    slot_move(p, slot, SLOT_QUARANTINED, SLOT_FREE);
}

void pool_count(const struct pool *p, struct pool_counts *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&p->lock;
    const struct generation *g;

    (void)pthread_mutex_lock(lock);
    g = &p->gen[p->now];
    *out = (struct pool_counts){.slots = p->slots,
                                .free = g->free_count,
                                .quarantined = g->quarantined,
                                .old = p->now ? p->slots - p->gen[0].free_count : 0};
    (void)pthread_mutex_unlock(lock);
}

/* Without the lock: a slot's memory was there before the slot was handed out. */
const struct io_mem *pool_mem(const struct pool *p, const void *slot)
{
    uint64_t at = (uint64_t)((const uint8_t *)slot - p->gen[0].mem.base);

    return &p->gen[at < p->slots * p->slot_bytes ? 0 : 1].mem;
}

const struct io_mem *pool_generation(const struct pool *p, uint32_t generation)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&p->lock;
    bool there;

    (void)pthread_mutex_lock(lock);
    there = generation < 2 && p->gen[generation].state;
    (void)pthread_mutex_unlock(lock);
    return there ? &p->gen[generation].mem : NULL;
}

uint64_t pool_slot_bytes(const struct pool *p)
{
    return p->slot_bytes;
}
