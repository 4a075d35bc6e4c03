/*
 * args.c - a table-driven parser of long options and the help page from the same table.
 */
#include "args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "text.h"

#define ARG_MAX 64

const char *args_nearest(const char *word, const char *const *names, size_t n)
{
    unsigned d, best = 3; /* further away it is not a slip of the finger */
    const char *found = NULL;
    size_t i;

    for (i = 0; i < n; i++) {
        d = text_distance(word, names[i]);
        if (d < best && d < strlen(names[i])) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

void args_help(const struct arg_page *page)
{
    char left[64];
    size_t i;

    printf("usage: %s\n\n%s", page->usage, page->about);
    printf("\noptions:\n");
    for (i = 0; i < page->nargs; i++) {
        const struct arg *a = &page->args[i];

        snprintf(left, sizeof(left), "--%s%s%s", a->name, a->metavar ? " " : "",
                 a->metavar ? a->metavar : "");
        printf("  %-24s %s\n", left, a->help);
    }
    printf("  %-24s %s\n", "--help", "this page");
    if (page->tail != NULL)
        printf("\n%s", page->tail);
}

static const struct arg *arg_find(const struct arg_page *page, const char *name, size_t len)
{
    size_t i;

    for (i = 0; i < page->nargs; i++)
        if (strlen(page->args[i].name) == len && memcmp(page->args[i].name, name, len) == 0)
            return &page->args[i];
    return NULL;
}

static int arg_unknown(const struct arg_page *page, const char *name)
{
    const char *names[ARG_MAX], *near;
    size_t i;

    for (i = 0; i < page->nargs && i < ARG_MAX; i++)
        names[i] = page->args[i].name;
    near = args_nearest(name, names, i);
    if (near != NULL)
        return cli_fail(CLI_USAGE, "unknown option --%s; did you mean --%s?", name, near);
    return cli_fail(CLI_USAGE, "unknown option --%s; `%.*s --help` lists them", name,
                    (int)strcspn(page->usage, "[<"), page->usage);
}

static int arg_range(const struct arg *a, const char *value)
{
    char lo[32], hi[32];

    if (a->kind == ARG_SIZE) {
        if (a->max == 0)
            return cli_fail(CLI_USAGE,
                            "--%s %s: a size of at least %s is needed, such as 64K or 2M", a->name,
                            value, text_size(a->min, lo, sizeof(lo)));
        return cli_fail(CLI_USAGE, "--%s %s: a size from %s to %s is needed, such as 64K or 2M",
                        a->name, value, text_size(a->min, lo, sizeof(lo)),
                        text_size(a->max, hi, sizeof(hi)));
    }
    if (a->max == 0)
        return cli_fail(CLI_USAGE, "--%s %s: a whole number of at least %llu is needed", a->name,
                        value, (unsigned long long)a->min);
    return cli_fail(CLI_USAGE, "--%s %s: a whole number from %llu to %llu is needed", a->name,
                    value, (unsigned long long)a->min, (unsigned long long)a->max);
}

static bool decimal_parse(const char *s, double *out)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(s, &end);
    if (end == s || *end != '\0' || errno != 0 || !(v > 0) || v > 1e9)
        return false;
    *out = v;
    return true;
}

static int arg_store(const struct arg *a, const char *value)
{
    uint64_t max = a->max ? a->max : UINT64_MAX, v;

    switch (a->kind) {
    case ARG_FLAG:
        *(bool *)a->value = true;
        return ARG_GO;
    case ARG_STRING:
        if (value[0] == '\0')
            return cli_fail(CLI_USAGE, "--%s: the value is empty", a->name);
        *(const char **)a->value = value;
        return ARG_GO;
    case ARG_SIZE:
        if (!text_size_parse(value, &v) || v < a->min || v > max)
            return arg_range(a, value);
        *(uint64_t *)a->value = v;
        return ARG_GO;
    case ARG_NUMBER:
        if (!text_number_parse(value, a->min, max, &v))
            return arg_range(a, value);
        *(uint64_t *)a->value = v;
        return ARG_GO;
    case ARG_DECIMAL:
        if (!decimal_parse(value, a->value))
            return cli_fail(CLI_USAGE, "--%s %s: a number above 0 is needed", a->name, value);
        return ARG_GO;
    }
    return ARG_GO;
}

/* One option at argv[*i]; *i moves over a value in the next word. */
static int arg_take(const struct arg_page *page, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *value = strchr(name, '=');
    size_t len = value ? (size_t)(value - name) : strlen(name);
    const struct arg *a;

    if (strcmp(argv[*i], "-h") == 0 || strcmp(argv[*i], "--help") == 0) {
        args_help(page);
        return CLI_OK;
    }
    if (argv[*i][1] != '-')
        return cli_fail(CLI_USAGE, "unknown option %s; options begin with two dashes", argv[*i]);
    a = arg_find(page, name, len);
    if (a == NULL)
        return arg_unknown(page, name);
    if (a->kind == ARG_FLAG) {
        if (value != NULL)
            return cli_fail(CLI_USAGE, "--%s takes no value", a->name);
    } else if (value != NULL) {
        value++;
    } else if (++*i < argc) {
        value = argv[*i];
    } else {
        return cli_fail(CLI_USAGE, "--%s needs a value: --%s %s", a->name, a->name, a->metavar);
    }
    return arg_store(a, value);
}

int args_parse(const struct arg_page *page, int argc, char **argv, int max_words, int *words)
{
    bool options = true;
    int n = 0, i, r;

    for (i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            r = arg_take(page, argc, argv, &i);
            if (r != ARG_GO)
                return r;
        } else if (n == max_words) {
            return cli_fail(CLI_USAGE, "unexpected word '%s'; usage: %s", argv[i], page->usage);
        } else {
            argv[n++] = argv[i];
        }
    }
    *words = n;
    return ARG_GO;
}
