/*
 * cmd_gc.c - removes what nobody needs: leftovers of writers that ended.
 */
#include "args.h"
#include "cli.h"
#include "removal.h"

int cmd_gc(int argc, char **argv)
{
    struct removal x = {0};
    struct cistern_removal_sum sum = {.size = sizeof(sum)};
    const struct arg args[] = {
        TARGET_ARGS(&x.x.t),
        REMOVAL_ARGS(&x),
    };
    const struct arg_page page = {
        .usage = "cistern gc [ROOT] [options]",
        .about =
            "Removes what nobody needs of writers that ended: segments in which nothing was\n"
            "published, data without contents, contents without data, heads without segments,\n"
            "temporary files, pins that expired. No block that can be read is lost.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "When something belongs to a writer that did not close, its head and files are\n"
            "watched for --silence seconds first; what changes, or has a process on this host,\n"
            "is left.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    r = admin_resolve(&x.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    x.x.a.flags = x.dry_run ? CISTERN_ADMIN_DRY_RUN : 0;
    x.list = x.x.json ? json_array() : NULL;
    r = cistern_gc(&x.x.a, removal_on_item, &x, &sum);
    return removal_end(&x, r, &sum);
}
