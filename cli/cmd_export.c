/*
 * cmd_export.c - writes one space as one file, or to stdout.
 *
 * The file gets its name when it is whole and synced; before, it is called <FILE>.part.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "args.h"
#include "cli.h"
#include "transfer.h"

struct export
{
    struct admin_args x;
    const char *file;
    char part[PATH_MAX];
    FILE *out;
    bool salt;
};

static int put(void *arg, const void *data, size_t len)
{
    struct export *e = arg;

    return fwrite(data, 1, len, e->out) == len ? 0 : CLI_IO;
}

static int open_out(struct export *e)
{
    int fd;

    if (strcmp(e->file, "-") == 0) {
        e->out = stdout;
        return CLI_OK;
    }
    if (snprintf(e->part, sizeof(e->part), "%s.part", e->file) >= (int)sizeof(e->part))
        return cli_fail(CLI_USAGE, "%s: the path is too long", e->file);
    /* For its owner alone: what users asked a model is in it, and perhaps the salt. */
    fd = open(e->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    e->out = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (e->out == NULL)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", e->part, strerror(errno));
    return CLI_OK;
}

/* 0, or what is wrong with the file. */
static int close_out(struct export *e)
{
    int error = 0;

    if (fflush(e->out) != 0)
        error = errno;
    if (e->out == stdout)
        return error;
    if (error == 0 && fsync(fileno(e->out)) != 0)
        error = errno;
    if (fclose(e->out) != 0 && error == 0)
        error = errno;
    if (error == 0 && rename(e->part, e->file) != 0)
        error = errno;
    return error;
}

static int export(struct export *e)
{
    struct cistern_transfer_sum sum = {.size = sizeof(sum)};
    int r = open_out(e), error;

    if (r != CLI_OK)
        return r;
    e->x.a.flags = e->salt ? CISTERN_ADMIN_SALT : 0;
    errno = 0;
    r = cistern_export(&e->x.a, put, e, &sum);
    admin_quiet(&e->x);
    error = r > 0 ? errno : 0;
    if (r != 0) {
        if (e->out != stdout) {
            fclose(e->out);
            unlink(e->part);
        }
        return r > 0 ? cli_fail(CLI_IO, "%s cannot be written: %s", e->file, strerror(error))
                     : cli_fail_lib(r, "%s", e->x.t.root_path);
    }
    error = close_out(e);
    if (error != 0) {
        unlink(e->part);
        return cli_fail(CLI_IO, "%s cannot be written: %s", e->file, strerror(error));
    }
    r = transfer_print(&e->x, "exported", &sum, e->out == stdout);
    return r != CLI_OK ? r : sum.skipped ? CLI_FINDINGS : CLI_OK;
}

int cmd_export(int argc, char **argv)
{
    struct export e = {0};
    const struct arg args[] = {
        TARGET_ARGS(&e.x.t),
        {"with-salt", NULL, ARG_FLAG, &e.salt, 0, 0,
         "put the root's salt in: whoever has the file can test prompts against keys"},
        ADMIN_JSON_ARG(&e.x),
    };
    const struct arg_page page = {
        .usage = "cistern export SPACE FILE [options]",
        .about =
            "Writes the space whose directory begins with SPACE as one file; \"-\" is stdout.\n"
            "Every block is verified on the way; bad ones are left out.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "Keys depend on the root's salt. Without --with-salt the file can be imported only\n"
            "into a root that has the same salt. Exit status 1: bad blocks were left out.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 2, &words);
    if (r != ARG_GO)
        return r;
    if (words != 2)
        return cli_fail(CLI_USAGE, "a space and a file are needed: %s", page.usage);
    e.x.space = argv[0];
    e.file = argv[1];
    if (strcmp(e.file, "-") == 0 && isatty(STDOUT_FILENO))
        return cli_fail(CLI_USAGE, "stdout is a terminal; name a file");
    r = admin_resolve(&e.x, NULL, false);
    return r == CLI_OK ? export(&e) : r;
}
