/* test_bucket.c - token buckets with a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bits.h"
#include "engine/bucket.h"

#define S   1000000000ull
#define DAY (86400 * S)

/* One step: at `at`, take or spend n; what is expected of it. */
struct step {
    uint64_t at;
    enum { TAKE, SPEND, LEFT, WAIT } what;
    uint64_t n; /* of LEFT and WAIT: what they say */
    int yes;
};

struct row {
    const char *what;
    uint64_t bytes, period_ns, burst, start;
    bool full;
    struct step steps[8];
};

static const struct row rows[] = {
    {"no limit",
     0,
     S,
     0,
     5,
     false,
     {{5, TAKE, 1ull << 60, 1}, {5, LEFT, UINT64_MAX, 0}, {5, WAIT, 0, 0}}},
    {"begins empty",
     100,
     S,
     50,
     S,
     false,
     {{S, TAKE, 1, 0}, {S + S / 100, TAKE, 1, 1}, {S + S / 100, TAKE, 1, 0}}},
    {"begins full", 100, S, 50, S, true, {{S, TAKE, 50, 1}, {S, TAKE, 1, 0}}},
    {"all or nothing",
     100,
     S,
     50,
     S,
     true,
     {{S, TAKE, 51, 0}, {S, LEFT, 50, 0}, {S, TAKE, 30, 1}, {S, TAKE, 21, 0}, {S, TAKE, 20, 1}}},
    {"saves up to the burst",
     100,
     S,
     50,
     S,
     false,
     {{1000 * S, LEFT, 50, 0}, {1000 * S, TAKE, 50, 1}, {1000 * S, TAKE, 1, 0}}},
    {"more than the burst is never there",
     100,
     S,
     50,
     S,
     true,
     {{1000 * S, TAKE, 51, 0}, {9000 * S, TAKE, 51, 0}}},
    {"a clock that just began", 100, S, 1000, 3, true, {{3, LEFT, 0, 0}, {S, LEFT, 100, 0}}},
    {"a debt is waited for",
     100,
     S,
     0,
     S,
     true,
     {{S, WAIT, 0, 0},
      {S, SPEND, 200, 0},
      {S, WAIT, 2 * S, 0},
      {2 * S, WAIT, S, 0},
      {3 * S, WAIT, 0, 0}}},
    {"debts add up",
     100,
     S,
     0,
     S,
     true,
     {{S, SPEND, 100, 0}, {S, SPEND, 100, 0}, {S, WAIT, 2 * S, 0}, {S, TAKE, 1, 0}}},
    {"spending uses what was saved first",
     100,
     S,
     50,
     S,
     true,
     {{S, SPEND, 50, 0}, {S, WAIT, 0, 0}, {S, SPEND, 1, 0}, {S, WAIT, S / 100, 0}}},
    {"small things are not free",
     3,
     S,
     3,
     S,
     false,
     {{S + S / 3, TAKE, 1, 0}, {S + S / 3 + 1, TAKE, 1, 1}}},
    {"a day's rate",
     86400,
     DAY,
     3600,
     DAY,
     false,
     {{DAY + 10 * S, TAKE, 11, 0}, {DAY + 10 * S, TAKE, 10, 1}, {2 * DAY, LEFT, 3600, 0}}},
    {"as much as can be",
     UINT64_MAX,
     1,
     UINT64_MAX,
     7,
     true,
     {{7, TAKE, 1, 1}, {8, SPEND, UINT64_MAX, 0}, {8, WAIT, 0, 0}}},
    {"a debt without end stays one",
     1,
     UINT64_MAX / 2,
     0,
     1,
     true,
     {{1, SPEND, UINT64_MAX, 0}, {1, SPEND, UINT64_MAX, 0}, {1, TAKE, 1, 0}, {DAY, TAKE, 1, 0}}},
};

static void check_step(struct bucket *b, const struct step *s)
{
    if (s->what == TAKE)
        assert_int_equal(bucket_take(b, s->n, s->at), s->yes);
    else if (s->what == SPEND)
        bucket_spend(b, s->n, s->at);
    else if (s->what == LEFT)
        assert_int_equal(bucket_left(b, s->at), s->n);
    else
        assert_int_equal(bucket_wait_ns(b, s->at), s->n);
}

static void each_row(void **state)
{
    const struct row *r = *state;
    struct bucket b;
    size_t i;

    bucket_init(&b, r->bytes, r->period_ns, r->burst, r->start, r->full);
    for (i = 0; i < ARRAY_LEN(r->steps) && r->steps[i].at; i++)
        check_step(&b, &r->steps[i]);
}

static uint64_t dice(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* The promise: in any stretch of time the burst and the rate, whatever was asked for when. */
static void no_stretch_of_time_lets_more_through(void **state)
{
    enum { ASKS = 4000 };
    static uint64_t at[ASKS], got[ASKS];
    uint64_t x = 88172645463325252ull, now = DAY, sum;
    struct bucket b;
    size_t i, j, taken = 0;

    (void)state;
    bucket_init(&b, 75, DAY, 25, now, false);
    for (i = 0; i < ASKS; i++) {
        uint64_t n = dice(&x) % 30;

        now += dice(&x) % (DAY / 40);
        at[i] = now;
        got[i] = bucket_take(&b, n, now) ? n : 0;
        taken += got[i] != 0;
    }
    assert_true(taken > ASKS / 8);
    for (i = 0; i < ASKS; i++) {
        for (sum = 0, j = i; j < ASKS && at[j] - at[i] <= DAY; j++)
            sum += got[j];
        assert_true(sum <= 100);
    }
}

/* A process that begins anew once an hour gets no more than one that stays. */
static void starting_again_gains_nothing(void **state)
{
    struct bucket b;
    uint64_t now, sum = 0, hour;

    (void)state;
    for (hour = 0; hour < 24; hour++) {
        now = DAY + hour * 3600 * S;
        bucket_init(&b, 75 << 20, DAY, 25 << 20, now, false);
        for (; now < DAY + (hour + 1) * 3600 * S; now += 60 * S)
            sum += bucket_take(&b, 4096, now) ? 4096 : 0;
    }
    assert_true(sum <= 75 << 20);
    assert_true(sum > 0);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(rows) + 2];
    size_t i;

    for (i = 0; i < ARRAY_LEN(rows); i++)
        tests[i] = (struct CMUnitTest){.name = rows[i].what,
                                       .test_func = each_row,
                                       .initial_state = (void *)(uintptr_t)&rows[i]};
    tests[i++] = (struct CMUnitTest)cmocka_unit_test(no_stretch_of_time_lets_more_through);
    tests[i++] = (struct CMUnitTest)cmocka_unit_test(starting_again_gains_nothing);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
