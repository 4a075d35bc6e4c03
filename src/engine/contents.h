/*
 * contents.h - reading the contents and heads of a shard directory: at open, at a refresh, and for
 * cistern_scan().
 *
 * Files are opened by a few threads side by side, then read through one ring, several at a time,
 * each to where its data ends. Never payloads, never by st_size. Everything here blocks: helper
 * threads only.
 */
#ifndef ENGINE_CONTENTS_H
#define ENGINE_CONTENTS_H

#include "engine/engine.h"
#include "segment/toc.h"

/* One file to read. */
struct contents_job {
    char dir[544]; /* relative to the mount */
    uint32_t shard;
    uint64_t writer, seq;
    bool is_head;
    bool want_data; /* open the data file too */
    bool fresh;     /* from its header on; else from cursor on */
    bool keep;      /* `file` may be open already, and stays open */
    bool listed;    /* for the caller: a listing just showed its name */
    struct io_file file, data;
    int open_rc, data_rc;
    struct toc_header header;
    struct head_record head;
    struct toc_cursor cursor;
    uint64_t from;            /* where the cursor stood before; for the caller */
    int result;               /* 0, or why it cannot be used */
    int end;                  /* enum toc_end, when result is 0 and it is no head */
    uint32_t number;          /* for the caller */
    bool held;                /* for the caller: it holds segment `number` */
    uint8_t key_id[CRYPT_ID]; /* of encrypted contents: the master key they name */
};

struct contents_list {
    struct contents_job *at; /* malloc'd */
    size_t count, room;
};

#define CONTENTS_WINDOW 8u

/* One read that may be in flight. */
struct contents_piece {
    struct contents_job *job; /* NULL = free */
    uint8_t *buf;             /* a slot of the pool */
    uint64_t offset;
    uint8_t key[CRYPT_KEY]; /* of the job's segment */
    bool lost;              /* an earlier run gave up on it; storage still owns buf */
};

/* What is registered with storage. */
struct contents_ways {
    struct io_ring ring;
    bool ring_open;
    struct pool *pool;
    struct contents_piece pieces[CONTENTS_WINDOW];
};

struct contents_reader {
    struct io *io;
    struct contents_ways w;
    bool left;           /* some of before is storage's for good */
    uint64_t timeout_ns; /* one read */
    uint64_t open_max;   /* jobs whose files are open at once */
    _Atomic bool cancel; /* set by any thread: give up what is under way, begin nothing */
    bool buffered;       /* no O_DIRECT for data files */
    /* Set before contents_reader_open(). With keys plain contents are not believed, without them
     * encrypted ones cannot be read (CISTERN_EKEY); for a look both are gone through as far as
     * possible. */
    const struct crypt *crypt;
    bool look;
    struct cipher *cipher;
    struct logger log;
    /* Called when a job's header was read and is of the file that its name says; non-zero: skip the
     * job. */
    int (*begin)(void *arg, struct contents_job *job);
    const struct toc_sink *sink; /* gets `arg` = its own arg; the job is in `current` */
    void *arg;
    struct contents_job *current;
};

int contents_reader_open(struct contents_reader *r, struct io *io, uint64_t timeout_ns) MUST_CHECK;
/* Goes on with another ring and other memory; what storage owns of those of before is left to the
 * process. */
int contents_reader_renew(struct contents_reader *r) MUST_CHECK;
/* -EBUSY: storage still owns some of its memory, which is left to the process. Accepts a zeroed
 * reader. */
int contents_reader_close(struct contents_reader *r);

/* A zeroed job with its files closed, at the end of the list; NULL: no memory. Moves the others. */
struct contents_job *contents_list_add(struct contents_list *list, const char *dir, uint32_t shard,
                                       uint64_t writer);

/* Appends a job for every .toc and .head in a directory that is there. */
int contents_list_dir(struct io *io, const char *dir, uint32_t shard,
                      struct contents_list *list) MUST_CHECK;
void contents_list_free(struct contents_list *list);

/* Opens the data file of a job once more, into job->data and job->data_rc. */
void contents_open_data(const struct contents_reader *r, struct contents_job *job);
/* Opens and reads all jobs, and closes what it opened except data files and what is to be kept.
 * -ETIMEDOUT: storage does not answer; -ECANCELED. */
int contents_run(struct contents_reader *r, struct contents_job *jobs, size_t n) MUST_CHECK;

#endif
