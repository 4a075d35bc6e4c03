/*
 * cmd_import.c - reads an export into a root. The library verifies everything before anything
 * becomes visible.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "args.h"
#include "cli.h"
#include "transfer.h"

static int64_t get(void *arg, void *buf, size_t len)
{
    size_t n = fread(buf, 1, len, arg);

    return n == 0 && ferror(arg) ? (errno ? -errno : -EIO) : (int64_t)n;
}

static int import(struct admin_args *x, const char *file)
{
    struct cistern_transfer_sum sum = {.size = sizeof(sum)};
    FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "rbe");
    struct stat st;
    int r;

    if (in == NULL || fstat(fileno(in), &st) != 0 || S_ISDIR(st.st_mode)) {
        r = cli_fail(CLI_ENVIRONMENT, "%s: %s", file, in == NULL ? strerror(errno) : "not a file");
        if (in != NULL)
            fclose(in);
        return r;
    }
    r = cistern_import(&x->a, get, in, &sum);
    if (in != stdin)
        fclose(in);
    admin_quiet(x);
    return r != 0 ? cli_fail_lib(r, "%s", file) : transfer_print(x, "imported", &sum, false);
}

int cmd_import(int argc, char **argv)
{
    struct admin_args x = {0};
    const struct arg args[] = {
        TARGET_ARGS(&x.t),
        ADMIN_JSON_ARG(&x),
    };
    const struct arg_page page = {
        .usage = "cistern import FILE [ROOT] [options]",
        .about =
            "Reads what `cistern export` wrote into a root, as segments of a new writer; \"-\" is\n"
            "stdin. Everything is verified before anything becomes visible.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "The root needs the salt of the one that was exported. A root that does not exist is\n"
            "made when the file brings its salt (export --with-salt): name it with --mount and\n"
            "--root then.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 2, &words);
    if (r != ARG_GO)
        return r;
    if (words < 1)
        return cli_fail(CLI_USAGE, "a file is needed: %s", page.usage);
    r = admin_resolve_new(&x, words == 2 ? argv[1] : NULL);
    return r == CLI_OK ? import(&x, argv[0]) : r;
}
