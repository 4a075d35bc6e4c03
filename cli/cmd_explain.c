/*
 * cmd_explain.c - which block ends the run of a prompt, and why.
 */
#include <stdio.h>

#include "admin.h"
#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "prefix.h"
#include "text.h"

static const char *const reasons[] = {
    "here",        "never stored", "other space", "other salt", "dead",  "set aside",   "no data",
    "bad payload", "shard",        "parts",       "evicted",    "gated", "breaker open"};

struct explain {
    struct admin_args x;
    struct prefix_args prefix;
    uint64_t prefill_rate;
    double read_rate;
    bool read, verbose;
    bool ended;
    json_t *blocks; /* NULL without --json */
};

static int on_block(void *arg, const struct cistern_explanation *b)
{
    struct explain *e = arg;
    char key[65];
    json_t *o;

    admin_quiet(&e->x);
    e->ended = b->why != CISTERN_WHY_HERE;
    text_hex(b->key.b, sizeof(b->key.b), key);
    if (e->blocks == NULL) {
        if (e->ended || e->verbose)
            printf("block %u %s: %s\n  %s\n", b->index, key, reasons[b->why], b->detail);
        if ((e->ended || e->verbose) && b->path[0])
            printf("  %s+%llu\n", b->path, (unsigned long long)b->offset);
        return ferror(stdout) ? -1 : 0;
    }
    o = json_object();
    json_out_number(o, "index", b->index);
    json_out_text(o, "key", key);
    json_out_text(o, "why", reasons[b->why]);
    json_out_text(o, "detail", b->detail);
    json_object_set_new(o, "pinned", json_boolean(b->pinned));
    if (b->path[0]) {
        json_out_text(o, "segment", b->path);
        json_out_number(o, "offset", b->offset);
        json_out_number(o, "shard", b->shard);
        json_out_number(o, "parts", b->parts);
    }
    return json_array_append_new(e->blocks, o) != 0 ? -1 : 0;
}

static int explain(struct explain *e, const struct cistern_explain *what)
{
    int64_t run;
    json_t *o;
    int r = CLI_OK;

    e->blocks = e->x.json ? json_array() : NULL;
    e->x.a.flags = e->read ? CISTERN_ADMIN_READ : 0;
    run = cistern_explain(&e->x.a, what, on_block, e);
    admin_quiet(&e->x);
    if (run < 0) {
        json_decref(e->blocks);
        return cli_fail_lib((int)run, "%s", e->x.t.root_path);
    }
    if (e->blocks != NULL) {
        o = json_object();
        json_out_number(o, "run", (uint64_t)run);
        json_object_set_new(o, "blocks", e->blocks);
        r = json_out_print(o);
    } else if (e->ended) {
        printf("a match gives %lld blocks\n", (long long)run);
    } else {
        printf("a match gives all %lld blocks\n", (long long)run);
    }
    return r != CLI_OK ? r : e->ended ? CLI_FINDINGS : CLI_OK;
}

static int explain_prefix(struct explain *e)
{
    struct prefix p;
    int r = prefix_read(&e->prefix, &p);

    if (r == CLI_OK) {
        struct cistern_explain what = {.size = sizeof(what),
                                       .keys = p.prefix.keys,
                                       .nkeys = p.prefix.nkeys,
                                       .tokens = p.prefix.tokens,
                                       .ntokens = p.prefix.ntokens,
                                       .identity = p.prefix.identity,
                                       .prefill_rate = e->prefill_rate,
                                       .read_rate = (uint64_t)(e->read_rate * 1024 * 1024)};

        r = explain(e, &what);
    }
    prefix_release(&p);
    return r;
}

int cmd_explain(int argc, char **argv)
{
    struct explain e = {0};
    const struct arg args[] = {
        TARGET_ARGS(&e.x.t),
        PREFIX_ARGS(&e.x, &e.prefix),
        {"read", NULL, ARG_FLAG, &e.read, 0, 0, "read and check the payloads too"},
        {"prefill-rate", "TOKENS", ARG_NUMBER, &e.prefill_rate, 1, 1u << 30,
         "tokens a second that the engine computes: ask the cost gate, too"},
        {"read-rate", "MIB", ARG_DECIMAL, &e.read_rate, 0, 0,
         "with --prefill-rate: MiB a second that a shard loads (measured, with --read)"},
        {"verbose", NULL, ARG_FLAG, &e.verbose, 0, 0, "show the blocks that are there as well"},
        ADMIN_JSON_ARG(&e.x),
    };
    const struct arg_page page = {
        .usage = "cistern explain [ROOT] --prompt FILE | --key HEX,... | --keys FILE [options]",
        .about =
            "Says which block ends the run that a match of this prompt gives, and why: never\n"
            "stored, evicted, stored in another space (and the field that differs), under\n"
            "another salt or without the identity, dead, set aside, data gone, a payload that\n"
            "does not verify, not on every shard, or without a part that is needed; or why the\n"
            "whole run is not matched: a breaker that is open, the cost gate.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "Files are what it looks at, not the memory of a running engine: what its cost gate\n"
            "measured, what it has not taken up yet. Evicted blocks leave no trace of their\n"
            "keys; where that cannot be told from never stored, it says so. Exit status 1: the run "
            "ends before the prompt does.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    r = prefix_check(&e.prefix);
    if (r != CLI_OK)
        return r;
    r = admin_resolve(&e.x, words ? argv[0] : NULL, false);
    return r == CLI_OK ? explain_prefix(&e) : r;
}
