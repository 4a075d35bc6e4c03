/*
 * main.c - minillm: starts the ranks, opens the two tiers, runs the requests in order.
 *
 * Rank 0 reads the requests and tells the others; all of them run each request together. Exit
 * codes: 0 fine, 1 a request failed, 2 usage, 3 the environment (no memory, a rank died). A second
 * tier that cannot be opened is a message, not an end: the engine goes on without it.
 */
#include <cblas.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "request.h"
#include "switches.h"

enum command { END, RUN, FLUSH, SKIP };

struct order {
    int64_t command; /* enum command */
    int64_t ntokens; /* END: whether to drain */
};

struct session {
    struct config config;
    struct engine engine;
    struct report report;
    uint8_t *tokens; /* max_tokens + 1 */
    char *line;      /* of stdin */
    size_t line_size;
    const char *name;
    FILE *logits;
    int next, failures;
    bool tier2_waited;
};

/* ---- SIGTERM ---- */

static volatile sig_atomic_t told_to_end;

/* The request that runs is finished; the next one is not read, also when it is waited for now. */
static void on_sigterm(int sig)
{
    (void)sig;
    told_to_end = 1;
    (void)close(STDIN_FILENO);
}

static void catch_sigterm(void)
{
    struct sigaction act = {.sa_handler = on_sigterm};
    (void)sigaction(SIGTERM, &act, NULL);
}

/* ---- Requests: rank 0 only ---- */

/* File, then text, into tokens; -errno, or their number. */
static int tokens_read(struct session *s, const char *file, const char *text)
{
    size_t room = (size_t)s->config.max_tokens + 1, n = 0, len = text ? strlen(text) : 0;

    if (file) {
        FILE *f = fopen(file, "rbe");
        if (!f)
            return -errno;
        n = fread(s->tokens, 1, room, f);
        bool failed = ferror(f);
        fclose(f);
        if (failed)
            return -EIO;
    }
    if (n + len > room)
        return -E2BIG;
    if (len)
        memcpy(s->tokens + n, text, len);
    return (int)(n + len);
}

static struct order run(struct session *s, const char *file, const char *text, const char *name)
{
    int n = tokens_read(s, file, text);
    s->name = name;
    if (n >= 0)
        return (struct order){RUN, n};
    report_failure(&s->config, s->next++, name, strerror(-n));
    s->failures++;
    return (struct order){SKIP, 0};
}

static struct order order_from_stdin(struct session *s)
{
    ssize_t n = getline(&s->line, &s->line_size, stdin);
    if (n < 0 || told_to_end || !strcmp(s->line, "quit\n"))
        return (struct order){END, told_to_end};
    if (s->line[n - 1] == '\n')
        s->line[n - 1] = 0;
    if (!strcmp(s->line, "flush"))
        return (struct order){FLUSH, 0};
    char *tab = strchr(s->line, '\t');
    if (tab)
        *tab = 0;
    return run(s, s->line, tab ? tab + 1 : NULL, tab ? tab + 1 : s->line);
}

static struct order order_next(struct session *s)
{
    struct config *c = &s->config;

    if (told_to_end)
        return (struct order){END, true};
    if (s->next < c->nrequests) {
        char *file = c->requests[s->next], *colon = strchr(file, ':');
        *colon = 0;
        return run(s, file, colon + 1, colon + 1);
    }
    if (c->prompt_file || c->question) {
        const char *file = c->prompt_file, *text = c->question;
        c->prompt_file = c->question = NULL;
        return run(s, file, text, text ? text : file);
    }
    if (c->serve)
        return order_from_stdin(s);
    if (c->wait_puts && !s->tier2_waited) {
        s->tier2_waited = true;
        return (struct order){FLUSH, 0};
    }
    return (struct order){END, 0};
}

/* ---- All ranks ---- */

static int request_do(struct session *s, int n)
{
    const struct config *c = &s->config;
    int err = comm_broadcast(s->engine.comm, s->tokens, (size_t)n);
    if (err)
        return err;
    s->report.id = s->next++;
    err = request_run(&s->engine, s->tokens, n, &s->report);
    if (err == -EPIPE || c->shape.rank != 0)
        return err == -EPIPE ? err : 0;
    if (err) {
        report_failure(c, s->report.id, s->name,
                       err == -ENOSPC ? "no room in tier 1; raise --tier1-blocks" : strerror(-err));
        s->failures++;
        return 0;
    }
    if (s->logits) {
        size_t count = VOCAB * (size_t)s->report.new_tokens;
        if (fwrite(s->report.logits, sizeof(float), count, s->logits) != count ||
            fflush(s->logits) != 0) {
            fprintf(stderr, "minillm: %s: %s\n", c->logits_out, strerror(errno));
            s->failures++;
        }
    }
    report_request(c, &s->report, s->name); /* last: who reads it finds the logits written */
    return 0;
}

static int sum_over_ranks(struct session *s, uint64_t *value)
{
    int64_t all[MAX_RANKS];
    int err = comm_gather(s->engine.comm, (int64_t)*value, all);
    *value = 0;
    for (int i = 0; i < s->config.shape.tp && !err; i++)
        *value += (uint64_t)all[i];
    return err;
}

static int flush_do(struct session *s)
{
    struct tier2_counts n = {0};
    int64_t complete = 1;

    if (s->engine.tier2) {
        complete = tier2_finish(s->engine.tier2, 30000) == 0;
        n = tier2_counts(s->engine.tier2);
    }
    int err = comm_least(s->engine.comm, &complete);
    uint64_t *each[] = {&n.stored, &n.present, &n.dropped, &n.failed};
    for (int i = 0; i < 4 && !err; i++)
        err = sum_over_ranks(s, each[i]);
    if (!err && s->config.shape.rank == 0)
        report_flushed(&s->config, &n, complete);
    return err;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int drain_do(struct session *s)
{
    double start = now_s();
    int left = s->engine.tier2 ? tier2_drain(s->engine.tier2, s->config.drain_ms) : 0;
    uint64_t sum = left > 0 ? (uint64_t)left : 0;

    if (left < 0)
        fprintf(stderr, "minillm: rank %d: drain: %s\n", s->config.shape.rank, tier2_error(left));
    int err = sum_over_ranks(s, &sum);
    if (!err && s->config.shape.rank == 0)
        report_drained(&s->config, sum, now_s() - start);
    return err;
}

static int serve(struct session *s)
{
    for (;;) {
        struct order order = {0};
        if (s->config.shape.rank == 0)
            order = order_next(s);
        int err = comm_broadcast(s->engine.comm, &order, sizeof order);
        if (!err && order.command == RUN)
            err = request_do(s, (int)order.ntokens);
        else if (!err && order.command == FLUSH)
            err = flush_do(s);
        else if (!err && order.command == END && order.ntokens)
            err = drain_do(s);
        if (err || order.command == END)
            return err;
        if (s->config.shape.rank == 0 && s->engine.tier2)
            tier2_refresh(s->engine.tier2); /* the other ranks' blocks count in the next match */
    }
}

/* One step for nothing, so that the first request does not pay for what happens once. */
static int warm_up(struct session *s)
{
    const struct shape *shape = &s->config.shape;
    int block, n = shape->block_tokens < s->config.max_tokens ? shape->block_tokens : 1;
    int err = kvpool_alloc(s->engine.pool, 1, &block);

    if (err)
        return err;
    memset(s->tokens, 0, (size_t)n);
    err = model_step(s->engine.model, s->tokens, 0, n, &block, s->report.logits);
    kvpool_drop(s->engine.pool, &block, 1);
    return err;
}

/* Opens tier 2 on all ranks or on none. */
static int tier2_begin(struct session *s, struct tier2 *t, const char *arithmetic, char *why,
                       size_t size)
{
    struct config *c = &s->config;
    tier2_shadow_every(t, c->shadow);
    int err = tier2_open(t, &c->shape, s->engine.pool, arithmetic);
    int64_t good = err == 0;

    snprintf(why, size, "%s", err ? tier2_error(err) : "");
    if (err)
        fprintf(stderr, "minillm: rank %d: no second tier, going on without it: %s\n",
                c->shape.rank, why);
    err = comm_least(s->engine.comm, &good);
    if (!good && !*why)
        snprintf(why, size, "another rank could not open it");
    c->tier2 = good;
    s->engine.tier2 = good ? t : NULL;
    return err;
}

static int session_open(struct session *s, struct tier2 *t)
{
    struct config *c = &s->config;
    size_t answers = (size_t)c->max_new;
    char why[512] = "", about[4096] = "state=off\n";
    const char *arithmetic = openblas_get_corename();

    s->engine.config = c;
    s->tokens = malloc((size_t)c->max_tokens + 1);
    s->report.answer = calloc(answers, 1);
    s->report.logits = calloc(answers * VOCAB, sizeof(float));
    s->engine.pool = kvpool_new(&c->shape, c->tier1_blocks);
    if (!s->tokens || !s->report.answer || !s->report.logits || !s->engine.pool)
        return -ENOMEM;
    openblas_set_num_threads(1);
    int err = comm_open(&s->engine.comm, c->shape.rank, c->shape.tp, model_sum_floats(&c->shape));
    if (!err)
        err = model_new(&s->engine.model, &c->shape, c->max_tokens, s->engine.comm, s->engine.pool);
    if (!err)
        err = warm_up(s);
    if (!err && c->tier2)
        err = tier2_begin(s, t, arithmetic, why, sizeof why);
    if (!err && c->logits_out && c->shape.rank == 0 && !(s->logits = fopen(c->logits_out, "wbe")))
        err = -errno;
    if (err || c->shape.rank != 0)
        return err;
    if (s->engine.tier2)
        tier2_describe(s->engine.tier2, about, sizeof about);
    report_ready(c, arithmetic, about, why);
    return 0;
}

static void session_close(struct session *s)
{
    tier2_free(s->engine.tier2);
    model_free(s->engine.model);
    kvpool_free(s->engine.pool);
    comm_close(s->engine.comm);
    if (s->logits)
        fclose(s->logits);
    free(s->report.answer);
    free(s->report.logits);
    free(s->tokens);
    free(s->line);
    switches_release(&s->config);
}

int main(int argc, char **argv)
{
    struct session s = {0};
    struct tier2 *t = NULL;
    catch_sigterm();
    int err = switches_read(&s.config, &t, argc, argv);
    if (err) {
        tier2_free(t);
        switches_release(&s.config);
        return err > 0 ? 0 : 2;
    }
    s.config.shape.rank = comm_launch(s.config.shape.tp, argv); /* starts over as a rank */
    err = s.config.shape.rank < 0 ? s.config.shape.rank : session_open(&s, t);
    if (!err)
        err = serve(&s);
    if (err)
        fprintf(stderr, "minillm: rank %d: %s\n", s.config.shape.rank,
                err == -EPIPE ? "another rank has ended" : strerror(-err));
    if (s.engine.tier2 != t)
        tier2_free(t);
    session_close(&s);
    if (err)
        return 3;
    return s.failures ? 1 : 0;
}
