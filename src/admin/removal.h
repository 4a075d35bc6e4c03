/*
 * removal.h - removing files, as gc and wipe share it.
 */
#ifndef ADMIN_REMOVAL_H
#define ADMIN_REMOVAL_H

#include "admin/litter.h"

struct remover {
    struct admin ad;
    struct survey v;
    int (*callback)(void *arg, const struct cistern_removal *removal);
    void *arg;
    struct cistern_removal_sum sum;
};

int remover_open(struct remover *r, const struct cistern_admin *a,
                 const struct cistern_removal_sum *sum) MUST_CHECK;
/* Gives the sum to the caller; what admin_result() makes of rc. */
int remover_close(struct remover *r, int rc, struct cistern_removal_sum *sum);
/* Removes one file or directory, tells it and counts it. `allowed`: its owner has ended. A file
 * that cannot be removed is told and counted; -ECANCELED: the callback has had enough. */
int remover_take(struct remover *r, const struct litter *l, const char *why, bool is_dir,
                 bool allowed) MUST_CHECK;

#endif
