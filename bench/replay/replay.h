/*
 * replay.h - replaying a trace of requests over caches: what is shared between the parts of
 * replay_policy.
 *
 * A request is a chain of blocks, first block of the prompt first. What counts is its leading run:
 * the blocks from the first one on that the cache has when it arrives. Then all its blocks are
 * offered to the cache. Everything is counted, nothing is timed, so results are the same
 * everywhere.
 *
 * Threads: one. A failure of memory or input ends the program with a message.
 */
#ifndef BENCH_REPLAY_H
#define BENCH_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/policy.h"

struct trace {
    uint32_t *ids;  /* blocks of all requests, one after the other; owned, as below */
    size_t *starts; /* of a request in ids; starts[requests] is the end */
    size_t requests, room_ids, room_starts;
    uint32_t blocks; /* ids are below */
    uint32_t distinct;
};

/* A file or a folder as cli/replay_trace.h reads them. */
void trace_load(struct trace *t, const char *path);
/* Conversations of several turns over shared prompts, the same for a seed on every machine. */
void trace_synthetic(struct trace *t, uint64_t seed);
void trace_free(struct trace *t);

/* Hits of leading runs with `capacity` blocks. */
uint64_t replay_lru(const struct trace *t, uint32_t capacity);
uint64_t replay_fifo(const struct trace *t, uint32_t capacity);
/* Belady's MIN, which knows the future and need not keep what it was offered. */
uint64_t replay_min(const struct trace *t, uint32_t capacity);

struct replay_options {
    uint32_t capacity; /* blocks */
    uint32_t segments; /* that the capacity is cut into */
    bool one_stream;   /* puts and what is carried over share segments */
    bool no_carry;     /* nothing is carried over */
    bool touches;      /* idleness is guessed from the touches of a segment */
    enum admit_mode admit;
};

struct replay_result {
    uint64_t hits;
    uint64_t puts;    /* blocks written because they were offered */
    uint64_t carried; /* blocks written because their segment went */
    uint64_t refused; /* by admission */
    uint64_t evictions;
    uint64_t most; /* blocks on disk at any moment between two puts */
};

/* The policy of the engine over simulated segments. */
void replay_store(const struct trace *t, const struct replay_options *o, struct replay_result *out);

void *replay_alloc(size_t n, size_t size); /* zeroed */
void *replay_grow(void *p, size_t n, size_t size);
_Noreturn void replay_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
