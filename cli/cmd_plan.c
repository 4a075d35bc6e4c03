/*
 * cmd_plan.c - how much of everything a deployment needs, and its configuration. Asks nothing of
 * the machine that it runs on.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "cli.h"
#include "plan.h"
#include "plan_emit.h"

#define GIB          (UINT64_C(1) << 30)
#define MOST_STAGING (UINT64_C(1) << 40)
#define MOST_MEMORY  (UINT64_C(1) << 44)

struct asked {
    const char *config, *dtype, *emit;
    struct plan_dims dims;
    struct plan_input in;
    struct plan_place place;
    bool arithmetic, json;
};

/* What goes into YAML, JSON and units as it stands. */
static int check_word(const char *option, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "._-/:@+";

    if (strlen(word) > 500)
        return cli_fail(CLI_USAGE, "--%s: it has more than 500 characters", option);
    if (!word[0] || word[strspn(word, plain)])
        return cli_fail(CLI_USAGE, "--%s %s: letters, digits and . _ - / : @ + are taken", option,
                        word);
    return CLI_OK;
}

/* A value of a label of Kubernetes. */
static int check_label(const char *option, const char *word)
{
    size_t n = strlen(word), i;
    bool good =
        n && n <= 63 && isalnum((unsigned char)word[0]) && isalnum((unsigned char)word[n - 1]);

    for (i = 0; good && i < n; i++)
        good = isalnum((unsigned char)word[i]) || strchr("._-", word[i]);
    return good ? CLI_OK
                : cli_fail(CLI_USAGE,
                           "--%s %s: the value of a label has 63 letters, digits and . _ - at "
                           "most, with a letter or digit at both ends",
                           option, word);
}

static int check_place(const struct plan_place *p)
{
    const struct {
        const char *option, *word;
    } words[] = {{"image", p->image}, {"mount", p->mount}, {"root", p->root}};
    size_t i;
    int r = check_word("name", p->name);

    if (r == CLI_OK && strpbrk(p->name, "/:@+"))
        return cli_fail(CLI_USAGE, "--name %s: it is no path and no image, and has no +", p->name);
    for (i = 0; r == CLI_OK && i < sizeof(words) / sizeof(words[0]); i++)
        r = check_word(words[i].option, words[i].word);
    r = r != CLI_OK ? r : check_label("fuse-service", p->fuse_service);
    return r != CLI_OK ? r : check_label("storage-release", p->storage_release);
}

static int check(const struct asked *a)
{
    const struct plan_dims *d = &a->dims;

    if (a->config && (d->layers || d->kv_heads || d->head_dim || d->mla_rank || d->mla_rope))
        return cli_fail(CLI_USAGE, "--hf-config and dimensions by hand: choose one");
    if (a->emit && (a->json || a->arithmetic))
        return cli_fail(CLI_USAGE, "--emit prints configuration alone; leave out --json and "
                                   "--arithmetic");
    if (a->in.new_share > 100)
        return cli_fail(CLI_USAGE, "--new %g: a share in percent is 100 at most", a->in.new_share);
    if (a->place.mount[0] != '/')
        return cli_fail(CLI_USAGE, "--mount %s: an absolute path is needed", a->place.mount);
    return a->emit ? check_place(&a->place) : CLI_OK;
}

static int answer(struct asked *a)
{
    static struct plan_model m;
    static struct plan_sizes s;
    const struct plan_dims *d = &a->dims;
    bool by_hand = d->layers || d->kv_heads || d->head_dim || d->mla_rank || d->mla_rope;
    int r = CLI_OK;

    /* Staging is the same for all models: ranks are enough for it. */
    if (a->config)
        r = plan_model_read(a->config, a->dtype, &m);
    else if (by_hand || !a->in.tp)
        r = plan_model_make(d, a->dtype, &m);
    else
        (void)snprintf(m.name, sizeof(m.name), "any model");
    if (r != CLI_OK)
        return r;
    a->in.tp = a->in.tp ? a->in.tp : 1;
    if (!a->in.context)
        a->in.context = m.context && m.context < 32768 ? m.context : 32768;
    if (m.context && a->in.context > m.context)
        return cli_fail(CLI_USAGE, "--context %llu: the model takes %llu tokens at most",
                        (unsigned long long)a->in.context, (unsigned long long)m.context);
    if (!plan_size(&m, &a->in, &s))
        return cli_fail(CLI_USAGE, "the plan comes to more than 2^63 bytes: look at the dimensions "
                                   "of the model, and at --block-tokens, --context, "
                                   "--concurrency, --ttft, --hours and --request-seconds");
    if (a->emit)
        return plan_emit(a->emit, &a->place, &m, &a->in, &s);
    if (a->json)
        return plan_print_json(&m, &a->in, &s);
    plan_print(&m, &a->in, &s, a->arithmetic);
    return CLI_OK;
}

int cmd_plan(int argc, char **argv)
{
    struct asked a = {.in = {.block_tokens = 64,
                             .concurrency = 16,
                             .ttft = 1,
                             .hours = 24,
                             .request_seconds = 30,
                             .new_share = 20,
                             .read_latency_ms = 5,
                             .lane_rate = 2 * GIB,
                             .read_staging = 4 * GIB,
                             .write_staging = 4 * GIB,
                             .host_memory = 16 * GIB},
                      .place = {.name = "engine",
                                .image = "engine:latest",
                                .mount = PLAN_MOUNT,
                                .root = PLAN_ROOT,
                                .fuse_service = "rtp-3fs-h20",
                                .storage_release = "rtp"}};
    const struct arg args[] = {
        {"hf-config", "FILE", ARG_STRING, &a.config, 0, 0, "config.json of the model"},
        {"layers", "N", ARG_NUMBER, &a.dims.layers, 1, 4096, "or by hand: layers that keep KV"},
        {"kv-heads", "N", ARG_NUMBER, &a.dims.kv_heads, 1, 65536, "... key-value heads"},
        {"head-dim", "N", ARG_NUMBER, &a.dims.head_dim, 1, 65536, "... elements of a head"},
        {"mla-rank", "N", ARG_NUMBER, &a.dims.mla_rank, 1, 65536, "... latent: kv_lora_rank"},
        {"mla-rope", "N", ARG_NUMBER, &a.dims.mla_rope, 1, 65536, "... latent: qk_rope_head_dim"},
        {"dtype", "NAME", ARG_STRING, &a.dtype, 0, 0,
         "of the KV cache: bf16, fp16, fp32, fp8, int8 (default the model's)"},
        {"tp", "N", ARG_NUMBER, &a.in.tp, 1, 256, "tensor-parallel ranks of a host (default 1)"},
        {"block-tokens", "N", ARG_NUMBER, &a.in.block_tokens, 1, 65536, "(default 64)"},
        {"context", "N", ARG_NUMBER, &a.in.context, 1, 1u << 30,
         "tokens of a prompt (default the model's, 32768 at most)"},
        {"concurrency", "N", ARG_NUMBER, &a.in.concurrency, 1, 1u << 20,
         "prompts that load at once (default 16)"},
        {"ttft", "SECONDS", ARG_DECIMAL, &a.in.ttft, 0, 0, "in which they shall (default 1)"},
        {"hours", "N", ARG_DECIMAL, &a.in.hours, 0, 0, "of traffic to keep (default 24)"},
        {"request-seconds", "N", ARG_DECIMAL, &a.in.request_seconds, 0, 0,
         "life of a request (default 30)"},
        {"new", "PERCENT", ARG_DECIMAL, &a.in.new_share, 0, 0,
         "of a prompt that is not stored yet (default 20)"},
        {"prefill-rate", "TOKENS", ARG_DECIMAL, &a.in.prefill_rate, 0, 0,
         "a second, of the whole instance"},
        {"bandwidth", "SIZE", ARG_SIZE, &a.in.bandwidth, 1, 0, "a second that the host can read"},
        {"read-latency", "MS", ARG_DECIMAL, &a.in.read_latency_ms, 0, 0,
         "before the first byte comes (default 5)"},
        {"lane-rate", "SIZE", ARG_SIZE, &a.in.lane_rate, 1, 0,
         "a second of one read lane (default 2G; `cistern bench get` measures it)"},
        {"read-staging", "SIZE", ARG_SIZE, &a.in.read_staging, 1u << 20, MOST_STAGING,
         "of a rank (default 4G)"},
        {"write-staging", "SIZE", ARG_SIZE, &a.in.write_staging, 1u << 20, MOST_STAGING,
         "of a rank (default 4G)"},
        {"host-memory", "SIZE", ARG_SIZE, &a.in.host_memory, 0, MOST_MEMORY,
         "that the engine needs beside /dev/shm (default 16G)"},
        {"arithmetic", NULL, ARG_FLAG, &a.arithmetic, 0, 0, "how each number came about"},
        {"json", NULL, ARG_FLAG, &a.json, 0, 0, "the plan as JSON"},
        {"emit", "KIND", ARG_STRING, &a.emit, 0, 0, "rtp, k8s, helm, docker or systemd"},
        {"name", "NAME", ARG_STRING, &a.place.name, 0, 0, "of the workload, for --emit"},
        {"image", "IMAGE", ARG_STRING, &a.place.image, 0, 0, "of the engine, for --emit"},
        {"mount", "DIR", ARG_STRING, &a.place.mount, 0, 0, "default /3fs/stage/3fs/"},
        {"root", "DIR", ARG_STRING, &a.place.root, 0, 0, "default rtp_llm/"},
        {"fuse-service", "NAME", ARG_STRING, &a.place.fuse_service, 0, 0,
         "label value that brings the 3FS client (default rtp-3fs-h20)"},
        {"storage-release", "NAME", ARG_STRING, &a.place.storage_release, 0, 0,
         "label value of the storage pods to keep away from (default rtp)"},
    };
    const struct arg_page page = {
        .usage = "cistern plan (--hf-config FILE | --layers N ... | --tp N) [options]",
        .about = "Sizes of a deployment: KV bytes, /dev/shm, memory, bandwidth, storage.\n"
                 "From --tp alone: what does not depend on the model.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "  cistern plan --hf-config config.json --tp 4 --arithmetic\n"
                "  cistern plan --layers 61 --mla-rank 512 --mla-rope 64 --tp 8 --emit k8s\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 0, &words);
    if (r != ARG_GO)
        return r;
    r = check(&a);
    return r == CLI_OK ? answer(&a) : r;
}
