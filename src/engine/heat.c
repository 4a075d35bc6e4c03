/* heat.c - see heat.h. */
#include "engine/heat.h"

#include <string.h>

#include "base/bits.h"
#include "base/le.h"
#include "engine/capacity.h"

#define AGE_STEPS 16u /* of the capacity */
#define STAMPS    255u

static uint64_t peek(const _Atomic uint64_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

static void add(_Atomic uint64_t *v, uint64_t n)
{
    (void)atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

/* ---- The clock ---- */

void heat_open(struct heat *h)
{
    atomic_store(&h->step, UINT64_MAX); /* not known before the first look */
}

void heat_close(struct heat *h)
{
    ghost_free(atomic_load(&h->ghost));
    atomic_store(&h->ghost, NULL);
}

void heat_look(cistern *c, uint64_t capacity, bool bounded)
{
    struct heat *h = &c->capacity->heat;
    struct ghost *ghost = NULL;

    if (capacity)
        atomic_store_explicit(&h->step, max_u64(1, capacity / AGE_STEPS), memory_order_relaxed);
    if (!bounded || h->ghost_failed || atomic_load(&h->ghost))
        return;
    if (ghost_create(ghost_entries_for(capacity, c->cfg.block_extent * c->cfg.shards), &ghost)) {
        log_line(&c->cfg.log, LOG_WARN, "no memory to remember which blocks were evicted");
        h->ghost_failed = true;
        return;
    }
    atomic_store(&h->ghost, ghost);
}

void heat_written(struct heat *h, uint64_t bytes)
{
    uint64_t step = peek(&h->step), pending;

    add(&h->written, bytes);
    pending = atomic_fetch_add_explicit(&h->pending, bytes, memory_order_relaxed) + bytes;
    while (pending >= step) {
        if (!atomic_compare_exchange_weak_explicit(&h->pending, &pending, pending % step,
                                                   memory_order_relaxed, memory_order_relaxed))
            continue;
        add(&h->steps, pending / step);
        break;
    }
}

static uint8_t stamp_of(uint64_t steps)
{
    return (uint8_t)(steps % STAMPS + 1);
}

static uint32_t steps_since(uint64_t steps, uint8_t stamp)
{
    return (stamp_of(steps) + STAMPS - stamp) % STAMPS;
}

uint64_t heat_age(const struct heat *h, uint8_t stamp)
{
    return stamp ? steps_since(peek(&h->steps), stamp) * peek(&h->step) : 0;
}

/* ---- Segments ---- */

void heat_stored(cistern *c, struct segment *s, const struct block_info *b)
{
    struct heat *h = &c->capacity->heat;

    heat_written(h, block_extent(b));
    add(&s->births, peek(&h->steps));
    heat_taken(s, b);
}

void heat_taken(struct segment *s, const struct block_info *b)
{
    add(&s->depths, b->depth);
    add(&s->extents, block_extent(b));
    add(&s->blocks, 1);
}

void heat_lost(struct segment *s, uint32_t copies)
{
    add(&s->lost, copies);
}

void heat_used(cistern *c, const cistern_key *key)
{
    struct heat *h;
    struct segment *s;
    uint32_t number;
    uint64_t steps;
    uint8_t stamp, was;

    if (!c->capacity)
        return;
    h = &c->capacity->heat;
    steps = peek(&h->steps);
    stamp = stamp_of(steps);
    was = index_use(c->index, key, stamp, &number);
    if (was == stamp)
        return;
    s = &c->segs.at[number];
    if (!was)
        add(&s->used, 1);
    add(&s->uses, was ? steps_since(steps, was) : steps);
}

void heat_describe(const struct heat *h, const struct segment *s, struct policy_segment *p)
{
    uint64_t blocks = peek(&s->blocks), lost = min_u64(peek(&s->lost), blocks);
    uint64_t used = min_u64(peek(&s->used), blocks), steps = peek(&h->steps);
    double step = (double)peek(&h->step), unused = (double)p->age, last = 0, idle;

    if (!blocks)
        return;
    if (s->own) /* when its blocks were written, on the mean */
        unused = ((double)steps - (double)peek(&s->births) / (double)blocks) * step;
    if (used)
        last = ((double)steps - (double)peek(&s->uses) / (double)used) * step;
    idle = (used * (last < unused ? last : unused) + (double)(blocks - used) * unused) /
           (double)blocks;
    p->blocks = (uint32_t)min_u64(blocks - lost, UINT32_MAX);
    p->depth = (uint32_t)min_u64(peek(&s->depths) / blocks, UINT32_MAX);
    p->live_bytes = min_u64(p->live_bytes, (uint64_t)((double)peek(&s->extents) *
                                                      (double)(blocks - lost) / (double)blocks));
    p->touch_age = used ? (uint64_t)(last > 1 ? last : 1) : 0;
    p->idle = (uint64_t)(idle > 0 ? idle : 0);
}

/* ---- Ghosts ---- */

/* SHA-256: any 64 bits of it will do. */
static uint64_t hash_of(const uint8_t key[32])
{
    return le64_load(key);
}

static struct ghost *ghosts(cistern *c)
{
    return c->capacity ? atomic_load_explicit(&c->capacity->heat.ghost, memory_order_acquire)
                       : NULL;
}

bool heat_ghost_seen(cistern *c, const uint8_t key[32])
{
    struct ghost *g = ghosts(c);

    return g && ghost_seen(g, hash_of(key));
}

bool heat_ghost_take(cistern *c, const uint8_t key[32])
{
    struct ghost *g = ghosts(c);

    return g && ghost_take(g, hash_of(key));
}

static int note(void *arg, const struct index_place *p, bool others)
{
    if (!others)
        ghost_note(arg, hash_of(p->info.key));
    return 0;
}

void heat_forget(cistern *c, uint32_t number)
{
    struct ghost *g = ghosts(c);

    if (g && index_walk_segment(c->index, number, note, g))
        return; /* note() never says so */
}
