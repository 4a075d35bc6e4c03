/*
 * reader.c - parses frames. Takes any bytes: every length, count, mask and position is checked
 * before it is used, and nothing of a frame reaches the sink before the whole frame proved itself.
 *
 * A frame is copied before it is looked at: its checksum has a hole, and the bytes may change
 * under the reader when the buffer is shared. State and bytes belong to the caller; no I/O, no
 * allocation.
 */
#include "segment/toc.h"

#include <stdalign.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "segment/segment_internal.h"

#define FRAME_AT(field) offsetof(struct frame_header, field)
#define BLOCK_AT(field) offsetof(struct block_record, field)
#define PARTS_AT(field) offsetof(struct parts_record, field)
#define DEAD_AT(field)  offsetof(struct dead_record, field)
#define SEAL_AT(field)  offsetof(struct seal_record, field)

/* Beside the public ends of a parse: a good frame. */
enum { FRAME_GOOD = 100 };

struct frame {
    unsigned records;
    bool locked; /* encrypted, and the key is not known */
    uint64_t data_end, written_s;
    alignas(64) uint8_t bytes[FORMAT_PAGE];
};

void toc_cursor_init(struct toc_cursor *c, const uint8_t segment_id[16])
{
    *c = (struct toc_cursor){.position = FORMAT_PAGE};
    memcpy(c->segment_id, segment_id, sizeof c->segment_id);
}

static bool all_zero(const uint8_t *p, size_t len)
{
    /* Overlapping compare: the first byte is zero and every byte equals the one before. */
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Decodes parts 1 and up of b from the records behind its first. */
static bool parts_decode(const uint8_t *r, struct block_info *b)
{
    unsigned i;

    for (i = 1; i < b->parts; i++) {
        unsigned slot = (i - 1) % FORMAT_CONT_PARTS;
        unsigned here = b->parts - i < FORMAT_CONT_PARTS ? b->parts - i : FORMAT_CONT_PARTS;

        if (slot == 0) {
            r += FORMAT_RECORD;
            if (r[PARTS_AT(kind)] != RECORD_PARTS || r[PARTS_AT(count)] != here)
                return false;
        }
        b->length[i] = le32_load(r + PARTS_AT(length) + 4u * slot);
        b->check[i] = le64_load(r + PARTS_AT(check) + 8u * slot);
        if (!part_length_ok(b->length[i]))
            return false;
    }
    return true;
}

/* Decodes the block whose first record is r, of `left` records. Records taken; 0: it contradicts
 * itself. Most blocks have one part: that path is what the speed of opening a store hangs on. */
static inline unsigned block_decode(const uint8_t *r, unsigned left, struct block_info *b)
{
    b->parts = r[BLOCK_AT(parts)];
    b->mask = le16_load(r + BLOCK_AT(mask));
    b->offset = le32_load(r + BLOCK_AT(offset));
    b->depth = le32_load(r + BLOCK_AT(depth));
    b->length[0] = le32_load(r + BLOCK_AT(length));
    b->check[0] = le64_load(r + BLOCK_AT(check));
    memcpy(b->key, r + BLOCK_AT(key), sizeof b->key);
    if (!part_mask_ok(b->mask, b->parts) || !part_length_ok(b->length[0]))
        return 0;
    if (b->parts == 1)
        return 1;
    return block_records(b->parts) <= left && parts_decode(r, b) ? block_records(b->parts) : 0;
}

/* Do all records make sense, alone and together? Kinds of a later version are passed over. */
static bool frame_consistent(const struct frame *f)
{
    const uint8_t *r = f->bytes + FORMAT_RECORD;
    struct block_info b;
    unsigned i = 0;

    while (i < f->records) {
        unsigned taken = 1;

        switch (r[BLOCK_AT(kind)]) {
        case RECORD_BLOCK:
            taken = block_decode(r, f->records - i, &b);
            if (taken == 0 || (uint64_t)b.offset * FORMAT_PAGE + block_extent(&b) > f->data_end)
                return false;
            break;
        case RECORD_NONE:
        case RECORD_PARTS:
            return false;
        default:
            break;
        }
        i += taken;
        r += (size_t)FORMAT_RECORD * taken;
    }
    return true;
}

/* Decrypts our copy of a frame whose checksum is good; false: it is not what its writer wrote. */
static bool frame_decrypt(const struct toc_cursor *c, struct frame *f)
{
    const size_t clear = (size_t)FORMAT_RECORD * 2;
    size_t bytes = (size_t)FORMAT_RECORD * (1 + f->records);
    uint8_t *seal = f->bytes + FORMAT_RECORD, tag[CRYPT_TAG];

    f->locked = !c->key;
    if (f->records < 2 || seal[SEAL_AT(kind)] != RECORD_SEAL)
        return false;
    if (f->locked)
        return true;
    memcpy(tag, seal + SEAL_AT(tag), sizeof tag);
    memset(seal + SEAL_AT(tag), 0, sizeof tag);
    return cipher_begin(c->cipher, false, c->key, CIPHER_FRAME, le64_load(seal + SEAL_AT(serial)),
                        f->bytes, clear) == 0 &&
           cipher_add(c->cipher, f->bytes + clear, f->bytes + clear, bytes - clear) == 0 &&
           cipher_check(c->cipher, tag, sizeof tag) == 0;
}

/*
 * Looks at the frame that should be at `position`, of which `left` bytes are at p (64 at least).
 * FRAME_GOOD and *f, or how the contents end here. `whole`: no more bytes exist.
 */
static int frame_load(const struct toc_cursor *c, uint64_t position, const uint8_t *p, size_t left,
                      bool whole, struct frame *f)
{
    unsigned flags;
    size_t bytes;

    if (le32_load(p + FRAME_AT(magic)) != FORMAT_FRAME_MAGIC)
        return TOC_TORN;
    f->records = le16_load(p + FRAME_AT(records));
    bytes = (size_t)FORMAT_RECORD * (1 + f->records);
    if (f->records == 0 || bytes > page_rest(position))
        return TOC_TORN;
    if (bytes > left)
        return whole ? TOC_TORN : TOC_MORE;
    memcpy(f->bytes, p, bytes);
    memset(f->bytes + FRAME_AT(checksum), 0, 8);
    /* The count is looked at again, in our copy: the bytes may belong to a file that changes. */
    if (le16_load(f->bytes + FRAME_AT(records)) != f->records ||
        le64_load(p + FRAME_AT(checksum)) != hash64(f->bytes, bytes))
        return TOC_TORN;
    if (le64_load(f->bytes + FRAME_AT(number)) != c->number ||
        le64_load(f->bytes + FRAME_AT(position)) != position ||
        memcmp(f->bytes + FRAME_AT(segment_id), c->segment_id, sizeof c->segment_id) != 0)
        return TOC_TORN;
    flags = le16_load(f->bytes + FRAME_AT(flags));
    if (flags & ~(c->encrypted ? FRAME_ENCRYPTED : 0))
        return TOC_LATER;
    f->data_end = le64_load(f->bytes + FRAME_AT(data_end));
    f->written_s = le64_load(f->bytes + FRAME_AT(written_s));
    f->locked = false;
    /* A plain frame in encrypted contents is nobody's but a forger's. */
    if (c->encrypted && (!flags || !frame_decrypt(c, f)))
        return TOC_TORN;
    return f->locked || frame_consistent(f) ? FRAME_GOOD : TOC_TORN;
}

/* Gives the records of a consistent frame to the sink. */
static int frame_deliver(struct toc_cursor *c, const struct frame *f, const struct toc_sink *sink)
{
    const uint8_t *r = f->bytes + FORMAT_RECORD;
    const uint8_t *end = r + (size_t)FORMAT_RECORD * f->records;
    uint64_t blocks = 0, dead = 0;
    struct block_info b;
    int rc = 0;

    while (!f->locked && r < end && rc == 0) {
        unsigned taken = 1;

        switch (r[BLOCK_AT(kind)]) {
        case RECORD_BLOCK:
            taken = block_decode(r, (unsigned)((size_t)(end - r) / FORMAT_RECORD), &b);
            blocks++;
            if (sink->block)
                rc = sink->block(sink->arg, &b);
            break;
        case RECORD_DEAD:
            dead++;
            if (sink->dead)
                rc = sink->dead(sink->arg, r + DEAD_AT(key), r + DEAD_AT(segment_id),
                                le32_load(r + DEAD_AT(offset)), r[DEAD_AT(reason)]);
            break;
        case RECORD_ASIDE:
            if (sink->aside)
                rc = sink->aside(sink->arg, r + DEAD_AT(segment_id), r[DEAD_AT(reason)]);
            break;
        default:
            break;
        }
        r += (size_t)FORMAT_RECORD * taken;
    }
    if (rc)
        return rc;
    c->blocks += blocks;
    c->dead += dead;
    c->locked += f->locked ? f->records - 1 : 0;
    c->data_end = f->data_end;
    c->number++;
    if (f->written_s > c->written_s)
        c->written_s = f->written_s;
    return 0;
}

/*
 * No frame begins at p. Zeros to the page's end may be padding: *skip is then their number, and the
 * result that of looking at the next page. Zeros to the end of the bytes are the end.
 */
static int gap_look(const struct toc_cursor *c, const uint8_t *p, size_t left, bool last,
                    struct frame *f, size_t *skip)
{
    size_t rest = page_rest(c->position);
    int rc;

    if (!all_zero(p, left < rest ? left : rest))
        return TOC_TORN;
    if (left <= rest && !last && (left < rest || rest < FORMAT_PAGE))
        return TOC_MORE;
    if (all_zero(p, left)) {
        /* Beyond a whole page of zeros no frame can follow. */
        return last || left >= rest + FORMAT_PAGE || rest == FORMAT_PAGE ? TOC_END : TOC_MORE;
    }
    if (rest == FORMAT_PAGE)
        return TOC_TORN;
    if (left - rest < FORMAT_RECORD)
        return last ? TOC_TORN : TOC_MORE;
    rc = frame_load(c, c->position + rest, p + rest, left - rest, last, f);
    *skip = rest;
    return rc;
}

int toc_parse(struct toc_cursor *c, const void *bytes, size_t len, bool last,
              const struct toc_sink *sink)
{
    const uint8_t *p = bytes;
    size_t left = len;
    struct frame f;

    for (;;) {
        size_t skip = 0, taken;
        int rc;

        if (left < FORMAT_RECORD) {
            if (!last)
                return TOC_MORE;
            return all_zero(p, left) ? TOC_END : TOC_TORN;
        }
        if (le32_load(p) == 0)
            rc = gap_look(c, p, left, last, &f, &skip);
        else
            rc = frame_load(c, c->position, p, left, last, &f);
        if (rc != FRAME_GOOD)
            return rc;
        rc = frame_deliver(c, &f, sink);
        if (rc)
            return rc;
        taken = skip + (size_t)FORMAT_RECORD * (1 + f.records);
        p += taken;
        left -= taken;
        c->position += taken;
    }
}
