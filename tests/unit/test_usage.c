/*
 * test_usage.c - a bounded store that cannot see, or cannot remove, a part of its root: what cannot
 * be looked at counts as it was and stays, what cannot be removed counts as used, and nothing is
 * decided by a listing that is torn or old.
 *
 * Operations of storage are replaced one by one, in a copy of the handle's row, and refuse paths
 * that contain a word. Nothing is judged by time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/writer_internal.h"
#include "evict_fixture.h"

#include "base/hash.h"
#include "base/le.h"

enum { QUIET_MS = 300, NEVER_MS = 600000 };

static const struct io_ops *true_ops;
static const char *_Atomic refuse; /* paths that contain it are refused */
static _Atomic uint32_t refusals, told;

static bool refused(const char *path)
{
    const char *word = atomic_load(&refuse);

    if (!word || !strstr(path, word))
        return false;
    (void)atomic_fetch_add(&refusals, 1);
    return true;
}

static int list_refused(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                        void *arg)
{
    return refused(path) ? -EACCES : true_ops->list(io, path, visit, arg);
}

static int64_t read_refused(struct io *io, const char *path, void *buf, size_t size)
{
    return refused(path) ? -EIO : true_ops->small_read(io, path, buf, size);
}

static int stat_refused(struct io *io, const char *path, struct io_stat *out)
{
    return refused(path) ? -EIO : true_ops->stat(io, path, out);
}

static int unlink_refused(struct io *io, const char *path)
{
    return refused(path) ? -EPERM : true_ops->unlink(io, path);
}

struct hidden {
    int (*visit)(void *arg, const char *name);
    void *arg;
};

static int visit_shown(void *arg, const char *name)
{
    struct hidden *h = arg;

    return refused(name) ? 0 : h->visit(h->arg, name);
}

/* A listing that lacks some names, as one may while they are made. */
static int list_torn(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                     void *arg)
{
    struct hidden h = {visit, arg};

    return true_ops->list(io, path, visit_shown, &h);
}

static void replace_ops(struct fixture *f)
{
    atomic_store(&refuse, NULL);
    atomic_store(&refusals, 0);
    true_ops = f->c->io->ops;
    f->ops = *true_ops;
    f->c->io->ops = &f->ops;
}

static void note_told(void *arg, int level, const char *text)
{
    (void)arg;
    (void)level;
    if (strstr(text, "silence_ms is") || strstr(text, "cannot be removed") ||
        strstr(text, "cannot be looked at"))
        (void)atomic_fetch_add(&told, 1);
}

static uint64_t metric(const struct fixture *f, int which)
{
    return metric_get(&f->c->metrics, which);
}

/* A file of `len` bytes in the directory of a shard, which is made if need be. */
static void make_file(const struct fixture *f, uint32_t shard, const char *name, size_t len)
{
    char path[600], dir[512];
    void *bytes = calloc(1, len);
    glob_t g;
    int fd;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    (void)snprintf(dir, sizeof dir, "%s/s%uof2", g.gl_pathv[0], shard);
    globfree(&g);
    assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
    (void)snprintf(path, sizeof path, "%.500s/%s", dir, name);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(close(fd), 0);
    free(bytes);
}

/* A writer of shard 1 that is dead but for what its head may say: two whole segments. */
static void make_writer(const struct fixture *f)
{
    make_file(f, 1, "00000000000000b1-00000000.seg", SEGMENT);
    make_file(f, 1, "00000000000000b1-00000000.toc", 8192);
    make_file(f, 1, "00000000000000b1-00000001.seg", SEGMENT);
    make_file(f, 1, "00000000000000b1-00000001.toc", 8192);
}

static void wait_scans(const struct fixture *f, uint32_t n)
{
    const volatile uint32_t *scans = &f->c->capacity->usage.scans;
    uint32_t before = *scans;

    WAIT_FOR(*scans >= before + n);
}

/* The first `n` segments of this store are sealed, and the syncer has let go of them: it takes them
 * in no order of theirs. */
static bool are_sealed(const struct fixture *f, uint64_t n)
{
    cistern *c = f->c;
    uint64_t seq;

    for (seq = 0; seq < n; seq++) {
        uint64_t writer = c->writer->streams[0].id;
        const struct segment *s = segtab_find_file(&c->segs, c->cfg.shard, writer, seq);

        if (!s || atomic_load(&s->holds) || writer_segment_open(c, writer, seq))
            return false;
    }
    return true;
}

static int setup(void **state)
{
    struct fixture *f = fixture_new(16 * SEGMENT, QUIET_MS);

    f->s.space.shards = 2;
    f->s.o.log = note_told;
    atomic_store(&told, 0);
    atomic_store(&refuse, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    atomic_store(&refuse, NULL);
    if (f->c)
        assert_int_equal(cistern_close(f->c), 0);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

/* ---- What cannot be looked at ---- */

/* A silent writer's segments would go; whoever cannot be asked lives. */
static void a_head_that_cannot_be_read_stops_nobody(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    replace_ops(f);
    f->ops.small_read = read_refused;
    atomic_store(&refuse, "00000000000000b1.head");
    make_file(f, 1, "00000000000000b1.head", 4096);
    make_writer(f);
    for (i = 0; i < 400; i += BATCH)
        put_all(f, i, BATCH);
    wait_scans(f, 3);
    assert_true(metric(f, METRIC_evicted_segments) > 4);
    assert_int_equal(count_files(f, "00000000000000b1*"), 5);
    assert_int_equal(metric(f, METRIC_usage_blind), 1);
    assert_int_equal(atomic_load(&told), 1);
    atomic_store(&refuse, NULL); /* it can be read, and says nothing: silence tells */
    for (; count_files(f, "00000000000000b1*.seg"); i += BATCH)
        put_all(f, i % MANY, BATCH);
    assert_int_equal(metric(f, METRIC_usage_blind), 0);
}

static void a_directory_that_cannot_be_listed_stops_nobody(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    make_writer(f);
    put_all(f, 0, BATCH);
    WAIT_FOR(metric(f, METRIC_usage_bytes) > 2 * SEGMENT);
    replace_ops(f);
    f->ops.list = list_refused;
    atomic_store(&refuse, "s1of2");
    for (i = BATCH; i < 400; i += BATCH) {
        put_all(f, i, BATCH);
        assert_true(metric(f, METRIC_usage_bytes) > 2 * SEGMENT);
    }
    assert_true(metric(f, METRIC_evicted_segments) > 4);
    assert_int_equal(count_files(f, "00000000000000b1*"), 4);
    assert_int_equal(metric(f, METRIC_usage_blind), 1);
}

/* A writer that does not see its own files makes no more of them. */
static void its_own_directory_is_another_matter(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    put_all(f, 0, BATCH);
    replace_ops(f);
    f->ops.list = list_refused;
    atomic_store(&refuse, "s0of2");
    for (i = BATCH; i < 64; i += BATCH)
        put_once(f, i, BATCH);
    assert_true(count_files(f, "*.seg") <= 3);
    atomic_store(&refuse, NULL);
    put_all(f, 64, BATCH);
}

static void sizes_that_are_not_told_stop_nobody(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    replace_ops(f);
    f->ops.stat = stat_refused;
    atomic_store(&refuse, "00000000000000b1-");
    make_writer(f);
    for (i = 0; i < 400; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(metric(f, METRIC_evicted_segments) > 4);
    assert_int_equal(count_files(f, "00000000000000b1*"), 4);
    assert_int_equal(metric(f, METRIC_usage_blind), 2);
}

/* Its counter cannot be known: it is never silent. */
static void a_head_of_a_later_version_is_never_silent(void **state)
{
    struct fixture *f = *state;
    struct head_record h = {.state = HEAD_LIVE, .writer = 0xb1, .shard = 1, .shards = 2};
    _Alignas(64) uint8_t page[FORMAT_PAGE];
    char path[600];
    glob_t g;
    int fd;
    uint32_t i;

    open_store(f);
    make_writer(f);
    head_encode(&h, NULL, 0, page);
    le32_store(page + 8, FORMAT_VERSION + 1);
    le64_store(page + offsetof(struct head_record, checksum), 0);
    le64_store(page + offsetof(struct head_record, checksum), hash64(page, sizeof page));
    assert_int_equal(head_decode(page, &h), CISTERN_EFORMAT);
    make_file(f, 1, "00000000000000b1.head", 4096);
    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s1of2/*.head", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    fd = open(g.gl_pathv[0], O_WRONLY | O_CLOEXEC);
    globfree(&g);
    assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
    assert_int_equal(close(fd), 0);
    for (i = 0; i < 400; i += BATCH)
        put_all(f, i, BATCH);
    wait_scans(f, 3);
    assert_int_equal(count_files(f, "00000000000000b1*"), 5);
}

/* A writer gives itself up after half of its own silence: all go by the root's. */
static void all_who_share_a_root_have_one_silence(void **state)
{
    struct fixture *f = *state;
    cistern *other;

    open_store(f);
    f->s.o.shard = 1;
    f->s.o.silence_ms = NEVER_MS;
    assert_int_equal(cistern_open(&f->s.o, &other), 0);
    assert_int_equal(other->cfg.silence_ms, QUIET_MS);
    assert_int_equal(other->capacity->silence_ns, (uint64_t)QUIET_MS * 1000000);
    assert_int_equal(atomic_load(&told), 1);
    assert_int_equal(cistern_close(other), 0);
    f->s.o.silence_ms = 0; /* whatever it is: nothing to tell */
    assert_int_equal(cistern_open(&f->s.o, &other), 0);
    assert_int_equal(other->cfg.silence_ms, QUIET_MS);
    assert_int_equal(atomic_load(&told), 1);
    assert_int_equal(cistern_close(other), 0);
}

/* ---- What cannot be removed ---- */

static void what_cannot_be_removed_counts_as_used(void **state)
{
    struct fixture *f = *state;
    uint32_t i, tried;

    open_store(f);
    replace_ops(f);
    f->ops.unlink = unlink_refused;
    atomic_store(&refuse, "00000000000000b1");
    make_file(f, 1, "00000000000000b1-00000000.seg", 2 * SEGMENT);
    WAIT_FOR(metric(f, METRIC_usage_stuck_bytes) == 2 * SEGMENT);
    tried = atomic_load(&refusals);
    assert_int_equal(atomic_load(&told), 1);
    assert_int_equal(tried, USAGE_TRIES);
    for (i = 0; i < 400; i += BATCH) {
        put_all(f, i, BATCH);
        assert_true(metric(f, METRIC_usage_bytes) <= 17 * SEGMENT);
    }
    wait_scans(f, 3);
    assert_int_equal(atomic_load(&refusals), tried);
    assert_int_equal(atomic_load(&told), 1);
    assert_int_equal(metric(f, METRIC_usage_stuck_bytes), 2 * SEGMENT);
}

/* ---- Listings ---- */

/* Contents in which something is published, and their data, are all there; how many. Segments that
 * are made meanwhile, or given up empty, are not in `before`. */
static size_t still_there(const glob_t *before)
{
    char data[600];
    struct stat st;
    size_t i, n = 0;

    for (i = 0; i < before->gl_pathc; i++) {
        if (stat(before->gl_pathv[i], &st) == 0 && st.st_size > FORMAT_PAGE) {
            (void)snprintf(data, sizeof data, "%.*s.seg",
                           (int)(strlen(before->gl_pathv[i]) - strlen(".toc")),
                           before->gl_pathv[i]);
            n += stat(data, &st) == 0;
        }
    }
    return n;
}

static void a_torn_listing_costs_nothing(void **state)
{
    struct fixture *f = *state;
    char path[512];
    uint32_t i;
    glob_t g;
    size_t n;

    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/*.toc", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    n = still_there(&g);
    assert_true(n >= 4);
    replace_ops(f);
    f->ops.list = list_torn;
    atomic_store(&refuse, ".toc");
    wait_scans(f, 4);
    assert_int_equal(get_hits(f, 0, 64), 64);
    assert_int_equal(still_there(&g), n);
    globfree(&g);
}

/* ---- Directly: what a scan saw is this thread's own, and the keeper has nothing to do ---- */

static struct usage seen;

static void scan(struct fixture *f)
{
    assert_int_equal(usage_scan(&seen, f->c), 0);
}

static struct usage_segment *nth(size_t n)
{
    assert_true(n < seen.nsegs);
    return &seen.segs[n];
}

static void remove_contents(const struct fixture *f, const struct usage_segment *s)
{
    char path[1024];

    (void)snprintf(path, sizeof path, "%s/%s/%016llx-%08llx.toc", f->s.dir, seen.dirs[s->dir].path,
                   (unsigned long long)s->writer, (unsigned long long)s->seq);
    assert_int_equal(unlink(path), 0);
}

/* What others evict keeps its grace as far as possible. */
static void a_full_file_system_takes_no_more_than_it_needs(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    for (i = 0; i < 80; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(are_sealed(f, 4));
    scan(f);
    remove_contents(f, nth(0));
    scan(f);
    remove_contents(f, nth(1));
    scan(f);
    assert_int_equal(evict_begin(f->c, &seen, nth(2)), 0);
    (void)evict_collect(f->c, &seen, UINT64_MAX, UINT64_MAX); /* all are forgotten here */
    assert_true(evict_hurry(f->c, &seen, 1) > SEGMENT / 2);
    assert_false(nth(2)->seg); /* this handle's own first */
    assert_true(nth(0)->seg && nth(1)->seg);
    assert_true(evict_hurry(f->c, &seen, SEGMENT / 2) > SEGMENT / 2);
    assert_false(nth(0)->seg); /* then the oldest */
    assert_true(nth(1)->seg);
    usage_free(&seen);
}

/* Segments that are younger than the listing are not before the first. */
static void an_old_listing_hides_nothing(void **state)
{
    struct fixture *f = *state;
    cistern *other;
    uint32_t i;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    put_all(f, 0, BATCH);
    scan(f);
    assert_int_equal(seen.nsegs, 1);
    for (i = BATCH; i < 48; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(are_sealed(f, 2));
    assert_int_equal(evict_begin(f->c, &seen, nth(0)), 0);
    assert_int_equal(atomic_load(&f->c->writer->streams[0].first_seq), 1);
    usage_free(&seen);
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    WAIT_FOR(!atomic_load(&f->c->writer->streams[0].first_moved));
    assert_int_equal(cistern_open(&f->s.o, &other), 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = other;
    assert_int_equal(get_hits(f, 16, 32), 16);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_head_that_cannot_be_read_stops_nobody),
        TEST(a_directory_that_cannot_be_listed_stops_nobody),
        TEST(its_own_directory_is_another_matter),
        TEST(sizes_that_are_not_told_stop_nobody),
        TEST(a_head_of_a_later_version_is_never_silent),
        TEST(all_who_share_a_root_have_one_silence),
        TEST(what_cannot_be_removed_counts_as_used),
        TEST(a_torn_listing_costs_nothing),
        TEST(a_full_file_system_takes_no_more_than_it_needs),
        TEST(an_old_listing_hides_nothing),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
