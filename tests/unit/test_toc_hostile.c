/*
 * test_toc_hostile.c - seeded damage of good contents, and bytes that were made to hurt.
 *
 * Whatever the bytes: the parse ends, stays inside its buffer (each buffer is exactly as large as
 * what it holds, for the sanitizers to see), and gives a prefix of what was written. CISTERN_SEED
 * repeats a run.
 */
#include "toc_fixture.h"

#include <stdio.h>

#include "base/bits.h"

#define CASES 20000

static struct seen seen;
static uint64_t seed0;

static int prepare(void **state)
{
    const char *s = getenv("CISTERN_SEED");

    (void)state;
    seed0 = s ? strtoull(s, NULL, 0) : 20240607;
    print_message("CISTERN_SEED=%llu\n", (unsigned long long)seed0);
    return 0;
}

/* Feeds bytes as from a file, in random pieces, until an end. */
static int parse_pieces(const uint8_t *bytes, size_t len, uint64_t *seed, struct toc_cursor *c)
{
    struct toc_sink sink = seen_sink(&seen);
    int end, rounds = 0;

    toc_cursor_init(c, segment_a);
    do {
        size_t from = (size_t)(c->position - FORMAT_PAGE);
        size_t left = len - from;
        size_t n = 8192 + below(seed, 40000);
        uint8_t *piece;

        if (n > left)
            n = left;
        piece = malloc(n ? n : 1);
        assert_non_null(piece);
        memcpy(piece, bytes + from, n);
        end = toc_parse(c, piece, n, n == left, &sink);
        free(piece);
        assert_true(c->position >= FORMAT_PAGE && c->position - FORMAT_PAGE <= len);
        assert_true(++rounds < 200);
    } while (end == TOC_MORE);
    return end;
}

enum damage { FLIP, ZERO, GARBAGE, CUT, COPY, SWAP, EXTEND, DAMAGES };

/* Damages bytes[0..*len), of which room is FILE_BYTES; returns the first byte touched. */
static size_t damage(uint8_t *bytes, size_t *len, uint64_t *seed, unsigned kind)
{
    size_t at = below(seed, *len), n = 1 + below(seed, 6000), from, i;

    if (n > *len - at)
        n = *len - at;
    switch (kind) {
    case FLIP:
        bytes[at] = (uint8_t)(bytes[at] ^ 1u << below(seed, 8));
        return at;
    case ZERO:
        memset(bytes + at, 0, n);
        return at;
    case GARBAGE:
        for (i = 0; i < n; i++)
            bytes[at + i] = (uint8_t)next_random(seed);
        return at;
    case CUT:
        *len = at;
        return at;
    case COPY:
        from = below(seed, *len - n + 1);
        memmove(bytes + at, bytes + from, n);
        return at;
    case SWAP: { /* two pages */
        size_t pages = *len / FORMAT_PAGE, a = below(seed, pages), b = below(seed, pages);
        uint8_t page[FORMAT_PAGE];

        memcpy(page, bytes + a * FORMAT_PAGE, FORMAT_PAGE);
        memcpy(bytes + a * FORMAT_PAGE, bytes + b * FORMAT_PAGE, FORMAT_PAGE);
        memcpy(bytes + b * FORMAT_PAGE, page, FORMAT_PAGE);
        return (a < b ? a : b) * FORMAT_PAGE;
    }
    default: /* EXTEND */
        for (i = 0; i < n; i++)
            bytes[*len + i] = (uint8_t)next_random(seed);
        *len += n;
        return *len - n;
    }
}

static void test_damage_never_gives_what_was_not_written(void **state)
{
    struct toc_file *f = file_new();
    uint8_t *bytes = malloc(FILE_BYTES + 8192);
    size_t ends[TOC_LATER + 1] = {0}, shorter = 0;
    uint64_t seed = seed0;
    unsigned i;

    (void)state;
    assert_non_null(bytes);
    file_fill(f, 700, &seed);
    for (i = 0; i < CASES; i++) {
        size_t len = (size_t)(f->writer.position - FORMAT_PAGE), touched;
        struct toc_cursor c;
        int end;

        memcpy(bytes, f->bytes + FORMAT_PAGE, len);
        touched = damage(bytes, &len, &seed, i % DAMAGES);
        end = parse_pieces(bytes, len, &seed, &c);
        assert_in_range(end, TOC_END, TOC_LATER);
        ends[end]++;
        if (!seen_prefix(&seen, f))
            fail_msg("case %u gave a block that was not written", i);
        /* padding before a damaged page is not passed: up to a page less */
        if (c.position <= round_down(touched, FORMAT_PAGE) && c.position < len)
            fail_msg("case %u ended at %llu, before the damage at %zu", i,
                     (unsigned long long)c.position, touched + FORMAT_PAGE);
        shorter += seen.n < f->blocks;
    }
    /* the damage did damage, and did not make frames of a later version */
    assert_true(ends[TOC_TORN] > CASES / 2);
    assert_true(shorter > CASES / 2);
    assert_int_equal(ends[TOC_LATER], 0);
    free(bytes);
    file_free(f);
}

/* What a block_info may hold when it reaches the sink. */
static int check_block(void *arg, const struct block_info *b)
{
    size_t *n = arg;
    unsigned i;

    assert_in_range(b->parts, 1, FORMAT_MAX_PARTS);
    assert_int_equal(__builtin_popcount(b->mask), b->parts);
    for (i = 0; i < b->parts; i++)
        assert_in_range(b->length[i], 1, 1u << 30);
    (*n)++;
    return 0;
}

/* Frames whose checksum is good and whose records are anything. */
static void test_sealed_garbage_is_consistent_or_torn(void **state)
{
    uint64_t seed = seed0 + 1;
    size_t given = 0, torn = 0;
    unsigned i;

    (void)state;
    for (i = 0; i < CASES; i++) {
        struct toc_sink sink = {.block = check_block, .arg = &given};
        unsigned most = i % 2 ? FORMAT_FRAME_RECORDS : 4;
        unsigned records = 1 + (unsigned)below(&seed, most), k;
        size_t len = (size_t)FORMAT_RECORD * (1 + records);
        struct frame_header h = {.magic = FORMAT_FRAME_MAGIC,
                                 .records = (uint16_t)records,
                                 .position = FORMAT_PAGE,
                                 .data_end = next_random(&seed) >> below(&seed, 40)};
        uint8_t *bytes = malloc(len);
        struct toc_cursor c;
        int end;

        assert_non_null(bytes);
        memcpy(h.segment_id, segment_a, 16);
        memcpy(bytes, &h, sizeof h);
        for (k = FORMAT_RECORD; k < len; k++)
            bytes[k] = (uint8_t)next_random(&seed);
        for (k = 1; k <= records; k++) { /* likely enough to come far */
            uint8_t *r = bytes + (size_t)FORMAT_RECORD * k;

            unsigned parts = 1 + (unsigned)below(&seed, 3);

            r[offsetof(struct block_record, kind)] = (uint8_t)below(&seed, i % 3 ? 2 : 6);
            r[offsetof(struct block_record, parts)] = (uint8_t)parts;
            le16_store(r + offsetof(struct block_record, mask), (uint16_t)((1u << parts) - 1));
            le32_store(r + offsetof(struct block_record, length), (uint32_t)below(&seed, 1u << 30));
        }
        frame_reseal(bytes, 0);
        toc_cursor_init(&c, segment_a);
        end = toc_parse(&c, bytes, len, true, &sink);
        assert_true(end == TOC_END || end == TOC_TORN);
        torn += end == TOC_TORN;
        free(bytes);
    }
    assert_true(given > 100 && torn > 100);
}

static void test_noise_is_torn(void **state)
{
    uint64_t seed = seed0 + 2;
    unsigned i;

    (void)state;
    for (i = 0; i < 2000; i++) {
        size_t len = 1 + below(&seed, 20000), k;
        uint8_t *bytes = malloc(len);
        struct toc_sink sink = seen_sink(&seen);
        struct toc_cursor c;

        assert_non_null(bytes);
        for (k = 0; k < len; k++)
            bytes[k] = (uint8_t)next_random(&seed);
        bytes[0] |= 1;
        if (len >= 8 && i % 2) {
            le32_store(bytes, FORMAT_FRAME_MAGIC);
            le16_store(bytes + 4, (uint16_t)below(&seed, 70));
        }
        toc_cursor_init(&c, segment_a);
        assert_int_equal(toc_parse(&c, bytes, len, true, &sink), TOC_TORN);
        assert_int_equal(c.position, FORMAT_PAGE);
        assert_int_equal(seen.n + seen.dead + seen.asides, 0);
        free(bytes);
    }
}

/* Every bit of a small file, one at a time. */
static void test_every_flipped_bit(void **state)
{
    struct toc_file *f = file_new();
    uint64_t seed = seed0 + 3;
    size_t len, bit;

    (void)state;
    file_fill(f, 12, &seed);
    len = (size_t)(f->writer.position - FORMAT_PAGE);
    for (bit = 0; bit < len * 8; bit++) {
        struct toc_sink sink = seen_sink(&seen);
        uint8_t *p = f->bytes + FORMAT_PAGE + bit / 8;
        struct toc_cursor c;

        *p = (uint8_t)(*p ^ 1u << bit % 8);
        toc_cursor_init(&c, segment_a);
        assert_int_equal(toc_parse(&c, f->bytes + FORMAT_PAGE, len, true, &sink), TOC_TORN);
        assert_true(seen.n < f->blocks);
        assert_true(seen_prefix(&seen, f));
        *p = (uint8_t)(*p ^ 1u << bit % 8);
    }
    file_free(f);
}

/* Headers and heads: every flipped bit of what counts is noticed, noise never decodes. */
static void test_flipped_headers_and_heads_do_not_decode(void **state)
{
    static _Alignas(64) uint8_t page[FORMAT_PAGE];
    const struct toc_header header = {
        .writer = 5, .shards = 2, .shard = 1, .segment_bytes = 1 << 26};
    const struct head_record head = {.state = HEAD_LIVE, .shards = 1, .next_seq = 3, .host = "h"};
    struct toc_header h;
    struct head_record r;
    size_t bit;

    (void)state;
    toc_header_encode(&header, page);
    for (bit = 0; bit < sizeof page * 8; bit += bit < 2048 ? 1 : 13) {
        page[bit / 8] = (uint8_t)(page[bit / 8] ^ 1u << bit % 8);
        assert_true(toc_header_decode(page, &h) < 0);
        page[bit / 8] = (uint8_t)(page[bit / 8] ^ 1u << bit % 8);
    }
    assert_int_equal(toc_header_decode(page, &h), 0);
    head_encode(&head, NULL, 0, page);
    for (bit = 0; bit < sizeof page * 8; bit += bit < 2048 ? 1 : 13) {
        page[bit / 8] = (uint8_t)(page[bit / 8] ^ 1u << bit % 8);
        assert_true(head_decode(page, &r) < 0);
        page[bit / 8] = (uint8_t)(page[bit / 8] ^ 1u << bit % 8);
    }
    assert_int_equal(head_decode(page, &r), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage_never_gives_what_was_not_written),
        cmocka_unit_test(test_sealed_garbage_is_consistent_or_torn),
        cmocka_unit_test(test_noise_is_torn),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_flipped_headers_and_heads_do_not_decode),
    };

    return cmocka_run_group_tests(tests, prepare, NULL);
}
