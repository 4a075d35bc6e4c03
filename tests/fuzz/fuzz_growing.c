/*
 * fuzz_growing.c - contents that are written while they are read: batches of several pages, damage,
 * and a reader that looks again and again.
 *
 * Input: a script. The writer's batches are made from it with the library's writer; some are undone
 * and made anew, some bytes are damaged. Then a reader follows: the file is seen up to a growing
 * length, each look in windows of at least 8 KiB. Promises: the follower knows in the end what one
 * look at the whole file tells, and what the reference reader finds; undamaged contents give
 * exactly what was written, in order.
 */
#include <errno.h>

#include "toc_reference.h"

#define FILE_MAX  (96u << 10)
#define BATCH_MAX (12u << 10)

static const uint8_t segment_id[16] = "a growing table";

struct file {
    uint8_t *bytes; /* from FORMAT_PAGE on */
    size_t len;
    struct toc_writer w;
    struct toc_log written;
};

static void block_make(struct fuzz_in *in, struct block_info *b)
{
    uint8_t shape = fuzz_u8(in);
    unsigned i, p = 0;

    memset(b, 0, sizeof *b);
    memset(b->key, shape ^ 0x5c, sizeof b->key);
    b->key[0] = fuzz_u8(in);
    b->offset = fuzz_u16(in);
    b->depth = shape;
    b->mask = shape & 1 ? fuzz_u16(in) : (uint16_t)(1u << (shape & 15));
    b->parts = (uint8_t)__builtin_popcount(b->mask);
    if (shape == 0x77)
        b->parts = fuzz_u8(in); /* perhaps no block at all */
    for (i = 0; i < 16; i++, p += 3) {
        b->length[i] = 1 + (shape * 977u + p) % (shape & 2 ? 1u << 30 : 9000);
        b->check[i] = (uint64_t)b->key[0] << 32 | p;
    }
    if (shape == 0x79)
        b->length[0] = fuzz_u32(in);
    for (i = b->parts; i < 16; i++)
        b->length[i] = 0, b->check[i] = 0;
}

/* One record of the script into the batch and, if taken, into the log of the batch. */
static bool record_add(struct fuzz_in *in, struct toc_batch *b, struct toc_log *log)
{
    uint8_t kind = fuzz_u8(in), id[16], reason;
    struct block_info block;
    struct toc_event *e;
    int rc;

    memset(id, kind, sizeof id);
    if (kind % 8 < 6) {
        block_make(in, &block);
        rc = toc_batch_block(b, &block);
        FUZZ_CHECK(rc == 0 || rc == -ENOSPC || rc == -EINVAL);
        if (rc == 0) {
            toc_block_check(&block);
            toc_log_add(log, RECORD_BLOCK)->block = block;
        }
        return rc != -ENOSPC;
    }
    reason = fuzz_u8(in);
    block = (struct block_info){.offset = kind % 8 == 6 ? fuzz_u32(in) : 0};
    if (kind % 8 == 6)
        rc = toc_batch_dead(b, block.key, id, block.offset, reason);
    else
        rc = toc_batch_aside(b, id, reason);
    FUZZ_CHECK(rc == 0 || rc == -ENOSPC);
    if (rc)
        return false;
    e = toc_log_add(log, kind % 8 == 6 ? RECORD_DEAD : RECORD_ASIDE);
    memcpy(e->segment_id, id, sizeof id);
    e->reason = reason;
    e->block = block;
    return true;
}

/* false: the file is full. */
static bool batch_write(struct fuzz_in *in, struct file *f)
{
    uint8_t how = fuzz_u8(in), *buf;
    size_t size = 8192 + 64 * (how & 63), n = 1 + fuzz_u8(in), before = f->written.count;
    struct toc_writer w = f->w;
    struct toc_batch b;

    if (f->len + BATCH_MAX > FILE_MAX)
        return false;
    buf = aligned_alloc(64, size);
    memset(buf, 0xee, size);
    toc_batch_begin(&b, &f->w, buf, size);
    while (n-- && in->left && record_add(in, &b, &f->written))
        ;
    toc_batch_end(&b, 0, how);
    FUZZ_CHECK(b.used <= size && b.start == FORMAT_PAGE + f->len);
    FUZZ_CHECK(f->w.position == b.start + b.used);
    if (how & 64) {
        toc_batch_undo(&b);
        FUZZ_CHECK(memcmp(&w, &f->w, sizeof w) == 0);
        f->written.count = before;
    } else {
        memcpy(f->bytes + f->len, buf, b.used);
        f->len += b.used;
    }
    free(buf);
    return true;
}

/* Returns whether anything was changed. */
static bool damage(struct fuzz_in *in, struct file *f)
{
    unsigned n = fuzz_u8(in) % 8, how;
    bool changed = false;

    while (n-- && f->len) {
        size_t at = fuzz_u16(in) % f->len;
        uint8_t bits = fuzz_u8(in);

        f->bytes[at] ^= bits;
        changed |= bits != 0;
    }
    how = fuzz_u8(in);
    if (changed && (how & 3))
        toc_repair(f->bytes, f->len, FORMAT_PAGE, segment_id, how & 3);
    return changed;
}

/* Reads on in a file that has `len` bytes for now. */
static int look(struct toc_cursor *c, const struct file *f, size_t len, size_t window,
                const struct toc_sink *sink)
{
    for (;;) {
        size_t at = (size_t)(c->position - FORMAT_PAGE), n = len - at < window ? len - at : window;
        uint64_t before = c->position;
        uint8_t *piece = fuzz_copy(f->bytes + at, n);
        int end = toc_parse(c, piece, n, at + n == len, sink);

        free(piece);
        FUZZ_CHECK(end >= 0 && c->position - FORMAT_PAGE <= len);
        if (end != TOC_MORE)
            return end;
        FUZZ_CHECK(at + n < len && c->position > before);
    }
}

static void follow_check(struct fuzz_in *in, const struct file *f, const struct toc_log *whole)
{
    struct toc_log found = {0};
    struct toc_sink sink = toc_log_sink(&found);
    struct toc_cursor c;
    size_t len = 0;
    int end;

    toc_cursor_init(&c, segment_id);
    do {
        size_t window = 8192 + 16 * fuzz_u8(in);

        len += in->left ? fuzz_u16(in) : f->len;
        len = len < f->len ? len : f->len;
        end = look(&c, f, len, window, &sink);
    } while (len < f->len);
    toc_log_take_cursor(&found, &c, end);
    toc_logs_equal(&found, whole);
    /* A window of zeros ends a look, whatever comes behind them. */
    FUZZ_CHECK(end == whole->end || (end == TOC_END && whole->end == TOC_TORN));
    toc_log_free(&found);
}

static void whole_check(const struct file *f, bool damaged, struct toc_log *log)
{
    struct toc_sink sink = toc_log_sink(log);
    struct toc_log reference = {0};
    struct toc_cursor c;
    int end;

    toc_cursor_init(&c, segment_id);
    end = toc_parse(&c, f->bytes, f->len, true, &sink);
    toc_log_take_cursor(log, &c, end);
    toc_reference(f->bytes, f->len, FORMAT_PAGE, 0, segment_id, &reference);
    toc_logs_equal(log, &reference);
    FUZZ_CHECK(log->end == reference.end);
    toc_log_free(&reference);
    if (damaged)
        return;
    FUZZ_CHECK(end == TOC_END && c.position == f->w.position && c.number == f->w.number);
    FUZZ_CHECK(log->count == f->written.count);
    if (log->count)
        FUZZ_CHECK(memcmp(log->at, f->written.at, log->count * sizeof *log->at) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned batches = 1 + fuzz_u8(&in) % 12;
    struct file f = {.bytes = malloc(FILE_MAX)};
    struct fuzz_in looks = fuzz_part(&in, fuzz_u8(&in));
    struct toc_log whole = {0};
    bool damaged;

    toc_writer_init(&f.w, segment_id);
    damaged = fuzz_u8(&in) & 1;
    {
        struct fuzz_in hits = fuzz_part(&in, damaged ? 32 : 0);

        while (batches-- && batch_write(&in, &f))
            ;
        damaged = damaged && damage(&hits, &f);
    }
    whole_check(&f, damaged, &whole);
    follow_check(&looks, &f, &whole);
    toc_log_free(&whole);
    toc_log_free(&f.written);
    free(f.bytes);
    return 0;
}
