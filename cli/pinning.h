/*
 * pinning.h - making a pin, as pin and warm --pin share it.
 */
#ifndef CLI_PINNING_H
#define CLI_PINNING_H

#include <jansson.h>

#include "prefix.h"

struct pinning {
    const char *label, *expires;
};

#define PINNING_ARGS(p)                                                                            \
    {"label", "TEXT", ARG_STRING, &(p)->label, 0, 0, "a name for the pin, to find it again"},      \
    {                                                                                              \
        "expires", "AGE", ARG_STRING, &(p)->expires, 0, 0, "let go by itself after 90s, 36h, 30d"  \
    }

/* Pins the prefix. With `o` the figures become its members, else lines on stdout. CLI_OK or an exit
 * code. */
int pinning_do(struct admin_args *x, const struct pinning *p, const struct prefix *prefix,
               json_t *o);

#endif
