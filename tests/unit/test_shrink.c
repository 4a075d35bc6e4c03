/*
 * test_shrink.c - cistern_shrink() brings nothing back that was deleted, wherever it ends: where it
 * is killed, where something cannot be removed or read, in a retired space, without the key.
 *
 * Two lives in one shard: the first stores, the second says that a block of the first is deleted.
 */
#include <errno.h>
#include <fcntl.h>

#include "evict_fixture.h"

#include "cistern_admin.h"
#include "io/hook.h"

enum { DELETED = 0, FIRST = 4, ALL = 8, TRIES = 64 };

struct lives {
    struct fixture *f;
    char first[32], second[32]; /* names of their segments, without a suffix */
};

/* ---- Storage that refuses a file ---- */

static struct io_ops ops;
static const struct io_ops *below;
static const char *no_unlink, *no_open; /* a part of the path */

static int unlink_refused(struct io *io, const char *path)
{
    return no_unlink && strstr(path, no_unlink) ? -EPERM : below->unlink(io, path);
}

static int open_refused(struct io *io, const char *path, unsigned mode, struct io_file *f)
{
    return no_open && strstr(path, no_open) ? -EIO : below->file_open(io, path, mode, f);
}

static int hook(const struct io_options *o, struct io **out)
{
    int rc;

    io_open_hook = NULL;
    rc = io_open(o, out);
    io_open_hook = hook;
    if (rc)
        return rc;
    below = (*out)->ops;
    ops = *below;
    ops.unlink = unlink_refused;
    ops.file_open = open_refused;
    (*out)->ops = &ops;
    return 0;
}

/* ---- Two lives ---- */

static int setup(void **state)
{
    *state = fixture_new(0, 60000);
    return 0;
}

static void close_store(struct fixture *f)
{
    cistern *c = f->c;

    f->c = NULL;
    assert_int_equal(cistern_close(c), 0);
}

/* The only contents beside `known`, without directory and suffix. */
static void name_of(const struct fixture *f, const char *known, char out[32])
{
    char path[512];
    glob_t g;
    size_t i;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s0of1/*.toc", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, *known ? 2 : 1);
    for (i = 0; i < g.gl_pathc; i++) {
        const char *name = strrchr(g.gl_pathv[i], '/') + 1;

        if (!*known || strncmp(name, known, strlen(known)) != 0)
            (void)snprintf(out, 32, "%.*s", (int)strcspn(name, "."), name);
    }
    globfree(&g);
}

static void remove_all(const struct fixture *f)
{
    char command[600];

    (void)snprintf(command, sizeof command, "rm -rf %s/rtp_llm", f->s.dir);
    assert_int_equal(system(command), 0);
}

/* Until the second's name comes first in a listing. */
static struct lives live(struct fixture *f)
{
    struct lives l = {.f = f};
    uint32_t i;

    for (i = 0; i < TRIES && (!i || strcmp(l.second, l.first) > 0); i++) {
        remove_all(f);
        open_store(f);
        put_all(f, 0, FIRST);
        close_store(f);
        name_of(f, "", l.first);
        open_store(f);
        put_all(f, FIRST, BATCH);
        assert_int_equal(cistern_delete(f->c, &f->keys[DELETED], 1), 1);
        assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
        close_store(f);
        name_of(f, l.first, l.second);
    }
    assert_true(strcmp(l.second, l.first) < 0);
    return l;
}

/* Eviction takes the older one first. */
static void date(const struct fixture *f, const char *segment, time_t when)
{
    struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
    char path[512];
    glob_t g;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s0of1/%s.toc", f->s.dir, segment);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    assert_int_equal(utimensat(AT_FDCWD, g.gl_pathv[0], times, 0), 0);
    globfree(&g);
}

struct removed {
    uint32_t files, most; /* most: then it has had enough */
};

static int on_file(void *arg, const struct cistern_removal *x)
{
    struct removed *r = arg;

    r->files += x->result == 0;
    return r->most && r->files >= r->most ? 7 : 0;
}

static struct cistern_shrink_sum shrink(struct fixture *f, uint64_t to, struct removed *r,
                                        int answer)
{
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o};
    struct cistern_shrink how = {.size = sizeof how, .to_bytes = to, .grace_ms = 1};
    struct cistern_shrink_sum sum = {.size = sizeof sum};

    assert_int_equal(cistern_shrink(&a, &how, on_file, r, &sum), answer);
    return sum;
}

/* One segment is enough. */
static struct cistern_shrink_sum shrink_a_little(struct fixture *f, struct removed *r)
{
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o, .flags = CISTERN_ADMIN_DRY_RUN};
    struct cistern_shrink how = {.size = sizeof how, .to_bytes = UINT64_MAX};
    struct cistern_shrink_sum sum = {.size = sizeof sum};

    assert_int_equal(cistern_shrink(&a, &how, on_file, r, &sum), 0);
    return shrink(f, sum.used_bytes - 1, r, 0);
}

/* What was deleted is not there, and `hits` of the others are. */
static void is_away(struct fixture *f, uint32_t hits)
{
    open_store(f);
    assert_false(get_one(f, DELETED));
    assert_int_equal(get_hits(f, DELETED + 1, ALL), hits);
}

/* ---- Wherever it ends ---- */

static void ended_after_each_file(void **state)
{
    struct fixture *f = *state;
    uint32_t most;

    for (most = 1; most <= 4; most++) {
        struct lives l = live(f);
        struct removed r = {.most = most};

        date(f, l.first, 1000000);
        (void)shrink(f, 1, &r, 7);
        assert_int_equal(r.files, most);
        is_away(f, most < 2 ? BATCH : 0);
        close_store(f);
    }
}

static void what_cannot_be_removed_keeps_what_says_of_it(void **state)
{
    struct fixture *f = *state;
    struct lives l = live(f);
    struct removed r = {0};
    struct cistern_shrink_sum sum;
    char path[40];

    date(f, l.first, 1000000);
    (void)snprintf(path, sizeof path, "%s.toc", l.first);
    no_unlink = path;
    io_open_hook = hook;
    sum = shrink(f, 1, &r, 0);
    io_open_hook = NULL;
    assert_int_equal(sum.failed, 1);
    assert_int_equal(sum.kept, 2);
    assert_int_equal(sum.segments, 0);
    assert_int_equal(r.files, 0);
    is_away(f, ALL - 1);
}

/* What cannot be read may say something: it stays, and so does what may be meant. */
static void what_cannot_be_read_stays(void **state)
{
    struct fixture *f = *state;
    struct lives l = live(f);
    struct removed r = {0};
    char path[40];
    int i;

    for (i = 0; i < 2; i++) {
        date(f, l.second, 1000000);
        (void)snprintf(path, sizeof path, "%s.toc", i ? l.first : l.second);
        no_open = path;
        io_open_hook = hook;
        assert_int_equal(shrink_a_little(f, &r).kept, i ? 2 : 1);
        io_open_hook = NULL;
        is_away(f, i ? ALL - 1 : BATCH);
        close_store(f);
        if (!i)
            l = live(f);
    }
}

static int on_retired(void *arg, const struct cistern_retired *x)
{
    (void)arg;
    return x->result;
}

/* Pins do not count there, deletions do: what is there is found until it goes. */
static void in_a_retired_space_too(void **state)
{
    struct fixture *f = *state;
    struct lives l = live(f);
    struct cistern_admin a = {.size = sizeof a, .store = &f->s.o};
    struct cistern_retire how = {.size = sizeof how};
    struct removed r = {0};

    assert_int_equal(cistern_retire(&a, &how, on_retired, NULL), 1);
    date(f, l.second, 1000000);
    assert_int_equal(shrink_a_little(f, &r).kept, 1);
    is_away(f, BATCH);
}

/* Nobody can tell what encrypted contents say. */
static void without_the_key_nothing_goes(void **state)
{
    struct fixture *f = *state;
    struct removed r = {0};
    const char *key;
    struct lives l;

    use_key(f);
    key = f->s.o.encryption_key_file;
    l = live(f);
    date(f, l.second, 1000000);
    f->s.o.encryption_key_file = NULL;
    assert_int_equal(shrink_a_little(f, &r).kept, 2);
    f->s.o.encryption_key_file = key;
    is_away(f, ALL - 1);
    close_store(f);
    assert_int_equal(shrink_a_little(f, &r).segments, 1); /* with it, one goes */
    is_away(f, BATCH);
}

static int teardown(void **state)
{
    io_open_hook = NULL;
    no_unlink = no_open = NULL;
    return fixture_end(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(ended_after_each_file),        TEST(what_cannot_be_removed_keeps_what_says_of_it),
        TEST(what_cannot_be_read_stays),    TEST(in_a_retired_space_too),
        TEST(without_the_key_nothing_goes),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
