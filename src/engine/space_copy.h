/* space_copy.h - a space description that outlives the caller's. */
#ifndef ENGINE_SPACE_COPY_H
#define ENGINE_SPACE_COPY_H

#include "base/err.h"
#include "cistern.h"

struct space_copy {
    struct cistern_space space;
    struct cistern_part parts[CISTERN_MAX_PARTS];
    char *text; /* all strings, one after another */
};

/* `s` was checked. */
int space_copy_make(const struct cistern_space *s, struct space_copy *out) MUST_CHECK;
void space_copy_free(struct space_copy *s);

#endif
