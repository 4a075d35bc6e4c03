/*
 * plan_model.c - what the layers of a model keep, from the config.json that is published with its
 * weights (Hugging Face's names), or from dimensions given by hand.
 *
 * Three things are told apart: attention with keys and values per head, latent attention (MLA),
 * which keeps one vector that all heads share, and recurrent layers, which keep a state of constant
 * size. What is not known is refused by name rather than guessed: a wrong size is worse than none.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "plan.h"

#define MOST_LAYERS 4096
#define MOST_VALUE  (1u << 24)

struct reading {
    const json_t *o;
    const char *where;
    struct plan_model *m;
    int result; /* the first failure */
};

/* ---- Types of elements ---- */

static const struct {
    const char *name, *canonical;
    uint32_t bytes;
} dtypes[] = {
    {"bf16", "bf16", 2},       {"bfloat16", "bf16", 2}, {"fp16", "fp16", 2},
    {"float16", "fp16", 2},    {"half", "fp16", 2},     {"fp32", "fp32", 4},
    {"float32", "fp32", 4},    {"float", "fp32", 4},    {"fp8", "fp8", 1},
    {"fp8_e4m3", "fp8", 1},    {"fp8_e5m2", "fp8", 1},  {"float8_e4m3fn", "fp8", 1},
    {"float8_e5m2", "fp8", 1}, {"int8", "int8", 1},
};

static uint32_t dtype_find(const char *word, const char **canonical)
{
    size_t i;

    for (i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (strcmp(dtypes[i].name, word) == 0) {
            *canonical = dtypes[i].canonical;
            return dtypes[i].bytes;
        }
    }
    return 0;
}

static int dtype_take(const char *word, struct plan_model *m)
{
    const char *canonical = NULL;

    m->dtype_bytes = dtype_find(word, &canonical);
    if (!m->dtype_bytes)
        return cli_fail(CLI_USAGE, "dtype '%s' is not known; use bf16, fp16, fp32, fp8 or int8",
                        word);
    (void)snprintf(m->dtype, sizeof(m->dtype), "%s", canonical);
    return CLI_OK;
}

/* ---- Members of the configuration ---- */

static bool has(const struct reading *r, const char *name)
{
    const json_t *v = json_object_get(r->o, name);

    return v && !json_is_null(v);
}

/* `fallback` where it is missing; 0 as fallback: it has to be there. */
static uint64_t number(struct reading *r, const char *name, uint64_t fallback)
{
    const json_t *v = json_object_get(r->o, name);

    if (!v || json_is_null(v)) {
        if (!fallback && r->result == CLI_OK)
            r->result = cli_fail(CLI_USAGE,
                                 "%s: no member '%s', which is needed; add it, or give --layers, "
                                 "--kv-heads and --head-dim instead of the file",
                                 r->where, name);
        return fallback;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > MOST_VALUE) {
        if (r->result == CLI_OK)
            r->result = cli_fail(CLI_USAGE, "%s: '%s' is not a whole number from 1 to %u", r->where,
                                 name, MOST_VALUE);
        return 1;
    }
    return (uint64_t)json_integer_value(v);
}

static const char *text(const struct reading *r, const char *name)
{
    return json_string_value(json_object_get(r->o, name));
}

static uint32_t layers_of(struct reading *r)
{
    uint64_t n = number(r, "num_hidden_layers", 0);

    if (n > MOST_LAYERS && r->result == CLI_OK)
        r->result = cli_fail(CLI_USAGE, "%s: %llu layers are more than the %u that are believed",
                             r->where, (unsigned long long)n, MOST_LAYERS);
    return (uint32_t)(n > MOST_LAYERS ? 1 : n);
}

static struct plan_kind *add_kind(struct plan_model *m, const char *what, uint32_t layers)
{
    struct plan_kind *k = &m->kinds[m->kinds_count];

    if (!layers || m->kinds_count == PLAN_KINDS)
        return NULL;
    m->kinds_count++;
    *k = (struct plan_kind){.what = what, .layers = layers, .heads = 1};
    return k;
}

/* ---- Which layer is of which kind ---- */

struct split {
    uint32_t full, window, linear;
};

static bool split_listed(struct reading *r, struct split *out)
{
    const json_t *list = json_object_get(r->o, "layer_types");
    const char *word;
    size_t i;

    if (!json_is_array(list))
        return false;
    for (i = 0; i < json_array_size(list); i++) {
        word = json_string_value(json_array_get(list, i));
        if (word && strcmp(word, "full_attention") == 0)
            out->full++;
        else if (word && strcmp(word, "sliding_attention") == 0)
            out->window++;
        else if (word && strcmp(word, "linear_attention") == 0)
            out->linear++;
        else if (r->result == CLI_OK)
            r->result = cli_fail(CLI_USAGE,
                                 "%s: layer_types has '%s'; full_attention, sliding_attention and "
                                 "linear_attention are known. Give --layers, --kv-heads and "
                                 "--head-dim instead",
                                 r->where, word ? word : "(no text)");
    }
    if (i != layers_of(r) && r->result == CLI_OK)
        r->result = cli_fail(CLI_USAGE, "%s: layer_types names %zu layers, num_hidden_layers %u",
                             r->where, i, layers_of(r));
    return true;
}

/* Families that say it by rule. */
static void split_by_rule(struct reading *r, struct split *out)
{
    uint32_t n = layers_of(r), every = 0;
    const char *family = r->m->family;

    *out = (struct split){.full = n};
    if (strcmp(family, "gemma2") == 0)
        every = 2;
    else if (strncmp(family, "gemma3", 6) == 0)
        every = (uint32_t)number(r, "sliding_window_pattern", 6);
    if (every) {
        out->full = n / every;
        out->window = n - out->full;
    } else if (strcmp(family, "qwen3_next") == 0) {
        out->full = n / (uint32_t)number(r, "full_attention_interval", 4);
        out->linear = n - out->full;
    } else if (strcmp(family, "mistral") == 0 && has(r, "sliding_window")) {
        out->full = 0;
        out->window = n;
    }
}

/* ---- What a kind keeps ---- */

static void keep_heads(struct reading *r, struct plan_kind *k)
{
    uint64_t attention, heads, dim;

    if (!k)
        return;
    attention = number(r, "num_attention_heads", 0);
    heads = number(r, "num_key_value_heads", attention ? attention : 1);
    dim = has(r, "head_dim") || !attention ? number(r, "head_dim", 0)
                                           : number(r, "hidden_size", 0) / attention;
    if (!dim && r->result == CLI_OK)
        r->result = cli_fail(CLI_USAGE,
                             "%s: a hidden_size below num_attention_heads leaves nothing for a "
                             "head; add 'head_dim'",
                             r->where);
    k->heads = (uint32_t)heads;
    k->head_bytes = 2 * dim * r->m->dtype_bytes;
    (void)snprintf(k->formula, sizeof(k->formula), "2 (K and V) x %llu head_dim x %u bytes",
                   (unsigned long long)dim, r->m->dtype_bytes);
}

static void keep_latent(struct plan_model *m, struct plan_kind *k, uint64_t rank, uint64_t rope)
{
    k->head_bytes = (rank + rope) * m->dtype_bytes;
    (void)snprintf(k->formula, sizeof(k->formula),
                   "(%llu kv_lora_rank + %llu qk_rope_head_dim) x %u bytes",
                   (unsigned long long)rank, (unsigned long long)rope, m->dtype_bytes);
}

/* The indexer of sparse attention: one key of 8-bit elements and a 4-byte scale for 128 of them. */
static void keep_indexer(struct reading *r, struct plan_kind *k)
{
    uint64_t dim = number(r, "index_head_dim", 0);

    k->head_bytes = dim + (dim + 127) / 128 * 4;
    (void)snprintf(k->formula, sizeof(k->formula),
                   "%llu index_head_dim x 1 byte + 4 bytes of scale for each 128",
                   (unsigned long long)dim);
}

/* Gated delta net: per value head a matrix, and its share of the convolution's past. */
static void keep_state(struct reading *r, struct plan_kind *k)
{
    uint64_t kh = number(r, "linear_num_key_heads", 0), vh = number(r, "linear_num_value_heads", 0),
             kd = number(r, "linear_key_head_dim", 0), vd = number(r, "linear_value_head_dim", 0),
             kernel = number(r, "linear_conv_kernel_dim", 0), channels, past;
    const char *word = text(r, "mamba_ssm_dtype"), *canonical;
    uint32_t bytes = word ? dtype_find(word, &canonical) : 0;

    if (!bytes)
        bytes = r->m->dtype_bytes > 1 ? r->m->dtype_bytes : 2;
    if (r->result != CLI_OK)
        return;
    channels = (2 * kh * kd + vh * vd) / vh;
    k->heads = (uint32_t)vh;
    if (__builtin_mul_overflow(channels, 2 * (kernel - 1), &past) || past > INT64_MAX) {
        r->result = cli_fail(CLI_USAGE,
                             "%s: the state of linear attention has more than 2^63 "
                             "bytes; look at the members that begin with linear_",
                             r->where);
        return;
    }
    k->state_bytes = kd * vd * bytes + past;
    (void)snprintf(k->formula, sizeof(k->formula),
                   "%llu x %llu x %u bytes + %llu channels x %llu x 2 bytes",
                   (unsigned long long)kd, (unsigned long long)vd, bytes,
                   (unsigned long long)channels, (unsigned long long)(kernel - 1));
}

static void keep_attention(struct reading *r, const struct split *n)
{
    struct plan_kind *k;

    keep_heads(r, add_kind(r->m, "attention", n->full));
    if ((k = add_kind(r->m, "sliding window", n->window))) {
        keep_heads(r, k);
        k->window = (uint32_t)number(r, "sliding_window", 0);
    }
    if ((k = add_kind(r->m, "recurrent state", n->linear)))
        keep_state(r, k);
}

static void keep_mla(struct reading *r)
{
    uint32_t n = layers_of(r);
    struct plan_kind *k = add_kind(r->m, "latent attention", n);

    keep_latent(r->m, k, number(r, "kv_lora_rank", 0), number(r, "qk_rope_head_dim", 0));
    if (has(r, "index_head_dim"))
        keep_indexer(r, add_kind(r->m, "indexer", n));
}

/* ---- The whole ---- */

/* Models whose layers keep what is not computed here. */
static int refuse_unknown(const struct reading *r)
{
    static const char *const members[] = {
        "mamba_d_state",          "ssm_state_size",     "state_size",     "hybrid_override_pattern",
        "attn_layer_period",      "is_encoder_decoder", "block_types",    "layers_block_type",
        "linear_attn_config",     "attn_type_list",     "block_configs",  "num_kv_shared_layers",
        "cross_attention_layers", "multi_query",        "compress_ratios"};
    size_t i;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const json_t *v = json_object_get(r->o, members[i]);

        if (v && !json_is_null(v) && !json_is_false(v) &&
            !(json_is_integer(v) && json_integer_value(v) == 0))
            return cli_fail(
                CLI_USAGE,
                "%s: '%s' says that layers of this model (%s) keep something whose "
                "size is not known here; give --layers, --kv-heads and --head-dim for its "
                "attention",
                r->where, members[i], r->m->family);
    }
    return CLI_OK;
}

static int dtype_of(const struct reading *r, const char *dtype)
{
    if (!dtype)
        dtype = text(r, "torch_dtype");
    if (!dtype)
        dtype = text(r, "dtype");
    return dtype_take(dtype ? dtype : "bf16", r->m);
}

/* Names stand in comments of emitted files and on terminals, so nothing that ends a line, and no
 * character that could be cut in its middle: U+2028 is a line's end for YAML. */
static void take_name(char out[PLAN_NAME], const char *name)
{
    (void)snprintf(out, PLAN_NAME, "%s", name);
    for (; *out; out++) {
        if ((unsigned char)*out < ' ' || (unsigned char)*out >= 127)
            *out = '?';
    }
}

int plan_model_of(const json_t *config, const char *where, const char *dtype,
                  struct plan_model *out)
{
    struct reading r = {.o = config, .where = where, .m = out};
    const json_t *inner = json_object_get(config, "text_config");
    struct split n = {0};
    const char *name;

    memset(out, 0, sizeof(*out));
    if (!json_is_object(config))
        return cli_fail(CLI_USAGE, "%s: not a JSON object", where);
    name = text(&r, "_name_or_path");
    if (json_is_object(inner))
        r.o = inner;
    take_name(out->family, text(&r, "model_type") ? text(&r, "model_type") : "unknown");
    take_name(out->name, name && name[0] ? name : out->family);
    if ((r.result = refuse_unknown(&r)) || (r.result = dtype_of(&r, dtype)))
        return r.result;
    out->context = number(&r, "max_position_embeddings", UINT32_MAX);
    out->context = out->context == UINT32_MAX ? 0 : out->context;
    if (has(&r, "kv_lora_rank")) {
        keep_mla(&r);
    } else {
        if (!split_listed(&r, &n))
            split_by_rule(&r, &n);
        if (r.result == CLI_OK)
            keep_attention(&r, &n);
    }
    return r.result;
}

int plan_model_read(const char *path, const char *dtype, struct plan_model *out)
{
    json_error_t error;
    json_t *config = json_load_file(path, 0, &error);
    int rc;

    if (!config)
        return cli_fail(error.line < 0 ? CLI_ENVIRONMENT : CLI_USAGE, "%s: %s", path, error.text);
    rc = plan_model_of(config, path, dtype, out);
    json_decref(config);
    return rc;
}

int plan_model_make(const struct plan_dims *d, const char *dtype, struct plan_model *out)
{
    struct plan_kind *k;
    int rc;

    memset(out, 0, sizeof(*out));
    (void)snprintf(out->name, sizeof(out->name), "given dimensions");
    (void)snprintf(out->family, sizeof(out->family), "given dimensions");
    if ((rc = dtype_take(dtype ? dtype : "bf16", out)))
        return rc;
    if (!d->layers || !d->mla_rank != !d->mla_rope ||
        (!d->mla_rank && (!d->kv_heads || !d->head_dim)))
        return cli_fail(CLI_USAGE,
                        "which model? Give --hf-config FILE, or --layers with --kv-heads "
                        "and --head-dim, or with --mla-rank and --mla-rope");
    if (d->mla_rank) {
        if (!(k = add_kind(out, "latent attention", (uint32_t)d->layers)))
            return CLI_USAGE;
        keep_latent(out, k, d->mla_rank, d->mla_rope);
        return CLI_OK;
    }
    if (!(k = add_kind(out, "attention", (uint32_t)d->layers)))
        return CLI_USAGE;
    k->heads = (uint32_t)d->kv_heads;
    k->head_bytes = 2 * d->head_dim * out->dtype_bytes;
    (void)snprintf(k->formula, sizeof(k->formula), "2 (K and V) x %llu head_dim x %u bytes",
                   (unsigned long long)d->head_dim, out->dtype_bytes);
    return CLI_OK;
}
