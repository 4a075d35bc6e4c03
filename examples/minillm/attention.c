/*
 * attention.c - grouped-query attention over a paged KV.
 *
 * Head by head: scores of all blocks (one small product per block, straight from its place in the
 * pool), softmax by row, then the weighted sum of the values, block by block from the first to the
 * last. All shapes depend on (start, m) alone, never on which of the blocks were computed, found or
 * read, so the result is the same to the bit.
 */
#include "attention.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "vecmath.h"

static int padded(int n)
{
    return (n + 15) & ~15;
}

size_t attention_scratch(const struct shape *s, int max_tokens)
{
    return (size_t)s->block_tokens * (size_t)padded(max_tokens + s->block_tokens);
}

struct head {
    const struct shape *shape;
    const struct kvpool *pool;
    const int *table;
    int layer, kv_head;
    int m, context; /* rows of queries, keys they may see */
    float *scores;  /* m rows of `stride` floats */
    int stride;
};

static const float *block_at(const struct head *h, int i, int which)
{
    return kvpool_piece(h->pool, h->table[i], h->layer, which) +
           (size_t)h->kv_head * (size_t)h->shape->block_tokens * (size_t)h->shape->head_dim;
}

/* Keys in block i: all of them but in the last one. */
static int block_len(const struct head *h, int i)
{
    int left = h->context - i * h->shape->block_tokens;
    return left < h->shape->block_tokens ? left : h->shape->block_tokens;
}

static void scores_compute(const struct head *h, const float *q, int q_stride)
{
    int hd = h->shape->head_dim, bt = h->shape->block_tokens;
    float scale = 1.0f / sqrtf((float)hd);

    for (int i = 0; i * bt < h->context; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, h->m, block_len(h, i), hd, scale, q,
                    q_stride, block_at(h, i, 0), bt, 0.0f, h->scores + i * bt, h->stride);
}

static void values_sum(const struct head *h, float *out, int out_stride)
{
    int hd = h->shape->head_dim, bt = h->shape->block_tokens;

    for (int i = 0; i * bt < h->context; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, h->m, hd, block_len(h, i), 1.0f,
                    h->scores + i * bt, h->stride, block_at(h, i, 1), hd, i ? 1.0f : 0.0f, out,
                    out_stride);
}

void attention_run(const struct shape *s, const struct kvpool *pool, const int *table, int layer,
                   int start, int m, const float *q, int q_stride, float *out, float *scratch)
{
    int hd = s->head_dim, heads = shape_heads(s), group = s->heads / s->kv_heads;
    float norm[MAX_BLOCK_TOKENS];
    struct head h = {.shape = s,
                     .pool = pool,
                     .table = table,
                     .layer = layer,
                     .m = m,
                     .context = start + m,
                     .scores = scratch,
                     .stride = padded(start + m)};

    for (int i = 0; i < heads; i++) {
        h.kv_head = i / group;
        scores_compute(&h, q + i * hd, q_stride);
        for (int r = 0; r < m; r++) { /* a token sees itself and what was before it */
            float *row = h.scores + (size_t)r * (size_t)h.stride;
            norm[r] = vec_softmax(row, start + r + 1);
            memset(row + start + r + 1, 0, sizeof(float) * (size_t)(m - r - 1));
        }
        values_sum(&h, out + i * hd, heads * hd);
        for (int r = 0; r < m; r++)
            vec_scale(out + (size_t)r * (size_t)(heads * hd) + i * hd, norm[r], hd);
    }
}
