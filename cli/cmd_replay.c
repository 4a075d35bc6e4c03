/*
 * cmd_replay.c - a trace over a store of its own, below the mount, which is removed again.
 */
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

#include "args.h"
#include "cli.h"
#include "plan.h"
#include "replay.h"

#define PAGE 4096

struct asked {
    struct replay_config c;
    const char *config;
    uint64_t token_bytes;
};

/* What a block takes on one rank. */
static int block_size(struct asked *a, const struct replay_trace *t)
{
    static struct plan_model m;
    static struct plan_sizes s;
    struct plan_input in = {.tp = a->c.tp,
                            .block_tokens = t->block_tokens,
                            .context = 1,
                            .concurrency = 1,
                            .ttft = 1,
                            .request_seconds = 1,
                            .lane_rate = 1};
    int rc;

    if (!!a->c.block_bytes + !!a->token_bytes + !!a->config > 1)
        return cli_fail(CLI_USAGE, "--block-bytes, --token-bytes and --hf-config: choose one");
    if (a->config) {
        if ((rc = plan_model_read(a->config, NULL, &m)) != CLI_OK)
            return rc;
        if (!plan_size(&m, &in, &s))
            return cli_fail(CLI_USAGE, "%s: a block has more than 2^63 bytes", a->config);
        a->c.block_bytes = s.block_rank;
        a->c.model = m.name;
    } else if (a->token_bytes) {
        a->c.block_bytes = a->token_bytes * t->block_tokens;
    } else if (!a->c.block_bytes) {
        a->c.block_bytes = 64 << 10;
    }
    if (a->c.block_bytes > UINT64_C(1) << 30)
        return cli_fail(CLI_USAGE,
                        "a block of %llu bytes is larger than 1 GiB; more ranks make it "
                        "smaller: --tp",
                        (unsigned long long)a->c.block_bytes);
    return CLI_OK;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

/* A root of somebody is not written into: what is there would change the answer. */
static int check_root(const struct asked *a)
{
    struct stat st;

    if (stat(a->c.target.root_path, &st) == 0)
        return cli_fail(CLI_ENVIRONMENT,
                        "%s is there already; a replay needs a root of its own: "
                        "name another with --root",
                        a->c.target.root_path);
    return CLI_OK;
}

static int report(const struct asked *a, const struct replay_trace *t,
                  const struct replay_result *r, const struct replay_curve *curve)
{
    int rc = CLI_OK;

    if (a->c.html)
        rc = replay_write_html(&a->c, t, r, curve);
    if (rc == CLI_OK && a->c.json)
        rc = replay_print_json(&a->c, t, r, curve);
    else if (rc == CLI_OK)
        replay_print(&a->c, t, r, curve);
    if (rc == CLI_OK && r->wrong)
        return cli_fail(CLI_IO, "%llu blocks came back with the bytes of others",
                        (unsigned long long)r->wrong);
    return rc;
}

static int replay(struct asked *a, struct replay_trace *t)
{
    struct replay_result r = {0};
    struct replay_curve curve = {0};
    int rc;

    if ((rc = block_size(a, t)) != CLI_OK || (rc = target_resolve_new(&a->c.target)) != CLI_OK ||
        (rc = check_root(a)) != CLI_OK || (rc = replay_curve_make(t, &curve)) != CLI_OK)
        return rc;
    rc = replay_run(&a->c, t, &r);
    if (rc == CLI_OK)
        rc = report(a, t, &r, &curve);
    if (!a->c.keep)
        (void)nftw(a->c.target.root_path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
    replay_result_free(&r);
    replay_curve_free(&curve);
    return rc;
}

int cmd_replay(int argc, char **argv)
{
    static struct asked a = {
        .c = {.tp = 1, .staging = 256 << 20, .prefill_rate = 5000, .model = "replay"}};
    const struct arg args[] = {
        TARGET_ARGS(&a.c.target),
        {"tp", "N", ARG_NUMBER, &a.c.tp, 1, 64, "tensor-parallel ranks (default 1)"},
        {"block-bytes", "SIZE", ARG_SIZE, &a.c.block_bytes, PAGE, 0,
         "of a block on one rank (default 64K)"},
        {"token-bytes", "SIZE", ARG_SIZE, &a.token_bytes, 1, 1u << 30,
         "or: of a token on one rank"},
        {"hf-config", "FILE", ARG_STRING, &a.config, 0, 0, "or: of this model"},
        {"prefill-rate", "TOKENS", ARG_DECIMAL, &a.c.prefill_rate, 0, 0,
         "a second that the engine computes (default 5000)"},
        {"speed", "X", ARG_DECIMAL, &a.c.speed, 0, 0,
         "1 = as it happened, 10 = ten times faster (default as fast as it goes)"},
        {"limit", "N", ARG_NUMBER, &a.c.limit, 1, 0, "only the first requests"},
        {"capacity", "SIZE", ARG_SIZE, &a.c.capacity, 1 << 20, 0, "of the store (default none)"},
        {"segment", "SIZE", ARG_SIZE, &a.c.segment, 1 << 16, 0, "size of its segments"},
        {"staging", "SIZE", ARG_SIZE, &a.c.staging, 1 << 20, 0,
         "of a rank and direction (default 256M)"},
        {"keep", NULL, ARG_FLAG, &a.c.keep, 0, 0, "leave the store behind"},
        {"html", "FILE", ARG_STRING, &a.c.html, 0, 0, "also write a page with charts"},
        {"json", NULL, ARG_FLAG, &a.c.json, 0, 0, "the answer as JSON"},
    };
    const struct arg_page page = {
        .usage = "cistern replay TRACE... [options]",
        .about =
            "Runs a trace of requests over a store with real bytes: hit ratio, tokens saved, "
            "time to first\ntoken against computing everything, and what a cache of another size "
            "would have found.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "TRACE: a .jsonl of Mooncake's form, a .json session of kv-cache-tester's, or a "
            "directory of\nthem; several are merged by time.\n"
            "  cistern replay conversation.jsonl --mount /mnt/nvme --root replay --html r.html\n",
    };
    struct replay_trace t = {0};
    int words, i, r;

    r = args_parse(&page, argc, argv, 256, &words);
    if (r != ARG_GO)
        return r;
    if (!words)
        return cli_fail(CLI_USAGE, "which trace? `cistern replay --help` says what is read");
    for (i = 0, r = CLI_OK; i < words && r == CLI_OK; i++)
        r = replay_trace_load(&t, argv[i]);
    if (r == CLI_OK)
        r = replay_trace_finish(&t, a.c.limit);
    if (r == CLI_OK)
        r = replay(&a, &t);
    replay_trace_free(&t);
    return r;
}
