/*
 * test_retire.c - a space that is marked as retired: nothing is stored in it, what is there is
 * found until it goes, and it goes first, though its engine still runs.
 */
#include <errno.h>

#include "evict_fixture.h"

#include "cistern_admin.h"
#include "metrics/metrics.h"

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, 60000);
    return 0;
}

struct heard {
    uint32_t spaces, changed, retired;
    int32_t result;
};

static int on_space(void *arg, const struct cistern_retired *x)
{
    struct heard *h = arg;

    h->spaces++;
    h->changed += x->changed;
    h->retired += x->retired;
    h->result = x->result ? x->result : h->result;
    return 0;
}

static struct heard retire(struct fixture *f, const char *model, uint32_t undo, uint32_t flags)
{
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o, .flags = flags};
    struct cistern_retire how = {.size = sizeof how, .model = model, .undo = undo};
    struct heard h = {0};
    int64_t spaces = cistern_retire(&a, &how, on_space, &h);

    assert_int_equal(spaces, h.spaces);
    assert_int_equal(h.result, 0);
    return h;
}

static void nothing_is_stored_until_it_is_taken_back(void **state)
{
    struct fixture *f = *state;
    struct heard h;
    char words[4096];

    open_store(f);
    put_all(f, 0, 4);
    h = retire(f, "test", 0, CISTERN_ADMIN_DRY_RUN);
    assert_int_equal(h.changed, 1);
    h = retire(f, "test", 0, 0);
    assert_int_equal(h.spaces, 1);
    assert_int_equal(h.changed, 1);
    assert_int_equal(h.retired, 1);
    assert_int_equal(retire(f, NULL, 0, 0).changed, 0);
    WAIT_FOR(metric_of(f->c, "retired") == 1);
    put_once(f, 4, 4);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.misses, 4);
    assert_int_equal(f->results[0], CISTERN_DROPPED);
    assert_int_equal(metric_of(f->c, "put_dropped_retired_blocks"), 4);
    assert_int_equal(get_hits(f, 0, 8), 4);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f); /* knows it from the first put on */
    assert_true(cistern_describe(f->c, words, sizeof words) < (int)sizeof words);
    assert_non_null(strstr(words, "retired=yes"));
    put_once(f, 4, 4);
    assert_int_equal(f->ev.misses, 4);
    assert_int_equal(get_hits(f, 0, 8), 4);
    assert_int_equal(retire(f, "another", 1, 0).spaces, 0);
    assert_int_equal(retire(f, "test", 1, 0).changed, 1);
    WAIT_FOR(metric_of(f->c, "retired") == 0);
    put_all(f, 4, 4);
    assert_int_equal(get_hits(f, 0, 8), 8);
}

/* Without a capacity nothing is looked at but that. */
static void a_root_without_a_capacity_sees_it_too(void **state)
{
    struct fixture *f = *state;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    assert_int_equal(cistern_close(f->c), 0);
    (void)retire(f, "test", 0, 0);
    open_store(f);
    put_once(f, 0, 1);
    assert_int_equal(f->results[0], CISTERN_DROPPED);
}

/* Fills two spaces of a root, each with eight segments, as two engines would that both run. */
static cistern *fill_two(struct fixture *f)
{
    cistern *old;
    uint32_t i;

    f->s.space.model = "old";
    assert_int_equal(cistern_open(&f->s.o, &old), 0);
    f->c = old;
    for (i = 0; i < 96; i += BATCH)
        put_all(f, i, BATCH);
    f->s.space.model = "new";
    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    return old;
}

static uint32_t left_of(struct fixture *f, cistern *c, uint32_t to)
{
    uint16_t have[MANY];
    uint32_t i, n = 0;

    assert_int_equal(cistern_exists(c, f->keys, to, have), 0);
    for (i = 0; i < to; i++)
        n += have[i] != 0;
    return n;
}

/* The old model was used last, and its writer lives; yet what is read all the time stays and what
 * is retired goes. */
static void the_retired_goes_first(void **state)
{
    struct fixture *f = *state;
    cistern *old = fill_two(f), *young = f->c;
    uint32_t i;

    (void)retire(f, "old", 0, 0);
    WAIT_FOR(metric_of(young, "usage_files") > 0 && metric_of(old, "retired") == 1);
    f->c = old;
    assert_true(get_hits(f, 0, 96) > 48); /* used after everything of the other */
    f->c = young;
    for (i = 64;
         i < 160 && metric_of(old, "evicted_segments") + metric_of(young, "evicted_segments") < 2;
         i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(left_of(f, old, 96) <= 64); /* who did not evict them hears of it at the next list */
    assert_int_equal(left_of(f, young, i), i);
    assert_int_equal(metric_of(old, "carried_blocks") + metric_of(young, "carried_blocks"), 0);
    assert_int_equal(cistern_close(old), 0);
}

static void bad_calls_are_refused(void **state)
{
    struct fixture *f = *state;
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o};
    struct cistern_retire how = {.size = sizeof how};

    assert_int_equal(cistern_retire(&a, NULL, on_space, NULL), -EINVAL);
    assert_int_equal(cistern_retire(&a, &how, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_retire(NULL, &how, on_space, NULL), -EINVAL);
    assert_int_equal(cistern_retire(&a, &how, on_space, NULL), -ENOENT); /* no root yet */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_stored_until_it_is_taken_back, setup,
                                        fixture_end),
        cmocka_unit_test_setup_teardown(a_root_without_a_capacity_sees_it_too, setup, fixture_end),
        cmocka_unit_test_setup_teardown(the_retired_goes_first, setup, fixture_end),
        cmocka_unit_test_setup_teardown(bad_calls_are_refused, setup, fixture_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
