/*
 * plan.h - from a model and a deployment to sizes: bytes a token, staging, /dev/shm, capacity,
 * bandwidth.
 *
 * A model is a list of what its layers keep. Nothing here asks the machine: the same numbers come
 * out everywhere. plan_model.c reads models, plan_size.c has the arithmetic (pure), plan_print.c
 * says it in words, plan_emit*.c as configuration for where the engine runs.
 */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PLAN_KINDS 6
#define PLAN_NAME  64

/* What one kind of layer keeps, all tensor-parallel ranks together. */
struct plan_kind {
    const char *what; /* static text */
    uint32_t layers;
    uint32_t heads;       /* that the ranks divide among them; 1 = every rank has all of it */
    uint64_t head_bytes;  /* of one head of one layer for one token */
    uint64_t state_bytes; /* of one head of one layer for one sequence, whatever its length */
    uint32_t window;      /* tokens that matter; 0 = all */
    char formula[96];     /* of head_bytes or state_bytes, for --arithmetic */
};

struct plan_model {
    char name[PLAN_NAME];
    char family[PLAN_NAME]; /* model_type of the configuration */
    char dtype[16];
    uint32_t dtype_bytes;
    uint64_t context;     /* longest that the model takes; 0 = not known */
    uint32_t kinds_count; /* 0: no model is given, only ranks */
    struct plan_kind kinds[PLAN_KINDS];
};

/* Dimensions given by hand; zero = not given. */
struct plan_dims {
    uint64_t layers, kv_heads, head_dim, mla_rank, mla_rope;
};

/* `dtype`: NULL = what the configuration says. CLI_OK, or an exit code after a message. */
int plan_model_read(const char *path, const char *dtype, struct plan_model *out);
int plan_model_make(const struct plan_dims *d, const char *dtype, struct plan_model *out);
/* A parsed configuration; `where` names it in messages. */
int plan_model_of(const json_t *config, const char *where, const char *dtype,
                  struct plan_model *out);

struct plan_input {
    uint64_t tp, block_tokens, context, concurrency;
    double ttft;            /* seconds to the first token that are wanted */
    double hours;           /* of traffic that storage shall hold */
    double request_seconds; /* mean life of a request */
    double new_share;       /* percent of a prompt that nobody has asked before */
    double prefill_rate;    /* tokens a second of the whole instance; 0 = not known */
    double read_latency_ms; /* before the first byte comes */
    uint64_t bandwidth;     /* bytes a second that a host gets from storage; 0 = not known */
    uint64_t lane_rate;     /* bytes a second of one read lane */
    uint64_t read_staging, write_staging; /* of a rank */
    uint64_t host_memory;                 /* that the engine itself needs */
};

struct plan_kind_size {
    uint64_t heads_rank; /* of a layer on one rank */
    uint64_t token_rank; /* bytes a token on one rank, all layers */
    uint64_t token_all;  /* ... stored, each head once */
    uint64_t state_rank; /* bytes a sequence */
    uint64_t state_all;
};

struct plan_sizes {
    struct plan_kind_size kinds[PLAN_KINDS];
    uint64_t shards;                /* different slices: fewer than ranks where heads are copied */
    uint64_t token_rank, token_all; /* bytes a token */
    uint64_t state_rank, state_all; /* bytes a block that holds the state of its end */
    uint64_t block_rank, block_all; /* bytes a block */
    uint64_t staging_rank, staging_all;
    uint64_t shm;                /* with head-room */
    uint64_t memory;             /* that a container has to ask for */
    uint64_t prompt_rank;        /* bytes that a prompt of `context` tokens reads on one rank */
    double load_rank, load_host; /* bytes a second so that all prompts load within ttft */
    uint64_t lanes;              /* of a rank */
    double prompts;              /* in the hours */
    double written;              /* bytes in the hours, all ranks */
    double capacity;             /* the same with head-room */
    double token_seconds_prefill, token_seconds_read; /* 0 = not known */
    double break_even; /* tokens from which reading beats computing; 0 = not known, < 0 = never */
    bool too_much;     /* something came to 2^63 or more: none of this is right */
};

/* False: too_much. */
bool plan_size(const struct plan_model *m, const struct plan_input *in, struct plan_sizes *out);

void plan_print(const struct plan_model *m, const struct plan_input *in, const struct plan_sizes *s,
                bool arithmetic);
int plan_print_json(const struct plan_model *m, const struct plan_input *in,
                    const struct plan_sizes *s);

#endif
