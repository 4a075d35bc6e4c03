/*
 * slots.c - the writers' side of the slot tables: insertion, removal, growth. slots.h explains the
 * layout and order.h what readers rely on. Nothing here allocates or calls the system after
 * slots_open().
 */
#include "index/slots.h"

#include <errno.h>

#include "base/bits.h"
#include "index/reserve.h"

#define SLOTS_HUGE_FROM ((size_t)32 << 20)

_Static_assert(SLOTS_GROUP == SLOTS_LINE * SLOTS_LINES, "a group is its lines");
_Static_assert(SLOTS_GROUP * sizeof(slot) == 4096, "a group is a page");

/* The least number of groups in the row of growth that hold so many slots of one table. */
static uint32_t groups_for(uint64_t per_table)
{
    uint32_t groups = 1;

    while ((uint64_t)groups * SLOTS_FULL < per_table && groups < UINT32_MAX / 2)
        groups = slots_grown(groups);
    return groups;
}

int slots_open(struct slots *s, uint64_t count)
{
    uint32_t groups = groups_for(count / SLOTS_TABLES + count / 128 + SLOTS_FULL);
    unsigned t;

    s->max_groups = groups;
    s->bytes = (size_t)groups * SLOTS_TABLES * SLOTS_GROUP * sizeof(slot);
    s->base = reserve_open(s->bytes, SLOTS_HUGE_FROM);
    if (!s->base)
        return err_set(-ENOMEM, "index: no address space for %llu blocks",
                       (unsigned long long)count);
    for (t = 0; t < SLOTS_TABLES; t++) {
        struct slot_table *table = &s->table[t];

        (void)pthread_mutex_init(&table->lock, NULL);
        atomic_init(&table->version, 0);
        atomic_init(&table->map, (uint64_t)1 << 32 | 1);
        table->count = 0;
        table->pace = 0;
    }
    return 0;
}

void slots_size(struct slots *s, uint64_t count)
{
    uint64_t groups = min_u64(groups_for((count + SLOTS_TABLES - 1) / SLOTS_TABLES), s->max_groups);
    unsigned t;

    for (t = 0; t < SLOTS_TABLES; t++)
        order_publish(&s->table[t].map, groups << 32 | groups);
    if (slots_memory(s) > SLOTS_HUGE_FROM && !order_add(&s->settled, 1))
        reserve_huge((void *)s->base, SLOTS_HUGE_FROM);
}

void slots_settle(struct slots *s)
{
    if (slots_memory(s) > SLOTS_HUGE_FROM && !order_add(&s->settled, 1))
        reserve_settle((void *)s->base, SLOTS_HUGE_FROM);
}

void slots_close(struct slots *s)
{
    unsigned t;

    if (!s->base)
        return;
    for (t = 0; t < SLOTS_TABLES; t++)
        (void)pthread_mutex_destroy(&s->table[t].lock);
    reserve_close(s->base, s->bytes);
    s->base = NULL;
}

uint64_t slots_memory(const struct slots *s)
{
    uint64_t groups = 0, top;
    unsigned t;

    for (t = 0; t < SLOTS_TABLES; t++) {
        uint64_t map = order_read(&s->table[t].map);

        top = map >> 32;
        if ((uint32_t)map < top)
            top = slots_grown((uint32_t)top);
        groups = top > groups ? top : groups;
    }
    return reserve_touched(groups * SLOTS_TABLES * SLOTS_GROUP * sizeof(slot), SLOTS_HUGE_FROM);
}

void slots_raise(struct slots *s, unsigned t)
{
    order_publish(&s->table[t].version, order_peek(&s->table[t].version) + 1);
}

/* ---- Within a group ---- */

static unsigned home_of(uint64_t value)
{
    return (unsigned)(value >> SLOTS_POSITION) % SLOTS_LINES;
}

/* The first empty slot from the home line on; NULL: the group is full. */
static slot *group_room(slot *group, unsigned home)
{
    slot *line = group + (size_t)home * SLOTS_LINE;
    unsigned i;

    for (i = 0; i < SLOTS_LINES; i++) {
        unsigned empty = line_empty(line);

        if (empty)
            return line + __builtin_ctz(empty);
        line = line_after(line);
    }
    return NULL;
}

static bool line_full(const slot *line)
{
    return !line_empty(line);
}

/* A slot behind `line` that is there only because `line` is full; NULL: none. */
static slot *group_spilled(slot *group, unsigned line)
{
    unsigned d, i;

    for (d = 1; d < SLOTS_LINES; d++) {
        slot *other = group + (size_t)((line + d) % SLOTS_LINES) * SLOTS_LINE;

        for (i = 0; i < SLOTS_LINE; i++) {
            uint64_t v = order_peek(&other[i]);

            /* from its home to its place are more lines than from `line` to its place */
            if (v && (line + d + SLOTS_LINES - home_of(v)) % SLOTS_LINES >= d)
                return &other[i];
        }
        if (!line_full(other))
            break;
    }
    return NULL;
}

/* Empties a slot; what had spilled from its line comes back, so that no search ends too early. */
static void group_erase(struct slots *s, unsigned t, slot *group, slot *at)
{
    for (;;) {
        unsigned line = (unsigned)(at - group) / SLOTS_LINE;
        slot *spilled = NULL;

        if (line_full(group + (size_t)line * SLOTS_LINE))
            spilled = group_spilled(group, line);
        if (!spilled)
            break;
        order_publish(at, order_peek(spilled));
        slots_raise(s, t);
        at = spilled;
    }
    order_publish(at, 0);
}

void slots_erase(struct slots *s, unsigned t, slot *at)
{
    slot *group = s->base + (size_t)(at - s->base) / SLOTS_GROUP * SLOTS_GROUP;

    group_erase(s, t, group, at);
    s->table[t].count--;
}

/* ---- Growth ---- */

/* What is taken of a group that others move to: a byte for each line. */
struct group_use {
    uint8_t taken[SLOTS_LINES];
};

static void use_load(struct group_use *u, const slot *group)
{
    unsigned i;

    for (i = 0; i < SLOTS_LINES; i++)
        u->taken[i] = (uint8_t)~line_empty(group + (size_t)i * SLOTS_LINE);
}

/* A free place from the home line on; SLOTS_GROUP: none. */
static unsigned use_take(struct group_use *u, unsigned home)
{
    unsigned line, i, at;

    for (i = 0; i < SLOTS_LINES; i++) {
        line = (home + i) % SLOTS_LINES;
        if (__builtin_expect(u->taken[line] == 0xff, 0))
            continue;
        at = (unsigned)__builtin_ctz(~(unsigned)u->taken[line]);
        u->taken[line] = (uint8_t)(u->taken[line] | 1u << at);
        return line * SLOTS_LINE + at;
    }
    return SLOTS_GROUP;
}

static uint32_t group_of(uint64_t value, uint32_t groups)
{
    return (uint32_t)((value >> SLOTS_POSITION) * groups >> 32);
}

/* The slot of a group that holds exactly this value. */
static slot *group_find(slot *group, uint64_t value)
{
    unsigned i;

    for (i = 0; i < SLOTS_GROUP; i++) {
        if (order_peek(&group[i]) == value)
            return &group[i];
    }
    return NULL;
}

/* Takes back the copies of the first n slots. */
static void group_uncopy(struct slots *s, unsigned t, uint32_t from, uint32_t grown, unsigned n)
{
    slot *group = slots_group_at(s, t, from), *at;

    while (n--) {
        uint64_t v = order_peek(&group[n]);

        if (!v || group_of(v, grown) == from)
            continue;
        at = group_find(slots_group_at(s, t, group_of(v, grown)), v);
        if (at)
            group_erase(s, t, slots_group_at(s, t, group_of(v, grown)), at);
    }
}

/*
 * Copies what belongs elsewhere among `grown` groups: to at most GROUP_SPREAD groups, of which only
 * the last can hold anything yet (from the group that moved before), and only if one did. Groups
 * that hold nothing are not read: that would cost a page fault before the one of the write. False:
 * no room; then nothing was done.
 */
#define GROUP_SPREAD 3u
static bool group_copy(struct slots *s, unsigned t, uint32_t from, uint32_t groups, bool *stays)
{
    uint32_t grown = slots_grown(groups);
    uint32_t first = (uint32_t)((uint64_t)from * grown / groups);
    uint32_t last = (uint32_t)((((uint64_t)from + 1) * grown - 1) / groups);
    struct group_use use[GROUP_SPREAD];
    slot *group = slots_group_at(s, t, from);
    unsigned i, at;

    memset(use, 0, sizeof use);
    if (from + 1 < groups && last > from)
        use_load(&use[last - first], slots_group_at(s, t, last));
    *stays = first == from;
    for (i = 0; i < SLOTS_GROUP; i++) {
        uint64_t v = order_peek(&group[i]);
        uint32_t to = group_of(v, grown);

        if (!v || to == from)
            continue;
        at = use_take(&use[to - first], home_of(v));
        if (at == SLOTS_GROUP) {
            group_uncopy(s, t, from, grown, i);
            return false;
        }
        order_publish(slots_group_at(s, t, to) + at, v);
    }
    return true;
}

/* Takes out what group_copy() copied. */
static void group_leave(struct slots *s, unsigned t, uint32_t from, uint32_t grown, bool stays)
{
    slot *group = slots_group_at(s, t, from);
    bool again = stays;
    unsigned i;

    for (i = 0; !stays && i < SLOTS_GROUP; i++)
        order_publish(&group[i], 0);
    /* Where some stay, an erased slot may be filled by another that has to leave. */
    while (again) {
        again = false;
        for (i = 0; i < SLOTS_GROUP; i++) {
            uint64_t v = order_peek(&group[i]);

            if (v && group_of(v, grown) != from) {
                group_erase(s, t, group, &group[i]);
                again = true;
            }
        }
    }
}

/* Moves the group below the frontier. False: the table cannot grow (any more). */
static bool table_step(struct slots *s, unsigned t)
{
    struct slot_table *table = &s->table[t];
    uint64_t map = order_peek(&table->map);
    uint32_t groups = (uint32_t)(map >> 32), frontier = (uint32_t)map;
    uint32_t grown = slots_grown(groups);
    bool stays;

    if (grown > s->max_groups || !group_copy(s, t, frontier - 1, groups, &stays))
        return false;
    frontier--;
    order_publish(&table->map, (uint64_t)groups << 32 | frontier);
    slots_raise(s, t);
    group_leave(s, t, frontier, grown, stays);
    if (!frontier)
        order_publish(&table->map, (uint64_t)grown << 32 | grown);
    return true;
}

void slots_tick(struct slots *s, unsigned t)
{
    struct slot_table *table = &s->table[t];
    uint64_t map = order_peek(&table->map);
    uint64_t groups = map >> 32;

    if ((uint32_t)map == groups && table->count < groups * SLOTS_FULL)
        return;
    if (table->pace++ % SLOTS_PACE == 0)
        (void)table_step(s, t);
}

bool slots_insert(struct slots *s, unsigned t, slot *room, uint64_t value)
{
    struct slot_table *table = &s->table[t];

    /*
     * Practically never: a full group has a third more than the mean at which growth begins. Growth
     * does not help where hashes are equal.
     */
    while (!room) {
        uint64_t groups = order_peek(&table->map) >> 32;

        if (table->count < groups * SLOTS_FULL / 2 || !table_step(s, t))
            return false;
        room = group_room(
            slots_group_at(s, t, slots_group(order_peek(&table->map), value >> SLOTS_POSITION)),
            home_of(value));
    }
    order_publish(room, value);
    table->count++;
    return true;
}
