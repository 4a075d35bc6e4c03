/*
 * ops.c - the table of operations, and the events that go to the caller.
 *
 * Events are not queued one by one: an operation that has something to tell is on a list once, and
 * what it tells is read off its state. So nothing can overflow, whatever the caller forgets to
 * poll.
 */
#include "engine/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/memory.h"

int optab_open(struct optab *t, uint32_t max, uint32_t nparts)
{
    pthread_condattr_t attr;
    uint32_t i;

    *t = (struct optab){.max = max, .nparts = nparts, .event_fd = -1, .next_seq = 1};
    t->at = calloc(max, sizeof *t->at);
    t->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!t->at || t->event_fd < 0) {
        int rc = t->at ? -errno : -ENOMEM;

        optab_close(t);
        return err_set(rc, "no memory or file descriptor for the operations");
    }
    for (i = max; i-- > 0;) {
        t->at[i].id = i + 1;
        t->at[i].link = t->free;
        t->free = &t->at[i];
    }
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    return -pthread_mutex_init(&t->lock, NULL);
}

void optab_close(struct optab *t)
{
    if (!t->max)
        return;
    if (t->event_fd >= 0)
        (void)close(t->event_fd);
    free(t->at);
    *t = (struct optab){.event_fd = -1};
}

struct op *op_take(struct optab *t, const struct cistern_request *r)
{
    struct op *op;
    uint64_t id;

    (void)pthread_mutex_lock(&t->lock);
    op = t->free;
    if (op) {
        t->free = op->link;
        id = op->id + ((uint64_t)1 << 32);
        memset(op, 0, sizeof *op);
        op->id = id;
        op->r = *r;
        op->used = true;
        op->seq = t->next_seq++;
        op->start_ns = clock_ns();
    }
    (void)pthread_mutex_unlock(&t->lock);
    return op;
}

static void release_locked(struct optab *t, struct op *op)
{
    op->used = false;
    op->link = t->free;
    t->free = op;
}

void op_give_back(struct optab *t, struct op *op)
{
    (void)pthread_mutex_lock(&t->lock);
    release_locked(t, op);
    (void)pthread_mutex_unlock(&t->lock);
}

static void tell_locked(struct optab *t, struct op *op)
{
    uint64_t one = 1;

    if (!op->queued) {
        op->queued = true;
        op->link = NULL;
        if (t->last)
            t->last->link = op;
        else
            t->first = op;
        t->last = op;
    }
    if (!t->fd_raised) {
        t->fd_raised = true;
        (void)!write(t->event_fd, &one, sizeof one);
    }
    (void)pthread_cond_broadcast(&t->changed);
}

struct sums {
    uint32_t run, hits, misses, errors;
};

/* What became of a block, from the results of its parts. */
static void sum_block(const struct optab *t, const struct op *op, uint32_t block, struct sums *s)
{
    uint32_t p, asked = 0, good = 0, run = 0, failed = 0;

    for (p = 0; p < t->nparts; p++) {
        uint8_t r = *op_result(t, op, block, p);

        asked += op_span(t, op, block, p)->count != 0;
        good += r == CISTERN_HIT || r == CISTERN_STORED || r == CISTERN_PRESENT;
        run += r == CISTERN_HIT || r == CISTERN_STORED || r == CISTERN_PRESENT ||
               r == CISTERN_UNDERWAY;
        failed += r == CISTERN_ERROR;
    }
    s->run += s->run == block && run == asked;
    s->hits += good == asked;
    s->errors += failed != 0;
    s->misses += op->is_put ? run != asked : good != asked;
}

void op_sum(struct optab *t, struct op *op)
{
    struct sums s = {0};
    uint32_t i;

    for (i = 0; i < op->r.blocks; i++)
        sum_block(t, op, i, &s);
    op->event = (struct cistern_event){.op = op->id,
                                       .cookie = op->r.cookie,
                                       .kind = CISTERN_EV_DONE,
                                       .status = atomic_load(&op->status),
                                       .run = s.run,
                                       .hits = s.hits,
                                       .misses = s.misses,
                                       .errors = s.errors,
                                       .bytes = atomic_load(&op->bytes),
                                       .nanoseconds = clock_ns() - op->start_ns};
}

void op_tell(struct optab *t, struct op *op)
{
    (void)pthread_mutex_lock(&t->lock);
    op->done = true;
    tell_locked(t, op);
    (void)pthread_mutex_unlock(&t->lock);
}

void op_part_settled(struct optab *t, struct op *op, uint32_t part, uint32_t blocks)
{
    uint32_t ready;

    if (atomic_fetch_sub(&op->part_left[part], blocks) != blocks)
        return;
    (void)pthread_mutex_lock(&t->lock);
    for (ready = op->parts_ready; ready < t->nparts && atomic_load(&op->part_left[ready]) == 0;)
        ready++;
    if (ready != op->parts_ready) {
        op->parts_ready = ready;
        tell_locked(t, op);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

void op_buffer_free(struct optab *t, struct op *op)
{
    if (atomic_fetch_sub(&op->buffers, 1) != 1)
        return;
    (void)atomic_fetch_sub(&op->r.memory->reads, 1);
    (void)pthread_mutex_lock(&t->lock);
    op->buffers_free = true;
    tell_locked(t, op);
    (void)pthread_mutex_unlock(&t->lock);
}

/* Takes the next event of an operation; false: it has no more now. The slot is free after its last
 * one. */
static bool next_event(struct optab *t, struct op *op, struct cistern_event *ev)
{
    if (op->by_part && op->parts_told < op->parts_ready && !op->done_told) {
        *ev = (struct cistern_event){
            .op = op->id, .cookie = op->r.cookie, .kind = CISTERN_EV_PART, .part = op->parts_told};
        op->parts_told++;
        return true;
    }
    if (op->done && !op->done_told) {
        *ev = op->event;
        op->done_told = true;
        if (!op->direct)
            release_locked(t, op);
        return true;
    }
    if (op->done_told && op->direct && op->used && op->buffers_free) {
        *ev = (struct cistern_event){
            .op = op->id, .cookie = op->r.cookie, .kind = CISTERN_EV_BUFFER_FREE};
        release_locked(t, op);
        return true;
    }
    return false;
}

static bool has_event(const struct op *op)
{
    return op->used &&
           ((op->by_part && op->parts_told < op->parts_ready && !op->done_told) ||
            (op->done && !op->done_told) || (op->done_told && op->direct && op->buffers_free));
}

static void lower_fd_locked(struct optab *t)
{
    uint64_t count;

    if (!t->first && t->fd_raised) {
        t->fd_raised = false;
        (void)!read(t->event_fd, &count, sizeof count);
    }
}

/* `link` joins both lists, so an operation leaves this one before its last event frees it. */
static void unqueue_locked(struct optab *t, struct op *op)
{
    struct op **at = &t->first, *before = NULL;

    if (!op->queued)
        return;
    while (*at != op) {
        before = *at;
        at = &(*at)->link;
    }
    *at = op->link;
    if (t->last == op)
        t->last = before;
    op->queued = false;
}

int ops_poll(struct optab *t, struct cistern_event *events, int max)
{
    struct op *op;
    int n = 0;

    (void)pthread_mutex_lock(&t->lock);
    while (n < max && (op = t->first)) {
        unqueue_locked(t, op);
        while (n < max && next_event(t, op, &events[n]))
            n++;
        if (has_event(op)) {
            tell_locked(t, op);
            break;
        }
    }
    lower_fd_locked(t);
    (void)pthread_mutex_unlock(&t->lock);
    return n;
}

int ops_wait(struct optab *t, uint64_t id, uint64_t deadline_ns, struct cistern_event *event)
{
    uint32_t slot = (uint32_t)id;
    struct timespec until = clock_timespec(deadline_ns);
    struct op *op;
    int rc = 0;

    if (slot == 0 || slot > t->max)
        return err_set(-EINVAL, "there is no operation %llu", (unsigned long long)id);
    op = &t->at[slot - 1];
    (void)pthread_mutex_lock(&t->lock);
    while (op->id == id && op->used && !op->done_told && !op->done && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&t->changed, &t->lock, &until);
    if (op->id != id || !op->used || op->done_told) {
        rc = err_set(-EINVAL, "operation %llu is not open (its completion was taken already)",
                     (unsigned long long)id);
    } else if (!op->done) {
        rc = err_set(-ETIMEDOUT, "operation %llu is not complete yet", (unsigned long long)id);
    } else {
        unqueue_locked(t, op);
        op->parts_told = op->parts_ready;
        (void)next_event(t, op, event);
        if (has_event(op))
            tell_locked(t, op);
        rc = 0;
    }
    lower_fd_locked(t);
    (void)pthread_mutex_unlock(&t->lock);
    return rc;
}

bool ops_put_open_before(struct optab *t, uint64_t seq)
{
    bool open = false;
    uint32_t i;

    (void)pthread_mutex_lock(&t->lock);
    for (i = 0; i < t->max && !open; i++)
        open = t->at[i].used && t->at[i].is_put && !t->at[i].done && t->at[i].seq < seq;
    (void)pthread_mutex_unlock(&t->lock);
    return open;
}

uint32_t ops_open_count(struct optab *t)
{
    uint32_t i, n = 0;

    (void)pthread_mutex_lock(&t->lock);
    for (i = 0; i < t->max; i++)
        n += t->at[i].used;
    (void)pthread_mutex_unlock(&t->lock);
    return n;
}

uint32_t ops_puts_open(struct optab *t)
{
    uint32_t i, n = 0;

    (void)pthread_mutex_lock(&t->lock);
    for (i = 0; i < t->max; i++)
        n += t->at[i].used && t->at[i].is_put && !t->at[i].done;
    (void)pthread_mutex_unlock(&t->lock);
    return n;
}
