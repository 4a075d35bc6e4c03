/* gauges.c - see gauges.h; and the numbers of a handle as the caller gets them. */
#include "engine/gauges.h"

#include <errno.h>

#include "base/bits.h"

#define ROOM_NS (5 * NS_PER_S)

void gauges_open(cistern *c)
{
    (void)pthread_mutex_init(&c->hits_lock, NULL);
    c->opened_ns = clock_boot_ns();
}

static void refresh_hits(cistern *c)
{
    struct metrics *m = &c->metrics;
    uint64_t found = metric_get(m, METRIC_match_blocks), keys = metric_get(m, METRIC_match_keys);

    (void)pthread_mutex_lock(&c->hits_lock);
    metric_set(m, METRIC_match_hit_now_ppm, window_look(&c->hits, clock_ns(), keys, found));
    (void)pthread_mutex_unlock(&c->hits_lock);
    metric_set(m, METRIC_match_hit_total_ppm, share_ppm(found, keys));
}

struct pool_rows {
    enum metric slots, free, quarantined, old, bytes, bytes_used, bytes_free;
};

static void refresh_pool(cistern *c, const struct pool *p, const struct pool_rows *row)
{
    struct metrics *m = &c->metrics;
    struct pool_counts n = {0};
    uint64_t slot = c->cfg.slot_bytes;

    if (p)
        pool_count(p, &n);
    metric_set(m, row->slots, n.slots);
    metric_set(m, row->free, n.free);
    metric_set(m, row->quarantined, n.quarantined);
    metric_set(m, row->old, n.old);
    metric_set(m, row->bytes, n.slots * slot);
    metric_set(m, row->bytes_used, (n.slots - n.free) * slot);
    metric_set(m, row->bytes_free, n.free * slot);
}

#define POOL_ROWS(side)                                                                            \
    {                                                                                              \
        METRIC_##side##_slots, METRIC_##side##_slots_free, METRIC_##side##_slots_quarantined,      \
            METRIC_##side##_slots_old, METRIC_##side##_staging_bytes,                              \
            METRIC_##side##_staging_used_bytes, METRIC_##side##_staging_free_bytes                 \
    }

void gauges_refresh(cistern *c)
{
    static const struct pool_rows reads = POOL_ROWS(read), writes = POOL_ROWS(write);
    struct metrics *m = &c->metrics;
    struct presence *others = others_enter(c);
    uint64_t tickets = 0;
    uint32_t i;

    metric_set(m, METRIC_index_blocks, index_blocks(c->index));
    metric_set(m, METRIC_index_bytes,
               index_memory_bytes(c->index) + (others ? presence_memory_bytes(others) : 0));
    others_leave(c);
    metric_set(m, METRIC_segments, atomic_load(&c->segs.live));
    metric_set(m, METRIC_data_files_open, atomic_load(&c->segs.open));
    if (c->cfg.write_budget_bytes_per_day)
        metric_set(m, METRIC_write_budget_left_bytes,
                   bucket_left(&c->budget.day, budget_clock_ns()));
    metric_set(m, METRIC_ops_open, ops_open_count(&c->ops));
    for (i = 0; i < TICKETS; i++)
        tickets += atomic_load_explicit(&c->tickets[i], memory_order_relaxed) != 0;
    metric_set(m, METRIC_tickets_open, tickets);
    metric_set(m, METRIC_read_rate_bytes, engine_read_rate(c));
    metric_set(m, METRIC_up_ns, clock_boot_ns() - c->opened_ns);
    refresh_pool(c, c->read_pool, &reads);
    refresh_pool(c, c->write_pool, &writes);
    refresh_hits(c);
}

void gauges_room(cistern *c, uint64_t now)
{
    struct metrics *m = &c->metrics;
    struct io_space space;

    if (now < c->room_ns)
        return;
    c->room_ns = now + ROOM_NS;
    if (c->io->ops->space(c->io, &space))
        return;
    metric_set(m, METRIC_filesystem_bytes, space.total_bytes);
    metric_set(m, METRIC_filesystem_used_bytes,
               space.total_bytes - min_u64(space.free_bytes, space.total_bytes));
    metric_set(m, METRIC_filesystem_free_bytes, space.free_bytes);
}

int cistern_metrics(const cistern *c, struct cistern_metric *out, int max)
{
    int i, rc = guard_check(c);

    if (rc)
        return rc;
    if (max < 0 || (max && !out))
        return err_set(-EINVAL, "out is NULL or max is negative");
    gauges_refresh((cistern *)(uintptr_t)c);
    for (i = 0; i < max && i < METRIC_COUNT; i++) {
        out[i] = (struct cistern_metric){.name = metric_name((enum metric)i),
                                         .help = metric_help((enum metric)i),
                                         .value = metric_get(&c->metrics, (enum metric)i),
                                         .is_gauge = (uint32_t)metric_is_gauge((enum metric)i)};
    }
    return METRIC_COUNT;
}
