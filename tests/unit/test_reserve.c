/* test_reserve.c - regions of the index: aligned, zeroed, and never a byte beyond their end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "index/reserve.h"

enum { SMALL = 64 << 10, PAGE = 4096 };

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static void region_is_aligned_and_zeroed(void **state)
{
    uint8_t *base = reserve_open(SMALL, RESERVE_HUGE);
    size_t i, sum = 0;

    (void)state;
    assert_non_null(base);
    assert_int_equal((uintptr_t)base % RESERVE_HUGE, 0);
    for (i = 0; i < SMALL; i++)
        sum += base[i];
    assert_int_equal(sum, 0);
    reserve_close(base, SMALL);
}

/* A region that is smaller than a huge page has neighbours within that page. */
static void neighbours_are_left_alone(void **state)
{
    uint8_t *base = reserve_open(SMALL, RESERVE_HUGE), *next;
    size_t i, same = 0;

    (void)state;
    assert_non_null(base);
    next = mmap(base + SMALL, PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (next != base + SMALL) { /* somebody's already */
        if (next != MAP_FAILED)
            (void)munmap(next, PAGE);
        reserve_close(base, SMALL);
        print_message("skipped: the place behind the region is taken\n");
        skip();
    }
    memset(base, 0x11, SMALL);
    memset(next, 0xab, PAGE);
    reserve_huge(base, SMALL);
    reserve_trim(base, 100, SMALL);
    reserve_settle(base, SMALL);
    for (i = 0; i < PAGE; i++)
        same += next[i] == 0xab;
    assert_int_equal(same, PAGE);
    for (i = 0, same = 0; i < 100; i++)
        same += base[i] == 0x11;
    assert_int_equal(same, 100);
    assert_int_equal(base[PAGE], 0); /* given back */
    (void)munmap(next, PAGE);
    reserve_close(base, SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_is_aligned_and_zeroed),
        cmocka_unit_test(neighbours_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
