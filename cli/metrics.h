/*
 * metrics.h - what the files of `cistern metrics` and the live part of `cistern stat` share.
 */
#ifndef CLI_METRICS_H
#define CLI_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cistern_admin.h"

/* The numbers of this host for Prometheus, in memory of the caller's; NULL: it was said why, and
 * *code is the exit code. pid 0 = all. */
char *metrics_text(uint32_t pid, size_t *len, int *code);

struct listener {
    int fd;
    char name[300]; /* "127.0.0.1:9464" */
};
/* "[ADDR:]PORT", 127.0.0.1 where no address is given. CLI_OK, or an exit code after it said what is
 * wrong. */
int listener_open(const char *where, struct listener *l);
/* Answers until a signal ends it. CLI_OK or an exit code. */
int metrics_serve(const struct listener *l, uint32_t pid);

/* The page at "/"; NULL: this build has none. */
const char *live_page(size_t *len);

/* cistern stat --pid, --watch: the handles of this host, once, or every interval with rates. */
int stat_live(uint32_t pid, uint64_t interval_s, uint64_t times, bool json);

#endif
