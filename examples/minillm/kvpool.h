/*
 * kvpool.h - tier 1: a pool of KV blocks in this rank's memory, with prefix reuse.
 *
 * A block holds the K and V of block_tokens consecutive tokens for all layers. Its memory is not
 * contiguous: like in a real engine each layer has one array of K and one of V, so a block is
 * layers x 2 pieces. A request reaches its KV through a block table, a list of block numbers.
 *
 * A published block is named by its tokens and by the block before it, so that a later request
 * finds the longest prefix that it shares. A block in use (holds > 0) is never evicted; the others
 * go in the order of their last use, children before parents. One thread.
 */
#ifndef MINILLM_KVPOOL_H
#define MINILLM_KVPOOL_H

#include "config.h"

struct kvpool;

struct kvpool *kvpool_new(const struct shape *s, int blocks);
void kvpool_free(struct kvpool *p);

/* Blocks that could be had now: free ones and unused ones. */
int kvpool_room(const struct kvpool *p);
/* n blocks for writing, held once each. -ENOSPC: not that many. */
int kvpool_alloc(struct kvpool *p, int n, int *blocks) __attribute__((warn_unused_result));
void kvpool_hold(struct kvpool *p, int block);
/* Gives back one hold of each; the last ones first, so that children age before their parents. */
void kvpool_drop(struct kvpool *p, const int *blocks, int n);

/* The longest run of published blocks that the first `limit` blocks of tokens begin with, each held
 * once more. */
int kvpool_find(struct kvpool *p, const uint8_t *tokens, int limit, int *blocks);
/* Makes table[i] findable as the KV of the i-th block of tokens; those before it in the table have
 * been published. If an equal block is known already, the table takes that one instead. */
void kvpool_publish(struct kvpool *p, const uint8_t *tokens, int *table, int i);

/* One layer's K (which = 0), [kv_heads][head_dim][block_tokens] floats, or V (which = 1),
 * [kv_heads][block_tokens][head_dim]. K lies so that the products need not turn it around. */
float *kvpool_piece(const struct kvpool *p, int block, int layer, int which);

/* Whether tier 2 is known to have the block; a note for the caller, cleared at kvpool_alloc. */
void kvpool_mark_stored(struct kvpool *p, int block, bool stored);
bool kvpool_is_stored(const struct kvpool *p, int block);

#endif
