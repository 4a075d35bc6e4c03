/*
 * match.c - the longest leading run of a chain. Memory only, no lock, no system call.
 *
 * Two cache misses a key, the slot line and the entry, and one more for presence, would cost 150 ns
 * or more each when taken one after another. So keys go in groups through four stages: their slot
 * lines are fetched; these are read, and the entries are fetched; what was not in its home line is
 * looked for in the next ones; the entries are read. Each stage is a short loop over a group: a
 * fetch that has to wait for a page walk holds up all that follows it in the CPU's window, so that
 * what follows had better be the next fetches. State of the groups on their way is a ring on the
 * stack.
 */
#include "index/index_internal.h"
#include "index/presence.h"

#define GROUP 16u
#define RING  (4 * GROUP) /* one group at each stage */

/* One key on its way. */
struct flight {
    uint64_t hash, version;
    slot *home;
    uint32_t number; /* entry that its slot named; 0 = none */
    bool others;     /* all other shards have all parts, for certain */
};

struct match {
    const struct index *ix;
    const struct presence *others; /* NULL: alone */
    const struct match_rules *rules;
    const cistern_key *keys;
    struct flight ring[RING];
    uint32_t streak[CISTERN_MAX_PARTS]; /* blocks in a row, up to here, that have a trailing part */
};

/* Stage 1: fetch the slot lines. */
static void group_fetch(struct match *m, size_t from, size_t to)
{
    unsigned parts, t;
    size_t i;

    for (i = from; i < to; i++) {
        struct flight *f = &m->ring[i % RING];

        f->hash = slots_hash(m->keys[i].b, 0);
        t = slots_table(f->hash);
        f->version = order_read(&m->ix->slots.table[t].version);
        f->home = slots_home(&m->ix->slots, t, f->hash);
        __builtin_prefetch((const void *)f->home);
    }
    if (!m->others)
        return;
    for (i = from; m->rules->all && i < to; i++)
        presence_prefetch(m->others, m->ring[i % RING].hash);
    for (parts = m->rules->last | m->rules->trailing; parts; parts &= parts - 1) {
        for (i = from; i < to; i++)
            presence_prefetch(m->others,
                              slots_hash(m->keys[i].b, 1 + (uint64_t)__builtin_ctz(parts)));
    }
}

static void key_found(const struct index *ix, struct flight *f, uint64_t value)
{
    f->number = word_low(value);
    __builtin_prefetch(entry_at(ix, f->number));
}

/* Stage 2: read the home lines, fetch the entries, or the next lines where they are not there. */
static void group_look(struct match *m, size_t from, size_t to)
{
    size_t i;

    for (i = from; i < to; i++) {
        struct flight *f = &m->ring[i % RING];
        unsigned equal = line_equal(f->home, f->hash >> INDEX_PAYLOAD, INDEX_PAYLOAD);

        f->number = 0;
        if (equal)
            key_found(m->ix, f, order_read(f->home + __builtin_ctz(equal)));
        else
            __builtin_prefetch((const void *)line_after(f->home));
    }
    for (i = from; i < to; i++) {
        struct flight *f = &m->ring[i % RING];

        f->others =
            !m->others || !m->rules->all || presence_glance(m->others, m->rules->own, f->hash);
    }
}

/* Stage 3: the lines behind the home line. */
static void group_look_on(struct match *m, size_t from, size_t to)
{
    struct slot_probe p;
    uint64_t v;
    size_t i;

    for (i = from; i < to; i++) {
        struct flight *f = &m->ring[i % RING];

        if (f->number)
            continue;
        p = slots_probe(f->home, f->hash, INDEX_PAYLOAD);
        v = slots_next(&p, INDEX_PAYLOAD);
        if (v)
            key_found(m->ix, f, v);
    }
}

/* Stage 4: the mask of our own parts, if nothing moved since stage 1; else once more in full. */
static uint16_t key_mask(const struct match *m, size_t i)
{
    const struct flight *f = &m->ring[i % RING];

    if (f->number) {
        const struct entry *e = entry_at(m->ix, f->number);
        bool same = entry_has_key(e, m->keys[i].b);
        uint16_t mask = word_mask(order_read(&e->word[WORD_KIND]));

        if (same && order_read(&m->ix->slots.table[slots_table(f->hash)].version) == f->version)
            return mask;
    }
    return index_mask(m->ix, &m->keys[i]);
}

/* We have the part and so have all others. */
static bool part_everywhere(const struct match *m, size_t i, uint16_t mask, unsigned part)
{
    if (!(mask >> part & 1))
        return false;
    return !m->others ||
           presence_others(m->others, m->rules->own, slots_hash(m->keys[i].b, 1 + part));
}

static bool block_has_all(const struct match *m, size_t i, uint16_t mask)
{
    const struct match_rules *rules = m->rules;

    if ((mask & rules->all) != rules->all)
        return false;
    return m->ring[i % RING].others ||
           presence_others(m->others, rules->own, m->ring[i % RING].hash);
}

/* Counts block i in the streaks; true: a run that ends with it satisfies last and trailing. */
static bool run_may_end(struct match *m, size_t i, uint16_t mask)
{
    const struct match_rules *rules = m->rules;
    bool may = true;
    unsigned parts, part;

    for (parts = rules->trailing; parts; parts &= parts - 1) {
        size_t need;

        part = (unsigned)__builtin_ctz(parts);
        m->streak[part] = part_everywhere(m, i, mask, part) ? m->streak[part] + 1 : 0;
        need = rules->window[part] < i + 1 ? rules->window[part] : i + 1;
        may &= m->streak[part] >= need;
    }
    for (parts = rules->last; may && parts; parts &= parts - 1)
        may = part_everywhere(m, i, mask, (unsigned)__builtin_ctz(parts));
    return may;
}

static size_t lesser(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Stages 1 to 3, each with its group: the one from i, and those that are ahead of it. */
static void group_stages(struct match *m, size_t n, size_t i)
{
    if (i < n)
        group_fetch(m, i, lesser(i + GROUP, n));
    if (i >= GROUP && i - GROUP < n)
        group_look(m, i - GROUP, lesser(i, n));
    if (i >= 2 * GROUP && i - 2 * GROUP < n)
        group_look_on(m, i - 2 * GROUP, lesser(i - GROUP, n));
}

void index_match(const struct index *ix, const struct presence *others,
                 const struct match_rules *rules, const cistern_key *keys, size_t n,
                 struct match_answer *out)
{
    struct match m = {
        .ix = ix, .others = rules->shards > 1 ? others : NULL, .rules = rules, .keys = keys};
    struct match_answer answer = {0, 0};
    bool running = true, having = true;
    size_t i, at;

    /* The group that begins at i is three stages ahead of the one that is finished. */
    for (i = 0; i < n + 3 * GROUP && (running || having); i += GROUP) {
        group_stages(&m, n, i);
        for (at = i - 3 * GROUP; i >= 3 * GROUP && at < n && at < i - 2 * GROUP; at++) {
            uint16_t mask = key_mask(&m, at);

            having = having && mask;
            if (having)
                answer.have = (uint32_t)at + 1;
            running = running && block_has_all(&m, at, mask);
            if (running && run_may_end(&m, at, mask))
                answer.blocks = (uint32_t)at + 1;
            if (!running && !having)
                break;
        }
    }
    *out = answer;
}
