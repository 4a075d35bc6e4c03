/*
 * leave.h - segments that leave a root: contents, a grace longer than any reader's deadline, data.
 *
 * Killed between them it leaves data without contents, which everybody takes away. Contents go in
 * the order of the list.
 */
#ifndef ADMIN_LEAVE_H
#define ADMIN_LEAVE_H

#include "admin/removal.h"

struct leaver {
    const struct survey_space *space;
    const struct survey_shard *shard;
    const struct survey_segment *segment;
    uint64_t bytes; /* of both files */
    bool chosen;    /* leave_run() takes it back for what has to stay */
    char why[96];
};

struct leave {
    struct remover *r;
    struct leaver *at;
    const size_t *order; /* n places in `at` */
    size_t n;
    uint64_t bytes; /* of all of them */
    uint32_t grace_ms;
    /* What they say of others is said elsewhere. Else, once one of a shard has stayed, those behind
     * it that say something stay too. */
    bool noted;
    void (*stayed)(void *arg, const struct leaver *l); /* may be NULL */
    void *arg;
};

/* Its writer writes no more to it, whoever it is. Two may be growing. */
bool leave_sealed(const struct survey_segment *seg, const struct survey_writer *w);
int leave_run(struct leave *l) MUST_CHECK;

#endif
