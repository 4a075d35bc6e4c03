/*
 * test_evict_faults.c - a bounded store whose files are taken away, whose names are taken, whose
 * storage cannot be looked at, and whose sizes lag.
 *
 * Segments are of 1 MiB, blocks of 64 KiB. Conditions are waited for with a limit that only tells
 * "soon" from "never". Operations of storage are replaced one by one, in a copy of the handle's
 * row.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "cistern_admin.h"
#include "engine/capacity.h"
#include "engine/engine.h"
#include "evict_fixture.h"

enum { NEVER_MS = 600000 };

static const struct io_ops *true_ops;
static _Atomic uint32_t lists;

/* The first file that matches; how many there are. */
static size_t find(const struct fixture *f, const char *pattern, char first[512])
{
    char path[512];
    glob_t g;
    size_t n;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/%s", f->s.dir, pattern);
    n = glob(path, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
    if (n && first)
        (void)snprintf(first, 512, "%s", g.gl_pathv[0]);
    globfree(&g);
    return n;
}

static uint64_t metric(cistern *c, int which)
{
    return metric_get(&c->metrics, which);
}

static void close_store(struct fixture *f)
{
    cistern *c = f->c;

    f->c = NULL;
    assert_int_equal(cistern_close(c), 0);
}

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, NEVER_MS);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->c)
        close_store(f);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

/* ---- Files ---- */

/* A name that is taken costs a number, not the writer. */
static void a_name_that_is_taken_is_passed_over(void **state)
{
    struct fixture *f = *state;
    char path[512];
    uint32_t i;
    int fd;

    open_store(f);
    put_all(f, 0, BATCH);
    assert_int_equal(find(f, "*-00000000.toc", path), 1);
    memcpy(strrchr(path, '-'), "-00000001.toc", sizeof "-00000001.toc");
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    for (i = BATCH; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(get_hits(f, 0, 64), 64);
    close_store(f);
    open_store(f);
    assert_int_equal(get_hits(f, 0, 64), 64);
}

/* Somebody removed the files of the segment that grows: its blocks are gone, puts go on. */
static void files_that_were_taken_away_do_not_end_puts(void **state)
{
    struct fixture *f = *state;
    uint64_t *bytes;
    char path[512];

    open_store(f);
    put_all(f, 0, BATCH);
    bytes = &f->c->capacity->usage.bytes;
    WAIT_FOR(*(volatile uint64_t *)bytes > SEGMENT / 8); /* a look saw them */
    assert_int_equal(find(f, "*-00000000.toc", path), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(find(f, "*-00000000.seg", path), 1);
    assert_int_equal(unlink(path), 0);
    WAIT_FOR(get_hits(f, 0, 1) == 0);
    put_all(f, BATCH, BATCH);
    assert_int_equal(get_hits(f, BATCH, 2 * BATCH), BATCH);
    close_store(f);
    open_store(f);
    assert_int_equal(get_hits(f, 0, 2 * BATCH), BATCH);
}

static int on_removal(void *arg, const struct cistern_removal *removal)
{
    (void)arg;
    return removal->result < 0 ? removal->result : 0;
}

static int on_finding(void *arg, const struct cistern_finding *finding)
{
    (void)arg;
    if (finding->check->severity != CISTERN_NOTE)
        print_message("%s %s: %s\n", finding->check->id, finding->path, finding->detail);
    return 0;
}

/* A space that is wiped under a writer is made anew with its next segment, under another name. */
static void a_space_that_was_wiped_is_made_anew(void **state)
{
    struct fixture *f = *state;
    struct cistern_admin a = {
        .size = sizeof a, .store = &f->s.o, .silence_ms = 100, .flags = CISTERN_ADMIN_FORCE};
    struct cistern_wipe w = {.size = sizeof w};
    struct cistern_fsck_sum sum = {.size = sizeof sum};
    uint32_t i, last = 0;

    open_store(f);
    for (i = 0; i < 32; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(cistern_wipe(&a, &w, on_removal, NULL, NULL), 0);
    for (; i < 256 && !find(f, "*.head", NULL); i += BATCH)
        put_all(f, last = i, BATCH);
    assert_true(i < 256);
    put_all(f, i, BATCH);
    assert_int_equal(get_hits(f, last, i + BATCH), i + BATCH - last);
    close_store(f);
    assert_int_equal(cistern_fsck(&a, on_finding, NULL, &sum), 0);
    assert_int_equal(sum.errors + sum.warnings, 0);
    open_store(f);
    assert_int_equal(get_hits(f, 0, 32), 0);
    assert_int_equal(get_hits(f, i, i + BATCH), BATCH);
}

/* An eviction that was begun is finished, also when there is no bound any more. */
static void a_bound_that_is_lifted_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.evict_grace_ms = 2000;
    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(cistern_set_capacity(f->c, 2 * SEGMENT), 0);
    WAIT_FOR(metric(f->c, METRIC_evicted_segments) > 0);
    assert_int_equal(cistern_set_capacity(f->c, 0), 0);
    WAIT_FOR(find(f, "*.seg", NULL) == find(f, "*.toc", NULL));
}

/* ---- Asking storage ---- */

static void replace_ops(struct fixture *f, cistern *c)
{
    true_ops = c->io->ops;
    f->ops = *true_ops;
}

static int list_fails(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                      void *arg)
{
    (void)io;
    (void)path;
    (void)visit;
    (void)arg;
    (void)atomic_fetch_add(&lists, 1);
    return -EIO;
}

/* Storage that cannot be looked at is not asked again and again. */
static void a_look_that_fails_is_not_hurried(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    put_all(f, 0, BATCH);
    replace_ops(f, f->c);
    f->ops.list = list_fails;
    atomic_store(&lists, 0);
    f->c->io->ops = &f->ops;
    for (i = BATCH; i < 48; i += BATCH)
        put_once(f, i, BATCH);
    f->c->io->ops = true_ops;
    assert_in_range(atomic_load(&lists), 1, 200);
    put_all(f, 48, BATCH);
    assert_int_equal(get_hits(f, 48, 48 + BATCH), BATCH);
}

static _Atomic int list_held, list_hangs_now;

/* The scan of usage alone lists the root. */
static int list_hangs(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                      void *arg)
{
    if (strchr(path, '/') == NULL) {
        atomic_fetch_add(&list_hangs_now, 1);
        while (atomic_load(&list_held))
            (void)usleep(1000);
        atomic_fetch_sub(&list_hangs_now, 1);
    }
    return true_ops->list(io, path, visit, arg);
}

/* A look at the root that hangs keeps no sync and no seal waiting. */
static void syncs_and_seals_go_on_while_a_listing_hangs(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    put_all(f, 0, BATCH);
    put_all(f, BATCH, BATCH);
    put_all(f, 2 * BATCH, BATCH);
    WAIT_FOR(metric(f->c, METRIC_segments_created) == 2);
    replace_ops(f, f->c);
    f->ops.list = list_hangs;
    atomic_store(&list_held, 1);
    f->c->io->ops = &f->ops;
    WAIT_FOR(atomic_load(&list_hangs_now) == 1);
    put_once(f, 3 * BATCH, BATCH);
    assert_int_equal(f->ev.hits, BATCH);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    put_once(f, 4 * BATCH, BATCH); /* into the next segment */
    assert_int_equal(f->ev.hits, BATCH);
    WAIT_FOR(metric(f->c, METRIC_segments_sealed) == 1);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    assert_int_equal(atomic_load(&list_hangs_now), 1);
    assert_int_equal(get_hits(f, 0, 5 * BATCH), 5 * BATCH);
    f->c->io->ops = true_ops;
    atomic_store(&list_held, 0);
}

static _Atomic int sync_held;

static int sync_hangs(struct io *io, struct io_file *f)
{
    while (atomic_load(&sync_held))
        (void)usleep(1000);
    return true_ops->file_sync(io, f);
}

static int list_counts(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                       void *arg)
{
    (void)atomic_fetch_add(&lists, 1);
    return true_ops->list(io, path, visit, arg);
}

/* All that may wait for its seal does: the next segment is asked for now and then, not in a spin.
 */
static void a_sync_that_hangs_does_not_make_anybody_spin(void **state)
{
    struct fixture *f = *state;
    uint64_t until;
    uint32_t i;

    f->s.o.put_timeout_ms = 300;
    open_store(f);
    put_all(f, 0, BATCH);
    replace_ops(f, f->c);
    f->ops.file_sync = sync_hangs;
    f->ops.list = list_counts;
    atomic_store(&sync_held, 1);
    f->c->io->ops = &f->ops;
    for (i = BATCH; i < 256 && (i == BATCH || f->ev.hits); i += BATCH)
        put_once(f, i, BATCH);
    assert_true(i < 256);
    atomic_store(&lists, 0);
    for (until = now_ms() + 1000; now_ms() < until;)
        put_once(f, i, BATCH);
    assert_in_range(atomic_load(&lists), 0, 400);
    f->c->io->ops = true_ops;
    atomic_store(&sync_held, 0);
    put_all(f, i, BATCH);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

static int stat_lags(struct io *io, const char *path, struct io_stat *out)
{
    int rc = true_ops->stat(io, path, out);

    if (strstr(path, ".toc"))
        out->size = out->disk_bytes = 0;
    return rc;
}

/* Sizes of other hosts' files may lag: what a head names is no litter. */
static void sizes_that_lag_cost_nothing(void **state)
{
    struct fixture *f = *state;
    volatile uint32_t *scans;
    cistern *watcher;
    uint32_t before;

    f->s.space.shards = 2;
    f->s.o.silence_ms = 400;
    open_store(f);
    watcher = f->c;
    scans = &watcher->capacity->usage.scans;
    replace_ops(f, watcher);
    f->ops.stat = stat_lags;
    watcher->io->ops = &f->ops;
    f->s.o.shard = 1;
    f->s.o.silence_ms = NEVER_MS;
    open_store(f);
    put_all(f, 0, BATCH);
    close_store(f);
    before = *scans;
    WAIT_FOR(*scans >= before + 4);
    watcher->io->ops = true_ops;
    assert_int_equal(cistern_close(watcher), 0);
    assert_int_equal(find(f, "*.toc", NULL), 1);
    open_store(f);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_that_is_taken_is_passed_over),
        TEST(files_that_were_taken_away_do_not_end_puts),
        TEST(a_space_that_was_wiped_is_made_anew),
        TEST(a_bound_that_is_lifted_leaves_nothing_behind),
        TEST(a_look_that_fails_is_not_hurried),
        TEST(syncs_and_seals_go_on_while_a_listing_hangs),
        TEST(a_sync_that_hangs_does_not_make_anybody_spin),
        TEST(sizes_that_lag_cost_nothing),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
