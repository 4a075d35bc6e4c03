/* test_toc.c - frames: what is written is read, however it is cut; ends are told apart. */
#include "toc_fixture.h"

#include <errno.h>

#define FRAME_AT(field) offsetof(struct frame_header, field)
#define BLOCK_AT(field) offsetof(struct block_record, field)
#define PARTS_AT(field) offsetof(struct parts_record, field)
#define FIRST           FORMAT_PAGE /* place of the first frame */

static struct seen seen;

static int parse_all(const struct toc_file *f, struct toc_cursor *c)
{
    struct toc_sink sink = seen_sink(&seen);

    toc_cursor_init(c, segment_a);
    return toc_parse(c, f->bytes + FORMAT_PAGE, (size_t)(f->writer.position - FORMAT_PAGE), true,
                     &sink);
}

/* As parse_all, with the zeros behind the end of what was written. */
static int parse_file(const struct toc_file *f, struct toc_cursor *c)
{
    struct toc_sink sink = seen_sink(&seen);

    toc_cursor_init(c, segment_a);
    return toc_parse(c, f->bytes + FORMAT_PAGE, FILE_BYTES - FORMAT_PAGE, true, &sink);
}

static void add_blocks(struct toc_file *f, size_t n, uint16_t mask)
{
    static _Alignas(64) uint8_t buf[BATCH_BYTES];
    struct toc_batch batch;
    size_t i;

    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    for (i = 0; i < n; i++) {
        struct block_info b = block_make(f, f->blocks, mask);

        assert_int_equal(toc_batch_block(&batch, &b), 0);
        f->written[f->blocks++] = b;
    }
    toc_batch_end(&batch, f->data, 7);
    memcpy(f->bytes + batch.start, buf, batch.used);
}

static void test_every_part_count_round_trips(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;
    unsigned parts;

    (void)state;
    for (parts = 1; parts <= FORMAT_MAX_PARTS; parts++) {
        add_blocks(f, 1, (uint16_t)((1u << parts) - 1));
        add_blocks(f, 1, (uint16_t)(((1u << parts) - 1) << (FORMAT_MAX_PARTS - parts)));
    }
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 2 * FORMAT_MAX_PARTS);
    assert_true(seen_prefix(&seen, f));
    assert_int_equal(c.blocks, seen.n);
    assert_int_equal(c.position, f->writer.position);
    assert_int_equal(c.number, f->writer.number);
    assert_int_equal(c.data_end, f->data);
    file_free(f);
}

static void test_first_frame_has_the_documented_bytes(void **state)
{
    struct toc_file *f = file_new();
    const uint8_t *h = f->bytes + FIRST;

    (void)state;
    add_blocks(f, 1, 0x0024);
    assert_memory_equal(h, "CFRM", 4);
    assert_int_equal(le16_load(h + 4), 2); /* the block and one continuation */
    assert_int_equal(le16_load(h + 6), 0);
    assert_int_equal(le64_load(h + 8), 0);
    assert_int_equal(le64_load(h + 16), 4096);
    assert_memory_equal(h + 24, segment_a, 16);
    assert_int_equal(le64_load(h + 40), f->data);
    assert_int_equal(le64_load(h + 48), 7);
    assert_memory_equal(h + 64, f->written[0].key, 32);
    assert_int_equal(le64_load(h + 96), f->written[0].check[0]);
    assert_int_equal(le32_load(h + 104), 0);
    assert_int_equal(le32_load(h + 108), f->written[0].length[0]);
    assert_int_equal(h[112], 1);
    assert_int_equal(h[113], 2);
    assert_int_equal(le16_load(h + 114), 0x0024);
    assert_int_equal(le64_load(h + 128), f->written[0].check[1]);
    assert_int_equal(le32_load(h + 160), f->written[0].length[1]);
    assert_int_equal(h[176], 2);
    assert_int_equal(h[177], 1);
    assert_int_equal(f->writer.position, 4096 + 192);
    file_free(f);
}

static void test_a_page_takes_63_records(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 64, 1);
    assert_int_equal(le16_load(f->bytes + FIRST + FRAME_AT(records)), 63);
    assert_int_equal(le16_load(f->bytes + FIRST + FORMAT_PAGE + FRAME_AT(records)), 1);
    assert_int_equal(f->writer.position, FIRST + FORMAT_PAGE + 128);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 64);
    file_free(f);
}

/* 61 records leave room for two; a block of three goes to the next page, padding stays zero. */
static void test_block_that_does_not_fit_goes_to_the_next_page(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;
    size_t i, pad = FIRST + 64 + 61 * 64;

    (void)state;
    add_blocks(f, 61, 1);
    add_blocks(f, 1, 0x003f); /* in a batch of its own, which begins with the padding */
    for (i = pad; i < FIRST + FORMAT_PAGE; i++)
        assert_int_equal(f->bytes[i], 0);
    assert_memory_equal(f->bytes + FIRST + FORMAT_PAGE, "CFRM", 4);
    add_blocks(f, 60, 1);
    add_blocks(f, 2, 0xffff);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 124);
    assert_true(seen_prefix(&seen, f));
    file_free(f);
}

/* 64 bytes at the end of a page hold no frame with a record. */
static void test_a_header_alone_does_not_begin_at_the_page_end(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 62, 1);
    assert_int_equal(f->writer.position, FIRST + FORMAT_PAGE - 64);
    add_blocks(f, 1, 1);
    assert_int_equal(f->writer.position, FIRST + FORMAT_PAGE + 128);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 63);
    file_free(f);
}

static void test_any_piece_size_gives_the_same(void **state)
{
    static const size_t pieces[] = {8192, 8193, 12288, 20000, 65536, 131072};
    struct toc_file *f = file_new();
    uint64_t seed = 11;
    size_t i;

    (void)state;
    file_fill(f, 1200, &seed);
    for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct toc_sink sink = seen_sink(&seen);
        struct toc_cursor c;
        int end, rounds = 0;

        toc_cursor_init(&c, segment_a);
        do {
            size_t left = (size_t)(f->writer.position - c.position);
            size_t n = left < pieces[i] ? left : pieces[i];

            end = toc_parse(&c, f->bytes + c.position, n, n == left, &sink);
            assert_true(++rounds < 1000);
        } while (end == TOC_MORE);
        assert_int_equal(end, TOC_END);
        assert_int_equal(seen.n, f->blocks);
        assert_true(seen_prefix(&seen, f));
        assert_int_equal(c.position, f->writer.position);
    }
    file_free(f);
}

/* Every cut, then the rest: nothing twice, nothing lost. */
static void test_every_cut_can_be_resumed(void **state)
{
    struct toc_file *f = file_new();
    uint64_t seed = 12;
    size_t cut, all;

    (void)state;
    file_fill(f, 150, &seed);
    all = (size_t)(f->writer.position - FORMAT_PAGE);
    for (cut = 0; cut <= all; cut += cut < 9000 ? 7 : 61) {
        struct toc_sink sink = seen_sink(&seen);
        struct toc_cursor c;
        int end;

        toc_cursor_init(&c, segment_a);
        end = toc_parse(&c, f->bytes + FORMAT_PAGE, cut, false, &sink);
        assert_int_equal(end, TOC_MORE);
        assert_true(c.position <= FORMAT_PAGE + cut);
        end = toc_parse(&c, f->bytes + c.position, (size_t)(f->writer.position - c.position), true,
                        &sink);
        assert_int_equal(end, TOC_END);
        assert_int_equal(seen.n, f->blocks);
        assert_true(seen_prefix(&seen, f));
    }
    file_free(f);
}

/* A follower looks again and again at what is there so far. */
static void test_follower_takes_up_what_was_added(void **state)
{
    struct toc_file *f = file_new();
    struct toc_sink sink = seen_sink(&seen);
    struct toc_cursor c;
    uint64_t seed = 13;
    int i;

    (void)state;
    toc_cursor_init(&c, segment_a);
    for (i = 0; i < 100; i++) {
        file_batch(f, 1 + below(&seed, 5), &seed);
        assert_int_equal(
            toc_parse(&c, f->bytes + c.position, FILE_BYTES - (size_t)c.position, true, &sink),
            TOC_END);
        assert_int_equal(seen.n, f->blocks);
        assert_int_equal(c.position, f->writer.position);
    }
    assert_true(seen_prefix(&seen, f));
    file_free(f);
}

static void test_zeros_are_the_end_also_without_last(void **state)
{
    struct toc_file *f = file_new();
    struct toc_sink sink = seen_sink(&seen);
    struct toc_cursor c;

    (void)state;
    toc_cursor_init(&c, segment_a);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 4096, false, &sink), TOC_END);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 4095, false, &sink), TOC_MORE);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 4095, true, &sink), TOC_END);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 0, true, &sink), TOC_END);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 0, false, &sink), TOC_MORE);
    add_blocks(f, 3, 1);
    /* the rest of a page, then a page: two pages always suffice */
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 8192, false, &sink), TOC_END);
    assert_int_equal(toc_parse(&c, f->bytes + c.position, 4096, false, &sink), TOC_MORE);
    assert_int_equal(toc_parse(&c, f->bytes + c.position, 8192, false, &sink), TOC_END);
    assert_int_equal(seen.n, 3);
    file_free(f);
}

static void test_full_buffer_ends_the_batch(void **state)
{
    static _Alignas(64) uint8_t buf[8192];
    struct toc_file *f = file_new();
    struct toc_cursor c;
    size_t batches = 0;

    (void)state;
    while (f->blocks < 500) {
        struct toc_batch batch;
        int rc = 0;

        toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
        while (rc == 0 && f->blocks < 500) {
            struct block_info b = block_make(f, f->blocks, f->blocks % 3 ? 1 : 0x7fff);

            rc = toc_batch_block(&batch, &b);
            if (rc == 0)
                f->written[f->blocks++] = b;
            else
                f->data -= block_extent(&b);
        }
        assert_true(rc == 0 || rc == -ENOSPC);
        toc_batch_end(&batch, f->data, 7);
        assert_true(batch.used > 0 && batch.used <= sizeof buf);
        memcpy(f->bytes + batch.start, buf, batch.used);
        batches++;
    }
    assert_true(batches > 8);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 500);
    assert_true(seen_prefix(&seen, f));
    file_free(f);
}

static void test_undo_uses_place_and_number_again(void **state)
{
    static _Alignas(64) uint8_t buf[BATCH_BYTES];
    struct toc_file *f = file_new();
    struct toc_writer before;
    struct toc_batch batch;
    struct toc_cursor c;
    struct block_info b;
    int i;

    (void)state;
    add_blocks(f, 40, 1);
    before = f->writer;
    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    for (i = 0; i < 100; i++) {
        b = block_make(f, 999, 0xff);
        assert_int_equal(toc_batch_block(&batch, &b), 0);
    }
    toc_batch_end(&batch, f->data, 7);
    assert_true(f->writer.position > before.position && f->writer.number > before.number);
    toc_batch_undo(&batch);
    assert_int_equal(f->writer.position, before.position);
    assert_int_equal(f->writer.number, before.number);
    add_blocks(f, 40, 1);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 80);
    assert_true(seen_prefix(&seen, f));
    file_free(f);
}

static void test_empty_batch_writes_nothing(void **state)
{
    static _Alignas(64) uint8_t buf[8192];
    struct toc_writer w;
    struct toc_batch batch;

    (void)state;
    toc_writer_init(&w, segment_a);
    toc_batch_begin(&batch, &w, buf, sizeof buf);
    toc_batch_end(&batch, 0, 7);
    assert_int_equal(batch.used, 0);
    assert_int_equal(w.position, FORMAT_PAGE);
    assert_int_equal(w.number, 0);
}

static void test_blocks_that_contradict_themselves_are_not_written(void **state)
{
    static _Alignas(64) uint8_t buf[8192];
    struct toc_file *f = file_new();
    const struct block_info good = block_make(f, 1, 0x0007);
    struct block_info b;
    struct toc_batch batch;

    (void)state;
    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    b = good, b.parts = 0;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    b = good, b.parts = 17;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    b = good, b.mask = 0x000f;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    b = good, b.mask = 0, b.parts = 1;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    b = good, b.length[2] = 0;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    b = good, b.length[1] = (1u << 30) + 1;
    assert_int_equal(toc_batch_block(&batch, &b), -EINVAL);
    assert_int_equal(batch.used, 0);
    b = good, b.length[1] = 1u << 30;
    assert_int_equal(toc_batch_block(&batch, &b), 0);
    file_free(f);
}

static void test_dead_and_aside_are_given(void **state)
{
    static _Alignas(64) uint8_t buf[8192];
    static const uint8_t other[16] = "another segment";
    struct toc_file *f = file_new();
    struct toc_batch batch;
    struct toc_cursor c;
    uint8_t key[32];

    (void)state;
    memset(key, 0xab, sizeof key);
    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    assert_int_equal(toc_batch_dead(&batch, key, other, 77, DEAD_CHECKSUM), 0);
    toc_batch_end(&batch, 12345 * 4096, 7);
    memcpy(f->bytes + batch.start, buf, batch.used);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.dead, 1);
    assert_int_equal(c.dead, 1);
    assert_int_equal(c.data_end, 12345 * 4096);
    assert_memory_equal(seen.last_key, key, 32);
    assert_memory_equal(seen.last_segment, other, 16);
    assert_int_equal(seen.last_offset, 77);
    assert_int_equal(seen.last_reason, DEAD_CHECKSUM);

    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    assert_int_equal(toc_batch_aside(&batch, segment_a, DEAD_IO), 0);
    toc_batch_end(&batch, 0, 7);
    memcpy(f->bytes + batch.start, buf, batch.used);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.asides, 1);
    assert_memory_equal(seen.last_segment, segment_a, 16);
    assert_int_equal(seen.last_reason, DEAD_IO);
    file_free(f);
}

static int refuse(void *arg, const struct block_info *b)
{
    int *count = arg;

    (void)b;
    return ++*count == 5 ? -ENOSPC : 0;
}

static void test_sink_ends_the_parse(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;
    int count = 0;
    struct toc_sink sink = {.block = refuse, .arg = &count};

    (void)state;
    add_blocks(f, 3, 1);
    add_blocks(f, 3, 1);
    add_blocks(f, 3, 1);
    toc_cursor_init(&c, segment_a);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 8192, true, &sink), -ENOSPC);
    assert_int_equal(c.number, 1);
    assert_int_equal(c.position, FIRST + 256);
    assert_int_equal(c.blocks, 3);
    /* again from there: the whole frame is given once more */
    assert_int_equal(toc_parse(&c, f->bytes + c.position, 8192, true, &sink), TOC_END);
    assert_int_equal(c.blocks, 9);
    file_free(f);
}

static void test_lost_frames_are_torn_and_unwritten_ones_the_end(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;
    uint64_t end;

    (void)state;
    add_blocks(f, 10, 1);
    end = f->writer.position;
    add_blocks(f, 52, 1); /* the rest of the page but one record */
    add_blocks(f, 5, 1);  /* page 2 */
    add_blocks(f, 100, 1);
    /* the second frame was never written, later ones were */
    memset(f->bytes + end, 0, FORMAT_PAGE * 2 - (size_t)end);
    assert_int_equal(parse_file(f, &c), TOC_TORN);
    assert_int_equal(seen.n, 10);
    assert_int_equal(c.position, end);
    /* nothing behind the first was written */
    memset(f->bytes + end, 0, FILE_BYTES - (size_t)end);
    assert_int_equal(parse_file(f, &c), TOC_END);
    assert_int_equal(seen.n, 10);
    assert_int_equal(c.position, end);
    /* something far behind was */
    f->bytes[FILE_BYTES - 1] = 1;
    assert_int_equal(parse_file(f, &c), TOC_TORN);
    assert_int_equal(c.position, end);
    file_free(f);
}

static void test_a_zeroed_page_is_torn(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 63 * 4, 1);
    memset(f->bytes + FIRST + FORMAT_PAGE, 0, FORMAT_PAGE);
    assert_int_equal(parse_all(f, &c), TOC_TORN);
    assert_int_equal(seen.n, 63);
    assert_int_equal(c.position, FIRST + FORMAT_PAGE);
    file_free(f);
}

static void test_frames_of_another_segment_are_torn(void **state)
{
    static const uint8_t other[16] = "another segment";
    struct toc_file *f = file_new();
    struct toc_cursor c;
    struct toc_sink sink = seen_sink(&seen);

    (void)state;
    add_blocks(f, 10, 1);
    toc_cursor_init(&c, other);
    assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, 8192, true, &sink), TOC_TORN);
    assert_int_equal(seen.n, 0);
    file_free(f);
}

/* A whole valid page at another page's place, and the first page twice. */
static void test_a_page_at_the_wrong_place_is_torn(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 63 * 4, 1);
    memcpy(f->bytes + FIRST + FORMAT_PAGE, f->bytes + FIRST + 2 * FORMAT_PAGE, FORMAT_PAGE);
    assert_int_equal(parse_all(f, &c), TOC_TORN);
    assert_int_equal(seen.n, 63);
    memcpy(f->bytes + FIRST + FORMAT_PAGE, f->bytes + FIRST, FORMAT_PAGE);
    assert_int_equal(parse_all(f, &c), TOC_TORN);
    assert_int_equal(seen.n, 63);
    file_free(f);
}

static void test_flags_of_a_later_version_end_the_contents(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 5, 1);
    add_blocks(f, 5, 1);
    le16_store(f->bytes + FIRST + 6 * 64 + FRAME_AT(flags), 1);
    assert_int_equal(parse_all(f, &c), TOC_TORN); /* not sealed: no frame at all */
    frame_reseal(f->bytes, FIRST + 6 * 64);
    assert_int_equal(parse_all(f, &c), TOC_LATER);
    assert_int_equal(seen.n, 5);
    assert_int_equal(c.position, FIRST + 6 * 64);
    file_free(f);
}

static void test_records_of_unknown_kind_are_passed_over(void **state)
{
    struct toc_file *f = file_new();
    struct toc_cursor c;

    (void)state;
    add_blocks(f, 5, 1);
    f->bytes[FIRST + 3 * 64 + BLOCK_AT(kind)] = 200;
    frame_reseal(f->bytes, FIRST);
    assert_int_equal(parse_all(f, &c), TOC_END);
    assert_int_equal(seen.n, 4);
    assert_true(same_block(&seen.blocks[2], &f->written[3]));
    file_free(f);
}

/* One field wrong in a frame with a good checksum: torn, and nothing of the frame is given. */
struct contradiction {
    size_t at;
    uint8_t bytes[8];
    size_t len;
};

static void test_contradictions_make_a_frame_torn(void **state)
{
    enum { R = FIRST + 64 }; /* the block's first record; its continuations follow */
    static const struct contradiction cases[] = {
        {R + BLOCK_AT(kind), {RECORD_NONE}, 1},
        {R + BLOCK_AT(kind), {RECORD_PARTS}, 1},
        {R + BLOCK_AT(parts), {0}, 1},
        {R + BLOCK_AT(parts), {17}, 1},
        {R + BLOCK_AT(parts), {5}, 1},
        {R + BLOCK_AT(parts), {7}, 1},
        {R + BLOCK_AT(mask), {0xff, 0xff}, 2},
        {R + BLOCK_AT(mask), {0, 0}, 2},
        {R + BLOCK_AT(length), {0, 0, 0, 0}, 4},
        {R + BLOCK_AT(length), {1, 0, 0, 0x40}, 4},
        {R + BLOCK_AT(offset), {0xff, 0xff, 0xff, 0xff}, 4},
        {R + 64 + PARTS_AT(kind), {RECORD_NONE}, 1},
        {R + 64 + PARTS_AT(kind), {RECORD_BLOCK}, 1},
        {R + 64 + PARTS_AT(kind), {RECORD_DEAD}, 1},
        {R + 64 + PARTS_AT(kind), {200}, 1},
        {R + 64 + PARTS_AT(count), {3}, 1},
        {R + 64 + PARTS_AT(count), {5}, 1},
        {R + 128 + PARTS_AT(count), {2}, 1},
        {R + 128 + PARTS_AT(length), {0, 0, 0, 0}, 4},
        {R + 64 + PARTS_AT(length) + 12, {0xff, 0xff, 0xff, 0xff}, 4},
        {FIRST + FRAME_AT(records), {0}, 1},
        {FIRST + FRAME_AT(records), {2}, 1}, /* the last continuation is cut off */
        {FIRST + FRAME_AT(records), {64}, 1},
        {FIRST + FRAME_AT(records), {0xff, 0xff}, 2},
        {FIRST + FRAME_AT(number), {1}, 1},
        {FIRST + FRAME_AT(position), {0x40}, 1},
        {FIRST + FRAME_AT(data_end), {0, 0, 0, 0, 0, 0, 0, 0}, 8},
        {FIRST + FRAME_AT(segment_id), {'x'}, 1},
        {FIRST + FRAME_AT(magic), {'x'}, 1},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct toc_file *f = file_new();
        struct toc_cursor c;

        add_blocks(f, 1, 0x003f);
        assert_int_equal(parse_all(f, &c), TOC_END);
        memcpy(f->bytes + cases[i].at, cases[i].bytes, cases[i].len);
        if (le16_load(f->bytes + FIRST + FRAME_AT(records)) <= FORMAT_FRAME_RECORDS)
            frame_reseal(f->bytes, FIRST);
        if (parse_all(f, &c) != TOC_TORN || seen.n != 0)
            fail_msg("case %zu was taken", i);
        assert_int_equal(c.position, FIRST);
        file_free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_part_count_round_trips),
        cmocka_unit_test(test_first_frame_has_the_documented_bytes),
        cmocka_unit_test(test_a_page_takes_63_records),
        cmocka_unit_test(test_block_that_does_not_fit_goes_to_the_next_page),
        cmocka_unit_test(test_a_header_alone_does_not_begin_at_the_page_end),
        cmocka_unit_test(test_any_piece_size_gives_the_same),
        cmocka_unit_test(test_every_cut_can_be_resumed),
        cmocka_unit_test(test_follower_takes_up_what_was_added),
        cmocka_unit_test(test_zeros_are_the_end_also_without_last),
        cmocka_unit_test(test_full_buffer_ends_the_batch),
        cmocka_unit_test(test_undo_uses_place_and_number_again),
        cmocka_unit_test(test_empty_batch_writes_nothing),
        cmocka_unit_test(test_blocks_that_contradict_themselves_are_not_written),
        cmocka_unit_test(test_dead_and_aside_are_given),
        cmocka_unit_test(test_sink_ends_the_parse),
        cmocka_unit_test(test_lost_frames_are_torn_and_unwritten_ones_the_end),
        cmocka_unit_test(test_a_zeroed_page_is_torn),
        cmocka_unit_test(test_frames_of_another_segment_are_torn),
        cmocka_unit_test(test_a_page_at_the_wrong_place_is_torn),
        cmocka_unit_test(test_flags_of_a_later_version_end_the_contents),
        cmocka_unit_test(test_records_of_unknown_kind_are_passed_over),
        cmocka_unit_test(test_contradictions_make_a_frame_torn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
