/* budget.c - see budget.h. */
#include "engine/budget.h"

#include "base/bits.h"
#include "engine/engine.h"

#define DAY_NS      (86400 * NS_PER_S)
#define SAVED_PART  4u /* of a day's budget may be saved up: one part in so many */
#define BURST_PART  8u /* of a second's bytes likewise */
#define NAP_MOST_NS (10 * NS_PER_MS)

void budget_open(cistern *c)
{
    struct budget *b = &c->budget;
    uint64_t now = budget_clock_ns(), day = c->cfg.write_budget_bytes_per_day,
             saved = day / SAVED_PART;

    bucket_init(&b->day, day - saved, DAY_NS, saved, now, false);
    bucket_init(&b->write, c->cfg.write_bandwidth, NS_PER_S, c->cfg.write_bandwidth / BURST_PART,
                now, true);
    bucket_init(&b->read, c->cfg.read_bandwidth, NS_PER_S, c->cfg.read_bandwidth / BURST_PART, now,
                true);
}

bool budget_puts(cistern *c, struct share *s, uint64_t bytes)
{
    if (!s->over && bucket_take(&c->budget.day, bytes, budget_clock_ns()))
        return true;
    s->over = true;
    metric_add(&c->metrics, METRIC_put_dropped_budget_blocks, 1);
    return false;
}

bool budget_carries(cistern *c, uint32_t blocks, uint64_t bytes)
{
    if (bucket_take(&c->budget.day, bytes, budget_clock_ns()))
        return true;
    metric_add(&c->metrics, METRIC_carry_dropped_budget_blocks, blocks);
    return false;
}

bool pace_writes(cistern *c)
{
    bool waits = bucket_wait_ns(&c->budget.write, budget_clock_ns()) != 0;

    if (waits && !c->budget.waits)
        metric_add(&c->metrics, METRIC_write_bandwidth_waits, 1);
    c->budget.waits = waits;
    return !waits;
}

void pace_written(cistern *c, uint64_t bytes)
{
    bucket_spend(&c->budget.write, bytes, budget_clock_ns());
}

uint64_t pace_nap_ns(const cistern *c, uint64_t ns)
{
    return max_u64(ns, min_u64(NAP_MOST_NS, bucket_wait_ns(&c->budget.write, budget_clock_ns())));
}

bool pace_reads(const cistern *c)
{
    return bucket_wait_ns(&c->budget.read, budget_clock_ns()) == 0;
}

void pace_read(cistern *c, uint64_t bytes)
{
    bucket_spend(&c->budget.read, bytes, budget_clock_ns());
}
