/* test_names.c - names of files: what is written is recognised, anything else is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment/toc.h"

static void test_names_are_as_documented(void **state)
{
    char name[SEGMENT_NAME_MAX];

    (void)state;
    segment_name(name, 0x0123456789abcdef, 26, ".seg");
    assert_string_equal(name, "0123456789abcdef-0000001a.seg");
    segment_name(name, 1, 0xffffffff, ".toc");
    assert_string_equal(name, "0000000000000001-ffffffff.toc");
    head_name(name, 0xfedcba9876543210);
    assert_string_equal(name, "fedcba9876543210.head");
}

static void test_names_round_trip(void **state)
{
    static const uint64_t writers[] = {0, 1, 0x8000000000000000, UINT64_MAX};
    static const uint64_t seqs[] = {0, 1, 0x10000, UINT32_MAX};
    size_t i, k;

    (void)state;
    for (i = 0; i < 4; i++) {
        uint64_t writer = 7, seq = 7;
        char name[SEGMENT_NAME_MAX];

        for (k = 0; k < 4; k++) {
            segment_name(name, writers[i], seqs[k], ".seg");
            assert_int_equal(segment_name_parse(name, &writer, &seq), SEGMENT_FILE_DATA);
            assert_true(writer == writers[i] && seq == seqs[k]);
            segment_name(name, writers[i], seqs[k], ".toc");
            assert_int_equal(segment_name_parse(name, &writer, &seq), SEGMENT_FILE_TOC);
            assert_true(writer == writers[i] && seq == seqs[k]);
        }
        head_name(name, writers[i]);
        assert_int_equal(segment_name_parse(name, &writer, &seq), SEGMENT_FILE_HEAD);
        assert_true(writer == writers[i] && seq == 0);
    }
}

static void test_other_names_are_left_alone(void **state)
{
    static const char *const names[] = {
        "",
        ".",
        "..",
        ".tmp-0123456789abcdef",
        "cistern.json",
        "0123456789abcdef",
        "0123456789abcdef-",
        "0123456789abcdef-00000000",
        "0123456789abcdef-0000000.seg",
        "0123456789abcdef-000000000.seg",
        "0123456789abcdef-00000000.seg2",
        "0123456789abcdef-00000000.se",
        "0123456789abcdef-00000000.SEG",
        "0123456789abcdef-00000000.head",
        "0123456789abcdef.toc",
        "0123456789abcdef.headx",
        "0123456789abcdef.hea",
        "0123456789ABCDEF.head",
        "0123456789abcde.head",
        "0123456789abcdef0.head",
        "0123456789abcdeg-00000000.seg",
        " 123456789abcdef-00000000.seg",
        "+123456789abcdef-00000000.seg",
        "0x23456789abcdef-00000000.seg",
        "0123456789abcdef_00000000.seg",
        "0123456789abcdef-0000000g.toc",
    };
    uint64_t writer = 7, seq = 8;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        if (segment_name_parse(names[i], &writer, &seq) != SEGMENT_FILE_OTHER)
            fail_msg("\"%s\" was taken for one of ours", names[i]);
    }
    assert_true(writer == 7 && seq == 8); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_as_documented),
        cmocka_unit_test(test_names_round_trip),
        cmocka_unit_test(test_other_names_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
