/*
 * lane_internal.h - a read lane: one thread, one read ring.
 *
 * A group is what is read together: adjacent blocks of one segment into one staging slot, or one
 * part straight into the caller's memory. It owns its slot until storage has answered all its I/Os,
 * whatever became of the operation. Everything here belongs to the lane's thread, except `in` and
 * `ended`.
 */
#ifndef ENGINE_LANE_INTERNAL_H
#define ENGINE_LANE_INTERNAL_H

#include "engine/engine.h"
#include "engine/files.h"

struct group {
    struct group *next, *before; /* of the live list */
    struct group *link;          /* of the free, waiting, issue or ready list */
    struct share *share;         /* NULL: abandoned */
    struct op *op;               /* of a direct read: whose buffer it is, also when abandoned */
    uint32_t block, count;       /* the operation's blocks [block, block + count) */
    uint32_t segment;            /* held */
    uint8_t *buf;
    bool staged;                /* buf is a slot of the pool */
    bool late;                  /* its deadline passed */
    bool old;                   /* its I/Os went to the ring of before (renew.c) */
    bool taken;                 /* the data file is; else it waits for it to be opened */
    uint64_t offset, len;       /* range of the data file */
    uint64_t issued;            /* bytes of it that went to the ring */
    uint64_t bad_from;          /* file offset from which it did not arrive */
    int error;                  /* why: negative errno; -EBADMSG = the file ended */
    uint32_t ios;               /* prepared and not answered */
    uint32_t epoch;             /* of the breaker when it was sent */
    uint32_t opens;             /* that storage had answered when its file was asked for */
    bool struck;                /* the breaker was told that it is late */
    uint64_t deadline_ns;       /* of its I/Os, with the whole read timeout */
    uint16_t *parts;            /* [count] parts to deliver per block */
    struct index_place *places; /* [count] */
};

struct rio {
    struct rio *link;
    struct group *group;
    uint64_t offset;
    uint32_t len;
};

/* A read that only asks whether storage answers (probe.c). */
struct probe {
    struct rio io;    /* group NULL */
    uint8_t *buf;     /* NULL: not under way */
    uint32_t segment; /* held */
    uint64_t sent_ns;
};
#define PROBES 2u /* that one lane may have under way, in ring entries of their own */

/* What a lane works with; when storage lost it for good, the lane goes on with a second one. */
struct lane_kit {
    struct io_ring ring;
    bool ring_open;
    struct group *groups;
    struct rio *rios;
    uint16_t *parts;
    struct index_place *places;
    struct probe probe[PROBES];
};

struct lane {
    cistern *c;
    pthread_t thread;
    bool started;
    _Atomic uint32_t ended;
    struct inbox in;
    struct lane_kit kit[2]; /* the second one is made by the helper, see renew.c */
    struct lane_kit *now;
    struct io_ring *ring;  /* of `now` */
    struct cipher *cipher; /* NULL without encryption */
    uint32_t limit, inflight, prepared;
    uint32_t lost;             /* of those in flight: their group was abandoned */
    uint32_t old_inflight;     /* on the ring of before, probes included */
    uint64_t old_ns;           /* when to look at that one again */
    _Atomic uint32_t parked;   /* stands still in this phase of renew.h */
    struct group *free_groups; /* of all kits */
    struct rio *free_rios;
    struct group *live;               /* all groups that are not free */
    struct group *waiting;            /* for their data file; nothing of theirs went out */
    struct group *issue, *issue_last; /* with bytes that did not go to the ring yet */
    struct group *ready, *ready_last; /* answered, to be delivered */
    struct share *shares;             /* all that this lane works on, oldest first */
    uint64_t check_ns;                /* when to look at deadlines again */
    uint64_t nap_ns;                  /* between looks while all that is in flight is late */
    struct gate_meter meter;
    uint32_t probing; /* probes of `now` under way */
};

/* get.c: planning and delivering */

/* Makes the next group of a share, settling misses on the way. NULL: nothing more to read in it now
 * (*stuck = no slot or group was free, or a data file is just being exchanged). */
struct group *get_plan(struct lane *l, struct share *s, bool *stuck);
bool get_planned(const struct share *s);
/* Verifies a group and hands its parts over; the group is free afterwards. */
void get_deliver(struct lane *l, struct group *g);
/* Results of everything in the share that has none yet become `result`. */
void get_settle_rest(struct lane *l, struct share *s, uint8_t result);

/* probe.c */

/* Takes hold of a segment, that of the last failure or another, and takes its data file. FILE_SHUT:
 * none is open, one was asked for; FILE_NONE: there is nothing to read. Any thread. */
enum file_state probe_take_place(cistern *c, uint32_t turn, uint32_t *segment,
                                 uint64_t *offset) MUST_CHECK;
/* Sends one if it is due. */
void probe_send(struct lane *l, uint64_t now);
/* False: that was no probe. */
bool probe_answered(struct lane *l, const struct rio *io, int64_t result);
/* One of the ring of before was answered. */
void probe_late(struct lane *l, const struct rio *io);

/* lane.c */
void *lane_main(void *arg); /* the thread, of a struct lane */
void lane_free_group(struct lane *l, struct group *g);
/* Ends every share; what has no answer is left to the ring of before. */
void lane_leave_kit(struct lane *l);
/* Looks for late answers of the ring of before. */
void lane_reap_old(struct lane *l);

/* lane_kit.c */
/* Makes what a lane works with. Blocks on storage. */
int lane_kit_make(cistern *c, struct lane_kit *kit) MUST_CHECK;
void lane_kit_free(cistern *c, struct lane_kit *kit);
/* One read of a page of `f` into a slot of that memory, by nobody else's ring; -ETIMEDOUT: storage
 * owns it. */
int lane_kit_warm(cistern *c, struct lane_kit *kit, const struct io_mem *mem, void *slot,
                  struct io_file *f) MUST_CHECK;
void lane_take_kit(struct lane *l, struct lane_kit *kit);

#endif
