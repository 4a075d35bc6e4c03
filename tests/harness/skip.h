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

/* Some tests exchange the table of operations of a running store: a race that is meant, and that
 * ThreadSanitizer rightly minds. */
#ifdef __SANITIZE_THREAD__
#define MAY_EXCHANGE 0
#else
#define MAY_EXCHANGE 1
#endif
#define SKIP_UNLESS_EXCHANGED()                                                                    \
    do {                                                                                           \
        if (!MAY_EXCHANGE)                                                                         \
            SKIP("the operations of a running store are exchanged, which ThreadSanitizer minds");  \
    } while (0)

#endif
