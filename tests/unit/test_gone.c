/*
 * test_gone.c - reads of segments that another machine evicted: a miss, forgotten, and no damage;
 * and handles that list no directories let go of evicted files all the same. And segments whose
 * data is not there (yet): what their contents say of others counts, and their blocks when it
 * comes.
 */
#include "slow_store.h"

#include <ftw.h>

#include "../harness/deleted.h"
#include "engine/engine.h"

enum { HOUR = 3600 * 1000 };

static const char *suffix;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    const char *dot = strrchr(path, '.');

    (void)st;
    (void)kind;
    (void)where;
    return dot && strcmp(dot, suffix) == 0 ? unlink(path) : 0;
}

static void remove_files(const struct fixture *f, const char *of)
{
    suffix = of;
    assert_int_equal(nftw(f->s.dir, remove_one, 16, FTW_PHYS), 0);
}

/* A handle that will not list for an hour, on the segment of an earlier one. */
static void open_quiet(struct fixture *f)
{
    f->s.o.list_ms = f->s.o.poll_ms = HOUR;
    reopen(f);
    get_hits(f, 0, N);
}

static void nothing_is_bad(struct fixture *f)
{
    assert_int_equal(metric(f, "bad_length_blocks"), 0);
    assert_int_equal(metric(f, "bad_checksum_blocks"), 0);
    assert_int_equal(metric(f, "dead_records"), 0);
}

static void falls_short_and_is_gone(void **state)
{
    struct fixture *f = *state;

    open_quiet(f);
    remove_files(f, ".toc");
    rule(&f->slow->read[SLOW_DATA], SLOW_SHORT, 0, 0, 0);
    get(f, 0, 1, 0);
    all_are(f, 0, 1, CISTERN_MISS);
    WAIT_FOR(metric(f, "segments_gone") == 1);
    all_pass(f->slow);
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_MISS); /* the index forgot it */
    nothing_is_bad(f);
    put_is(f, 0, N, CISTERN_STORED);
    get_hits(f, 0, N);
}

static void is_refused_and_gone(struct fixture *f, int error, uint8_t result)
{
    open_quiet(f);
    remove_files(f, ".toc");
    rule(&f->slow->read[SLOW_DATA], SLOW_FAIL, error, 0, 0);
    get(f, 0, 1, 0);
    all_are(f, 0, 1, result);
    WAIT_FOR(metric(f, "segments_gone") == 1);
    get(f, 1, 1, 0);
    all_are(f, 1, 1, CISTERN_MISS);
    nothing_is_bad(f);
}

static void is_stale_and_gone(void **state)
{
    is_refused_and_gone(*state, ESTALE, CISTERN_MISS);
}

static void is_not_there_and_gone(void **state)
{
    is_refused_and_gone(*state, ENOENT, CISTERN_MISS);
}

static void fails_and_is_gone(void **state)
{
    is_refused_and_gone(*state, EIO, CISTERN_ERROR);
}

/* The contents are there: nothing is forgotten for an error, and nothing noted. */
static void an_error_is_no_damage(void **state)
{
    struct fixture *f = *state;

    open_quiet(f);
    rule(&f->slow->read[SLOW_DATA], SLOW_FAIL, ESTALE, 0, 0);
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_MISS);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0); /* what was in doubt is settled */
    all_pass(f->slow);
    get_hits(f, 0, N);
    nothing_is_bad(f);
    assert_int_equal(metric(f, "segments_gone"), 0);
}

/* Storage does not say whether the contents are there: nothing is decided. */
static const struct io_ops *true_ops;

static int stat_fails(struct io *io, const char *path, struct io_stat *out)
{
    return strstr(path, ".toc") ? -EIO : true_ops->stat(io, path, out);
}

static void no_answer_decides_nothing(void **state)
{
    struct fixture *f = *state;
    static struct io_ops ops;

    open_quiet(f);
    true_ops = f->c->io->ops;
    ops = *true_ops;
    ops.stat = stat_fails;
    f->c->io->ops = &ops;
    rule(&f->slow->read[SLOW_DATA], SLOW_SHORT, 0, 0, 0);
    get(f, 0, 1, 0);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0);
    f->c->io->ops = true_ops;
    all_pass(f->slow);
    get_hits(f, 0, N);
    nothing_is_bad(f);
    assert_int_equal(metric(f, "segments_gone"), 0);
}

/* ---- Who lists nothing ---- */

static void who_does_not_follow_lets_go(void **state)
{
    struct fixture *f = *state;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW;
    f->s.o.list_ms = 20;
    reopen(f);
    get_hits(f, 0, N);
    remove_files(f, ".toc");
    remove_files(f, ".seg");
    assert_true(holds_deleted_data() || metric(f, "segments_gone"));
    WAIT_FOR(!holds_deleted_data());
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_MISS);
    nothing_is_bad(f);
}

static int list_fails(struct io *io, const char *path, int (*visit)(void *, const char *),
                      void *arg)
{
    (void)io;
    (void)path;
    (void)visit;
    (void)arg;
    return -EACCES;
}

static void who_cannot_list_lets_go(void **state)
{
    struct fixture *f = *state;
    static struct io_ops ops;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.list_ms = 20;
    reopen(f);
    true_ops = f->c->io->ops;
    ops = *true_ops;
    ops.list = list_fails;
    f->c->io->ops = &ops;
    remove_files(f, ".toc");
    remove_files(f, ".seg");
    WAIT_FOR(metric(f, "segments_gone") == 1 && !holds_deleted_data());
    f->c->io->ops = true_ops;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_filled, teardown)

/* ---- Contents whose data is not there ---- */

static const char *hidden; /* the newest file of this ending is looked for */
static char newest[PATH_MAX];
static struct timespec newest_at;

static int find_newest(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    const char *dot = strrchr(path, '.');

    (void)kind;
    (void)where;
    if (!dot || strcmp(dot, hidden) != 0 || st->st_mtim.tv_sec < newest_at.tv_sec ||
        (st->st_mtim.tv_sec == newest_at.tv_sec && st->st_mtim.tv_nsec < newest_at.tv_nsec))
        return 0;
    newest_at = st->st_mtim;
    (void)snprintf(newest, sizeof newest, "%s", path);
    return 0;
}

/* The newest file of that ending is elsewhere, or at its place again. */
static void hide(const struct fixture *f, const char *of, char was[PATH_MAX])
{
    char away[PATH_MAX + 8];

    hidden = of;
    newest_at = (struct timespec){0};
    assert_int_equal(nftw(f->s.dir, find_newest, 16, FTW_PHYS), 0);
    (void)snprintf(was, PATH_MAX, "%s", newest);
    (void)snprintf(away, sizeof away, "%s.away", was);
    assert_int_equal(rename(was, away), 0);
}

static void show(const char *was)
{
    char away[PATH_MAX + 8];

    (void)snprintf(away, sizeof away, "%s.away", was);
    assert_int_equal(rename(away, was), 0);
}

/* A writer puts the second half and deletes the first block, whose segment is another's. */
static void delete_and_put(struct fixture *f)
{
    reopen(f);
    assert_int_equal(cistern_delete(f->c, &f->keys[0], 1), 1);
    put_is(f, N, N, CISTERN_STORED);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
}

/* What was deleted is, what was put is not there; and is when its data is. */
static void comes_with(struct fixture *f, const char *data)
{
    get(f, 0, 2 * N, 0);
    all_are(f, 0, 1, CISTERN_MISS); /* deleted */
    all_are(f, 1, N - 1, CISTERN_HIT);
    all_are(f, N, N, CISTERN_MISS);
    show(data);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0);
    get_hits(f, 1, 2 * N - 1);
    get(f, 0, 1, 0);
    all_are(f, 0, 1, CISTERN_MISS);
    nothing_is_bad(f);
}

static void blocks_come_when_their_data_does(void **state)
{
    struct fixture *f = *state;
    char data[PATH_MAX];

    delete_and_put(f);
    hide(f, ".seg", data);
    f->s.o.list_ms = f->s.o.poll_ms = HOUR;
    open_ok(f);
    assert_int_equal(metric(f, "data_missing"), 1);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0); /* still not there */
    comes_with(f, data);
}

/* Contents that cannot be read at the open, and data that is not there when they can be. */
static void deletions_count_without_the_data(void **state)
{
    struct fixture *f = *state;
    char data[PATH_MAX];

    delete_and_put(f);
    hide(f, ".seg", data);
    f->s.o.list_ms = f->s.o.poll_ms = HOUR;
    rule(&f->slow->read[SLOW_TOC], SLOW_FAIL, EIO, 0, 0);
    open_ok(f);
    get(f, 0, 2 * N, 0);
    all_are(f, 0, 2 * N, CISTERN_MISS);
    all_pass(f->slow);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0);
    comes_with(f, data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(falls_short_and_is_gone),
        TEST(is_stale_and_gone),
        TEST(is_not_there_and_gone),
        TEST(fails_and_is_gone),
        TEST(an_error_is_no_damage),
        TEST(no_answer_decides_nothing),
        TEST(who_does_not_follow_lets_go),
        TEST(who_cannot_list_lets_go),
        TEST(blocks_come_when_their_data_does),
        TEST(deletions_count_without_the_data),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
