/*
 * explain.h - the copies of some keys, wherever in a root they are.
 */
#ifndef ADMIN_EXPLAIN_H
#define ADMIN_EXPLAIN_H

#include "admin/pins.h"

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
    uint64_t block_bytes;  /* on storage, of a full block of one shard */
    uint64_t read_bytes;   /* of payloads that were read */
    struct pins_keys pins; /* owned: of the space */
};

/* Opens, surveys the root, chooses the space, takes the keys and finds their copies. Whatever it
 * returns, explain_end() follows. */
int explain_begin(struct explain *x, const struct cistern_admin *a,
                  const struct cistern_prefix *prefix) MUST_CHECK;
void explain_end(struct explain *x);

/* One key by the rules of a match. */
struct explain_answer {
    struct cistern_explanation out;
    char detail[512], path[ADMIN_PATH];
    uint16_t have; /* parts that every shard has */
};
int explain_key(struct explain *x, size_t key, struct explain_answer *a) MUST_CHECK;
/* Calls back; 0 or what admin_answer() made of the answer. */
int explain_tell(struct explain *x, struct explain_answer *a,
                 int (*callback)(void *arg, const struct cistern_explanation *e),
                 void *arg) MUST_CHECK;

/* Fills in copies: those of `keys` in all spaces. */
int explain_find(struct explain *x) MUST_CHECK;
/* The first copy of a key, or ncopies. */
size_t explain_first(const struct explain *x, size_t key);

/* Segments of a shard that heads name and that are gone; shard UINT32_MAX: of all. */
uint64_t explain_gone(const struct explain *x, uint32_t shard);
/* Why no contents name a key: evicted, perhaps evicted, never stored. */
uint32_t explain_lost(const struct explain *x, size_t key, char *detail, size_t size);
/* Is the breaker of a live writer of the space open? */
bool explain_breaker(const struct explain *x, int64_t run, char *detail, size_t size);
/* Does a run of so many blocks load slower than it computes? `ns`: how long the reading took. */
int explain_gate(const struct explain *x, const struct cistern_explain *e, int64_t run, uint64_t ns,
                 bool *refused, char *detail, size_t size) MUST_CHECK;

/* What is wrong with a copy: enum cistern_reason, CISTERN_WHY_HERE = nothing. */
int explain_judge(struct explain *x, const struct explain_copy *c, uint32_t *why, char *detail,
                  size_t size) MUST_CHECK;
/* Why no shard has the key: another space, another salt, never. */
uint32_t explain_absent(const struct explain *x, size_t key, const struct explain_copy **where,
                        char *detail, size_t size);

#endif
