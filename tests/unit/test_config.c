/*
 * test_config.c - from options to configuration: sizes at the ends of their types.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/config.h"

static int make(uint64_t segment_bytes, uint32_t io_bytes, struct config *c)
{
    struct cistern_options o = {
        .size = sizeof o, .segment_bytes = segment_bytes, .io_bytes = io_bytes};

    return config_make(&o, 0, c);
}

static void test_a_segment_is_a_whole_number_of_writes(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(make(1, 8192, &c), 0);
    assert_int_equal(c.segment_bytes, 8192);
    assert_int_equal(make(8192, 8192, &c), 0);
    assert_int_equal(c.segment_bytes, 8192);
    assert_int_equal(make(8193, 8192, &c), 0);
    assert_int_equal(c.segment_bytes, 16384);
    assert_int_equal(make(1ull << 40, 0, &c), 0);
    assert_int_equal(c.segment_bytes, 1ull << 40);
}

/* Rounding up must not run over: a segment of no bytes would take no block at all. */
static void test_a_segment_beyond_all_bounds_is_refused(void **state)
{
    static const uint64_t sizes[] = {(1ull << 40) + 1, 1ull << 63, UINT64_MAX - 4095, UINT64_MAX};
    struct config c;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(make(sizes[i], 0, &c), CISTERN_ECONFIG);
        assert_non_null(strstr(err_text(), "segment_bytes"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_segment_is_a_whole_number_of_writes),
        cmocka_unit_test(test_a_segment_beyond_all_bounds_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
