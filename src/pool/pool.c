/*
 * pool.c - equal slots over one piece of registered memory.
 *
 * A slot is FREE, TAKEN or QUARANTINED; its state is checked at every move, so that a slot that is
 * given twice is noticed and ignored instead of being handed to two owners. The stack of free slots
 * is last in, first out. Guarded by `lock`: everything that changes.
 *
 * A pool that is closed while storage still owns slots stays, memory and all, on a list: the
 * process keeps it, leak checkers can see it.
 */
#include "pool/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cistern.h"

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_QUARANTINED };

struct pool {
    struct io *io;
    struct io_mem mem;
    uint64_t slot_bytes;
    uint32_t slots;
    pthread_mutex_t lock;
    uint32_t free_count, quarantined;
    uint32_t *stack; /* [0, free_count) are free slots */
    uint8_t *state;  /* enum slot_state, per slot */
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

int pool_open(struct io *io, const char *what, uint64_t bytes, uint64_t slot_bytes,
              uint32_t min_slots, struct pool **out)
{
    struct pool *p;
    uint32_t i;
    int rc = pool_check(what, bytes, slot_bytes, min_slots);

    if (rc)
        return rc;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->io = io;
    p->slot_bytes = slot_bytes;
    p->slots = (uint32_t)min_u64(bytes / slot_bytes, UINT32_MAX / 2);
    p->stack = malloc(p->slots * sizeof *p->stack);
    p->state = calloc(p->slots, 1);
    rc = p->stack && p->state ? 0 : -ENOMEM;
    if (rc == 0)
        rc = io_mem_reserve(io, &p->mem, p->slots * slot_bytes, slot_bytes);
    if (rc) {
        err_prefix("%s", what);
        free(p->stack);
        free(p->state);
        free(p);
        return rc;
    }
    (void)pthread_mutex_init(&p->lock, NULL);
    p->free_count = p->slots;
    for (i = 0; i < p->slots; i++)
        p->stack[i] = p->slots - 1 - i;
    *out = p;
    return 0;
}

int pool_close(struct pool *p)
{
    bool busy;

    if (!p)
        return 0;
    (void)pthread_mutex_lock(&p->lock);
    busy = p->free_count != p->slots;
    (void)pthread_mutex_unlock(&p->lock);
    if (busy) {
        (void)pthread_mutex_lock(&left_lock);
        p->next_left = left_behind;
        left_behind = p;
        (void)pthread_mutex_unlock(&left_lock);
        return -EBUSY;
    }
    p->io->ops->mem_destroy(p->io, &p->mem);
    (void)pthread_mutex_destroy(&p->lock);
    free(p->stack);
    free(p->state);
    free(p);
    return 0;
}

/* The number of a slot, or -1 for an address that is none. */
static int64_t slot_number(const struct pool *p, const void *slot)
{
    uint64_t at = (uint64_t)((const uint8_t *)slot - p->mem.base);

    if (!slot || at >= p->slots * p->slot_bytes || at % p->slot_bytes)
        return -1;
    return (int64_t)(at / p->slot_bytes);
}

void *pool_take(struct pool *p)
{
    void *slot = NULL;

    (void)pthread_mutex_lock(&p->lock);
    if (p->free_count) {
        uint32_t i = p->stack[--p->free_count];

        p->state[i] = SLOT_TAKEN;
        slot = p->mem.base + i * p->slot_bytes;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return slot;
}

/* The one transition that the states allow, or nothing. */
static void slot_move(struct pool *p, void *slot, enum slot_state from, enum slot_state to)
{
    int64_t i = slot_number(p, slot);

    if (i < 0)
        return;
    (void)pthread_mutex_lock(&p->lock);
    if (p->state[i] == from) {
        p->state[i] = (uint8_t)to;
        if (to == SLOT_FREE)
            p->stack[p->free_count++] = (uint32_t)i;
        if (from == SLOT_QUARANTINED)
            p->quarantined--;
        if (to == SLOT_QUARANTINED)
            p->quarantined++;
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

    (void)pthread_mutex_lock(lock);
    *out = (struct pool_counts){p->slots, p->free_count, p->quarantined};
    (void)pthread_mutex_unlock(lock);
}

const struct io_mem *pool_mem(const struct pool *p)
{
    return &p->mem;
}

uint64_t pool_slot_bytes(const struct pool *p)
{
    return p->slot_bytes;
}
