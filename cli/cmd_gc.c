/*
 * cmd_gc.c - removes what nobody needs: leftovers of writers that ended.
 */
#include "args.h"
#include "cli.h"
#include "removal.h"
#include "text.h"

/* Evicts down to a size; its files and bytes go into `sum`. */
static int shrink(struct removal *x, uint64_t to, uint64_t grace_s, struct cistern_removal_sum *sum,
                  struct cistern_shrink_sum *out)
{
    const struct cistern_shrink how = {
        .size = sizeof(how), .to_bytes = to, .grace_ms = (uint32_t)(1000 * grace_s)};
    int r = cistern_shrink(&x->x.a, &how, removal_on_item, x, out);

    if (r != 0)
        return r;
    sum->files += out->files;
    sum->disk_bytes += out->bytes;
    sum->failed += out->failed;
    return 0;
}

static int shrink_end(const struct cistern_shrink_sum *s)
{
    char missing[32];

    if (!s->missing)
        return CLI_OK;
    cli_note(
        "%s above the size that was asked for could not be evicted: they belong to writers that "
        "live, or to pins (%llu segments left)",
        text_size(s->missing, missing, sizeof(missing)), (unsigned long long)s->kept);
    return CLI_FINDINGS;
}

int cmd_gc(int argc, char **argv)
{
    struct removal x = {0};
    struct cistern_removal_sum sum = {.size = sizeof(sum)};
    struct cistern_shrink_sum shrunk = {.size = sizeof(shrunk)};
    uint64_t to = 0, grace_s = 0;
    double rate = 0;
    const struct arg args[] = {
        TARGET_ARGS(&x.x.t),
        {"to", "SIZE", ARG_SIZE, &to, 1, 0, "then evict blocks until the root takes no more"},
        {"grace", "SECONDS", ARG_NUMBER, &grace_s, 1, 3600,
         "with --to: between contents and data (as engines do: 9)"},
        {"rate", "MIB", ARG_DECIMAL, &rate, 0, 0, "with --to: most MiB of data removed a second"},
        ADMIN_SPACE_ARG(&x.x),
        REMOVAL_ARGS(&x),
    };
    const struct arg_page page = {
        .usage = "cistern gc [ROOT] [options]",
        .about =
            "Removes what nobody needs of writers that ended: segments in which nothing was\n"
            "published, data without contents, contents without data, heads without segments,\n"
            "temporary files, pins that expired. No block that can be read is lost, but with\n"
            "--to, which evicts what engines would evict next; pinned blocks stay.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "When something belongs to a writer that did not close, its head and files are\n"
            "watched for --silence seconds first; what changes, or has a process on this host,\n"
            "is left. A shorter --silence than that of the root, 60, may take an engine that\n"
            "has nothing to do for dead, and is warned of. --to does not carry used blocks\n"
            "over, as an engine does that is given a smaller capacity. Exit status 1: the size\n"
            "could not be reached.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if (!to && (grace_s || rate > 0))
        return cli_fail(CLI_USAGE, "--grace and --rate belong to --to");
    r = admin_resolve(&x.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    x.x.a.flags = x.dry_run ? CISTERN_ADMIN_DRY_RUN : 0;
    x.list = x.x.json ? json_array() : NULL;
    r = cistern_gc(&x.x.a, removal_on_item, &x, &sum);
    x.x.a.rate_bytes = (uint64_t)(rate * 1024 * 1024);
    if (r == 0 && to)
        r = shrink(&x, to, grace_s, &sum, &shrunk);
    r = removal_end(&x, r, &sum);
    return r != CLI_OK ? r : shrink_end(&shrunk);
}
