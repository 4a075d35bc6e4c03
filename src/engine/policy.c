/*
 * policy.c - choosing victims and what to carry over. See policy.h.
 *
 * Everything here is arithmetic on the caller's values; quotients are doubles, so no product of
 * sizes overflows, and a comparison of equal inputs is exact on every machine.
 */
#include "engine/policy.h"

#include <string.h>

#include "base/bits.h"

/* History remembers about this many capacities of traffic. */
#define HISTORY_CAPACITIES 4u
/* Below capacity/64 of hits the history says little: weights start from their minimum. */
#define HISTORY_FLOOR      64u
/* Credit of the carry budget at open, as a part of the capacity, so that a full store that is
 * opened need not lose its used blocks before the first puts. */
#define BUDGET_CREDIT      8u
/* Part of the budget that is spent without a second thought. */
#define BUDGET_EASE        0.6

void policy_defaults(struct policy_params *p, uint64_t capacity)
{
    *p = (struct policy_params){
        .capacity = capacity,
        .carry_idle = 75,
        .carry_victim = 90,
        .carry_budget = 14,
        .old_weight = 150,
        .old_weight_max = 1000,
        .ghost_weight = 600,
        .tiny_count = 4,
    };
}

void policy_history_add(struct policy_history *h, const struct policy_history *more,
                        const struct policy_params *p)
{
    h->hit += more->hit;
    h->ghost += more->ghost;
    h->stored += more->stored;
    h->carried += more->carried;
    while ((h->hit + h->stored) / HISTORY_CAPACITIES > p->capacity) {
        h->hit /= 2;
        h->ghost /= 2;
        h->stored /= 2;
        h->carried /= 2;
    }
}

/* Mean idleness of the live blocks. Unknown: as many as were touched are taken to be used when the
 * last one was, or, if that is not known, at a quarter of the age; the others never. */
static double segment_idle(const struct policy_segment *s)
{
    double age = (double)s->age, last, used;

    if (s->idle != POLICY_UNKNOWN)
        return (double)s->idle;
    if (!s->blocks)
        return age;
    used = s->touches < s->blocks ? (double)s->touches / s->blocks : 1;
    last = s->touch_age ? (double)min_u64(s->touch_age, s->age) : age / 4;
    return age - used * (age - last);
}

uint64_t policy_idle(const struct policy_segment *s)
{
    return s->idle != POLICY_UNKNOWN ? s->idle : (uint64_t)segment_idle(s);
}

/* By how much OLD segments count as less idle. */
static double old_weight(const struct policy_params *p, const struct policy_history *h)
{
    double hit = (double)h->hit + (double)p->capacity / HISTORY_FLOOR + 1;
    double w = p->old_weight + p->ghost_weight * ((double)h->ghost / hit);

    return (w < p->old_weight_max ? w : p->old_weight_max) / 100;
}

struct score {
    uint32_t rank;
    double cold;
};

/* Room that holds nothing is as good as free: a half-dead segment is twice as cold, and one that is
 * all dead costs nothing at all. */
static struct score segment_score(const struct policy_segment *s, double weight)
{
    uint64_t live = min_u64(s->live_bytes, s->bytes);
    struct score c = {.rank = live ? s->rank : POLICY_RANK_EXPIRED};

    c.cold = (segment_idle(s) + 1) * (double)s->bytes / (double)max_u64(live, 1);
    if (s->generation == POLICY_OLD)
        c.cold /= weight;
    return c;
}

/* a goes before b. A total order: numbers differ. */
static bool goes_before(const struct policy_segment *a, struct score as,
                        const struct policy_segment *b, struct score bs)
{
    bool a_silent = a->flags & POLICY_SILENT, b_silent = b->flags & POLICY_SILENT;

    if (as.rank != bs.rank)
        return as.rank > bs.rank;
    if (as.cold > bs.cold || as.cold < bs.cold)
        return as.cold > bs.cold;
    if (a->depth != b->depth)
        return a->depth > b->depth;
    if (a_silent != b_silent)
        return a_silent;
    return a->number < b->number;
}

size_t policy_choose(const struct policy_segment *segs, size_t n, const struct policy_params *p,
                     const struct policy_history *h)
{
    double weight = old_weight(p, h);
    struct score best = {0}, c;
    size_t victim = POLICY_NONE, i;

    for (i = 0; i < n; i++) {
        if (segs[i].flags & POLICY_PINNED)
            continue;
        c = segment_score(&segs[i], weight);
        if (victim == POLICY_NONE || goes_before(&segs[i], c, &segs[victim], best)) {
            victim = i;
            best = c;
        }
    }
    return victim;
}

size_t policy_merge(const struct policy_segment *segs, size_t n, const struct policy_params *p)
{
    size_t oldest = POLICY_NONE, tiny = 0, i;

    for (i = 0; i < n; i++) {
        if (!(segs[i].flags & POLICY_TINY) || segs[i].flags & POLICY_PINNED ||
            segs[i].rank == POLICY_RANK_EXPIRED)
            continue;
        tiny++;
        if (oldest == POLICY_NONE || segs[i].age > segs[oldest].age ||
            (segs[i].age == segs[oldest].age && segs[i].number < segs[oldest].number))
            oldest = i;
    }
    return tiny && tiny >= p->tiny_count ? oldest : POLICY_NONE;
}

/* Bytes that may be carried since there is a history, to stay within the budget. */
static uint64_t budget_earned(const struct policy_params *p, const struct policy_history *h)
{
    return (h->stored + p->capacity / BUDGET_CREDIT) / 100 * p->carry_budget;
}

/* 1 while there is budget, less and less when it runs short: so that what is left of it goes to the
 * blocks that were used last, whichever segment they are in. */
static double budget_scale(const struct policy_params *p, const struct policy_history *h)
{
    uint64_t earned = budget_earned(p, h);
    double spent = earned ? (double)h->carried / (double)earned : 1;

    if (spent <= BUDGET_EASE)
        return 1;
    return spent < 1 ? (1 - spent) / (1 - BUDGET_EASE) : 0;
}

bool policy_carry(const struct policy_segment *victim, const struct policy_block *b,
                  const struct policy_params *p, const struct policy_history *h)
{
    if (victim->rank == POLICY_RANK_EXPIRED || b->copied)
        return false;
    if (b->pinned)
        return true;
    return b->used &&
           (double)b->use_age * 100 < segment_idle(victim) * p->carry_idle * budget_scale(p, h);
}

uint64_t policy_carry_limit(const struct policy_segment *victim, const struct policy_params *p,
                            const struct policy_history *h)
{
    uint64_t share = victim->bytes / 100 * p->carry_victim, earned = budget_earned(p, h);

    if (victim->rank == POLICY_RANK_EXPIRED || earned <= h->carried)
        return 0;
    return min_u64(share, earned - h->carried);
}

enum policy_generation policy_place(bool ghost)
{
    return ghost ? POLICY_OLD : POLICY_YOUNG;
}
