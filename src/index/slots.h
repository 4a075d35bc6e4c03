/*
 * slots.h - tables of 8-byte slots: hash in the upper bits, payload (never 0) in the lower ones.
 *
 * Layout. Eight tables by three bits of the hash. A table is a row of groups; a group is one 4 KiB
 * page of 64 lines of 8 slots. The upper 32 bits of a slot, its position, choose the group by
 * proportion (position * groups / 2^32) and the home line by their lowest six bits. A full line
 * spills into the next of its group, so that all lines from a slot's home to its place are full.
 * The tables' groups lie side by side, group 0 of all tables, then group 1, ...: one dense region.
 *
 * Growth. At three quarters full a table goes from n groups to n + n/4, in place, from the last
 * group down, one group every few insertions: proportion is monotone, so a group's slots go to
 * higher groups, which are empty by then. `map` says from which group on (the frontier) the new
 * number counts. Nothing but slots is touched: the position is all that a move needs. A slot keeps
 * its line number, so those that stay in their group (the lowest few) stay where they are.
 *
 * Threads. Writers hold the table's lock. Readers take no lock; see order.h. A hit in a slot is
 * good at once; a miss, or what hangs on the payload, only if `version` is still what it was.
 */
#ifndef INDEX_SLOTS_H
#define INDEX_SLOTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "index/order.h"

#define SLOTS_TABLES   8u
#define SLOTS_LINE     8u
#define SLOTS_LINES    64u
#define SLOTS_GROUP    512u
#define SLOTS_FULL     384u /* mean of a group at which growth begins */
#define SLOTS_PACE     16u  /* insertions for each group that moves; at most 16 more per group */
#define SLOTS_POSITION 32u  /* bits below the position */

typedef _Atomic uint64_t slot;

struct slot_table {
    _Alignas(64) _Atomic uint64_t version; /* written under lock */
    _Atomic uint64_t map;                  /* groups << 32 | frontier; written under lock */
    _Alignas(64) pthread_mutex_t lock;
    uint64_t count; /* guarded by lock */
    uint32_t pace;  /* guarded by lock */
};

struct slots {
    struct slot_table table[SLOTS_TABLES];
    slot *base; /* constant after slots_open() */
    size_t bytes;
    uint32_t max_groups;
    _Atomic uint64_t settled; /* 0 until slots_settle() had something to do */
};

/* Reserves room for `count` slots of evenly spread hashes. -ENOMEM. */
int slots_open(struct slots *s, uint64_t count) MUST_CHECK;
void slots_close(struct slots *s);
/* See index_settle(). */
void slots_settle(struct slots *s);
/* Makes empty tables as large as `count` slots need, before anybody else uses them. */
void slots_size(struct slots *s, uint64_t count);
/* Pages touched. Any thread. */
uint64_t slots_memory(const struct slots *s);

/* Under the table's lock: */
/* Moves a group now and then; call once before an insertion. Slot pointers do not survive it. */
void slots_tick(struct slots *s, unsigned t);
/*
 * `room` is where a probe for the hash ended without a hit. NULL: the group is full; then groups
 * are moved if that helps, which slot pointers do not survive. False: no room.
 */
bool slots_insert(struct slots *s, unsigned t, slot *room, uint64_t value) MUST_CHECK;
void slots_erase(struct slots *s, unsigned t, slot *at);
/* What was unlinked so far may be reused after this. */
void slots_raise(struct slots *s, unsigned t);

/* Of a key and a variant; the keys are SHA-256, so 16 of their bytes do. */
static inline uint64_t slots_hash(const uint8_t key[32], uint64_t variant)
{
    uint64_t a, b;
    unsigned __int128 m;

    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    a ^= 0x9e3779b97f4a7c15ull;
    b ^= 0xc2b2ae3d27d4eb4full + variant * 0xd6e8feb86659fd93ull;
    m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline unsigned slots_table(uint64_t hash)
{
    return (unsigned)(hash & (SLOTS_TABLES - 1));
}

static inline uint32_t slots_grown(uint32_t groups)
{
    return groups + (groups < 4 ? 1 : groups / 4);
}

static inline uint32_t slots_group(uint64_t map, uint64_t position)
{
    uint32_t groups = (uint32_t)(map >> 32), group = (uint32_t)(position * groups >> 32);

    if (__builtin_expect(group >= (uint32_t)map, 0))
        group = (uint32_t)(position * slots_grown(groups) >> 32);
    return group;
}

static inline slot *slots_group_at(const struct slots *s, unsigned t, uint32_t group)
{
    return s->base + ((size_t)group * SLOTS_TABLES + t) * SLOTS_GROUP;
}

/* The home line of a hash. */
static inline slot *slots_home(const struct slots *s, unsigned t, uint64_t hash)
{
    uint64_t position = hash >> SLOTS_POSITION;

    return slots_group_at(s, t, slots_group(order_read(&s->table[t].map), position)) +
           position % SLOTS_LINES * SLOTS_LINE;
}

/* Bit i: slot i of the line is empty. No branches: which slot it is cannot be foretold. */
static inline unsigned line_empty(const slot *line)
{
    unsigned i, mask = 0;

#pragma GCC unroll 8
    for (i = 0; i < SLOTS_LINE; i++)
        mask |= (unsigned)(order_read(&line[i]) == 0) << i;
    return mask;
}

/* Bit i: slot i of the line has these upper bits, or is empty and they are 0. */
static inline unsigned line_equal(const slot *line, uint64_t want, unsigned shift)
{
    unsigned i, mask = 0;

#pragma GCC unroll 8
    for (i = 0; i < SLOTS_LINE; i++)
        mask |= (unsigned)(order_read(&line[i]) >> shift == want) << i;
    return mask;
}

/* One search: a walk over the slots that have the hash. */
struct slot_probe {
    slot *line, *at; /* at: the slot that slots_next() gave last; at the end, room for one */
    uint64_t want;   /* the bits above the payload, of which there are 32 at most */
    unsigned todo;   /* slots of the line that have them */
    unsigned left;   /* lines of the group behind this one */
};

/* `home` is slots_home() of the hash; payload_bits as the table has them. */
static inline struct slot_probe slots_probe(slot *home, uint64_t hash, unsigned payload_bits)
{
    return (struct slot_probe){.line = home,
                               .want = hash >> payload_bits,
                               .todo = line_equal(home, hash >> payload_bits, payload_bits),
                               .left = SLOTS_LINES - 1};
}

/* The next line of a group, the first behind the last. */
static inline slot *line_after(slot *line)
{
    const size_t bytes = SLOTS_LINE * sizeof(slot), group = SLOTS_GROUP * sizeof(slot);
    uintptr_t p = (uintptr_t)line;

    return (slot *)(p / group * group + (p + bytes) % group);
}

/* The next slot with the hash; 0: no more, and `at` is an empty slot, or NULL if the group is full.
 */
static inline uint64_t slots_next(struct slot_probe *p, unsigned payload_bits)
{
    unsigned empty;

    for (;;) {
        while (p->todo) {
            uint64_t v;

            p->at = p->line + __builtin_ctz(p->todo);
            p->todo &= p->todo - 1;
            v = order_read(p->at);
            if (__builtin_expect(v && v >> payload_bits == p->want, 1))
                return v;
        }
        empty = line_empty(p->line);
        if (empty || !p->left--) {
            p->at = empty ? p->line + __builtin_ctz(empty) : NULL;
            return 0;
        }
        p->line = line_after(p->line);
        p->todo = line_equal(p->line, p->want, payload_bits);
    }
}

#endif
