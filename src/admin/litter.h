/*
 * litter.h - what nobody needs: files that can be removed once their writer has ended, and the
 * removing.
 */
#ifndef ADMIN_LITTER_H
#define ADMIN_LITTER_H

#include "admin/survey.h"

enum litter_kind { LITTER_TEMPORARY, LITTER_EMPTY, LITTER_DATA, LITTER_CONTENTS, LITTER_HEAD };

struct litter {
    enum litter_kind kind;
    const char *space; /* directory; "" = in the root */
    char path[ADMIN_PATH];
    uint64_t disk_bytes;
    enum owner_state state;
};

/* Every removable file, data before contents before heads; a visit's non-zero answer ends it. */
int litter_visit(const struct survey *v, int (*visit)(void *arg, const struct litter *l),
                 void *arg) MUST_CHECK;
/* Is there any whose owner is not known to have ended? */
bool litter_waits(const struct survey *v);
const char *litter_why(enum litter_kind kind);
/* Removes it, after one more look at what would make it useful. 0; -EAGAIN: it is useful. */
int litter_collect(struct admin *ad, const struct litter *l) MUST_CHECK;
/* 0, also when it is gone already. */
int litter_remove(struct admin *ad, const char *path, bool is_dir) MUST_CHECK;

#endif
