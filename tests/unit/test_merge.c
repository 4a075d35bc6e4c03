/*
 * test_merge.c - a crash loop: many short lives, each of which leaves a small segment, are merged
 * by whoever lives on. No block is lost, and few files are left.
 */
#include <signal.h>
#include <sys/wait.h>

#include "engine/capacity.h"
#include "evict_fixture.h"

enum { LIVES = 50, SILENCE_MS = 1000, LONG_MS = 60000 };

static int setup(void **state)
{
    *state = fixture_new(64 * SEGMENT, SILENCE_MS);
    return 0;
}

/* Stores one block and is killed. */
static void one_life(struct fixture *f, uint32_t number)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct cistern_request r = request(f, number, 1);

        if (cistern_open(&f->s.o, &f->c))
            _exit(3);
        store_fill(f->buf[0], STORE_BLOCK, number);
        if (cistern_put_sync(f->c, &r, &f->ev) || f->ev.hits != 1)
            _exit(4);
        (void)kill(getpid(), SIGKILL);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool becomes_at_most(const struct fixture *f, const char *pattern, size_t most)
{
    uint64_t end = now_ms() + LONG_MS;

    while (count_files(f, pattern) > most && now_ms() < end)
        (void)usleep(20000);
    return count_files(f, pattern) <= most;
}

static void a_crash_loop_is_merged(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    for (i = 0; i < LIVES; i++)
        one_life(f, i);
    assert_in_range(count_files(f, "*.toc"), LIVES, 2 * LIVES);
    open_store(f);
    assert_int_equal(get_hits(f, 0, LIVES), LIVES);
    /* 50 blocks are four segments; with one being written, one ahead of it, and three that are too
     * few to be worth it. */
    assert_true(becomes_at_most(f, "*.toc", 9));
    assert_true(becomes_at_most(f, "*.seg", 9));
    assert_true(becomes_at_most(f, "*.head", 9));
    assert_true(metric_of(f->c, "merged_segments") >= LIVES - 5);
    assert_int_equal(get_hits(f, 0, LIVES), LIVES);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    assert_int_equal(get_hits(f, 0, LIVES), LIVES);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

/* Files pile up whatever an eviction keeps. */
static void a_crash_loop_is_merged_without_carrying_over(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.carry_over = -1;
    for (i = 0; i < 8; i++)
        one_life(f, i);
    open_store(f);
    WAIT_FOR(metric_of(f->c, "merged_segments") >= 4);
    assert_int_equal(get_hits(f, 0, 8), 8);
}

/* What a merged segment said of others holds on. */
static void deletions_outlive_a_merge(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    for (i = 100; i < 164; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    for (i = 0; i < 5; i++) {
        open_store(f);
        put_all(f, i * BATCH, 1);
        assert_int_equal(cistern_delete(f->c, &f->keys[100 + i], 1), 1);
        assert_int_equal(cistern_close(f->c), 0);
    }
    open_store(f);
    WAIT_FOR(metric_of(f->c, "merged_segments") >= 2);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    assert_int_equal(get_hits(f, 100, 105), 0);
    assert_int_equal(get_hits(f, 105, 164), 59);
}

/* Segments of those who live, and a few small ones, stay where they are. */
static void little_is_left_alone(void **state)
{
    struct fixture *f = *state;
    uint32_t i;
    uint64_t looks;

    for (i = 0; i < 3; i++)
        one_life(f, i);
    open_store(f);
    put_all(f, 8, BATCH);
    looks = f->c->capacity->usage.scans;
    WAIT_FOR(f->c->capacity->usage.scans > looks + 6); /* half a second each: silence is over */
    assert_int_equal(metric_of(f->c, "merged_segments"), 0);
    assert_int_equal(get_hits(f, 0, 3), 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_crash_loop_is_merged),
        TEST(a_crash_loop_is_merged_without_carrying_over),
        TEST(deletions_outlive_a_merge),
        TEST(little_is_left_alone),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
