/* attention.h - grouped-query attention of some new tokens over a paged KV. */
#ifndef MINILLM_ATTENTION_H
#define MINILLM_ATTENTION_H

#include "config.h"
#include "kvpool.h"

/* Floats of scratch that attention_run() needs. */
size_t attention_scratch(const struct shape *s, int max_tokens);

/*
 * Queries of the m tokens at positions start .. start + m - 1, all in one KV block, against the
 * keys and values 0 .. start + m - 1 of one layer. q and out have a row per token; `q_stride`
 * floats from one row of q to the next; rows of out are heads x head_dim floats.
 */
void attention_run(const struct shape *s, const struct kvpool *pool, const int *table, int layer,
                   int start, int m, const float *q, int q_stride, float *out, float *scratch);

#endif
