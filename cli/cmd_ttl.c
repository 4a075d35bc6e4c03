/*
 * cmd_ttl.c - tells how long the blocks of spaces live, or changes it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "admin.h"
#include "args.h"
#include "cli.h"
#include "json_out.h"

struct ttl_out {
    struct admin_args x;
    bool dry_run, change;
    json_t *list; /* NULL: lines */
    uint64_t failed;
};

static const char *word_of(const struct ttl_out *o, const struct cistern_space_ttl *x)
{
    if (x->result)
        return "failed";
    if (!o->change)
        return x->said ? "told" : "not said";
    if (!x->changed)
        return "was so already";
    return o->dry_run ? "would be changed" : "changed";
}

static int on_space(void *arg, const struct cistern_space_ttl *x)
{
    struct ttl_out *o = arg;
    json_t *j;

    admin_quiet(&o->x);
    o->failed += x->result < 0;
    if (o->list == NULL) {
        printf("%s: ", x->space);
        if (x->result)
            printf("failed: %s\n", cistern_error_string(x->result));
        else if (!x->said)
            printf("not said: each engine goes by its own option\n");
        else
            printf("%" PRIu32 " s%s%s%s\n", x->seconds, x->seconds ? "" : ": blocks do not age",
                   o->change ? ", " : "", o->change ? word_of(o, x) : "");
        return ferror(stdout) ? CLI_IO : 0;
    }
    j = json_object();
    json_out_text(j, "space", x->space);
    json_out_text(j, "result", word_of(o, x));
    if (x->said)
        json_out_number(j, "ttl_seconds", x->seconds);
    else
        json_object_set_new(j, "ttl_seconds", json_null());
    json_object_set_new(j, "changed", json_boolean(x->changed && !x->result));
    return json_array_append_new(o->list, j) != 0 ? CLI_ENVIRONMENT : 0;
}

static int ttl(struct ttl_out *o, const struct cistern_ttl *how)
{
    int64_t n;

    o->list = o->x.json ? json_array() : NULL;
    n = cistern_ttl(&o->x.a, how, on_space, o);
    return admin_spaces_end(&o->x, n, o->list, o->failed);
}

int cmd_ttl(int argc, char **argv)
{
    struct ttl_out o = {0};
    struct cistern_ttl how = {.size = sizeof(how)};
    uint64_t seconds = UINT64_MAX;
    bool none = false;
    const struct arg args[] = {
        TARGET_ARGS(&o.x.t),
        ADMIN_SPACE_ARG(&o.x),
        {"model", "NAME", ARG_STRING, &how.model, 0, 0, "only spaces of this model"},
        {"seconds", "N", ARG_NUMBER, &seconds, 1, UINT32_MAX, "how long blocks live from now on"},
        {"none", NULL, ARG_FLAG, &none, 0, 0, "blocks do not age"},
        {"dry-run", NULL, ARG_FLAG, &o.dry_run, 0, 0, "only say what would change"},
        ADMIN_JSON_ARG(&o.x),
    };
    const struct arg_page page = {
        .usage = "cistern ttl [ROOT] [--space NAME] [--model NAME] [--seconds N | --none]",
        .about =
            "Tells how long the blocks of spaces live, or changes it for all who share them.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "A space says nothing until this command is used, or an engine with ttl_seconds\n"
                "opens it; from then on what it says goes before the engines' own ttl_seconds.\n"
                "Engines see a change within half a minute. The exit status is 1 when there is no\n"
                "such space.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    o.change = none || seconds != UINT64_MAX;
    if (none && seconds != UINT64_MAX)
        return cli_fail(CLI_USAGE, "--seconds or --none");
    if (o.change && o.x.space == NULL && how.model == NULL)
        return cli_fail(CLI_USAGE, "change what? --space or --model");
    r = admin_resolve(&o.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    how.change = o.change;
    how.seconds = none || !o.change ? 0 : (uint32_t)seconds;
    o.x.a.flags = o.dry_run ? CISTERN_ADMIN_DRY_RUN : 0;
    return ttl(&o, &how);
}
