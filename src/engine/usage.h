/*
 * usage.h - what the root holds on storage, recomputed from its files: all spaces, shards, writers.
 *
 * A scan lists the directories, asks for the sizes of files that are new, growing or not looked at
 * for long, and reads the heads of writers that live. Sizes are disk bytes. What changed is noted
 * with the time of our own clock, never of a file's: it tells who grows and who is silent.
 *
 * What cannot be listed or read is *blind*: it counts as it was known last, what of it may grow as
 * a whole segment, and its writer lives, so that nothing of it is evicted or taken for litter. Only
 * the root itself and this handle's own directory have to be listed: a writer that cannot see what
 * it makes itself makes no more.
 *
 * Threads: the keeper, and the opener before it runs. Everything here blocks on storage.
 */
#ifndef ENGINE_USAGE_H
#define ENGINE_USAGE_H

#include "engine/engine.h"

struct usage_space {
    char name[176];
    bool own;
    bool live;         /* somebody writes in it */
    uint64_t newest_s; /* the latest that a head of it says */
    bool retired;      /* see retire.h */
    uint32_t rank;     /* 0 = in use; greater = older (policy.h) */
    uint64_t pins;     /* of the names of its pins, at the last listing; 0 = none (pins.h) */
};

struct usage_dir {
    char path[544]; /* relative to the mount */
    uint32_t space, shard;
    bool own; /* this handle's shard */
    bool seen;
    bool blind; /* could not be listed in the last scan */
};

/* One segment, by its files. */
struct usage_segment {
    uint32_t dir; /* order: by dir, writer, seq */
    uint64_t writer, seq;
    bool seg, toc;                 /* which of them are there */
    uint64_t seg_bytes, toc_bytes; /* on disk */
    uint64_t toc_size;
    uint64_t mtime_ns;   /* of the contents: puts segments in order, decides nothing */
    uint64_t changed_ns; /* last change that we saw; 0 = none since the first scan */
    uint64_t alone_ns;   /* since when one file is there without the other; 0 = it is not so */
    int64_t place;       /* of its last growth, by the clock of heat.h */
    uint64_t counted;    /* what it counts for: a growing one as what it may become */
    uint32_t looked;     /* scan that asked for its sizes */
    bool sealed;         /* its writer writes no more to it */
    bool expired;        /* too old by both clocks (ttl.h) */
    uint64_t newest_s;   /* when its writer wrote the last frame; 0 = not asked yet */
    bool unlinked;       /* not there any more, and still open in this handle */
    bool blind;          /* could not be asked for its sizes in the last scan */
    bool begun;          /* its contents were taken away by this handle */
    bool hurried;        /* evict_hurry() has tried it since the last scan */
    uint8_t tries;       /* removals in a row that storage refused */
    uint64_t tried_ns;   /* the last of them */
    /* notes.c */
    uint8_t unread; /* times that its contents could not be read */
    bool id_known;
    uint8_t id[16];
    uint32_t notes_sent; /* of its notes, handed to the write lane */
    uint64_t notes_at;   /* what the lane has to have published then; 0 = not all are sent */
    uint64_t wait_ns;    /* boot clock: not to be evicted before */
};

struct usage_head {
    uint32_t dir; /* order: by dir, writer */
    uint64_t writer;
    bool there, valid;
    bool blind; /* could not be read in the last scan */
    bool later; /* of a later version: whoever writes it lives */
    struct head_record h;
    uint64_t changed_ns; /* after the read that first showed this counter, or no head at all */
    uint64_t bad_ns;     /* before the first read that gave none; 0: the last gave one */
    uint64_t checked_ns; /* before the last read */
    uint64_t bare_ns;    /* since when its writer has no other file; 0 = it has */
    uint32_t touches[HEAD_TOUCHES_MAX];
};

struct usage {
    struct usage_space *spaces;
    struct usage_dir *dirs;
    struct usage_segment *segs, *old_segs;
    struct usage_head *heads, *old_heads;
    uint32_t nspaces, ndirs, rspaces, rdirs;
    size_t nsegs, rsegs, nold, rold, nheads, rheads, nold_heads, rold_heads;
    uint32_t scans;
    uint64_t first_ns; /* when the first scan was over */
    uint64_t bytes;    /* on disk */
    uint64_t counted;  /* with growing segments as what they may become */
    uint64_t leaving;  /* of these, in data files whose contents are gone */
    uint64_t stuck;    /* likewise, but storage refuses to remove them: they stay */
    uint64_t files;
    uint64_t blind;      /* directories, heads and segments that could not be looked at */
    uint64_t blind_last; /* in the scan before */
    uint64_t head_page[FORMAT_PAGE / 8];
};

/* How long `then` is past; 0 when it is not. */
static inline uint64_t past_ns(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

#define USAGE_TRIES   5u                           /* removals that are refused, then it stays */
#define USAGE_REST_NS (60ull * 1000 * 1000 * 1000) /* until it is tried once more */

/* Storage refused to remove it again and again. */
static inline bool usage_stuck(const struct usage_segment *s)
{
    return s->tries >= USAGE_TRIES;
}

/* It is stuck, and not to be tried now. */
static inline bool usage_rests(const struct usage_segment *s, uint64_t now)
{
    return usage_stuck(s) && past_ns(now, s->tried_ns) < USAGE_REST_NS;
}

/* 0, or what storage answered; then nothing of *u has changed that decides about files. */
int usage_scan(struct usage *u, cistern *c) MUST_CHECK;
void usage_free(struct usage *u);
/* The head of a segment's writer, or NULL. */
const struct usage_head *usage_head_of(const struct usage *u, uint32_t dir, uint64_t writer);
/* Its writer ended: closed, or two reads that lie silence_ns apart by our clock showed the same. */
bool usage_head_ended(const struct usage_head *h, uint64_t silence_ns);

#endif
