/*
 * import.h - the writing side of an import: a new writer in each shard, whose segments nobody sees
 * before import_commit().
 */
#ifndef ADMIN_IMPORT_H
#define ADMIN_IMPORT_H

#include "admin/container.h"
#include "admin/payload.h"

struct import_segment {
    uint32_t shard; /* place in writers */
    uint64_t seq;
    uint8_t *key;                 /* owned; NULL in a plain root */
    struct contents_out contents; /* in memory until the commit */
};

struct import_writer {
    char dir[ADMIN_PATH];
    uint32_t shard;
    uint64_t id, counter, next_seq;
    struct io_file head;
    uint64_t published;
};

struct import {
    struct admin ad;
    struct io_ring ring; /* for writing */
    bool ring_open;
    int64_t (*read)(void *arg, void *buf, size_t len);
    void *arg;
    uint8_t fingerprint[32];
    uint32_t shards;
    char space_dir[ADMIN_PATH], space_name[128];
    bool space_made;
    struct import_writer *writers;
    size_t nwriters;
    struct import_segment *segments;
    size_t nsegments;
    uint64_t member; /* number of the next one */
    /* The data file that grows. */
    struct io_file data;
    uint64_t data_end; /* bytes laid out, a multiple of 4 KiB */
    uint64_t written;  /* bytes that went out */
    uint64_t room;     /* bytes within the capacity that are left; UINT64_MAX = not limited */
    uint64_t beat_ns;  /* when heads were written last */
    struct cistern_transfer_sum sum;
};

/* Blocks of a new segment follow; *h becomes its header. */
int import_segment_begin(struct import *m, const struct toc_header *source,
                         struct toc_header *h) MUST_CHECK;
/* Lays out bytes behind what is there; import_align() ends a part. */
int import_data(struct import *m, const uint8_t *bytes, size_t len) MUST_CHECK;
int import_align(struct import *m) MUST_CHECK;
int import_segment_end(struct import *m) MUST_CHECK;
/* Writes contents and heads: from here on everything is visible. */
int import_commit(struct import *m) MUST_CHECK;
/* Removes every file that was made. */
void import_undo(struct import *m);
void import_release(struct import *m);

#endif
