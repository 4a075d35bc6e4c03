/*
 * bad_fixture.h - a store per test, and the check that a call was refused as the header says: by
 * its code, with a text that has the word which helps, and with its out-parameter untouched.
 *
 * Include it after cmocka.h.
 */
#ifndef TESTS_UNIT_BAD_FIXTURE_H
#define TESTS_UNIT_BAD_FIXTURE_H

#include "../harness/store.h"

static cistern *const untouched = (cistern *)0x1; /* an out-parameter that must stay as it is */

static inline int setup(void **state)
{
    struct store *s = calloc(1, sizeof *s);

    if (!s)
        return -1;
    store_init(s);
    *state = s;
    return s->dir[0] ? 0 : -1;
}

static inline int teardown(void **state)
{
    store_rmdir(*state);
    free(*state);
    return 0;
}

/* The code is what it should be, and the text has the word that tells the reader where to look. */
static inline void refused_(int rc, int code, const char *word, const char *file, int line)
{
    const char *text = cistern_error_text();

    if (rc != code || !strstr(text, word)) {
        print_error("%s:%d: got %d %s \"%s\", not %s and \"%s\"\n", file, line, rc,
                    cistern_error_name(rc), text, cistern_error_name(code), word);
        fail();
    }
}
#define refused(call, code, word) refused_((int)(call), (code), (word), __FILE__, __LINE__)

static inline void open_refused_(const struct store *s, int code, const char *word,
                                 const char *file, int line)
{
    cistern *c = untouched;
    int rc = cistern_open(&s->o, &c);

    if (rc == 0)
        cistern_close(c);
    refused_(rc, code, word, file, line);
    assert_ptr_equal(c, untouched);
}
#define open_refused(s, code, word) open_refused_((s), (code), (word), __FILE__, __LINE__)

static inline cistern *open_good(const struct store *s)
{
    cistern *c = NULL;
    int rc = cistern_open(&s->o, &c);

    if (rc)
        fail_msg("open: %s: %s", cistern_error_name(rc), cistern_error_text());
    return c;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
