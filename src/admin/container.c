/*
 * container.c - bytes of an export file. Decoding takes any bytes and believes nothing before the
 * checksum.
 */
#include "admin/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/le.h"
#include "cistern.h"
#include "key/sha.h"

#define HEADER_AT(field) offsetof(struct container_header, field)
#define MEMBER_AT(field) offsetof(struct member_header, field)
#define SCRATCH          (256u << 10)

void container_header_encode(const struct container_header *h, uint8_t out[128])
{
    memset(out, 0, 128);
    le64_store(out + HEADER_AT(magic), CONTAINER_MAGIC);
    le32_store(out + HEADER_AT(version), CONTAINER_VERSION);
    le32_store(out + HEADER_AT(flags), h->flags);
    memcpy(out + HEADER_AT(salt), h->salt, sizeof h->salt);
    memcpy(out + HEADER_AT(salt_id), h->salt_id, sizeof h->salt_id);
    le64_store(out + HEADER_AT(created_s), h->created_s);
    le64_store(out + HEADER_AT(checksum), hash64(out, 128));
}

int container_header_decode(const uint8_t in[128], struct container_header *out)
{
    uint8_t copy[128];

    if (le64_load(in + HEADER_AT(magic)) != CONTAINER_MAGIC)
        return err_set(-EBADMSG, "this is not an export of Cistern");
    memcpy(copy, in, sizeof copy);
    memset(copy + HEADER_AT(checksum), 0, 8);
    if (hash64(copy, sizeof copy) != le64_load(in + HEADER_AT(checksum)))
        return err_set(-EBADMSG, "the header of the export is damaged");
    *out = (struct container_header){.magic = CONTAINER_MAGIC,
                                     .version = le32_load(in + HEADER_AT(version)),
                                     .flags = le32_load(in + HEADER_AT(flags)),
                                     .created_s = le64_load(in + HEADER_AT(created_s))};
    memcpy(out->salt, in + HEADER_AT(salt), sizeof out->salt);
    memcpy(out->salt_id, in + HEADER_AT(salt_id), sizeof out->salt_id);
    if (out->version != CONTAINER_VERSION || out->flags & ~CONTAINER_SALT)
        return err_set(CISTERN_EFORMAT,
                       "an export of version %u, flags %#x; this library reads version %u",
                       out->version, out->flags, CONTAINER_VERSION);
    return 0;
}

int container_salt_id(const uint8_t salt[32], uint8_t out[32])
{
    return sha256((const struct sha_piece[]){{salt, 32}, {"cstnSALT", 8}}, 2, out);
}

void member_header_encode(const struct member_header *h, uint8_t out[32])
{
    le32_store(out + MEMBER_AT(magic), MEMBER_MAGIC);
    le32_store(out + MEMBER_AT(kind), h->kind);
    le64_store(out + MEMBER_AT(number), h->number);
    le64_store(out + MEMBER_AT(length), h->length);
    le64_store(out + MEMBER_AT(checksum), h->checksum);
}

void member_header_decode(const uint8_t in[32], struct member_header *out)
{
    out->magic = le32_load(in + MEMBER_AT(magic));
    out->kind = le32_load(in + MEMBER_AT(kind));
    out->number = le64_load(in + MEMBER_AT(number));
    out->length = le64_load(in + MEMBER_AT(length));
    out->checksum = le64_load(in + MEMBER_AT(checksum));
}

void member_hash_begin(struct hash64_state *s, const struct member_header *h)
{
    struct member_header blank = *h;
    uint8_t bytes[32];

    blank.checksum = 0;
    member_header_encode(&blank, bytes);
    hash64_begin(s);
    hash64_add(s, bytes, sizeof bytes);
}

/* ---- Contents ---- */

int contents_out_begin(struct contents_out *o, const struct toc_header *h,
                       const struct contents_seal *seal)
{
    int rc = 0;

    *o = (struct contents_out){.now_s = h->created_s};
    o->room = SCRATCH;
    o->bytes = malloc(o->room);
    o->scratch = aligned_alloc(64, SCRATCH);
    if (!o->bytes || !o->scratch)
        return err_set(-ENOMEM, "no memory for contents");
    toc_header_encode(h, o->bytes);
    o->len = FORMAT_PAGE;
    toc_writer_init(&o->writer, h->segment_id);
    if (seal) {
        o->writer.key = seal->key;
        o->writer.cipher = seal->cipher;
        rc = toc_wrap(seal->crypt, seal->cipher, seal->key, o->bytes);
    }
    toc_batch_begin(&o->batch, &o->writer, o->scratch, SCRATCH);
    return rc;
}

/* The batch goes to where it belongs; what lies between is padding. */
static int take_batch(struct contents_out *o)
{
    size_t end;
    int rc = toc_batch_end(&o->batch, o->data_end, o->now_s);

    if (rc || !o->batch.used)
        return rc;
    end = (size_t)o->batch.start + o->batch.used;
    while (end > o->room) {
        uint8_t *more = realloc(o->bytes, 2 * o->room);

        if (!more)
            return err_set(-ENOMEM, "no memory for contents");
        o->bytes = more;
        o->room *= 2;
    }
    memset(o->bytes + o->len, 0, end - o->len);
    memcpy(o->bytes + o->batch.start, o->scratch, o->batch.used);
    o->len = end;
    return 0;
}

int contents_out_block(struct contents_out *o, const struct block_info *b)
{
    uint64_t end = (uint64_t)b->offset * FORMAT_PAGE + block_extent(b);
    int rc = toc_batch_block(&o->batch, b);

    if (rc == -ENOSPC) {
        if ((rc = take_batch(o)))
            return rc;
        toc_batch_begin(&o->batch, &o->writer, o->scratch, SCRATCH);
        rc = toc_batch_block(&o->batch, b);
    }
    o->data_end = max_u64(o->data_end, end);
    return rc;
}

int contents_out_end(struct contents_out *o)
{
    return take_batch(o);
}

void contents_out_free(struct contents_out *o)
{
    free(o->bytes);
    free(o->scratch);
    *o = (struct contents_out){0};
}
