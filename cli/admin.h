/*
 * admin.h - what the operator's verbs share: their common options, and progress on a terminal.
 */
#ifndef CLI_ADMIN_H
#define CLI_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "cistern_admin.h"
#include "target.h"

struct admin_args {
    struct target t;
    const char *space;
    bool json;
    uint64_t silence_s; /* 0 = the default */
    struct cistern_admin a;
    bool shown; /* a line of progress stands on the terminal */
};

#define ADMIN_SPACE_ARG(x)                                                                         \
    {                                                                                              \
        "space", "NAME", ARG_STRING, &(x)->space, 0, 0, "only spaces whose directory begins so"    \
    }
#define ADMIN_SILENCE_ARG(x)                                                                       \
    {                                                                                              \
        "silence", "SECONDS", ARG_NUMBER, &(x)->silence_s, 1, 86400,                               \
            "a head that does not change for so long is of a dead writer (60)"                     \
    }
#define ADMIN_JSON_ARG(x)                                                                          \
    {                                                                                              \
        "json", NULL, ARG_FLAG, &(x)->json, 0, 0, "a JSON object"                                  \
    }

/* Fills x->a from the options and the word, NULL or a root. CLI_OK, or an exit code. */
int admin_resolve(struct admin_args *x, const char *word, bool damaged);
/* The same for a root that need not exist. */
int admin_resolve_new(struct admin_args *x, const char *word);
/* Takes the line of progress away, before other words. */
void admin_quiet(struct admin_args *x);
/* The end of a command that calls back for spaces: n of them (negative: an error), `list` of what
 * was said of each or NULL; takes the list over. The exit code. */
int admin_spaces_end(struct admin_args *x, int64_t n, json_t *list, uint64_t failed);

#endif
