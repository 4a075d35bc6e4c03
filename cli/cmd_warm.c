/*
 * cmd_warm.c - reads the blocks of a prompt ahead of their use, and pins them on request.
 */
#include <stdio.h>

#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "pinning.h"
#include "text.h"

struct warm {
    struct admin_args x;
    struct prefix_args names;
    struct pinning pinning;
    double rate;
    bool pin, verbose;
    json_t *missing; /* NULL without --json */
};

static int on_missing(void *arg, const struct cistern_explanation *b)
{
    struct warm *w = arg;
    char key[65];
    json_t *o;

    admin_quiet(&w->x);
    text_hex(b->key.b, sizeof(b->key.b), key);
    if (w->missing == NULL) {
        if (w->verbose)
            printf("block %u %s: %s\n", b->index, key, b->detail);
        return ferror(stdout) ? -1 : 0;
    }
    o = json_object();
    json_out_number(o, "index", b->index);
    json_out_text(o, "key", key);
    json_out_text(o, "detail", b->detail);
    return json_array_append_new(w->missing, o) != 0 ? -1 : 0;
}

static int report(struct warm *w, const struct cistern_warm_sum *s, json_t *o)
{
    double seconds = (double)s->nanoseconds / 1e9;
    double rate = seconds > 0 ? (double)s->bytes / seconds : 0;
    char bytes[32], speed[32];

    if (o == NULL) {
        printf("%llu blocks: %llu read and verified, %llu missing, %llu bad; %s in %.1f s, %s/s\n",
               (unsigned long long)s->blocks, (unsigned long long)s->hits,
               (unsigned long long)s->missing, (unsigned long long)s->bad,
               text_size(s->bytes, bytes, sizeof(bytes)), seconds,
               text_size((uint64_t)rate, speed, sizeof(speed)));
        return CLI_OK;
    }
    json_out_number(o, "blocks", s->blocks);
    json_out_number(o, "hits", s->hits);
    json_out_number(o, "missing", s->missing);
    json_out_number(o, "bad", s->bad);
    json_out_number(o, "bytes", s->bytes);
    json_out_real(o, "seconds", seconds);
    json_out_real(o, "bytes_per_second", rate);
    json_object_set_new(o, "not_warmed", w->missing);
    w->missing = NULL;
    return CLI_OK;
}

static int warm(struct warm *w, const struct prefix *prefix)
{
    struct cistern_warm_sum sum = {.size = sizeof(sum)};
    json_t *o = w->x.json ? json_object() : NULL;
    int r = CLI_OK;

    w->x.a.rate_bytes = (uint64_t)(w->rate * 1024 * 1024);
    w->missing = w->x.json ? json_array() : NULL;
    if (w->pin) /* first: nothing of it is to go while it is read */
        r = pinning_do(&w->x, &w->pinning, prefix, o);
    if (r == CLI_OK) {
        r = cistern_warm(&w->x.a, &prefix->prefix, on_missing, w, &sum);
        admin_quiet(&w->x);
        r = r != 0 ? cli_fail_lib(r, "%s", w->x.t.root_path) : report(w, &sum, o);
    }
    json_decref(w->missing);
    if (r != CLI_OK)
        json_decref(o);
    else if (o != NULL)
        r = json_out_print(o);
    return r != CLI_OK ? r : sum.hits < sum.blocks ? CLI_FINDINGS : CLI_OK;
}

int cmd_warm(int argc, char **argv)
{
    struct warm w = {0};
    struct prefix prefix;
    const struct arg args[] = {
        TARGET_ARGS(&w.x.t),
        PREFIX_ARGS(&w.x, &w.names),
        {"rate", "MIB", ARG_DECIMAL, &w.rate, 0, 0, "most MiB that are read a second (no limit)"},
        {"pin", NULL, ARG_FLAG, &w.pin, 0, 0, "pin them, too"},
        PINNING_ARGS(&w.pinning),
        {"verbose", NULL, ARG_FLAG, &w.verbose, 0, 0, "a line for each block that is not there"},
        ADMIN_JSON_ARG(&w.x),
    };
    const struct arg_page page = {
        .usage = "cistern warm [ROOT] --prompt FILE | --key HEX,... | --keys FILE [options]",
        .about =
            "Reads and verifies the blocks of a prompt on all shards, so that they are in the\n"
            "caches of the storage when an engine asks. What that helps depends on the storage:\n"
            "the page cache of this host serves engines that read through it, servers serve all.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "Exit status 1: a block is missing or bad.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if (!w.pin && (w.pinning.label != NULL || w.pinning.expires != NULL))
        return cli_fail(CLI_USAGE, "--label and --expires belong to --pin");
    if ((r = prefix_check(&w.names)) != CLI_OK ||
        (r = admin_resolve(&w.x, words ? argv[0] : NULL, false)) != CLI_OK)
        return r;
    r = prefix_read(&w.names, &prefix);
    if (r == CLI_OK)
        r = warm(&w, &prefix);
    prefix_release(&prefix);
    return r;
}
