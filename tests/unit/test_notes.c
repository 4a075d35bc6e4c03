/*
 * test_notes.c - deletions outlive the contents that say so, whoever evicts them: a process of
 * another shard, or one that never read them. And a segment goes when nothing that its notes name
 * is left.
 *
 * The test's thread looks and evicts itself; the handle has no capacity, so its keeper does not.
 */
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>

#include "base/fault.h"
#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/notes.h"
#include "evict_fixture.h"

#include <sys/wait.h>

enum { BLOCKS = 64, DELETED = 5, QUIET_MS = 300, HOUR = 3600 * 1000 };

static struct usage seen;

static int setup(void **state)
{
    struct fixture *f = fixture_new(0, HOUR);

    f->s.space.shards = 2;
    *state = f;
    return f->s.dir[0] ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    usage_free(&seen);
    if (f->c)
        assert_int_equal(cistern_close(f->c), 0);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

static void open_shard(struct fixture *f, uint32_t shard)
{
    f->s.o.shard = shard;
    open_store(f);
}

static void close_store(struct fixture *f)
{
    cistern *c = f->c;

    f->c = NULL;
    assert_int_equal(cistern_close(c), 0);
}

/* Four segments and the note in a later one. */
static void fill_and_delete(struct fixture *f)
{
    uint32_t i;

    for (i = 0; i < BLOCKS; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(metric_get(&f->c->metrics, METRIC_segments_sealed) >= 3);
    put_all(f, BLOCKS, BATCH);
    assert_int_equal(cistern_delete(f->c, &f->keys[DELETED], 1), 1);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
}

static struct usage_segment *last_of(const char *dir)
{
    struct usage_segment *last = NULL;
    size_t i;

    for (i = 0; i < seen.nsegs; i++) {
        if (strstr(seen.dirs[seen.segs[i].dir].path, dir) && seen.segs[i].toc &&
            (!last || seen.segs[i].seq > last->seq))
            last = &seen.segs[i];
    }
    assert_non_null(last);
    return last;
}

static uint32_t contents_of(const char *dir)
{
    uint32_t n = 0;
    size_t i;

    for (i = 0; i < seen.nsegs; i++)
        n += strstr(seen.dirs[seen.segs[i].dir].path, dir) && seen.segs[i].toc;
    return n;
}

static void scan(struct fixture *f)
{
    assert_int_equal(usage_scan(&seen, f->c), 0);
}

/* A later open finds what was stored, but for what was deleted. */
static void deletion_holds(struct fixture *f, uint32_t shard)
{
    open_shard(f, shard);
    assert_true(get_one(f, DELETED - 1));
    assert_false(get_one(f, DELETED));
    assert_true(get_one(f, DELETED + 1));
    assert_int_equal(metric_get(&f->c->metrics, METRIC_contents_bad), 0);
    assert_int_equal(metric_get(&f->c->metrics, METRIC_data_missing), 0);
    close_store(f);
}

static void evict_last(struct fixture *f, const char *dir)
{
    struct usage_segment *s = last_of(dir);

    assert_int_equal(notes_keep(f->c, &seen, s, false), 0);
    assert_int_equal(evict_begin(f->c, &seen, s), 0);
}

static void another_shard_writes_them(struct fixture *f)
{
    open_shard(f, 1);
    fill_and_delete(f);
    close_store(f);
    open_shard(f, 0);
    scan(f);
    assert_int_equal(contents_of("s1of2"), 5);
    evict_last(f, "s1of2");
    assert_int_equal(metric_get(&f->c->metrics, METRIC_notes_moved), 1);
    close_store(f);
    deletion_holds(f, 1);
}

static void another_shard_writes_the_notes_down(void **state)
{
    another_shard_writes_them(*state);
}

static void an_encrypted_root_has_encrypted_notes(void **state)
{
    struct fixture *f = *state;

    use_key(f);
    another_shard_writes_them(f);
}

/* Contents without data. */
static struct usage_segment *notes_alone(void)
{
    struct usage_segment *s = NULL;
    size_t i;

    for (i = 0; i < seen.nsegs; i++) {
        if (seen.segs[i].toc && !seen.segs[i].seg_bytes)
            s = &seen.segs[i];
    }
    assert_non_null(s);
    return s;
}

/* Nothing would be gained by moving notes alone; when what they name is gone they may go. */
static void notes_alone_stay_until_they_are_useless(void **state)
{
    struct fixture *f = *state;
    struct usage_segment *s;
    size_t i;

    open_shard(f, 1);
    fill_and_delete(f);
    close_store(f);
    open_shard(f, 0);
    scan(f);
    evict_last(f, "s1of2");
    scan(f);
    s = notes_alone();
    assert_int_equal(notes_keep(f->c, &seen, s, false), -EBUSY);
    assert_true(s->wait_ns > 0);
    for (i = 0; i < seen.nsegs; i++) {
        if (seen.segs[i].toc && seen.segs[i].seq == 0 && &seen.segs[i] != s)
            assert_int_equal(evict_begin(f->c, &seen, &seen.segs[i]), 0);
    }
    assert_int_equal(notes_keep(f->c, &seen, s, false), 0);
}

/* A writer of that shard takes notes alone over, and nothing of them is left. */
static void the_next_writer_takes_them_over(void **state)
{
    struct fixture *f = *state;
    struct usage_segment *s;

    open_shard(f, 1);
    fill_and_delete(f);
    close_store(f);
    open_shard(f, 0);
    scan(f);
    evict_last(f, "s1of2");
    close_store(f);
    usage_free(&seen);
    open_shard(f, 1);
    scan(f);
    s = notes_alone();
    assert_int_equal(notes_keep(f->c, &seen, s, false), -EAGAIN);
    WAIT_FOR(notes_keep(f->c, &seen, s, false) == 0);
    assert_int_equal(evict_begin(f->c, &seen, s), 0);
    close_store(f);
    deletion_holds(f, 1);
}

static void a_living_writer_is_left_to_it(void **state)
{
    struct fixture *f = *state;
    cistern *other;

    open_shard(f, 1);
    fill_and_delete(f);
    other = f->c;
    open_shard(f, 0);
    scan(f);
    assert_int_equal(notes_keep(f->c, &seen, last_of("s1of2"), false), -EBUSY);
    assert_int_equal(notes_keep(f->c, &seen, last_of("s1of2"), true), -EBUSY);
    assert_int_equal(cistern_close(other), 0);
    scan(f);
    assert_int_equal(notes_keep(f->c, &seen, last_of("s1of2"), false), 0);
}

static const char *from, *to;

static int rename_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    size_t n = strlen(path), m = strlen(from);
    char other[1024];

    (void)st;
    (void)where;
    if (kind != FTW_F || !strstr(path, "s0of2") || n < m || strcmp(path + n - m, from) != 0)
        return 0;
    (void)snprintf(other, sizeof other, "%.*s%s", (int)(n - m), path, to);
    return rename(path, other);
}

static void rename_all(const struct fixture *f, const char *a, const char *b)
{
    from = a;
    to = b;
    assert_int_equal(nftw(f->s.dir, rename_one, 16, FTW_PHYS), 0);
}

/* The last contents, which are read before they go. */
static void evict_after_its_notes(struct fixture *f)
{
    struct usage_segment *s;

    scan(f);
    s = last_of("s0of2");
    assert_int_equal(notes_keep(f->c, &seen, s, false), -EAGAIN);
    WAIT_FOR(notes_keep(f->c, &seen, s, false) == 0);
    assert_int_equal(evict_begin(f->c, &seen, s), 0);
}

/* The contents came to light after this process looked: it knows neither them nor what they name.
 */
static void what_was_never_read_is_read_first(void **state)
{
    struct fixture *f = *state;

    open_shard(f, 0);
    fill_and_delete(f);
    close_store(f);
    rename_all(f, ".toc", ".away");
    f->s.o.flags = CISTERN_OPEN_NO_FOLLOW;
    open_shard(f, 0);
    f->s.o.flags = 0;
    rename_all(f, ".away", ".toc");
    evict_after_its_notes(f);
    close_store(f);
    deletion_holds(f, 0);
}

/* It has the blocks, and evicts the contents that take one away before it read them: nobody else
 * would ever tell it. */
static void who_evicts_notes_hears_of_them(void **state)
{
    struct fixture *f = *state;

    open_shard(f, 0);
    fill_and_delete(f);
    close_store(f);
    rename_all(f, "4.toc", "4.away");
    f->s.o.flags = CISTERN_OPEN_NO_FOLLOW;
    open_shard(f, 0);
    f->s.o.flags = 0;
    rename_all(f, "4.away", "4.toc");
    assert_true(get_one(f, DELETED));
    evict_after_its_notes(f);
    assert_int_equal(cistern_refresh(f->c, SOON_MS), 0);
    assert_true(get_one(f, DELETED - 1));
    assert_false(get_one(f, DELETED));
    close_store(f);
    deletion_holds(f, 0);
}

/* Its own: the contents stay until the notes stand elsewhere. */
static void they_are_published_before_the_contents_go(void **state)
{
    struct fixture *f = *state;
    struct usage_segment *s;
    uint64_t dead;

    open_shard(f, 0);
    fill_and_delete(f);
    close_store(f);
    open_shard(f, 0);
    scan(f);
    s = last_of("s0of2");
    dead = metric_get(&f->c->metrics, METRIC_dead_records);
    assert_int_equal(notes_keep(f->c, &seen, s, false), -EAGAIN);
    WAIT_FOR(notes_keep(f->c, &seen, s, false) == 0);
    assert_int_equal(metric_get(&f->c->metrics, METRIC_dead_records), dead + 1);
    assert_int_equal(evict_begin(f->c, &seen, s), 0);
    close_store(f);
    deletion_holds(f, 0);
}

/* ---- Crashes ---- */

static const char *die_at;

static void die(const char *name)
{
    if (strcmp(name, die_at) == 0)
        (void)kill(getpid(), SIGKILL);
}

static void killed_at(struct fixture *f, const char *point)
{
    int status;
    pid_t pid;

    open_shard(f, 1);
    fill_and_delete(f);
    close_store(f);
    pid = fork();
    if (pid == 0) {
        open_shard(f, 0);
        scan(f);
        die_at = point;
        fault_hook = die;
        _exit(3 + notes_keep(f->c, &seen, last_of("s1of2"), false));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    deletion_holds(f, 1);
}

static void killed_while_it_writes_them(void **state)
{
    killed_at(*state, "notes.made");
}

static void killed_before_its_head(void **state)
{
    killed_at(*state, "notes.contents_made");
}

static void killed_before_its_contents(void **state)
{
    killed_at(*state, "notes.data_made");
}

static char bare[1024]; /* contents whose data is lost */

static bool was_swept(struct fixture *f)
{
    scan(f);
    (void)evict_collect(f->c, &seen, 0, 1);
    return access(bare, F_OK) != 0;
}

/* The data file beside them is lost, and contents without data are litter: not before what they say
 * of others is said elsewhere. */
static void contents_without_data_pass_them_on(void **state)
{
    struct fixture *f = *state;
    struct usage_segment *s;
    char name[SEGMENT_NAME_MAX], data[1024];

    open_shard(f, 1);
    fill_and_delete(f);
    close_store(f);
    open_shard(f, 1);
    scan(f);
    s = last_of("s1of2");
    segment_name(name, s->writer, s->seq, ".toc");
    (void)snprintf(bare, sizeof bare, "%s/%s/%s", f->s.dir, seen.dirs[s->dir].path, name);
    segment_name(name, s->writer, s->seq, ".seg");
    (void)snprintf(data, sizeof data, "%s/%s/%s", f->s.dir, seen.dirs[s->dir].path, name);
    assert_int_equal(unlink(data), 0);
    close_store(f);
    usage_free(&seen);
    open_shard(f, 1);
    put_all(f, BLOCKS + BATCH, BATCH); /* the keeper makes no segment while this thread sweeps */
    WAIT_FOR(was_swept(f));
    close_store(f);
    deletion_holds(f, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(another_shard_writes_the_notes_down),
        TEST(notes_alone_stay_until_they_are_useless),
        TEST(the_next_writer_takes_them_over),
        TEST(a_living_writer_is_left_to_it),
        TEST(what_was_never_read_is_read_first),
        TEST(who_evicts_notes_hears_of_them),
        TEST(they_are_published_before_the_contents_go),
        TEST(killed_while_it_writes_them),
        TEST(killed_before_its_head),
        TEST(killed_before_its_contents),
        TEST(contents_without_data_pass_them_on),
        TEST(an_encrypted_root_has_encrypted_notes),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
