/*
 * plan_size.c - the arithmetic of a plan. Pure; every result is explained by plan_print.c.
 */
#include <math.h>
#include <string.h>

#include "plan.h"

#define GIB              (UINT64_C(1) << 30)
/* Others use /dev/shm too, and storage is better not full: a quarter on top, as RTP-LLM does. */
#define WITH_ROOM(bytes) ((bytes) + (bytes) / 4)

static uint64_t up_to(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Ranks beyond the number of heads keep copies. */
static void kind_size(const struct plan_kind *k, uint64_t tp, struct plan_kind_size *out)
{
    out->heads_rank = (k->heads + tp - 1) / tp;
    out->token_rank = k->layers * out->heads_rank * k->head_bytes;
    out->token_all = (uint64_t)k->layers * k->heads * k->head_bytes;
    out->state_rank = k->layers * out->heads_rank * k->state_bytes;
    out->state_all = (uint64_t)k->layers * k->heads * k->state_bytes;
}

static void bytes_of(const struct plan_model *m, const struct plan_input *in, struct plan_sizes *s)
{
    uint32_t i;

    s->shards = 1;
    for (i = 0; i < m->kinds_count; i++) {
        struct plan_kind_size *k = &s->kinds[i];

        kind_size(&m->kinds[i], in->tp, k);
        if (m->kinds[i].heads > 1) {
            uint64_t slices = in->tp < m->kinds[i].heads ? in->tp : m->kinds[i].heads;

            s->shards = slices > s->shards ? slices : s->shards;
        }
        s->token_rank += k->token_rank;
        s->token_all += k->token_all;
        s->state_rank += k->state_rank;
        s->state_all += k->state_all;
    }
    s->block_rank = s->token_rank * in->block_tokens + s->state_rank;
    s->block_all = s->token_all * in->block_tokens + s->state_all;
}

/* What a prompt has to read: every token of full layers, a window's worth of windowed ones, the
 * state of its last block. */
static uint64_t prompt_bytes(const struct plan_model *m, const struct plan_input *in,
                             const struct plan_sizes *s)
{
    uint64_t sum = s->state_rank, tokens;
    uint32_t i;

    for (i = 0; i < m->kinds_count; i++) {
        tokens = in->context;
        if (m->kinds[i].window && m->kinds[i].window < tokens)
            tokens = up_to(m->kinds[i].window, in->block_tokens);
        sum += s->kinds[i].token_rank * (tokens < in->context ? tokens : in->context);
    }
    return sum;
}

static void break_even(const struct plan_input *in, struct plan_sizes *s)
{
    double gain;

    if (in->prefill_rate > 0)
        s->token_seconds_prefill = 1 / in->prefill_rate;
    if (in->bandwidth)
        s->token_seconds_read = (double)(s->token_rank * in->tp) / (double)in->bandwidth;
    if (!(s->token_seconds_prefill > 0) || !(s->token_seconds_read > 0))
        return;
    gain = s->token_seconds_prefill - s->token_seconds_read;
    s->break_even = gain > 0 ? ceil(in->read_latency_ms / 1000 / gain) : -1;
    if (s->break_even >= 0 && s->break_even < 1)
        s->break_even = 1;
}

void plan_size(const struct plan_model *m, const struct plan_input *in, struct plan_sizes *out)
{
    struct plan_sizes *s = out;

    memset(s, 0, sizeof(*s));
    bytes_of(m, in, s);
    s->staging_rank = in->read_staging + in->write_staging;
    s->staging_all = s->staging_rank * in->tp;
    s->shm = up_to(WITH_ROOM(s->staging_all), GIB);
    s->memory = s->shm + in->host_memory;
    s->prompt_rank = prompt_bytes(m, in, s);
    s->load_rank = (double)s->prompt_rank * (double)in->concurrency / in->ttft;
    s->load_host = s->load_rank * (double)in->tp;
    s->lanes = (uint64_t)ceil(s->load_rank / (double)in->lane_rate);
    s->lanes = s->lanes ? s->lanes : 1;
    s->prompts = in->hours * 3600 / in->request_seconds * (double)in->concurrency;
    s->written = s->prompts * (double)in->context * in->new_share / 100 * (double)s->block_all /
                 (double)in->block_tokens;
    s->capacity = WITH_ROOM(s->written);
    break_even(in, s);
}
