/*
 * cmd_wipe.c - removes whole spaces: one, those of a model, old ones, or all; or the blocks of one
 * tenant in them. Without --yes it only shows what would go.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "cli.h"
#include "removal.h"
#include "text.h"

/* Was a space named, and nothing else said, and there is none? */
static bool nothing_meant(const struct removal *x, const struct cistern_wipe *how,
                          const struct cistern_removal_sum *sum)
{
    return x->x.space && !how->model && !how->older_than_s && !how->tenant_len && !sum->files &&
           !sum->waiting;
}

static int wipe(struct removal *x, const struct cistern_wipe *how, bool yes)
{
    struct cistern_removal_sum sum = {.size = sizeof(sum)};
    int r, rc;

    x->tenant = how->tenant_len != 0;
    x->list = x->x.json ? json_array() : NULL;
    x->from = json_array();
    rc = cistern_wipe(&x->x.a, how, removal_on_item, x, &sum);
    r = removal_end(x, rc, &sum);
    if (rc == -EINVAL && x->x.silence_s) {
        cli_note("leave --silence out%s", x->tenant ? "" : ", or add --force");
        return CLI_USAGE;
    }
    if (r == CLI_OK && nothing_meant(x, how, &sum)) {
        cli_note("no such space: its whole name is needed, or that and digits that only one has");
        return CLI_FINDINGS;
    }
    if (r == CLI_OK && !yes && sum.files)
        cli_note("nothing was removed: --yes does it");
    if (r == CLI_OK && x->tenant && !sum.tenant_blocks)
        cli_note("no block of this tenant was found");
    return r == CLI_OK && sum.waiting ? CLI_FINDINGS : r;
}

struct tenant_args {
    const char *salt, *file;
    uint64_t grace_s;
};

/* One line of a file: words of a command are seen by all users of the host. */
static int read_tenant(const char *file, struct cistern_wipe *how)
{
    static char line[65536];
    FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "rbe");
    size_t n = f ? fread(line, 1, sizeof(line), f) : 0;
    bool failed = !f || ferror(f);

    if (failed)
        (void)cli_fail(CLI_ENVIRONMENT, "%s: %s", file, strerror(errno));
    if (f && f != stdin)
        (void)fclose(f);
    if (failed)
        return CLI_ENVIRONMENT;
    n -= n && line[n - 1] == '\n';
    if (!n || n == sizeof(line) || memchr(line, '\n', n))
        return cli_fail(CLI_USAGE, "%s: one line with a tenant's salt is needed", file);
    how->tenant = line;
    how->tenant_len = n;
    return CLI_OK;
}

/* What a tenant goes with and not. */
static int take_tenant(struct cistern_wipe *how, const struct tenant_args *t, bool force)
{
    if (!t->salt && !t->file)
        return t->grace_s ? cli_fail(CLI_USAGE, "--grace belongs to --tenant") : CLI_OK;
    if (t->salt && t->file)
        return cli_fail(CLI_USAGE, "--tenant and --tenant-file: choose one");
    if (force)
        return cli_fail(CLI_USAGE, "--force does not go with --tenant: what its writer may still "
                                   "write to is never removed");
    if (how->older_than_s)
        return cli_fail(CLI_USAGE, "--older-than does not go with --tenant: what is written about "
                                   "the tenant makes a space young; use --space or --model");
    how->grace_ms = (uint32_t)(1000 * t->grace_s);
    if (t->file)
        return read_tenant(t->file, how);
    how->tenant = t->salt;
    how->tenant_len = strlen(t->salt);
    return CLI_OK;
}

int cmd_wipe(int argc, char **argv)
{
    struct removal x = {0};
    struct cistern_wipe how = {.size = sizeof(how)};
    struct tenant_args tenant = {0};
    const char *older = NULL;
    bool yes = false, force = false, all = false;
    const struct arg args[] = {
        TARGET_ARGS(&x.x.t),
        {"space", "NAME", ARG_STRING, &x.x.space, 0, 0,
         "only spaces of this name, or the one whose directory is named so"},
        {"model", "NAME", ARG_STRING, &how.model, 0, 0, "only spaces of this model"},
        {"older-than", "AGE", ARG_STRING, &older, 0, 0,
         "only spaces in which nothing was written for so long: 90s, 36h, 30d"},
        {"all", NULL, ARG_FLAG, &all, 0, 0, "every space"},
        {"tenant", "SALT", ARG_STRING, &tenant.salt, 0, 0,
         "not spaces, but the blocks of the tenant with this salt in them"},
        {"tenant-file", "FILE", ARG_STRING, &tenant.file, 0, 0,
         "the same with the salt from a file, one line, - is standard input: nobody sees it"},
        {"grace", "SECONDS", ARG_NUMBER, &tenant.grace_s, 1, 3600,
         "with --tenant: between contents and data (as engines do: 9)"},
        {"yes", NULL, ARG_FLAG, &yes, 0, 0,
         "do it; without it, or with --dry-run, only say what would go"},
        {"force", NULL, ARG_FLAG, &force, 0, 0,
         "also spaces with a writer that may be alive, and any --silence"},
        REMOVAL_ARGS(&x),
    };
    const struct arg_page page = {
        .usage = "cistern wipe [ROOT] [options]",
        .about =
            "Removes whole spaces with all their blocks. cistern.json, the salt and files that\n"
            "are not Cistern's stay. With --tenant it removes the blocks of one tenant from all\n"
            "spaces, or from those that are named: nobody finds them from then on, and the\n"
            "segments that hold them go, with what they hold of others, pinned or not. What that\n"
            "is, it shows first.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "A space is left, and the exit status is 1, when one of its writers may be alive:\n"
            "its head is not closed and changed within --silence seconds, or its process runs\n"
            "on this host. A --silence shorter than that of the root is refused. An engine that\n"
            "has the space open without having stored anything cannot be seen: its puts are\n"
            "dropped until it opens the space again. With --tenant engines go on, and segments\n"
            "are left that their writer may still write to: run it again when it has closed, or\n"
            "has made three more. Stop what stores for the tenant before.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if (older != NULL && !text_age_parse(older, &how.older_than_s))
        return cli_fail(CLI_USAGE, "--older-than %s: an age is needed, such as 90s, 36h or 30d",
                        older);
    if (all ==
        (x.x.space != NULL || how.model != NULL || older != NULL || tenant.salt || tenant.file))
        return cli_fail(CLI_USAGE,
                        "wipe what? --space, --model, --older-than, --tenant, or --all alone");
    r = take_tenant(&how, &tenant, force);
    if (r != CLI_OK)
        return r;
    r = admin_resolve(&x.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    x.dry_run = x.dry_run || !yes;
    x.x.a.flags = (x.dry_run ? CISTERN_ADMIN_DRY_RUN : 0) | (force ? CISTERN_ADMIN_FORCE : 0);
    return wipe(&x, &how, yes);
}
