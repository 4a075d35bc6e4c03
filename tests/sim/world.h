/*
 * world.h - three stores on two hosts over one simulated file system, and a model of what each
 * block may hold. The scenario runner drives it; nothing here decides what happens next.
 *
 * The model. The bytes of a block follow from its number, its shard and its part. A block may be
 * seen only if somebody began to put it. It is *sure* from the moment that a put reported it stored
 * until something happened that may take it away: a delete, a get that did not deliver it, damage,
 * eviction, a power cut before a flush that succeeded. What is sure must be found. What the only
 * writer of a shard deleted and flushed must not be found again.
 *
 * One thread. The first thing that is wrong is kept in `wrong`.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdatomic.h>

#include "cistern.h"
#include "simfs.h"

#define SHARDS     2u
#define STORES     3u
#define LONE_SHARD 1u /* has one writer at a time */
#define CHAINS     10u
#define CHAIN      12u
#define KEYS       (CHAINS * CHAIN)
#define PARTS      2u
#define KV_BYTES   12000u
#define TAIL_BYTES 5000u
#define RUN_MAX    6u
#define OPS_MAX    6u
#define SLOTS      12u

/* What an operation is called in the coverage table. */
#define WORLD_OPS(X)                                                                               \
    X(OPEN, "open")                                                                                \
    X(CLOSE, "close")                                                                              \
    X(PUT, "put")                                                                                  \
    X(GET, "get")                                                                                  \
    X(DIRECT, "get direct")                                                                        \
    X(MATCH, "match")                                                                              \
    X(TOUCH, "touch")                                                                              \
    X(DELETE, "delete")                                                                            \
    X(REFRESH, "refresh")                                                                          \
    X(FLUSH, "flush")                                                                              \
    X(WAIT, "wait")                                                                                \
    X(CHECK, "checkpoint")

enum world_op {
#define WORLD_ENUM(name, text) OP_##name,
    WORLD_OPS(WORLD_ENUM)
#undef WORLD_ENUM
        OP_KINDS
};
extern const char *const world_op_names[OP_KINDS];

/* Memory of one operation. While idle it holds a pattern that nobody may change. */
struct slot {
    uint8_t *bytes; /* RUN_MAX blocks */
    cistern_key keys[RUN_MAX];
    struct cistern_vec vecs[RUN_MAX][PARTS][2];
    struct cistern_span spans[RUN_MAX][PARTS];
    uint8_t results[RUN_MAX][PARTS];
    bool busy, waits_for_buffer, direct;
    bool is_put;
    bool unsynced; /* a flush failed meanwhile: a later one may not cover what this put stored */
    uint32_t store, life, key, blocks;
    uint64_t op, started_ns, timeout_ms; /* started: by pace.h */
    uint32_t doubts[RUN_MAX];            /* of the blocks when the operation began */
};

struct store {
    cistern *c;
    uint32_t host, shard, life; /* life: grows with every open */
    char process[24];
    uint64_t asides;        /* segments that it set aside, as last seen */
    cistern_memory *memory; /* for direct gets */
    uint8_t *base;
    bool base_busy;       /* a direct get owns it */
    bool complete;        /* opened on storage that worked: it knows all copies of before */
    bool damaged;         /* bytes that it may have read were changed since it was opened */
    uint8_t unlike[KEYS]; /* it had reason to forget this block by itself */
};

struct block_model {
    bool attempted, sure, durable;
    bool astray;              /* a put of it ended without saying whether it is there */
    bool gone, gone_for_good; /* its one writer deleted it; and flushed that */
    bool noted;               /* contents may say that a copy of it is not to be used */
    uint32_t putters;         /* stores that ever began to put it, a bit each */
    uint32_t framed;          /* frames on their way that named it; under the simulator's lock */
    uint32_t put_framed;      /* of these, puts may have sent so many: the rest carried it over */
    uint32_t doubts;          /* grows with everything that may take it away */
    uint32_t stored_by;
};

struct world {
    struct simfs *fs;
    uint64_t seed, random;
    struct sim_options o;
    struct cistern_part parts[PARTS];
    struct cistern_space space;
    struct store stores[STORES];
    struct block_model blocks[SHARDS][KEYS];
    struct slot slots[SLOTS];
    uint64_t capacity; /* of the root; 0 = none is set */
    uint64_t segment_bytes;
    bool watch_grace;    /* nothing here can fill the file system: data stays for the grace */
    uint64_t grace_ns;   /* between the end of contents and of data */
    uint32_t open_files; /* of each store; 0: as many as there are */
    uint32_t silence_ms; /* of the root: who is silent for so long counts as dead; 0: a minute */
    uint64_t silent, fences;    /* writers that stores found silent; that gave up their own name */
    _Atomic uint32_t evictions; /* contents with blocks in them that were taken away */
    uint32_t evictions_seen;
    uint32_t crashes; /* stores that ended without closing: what they leave must be silent first */
    struct {
        char path[1024];
        uint64_t at; /* real */
    } evicted[64];   /* guarded by the simulator's lock, like nevicted */
    uint32_t nevicted;
    bool rotted; /* bytes were changed where they lie */
    uint64_t hits, stored, matched, opened, checks, bounded;
    uint64_t collected; /* data files that went after their contents; guarded like `evicted` */
    uint64_t carried;   /* blocks of evicted segments that live on */
    uint64_t stale;     /* live stores that had missed something which a fresh open found */
    uint32_t opens;
    bool lenient; /* and that is only counted */
    int verbose;
    uint32_t differs_block; /* of which a fresh open last found something else */
    char wrong[640];
};

uint64_t world_random(struct world *w, uint64_t n); /* below n */
void world_wrong(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(const struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void world_init(struct world *w, uint64_t seed, const struct sim_options *o, uint64_t capacity);
void world_end(struct world *w);
/* A number's key, and the bytes of a part of its block. */
void world_key(uint32_t number, cistern_key *key);
void world_fill(uint32_t number, uint32_t shard, uint32_t part, uint8_t *to, size_t len);

/* ---- Stores ---- */
/* 0 or why it could not be opened; `w->wrong` when that is not allowed (`must`). */
int store_open(struct world *w, uint32_t i, bool must);
void store_close(struct world *w, uint32_t i);
/* A handle for looking only, on a third host. */
cistern *store_look(struct world *w, uint32_t shard);
uint64_t store_metric(const cistern *c, const char *name);

/* ---- Operations: false = not possible now ---- */
bool op_put(struct world *w, uint32_t store, uint32_t key, uint32_t blocks);
bool op_get(struct world *w, uint32_t store, uint32_t key, uint32_t blocks, bool direct);
void op_match(struct world *w, uint32_t store, uint32_t key, uint32_t blocks);
void op_touch(struct world *w, uint32_t store, uint32_t key, uint32_t blocks);
void op_delete(struct world *w, uint32_t store, uint32_t key, uint32_t blocks);
int op_refresh(struct world *w, uint32_t store, bool must);
int op_flush(struct world *w, uint32_t store);
/* Takes all completions that there are. */
void op_poll(struct world *w);
/* Until no operation is open; each must end in time. */
void op_drain(struct world *w);

/* ---- What may have happened to blocks ---- */
void doubt_block(struct world *w, uint32_t shard, uint32_t key);
/* And somebody may have noted that a copy of it is not to be used. */
void note_block(struct world *w, uint32_t shard, uint32_t key);
void doubt_all(struct world *w);
void doubt_power(struct world *w); /* what no flush made durable */

/* Segments were evicted or set aside meanwhile: nothing is sure any more. True: so it was. */
bool doubt_evicted(struct world *w);

/* ---- Checks ---- */
void check_step(struct world *w); /* cheap: after every step */
/* Faults off first. Stores that are closed are opened; rebuilt index against live ones. */
void check_all(struct world *w);

/* audit.c: what goes to contents is what was written before. */
void audit_attach(struct world *w);
/* Gives two records of one frame each other's keys, checksums made good: damage that only the check
 * of a payload can notice. False: found no such frame. */
bool damage_swap_keys(struct world *w);
/* Flips a bit of a file whose name ends in suffix. */
bool damage_flip(struct world *w, const char *suffix);

#endif
