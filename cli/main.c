/*
 * main.c - the command: a table of verbs, and help.
 */
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "cistern.h"
#include "cli.h"

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct cli_verb verbs[] = {
    {"bench", "measure put, get, match and open beside raw baselines", cmd_bench},
    {"stat", "what is in a directory: spaces, shards, writers, blocks, bytes", cmd_stat},
    {"metrics", "numbers of running engines for Prometheus: stdout, HTTP, a file", cmd_metrics},
    {"ls", "list the segments or the blocks of a directory", cmd_ls},
    {"fsck", "check a directory, and mend what can be mended", cmd_fsck},
    {"verify", "read and check every payload", cmd_verify},
    {"gc", "remove what dead writers left over", cmd_gc},
    {"wipe", "remove a space, a model, or everything", cmd_wipe},
    {"retire", "mark a space whose model is not served any more", cmd_retire},
    {"ttl", "how long the blocks of a space live", cmd_ttl},
    {"export", "write a space as one file", cmd_export},
    {"import", "read such a file into a root", cmd_import},
    {"pin", "keep the blocks of a prompt from eviction", cmd_pin},
    {"unpin", "let go of a pin", cmd_unpin},
    {"pins", "list the pins", cmd_pins},
    {"warm", "read and check the blocks of a prompt ahead of their use", cmd_warm},
    {"explain", "which block ends the run of a prompt, and why", cmd_explain},
    {"doctor", "check this machine, its limits and its mount", cmd_doctor},
    {"clusters", "which network cluster's storage this host uses, and why", cmd_clusters},
    {"plan", "sizes and configuration of a deployment", cmd_plan},
    {"replay", "run a trace of requests over a store", cmd_replay},
    {"version", "print the version", cmd_version},
    {"help", "this page, or `cistern help <verb>`", cmd_help},
};

#define NVERBS (sizeof(verbs) / sizeof(verbs[0]))

static const struct cli_verb *verb_find(const char *name)
{
    size_t i;

    for (i = 0; i < NVERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int verb_unknown(const char *name)
{
    const char *names[NVERBS], *near;
    size_t i;

    for (i = 0; i < NVERBS; i++)
        names[i] = verbs[i].name;
    near = args_nearest(name, names, NVERBS);
    if (near != NULL)
        return cli_fail(CLI_USAGE, "unknown verb '%s'; did you mean '%s'?", name, near);
    return cli_fail(CLI_USAGE, "unknown verb '%s'; `cistern help` lists them", name);
}

static void help_print(FILE *f)
{
    size_t i;

    fprintf(f, "usage: cistern <verb> [options]\n\n"
               "Looks at and measures Cistern, a persistent second tier for KV caches.\n\n"
               "verbs:\n");
    for (i = 0; i < NVERBS; i++)
        fprintf(f, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(f, "\n`cistern <verb> --help` says more.\n"
               "exit status: 0 fine, 1 findings, 2 usage, 3 environment, 4 I/O\n");
}

static int cmd_help(int argc, char **argv)
{
    char *page[] = {NULL, "--help", NULL};
    const struct cli_verb *v;

    if (argc < 2 || argv[1][0] == '-') {
        help_print(stdout);
        return CLI_OK;
    }
    v = verb_find(argv[1]);
    if (v == NULL)
        return verb_unknown(argv[1]);
    if (v->run == cmd_help) {
        help_print(stdout);
        return CLI_OK;
    }
    page[0] = argv[1];
    return v->run(2, page);
}

static int cmd_version(int argc, char **argv)
{
    static const struct arg_page page = {
        .usage = "cistern version",
        .about = "Prints the version of the library that this command runs with.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 0, &words);
    if (r != ARG_GO)
        return r;
    printf("cistern %s\n", cistern_version());
    return CLI_OK;
}

int main(int argc, char **argv)
{
    const struct cli_verb *v;
    int r;

    if (argc < 2) {
        help_print(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_print(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0)
        argv[1] = "version";
    v = verb_find(argv[1]);
    if (v == NULL)
        return verb_unknown(argv[1]);
    r = v->run(argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_fail(CLI_IO, "cannot write the answer to stdout");
    return r;
}
