/*
 * toc_reference.h - a second reader of contents, written from docs/FORMAT.md and not from the
 * library: slow, plain, and of whole files only. What it says and what toc_parse() says must be the
 * same; both keep a log of what they found.
 */
#ifndef TESTS_FUZZ_TOC_REFERENCE_H
#define TESTS_FUZZ_TOC_REFERENCE_H

#include "fuzz.h"
#include "segment/toc.h"

/* One record as a reader gives it: a block, or a copy or segment that is dead. */
struct toc_event {
    uint8_t kind; /* enum record_kind */
    uint8_t reason;
    uint8_t segment_id[16];
    struct block_info block; /* of a dead copy: key and offset; zero where nothing is said */
};

/* What was found, and where it ended. */
struct toc_log {
    struct toc_event *at; /* malloc'd */
    size_t count, room;
    uint64_t position, number, data_end;
    int end; /* enum toc_end */
};

struct toc_event *toc_log_add(struct toc_log *log, uint8_t kind);
void toc_log_free(struct toc_log *log);
/* A sink of the library's reader that writes into `log`. */
struct toc_sink toc_log_sink(struct toc_log *log);
/* Fails unless both found the same records and stand at the same place. */
void toc_logs_equal(const struct toc_log *a, const struct toc_log *b);
/* Does the log's end say the same as a cursor? */
void toc_log_take_cursor(struct toc_log *log, const struct toc_cursor *c, int end);

/* Reads bytes[0..len), all that the file has from `position` on, the first frame being `number`. */
void toc_reference(const uint8_t *bytes, size_t len, uint64_t position, uint64_t number,
                   const uint8_t segment_id[16], struct toc_log *log);

/* A record that was given: are parts, mask and lengths in order? */
void toc_block_check(const struct block_info *b);

/* Makes frames of what looks like frames: `how` 1: right checksums; 2: right magic, number,
 * position and segment too; 8: also of what crosses the end of a page. `position` of the first byte
 * in the file. */
void toc_repair(uint8_t *bytes, size_t len, uint64_t position, const uint8_t segment_id[16],
                unsigned how);

#endif
