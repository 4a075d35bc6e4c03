/*
 * test_admission.c - admission through a handle: the second put of a key stores it, a mask of one
 * process decides for all, and what that saves on a seeded trace.
 */
#include <errno.h>

#include "evict_fixture.h"

#include "metrics/metrics.h"

enum { CAPACITY = 16 * SEGMENT, TRACE = 400, SHARED = 8, RUN = 4 };

static int setup(void **state)
{
    struct fixture *f = fixture_new(CAPACITY, 60000);

    f->s.o.admission = "reused";
    *state = f;
    return 0;
}

static void expect(struct fixture *f, uint32_t from, uint32_t n, uint8_t result)
{
    uint32_t i;

    put_once(f, from, n);
    for (i = 0; i < n; i++)
        assert_int_equal(f->results[i], result);
}

static void the_second_put_stores(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    expect(f, 0, 4, CISTERN_NOT_ADMITTED);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.run, 0);
    assert_int_equal(f->ev.hits, 0);
    assert_int_equal(f->ev.misses, 4);
    assert_int_equal(f->ev.errors, 0);
    assert_false(get_one(f, 0));
    assert_int_equal(metric_of(f->c, "segments_created"), 0); /* nothing was even made for it */
    expect(f, 0, 2, CISTERN_STORED);
    assert_true(get_one(f, 0));
    put_once(f, 0, 4); /* two that are there, two that were asked for twice now */
    assert_int_equal(f->results[0], CISTERN_PRESENT);
    assert_int_equal(f->results[1], CISTERN_PRESENT);
    assert_int_equal(f->results[2], CISTERN_STORED);
    assert_int_equal(f->results[3], CISTERN_STORED);
    assert_int_equal(metric_of(f->c, "put_not_admitted_blocks"), 4);
    assert_int_equal(metric_of(f->c, "put_stored_blocks"), 4);
    assert_int_equal(metric_of(f->c, "put_dropped_blocks"), 0);
}

/* Of one put some blocks go in and some do not; what goes in is not disturbed. */
static void a_put_is_admitted_block_by_block(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    expect(f, 1, 1, CISTERN_NOT_ADMITTED);
    put_once(f, 0, 3);
    assert_int_equal(f->results[0], CISTERN_NOT_ADMITTED);
    assert_int_equal(f->results[1], CISTERN_STORED);
    assert_int_equal(f->results[2], CISTERN_NOT_ADMITTED);
    assert_int_equal(f->ev.hits, 1);
    assert_int_equal(f->ev.misses, 2);
    assert_true(get_one(f, 1));
}

static void reopening_forgets_what_was_asked_for(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    expect(f, 0, 1, CISTERN_NOT_ADMITTED);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    expect(f, 0, 1, CISTERN_NOT_ADMITTED);
    expect(f, 0, 1, CISTERN_STORED);
}

/* A put that was dropped keeps its blocks' claim. */
static void a_dropped_block_is_admitted_the_next_time(void **state)
{
    struct fixture *f = *state;
    uint8_t mask[4];

    open_store(f);
    expect(f, 0, 1, CISTERN_NOT_ADMITTED);
    assert_int_equal(cistern_drain(f->c, SOON_MS), 0);
    expect(f, 0, 2, CISTERN_DROPPED);
    assert_int_equal(cistern_admit(f->c, f->keys, 4, mask), 0);
    assert_int_equal(mask[0], 1);
    assert_int_equal(mask[1], 1); /* the dropped put was its first question */
    assert_int_equal(mask[2], 0);
    assert_int_equal(mask[3], 0);
}

static void put_masked(struct fixture *f, uint32_t n, const uint8_t *mask)
{
    struct cistern_request r = request(f, 0, n);

    r.admit = mask;
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
}

/* The decider asks once; the other rank follows its answer, though its own filter is empty. */
static void one_process_decides_for_all_shards(void **state)
{
    struct fixture *f = *state;
    cistern *rank[2];
    uint8_t mask[4];
    uint32_t i, r;

    f->s.space.shards = 2;
    for (r = 0; r < 2; r++) {
        f->s.o.shard = r;
        assert_int_equal(cistern_open(&f->s.o, &rank[r]), 0);
    }
    assert_int_equal(cistern_admit(rank[0], f->keys + 1, 2, mask), 0);
    assert_int_equal(mask[0] + mask[1], 0);
    assert_int_equal(cistern_admit(rank[0], f->keys, 4, mask), 0);
    for (r = 0; r < 2; r++) {
        f->c = rank[r];
        put_masked(f, 4, mask);
        for (i = 0; i < 4; i++)
            assert_int_equal(f->results[i],
                             i == 1 || i == 2 ? CISTERN_STORED : CISTERN_NOT_ADMITTED);
    }
    f->c = NULL;
    for (r = 0; r < 2; r++)
        assert_int_equal(cistern_close(rank[r]), 0);
}

static void a_mask_counts_with_admission_of_all(void **state)
{
    struct fixture *f = *state;
    static const uint8_t none[4], some[4] = {0, 1, 0, 0};
    uint8_t mask[4];

    f->s.o.admission = NULL;
    open_store(f);
    assert_int_equal(cistern_admit(f->c, f->keys, 4, mask), 0);
    assert_int_equal(mask[0] + mask[1] + mask[2] + mask[3], 4);
    put_masked(f, 4, none);
    assert_int_equal(f->ev.misses, 4);
    put_masked(f, 4, some);
    assert_int_equal(f->results[1], CISTERN_STORED);
    assert_int_equal(f->results[2], CISTERN_NOT_ADMITTED);
    expect(f, 0, 1, CISTERN_STORED);
    put_masked(f, 2, none); /* what is there is there */
    assert_int_equal(f->results[0], CISTERN_PRESENT);
}

static void bad_values_are_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t mask;

    f->s.o.admission = "sometimes";
    assert_int_equal(cistern_open(&f->s.o, &f->c), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "all or reused"));
    f->s.o.admission = NULL;
    assert_int_equal(cistern_options_set(&f->s.o, "admission", "reused"), 0);
    open_store(f);
    assert_int_equal(cistern_admit(f->c, NULL, 1, &mask), -EINVAL);
    assert_int_equal(cistern_admit(f->c, f->keys, 1, NULL), -EINVAL);
}

/* ---- What it saves ---- */

struct sums {
    uint64_t written, asked, hits;
};

/* Requests of four blocks: one in four repeats one of a few prompts, the others are seen once.
 * `put`: put_all, where every block is admitted, so that none is dropped while there is no room. */
static void replay(struct fixture *f, struct sums *s,
                   void (*put)(struct fixture *f, uint32_t from, uint32_t n))
{
    uint32_t x = 12345, next = SHARED * RUN, i, from;
    struct cistern_match m;

    *s = (struct sums){0};
    open_store(f);
    for (i = 0; i < TRACE; i++) {
        x = x * 1664525u + 1013904223u;
        from = (x >> 24) % 4 == 0 ? (x >> 16) % SHARED * RUN : next;
        if (from == next)
            next = next + RUN < MANY ? next + RUN : SHARED * RUN;
        assert_int_equal(cistern_match(f->c, f->keys + from, RUN, &m), 0);
        assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
        s->asked += RUN;
        s->hits += get_hits(f, from, from + m.blocks);
        if (m.blocks < RUN)
            put(f, from + m.blocks, RUN - m.blocks);
    }
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    s->written = metric_of(f->c, "put_bytes") + metric_of(f->c, "carried_bytes");
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
}

static void reused_writes_at_most_half(void **state)
{
    struct fixture *f = *state;
    struct sums all, reused;

    f->s.o.admission = "all";
    replay(f, &all, put_all);
    store_rmdir(&f->s);
    store_init(&f->s);
    f->s.o.segment_bytes = SEGMENT;
    f->s.o.capacity_bytes = CAPACITY;
    f->s.o.evict_grace_ms = GRACE_MS;
    f->s.o.admission = "reused";
    replay(f, &reused, put_once);
    print_message("written %llu against %llu bytes, hits %llu against %llu of %llu blocks\n",
                  (unsigned long long)reused.written, (unsigned long long)all.written,
                  (unsigned long long)reused.hits, (unsigned long long)all.hits,
                  (unsigned long long)all.asked);
    assert_true(all.hits > 0);
    assert_true(2 * reused.written <= all.written);
    /* A shared prompt is computed once more when it is new, and when it was evicted. */
    assert_true(4 * reused.hits >= 3 * all.hits);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_second_put_stores, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_put_is_admitted_block_by_block, setup, fixture_end),
        cmocka_unit_test_setup_teardown(reopening_forgets_what_was_asked_for, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_dropped_block_is_admitted_the_next_time, setup,
                                        fixture_end),
        cmocka_unit_test_setup_teardown(one_process_decides_for_all_shards, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_mask_counts_with_admission_of_all, setup, fixture_end),
        cmocka_unit_test_setup_teardown(bad_values_are_refused, setup, fixture_end),
        cmocka_unit_test_setup_teardown(reused_writes_at_most_half, setup, fixture_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
