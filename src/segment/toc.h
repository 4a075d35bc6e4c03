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
int head_decode(const void *page, struct head_record *out) MUST_CHECK;

/* ---- Reading ---- */

struct toc_sink {
    /* Non-zero ends the parse and is returned. */
    int (*block)(void *arg, const struct block_info *b);
    int (*dead)(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                uint8_t reason);
    int (*aside)(void *arg, const uint8_t segment_id[16], uint8_t reason);
    void *arg;
};

enum toc_end {
    TOC_MORE, /* all bytes so far are good; feed more from `position` */
    TOC_END,  /* nothing was written behind `position` (zeros) */
    TOC_TORN, /* the frame at `position` is not valid: the contents end there */
    TOC_LATER /* a frame of a later version: the contents end there for us */
};

struct toc_cursor {
    uint8_t segment_id[16];
    uint64_t position; /* next byte to look at; starts at FORMAT_PAGE, behind the header */
    uint64_t number;   /* of the next frame */
    uint64_t data_end; /* as the last frame says */
    uint64_t blocks, dead;
};

void toc_cursor_init(struct toc_cursor *c, const uint8_t segment_id[16]);
/*
 * Parses frames from bytes[0..len), which is what the file holds at c->position. Leaves c->position
 * behind the last good frame (or at the page boundary to go on at). `last`: no bytes follow in the
 * file now. A record that contradicts itself (mask against count, zero length, ...) makes its frame
 * TOC_TORN. Returns an enum toc_end, or a sink's negative code.
 */
int toc_parse(struct toc_cursor *c, const void *bytes, size_t len, bool last,
              const struct toc_sink *sink) MUST_CHECK;

/* ---- Writing ---- */

struct toc_writer {
    uint8_t segment_id[16];
    uint64_t position; /* where the next frame goes */
    uint64_t number;
};

/* One batch of frames in a buffer that stands for the file from `start`. */
struct toc_batch {
    struct toc_writer *w;
    uint8_t *buf;
    size_t size, used; /* used: bytes to write at `start` */
    uint64_t start;
    size_t frame; /* offset in buf of the open frame; SIZE_MAX = none */
};

void toc_writer_init(struct toc_writer *w, const uint8_t segment_id[16]);
/* buf: at least 8 KiB, 64-byte aligned; zeroed by the batch as far as it is used. */
void toc_batch_begin(struct toc_batch *b, struct toc_writer *w, void *buf, size_t size);
/* -ENOSPC: the buffer is full; end this batch and start another. */
int toc_batch_block(struct toc_batch *b, const struct block_info *info) MUST_CHECK;
int toc_batch_dead(struct toc_batch *b, const uint8_t key[32], const uint8_t segment_id[16],
                   uint32_t offset, uint8_t reason) MUST_CHECK;
/* Seals the last frame. The writer's position is now behind the batch; on a failed write, see
 * toc_batch_undo. */
void toc_batch_end(struct toc_batch *b, uint64_t data_end, uint64_t now_s);
/* Puts the writer back to where the batch began: the same place and numbers are used again. */
void toc_batch_undo(struct toc_batch *b);

#endif
