/*
 * merge.c - crash loops leave a small segment, its contents and a head for every life of a process.
 * When enough of them have piled up in our shard they are copied together and evicted, one by one.
 *
 * Two phases for each, with the look between them: its blocks that are nowhere else are copied to a
 * growing young segment; when the index shows that none is left, it is evicted in the usual two
 * steps. Nothing is remembered in between, so a crash at any time costs a copy at most. Of all who
 * write in a shard the one with the least name does it; while that is not known two may, which
 * costs space for a while. Only when there is no lack of room, and where blocks do not age: copies
 * are young (ttl.h).
 *
 * Threads: the keeper.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/carry.h"
#include "engine/evict.h"
#include "engine/notes.h"
#include "engine/writer_internal.h"

#define AT_ONCE  4u                /* segments in one look: carry.c has that many jobs and more */
#define AGAIN_NS (100 * NS_PER_MS) /* what was handed over is published by then, or soon */

struct gathered {
    cistern *c;
    struct block_info *blocks; /* that are nowhere else */
    size_t count, room;
};

static bool is_elsewhere(cistern *c, const struct index_place *p)
{
    struct index_place newest;
    cistern_key key;

    memcpy(key.b, p->info.key, sizeof key.b);
    return index_find(c->index, &key, &newest) && newest.segment != p->segment &&
           (newest.info.mask & p->info.mask) == p->info.mask;
}

static int gather(void *arg, const struct index_place *p, bool others)
{
    struct gathered *g = arg;
    struct block_info *grown;

    if (others && is_elsewhere(g->c, p))
        return 0;
    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 64;

        if (!(grown = realloc(g->blocks, room * sizeof *grown)))
            return -ENOMEM;
        g->blocks = grown;
        g->room = room;
    }
    g->blocks[g->count++] = p->info;
    return 0;
}

/* Copies what is nowhere else, or evicts what is. */
static void merge_one(cistern *c, size_t v)
{
    struct usage_segment *s = &c->capacity->usage.segs[v];
    const struct usage_dir *d = &c->capacity->usage.dirs[s->dir];
    const struct segment *known = segtab_find_file(&c->segs, d->shard, s->writer, s->seq);
    struct gathered g = {.c = c};
    uint32_t number;

    if (!known || carry_reads(c, s->writer, s->seq))
        return;
    number = (uint32_t)(known - c->segs.at);
    if (index_walk_segment(c->index, number, gather, &g)) {
        free(g.blocks); /* short of memory */
        return;
    }
    if (g.count) {
        carry_copies(c, number, g.blocks, g.count, POLICY_YOUNG);
        return;
    }
    free(g.blocks);
    if (notes_keep(c, &c->capacity->usage, s, false) == 0 &&
        evict_begin(c, &c->capacity->usage, s) == 0)
        metric_add(&c->metrics, METRIC_merged_segments, 1);
}

/* Nobody else who lives writes in the shard under a lesser name. */
static bool is_first(const cistern *c)
{
    const struct usage *u = &c->capacity->usage;
    uint64_t own = min_u64(writer_id(c, POLICY_YOUNG), writer_id(c, POLICY_OLD));
    size_t i;

    for (i = 0; i < u->nheads; i++) {
        const struct usage_head *h = &u->heads[i];

        if (u->dirs[h->dir].own && h->valid && h->writer < own &&
            !usage_head_ended(h, c->capacity->silence_ns))
            return false;
    }
    return true;
}

bool merge_step(cistern *c, uint64_t *again_ns)
{
    struct capacity *k = c->capacity;
    uint32_t i;

    if (atomic_load(&c->ttl_seconds) || carry_copying(c) || !is_first(c) || victims_describe(c))
        return false;
    for (i = 0; i < AT_ONCE; i++) {
        size_t v = policy_merge(k->choice, k->usage.nsegs, &k->params);

        if (v == POLICY_NONE)
            break;
        k->choice[v].flags |= POLICY_PINNED;
        merge_one(c, v);
    }
    *again_ns = clock_ns() + AGAIN_NS;
    return i != 0;
}
