/*
 * log.h - words go to a callback of the host's, never to a stream of its own.
 *
 * A `struct logger` is copied into every module that may speak. One line a call, cut at 512 bytes;
 * safe from any thread (the callback is the host's business).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

struct logger {
    void (*fn)(void *arg, int level, const char *line); /* cistern_log_fn; NULL = silent */
    void *arg;
};

enum { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG }; /* = enum cistern_log_level */

void log_line(const struct logger *l, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
