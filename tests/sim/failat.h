/*
 * failat.h - the loop "fail the first, second, third ... call until nothing fires", for programs
 * that say what one round is: tests/sim/test_fail_at.c and tests/admin/fail_at.c.
 *
 * Kinds of faults are those of the simulator and two more: the n-th allocation of the library
 * (malloc, calloc, realloc, aligned_alloc, mmap; the program is linked with --wrap of these, not
 * under a sanitizer), and a kill at the n-th call after which the power goes. At the end, each call
 * site of the table of operations that was reached while a fault was armed and never met one gets a
 * round of its own, in which the fault waits for it.
 *
 * One thread runs the loops; allocations are counted on all of them, outside the simulator.
 */
#ifndef TESTS_SIM_FAILAT_H
#define TESTS_SIM_FAILAT_H

#include "simfs.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILAT_COUNTING 0
#else
#define FAILAT_COUNTING 1
#endif

#define FAILAT_ALLOC SIM_FAULT_KINDS
#define FAILAT_POWER (SIM_FAULT_KINDS + 1)
#define FAILAT_KINDS (SIM_FAULT_KINDS + 2)

/* Bits of kinds. */
#define K(name) (1u << SIM_##name)
#define MEMORY  (FAILAT_COUNTING ? 1u << FAILAT_ALLOC : 0)
#define POWER   (1u << FAILAT_POWER)

/* The n-th from here on; `sticky`: and all after it. */
void failat_arm(struct simfs *fs, uint32_t kind, uint64_t n, bool sticky);
bool failat_fired(struct simfs *fs, uint32_t kind);
/* All is calm again; true: it fired. */
bool failat_disarm(struct simfs *fs, uint32_t kind);

struct failat {
    uint32_t count;  /* operations */
    uint64_t rounds; /* a loop that is longer has no end */
    uint32_t stays;  /* kinds that are tried sticky as well, where stays_not does not say else */
    const char *(*name)(uint32_t op);
    uint32_t (*kinds)(uint32_t op); /* that it can meet: each must fire */
    bool (*stays_not)(uint32_t op); /* may be NULL */
    /* False: nothing fired. finding: "" or what was wrong. */
    bool (*round)(uint32_t op, uint32_t kind, uint64_t n, bool sticky, char *finding, size_t size);
};

/* The whole program: [--sites FILE] [OPERATION], --list. */
int failat_main(const struct failat *f, int argc, char **argv);

#endif
