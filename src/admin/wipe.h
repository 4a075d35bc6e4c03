/*
 * wipe.h - what wiping spaces and wiping a tenant share.
 */
#ifndef ADMIN_WIPE_H
#define ADMIN_WIPE_H

#include "admin/removal.h"

struct wipe {
    struct remover r;
    struct cistern_wipe how;
};

/* The name, the model and the age that were asked for; `sp` is one of the last survey. */
bool wipe_admits(const struct wipe *w, const struct survey_space *sp);
/* All of cistern_wipe() with a tenant, between opening and closing. */
int wipe_tenant(struct wipe *w) MUST_CHECK;

#endif
