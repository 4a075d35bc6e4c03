/*
 * presence.c - which other shards have a block: the writers' side. Writers take the lock of one
 * table of one plane; readers are in presence.h. Fails only for want of room.
 */
#include "index/presence.h"

#include <errno.h>
#include <stdlib.h>

#define ADD_BATCH 32u

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

static int plane_add(struct slots *plane, uint64_t hash, uint64_t bit)
{
    unsigned t = slots_table(hash);
    struct slot_probe probe;
    bool done = true;
    uint64_t v;

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

int presence_add(struct presence *p, const cistern_key *key, uint32_t variant, uint32_t shard)
{
    if (shard >= p->shards)
        return -EINVAL;
    return plane_add(&p->plane[shard / PRESENCE_SHARDS], slots_hash(key->b, variant),
                     (uint64_t)1 << shard % PRESENCE_SHARDS);
}

/* One variant of those of up to ADD_BATCH blocks that have all parts of `need`. */
static int add_variant(struct slots *plane, uint64_t bit, uint32_t variant, uint16_t need,
                       const struct block_info *blocks, size_t n)
{
    uint64_t hash[ADD_BATCH];
    slot *home[ADD_BATCH];
    size_t i, count = 0;
    int r = 0;

    for (i = 0; i < n; i++) {
        if ((blocks[i].mask & need) != need)
            continue;
        hash[count] = slots_hash(blocks[i].key, variant);
        home[count] = slots_home(plane, slots_table(hash[count]), hash[count]);
        __builtin_prefetch((const void *)home[count++], 1);
    }
    for (i = 0; i < count; i++) {
        if (!line_empty(home[i]))
            __builtin_prefetch((const void *)line_after(home[i]), 1);
    }
    for (i = 0; i < count; i++) {
        int one = plane_add(plane, hash[i], bit);

        r = r ? r : one;
    }
    return r;
}

int presence_add_blocks(struct presence *p, const struct match_rules *rules, uint32_t shard,
                        const struct block_info *blocks, size_t n)
{
    uint64_t bit = (uint64_t)1 << shard % PRESENCE_SHARDS;
    struct slots *plane;
    int r = 0;

    if (shard >= p->shards)
        return -EINVAL;
    plane = &p->plane[shard / PRESENCE_SHARDS];
    while (n) {
        size_t some = n < ADD_BATCH ? n : ADD_BATCH;
        unsigned parts;
        int one = rules->all ? add_variant(plane, bit, 0, rules->all, blocks, some) : 0;

        r = r ? r : one;
        for (parts = rules->last | rules->trailing; parts; parts &= parts - 1) {
            unsigned part = (unsigned)__builtin_ctz(parts);

            one = add_variant(plane, bit, 1 + part, (uint16_t)(1u << part), blocks, some);
            r = r ? r : one;
        }
        blocks += some;
        n -= some;
    }
    return r;
}

void presence_settle(struct presence *p)
{
    unsigned i;

    for (i = 0; i < p->planes; i++)
        slots_settle(&p->plane[i]);
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
