/*
 * writer_internal.h - the write lane: one thread, one write ring, and two streams, one for each
 * generation of segments (policy.h). A stream is a writer of its own to everybody else: its own
 * random name, its own head, and at any time one segment that grows. The young one takes puts; the
 * old one takes what is carried over and puts that the ghost list knows, and has no file before.
 *
 * Life of a put: the share waits in `shares`; its blocks are copied and hashed into a group's slot,
 * side by side (put.c); the group is written in I/Os cut at multiples of io_bytes; groups are
 * published in the order in which they were laid out, as frames (publish.c); then the index has
 * them and the results are told. A group whose write failed is skipped: its place in the data file
 * is given up.
 *
 * A segment whose contents could not be written, or were not answered in time, gets no further
 * frame: a late write must not meet a new one.
 *
 * Owned by the thread, except: `in`, `ended`; `segs[].stage`, and of a stream `next` and `make_*`
 * under `lock` (shared with the keeper); `dead_*` under `dead_lock`.
 */
#ifndef ENGINE_WRITER_INTERNAL_H
#define ENGINE_WRITER_INTERNAL_H

#include "engine/engine.h"
#include "engine/policy.h"
#include "segment/toc.h"

#define WGROUP_BLOCKS 64u
#define WSEGS         8u
#define WSTREAMS      2u
#define PATIENCE_NS   (200 * NS_PER_MS) /* for room that the next grace may bring back */
#define TOC_BYTES     SLOT_LEAST
#define DEAD_NOTES    16384u
#define DEAD_KEPT                                                                                  \
    1024u /* of these, for what was carried: whoever deletes that does not try again */
#define ALLOCATE_STEP (64ull << 20) /* what a crash can leave allocated and unused, at most */

enum wseg_stage { WSEG_FREE, WSEG_READY, WSEG_OPEN, WSEG_ENDED, WSEG_SEALING };

/* A segment that is being written, or waits to be. */
struct wseg {
    struct wstream *stream;
    uint32_t stage;  /* enum wseg_stage */
    uint32_t number; /* in the segtab */
    uint64_t seq;
    struct io_file toc;
    struct io_file data; /* as made, for writing; reads may use another by now (renew.c) */
    struct toc_writer contents;
    _Atomic uint64_t reserved; /* data bytes given out; grows on the write lane only */
    _Atomic uint64_t
        allocated;          /* data bytes that the file system set aside; 0 = it does not do that */
    uint64_t began_ns;      /* boot clock: when its first block was laid out */
    uint32_t groups;        /* that lie in it and are not settled */
    bool started;           /* its header page was written */
    bool abandoned;         /* no further frame */
    bool names_synced;      /* of the keeper */
    _Atomic int sync_error; /* its contents could not be synced: what follows is as unsafe */
    _Atomic uint64_t written, synced; /* counts of publishes; the keeper syncs up to the first */
};

struct wblock {
    struct op *op; /* NULL: the operation ended before */
    uint32_t block;
    struct block_info info;
    uint64_t bytes; /* payload */
    bool carried;   /* from a segment that was evicted, for nobody */
    bool returned;  /* the ghost list knew it */
};

struct wgroup {
    struct wgroup *link; /* of the free list, or of the order of layout */
    struct wseg *seg;
    uint32_t number; /* of its segment, held: a write that is late still goes to its file */
    uint8_t *slot;
    uint64_t offset, len, issued;
    uint32_t ios;
    int error;
    bool late;
    bool again, full; /* to be sent once more, when room was made for it */
    uint32_t tries;
    uint32_t epoch;          /* of the breaker when it was sent */
    uint64_t deadline_ns;    /* with the whole write timeout */
    uint32_t erased;         /* of carried blocks: deletions that they have outlived (carry.c) */
    uint32_t count, settled; /* blocks; of these told */
    struct wblock *blocks;   /* [WGROUP_BLOCKS] */
};

enum room { ROOM_UNKNOWN, ROOM_MADE, ROOM_NONE };
enum fence { FENCE_NONE, FENCE_RAISED, FENCE_ASKED, FENCE_RENEWED };

enum wio_kind { WIO_DATA, WIO_TOC, WIO_HEAD };

struct wio {
    struct wio *link;
    enum wio_kind kind;
    struct wgroup *group;
    void *buf; /* tells a late write of frames from the one under way */
    uint32_t len;
};

/* What others take for a writer. */
struct wstream {
    uint32_t generation;  /* enum policy_generation, and the place in `streams` */
    _Atomic uint64_t id;  /* changed by the keeper only (fence.c) */
    struct wseg *current; /* grows */
    bool head_dirty;
    uint32_t health; /* that the head was last written with */
    /* Shared with the keeper. */
    struct wseg *next; /* made, not yet in use */
    bool making;
    int make_error;
    uint64_t refused_ns;    /* since when none could be made; 0 = the last one was */
    uint64_t make_after_ns; /* not asked for again before */
    int make_logged;
    uint64_t seq; /* of the next segment */
    struct io_file head;
    /* fence.c */
    uint64_t fence_ns;     /* boot clock when the head that stands was sent; 0 = none yet */
    uint64_t head_sent_ns; /* likewise of the last one that was sent */
    bool head_failed;      /* it was not written */
    bool announced;        /* a head was written under this name */
    uint64_t head_counter;
    uint64_t published, published_next; /* bytes of the last contents with frames; its seq + 1 */
    _Atomic uint64_t first_seq;         /* moved by the keeper */
    _Atomic bool first_moved;
    _Atomic uint32_t
        touches[HEAD_TOUCHES_MAX]; /* [seq % HEAD_TOUCHES_MAX], as the keeper last saw */
};

/* As of a read lane (lane_internal.h): when storage lost it for good, a second one takes over. */
struct writer_kit {
    struct io_ring ring;
    bool ring_open;
    struct wgroup *groups;
    struct wblock *blocks;
    struct wio *ios;
};

struct writer {
    cistern *c;
    pthread_t thread;
    bool started;
    _Atomic uint32_t ended;
    struct inbox in;
    struct writer_kit kit[2]; /* the second one is made by the helper, see renew.c */
    struct writer_kit *now;
    struct io_ring *ring;    /* of `now` */
    uint32_t old_inflight;   /* on the ring of before */
    uint64_t old_ns;         /* when to look at that one again */
    _Atomic uint32_t parked; /* stands still in this phase of renew.h */
    struct wstream streams[WSTREAMS];
    struct cipher *cipher; /* NULL without encryption */
    uint32_t inflight, prepared;
    uint32_t lost;                     /* data writes in flight whose deadline passed */
    uint32_t lost_pages;               /* likewise writes of frames and heads */
    struct wgroup *free_groups;        /* of all kits */
    struct wgroup *order, *order_last; /* laid out, not yet wholly settled */
    struct wgroup *issue;              /* first of the order with bytes to send; NULL = none */
    struct wio *free_ios;              /* of all kits */
    struct share *shares;
    uint64_t check_ns, pause_until_ns; /* after a full disk */
    /* Blocks under way: open addressing over pointers to wblocks. */
    struct wblock **underway;
    uint32_t underway_mask;
    /* Publishing: one frame write at a time. */
    uint8_t *toc_buf, *head_buf; /* slots of the pool */
    bool toc_busy, head_busy;
    struct wstream *head_of; /* whose head is being written */
    uint64_t toc_deadline_ns;
    uint32_t toc_epoch; /* of the breaker */
    uint64_t nap_ns;    /* between looks while all that is in flight is late */
    struct toc_batch batch;
    uint32_t batch_blocks, batch_dead;
    struct wseg *batch_seg;
    /* Shared with the keeper. */
    pthread_mutex_t lock;
    struct wseg segs[WSEGS];
    uint32_t gone_synced; /* of c->forgotten; the syncer's */
    bool allocating;
    bool parents_synced;        /* of the keeper */
    _Atomic uint32_t fence;     /* enum fence, of both streams */
    _Atomic uint32_t room_made; /* enum room: the keeper's answer to a full disk */
    bool room_asked;            /* nothing is sent until it has come */
    uint64_t room_until_ns, room_made_ns;
    /* Copies that are not to be used. */
    pthread_mutex_t dead_lock;
    struct dead_note *dead;
    uint32_t dead_first;
    uint64_t dead_pushed, dead_published; /* ever; under dead_lock */
    _Atomic uint32_t dead_count;          /* grows under dead_lock; a look without it is a hint */
};

/* put.c */
/* Lays out the next blocks, oldest put first, in a group that goes to the end of the order. False:
 * nothing more can be done now. */
bool put_layout(struct writer *w);
void put_settle(struct writer *w, struct op *op, uint32_t block, uint8_t result);
/* Ends a put before its time. */
void put_cut(struct writer *w, struct share *s, int status, uint8_t rest);
void put_block_done(struct writer *w, struct wblock *b, uint8_t result);
void put_append(struct writer *w, struct wgroup *g);
bool underway_find(const struct writer *w, const uint8_t key[32]);
void underway_add(struct writer *w, struct wblock *b);
void underway_remove(struct writer *w, struct wblock *b);

/* publish.c */
/* Settles what failed, and starts the next write of frames and of the head if there is something to
 * say. */
void publish_step(struct writer *w);
void publish_toc_done(struct writer *w, int64_t result, uint32_t len);
void publish_head_done(struct writer *w, int64_t result);
void publish_toc_late(struct writer *w);
bool publish_idle(struct writer *w);
/* The groups at the front whose write failed: their blocks are errors, their place is given up. */
void publish_settle_failed(struct writer *w);
/* The page of a head as publish_head() says it, touches included. */
void publish_encode(struct wstream *st, const struct head_record *h, uint8_t *page);
/* The head as it is to be written next. */
struct head_record publish_head(struct writer *w, struct wstream *st, uint32_t state);

/* full.c: what to do about a full file system */
/* A write was answered with `result` instead of its length; true: the group is tried again. */
bool full_retry(struct writer *w, struct wgroup *g, int64_t result);
/* Nothing of the group is in flight any more. */
void full_settled(struct writer *w, struct wgroup *g);
/* A write of frames was refused: it cannot be sent again, since a part of it may have landed. */
void full_frames(struct writer *w, int64_t result);
/* Takes the keeper's answer. */
void full_check(struct writer *w, uint64_t now);

/* fence.c */
/* True: nothing may be published. */
bool fence_holds(struct writer *w);
/* Each turn of the lane: the heartbeat, and what a fence makes necessary. */
void fence_step(struct writer *w);
/* Nothing goes on under this name; no frames are under way. */
void fence_give_up(struct writer *w);
/* How long the lane may sleep. */
uint64_t fence_idle_ns(const struct writer *w, uint64_t most);
void fence_head_sent(struct wstream *st);
void fence_head_written(struct writer *w, struct wstream *st); /* rings the bell */

/* writer.c */
int writer_prep(struct writer *w, struct io_file *f, void *buf, uint64_t offset, uint32_t len,
                enum wio_kind kind, struct wgroup *g) MUST_CHECK;
void writer_free_group(struct writer *w, struct wgroup *g);
/* After the answer that the disk is full no put is taken for a second. */
void writer_pause_if_full(struct writer *w, int error);
/* The growing segment of the stream gets no more blocks. */
void writer_end_segment(struct writer *w, struct wstream *st);
/* The next segment becomes the growing one; if there is none, the keeper is asked. True: none
 * grows, and one is being made, or will be tried again soon. */
bool writer_need_segment(struct writer *w, struct wstream *st);
/* Makes what the lane works with. Blocks on storage. */
int writer_kit_make(cistern *c, struct writer_kit *kit) MUST_CHECK;
void writer_kit_free(cistern *c, struct writer_kit *kit);
/* Ends every put and the name; what has no answer is left to the ring of before. */
void writer_leave_kit(struct writer *w);
void writer_take_kit(struct writer *w, struct writer_kit *kit);
/* Looks for late answers of the ring of before. */
void writer_reap_old(struct writer *w);

static inline struct wstream *writer_young(struct writer *w)
{
    return &w->streams[POLICY_YOUNG];
}

static inline struct wstream *writer_old(struct writer *w)
{
    return &w->streams[POLICY_OLD];
}

#endif
