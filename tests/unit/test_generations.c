/*
 * test_generations.c - the second growing segment of a handle: what is carried over goes to old
 * segments, under a name and a head of their own, which every evictor can tell from the young ones,
 * also after a restart.
 */
#include <dirent.h>
#include <fcntl.h>

#include "engine/writer_internal.h"
#include "evict_fixture.h"

enum { QUIET_MS = 2000, HEADS_MAX = 16 };

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, QUIET_MS);
    return 0;
}

static void shard_dir(const struct fixture *f, char out[900])
{
    (void)snprintf(out, 900, "%s/%s", f->s.dir, f->c->shard_path);
}

/* The heads that are there and valid. */
static size_t heads_read(const char *dir, struct head_record *heads)
{
    static uint8_t page[FORMAT_PAGE];
    uint64_t writer, seq;
    struct dirent *e;
    size_t n = 0;
    DIR *d = opendir(dir);

    assert_non_null(d);
    while ((e = readdir(d)) && n < HEADS_MAX) {
        int fd;

        if (segment_name_parse(e->d_name, &writer, &seq) != SEGMENT_FILE_HEAD)
            continue;
        fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (read(fd, page, sizeof page) == FORMAT_PAGE && head_decode(page, &heads[n]) == 0)
            n++;
        assert_int_equal(close(fd), 0);
    }
    assert_int_equal(closedir(d), 0);
    return n;
}

static const struct head_record *head_of(const struct head_record *heads, size_t n, uint64_t writer)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (heads[i].writer == writer)
            return &heads[i];
    }
    return NULL;
}

/* Fills the store several times and reads one block of every fourth segment now and then. */
static void carry_some(struct fixture *f)
{
    uint32_t i, j;

    for (i = 0; i < MANY && !writer_old(f->c->writer)->published_next; i += BATCH) {
        put_all(f, i, BATCH);
        for (j = 3; i % 64 == 0 && j < 256 && j < i; j += 64)
            (void)get_one(f, j);
    }
    assert_true(metric_of(f->c, "carried_blocks") > 0);
}

static void nothing_old_is_made_before_it_is_needed(void **state)
{
    struct fixture *f = *state;
    struct head_record heads[HEADS_MAX];
    char dir[900];
    uint32_t i;

    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    shard_dir(f, dir);
    WAIT_FOR(heads_read(dir, heads) == 1);
    assert_int_equal(heads[0].writer, writer_id(f->c, POLICY_YOUNG));
    assert_int_equal(heads[0].generation, POLICY_YOUNG);
    assert_int_equal(writer_old(f->c->writer)->seq, 0);
}

static void what_is_carried_lies_in_old_segments(void **state)
{
    struct fixture *f = *state;
    struct head_record heads[HEADS_MAX];
    const struct head_record *young, *old;
    struct index_place place;
    uint64_t young_id, old_id;
    uint32_t i, in_old = 0;
    size_t n;
    char dir[900];

    open_store(f);
    carry_some(f);
    young_id = writer_id(f->c, POLICY_YOUNG);
    old_id = writer_id(f->c, POLICY_OLD);
    assert_true(young_id != old_id);
    for (i = 0; i < MANY; i++) {
        if (!index_find(f->c->index, &f->keys[i], &place))
            continue;
        in_old += f->c->segs.at[place.segment].writer == old_id;
    }
    assert_true(in_old > 0);
    shard_dir(f, dir);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    n = heads_read(dir, heads);
    young = head_of(heads, n, young_id);
    old = head_of(heads, n, old_id);
    assert_non_null(young);
    assert_non_null(old);
    assert_int_equal(young->state, HEAD_CLOSED);
    assert_int_equal(old->state, HEAD_CLOSED);
    assert_int_equal(young->generation, POLICY_YOUNG);
    assert_int_equal(old->generation, POLICY_OLD);
    assert_true(old->next_seq > 0);
    open_store(f); /* and what is in them is found and verified */
    for (i = 0, n = 0; i < MANY; i++) {
        if (!index_find(f->c->index, &f->keys[i], &place) ||
            f->c->segs.at[place.segment].writer != old_id)
            continue;
        assert_false(writer_is_own(f->c, old_id));
        n += get_one(f, i);
    }
    assert_true(n > 0);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

/* Both names are given up when one of the heads could not be written for too long. */
static void a_fence_takes_both_names(void **state)
{
    struct fixture *f = *state;
    uint64_t young_id, old_id;

    open_store(f);
    carry_some(f);
    young_id = writer_id(f->c, POLICY_YOUNG);
    old_id = writer_id(f->c, POLICY_OLD);
    WAIT_FOR(writer_old(f->c->writer)->fence_ns != 0);
    writer_old(f->c->writer)->fence_ns = 1; /* as if the last head were as old as the boot */
    WAIT_FOR(metric_of(f->c, "writer_fences") == 1 && writer_id(f->c, POLICY_YOUNG) != young_id &&
             writer_id(f->c, POLICY_OLD) != old_id);
    put_all(f, 0, BATCH);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_old_is_made_before_it_is_needed),
        TEST(what_is_carried_lies_in_old_segments),
        TEST(a_fence_takes_both_names),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
