/*
 * cli.h - what every verb of the command shares: exit codes, the table of verbs, words to stderr.
 *
 * stdout carries the answer and nothing else, stderr everything a person may want to know besides.
 * One thread, unless a verb says otherwise; failures travel up as exit codes of enum cli_exit.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_FINDINGS = 1,    /* the question was answered, and the answer is not a good one */
    CLI_USAGE = 2,       /* the command line cannot be understood */
    CLI_ENVIRONMENT = 3, /* a directory, a library, memory: something around us is not as needed */
    CLI_IO = 4           /* storage failed, or gave what it must not give */
};

struct cli_verb {
    const char *name;
    const char *summary; /* one line for `cistern help` */
    int (*run)(int argc, char **argv);
};

int cmd_bench(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_wipe(int argc, char **argv);
int cmd_retire(int argc, char **argv);
int cmd_ttl(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_pin(int argc, char **argv);
int cmd_unpin(int argc, char **argv);
int cmd_pins(int argc, char **argv);
int cmd_warm(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_clusters(int argc, char **argv);

/* "cistern: <words>\n" on stderr. Returns `code`, so that callers can return what they say. */
int cli_fail(enum cli_exit code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with the library's sentence for `error` and this thread's detail behind the words. */
int cli_fail_lib(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Which exit code a negative code of the library stands for. */
enum cli_exit cli_exit_of(int error);
/* A note on stderr; nothing is wrong. */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
