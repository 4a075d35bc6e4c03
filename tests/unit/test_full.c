/*
 * test_full.c - a file system without room: filled by us, by a stranger, to any byte, before the
 * store was opened and while it is open; and a root that is at its capacity when it is opened.
 *
 * Each test has a small tmpfs of its own, which needs root. Puts may be dropped, gets give what was
 * stored or miss, and puts come back when room does. Nothing is judged by time.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "evict_fixture.h"

enum { QUIET_MS = 400, PAGE = 4096 };

static void reopen(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
}

static int setup(void **state)
{
    *state = fixture_new(0, QUIET_MS);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->c)
        assert_int_equal(cistern_close(f->c), 0);
    if (f->mounted)
        (void)umount2(f->s.dir, MNT_DETACH);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

static bool mount_small(struct fixture *f, const char *size)
{
    char options[64];

    if (geteuid() != 0) {
        print_message("skipped: mounting a tmpfs needs root\n");
        return false;
    }
    (void)snprintf(options, sizeof options, "size=%s", size);
    if (mount("tmpfs", f->s.dir, "tmpfs", 0, options)) {
        print_message("skipped: no tmpfs can be mounted (%s)\n", strerror(errno));
        return false;
    }
    f->mounted = true;
    return true;
}

/* Fills what is left to the last byte. */
static void fill_up(const struct fixture *f)
{
    static const char zeros[4096];
    char path[300];
    int fd;

    (void)snprintf(path, sizeof path, "%s/stranger", f->s.dir);
    fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    assert_int_equal(close(fd), 0);
}

static void remove_stranger(const struct fixture *f)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/stranger", f->s.dir);
    assert_int_equal(unlink(path), 0);
}

static void a_disk_that_we_fill_ourselves(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits;

    if (!mount_small(f, "12m"))
        skip();
    open_store(f);
    for (i = 0; i < MANY / 4; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(metric_of(f->c, "evicted_segments") > 0);
    hits = get_hits(f, 0, MANY / 4);
    assert_true(hits >= 4 * 16);
    assert_true(get_one(f, MANY / 4 - 1));
    reopen(f);
    assert_int_equal(get_hits(f, 0, MANY / 4), hits);
}

/* Nothing of ours is sealed: nothing can be evicted, so nothing is lost, and puts come back. */
static void a_disk_that_a_stranger_fills(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    if (!mount_small(f, "12m"))
        skip();
    open_store(f);
    for (i = 0; i < 8; i += BATCH)
        put_all(f, i, BATCH);
    fill_up(f);
    put_once(f, 8, BATCH);
    assert_int_equal(f->ev.hits, 0);
    put_once(f, 8, BATCH);
    assert_int_equal(f->ev.hits, 0);
    assert_true(metric_of(f->c, "put_dropped_full_blocks") > 0);
    assert_int_equal(get_hits(f, 0, 8), 8);
    remove_stranger(f);
    put_all(f, 8, BATCH);
    assert_int_equal(get_hits(f, 0, 12), 12);
    reopen(f);
    assert_int_equal(get_hits(f, 0, 12), 12);
}

/* The stranger stays: old segments make room for new ones. */
static void a_stranger_that_stays(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    if (!mount_small(f, "12m"))
        skip();
    open_store(f);
    for (i = 0; i < 80; i += BATCH)
        put_all(f, i, BATCH);
    fill_up(f);
    for (; i < 240; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(get_one(f, 239));
    assert_true(metric_of(f->c, "full_retries") + metric_of(f->c, "evicted_segments") > 0);
    assert_true(get_hits(f, 0, 240) >= 16);
}

static void starting_on_a_full_disk(void **state)
{
    struct fixture *f = *state;

    if (!mount_small(f, "12m"))
        skip();
    open_store(f);
    put_all(f, 0, BATCH);
    put_all(f, BATCH, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    fill_up(f);
    open_store(f);
    assert_int_equal(get_hits(f, 0, 2 * BATCH), 2 * BATCH);
    /* The sealed segment of the writer before may make room; what is read stays right. */
    put_once(f, 2 * BATCH, BATCH);
    (void)get_hits(f, 0, 3 * BATCH);
    remove_stranger(f);
    put_all(f, 2 * BATCH, BATCH);
    assert_int_equal(get_hits(f, 2 * BATCH, 3 * BATCH), BATCH);
}

static void a_floor_of_free_space_is_kept(void **state)
{
    struct fixture *f = *state;
    struct io_space space;
    uint32_t i;

    if (!mount_small(f, "24m"))
        skip();
    f->s.o.free_floor_bytes = 10 * SEGMENT;
    open_store(f);
    for (i = 0; i < 512; i += BATCH) {
        put_all(f, i, BATCH);
        assert_int_equal(f->c->io->ops->space(f->c->io, &space), 0);
        assert_true(space.free_bytes >= 9 * SEGMENT);
    }
    assert_true(get_one(f, 511));
}

/* Room for some pages more than nothing: a write is refused at another place each time, be it of
 * data, of contents or of the files themselves. */
static void any_last_byte(void **state)
{
    /* A block takes 16 pages, contents one or two. */
    static const uint8_t room[] = {0, 1, 2, 3, 8, 15, 16, 17, 18, 19, 20, 21};
    struct fixture *f = *state;
    uint32_t k, stored = 0, i, number = 0;
    bool was[MANY] = {false};
    char path[300];

    if (!mount_small(f, "12m"))
        skip();
    (void)snprintf(path, sizeof path, "%s/stranger", f->s.dir);
    open_store(f);
    for (k = 0; k < sizeof room; k++) {
        struct stat st;

        fill_up(f);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size - room[k] * PAGE), 0);
        for (i = 0; i < 3; i++, number++) {
            put_once(f, number, 1);
            was[number] = f->ev.hits == 1;
            stored += f->ev.hits;
        }
        for (i = 0; i < number; i++)
            assert_true(get_one(f, i) == was[i] || metric_of(f->c, "evicted_segments"));
        remove_stranger(f);
        for (i = 0; i < 2; i++, number++) { /* and room is back */
            put_all(f, number, 1);
            was[number] = true;
        }
    }
    assert_true(stored > 0 && stored < 3 * sizeof room);
    for (i = 0; i < number; i++)
        was[i] = get_one(f, i);
    reopen(f);
    for (i = 0; i < number; i++)
        assert_int_equal(get_one(f, i), was[i]);
}

/* Nothing can be made in it: an error that says so, and no harm done; later it works. */
static void a_new_store_on_a_full_disk(void **state)
{
    struct fixture *f = *state;

    if (!mount_small(f, "12m"))
        skip();
    fill_up(f);
    assert_int_equal(cistern_open(&f->s.o, &f->c), -ENOSPC);
    assert_null(f->c);
    remove_stranger(f);
    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

/* Who only reads does not notice. */
static void reading_on_a_full_disk(void **state)
{
    struct fixture *f = *state;

    if (!mount_small(f, "12m"))
        skip();
    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    fill_up(f);
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    open_store(f);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

/* A root that is at its capacity when it is opened, as far as the writers before got. */
static void starting_on_a_full_root(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.capacity_bytes = 12 * SEGMENT;
    open_store(f);
    for (i = 0; i < 320; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(metric_of(f->c, "evicted_segments") > 0);
    reopen(f);
    assert_true(get_one(f, 319));
    for (i = 320; i < 640; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(metric_of(f->c, "evicted_segments") > 0);
    assert_true(metric_of(f->c, "usage_bytes") <= 13 * SEGMENT);
    assert_true(get_one(f, 639));
    assert_true(get_hits(f, 0, 640) >= 4 * 16);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_disk_that_we_fill_ourselves), TEST(a_disk_that_a_stranger_fills),
        TEST(a_stranger_that_stays),         TEST(any_last_byte),
        TEST(starting_on_a_full_disk),       TEST(a_new_store_on_a_full_disk),
        TEST(reading_on_a_full_disk),        TEST(starting_on_a_full_root),
        TEST(a_floor_of_free_space_is_kept),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
