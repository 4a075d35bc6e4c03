/*
 * bench_encrypt.c - what encryption costs: an encrypted store beside a plain one, AES-256-GCM of
 * OpenSSL alone, and raw reads or memcpy, all in alternating slices of one process.
 *
 * Two roots with the same blocks, or two that are written in turn. Every round has one slice of
 * each side; each baseline has a row of its own, and all rows share the slices of the encrypted
 * store. Raw reads are of the plain root's files. A put has no raw side: `put` without encryption
 * has.
 */
#include <stdio.h>
#include <string.h>

#include "bench_figures.h"
#include "bench_raw.h"
#include "bench_store.h"
#include "cli.h"

#define SEED_FROM 1
#define SEED_TO   2
#define SIDES     3 /* baselines at most */

/* One store, with a place and a config of its own. */
struct vault {
    struct bench_config c;
    struct bench_place place;
    struct bench_store store;
    struct store_job job;
    cistern_memory *memory; /* the area of gets, registered; NULL = gets are staged */
    uint64_t most;          /* blocks of one slice of puts so far */
};

struct sealing {
    struct bench_run *run;
    struct bench_area from, to;
    struct vault sealed, plain;
    struct crypter crypter;
    struct copier copier;
    struct extents extents;
    struct raw_reader *raw;
};

/* Rows behind the others, one for each baseline; named by what all of them measure. */
static int rows_run(struct sealing *x, const char *what, const struct side *ours,
                    const struct side *bases, size_t n)
{
    struct figures *list = &x->run->figures;
    struct figure *f[SIDES];
    size_t first = list->n, i;

    for (i = 0; i < n; i++) {
        struct figure *new = figure_add(list);

        if (new == NULL)
            return cli_fail(CLI_ENVIRONMENT, "out of memory");
        snprintf(new->what, sizeof(new->what), "%s", what);
        snprintf(new->remark, sizeof(new->remark), "encrypted");
        new->block = x->run->c.block;
    }
    for (i = 0; i < n; i++)
        f[i] = &list->list[first + i];
    return slices_run_beside(&x->run->c, f, ours, bases, n);
}

static struct copier copier_of(const struct sealing *x, bool random)
{
    return (struct copier){.from = &x->from,
                           .to = &x->to,
                           .block = x->run->c.block,
                           .random = random,
                           .seed = x->run->c.seed + 5};
}

/* ---- get ---- */

static int vault_fill(struct sealing *x, struct vault *v)
{
    uint64_t blocks = v->c.total / v->c.block;
    int r = store_open(&v->store, &v->c, &v->place, blocks);

    if (r != CLI_OK)
        return r;
    v->job = (struct store_job){.s = &v->store, .area = &x->from, .limit = blocks};
    r = store_fill(&v->job, false);
    if (r != CLI_OK || !v->c.direct)
        return r;
    r = cistern_memory_register(v->store.handle, x->to.base, x->to.size, &v->memory);
    return r == 0 ? CLI_OK : cli_fail_lib(r, "--direct");
}

static void vault_aim(struct sealing *x, struct vault *v, bool random)
{
    v->job = (struct store_job){.s = &v->store,
                                .area = &x->to,
                                .limit = v->store.next,
                                .random = random,
                                .memory = v->memory,
                                .seed = v->c.seed};
}

static void vault_close(struct vault *v)
{
    int r;

    if (v->memory != NULL && (r = cistern_memory_release(v->store.handle, v->memory)) != 0)
        (void)cli_fail_lib(r, "releasing registered memory");
    v->memory = NULL;
    store_close(&v->store);
}

static int get_rows(struct sealing *x, bool random)
{
    struct side ours = {"encrypted", store_get_run, NULL, &x->sealed.job};
    struct side bases[SIDES] = {{"plain", store_get_run, NULL, &x->plain.job},
                                {"OpenSSL", crypter_run, NULL, &x->crypter},
                                {"memcpy", copier_run, NULL, &x->copier}};
    int r = CLI_OK;

    vault_aim(x, &x->sealed, random);
    vault_aim(x, &x->plain, random);
    x->copier = x->crypter.copy = copier_of(x, random);
    if (!x->run->place.memory_backed) {
        r = raw_reader_open(&x->run->c, &x->extents, !random, x->run->c.io_bytes, &x->raw);
        bases[2] = (struct side){"raw", raw_reader_run, NULL, x->raw};
    }
    if (r == CLI_OK)
        r = rows_run(x, random ? "get at random" : "get in order", &ours, bases, SIDES);
    raw_reader_close(x->raw);
    x->raw = NULL;
    return r;
}

static int get_figures(struct sealing *x, bool in_order, bool random)
{
    int r = vault_fill(x, &x->sealed);

    if (r == CLI_OK)
        r = vault_fill(x, &x->plain);
    if (r == CLI_OK)
        r = store_extents(&x->plain.store, &x->extents);
    if (r == CLI_OK && in_order)
        r = get_rows(x, false);
    if (r == CLI_OK && random)
        r = get_rows(x, true);
    extents_release(&x->extents);
    vault_close(&x->sealed);
    vault_close(&x->plain);
    return r;
}

/* ---- put ---- */

static int vault_put(void *arg, double seconds, struct slice *out)
{
    struct vault *v = arg;
    int r = store_put_run(&v->job, seconds, out);

    if (out->ops > v->most)
        v->most = out->ops;
    return r;
}

/* Some puts whose time does not count: an engine's staging was touched. */
static int vault_warm(struct vault *v)
{
    uint64_t some = (uint64_t)v->store.nops * v->store.batch, quarter = v->store.nkeys / 4;
    struct slice ignored = {0};
    int r;

    v->job.limit = some < quarter ? some : quarter;
    r = store_put_run(&v->job, 1e6, &ignored);
    v->job.limit = v->store.nkeys;
    return r == CLI_OK ? store_flush(&v->job) : r;
}

/* Begins anew when the next slice may not fit. */
static int vault_settle(void *arg)
{
    struct vault *v = arg;
    int r = store_flush(&v->job);

    if (r != CLI_OK || v->store.next + 3 * v->most / 2 <= v->job.limit)
        return r;
    r = store_restart(&v->store);
    return r == CLI_OK ? vault_warm(v) : r;
}

static int vault_empty(struct sealing *x, struct vault *v)
{
    int r = store_open(&v->store, &v->c, &v->place, v->c.total / v->c.block);

    v->job = (struct store_job){.s = &v->store, .area = &x->from, .limit = v->store.nkeys};
    return r == CLI_OK ? vault_warm(v) : r;
}

static int put_figures(struct sealing *x)
{
    struct side ours = {"encrypted", vault_put, vault_settle, &x->sealed};
    struct side bases[SIDES] = {{"plain", vault_put, vault_settle, &x->plain},
                                {"OpenSSL", crypter_run, NULL, &x->crypter},
                                {"memcpy", copier_run, NULL, &x->copier}};
    int r = vault_empty(x, &x->sealed);

    if (r == CLI_OK)
        r = vault_empty(x, &x->plain);
    x->copier = x->crypter.copy = copier_of(x, false);
    if (r == CLI_OK)
        r = rows_run(x, "put", &ours, bases, SIDES);
    store_close(&x->sealed.store);
    store_close(&x->plain.store);
    return r;
}

/* ---- All of it ---- */

/* With a cipher of one direction, and two empty roots at the end. */
static int with_crypter(struct sealing *x, bool put, bool in_order, bool random)
{
    int r;

    x->crypter = (struct crypter){.encrypt = put};
    r = crypter_open(&x->crypter);
    if (r == CLI_OK)
        r = put ? put_figures(x) : get_figures(x, in_order, random);
    crypter_close(&x->crypter);
    (void)place_clear_root(&x->plain.place);
    if (r == CLI_OK && (put || !x->run->c.keep))
        r = place_clear_root(&x->sealed.place);
    return r;
}

int bench_encrypt(struct bench_run *run, bool put, bool in_order, bool random)
{
    struct sealing x;
    int r;

    memset(&x, 0, sizeof(x));
    x.run = run;
    x.sealed = (struct vault){.c = run->c, .place = run->place};
    x.plain = (struct vault){.c = run->c, .place = run->place};
    x.plain.c.encrypt = false;
    snprintf(x.plain.place.root, sizeof(x.plain.place.root), "%.200s.plain", run->place.root);
    r = place_room(&run->place, 2 * run->c.total + 4 * run->c.segment);
    if (r == CLI_OK)
        r = area_open(&x.from, run->c.arena, SEED_FROM);
    if (r == CLI_OK)
        r = area_open(&x.to, run->c.arena, SEED_TO);
    if (r == CLI_OK && put)
        r = with_crypter(&x, true, false, false);
    if (r == CLI_OK && (in_order || random))
        r = with_crypter(&x, false, in_order, random);
    area_close(&x.to);
    area_close(&x.from);
    return r;
}
