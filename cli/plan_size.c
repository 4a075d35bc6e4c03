/*
 * plan_size.c - the arithmetic of a plan. Pure; every result is explained by plan_print.c.
 *
 * Nothing wraps: what comes to 2^63 or more, which no JSON reader takes either, sets `too_much`.
 * From there on the numbers mean nothing, and plan_size() says so at its end.
 */
#include <math.h>
#include <string.h>

#include "plan.h"

#define GIB (UINT64_C(1) << 30)

static uint64_t checked(struct plan_sizes *s, bool wrapped, uint64_t n)
{
    s->too_much = s->too_much || wrapped || n > INT64_MAX;
    return s->too_much ? 1 : n;
}

static uint64_t mul(struct plan_sizes *s, uint64_t a, uint64_t b)
{
    uint64_t n;
    bool wrapped = __builtin_mul_overflow(a, b, &n);

    return checked(s, wrapped, n);
}

static uint64_t add(struct plan_sizes *s, uint64_t a, uint64_t b)
{
    uint64_t n;
    bool wrapped = __builtin_add_overflow(a, b, &n);

    return checked(s, wrapped, n);
}

/* What others take for a whole number. */
static double real(struct plan_sizes *s, double n)
{
    s->too_much = s->too_much || !isfinite(n) || n >= 0x1p63;
    return s->too_much ? 1 : n;
}

static uint64_t up_to(struct plan_sizes *s, uint64_t n, uint64_t unit)
{
    return add(s, n, unit - 1) / unit * unit;
}

/* Ranks beyond the number of heads keep copies. */
static void kind_size(struct plan_sizes *s, const struct plan_kind *k, uint64_t tp,
                      struct plan_kind_size *out)
{
    uint64_t all = mul(s, k->layers, k->heads), rank;

    out->heads_rank = (k->heads + tp - 1) / tp;
    rank = mul(s, k->layers, out->heads_rank);
    out->token_rank = mul(s, rank, k->head_bytes);
    out->token_all = mul(s, all, k->head_bytes);
    out->state_rank = mul(s, rank, k->state_bytes);
    out->state_all = mul(s, all, k->state_bytes);
}

static void bytes_of(const struct plan_model *m, const struct plan_input *in, struct plan_sizes *s)
{
    uint32_t i;

    s->shards = 1;
    for (i = 0; i < m->kinds_count; i++) {
        struct plan_kind_size *k = &s->kinds[i];

        kind_size(s, &m->kinds[i], in->tp, k);
        if (m->kinds[i].heads > 1) {
            uint64_t slices = in->tp < m->kinds[i].heads ? in->tp : m->kinds[i].heads;

            s->shards = slices > s->shards ? slices : s->shards;
        }
        s->token_rank = add(s, s->token_rank, k->token_rank);
        s->token_all = add(s, s->token_all, k->token_all);
        s->state_rank = add(s, s->state_rank, k->state_rank);
        s->state_all = add(s, s->state_all, k->state_all);
    }
    s->block_rank = add(s, mul(s, s->token_rank, in->block_tokens), s->state_rank);
    s->block_all = add(s, mul(s, s->token_all, in->block_tokens), s->state_all);
}

/* What a prompt has to read: every token of full layers, a window's worth of windowed ones, the
 * state of its last block. */
static uint64_t prompt_bytes(const struct plan_model *m, const struct plan_input *in,
                             struct plan_sizes *s)
{
    uint64_t sum = s->state_rank, tokens;
    uint32_t i;

    for (i = 0; i < m->kinds_count; i++) {
        tokens = in->context;
        if (m->kinds[i].window && m->kinds[i].window < tokens)
            tokens = up_to(s, m->kinds[i].window, in->block_tokens);
        tokens = tokens < in->context ? tokens : in->context;
        sum = add(s, sum, mul(s, s->kinds[i].token_rank, tokens));
    }
    return sum;
}

static void break_even(const struct plan_input *in, struct plan_sizes *s)
{
    double gain;

    if (in->prefill_rate > 0)
        s->token_seconds_prefill = 1 / in->prefill_rate;
    if (in->bandwidth)
        s->token_seconds_read = (double)mul(s, s->token_rank, in->tp) / (double)in->bandwidth;
    if (!(s->token_seconds_prefill > 0) || !(s->token_seconds_read > 0))
        return;
    gain = s->token_seconds_prefill - s->token_seconds_read;
    s->break_even = gain > 0 ? real(s, ceil(in->read_latency_ms / 1000 / gain)) : -1;
    if (s->break_even >= 0 && s->break_even < 1)
        s->break_even = 1;
}

/* Others use /dev/shm too: a quarter on top, as RTP-LLM does. */
static void memory_of(const struct plan_input *in, struct plan_sizes *s)
{
    s->staging_rank = add(s, in->read_staging, in->write_staging);
    s->staging_all = mul(s, s->staging_rank, in->tp);
    s->shm = up_to(s, add(s, s->staging_all, s->staging_all / 4), GIB);
    s->memory = add(s, s->shm, in->host_memory);
}

bool plan_size(const struct plan_model *m, const struct plan_input *in, struct plan_sizes *out)
{
    struct plan_sizes *s = out;

    memset(s, 0, sizeof(*s));
    bytes_of(m, in, s);
    memory_of(in, s);
    s->prompt_rank = prompt_bytes(m, in, s);
    s->load_rank = real(s, (double)s->prompt_rank * (double)in->concurrency / in->ttft);
    s->load_host = real(s, s->load_rank * (double)in->tp);
    s->lanes = (uint64_t)real(s, ceil(s->load_rank / (double)in->lane_rate));
    s->lanes = s->lanes ? s->lanes : 1;
    s->prompts = real(s, in->hours * 3600 / in->request_seconds * (double)in->concurrency);
    s->written = real(s, s->prompts * (double)in->context * in->new_share / 100 *
                             (double)s->block_all / (double)in->block_tokens);
    s->capacity = real(s, s->written + s->written / 4); /* storage is better not full */
    break_even(in, s);
    return !s->too_much;
}
