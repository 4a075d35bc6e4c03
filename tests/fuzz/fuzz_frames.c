/*
 * fuzz_frames.c - frames and their records, as one run of bytes behind the header page.
 *
 * Input: one byte of how (toc_repair(); 4: the bytes stand elsewhere in the file), then the bytes.
 * Promises: the library's reader and the one of toc_reference.c find the same; no more records are
 * given than there are bytes for; what was found is found again after it was written again.
 */
#include "toc_reference.h"

#include "base/le.h"

#define INPUT_MAX (64u << 10)

static const uint8_t segment_id[16] = "segment sixteen";

static void rewrite_batch(struct toc_batch *b, const struct toc_log *log, size_t *next)
{
    int rc = 0;

    while (!rc && *next < log->count) {
        const struct toc_event *e = &log->at[*next];

        if (e->kind == RECORD_BLOCK)
            rc = toc_batch_block(b, &e->block);
        else if (e->kind == RECORD_DEAD)
            rc = toc_batch_dead(b, e->block.key, e->segment_id, e->block.offset, e->reason);
        else
            rc = toc_batch_aside(b, e->segment_id, e->reason);
        if (!rc)
            ++*next;
    }
    FUZZ_CHECK(*next == log->count || b->used > 0); /* an empty batch has room for any one */
}

/* Writes all that was found and reads it again. */
static void rewrite_check(const struct toc_log *log)
{
    size_t room = 8192 + 128 * 8 * log->count, len = 0, next = 0;
    uint8_t *file = calloc(1, room);
    struct toc_log again = {0};
    struct toc_sink sink = toc_log_sink(&again);
    struct toc_cursor c;
    struct toc_writer w;
    struct toc_batch b;

    toc_writer_init(&w, segment_id);
    while (next < log->count) {
        toc_batch_begin(&b, &w, file + len, 8192);
        rewrite_batch(&b, log, &next);
        toc_batch_end(&b, log->data_end, 12);
        FUZZ_CHECK(b.used <= 8192 && w.position == b.start + b.used);
        len += b.used;
        FUZZ_CHECK(len + 8192 <= room);
    }
    toc_cursor_init(&c, segment_id);
    FUZZ_CHECK(toc_parse(&c, file, len, true, &sink) == TOC_END);
    FUZZ_CHECK(c.position == FORMAT_PAGE + len && c.number == w.number);
    FUZZ_CHECK(again.count == log->count);
    if (log->count)
        FUZZ_CHECK(memcmp(again.at, log->at, log->count * sizeof *log->at) == 0);
    toc_log_free(&again);
    free(file);
}

static void frames_check(const uint8_t *bytes, size_t len, uint64_t position, uint64_t number)
{
    struct toc_log found = {0}, reference = {0};
    struct toc_sink sink = toc_log_sink(&found);
    struct toc_cursor c;
    int end;

    toc_cursor_init(&c, segment_id);
    c.position = position;
    c.number = number;
    end = toc_parse(&c, bytes, len, true, &sink);
    FUZZ_CHECK(end == TOC_END || end == TOC_TORN || end == TOC_LATER);
    toc_log_take_cursor(&found, &c, end);
    FUZZ_CHECK(c.position >= position && c.position - position <= len);
    FUZZ_CHECK(found.count <= len / FORMAT_RECORD);
    FUZZ_CHECK(c.blocks + c.dead <= found.count);
    toc_reference(bytes, len, position, number, segment_id, &reference);
    toc_logs_equal(&found, &reference);
    FUZZ_CHECK(found.end == reference.end);
    rewrite_check(&found);
    toc_log_free(&found);
    toc_log_free(&reference);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size < INPUT_MAX ? size : INPUT_MAX};
    unsigned how = fuzz_u8(&in);
    uint64_t position = FORMAT_PAGE;
    uint8_t *bytes;

    if (how & 4)
        position += (uint64_t)FORMAT_RECORD * fuzz_u16(&in);
    bytes = fuzz_copy(in.at, in.left);
    if (how & 3)
        toc_repair(bytes, in.left, position, segment_id, how);
    frames_check(bytes, in.left, position, 0);
    free(bytes);
    return 0;
}
