/*
 * pace.c - see pace.h.
 */
#include "pace.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"

#define TICK_NS (5 * NS_PER_MS)

static _Atomic uint64_t counted;
static uint64_t limit;

static void *count(void *arg)
{
    const struct timespec tick = {.tv_nsec = TICK_NS};

    (void)arg;
    while (atomic_load(&counted) < limit) {
        uint64_t before = clock_ns(), past;

        (void)nanosleep(&tick, NULL);
        past = clock_ns() - before;
        /* What a sleep takes on a machine that has nothing else to do counts. */
        (void)atomic_fetch_add(&counted, past < 2 * TICK_NS ? past : TICK_NS);
    }
    (void)kill(getpid(), SIGALRM);
    return NULL;
}

bool pace_start(uint64_t limit_ns)
{
    pthread_t thread;

    limit = limit_ns;
    return pthread_create(&thread, NULL, count, NULL) == 0 && pthread_detach(thread) == 0;
}

uint64_t pace_ns(void)
{
    return atomic_load(&counted);
}

struct pace_span pace_begin(void)
{
    return (struct pace_span){clock_ns(), pace_ns()};
}

bool pace_stood_still(const struct pace_span *since)
{
    return 2 * (pace_ns() - since->pace_ns) < clock_ns() - since->clock_ns;
}
