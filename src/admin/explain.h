/*
 * explain.h - the copies of some keys, wherever in a root they are.
 */
#ifndef ADMIN_EXPLAIN_H
#define ADMIN_EXPLAIN_H

#include "admin/survey.h"

struct explain_copy {
    size_t key; /* place in the prompt */
    const struct survey_space *space;
    const struct survey_shard *shard;
    const struct survey_segment *segment;
    struct block_info info;
    uint8_t dead;
};

struct explain {
    struct admin ad;
    struct survey v; /* every space */
    const struct survey_space *space;
    cistern_key
        *keys; /* owned: of the prompt; then, when an identity was given, those without it */
    size_t nkeys, nprompt;
    size_t *order;               /* owned: keys sorted */
    struct explain_copy *copies; /* by key, newest first */
    size_t ncopies;
    uint16_t all, last, trailing; /* masks of parts by policy */
    uint32_t window[CISTERN_MAX_PARTS];
    uint32_t block_tokens, shards;
};

/* Fills in copies: those of `keys` in all spaces. */
int explain_find(struct explain *x) MUST_CHECK;
/* The first copy of a key, or ncopies. */
size_t explain_first(const struct explain *x, size_t key);

/* What is wrong with a copy: enum cistern_reason, CISTERN_WHY_HERE = nothing. */
int explain_judge(struct explain *x, const struct explain_copy *c, uint32_t *why, char *detail,
                  size_t size) MUST_CHECK;
/* Why no shard has the key: another space, another salt, never. */
uint32_t explain_absent(const struct explain *x, size_t key, const struct explain_copy **where,
                        char *detail, size_t size);

#endif
