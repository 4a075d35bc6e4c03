/* weights.h - the model's weights, made from a seed; each rank makes only its own part. */
#ifndef MINILLM_WEIGHTS_H
#define MINILLM_WEIGHTS_H

#include "config.h"

/* Matrices are row-major [out][in]. The row counts are those of this rank. */
struct layer {
    float *attn_norm; /* [d_model] */
    float *wqkv;      /* [(heads + 2 kv_heads) head_dim][d_model]: q rows, k rows, v rows */
    float *wo;        /* [d_model][heads head_dim] */
    float *mlp_norm;  /* [d_model] */
    float *wgu;       /* [2 ffn][d_model]: gate rows, then up rows */
    float *wdown;     /* [d_model][ffn] */
};

struct weights {
    float *embedding;  /* [VOCAB][d_model], whole on every rank */
    float *final_norm; /* [d_model] */
    float *head;       /* [VOCAB][d_model], whole on every rank */
    struct layer *layers;
    float *memory; /* owns all of the above but `layers` */
};

int weights_init(struct weights *w, const struct shape *s) __attribute__((warn_unused_result));
void weights_release(struct weights *w);

#endif
