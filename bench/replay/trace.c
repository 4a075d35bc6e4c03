/*
 * trace.c - a trace as the policies want it: chains of blocks in order of time, read from files or
 * made.
 */
#include "replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../cli/cli.h"
#include "../../cli/replay_trace.h"

void replay_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("replay_policy: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(3);
}

void *replay_alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    if (!p)
        replay_fail("out of memory");
    return p;
}

void *replay_grow(void *p, size_t n, size_t size)
{
    void *q = reallocarray(p, n, size);

    if (!q)
        replay_fail("out of memory");
    return q;
}

static size_t trace_ids(const struct trace *t)
{
    return t->requests ? t->starts[t->requests] : 0;
}

static void request_begin(struct trace *t)
{
    if (t->requests + 2 > t->room_starts) {
        t->room_starts = t->room_starts ? t->room_starts * 2 : 1024;
        t->starts = replay_grow(t->starts, t->room_starts, sizeof *t->starts);
    }
    if (!t->requests)
        t->starts[0] = 0;
    t->requests++;
    t->starts[t->requests] = t->starts[t->requests - 1];
}

static void request_add(struct trace *t, uint32_t id)
{
    size_t n = trace_ids(t);

    if (n == t->room_ids) {
        t->room_ids = t->room_ids ? t->room_ids * 2 : 1u << 16;
        t->ids = replay_grow(t->ids, t->room_ids, sizeof *t->ids);
    }
    t->ids[n] = id;
    t->starts[t->requests]++;
    if (id >= t->blocks)
        t->blocks = id + 1;
}

static void count_distinct(struct trace *t)
{
    uint8_t *seen = replay_alloc(t->blocks, 1);
    size_t i, n = trace_ids(t);

    for (i = 0; i < n; i++) {
        t->distinct += !seen[t->ids[i]];
        seen[t->ids[i]] = 1;
    }
    free(seen);
}

/* What the reader of traces says. */
int cli_fail(enum cli_exit code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("replay: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

void trace_load(struct trace *t, const char *path)
{
    struct replay_trace from = {0};
    int rc = replay_trace_load(&from, path);
    size_t i;
    uint32_t k;

    if (rc == CLI_OK)
        rc = replay_trace_finish(&from, 0);
    if (rc != CLI_OK)
        exit(rc);
    memset(t, 0, sizeof *t);
    for (i = 0; i < from.nrequests; i++) {
        const struct replay_request *r = &from.requests[i];

        request_begin(t);
        for (k = 0; k < r->count; k++)
            request_add(t, from.ids[r->first + k]);
    }
    t->distinct = from.distinct;
    replay_trace_free(&from);
}

static uint64_t random_next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

#define TALKS        400u /* at the same time */
#define TALK_BLOCKS  256u
#define TALK_REPLACE 5u /* one turn in so many is somebody's first */
#define PROMPTS      8u
#define PROMPT_SIZE  12u
#define TURNS        9000u

/* A talk: a shared prompt, then its own blocks, some more with each turn. */
static void talk_turn(struct trace *t, uint32_t *talk, uint32_t *length, uint64_t *seed)
{
    uint32_t i, more = 1 + (uint32_t)(random_next(seed) % 12);

    if (!*length || random_next(seed) % TALK_REPLACE == 0 || *length + more > TALK_BLOCKS) {
        uint32_t prompt = (uint32_t)(random_next(seed) % PROMPTS);

        prompt = (uint32_t)(random_next(seed) % (prompt + 1)); /* low ones are frequent */
        *length = PROMPT_SIZE;
        for (i = 0; i < PROMPT_SIZE; i++)
            talk[i] = prompt * PROMPT_SIZE + i;
        more += (uint32_t)(random_next(seed) % 24);
    }
    for (i = 0; i < more; i++)
        talk[(*length)++] = t->blocks++;
    request_begin(t);
    for (i = 0; i < *length; i++)
        request_add(t, talk[i]);
}

void trace_synthetic(struct trace *t, uint64_t seed)
{
    uint32_t(*talks)[TALK_BLOCKS + 64] = replay_alloc(TALKS, sizeof *talks);
    uint32_t *lengths = replay_alloc(TALKS, sizeof *lengths), turn, who;

    memset(t, 0, sizeof *t);
    t->blocks = PROMPTS * PROMPT_SIZE;
    for (turn = 0; turn < TURNS; turn++) {
        who = (uint32_t)(random_next(&seed) % TALKS);
        who = random_next(&seed) % 3 ? who % (TALKS / 10) : who; /* a tenth talks more */
        talk_turn(t, talks[who], &lengths[who], &seed);
    }
    count_distinct(t);
    free(talks);
    free(lengths);
}

void trace_free(struct trace *t)
{
    free(t->ids);
    free(t->starts);
}
