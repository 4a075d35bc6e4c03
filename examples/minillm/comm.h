/*
 * comm.h - the ranks of one engine: how they start, meet, and add up their partial sums.
 *
 * Rank 0 is the process that the user started; it starts the others and they die with it. They
 * share one anonymous memory file. Every call below is collective: all ranks make the same calls in
 * the same order. A call returns 0, or -EPIPE when another rank has died; then nothing works any
 * more and the caller ends. One thread per rank.
 */
#ifndef MINILLM_COMM_H
#define MINILLM_COMM_H

#include <stddef.h>
#include <stdint.h>

struct comm;

/*
 * Starts the other ranks and turns the caller into rank 0, all by exec of this same program with
 * the environment that the BLAS wants; in a rank that was started so, it returns at once. To be
 * called first in main(). Returns this rank's number or a negative errno.
 */
int comm_launch(int ranks, char **argv) __attribute__((warn_unused_result));

/* Joins the others. `floats` is the length of the longest sum. */
int comm_open(struct comm **out, int rank, int ranks, size_t floats)
    __attribute__((warn_unused_result));
void comm_close(struct comm *c);

/* Where this rank puts its partial sum; changes with every comm_sum(). */
float *comm_partial(struct comm *c);
/* Adds the first n floats of all partial sums to x, in the order of the ranks on each of them. */
int comm_sum(struct comm *c, float *x, size_t n) __attribute__((warn_unused_result));

/* Rank 0's bytes on every rank. */
int comm_broadcast(struct comm *c, void *data, size_t n) __attribute__((warn_unused_result));
/* Everybody's number on every rank. */
int comm_gather(struct comm *c, int64_t mine, int64_t *all) __attribute__((warn_unused_result));
/* *value becomes the least of all ranks' values. */
int comm_least(struct comm *c, int64_t *value) __attribute__((warn_unused_result));

#endif
