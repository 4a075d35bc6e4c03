/*
 * cmd_retire.c - marks spaces as retired, or takes the mark away.
 */
#include <inttypes.h>
#include <stdio.h>

#include "admin.h"
#include "args.h"
#include "cli.h"
#include "json_out.h"

struct retire_out {
    struct admin_args x;
    bool dry_run;
    json_t *list; /* NULL: lines */
    uint64_t failed;
};

static const char *word_of(const struct retire_out *o, const struct cistern_retired *x)
{
    if (x->result)
        return "failed";
    if (!x->changed)
        return x->retired ? "was retired already" : "was not retired";
    if (o->dry_run)
        return x->retired ? "would be retired" : "would be taken back";
    return x->retired ? "retired" : "taken back";
}

static int on_space(void *arg, const struct cistern_retired *x)
{
    struct retire_out *o = arg;
    json_t *j;

    admin_quiet(&o->x);
    o->failed += x->result < 0;
    if (o->list == NULL) {
        printf("%s: %s%s%s\n", x->space, word_of(o, x), x->result < 0 ? ": " : "",
               x->result < 0 ? cistern_error_string(x->result) : "");
        return ferror(stdout) ? CLI_IO : 0;
    }
    j = json_object();
    json_out_text(j, "space", x->space);
    json_out_text(j, "result", word_of(o, x));
    json_object_set_new(j, "retired", json_boolean(x->retired));
    json_object_set_new(j, "changed", json_boolean(x->changed && !x->result));
    return json_array_append_new(o->list, j) != 0 ? CLI_ENVIRONMENT : 0;
}

static int retire(struct retire_out *o, const struct cistern_retire *how)
{
    int64_t n;

    o->list = o->x.json ? json_array() : NULL;
    n = cistern_retire(&o->x.a, how, on_space, o);
    return admin_spaces_end(&o->x, n, o->list, o->failed);
}

int cmd_retire(int argc, char **argv)
{
    struct retire_out o = {0};
    struct cistern_retire how = {.size = sizeof(how)};
    bool undo = false;
    const struct arg args[] = {
        TARGET_ARGS(&o.x.t),
        ADMIN_SPACE_ARG(&o.x),
        {"model", "NAME", ARG_STRING, &how.model, 0, 0, "only spaces of this model"},
        {"undo", NULL, ARG_FLAG, &undo, 0, 0, "take the mark away"},
        {"dry-run", NULL, ARG_FLAG, &o.dry_run, 0, 0, "only say what would change"},
        ADMIN_JSON_ARG(&o.x),
    };
    const struct arg_page page = {
        .usage = "cistern retire [ROOT] --space NAME | --model NAME [options]",
        .about = "Marks spaces whose model is not served any more: what is in them is evicted\n"
                 "before everything else, and nothing is stored in them.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "Nothing is removed at once: `cistern wipe` does that. Engines that have the space\n"
            "open, or open it later, still find what is there; their puts are dropped and\n"
            "counted (put_dropped_retired_blocks), within half a minute. The exit status is 1\n"
            "when there is no such space.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if (o.x.space == NULL && how.model == NULL)
        return cli_fail(CLI_USAGE, "retire what? --space or --model");
    r = admin_resolve(&o.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    how.undo = undo;
    o.x.a.flags = o.dry_run ? CISTERN_ADMIN_DRY_RUN : 0;
    return retire(&o, &how);
}
