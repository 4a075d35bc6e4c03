/*
 * plan_print.c - a plan for people, with its arithmetic when asked, and for programs.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json_out.h"
#include "plan.h"
#include "text.h"

#define COLUMN 34

static void line(const char *what, const char *value, const char *note)
{
    printf("  %-*s %14s%s%s\n", COLUMN, what, value, note[0] ? "  " : "", note);
}

static void line_size(const char *what, double bytes, const char *note)
{
    char buf[32];

    line(what, text_size((uint64_t)bytes, buf, sizeof(buf)), note);
}

static void line_bytes(const char *what, uint64_t bytes, const char *note)
{
    char buf[32];

    (void)snprintf(buf, sizeof(buf), "%llu B", (unsigned long long)bytes);
    line(what, buf, note);
}

static void line_rate(const char *what, double bytes, const char *note)
{
    char size[32], buf[40];

    (void)snprintf(buf, sizeof(buf), "%s/s", text_size((uint64_t)bytes, size, sizeof(size)));
    line(what, buf, note);
}

static void print_kinds(const struct plan_model *m, const struct plan_sizes *s)
{
    uint32_t i;

    printf("\nwhat the layers keep\n");
    for (i = 0; i < m->kinds_count; i++) {
        const struct plan_kind *k = &m->kinds[i];

        if (k->head_bytes)
            printf(
                "  %u layers, %s: %s\n    x %u heads x %u layers = %llu bytes a token; on a rank "
                "%llu heads, %llu bytes\n",
                k->layers, k->what, k->formula, k->heads, k->layers,
                (unsigned long long)s->kinds[i].token_all,
                (unsigned long long)s->kinds[i].heads_rank,
                (unsigned long long)s->kinds[i].token_rank);
        if (k->state_bytes)
            printf("  %u layers, %s: %s\n    x %u heads x %u layers = %llu bytes a sequence; on a "
                   "rank %llu heads, %llu bytes\n",
                   k->layers, k->what, k->formula, k->heads, k->layers,
                   (unsigned long long)s->kinds[i].state_all,
                   (unsigned long long)s->kinds[i].heads_rank,
                   (unsigned long long)s->kinds[i].state_rank);
        if (k->window)
            printf("    of which the last %u tokens are read\n", k->window);
    }
}

static void print_memory_arithmetic(const struct plan_input *in, const struct plan_sizes *s)
{
    char a[32], b[32], c[32];

    printf(
        "  /dev/shm          (%s read + %s write) x %llu ranks = %s, a quarter on top, whole GiB\n",
        text_size(in->read_staging, a, sizeof(a)), text_size(in->write_staging, b, sizeof(b)),
        (unsigned long long)in->tp, text_size(s->staging_all, c, sizeof(c)));
    printf(
        "  memory            /dev/shm counts as memory of the container: %s + %s for the engine\n",
        text_size(s->shm, a, sizeof(a)), text_size(in->host_memory, b, sizeof(b)));
}

static void print_arithmetic(const struct plan_input *in, const struct plan_sizes *s)
{
    char a[32];

    printf("  block, one rank   %llu tokens x %llu bytes + %llu bytes of state = %llu\n",
           (unsigned long long)in->block_tokens, (unsigned long long)s->token_rank,
           (unsigned long long)s->state_rank, (unsigned long long)s->block_rank);
    print_memory_arithmetic(in, s);
    printf("  bandwidth, rank   %llu prompts at once x %s each / %.3g s\n",
           (unsigned long long)in->concurrency, text_size(s->prompt_rank, a, sizeof(a)), in->ttft);
    printf("  lanes             that / %s/s of one lane\n", text_size(in->lane_rate, a, sizeof(a)));
    printf("  prompts           %.3g h x 3600 / %.3g s a request x %llu at once = %.0f\n",
           in->hours, in->request_seconds, (unsigned long long)in->concurrency, s->prompts);
    printf(
        "  capacity          prompts x %llu tokens x %.3g %% new x %.0f bytes = %s, a quarter on "
        "top\n",
        (unsigned long long)in->context, in->new_share,
        (double)s->block_all / (double)in->block_tokens,
        text_size((uint64_t)s->written, a, sizeof(a)));
    if (s->token_seconds_prefill > 0 && s->token_seconds_read > 0)
        printf("  break-even        %.3g ms / (%.3g us to compute a token - %.3g us to read it)\n",
               in->read_latency_ms, s->token_seconds_prefill * 1e6, s->token_seconds_read * 1e6);
}

static void print_break_even(const struct plan_input *in, const struct plan_sizes *s)
{
    char buf[32];

    if (!(in->prefill_rate > 0) || !in->bandwidth) {
        line("reading beats computing from", "not known", "give --prefill-rate and --bandwidth");
    } else if (s->break_even < 0) {
        line("reading beats computing from", "never", "storage is slower than the engine computes");
    } else {
        (void)snprintf(buf, sizeof(buf), "%.0f tokens", s->break_even);
        line("reading beats computing from", buf, "");
    }
}

static void print_memory(const struct plan_input *in, const struct plan_sizes *s)
{
    char buf[96], size[32];

    (void)snprintf(buf, sizeof(buf), "%s read, %s write",
                   text_size(in->read_staging, size, sizeof(size)),
                   text_size(in->write_staging, size + 16, sizeof(size) - 16));
    line_size("staging of a rank", (double)s->staging_rank, buf);
    line_size("staging, all ranks", (double)s->staging_all, "");
    line_size("/dev/shm", (double)s->shm, "with a quarter of head-room");
    line_size("memory to ask for", (double)s->memory, "not below /dev/shm");
}

/* What does not depend on the model. */
static void print_ranks(const struct plan_model *m, const struct plan_input *in,
                        const struct plan_sizes *s, bool arithmetic)
{
    printf("%s, %llu ranks\n\n", m->name, (unsigned long long)in->tp);
    print_memory(in, s);
    if (arithmetic) {
        printf("\narithmetic\n");
        print_memory_arithmetic(in, s);
    }
}

/* A block keeps a whole state, however few tokens it has. */
static void hint_blocks(const struct plan_input *in, const struct plan_sizes *s)
{
    uint64_t kv = s->token_rank * in->block_tokens, tokens;

    if (!s->token_rank || s->state_rank <= kv)
        return;
    tokens = (s->state_rank / s->token_rank + 63) / 64 * 64;
    printf("  hint: the state of a block is %.0f times its KV; with --block-tokens %llu it is as "
           "much\n",
           (double)s->state_rank / (double)kv, (unsigned long long)tokens);
}

void plan_print(const struct plan_model *m, const struct plan_input *in, const struct plan_sizes *s,
                bool arithmetic)
{
    char buf[96];

    if (!m->kinds_count) {
        print_ranks(m, in, s, arithmetic);
        return;
    }
    printf("%s, %s, %llu ranks, blocks of %llu tokens, prompts of %llu tokens\n\n", m->name,
           m->dtype, (unsigned long long)in->tp, (unsigned long long)in->block_tokens,
           (unsigned long long)in->context);
    (void)snprintf(buf, sizeof(buf), "%llu bytes on a rank", (unsigned long long)s->token_rank);
    line_bytes("KV of a token, all ranks", s->token_all, buf);
    (void)snprintf(buf, sizeof(buf), "%llu shards", (unsigned long long)s->shards);
    line_size("block, one shard", (double)s->block_rank, buf);
    hint_blocks(in, s);
    print_memory(in, s);
    line_size("a whole prompt, one rank", (double)s->prompt_rank, "");
    (void)snprintf(buf, sizeof(buf), "%llu prompts within %.3g s",
                   (unsigned long long)in->concurrency, in->ttft);
    line_rate("bandwidth, one rank", s->load_rank, buf);
    line_rate("bandwidth, host", s->load_host, "");
    (void)snprintf(buf, sizeof(buf), "%llu", (unsigned long long)s->lanes);
    line("read lanes of a rank", buf, "");
    (void)snprintf(buf, sizeof(buf), "%.3g h, %.3g %% of each prompt new", in->hours,
                   in->new_share);
    line_size("storage", s->capacity, buf);
    print_break_even(in, s);
    if (arithmetic) {
        print_kinds(m, s);
        printf("\narithmetic\n");
        print_arithmetic(in, s);
    }
}

static json_t *kinds_json(const struct plan_model *m, const struct plan_sizes *s)
{
    json_t *list = json_array(), *o;
    uint32_t i;

    for (i = 0; i < m->kinds_count; i++) {
        o = json_object();
        json_out_text(o, "keeps", m->kinds[i].what);
        json_out_number(o, "layers", m->kinds[i].layers);
        json_out_number(o, "heads", m->kinds[i].heads);
        json_out_number(o, "heads_rank", s->kinds[i].heads_rank);
        json_out_number(o, "token_bytes", s->kinds[i].token_all);
        json_out_number(o, "token_bytes_rank", s->kinds[i].token_rank);
        json_out_number(o, "state_bytes", s->kinds[i].state_all);
        json_out_number(o, "state_bytes_rank", s->kinds[i].state_rank);
        json_out_number(o, "window", m->kinds[i].window);
        json_out_text(o, "formula", m->kinds[i].formula);
        (void)json_array_append_new(list, o);
    }
    return list;
}

int plan_print_json(const struct plan_model *m, const struct plan_input *in,
                    const struct plan_sizes *s)
{
    json_t *o = json_object();

    json_out_text(o, "model", m->name);
    json_out_number(o, "tp", in->tp);
    json_out_number(o, "staging_bytes_rank", s->staging_rank);
    json_out_number(o, "staging_bytes", s->staging_all);
    json_out_number(o, "shm_bytes", s->shm);
    json_out_number(o, "memory_bytes", s->memory);
    if (!m->kinds_count)
        return json_out_print(o);
    json_out_text(o, "family", m->family);
    json_out_text(o, "dtype", m->dtype);
    json_out_number(o, "shards", s->shards);
    json_out_number(o, "block_tokens", in->block_tokens);
    json_out_number(o, "context", in->context);
    json_out_number(o, "token_bytes", s->token_all);
    json_out_number(o, "token_bytes_rank", s->token_rank);
    json_out_number(o, "state_bytes", s->state_all);
    json_out_number(o, "block_bytes", s->block_all);
    json_out_number(o, "block_bytes_rank", s->block_rank);
    json_out_number(o, "prompt_bytes_rank", s->prompt_rank);
    json_out_real(o, "bandwidth_rank", s->load_rank);
    json_out_real(o, "bandwidth_host", s->load_host);
    json_out_number(o, "lanes", s->lanes);
    json_out_real(o, "prompts", s->prompts);
    json_out_real(o, "storage_bytes", s->capacity);
    if (s->break_even > 0)
        json_out_real(o, "break_even_tokens", s->break_even);
    else
        (void)json_object_set_new(o, "break_even_tokens", json_null());
    (void)json_object_set_new(o, "layers", kinds_json(m, s));
    return json_out_print(o);
}
