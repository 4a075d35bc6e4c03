/*
 * model.c - a Llama-style decoder, split over the ranks by heads and MLP columns.
 *
 * Layer: x += O(attention(rope(Q, K), V of rmsnorm(x))); x += Down(silu(Gate) * Up of rmsnorm(x)).
 * Each rank computes its heads and its MLP columns; the two products that bring them together give
 * partial sums, added in the order of the ranks. x is the same on all ranks, to the bit.
 *
 * A step is a whole KV block, or the rest of one. Since a block starts at a multiple of
 * block_tokens, the shape of every product at a position is the same however the prompt was cut and
 * whatever part of it came from a cache, and so are the bits of its result.
 */
#include "model.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "vecmath.h"
#include "weights.h"

#define ROPE_BASE 10000.0

struct model {
    struct shape shape;
    struct comm *comm;
    struct kvpool *pool;
    struct weights weights;
    float *x, *normed, *qkv, *attended, *gu; /* rows of one step */
    float *scratch;                          /* attention scores */
    float *rope;                             /* [max_tokens][head_dim / 2][cos, sin] */
    float *memory;
};

size_t model_sum_floats(const struct shape *s)
{
    return (size_t)s->block_tokens * (size_t)s->d_model;
}

static int qkv_width(const struct shape *s)
{
    return (shape_heads(s) + 2 * shape_kv_heads(s)) * s->head_dim;
}

static void rope_fill(float *out, int head_dim, int max_tokens)
{
    for (int p = 0; p < max_tokens; p++)
        for (int i = 0; i < head_dim / 2; i++) {
            double angle = p * pow(ROPE_BASE, -2.0 * i / head_dim);
            *out++ = (float)cos(angle);
            *out++ = (float)sin(angle);
        }
}

static float *take(float **at, size_t n)
{
    float *p = *at;
    *at += (n + 15) & ~(size_t)15;
    return p;
}

int model_new(struct model **out, const struct shape *s, int max_tokens, struct comm *comm,
              struct kvpool *pool)
{
    size_t rows = (size_t)s->block_tokens, d = (size_t)s->d_model;
    size_t q = (size_t)(shape_heads(s) * s->head_dim), f = 2 * (size_t)shape_ffn(s);
    size_t rope = (size_t)max_tokens * (size_t)s->head_dim;
    size_t scratch = attention_scratch(s, max_tokens);
    size_t all = rows * (2 * d + (size_t)qkv_width(s) + q + f) + scratch + rope + 8 * 16;
    struct model *m = calloc(1, sizeof *m);

    if (!m)
        return -ENOMEM;
    *m = (struct model){.shape = *s, .comm = comm, .pool = pool};
    m->memory = aligned_alloc(64, (all + 15) / 16 * 64);
    int err = m->memory ? weights_init(&m->weights, s) : -ENOMEM;
    if (err) {
        model_free(m);
        return err;
    }
    float *at = m->memory;
    m->x = take(&at, rows * d);
    m->normed = take(&at, rows * d);
    m->qkv = take(&at, rows * (size_t)qkv_width(s));
    m->attended = take(&at, rows * q);
    m->gu = take(&at, rows * f);
    m->scratch = take(&at, scratch);
    m->rope = take(&at, rope);
    rope_fill(m->rope, s->head_dim, max_tokens);
    *out = m;
    return 0;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    weights_release(&m->weights);
    free(m->memory);
    free(m);
}

/* out[rows][n] = in[rows][k] times the transpose of w[n][k] */
static void multiply(float *out, int out_stride, const float *in, int in_stride, const float *w,
                     int rows, int n, int k)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, in, in_stride, w, k,
                0.0f, out, out_stride);
}

static void normalize(struct model *m, const float *gain, int n)
{
    int d = m->shape.d_model;
    for (int r = 0; r < n; r++)
        vec_rmsnorm(m->normed + (size_t)r * (size_t)d, m->x + (size_t)r * (size_t)d, gain, d);
}

/* Rotates the pairs (i, i + head_dim / 2) of `heads` neighbouring heads. */
static void rotate(float *at, int heads, int head_dim, const float *rope)
{
    int half = head_dim / 2;
    for (int h = 0; h < heads; h++, at += head_dim)
        for (int i = 0; i < half; i++) {
            float c = rope[2 * i], s = rope[2 * i + 1], a = at[i], b = at[i + half];
            at[i] = a * c - b * s;
            at[i + half] = b * c + a * s;
        }
}

/* Rotated keys and values of the step go to their place in the KV block. */
static void kv_write(struct model *m, int layer, int start, int n, int block)
{
    const struct shape *s = &m->shape;
    size_t hd = (size_t)s->head_dim, width = (size_t)qkv_width(s);
    size_t q = (size_t)shape_heads(s) * hd, kv = (size_t)shape_kv_heads(s);
    size_t rows = (size_t)s->block_tokens;
    float *keys = kvpool_piece(m->pool, block, layer, 0);
    float *values = kvpool_piece(m->pool, block, layer, 1);

    for (int r = 0; r < n; r++) {
        const float *from = m->qkv + (size_t)r * width + q;
        size_t row = (size_t)((start + r) % s->block_tokens);
        for (size_t h = 0; h < kv; h++) {
            float *key = keys + h * hd * rows + row;
            for (size_t i = 0; i < hd; i++)
                key[i * rows] = from[h * hd + i];
            memcpy(values + (h * rows + row) * hd, from + (kv + h) * hd, hd * sizeof(float));
        }
    }
}

static int attend(struct model *m, int layer, int start, int n, const int *table)
{
    const struct shape *s = &m->shape;
    const struct layer *l = &m->weights.layers[layer];
    int d = s->d_model, width = qkv_width(s), q = shape_heads(s) * s->head_dim;

    normalize(m, l->attn_norm, n);
    multiply(m->qkv, width, m->normed, d, l->wqkv, n, width, d);
    for (int r = 0; r < n; r++)
        rotate(m->qkv + (size_t)r * (size_t)width, shape_heads(s) + shape_kv_heads(s), s->head_dim,
               m->rope + (size_t)(start + r) * (size_t)s->head_dim);
    kv_write(m, layer, start, n, table[start / s->block_tokens]);
    attention_run(s, m->pool, table, layer, start, n, m->qkv, width, m->attended, m->scratch);
    multiply(comm_partial(m->comm), d, m->attended, q, l->wo, n, d, q);
    return comm_sum(m->comm, m->x, (size_t)n * (size_t)d);
}

static int feed_forward(struct model *m, int layer, int n)
{
    const struct shape *s = &m->shape;
    const struct layer *l = &m->weights.layers[layer];
    int d = s->d_model, f = shape_ffn(s);

    normalize(m, l->mlp_norm, n);
    multiply(m->gu, 2 * f, m->normed, d, l->wgu, n, 2 * f, d);
    for (int r = 0; r < n; r++) {
        float *row = m->gu + (size_t)r * 2 * (size_t)f;
        vec_swiglu(row, row + f, f);
    }
    multiply(comm_partial(m->comm), d, m->gu, 2 * f, l->wdown, n, d, f);
    return comm_sum(m->comm, m->x, (size_t)n * (size_t)d);
}

int model_step(struct model *m, const uint8_t *tokens, int start, int n, const int *table,
               float *logits)
{
    size_t d = (size_t)m->shape.d_model;

    for (int r = 0; r < n; r++)
        memcpy(m->x + (size_t)r * d, m->weights.embedding + tokens[r] * d, d * sizeof(float));
    for (int i = 0; i < m->shape.layers; i++) {
        int err = attend(m, i, start, n, table);
        if (!err)
            err = feed_forward(m, i, n);
        if (err)
            return err;
    }
    if (logits) {
        vec_rmsnorm(m->normed, m->x + (size_t)(n - 1) * d, m->weights.final_norm, (int)d);
        multiply(logits, VOCAB, m->normed, (int)d, m->weights.head, 1, VOCAB, (int)d);
    }
    return 0;
}
