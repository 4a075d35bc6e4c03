/*
 * presence.c - which other shards have a block: the writers' side. Writers take the lock of one
 * table of one plane; readers are in presence.h. Fails only for want of room.
 */
#include "index/presence.h"

#include <errno.h>
#include <stdlib.h>

int presence_open(uint64_t max_blocks, uint32_t shards, struct presence **out)
{
    unsigned planes = (shards + PRESENCE_SHARDS - 1) / PRESENCE_SHARDS;
    struct presence *p;
    int r = 0;

    if (!max_blocks || max_blocks > (uint64_t)1 << 30 || !shards || shards > CISTERN_MAX_SHARDS ||
        !out)
        return err_set(-EINVAL, "presence: max_blocks is not 1 to 2^30, or shards not 1 to %u",
                       CISTERN_MAX_SHARDS);
    p = aligned_alloc(64, sizeof *p + planes * sizeof p->plane[0]);
    if (!p)
        return err_set(-ENOMEM, "presence: no memory");
    memset(p, 0, sizeof *p + planes * sizeof p->plane[0]);
    p->shards = shards;
    /* A slot per key and variant: twice the keys leaves room for one part with a policy of its own.
     */
    for (; !r && p->planes < planes; p->planes++)
        r = slots_open(&p->plane[p->planes], 2 * max_blocks);
    if (r)
        presence_close(p);
    else
        *out = p;
    return r;
}

void presence_close(struct presence *p)
{
    unsigned i;

    if (!p)
        return;
    for (i = 0; i < p->planes; i++)
        slots_close(&p->plane[i]);
    free(p);
}

uint64_t presence_memory_bytes(const struct presence *p)
{
    uint64_t bytes = sizeof *p + p->planes * sizeof p->plane[0];
    unsigned i;

    for (i = 0; i < p->planes; i++)
        bytes += slots_memory(&p->plane[i]);
    return bytes;
}

int presence_add(struct presence *p, const cistern_key *key, uint32_t variant, uint32_t shard)
{
    uint64_t hash = slots_hash(key->b, variant), v, bit;
    unsigned t = slots_table(hash);
    struct slot_probe probe;
    struct slots *plane;
    bool done = true;

    if (shard >= p->shards)
        return -EINVAL;
    plane = &p->plane[shard / PRESENCE_SHARDS];
    bit = (uint64_t)1 << shard % PRESENCE_SHARDS;
    (void)pthread_mutex_lock(&plane->table[t].lock);
    slots_tick(plane, t);
    probe = slots_probe(slots_home(plane, t, hash), hash, PRESENCE_SHARDS);
    v = slots_next(&probe, PRESENCE_SHARDS);
    if (v)
        order_publish(probe.at, v | bit);
    else
        done = slots_insert(plane, t, probe.at, hash >> PRESENCE_SHARDS << PRESENCE_SHARDS | bit);
    (void)pthread_mutex_unlock(&plane->table[t].lock);
    return done ? 0 : -ENOSPC;
}

void presence_remove(struct presence *p, const cistern_key *key, uint32_t variant, uint32_t shard)
{
    uint64_t hash = slots_hash(key->b, variant), v;
    unsigned t = slots_table(hash);
    struct slot_probe probe;
    struct slots *plane;

    if (shard >= p->shards)
        return;
    plane = &p->plane[shard / PRESENCE_SHARDS];
    (void)pthread_mutex_lock(&plane->table[t].lock);
    probe = slots_probe(slots_home(plane, t, hash), hash, PRESENCE_SHARDS);
    v = slots_next(&probe, PRESENCE_SHARDS);
    if (v) {
        v &= ~((uint64_t)1 << shard % PRESENCE_SHARDS);
        if (v & 0xff)
            order_publish(probe.at, v);
        else
            slots_erase(plane, t, probe.at);
    }
    (void)pthread_mutex_unlock(&plane->table[t].lock);
}
