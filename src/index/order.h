/*
 * order.h - the memory ordering of the index, in one place.
 *
 * Every word that a reader may look at is atomic. Three pairs carry the order:
 *
 *   order_publish(slot)    -> order_read(slot)      what an entry says is visible to whoever got
 * its number from a slot order_publish(version) -> order_read(version)   a reader that sees the new
 * version sees all that was moved or cleared before it order_publish(word)    -> order_read(word)
 * a reader that sees a word of a reused entry, or a slot that was emptied after its copy was
 *                                                   written elsewhere, sees the new version when it
 *                                                   looks again
 *
 * So a reader does: version, slots, entry, version; and starts again if the two differ. Writers
 * raise the version after the new place is written and before the old one is emptied, and after an
 * entry is unlinked and before it is reused. No fences: the thread sanitizer follows all of it, and
 * on x86-64 each of these is a plain load or store.
 */
#ifndef INDEX_ORDER_H
#define INDEX_ORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Partner: order_publish. Later reads of this thread come after it. */
static inline uint64_t order_read(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_acquire);
}

/* Partner: order_read. Earlier writes of this thread come before it. */
static inline void order_publish(_Atomic uint64_t *p, uint64_t v)
{
    atomic_store_explicit(p, v, memory_order_release);
}

/* For a word that only holders of the caller's lock write, and for statistics. No partner. */
static inline uint64_t order_peek(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

/* Counters. No partner; the value before. */
static inline uint64_t order_add(_Atomic uint64_t *p, uint64_t v)
{
    return atomic_fetch_add_explicit(p, v, memory_order_relaxed);
}

/* Only if nobody changed it since `seen` was read; for hints. */
static inline bool order_try(_Atomic uint64_t *p, uint64_t seen, uint64_t v)
{
    return atomic_compare_exchange_strong_explicit(p, &seen, v, memory_order_release,
                                                   memory_order_relaxed);
}

static inline void order_or(_Atomic uint64_t *p, uint64_t v)
{
    (void)atomic_fetch_or_explicit(p, v, memory_order_relaxed);
}

#endif
