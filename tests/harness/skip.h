/*
 * skip.h - leaving a cmocka test out, never without saying why.
 */
#ifndef TESTS_SKIP_H
#define TESTS_SKIP_H

/* After <cmocka.h>. Does not return. */
#define SKIP(why)                                                                                  \
    do {                                                                                           \
        print_message("skipped: %s\n", why);                                                       \
        skip();                                                                                    \
    } while (0)

#endif
