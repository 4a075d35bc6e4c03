/*
 * explain.c - cistern_explain(): why a run ends where it ends, by the rules of a match: every shard
 * must have a good copy with every part that its policy asks for.
 *
 * What a process knows besides is not seen here: what its gate measured, what it has not taken up
 * yet.
 */
#include "admin/explain.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/config.h"
#include "key/grow.h"

#define PROMPT_MAX (1u << 24) /* keys of one call */

/* ---- The space's rules ---- */

static int rules_take(struct explain *x)
{
    json_t *o = json_loadb(x->space->json, (size_t)x->space->json_len, 0, NULL);
    const json_t *parts = json_object_get(o, "parts");
    size_t i, n = json_array_size(parts);

    x->block_tokens = (uint32_t)json_integer_value(json_object_get(o, "block_tokens"));
    x->shards = x->space->json_shards;
    for (i = 0; i < n && i < CISTERN_MAX_PARTS; i++) {
        const json_t *p = json_array_get(parts, i);
        const char *policy = json_string_value(json_object_get(p, "policy"));
        uint16_t bit = (uint16_t)(1u << i);
        json_int_t bytes = json_integer_value(json_object_get(p, "bytes"));

        if (bytes > 0)
            x->block_bytes += round_up((uint64_t)bytes, FORMAT_PAGE);
        x->window[i] = (uint32_t)json_integer_value(json_object_get(p, "window"));
        if (policy && strcmp(policy, "last") == 0)
            x->last |= bit;
        else if (policy && strcmp(policy, "trailing") == 0)
            x->trailing |= bit;
        else
            x->all |= bit;
    }
    json_decref(o);
    if (!n || !x->block_tokens)
        return err_set(CISTERN_ESPACE, "%s: its space.json lacks parts or block_tokens",
                       x->space->name);
    return 0;
}

static int choose_space(struct explain *x)
{
    size_t i, found = 0;

    for (i = 0; i < x->v.nspaces; i++)
        if (admin_wants_space(&x->ad, x->v.spaces[i].name)) {
            x->space = &x->v.spaces[i];
            found++;
        }
    if (found != 1)
        return err_set(CISTERN_ESPACE, "%s: %zu spaces have names that begin so, one is needed",
                       x->ad.opt.space ? x->ad.opt.space : "(any)", found);
    if (x->space->inspect_rc)
        return err_set(CISTERN_ESPACE,
                       "%s: its space.json is missing or damaged; open the space "
                       "once, which mends it",
                       x->space->name);
    return rules_take(x);
}

/* ---- Keys ---- */

static int keys_from_tokens(struct explain *x, const struct cistern_prefix *e)
{
    const struct root_params params = {.may_write = false, .crypt = x->ad.crypt};
    struct root_info root;
    cistern_key from;
    int64_t n;
    int rc = root_prepare(x->ad.io, x->ad.cfg.root, &params, &root);

    if (rc || (rc = key_root(root.salt, e->identity, &from)))
        return rc;
    n = cistern_key_chain(&from, e->tokens, e->ntokens, x->block_tokens, x->keys);
    if (n < 0 || !e->identity)
        return n < 0 ? (int)n : 0;
    if ((rc = key_root(root.salt, NULL, &from)))
        return rc;
    n = cistern_key_chain(&from, e->tokens, e->ntokens, x->block_tokens, x->keys + x->nprompt);
    return n < 0 ? (int)n : 0;
}

static int by_bytes(const void *a, const void *b, void *keys)
{
    const cistern_key *k = keys;

    return memcmp(k[*(const size_t *)a].b, k[*(const size_t *)b].b, 32);
}

static int take_keys(struct explain *x, const struct cistern_prefix *e)
{
    size_t i;
    int rc = 0;

    x->nprompt = e->tokens ? e->ntokens / x->block_tokens : e->nkeys;
    if (!x->nprompt || x->nprompt > PROMPT_MAX)
        return err_set(-EINVAL, e->tokens ? "%zu tokens: a block has %u" : "%zu keys", e->ntokens,
                       x->block_tokens);
    x->nkeys = e->tokens && e->identity ? 2 * x->nprompt : x->nprompt;
    x->keys = calloc(x->nkeys, sizeof *x->keys);
    x->order = calloc(x->nkeys, sizeof *x->order);
    if (!x->keys || !x->order)
        return err_set(-ENOMEM, "no memory for %zu keys", x->nkeys);
    if (e->tokens)
        rc = keys_from_tokens(x, e);
    else
        memcpy(x->keys, e->keys, x->nkeys * sizeof *x->keys);
    for (i = 0; i < x->nkeys; i++)
        x->order[i] = i;
    qsort_r(x->order, x->nkeys, sizeof *x->order, by_bytes, x->keys);
    return rc;
}

/* ---- One key ---- */

static void point_at(struct explain_answer *a, const struct explain_copy *c)
{
    survey_segment_path(c->shard, c->segment, ".seg", a->path);
    a->out.offset = (uint64_t)c->info.offset * FORMAT_PAGE;
    a->out.shard = c->shard->shard;
    a->out.parts = c->info.mask;
}

/* The best copy in one shard; *stored: there is any. a is filled in from the newest that is not
 * good, or from the good one. */
static int shard_answer(struct explain *x, size_t key, uint32_t shard, struct explain_answer *a,
                        bool *stored)
{
    struct explain_answer one;
    size_t i;
    int rc = 0;

    *stored = false;
    for (i = explain_first(x, key); i < x->ncopies && x->copies[i].key == key && !rc; i++) {
        const struct explain_copy *c = &x->copies[i];

        if (c->space != x->space || c->shard->shard != shard || c->shard->shards != x->shards)
            continue;
        one = *a;
        rc = explain_judge(x, c, &one.out.why, one.detail, sizeof one.detail);
        if (rc || (*stored && one.out.why != CISTERN_WHY_HERE))
            continue;
        *stored = true;
        point_at(&one, c);
        *a = one;
        if (a->out.why == CISTERN_WHY_HERE)
            break;
    }
    return rc;
}

int explain_key(struct explain *x, size_t key, struct explain_answer *a)
{
    const struct explain_copy *where = NULL;
    uint32_t shard, missing = UINT32_MAX, seen = 0;
    bool stored;
    int rc;

    *a = (struct explain_answer){.out = {.index = (uint32_t)key, .key = x->keys[key]},
                                 .have = UINT16_MAX};
    for (shard = 0; shard < x->shards; shard++) {
        if ((rc = shard_answer(x, key, shard, a, &stored)))
            return rc;
        if (stored && a->out.why != CISTERN_WHY_HERE)
            return 0;
        if (stored)
            a->have &= (uint16_t)a->out.parts;
        else if (missing == UINT32_MAX)
            missing = shard;
        seen += stored;
    }
    if (seen == 0) {
        a->out.why = explain_absent(x, key, &where, a->detail, sizeof a->detail);
        if (where)
            point_at(a, where);
    } else if (seen < x->shards) {
        a->out.why = CISTERN_WHY_SHARD;
        (void)snprintf(a->detail, sizeof a->detail,
                       "stored on %u of %u shards; shard %u has none: %s there", seen, x->shards,
                       missing,
                       explain_gone(x, missing) ? "evicted or never stored" : "never stored");
    } else if ((a->have & x->all) != x->all) {
        a->out.why = CISTERN_WHY_PARTS;
        (void)snprintf(a->detail, sizeof a->detail,
                       "parts %#x are stored on every shard; parts %#x are needed in every block",
                       a->have, x->all);
    }
    return 0;
}

/* ---- The run ---- */

/* Do the parts that are needed at the end of a run hold for `n` blocks? */
static bool run_holds(const struct explain *x, const uint16_t *have, size_t n)
{
    unsigned p;
    size_t i;

    if ((have[n - 1] & x->last) != x->last)
        return false;
    for (p = 0; p < CISTERN_MAX_PARTS; p++) {
        if (!(x->trailing & 1u << p))
            continue;
        for (i = n > x->window[p] ? n - x->window[p] : 0; i < n; i++)
            if (!(have[i] & 1u << p))
                return false;
    }
    return true;
}

int explain_tell(struct explain *x, struct explain_answer *a,
                 int (*callback)(void *arg, const struct cistern_explanation *e), void *arg)
{
    size_t len = strlen(a->detail);

    a->out.pinned = pins_keys_have(&x->pins, a->out.key.b);
    if (a->out.pinned)
        (void)snprintf(a->detail + len, sizeof a->detail - len, "; pinned");
    a->out.path = a->path;
    a->out.detail = a->detail;
    return admin_answer(&x->ad, callback(arg, &a->out));
}

static int64_t explain_run(struct explain *x,
                           int (*callback)(void *arg, const struct cistern_explanation *e),
                           void *arg)
{
    bool at_once = !x->last && !x->trailing; /* what comes later cannot make a run shorter */
    uint16_t *have = calloc(x->nprompt, sizeof *have);
    struct explain_answer a;
    size_t n = 0, run, i;
    int rc = have ? 0 : err_set(-ENOMEM, "no memory for %zu keys", x->nprompt);

    while (!rc && n < x->nprompt && !(rc = explain_key(x, n, &a)) &&
           a.out.why == CISTERN_WHY_HERE) {
        have[n++] = a.have;
        rc = at_once ? explain_tell(x, &a, callback, arg)
                     : admin_progress(&x->ad, "looking at blocks");
    }
    for (run = n; !rc && run && !run_holds(x, have, run);)
        run--;
    free(have);
    for (i = at_once ? run : 0; i < run && !rc; i++) {
        struct explain_answer good;

        if (!(rc = explain_key(x, i, &good)))
            rc = explain_tell(x, &good, callback, arg);
    }
    if (!rc && run < n) { /* a good block, but a run cannot end at or behind it */
        rc = explain_key(x, run, &a);
        a.out.why = CISTERN_WHY_PARTS;
        (void)snprintf(a.detail, sizeof a.detail,
                       "stored, but parts that are needed at the end of a run are not: %#x of %#x",
                       a.have & (x->last | x->trailing), x->last | x->trailing);
    }
    if (!rc && run < x->nprompt)
        rc = explain_tell(x, &a, callback, arg);
    return rc ? rc : (int64_t)run;
}

int explain_begin(struct explain *x, const struct cistern_admin *a,
                  const struct cistern_prefix *prefix)
{
    struct cistern_prefix p;
    const char *space;
    int rc = config_take_struct(&p, sizeof p, prefix);

    if (rc)
        return rc;
    if (!p.keys == !p.tokens)
        return err_set(-EINVAL, "not exactly one of keys and tokens is given");
    if ((rc = admin_open(&x->ad, a)))
        return rc;
    space = x->ad.opt.space;
    x->ad.opt.space = NULL; /* all of them: a key may be elsewhere */
    rc = survey_take(&x->ad, true, &x->v);
    x->ad.opt.space = space;
    rc = rc ? rc : survey_unlocked(&x->v);
    if (rc || (rc = choose_space(x)) || (rc = take_keys(x, &p)))
        return rc;
    return explain_find(x);
}

void explain_end(struct explain *x)
{
    free(x->keys);
    free(x->order);
    free(x->copies);
    pins_keys_free(&x->pins);
    survey_free(&x->v);
    admin_close(&x->ad);
}

static int pass_over(void *arg, const struct cistern_explanation *e)
{
    (void)arg;
    (void)e;
    return 0;
}

/* What ends every run at its first block; 1: told. */
static int explain_all(struct explain *x, const struct cistern_explain *e,
                       int (*callback)(void *arg, const struct cistern_explanation *e), void *arg)
{
    struct explain_answer a = {.out = {.key = x->keys[0]}};
    uint64_t from = clock_ns();
    int64_t run = explain_run(x, pass_over, NULL);
    bool refused = false;
    int rc;

    if (run < 0)
        return (int)run;
    if (explain_breaker(x, run, a.detail, sizeof a.detail)) {
        a.out.why = CISTERN_WHY_BREAKER;
    } else {
        rc = explain_gate(x, e, run, clock_ns() - from, &refused, a.detail, sizeof a.detail);
        if (rc || !refused)
            return rc;
        a.out.why = CISTERN_WHY_GATED;
    }
    rc = explain_tell(x, &a, callback, arg);
    return rc ? rc : 1;
}

int64_t cistern_explain(const struct cistern_admin *a, const struct cistern_explain *how,
                        int (*callback)(void *arg, const struct cistern_explanation *e), void *arg)
{
    struct explain x = {0};
    struct cistern_prefix prefix = {.size = sizeof prefix};
    struct cistern_explain e;
    int64_t run = 0;
    int rc = config_take_struct(&e, sizeof e, how);

    if (rc)
        return rc;
    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    prefix.keys = e.keys;
    prefix.nkeys = e.nkeys;
    prefix.tokens = e.tokens;
    prefix.ntokens = e.ntokens;
    prefix.identity = e.identity;
    rc = explain_begin(&x, a, &prefix);
    rc = rc ? rc : pins_keys_take(&x.ad, &x.v, x.space, &x.pins);
    if (!rc && (e.prefill_rate || explain_breaker(&x, 0, NULL, 0)))
        rc = explain_all(&x, &e, callback, arg);
    if (!rc)
        run = explain_run(&x, callback, arg);
    explain_end(&x);
    if (rc)
        return rc > 0 ? 0 : admin_result(&x.ad, rc);
    return run < 0 ? admin_result(&x.ad, (int)run) : run;
}
