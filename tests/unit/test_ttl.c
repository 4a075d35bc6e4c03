/*
 * test_ttl.c - blocks that are too old: the rules with clocks of the test's own, and a handle whose
 * blocks age in seconds, by what its space says.
 */
#include <errno.h>
#include <fcntl.h>

#include "../harness/skip.h"
#include "evict_fixture.h"

#include "base/bits.h"
#include "base/clock.h"
#include "cistern_admin.h"
#include "engine/capacity.h"
#include "engine/engine.h"
#include "engine/ttl.h"
#include "metrics/metrics.h"
#include "segment/ttl_file.h"

#define DAY_S 86400ull
#define NOW_S 1800000000ull

/* ---- Rules ---- */

static void one_clock(void **state)
{
    static const struct {
        uint64_t ttl, now, written;
        bool over;
    } rows[] = {
        {0, NOW_S, 1, false},                        /* nothing ages */
        {DAY_S, NOW_S, NOW_S, false},                /* new */
        {DAY_S, NOW_S, NOW_S - DAY_S, false},        /* seconds are rounded: not yet */
        {DAY_S, NOW_S, NOW_S - DAY_S - 1, true},     /* now */
        {DAY_S, NOW_S, 1, true},                     /* long ago */
        {DAY_S, NOW_S, 0, false},                    /* not known */
        {DAY_S, NOW_S, NOW_S + 1, false},            /* of the future */
        {DAY_S, NOW_S, NOW_S + 3650 * DAY_S, false}, /* of a far one */
        {DAY_S, 100, NOW_S, false},                  /* the clock fell back to 1970 */
        {DAY_S, 0, NOW_S, false},                    /* there is none */
        {UINT32_MAX, NOW_S, NOW_S - DAY_S, false},
        {1, UINT64_MAX, UINT64_MAX - 2, true},
    };
    size_t i;

    (void)state;
    for (i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(ttl_is_over(rows[i].ttl, rows[i].now, rows[i].written), rows[i].over);
}

/* Whatever the clocks say: emptying takes an eighth of the time to live. */
static void a_shard_is_not_emptied_at_once(void **state)
{
    static const uint64_t ttls[] = {1, 2, 60, DAY_S, 30 * DAY_S, UINT32_MAX};
    static const size_t counts[] = {0, 1, 2, 64, 1000, 65536};
    size_t i, j;

    (void)state;
    for (i = 0; i < ARRAY_LEN(ttls); i++) {
        for (j = 1; j < ARRAY_LEN(counts); j++) {
            uint64_t all = ttl_pace_ns(ttls[i], counts[j]) * counts[j];

            assert_true(all <= ttls[i] * (NS_PER_S / 8));
            assert_true(all + counts[j] >= ttls[i] * (NS_PER_S / 8));
        }
        assert_int_equal(ttl_pace_ns(ttls[i], 0), ttl_pace_ns(ttls[i], 1));
    }
}

static void a_clock_that_was_set_rests(void **state)
{
    struct ttl_clock t = {0};
    uint64_t boot = 50 * NS_PER_S, hour = 3600 * NS_PER_S, i;

    (void)state;
    assert_true(ttl_clock_trusted(&t, NOW_S, boot));
    for (i = 1; i < 100; i++) /* slewed: a second in ten */
        assert_true(ttl_clock_trusted(&t, NOW_S + 11 * i, boot + 10 * NS_PER_S * i));
    t = (struct ttl_clock){0};
    assert_true(ttl_clock_trusted(&t, NOW_S, boot));
    assert_false(ttl_clock_trusted(&t, NOW_S + 3650 * DAY_S, boot + NS_PER_S)); /* forward */
    assert_false(ttl_clock_trusted(&t, NOW_S + 3650 * DAY_S + 1, boot + 2 * NS_PER_S));
    assert_false(ttl_clock_trusted(&t, NOW_S, boot + hour)); /* and back: rests anew */
    assert_false(ttl_clock_trusted(&t, NOW_S + 3599, boot + 2 * hour - NS_PER_S));
    assert_true(ttl_clock_trusted(&t, NOW_S + 3600, boot + 2 * hour));
    /* Asleep, or stopped: both clocks went on. */
    assert_true(ttl_clock_trusted(&t, NOW_S + 3600 + DAY_S, boot + 26 * hour));
}

/* ---- A handle ---- */

static int setup(void **state)
{
    *state = fixture_new(0, 60000);
    return 0;
}

/* Contents look as if the storage had taken them in at another time. */
static void date_contents(const struct fixture *f, time_t when)
{
    struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
    char path[512];
    glob_t g;
    size_t i;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/*.toc", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    for (i = 0; i < g.gl_pathc; i++)
        assert_int_equal(utimensat(AT_FDCWD, g.gl_pathv[i], times, 0), 0);
    globfree(&g);
}

/* No room is lacking, nobody asks for them, the last segment grows: they go all the same, and the
 * data after its grace. */
static void old_blocks_go(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.ttl_seconds = 2;
    open_store(f);
    for (i = 0; i < 40; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(get_hits(f, 0, 40) == 0);
    assert_true(metric_of(f->c, "expired_segments") >= 3);
    assert_int_equal(metric_of(f->c, "expired_segments"), metric_of(f->c, "evicted_segments"));
    assert_true(metric_of(f->c, "expired_bytes") > 0);
    assert_int_equal(metric_of(f->c, "carried_blocks"), 0);
    WAIT_FOR(count_files(f, "*.seg") <= 2); /* those that wait to be used */
    assert_int_equal(count_files(f, ".tmp-*"), 0);
    put_all(f, 0, BATCH); /* and can be stored again */
}

static void others_of_the_shard_age_too(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.ttl_seconds = 1;
    open_store(f);
    WAIT_FOR(metric_of(f->c, "expired_segments") == 1);
    assert_int_equal(get_hits(f, 0, BATCH), 0);
}

/* Their times are not encrypted. */
static void encrypted_blocks_age(void **state)
{
    struct fixture *f = *state;

    use_key(f);
    f->s.o.ttl_seconds = 1;
    open_store(f);
    put_all(f, 0, BATCH);
    WAIT_FOR(metric_of(f->c, "expired_segments") == 1);
    assert_int_equal(get_hits(f, 0, BATCH), 0);
}

/* The storage's clock, or who restored a backup, says years; who wrote it says now. */
static void one_clock_alone_takes_nothing(void **state)
{
    struct fixture *f = *state;

    f->s.o.ttl_seconds = 3600;
    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    date_contents(f, 1000000);
    open_store(f);
    WAIT_FOR(metric_of(f->c, "ttl_doubted_segments") == 1);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
    assert_int_equal(metric_of(f->c, "expired_segments"), 0);
    assert_int_equal(count_files(f, ".tmp-*"), 0);
}

/* The other way round: who wrote it says long ago, the storage says that it is still to come. Two
 * that are younger go meanwhile. */
static void the_other_clock_alone_takes_nothing(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.ttl_seconds = 1;
    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    date_contents(f, (time_t)(clock_wall_s() + 365 * DAY_S));
    open_store(f);
    for (i = 1; i <= 2; i++) {
        put_all(f, i * BATCH, BATCH);
        WAIT_FOR(metric_of(f->c, "expired_segments") >= i);
        assert_int_equal(get_hits(f, i * BATCH, (i + 1) * BATCH), 0);
    }
    assert_int_equal(metric_of(f->c, "expired_segments"), 2);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

/* ---- Of the space ---- */

static _Atomic uint32_t told; /* warnings that an option is not used */

static void note_told(void *arg, int level, const char *text)
{
    (void)arg;
    (void)level;
    if (strstr(text, "ttl_seconds is") || strstr(text, "nothing is too old"))
        (void)atomic_fetch_add(&told, 1);
}

static int on_space(void *arg, const struct cistern_space_ttl *x)
{
    *(struct cistern_space_ttl *)arg = *x;
    return 0;
}

/* Tells, or changes first. */
static struct cistern_space_ttl tool(const struct fixture *f, bool change, uint32_t seconds)
{
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o};
    struct cistern_ttl how = {
        .size = sizeof how, .model = "test", .change = change, .seconds = seconds};
    struct cistern_space_ttl x = {0};

    assert_int_equal(cistern_ttl(&a, &how, on_space, &x), 1);
    assert_int_equal(x.result, 0);
    return x;
}

/* Who was given one says it to all: two handles of different options are of one mind. */
static void the_first_says_it_to_all(void **state)
{
    struct fixture *f = *state;
    cistern *first;

    f->s.o.log = note_told;
    f->s.space.shards = 2;
    told = 0;
    open_store(f);
    assert_int_equal(f->c->ttl_seconds, 0);
    assert_int_equal(tool(f, false, 0).said, 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.ttl_seconds = 3600;
    assert_int_equal(cistern_open(&f->s.o, &first), 0);
    assert_int_equal(tool(f, false, 0).seconds, 3600);
    assert_int_equal(told, 0);
    f->s.o.ttl_seconds = 60;
    f->s.o.shard = 1;
    open_store(f);
    assert_int_equal(f->c->ttl_seconds, 3600);
    assert_int_equal(told, 1);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.ttl_seconds = 0;
    open_store(f);
    assert_int_equal(f->c->ttl_seconds, 3600);
    assert_int_equal(told, 1);
    assert_int_equal(cistern_close(first), 0);
}

/* A handle that was told nothing lets old blocks go, and what is copied would be young: nothing
 * is. When it is taken back they stay. */
static void a_handle_without_the_option_goes_by_it(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    assert_int_equal(tool(f, true, 1).changed, 1);
    assert_int_equal(tool(f, true, 1).changed, 0);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    put_all(f, 0, BATCH);
    WAIT_FOR(metric_of(f->c, "expired_segments") == 1);
    assert_int_equal(get_hits(f, 0, BATCH), 0);
    assert_int_equal(metric_of(f->c, "carried_blocks"), 0);
    assert_int_equal(tool(f, true, 0).was, 1);
    WAIT_FOR(f->c->ttl_seconds == 0); /* seen while it is open */
    f->s.o.ttl_seconds = 1;
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f); /* an operator's word goes before an engine's */
    assert_int_equal(f->c->ttl_seconds, 0);
}

/* A file that says nothing is no reason to delete; the tool puts it right. */
static void a_damaged_one_takes_nothing(void **state)
{
    static const char *const bad[] = {"",
                                      "{}",
                                      "[1]",
                                      "{\"ttl_seconds\": \"1\"}",
                                      "{\"ttl_seconds\": -1}",
                                      "{\"ttl_seconds\": 4294967296}",
                                      "{\"ttl_seconds\": 1.5}"};
    struct fixture *f = *state;
    uint32_t seconds = 7;
    char path[512];
    size_t i;
    glob_t g;
    int fd;

    for (i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(ttl_file_parse(bad[i], strlen(bad[i]), &seconds), -EBADMSG);
    assert_int_equal(seconds, 7);
    f->s.o.log = note_told;
    f->s.o.ttl_seconds = 1;
    told = 0;
    open_store(f);
    assert_int_equal(cistern_close(f->c), 0);
    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/ttl", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    fd = open(g.gl_pathv[0], O_WRONLY | O_TRUNC | O_CLOEXEC);
    globfree(&g);
    assert_int_equal(write(fd, "{", 1), 1);
    assert_int_equal(close(fd), 0);
    open_store(f);
    assert_int_equal(f->c->ttl_seconds, 0);
    assert_int_equal(told, 1);
    assert_int_equal(tool(f, true, 1).changed, 1);
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
    assert_int_equal(f->c->ttl_seconds, 1);
}

/* Segments of short lives, which would be merged: the copies would live on. */
static void where_blocks_age_nothing_is_merged(void **state)
{
    struct fixture *f = *state;
    const volatile uint32_t *scans;
    uint32_t i;

    if (!MAY_EXCHANGE)
        SKIP("ThreadSanitizer sees the reading of a running keeper's counts");
    f->s.o.ttl_seconds = 3600;
    for (i = 0; i < 8; i++) {
        open_store(f);
        put_all(f, i * BATCH, 1);
        assert_int_equal(cistern_close(f->c), 0);
    }
    f->s.o.capacity_bytes = 64 * SEGMENT;
    open_store(f);
    assert_int_equal(cistern_set_capacity(f->c, 64 * SEGMENT), 0);
    scans = &f->c->capacity->usage.scans;
    i = *scans;
    WAIT_FOR(*scans >= i + 4);
    assert_int_equal(metric_of(f->c, "merged_segments"), 0);
    assert_int_equal(metric_of(f->c, "carried_blocks"), 0);
    assert_int_equal(tool(f, true, 0).was, 3600);
    WAIT_FOR(metric_of(f->c, "merged_segments") >= 4); /* and they would have been */
}

/* ---- Storage that does not tell ---- */

static const struct io_ops *true_ops;
static _Atomic uint32_t failing, failed;

enum { CONTENTS = 1, CLOCK_MADE, CLOCK_READ };

static int64_t small_read_fails(struct io *io, const char *path, void *buf, size_t size)
{
    if (failing == CONTENTS && strstr(path, ".toc")) {
        failed++;
        return -EIO;
    }
    return true_ops->small_read(io, path, buf, size);
}

static int small_write_fails(struct io *io, const char *path, const void *data, size_t len,
                             bool exclusive)
{
    if (failing == CLOCK_MADE && strstr(path, ".tmp-clock")) {
        failed++;
        return -ENOSPC;
    }
    return true_ops->small_write(io, path, data, len, exclusive);
}

static int stat_fails(struct io *io, const char *path, struct io_stat *out)
{
    if (failing == CLOCK_READ && strstr(path, ".tmp-clock")) {
        failed++;
        return -EIO;
    }
    return true_ops->stat(io, path, out);
}

/* Not to know is no reason to delete. When storage tells again, the same go. */
static void what_cannot_be_told_takes_nothing(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    if (!MAY_EXCHANGE)
        SKIP("ThreadSanitizer sees the exchange of a running handle's operations");
    f->s.o.ttl_seconds = 1;
    for (i = CONTENTS; i <= CLOCK_READ; i++) {
        failing = i;
        failed = 0;
        open_store(f);
        true_ops = f->c->io->ops;
        f->ops = *true_ops;
        f->ops.small_read = small_read_fails;
        f->ops.small_write = small_write_fails;
        f->ops.stat = stat_fails;
        f->c->io->ops = &f->ops;
        put_all(f, 0, BATCH);
        WAIT_FOR(failed >= 2);
        assert_int_equal(metric_of(f->c, "expired_segments"), 0);
        assert_int_equal(get_hits(f, 0, BATCH), BATCH);
        failing = 0;
        WAIT_FOR(metric_of(f->c, "expired_segments") == 1);
        f->c->io->ops = true_ops;
        assert_int_equal(cistern_close(f->c), 0);
        f->c = NULL;
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_clock),
        cmocka_unit_test(a_shard_is_not_emptied_at_once),
        cmocka_unit_test(a_clock_that_was_set_rests),
        cmocka_unit_test_setup_teardown(old_blocks_go, setup, fixture_end),
        cmocka_unit_test_setup_teardown(others_of_the_shard_age_too, setup, fixture_end),
        cmocka_unit_test_setup_teardown(encrypted_blocks_age, setup, fixture_end),
        cmocka_unit_test_setup_teardown(one_clock_alone_takes_nothing, setup, fixture_end),
        cmocka_unit_test_setup_teardown(the_other_clock_alone_takes_nothing, setup, fixture_end),
        cmocka_unit_test_setup_teardown(the_first_says_it_to_all, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_handle_without_the_option_goes_by_it, setup, fixture_end),
        cmocka_unit_test_setup_teardown(a_damaged_one_takes_nothing, setup, fixture_end),
        cmocka_unit_test_setup_teardown(where_blocks_age_nothing_is_merged, setup, fixture_end),
        cmocka_unit_test_setup_teardown(what_cannot_be_told_takes_nothing, setup, fixture_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
