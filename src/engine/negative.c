/*
 * negative.c - see negative.h. What it costs a get while nothing is bad: one load.
 */
#include "engine/negative.h"

#include "base/clock.h"
#include "base/le.h"

/* Key and place in one word; keys are hashes. 0 = no note. */
static uint64_t name_of(const cistern_key *key, uint32_t segment, uint32_t offset)
{
    uint64_t place = ((uint64_t)segment << 32 | offset) * 0x9e3779b97f4a7c15u;

    return (le64_load(key->b) ^ place) | 1;
}

void negative_add(struct negative *n, const cistern_key *key, uint32_t segment, uint32_t offset,
                  uint64_t until_ns)
{
    uint64_t name = name_of(key, segment, offset);
    uint32_t i = (uint32_t)(name >> 32) % NEGATIVE_NOTES;

    atomic_store_explicit(&n->note[i].until_ns, until_ns, memory_order_relaxed);
    atomic_store_explicit(&n->note[i].name, name, memory_order_relaxed);
    atomic_store_explicit(&n->used, 1, memory_order_relaxed);
}

bool negative_holds(const struct negative *n, const cistern_key *key, uint32_t segment,
                    uint32_t offset)
{
    uint64_t name;
    uint32_t i;

    if (__builtin_expect(!atomic_load_explicit(&n->used, memory_order_relaxed), 1))
        return false;
    name = name_of(key, segment, offset);
    i = (uint32_t)(name >> 32) % NEGATIVE_NOTES;
    return atomic_load_explicit(&n->note[i].name, memory_order_relaxed) == name &&
           clock_ns() < atomic_load_explicit(&n->note[i].until_ns, memory_order_relaxed);
}
