/*
 * breaker.c - the state of the breaker, and what the engine does when it changes.
 *
 * The words of a side are changed one by one, without a lock: `open` decides, by exchange, who
 * opens and who closes; a failure that meets a change counts for the old or the new state, which is
 * as good as having come a moment earlier or later.
 */
#include "engine/breaker.h"

#include <errno.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/renew.h"

void breaker_init(struct breaker *b, uint32_t limit, uint32_t probe_ms)
{
    uint32_t i;

    *b = (struct breaker){.limit = limit, .probe_ns = probe_ms * NS_PER_MS};
    for (i = 0; i < BREAKER_SIDES; i++)
        atomic_store(&b->side[i].place, BREAKER_NOWHERE);
}

bool breaker_counts(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
    case -EROFS:
    case -ENOMEM:
    case -ENOENT:
    case -ESTALE: /* it was taken away elsewhere */
    case -EAGAIN:
    case -EINTR:
    case -EBADMSG: /* it was answered: the file ends early */
    case -EMFILE:
    case -ENFILE:
        return false;
    default:
        return error < 0;
    }
}

bool breaker_close(struct breaker *b, enum breaker_side side)
{
    struct breaker_half *h = &b->side[side];

    if (!atomic_load(&h->open))
        return false;
    atomic_store(&h->trial, 1);
    atomic_store(&h->strikes, b->limit > 1 ? b->limit - 1 : 1);
    atomic_store(&h->place, BREAKER_NOWHERE);
    (void)atomic_fetch_add(&h->epoch, 1);
    return atomic_exchange(&h->open, 0) != 0;
}

bool breaker_put_due(const struct breaker *b, uint64_t now)
{
    return breaker_is_open(b, BREAKER_WRITE) && now >= atomic_load(&b->side[BREAKER_WRITE].next_ns);
}

uint64_t breaker_timeout_ns(const struct breaker *b, enum breaker_side side, uint64_t full_ns)
{
    const struct breaker_half *h = &b->side[side];
    uint32_t strikes = atomic_load_explicit(&h->strikes, memory_order_relaxed);

    if (!b->limit || !strikes)
        return full_ns;
    if (atomic_load_explicit(&h->trial, memory_order_relaxed))
        return full_ns / 2;
    return max_u64(full_ns >> (strikes < 16 ? strikes : 16), NS_PER_MS);
}

bool breaker_failed(struct breaker *b, enum breaker_side side, uint32_t epoch, int error,
                    uint64_t place, uint64_t now)
{
    struct breaker_half *h = &b->side[side];

    if (!b->limit || !breaker_counts(error) || epoch != atomic_load(&h->epoch) ||
        atomic_load(&h->open))
        return false;
    if (error != -ETIMEDOUT && place != BREAKER_NOWHERE &&
        atomic_exchange(&h->place, place) == place)
        return false;
    if (atomic_fetch_add(&h->strikes, 1) + 1 < b->limit)
        return false;
    atomic_store(&h->place, place);
    atomic_store(&h->since_ns, now);
    atomic_store(&h->next_ns, now + b->probe_ns);
    if (atomic_exchange(&h->open, 1))
        return false;
    (void)atomic_fetch_add(&h->epoch, 1);
    return true;
}

void breaker_answered_slow(struct breaker_half *h)
{
    if (atomic_load(&h->open))
        return;
    atomic_store(&h->strikes, 0);
    atomic_store(&h->trial, 0);
}

void breaker_hint(struct breaker *b, enum breaker_side side, uint64_t now)
{
    if (breaker_is_open(b, side) && atomic_load(&b->side[side].next_ns) > now)
        atomic_store(&b->side[side].next_ns, now);
}

bool breaker_probe_due(struct breaker *b, uint64_t now)
{
    struct breaker_half *h = &b->side[BREAKER_READ];
    uint64_t due = atomic_load(&h->next_ns);

    return breaker_is_open(b, BREAKER_READ) && now >= due &&
           atomic_compare_exchange_strong(&h->next_ns, &due, now + b->probe_ns);
}

uint64_t breaker_next_ns(const struct breaker *b)
{
    return breaker_is_open(b, BREAKER_READ) ? atomic_load(&b->side[BREAKER_READ].next_ns)
                                            : UINT64_MAX;
}

/* ---- What the engine does about it ---- */

/* Other ranks read it in the head, as soon as that can be written. */
static void tell(cistern *c)
{
    if (c->writer)
        writer_ring(c);
    renew_wake(c);
}

void engine_io_failed(cistern *c, enum breaker_side side, uint32_t epoch, int error, uint64_t place)
{
    bool reads = side == BREAKER_READ;

    if (!breaker_failed(&c->breaker, side, epoch, error, place, clock_ns()))
        return;
    metric_add(&c->metrics, reads ? METRIC_breaker_opened : METRIC_breaker_puts_opened, 1);
    metric_set(&c->metrics, reads ? METRIC_breaker_open : METRIC_breaker_puts_open, 1);
    log_line(&c->cfg.log, LOG_ERROR,
             "breaker open: %u %s failed in a row, the last with %s: %s until storage answers",
             c->cfg.breaker_failures, reads ? "reads" : "writes", cistern_error_name(error),
             reads ? "everything is a miss" : "puts are dropped");
    tell(c);
}

void engine_try_again(cistern *c, enum breaker_side side)
{
    bool reads = side == BREAKER_READ;
    uint64_t since = atomic_load(&c->breaker.side[side].since_ns);

    if (!breaker_close(&c->breaker, side))
        return;
    metric_set(&c->metrics, reads ? METRIC_breaker_open : METRIC_breaker_puts_open, 0);
    log_line(&c->cfg.log, LOG_WARN, "breaker closed after %llu ms: %s",
             (unsigned long long)((clock_ns() - since) / NS_PER_MS),
             reads ? "storage answers" : "puts are tried again");
    tell(c);
}

bool engine_stops_puts(cistern *c, uint64_t now)
{
    if (breaker_is_open(&c->breaker, BREAKER_READ))
        return true;
    if (breaker_put_due(&c->breaker, now))
        engine_try_again(c, BREAKER_WRITE);
    return breaker_is_open(&c->breaker, BREAKER_WRITE);
}
