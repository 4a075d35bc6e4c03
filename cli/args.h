/*
 * args.h - options of a verb as a table, which parses them and writes the help page.
 *
 * Long options only: "--name value", "--name=value", "--flag". "--" ends them. Errors name the
 * option, the value and what would do, and suggest the nearest known name. No global state.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum arg_kind {
    ARG_FLAG,   /* bool */
    ARG_STRING, /* const char * into argv */
    ARG_SIZE,   /* uint64_t: bytes, K M G T */
    ARG_NUMBER, /* uint64_t */
    ARG_DECIMAL /* double, above 0 */
};

struct arg {
    const char *name;    /* without the dashes */
    const char *metavar; /* NULL for flags */
    enum arg_kind kind;
    void *value;       /* of the type that the kind says; untouched when the option is not given */
    uint64_t min, max; /* for sizes and numbers; max 0 = no limit */
    const char *help;  /* one line; the default is part of it */
};

struct arg_page {
    const char *usage; /* "cistern stat [options]" */
    const char *about; /* sentences, ended by a newline */
    const struct arg *args;
    size_t nargs;
    const char *tail; /* examples, or NULL */
};

enum arg_answer {
    ARG_GO =
        -1 /* carry on; other values are exit codes to return (help was printed, or an error) */
};

/*
 * Parses argv[1..argc). Words that are no options are moved to the front of argv and counted in
 * *words; more than max_words is an error. ARG_GO, or an exit code.
 */
int args_parse(const struct arg_page *page, int argc, char **argv, int max_words, int *words);
void args_help(const struct arg_page *page);

/* The name in names[0..n) that `word` was probably meant to be; NULL: nothing is near. */
const char *args_nearest(const char *word, const char *const *names, size_t n);

#endif
