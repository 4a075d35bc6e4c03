/* test_head.c - the head of a writer and the header page of contents, as bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/le.h"
#include "cistern.h"
#include "segment/toc.h"

static _Alignas(64) uint8_t page[FORMAT_PAGE];

static void reseal(size_t field)
{
    le64_store(page + field, 0);
    le64_store(page + field, hash64(page, sizeof page));
}
#define RESEAL_HEAD()   reseal(offsetof(struct head_record, checksum))
#define RESEAL_HEADER() reseal(offsetof(struct toc_header, checksum))

static struct head_record head_make(void)
{
    struct head_record h = {.state = HEAD_LIVE,
                            .writer = 0x1122334455667788,
                            .counter = 9,
                            .shard = 3,
                            .shards = 8,
                            .first_seq = 2,
                            .next_seq = 5,
                            .published = 8192,
                            .written_s = 1700000001,
                            .pid = 4711,
                            .health = 6,
                            .generation = 1,
                            .host = "node-17"};

    memset(h.space, 0x5a, sizeof h.space);
    return h;
}

static struct toc_header header_make(void)
{
    struct toc_header h = {.writer = 0x1122334455667788,
                           .seq = 4,
                           .shard = 3,
                           .shards = 8,
                           .created_s = 1700000002,
                           .segment_bytes = 1ull << 28};

    memset(h.space, 0x5a, sizeof h.space);
    memset(h.segment_id, 0xa5, sizeof h.segment_id);
    return h;
}

static void test_head_round_trips(void **state)
{
    const struct head_record h = head_make();
    uint32_t touches[HEAD_TOUCHES_MAX + 8], back[HEAD_TOUCHES_MAX + 8];
    struct head_record out;
    size_t i;

    (void)state;
    for (i = 0; i < HEAD_TOUCHES_MAX + 8; i++)
        touches[i] = (uint32_t)i * 3 + 1;
    memset(page, 0xee, sizeof page);
    head_encode(&h, touches, HEAD_TOUCHES_MAX + 8, page);
    assert_int_equal(head_decode(page, &out), 0);
    assert_int_equal(out.magic, FORMAT_HEAD_MAGIC);
    assert_int_equal(out.version, FORMAT_VERSION);
    assert_int_equal(out.state, HEAD_LIVE);
    assert_memory_equal(out.space, h.space, 32);
    assert_int_equal(out.writer, h.writer);
    assert_int_equal(out.counter, 9);
    assert_int_equal(out.shard, 3);
    assert_int_equal(out.shards, 8);
    assert_int_equal(out.first_seq, 2);
    assert_int_equal(out.next_seq, 5);
    assert_int_equal(out.published, 8192);
    assert_int_equal(out.written_s, 1700000001);
    assert_int_equal(out.pid, 4711);
    assert_int_equal(out.health, 6);
    assert_int_equal(out.generation, 1);
    assert_string_equal(out.host, "node-17");
    head_touches(page, back, HEAD_TOUCHES_MAX + 8);
    assert_memory_equal(back, touches, 4 * HEAD_TOUCHES_MAX);
    for (i = HEAD_TOUCHES_MAX; i < HEAD_TOUCHES_MAX + 8; i++)
        assert_int_equal(back[i], 0);
}

static void test_head_has_the_documented_bytes(void **state)
{
    const struct head_record h = head_make();
    const uint32_t touches[2] = {77, 78};
    uint64_t sum;

    (void)state;
    head_encode(&h, touches, 2, page);
    assert_memory_equal(page, "CISTNHD1", 8);
    assert_int_equal(le32_load(page + 8), 1);
    assert_int_equal(le32_load(page + 12), HEAD_LIVE);
    assert_int_equal(le64_load(page + 48), h.writer);
    assert_int_equal(le64_load(page + 56), 9);
    assert_int_equal(le32_load(page + 64), 3);
    assert_int_equal(le32_load(page + 68), 8);
    assert_int_equal(le64_load(page + 72), 2);
    assert_int_equal(le64_load(page + 80), 5);
    assert_int_equal(le64_load(page + 88), 8192);
    assert_int_equal(le64_load(page + 96), 1700000001);
    assert_int_equal(le32_load(page + 104), 4711);
    assert_int_equal(le32_load(page + 108), 6);
    assert_string_equal((char *)page + 112, "node-17");
    assert_int_equal(le32_load(page + 256), 77);
    assert_int_equal(le32_load(page + 260), 78);
    assert_int_equal(le32_load(page + 264), 0);
    sum = le64_load(page + 176);
    le64_store(page + 176, 0);
    assert_int_equal(sum, hash64(page, sizeof page));
}

static void test_long_host_is_cut(void **state)
{
    struct head_record h = head_make(), out;

    (void)state;
    memset(h.host, 'x', sizeof h.host);
    head_encode(&h, NULL, 0, page);
    assert_int_equal(head_decode(page, &out), 0);
    assert_int_equal(strlen(out.host), 63);
}

static void test_bad_heads_are_refused(void **state)
{
    struct head_record h, out, untouched;

    (void)state;
    memset(&out, 0x77, sizeof out);
    untouched = out;
    memset(page, 0, sizeof page);
    assert_int_equal(head_decode(page, &out), -EBADMSG);
    RESEAL_HEAD(); /* a good checksum is not enough */
    assert_int_equal(head_decode(page, &out), -EBADMSG);
#define REFUSED(change)                                                                            \
    h = head_make(), change, head_encode(&h, NULL, 0, page);                                       \
    assert_int_equal(head_decode(page, &out), -EBADMSG)
    REFUSED(h.state = 0);
    REFUSED(h.state = 3);
    REFUSED(h.shards = 0);
    REFUSED(h.shard = 8);
    REFUSED(h.shards = 257);
    REFUSED(h.first_seq = 6);
    REFUSED(h.next_seq = (1ull << 32) + 1);
#undef REFUSED
    h = head_make();
    head_encode(&h, NULL, 0, page);
    memset(page + 112, 'x', 64);
    RESEAL_HEAD();
    assert_int_equal(head_decode(page, &out), -EBADMSG);
    head_encode(&h, NULL, 0, page);
    page[4000] = 1; /* every byte of the page counts */
    assert_int_equal(head_decode(page, &out), -EBADMSG);
    assert_memory_equal(&out, &untouched, sizeof out);
}

static void test_later_heads_are_refused_by_name(void **state)
{
    struct head_record h = head_make(), out;

    (void)state;
    head_encode(&h, NULL, 0, page);
    le32_store(page + offsetof(struct head_record, version), 2);
    assert_int_equal(head_decode(page, &out), -EBADMSG);
    RESEAL_HEAD();
    assert_int_equal(head_decode(page, &out), CISTERN_EFORMAT);
    assert_non_null(strstr(err_text(), "version 2"));
}

static void test_header_round_trips(void **state)
{
    const struct toc_header h = header_make();
    struct toc_header out;
    uint64_t sum;

    (void)state;
    memset(page, 0xee, sizeof page);
    toc_header_encode(&h, page);
    assert_int_equal(toc_header_decode(page, &out), 0);
    assert_memory_equal(out.space, h.space, 32);
    assert_memory_equal(out.segment_id, h.segment_id, 16);
    assert_int_equal(out.writer, h.writer);
    assert_int_equal(out.seq, 4);
    assert_int_equal(out.shard, 3);
    assert_int_equal(out.shards, 8);
    assert_int_equal(out.created_s, 1700000002);
    assert_int_equal(out.segment_bytes, 1ull << 28);
    assert_memory_equal(page, "CSTNTOC1", 8);
    assert_int_equal(le32_load(page + 8), 1);
    assert_int_equal(le32_load(page + 12), 4096);
    assert_memory_equal(page + 16, h.space, 32);
    assert_memory_equal(page + 48, h.segment_id, 16);
    assert_int_equal(le64_load(page + 64), h.writer);
    assert_int_equal(le64_load(page + 72), 4);
    assert_int_equal(le32_load(page + 80), 3);
    assert_int_equal(le32_load(page + 84), 8);
    assert_int_equal(le64_load(page + 88), 1700000002);
    assert_int_equal(le64_load(page + 96), 1ull << 28);
    sum = le64_load(page + 120);
    le64_store(page + 120, 0);
    assert_int_equal(sum, hash64(page, sizeof page));
}

static void test_bad_headers_are_refused(void **state)
{
    struct toc_header h, out;

    (void)state;
    memset(page, 0, sizeof page);
    assert_int_equal(toc_header_decode(page, &out), -EBADMSG);
#define REFUSED(change)                                                                            \
    h = header_make(), change, toc_header_encode(&h, page);                                        \
    assert_int_equal(toc_header_decode(page, &out), -EBADMSG)
    REFUSED(h.shards = 0);
    REFUSED(h.shard = 8);
    REFUSED(h.shards = 300);
    REFUSED(h.seq = 1ull << 32);
#undef REFUSED
    h = header_make();
    h.flags = 4;
    toc_header_encode(&h, page);
    assert_int_equal(toc_header_decode(page, &out), CISTERN_EFORMAT);
    assert_non_null(strstr(err_text(), "flags 0x4"));
    h.flags = 0;
    toc_header_encode(&h, page);
    le32_store(page + offsetof(struct toc_header, version), 7);
    RESEAL_HEADER();
    assert_int_equal(toc_header_decode(page, &out), CISTERN_EFORMAT);
    assert_non_null(strstr(err_text(), "version 7"));
    toc_header_encode(&h, page);
    le32_store(page + offsetof(struct toc_header, header_bytes), 8192);
    RESEAL_HEADER();
    assert_int_equal(toc_header_decode(page, &out), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_round_trips),
        cmocka_unit_test(test_head_has_the_documented_bytes),
        cmocka_unit_test(test_long_host_is_cut),
        cmocka_unit_test(test_bad_heads_are_refused),
        cmocka_unit_test(test_later_heads_are_refused_by_name),
        cmocka_unit_test(test_header_round_trips),
        cmocka_unit_test(test_bad_headers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
