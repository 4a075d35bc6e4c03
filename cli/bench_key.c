/*
 * bench_key.c - the figure of key derivation: the chain over 512 tokens, cut into blocks of several
 * sizes. Nothing to compare with, no storage. A slice counts as its median batch.
 */
#include <stdio.h>

#include "bench_figures.h"
#include "cistern.h"
#include "cli.h"

#define TOKENS  512u
#define BATCH   16u
#define SAMPLES 65536u

struct deriving {
    uint32_t tokens[TOKENS];
    uint32_t block_tokens;
    cistern_key keys[TOKENS];
    uint32_t samples[SAMPLES];
};

static int key_run(void *arg, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), t;
    struct deriving *d = arg;
    cistern_key parent = {{0}};
    size_t samples = 0;
    unsigned i;
    int64_t n;

    do {
        t = bench_now_ns();
        for (i = 0; i < BATCH; i++) {
            n = cistern_key_chain(&parent, d->tokens, TOKENS, d->block_tokens, d->keys);
            if (n <= 0)
                return cli_fail_lib((int)n, "key derivation");
            parent = d->keys[n - 1]; /* as a long prompt does: each waits for the one before */
        }
        d->samples[samples++] = (uint32_t)(bench_now_ns() - t);
    } while (samples < SAMPLES && bench_now_ns() < until && !bench_stopped);
    out->ops = samples * BATCH;
    out->seconds = samples_rank(d->samples, samples, 0.5) * (double)samples / 1e9;
    return CLI_OK;
}

int bench_key(struct bench_run *run)
{
    static const uint32_t sizes[] = {TOKENS, 64, 16};
    struct side ours = {"cistern", key_run, NULL, NULL};
    static struct deriving d; /* too large for the stack */
    struct figure *f;
    size_t i;
    int r = CLI_OK;

    for (i = 0; i < TOKENS; i++)
        d.tokens[i] = (uint32_t)bench_random(&run->c.seed) & 0x1ffff;
    ours.arg = &d;
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && r == CLI_OK; i++) {
        f = figure_add(&run->figures);
        if (f == NULL)
            return cli_fail(CLI_ENVIRONMENT, "out of memory");
        snprintf(f->what, sizeof(f->what), "keys of %u tokens", TOKENS);
        snprintf(f->remark, sizeof(f->remark), "%u tokens a block", sizes[i]);
        f->by_time = true;
        d.block_tokens = sizes[i];
        r = slices_run(&run->c, f, &ours, NULL);
    }
    return r;
}
