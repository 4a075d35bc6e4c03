/*
 * weights.c - weights from a seed.
 *
 * Every weight is a pure function of (seed, tensor, index): no state, any order, any slice, easy to
 * repeat elsewhere (tests/e2e/minillm_ref.py does it in NumPy). With 64-bit wrap-around:
 *
 *     mix(x):  x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
 *              x ^= x >> 31
 *     stream = mix(seed + (tensor + 1) * 0x9E3779B97F4A7C15)
 *     u      = (mix(stream + index * 0x9E3779B97F4A7C15) >> 40) * 2^-23 - 1      in [-1, 1), exact
 *     weight = bound * u                                                         in float32
 *     gain   = 1 + 0.1f * u                                                      of an RMSNorm
 *
 * index is row * columns + column in the whole, unsplit matrix. Tensors: 0 embedding, 1 final norm,
 * 2 head, and 16 (layer + 1) + {0 attention norm, 1 q, 2 k, 3 v, 4 o, 5 MLP norm, 6 gate, 7 up,
 * 8 down}. bound is sqrt(3 / columns) for unit variance, divided by sqrt(2 layers) for o and down;
 * sqrt(3) for the embedding.
 *
 * A rank makes its own slice only: rows of q, k, v, gate, up; columns of o and down.
 */
#include "weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define GOLDEN 0x9E3779B97F4A7C15ull

enum { T_ATTN_NORM, T_Q, T_K, T_V, T_O, T_MLP_NORM, T_GATE, T_UP, T_DOWN };

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static float unit(uint64_t stream, uint64_t index)
{
    return (float)(mix(stream + index * GOLDEN) >> 40) * 0x1p-23f - 1.0f;
}

static uint64_t stream_of(const struct shape *s, int tensor)
{
    return mix(s->seed + (uint64_t)(tensor + 1) * GOLDEN);
}

/* Rows [row, row + rows) and columns [col, col + cols) of a matrix that has `width` columns. */
static void matrix_fill(float *out, uint64_t stream, float bound, int row, int rows, int col,
                        int cols, int width)
{
    for (int r = 0; r < rows; r++) {
        uint64_t at = (uint64_t)(row + r) * (uint64_t)width + (uint64_t)col;
        for (int c = 0; c < cols; c++)
            *out++ = bound * unit(stream, at + (uint64_t)c);
    }
}

static void gain_fill(float *out, uint64_t stream, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = 1.0f + 0.1f * unit(stream, (uint64_t)i);
}

static void layer_fill(struct layer *l, const struct shape *s, int index)
{
    int t = 16 * (index + 1), d = s->d_model;
    int q = shape_heads(s) * s->head_dim, kv = shape_kv_heads(s) * s->head_dim, f = shape_ffn(s);
    float in = (float)sqrt(3.0 / d);
    float o = (float)(sqrt(3.0 / (s->heads * s->head_dim)) / sqrt(2.0 * s->layers));
    float down = (float)(sqrt(3.0 / s->ffn) / sqrt(2.0 * s->layers));
    size_t dd = (size_t)d;

    gain_fill(l->attn_norm, stream_of(s, t + T_ATTN_NORM), d);
    gain_fill(l->mlp_norm, stream_of(s, t + T_MLP_NORM), d);
    matrix_fill(l->wqkv, stream_of(s, t + T_Q), in, s->rank * q, q, 0, d, d);
    matrix_fill(l->wqkv + (size_t)q * dd, stream_of(s, t + T_K), in, s->rank * kv, kv, 0, d, d);
    matrix_fill(l->wqkv + (size_t)(q + kv) * dd, stream_of(s, t + T_V), in, s->rank * kv, kv, 0, d,
                d);
    matrix_fill(l->wo, stream_of(s, t + T_O), o, 0, d, s->rank * q, q, s->heads * s->head_dim);
    matrix_fill(l->wgu, stream_of(s, t + T_GATE), in, s->rank * f, f, 0, d, d);
    matrix_fill(l->wgu + (size_t)f * dd, stream_of(s, t + T_UP), in, s->rank * f, f, 0, d, d);
    matrix_fill(l->wdown, stream_of(s, t + T_DOWN), down, 0, d, s->rank * f, f, s->ffn);
}

/* Hands out the next n floats on a 64-byte boundary; with base NULL it only counts. */
static float *carve(float *base, size_t *used, size_t n)
{
    float *p = base ? base + *used : NULL;
    *used += (n + 15) & ~(size_t)15;
    return p;
}

static size_t weights_place(struct weights *w, const struct shape *s, float *base)
{
    size_t d = (size_t)s->d_model, used = 0;
    size_t q = (size_t)(shape_heads(s) * s->head_dim), f = (size_t)shape_ffn(s);
    size_t kv = (size_t)(shape_kv_heads(s) * s->head_dim);

    w->embedding = carve(base, &used, VOCAB * d);
    w->final_norm = carve(base, &used, d);
    w->head = carve(base, &used, VOCAB * d);
    for (int i = 0; i < s->layers; i++) {
        struct layer *l = &w->layers[i];
        l->attn_norm = carve(base, &used, d);
        l->wqkv = carve(base, &used, (q + 2 * kv) * d);
        l->wo = carve(base, &used, d * q);
        l->mlp_norm = carve(base, &used, d);
        l->wgu = carve(base, &used, 2 * f * d);
        l->wdown = carve(base, &used, d * f);
    }
    return used;
}

int weights_init(struct weights *w, const struct shape *s)
{
    *w = (struct weights){0};
    w->layers = calloc((size_t)s->layers, sizeof *w->layers);
    if (!w->layers)
        return -ENOMEM;
    size_t n = weights_place(w, s, NULL);
    w->memory = aligned_alloc(64, n * sizeof(float));
    if (!w->memory) {
        weights_release(w);
        return -ENOMEM;
    }
    weights_place(w, s, w->memory);
    matrix_fill(w->embedding, stream_of(s, 0), (float)sqrt(3.0), 0, VOCAB, 0, s->d_model,
                s->d_model);
    gain_fill(w->final_norm, stream_of(s, 1), s->d_model);
    matrix_fill(w->head, stream_of(s, 2), (float)sqrt(3.0 / s->d_model), 0, VOCAB, 0, s->d_model,
                s->d_model);
    for (int i = 0; i < s->layers; i++)
        layer_fill(&w->layers[i], s, i);
    return 0;
}

void weights_release(struct weights *w)
{
    free(w->memory);
    free(w->layers);
    *w = (struct weights){0};
}
