/*
 * fsck.h - one run of fsck, as its files share it.
 */
#ifndef ADMIN_FSCK_H
#define ADMIN_FSCK_H

#include "admin/litter.h"

/* CF001 and so on, in the order of checks.def. */
enum fsck_id {
#define X(id, severity, repairable, title, meaning, advice) id,
#include "admin/checks.def"
#undef X
    FSCK_CHECKS
};

struct fsck {
    struct admin ad;
    struct survey v;
    bool encrypted; /* the root is */
    int (*callback)(void *arg, const struct cistern_finding *finding);
    void *arg;
    struct cistern_fsck_sum sum;
};

/* One finding. A non-zero result ends the run. */
int fsck_say(struct fsck *f, enum fsck_id id, const char *path, uint32_t repair, const char *format,
             ...) __attribute__((format(printf, 5, 6))) MUST_CHECK;
int fsck_shard(struct fsck *f, const struct survey_space *sp, struct survey_shard *sh) MUST_CHECK;
/* Segments of one space that bear one id. */
int fsck_ids(struct fsck *f, struct survey_space *sp) MUST_CHECK;

#endif
