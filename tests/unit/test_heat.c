/*
 * test_heat.c - what eviction knows: the clock of bytes, the sums of a segment, the ghost list; and
 * that a store makes use of it.
 */
#include "engine/capacity.h"
#include "engine/writer_internal.h"
#include "evict_fixture.h"

enum { QUIET_MS = 2000 };

/* ---- Sums ---- */

static void the_clock_moves_in_steps(void **state)
{
    struct heat h = {0};

    (void)state;
    heat_open(&h);
    heat_written(&h, 1ull << 40); /* no step is known yet */
    assert_int_equal(atomic_load(&h.steps), 0);
    atomic_store(&h.pending, 0);
    atomic_store(&h.step, 100);
    heat_written(&h, 99);
    assert_int_equal(atomic_load(&h.steps), 0);
    heat_written(&h, 1);
    assert_int_equal(atomic_load(&h.steps), 1);
    heat_written(&h, 1250);
    assert_int_equal(atomic_load(&h.steps), 13);
    assert_int_equal(atomic_load(&h.pending), 50);
    assert_int_equal(atomic_load(&h.written), (1ull << 40) + 1350);
    heat_close(&h);
}

static void stamps_tell_ages(void **state)
{
    struct heat h = {0};

    (void)state;
    heat_open(&h);
    atomic_store(&h.step, 100);
    assert_int_equal(heat_age(&h, 1), 0);
    heat_written(&h, 500);
    assert_int_equal(heat_age(&h, 1), 500);
    assert_int_equal(heat_age(&h, 4), 200);
    assert_int_equal(heat_age(&h, 6), 0);
    heat_written(&h, 25400); /* stamps come round after 255 steps */
    assert_int_equal(heat_age(&h, 255), 500);
}

static struct policy_segment described(const struct heat *h, struct segment *s, uint64_t age)
{
    struct policy_segment p = {
        .age = age, .idle = POLICY_UNKNOWN, .bytes = 4000, .live_bytes = 4000, .blocks = 7};

    heat_describe(h, s, &p);
    return p;
}

static void idle_is_the_mean_over_blocks(void **state)
{
    struct heat h = {0};
    struct segment s = {.own = true};
    struct policy_segment p;

    (void)state;
    heat_open(&h);
    atomic_store(&h.step, 100);
    p = described(&h, &s, 3000);
    assert_true(p.idle == POLICY_UNKNOWN); /* nothing is known of its blocks */
    assert_int_equal(p.blocks, 7);
    atomic_store(&h.steps, 30);
    atomic_store(&s.blocks, 4);
    atomic_store(&s.extents, 4000);
    atomic_store(&s.births, 4 * 10); /* all written at step 10 */
    atomic_store(&s.depths, 0 + 1 + 2 + 9);
    p = described(&h, &s, 500);
    assert_int_equal(p.idle, 2000);
    assert_int_equal(p.depth, 3);
    assert_int_equal(p.blocks, 4);
    assert_int_equal(p.live_bytes, 4000);
    assert_int_equal(p.touch_age, 0);
    atomic_store(&s.used, 2); /* two of them at steps 20 and 30 */
    atomic_store(&s.uses, 50);
    p = described(&h, &s, 500);
    assert_int_equal(p.idle, (2 * 2000 + 1000 + 0) / 4);
    assert_int_equal(p.touch_age, 500);
    heat_lost(&s, 3);
    p = described(&h, &s, 500);
    assert_int_equal(p.live_bytes, 1000);
    assert_int_equal(p.blocks, 1);
    s.own = false; /* of others only the age of the segment is known */
    atomic_store(&s.used, 0);
    atomic_store(&s.uses, 0);
    p = described(&h, &s, 700);
    assert_int_equal(p.idle, 700);
}

/* ---- A store ---- */

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, QUIET_MS);
    return 0;
}

/* Blocks that are read all the time stay, though far more than the capacity goes by; those of the
 * same age that nobody reads go. */
static void what_is_read_stays(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        if (i >= 64)
            (void)get_hits(f, 32, 48);
    }
    assert_true(metric_of(f->c, "evicted_segments") > 20);
    assert_int_equal(get_hits(f, 32, 48), 16);
    assert_int_equal(get_hits(f, 64, 80), 0);
}

static void sums_follow_a_store(void **state)
{
    struct fixture *f = *state;
    struct index_place place;
    const struct segment *s;
    uint32_t i;

    f->s.o.capacity_bytes = 64 * SEGMENT;
    open_store(f);
    for (i = 0; i < 32; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(atomic_load(&f->c->capacity->heat.step) == 4 * SEGMENT);
    assert_true(index_find(f->c->index, &f->keys[0], &place));
    s = &f->c->segs.at[place.segment];
    assert_int_equal(atomic_load(&s->blocks), 16);
    assert_int_equal(atomic_load(&s->used), 0);
    (void)get_one(f, 0);
    (void)get_one(f, 0);
    (void)get_one(f, 1);
    assert_int_equal(cistern_touch(f->c, &f->keys[2], 1), 0);
    assert_int_equal(atomic_load(&s->used), 3);
    put_once(f, 0, BATCH); /* three of them for the second time, one for the first */
    assert_int_equal(atomic_load(&s->used), 4);
    assert_int_equal(cistern_delete(f->c, &f->keys[5], 1), 1);
    assert_int_equal(atomic_load(&s->lost), 1);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f); /* what lies on disk is known again, uses are not */
    assert_true(index_find(f->c->index, &f->keys[0], &place));
    s = &f->c->segs.at[place.segment];
    assert_false(s->own);
    assert_int_equal(atomic_load(&s->blocks), 16);
    assert_int_equal(atomic_load(&s->lost), 1);
    assert_int_equal(atomic_load(&s->used), 0);
}

static bool lies_in_old(struct fixture *f, uint32_t number)
{
    struct index_place place;

    return index_find(f->c->index, &f->keys[number], &place) &&
           f->c->segs.at[place.segment].writer == writer_id(f->c, POLICY_OLD);
}

static void what_comes_back_is_known(void **state)
{
    struct fixture *f = *state;
    uint32_t i, old = 0;

    f->s.o.carry_over = -1; /* nothing else goes to the old segments */
    open_store(f);
    for (i = 0; i < 512; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(metric_of(f->c, "put_returned_bytes"), 0);
    assert_false(get_one(f, 0));
    for (i = 0; i < 128; i += BATCH) {
        put_all(f, i, BATCH);
        old += lies_in_old(f, i);
    }
    assert_int_equal(metric_of(f->c, "put_returned_bytes"), 128 * STORE_BLOCK);
    assert_true(old > 0); /* the first ones did not wait for a segment */
    assert_int_equal(get_hits(f, 96, 128), 32);
    WAIT_FOR(f->c->capacity->history.ghost > 0);
}

/* Without a capacity nothing is evicted, and nothing is remembered. */
static void no_list_without_a_bound(void **state)
{
    struct fixture *f = *state;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    put_all(f, 0, BATCH);
    assert_null(atomic_load(&f->c->capacity->heat.ghost));
    assert_int_equal(cistern_set_capacity(f->c, 16 * SEGMENT), 0);
    WAIT_FOR(atomic_load(&f->c->capacity->heat.ghost));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clock_moves_in_steps),
        cmocka_unit_test(stamps_tell_ages),
        cmocka_unit_test(idle_is_the_mean_over_blocks),
        TEST(what_is_read_stays),
        TEST(sums_follow_a_store),
        TEST(what_comes_back_is_known),
        TEST(no_list_without_a_bound),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
