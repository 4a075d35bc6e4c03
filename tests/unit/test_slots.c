/*
 * test_slots.c - what readers of the slot tables rely on, step by step in one thread: a reader that
 * began before a change and looks after it finds its slot, or sees another version.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "index/index_internal.h"
#include "index_fixture.h"

#define KEPT   200u
#define OTHERS 60000u /* so many that groups leave their place as a whole, too */

/* A reader that has come as far as the line where its slot is. */
struct reader {
    uint64_t hash, version;
    slot *line;
};

static uint64_t value_of(uint64_t hash)
{
    return hash >> INDEX_PAYLOAD << INDEX_PAYLOAD | 7;
}

static struct reader reader_begin(const struct slots *s, uint64_t hash)
{
    unsigned t = slots_table(hash);
    struct reader r = {.hash = hash, .version = order_read(&s->table[t].version)};
    struct slot_probe p;

    p = slots_probe(slots_home(s, t, hash), hash, INDEX_PAYLOAD);
    assert_true(slots_next(&p, INDEX_PAYLOAD) != 0);
    r.line = p.line;
    return r;
}

/* True: it misses what is there, and so has to look again. */
static bool reader_misses(const struct slots *s, const struct reader *r)
{
    struct slot_probe p = slots_probe(r->line, r->hash, INDEX_PAYLOAD);

    if (slots_next(&p, INDEX_PAYLOAD))
        return false;
    assert_true(order_read(&s->table[slots_table(r->hash)].version) != r->version);
    return true;
}

static void insert(struct slots *s, uint64_t hash)
{
    unsigned t = slots_table(hash);
    struct slot_probe p;

    slots_tick(s, t);
    p = slots_probe(slots_home(s, t, hash), hash, INDEX_PAYLOAD);
    assert_int_equal(slots_next(&p, INDEX_PAYLOAD), 0);
    assert_true(slots_insert(s, t, p.at, value_of(hash)));
}

static void erase(struct slots *s, uint64_t hash)
{
    unsigned t = slots_table(hash);
    struct slot_probe p = slots_probe(slots_home(s, t, hash), hash, INDEX_PAYLOAD);

    assert_true(slots_next(&p, INDEX_PAYLOAD) != 0);
    slots_erase(s, t, p.at);
}

static struct slots *slots_new(void)
{
    struct slots *s = aligned_alloc(64, sizeof *s);

    assert_non_null(s);
    memset(s, 0, sizeof *s);
    assert_int_equal(slots_open(s, 1000000), 0);
    return s;
}

/*
 * Starts all readers, does one thing, lets them all look, and new ones too. Returns how many had to
 * look again.
 */
static uint64_t step(struct slots *s, struct reader *readers, const uint64_t *kept, uint64_t hash,
                     void (*change)(struct slots *s, uint64_t hash))
{
    uint64_t again = 0;
    unsigned k;

    for (k = 0; k < KEPT; k++)
        readers[k] = reader_begin(s, kept[k]);
    change(s, hash);
    for (k = 0; k < KEPT; k++) {
        again += reader_misses(s, &readers[k]);
        (void)reader_begin(s, kept[k]);
    }
    return again;
}

static void test_readers_survive_growth(void **state)
{
    struct reader *readers = calloc(KEPT, sizeof *readers);
    uint64_t kept[KEPT], seed = 1, i, again = 0;
    struct slots *s = slots_new();

    (void)state;
    assert_non_null(readers);
    for (i = 0; i < KEPT; i++)
        insert(s, kept[i] = random_next(&seed));
    for (i = 0; i < OTHERS; i++)
        again += step(s, readers, kept, scramble(i + 1), insert);
    assert_true(again > KEPT); /* every kept slot moved several times */
    slots_close(s);
    free(s);
    free(readers);
}

/* Those that were inserted last spilled most; they come back as others go. */
static void test_readers_survive_removal(void **state)
{
    struct reader *readers = calloc(KEPT, sizeof *readers);
    uint64_t kept[KEPT], seed = 1, i, again = 0;
    struct slots *s = slots_new();

    (void)state;
    assert_non_null(readers);
    for (i = 0; i < OTHERS; i++)
        insert(s, scramble(i + 1));
    for (i = 0; i < KEPT; i++)
        insert(s, kept[i] = random_next(&seed));
    for (i = 0; i < OTHERS; i++)
        again += step(s, readers, kept, scramble(i + 1), erase);
    assert_true(again > 10);
    slots_close(s);
    free(s);
    free(readers);
}

/* A group filled to the last slot, emptied in another order. */
static void test_a_full_group_loses_nothing(void **state)
{
    struct reader *readers = calloc(KEPT, sizeof *readers);
    uint64_t kept[KEPT], all[SLOTS_GROUP], seed = 2, i, again = 0;
    struct slots *s = slots_new();

    (void)state;
    assert_non_null(readers);
    /* table 3, position near 0: never moved by growth before they are many */
    for (i = 0; i < SLOTS_GROUP; i++)
        all[i] = (random_next(&seed) % 64 + 64 * i) << 32 | 3;
    for (i = 0; i < SLOTS_GROUP; i++)
        insert(s, all[i]);
    for (i = 0; i < KEPT; i++)
        kept[i] = all[SLOTS_GROUP - KEPT + i];
    for (i = 0; i < SLOTS_GROUP - KEPT; i++)
        again += step(s, readers, kept, all[i], erase);
    for (i = 0; i < KEPT; i++) {
        (void)reader_begin(s, kept[i]);
        erase(s, kept[i]);
    }
    assert_true(again > 0);
    for (i = 0; i < SLOTS_GROUP * SLOTS_TABLES; i++)
        assert_int_equal(order_peek(&s->base[i]), 0);
    slots_close(s);
    free(s);
    free(readers);
}

/* Whoever holds the number of an entry learns that the entry may be reused. */
static void test_removal_shows_in_the_version(void **state)
{
    cistern_key key = key_number(1);
    uint64_t before, hash = slots_hash(key.b, 0);
    struct index *ix;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(100, &ix), 0);
    for (i = 0; i < 3; i++) {
        struct block_info b = block_of(&key, i, 0, 1);

        assert_int_equal(index_insert(ix, i, &b), 0);
    }
    for (i = 0; i < 3; i++) { /* from below, from the top, the last one */
        uint32_t segment = i == 0 ? 1 : i == 1 ? 2 : 0;

        before = order_read(&ix->slots.table[slots_table(hash)].version);
        assert_true(index_remove_copy(ix, &key, segment, 0));
        assert_true(order_read(&ix->slots.table[slots_table(hash)].version) != before);
    }
    index_close(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_survive_growth),
        cmocka_unit_test(test_readers_survive_removal),
        cmocka_unit_test(test_a_full_group_loses_nothing),
        cmocka_unit_test(test_removal_shows_in_the_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
