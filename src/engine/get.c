/*
 * get.c - from keys to bytes: which blocks are read together, and what is delivered.
 *
 * Planning goes block by block, or part by part when the caller wants parts in order or reads
 * directly. A group grows while the next block lies right behind it in the same segment. Delivery
 * trusts nothing: the hash of the bytes, mixed with where they should lie and whose they should be,
 * must be the check of the contents. The destination of a part that fails was written already; its
 * result says so (cistern.h).
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/hash.h"
#include "engine/capacity.h"
#include "engine/files.h"
#include "engine/gone.h"
#include "engine/lane_internal.h"
#include "engine/memory.h"
#include "engine/sealed.h"

#define FIND_TRIES                                                                                 \
    4 /* segments forgotten between the look-up and the hold, one after the other                  \
       */

static bool by_part(const struct op *op)
{
    return op->by_part || op->direct;
}

bool get_planned(const struct share *s)
{
    return by_part(s->op) ? s->part >= CISTERN_MAX_PARTS : s->next >= s->to;
}

static void settle(struct lane *l, struct op *op, uint32_t block, uint32_t part, uint8_t result)
{
    *op_result(&l->c->ops, op, block, part) = result;
    if (op->by_part)
        op_part_settled(&l->c->ops, op, part, 1);
}

void get_settle_rest(struct lane *l, struct share *s, uint8_t result)
{
    struct op *op = s->op;
    uint32_t p, b;

    for (b = s->from; b < s->to; b++) {
        for (p = 0; p < l->c->cfg.nparts; p++) {
            if (op_span(&l->c->ops, op, b, p)->count &&
                *op_result(&l->c->ops, op, b, p) == CISTERN_NONE)
                settle(l, op, b, p, result);
        }
    }
}

/* The cursor of a share: block by block, or all blocks of one part before the next part. */
static void advance(const struct lane *l, struct share *s)
{
    s->next++;
    if (!by_part(s->op) || s->next < s->to)
        return;
    s->next = s->from;
    s->part++;
    if (s->part == l->c->cfg.nparts)
        s->part = CISTERN_MAX_PARTS;
}

static uint16_t asked_parts(const struct lane *l, const struct share *s)
{
    uint16_t asked = 0;
    uint32_t p;

    for (p = 0; p < l->c->cfg.nparts; p++) {
        if ((!by_part(s->op) || p == s->part) && op_span(&l->c->ops, s->op, s->next, p)->count)
            asked |= (uint16_t)(1u << p);
    }
    return asked;
}

/* Where a part lies and how long it is; false: this copy does not have it. */
static bool part_at(const struct block_info *b, uint32_t part, uint64_t *offset, uint32_t *nth)
{
    uint32_t p, n = 0;
    uint64_t at = (uint64_t)b->offset * FORMAT_PAGE;

    for (p = 0; p < part; p++) {
        if (b->mask & (1u << p))
            at += round_up(b->length[n++], FORMAT_PAGE);
    }
    *offset = at;
    *nth = n;
    return (b->mask & (1u << part)) != 0 && n < b->parts;
}

/* Which asked-for parts can be read from this copy, and the range of the file they span. The others
 * are settled. */
static uint16_t choose_parts(struct lane *l, struct share *s, const struct index_place *place,
                             uint16_t asked, uint64_t *from, uint64_t *to)
{
    uint16_t chosen = 0;
    uint32_t p, nth;
    uint64_t at;

    *from = *to = 0;
    for (p = 0; p < l->c->cfg.nparts; p++) {
        if (!(asked & (1u << p)))
            continue;
        if (!part_at(&place->info, p, &at, &nth)) {
            settle(l, s->op, s->next, p, CISTERN_MISS);
        } else if (mem_span_bytes(op_span(&l->c->ops, s->op, s->next, p)) !=
                   place->info.length[nth]) {
            metric_add(&l->c->metrics, METRIC_bad_span_blocks, 1);
            settle(l, s->op, s->next, p, CISTERN_MISS);
        } else {
            if (!chosen)
                *from = at;
            *to = at + (s->op->direct ? place->info.length[nth]
                                      : round_up(place->info.length[nth], FORMAT_PAGE));
            chosen |= (uint16_t)(1u << p);
        }
    }
    return chosen;
}

static void settle_asked(struct lane *l, struct share *s, uint16_t asked, uint8_t result)
{
    uint32_t p;

    for (p = 0; p < l->c->cfg.nparts; p++) {
        if (asked & (1u << p))
            settle(l, s->op, s->next, p, result);
    }
}

/* Memory that was registered with storage of before (renew.c) is out of its reach: such a read goes
 * through staging. */
static bool reads_direct(const struct lane *l, const struct op *op)
{
    return op->direct &&
           op->r.memory->epoch == atomic_load_explicit(&l->c->epoch, memory_order_relaxed);
}

/* The segment is held; the group releases it when it is free. */
static bool open_group(struct lane *l, struct share *s, uint32_t segment, uint64_t from)
{
    struct group *g = l->free_groups;
    enum file_state file = g ? file_take(l->c, segment) : FILE_NONE;
    uint8_t *buf = NULL;

    if (file == FILE_NONE)
        return false;
    if (!reads_direct(l, s->op) && !(buf = pool_take(l->c->read_pool))) {
        if (file == FILE_TAKEN)
            file_give(l->c, segment);
        return false;
    }
    l->free_groups = g->link;
    g->link = NULL;
    g->share = s;
    g->op = s->op;
    g->block = s->next;
    g->count = 0;
    g->segment = segment;
    g->buf = buf;
    g->staged = buf != NULL;
    g->late = g->struck = false;
    g->taken = file == FILE_TAKEN;
    g->offset = from;
    g->len = g->issued = 0;
    g->bad_from = UINT64_MAX;
    g->error = 0;
    g->ios = 0;
    g->deadline_ns = UINT64_MAX;
    g->before = NULL;
    g->next = l->live;
    if (l->live)
        l->live->before = g;
    l->live = g;
    s->groups++;
    if (!buf) {
        const struct cistern_span *span = op_span(&l->c->ops, s->op, s->next, s->part);

        g->buf = span->vecs[0].base;
        (void)atomic_fetch_add(&s->op->buffers, 1);
    }
    return true;
}

/*
 * Whether the next block can join: right behind, room in slot and count, no hole in the operation's
 * order. A group that has come to a multiple of io_bytes is full, so that those behind it are one
 * whole I/O each.
 */
static bool joins(const struct lane *l, const struct group *g, const struct share *s,
                  uint32_t segment, uint64_t from, uint64_t to)
{
    return g->staged && g->segment == segment && from % l->c->cfg.io_bytes &&
           g->offset + g->len == from && g->block + g->count == s->next &&
           g->count < l->c->cfg.io_blocks && to - g->offset <= pool_slot_bytes(l->c->read_pool);
}

enum step { STEP_SETTLED, STEP_JOINED, STEP_OTHER, STEP_STUCK };

/* Where to read a block from; true: its segment is held, and it has a data file. A segment that
 * was forgotten meanwhile gave up its copies, and a copy that was bad before may have come back:
 * there may be another. */
static bool find_readable(cistern *c, const cistern_key *key, struct index_place *place)
{
    int tries;

    for (tries = 0; tries < FIND_TRIES && !engine_tripped(c); tries++) {
        if (!index_find(c->index, key, place))
            return false;
        if (!segment_hold(&c->segs, place->segment))
            continue;
        if (negative_holds(&c->negative, key, place->segment, place->info.offset) ||
            engine_is_aside(c, place->segment)) {
            metric_add(&c->metrics, METRIC_negative_blocks, 1);
            if (index_remove_copy(c->index, key, place->segment, place->info.offset))
                heat_lost(&c->segs.at[place->segment], 1);
            segment_release(&c->segs, place->segment);
            continue;
        }
        if (file_readable(c, place->segment))
            return true;
        segment_release(&c->segs, place->segment);
        return false;
    }
    return false;
}

/* Adds the block under the cursor to *g (opened if NULL). *kept: the group took over the hold of
 * its segment. */
static enum step plan_at(struct lane *l, struct share *s, struct group **g, uint16_t asked,
                         const struct index_place *place, bool *kept)
{
    uint64_t from, to;
    uint16_t chosen = choose_parts(l, s, place, asked, &from, &to);

    if (!chosen)
        return STEP_SETTLED;
    if (!reads_direct(l, s->op) && to - from > pool_slot_bytes(l->c->read_pool)) {
        settle_asked(l, s, chosen, CISTERN_MISS);
        return STEP_SETTLED;
    }
    if (*g && !joins(l, *g, s, place->segment, from, to))
        return STEP_OTHER;
    if (!*g) {
        if (!open_group(l, s, place->segment, from))
            return STEP_STUCK;
        *g = l->live;
        *kept = true;
    }
    (*g)->places[(*g)->count] = *place;
    (*g)->parts[(*g)->count] = chosen;
    (*g)->count++;
    (*g)->len = to - (*g)->offset;
    return STEP_JOINED;
}

/* Looks at the block under the cursor: settles it as a miss, or adds it to *g. */
static enum step plan_block(struct lane *l, struct share *s, struct group **g)
{
    struct index_place place;
    uint16_t asked = asked_parts(l, s);
    bool kept = false;
    enum step step;

    if (!asked)
        return STEP_SETTLED;
    if (!find_readable(l->c, &s->op->r.keys[s->next], &place)) {
        settle_asked(l, s, asked, CISTERN_MISS);
        return STEP_SETTLED;
    }
    step = plan_at(l, s, g, asked, &place, &kept);
    if (!kept)
        segment_release(&l->c->segs, place.segment);
    return step;
}

struct group *get_plan(struct lane *l, struct share *s, bool *stuck)
{
    struct group *g = NULL;
    enum step step;

    *stuck = false;
    while (!get_planned(s)) {
        step = plan_block(l, s, &g);
        if (step == STEP_OTHER)
            break;
        if (step == STEP_STUCK) {
            *stuck = true;
            break;
        }
        advance(l, s);
        if (step == STEP_JOINED && (!g->staged || g->count == l->c->cfg.io_blocks))
            break;
    }
    return g;
}

static void bad_part(struct lane *l, const struct group *g, uint32_t i)
{
    const struct index_place *p = &g->places[i];
    cistern_key key;

    memcpy(key.b, p->info.key, sizeof key.b);
    metric_add(&l->c->metrics, METRIC_bad_checksum_blocks, 1);
    engine_bad_copy(l->c, &key, p->segment, p->info.offset, DEAD_CHECKSUM);
}

/* It did not arrive: cut, or evicted elsewhere, which gone.c finds out. */
static uint8_t unread_part(struct lane *l, const struct group *g, uint32_t i)
{
    bool lacks = g->error == -EBADMSG || g->error == -ENOENT || g->error == -ESTALE ||
                 g->error == DOUBT_NO_FILE;

    if (lacks || g->error == -EIO)
        doubt_raise(l->c, &g->places[i], g->error);
    return lacks ? CISTERN_MISS : CISTERN_ERROR;
}

/* Delivers a part and checks it, in one of both orders. 0, -EBADMSG: it is not what was stored, or
 * another error of the copy. */
static int deliver_part(struct lane *l, const struct group *g, uint32_t segment,
                        const struct check_identity *id, const struct cistern_span *span,
                        uint64_t check)
{
    uint8_t *from = g->staged ? g->buf + (id->offset - g->offset) : g->buf;
    uint64_t hash;
    int rc = 0;

    if (l->c->crypt) {
        const uint8_t *key = crypt_slot(l->c->crypt, segment);

        return g->staged ? sealed_scatter(g->op->mem, l->cipher, key, id, from, span, check)
                         : part_decrypt(l->cipher, key, id, from, from, check);
    }
    if (g->staged)
        rc = mem_scatter(g->op->mem, from, span, &hash);
    else
        hash = hash64(from, id->length);
    if (rc)
        return rc;
    return format_check(id, hash) == check ? 0 : -EBADMSG;
}

static uint8_t verify_part(struct lane *l, const struct group *g, uint32_t i, uint32_t part)
{
    const struct index_place *p = &g->places[i];
    const struct cistern_span *span = op_span(&l->c->ops, g->op, g->block + i, part);
    struct check_identity id = {.part = part};
    uint64_t at;
    uint32_t nth;
    int rc;

    (void)part_at(&p->info, part, &at, &nth);
    if (at + p->info.length[nth] > g->bad_from)
        return unread_part(l, g, i);
    memcpy(id.space, l->c->fingerprint, sizeof id.space);
    memcpy(id.segment_id, l->c->segs.at[p->segment].id, sizeof id.segment_id);
    memcpy(id.key, g->op->r.keys[g->block + i].b, sizeof id.key);
    id.offset = at;
    id.length = p->info.length[nth];
    rc = deliver_part(l, g, p->segment, &id, span, p->info.check[nth]);
    if (rc && rc != -EBADMSG)
        return CISTERN_ERROR;
    if (rc) {
        bad_part(l, g, i);
        return CISTERN_MISS;
    }
    (void)atomic_fetch_add_explicit(&g->op->bytes, p->info.length[nth], memory_order_relaxed);
    l->meter.got += p->info.length[nth];
    return CISTERN_HIT;
}

/* For the choice of what outlives its segment. */
static void note_use(cistern *c, const struct index_place *place)
{
    cistern_key key;

    memcpy(key.b, place->info.key, sizeof key.b);
    heat_used(c, &key);
}

void get_deliver(struct lane *l, struct group *g)
{
    uint32_t i, p;

    for (i = 0; g->share && i < g->count; i++) {
        for (p = 0; p < l->c->cfg.nparts; p++) {
            if (g->parts[i] & (1u << p))
                settle(l, g->op, g->block + i, p, verify_part(l, g, i, p));
        }
        note_use(l->c, &g->places[i]);
        (void)atomic_fetch_add_explicit(&l->c->segs.at[g->segment].touches, 1,
                                        memory_order_relaxed);
    }
    if (g->share)
        g->share->groups--;
    lane_free_group(l, g);
}
