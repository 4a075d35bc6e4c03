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
    json_t *list; /* NULL without --json */
};

int removal_on_item(void *arg, const struct cistern_removal *r); /* arg: a struct removal */
/* The sum, and the exit code: failures are I/O, what was left is a finding. `r`: of the library. */
int removal_end(struct removal *x, int r, const struct cistern_removal_sum *sum);

#endif
