/*
 * replay_trace.c - reads traces of requests: Mooncake's JSON lines, and sessions of
 * kv-cache-tester, whose ids mean something inside their own file only.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "cli.h"
#include "replay_trace.h"

#define MOONCAKE_TOKENS 512
#define ID_LIMIT        (1u << 30)

static int room(void **list, size_t *have, size_t want, size_t size)
{
    size_t n = *have ? *have : 1024;
    void *p;

    if (want <= *have)
        return CLI_OK;
    while (n < want)
        n *= 2;
    p = realloc(*list, n * size);
    if (!p)
        return cli_fail(CLI_ENVIRONMENT, "out of memory for the trace");
    *list = p;
    *have = n;
    return CLI_OK;
}

/* One request; `shift` keeps the ids of files apart. */
static int add_request(struct replay_trace *t, const char *where, double at, const json_t *tokens,
                       const json_t *ids, uint64_t shift)
{
    size_t n = json_array_size(ids), i;
    struct replay_request *r;
    int rc;

    if ((rc = room((void **)&t->requests, &t->room_requests, t->nrequests + 1,
                   sizeof(*t->requests))) ||
        (rc = room((void **)&t->ids, &t->room_ids, t->nids + n, sizeof(*t->ids))))
        return rc;
    for (i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t v = json_integer_value(id);

        if (!json_is_integer(id) || v < 0 || (uint64_t)v + shift >= ID_LIMIT)
            return cli_fail(CLI_USAGE, "%s: hash_ids[%zu] is not a number from 0 to %u", where, i,
                            ID_LIMIT - 1);
        t->ids[t->nids + i] = (uint32_t)((uint64_t)v + shift);
        if ((uint64_t)v + shift >= t->next_id)
            t->next_id = (uint64_t)v + shift + 1;
    }
    r = &t->requests[t->nrequests++];
    *r = (struct replay_request){.at = at, .count = (uint32_t)n, .first = t->nids};
    r->tokens = json_is_integer(tokens) && json_integer_value(tokens) > 0 &&
                        json_integer_value(tokens) < UINT32_MAX
                    ? (uint32_t)json_integer_value(tokens)
                    : (uint32_t)(n * t->block_tokens);
    t->nids += n;
    return CLI_OK;
}

static int take_block_tokens(struct replay_trace *t, const char *where, uint64_t tokens)
{
    if (!tokens || tokens > 1u << 20)
        return cli_fail(CLI_USAGE, "%s: block_size is not a number of tokens", where);
    if (t->block_tokens && t->block_tokens != tokens)
        return cli_fail(CLI_USAGE, "%s has blocks of %llu tokens, the trace before it of %u", where,
                        (unsigned long long)tokens, t->block_tokens);
    t->block_tokens = (uint32_t)tokens;
    return CLI_OK;
}

/* ---- Mooncake ---- */

static int load_lines(struct replay_trace *t, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL, where[512];
    size_t size = 0, number = 0;
    uint64_t shift = t->next_id;
    int rc;

    if (!f)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", path, strerror(errno));
    rc = take_block_tokens(t, path, MOONCAKE_TOKENS);
    while (rc == CLI_OK && getline(&line, &size, f) > 0) {
        json_error_t error;
        json_t *o;

        (void)snprintf(where, sizeof(where), "%.400s, line %zu", path, ++number);
        if (line[strspn(line, " \t\r\n")] == '\0')
            continue;
        o = json_loads(line, 0, &error);
        if (!o)
            rc = cli_fail(CLI_USAGE, "%s: %s", where, error.text);
        else if (!json_is_array(json_object_get(o, "hash_ids")))
            rc = cli_fail(CLI_USAGE, "%s: no hash_ids", where);
        else
            rc = add_request(t, where, json_number_value(json_object_get(o, "timestamp")) / 1000,
                             json_object_get(o, "input_length"), json_object_get(o, "hash_ids"),
                             shift);
        json_decref(o);
    }
    free(line);
    (void)fclose(f);
    return rc;
}

/* ---- kv-cache-tester ---- */

/* Requests nest where an agent had others work for it. */
static int add_session(struct replay_trace *t, const char *where, const json_t *requests,
                       uint64_t shift, unsigned depth)
{
    const json_t *r, *inner;
    size_t i;
    int rc = CLI_OK;

    if (depth > 16)
        return cli_fail(CLI_USAGE, "%s: requests nest too deeply", where);
    for (i = 0; i < json_array_size(requests) && rc == CLI_OK; i++) {
        r = json_array_get(requests, i);
        inner = json_object_get(r, "requests");
        if (json_is_array(inner))
            rc = add_session(t, where, inner, shift, depth + 1);
        if (rc == CLI_OK && json_array_size(json_object_get(r, "hash_ids")))
            rc = add_request(t, where, json_number_value(json_object_get(r, "t")),
                             json_object_get(r, "in"), json_object_get(r, "hash_ids"), shift);
    }
    return rc;
}

static int load_session(struct replay_trace *t, const char *path)
{
    json_error_t error;
    json_t *o = json_load_file(path, 0, &error);
    const json_t *scope;
    uint64_t shift = t->next_id;
    int rc;

    if (!o)
        return cli_fail(CLI_USAGE, "%s: %s", path, error.text);
    scope = json_object_get(o, "hash_id_scope");
    if (json_is_string(scope) && strcmp(json_string_value(scope), "local") != 0)
        shift = 0;
    if (!json_is_array(json_object_get(o, "requests")))
        rc = cli_fail(CLI_USAGE, "%s: no requests; a session of kv-cache-tester has them", path);
    else if ((rc = take_block_tokens(
                  t, path, (uint64_t)json_integer_value(json_object_get(o, "block_size")))) ==
             CLI_OK)
        rc = add_session(t, path, json_object_get(o, "requests"), shift, 0);
    json_decref(o);
    return rc;
}

/* ---- Either, or a directory ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

static int is_trace(const struct dirent *e)
{
    return ends_with(e->d_name, ".json") || ends_with(e->d_name, ".jsonl");
}

static int load_directory(struct replay_trace *t, const char *path)
{
    struct dirent **names = NULL;
    char file[4096];
    int n = scandir(path, &names, is_trace, alphasort), i, rc = CLI_OK;

    if (n <= 0)
        rc = cli_fail(CLI_USAGE, "%s: %s", path, n < 0 ? strerror(errno) : "no .json or .jsonl");
    for (i = 0; i < n; i++) {
        (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (rc == CLI_OK)
            rc = ends_with(file, ".jsonl") ? load_lines(t, file) : load_session(t, file);
        free(names[i]);
    }
    free(names);
    return rc;
}

int replay_trace_load(struct replay_trace *t, const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return load_directory(t, path);
    return ends_with(path, ".json") ? load_session(t, path) : load_lines(t, path);
}

static int by_time(const void *x, const void *y)
{
    const struct replay_request *a = x, *b = y;

    if (a->at < b->at || a->at > b->at)
        return a->at < b->at ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first; /* as they stood in the files */
}

int replay_trace_finish(struct replay_trace *t, uint64_t limit)
{
    uint8_t *seen;
    size_t i;
    uint32_t k;
    double start;

    if (!t->nrequests || !t->nids)
        return cli_fail(CLI_USAGE, "the trace has no requests");
    qsort(t->requests, t->nrequests, sizeof(*t->requests), by_time);
    if (limit && limit < t->nrequests)
        t->nrequests = limit;
    start = t->requests[0].at;
    t->blocks = (uint32_t)t->next_id;
    seen = calloc(t->blocks, 1);
    if (!seen)
        return cli_fail(CLI_ENVIRONMENT, "out of memory for the trace");
    for (i = 0; i < t->nrequests; i++) {
        struct replay_request *r = &t->requests[i];

        r->at -= start;
        for (k = 0; k < r->count; k++) {
            t->distinct += !seen[t->ids[r->first + k]];
            seen[t->ids[r->first + k]] = 1;
        }
    }
    free(seen);
    return CLI_OK;
}

void replay_trace_free(struct replay_trace *t)
{
    free(t->requests);
    free(t->ids);
    memset(t, 0, sizeof(*t));
}
