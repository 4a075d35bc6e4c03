/*
 * proc.c - the per-process state, and how a forked child notices that it is another process.
 *
 * A page that the kernel wipes on fork (MADV_WIPEONFORK) holds the generation number, so the check
 * on every call is one load. Where the kernel cannot do that, the process id is asked for. A child
 * that enters finds generation 0, forgets the parent's io_urings, rings and threads (they stay the
 * parent's) and keeps the registered files, whose descriptors it inherited.
 */
#include "usrbio/state.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct proc the_proc;
/* Wiped on fork; NULL: not made, or not supported. */
static _Atomic(uint64_t) *_Atomic generation_page;
static _Atomic(uint64_t) generation_by_pid;
static _Atomic(int) entering; /* pid that is setting up; a parent's value means nothing */

uint64_t proc_generation(void)
{
    uint64_t generation;
    _Atomic(uint64_t) *page = atomic_load_explicit(&generation_page, memory_order_acquire);

    if (page != NULL)
        return atomic_load_explicit(page, memory_order_acquire);
    generation = atomic_load_explicit(&generation_by_pid, memory_order_acquire);
    return (uint32_t)generation == (uint32_t)getpid() ? generation : 0;
}

static void entering_lock(int pid)
{
    for (;;) {
        int owner = atomic_load_explicit(&entering, memory_order_relaxed);

        if (owner != pid && atomic_compare_exchange_weak_explicit(
                                &entering, &owner, pid, memory_order_acquire, memory_order_relaxed))
            return;
        sched_yield();
    }
}

static enum backend backend_from_env(void)
{
    const char *text = getenv("CISTERN_USRBIO_BACKEND");

    if (text == NULL)
        return BACKEND_AUTO;
    if (strcmp(text, "io_uring") == 0)
        return BACKEND_URING;
    if (strcmp(text, "threads") == 0)
        return BACKEND_THREADS;
    if (strcmp(text, "inline") == 0)
        return BACKEND_INLINE;
    return BACKEND_AUTO;
}

static size_t chunk_from_env(void)
{
    const char *text = getenv("CISTERN_USRBIO_CHUNK");
    unsigned long long value = text != NULL ? strtoull(text, NULL, 10) : 0;

    return value != 0 ? (size_t)value : (size_t)1 << 20;
}

/* One io_uring for each ring while there are few of them: a ring alone on its io_uring can sleep
 * until the whole batch is there. */
static unsigned urings_from_cpus(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (cpus < 2)
        return 4;
    return 2 * cpus > URINGS_MAX ? URINGS_MAX : (unsigned)(2 * cpus);
}

static void generation_publish(int pid)
{
    static uint32_t count; /* guarded by `entering` */
    uint64_t value = ((uint64_t)++count << 32) | (uint32_t)pid;

    if (atomic_load(&generation_page) == NULL) {
        size_t size = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) != 0) {
            munmap(page, size);
            page = MAP_FAILED;
        }
        if (page != MAP_FAILED) {
            atomic_store_explicit((_Atomic(uint64_t) *)page, value, memory_order_release);
            atomic_store_explicit(&generation_page, page, memory_order_release);
            return;
        }
        atomic_store_explicit(&generation_by_pid, value, memory_order_release);
        return;
    }
    atomic_store_explicit(atomic_load(&generation_page), value, memory_order_release);
}

struct proc *proc_enter(void)
{
    struct proc *proc = &the_proc;
    int pid;

    if (proc_generation() != 0)
        return proc;
    pid = (int)getpid();
    entering_lock(pid);
    if (proc_generation() == 0) {
        memset(proc, 0, sizeof(*proc));
        pthread_mutex_init(&proc->lock, NULL);
        proc->wanted = backend_from_env();
        proc->chunk = chunk_from_env();
        proc->urings_max = urings_from_cpus();
        strict_parse(&proc->strict, getenv("CISTERN_USRBIO_STRICT"));
        pool_reset_after_fork();
        regfd_reset_after_fork();
        generation_publish(pid);
    }
    atomic_store_explicit(&entering, 0, memory_order_release);
    return proc;
}

/* A destroyed ring goes once nothing of it runs. Passing through cq_lock makes sure that no reaper
 * is still inside it; a worker thread touches nothing after it has let go of the ring's lock. */
static void sweep_rings(struct proc *proc)
{
    struct ior *ior = proc->iors, *next;

    for (; ior != NULL && proc->dead_count > 0; ior = next) {
        unsigned busy;

        next = ior->next;
        if (!ior->dead)
            continue;
        if (ior->uring != NULL) {
            lock_take(&ior->uring->cq_lock);
            uring_drain(ior->uring);
            lock_drop(&ior->uring->cq_lock);
            uring_after_drain(ior->uring);
        }
        lock_take(&ior->lock);
        busy = ior->busy;
        lock_drop(&ior->lock);
        if (busy == 0)
            ior_free(ior);
    }
}

static bool memory_in_use(struct proc *proc, const uint8_t *base, size_t size)
{
    for (struct ior *ior = proc->iors; ior != NULL; ior = ior->next) {
        if (ior_touches(ior, base, size))
            return true;
    }
    return false;
}

void proc_sweep(struct proc *proc)
{
    struct zombie **link = &proc->zombies;

    if (proc->dead_count > 0)
        sweep_rings(proc);
    while (*link != NULL) {
        struct zombie *zombie = *link;

        if (memory_in_use(proc, zombie->base, zombie->size)) {
            link = &zombie->next;
            continue;
        }
        *link = zombie->next;
        munmap(zombie->base, zombie->size);
        free(zombie);
    }
}
