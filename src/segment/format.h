/*
 * format.h - every byte that Cistern writes, as docs/FORMAT.md describes it. All integers are
 * little-endian.
 *
 *   <mount>/<root>/cistern.json, salt
 *   <mount>/<root>/<space-name>-<first 32 hex digits of the fingerprint>/space.json
 *   .../s<shard>of<shards>/<writer>-<seq>.seg      payloads back to back, each part 4 KiB-aligned;
 * no header
 *   .../s<shard>of<shards>/<writer>-<seq>.toc      contents: a header page, then frames of 64-byte
 * records
 *   .../s<shard>of<shards>/<writer>.head           one 4 KiB record, rewritten in place
 *   .../<id>.pin                                   beside space.json: keys whose blocks are to stay
 *   writer: 16 hex digits, random; seq: 8 hex digits, from 0
 *
 * Invariants.
 *   1. Only its writer writes a file; a new process is a new writer.
 *   2. A frame is written after all payloads that its records name were written. So every valid
 * frame may be believed, whatever the head says; the head's `published` tells followers how far to
 * look.
 *   3. A frame lies inside one 4 KiB page and never overwrites published bytes. When a block's
 * records do not fit in what is left of the page, the rest of the page stays zero and the next
 * frame starts at the next page. Frames are numbered without gaps, so that a lost frame ends the
 * contents.
 *   4. A record's check binds the payload to space, segment, offset, length, part and key:
 * format_check().
 */
#ifndef SEGMENT_FORMAT_H
#define SEGMENT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION       1
#define FORMAT_PAGE          4096u
#define FORMAT_RECORD        64u
#define FORMAT_MAX_PARTS     16u
#define FORMAT_CONT_PARTS    4u  /* parts in one continuation record */
#define FORMAT_FRAME_RECORDS 63u /* records that fit behind a frame header */

#define FORMAT_TOC_MAGIC   0x31434f544e545343ull /* "CSTNTOC1" */
#define FORMAT_HEAD_MAGIC  0x3144484e54534943ull /* "CISTNHD1" */
#define FORMAT_FRAME_MAGIC 0x4d524643u           /* "CFRM" */
#define FORMAT_PIN_MAGIC   0x314e504e54534943ull /* "CISTNPN1" */

/* First page of a .toc; zero up to 4096. checksum = XXH3-64 of the page with this field zero. */
struct toc_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* 4096 */
    uint8_t space[32];     /* fingerprint */
    uint8_t segment_id[16];
    uint64_t writer;
    uint64_t seq;
    uint32_t shard, shards;
    uint64_t created_s;
    uint64_t segment_bytes; /* the size that the data file may reach */
    uint32_t flags;         /* TOC_ENCRYPTED; unknown bits: the segment is left alone */
    uint32_t reserved[3];
    uint64_t checksum;
};
_Static_assert(sizeof(struct toc_header) == 128, "toc header");
_Static_assert(offsetof(struct toc_header, checksum) == 120, "toc header checksum");
#define TOC_ENCRYPTED 1u /* struct toc_key follows; payloads and records are encrypted: crypt.h */

/* At byte 128 of the page of an encrypted segment: its key, wrapped by a master key. */
struct toc_key {
    uint8_t key_id[8]; /* of the master */
    uint8_t nonce[12];
    uint8_t reserved[4];
    uint8_t wrapped[32];
    uint8_t tag[16]; /* covers the page up to the checksum too */
};
_Static_assert(sizeof(struct toc_key) == 72, "toc key");

/* 64 bytes before the records of a frame. checksum = XXH3-64 of header (field zero) and records. */
struct frame_header {
    uint32_t magic;
    uint16_t records;
    uint16_t flags;    /* FRAME_ENCRYPTED; unknown bits: the contents end here */
    uint64_t number;   /* from 0, without gaps */
    uint64_t position; /* of this header in the file */
    uint8_t segment_id[16];
    uint64_t data_end;  /* bytes of the data file that are in use or given up */
    uint64_t written_s; /* seconds since 1970 */
    uint64_t checksum;
};
_Static_assert(sizeof(struct frame_header) == 64, "frame header");
_Static_assert(offsetof(struct frame_header, checksum) == 56, "frame header checksum");
#define FRAME_ENCRYPTED 1u /* the first record is a seal, the others are encrypted */

enum record_kind {
    RECORD_NONE = 0,
    RECORD_BLOCK = 1,
    RECORD_PARTS = 2,
    RECORD_DEAD = 3,
    RECORD_ASIDE = 4,
    RECORD_SEAL = 5
};
enum dead_reason { DEAD_DELETED = 1, DEAD_CHECKSUM = 2, DEAD_LENGTH = 3, DEAD_IO = 4 };

/*
 * RECORD_BLOCK: one block. Its first part is here, up to four more in each RECORD_PARTS that
 * follows in the same frame. Parts lie in ascending order from `offset`, each rounded up to 4 KiB.
 */
struct block_record {
    uint8_t key[32];
    uint64_t check;  /* of the lowest part */
    uint32_t offset; /* in the data file, 4 KiB units */
    uint32_t length; /* of the lowest part, bytes, 1 .. 1 GiB */
    uint8_t kind;
    uint8_t parts;  /* how many, 1 .. 16 */
    uint16_t mask;  /* which: bit p = part p */
    uint32_t depth; /* place in its chain, 0 = first block of the prompt */
    uint64_t reserved;
};
_Static_assert(sizeof(struct block_record) == FORMAT_RECORD, "block record");

/* RECORD_PARTS: the next up to four parts of the block before, in ascending order. */
struct parts_record {
    uint64_t check[FORMAT_CONT_PARTS];
    uint32_t length[FORMAT_CONT_PARTS];
    uint8_t kind;
    uint8_t count;
    uint16_t reserved[7];
};
_Static_assert(sizeof(struct parts_record) == FORMAT_RECORD, "parts record");
_Static_assert(offsetof(struct parts_record, kind) == 48, "kind is at one place");
_Static_assert(offsetof(struct block_record, kind) == 48, "kind is at one place");

/* RECORD_DEAD: one copy of a block, in any segment of the shard, is not to be used. Order does not
 * matter. RECORD_ASIDE: a whole segment (offset 0, key zero). */
struct dead_record {
    uint8_t key[32];
    uint8_t segment_id[16];
    uint8_t kind;
    uint8_t reason; /* enum dead_reason */
    uint16_t reserved0;
    uint32_t offset; /* 4 KiB units */
    uint64_t reserved1;
};
_Static_assert(sizeof(struct dead_record) == FORMAT_RECORD, "dead record");
_Static_assert(offsetof(struct dead_record, kind) == 48, "kind is at one place");

/* RECORD_SEAL: the first record of an encrypted frame, not encrypted itself. */
struct seal_record {
    uint8_t tag[16];
    uint64_t serial; /* of the encryption, in its segment: the nonce */
    uint8_t reserved0[24];
    uint8_t kind;
    uint8_t reserved1[15];
};
_Static_assert(sizeof(struct seal_record) == FORMAT_RECORD, "seal record");
_Static_assert(offsetof(struct seal_record, kind) == 48, "kind is at one place");

enum head_state { HEAD_LIVE = 1, HEAD_CLOSED = 2 };

/* The whole of a .head; zero up to 4096. checksum = XXH3-64 of the page with this field zero. */
struct head_record {
    uint64_t magic;
    uint32_t version;
    uint32_t state; /* enum head_state */
    uint8_t space[32];
    uint64_t writer;
    uint64_t counter; /* grows with every write of the head */
    uint32_t shard, shards;
    uint64_t first_seq, next_seq; /* live segments: first_seq <= seq < next_seq */
    uint64_t published;           /* bytes of the last segment's contents that are valid */
    uint64_t written_s;
    uint32_t pid;
    uint32_t health; /* HEAD_HEALTH_...; bits are given a meaning by later versions */
    char host[64];   /* NUL-terminated */
    uint64_t checksum;
    uint32_t generation; /* of its segments: 0 young, 1 old (engine/policy.h); for evictors only */
    uint32_t reserved;
    /* From byte 256: touches per live segment, newest first, 32-bit counters; 0 = none. Written
     * lazily. */
};
_Static_assert(sizeof(struct head_record) == 192, "head record");
_Static_assert(offsetof(struct head_record, checksum) == 176, "head checksum");
#define HEAD_HEALTH_BREAKER 1u /* reads failed again and again: this writer finds nothing now */
#define HEAD_TOUCHES_AT     256u
#define HEAD_TOUCHES_MAX    ((FORMAT_PAGE - HEAD_TOUCHES_AT) / 4u)

/* What a check covers beside the payload. */
struct check_identity {
    uint8_t space[32];
    uint8_t segment_id[16];
    uint8_t key[32];
    uint64_t offset; /* bytes, of the part in the data file */
    uint32_t length; /* bytes */
    uint32_t part;
};
_Static_assert(sizeof(struct check_identity) == 96, "check identity");

/* A pin: this, then the keys, 32 bytes each. checksum = XXH3-64 of the file with this field zero.
 */
#define PIN_LABEL 64u
struct pin_header {
    uint64_t magic;
    uint32_t version;
    uint32_t flags; /* 0; unknown bits: the pin is of a later version */
    uint8_t space[32];
    uint64_t created_s;
    uint64_t expires_s; /* 0 = never */
    uint64_t bytes;     /* what the blocks take on all shards, as far as was known */
    uint32_t keys;      /* 1 to 65,536 */
    uint32_t reserved;
    char label[PIN_LABEL]; /* for people; ends in a zero byte */
    uint8_t reserved2[40];
    uint64_t checksum;
};
_Static_assert(sizeof(struct pin_header) == 192, "pin header");
_Static_assert(offsetof(struct pin_header, checksum) == 184, "pin checksum");

#endif
