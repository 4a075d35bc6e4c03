/*
 * cli.c - words to stderr and the exit codes that go with them.
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cistern.h"

int cli_fail(enum cli_exit code, const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fputs("cistern: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return code;
}

enum cli_exit cli_exit_of(int error)
{
    switch (error) {
    case 0:
        return CLI_OK;
    case CISTERN_ECONFIG:
        return CLI_USAGE;
    case CISTERN_EDISABLED:
    case CISTERN_EMOUNT:
    case CISTERN_EPROVIDER:
    case CISTERN_ESPACE:
    case CISTERN_EFORMAT:
    case CISTERN_ESTAGING:
    case CISTERN_EMEMORY:
    case CISTERN_ECLUSTER:
    case -ENOENT:
    case -ENOTDIR:
    case -EACCES:
    case -EPERM:
    case -EROFS:
    case -ENOSPC:
    case -EDQUOT:
    case -ENOMEM:
    case -EMFILE:
        return CLI_ENVIRONMENT;
    default:
        return CLI_IO;
    }
}

int cli_fail_lib(int error, const char *fmt, ...)
{
    const char *detail = cistern_error_text();
    va_list ap;

    fflush(stdout);
    fputs("cistern: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, ": %s (%s)", detail[0] ? detail : cistern_error_string(error),
            cistern_error_name(error));
    fputc('\n', stderr);
    return cli_exit_of(error);
}

void cli_note(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}
