/*
 * bench_store.c - opens the store that is measured.
 */
#include "bench_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_op.h"
#include "cli.h"

#define FLUSH_MS 60000
/* An overloaded disk is slow, not gone: deadlines of a bench are long. */
#define OP_MS    60000
#define IO_MS    30000

static void log_line(void *arg, int level, const char *line)
{
    (void)arg;
    if (level <= CISTERN_LOG_WARN)
        cli_note("cistern: %s", line);
}

void store_space(struct bench_store *s)
{
    const struct bench_config *c = s->c;
    uint32_t i;

    for (i = 0; i < c->parts; i++) {
        snprintf(s->part_names[i], sizeof(s->part_names[i]), "p%u", i);
        s->parts[i] = (struct cistern_part){.name = s->part_names[i], .bytes = c->block / c->parts};
    }
    s->space = (struct cistern_space){.size = sizeof(s->space),
                                      .name = "bench",
                                      .model = "bench",
                                      .dtype = "bytes",
                                      .block_tokens = 64,
                                      .layers = 1,
                                      .kv_heads = 1,
                                      .head_dim = 1,
                                      .nparts = (uint32_t)c->parts,
                                      .parts = s->parts};
}

void store_options(const struct bench_store *s, struct cistern_options *o)
{
    const struct bench_config *c = s->c;

    *o = (struct cistern_options){
        .size = sizeof(*o),
        .reuse_cache = 1,
        .enable_3fs = 1,
        .mount = s->place->mount,
        .root = s->place->root,
        .provider = c->provider,
        .provider_path = c->provider_path,
        .space = &s->space,
        .flags = c->store_flags | (c->buffered ? CISTERN_OPEN_BUFFERED : 0),
        .capacity_bytes = c->capacity,
        .read_iov_bytes = c->staging,
        .write_iov_bytes = c->staging,
        .get_timeout_ms = OP_MS,
        .put_timeout_ms = OP_MS,
        .read_timeout_ms = IO_MS,
        .write_timeout_ms = IO_MS,
        .io_bytes = (uint32_t)c->io_bytes,
        .lanes = (uint32_t)c->lanes,
        .depth = (uint32_t)(c->depth / c->lanes ? c->depth / c->lanes : 1),
        .segment_bytes = c->segment,
        .close_timeout_ms = FLUSH_MS,
        .log = log_line,
        .encryption_key_file = c->encrypt ? c->key_file : NULL};
}

static int keys_make(struct bench_store *s)
{
    uint64_t name[2] = {s->generation, 0};
    int r = cistern_key_root(s->handle, NULL, &s->root);

    for (; r == 0 && name[1] < s->nkeys; name[1]++)
        r = cistern_key_from_hash(&s->root, name, sizeof(name), &s->keys[name[1]]);
    return r == 0 ? CLI_OK : cli_fail_lib(r, "keys");
}

static int handle_open(struct bench_store *s)
{
    struct cistern_options o;
    int r;

    store_options(s, &o);
    r = cistern_open(&o, &s->handle);
    if (r != 0)
        return cli_fail_lib(r, "%s/%s", s->place->mount, s->place->root);
    s->next = 0;
    return keys_make(s);
}

int store_open(struct bench_store *s, const struct bench_config *c, struct bench_place *place,
               uint64_t nkeys)
{
    int r;

    memset(s, 0, sizeof(*s));
    s->c = c;
    s->place = place;
    s->nkeys = nkeys;
    s->batch = (uint32_t)(c->request / c->block ? c->request / c->block : 1);
    s->nops = (uint32_t)c->inflight;
    store_space(s);
    s->keys = malloc(nkeys * sizeof(*s->keys));
    s->ops = store_ops_make(s);
    if (s->keys == NULL || s->ops == NULL) {
        store_close(s);
        return cli_fail(CLI_ENVIRONMENT, "out of memory for the keys of %llu blocks",
                        (unsigned long long)nkeys);
    }
    r = handle_open(s);
    if (r != CLI_OK)
        store_close(s);
    return r;
}

int store_restart(struct bench_store *s)
{
    int r = cistern_close(s->handle);

    s->handle = NULL;
    if (r != 0)
        return cli_fail_lib(r, "closing the store");
    r = place_clear_root(s->place);
    s->generation++;
    return r == CLI_OK ? handle_open(s) : r;
}

void store_close(struct bench_store *s)
{
    int r = cistern_close(s->handle);

    if (r != 0)
        (void)cli_fail_lib(r, "closing the store");
    s->handle = NULL;
    store_ops_free(s);
    free(s->keys);
    s->keys = NULL;
}

int store_flush(void *job)
{
    struct store_job *j = job;
    int r = cistern_flush(j->s->handle, FLUSH_MS);

    return r == 0 ? CLI_OK : cli_fail_lib(r, "flushing the store");
}

int store_fill(struct store_job *j, bool hollow)
{
    struct bench_store *s = j->s;
    uint64_t step = (1ull << 30) / s->c->block, limit = j->limit;
    struct slice ignored;
    int r = CLI_OK;

    while (s->next < limit && r == CLI_OK) {
        j->limit = s->next + step < limit ? s->next + step : limit;
        memset(&ignored, 0, sizeof(ignored));
        r = store_put_run(j, 1e6, &ignored);
        if (r == CLI_OK && hollow)
            r = place_hollow(s->place);
        if (r == CLI_OK && bench_stopped)
            r = BENCH_INTERRUPTED;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[Kfilling: %llu of %llu blocks", (unsigned long long)s->next,
                    (unsigned long long)limit);
    }
    j->limit = limit;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    return r == CLI_OK ? store_flush(j) : r;
}
