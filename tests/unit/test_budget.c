/*
 * test_budget.c - write budget and bandwidth through a handle. Rates are so low that nothing comes
 * back while a test runs, or so high that nothing is ever lacking: the time that passes decides
 * nothing.
 */
#include <errno.h>

#include "evict_fixture.h"

#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/engine.h"

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, 60000);
    return 0;
}

/* As if just so many bytes had been saved up since the open, of a budget of 16 blocks a day: at
 * its rate a KiB takes 112.5 seconds. */
static void save_up(struct fixture *f, uint64_t bytes)
{
    atomic_store(&f->c->budget.day.spent_ns,
                 budget_clock_ns() - (bytes >> 10) * (NS_PER_S * 225 / 2));
}

static void expect(struct fixture *f, uint32_t from, uint32_t n, const uint8_t *results)
{
    uint32_t i;

    put_once(f, from, n);
    for (i = 0; i < n; i++)
        assert_int_equal(f->results[i], results[i]);
}

static void puts_beyond_the_budget_are_dropped(void **state)
{
    static const uint8_t stored[] = {CISTERN_STORED, CISTERN_STORED, CISTERN_STORED},
                         cut[] = {CISTERN_STORED, CISTERN_DROPPED, CISTERN_DROPPED},
                         none[] = {CISTERN_DROPPED, CISTERN_DROPPED},
                         there[] = {CISTERN_PRESENT, CISTERN_PRESENT};
    struct fixture *f = *state;

    f->s.o.write_budget_bytes_per_day = 16 * STORE_BLOCK;
    open_store(f);
    expect(f, 0, 2, none); /* nothing is saved up at the open */
    assert_int_equal(metric_of(f->c, "put_dropped_budget_blocks"), 2);
    save_up(f, 4 * STORE_BLOCK);
    assert_int_equal(metric_of(f->c, "write_budget_left_bytes"), 4 * STORE_BLOCK);
    expect(f, 0, 3, stored);
    expect(f, 4, 3, cut);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.run, 1);
    assert_int_equal(f->ev.misses, 2);
    expect(f, 0, 2, there); /* what is there costs nothing */
    expect(f, 8, 2, none);
    assert_int_equal(metric_of(f->c, "put_dropped_budget_blocks"), 6);
    assert_int_equal(metric_of(f->c, "put_dropped_blocks"), 6);
    assert_int_equal(get_hits(f, 0, 10), 4);
    assert_int_equal(metric_of(f->c, "write_slots_free") + 2, metric_of(f->c, "write_slots"));
}

/* A block behind one that was dropped is of no use: it is not stored, though it would fit. */
static void children_of_the_dropped_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct cistern_vec small = {f->buf[1], 4096};

    f->s.o.write_budget_bytes_per_day = 16 * STORE_BLOCK;
    open_store(f);
    save_up(f, STORE_BLOCK / 2);
    f->spans[1].vecs = &small;
    put_once(f, 0, 2);
    assert_int_equal(f->results[0], CISTERN_DROPPED);
    assert_int_equal(f->results[1], CISTERN_DROPPED);
    f->spans[0].vecs = &small; /* at the head of a put it is stored */
    put_once(f, 2, 1);
    assert_int_equal(f->results[0], CISTERN_STORED);
}

static void a_large_budget_drops_nothing(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.write_budget_bytes_per_day = 1ull << 62;
    f->s.o.write_bandwidth = 1ull << 50;
    f->s.o.read_bandwidth = 1ull << 50;
    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(get_hits(f, 0, 64), 64);
    assert_int_equal(metric_of(f->c, "put_dropped_budget_blocks"), 0);
}

/* More than the root holds, with one block of every fourth segment read now and then: what is worth
 * carrying over. */
static void work(struct fixture *f)
{
    uint32_t i, b;

    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        for (b = 3; i % 64 == 0 && b < 256; b += 64)
            (void)get_one(f, b);
    }
}

/* Each put is given just what it needs. What carrying over takes of that, it lacks. */
static void carrying_over_counts(void **state)
{
    struct fixture *f = *state;
    uint64_t given = 0, end = now_ms() + 3 * SOON_MS;
    uint32_t i, b, stored = 0;

    f->s.o.write_budget_bytes_per_day = 16 * STORE_BLOCK;
    open_store(f);
    for (i = 0; i < MANY && now_ms() < end; i += stored == BATCH ? BATCH : 0) {
        save_up(f, BATCH * STORE_BLOCK);
        given += BATCH * STORE_BLOCK;
        put_once(f, i, BATCH);
        stored = f->ev.hits;
        for (b = 3; i % 64 == 0 && b < 256; b += 64)
            (void)get_one(f, b);
    }
    assert_int_equal(i, MANY);
    assert_true(metric_of(f->c, "evicted_segments") > 20);
    /* Whether the next put comes before or behind what is carried is up to the scheduler. */
    assert_true(metric_of(f->c, "carry_dropped_budget_blocks") + metric_of(f->c, "carried_blocks") >
                0);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    assert_true(metric_of(f->c, "put_bytes") + metric_of(f->c, "carried_bytes") <= given);
}

static void carrying_over_keeps_its_pace(void **state)
{
    struct fixture *f = *state;

    f->s.o.read_bandwidth = 1; /* one unit, then none for a day */
    open_store(f);
    work(f);
    assert_true(metric_of(f->c, "evicted_segments") > 20);
    assert_in_range(metric_of(f->c, "carried_blocks"), 1, 16);
    assert_false(pace_reads(f->c));
    assert_true(get_one(f, MANY - 1)); /* gets do not wait for it */
}

/* The first group goes; what comes behind it waits where it is, and is dropped at its deadline. */
static void a_put_waits_with_its_caller(void **state)
{
    struct fixture *f = *state;
    uint64_t slots;

    f->s.o.write_bandwidth = 1;
    f->s.o.put_timeout_ms = 300;
    open_store(f);
    slots = metric_of(f->c, "write_slots_free");
    put_all(f, 0, 1);
    put_once(f, 4, 4);
    assert_int_equal(f->ev.status, -ETIMEDOUT);
    assert_int_equal(f->ev.misses, 4);
    assert_int_equal(f->ev.errors, 0);
    assert_int_equal(f->results[0], CISTERN_DROPPED);
    assert_int_equal(metric_of(f->c, "put_timeouts"), 1);
    assert_int_equal(metric_of(f->c, "write_bandwidth_waits"), 1);
    assert_int_equal(metric_of(f->c, "write_slots_free"), slots);
    assert_true(get_one(f, 0));
}

static void numbers_are_checked(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cistern_options_set(&f->s.o, "write_budget_bytes_per_day", "2G"), 0);
    assert_int_equal(cistern_options_set(&f->s.o, "--write-bandwidth", "1M"), 0);
    assert_int_equal(cistern_options_set(&f->s.o, "READ_BANDWIDTH", "512K"), 0);
    assert_int_equal(f->s.o.write_budget_bytes_per_day, 2ull << 30);
    assert_int_equal(f->s.o.write_bandwidth, 1u << 20);
    assert_int_equal(f->s.o.read_bandwidth, 512u << 10);
    f->s.o.write_budget_bytes_per_day = 4 * STORE_BLOCK - 1;
    assert_int_equal(cistern_open(&f->s.o, &f->c), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "write_budget_bytes_per_day"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(puts_beyond_the_budget_are_dropped, setup, fixture_end),
        cmocka_unit_test_setup_teardown(children_of_the_dropped_are_dropped, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_large_budget_drops_nothing, setup, fixture_end),
        cmocka_unit_test_setup_teardown(carrying_over_counts, setup, fixture_end),
        cmocka_unit_test_setup_teardown(carrying_over_keeps_its_pace, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_put_waits_with_its_caller, setup, fixture_end),
        cmocka_unit_test_setup_teardown(numbers_are_checked, setup, fixture_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
