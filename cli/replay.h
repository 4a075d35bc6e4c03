/*
 * replay.h - a trace of requests over a real store: what it would have saved, and what a cache of
 * another size would.
 *
 * Each request is a chain of blocks, named by numbers. Its longest stored run is matched and read,
 * with real bytes that are checked, and the rest is put. Computing is not done but counted: a token
 * costs 1 / prefill rate. So time to first token is measured time of the store plus counted time of
 * the engine.
 *
 * One thread.
 */
#ifndef CLI_REPLAY_H
#define CLI_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "replay_trace.h"
#include "target.h"

/* ---- The curve of a least-recently-used cache over its size, all sizes in one pass ---- */

struct replay_curve {
    uint64_t references;
    uint64_t *at; /* at[d] = leading-run hits that need d blocks of capacity; 1 .. blocks */
    uint32_t blocks;
};

int replay_curve_make(const struct replay_trace *t, struct replay_curve *out);
/* Blocks hit with room for so many; UINT64_MAX: with room for all. */
uint64_t replay_curve_hits(const struct replay_curve *c, uint64_t capacity);
void replay_curve_free(struct replay_curve *c);

/* ---- The run ---- */

struct replay_config {
    struct target target;
    uint64_t block_bytes; /* of one rank */
    uint64_t tp;
    uint64_t staging;
    uint64_t capacity, segment;
    double prefill_rate; /* tokens a second */
    double speed;        /* 0 = as fast as it goes; 1 = as it happened */
    uint64_t limit;      /* requests; 0 = all */
    bool json, keep;
    const char *html, *model;
};

struct replay_sample {
    float recompute, with; /* seconds to the first token */
};

struct replay_result {
    uint64_t requests, references, hits; /* blocks */
    uint64_t tokens, tokens_saved;
    uint64_t bytes_read, bytes_put,
        bytes_written;               /* all ranks; written: what the files take more */
    uint64_t dropped, errors, wrong; /* blocks; hits whose content is not that of their number */
    double load_seconds, put_seconds, wall_seconds;
    struct replay_sample *samples; /* requests of them */
};

int replay_run(const struct replay_config *c, const struct replay_trace *t,
               struct replay_result *out);
void replay_result_free(struct replay_result *r);

/* ---- Reports ---- */

struct replay_times {
    double mean, p50, p90, p99;
};

/* Of one member of the samples, seconds. */
void replay_times(const struct replay_result *r, bool with, struct replay_times *out);
void replay_print(const struct replay_config *c, const struct replay_trace *t,
                  const struct replay_result *r, const struct replay_curve *curve);
int replay_print_json(const struct replay_config *c, const struct replay_trace *t,
                      const struct replay_result *r, const struct replay_curve *curve);
/* CLI_OK, or an exit code after a message. */
int replay_write_html(const struct replay_config *c, const struct replay_trace *t,
                      const struct replay_result *r, const struct replay_curve *curve);
/* Capacities worth showing: some, up to all blocks. Returns how many. */
#define REPLAY_POINTS 24
size_t replay_points(const struct replay_trace *t, uint64_t out[REPLAY_POINTS]);

#endif
