/*
 * container.h - the file that export writes and import reads, docs/FORMAT.md "Export": a header,
 * then members, each with a checksum. Pure functions, and a stream of either direction.
 */
#ifndef ADMIN_CONTAINER_H
#define ADMIN_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "segment/toc.h"

#define CONTAINER_MAGIC   0x3150584e54534943ull /* "CISTNXP1" */
#define CONTAINER_VERSION 1u
#define CONTAINER_SALT    1u          /* flag: the salt is inside */
#define MEMBER_MAGIC      0x52424d43u /* "CMBR" */

/* The first 128 bytes; checksum = XXH3-64 of them with this field zero. */
struct container_header {
    uint64_t magic;
    uint32_t version, flags;
    uint8_t salt[32];    /* zero without CONTAINER_SALT */
    uint8_t salt_id[32]; /* SHA-256 of salt and "cstnSALT" */
    uint64_t created_s;
    uint64_t reserved[3];
    uint64_t reserved1;
    uint64_t checksum;
};
_Static_assert(sizeof(struct container_header) == 128, "container header");

enum member_kind { MEMBER_SPACE = 1, MEMBER_CONTENTS = 2, MEMBER_BLOCK = 3, MEMBER_END = 4 };

/* Before each body; checksum = XXH3-64 of this with the field zero, then of the body. */
struct member_header {
    uint32_t magic, kind;
    uint64_t number; /* from 0, without gaps */
    uint64_t length; /* of the body */
    uint64_t checksum;
};
_Static_assert(sizeof(struct member_header) == 32, "member header");

void container_header_encode(const struct container_header *h, uint8_t out[128]);
/* 0, -EBADMSG, CISTERN_EFORMAT. */
int container_header_decode(const uint8_t in[128], struct container_header *out) MUST_CHECK;
int container_salt_id(const uint8_t salt[32], uint8_t out[32]) MUST_CHECK;
void member_header_encode(const struct member_header *h, uint8_t out[32]);
void member_header_decode(const uint8_t in[32], struct member_header *out);
/* Begins the hash that ends as the checksum. */
void member_hash_begin(struct hash64_state *s, const struct member_header *h);

/* Contents made in memory, as they stand in a file. */
struct contents_out {
    uint8_t *bytes; /* owned */
    size_t len, room;
    struct toc_writer writer;
    struct toc_batch batch;
    uint8_t *scratch; /* owned */
    uint64_t data_end, now_s;
};
/* How they are encrypted: everything lives as long as the contents do. */
struct contents_seal {
    const struct crypt *crypt;
    struct cipher *cipher;
    const uint8_t *key;
};
/* `seal` NULL: they are plain; else the header must have TOC_ENCRYPTED. */
int contents_out_begin(struct contents_out *o, const struct toc_header *h,
                       const struct contents_seal *seal) MUST_CHECK;
int contents_out_block(struct contents_out *o, const struct block_info *b) MUST_CHECK;
int contents_out_end(struct contents_out *o) MUST_CHECK;
void contents_out_free(struct contents_out *o); /* accepts a zeroed one */

#endif
