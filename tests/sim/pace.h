/*
 * pace.h - time as a process of a scenario gets it. A thread of its own sleeps for a tick and
 * counts, over and over: on a machine that is busy, or stood still, a tick takes longer and counts
 * as one all the same. Who waits for other threads needs as many turns of the processor whatever a
 * turn takes, so limits are measured with this clock: a machine that stands still lengthens them by
 * what it took, and a store that hangs on a machine that works meets them as before.
 */
#ifndef TESTS_SIM_PACE_H
#define TESTS_SIM_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Starts to count; after limit_ns of it the process ends by SIGALRM. False: no thread. */
bool pace_start(uint64_t limit_ns);
uint64_t pace_ns(void);

struct pace_span {
    uint64_t clock_ns, pace_ns;
};
struct pace_span pace_begin(void);
/* Since then this process got less than half of the time. */
bool pace_stood_still(const struct pace_span *since);

#endif
