/*
 * test_gate.c - the cost gate: a run that would load slower than it computes is no match.
 */
#include "slow_store.h"

#include <pthread.h>

#include "engine/gate.h"

#define MS  1000000ull
#define MIB (1ull << 20)

/* ---- The sums ---- */

struct row {
    const char *what;
    struct gate_facts f;
    bool refuses;
};

static void the_gate_compares_loading_with_computing(void **state)
{
    /* 1,000 tokens at 1,000 a second: one second to compute. */
    static const struct row rows[] = {
        {"no rate of the engine", {0, 1000, 1 << 30, 0, 1, 1, 1}, false},
        {"nothing measured", {1000, 1000, 1 << 30, 0, 0, 1, 1}, false},
        {"nothing matched", {1000, 0, 0, 1 << 30, 1, 1, 1}, false},
        {"half the time", {1000, 1000, 50 << 20, 0, 100 << 20, 1, 1}, false},
        {"just as long", {1000, 1000, 100 << 20, 0, 100 << 20, 1, 1}, false},
        {"a little longer", {1000, 1000, 101 << 20, 0, 100 << 20, 1, 1}, true},
        {"behind others", {1000, 1000, 50 << 20, 51 << 20, 100 << 20, 1, 1}, true},
        {"behind a few", {1000, 1000, 50 << 20, 49 << 20, 100 << 20, 1, 1}, false},
        {"on one lane of four", {1000, 1000, 50 << 20, 0, 100 << 20, 4, 1}, true},
        {"on all lanes", {1000, 1000, 50 << 20, 0, 100 << 20, 4, 4}, false},
        {"a fast engine", {1000000, 1000, 50 << 20, 0, 100 << 20, 1, 1}, true},
        {"nothing overflows",
         {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, 64, 1},
         true},
        {"no shares", {1000, 1000, 50 << 20, 0, 100 << 20, 1, 0}, false},
    };
    uint32_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (gate_refuses(&rows[i].f) != rows[i].refuses)
            fail_msg("%s: %s", rows[i].what, rows[i].refuses ? "let through" : "refused");
    }
}

static void a_run_has_the_bytes_that_its_parts_need(void **state)
{
    const struct match_rules rules = {.all = 1, .last = 2, .trailing = 4, .window = {0, 0, 3}};
    const uint64_t bytes[] = {1000, 10, 1};

    (void)state;
    assert_int_equal(gate_run_bytes(&rules, bytes, 3, 0), 0);
    assert_int_equal(gate_run_bytes(&rules, bytes, 3, 1), 1011);
    assert_int_equal(gate_run_bytes(&rules, bytes, 3, 2), 2012);
    assert_int_equal(gate_run_bytes(&rules, bytes, 3, 9), 9013);
}

/* One second of work at so many bytes per millisecond. */
static uint64_t work(struct gate_meter *m, uint64_t now, uint64_t bytes_per_ms)
{
    int i;

    for (i = 0; i < 1000; i++) {
        gate_meter_turn(m, true, now);
        m->got += bytes_per_ms;
        now += MS;
    }
    gate_meter_turn(m, false, now);
    return now;
}

static uint64_t rate(const struct gate_meter *m)
{
    return atomic_load(&m->rate);
}

static void a_meter_counts_work_and_forgets_slowly(void **state)
{
    struct gate_meter m = {0};
    uint64_t now = 5 * MS;

    (void)state;
    gate_meter_turn(&m, false, now);
    assert_int_equal(rate(&m), 0);
    now = work(&m, now, MIB);
    assert_in_range(rate(&m), 990 * MIB, 1010 * MIB);
    now += 1000000 * MS; /* idle time is not work */
    gate_meter_turn(&m, false, now);
    now = work(&m, now, MIB);
    assert_in_range(rate(&m), 990 * MIB, 1010 * MIB);
    now = work(&m, now, MIB / 64);
    assert_in_range(rate(&m), MIB, 700 * MIB);
    now = work(&m, now, MIB / 64);
    now = work(&m, now, MIB / 64);
    now = work(&m, now, MIB / 64);
    now = work(&m, now, MIB / 64);
    assert_in_range(rate(&m), 15 * MIB, 64 * MIB);
    now = work(&m, now, 0); /* work that brings nothing */
    assert_true(rate(&m) < 40 * MIB);
}

/* ---- Through the API ---- */

static uint32_t matched(struct fixture *f)
{
    struct cistern_match m = {0};

    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(m.have, N);
    assert_int_equal(m.ticket != 0, m.blocks != 0);
    assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    return m.blocks;
}

static void *release_later(void *arg)
{
    struct fixture *f = arg;

    (void)usleep(1200 * 1000);
    all_pass(f->slow);
    return NULL;
}

/* Computing all N blocks takes a quarter of a second; storage takes longer at first. */
static void slow_storage_is_gated_until_it_is_fast(void **state)
{
    struct fixture *f = *state;
    pthread_t later;
    uint64_t gated;

    f->s.o.read_timeout_ms = LONG_MS;
    f->s.o.prefill_rate = 4 * N * STORE_TOKENS;
    reopen(f);
    assert_int_equal(matched(f), N); /* nothing was measured yet */
    hang(&f->slow->read[SLOW_DATA]);
    assert_int_equal(pthread_create(&later, NULL, release_later, f), 0);
    get_hits(f, 0, N);
    assert_int_equal(pthread_join(later, NULL), 0);
    WAIT_FOR(metric(f, "gated_matches") || !matched(f)); /* the lane's next turn measures */
    gated = metric(f, "gated_matches");
    assert_int_equal(metric(f, "gated_blocks"), gated * N);
    /* Every now and then a run goes through and measures again. */
    WAIT_FOR(matched(f) == N);
    get_hits(f, 0, N);
    WAIT_FOR((get_hits(f, 0, N), matched(f) == N && matched(f) == N));
    assert_true(metric(f, "gate_tries") >= 1);
}

static void a_very_fast_engine_loads_nothing(void **state)
{
    struct fixture *f = *state;
    char text[4096];

    f->s.o.prefill_rate = 4000000000u;
    reopen(f);
    get_hits(f, 0, N);
    WAIT_FOR(matched(f) == 0);
    assert_true(cistern_describe(f->c, text, sizeof text) < (int)sizeof text);
    assert_non_null(strstr(text, "prefill_rate=4000000000\n"));
    assert_null(strstr(text, "read_rate=0\n"));
    get_hits(f, 0, N); /* a get that is asked for all the same is served */
}

static void without_a_rate_nothing_is_gated(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 0; i < 10; i++) {
        get_hits(f, 0, N);
        assert_int_equal(matched(f), N);
    }
    assert_int_equal(metric(f, "gated_matches"), 0);
    assert_int_equal(metric(f, "gate_tries"), 0);
}

#define TEST(name, set) cmocka_unit_test_setup_teardown(name, set, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gate_compares_loading_with_computing),
        cmocka_unit_test(a_run_has_the_bytes_that_its_parts_need),
        cmocka_unit_test(a_meter_counts_work_and_forgets_slowly),
        TEST(slow_storage_is_gated_until_it_is_fast, setup_filled),
        TEST(a_very_fast_engine_loads_nothing, setup_filled),
        TEST(without_a_rate_nothing_is_gated, setup_filled),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
