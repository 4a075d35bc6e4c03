/*
 * lock.h - a mutex whose uncontended way is inline: it is taken several times for each I/O. 0 free,
 * 1 taken, 2 taken and perhaps waited for.
 */
#ifndef CISTERN_USRBIO_LOCK_H
#define CISTERN_USRBIO_LOCK_H

#include "base/futex.h"

struct lock {
    _Atomic uint32_t word;
};

static inline void lock_take(struct lock *lock)
{
    uint32_t seen = 0;

    if (atomic_compare_exchange_strong_explicit(&lock->word, &seen, 1, memory_order_acquire,
                                                memory_order_relaxed))
        return;
    /* Whoever had to wait leaves 2 behind, for there may be others. */
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        futex_wait(&lock->word, 2, NS_PER_S);
}

static inline void lock_drop(struct lock *lock)
{
    if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
        futex_wake(&lock->word, 1);
}

#endif
