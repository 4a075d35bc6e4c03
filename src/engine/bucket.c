/* bucket.c - see bucket.h. Sums round so that never more goes through than the rate says. */
#include "engine/bucket.h"

#include "base/bits.h"

#define FAR_NS (UINT64_MAX / 4) /* more than two lifetimes of a machine */

static uint64_t scale(uint64_t n, uint64_t by, uint64_t over, uint64_t add)
{
    unsigned __int128 wide = ((unsigned __int128)n * by + add) / over;

    return wide > FAR_NS ? FAR_NS : (uint64_t)wide;
}

static uint64_t cost_ns(const struct bucket *b, uint64_t n)
{
    return scale(n, b->period_ns, b->bytes, b->bytes - 1);
}

/* Before that nothing counts: it was not saved up. */
static uint64_t oldest(const struct bucket *b, uint64_t now)
{
    return now > b->burst_ns ? now - b->burst_ns : 0;
}

void bucket_init(struct bucket *b, uint64_t bytes, uint64_t period_ns, uint64_t burst, uint64_t now,
                 bool full)
{
    b->bytes = bytes;
    b->period_ns = period_ns;
    b->burst_ns = bytes ? scale(burst, period_ns, bytes, 0) : 0;
    atomic_init(&b->spent_ns, full ? oldest(b, now) : now);
}

bool bucket_take(struct bucket *b, uint64_t n, uint64_t now)
{
    uint64_t spent = atomic_load_explicit(&b->spent_ns, memory_order_relaxed), next;

    if (!b->bytes)
        return true;
    do {
        next = max_u64(spent, oldest(b, now)) + cost_ns(b, n);
        if (next > now)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->spent_ns, &spent, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void bucket_spend(struct bucket *b, uint64_t n, uint64_t now)
{
    uint64_t spent = atomic_load_explicit(&b->spent_ns, memory_order_relaxed), next;

    if (!b->bytes)
        return;
    do {
        next = max_u64(spent, oldest(b, now));
        next += min_u64(cost_ns(b, n), UINT64_MAX - next);
    } while (!atomic_compare_exchange_weak_explicit(&b->spent_ns, &spent, next,
                                                    memory_order_relaxed, memory_order_relaxed));
}

uint64_t bucket_wait_ns(const struct bucket *b, uint64_t now)
{
    uint64_t spent = atomic_load_explicit(&b->spent_ns, memory_order_relaxed);

    return b->bytes && spent > now ? spent - now : 0;
}

uint64_t bucket_left(const struct bucket *b, uint64_t now)
{
    uint64_t spent =
        max_u64(atomic_load_explicit(&b->spent_ns, memory_order_relaxed), oldest(b, now));

    if (!b->bytes)
        return UINT64_MAX;
    return spent >= now ? 0 : scale(now - spent, b->bytes, b->period_ns, 0);
}
