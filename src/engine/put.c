/*
 * put.c - from sources to staging: which blocks are stored, where they go, and what their results
 * are.
 *
 * Blocks of one put lie back to back, parents before children. A block that the index has, with all
 * the parts that are put, costs a look; one that is on its way costs another.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/le.h"
#include "engine/carry.h"
#include "engine/heat.h"
#include "engine/sealed.h"
#include "engine/writer_internal.h"

/* ---- Blocks under way ---- */

static uint32_t underway_home(const struct writer *w, const uint8_t key[32])
{
    return le32_load(key) & w->underway_mask;
}

bool underway_find(const struct writer *w, const uint8_t key[32])
{
    uint32_t i = underway_home(w, key);

    for (; w->underway[i]; i = (i + 1) & w->underway_mask) {
        if (memcmp(w->underway[i]->info.key, key, 32) == 0)
            return true;
    }
    return false;
}

void underway_add(struct writer *w, struct wblock *b)
{
    uint32_t i = underway_home(w, b->info.key);

    while (w->underway[i])
        i = (i + 1) & w->underway_mask;
    w->underway[i] = b;
}

/* Linear probing without tombstones: what follows moves up as far as its home allows. */
void underway_remove(struct writer *w, struct wblock *b)
{
    uint32_t mask = w->underway_mask, hole = underway_home(w, b->info.key), i;

    while (w->underway[hole] && w->underway[hole] != b)
        hole = (hole + 1) & mask;
    if (!w->underway[hole])
        return;
    for (i = (hole + 1) & mask; w->underway[i]; i = (i + 1) & mask) {
        uint32_t home = underway_home(w, w->underway[i]->info.key);

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            w->underway[hole] = w->underway[i];
            hole = i;
        }
    }
    w->underway[hole] = NULL;
}

/* ---- Results ---- */

void put_settle(struct writer *w, struct op *op, uint32_t block, uint8_t result)
{
    struct optab *t = &w->c->ops;
    uint32_t p;

    for (p = 0; p < t->nparts; p++) {
        if (op_span(t, op, block, p)->count)
            *op_result(t, op, block, p) = result;
    }
}

static void share_done(struct writer *w, struct share *s, int status)
{
    struct share **at = &w->shares;

    while (*at != s)
        at = &(*at)->link;
    *at = s->link;
    if (status)
        atomic_store(&s->op->status, status);
    engine_put_done(w->c, s->op);
}

static void share_try_end(struct writer *w, struct share *s)
{
    if (s->next >= s->to && !s->groups)
        share_done(w, s, 0);
}

void put_block_done(struct writer *w, struct wblock *b, uint8_t result)
{
    struct op *op = b->op;

    underway_remove(w, b);
    if (b->carried)
        carry_settled(w->c);
    if (!op)
        return;
    b->op = NULL;
    if (!HOLDS(w->c, op->used && op->share[0].groups))
        return;
    if (result == CISTERN_STORED)
        (void)atomic_fetch_add(&op->bytes, b->bytes);
    put_settle(w, op, b->block, result);
    op->share[0].groups--;
    share_try_end(w, &op->share[0]);
}

void put_cut(struct writer *w, struct share *s, int status, uint8_t rest)
{
    struct op *op = s->op;
    struct wgroup *g;
    uint32_t i;

    for (g = w->order; g && s->groups; g = g->link) {
        for (i = g->settled; i < g->count; i++) {
            if (g->blocks[i].op != op)
                continue;
            put_settle(w, op, g->blocks[i].block, CISTERN_ERROR);
            g->blocks[i].op = NULL;
            s->groups--;
        }
    }
    for (i = s->next; i < s->to; i++)
        put_settle(w, op, i, rest);
    share_done(w, s, status);
}

/* ---- Layout ---- */

static uint16_t given_parts(const struct writer *w, const struct op *op, uint32_t block,
                            uint64_t *extent)
{
    uint16_t mask = 0;
    uint32_t p;

    *extent = 0;
    for (p = 0; p < w->c->cfg.nparts; p++) {
        const struct cistern_span *s = op_span(&w->c->ops, op, block, p);

        if (s->count) {
            mask |= (uint16_t)(1u << p);
            *extent += round_up(mem_span_bytes(s), PAGE_BYTES);
        }
    }
    return mask;
}

/* One part into staging; its check. */
static int fill_part(struct writer *w, const struct op *op, const struct wseg *seg,
                     const struct check_identity *id, uint8_t *to, const struct cistern_span *s,
                     uint64_t *check)
{
    uint64_t hash;
    int rc;

    if (seg->contents.key)
        return sealed_gather(op->mem, w->cipher, seg->contents.key, id, to, s, check);
    if (!(rc = mem_gather(op->mem, to, s, &hash)))
        *check = format_check(id, hash);
    return rc;
}

/* Copies a block's parts to `to`, hashing or encrypting on the way, and describes it. */
static int fill_block(struct writer *w, struct op *op, uint32_t block, const struct wseg *seg,
                      uint64_t offset, uint8_t *to, struct wblock *b)
{
    struct check_identity id = {0};
    uint32_t p;

    b->op = op;
    b->block = block;
    b->bytes = 0;
    b->carried = b->returned = false;
    b->info.mask = 0;
    b->info.parts = 0;
    b->info.offset = (uint32_t)(offset / PAGE_BYTES);
    b->info.depth = op->r.first + block;
    memcpy(b->info.key, op->r.keys[block].b, sizeof b->info.key);
    memcpy(id.space, w->c->fingerprint, sizeof id.space);
    memcpy(id.segment_id, w->c->segs.at[seg->number].id, sizeof id.segment_id);
    memcpy(id.key, b->info.key, sizeof id.key);
    for (p = 0; p < w->c->cfg.nparts; p++) {
        const struct cistern_span *s = op_span(&w->c->ops, op, block, p);
        uint64_t len = mem_span_bytes(s), padded = round_up(len, PAGE_BYTES), check;
        int rc;

        if (!s->count)
            continue;
        id.offset = offset;
        id.length = (uint32_t)len;
        id.part = p;
        if ((rc = fill_part(w, op, seg, &id, to, s, &check)))
            return rc;
        memset(to + len, 0, padded - len);
        b->info.mask |= (uint16_t)(1u << p);
        b->info.length[b->info.parts] = (uint32_t)len;
        b->info.check[b->info.parts++] = check;
        b->bytes += len;
        to += padded;
        offset += padded;
    }
    return 0;
}

static struct wgroup *open_group(struct writer *w, struct wstream *st)
{
    struct wgroup *g = w->free_groups;
    uint8_t *slot;

    if (!g || !(slot = pool_take(w->c->write_pool)))
        return NULL;
    if (!segment_hold(&w->c->segs, st->current->number)) { /* forgotten: the lane ends it next */
        pool_give(w->c->write_pool, slot);
        return NULL;
    }
    w->free_groups = g->link;
    *g = (struct wgroup){.seg = st->current,
                         .number = st->current->number,
                         .slot = slot,
                         .offset = st->current->reserved,
                         .blocks = g->blocks,
                         .deadline_ns = UINT64_MAX};
    return g;
}

/* The caller's thread settled it already (admission.h). */
static bool is_refused(const struct writer *w, const struct op *op, uint32_t block)
{
    uint32_t p;

    for (p = 0; p < w->c->cfg.nparts; p++) {
        if (*op_result(&w->c->ops, op, block, p) == CISTERN_NOT_ADMITTED)
            return true;
    }
    return false;
}

/* Whether the block must be stored; settles it if not. */
static bool wanted(struct writer *w, struct share *s, uint16_t mask)
{
    const cistern_key *key = &s->op->r.keys[s->next];
    uint16_t have = index_mask(w->c->index, key);

    if (is_refused(w, s->op, s->next))
        return false;
    if (!mask || (have & mask) == mask) {
        heat_used(w->c, key); /* it was asked for */
        put_settle(w, s->op, s->next, CISTERN_PRESENT);
        return false;
    }
    if (underway_find(w, key->b)) {
        put_settle(w, s->op, s->next, CISTERN_UNDERWAY);
        return false;
    }
    return true;
}

void put_append(struct writer *w, struct wgroup *g)
{
    g->link = NULL;
    if (w->order_last)
        w->order_last->link = g;
    else
        w->order = g;
    w->order_last = g;
    if (!w->issue)
        w->issue = g;
    if (!g->offset)
        g->seg->began_ns = clock_boot_ns();
    g->seg->groups++;
    g->seg->reserved = g->offset + g->len;
    pace_written(w->c, g->len);
    fault_point("put.copied");
}

/* What was evicted lately and is stored again goes to the old segments, unless there is no room for
 * one. NULL: it is being made. */
static struct wstream *stream_for(struct writer *w, const struct wgroup *g, const uint8_t key[32],
                                  uint64_t extent)
{
    struct wstream *old = writer_old(w);

    if (policy_place(heat_ghost_seen(w->c, key)) == POLICY_YOUNG)
        return writer_young(w);
    if (old->current && !(g && g->seg == old->current) &&
        old->current->reserved + extent > w->c->cfg.segment_bytes)
        writer_end_segment(w, old);
    if (!old->current && writer_need_segment(w, old))
        return NULL;
    return old->current ? old : writer_young(w);
}

/* Adds blocks of the share to the group while they fit. False: the group can take no more. */
static bool fill_group(struct writer *w, struct share *s, struct wgroup **open, bool *stuck)
{
    uint64_t slot_bytes = pool_slot_bytes(w->c->write_pool), extent;
    uint16_t mask = given_parts(w, s->op, s->next, &extent);
    struct wgroup *g = *open;
    struct wstream *st;

    if (!wanted(w, s, mask)) {
        s->next++;
        return true;
    }
    st = stream_for(w, g, s->op->r.keys[s->next].b, extent);
    if (!st || (g && g->seg != st->current)) { /* the next group is of the other stream */
        *stuck = !g;
        return false;
    }
    if (st->current->reserved + (g ? g->len : 0) + extent > w->c->cfg.segment_bytes) {
        if (!g)
            writer_end_segment(w, st);
        *stuck = !g;
        return false;
    }
    if (!g && !(g = *open = open_group(w, st))) {
        *stuck = true;
        return false;
    }
    if (g->len + extent > slot_bytes || g->count == w->c->cfg.io_blocks ||
        (g->len && (g->offset + g->len) % w->c->cfg.io_bytes == 0))
        return false;
    if (!budget_puts(w->c, s, extent)) {
        put_settle(w, s->op, s->next, CISTERN_DROPPED);
    } else if (fill_block(w, s->op, s->next, g->seg, g->offset + g->len, g->slot + g->len,
                          &g->blocks[g->count])) {
        put_settle(w, s->op, s->next, CISTERN_ERROR);
        if (g->seg->contents.key) /* nothing else may be encrypted for this place */
            writer_end_segment(w, st);
    } else {
        g->blocks[g->count].returned = heat_ghost_take(w->c, g->blocks[g->count].info.key);
        underway_add(w, &g->blocks[g->count]);
        g->len += extent;
        g->count++;
        s->groups++;
    }
    s->next++;
    return true;
}

bool put_layout(struct writer *w)
{
    struct wgroup *g = NULL;
    struct share *s, *next;
    bool stuck = false, more = true;

    for (s = w->shares; s && more; s = s->link) {
        while (s->next < s->to && writer_young(w)->current && more)
            more = fill_group(w, s, &g, &stuck);
    }
    if (g && g->count) {
        put_append(w, g);
    } else if (g) {
        writer_free_group(w, g);
        g = NULL;
    }
    for (s = w->shares; s; s = next) {
        next = s->link;
        share_try_end(w, s);
    }
    return g && !stuck;
}
