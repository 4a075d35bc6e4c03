/*
 * payload.h - the blocks of one segment and their bytes, in the order of the file.
 */
#ifndef ADMIN_PAYLOAD_H
#define ADMIN_PAYLOAD_H

#include "admin/survey.h"
#include "base/hash.h"

struct payload_block {
    struct block_info info;
    uint8_t dead;             /* enum dead_reason, 0 = not */
    struct block_info *plain; /* owned; export.c */
};

struct payload {
    struct admin *ad;
    const struct survey_segment *seg;
    struct payload_block *blocks; /* by offset */
    size_t count;
    struct io_file file;
    int open_rc;
    uint64_t *plan; /* pieces that living blocks lie in */
    size_t nplan;
    struct admin_stream stream;
};

/* Reads contents again and opens the data. 0 also when the data cannot be opened (open_rc). */
int payload_open(struct payload *p, struct admin *ad, const struct survey_shard *sh,
                 const struct survey_segment *seg) MUST_CHECK;
int payload_close(struct payload *p, int rc); /* rc, or what ended the stream */

struct payload_verdict {
    uint32_t state; /* enum cistern_block_state */
    uint32_t part;  /* the first that is bad: place among the block's parts */
    uint64_t offset, length;
    int error;
    uint64_t plain[FORMAT_MAX_PARTS]; /* of a good block: what its checks would be unencrypted */
};
/* Checks one block; its bytes go to `into` too, parts behind each other, unless that is NULL. A
 * bad block is a verdict; a negative return ends everything. */
int payload_check(struct payload *p, const struct payload_block *b, uint8_t *into,
                  struct payload_verdict *out) MUST_CHECK;
/* As the bytes of a part come by: they are hashed, in an encrypted segment after decryption. */
struct payload_part {
    struct admin *ad;
    bool encrypted;
    struct hash64_state state;
};
int payload_part_begin(struct payload_part *q, struct admin *ad, const struct survey_segment *seg,
                       const struct check_identity *identity) MUST_CHECK;
/* The payload goes to `into` too, unless that is NULL. */
int payload_part_add(struct payload_part *q, const uint8_t *bytes, size_t len,
                     uint8_t *into) MUST_CHECK;
/* Is it what was stored? *plain: the check that a plain part of that identity would have. */
bool payload_part_end(struct payload_part *q, const struct check_identity *identity, uint64_t check,
                      uint64_t *plain);
/* Sum of the parts' lengths. */
uint64_t payload_bytes(const struct block_info *b);
/* The identity that the check of part i of a block covers; `at` is the part's place in the file. */
void payload_identity(const uint8_t space[32], const uint8_t segment_id[16],
                      const struct block_info *b, unsigned i, uint64_t at,
                      struct check_identity *out);

#endif
