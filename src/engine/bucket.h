/*
 * bucket.h - a token bucket: so many bytes in so much time, and what was not used is saved up to a
 * bound. Pure: the caller brings the time, any clock that never goes back.
 *
 * The whole state is one word: the time up to which the rate is spent. In the past, that is what
 * was saved up; in the future, a debt. From any time on, for any length of time, what takes let
 * through is at most the burst plus the rate times the length.
 *
 * Threads: any, without a lock.
 */
#ifndef ENGINE_BUCKET_H
#define ENGINE_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bucket {
    uint64_t bytes, period_ns; /* the rate: bytes in period_ns; bytes 0 = no limit */
    uint64_t burst_ns;         /* how long a time may be saved up */
    _Atomic uint64_t spent_ns;
};

/* With nothing saved up, or with all of the burst. */
void bucket_init(struct bucket *b, uint64_t bytes, uint64_t period_ns, uint64_t burst, uint64_t now,
                 bool full);
/* All of n or nothing; false: there is not that much. More than the burst is never there. */
bool bucket_take(struct bucket *b, uint64_t n, uint64_t now);
/* n was used, be it there or not. */
void bucket_spend(struct bucket *b, uint64_t n, uint64_t now);
/* How long until nothing is owed. */
uint64_t bucket_wait_ns(const struct bucket *b, uint64_t now);
/* Bytes that a take would get; UINT64_MAX = no limit. */
uint64_t bucket_left(const struct bucket *b, uint64_t now);

#endif
