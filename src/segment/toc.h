/*
 * toc.h - contents of a segment: reading and writing of headers, frames and records, as bytes. No
 * I/O here: callers bring the bytes and write them. Pure functions on caller-owned state; a state
 * belongs to one thread at a time.
 */
#ifndef SEGMENT_TOC_H
#define SEGMENT_TOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/block.h"
#include "segment/crypt.h"
#include "segment/format.h"

/* ---- Checks ---- */

/* The check of a part, from the XXH3-64 of its payload. format_check(i, format_check(i, h)) == h: a
 * carried-over block is re-mixed with no rehash. */
uint64_t format_check(const struct check_identity *identity, uint64_t payload_hash);

/* ---- Names ---- */

#define SEGMENT_NAME_MAX 40
/* "<writer 16 hex>-<seq 8 hex>.seg" or ".toc"; "<writer>.head" */
void segment_name(char out[SEGMENT_NAME_MAX], uint64_t writer, uint64_t seq, const char *suffix);
void head_name(char out[SEGMENT_NAME_MAX], uint64_t writer);
enum segment_file { SEGMENT_FILE_OTHER, SEGMENT_FILE_DATA, SEGMENT_FILE_TOC, SEGMENT_FILE_HEAD };
/* What a directory entry is; *seq is 0 for a head. */
enum segment_file segment_name_parse(const char *name, uint64_t *writer, uint64_t *seq);

/* ---- Header page and head ---- */

/* Fill a 4 KiB page from the struct (host order; checksum is computed). */
void toc_header_encode(const struct toc_header *h, void *page);
/* 0; -EBADMSG: no header, torn or rotten; CISTERN_EFORMAT: a later version. The err text says more.
 */
int toc_header_decode(const void *page, struct toc_header *out) MUST_CHECK;
void head_encode(const struct head_record *h, const uint32_t *touches, size_t n, void *page);
/* 0; -EBADMSG, CISTERN_EFORMAT as above. */
int head_decode(const void *page, struct head_record *out) MUST_CHECK;
/* The touch counters of a page that head_decode() took: touches[0 .. n), newest segment first. */
void head_touches(const void *page, uint32_t *touches, size_t n);

/* ---- Reading ---- */

struct toc_sink {
    /* Non-zero ends the parse and is returned; let it be negative. The cursor is then still at the
     * frame, whose first records were given already. NULL: not asked for. */
    int (*block)(void *arg, const struct block_info *b);
    int (*dead)(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                uint8_t reason);
    int (*aside)(void *arg, const uint8_t segment_id[16], uint8_t reason);
    void *arg;
};

enum toc_end {
    TOC_MORE, /* all bytes so far are good; feed more from `position` */
    TOC_END,  /* nothing was written behind `position`: no bytes, or zeros (see toc_parse) */
    TOC_TORN, /* what is at `position` is not valid: the contents end there */
    TOC_LATER /* a frame of a later version: the contents end there for us */
};

struct toc_cursor {
    uint8_t segment_id[16];
    uint64_t position; /* next byte to look at; starts at FORMAT_PAGE, behind the header */
    uint64_t number;   /* of the next frame */
    uint64_t data_end; /* as the last frame says */
    uint64_t blocks, dead;
    /* Of encrypted contents. Without a key frames are checked as far as that goes, and nothing is
     * given to the sink. */
    bool encrypted;
    const uint8_t *key;    /* of the segment; NULL = not known */
    struct cipher *cipher; /* of the thread that parses */
    uint64_t locked;       /* records that could not be read */
    uint64_t written_s;    /* of the newest frame */
};

void toc_cursor_init(struct toc_cursor *c, const uint8_t segment_id[16]);
/*
 * Parses frames from bytes[0..len), which is what the file holds at c->position. Leaves c->position
 * behind the last good frame, also when zeros follow: the writer may go on there or, if its next
 * block does not fit, at the next page. `last`: no bytes follow in the file now.
 *
 * Without `last` a frame (or padding and what follows it) may be cut by the end of the bytes: that
 * is TOC_MORE, and never so when two pages or more were left. So whoever feeds at least 8 KiB from
 * c->position each time always gets on. Zeros to the end of the bytes, a whole page of them at
 * least, are TOC_END even without `last`.
 *
 * A record that contradicts itself (mask against count, zero length, beyond data_end ...) makes its
 * frame TOC_TORN; so do a wrong number, position or segment_id. No record of such a frame is given.
 * Records of unknown kinds are passed over. Returns an enum toc_end, or a sink's negative code.
 */
int toc_parse(struct toc_cursor *c, const void *bytes, size_t len, bool last,
              const struct toc_sink *sink) MUST_CHECK;

/* ---- Writing ---- */

struct toc_writer {
    uint8_t segment_id[16];
    uint64_t position; /* where the next frame goes */
    uint64_t number;
    /* Of encrypted contents; set after toc_writer_init(), which says that they are not. */
    const uint8_t *key; /* of the segment; NULL = not encrypted */
    struct cipher *cipher;
    uint64_t serial; /* of the next encryption; never set back */
};

/* One batch of frames in a buffer that stands for the file from `start`. */
struct toc_batch {
    struct toc_writer *w;
    uint8_t *buf;
    size_t size, used; /* used: bytes to write at `start` */
    uint64_t start;
    size_t frame;                      /* offset in buf of the open frame; SIZE_MAX = none */
    uint64_t first_number, blocks_end; /* the writer's number at the beginning; end of all blocks */
};

void toc_writer_init(struct toc_writer *w, const uint8_t segment_id[16]);
/* buf: at least 8 KiB, 64-byte aligned; zeroed by the batch as far as it is used. */
void toc_batch_begin(struct toc_batch *b, struct toc_writer *w, void *buf, size_t size);
/* -ENOSPC: the buffer is full; end this batch and start another. -EINVAL: no such block. */
int toc_batch_block(struct toc_batch *b, const struct block_info *info) MUST_CHECK;
int toc_batch_dead(struct toc_batch *b, const uint8_t key[32], const uint8_t segment_id[16],
                   uint32_t offset, uint8_t reason) MUST_CHECK;
int toc_batch_aside(struct toc_batch *b, const uint8_t segment_id[16], uint8_t reason) MUST_CHECK;
/* Seals all frames; `data_end` is raised to the end of the batch's blocks. The writer's position is
 * now behind the batch; on a failed write, see toc_batch_undo. used == 0: there is nothing to
 * write. 0, always unless they are encrypted; else what the cipher said: write nothing then.
 */
int toc_batch_end(struct toc_batch *b, uint64_t data_end, uint64_t now_s);
/* Puts the writer back to where the batch began: the same place and numbers are used again. Only
 * after storage has answered: a write that may still land must not meet another at its place. */
void toc_batch_undo(struct toc_batch *b);

#endif
