/*
 * test_bad_blocks.c - copies that are not what was stored: each is tried once, a segment that has
 * several of them is left alone, here, by others, and after a restart.
 */
#include "slow_store.h"

#include <fcntl.h>
#include <glob.h>

#include "engine/engine.h"

/* Flips a byte of each of the blocks [from, from + n), wherever they lie. */
static void spoil(struct fixture *f, uint32_t from, uint32_t n)
{
    uint32_t i;

    for (i = from; i < from + n; i++) {
        struct index_place p;
        char pattern[600];
        uint8_t byte;
        glob_t g;
        int fd;

        assert_true(index_find(f->c->index, &f->keys[i], &p));
        (void)snprintf(pattern, sizeof pattern, "%s/rtp_llm/*/s0of1/%016llx-%08llx.seg", f->s.dir,
                       (unsigned long long)f->c->segs.at[p.segment].writer,
                       (unsigned long long)f->c->segs.at[p.segment].seq);
        assert_int_equal(glob(pattern, 0, NULL, &g), 0);
        fd = open(g.gl_pathv[0], O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, (off_t)p.info.offset * 4096 + 7), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)p.info.offset * 4096 + 7), 1);
        assert_int_equal(fsync(fd), 0);
        (void)close(fd);
        globfree(&g);
    }
}

static uint32_t present(cistern *c, const struct fixture *f, uint32_t n)
{
    uint16_t masks[2 * N];
    uint32_t i, count = 0;

    assert_int_equal(cistern_exists(c, f->keys, n, masks), 0);
    for (i = 0; i < n; i++)
        count += masks[i] != 0;
    return count;
}

/* The note alone. */
static void a_note_is_for_one_copy_and_for_a_while(void **state)
{
    static struct negative n;
    cistern_key a, b;

    (void)state;
    store_key(&a, 1);
    store_key(&b, 2);
    assert_false(negative_holds(&n, &a, 3, 4));
    negative_add(&n, &a, 3, 4, UINT64_MAX);
    assert_true(negative_holds(&n, &a, 3, 4));
    assert_false(negative_holds(&n, &a, 3, 5));
    assert_false(negative_holds(&n, &a, 4, 4));
    assert_false(negative_holds(&n, &b, 3, 4));
    negative_add(&n, &a, 3, 4, 1);
    assert_false(negative_holds(&n, &a, 3, 4));
}

/* Contents that are read again bring a bad copy back: it is not read again. */
static void a_bad_copy_that_comes_back_is_not_tried(void **state)
{
    struct fixture *f = *state;
    struct index_place p;
    uint64_t reads;

    spoil(f, 2, 1);
    assert_true(index_find(f->c->index, &f->keys[2], &p));
    get(f, 2, 1, 0);
    all_are(f, 2, 1, CISTERN_MISS);
    assert_int_equal(metric(f, "bad_checksum_blocks"), 1);
    assert_int_equal(index_insert(f->c->index, p.segment, &p.info), 0);
    reads = (uint64_t)atomic_load(&f->slow->reads);
    get(f, 2, 1, 0);
    all_are(f, 2, 1, CISTERN_MISS);
    assert_int_equal(atomic_load(&f->slow->reads), reads);
    assert_int_equal(metric(f, "bad_checksum_blocks"), 1);
    assert_int_equal(metric(f, "negative_blocks"), 1);
    assert_int_equal(present(f->c, f, N), N - 1);
    put_is(f, 2, 1, CISTERN_STORED); /* a new copy is another matter */
    get_hits(f, 0, N);
}

static void after_a_while_it_is_tried_again(void **state)
{
    struct fixture *f = *state;
    struct index_place p;

    f->s.o.negative_ms = 1;
    reopen(f);
    spoil(f, 2, 1);
    assert_true(index_find(f->c->index, &f->keys[2], &p));
    get(f, 2, 1, 0);
    assert_int_equal(index_insert(f->c->index, p.segment, &p.info), 0);
    (void)usleep(20 * 1000);
    get(f, 2, 1, 0);
    all_are(f, 2, 1, CISTERN_MISS);
    assert_int_equal(metric(f, "bad_checksum_blocks"), 2);
    assert_int_equal(metric(f, "negative_blocks"), 0);
}

static void several_bad_blocks_set_their_segment_aside(void **state)
{
    struct fixture *f = *state;
    struct cistern_options o = f->s.o;
    cistern *other;

    f->s.o.aside_failures = 3;
    reopen(f);
    o.flags = CISTERN_OPEN_READ_ONLY;
    assert_int_equal(cistern_open(&o, &other), 0);
    assert_int_equal(present(other, f, N), N);
    spoil(f, 1, 2);
    get(f, 0, N, 0);
    assert_int_equal(f->ev.hits, N - 2);
    assert_int_equal(metric(f, "segments_aside"), 0);
    assert_int_equal(present(f->c, f, N), N - 2);
    spoil(f, 5, 1);
    get(f, 5, 1, 0);
    all_are(f, 5, 1, CISTERN_MISS);
    assert_int_equal(metric(f, "segments_aside"), 1);
    assert_int_equal(present(f->c, f, N), 0);
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_MISS);
    /* The others hear of it, and so does who opens later. */
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    assert_int_equal(cistern_refresh(other, SOON_MS), 0);
    assert_int_equal(present(other, f, N), 0);
    assert_int_equal(cistern_close(other), 0);
    reopen(f);
    assert_int_equal(present(f->c, f, N), 0);
    put_is(f, 0, N, CISTERN_STORED);
    get_hits(f, 0, N);
}

/* The segment that is being written: the next blocks go to another one. */
static void the_segment_in_use_is_set_aside(void **state)
{
    struct fixture *f = *state;

    f->s.o.aside_failures = 2;
    reopen(f);
    put_is(f, N, N, CISTERN_STORED);
    spoil(f, N, 2);
    get(f, N, N, 0);
    assert_int_equal(metric(f, "segments_aside"), 1);
    assert_int_equal(present(f->c, f, 2 * N), N);
    put_is(f, N, N, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

#define TEST(name, set) cmocka_unit_test_setup_teardown(name, set, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_note_is_for_one_copy_and_for_a_while),
        TEST(a_bad_copy_that_comes_back_is_not_tried, setup_filled),
        TEST(after_a_while_it_is_tried_again, setup_filled),
        TEST(several_bad_blocks_set_their_segment_aside, setup_filled),
        TEST(the_segment_in_use_is_set_aside, setup_filled),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
