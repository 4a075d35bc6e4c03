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
        p = slots_probe(slots_home(plane, t, hash), hash, PRESENCE_SHARDS);
        v = slots_next(&p, PRESENCE_SHARDS);
    } while (!v && order_read(&plane->table[t].version) != version);
    return (uint8_t)v;
}

/* The shards of a plane that have to have it: all but `own`. */
static inline unsigned presence_need(const struct presence *p, unsigned plane, uint32_t own)
{
    uint32_t first = plane * PRESENCE_SHARDS, n = p->shards - first;
    unsigned need = n < PRESENCE_SHARDS ? (1u << n) - 1 : 0xff;

    return own - first < PRESENCE_SHARDS ? need & ~(1u << (own - first)) : need;
}

/* All shards but `own` have it. */
static inline bool presence_others(const struct presence *p, uint32_t own, uint64_t hash)
{
    unsigned i;

    for (i = 0; i < p->planes; i++) {
        unsigned need = presence_need(p, i, own);

        if (need && (presence_of(&p->plane[i], hash) & need) != need)
            return false;
    }
    return true;
}

/*
 * The same from the home lines alone, which presence_prefetch() brought; true is certain. What lies
 * behind a full line is fetched for presence_others().
 */
static inline bool presence_glance(const struct presence *p, uint32_t own, uint64_t hash)
{
    unsigned i, equal, need, have, sure = 1;
    slot *home;

    for (i = 0; i < p->planes; i++) {
        need = presence_need(p, i, own);
        home = slots_home(&p->plane[i], slots_table(hash), hash);
        equal = line_equal(home, hash >> PRESENCE_SHARDS, PRESENCE_SHARDS);
        have = equal ? (unsigned)order_read(home + __builtin_ctz(equal)) : 0;
        if (!equal)
            __builtin_prefetch((const void *)line_after(home));
        sure &= (have & need) == need;
    }
    return sure;
}

#endif
