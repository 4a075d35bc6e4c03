/*
 * config.h - what a minillm process is told: the shape of its model, the size of its memory, and
 * which debugging switches are on. Filled by settings.c, read by everyone, changed by nobody.
 */
#ifndef MINILLM_CONFIG_H
#define MINILLM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB            256 /* bytes are the tokens */
#define MAX_RANKS        8
#define MAX_BLOCK_TOKENS 512

struct shape {
    uint64_t seed;
    int layers, d_model, heads, kv_heads, head_dim, ffn;
    int block_tokens; /* tokens per KV block, and per step of the prefill */
    int tp;           /* ranks */
    int rank;         /* this one */
};

/* This rank's part of a tensor-parallel model. */
static inline int shape_heads(const struct shape *s)
{
    return s->heads / s->tp;
}
static inline int shape_kv_heads(const struct shape *s)
{
    return s->kv_heads / s->tp;
}
static inline int shape_ffn(const struct shape *s)
{
    return s->ffn / s->tp;
}
/* Bytes of one piece: K, or V, of one layer of one block on one rank. A block has layers x 2. */
static inline size_t shape_piece_bytes(const struct shape *s)
{
    return sizeof(float) * (size_t)shape_kv_heads(s) * (size_t)s->block_tokens *
           (size_t)s->head_dim;
}
static inline size_t shape_block_bytes(const struct shape *s)
{
    return shape_piece_bytes(s) * 2 * (size_t)s->layers;
}

struct config {
    struct shape shape;
    int max_tokens;   /* longest prompt plus answer */
    int tier1_blocks; /* KV blocks of this rank's pool */
    int max_new;      /* tokens to generate per request */
    int max_reuse;    /* reuse at most this many blocks; -1 = no limit */
    int64_t spoil;    /* flip the sign bit near this byte of what is put to tier 2; -1 = off */
    int shadow;       /* compute every so manieth run that tier 2 gave as well; 0 = none */
    int64_t corrupt;  /* flip the sign bit near this byte of what tier 2 gave; -1 = off */
    bool reuse_cache; /* use a cache at all */
    bool tier2;       /* use Cistern behind it */
    bool json, serve, wait_puts;
    int drain_ms; /* after SIGTERM: most time to finish puts */
    const char *logits_out;
    const char *prompt_file, *question;
    char **requests; /* "FILE:question" */
    int nrequests;
};

#endif
