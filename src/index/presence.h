/*
 * presence.h - the readers' side of presence, for match.
 *
 * One plane of slot tables for every eight shards: a slot is 56 bits of hash and a bit for each
 * shard. So a wrong answer needs two keys among N that agree in 59 bits (three choose the table):
 * N / 2^59 a question, 2^-35 at 10 million blocks.
 */
#ifndef INDEX_PRESENCE_H
#define INDEX_PRESENCE_H

#include "index/index.h"
#include "index/slots.h"

#define PRESENCE_SHARDS 8u /* of one plane */

struct presence {
    unsigned planes;
    uint32_t shards;
    struct slots plane[];
};

static inline void presence_prefetch(const struct presence *p, uint64_t hash)
{
    unsigned i;

    for (i = 0; i < p->planes; i++)
        __builtin_prefetch((const void *)slots_home(&p->plane[i], slots_table(hash), hash));
}

/* The shards of a plane that have it. */
static inline uint8_t presence_of(const struct slots *plane, uint64_t hash)
{
    unsigned t = slots_table(hash);
    uint64_t version, v;

    do {
        struct slot_probe p;

        version = order_read(&plane->table[t].version);
        p = slots_probe(plane, t, hash);
        v = slots_next(&p);
    } while (!v && order_read(&plane->table[t].version) != version);
    return (uint8_t)v;
}

/* All shards but `own` have it. */
static inline bool presence_others(const struct presence *p, uint32_t own, uint64_t hash)
{
    unsigned i;

    for (i = 0; i < p->planes; i++) {
        uint32_t first = i * PRESENCE_SHARDS, n = p->shards - first;
        unsigned need = n < PRESENCE_SHARDS ? (1u << n) - 1 : 0xff;

        if (own - first < PRESENCE_SHARDS)
            need &= ~(1u << (own - first));
        if (need && (presence_of(&p->plane[i], hash) & need) != need)
            return false;
    }
    return true;
}

#endif
