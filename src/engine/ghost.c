/*
 * ghost.c - the ghost list and the admission filter on top of it. See policy.h.
 *
 * One table of 32-bit words in sets of 64: 22 bits of the hash, 10 bits of a coarse time that
 * counts notes. 0 = free. An entry counts for as many notes as the list has entries (LIFE_TICKS),
 * then it is as good as free. The table has a third more words than entries and the sets are wide,
 * so that hardly a key is pushed out before its time: a chain of blocks is remembered as a whole or
 * not at all, else it would come back in pieces to both generations.
 *
 * Invariant: a word is written as a whole, so a reader sees an entry or another, never a mixture.
 * Threads: any; relaxed order is enough, since nothing else hangs on an entry.
 */
#include "engine/policy.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bits.h"

#define SET_WAYS    64u
#define STAMP_BITS  10u
#define STAMP_MASK  ((1u << STAMP_BITS) - 1)
#define LIFE_TICKS  512u
#define ENTRIES_MAX (1ull << 32)

struct ghost {
    uint64_t sets;
    uint64_t notes_per_tick;
    _Atomic uint64_t notes;
    _Atomic uint32_t *words; /* sets * SET_WAYS, owned */
};

struct admit {
    enum admit_mode mode;
    struct ghost *asked; /* NULL with ADMIT_ALL */
};

int ghost_create(uint64_t entries, struct ghost **out)
{
    struct ghost *g;
    uint64_t i, words;

    if (!entries || entries > ENTRIES_MAX)
        return -EINVAL;
    g = calloc(1, sizeof *g);
    if (!g)
        return -ENOMEM;
    g->sets = round_up(entries + entries / 3 + 1, SET_WAYS) / SET_WAYS;
    words = g->sets * SET_WAYS;
    g->notes_per_tick = max_u64(1, (entries + LIFE_TICKS - 1) / LIFE_TICKS);
    g->words = aligned_alloc(64, words * sizeof *g->words);
    if (!g->words) {
        free(g);
        return -ENOMEM;
    }
    for (i = 0; i < words; i++)
        atomic_init(&g->words[i], 0);
    *out = g;
    return 0;
}

void ghost_free(struct ghost *g)
{
    if (!g)
        return;
    free((void *)g->words);
    free(g);
}

/* The set from the upper half of the hash, the tag (never 0) from the lower. */
static _Atomic uint32_t *set_of(const struct ghost *g, uint64_t hash)
{
    return &g->words[(uint64_t)(((hash >> 32) * g->sets) >> 32) * SET_WAYS];
}

static uint32_t tag_of(uint64_t hash)
{
    uint32_t tag = (uint32_t)hash & ~STAMP_MASK;

    return tag ? tag : 1u << STAMP_BITS;
}

static uint32_t now_of(const struct ghost *g)
{
    uint64_t notes = atomic_load_explicit(&g->notes, memory_order_relaxed);

    return (uint32_t)(notes / g->notes_per_tick) & STAMP_MASK;
}

/* Ticks since a word was written, modulo the clock; a free one is as old as can be. */
static uint32_t age_of(uint32_t word, uint32_t now)
{
    return word ? (now - word) & STAMP_MASK : STAMP_MASK + 1;
}

/* The word of a key; NULL: it is not there, or no longer counts. */
static _Atomic uint32_t *entry_of(const struct ghost *g, uint64_t hash)
{
    _Atomic uint32_t *set = set_of(g, hash);
    uint32_t tag = tag_of(hash), now = now_of(g), i, w;

    for (i = 0; i < SET_WAYS; i++) {
        w = atomic_load_explicit(&set[i], memory_order_relaxed);
        if ((w & ~STAMP_MASK) == tag && age_of(w, now) <= LIFE_TICKS)
            return &set[i];
    }
    return NULL;
}

static _Atomic uint32_t *oldest_of(const struct ghost *g, uint64_t hash)
{
    _Atomic uint32_t *set = set_of(g, hash), *oldest = set;
    uint32_t now = now_of(g), most = 0, i, age;

    for (i = 0; i < SET_WAYS; i++) {
        age = age_of(atomic_load_explicit(&set[i], memory_order_relaxed), now);
        if (age > most) {
            most = age;
            oldest = &set[i];
        }
    }
    return oldest;
}

void ghost_note(struct ghost *g, uint64_t hash)
{
    _Atomic uint32_t *place = entry_of(g, hash);

    if (!place)
        place = oldest_of(g, hash);
    atomic_store_explicit(place, tag_of(hash) | now_of(g), memory_order_relaxed);
    atomic_fetch_add_explicit(&g->notes, 1, memory_order_relaxed);
}

bool ghost_seen(const struct ghost *g, uint64_t hash)
{
    return entry_of(g, hash) != NULL;
}

bool ghost_take(struct ghost *g, uint64_t hash)
{
    _Atomic uint32_t *e = entry_of(g, hash);

    if (e)
        atomic_store_explicit(e, 0, memory_order_relaxed);
    return e != NULL;
}

uint64_t ghost_bytes(const struct ghost *g)
{
    return g->sets * SET_WAYS * sizeof *g->words;
}

uint64_t ghost_entries_for(uint64_t capacity, uint64_t block_bytes)
{
    uint64_t blocks = capacity / (block_bytes ? block_bytes : 1);

    return blocks >= 1u << 22 ? 1u << 24 : max_u64(64, blocks * 4);
}

int admit_create(enum admit_mode mode, uint64_t entries, struct admit **out)
{
    struct admit *a;
    int rc;

    if (mode != ADMIT_ALL && mode != ADMIT_REUSED)
        return -EINVAL;
    a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->mode = mode;
    rc = mode == ADMIT_REUSED ? ghost_create(entries, &a->asked) : 0;
    if (rc) {
        free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void admit_free(struct admit *a)
{
    if (!a)
        return;
    ghost_free(a->asked);
    free(a);
}

bool admit_put(struct admit *a, uint64_t hash)
{
    if (a->mode == ADMIT_ALL || ghost_take(a->asked, hash))
        return true;
    ghost_note(a->asked, hash);
    return false;
}

void admit_again(struct admit *a, uint64_t hash)
{
    if (a->mode == ADMIT_REUSED)
        ghost_note(a->asked, hash);
}
