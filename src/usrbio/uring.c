/*
 * uring.c - one process-wide io_uring: filling and submitting, draining completions, sleeping for
 * them.
 *
 * Any thread may submit (under sq_lock) and drain (under cq_lock). At most one thread, the leader,
 * sleeps in the kernel; the others sleep on their ring's futex word until a drainer has something
 * for them or passes leadership on (see flow.c). A leader that asked for several completions at
 * once is woken early, when another thread needs it, by as many no-ops.
 *
 * Never more I/Os are in flight than the completion queue holds, so it cannot overflow.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SQ_ENTRIES 256
#define CQ_ENTRIES 4096
#define NOPS_MAX   64

/* Load acquire pairs with the kernel's release of the other side of the queue, and the reverse. */
#define ring_load(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ring_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static int enter(struct uring *uring, unsigned submit, unsigned min, unsigned flags,
                 const void *arg, size_t size)
{
    long rc = syscall(__NR_io_uring_enter, uring->ring.ring_fd, submit, min, flags, arg, size);

    return rc < 0 ? -errno : (int)rc;
}

/* Without sq_lock it may be too small by what another thread adds, which that thread submits. */
unsigned uring_unsubmitted(struct uring *uring)
{
    return __atomic_load_n(uring->ring.sq.ktail, __ATOMIC_RELAXED) -
           ring_load(uring->ring.sq.khead);
}

static struct io_uring_sqe *sqe_next(struct uring *uring)
{
    if (uring->sq_tail - ring_load(uring->ring.sq.khead) >= uring->sq_entries)
        return NULL;
    return &uring->ring.sq.sqes[uring->sq_tail & uring->sq_mask];
}

/* Shows the kernel what was filled in. Release on `inflight` pairs with the drainer's acquire; the
 * way through the kernel orders the same accesses, but not in the language's model. */
void uring_publish(struct uring *uring)
{
    unsigned count = uring->sq_tail - __atomic_load_n(uring->ring.sq.ktail, __ATOMIC_RELAXED);

    if (count == 0)
        return;
    atomic_fetch_add_explicit(&uring->inflight, count, memory_order_release);
    ring_store(uring->ring.sq.ktail, uring->sq_tail);
}

bool uring_queue(struct uring *uring, struct slot *slot)
{
    struct io_uring_sqe *sqe;
    bool read = slot->ior->for_read, fixed;

    if (atomic_load_explicit(&uring->inflight, memory_order_relaxed) + uring->sq_entries >
        uring->limit)
        return false;
    sqe = sqe_next(uring);
    if (sqe == NULL)
        return false;
    /* Copies out of pinned memory into the page cache gain nothing. */
    fixed = slot->unit >= 0 && (read || slot->file->align != 0) && fixed_use(uring, slot);
    *sqe = (struct io_uring_sqe){
        .opcode = (uint8_t)(fixed ? (read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED)
                                  : (read ? IORING_OP_READ : IORING_OP_WRITE)),
        .fd = rw_fd(slot),
        .off = slot->off + slot->moved,
        .addr = (uintptr_t)(slot->ptr + slot->moved),
        .len = rw_length(slot),
        .rw_flags = slot->file->rw_flags,
        .user_data = (uintptr_t)slot,
        .buf_index = fixed ? (uint16_t)slot->unit : 0,
    };
    uring->sq_tail++;
    return true;
}

/* What the kernel does not take now stays in the queue; whoever waits submits it again. */
void uring_submit(struct uring *uring)
{
    uring_publish(uring);
    for (int tries = 0; tries < 8; tries++) {
        unsigned left = uring_unsubmitted(uring);
        int rc;

        if (left == 0)
            return;
        rc = enter(uring, left, 0, 0, NULL, 0);
        if (rc < 0 && rc != -EINTR)
            return;
    }
}

static bool nops_queue(struct uring *uring, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = sqe_next(uring);

        if (sqe == NULL) {
            uring_submit(uring);
            sqe = sqe_next(uring);
        }
        if (sqe == NULL)
            return false;
        *sqe = (struct io_uring_sqe){.opcode = IORING_OP_NOP};
        uring->sq_tail++;
    }
    uring_submit(uring);
    return true;
}

void uring_wake_leader(struct uring *uring)
{
    lock_take(&uring->sq_lock);
    if (nops_queue(uring, uring->leader_min))
        uring->leader_min = 1;
    lock_drop(&uring->sq_lock);
}

static void wake_ring(struct ior *ior, bool wake)
{
    lock_drop(&ior->lock);
    if (wake)
        futex_wake(&ior->seq, INT32_MAX);
}

static void retry_later(struct uring *uring, struct slot *slot)
{
    list_push(&uring->retry, slot);
    atomic_store(&uring->leftover, true);
}

bool uring_has_completions(struct uring *uring)
{
    return __atomic_load_n(uring->ring.cq.khead, __ATOMIC_RELAXED) !=
           __atomic_load_n(uring->ring.cq.ktail, __ATOMIC_RELAXED);
}

bool uring_drain(struct uring *uring)
{
    unsigned head = *uring->ring.cq.khead;
    unsigned tail = ring_load(uring->ring.cq.ktail);
    unsigned count = tail - head;
    struct ior *ior = NULL;
    bool wake = false;

    if (count == 0)
        return false;
    (void)atomic_load_explicit(&uring->inflight,
                               memory_order_acquire); /* pairs with uring_publish */
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &uring->ring.cq.cqes[head & uring->cq_mask];
        struct slot *slot = (struct slot *)(uintptr_t)cqe->user_data;

        if (slot == NULL)
            continue;
        if (slot->ior != ior) {
            if (ior != NULL)
                wake_ring(ior, wake);
            ior = slot->ior;
            wake = false;
            lock_take(&ior->lock);
        }
        if (rw_step(slot, cqe->res) == STEP_DONE)
            wake |= ior_finish(ior, slot, slot->result);
        else
            retry_later(uring, slot);
    }
    ring_store(uring->ring.cq.khead, head);
    atomic_fetch_sub_explicit(&uring->inflight, count, memory_order_relaxed);
    if (ior != NULL)
        wake_ring(ior, wake);
    return true;
}

static void retry_move(struct uring *uring, struct slot_list *to)
{
    struct slot *slot;

    while ((slot = list_pop(&uring->retry)) != NULL)
        list_push(to, slot);
}

/* Continues I/Os that moved less than asked, then lets rings in that had found no room, in their
 * order. */
void uring_after_drain(struct uring *uring)
{
    struct slot_list again;
    struct slot *slot = NULL;
    struct ior *ior;

    if (!atomic_exchange_explicit(&uring->leftover, false, memory_order_acq_rel))
        return;
    list_init(&again);
    lock_take(&uring->cq_lock);
    retry_move(uring, &again);
    lock_drop(&uring->cq_lock);

    lock_take(&uring->sq_lock);
    while ((slot = list_pop(&again)) != NULL && uring_queue(uring, slot))
        ;
    while (slot == NULL && (ior = uring->stalled) != NULL) {
        uring->stalled = ior->stalled_next;
        ior->stalled = false;
        flow_unstall(ior);
        if (ior->stalled)
            break;
    }
    uring_submit(uring);
    if (uring->stalled != NULL)
        atomic_store(&uring->leftover, true);
    lock_drop(&uring->sq_lock);

    if (slot != NULL) { /* no room: the rest stays for the next time */
        lock_take(&uring->cq_lock);
        do
            list_push(&uring->retry, slot);
        while ((slot = list_pop(&again)) != NULL);
        atomic_store(&uring->leftover, true);
        lock_drop(&uring->cq_lock);
    }
}

/* Submits what is in the queue and sleeps until `min` completions are there or `until` (relative)
 * has passed. */
int uring_enter_wait(struct uring *uring, unsigned min, const struct timespec *until)
{
    struct __kernel_timespec ts = {0};
    struct io_uring_getevents_arg arg = {.sigmask_sz = _NSIG / 8};

    if (until != NULL) {
        ts.tv_sec = until->tv_sec;
        ts.tv_nsec = until->tv_nsec;
        arg.ts = (uintptr_t)&ts;
    }
    return enter(uring, uring_unsubmitted(uring), min,
                 IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
}

static int init_ring(struct io_uring *ring)
{
    static const unsigned sizes[][2] = {{SQ_ENTRIES, CQ_ENTRIES}, {64, 512}};
    static const unsigned optional[] = {IORING_SETUP_SUBMIT_ALL, 0};
    int rc = -ENOSYS;

    for (unsigned s = 0; s < 2; s++) {
        for (unsigned f = 0; f < 2; f++) {
            struct io_uring_params params = {0};

            params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | optional[f];
            params.cq_entries = sizes[s][1];
            rc = io_uring_queue_init_params(sizes[s][0], ring, &params);
            if (rc == 0) {
                if ((params.features & IORING_FEAT_EXT_ARG) != 0 &&
                    (params.features & IORING_FEAT_NODROP) != 0)
                    return 0;
                io_uring_queue_exit(ring);
                return -ENOSYS;
            }
        }
        if (rc != -ENOMEM)
            break;
    }
    return rc;
}

/* Setting up may be allowed and entering forbidden: one no-op goes round. */
static int probe(struct uring *uring)
{
    struct timespec second = {.tv_sec = 1};
    int rc;

    if (!nops_queue(uring, 1))
        return -EIO;
    rc = uring_enter_wait(uring, 1, &second);
    if (rc < 0)
        return rc;
    return uring_drain(uring) ? 0 : -EIO;
}

int uring_create(struct uring **out)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    int rc;

    if (uring == NULL)
        return -ENOMEM;
    rc = init_ring(&uring->ring);
    if (rc != 0) {
        free(uring);
        return rc;
    }
    io_uring_ring_dontfork(&uring->ring);
    list_init(&uring->retry);
    uring->sq_mask = *uring->ring.sq.kring_mask;
    uring->sq_entries = *uring->ring.sq.kring_entries;
    uring->cq_mask = *uring->ring.cq.kring_mask;
    uring->limit = *uring->ring.cq.kring_entries - 2 * NOPS_MAX;
    uring->sq_tail = *uring->ring.sq.ktail;
    for (unsigned i = 0; i < uring->sq_entries; i++)
        uring->ring.sq.array[i] = i;
    fixed_attach(uring);
    rc = probe(uring);
    if (rc != 0) {
        uring_destroy(uring);
        return rc;
    }
    *out = uring;
    return 0;
}

void uring_destroy(struct uring *uring)
{
    io_uring_queue_exit(&uring->ring);
    free(uring->fixed);
    free(uring);
}
