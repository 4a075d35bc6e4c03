/*
 * cmd_fsck.c - checks a root: findings with ids that docs/FSCK.md explains. Payloads are the
 * business of `cistern verify`.
 */
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "text.h"

static const char *const severities[] = {"note", "warn", "error"};
static const char *const repairs[] = {"", "repaired", "its writer may be alive", "repair failed",
                                      "would be repaired"};

struct fsck {
    struct admin_args x;
    bool repair, dry_run, list;
    json_t *findings; /* NULL without --json */
};

static int on_finding(void *arg, const struct cistern_finding *f)
{
    struct fsck *k = arg;
    const struct cistern_check *c = f->check;
    json_t *o;

    admin_quiet(&k->x);
    if (k->findings != NULL) {
        o = json_object();
        json_out_text(o, "id", c->id);
        json_out_text(o, "severity", severities[c->severity]);
        json_out_text(o, "path", f->path);
        json_out_text(o, "title", c->title);
        json_out_text(o, "detail", f->detail);
        json_out_text(o, "advice", c->advice);
        json_out_text(o, "repair", repairs[f->repair]);
        return json_array_append_new(k->findings, o) != 0 ? CLI_ENVIRONMENT : 0;
    }
    printf("%s %-5s %s: %s (%s)%s%s\n", c->id, severities[c->severity], f->path, c->title,
           f->detail, f->repair ? ", " : "", repairs[f->repair]);
    if (c->severity != CISTERN_NOTE && f->repair != CISTERN_REPAIR_DONE)
        printf("            %s\n", c->advice);
    return ferror(stdout) ? CLI_IO : 0;
}

static json_t *sum_json(const struct cistern_fsck_sum *s)
{
    json_t *o = json_object();

    json_out_number(o, "spaces", s->spaces);
    json_out_number(o, "shards", s->shards);
    json_out_number(o, "writers", s->writers);
    json_out_number(o, "segments", s->segments);
    json_out_number(o, "blocks", s->blocks);
    json_out_number(o, "disk_bytes", s->disk_bytes);
    json_out_number(o, "capacity_bytes", s->capacity_bytes);
    json_out_number(o, "notes", s->notes);
    json_out_number(o, "warnings", s->warnings);
    json_out_number(o, "errors", s->errors);
    json_out_number(o, "repaired", s->repaired);
    json_out_number(o, "unrepaired", s->unrepaired);
    return o;
}

static void sum_print(const struct cistern_fsck_sum *s)
{
    char used[32], capacity[32];

    printf("%llu spaces, %llu shards, %llu writers, %llu segments, %llu blocks; %s used",
           (unsigned long long)s->spaces, (unsigned long long)s->shards,
           (unsigned long long)s->writers, (unsigned long long)s->segments,
           (unsigned long long)s->blocks, text_size(s->disk_bytes, used, sizeof(used)));
    if (s->capacity_bytes)
        printf(" of %s", text_size(s->capacity_bytes, capacity, sizeof(capacity)));
    printf("\n%llu errors, %llu warnings, %llu notes, %llu repaired\n",
           (unsigned long long)s->errors, (unsigned long long)s->warnings,
           (unsigned long long)s->notes, (unsigned long long)s->repaired);
}

static int list_checks(bool json)
{
    struct cistern_check checks[128];
    int i, n = cistern_fsck_checks(checks, 128);
    json_t *list = json ? json_array() : NULL;

    for (i = 0; i < n; i++) {
        const struct cistern_check *c = &checks[i];

        if (json) {
            json_t *o = json_object();

            json_out_text(o, "id", c->id);
            json_out_text(o, "severity", severities[c->severity]);
            json_out_text(o, "title", c->title);
            json_out_text(o, "meaning", c->meaning);
            json_out_text(o, "advice", c->advice);
            json_out_number(o, "repairable", c->repairable);
            json_array_append_new(list, o);
        } else {
            printf("%s %-5s %s%s\n", c->id, severities[c->severity], c->title,
                   c->repairable ? " (--repair)" : "");
        }
    }
    return json ? json_out_print(list) : CLI_OK;
}

static int check(struct fsck *k)
{
    struct cistern_fsck_sum sum = {.size = sizeof(sum)};
    int r;

    k->x.a.flags =
        (k->repair ? CISTERN_ADMIN_REPAIR : 0) | (k->dry_run ? CISTERN_ADMIN_DRY_RUN : 0);
    if (k->x.json)
        k->findings = json_array();
    r = cistern_fsck(&k->x.a, on_finding, k, &sum);
    admin_quiet(&k->x);
    if (r != 0) {
        json_decref(k->findings);
        return r > 0 ? r : cli_fail_lib(r, "%s", k->x.t.root_path);
    }
    if (k->x.json) {
        json_t *o = json_object();

        json_object_set_new(o, "findings", k->findings);
        json_object_set_new(o, "summary", sum_json(&sum));
        r = json_out_print(o);
    } else {
        sum_print(&sum);
    }
    return r != CLI_OK ? r : sum.unrepaired ? CLI_FINDINGS : CLI_OK;
}

int cmd_fsck(int argc, char **argv)
{
    struct fsck k = {0};
    const struct arg args[] = {
        TARGET_ARGS(&k.x.t),
        ADMIN_SPACE_ARG(&k.x),
        {"repair", NULL, ARG_FLAG, &k.repair, 0, 0,
         "remove what dead writers left over, rewrite what is derived"},
        {"dry-run", NULL, ARG_FLAG, &k.dry_run, 0, 0, "with --repair: say what it would do"},
        ADMIN_SILENCE_ARG(&k.x),
        {"list", NULL, ARG_FLAG, &k.list, 0, 0, "the table of checks, and nothing else"},
        ADMIN_JSON_ARG(&k.x),
    };
    const struct arg_page page = {
        .usage = "cistern fsck [ROOT] [options]",
        .about =
            "Checks everything but payloads (`cistern verify` reads those): files of the root,\n"
            "spaces, heads, contents, data. Writes nothing without --repair.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "--repair touches files of a writer only when it has closed its head, or when head\n"
            "and files stay unchanged for --silence seconds; it warns when that is less than\n"
            "the root says, or 60. It never touches a payload that a block names. Exit status\n"
            "1: warnings or errors are left; notes do not count.\n"
            "Ids are explained in docs/FSCK.md.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if (k.list)
        return list_checks(k.x.json);
    if (k.dry_run && !k.repair)
        return cli_fail(CLI_USAGE, "--dry-run belongs to --repair");
    r = admin_resolve(&k.x, words ? argv[0] : NULL, true);
    return r == CLI_OK ? check(&k) : r;
}
