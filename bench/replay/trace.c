/*
 * trace.c - reading traces, and making one.
 *
 * Ids of a folder's files mean something only inside their file and are shifted apart.
 */
#include "replay.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#define ID_LIMIT (1u << 30)

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

static void request_add(struct trace *t, uint64_t id)
{
    size_t n = trace_ids(t);

    if (id >= ID_LIMIT)
        replay_fail("a block has the id %llu, which is too large", (unsigned long long)id);
    if (n == t->room_ids) {
        t->room_ids = t->room_ids ? t->room_ids * 2 : 1u << 16;
        t->ids = replay_grow(t->ids, t->room_ids, sizeof *t->ids);
    }
    t->ids[n] = (uint32_t)id;
    t->starts[t->requests]++;
    if (id >= t->blocks)
        t->blocks = (uint32_t)id + 1;
}

static void request_add_json(struct trace *t, const json_t *ids, uint64_t shift)
{
    json_t *id;
    size_t i;

    request_begin(t);
    json_array_foreach(ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            replay_fail("hash_ids holds something that is not a block's id");
        request_add(t, (uint64_t)json_integer_value(id) + shift);
    }
}

static void load_lines(struct trace *t, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    json_t *o;

    if (!f)
        replay_fail("%s: %s", path, strerror(errno));
    while (getline(&line, &room, f) > 0) {
        o = json_loads(line, 0, NULL);
        if (!json_is_array(json_object_get(o, "hash_ids")))
            replay_fail("%s: line %zu has no hash_ids", path, t->requests + 1);
        request_add_json(t, json_object_get(o, "hash_ids"), 0);
        json_decref(o);
    }
    free(line);
    fclose(f);
}

/* Requests of all files of a folder, until they are put in order. */
struct event {
    double at;
    size_t number; /* keeps the order of equal times */
    uint64_t shift;
    json_t *ids; /* owned */
};

struct events {
    struct event *at;
    size_t n, room;
};

static void events_add(struct events *ev, double at, json_t *ids, uint64_t shift)
{
    if (ev->n == ev->room) {
        ev->room = ev->room ? ev->room * 2 : 1024;
        ev->at = replay_grow(ev->at, ev->room, sizeof *ev->at);
    }
    ev->at[ev->n] =
        (struct event){.at = at, .number = ev->n, .shift = shift, .ids = json_incref(ids)};
    ev->n++;
}

static uint64_t highest_id(const json_t *ids)
{
    uint64_t highest = 0;
    json_t *id;
    size_t i;

    json_array_foreach(ids, i, id)
    {
        uint64_t v = json_integer_value(id) > 0 ? (uint64_t)json_integer_value(id) : 0;

        highest = v > highest ? v : highest;
    }
    return highest;
}

/* Requests nest where an agent had others work for it. The highest id. */
static uint64_t collect(struct events *ev, const json_t *requests, uint64_t shift)
{
    uint64_t highest = 0, h;
    json_t *r, *ids;
    size_t i;

    json_array_foreach(requests, i, r)
    {
        h = collect(ev, json_object_get(r, "requests"), shift);
        highest = h > highest ? h : highest;
        ids = json_object_get(r, "hash_ids");
        if (!json_array_size(ids))
            continue;
        events_add(ev, json_number_value(json_object_get(r, "t")), ids, shift);
        h = highest_id(ids);
        highest = h > highest ? h : highest;
    }
    return highest;
}

static int event_order(const void *a, const void *b)
{
    const struct event *x = a, *y = b;

    if (x->at < y->at || x->at > y->at)
        return x->at < y->at ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int is_json(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return n > 5 && !strcmp(d->d_name + n - 5, ".json");
}

static void load_folder(struct trace *t, const char *path)
{
    struct events ev = {0};
    struct dirent **names;
    uint64_t shift = 0;
    int n = scandir(path, &names, is_json, alphasort), i;
    size_t k;

    if (n <= 0)
        replay_fail("%s: no .json files", path);
    for (i = 0; i < n; i++) {
        char file[4096];
        json_t *o;

        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        o = json_load_file(file, 0, NULL);
        if (!json_is_array(json_object_get(o, "requests")))
            replay_fail("%s: no requests", file);
        shift += collect(&ev, json_object_get(o, "requests"), shift) + 1;
        json_decref(o);
        free(names[i]);
    }
    free(names);
    if (ev.n)
        qsort(ev.at, ev.n, sizeof *ev.at, event_order);
    for (k = 0; k < ev.n; k++) {
        request_add_json(t, ev.at[k].ids, ev.at[k].shift);
        json_decref(ev.at[k].ids);
    }
    free(ev.at);
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

void trace_load(struct trace *t, const char *path)
{
    struct stat st;

    memset(t, 0, sizeof *t);
    if (stat(path, &st))
        replay_fail("%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        load_folder(t, path);
    else
        load_lines(t, path);
    if (!trace_ids(t))
        replay_fail("%s: no requests", path);
    count_distinct(t);
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
