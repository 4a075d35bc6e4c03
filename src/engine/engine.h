/*
 * engine.h - a handle, and what its threads share.
 *
 * - callers: check arguments, take an op, push shares to lanes; match and find in the index; poll
 * - read lanes: plan a share into groups of adjacent blocks, read, verify, deliver (lane.c, get.c)
 * - write lane: lays puts out in segments, writes, publishes frames, keeps the head (writer.c,
 *   put.c, publish.c)
 * - openers: open and shut data files of segments that are read (files.c)
 * - keeper: what else can hang: makes segments, seals, syncs, evicts (keeper.c)
 * - follower: reads what others publish (watch.c, look.c, follow.c)
 *
 * Lock order: keeper.lock, then nothing; inbox.lock, then nothing; optab.lock and segtab.lock are
 * leaves.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/breaker.h"
#include "engine/bell.h"
#include "engine/budget.h"
#include "engine/config.h"
#include "engine/gate.h"
#include "engine/negative.h"
#include "engine/ops.h"
#include "engine/segtab.h"
#include "index/index.h"
#include "io/io.h"
#include "key/key.h"
#include "metrics/metrics.h"
#include "metrics/window.h"
#include "pool/pool.h"

#define TICKETS 1024u

/* Work for a lane; the lane sleeps on `bell`. */
struct inbox {
    pthread_mutex_t lock;
    struct share *first, *last; /* guarded by lock */
    _Atomic uint32_t bell;      /* grows with every ring */
    _Atomic uint32_t sleeping;
};

void inbox_init(struct inbox *in);
void inbox_push(struct inbox *in, struct share *s);
struct share *inbox_take_all(struct inbox *in);
bool inbox_waiting(struct inbox *in);
void inbox_ring(struct inbox *in);
/* Sleeps until the bell moved on from `seen`, at most ns. */
void inbox_sleep(struct inbox *in, uint32_t seen, uint64_t ns);

struct lane;     /* lane_internal.h */
struct writer;   /* writer_internal.h */
struct follower; /* follow.h */
struct capacity; /* capacity.h */
struct doubts;   /* gone.h */
struct renew;    /* renew.h */
struct files;    /* files.h */
struct report;   /* report.h */
struct voice;    /* open.c */

enum keeper_job {
    KEEPER_STOP = 1,
    KEEPER_SEGMENT = 2,
    KEEPER_SYNC = 4,
    KEEPER_FENCE = 8,
    KEEPER_SEAL = 16,
    KEEPER_ALLOCATE = 32,
    KEEPER_CAPACITY = 64,
    KEEPER_ROOM = 128,
    KEEPER_COLLECT = 1024 /* nothing but what every turn does */
};

struct keeper {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake, changed; /* monotonic clock */
    uint32_t jobs;                /* guarded by lock, like all below */
    pthread_t syncer;
    pthread_cond_t sync_wake;
    uint32_t sync_jobs;
    bool syncing; /* there is a syncer; constant when the keeper runs */
    uint64_t syncs_asked, syncs_done;
    int sync_result;
    int last_result; /* of the last seals; read when the thread has ended */
    int sync_failed; /* first failure that no flush was told of */
    char refresh_text[256];
    bool ended;
    struct cipher *cipher; /* of the keeper's thread; NULL without encryption */
};

struct cistern {
    const uint32_t *alive; /* a page that a fork wipes: 1 in the process that opened */
    struct config cfg;
    struct voice *voice; /* where cfg.log goes; NULL: nowhere */
    struct io *io;
    uint8_t salt[32], fingerprint[32];
    struct crypt *crypt;                   /* NULL: nothing is encrypted */
    char space_path[512], shard_path[544]; /* relative to the mount */
    char *space_json;                      /* canonical; of who writes */
    char registry_name[1024];
    struct index *index;
    struct presence *_Atomic others; /* NULL with one shard; see others.c */
    _Atomic uint32_t matching;       /* who looks into it now */
    struct pool *read_pool, *write_pool;
    struct segtab segs;
    struct optab ops;
    struct lane *lanes;
    uint32_t nlanes;
    _Atomic uint32_t next_lane;
    struct writer *writer; /* NULL when nothing is written */
    struct follower *follower;
    struct capacity *capacity; /* NULL when nothing is written */
    struct renew *renew;       /* NULL when nothing is read either */
    struct files *files;
    _Atomic uint32_t epoch;  /* grows when rings, memory and files are replaced */
    _Atomic uint32_t coming; /* the epoch that files which are opened now belong to */
    struct admit *admit;     /* NULL: every block is; see admission.h */
    struct budget budget;
    _Atomic bool retired;         /* the space is: nothing is stored in it; see retire.h */
    _Atomic uint32_t ttl_seconds; /* of the space, as last told; 0 = blocks do not age; see ttl.h */
    bool ttl_told, ttl_unclear;   /* of ttl_look(): its value is known; its file says nothing */
    struct bell bell;
    struct keeper keeper;
    _Atomic uint64_t tickets[TICKETS]; /* 0 = free, else the ticket */
    _Atomic uint64_t ticket_seq;
    pthread_mutex_t pin_lock;
    const struct mem_ops *_Atomic pinned; /* staging is pinned for this kind of memory */
    const struct mem_ops *pinned_before;  /* so was that of before; guarded by pin_lock */
    struct metrics metrics;
    struct report *report;
    pthread_mutex_t hits_lock;
    struct window hits; /* guarded by hits_lock */
    uint64_t opened_ns; /* by the boot clock */
    uint64_t room_ns;   /* the keeper's: when to ask for the size of the file system next */
    struct breaker breaker;
    _Atomic uint32_t probes;        /* of the breaker, tried so far */
    _Atomic uint32_t probe_answers; /* of these, answered through a lane's ring, also late */
    _Atomic uint32_t probe_wanted;  /* a lane is to send one, whatever the breaker says */
    struct negative negative;
    struct doubts *doubts;
    _Atomic uint32_t ranks_ill;     /* shards whose breaker is open, as their heads say */
    _Atomic uint64_t waiting_bytes; /* of gets that are open; counted while the gate is on */
    _Atomic uint32_t gets_open;     /* writes keep back for them */
    _Atomic uint64_t gate_try_ns;   /* before that the gate lets no refused run through */
    _Atomic uint32_t asides;        /* segments that this handle set aside */
    _Atomic uint32_t forgotten;     /* segments of its shard whose contents were taken away */
    _Atomic(const char *) tripped;  /* NULL, or the first reason: a static string */
    _Atomic uint32_t shadow_asked;  /* calls of cistern_shadow_due() */
    _Atomic uint32_t shadow_told;   /* a difference was logged */
    _Atomic uint32_t draining;      /* no put is taken any more */
    _Atomic uint32_t closing;
    _Atomic uint64_t close_deadline_ns;
};

/* ---- guard.c ---- */
int guard_open(cistern *c) MUST_CHECK;
void guard_close(cistern *c);
/* 0, -EINVAL (NULL), CISTERN_EFORKED. */
int guard_check(const cistern *c) MUST_CHECK;
/* CISTERN_ESHARD when this process has it open. */
int registry_add(cistern *c) MUST_CHECK;
void registry_remove(cistern *c);
/* A broken invariant: the first reason stays, everything is a miss from now on. */
void engine_trip(cistern *c, const char *reason, int line);
#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)
/* In place of an assertion: false trips the handle. Yields whether the condition holds. */
#define HOLDS(c, condition)                                                                        \
    (__builtin_expect(!!(condition), 1) ||                                                         \
     (engine_trip((c), __FILE__ ": " #condition, __LINE__), false))

static inline bool engine_tripped(const cistern *c)
{
    return atomic_load_explicit(&c->tripped, memory_order_relaxed) != NULL;
}

/* ---- breaker.c ---- */
/* An I/O that was sent at `epoch` failed or, with -ETIMEDOUT, was not answered in time. */
void engine_io_failed(cistern *c, enum breaker_side side, uint32_t epoch, int error,
                      uint64_t place);
/* Storage is trusted again, on trial. */
void engine_try_again(cistern *c, enum breaker_side side);
/* No put is to be taken now. */
bool engine_stops_puts(cistern *c, uint64_t now);
/* Every match answers 0 and every get is a miss. */
static inline bool engine_stops_gets(const cistern *c)
{
    return breaker_is_open(&c->breaker, BREAKER_READ);
}
/* Every match answers 0. */
static inline bool engine_stops_matches(const cistern *c)
{
    return engine_stops_gets(c) || atomic_load_explicit(&c->ranks_ill, memory_order_relaxed);
}

/* ---- gate.c ---- */
/* A run of that many blocks takes longer to load than to compute. */
bool engine_gates(cistern *c, uint32_t blocks);
/* Bytes per second that the lanes got last; 0 = not known. */
uint64_t engine_read_rate(const cistern *c);
/* api.c: how many lanes work on a get. */
uint32_t engine_get_shares(const cistern *c, uint32_t blocks, uint64_t bytes);

/* ---- bad.c ---- */
/* A copy that turned out bad: forgotten here, and on disk when this handle writes. The segment is
 * held; after several it is set aside. */
void engine_bad_copy(cistern *c, const cistern_key *key, uint32_t segment, uint32_t offset,
                     uint8_t reason);
/* Somebody set it aside: all it has is forgotten, and what may still come is not used. */
void engine_aside(cistern *c, uint32_t segment);
/* Nothing of the segment is to be used. */
bool engine_is_aside(const cistern *c, uint32_t segment);

/* The presence for one match; others.c exchanges it meanwhile and frees the old one later. */
static inline struct presence *others_enter(cistern *c)
{
    if (c->cfg.shards == 1)
        return NULL;
    (void)atomic_fetch_add(&c->matching, 1);
    return atomic_load(&c->others);
}

static inline void others_leave(cistern *c)
{
    if (c->cfg.shards > 1)
        (void)atomic_fetch_sub(&c->matching, 1);
}

/* ---- lane.c, lane_kit.c, get.c ---- */
int lanes_open(cistern *c) MUST_CHECK;
/* One read into each staging area, before the lanes run: the first I/O pays for the pinning, and
 * shows that storage answers. */
int lanes_warm(cistern *c) MUST_CHECK;
int lanes_start(cistern *c) MUST_CHECK;
/* Waits for the threads, which end at close_deadline_ns at the latest; -EBUSY: storage still owns
 * some of it. */
int lanes_stop(cistern *c);
void lanes_close(cistern *c);
void lane_push(cistern *c, uint32_t lane, struct share *s);
/* api.c: all shares of a get (of a put) have ended: counts, gives its ticket back, tells the
 * caller. */
void engine_get_done(cistern *c, struct op *op);
void engine_put_done(cistern *c, struct op *op);

/* ---- writer.c ---- */
int writer_open(cistern *c) MUST_CHECK;
int writer_start(cistern *c) MUST_CHECK;
int writer_stop(cistern *c);
void writer_close(cistern *c);
void writer_push(cistern *c, struct share *s);
/* There may be something new for it to do. */
void writer_ring(cistern *c);
/* Takes `n` dead records or none: -EAGAIN when there is no room. */
#define DEAD_NOTE_ASIDE UINT32_MAX /* in place of an offset: the whole segment, key zero */
struct dead_note {
    uint8_t key[32];
    uint8_t segment_id[16];
    uint32_t offset;
    uint8_t reason;
};
int writer_push_dead(cistern *c, const struct dead_note *notes, size_t n) MUST_CHECK;
/* About a block that was carried over: there is room that others do not get. */
int writer_push_carried(cistern *c, const struct dead_note *note) MUST_CHECK;
bool writer_dead_open(cistern *c);
/* How many were ever taken; whether the first so many are in frames that were written. */
uint64_t writer_dead_pushed(cistern *c);
bool writer_dead_published(cistern *c, uint64_t upto);
/* Called by the keeper. */
void writer_make_segment(cistern *c);
int writer_seal_ended(cistern *c); /* the first failure of a sync */
void writer_allocate(cistern *c);
/* How often its segments were read, for its head. */
void writer_note_touches(cistern *c);
/* What capacity_relieve() said. */
void writer_room_made(cistern *c, bool made);
/* Room came back: a segment that found none before is tried again at once. */
void writer_room_back(cistern *c);
/* The first of that writer's segments that still has contents, for its head. */
void writer_first_seq(cistern *c, uint64_t id, uint64_t first);
/* Of this handle, and not sealed yet. */
bool writer_segment_open(cistern *c, uint64_t writer, uint64_t seq);
int writer_sync(cistern *c);
int writer_last_rites(cistern *c);
/* Whether this handle writes under that name now. */
bool writer_is_own(const cistern *c, uint64_t id);
/* The name of a generation (policy.h). */
uint64_t writer_id(const cistern *c, uint32_t generation);
void fence_renew(cistern *c); /* fence.c */

/* ---- keeper.c ---- */
int keeper_start(cistern *c) MUST_CHECK;
void keeper_ask(cistern *c, uint32_t jobs);
/* Wait for a job that is counted; 0, -ETIMEDOUT, or its result. */
int keeper_sync_wait(cistern *c, uint64_t deadline_ns) MUST_CHECK;
/* The same for the keeper itself; a failure is told by the next flush as well. */
int keeper_sync_for(cistern *c, uint64_t deadline_ns) MUST_CHECK;
int keeper_capacity_wait(cistern *c, uint64_t bytes, uint64_t deadline_ns) MUST_CHECK;
int keeper_stop(cistern *c, uint64_t deadline_ns);

/* ---- follow.c, watch.c ---- */
int follower_open(cistern *c) MUST_CHECK;
int follower_start(cistern *c) MUST_CHECK;
/* Waits until all that was published before the call is taken up; 0, -ETIMEDOUT, or why not. */
int follower_refresh_wait(cistern *c, uint64_t deadline_ns) MUST_CHECK;
/* It has something to do, other than to follow. Any thread. */
void follower_wake(cistern *c);
/* -EBUSY: it hangs on storage. */
int follower_stop(cistern *c, uint64_t deadline_ns) MUST_CHECK;
int follower_close(cistern *c) MUST_CHECK; /* -EBUSY: storage owns a part of it */

#endif
