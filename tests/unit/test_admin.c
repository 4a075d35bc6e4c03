/*
 * test_admin.c - the operator's functions where the command's tests do not come: blocks larger than
 * a read, contents longer than a batch, callbacks that have had enough, wrong arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/container.h"
#include "admin/survey.h"
#include "cistern_admin.h"
#include "../harness/store.h"

enum {
    BIG = (5 << 19) + 123,
    BLOCKS = 9
}; /* 2.5 MiB and a bit: parts begin and end inside reads */

/* ---- A store of large blocks ---- */

struct big {
    struct store s;
    struct cistern_admin a;
};

static int transfer(cistern *c, uint64_t number, bool put, uint8_t *bytes)
{
    cistern_key key;
    struct cistern_vec vec = {bytes, BIG};
    struct cistern_span span = {&vec, 1};
    uint8_t result = 0;
    struct cistern_event ev;
    struct cistern_request r = {.size = sizeof r,
                                .keys = &key,
                                .spans = &span,
                                .results = &result,
                                .blocks = 1,
                                .timeout_ms = 60000};

    store_key(&key, number);
    if (put) {
        store_fill(bytes, BIG, number);
        assert_int_equal(cistern_put_sync(c, &r, &ev), 0);
    } else {
        memset(bytes, 0, BIG);
        assert_int_equal(cistern_get_sync(c, &r, &ev), 0);
    }
    return result;
}

static void setup(struct big *b)
{
    uint8_t *bytes = malloc(BIG);
    uint64_t i;
    cistern *c;

    assert_non_null(bytes);
    store_init(&b->s);
    b->s.parts[0].bytes = BIG;
    b->s.o.root = "r";
    b->s.o.read_iov_bytes = b->s.o.write_iov_bytes = 32u << 20;
    b->s.o.depth = 4;
    b->s.o.read_timeout_ms = b->s.o.write_timeout_ms = 30000;
    b->a = (struct cistern_admin){.size = sizeof b->a, .store = &b->s.o, .silence_ms = 1};
    assert_int_equal(cistern_open(&b->s.o, &c), 0);
    for (i = 0; i < BLOCKS; i++)
        assert_int_equal(transfer(c, i, true, bytes), CISTERN_STORED);
    assert_int_equal(cistern_close(c), 0);
    free(bytes);
}

static void cleanup(struct big *b)
{
    store_rmdir(&b->s);
}

struct seen {
    uint64_t bad, ends, offset;
    uint32_t state;
    char path[512];
    int answer;
};

static int on_verify(void *arg, const struct cistern_verify_item *it)
{
    struct seen *s = arg;

    if (it->segment_done) {
        s->ends++;
    } else {
        s->bad++;
        s->state = it->state;
        s->offset = it->offset;
    }
    (void)snprintf(s->path, sizeof s->path, "%s", it->path);
    return s->answer;
}

static void spoil(const struct big *b, const char *path, off_t at)
{
    char full[1024];
    uint8_t byte;
    int fd;

    (void)snprintf(full, sizeof full, "%s/%s", b->s.dir, path);
    fd = open(full, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void test_verify_of_blocks_larger_than_a_read(void **state)
{
    struct cistern_verify_sum sum = {.size = sizeof sum};
    struct seen seen = {0};
    struct big b;

    (void)state;
    setup(&b);
    assert_int_equal(cistern_verify(&b.a, on_verify, &seen, &sum), 0);
    assert_int_equal(sum.blocks, BLOCKS);
    assert_int_equal(sum.bytes, (uint64_t)BLOCKS * BIG);
    assert_int_equal(seen.bad, 0);
    /* The last byte of the second block, and nothing else. */
    spoil(&b, seen.path, (BIG + 4095) / 4096 * 4096 + BIG - 1);
    assert_int_equal(cistern_verify(&b.a, on_verify, &seen, &sum), 0);
    assert_int_equal(sum.bad_blocks, 1);
    assert_int_equal(seen.bad, 1);
    assert_int_equal(seen.state, CISTERN_BLOCK_CHECKSUM);
    assert_int_equal(seen.offset, (BIG + 4095) / 4096 * 4096);
    cleanup(&b);
}

/* ---- There and back ---- */

struct stream {
    uint8_t *bytes;
    size_t len, room, at;
    size_t step; /* most that one read gives */
};

static int stream_write(void *arg, const void *data, size_t len)
{
    struct stream *s = arg;

    if (s->len + len > s->room) {
        s->room = 2 * (s->len + len);
        s->bytes = realloc(s->bytes, s->room);
        assert_non_null(s->bytes);
    }
    memcpy(s->bytes + s->len, data, len);
    s->len += len;
    return 0;
}

static int64_t stream_read(void *arg, void *buf, size_t len)
{
    struct stream *s = arg;

    if (len > s->len - s->at)
        len = s->len - s->at;
    if (len > s->step)
        len = s->step;
    memcpy(buf, s->bytes + s->at, len);
    s->at += len;
    return (int64_t)len;
}

static void test_large_blocks_travel_in_small_reads(void **state)
{
    struct cistern_transfer_sum sum = {.size = sizeof sum};
    struct stream stream = {.step = 4093};
    uint8_t *bytes = malloc(BIG), *want = malloc(BIG);
    struct big b;
    cistern *c;
    uint64_t i;

    (void)state;
    assert_non_null(bytes);
    assert_non_null(want);
    setup(&b);
    b.a.flags = CISTERN_ADMIN_SALT;
    assert_int_equal(cistern_export(&b.a, stream_write, &stream, &sum), 0);
    assert_int_equal(sum.blocks, BLOCKS);
    b.s.o.root = "other";
    assert_int_equal(cistern_import(&b.a, stream_read, &stream, &sum), 0);
    assert_int_equal(sum.blocks, BLOCKS);
    assert_int_equal(sum.bytes, (uint64_t)BLOCKS * BIG);
    b.s.o.flags = CISTERN_OPEN_READ_ONLY;
    assert_int_equal(cistern_open(&b.s.o, &c), 0);
    for (i = 0; i < BLOCKS; i++) {
        assert_int_equal(transfer(c, i, false, bytes), CISTERN_HIT);
        store_fill(want, BIG, i);
        assert_memory_equal(bytes, want, BIG);
    }
    assert_int_equal(cistern_close(c), 0);
    free(stream.bytes);
    free(bytes);
    free(want);
    cleanup(&b);
}

/* A read that fails: its error comes back, and nothing of the import stays. */
static int64_t failing_read(void *arg, void *buf, size_t len)
{
    struct stream *s = arg;

    return s->at > s->len / 2 ? -ENXIO : stream_read(arg, buf, len);
}

static int on_other(void *arg, const struct cistern_item *it)
{
    if (it->kind == CISTERN_ITEM_SPACE)
        ++*(int *)arg;
    return 0;
}

static void test_an_import_whose_source_fails(void **state)
{
    struct stream stream = {.step = 1 << 20};
    struct big b;
    int spaces = 0;

    (void)state;
    setup(&b);
    b.a.flags = CISTERN_ADMIN_SALT;
    assert_int_equal(cistern_export(&b.a, stream_write, &stream, NULL), 0);
    b.s.o.root = "other";
    assert_int_equal(cistern_import(&b.a, failing_read, &stream, NULL), -ENXIO);
    assert_int_equal(cistern_scan(&b.s.o, CISTERN_ITEM_SPACE, on_other, &spaces), 0);
    assert_int_equal(spaces, 0);
    free(stream.bytes);
    cleanup(&b);
}

/* ---- Callbacks and arguments ---- */

static int no_more(void *arg, const void *data, size_t len)
{
    (void)data;
    *(size_t *)arg += len;
    return 77;
}

static int stop_now(void *arg, const struct cistern_progress *p)
{
    (void)p;
    ++*(int *)arg;
    return 55;
}

static void test_a_callback_that_has_had_enough(void **state)
{
    struct seen seen = {.answer = 42};
    size_t written = 0;
    struct big b;
    int calls = 0;

    (void)state;
    setup(&b);
    assert_int_equal(cistern_verify(&b.a, on_verify, &seen, NULL), 42);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(cistern_export(&b.a, no_more, &written, NULL), 77);
    assert_true(written > 0 && written <= 128);
    seen = (struct seen){0};
    b.a.progress = stop_now;
    b.a.progress_arg = &calls;
    assert_int_equal(cistern_verify(&b.a, on_verify, &seen, NULL), 55);
    assert_int_equal(calls, 1);
    cleanup(&b);
}

static int on_finding(void *arg, const struct cistern_finding *f)
{
    (void)f;
    ++*(int *)arg;
    return 0;
}

static int on_removal(void *arg, const struct cistern_removal *r)
{
    (void)arg;
    (void)r;
    return 0;
}

static int on_explained(void *arg, const struct cistern_explanation *e)
{
    (void)arg;
    (void)e;
    return 0;
}

static void test_arguments(void **state)
{
    struct cistern_options o = {.size = sizeof o, .mount = "/nonexistent", .provider = "local"};
    struct cistern_admin a = {.size = sizeof a, .store = &o}, none = {.size = sizeof none};
    struct cistern_fsck_sum unsized = {0};
    struct cistern_wipe old_tenant = {
        .size = sizeof old_tenant, .tenant = "x", .tenant_len = 1, .older_than_s = 60};
    struct cistern_explain e = {.size = sizeof e};
    struct cistern_check one;
    int n = 0;

    (void)state;
    assert_int_equal(cistern_fsck(&a, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_fsck(NULL, on_finding, &n, NULL), -EINVAL);
    assert_int_equal(cistern_fsck(&none, on_finding, &n, NULL), -EINVAL);
    assert_int_equal(cistern_fsck(&a, on_finding, &n, &unsized), -EINVAL);
    assert_int_equal(cistern_fsck(&a, on_finding, &n, NULL), CISTERN_EMOUNT);
    assert_int_equal(cistern_verify(&a, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_gc(&a, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_wipe(&a, NULL, on_removal, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_wipe(&a, &old_tenant, on_removal, NULL, NULL), -EINVAL);
    assert_non_null(strstr(cistern_error_text(), "a tenant and an age"));
    assert_int_equal(cistern_export(&a, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_import(&a, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(cistern_explain(&a, &e, on_explained, NULL), -EINVAL);
    assert_int_equal(n, 0);
    assert_true(cistern_fsck_checks(NULL, 0) > 30);
    assert_int_equal(cistern_fsck_checks(&one, 1), cistern_fsck_checks(NULL, 0));
    assert_string_equal(one.id, "CF001");
}

/* ---- Contents in memory ---- */

static void block_make(uint32_t i, struct block_info *b)
{
    unsigned p, parts = i % 3 == 0 ? 6 : 1; /* records of 1 and of 3: frames end early, pages too */

    *b = (struct block_info){.offset = 8 * i, .depth = i, .parts = (uint8_t)parts};
    b->mask = (uint16_t)((1u << parts) - 1);
    store_fill(b->key, sizeof b->key, i);
    for (p = 0; p < parts; p++) {
        b->length[p] = 100 + p;
        b->check[p] = (uint64_t)i << 8 | p;
    }
}

static int on_back(void *arg, const struct block_info *b)
{
    uint32_t *next = arg;
    struct block_info want;

    block_make(*next, &want);
    assert_memory_equal(b->key, want.key, 32);
    assert_int_equal(b->offset, want.offset);
    assert_int_equal(b->parts, want.parts);
    assert_memory_equal(b->check, want.check, want.parts * sizeof want.check[0]);
    ++*next;
    return 0;
}

static void test_contents_longer_than_a_batch(void **state)
{
    struct toc_header h = {.shards = 1, .segment_id = {1, 2, 3}}, again;
    const uint32_t count = 20000;
    struct contents_out out;
    struct toc_cursor cursor;
    struct block_info b;
    uint32_t i, next = 0;
    struct toc_sink sink = {.block = on_back, .arg = &next};

    (void)state;
    assert_int_equal(contents_out_begin(&out, &h, NULL), 0);
    for (i = 0; i < count; i++) {
        block_make(i, &b);
        assert_int_equal(contents_out_block(&out, &b), 0);
    }
    assert_int_equal(contents_out_end(&out), 0);
    assert_true(out.len > (size_t)count * 64);
    assert_int_equal(toc_header_decode(out.bytes, &again), 0);
    toc_cursor_init(&cursor, again.segment_id);
    assert_int_equal(
        toc_parse(&cursor, out.bytes + FORMAT_PAGE, out.len - FORMAT_PAGE, true, &sink), TOC_END);
    assert_int_equal(next, count);
    assert_int_equal(cursor.position, out.len);
    contents_out_free(&out);
}

static void test_headers_of_an_export(void **state)
{
    struct container_header h = {.flags = CONTAINER_SALT, .salt = {9}, .created_s = 5}, back;
    struct member_header m = {.magic = MEMBER_MAGIC,
                              .kind = 3,
                              .number = 7,
                              .length = 9,
                              .checksum = 11},
                         same;
    uint8_t bytes[128];
    size_t i;

    (void)state;
    container_header_encode(&h, bytes);
    assert_int_equal(container_header_decode(bytes, &back), 0);
    assert_int_equal(back.flags, CONTAINER_SALT);
    assert_memory_equal(back.salt, h.salt, 32);
    for (i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 4;
        assert_int_equal(container_header_decode(bytes, &back), -EBADMSG);
        bytes[i] ^= 4;
    }
    h.flags = 8;
    container_header_encode(&h, bytes);
    assert_int_equal(container_header_decode(bytes, &back), CISTERN_EFORMAT);
    member_header_encode(&m, bytes);
    member_header_decode(bytes, &same);
    assert_memory_equal(&m, &same, sizeof m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify_of_blocks_larger_than_a_read),
        cmocka_unit_test(test_large_blocks_travel_in_small_reads),
        cmocka_unit_test(test_an_import_whose_source_fails),
        cmocka_unit_test(test_a_callback_that_has_had_enough),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_contents_longer_than_a_batch),
        cmocka_unit_test(test_headers_of_an_export),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
