/*
 * flow.c - starting what was prepared, and waiting for it.
 *
 * Starting sends each I/O where its file belongs: into the io_uring, to the worker threads, or, for
 * files in memory, into the calling thread: writes at once, reads one by one when somebody waits,
 * so that the data is still in the processor's cache when the caller looks at it.
 *
 * Waiting in an io_uring: one of the waiting threads leads, that is, sleeps in the kernel; the
 * others sleep on their ring's futex word. The leader hands out whatever completes. It keeps the
 * lead until it leaves flow_wait, and then wakes one of the others to take over. A leader that is
 * alone on its io_uring sleeps until everything it needs is there; otherwise each completion wakes
 * it.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <string.h>

#define SLICE_NS       1000000000ull /* longest sleep: a changed clock is noticed after that */
#define LEADER_MIN_MAX 64

struct starting {
    struct slot_list inline_writes;
    struct slot_list pool;
    unsigned pool_count;
    bool wake;   /* sleepers of the ring */
    bool leader; /* its leader */
};

static bool runs_inline(const struct ior *ior, const struct slot *slot)
{
    return ior->backend == BACKEND_INLINE ||
           (slot->file->in_memory && the_proc.wanted == BACKEND_AUTO);
}

static void mark_busy(struct ior *ior, struct slot *slot)
{
    slot->state = SLOT_BUSY;
    ior->busy++;
    ior->busy_wrapped += slot->wrapped;
}

/* sq_lock and ior.lock held. */
static bool ring_take(struct ior *ior, struct slot *slot)
{
    if (!uring_queue(ior->uring, slot)) {
        uring_submit(ior->uring);
        if (!uring_queue(ior->uring, slot))
            return false;
    }
    mark_busy(ior, slot);
    return true;
}

/* sq_lock held. */
static void stall(struct ior *ior)
{
    struct ior **link = &ior->uring->stalled;

    if (ior->stalled)
        return;
    while (*link != NULL)
        link = &(*link)->stalled_next;
    ior->stalled = true;
    ior->stalled_next = NULL;
    *link = ior;
    atomic_store(&ior->uring->leftover, true);
}

void flow_unstall(struct ior *ior)
{
    struct slot *slot;

    lock_take(&ior->lock);
    while ((slot = list_pop(&ior->backlog)) != NULL) {
        if (ring_take(ior, slot))
            continue;
        list_push_front(&ior->backlog, slot);
        stall(ior);
        break;
    }
    lock_drop(&ior->lock);
}

static void lazy_add(struct ior *ior, struct slot *slot, struct starting *st)
{
    slot->state = SLOT_LAZY;
    list_push(&ior->lazy, slot);
    if (ior->sleepers > 0) {
        atomic_fetch_add_explicit(&ior->seq, 1, memory_order_release);
        st->wake = true;
    }
    st->leader |= ior->leader_here;
}

static void start_one(struct ior *ior, struct slot *slot, struct starting *st)
{
    bool clip = ior->for_read && (ior->forbid_holes || the_proc.strict.holes);

    if (slot->result != 0 || (clip && strict_clip(slot))) {
        st->wake |= ior_finish(ior, slot, slot->result);
        st->leader |= ior->leader_here;
        return;
    }
    rw_begin(slot);
    if (runs_inline(ior, slot)) {
        if (ior->for_read) {
            lazy_add(ior, slot, st);
        } else {
            mark_busy(ior, slot);
            list_push(&st->inline_writes, slot);
        }
    } else if (ior->backend == BACKEND_THREADS) {
        mark_busy(ior, slot);
        list_push(&st->pool, slot);
        st->pool_count++;
    } else if (ior->backlog.head != NULL || !ring_take(ior, slot)) {
        list_push(&ior->backlog, slot);
        stall(ior);
    }
}

static void start_all(struct ior *ior, struct starting *st)
{
    struct slot_list list;
    struct slot *slot;

    list_init(&list);
    lock_take(&ior->lock);
    strict_pick(ior, &list);
    while ((slot = list_pop(&list)) != NULL)
        start_one(ior, slot, st);
    lock_drop(&ior->lock);
}

static void start_rest(struct ior *ior, struct starting *st)
{
    struct uring *uring = ior->uring;
    struct slot *slot;

    if (st->pool_count > 0)
        pool_push(&st->pool, st->pool_count);
    while ((slot = list_pop(&st->inline_writes)) != NULL)
        ior_complete(slot, rw_run(slot));
    if (st->wake)
        futex_wake(&ior->seq, INT32_MAX);
    if (st->leader) {
        lock_take(&uring->cq_lock);
        if (uring->led)
            uring_wake_leader(uring);
        lock_drop(&uring->cq_lock);
    }
}

/* With `enter`, or when the caller will not sleep in the kernel next, the submission is made here.
 */
bool flow_start(struct ior *ior, bool enter)
{
    struct starting st = {0};
    bool unsubmitted = false;

    if (atomic_load_explicit(&ior->waiting_to_start, memory_order_relaxed) == 0)
        return false;
    list_init(&st.inline_writes);
    list_init(&st.pool);
    if (ior->uring != NULL)
        lock_take(&ior->uring->sq_lock);
    start_all(ior, &st);
    if (ior->uring != NULL) {
        if (enter)
            uring_submit(ior->uring);
        else
            uring_publish(ior->uring);
        unsubmitted = uring_unsubmitted(ior->uring) > 0;
        lock_drop(&ior->uring->sq_lock);
    }
    start_rest(ior, &st);
    return unsubmitted;
}

struct waiter {
    struct ior *ior;
    struct uring *uring;
    const struct timespec *until;
    bool leading;
    bool unsubmitted; /* we filled the submission queue and did not enter yet */
};

/* Nanoseconds to sleep; 0: the time is over. Any two numbers are a time. */
static uint64_t time_left(const struct timespec *until)
{
    struct timespec now;
    __int128 ns;

    if (until == NULL)
        return SLICE_NS;
    clock_gettime(CLOCK_REALTIME, &now);
    ns = ((__int128)until->tv_sec - now.tv_sec) * 1000000000 + until->tv_nsec - now.tv_nsec;
    if (ns <= 0)
        return 0;
    return ns < (__int128)SLICE_NS ? (uint64_t)ns : SLICE_NS;
}

static void submit_now(struct waiter *w)
{
    if (!w->unsubmitted)
        return;
    w->unsubmitted = false;
    lock_take(&w->uring->sq_lock);
    uring_submit(w->uring);
    lock_drop(&w->uring->sq_lock);
}

/* cq_lock held, nobody leads: wakes one sleeper, who will. */
static void hand_over(struct uring *uring)
{
    struct ior *ior = uring->sleeping;

    if (ior == NULL)
        return;
    lock_take(&ior->lock);
    atomic_fetch_add_explicit(&ior->seq, 1, memory_order_release);
    lock_drop(&ior->lock);
    futex_wake(&ior->seq, 1);
}

static void lead_drop(struct waiter *w)
{
    if (!w->leading)
        return;
    w->leading = false;
    lock_take(&w->uring->cq_lock);
    w->uring->led = false;
    hand_over(w->uring);
    lock_drop(&w->uring->cq_lock);
}

/* Registers a sleeper; ior.lock held. */
static uint32_t sleeper_add(struct ior *ior, unsigned need)
{
    unsigned at = ior->done_count + need;

    ior->wake_at = ior->sleepers == 0 || at < ior->wake_at ? at : ior->wake_at;
    ior->sleepers++;
    return atomic_load_explicit(&ior->seq, memory_order_relaxed);
}

static bool something_ready(const struct ior *ior)
{
    return ior->done_count > 0 || ior->lazy.head != NULL;
}

/* Sleeps without an io_uring: workers and other threads complete our I/O. */
static void sleep_plain(struct waiter *w, unsigned need, uint64_t ns)
{
    struct ior *ior = w->ior;
    uint32_t seq;

    lock_take(&ior->lock);
    if (something_ready(ior)) {
        lock_drop(&ior->lock);
        return;
    }
    seq = sleeper_add(ior, need);
    lock_drop(&ior->lock);
    futex_wait(&ior->seq, seq, ns);
    lock_take(&ior->lock);
    ior->sleepers--;
    lock_drop(&ior->lock);
}

/* cq_lock and ior.lock held on entry, none on return. */
static void sleep_follower(struct waiter *w, unsigned need, uint64_t ns)
{
    struct uring *uring = w->uring;
    struct ior *ior = w->ior;
    uint32_t seq = sleeper_add(ior, need);

    if (ior->sleepers == 1) {
        ior->sleeping_next = uring->sleeping;
        ior->sleeping_link = &uring->sleeping;
        if (ior->sleeping_next != NULL)
            ior->sleeping_next->sleeping_link = &ior->sleeping_next;
        uring->sleeping = ior;
    }
    lock_drop(&ior->lock);
    if (uring->leader_min > 1)
        uring_wake_leader(uring);
    lock_drop(&uring->cq_lock);
    submit_now(w);

    futex_wait(&ior->seq, seq, ns);

    lock_take(&uring->cq_lock);
    lock_take(&ior->lock);
    if (--ior->sleepers == 0) {
        *ior->sleeping_link = ior->sleeping_next;
        if (ior->sleeping_next != NULL)
            ior->sleeping_next->sleeping_link = ior->sleeping_link;
    }
    lock_drop(&ior->lock);
    uring->waiters--;
    if (!uring->led)
        w->leading = uring->led = true;
    lock_drop(&uring->cq_lock);
}

/* cq_lock and ior.lock held on entry, none on return. */
static void sleep_leader(struct waiter *w, unsigned need, uint64_t ns)
{
    struct timespec left = clock_timespec(ns), pause = {.tv_nsec = 1000000};
    struct uring *uring = w->uring;
    struct ior *ior = w->ior;
    unsigned min = 1;
    bool drained;
    int rc;

    if (uring->waiters == 1 && atomic_load_explicit(&uring->users, memory_order_relaxed) == 1) {
        min = need < ior->busy ? need : ior->busy;
        min = min < 1 ? 1 : min > LEADER_MIN_MAX ? LEADER_MIN_MAX : min;
    }
    w->leading = uring->led = true;
    uring->leader_min = min;
    ior->leader_here = true;
    lock_drop(&ior->lock);
    lock_drop(&uring->cq_lock);

    w->unsubmitted = false;
    rc = uring_enter_wait(uring, min, w->until == NULL ? NULL : &left);

    lock_take(&uring->cq_lock);
    uring->waiters--;
    uring->leader_min = 1;
    lock_take(&ior->lock);
    ior->leader_here = false;
    lock_drop(&ior->lock);
    drained = uring_drain(uring);
    lock_drop(&uring->cq_lock);
    uring_after_drain(uring);
    if (!drained && rc < 0 && rc != -ETIME && rc != -EINTR)
        nanosleep(&pause, NULL); /* the kernel is short of memory: try again soon */
}

static void sleep_in_ring(struct waiter *w, unsigned need, uint64_t ns)
{
    struct uring *uring = w->uring;

    lock_take(&uring->cq_lock);
    if (uring_drain(uring)) {
        lock_drop(&uring->cq_lock);
        uring_after_drain(uring);
        return;
    }
    lock_take(&w->ior->lock);
    if (something_ready(w->ior)) {
        lock_drop(&w->ior->lock);
        lock_drop(&uring->cq_lock);
        return;
    }
    uring->waiters++;
    if (w->leading || !uring->led)
        sleep_leader(w, need, ns);
    else
        sleep_follower(w, need, ns);
}

static void drain_ready(struct uring *uring)
{
    if (!uring_has_completions(uring))
        return;
    lock_take(&uring->cq_lock);
    uring_drain(uring);
    lock_drop(&uring->cq_lock);
    uring_after_drain(uring);
}

/* Reaps what is there, and takes the next inline read if that does not satisfy the caller. */
static struct slot *collect(struct ior *ior, struct hf3fs_cqe *out, unsigned max, unsigned min,
                            unsigned *got)
{
    struct slot *lazy = NULL;

    lock_take(&ior->lock);
    *got += ior_reap(ior, out + *got, max - *got);
    if (*got < (min > 0 ? min : 1) && (lazy = list_pop(&ior->lazy)) != NULL)
        mark_busy(ior, lazy);
    lock_drop(&ior->lock);
    return lazy;
}

int flow_wait(struct ior *ior, struct hf3fs_cqe *out, unsigned max, unsigned min,
              const struct timespec *until)
{
    struct waiter w = {.ior = ior, .uring = ior->uring, .until = until};
    unsigned got = 0;

    for (;;) {
        struct slot *lazy;
        uint64_t ns;

        w.unsubmitted |= flow_start(ior, false);
        if (w.uring != NULL)
            drain_ready(w.uring);
        lazy = collect(ior, out, max, min, &got);
        if (lazy != NULL) {
            submit_now(&w);
            lead_drop(&w);
            ior_complete(lazy, rw_run(lazy));
            continue;
        }
        if (got >= min)
            break;
        ns = time_left(until);
        if (ns == 0)
            break;
        if (w.uring != NULL)
            sleep_in_ring(&w, min - got, ns);
        else
            sleep_plain(&w, min - got, ns);
    }
    /* What the kernel refused to take earlier is offered again, even by those who only poll. */
    if (got == 0 && w.uring != NULL && uring_unsubmitted(w.uring) > 0)
        w.unsubmitted = true;
    submit_now(&w);
    lead_drop(&w);
    return (int)got;
}
