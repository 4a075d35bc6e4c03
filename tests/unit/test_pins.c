/*
 * test_pins.c - pins on real files: pinned blocks outlive every eviction, of their own shard by
 * being copied, of other shards and spaces by being left alone.
 *
 * Segments are of 1 MiB, blocks of 64 KiB, 16 of them in a segment; pins are written as bytes, as
 * an operator's tool does.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "cistern_admin.h"
#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/writer_internal.h"
#include "evict_fixture.h"
#include "segment/pin.h"

enum { QUIET_MS = 400, CAPACITY = 16 };

static uint64_t disk_bytes(const struct fixture *f)
{
    char path[512];
    uint64_t bytes = 0;
    struct stat st;
    glob_t g;
    size_t i;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/*", f->s.dir);
    if (glob(path, 0, NULL, &g) != 0)
        return 0;
    for (i = 0; i < g.gl_pathc; i++)
        bytes += stat(g.gl_pathv[i], &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    globfree(&g);
    return bytes;
}

static int setup(void **state)
{
    *state = fixture_new(CAPACITY * SEGMENT, QUIET_MS);
    return 0;
}

/* ---- Pins ---- */

static void pin_path(const struct fixture *f, const char *space, uint64_t id, char out[512])
{
    char pattern[512], name[PIN_NAME_MAX];
    glob_t g;

    (void)snprintf(pattern, sizeof pattern, "%s/rtp_llm/%s-*", f->s.dir, space);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    pin_name(name, id);
    (void)snprintf(out, 512, "%s/%s", g.gl_pathv[0], name);
    globfree(&g);
}

/* Whole or not at all: somebody may be looking. */
static void write_file(const struct fixture *f, const char *path, const void *bytes, size_t len)
{
    char temporary[300];
    int fd;

    (void)snprintf(temporary, sizeof temporary, "%s/pin", f->s.dir);
    fd = open(temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    assert_int_equal(close(fd), 0);
    assert_int_equal(rename(temporary, path), 0);
}

/* Keys from, from + step, ... below to. */
static void pin_until(const struct fixture *f, const char *space, uint64_t id, uint32_t from,
                      uint32_t to, uint32_t step, uint64_t expires_s)
{
    static uint8_t keys[MANY][32], bytes[sizeof(struct pin_header) + MANY * 32];
    struct pin_record p = {.expires_s = expires_s, .label = "test", .keys = keys[0]};
    char path[512];
    uint32_t i;

    for (i = from; i < to; i += step)
        memcpy(keys[p.nkeys++], f->keys[i].b, 32);
    pin_encode(&p, bytes);
    pin_path(f, space, id, path);
    write_file(f, path, bytes, sizeof(struct pin_header) + p.nkeys * 32);
}

static void pin(const struct fixture *f, uint64_t id, uint32_t from, uint32_t to, uint32_t step)
{
    pin_until(f, "space", id, from, to, step, 0);
}

static void unpin(const struct fixture *f, const char *space, uint64_t id)
{
    char path[512];

    pin_path(f, space, id, path);
    assert_int_equal(unlink(path), 0);
}

static void put_range(struct fixture *f, uint32_t from, uint32_t to)
{
    uint32_t i;

    for (i = from; i < to; i += BATCH) {
        put_all(f, i, BATCH);
        assert_true(disk_bytes(f) <= (CAPACITY + 2) * SEGMENT);
    }
}

static uint32_t hits_of(struct fixture *f, uint32_t from, uint32_t to, uint32_t step)
{
    uint32_t i, hits = 0;

    for (i = from; i < to; i += step)
        hits += get_one(f, i);
    return hits;
}

/* All of them are hits. */
static void assert_kept(struct fixture *f, uint32_t from, uint32_t to, uint32_t step)
{
    static const char *const names[] = {
        "evicted_segments",    "carried_blocks",    "pin_kept_segments", "pinned_keys",
        "bad_checksum_blocks", "bad_length_blocks", "writer_fences",     "breaker_open",
        "get_error_blocks",    "segments_gone"};
    uint32_t want = (to - from + step - 1) / step, got = hits_of(f, from, to, step);
    size_t i;

    for (i = 0; got != want && i < sizeof names / sizeof *names; i++)
        print_message("%s %llu\n", names[i], (unsigned long long)metric_of(f->c, names[i]));
    assert_int_equal(got, want);
}

/* ---- Bytes and names ---- */

static void bytes_of_a_pin(void **state)
{
    uint8_t keys[3][32], bytes[sizeof(struct pin_header) + sizeof keys], copy[sizeof bytes];
    struct pin_record p = {.created_s = 5,
                           .expires_s = 9,
                           .bytes = 77,
                           .nkeys = 3,
                           .keys = keys[0]},
                      got, untouched = {.nkeys = 99};
    size_t i, n;

    (void)state;
    memset(p.space, 7, sizeof p.space);
    memset(keys, 0x5a, sizeof keys);
    memset(p.label, 'x', sizeof p.label); /* cut to what fits with a zero behind it */
    pin_encode(&p, bytes);
    assert_int_equal(pin_decode(bytes, sizeof bytes, &got), 0);
    assert_int_equal(got.nkeys, 3);
    assert_int_equal(got.created_s, 5);
    assert_int_equal(got.expires_s, 9);
    assert_int_equal(got.bytes, 77);
    assert_int_equal(strlen(got.label), PIN_LABEL - 1);
    assert_memory_equal(got.space, p.space, 32);
    assert_memory_equal(got.keys, keys, sizeof keys);
    assert_true(pin_holds(&got, 8));
    assert_false(pin_holds(&got, 9));
    for (i = 0; i < sizeof bytes; i++) {
        memcpy(copy, bytes, sizeof copy);
        copy[i] ^= 1;
        got = untouched;
        assert_true(pin_decode(copy, sizeof copy, &got) < 0);
        assert_int_equal(got.nkeys, 99);
    }
    for (n = 0; n < sizeof bytes; n++)
        assert_true(pin_decode(bytes, n, &got) < 0);
}

static void names_of_pins(void **state)
{
    static const char *const bad[] = {"",
                                      "0000000000000001",
                                      "000000000000001.pin",
                                      "00000000000000001.pin",
                                      "000000000000000A.pin",
                                      "0000000000000001.pin2",
                                      "0000000000000001-00000001.toc",
                                      "space.json"};
    char name[PIN_NAME_MAX];
    uint64_t id = 0;
    size_t i;

    (void)state;
    pin_name(name, 0xabcdef);
    assert_string_equal(name, "0000000000abcdef.pin");
    assert_true(pin_name_parse(name, &id));
    assert_int_equal(id, 0xabcdef);
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(pin_name_parse(bad[i], &id));
}

/* ---- Our own shard ---- */

static void pinned_blocks_outlive_everything(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_range(f, 0, 32);
    pin(f, 1, 0, 20, 1);
    put_range(f, 32, 768);
    assert_true(metric_of(f->c, "evicted_segments") > 20);
    assert_int_equal(metric_of(f->c, "pinned_keys"), 20);
    assert_true(metric_of(f->c, "pin_kept_segments") > 0);
    assert_kept(f, 0, 20, 1);
    assert_false(get_one(f, 40));
    /* Another process, later. */
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    put_range(f, 768, MANY);
    assert_kept(f, 0, 20, 1);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

/* What the pin is good for. Copies may still lie in a segment that grows: 16 of them. */
static void without_a_pin_they_go(void **state)
{
    struct fixture *f = *state;
    uint16_t masks[48];
    uint32_t i, kept = 0;

    open_store(f);
    put_range(f, 0, 64);
    pin(f, 1, 0, 48, 1);
    put_range(f, 64, 512); /* no reads: what was used is carried over without a pin */
    assert_int_equal(cistern_exists(f->c, f->keys, 48, masks), 0);
    for (i = 0; i < 48; i++)
        kept += masks[i];
    assert_int_equal(kept, 48);
    unpin(f, "space", 1);
    put_range(f, 512, MANY);
    assert_in_range(hits_of(f, 0, 48, 1), 0, 16);
    WAIT_FOR(metric_of(f->c, "pinned_keys") == 0);
}

/* The operator's functions on a store that lives. */
static void pins_of_the_tool_hold(void **state)
{
    struct fixture *f = *state;
    struct cistern_prefix prefix = {.size = sizeof prefix, .keys = f->keys, .nkeys = 20};
    struct cistern_pin_new how = {.size = sizeof how, .label = "tool"};
    struct cistern_pin_sum sum = {.size = sizeof sum};
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o};

    open_store(f);
    put_range(f, 0, 16);
    assert_int_equal(cistern_pin_add(&a, &prefix, &how, &sum), 0);
    assert_int_equal(sum.missing, 4); /* kept as well, once they are there */
    assert_int_equal(sum.bytes, 20 * STORE_BLOCK);
    assert_int_equal(sum.most_bytes, CAPACITY / 2 * SEGMENT);
    put_range(f, 16, 512);
    assert_kept(f, 0, 20, 1);
    prefix.nkeys = 128 - 20 + 1;
    assert_int_equal(cistern_pin_add(&a, &prefix, &how, &sum), -EDQUOT);
    prefix.nkeys--;
    how.label = "more";
    assert_int_equal(cistern_pin_add(&a, &prefix, &how, &sum), 0);
    assert_int_equal(cistern_pin_remove(&a, "tool", NULL, NULL), 1);
    assert_int_equal(cistern_pin_remove(&a, "tool", NULL, NULL), 0);
    assert_int_equal(cistern_pin_remove(&a, sum.id, NULL, NULL), 1);
    WAIT_FOR(metric_of(f->c, "pinned_keys") == 0);
}

static void a_pin_expires(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_range(f, 0, 32);
    pin_until(f, "space", 1, 0, 20, 1, clock_wall_s() + 3600);
    pin_until(f, "space", 2, 20, 28, 1, clock_wall_s() - 1);
    put_range(f, 32, MANY);
    assert_int_equal(metric_of(f->c, "pinned_keys"), 20);
    assert_kept(f, 0, 20, 1);
    assert_int_equal(hits_of(f, 20, 28, 1), 0);
}

/* One pinned block in every segment that there is: all victims have to wait, and none for ever. */
static void pins_everywhere_do_not_stop_puts(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_range(f, 0, 192);
    pin(f, 1, 3, 192, 16);
    put_range(f, 192, 896);
    assert_kept(f, 3, 192, 16);
    assert_true(get_one(f, 895));
    WAIT_FOR(disk_bytes(f) <= CAPACITY * SEGMENT);
}

/* The room is full, and every segment that is there is of an earlier process and has its pin. */
static void a_full_store_with_pins_is_opened(void **state)
{
    struct fixture *f = *state;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    put_range(f, 0, 256);
    pin(f, 1, 3, 256, 16);
    assert_int_equal(cistern_set_capacity(f->c, 16 * SEGMENT), 0);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    put_range(f, 256, 512);
    assert_kept(f, 3, 256, 16);
    assert_kept(f, 508, 512, 1);
}

static void deleted_blocks_are_not_kept(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_range(f, 0, 32);
    pin(f, 1, 0, 8, 1);
    assert_int_equal(cistern_delete(f->c, f->keys, 4), 4);
    put_range(f, 32, 512);
    assert_int_equal(hits_of(f, 0, 4, 1), 0);
    assert_kept(f, 4, 8, 1);
}

static struct fixture *_Atomic deleting; /* by the hook, which main() sets */
static _Atomic int64_t deleted;

/* The copy of pinned block 3 was laid out, and is about to be named: the index has the old one. */
static void delete_copied(const char *name)
{
    struct fixture *f = deleting;
    const struct wgroup *g;
    uint32_t i;

    if (!f || strcmp(name, "put.payload_written") != 0)
        return;
    for (g = f->c->writer->order; g && deleting; g = g->link) {
        for (i = g->settled; i < g->count && deleting; i++) {
            if (!g->blocks[i].carried ||
                memcmp(g->blocks[i].info.key, f->keys[3].b, sizeof f->keys[3].b) != 0)
                continue;
            deleted = cistern_delete(f->c, &f->keys[3], 1);
            deleting = NULL;
        }
    }
}

static void what_is_deleted_while_it_is_copied_stays_away(void **state)
{
    struct fixture *f = *state;

    deleted = -1;
    open_store(f);
    put_range(f, 0, 32);
    pin(f, 1, 0, 8, 1);
    deleting = f;
    put_range(f, 32, 512);
    assert_int_equal(deleted, 1);
    assert_kept(f, 0, 3, 1);
    assert_kept(f, 4, 8, 1);
    assert_false(get_one(f, 3));
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    assert_false(get_one(f, 3));
    assert_kept(f, 4, 8, 1);
}

/* Writers that come and go, one after the other: each keeps what the ones before had copied. */
static void every_next_writer_keeps_them(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    put_range(f, 0, 32);
    pin(f, 1, 0, 20, 1);
    for (i = 32; i < 512; i += 48) {
        put_range(f, i, i + 48);
        assert_int_equal(cistern_close(f->c), 0);
        open_store(f);
        assert_kept(f, 0, 20, 1);
    }
}

/* ---- Others ---- */

/* Shard 1 has 96 blocks, 16 of them pinned; shard 0 is next. */
static void pins_of_another_shard(struct fixture *f)
{
    f->s.space.shards = 2;
    f->s.o.shard = 1;
    open_store(f);
    put_range(f, 0, 96);
    pin(f, 1, 0, 16, 1);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.shard = 0;
}

/* Nobody of shard 1 lives: its segment with pinned blocks stays, the others go. */
static void pinned_blocks_of_a_dead_shard_stay(void **state)
{
    struct fixture *f = *state;

    pins_of_another_shard(f);
    open_store(f);
    put_range(f, 0, 512);
    assert_true(metric_of(f->c, "pin_kept_segments") > 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.shard = 1;
    open_store(f);
    assert_kept(f, 0, 16, 1);
    assert_int_equal(hits_of(f, 64, 80, 1), 0);
}

static void pinned_blocks_of_another_space_stay(void **state)
{
    struct fixture *f = *state;

    f->s.space.name = "old";
    open_store(f);
    put_range(f, 0, 96);
    pin_until(f, "old", 1, 0, 16, 1, 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.space.name = "new";
    open_store(f);
    put_range(f, 0, 512);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.space.name = "old";
    open_store(f);
    assert_kept(f, 0, 16, 1);
    assert_int_equal(hits_of(f, 64, 80, 1), 0);
}

/* ---- What is wrong with a pin ---- */

static void a_damaged_pin_keeps_nothing_and_stops_nothing(void **state)
{
    struct fixture *f = *state;
    char path[512];

    open_store(f);
    put_range(f, 0, 32);
    pin(f, 1, 0, 16, 1);
    pin_path(f, "space", 2, path);
    write_file(f, path, "not a pin", 9);
    pin_path(f, "space", 3, path);
    write_file(f, path, "", 0);
    put_range(f, 32, 512);
    assert_int_equal(metric_of(f->c, "pinned_keys"), 16);
    assert_kept(f, 0, 16, 1);
}

static int64_t (*real_small_read)(struct io *, const char *, void *, size_t);
static _Atomic uint32_t refused;

static int64_t refuse_pins(struct io *io, const char *path, void *buf, size_t size)
{
    size_t len = strlen(path);

    if (len > 4 && strcmp(path + len - 4, ".pin") == 0) {
        refused++;
        return -EIO;
    }
    return real_small_read(io, path, buf, size);
}

/* Nothing is decided while a pin cannot be read; but not for ever. */
static void a_pin_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    const struct io_ops *was;

    open_store(f);
    put_range(f, 0, 128);
    was = f->c->io->ops;
    f->ops = *was;
    real_small_read = was->small_read;
    f->ops.small_read = refuse_pins;
    f->c->io->ops = &f->ops;
    pin(f, 1, 0, 16, 1);
    WAIT_FOR(refused >= 3);
    put_range(f, 128, 640); /* goes on without it */
    f->c->io->ops = was;
    WAIT_FOR(metric_of(f->c, "pinned_keys") == 16);
}

static int64_t refuse_contents(struct io *io, const char *path, void *buf, size_t size)
{
    size_t len = strlen(path);

    if (len > 4 && strcmp(path + len - 4, ".toc") == 0 && strstr(path, "/s1of2/")) {
        refused++;
        return -EIO;
    }
    return real_small_read(io, path, buf, size);
}

/* Contents of another shard that cannot be read may name pinned blocks: all of them stay. */
static void contents_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;

    pins_of_another_shard(f);
    refused = 0;
    open_store(f);
    f->ops = *f->c->io->ops;
    real_small_read = f->ops.small_read;
    f->ops.small_read = refuse_contents;
    f->c->io->ops = &f->ops;
    put_range(f, 0, 512);
    assert_true(refused > 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.shard = 1;
    open_store(f);
    assert_kept(f, 0, 96, 1);
}

static int (*real_list)(struct io *, const char *, int (*)(void *, const char *), void *);

/* The second of the two listings of a look is that for the pins. */
static int refuse_second(struct io *io, const char *path, int (*visit)(void *, const char *),
                         void *arg)
{
    static uint32_t calls;

    if (strstr(path, "/space-") && !strstr(path, "/s0of1") && refused < 2 && ++calls % 2 == 0) {
        refused++;
        return -EIO;
    }
    return real_list(io, path, visit, arg);
}

static void a_directory_that_cannot_be_listed(void **state)
{
    struct fixture *f = *state;

    refused = 0;
    open_store(f);
    put_range(f, 0, 128);
    f->ops = *f->c->io->ops;
    real_list = f->ops.list;
    f->ops.list = refuse_second;
    f->c->io->ops = &f->ops;
    pin(f, 1, 0, 16, 1);
    put_range(f, 128, 640);
    assert_int_equal(refused, 2);
    assert_int_equal(metric_of(f->c, "pinned_keys"), 16);
    assert_kept(f, 0, 16, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_a_pin),
        cmocka_unit_test(names_of_pins),
        TEST(pinned_blocks_outlive_everything),
        TEST(without_a_pin_they_go),
        TEST(pins_of_the_tool_hold),
        TEST(a_pin_expires),
        TEST(pins_everywhere_do_not_stop_puts),
        TEST(a_full_store_with_pins_is_opened),
        TEST(deleted_blocks_are_not_kept),
        TEST(what_is_deleted_while_it_is_copied_stays_away),
        TEST(every_next_writer_keeps_them),
        TEST(pinned_blocks_of_a_dead_shard_stay),
        TEST(pinned_blocks_of_another_space_stay),
        TEST(a_damaged_pin_keeps_nothing_and_stops_nothing),
        TEST(a_pin_that_cannot_be_read),
        TEST(contents_that_cannot_be_read),
        TEST(a_directory_that_cannot_be_listed),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    fault_hook = delete_copied;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
