/*
 * switches.c - the command line and the environment of minillm.
 *
 * Cistern takes its own switches out first (reuse_cache, enable_3fs, the mount, timeouts, staging
 * sizes, under RTP-LLM's names and as environment variables); the table below has the rest. Then
 * the whole is checked once, and the first thing that cannot work is named.
 */
#include "switches.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { INT, LONG, SEED, TEXT, FLAG, REQUEST };

struct flag {
    const char *name;
    enum kind kind;
    size_t at;
    const char *help;
};

#define AT(field) offsetof(struct config, field)
static const struct flag flags[] = {
    {"prompt-file", TEXT, AT(prompt_file), "text file, the start of the prompt"},
    {"question", TEXT, AT(question), "text that follows it"},
    {"request", REQUEST, 0, "FILE:text, both in one; may be repeated"},
    {"serve", FLAG, AT(serve), "requests from stdin: FILE<tab>text, flush, or quit"},
    {"max-new", INT, AT(max_new), "tokens to generate per request (1)"},
    {"json", FLAG, AT(json), "a JSON line for each request"},
    {"logits-out", TEXT, AT(logits_out), "file for the logits of every new token, raw float32"},
    {"wait-puts", FLAG, AT(wait_puts), "before the end, wait until tier 2 has stored all blocks"},
    {"drain-ms", INT, AT(drain_ms), "after SIGTERM, finish puts for at most so long (2000)"},
    {"shadow", INT, AT(shadow), "compute every Nth run from tier 2, too, and compare (0 = none)"},
    {"tp_size", INT, AT(shape.tp), "rank processes that share the work (1)"},
    {"tier1-blocks", INT, AT(tier1_blocks), "KV blocks in memory, per rank (512)"},
    {"max-tokens", INT, AT(max_tokens), "longest prompt plus answer (16384)"},
    {"seed", SEED, AT(shape.seed), "of the weights (1)"},
    {"layers", INT, AT(shape.layers), "(3)"},
    {"d-model", INT, AT(shape.d_model), "(512)"},
    {"heads", INT, AT(shape.heads), "(8)"},
    {"kv-heads", INT, AT(shape.kv_heads), "(4)"},
    {"head-dim", INT, AT(shape.head_dim), "(64)"},
    {"ffn", INT, AT(shape.ffn), "columns of the MLP (1408)"},
    {"block-tokens", INT, AT(shape.block_tokens), "tokens per KV block and prefill step (64)"},
    {"max-reuse-blocks", INT, AT(max_reuse), "for tests: reuse no more than this"},
    {"spoil-puts", LONG, AT(spoil), "for tests: spoil this byte of what goes to tier 2"},
    {"corrupt-kv", LONG, AT(corrupt), "for tests: spoil this byte of what tier 2 gave"},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: minillm [flags]\n\n"
                "  --reuse_cache True    reuse the KV of earlier prompts (REUSE_CACHE=1)\n"
                "  --enable_3fs True     keep it in Cistern, too (ENABLE_3FS=1)\n"
                "  --mount DIR           where Cistern keeps it, and all its other options\n");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        fprintf(to, "  --%-19s %s\n", flags[i].name, flags[i].help);
}

static int bad(const char *what, const char *name, const char *value)
{
    fprintf(stderr, "minillm: %s '%s'%s%s; --help lists the flags\n", what, name, value ? ": " : "",
            value ? value : "");
    return -EINVAL;
}

static const struct flag *flag_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strlen(flags[i].name) == len && strncmp(flags[i].name, name, len) == 0)
            return &flags[i];
    return NULL;
}

static int number_set(const struct flag *f, void *at, const char *value)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < 0 || (f->kind == INT && n > 1 << 30))
        return bad("not a number in", f->name, value);
    if (f->kind == INT)
        *(int *)at = (int)n;
    else if (f->kind == LONG)
        *(int64_t *)at = n;
    else
        *(uint64_t *)at = (uint64_t)n;
    return 0;
}

static int flag_set(struct config *c, const struct flag *f, char *value)
{
    void *at = (char *)c + f->at;

    switch (f->kind) {
    case FLAG:
        *(bool *)at = true;
        return 0;
    case TEXT:
        *(const char **)at = value;
        return 0;
    case REQUEST:
        if (!strchr(value, ':'))
            return bad("no ':' between file and text in", f->name, value);
        c->requests[c->nrequests++] = value;
        return 0;
    default:
        return number_set(f, at, value);
    }
}

static int flags_read(struct config *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            usage(stdout);
            return 1;
        }
        char *name = argv[i], *equals = strchr(name, '=');
        if (strncmp(name, "--", 2) != 0)
            return bad("what is", name, NULL);
        size_t len = equals ? (size_t)(equals - name) : strlen(name);
        const struct flag *f = flag_find(name + 2, len - 2);
        if (!f)
            return bad("no such flag", name, NULL);
        char *value = equals ? equals + 1 : NULL;
        if (f->kind == FLAG && value)
            return bad("no value is taken by", name, NULL);
        if (f->kind != FLAG && !value && !(value = argv[++i]))
            return bad("no value for", name, NULL);
        int err = flag_set(c, f, value);
        if (err)
            return err;
    }
    return 0;
}

static int check(const struct config *c)
{
    const struct shape *s = &c->shape;
    const char *why = NULL;

    if (s->tp < 1 || s->tp > MAX_RANKS)
        why = "tp_size must be 1 .. 8";
    else if (s->layers < 1 || s->d_model < 1 || s->heads < 1 || s->kv_heads < 1 || s->ffn < 1)
        why = "layers, d-model, heads, kv-heads and ffn must be at least 1";
    else if (s->layers > 1024 || s->d_model > 16384 || s->heads > 1024 || s->ffn > 65536)
        why = "that model is too large for an example";
    else if (s->head_dim < 2 || s->head_dim % 2 || s->head_dim > 1024)
        why = "head-dim must be even, 2 .. 1024";
    else if (s->kv_heads > s->heads || s->heads % s->kv_heads)
        why = "heads must be a multiple of kv-heads";
    else if (s->kv_heads % s->tp || s->ffn % s->tp)
        why = "tp_size must divide kv-heads and ffn";
    else if (s->block_tokens < 1 || s->block_tokens > MAX_BLOCK_TOKENS)
        why = "block-tokens must be 1 .. 512";
    else if (c->max_tokens < 2 || c->max_tokens > 1 << 22)
        why = "max-tokens must be 2 .. 4194304";
    else if (c->tier1_blocks < 1 || c->tier1_blocks > 1 << 20)
        why = "tier1-blocks must be 1 .. 1048576";
    else if (c->max_new < 1 || c->max_new >= c->max_tokens)
        why = "max-new must be at least 1 and below max-tokens";
    else if (!c->serve && !c->nrequests && !c->prompt_file && !c->question)
        why = "nothing to do: give --request, --prompt-file, --question or --serve";
    if (!why)
        return 0;
    fprintf(stderr, "minillm: %s\n", why);
    return -EINVAL;
}

/* Cistern's own switches; what is left of argv is ours. */
static int cistern_read(struct config *c, struct tier2 **tier2, int *argc, char **argv)
{
    int err = tier2_new(tier2);
    if (!err)
        err = tier2_arguments(*tier2, argc, argv);
    if (err) {
        fprintf(stderr, "minillm: %s\n", tier2_error(err));
        return -EINVAL;
    }
    c->reuse_cache = tier2_reuse_cache(*tier2);
    c->tier2 = tier2_enable_3fs(*tier2);
    if (c->tier2 && !c->reuse_cache) {
        fprintf(stderr, "minillm: enable_3fs needs reuse_cache: add --reuse_cache True (or "
                        "REUSE_CACHE=1), or leave enable_3fs off\n");
        return -EINVAL;
    }
    return 0;
}

int switches_read(struct config *c, struct tier2 **tier2, int argc, char **argv)
{
    *c = (struct config){
        .shape = {.seed = 1,
                  .layers = 3,
                  .d_model = 512,
                  .heads = 8,
                  .kv_heads = 4,
                  .head_dim = 64,
                  .ffn = 1408,
                  .block_tokens = 64,
                  .tp = 1},
        .max_tokens = 16384,
        .tier1_blocks = 512,
        .max_new = 1,
        .drain_ms = 2000,
        .max_reuse = -1,
        .spoil = -1,
        .corrupt = -1,
    };
    *tier2 = NULL;
    char **rest = malloc(sizeof *rest * ((size_t)argc + 1));
    c->requests = calloc((size_t)argc, sizeof *c->requests);
    if (!rest || !c->requests) {
        free(rest);
        return -ENOMEM;
    }
    memcpy(rest, argv, sizeof *rest * ((size_t)argc + 1));
    int err = cistern_read(c, tier2, &argc, rest);
    if (!err)
        err = flags_read(c, argc, rest);
    if (!err)
        err = check(c);
    free(rest);
    return err;
}

void switches_release(struct config *c)
{
    free(c->requests);
    c->requests = NULL;
}
