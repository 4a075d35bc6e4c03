/*
 * probe.c - one small read of a known place while the breaker is open: the way back.
 *
 * A probe goes through the ring of a lane, which has entries to spare for it: so it tells whether
 * that very way works. It has a slot of the staging until storage has answered. The place where the
 * last read failed is tried in turn with other segments, so that one bad spot keeps nobody out for
 * ever. The lane never waits for a probe.
 */
#include <errno.h>

#include "base/clock.h"
#include "engine/lane_internal.h"

/* The next segment from `from` whose data file is open. FILE_SHUT: there are some, but none is, and
 * one was asked for. */
static enum file_state take_some(cistern *c, uint32_t from, uint32_t *segment)
{
    uint32_t i, n = atomic_load(&c->segs.count), shut = n;

    for (i = 0; i < n; i++) {
        enum file_state state;

        *segment = (from + i) % n;
        if (!segment_hold(&c->segs, *segment))
            continue;
        state = file_take(c, *segment);
        if (state == FILE_TAKEN)
            return state;
        if (state == FILE_SHUT)
            shut = *segment;
        segment_release(&c->segs, *segment);
    }
    if (shut == n || !segment_hold(&c->segs, shut))
        return FILE_NONE;
    file_ask(c, shut);
    segment_release(&c->segs, shut);
    return FILE_SHUT;
}

enum file_state probe_take_place(cistern *c, uint32_t turn, uint32_t *segment, uint64_t *offset)
{
    uint64_t place = atomic_load(&c->breaker.side[BREAKER_READ].place);

    if (place != BREAKER_NOWHERE && turn % 2 == 0) {
        *segment = (uint32_t)(place >> 32);
        *offset = (place & UINT32_MAX) * FORMAT_PAGE;
        if (segment_hold(&c->segs, *segment)) {
            if (file_take(c, *segment) == FILE_TAKEN)
                return FILE_TAKEN;
            segment_release(&c->segs, *segment);
        }
    }
    *offset = 0;
    return take_some(c, turn / 2, segment);
}

static bool send(struct lane *l, struct probe *p, uint64_t offset)
{
    struct io *io = l->c->io;

    p->io = (struct rio){.offset = offset, .len = FORMAT_PAGE};
    if (io->ops->prep(io, l->ring, pool_mem(l->c->read_pool, p->buf), p->buf,
                      &l->c->segs.at[p->segment].data, offset, FORMAT_PAGE, &p->io) < 0)
        return false;
    l->prepared++;
    if (io->ops->submit(io, l->ring) >= 0)
        l->prepared = 0; /* else once more at the next look */
    return true;
}

static void drop(struct lane *l, struct probe *p)
{
    pool_give(l->c->read_pool, p->buf);
    file_leave(l->c, p->segment);
    p->buf = NULL;
}

void probe_send(struct lane *l, uint64_t now)
{
    cistern *c = l->c;
    struct probe *p = !l->now->probe[0].buf ? &l->now->probe[0] : &l->now->probe[1];
    enum file_state state;
    uint64_t offset;

    if (p->buf || atomic_load(&c->closing) ||
        !(breaker_probe_due(&c->breaker, now) || atomic_exchange(&c->probe_wanted, 0)))
        return;
    state = probe_take_place(c, atomic_fetch_add(&c->probes, 1), &p->segment, &offset);
    if (state == FILE_SHUT) /* with the next probe there is one, if storage lets it be opened */
        return;
    if (state == FILE_NONE) {
        (void)atomic_fetch_add(&c->probe_answers, 1);
        engine_try_again(c, BREAKER_READ); /* there is nothing to read: nobody will wait for it */
        return;
    }
    p->buf = pool_take(c->read_pool);
    p->sent_ns = now;
    metric_add(&c->metrics, METRIC_breaker_probes, 1);
    if (!p->buf) {
        file_leave(c, p->segment);
    } else if (!send(l, p, offset)) {
        drop(l, p);
    } else {
        l->probing++;
    }
}

void probe_late(struct lane *l, const struct rio *io)
{
    uint32_t i;

    for (i = 0; i < PROBES; i++) {
        struct probe *p = &l->kit[0].probe[i];

        if (io != &p->io || !p->buf)
            continue;
        pool_unquarantine(l->c->read_pool, p->buf);
        file_leave(l->c, p->segment);
        p->buf = NULL;
    }
}

/* False: storage does not know the ring, the memory or the file any more. */
static bool is_known(int64_t result)
{
    return result != -EBADF && result != -EINVAL && result != -EACCES && result != -ENOTCONN &&
           result != -ESTALE && result != -ECONNABORTED;
}

bool probe_answered(struct lane *l, const struct rio *io, int64_t result)
{
    struct probe *p = io == &l->now->probe[0].io ? &l->now->probe[0] : &l->now->probe[1];
    uint64_t now = clock_ns();
    bool late = now - p->sent_ns >= l->c->cfg.read_timeout_ms * NS_PER_MS;

    if (io != &p->io)
        return false;
    drop(l, p);
    l->probing--;
    if (is_known(result))
        (void)atomic_fetch_add(&l->c->probe_answers, 1);
    if (late)
        breaker_hint(&l->c->breaker, BREAKER_READ, now); /* slow, but alive: look again */
    else if (result >= 0 || !breaker_counts((int)result))
        engine_try_again(l->c, BREAKER_READ);
    return true;
}
