/*
 * clock.h - the clocks. Deadlines inside the library are CLOCK_MONOTONIC nanoseconds; only the
 * USRBIO call takes CLOCK_REALTIME, made at the last moment from what is left.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

static inline uint64_t clock_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Goes on while the machine sleeps and while the process is stopped: for how long somebody was
 * silent. */
static inline uint64_t clock_boot_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Seconds since 1970, for what people read. */
static inline uint64_t clock_wall_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec;
}

static inline struct timespec clock_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* The absolute CLOCK_REALTIME of a point `from_now` ns away, as hf3fs_wait_for_ios takes it. */
static inline struct timespec clock_realtime_after(uint64_t from_now)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return clock_timespec((uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec + from_now);
}

#endif
