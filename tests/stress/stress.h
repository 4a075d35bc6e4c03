/*
 * stress.h - what the processes of the stress test share: a file of 40 bytes a slot that the test
 * reads while they run.
 */
#ifndef TESTS_STRESS_H
#define TESTS_STRESS_H

#include <stdatomic.h>
#include <stdint.h>

/* Of the sampler: samples, bytes of the last one, the most of any, of that one what was unlinked.
 */
struct progress {
    _Atomic uint64_t ops, hits, stored, evicted, pid;
};

_Noreturn void sample(const char *dir, struct progress *own, struct progress *all,
                      uint32_t workers);

#endif
