/*
 * comm.c - rank processes and their shared memory.
 *
 * The memory: a barrier, one number per rank, a box for broadcasts, and per rank two buffers for
 * partial sums, used in turn. Two are enough for one barrier per sum: who writes into a buffer
 * again has passed the barrier of the sum between, so everybody had read it by then.
 *
 * The ranks are made by exec, not by fork alone: a BLAS and a cache library with threads of their
 * own do not survive a fork, and the environment that the BLAS reads when it is loaded is set here.
 */
#include "comm.h"

#include <cblas.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "vecmath.h"

#define BOX        65536
#define SPINS      2000
#define ENV_RANK   "MINILLM_RANK"
#define ENV_MEMORY "MINILLM_MEMORY_FD"

struct shared {
    _Atomic uint32_t arrived, turn, dead;
    int64_t numbers[MAX_RANKS];
    char box[BOX];
    _Alignas(64) float sums[]; /* [2][ranks][floats] */
};

struct comm {
    int rank, ranks;
    size_t floats, bytes;
    unsigned phase;
    struct shared *shared;
};

/* ---- Start ---- */

/*
 * An OpenBLAS that is older than the CPU falls back to kernels of 2004, at a sixth of the speed. It
 * can be told better, but only before it is loaded.
 */
static void blas_environment(void)
{
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
#if defined(__x86_64__)
    const char *core = openblas_get_corename();
    bool old = !strcmp(core, "Prescott") || !strcmp(core, "Core2") || !strcmp(core, "Nehalem") ||
               !strcmp(core, "Barcelona");
    if (getenv("OPENBLAS_CORETYPE") || !old)
        return;
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        setenv("OPENBLAS_CORETYPE", "Haswell", 1);
#endif
}

/* Each rank gets CPUs of its own, where there are enough: all ranks compute at the same time, and
 * each wants to find its weights in the cache of the CPU where they were. */
static void cpus_take(int rank, int ranks)
{
    cpu_set_t all, mine;
    int n = 0;

    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < ranks)
        return;
    CPU_ZERO(&mine);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && n++ % ranks == rank)
            CPU_SET(cpu, &mine);
    (void)sched_setaffinity(0, sizeof mine, &mine);
}

static int become_rank(int rank, int ranks, int memory, char **argv)
{
    char number[16], fd[16];
    cpus_take(rank, ranks);
    snprintf(number, sizeof number, "%d", rank);
    snprintf(fd, sizeof fd, "%d", memory);
    setenv(ENV_RANK, number, 1);
    setenv(ENV_MEMORY, fd, 1);
    execv("/proc/self/exe", argv);
    return -errno;
}

int comm_launch(int ranks, char **argv)
{
    const char *rank = getenv(ENV_RANK);
    if (rank)
        return atoi(rank);

    int memory = memfd_create("minillm", 0); /* goes through exec on purpose; closed in comm_open */
    if (memory < 0)
        return -errno;
    blas_environment();
    pid_t parent = getpid();
    for (int r = 1; r < ranks; r++) {
        pid_t child = fork();
        if (child < 0)
            return -errno;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            (void)become_rank(r, ranks, memory, argv);
            _exit(127);
        }
    }
    return become_rank(0, ranks, memory, argv);
}

int comm_open(struct comm **out, int rank, int ranks, size_t floats)
{
    const char *fd = getenv(ENV_MEMORY);
    struct comm *c = calloc(1, sizeof *c);
    int memory = fd ? atoi(fd) : -1, err = 0;

    if (!c || memory < 0) {
        free(c);
        return c ? -EINVAL : -ENOMEM;
    }
    c->rank = rank;
    c->ranks = ranks;
    c->floats = (floats + 15) & ~(size_t)15;
    c->bytes = sizeof(struct shared) + sizeof(float) * 2 * (size_t)ranks * c->floats;
    if (ftruncate(memory, (off_t)c->bytes) != 0)
        err = -errno;
    if (!err) {
        void *at = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        if (at == MAP_FAILED)
            err = -errno;
        else
            c->shared = at;
    }
    close(memory);
    if (err) {
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

/* ---- Meeting ---- */

static void futex_wait(_Atomic uint32_t *at, uint32_t value)
{
    struct timespec limit = {.tv_nsec = 200000000};
    syscall(SYS_futex, at, FUTEX_WAIT, value, &limit, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *at)
{
    syscall(SYS_futex, at, FUTEX_WAKE, MAX_RANKS, NULL, NULL, 0);
}

void comm_close(struct comm *c)
{
    if (!c)
        return;
    atomic_store(&c->shared->dead, 1); /* whoever still waits, after an error, stops */
    futex_wake(&c->shared->turn);
    munmap(c->shared, c->bytes);
    if (c->rank == 0)
        for (int r = 1; r < c->ranks; r++)
            (void)wait(NULL);
    free(c);
}

/* Rank 0 is the parent: it sees the death of the others and tells. They die with it. */
static bool somebody_died(struct comm *c)
{
    if (c->rank == 0 && waitpid(-1, NULL, WNOHANG) > 0)
        atomic_store(&c->shared->dead, 1);
    return atomic_load(&c->shared->dead);
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static int barrier(struct comm *c)
{
    struct shared *s = c->shared;
    uint32_t turn = atomic_load(&s->turn);

    if (c->ranks == 1)
        return 0;
    if (atomic_fetch_add(&s->arrived, 1) + 1 == (uint32_t)c->ranks) {
        atomic_store(&s->arrived, 0);
        atomic_fetch_add(&s->turn, 1);
        futex_wake(&s->turn);
        return 0;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&s->turn) != turn)
            return 0;
        relax();
    }
    while (atomic_load(&s->turn) == turn) {
        if (somebody_died(c) && atomic_load(&s->turn) == turn)
            return -EPIPE;
        futex_wait(&s->turn, turn);
    }
    return 0;
}

static float *partial_of(struct comm *c, int rank)
{
    size_t at = ((size_t)(c->phase & 1) * (size_t)c->ranks + (size_t)rank) * c->floats;
    return c->shared->sums + at;
}

float *comm_partial(struct comm *c)
{
    return partial_of(c, c->rank);
}

int comm_sum(struct comm *c, float *x, size_t n)
{
    int err = barrier(c);
    if (err)
        return err;
    for (int r = 0; r < c->ranks; r++)
        vec_add(x, partial_of(c, r), (int)n);
    c->phase++;
    return 0;
}

int comm_broadcast(struct comm *c, void *data, size_t n)
{
    char *at = data;

    while (n > 0 && c->ranks > 1) {
        size_t step = n < BOX ? n : BOX;
        if (c->rank == 0)
            memcpy(c->shared->box, at, step);
        int err = barrier(c);
        if (err)
            return err;
        if (c->rank != 0)
            memcpy(at, c->shared->box, step);
        if ((err = barrier(c)))
            return err;
        at += step;
        n -= step;
    }
    return 0;
}

int comm_gather(struct comm *c, int64_t mine, int64_t *all)
{
    c->shared->numbers[c->rank] = mine;
    int err = barrier(c);
    if (err)
        return err;
    memcpy(all, c->shared->numbers, sizeof *all * (size_t)c->ranks);
    return barrier(c);
}

int comm_least(struct comm *c, int64_t *value)
{
    int64_t all[MAX_RANKS];
    int err = comm_gather(c, *value, all);
    if (err)
        return err;
    for (int r = 0; r < c->ranks; r++)
        *value = all[r] < *value ? all[r] : *value;
    return 0;
}
