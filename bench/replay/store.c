/*
 * store.c - the engine's policy over simulated segments.
 *
 * Modelled: growing segments of a fixed size, one for each generation; a budget that counts every
 * block on disk, dead or alive, until its segment has gone; the eviction of whole segments, with
 * what is carried over written behind what was put; one byte of last use for each block, in steps
 * of capacity/16, as the engine keeps it. Not modelled: parts, shards, the grace of an eviction.
 */
#include "replay.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((uint64_t)2 << 20)
#define USE_STEPS   16u
#define NOWHERE     UINT32_MAX

struct sim_segment {
    uint32_t *blocks; /* NULL: the slot is free; owned */
    uint32_t n, live;
    uint64_t number, sealed, touched;
    uint32_t generation, touches;
};

struct sim {
    const struct trace *t;
    struct replay_options o;
    struct policy_params params;
    struct policy_history history;
    struct ghost *ghost;
    struct admit *admit;
    struct sim_segment *segs;
    uint32_t slots, size; /* of segments: how many; blocks in one */
    uint32_t open[2];     /* slot of the growing segment of a generation */
    uint64_t numbers, clock, step;
    uint32_t used_blocks; /* on disk */
    /* Of each block. */
    uint32_t *where; /* slot or NOWHERE */
    uint8_t *mark;   /* step of its last use, or of its write */
    bool *used;
    uint32_t *depth;
    /* Scratch of choose: what the policy sees, and whose it is. */
    struct policy_segment *seen;
    uint32_t *slot_of;
    struct replay_result r;
};

static uint64_t hash_of(uint32_t id)
{
    uint64_t z = (id + 1) * 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t use_age(const struct sim *s, uint32_t b)
{
    return (uint64_t)(uint8_t)((uint8_t)(s->clock / s->step) - s->mark[b]) * s->step;
}

static uint32_t slot_take(struct sim *s)
{
    uint32_t i;

    for (i = 0; i < s->slots; i++)
        if (!s->segs[i].blocks)
            return i;
    s->slots = s->slots ? s->slots * 2 : 128;
    s->segs = replay_grow(s->segs, s->slots, sizeof *s->segs);
    memset(s->segs + i, 0, (s->slots - i) * sizeof *s->segs);
    s->seen = replay_grow(s->seen, s->slots, sizeof *s->seen);
    s->slot_of = replay_grow(s->slot_of, s->slots, sizeof *s->slot_of);
    return i;
}

static void block_write(struct sim *s, uint32_t b, uint32_t generation)
{
    uint32_t g = s->o.one_stream ? POLICY_YOUNG : generation, at = s->open[g];

    if (at == NOWHERE || s->segs[at].n == s->size) {
        if (at != NOWHERE)
            s->segs[at].sealed = s->clock;
        at = slot_take(s);
        s->segs[at] = (struct sim_segment){.blocks = replay_alloc(s->size, sizeof(uint32_t)),
                                           .number = s->numbers++,
                                           .generation = g};
        s->open[g] = at;
    }
    s->segs[at].blocks[s->segs[at].n++] = b;
    s->segs[at].live++;
    s->where[b] = at;
    s->used[b] = false;
    s->clock += BLOCK_BYTES;
    s->mark[b] = (uint8_t)(s->clock / s->step);
    s->used_blocks++;
}

static void block_use(struct sim *s, uint32_t b)
{
    struct sim_segment *g = &s->segs[s->where[b]];

    s->mark[b] = (uint8_t)(s->clock / s->step);
    s->used[b] = true;
    g->touches++;
    g->touched = s->clock;
}

/* What the policy sees of the sealed segments. */
static size_t segments_see(struct sim *s)
{
    size_t n = 0;
    uint32_t i, j;

    for (i = 0; i < s->slots; i++) {
        const struct sim_segment *g = &s->segs[i];
        uint64_t idle = 0, depth = 0;

        if (!g->blocks || i == s->open[0] || i == s->open[1])
            continue;
        for (j = 0; j < g->n; j++) {
            idle += use_age(s, g->blocks[j]);
            depth += s->depth[g->blocks[j]];
        }
        s->slot_of[n] = i;
        s->seen[n++] = (struct policy_segment){
            .number = g->number,
            .generation = g->generation,
            .depth = (uint32_t)(depth / g->n),
            .age = s->clock - g->sealed,
            .idle = s->o.touches ? POLICY_UNKNOWN : idle / g->n,
            .bytes = g->n * BLOCK_BYTES,
            .live_bytes = g->live * BLOCK_BYTES,
            .blocks = g->live,
            .touches = g->touches,
            .touch_age = s->clock - g->touched + 1,
        };
    }
    return n;
}

static bool evict_one(struct sim *s)
{
    struct policy_history done = {0};
    struct policy_segment victim;
    struct sim_segment gone;
    size_t n = segments_see(s), v = policy_choose(s->seen, n, &s->params, &s->history);
    uint64_t limit;
    uint32_t j;

    if (v == POLICY_NONE)
        return false;
    victim = s->seen[v];
    gone = s->segs[s->slot_of[v]];
    s->segs[s->slot_of[v]].blocks = NULL;
    s->used_blocks -= gone.n;
    limit = s->o.no_carry ? 0 : policy_carry_limit(&victim, &s->params, &s->history);
    for (j = 0; j < gone.n; j++) {
        uint32_t b = gone.blocks[j];
        struct policy_block view = {.use_age = use_age(s, b), .used = s->used[b]};

        s->where[b] = NOWHERE;
        if (done.carried + BLOCK_BYTES <= limit &&
            policy_carry(&victim, &view, &s->params, &s->history)) {
            block_write(s, b, POLICY_OLD);
            done.carried += BLOCK_BYTES;
        } else {
            ghost_note(s->ghost, hash_of(b));
        }
    }
    free(gone.blocks);
    policy_history_add(&s->history, &done, &s->params);
    s->r.carried += done.carried / BLOCK_BYTES;
    s->r.evictions++;
    return true;
}

static void block_put(struct sim *s, uint32_t b)
{
    struct policy_history done = {.stored = BLOCK_BYTES};
    bool known;

    if (!admit_put(s->admit, hash_of(b))) {
        s->r.refused++;
        return;
    }
    known = ghost_take(s->ghost, hash_of(b));
    done.ghost = known ? BLOCK_BYTES : 0;
    policy_history_add(&s->history, &done, &s->params);
    block_write(s, b, policy_place(known));
    s->r.puts++;
    while (s->used_blocks > s->o.capacity && evict_one(s))
        ;
    if (s->used_blocks > s->r.most)
        s->r.most = s->used_blocks;
}

static void request(struct sim *s, const uint32_t *ids, size_t n)
{
    struct policy_history done = {0};
    size_t run = 0, i;

    while (run < n && s->where[ids[run]] != NOWHERE)
        run++;
    s->r.hits += run;
    done.hit = run * BLOCK_BYTES;
    policy_history_add(&s->history, &done, &s->params);
    for (i = 0; i < n; i++) { /* a put of what is there is a use as well */
        if (s->where[ids[i]] == NOWHERE)
            continue;
        block_use(s, ids[i]);
    }
    for (i = 0; i < n; i++) {
        s->depth[ids[i]] = (uint32_t)i;
        if (s->where[ids[i]] == NOWHERE)
            block_put(s, ids[i]);
    }
}

static void sim_open(struct sim *s, const struct trace *t, const struct replay_options *o)
{
    uint64_t bytes = o->capacity * BLOCK_BYTES, entries = ghost_entries_for(bytes, BLOCK_BYTES);

    *s = (struct sim){.t = t, .o = *o, .open = {NOWHERE, NOWHERE}};
    s->size = o->capacity / o->segments ? o->capacity / o->segments : 1;
    s->step = bytes / USE_STEPS;
    policy_defaults(&s->params, bytes);
    if (ghost_create(entries, &s->ghost) || admit_create(o->admit, entries, &s->admit))
        replay_fail("out of memory");
    s->where = replay_alloc(t->blocks, sizeof *s->where);
    memset(s->where, 0xff, t->blocks * sizeof *s->where);
    s->mark = replay_alloc(t->blocks, sizeof *s->mark);
    s->used = replay_alloc(t->blocks, sizeof *s->used);
    s->depth = replay_alloc(t->blocks, sizeof *s->depth);
}

static void sim_close(struct sim *s)
{
    uint32_t i;

    for (i = 0; i < s->slots; i++)
        free(s->segs[i].blocks);
    free(s->segs);
    free(s->seen);
    free(s->slot_of);
    free(s->where);
    free(s->mark);
    free(s->used);
    free(s->depth);
    ghost_free(s->ghost);
    admit_free(s->admit);
}

void replay_store(const struct trace *t, const struct replay_options *o, struct replay_result *out)
{
    struct sim s;
    size_t r;

    sim_open(&s, t, o);
    for (r = 0; r < t->requests; r++)
        request(&s, t->ids + t->starts[r], t->starts[r + 1] - t->starts[r]);
    *out = s.r;
    sim_close(&s);
}
