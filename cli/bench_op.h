/*
 * bench_op.h - the requests that a bench keeps in flight, made once. For bench_store.c.
 */
#ifndef CLI_BENCH_OP_H
#define CLI_BENCH_OP_H

#include "bench_store.h"

struct store_op {
    struct cistern_request r;
    cistern_key *keys;          /* batch */
    uint64_t *numbers;          /* batch: which blocks these are */
    struct cistern_span *spans; /* batch x parts */
    struct cistern_vec *vecs;   /* likewise */
    uint8_t *results;
    uint64_t id;
    bool busy;
};

struct store_op *store_ops_make(const struct bench_store *s); /* NULL: no memory */
void store_ops_free(struct bench_store *s);

#endif
