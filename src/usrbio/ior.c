/*
 * ior.c - one ring: its slots, from prep to reap, and its life.
 *
 * The lowest free slot is handed out; a slot is free again only when its completion was reaped.
 * Nothing is allocated after creation. A ring that is destroyed while I/O runs lives on,
 * unreachable, until that I/O is over: the memory of our own iovs outlives it too (see iov.c); only
 * I/O on wrapped memory, which the caller may free the next moment, is waited for, and not for
 * ever: on storage that does not answer, the end of a ring is the end of a program.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"

#define WRAPPED_WAIT_NS (3 * NS_PER_S)

static size_t words_of(int entries)
{
    return ((size_t)entries + 63) / 64;
}

bool ior_is_ours(const struct ior *ior)
{
    return ior->generation == proc_generation();
}

struct slot *ior_take_slot(struct ior *ior)
{
    int words = (int)words_of(ior->entries);

    for (int w = ior->free_hint; w < words; w++) {
        uint64_t bits = ior->free_bits[w];

        if (bits == 0)
            continue;
        ior->free_hint = w;
        ior->free_bits[w] = bits & (bits - 1);
        return &ior->slots[w * 64 + __builtin_ctzll(bits)];
    }
    ior->free_hint = words;
    return NULL;
}

static void slot_release(struct ior *ior, unsigned index)
{
    ior->free_bits[index / 64] |= (uint64_t)1 << (index % 64);
    if ((int)(index / 64) < ior->free_hint)
        ior->free_hint = (int)(index / 64);
}

/* While slots use a file, further ones share their reference: a batch on one file costs one. */
struct regfd *ior_file_get(struct ior *ior, int fd, int *err)
{
    struct regfd *file;

    if (ior->file != NULL && regfd_peek(fd, err) == ior->file) {
        ior->file_users++;
        return ior->file;
    }
    file = regfd_get(fd, err);
    if (file != NULL && ior->file == NULL) {
        ior->file = file;
        ior->file_users = 1;
    }
    return file;
}

void ior_file_put(struct ior *ior, struct regfd *file)
{
    if (file == ior->file) {
        if (--ior->file_users > 0)
            return;
        ior->file = NULL;
    }
    regfd_put(file);
}

unsigned ior_reap(struct ior *ior, struct hf3fs_cqe *out, unsigned max)
{
    unsigned n = 0;

    while (n < max) {
        struct slot *slot = list_pop(&ior->done);
        unsigned index;

        if (slot == NULL)
            break;
        index = (unsigned)(slot - ior->slots);
        out[n].index = (int32_t)index;
        out[n].result = slot->result;
        out[n].userdata = slot->userdata;
        slot->state = SLOT_FREE;
        slot_release(ior, index);
        n++;
    }
    ior->done_count -= n;
    return n;
}

bool ior_finish(struct ior *ior, struct slot *slot, int64_t result)
{
    if (slot->state == SLOT_BUSY) {
        ior->busy--;
        ior->busy_wrapped -= slot->wrapped;
    }
    ior_file_put(ior, slot->file);
    slot->file = NULL;
    slot->result = result;
    slot->state = SLOT_DONE;
    list_push(&ior->done, slot);
    ior->done_count++;
    if (ior->sleepers == 0 || ior->done_count < ior->wake_at)
        return false;
    atomic_fetch_add_explicit(&ior->seq, 1, memory_order_release);
    return true;
}

/* Called by worker threads and by threads that ran the I/O themselves. A waiter may sleep on `seq`,
 * or inside the io_uring as its leader. Once the lock is gone the ring may be freed, unless a
 * waiter needs to be woken. */
void ior_complete(struct slot *slot, int64_t result)
{
    struct ior *ior = slot->ior;
    struct uring *leader = NULL;
    bool wake;

    lock_take(&ior->lock);
    wake = ior_finish(ior, slot, result);
    if (ior->leader_here)
        leader = ior->uring;
    lock_drop(&ior->lock);
    if (wake)
        futex_wake(&ior->seq, INT32_MAX);
    if (leader != NULL) {
        lock_take(&leader->cq_lock);
        if (leader->led)
            uring_wake_leader(leader);
        lock_drop(&leader->cq_lock);
    }
}

bool ior_touches(struct ior *ior, const uint8_t *base, size_t size)
{
    bool touches = false;

    lock_take(&ior->lock);
    if (ior->busy > 0 || ior->prepared.head != NULL || ior->backlog.head != NULL ||
        ior->lazy.head != NULL) {
        for (int i = 0; i < ior->entries && !touches; i++) {
            const struct slot *slot = &ior->slots[i];

            touches = slot->state != SLOT_FREE && slot->state != SLOT_DONE &&
                      slot->ptr < base + size && slot->ptr + slot->len > base;
        }
    }
    lock_drop(&ior->lock);
    return touches;
}

/* The io_uring with the fewest rings; a new one while there may be more and none is idle. */
static int uring_assign(struct proc *proc, struct uring **out)
{
    struct uring *best = NULL;
    unsigned free_place = URINGS_MAX;
    int rc;

    for (unsigned i = 0; i < proc->urings_max; i++) {
        struct uring *uring = proc->urings[i];

        if (uring == NULL) {
            free_place = i < free_place ? i : free_place;
            continue;
        }
        if (best == NULL || atomic_load(&uring->users) < atomic_load(&best->users))
            best = uring;
    }
    if ((best == NULL || atomic_load(&best->users) > 0) && free_place < URINGS_MAX) {
        rc = uring_create(&proc->urings[free_place]);
        if (rc == 0) {
            best = proc->urings[free_place];
            best->index = free_place;
        } else if (best == NULL) {
            return rc;
        } else {
            proc->urings_max = free_place; /* no more of them to be had */
        }
    }
    atomic_fetch_add(&best->users, 1);
    *out = best;
    return 0;
}

/* Keeps one idle io_uring, so that a ring for each request stays cheap. */
static void uring_unassign(struct proc *proc, struct uring *uring)
{
    unsigned idle = 0;

    if (atomic_fetch_sub(&uring->users, 1) > 1)
        return;
    for (unsigned i = 0; i < URINGS_MAX; i++)
        idle += proc->urings[i] != NULL && atomic_load(&proc->urings[i]->users) == 0;
    if (idle <= 1)
        return;
    proc->urings[uring->index] = NULL;
    uring_destroy(uring);
}

static int backend_choose(struct proc *proc, struct ior *ior)
{
    enum backend wanted = proc->wanted == BACKEND_AUTO ? proc->backend : proc->wanted;
    int rc;

    if (wanted == BACKEND_THREADS || wanted == BACKEND_INLINE) {
        ior->backend = proc->backend = wanted;
        return 0;
    }
    rc = uring_assign(proc, &ior->uring);
    if (rc == 0) {
        ior->backend = proc->backend = BACKEND_URING;
        return 0;
    }
    if (proc->wanted == BACKEND_URING)
        return rc;
    ior->backend = proc->backend = BACKEND_THREADS;
    return 0;
}

static void ior_memory_free(struct ior *ior)
{
    if (ior->client_base != NULL)
        munmap(ior->client_base, ior->client_size);
    free(ior->slots);
    free(ior->free_bits);
    free(ior);
}

static struct ior *ior_memory_new(int entries)
{
    struct ior *ior = calloc(1, sizeof(*ior));

    if (ior == NULL)
        return NULL;
    list_init(&ior->prepared);
    list_init(&ior->backlog);
    list_init(&ior->lazy);
    list_init(&ior->done);
    ior->entries = entries;
    ior->slots = calloc((size_t)entries, sizeof(*ior->slots));
    ior->free_bits = calloc(words_of(entries), sizeof(*ior->free_bits));
    ior->client_size = hf3fs_ior_size(entries);
    ior->client_base = mmap(NULL, ior->client_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ior->client_base == MAP_FAILED)
        ior->client_base = NULL;
    if (ior->slots == NULL || ior->free_bits == NULL || ior->client_base == NULL) {
        ior_memory_free(ior);
        return NULL;
    }
    for (int i = 0; i < entries; i++)
        ior->slots[i].ior = ior;
    for (int i = 0; i < entries; i++)
        ior->free_bits[i / 64] |= (uint64_t)1 << (i % 64);
    return ior;
}

int ior_create(struct ior **out, int entries, bool for_read, int io_depth, uint64_t flags)
{
    struct proc *proc = proc_enter();
    struct ior *ior;
    int rc;

    ior = ior_memory_new(entries);
    if (ior == NULL)
        return -ENOMEM;
    ior->io_depth = io_depth;
    ior->for_read = for_read;
    ior->forbid_holes = (flags & HF3FS_IOR_FORBID_READ_HOLES) != 0;
    ior->generation = proc_generation();
    pthread_mutex_lock(&proc->lock);
    proc_sweep(proc);
    rc = backend_choose(proc, ior);
    if (rc == 0) {
        ior->next = proc->iors;
        ior->link = &proc->iors;
        if (ior->next != NULL)
            ior->next->link = &ior->next;
        proc->iors = ior;
        proc->ior_count++;
    }
    pthread_mutex_unlock(&proc->lock);
    if (rc != 0) {
        ior_memory_free(ior);
        return rc;
    }
    *out = ior;
    return 0;
}

/* proc.lock held; nothing of it runs. */
void ior_free(struct ior *ior)
{
    struct proc *proc = &the_proc;

    *ior->link = ior->next;
    if (ior->next != NULL)
        ior->next->link = ior->link;
    if (ior->dead)
        proc->dead_count--;
    else
        proc->ior_count--;
    if (ior->uring != NULL)
        uring_unassign(proc, ior->uring);
    ior_memory_free(ior);
}

/* What was prepared but never started, or waits for a waiter that will not come, is forgotten. */
static void drop_unstarted(struct ior *ior)
{
    struct slot_list *lists[] = {&ior->prepared, &ior->backlog, &ior->lazy};

    for (size_t i = 0; i < 3; i++) {
        struct slot *slot;

        while ((slot = list_pop(lists[i])) != NULL) {
            ior_file_put(ior, slot->file);
            slot->file = NULL;
            slot->state = SLOT_FREE;
        }
    }
    atomic_store(&ior->waiting_to_start, 0);
}

static void unstall(struct ior *ior)
{
    struct ior **link;

    if (ior->uring == NULL)
        return;
    lock_take(&ior->uring->sq_lock);
    for (link = &ior->uring->stalled; *link != NULL; link = &(*link)->stalled_next) {
        if (*link == ior) {
            *link = ior->stalled_next;
            break;
        }
    }
    ior->stalled = false;
    lock_drop(&ior->uring->sq_lock);
}

static void wait_for_wrapped(struct ior *ior)
{
    struct timespec until = clock_realtime_after(WRAPPED_WAIT_NS);
    struct hf3fs_cqe cqe;

    for (;;) {
        unsigned left;

        lock_take(&ior->lock);
        left = ior->busy_wrapped;
        lock_drop(&ior->lock);
        if (left == 0 || flow_wait(ior, &cqe, 1, 1, &until) < 1)
            return;
    }
}

void ior_destroy(struct ior *ior)
{
    struct proc *proc = &the_proc;
    bool last, busy;

    if (!ior_is_ours(ior)) {
        /* In a forked child: a copy of the parent's ring. Its locks may be in any state; only
         * memory is freed. */
        munmap(ior->client_base, ior->client_size);
        free(ior->slots);
        free(ior->free_bits);
        free(ior);
        return;
    }
    unstall(ior);
    lock_take(&ior->lock);
    drop_unstarted(ior);
    lock_drop(&ior->lock);
    wait_for_wrapped(ior);

    pthread_mutex_lock(&proc->lock);
    if (ior->uring != NULL) {
        lock_take(&ior->uring->cq_lock);
        uring_drain(ior->uring);
        lock_drop(&ior->uring->cq_lock);
        uring_after_drain(ior->uring);
    }
    lock_take(&ior->lock);
    busy = ior->busy > 0;
    lock_drop(&ior->lock);
    if (busy) {
        ior->dead = true;
        proc->ior_count--;
        proc->dead_count++;
    } else {
        ior_free(ior);
    }
    proc_sweep(proc);
    last = proc->ior_count == 0;
    pthread_mutex_unlock(&proc->lock);
    if (last)
        pool_stop();
}
