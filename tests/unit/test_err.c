/*
 * test_err.c - the text of a failure is one line of UTF-8, whatever it quotes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void expect(const char *quoted, const char *text)
{
    assert_int_equal(err_set(-EBADMSG, "%s", quoted), -EBADMSG);
    assert_string_equal(err_text(), text);
}

static void test_characters_stay(void **state)
{
    static const char *const fine[] = {"",
                                       "plain ~",
                                       "\xc2\xa0",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xed\x9f\xbf",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xe0\xa0\x80"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof fine / sizeof *fine; i++)
        expect(fine[i], fine[i]);
}

static void test_what_is_no_character_goes(void **state)
{
    (void)state;
    expect("a\nb\tc\033[31m\x7f", "a?b?c?[31m?");
    expect("\xc2\x9b", "??");               /* a control character of two bytes */
    expect("\x80 \xff \xc0\xaf", "? ? ??"); /* no first bytes */
    expect("\xe0\x80\xaf", "???");          /* longer than needed */
    expect("\xf0\x80\x80\xaf", "????");
    expect("\xed\xa0\x80", "???"); /* a surrogate */
    expect("\xf4\x90\x80\x80", "????");
    expect("\xe2\x82", "??"); /* cut off */
    expect("\xe2\x82 \xac", "?? ?");
}

static void test_a_long_text_is_cut_between_characters(void **state)
{
    char text[1024];
    size_t n;

    (void)state;
    memset(text, 'a', sizeof text);
    memcpy(text + 510, "\xe2\x82\xac", 3);
    text[sizeof text - 1] = 0;
    (void)err_set(-EIO, "%s", text);
    n = strlen(err_text());
    assert_int_equal(n, 511);
    assert_int_equal(err_text()[510], '?');
    err_prefix("\x1b%s", "prefix");
    assert_int_equal(strncmp(err_text(), "?prefix: aaa", 12), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_stay),
        cmocka_unit_test(test_what_is_no_character_goes),
        cmocka_unit_test(test_a_long_text_is_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
