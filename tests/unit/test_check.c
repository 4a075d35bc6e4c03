/* test_check.c - the check of a part binds its bytes to all of its identity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "segment/toc.h"

static struct check_identity identity_make(void)
{
    struct check_identity i = {.offset = 0x123456000, .length = 70000, .part = 2};

    memset(i.space, 1, sizeof i.space);
    memset(i.segment_id, 2, sizeof i.segment_id);
    memset(i.key, 3, sizeof i.key);
    return i;
}

static void test_check_is_hash_xor_hash_of_identity(void **state)
{
    const struct check_identity i = identity_make();
    uint8_t b[96];
    unsigned k;

    (void)state;
    memset(b, 1, 32);
    memset(b + 32, 2, 16);
    memset(b + 48, 3, 32);
    for (k = 0; k < 8; k++)
        b[80 + k] = (uint8_t)(i.offset >> 8 * k);
    for (k = 0; k < 4; k++) {
        b[88 + k] = (uint8_t)(i.length >> 8 * k);
        b[92 + k] = (uint8_t)(i.part >> 8 * k);
    }
    assert_int_equal(format_check(&i, 0x1234), 0x1234 ^ hash64(b, sizeof b));
}

static void test_check_undoes_itself(void **state)
{
    const struct check_identity i = identity_make();

    (void)state;
    assert_int_equal(format_check(&i, format_check(&i, 0xfeedface12345678)), 0xfeedface12345678);
    assert_int_not_equal(format_check(&i, 0), 0);
}

/* Carried over to another place: re-mixed with no rehash, and equal to a fresh check there. */
static void test_check_moves_without_the_payload(void **state)
{
    const struct check_identity from = identity_make();
    struct check_identity to = from;
    const char payload[] = "the bytes of a part";
    uint64_t h = hash64(payload, sizeof payload), stored = format_check(&from, h);

    (void)state;
    to.offset = 4096;
    memset(to.segment_id, 9, sizeof to.segment_id);
    assert_int_equal(format_check(&to, format_check(&from, stored)), format_check(&to, h));
}

static void test_every_bit_of_the_identity_counts(void **state)
{
    const struct check_identity i = identity_make();
    const uint64_t good = format_check(&i, 77);
    size_t bit;

    (void)state;
    for (bit = 0; bit < sizeof i * 8; bit++) {
        struct check_identity other = i;
        uint8_t *p = (uint8_t *)&other + bit / 8;

        *p = (uint8_t)(*p ^ 1u << bit % 8);
        assert_int_not_equal(format_check(&other, 77), good);
    }
    assert_int_not_equal(format_check(&i, 78), good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_is_hash_xor_hash_of_identity),
        cmocka_unit_test(test_check_undoes_itself),
        cmocka_unit_test(test_check_moves_without_the_payload),
        cmocka_unit_test(test_every_bit_of_the_identity_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
