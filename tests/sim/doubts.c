/*
 * doubts.c - what may have happened to blocks behind the model's back: damage, evictions, power
 * cuts. See world.h.
 */
#include "world.h"

#define ASIDES "segments_aside"

void note_block(struct world *w, uint32_t shard, uint32_t key)
{
    w->blocks[shard][key].noted = true;
    doubt_block(w, shard, key);
}

void doubt_block(struct world *w, uint32_t shard, uint32_t key)
{
    struct block_model *b = &w->blocks[shard][key];

    b->sure = b->durable = false;
    b->doubts++;
}

static void forget_deletes(struct world *w)
{
    uint32_t k;

    for (k = 0; k < KEYS; k++)
        w->blocks[LONE_SHARD][k].gone = w->blocks[LONE_SHARD][k].gone_for_good = false;
}

static void note_all(struct world *w)
{
    uint32_t s, k;

    for (s = 0; s < SHARDS; s++) {
        for (k = 0; k < KEYS; k++)
            note_block(w, s, k);
    }
    forget_deletes(w);
}

void doubt_all(struct world *w)
{
    uint32_t s;

    note_all(w);
    for (s = 0; s < STORES; s++)
        w->stores[s].damaged = true;
}

bool doubt_evicted(struct world *w)
{
    uint32_t n, s, k;

    for (s = 0; s < STORES; s++) {
        uint64_t asides = w->stores[s].c ? store_metric(w->stores[s].c, ASIDES) : 0;

        if (asides > w->stores[s].asides) {
            (void)atomic_fetch_add(&w->evictions, 1);
            note_all(w);
        }
        w->stores[s].asides = asides;
    }
    n = atomic_load(&w->evictions);
    if (n == w->evictions_seen)
        return false;
    w->evictions_seen = n;
    for (s = 0; s < SHARDS; s++) {
        for (k = 0; k < KEYS; k++)
            doubt_block(w, s, k);
    }
    return true;
}

void doubt_power(struct world *w)
{
    uint32_t s, k;

    for (s = 0; s < SHARDS && !w->o.manners.acks_durable; s++) {
        for (k = 0; k < KEYS; k++) {
            w->blocks[s][k].gone = false;
            if (!w->blocks[s][k].durable)
                doubt_block(w, s, k);
        }
    }
}
