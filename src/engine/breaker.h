/*
 * breaker.h - notices that storage fails again and again, and keeps everybody from waiting for it.
 *
 * Two sides. READ open: matches answer 0, gets are misses at once, puts are dropped. WRITE open:
 * puts are dropped; gets go on. A side opens after `limit` failures in a row: I/Os that were not
 * answered in time, or were answered with an error that says that storage is ill.
 *
 * What a caller loses. The time that one I/O may take halves with every failure in a row, so that
 * one after the other they take less than twice the timeout until the side opens, whatever the
 * limit is.
 *
 * The way back. While READ is open a lane sends one small read every probe interval, and at once
 * when a late answer shows that storage lives; its answer in time closes the side on trial: the
 * next failure opens it again, the next success ends the trial. WRITE goes on trial when the
 * interval is over: the next put is the probe.
 *
 * Pure but for its own atomics: times come from the caller. Any thread. An I/O remembers the epoch
 * at which it was sent; failures of another epoch are old news and do not count.
 */
#ifndef ENGINE_BREAKER_H
#define ENGINE_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum breaker_side { BREAKER_READ, BREAKER_WRITE, BREAKER_SIDES };

#define BREAKER_NOWHERE UINT64_MAX

struct breaker_half {
    _Atomic uint32_t strikes; /* failures in a row */
    _Atomic uint32_t open, trial;
    _Atomic uint32_t epoch;    /* grows when it opens and when it closes */
    _Atomic uint64_t next_ns;  /* open: when the next probe is due, or the trial begins */
    _Atomic uint64_t since_ns; /* when it opened */
    _Atomic uint64_t place;    /* of the last failure */
};

struct breaker {
    uint32_t limit; /* constant; 0 = switched off */
    uint64_t probe_ns;
    struct breaker_half side[BREAKER_SIDES];
};

void breaker_init(struct breaker *b, uint32_t limit, uint32_t probe_ms);

static inline bool breaker_is_open(const struct breaker *b, enum breaker_side side)
{
    return atomic_load_explicit(&b->side[side].open, memory_order_relaxed) != 0;
}

static inline uint32_t breaker_epoch(const struct breaker *b, enum breaker_side side)
{
    return atomic_load_explicit(&b->side[side].epoch, memory_order_relaxed);
}

/* The WRITE side is open and its interval is over: it is to be closed on trial. */
bool breaker_put_due(const struct breaker *b, uint64_t now);
/* How long one I/O may take now, of the configured time. */
uint64_t breaker_timeout_ns(const struct breaker *b, enum breaker_side side, uint64_t full_ns);
/* Whether a negative answer says that storage is ill, and not that a disk is full or memory short.
 */
bool breaker_counts(int error);
/*
 * An I/O that was sent at `epoch` failed: `error` is -ETIMEDOUT when it was not answered. An error
 * at the place where the last one was is the same bad spot, and counts once. True: the side opened
 * just now, and this caller is the one to say so.
 */
bool breaker_failed(struct breaker *b, enum breaker_side side, uint32_t epoch, int error,
                    uint64_t place, uint64_t now);
/* An I/O was answered in time. */
void breaker_answered_slow(struct breaker_half *h);
static inline void breaker_answered(struct breaker *b, enum breaker_side side)
{
    struct breaker_half *h = &b->side[side];

    if (__builtin_expect(atomic_load_explicit(&h->strikes, memory_order_relaxed) != 0, 0))
        breaker_answered_slow(h);
}
/* A sign of life while it is open: the next probe is due now. */
void breaker_hint(struct breaker *b, enum breaker_side side, uint64_t now);
/* True: a probe of the READ side is due and this caller is to send it. */
bool breaker_probe_due(struct breaker *b, uint64_t now);
/* When the next probe is due; UINT64_MAX: the READ side is not open. */
uint64_t breaker_next_ns(const struct breaker *b);
/* A probe was answered in time, or a put is due: closes the side on trial. True: this caller is to
 * say so. */
bool breaker_close(struct breaker *b, enum breaker_side side);

#endif
