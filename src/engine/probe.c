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

/* Takes hold of a segment with a data file, the next one from `from`; false: there is none. */
static bool hold_some(cistern *c, uint32_t from, uint32_t *segment)
{
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++) {
        *segment = (from + i) % n;
        if (!segment_hold(&c->segs, *segment))
            continue;
        if (segment_readable(c, *segment))
            return true;
        segment_release(&c->segs, *segment);
    }
    return false;
}

bool probe_hold_place(cistern *c, uint32_t turn, uint32_t *segment, uint64_t *offset)
{
    uint64_t place = atomic_load(&c->breaker.side[BREAKER_READ].place);

    if (place != BREAKER_NOWHERE && turn % 2 == 0) {
        *segment = (uint32_t)(place >> 32);
        *offset = (place & UINT32_MAX) * FORMAT_PAGE;
        if (segment_hold(&c->segs, *segment)) {
            if (segment_readable(c, *segment))
                return true;
            segment_release(&c->segs, *segment);
        }
    }
    *offset = 0;
    return hold_some(c, turn / 2, segment);
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
    segment_release(&l->c->segs, p->segment);
    p->buf = NULL;
}

void probe_send(struct lane *l, uint64_t now)
{
    cistern *c = l->c;
    struct probe *p = !l->now->probe[0].buf ? &l->now->probe[0] : &l->now->probe[1];
    uint64_t offset;

    if (p->buf || atomic_load(&c->closing) ||
        !(breaker_probe_due(&c->breaker, now) || atomic_exchange(&c->probe_wanted, 0)))
        return;
    if (!probe_hold_place(c, atomic_fetch_add(&c->probes, 1), &p->segment, &offset)) {
        (void)atomic_fetch_add(&c->probe_answers, 1);
        engine_try_again(c, BREAKER_READ); /* there is nothing to read: nobody will wait for it */
        return;
    }
    p->buf = pool_take(c->read_pool);
    p->sent_ns = now;
    metric_add(&c->metrics, METRIC_breaker_probes, 1);
    if (!p->buf) {
        segment_release(&c->segs, p->segment);
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
        segment_release(&l->c->segs, p->segment);
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
