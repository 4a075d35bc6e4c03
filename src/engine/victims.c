/*
 * victims.c - the segments of the root as the policy sees them (policy.h).
 *
 * Of segments of the own shard the sums of heat.c tell how idle their blocks are; of those that
 * others wrote, or that are older than this handle, the touches in the head of their writer may
 * know of later uses, and count if they do. Of other shards and spaces touches are all there is.
 * Nothing here looks at a block: a description costs the same however many there are.
 *
 * Threads: the keeper.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"

#define TINY_PART 8u /* of a segment */

static int make_scratch(struct capacity *k)
{
    size_t n = k->usage.nsegs;

    if (n <= k->room)
        return 0;
    n += n / 2 + 64;
    free(k->choice);
    k->choice = calloc(n, sizeof *k->choice);
    k->room = k->choice ? n : 0;
    return k->room ? 0 : -ENOMEM;
}

/* How often a segment was read, as the head of its writer says. */
static uint64_t touches_of(const struct usage_head *h, const struct usage_segment *s)
{
    if (!h || !h->valid || s->seq >= h->h.next_seq ||
        h->h.next_seq - 1 - s->seq >= HEAD_TOUCHES_MAX)
        return 0;
    return h->touches[h->h.next_seq - 1 - s->seq];
}

/* Records of its contents: about as many blocks. */
static uint32_t records_of(const struct usage_segment *s)
{
    if (s->toc_size <= FORMAT_PAGE)
        return 0;
    return (uint32_t)min_u64((s->toc_size - FORMAT_PAGE) / FORMAT_RECORD, UINT32_MAX);
}

static uint64_t age_of(const struct capacity *k, const struct usage_segment *s)
{
    int64_t age = (int64_t)atomic_load(&k->heat.written) - s->place;

    return age > 0 ? (uint64_t)age : 0;
}

/* What is known of its blocks. */
static void describe_blocks(const struct heat *heat, const struct segment *known, uint64_t touches,
                            struct policy_segment *p)
{
    uint64_t guess = policy_idle(p);

    heat_describe(heat, known, p);
    if (!known->own && touches && p->idle != POLICY_UNKNOWN)
        p->idle = min_u64(p->idle, guess);
}

/* What a short life left. Its file says little: it may have been allocated ahead. */
static bool is_tiny(const cistern *c, const struct segment *known)
{
    return atomic_load_explicit(&known->extents, memory_order_relaxed) <=
           c->cfg.segment_bytes / TINY_PART;
}

static void describe(cistern *c, size_t i, struct policy_segment *p)
{
    const struct capacity *k = c->capacity;
    const struct usage_segment *s = &k->usage.segs[i];
    const struct usage_dir *d = &k->usage.dirs[s->dir];
    const struct segment *known =
        d->own ? segtab_find_file(&c->segs, d->shard, s->writer, s->seq) : NULL;
    const struct usage_head *h = usage_head_of(&k->usage, s->dir, s->writer);
    uint64_t touches = touches_of(h, s);
    bool ended = !h || usage_head_ended(h, k->silence_ns);
    bool pinned = !s->sealed || !s->seg || !s->toc || s->unlinked;

    pinned |= known && clock_ns() < atomic_load(&known->pinned_ns);
    pinned |= usage_rests(s, clock_boot_ns());
    pinned |= !(k->urgent && d->own) && clock_boot_ns() < s->wait_ns;
    *p = (struct policy_segment){
        .number = i,
        .rank = s->expired ? POLICY_RANK_EXPIRED : k->usage.spaces[d->space].rank,
        .flags = (pinned ? POLICY_PINNED : 0) | (ended ? POLICY_SILENT : 0) |
                 (ended && known && !s->expired && is_tiny(c, known) ? POLICY_TINY : 0),
        .generation = h && h->valid && h->h.generation == POLICY_OLD ? POLICY_OLD : POLICY_YOUNG,
        .age = age_of(k, s),
        .idle = POLICY_UNKNOWN,
        .bytes = s->seg_bytes + s->toc_bytes,
        .live_bytes = s->seg_bytes,
        .touches = (uint32_t)min_u64(touches, UINT32_MAX),
        .blocks = records_of(s),
    };
    if (known)
        describe_blocks(&k->heat, known, touches, p);
}

int victims_describe(cistern *c)
{
    struct capacity *k = c->capacity;
    size_t i;

    if (make_scratch(k))
        return -ENOMEM;
    for (i = 0; i < k->usage.nsegs; i++)
        describe(c, i, &k->choice[i]);
    return 0;
}

/* ---- Those that were there before ---- */

/* Youngest first. */
static int by_time(const void *x, const void *y, void *arg)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    const struct usage *u = arg;
    const struct usage_segment *s = &u->segs[a], *t = &u->segs[b];

    if (s->mtime_ns != t->mtime_ns)
        return s->mtime_ns > t->mtime_ns ? -1 : 1;
    if (s->writer == t->writer && s->seq != t->seq)
        return s->seq > t->seq ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* As far back as what is younger takes room. */
int victims_date(cistern *c)
{
    struct capacity *k = c->capacity;
    int64_t place = (int64_t)atomic_load(&k->heat.written);
    uint32_t *order = calloc(k->usage.nsegs + 1, sizeof *order);
    size_t i;

    if (!order)
        return -ENOMEM;
    for (i = 0; i < k->usage.nsegs; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, k->usage.nsegs, sizeof *order, by_time, &k->usage);
    for (i = 0; i < k->usage.nsegs; i++) {
        k->usage.segs[order[i]].place = place;
        place -= (int64_t)k->usage.segs[order[i]].seg_bytes;
    }
    free(order);
    k->dated = true;
    return 0;
}
