/*
 * slow_usrbio.h - how a test steers the misbehaving storage of slow_usrbio.c. The library exports
 * one `struct slow_state slow_state`.
 */
#ifndef TESTS_SLOW_USRBIO_H
#define TESTS_SLOW_USRBIO_H

#include <stdatomic.h>

enum slow_file { SLOW_DATA, SLOW_TOC, SLOW_HEAD, SLOW_OTHER, SLOW_FILES };
enum slow_mode {
    SLOW_PASS,
    SLOW_HANG, /* taken, and not answered before the mode changes; then done, late */
    SLOW_FAIL, /* not done; answered with `error` */
    SLOW_SHORT /* half of it is done */
};

struct slow_rule {
    _Atomic int mode;
    _Atomic int error; /* positive errno, for SLOW_FAIL */
    _Atomic int after; /* so many pass first */
    _Atomic int most;  /* then at most so many are caught; 0 = all */
    _Atomic int hits;  /* I/Os that the rule changed */
};

struct slow_state {
    struct slow_rule read[SLOW_FILES], write[SLOW_FILES];
    _Atomic int drop_late;    /* what hung is answered with EIO and never done */
    _Atomic int prep_again;   /* so many times prep_io answers -EAGAIN */
    _Atomic int submit_again; /* likewise submit_ios */
    _Atomic int hang_ring;    /* iorcreate does not return before this is 0 */
    _Atomic int hang_open;    /* likewise reg_fd */
    _Atomic int held;         /* I/Os that hang now */
    _Atomic int reads;        /* prepared, of all kinds */
    _Atomic int waits;        /* calls of wait_for_ios */
    _Atomic int late;         /* that were done after they hung */
    _Atomic int dropped;      /* that hung when their ring was destroyed */
    _Atomic int rings, mems;  /* alive */
    /* The daemon. While it is dead nothing is answered, and nothing made or opened (ENOTCONN). The
     * next one has a greater number: what was made or opened under another is not known to it, and
     * I/O with it is never answered. */
    _Atomic int dead, daemon;
    _Atomic int unknown;      /* I/Os that met that */
    _Atomic int clashes;      /* I/Os in memory that a held I/O owns */
    _Atomic long bytes, most; /* of memory, and the most there was at once */
};

#endif
