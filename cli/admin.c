/*
 * admin.c - common options of the operator's verbs, and progress as one line on stderr, only where
 * stderr is a terminal.
 */
#include "admin.h"

#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "json_out.h"
#include "text.h"

static int show(void *arg, const struct cistern_progress *p)
{
    struct admin_args *x = arg;
    char done[32], total[32];

    if (p->total == 0)
        fprintf(stderr, "\r%s ...\033[K", p->doing);
    else if (p->doing[0] == 'w') /* watching: milliseconds */
        fprintf(stderr, "\r%s, %llu of %llu s\033[K", p->doing,
                (unsigned long long)(p->done / 1000), (unsigned long long)(p->total / 1000));
    else
        fprintf(stderr, "\r%s, %s of %s (%llu %%)\033[K", p->doing,
                text_size(p->done, done, sizeof(done)), text_size(p->total, total, sizeof(total)),
                (unsigned long long)(100.0 * (double)p->done / (double)p->total));
    fflush(stderr);
    x->shown = true;
    return 0;
}

void admin_quiet(struct admin_args *x)
{
    if (x->shown)
        fputs("\r\033[K", stderr);
    x->shown = false;
}

static void warn(void *arg, int level, const char *line)
{
    if (level > CISTERN_LOG_WARN)
        return;
    admin_quiet(arg);
    cli_note("cistern: %s", line);
}

static void fill(struct admin_args *x)
{
    if (x->silence_s) {
        x->t.options.log = warn;
        x->t.options.log_arg = x;
    }
    x->a.size = sizeof(x->a);
    x->a.store = &x->t.options;
    x->a.space = x->space;
    x->a.silence_ms = (uint32_t)(1000 * x->silence_s);
    if (isatty(STDERR_FILENO)) {
        x->a.progress = show;
        x->a.progress_arg = x;
    }
}

int admin_resolve(struct admin_args *x, const char *word, bool damaged)
{
    int r = target_word(&x->t, word);

    if (r == CLI_OK)
        r = damaged ? target_resolve_damaged(&x->t) : target_resolve(&x->t);
    if (r == CLI_OK)
        fill(x);
    return r;
}

int admin_resolve_new(struct admin_args *x, const char *word)
{
    int r = target_word(&x->t, word);

    if (r == CLI_OK)
        r = target_resolve_new(&x->t);
    if (r == CLI_OK)
        fill(x);
    return r;
}

int admin_spaces_end(struct admin_args *x, int64_t n, json_t *list, uint64_t failed)
{
    json_t *j;
    int r;

    admin_quiet(x);
    if (n < 0) {
        json_decref(list);
        return cli_fail_lib((int)n, "%s", x->t.root_path);
    }
    if (list != NULL) {
        j = json_object();
        json_object_set_new(j, "spaces", list);
        json_out_number(j, "failed", failed);
        if ((r = json_out_print(j)) != CLI_OK)
            return r;
    }
    if (n == 0)
        cli_note("no such space");
    return failed ? CLI_IO : n == 0 ? CLI_FINDINGS : CLI_OK;
}
