/*
 * removal.h - what gc and wipe say of what they removed.
 */
#ifndef CLI_REMOVAL_H
#define CLI_REMOVAL_H

#include <jansson.h>

#include "admin.h"

struct removal {
    struct admin_args x;
    bool dry_run, verbose;
    bool tenant;  /* of a wipe */
    json_t *list; /* NULL without --json */
    json_t *from; /* of a wipe: names of the spaces that something went from; owned */
};

/* Rows for the table of options. */
#define REMOVAL_ARGS(r)                                                                            \
    ADMIN_SILENCE_ARG(&(r)->x),                                                                    \
        {"dry-run", NULL, ARG_FLAG, &(r)->dry_run, 0, 0, "say what would go, remove nothing"},     \
        {"verbose", NULL, ARG_FLAG, &(r)->verbose, 0, 0, "a line for each file"},                  \
        ADMIN_JSON_ARG(&(r)->x)

int removal_on_item(void *arg, const struct cistern_removal *r); /* arg: a struct removal */
/* The sum, and the exit code: failures are I/O, what was left is a finding. `r`: of the library. */
int removal_end(struct removal *x, int r, const struct cistern_removal_sum *sum);

#endif
