/*
 * writer.c - puts records into frames. The caller owns all state and writes the bytes.
 *
 * Invariants: positions are multiples of 64; a frame stays inside one page; the records of one
 * block stay inside one frame; frames are numbered without gaps, in the order of their positions.
 */
#include "segment/toc.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "segment/segment_internal.h"

#define FRAME_AT(field) offsetof(struct frame_header, field)
#define BLOCK_AT(field) offsetof(struct block_record, field)
#define PARTS_AT(field) offsetof(struct parts_record, field)
#define DEAD_AT(field)  offsetof(struct dead_record, field)
#define SEAL_AT(field)  offsetof(struct seal_record, field)
#define NO_FRAME        SIZE_MAX

void toc_writer_init(struct toc_writer *w, const uint8_t segment_id[16])
{
    memcpy(w->segment_id, segment_id, sizeof w->segment_id);
    w->position = FORMAT_PAGE;
    w->number = 0;
    w->key = NULL;
    w->cipher = NULL;
    w->serial = 0;
}

void toc_batch_begin(struct toc_batch *b, struct toc_writer *w, void *buf, size_t size)
{
    *b = (struct toc_batch){.w = w,
                            .buf = buf,
                            .size = size,
                            .start = w->position,
                            .frame = NO_FRAME,
                            .first_number = w->number};
}

/* Opens a frame for at least n records: here, or at the next page when they do not fit. Of an
 * encrypted one the seal is its first record. */
static int frame_open(struct toc_batch *b, unsigned n)
{
    unsigned seal = b->w->key ? 1 : 0;
    size_t need = (size_t)FORMAT_RECORD * (1 + seal + n);
    size_t pad = page_rest(b->start + b->used) < need ? page_rest(b->start + b->used) : 0;

    if (b->size - b->used < pad + need)
        return -ENOSPC;
    memset(b->buf + b->used, 0, pad + (size_t)FORMAT_RECORD * (1 + seal));
    b->frame = b->used + pad;
    b->used = b->frame + (size_t)FORMAT_RECORD * (1 + seal);
    if (seal) {
        le16_store(b->buf + b->frame + FRAME_AT(flags), FRAME_ENCRYPTED);
        le16_store(b->buf + b->frame + FRAME_AT(records), 1);
        b->buf[b->frame + FORMAT_RECORD + SEAL_AT(kind)] = RECORD_SEAL;
    }
    le32_store(b->buf + b->frame + FRAME_AT(magic), FORMAT_FRAME_MAGIC);
    le64_store(b->buf + b->frame + FRAME_AT(number), b->w->number++);
    le64_store(b->buf + b->frame + FRAME_AT(position), b->start + b->frame);
    memcpy(b->buf + b->frame + FRAME_AT(segment_id), b->w->segment_id, sizeof b->w->segment_id);
    return 0;
}

/* Room for n zeroed records in one frame; NULL: the buffer is full and the batch as it was. */
static uint8_t *records_reserve(struct toc_batch *b, unsigned n)
{
    size_t need = (size_t)FORMAT_RECORD * n;
    uint64_t at = b->start + b->used;
    uint8_t *p, *count;

    if (b->frame == NO_FRAME || at % FORMAT_PAGE == 0 || page_rest(at) < need) {
        if (frame_open(b, n) < 0)
            return NULL;
    } else if (b->size - b->used < need) {
        return NULL;
    }
    p = b->buf + b->used;
    memset(p, 0, need);
    b->used += need;
    count = b->buf + b->frame + FRAME_AT(records);
    le16_store(count, (uint16_t)(le16_load(count) + n));
    return p;
}

static bool block_info_ok(const struct block_info *info)
{
    unsigned i;

    if (!part_mask_ok(info->mask, info->parts))
        return false;
    for (i = 0; i < info->parts; i++) {
        if (!part_length_ok(info->length[i]))
            return false;
    }
    return true;
}

int toc_batch_block(struct toc_batch *b, const struct block_info *info)
{
    uint64_t end;
    unsigned i;
    uint8_t *p;

    if (!block_info_ok(info))
        return err_set(-EINVAL, "a block with %u parts, mask %#x cannot be recorded", info->parts,
                       info->mask);
    p = records_reserve(b, block_records(info->parts));
    if (!p)
        return -ENOSPC;
    memcpy(p + BLOCK_AT(key), info->key, sizeof info->key);
    le64_store(p + BLOCK_AT(check), info->check[0]);
    le32_store(p + BLOCK_AT(offset), info->offset);
    le32_store(p + BLOCK_AT(length), info->length[0]);
    p[BLOCK_AT(kind)] = RECORD_BLOCK;
    p[BLOCK_AT(parts)] = info->parts;
    le16_store(p + BLOCK_AT(mask), info->mask);
    le32_store(p + BLOCK_AT(depth), info->depth);
    for (i = 1; i < info->parts; i++) {
        unsigned slot = (i - 1) % FORMAT_CONT_PARTS;

        if (slot == 0)
            p += FORMAT_RECORD;
        le64_store(p + PARTS_AT(check) + 8u * slot, info->check[i]);
        le32_store(p + PARTS_AT(length) + 4u * slot, info->length[i]);
        p[PARTS_AT(kind)] = RECORD_PARTS;
        p[PARTS_AT(count)] = (uint8_t)(slot + 1);
    }
    end = (uint64_t)info->offset * FORMAT_PAGE + block_extent(info);
    if (end > b->blocks_end)
        b->blocks_end = end;
    return 0;
}

static int dead_add(struct toc_batch *b, const uint8_t *key, const uint8_t segment_id[16],
                    uint32_t offset, uint8_t kind, uint8_t reason)
{
    uint8_t *p = records_reserve(b, 1);

    if (!p)
        return -ENOSPC;
    if (key)
        memcpy(p + DEAD_AT(key), key, 32);
    memcpy(p + DEAD_AT(segment_id), segment_id, 16);
    p[DEAD_AT(kind)] = kind;
    p[DEAD_AT(reason)] = reason;
    le32_store(p + DEAD_AT(offset), offset);
    return 0;
}

int toc_batch_dead(struct toc_batch *b, const uint8_t key[32], const uint8_t segment_id[16],
                   uint32_t offset, uint8_t reason)
{
    return dead_add(b, key, segment_id, offset, RECORD_DEAD, reason);
}

int toc_batch_aside(struct toc_batch *b, const uint8_t segment_id[16], uint8_t reason)
{
    return dead_add(b, NULL, segment_id, 0, RECORD_ASIDE, reason);
}

/* The records behind the seal, in place; header and seal are bound to them. */
static int frame_encrypt(struct toc_writer *w, uint8_t *f, size_t bytes)
{
    const size_t clear = (size_t)FORMAT_RECORD * 2;
    uint64_t serial = w->serial++;
    int rc;

    le64_store(f + FORMAT_RECORD + SEAL_AT(serial), serial);
    rc = cipher_begin(w->cipher, true, w->key, CIPHER_FRAME, serial, f, clear);
    rc = rc ? rc : cipher_add(w->cipher, f + clear, f + clear, bytes - clear);
    return rc ? rc : cipher_seal(w->cipher, f + FORMAT_RECORD + SEAL_AT(tag));
}

int toc_batch_end(struct toc_batch *b, uint64_t data_end, uint64_t now_s)
{
    size_t at = 0;
    int rc = 0;

    if (data_end < b->blocks_end)
        data_end = b->blocks_end;
    while (at < b->used) {
        uint8_t *f = b->buf + at;
        size_t bytes;

        if (le32_load(f + FRAME_AT(magic)) != FORMAT_FRAME_MAGIC) { /* padding */
            at += page_rest(b->start + at);
            continue;
        }
        bytes = (size_t)FORMAT_RECORD * (1u + le16_load(f + FRAME_AT(records)));
        le64_store(f + FRAME_AT(data_end), data_end);
        le64_store(f + FRAME_AT(written_s), now_s);
        le64_store(f + FRAME_AT(checksum), 0);
        if (b->w->key && !rc)
            rc = frame_encrypt(b->w, f, bytes);
        le64_store(f + FRAME_AT(checksum), hash64(f, bytes));
        at += bytes;
    }
    b->frame = NO_FRAME;
    b->w->position = b->start + b->used;
    return rc;
}

void toc_batch_undo(struct toc_batch *b)
{
    b->w->position = b->start;
    b->w->number = b->first_number;
}
