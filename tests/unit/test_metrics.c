/*
 * test_metrics.c - the table of numbers: names, histograms, names for Prometheus, the share over
 * the last seconds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/metrics.h"
#include "metrics/window.h"

static uint64_t bucket(const struct metrics *m, enum histogram h, uint32_t i)
{
    return atomic_load(&m->histogram[h].bucket[i]);
}

static void names_are_there_once(void **state)
{
    uint32_t i, j;

    (void)state;
    for (i = 0; i < METRIC_COUNT; i++) {
        assert_true(metric_name((enum metric)i)[0] && metric_help((enum metric)i)[0]);
        for (j = 0; j < i; j++)
            assert_string_not_equal(metric_name((enum metric)i), metric_name((enum metric)j));
    }
    for (i = 0; i < HISTOGRAM_COUNT; i++) {
        assert_true(histogram_help((enum histogram)i)[0]);
        for (j = 0; j < METRIC_COUNT; j++)
            assert_string_not_equal(histogram_name((enum histogram)i), metric_name((enum metric)j));
    }
    assert_null(metric_name(METRIC_COUNT));
    assert_null(histogram_name(HISTOGRAM_COUNT));
}

/* Each bound belongs to its own bucket, what is one above it to the next. */
static void a_value_falls_below_its_bound(void **state)
{
    uint32_t h, i;

    (void)state;
    for (h = 0; h < HISTOGRAM_COUNT; h++) {
        for (i = 0; i < METRIC_BUCKETS; i++) {
            struct metrics m = {0};
            uint64_t bound = histogram_bound((enum histogram)h, i);

            metric_record(&m, (enum histogram)h, bound);
            assert_int_equal(bucket(&m, (enum histogram)h, i), 1);
            metric_record(&m, (enum histogram)h, bound + 1);
            assert_int_equal(bucket(&m, (enum histogram)h, i + 1), 1);
            assert_int_equal(atomic_load(&m.histogram[h].sum), 2 * bound + 1);
        }
    }
}

static void ends_of_the_range(void **state)
{
    struct metrics m = {0};

    (void)state;
    metric_record(&m, HISTOGRAM_get_latency_ns, 0);
    metric_record(&m, HISTOGRAM_get_latency_ns, UINT64_MAX);
    assert_int_equal(bucket(&m, HISTOGRAM_get_latency_ns, 0), 1);
    assert_int_equal(bucket(&m, HISTOGRAM_get_latency_ns, METRIC_BUCKETS), 1);
}

static void export_names(void **state)
{
    char name[METRIC_EXPORT_MAX];

    (void)state;
    assert_int_equal(metric_export_name("get_ns", METRIC_IS_COUNTER, name), 1000000000);
    assert_string_equal(name, "cistern_get_seconds_total");
    assert_int_equal(metric_export_name("put_latency_ns", METRIC_IS_HISTOGRAM, name), 1000000000);
    assert_string_equal(name, "cistern_put_latency_seconds");
    assert_int_equal(metric_export_name("match_hit_now_ppm", METRIC_IS_GAUGE, name), 1000000);
    assert_string_equal(name, "cistern_match_hit_now_ratio");
    assert_int_equal(metric_export_name("get_bytes", METRIC_IS_COUNTER, name), 1);
    assert_string_equal(name, "cistern_get_bytes_total");
    assert_int_equal(metric_export_name("usage_bytes", METRIC_IS_GAUGE, name), 1);
    assert_string_equal(name, "cistern_usage_bytes");
    memset(name, 0, sizeof name);
    (void)metric_export_name("a_name_of_sixty_four_bytes_and_more_than_fits_into_what_is_there_for_"
                             "a_name_with_all_that_is_added_to_it",
                             METRIC_IS_COUNTER, name);
    assert_int_equal(strlen(name), METRIC_EXPORT_MAX - 1);
}

static void share_of_the_last_ten_seconds(void **state)
{
    struct window w = {0};
    uint64_t s = 1000000000ull, t = 5 * s, of = 0, part = 0;
    uint32_t i;

    (void)state;
    assert_int_equal(share_ppm(1, 0), 0);
    assert_int_equal(share_ppm(3, 2), 1000000);
    assert_int_equal(share_ppm(1, 3), 333333);
    assert_int_equal(window_look(&w, t, 0, 0), 0);
    for (i = 0; i < 30; i++) { /* everything found */
        of += 10, part += 10, t += s;
        assert_int_equal(window_look(&w, t, of, part), 1000000);
    }
    for (i = 1; i <= 10; i++) { /* nothing found: it sinks, and is gone after ten seconds */
        of += 10, t += s;
        assert_int_equal(window_look(&w, t, of, part), (10 - i) * 100000);
    }
    /* Many looks within a second change nothing of what is kept. */
    for (i = 0; i < 100; i++)
        assert_int_equal(window_look(&w, t + i, of, part), 0);
    /* Long after: what came since the last look. */
    assert_int_equal(window_look(&w, t + 100 * s, of + 4, part + 1), 250000);
    assert_int_equal(window_look(&w, t + 200 * s, of + 4, part + 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_there_once),
        cmocka_unit_test(a_value_falls_below_its_bound),
        cmocka_unit_test(ends_of_the_range),
        cmocka_unit_test(export_names),
        cmocka_unit_test(share_of_the_last_ten_seconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
