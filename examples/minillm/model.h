/* model.h - the decoder: token numbers and a block table in, KV and logits out. */
#ifndef MINILLM_MODEL_H
#define MINILLM_MODEL_H

#include "comm.h"
#include "config.h"
#include "kvpool.h"

struct model;

int model_new(struct model **out, const struct shape *s, int max_tokens, struct comm *comm,
              struct kvpool *pool) __attribute__((warn_unused_result));
void model_free(struct model *m);

/* Most floats that the ranks add up at once. */
size_t model_sum_floats(const struct shape *s);

/*
 * Runs n tokens at positions start .. start + n - 1, which must lie in one KV block, and writes
 * their KV to it. logits: VOCAB floats for the last of them, or NULL. Collective over the ranks.
 */
int model_step(struct model *m, const uint8_t *tokens, int start, int n, const int *table,
               float *logits) __attribute__((warn_unused_result));

#endif
