/*
 * follow.h - the follower: takes up what other writers publish.
 *
 *   watch.c    the thread: when to look, refreshes that callers wait for
 *   look.c     one look: names, heads, then the contents that have something new
 *   follow.c   what contents say, into index and presence
 *   others.c   presence, made anew when much of it is gone
 *   peers.c    the other writers
 *
 * Everything here belongs to the follower's thread, or to the opener before that runs, except what
 * says otherwise.
 */
#ifndef ENGINE_FOLLOW_H
#define ENGINE_FOLLOW_H

#include "engine/contents.h"
#include "engine/peers.h"

/* Contents that a listing showed and nobody knew. */
struct look_file {
    uint64_t writer, seq;
    uint32_t shard;
};

/* A copy that is not to be used. */
struct follow_note {
    struct dead_note dead;
    uint32_t listing; /* when it was read */
};

struct follow_notes {
    struct follow_note *at; /* malloc'd */
    size_t count, room;
};

struct follower {
    struct contents_reader reader;
    struct toc_sink sink;
    struct peers peers;
    bool first;               /* the look of the open: damage is counted */
    struct follow_notes dead; /* of segments that are not known, or not yet */
    size_t dead_tried; /* of these, first ones that were looked up when `opened` was as it is */
    bool opened;       /* segments were taken up since */
    struct follow_notes absent;    /* of copies that were not read yet, if they are there at all */
    bool number_bare;              /* it has no data file */
    uint32_t number, number_shard; /* segment of the job that is being parsed */
    uint32_t batched;
    struct block_info batch[63];
    /* look.c: one look, and what is kept from one to the next. */
    uint32_t listing; /* how many there were */
    uint32_t listed_shard;
    struct look_file *files;
    size_t nfiles, files_room;
    struct contents_list heads, contents;
    uint32_t sweep_next; /* gone.c: segment that the next sweep begins with */
    /* others.c */
    uint64_t stale; /* blocks of other shards that are gone, and still in presence */
    struct presence *fresh, *retired; /* being filled; exchanged and not yet freed */
    /* watch.c */
    struct bell_heard heard; /* before the look of the open */
    uint32_t epoch;          /* of the handle, when the look began (renew.c) */
    pthread_t thread;
    bool started;
    _Atomic uint32_t urgent; /* grows when somebody waits for the thread; any thread */
    _Atomic bool stop;       /* any thread */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock */
    uint64_t asked, done;   /* refreshes; guarded by lock, like the rest */
    int result;
    char text[256];
    bool ended;
    struct follow_notes heard_of; /* of contents that were evicted before they were read here */
};

enum look {
    LOOK_LIST = 1,  /* directories: new writers, segments that were taken away */
    LOOK_HEADS = 2, /* the heads of live writers, and contents of those that moved */
    LOOK_ALL = 4    /* contents of live writers whatever their heads say */
};

/* follow.c: runs the jobs, whose heads were read before, and takes up what they say. */
int follow_take(cistern *c, struct contents_list *jobs) MUST_CHECK;
/* Storage is another one (renew.c): the ring, the memory and the files of before are given up. */
int follow_renew(cistern *c) MUST_CHECK;
/* Lets go of their segments: until then nobody else gets the numbers. */
void follow_release(cistern *c, struct contents_list *jobs);
/* When all jobs of a look were taken: copies that were declared dead. */
void follow_settle(cistern *c);
/* A copy was declared dead in contents that this handle is about to evict, and that it may not have
 * read: the next look knows it. Any thread. */
void follow_hear(cistern *c, const struct dead_note *note);
/* The directory of a shard, relative to the mount. */
void follow_dir(const cistern *c, uint32_t shard, char out[544]);
/* Blocks of this shard count in this handle's matches. */
bool follow_wants(const cistern *c, uint32_t shard);

/* ranks.c: what the heads say of the other ranks' breakers. */
void ranks_look(cistern *c);

/* others.c: a segment is about to be forgotten; after a listing, what is to be done about such. */
void others_forget(cistern *c, const struct segment *s);
void others_tidy(cistern *c);

/* look.c: `shards`: bit s % 32 stands for the shards whose heads LOOK_HEADS is about. */
int look_run(cistern *c, unsigned what, uint32_t shards) MUST_CHECK;
/* The last look did not find all that the heads promise, and it is worth another one. */
bool look_unfinished(const struct follower *f);
void look_close(struct follower *f);
/* Contents of this number are to be looked at again if a listing shows them. NULL is fine. */
void peer_look_again(struct peer *p, uint64_t seq);

#endif
