/* request.h - one request, from its tokens to its answer, and what it cost. */
#ifndef MINILLM_REQUEST_H
#define MINILLM_REQUEST_H

#include "comm.h"
#include "config.h"
#include "kvpool.h"
#include "model.h"
#include "tier2.h"

/* An engine: what all requests share. */
struct engine {
    const struct config *config;
    struct comm *comm;
    struct kvpool *pool;
    struct model *model;
    struct tier2 *tier2; /* NULL = without */
};

struct report {
    int id, prompt, tier1, tier2, computed; /* tokens */
    int matched;                            /* blocks that rank 0's match promised */
    double ttft, match, get, compute;       /* seconds; parts of ttft on rank 0 */
    int shadow_checked, shadow_differs;     /* blocks from tier 2 that were computed as well */
    int64_t blocks[MAX_RANKS];              /* verified blocks read from tier 2, by rank */
    int64_t bytes[MAX_RANKS];
    int64_t nanoseconds[MAX_RANKS];
    int new_tokens;
    uint8_t *answer; /* new_tokens */
    float *logits;   /* new_tokens x VOCAB: what each answer token was chosen from */
};

/*
 * Runs a prompt of n tokens. Collective: same tokens on all ranks. 0, -E2BIG when it is longer than
 * the engine was set up for, -ENOSPC when tier 1 has no room, or the comm's errors. answer and
 * logits of the report are the caller's memory.
 */
int request_run(struct engine *e, const uint8_t *tokens, int n, struct report *out)
    __attribute__((warn_unused_result));

#endif
