/*
 * fence.c - the write lane's own death: a writer that others may take for dead publishes nothing
 * more.
 *
 * Others call a writer dead when its head did not change for silence_ms, and may then take its
 * segments away. So it writes its head at least four times in that time, also when there is nothing
 * to say, and one that could not for half of it (storage hung, the process was stopped, the machine
 * slept) gives itself up: no frame and no head is written under its name again. The two names of a
 * lane (writer_internal.h) are given up together, whichever head it was. What it has
 * published stays readable here and elsewhere; what was laid out and not published is an error. The
 * keeper takes a new name, the next segment is the first under it, with a new head.
 *
 * The boot clock is asked before each frame and each head; what goes wrong between that and the
 * write has the other half of the time to land. And if it lands later still, it is in a file that
 * somebody took away, or is found by its checks: silence protects space, not bytes.
 *
 * States, in the order in which they are passed: NONE; RAISED: the lane waits for the frame that is
 * under way; ASKED: the keeper's turn; RENEWED: the lane's again.
 */
#include <errno.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/writer_internal.h"

#define BEATS 4u /* heads in one silence */

static uint64_t silence_ns(const struct writer *w)
{
    return w->c->cfg.silence_ms * NS_PER_MS;
}

/* Since when the head is as it is; 0 = there is none yet. */
static uint64_t head_since(struct writer *w, struct wstream *st)
{
    bool made;

    if (!st->fence_ns) {
        (void)pthread_mutex_lock(&w->lock);
        made = st->head.fd >= 0;
        (void)pthread_mutex_unlock(&w->lock);
        if (made)
            st->fence_ns = st->head_sent_ns = clock_boot_ns();
    }
    return st->fence_ns;
}

static bool expired(struct writer *w)
{
    uint64_t since;
    uint32_t i;

    for (i = 0; i < WSTREAMS; i++) {
        since = head_since(w, &w->streams[i]);
        if (since && clock_boot_ns() - since > silence_ns(w) / 2)
            return true;
    }
    return false;
}

bool fence_holds(struct writer *w)
{
    return atomic_load(&w->fence) != FENCE_NONE || expired(w);
}

/* Between two heads. While the breaker is open the others believe it only as long as the head
 * moves (ranks.c). */
static uint64_t beat_ns(const struct writer *w)
{
    uint64_t every = silence_ns(w) / BEATS;

    return engine_stops_gets(w->c) ? min_u64(every, w->c->breaker.probe_ns) : every;
}

static bool writer_has_head(const struct writer *w)
{
    return w->streams[POLICY_YOUNG].fence_ns || w->streams[POLICY_OLD].fence_ns;
}

uint64_t fence_idle_ns(const struct writer *w, uint64_t most)
{
    return writer_has_head(w) ? min_u64(most, beat_ns(w) / 4) : most;
}

void fence_head_sent(struct wstream *st)
{
    st->head_sent_ns = clock_boot_ns();
}

void fence_head_written(struct writer *w, struct wstream *st)
{
    st->head_failed = false;
    st->fence_ns = st->head_sent_ns;
    bell_ring(&w->c->bell, w->c->cfg.shard, !st->announced);
    st->announced = true;
}

/* A head that says nothing new but that somebody lives. */
static void beat(struct writer *w, struct wstream *st)
{
    uint64_t every = beat_ns(w) / (st->head_failed ? 4 : 1);

    if (!(w->head_busy && w->head_of == st) && head_since(w, st) &&
        clock_boot_ns() - st->head_sent_ns >= every)
        st->head_dirty = true;
}

void fence_give_up(struct writer *w)
{
    uint32_t i;

    if (w->head_busy) { /* its buffer is storage's until it answers */
        pool_quarantine(w->c->write_pool, w->head_buf);
        w->lost_pages++;
        w->head_buf = NULL;
        w->head_busy = false;
    }
    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS; i++) {
        struct wseg *s = &w->segs[i];

        if (s->stage == WSEG_READY || s->stage == WSEG_OPEN)
            s->stage = WSEG_ENDED;
        if (s->stage == WSEG_ENDED)
            s->abandoned = true;
    }
    for (i = 0; i < WSTREAMS; i++)
        w->streams[i].current = w->streams[i].next = NULL;
    (void)pthread_mutex_unlock(&w->lock);
    atomic_store(&w->fence, FENCE_ASKED);
    keeper_ask(w->c, KEEPER_FENCE);
}

static void begin_anew(struct writer *w)
{
    uint32_t i;

    for (i = 0; i < WSTREAMS; i++) {
        struct wstream *st = &w->streams[i];

        st->published = st->published_next = 0;
        st->first_seq = 0;
        st->fence_ns = 0;
        st->head_dirty = st->head_failed = st->announced = false;
    }
    atomic_store(&w->fence, FENCE_NONE);
}

void fence_step(struct writer *w)
{
    uint32_t state = atomic_load(&w->fence), i;

    if (!w->head_buf)
        w->head_buf = pool_take(w->c->write_pool);
    if (state == FENCE_RENEWED) {
        begin_anew(w);
    } else if (state == FENCE_NONE && expired(w)) {
        metric_add(&w->c->metrics, METRIC_writer_fences, 1);
        log_line(&w->c->cfg.log, LOG_WARN,
                 "writer %016llx could not write its head for %u ms: others may take it for dead, "
                 "it begins anew under another name",
                 (unsigned long long)writer_young(w)->id, w->c->cfg.silence_ms / 2);
        atomic_store(&w->fence, FENCE_RAISED);
    } else if (state == FENCE_NONE) {
        for (i = 0; i < WSTREAMS; i++)
            beat(w, &w->streams[i]);
    }
    if (atomic_load(&w->fence) == FENCE_RAISED && !w->toc_busy)
        fence_give_up(w);
}

/* A segment that was made meanwhile has the old name. */
static void renew(cistern *c, struct writer *w, struct wstream *st)
{
    struct io_file head;
    uint64_t id;

    (void)pthread_mutex_lock(&w->lock);
    head = st->head;
    st->head.fd = -1;
    if (st->next) {
        st->next->stage = WSEG_ENDED;
        st->next->abandoned = true;
        st->next = NULL;
    }
    (void)pthread_mutex_unlock(&w->lock);
    if (head.fd >= 0)
        c->io->ops->file_close(c->io, &head);
    if (getrandom(&id, sizeof id, 0) != sizeof id)
        id = st->id * 0x9e3779b97f4a7c15u + clock_boot_ns(); /* another name is all it has to be */
    (void)pthread_mutex_lock(&w->lock);
    st->id = id;
    st->seq = 0;
    (void)pthread_mutex_unlock(&w->lock);
}

/* The keeper's part. */
void fence_renew(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t i;

    if (!w || atomic_load(&w->fence) != FENCE_ASKED)
        return;
    for (i = 0; i < WSTREAMS; i++)
        renew(c, w, &w->streams[i]);
    atomic_store(&w->fence, FENCE_RENEWED);
    inbox_ring(&w->in);
}
