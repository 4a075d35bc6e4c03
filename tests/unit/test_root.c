/*
 * test_root.c - cistern.json, salt and space.json on a file system in memory: made once, read,
 * mended, refused, raced for, and every call failing in turn; and on a real directory by several
 * processes at once.
 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "key/key.h"
#include "segment/root.h"

/* ---- A file system in memory behind struct io ---- */

struct fake_file {
    char path[256];
    char data[SPACE_JSON_MAX];
    size_t len;
    bool dir;
};

static struct fake_file files[32];
static size_t nfiles;
static unsigned calls, fail_at; /* the fail_at-th call answers fail_with; 0 = never */
static int fail_with;
static unsigned writes;                            /* small_write calls that wrote */
static void (*before_exclusive)(const char *path); /* another process, just before us */

static bool failing(void)
{
    return ++calls == fail_at;
}

static struct fake_file *fake_find(const char *path)
{
    size_t i;

    for (i = 0; i < nfiles; i++) {
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    }
    return NULL;
}

static struct fake_file *fake_put(const char *path, const void *data, size_t len, bool dir)
{
    struct fake_file *f = fake_find(path);

    if (!f) {
        assert_true(nfiles < 32);
        f = &files[nfiles++];
        (void)snprintf(f->path, sizeof f->path, "%s", path);
    }
    assert_true(len <= sizeof f->data);
    memcpy(f->data, data, len);
    f->len = len;
    f->dir = dir;
    return f;
}

static void fake_remove(const char *path)
{
    struct fake_file *f = fake_find(path);

    assert_non_null(f);
    *f = files[--nfiles];
}

/* Is the directory that a path lies in there? */
static bool parent_there(const char *path)
{
    char dir[256];
    char *slash;

    (void)snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (!slash)
        return true;
    *slash = '\0';
    return fake_find(dir) && fake_find(dir)->dir;
}

static int fake_make_dir(struct io *io, const char *path)
{
    (void)io;
    if (failing())
        return fail_with;
    assert_true(path[0] != '/');
    if (!*path || fake_find(path))
        return 0;
    if (!parent_there(path))
        return -ENOENT;
    (void)fake_put(path, "", 0, true);
    return 0;
}

static int fake_list(struct io *io, const char *path, int (*visit)(void *, const char *), void *arg)
{
    size_t i, n = strlen(path);

    (void)io;
    if (failing())
        return fail_with;
    if (!fake_find(path))
        return -ENOENT;
    for (i = 0; i < nfiles; i++) {
        const char *p = files[i].path;
        int rc;

        if (strncmp(p, path, n) || p[n] != '/' || strchr(p + n + 1, '/'))
            continue;
        rc = visit(arg, p + n + 1);
        if (rc)
            return rc;
    }
    return 0;
}

static int64_t fake_small_read(struct io *io, const char *path, void *buf, size_t size)
{
    struct fake_file *f;

    (void)io;
    if (failing())
        return fail_with;
    assert_true(path[0] != '/');
    f = fake_find(path);
    if (!f)
        return -ENOENT;
    if (f->len > size)
        return -EFBIG;
    memcpy(buf, f->data, f->len);
    return (int64_t)f->len;
}

static int fake_small_write(struct io *io, const char *path, const void *data, size_t len,
                            bool exclusive)
{
    (void)io;
    if (failing())
        return fail_with;
    if (exclusive && before_exclusive)
        before_exclusive(path);
    if (exclusive && fake_find(path))
        return -EEXIST;
    if (!parent_there(path))
        return -ENOENT;
    (void)fake_put(path, data, len, false);
    writes++;
    return 0;
}

static int fake_sync_dir(struct io *io, const char *path)
{
    (void)io;
    (void)path;
    return 0;
}

static const struct io_ops fake_ops = {.name = "fake",
                                       .make_dir = fake_make_dir,
                                       .list = fake_list,
                                       .small_read = fake_small_read,
                                       .small_write = fake_small_write,
                                       .sync_dir = fake_sync_dir};
static struct io fake = {.ops = &fake_ops, .mount = "/mnt"};

static int fresh(void **state)
{
    (void)state;
    nfiles = 0;
    calls = fail_at = writes = 0;
    before_exclusive = NULL;
    return 0;
}

/* ---- Root ---- */

static const struct root_params params = {
    .capacity_bytes = 1ull << 40, .segment_bytes = 1ull << 30, .may_write = true};
static const struct root_params look = {.segment_bytes = 77, .may_write = false};

/* What of a file is believed. */
static void silence_is(const char *text, uint32_t wanted)
{
    uint32_t ms = 7;

    assert_int_equal(fake.ops->small_write(&fake, "r/cistern.json", text, strlen(text), false), 0);
    assert_int_equal(root_silence(&fake, "r", &ms), 0);
    assert_int_equal(ms, wanted);
}

#define SAYS(more) "{\"format\":1,\"capacity_bytes\":5,\"created_s\":6,\"segment_bytes\":7" more "}"

/* That of who made it; a root of a version before has none. */
static void test_root_has_one_silence(void **state)
{
    struct root_params p = params;
    struct root_info info;
    uint32_t ms = 0;

    (void)state;
    p.silence_ms = 1234;
    assert_int_equal(root_prepare(&fake, "r", &p, &info), 0);
    p.silence_ms = 99999;
    assert_int_equal(root_prepare(&fake, "r", &p, &info), 0);
    assert_int_equal(info.silence_ms, 1234);
    assert_int_equal(root_set_capacity(&fake, "r", 5), 0);
    assert_int_equal(root_silence(&fake, "r", &ms), 0);
    assert_int_equal(ms, 1234);
    silence_is(SAYS(""), 0);
    silence_is(SAYS(",\"silence_ms\":100"), 100);
    silence_is(SAYS(",\"silence_ms\":99"), 0);
    silence_is(SAYS(",\"silence_ms\":3600001"), 0);
    silence_is(SAYS(",\"silence_ms\":\"60\""), 0);
}

static void test_root_is_made_once_and_read_again(void **state)
{
    struct root_info a, b;
    static const uint8_t zero[32];

    (void)state;
    assert_int_equal(root_prepare(&fake, "deep/root", &params, &a), 0);
    assert_true(a.created && !a.healed);
    assert_int_equal(a.capacity_bytes, 1ull << 40);
    assert_int_equal(a.segment_bytes, 1ull << 30);
    assert_true(a.created_s > 1600000000);
    assert_memory_not_equal(a.salt, zero, 32);
    assert_int_equal(fake_find("deep/root/salt")->len, 32);
    assert_int_equal(writes, 2);
    /* what was written first holds, whatever is asked for later */
    assert_int_equal(root_prepare(&fake, "deep/root", &look, &b), 0);
    assert_true(!b.created && !b.healed);
    assert_int_equal(b.capacity_bytes, a.capacity_bytes);
    assert_int_equal(b.segment_bytes, a.segment_bytes);
    assert_int_equal(b.created_s, a.created_s);
    assert_memory_equal(a.salt, b.salt, 32);
    assert_int_equal(writes, 2);
}

static void test_root_may_be_the_mount(void **state)
{
    struct root_info info;

    (void)state;
    assert_int_equal(root_prepare(&fake, "", &params, &info), 0);
    assert_non_null(fake_find("cistern.json"));
    assert_non_null(fake_find("salt"));
}

static void test_root_is_not_made_by_who_may_not_write(void **state)
{
    struct root_info info;

    (void)state;
    assert_int_equal(root_prepare(&fake, "root", &look, &info), -ENOENT);
    assert_int_equal(nfiles, 0);
    assert_non_null(strstr(err_text(), "/mnt/root"));
}

static void test_root_of_a_later_version_is_refused(void **state)
{
    static const char later[] = "{\"format\":2,\"anything\":[]}";
    struct root_info info;

    (void)state;
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    (void)fake_put("r/cistern.json", later, sizeof later - 1, false);
    writes = 0;
    assert_int_equal(root_prepare(&fake, "r", &params, &info), CISTERN_EFORMAT);
    assert_non_null(strstr(err_text(), "version 2"));
    assert_int_equal(writes, 0);
}

static void test_root_with_unknown_members_is_read(void **state)
{
    static const char text[] = "{\"format\":1,\"capacity_bytes\":5,\"created_s\":6,"
                               "\"segment_bytes\":7,\"later\":{\"x\":1}}";
    struct root_info info;

    (void)state;
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    (void)fake_put("r/cistern.json", text, sizeof text - 1, false);
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    assert_int_equal(info.capacity_bytes, 5);
    assert_int_equal(info.created_s, 6);
    assert_int_equal(info.segment_bytes, 7);
    assert_false(info.healed);
}

static void test_damaged_root_file_is_mended(void **state)
{
    static const char *const damaged[] = {"",
                                          "{",
                                          "[]",
                                          "{\"format\":\"1\"}",
                                          "{\"format\":0}",
                                          "{\"format\":1,\"capacity_bytes\":-1,\"created_s\":1,"
                                          "\"segment_bytes\":1}"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        struct root_info a, b;

        assert_int_equal(root_prepare(&fake, "r", &params, &a), 0);
        (void)fake_put("r/cistern.json", damaged[i], strlen(damaged[i]), false);
        assert_int_equal(root_prepare(&fake, "r", &look, &b), 0);
        assert_true(b.healed);
        assert_int_equal(b.segment_bytes, 77);
        assert_int_equal(root_prepare(&fake, "r", &params, &b), 0);
        assert_true(b.healed && !b.created);
        assert_int_equal(b.capacity_bytes, params.capacity_bytes);
        assert_memory_equal(a.salt, b.salt, 32);
        assert_int_equal(root_prepare(&fake, "r", &params, &b), 0);
        assert_false(b.healed);
    }
}

static void test_damaged_salt_is_an_error(void **state)
{
    struct root_info info;

    (void)state;
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    (void)fake_put("r/salt", "short", 5, false);
    assert_int_equal(root_prepare(&fake, "r", &params, &info), -EBADMSG);
    assert_non_null(strstr(err_text(), "r/salt"));
    (void)fake_put("r/salt", "a salt of thirty-three bytes .....", 34, false);
    assert_int_equal(root_prepare(&fake, "r", &params, &info), -EBADMSG);
}

static void other_process(const char *path)
{
    static const char json[] =
        "{\"format\":1,\"capacity_bytes\":1,\"created_s\":2,\"segment_bytes\":3}";
    uint8_t salt[32];

    memset(salt, 0x42, sizeof salt);
    if (strstr(path, "salt"))
        (void)fake_put(path, salt, sizeof salt, false);
    else
        (void)fake_put(path, json, sizeof json - 1, false);
}

static void test_the_loser_of_a_race_takes_what_the_winner_wrote(void **state)
{
    struct root_info info;

    (void)state;
    before_exclusive = other_process;
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    assert_int_equal(writes, 0);
    assert_false(info.created);
    assert_int_equal(info.capacity_bytes, 1);
    assert_int_equal(info.segment_bytes, 3);
    assert_int_equal(info.salt[31], 0x42);
}

/* Every storage call fails in turn: an error comes out, nothing that was there changes. */
static void test_root_fails_cleanly_at_every_call(void **state)
{
    struct root_info info, good;
    unsigned n, failed;

    (void)state;
    for (n = 1, failed = 0;; n++) {
        int rc;

        fresh(NULL);
        fail_at = n;
        fail_with = -EIO;
        rc = root_prepare(&fake, "a/b", &params, &info);
        if (calls < n)
            break;
        failed++;
        assert_int_equal(rc, -EIO);
        fail_at = 0;
        assert_int_equal(root_prepare(&fake, "a/b", &params, &good), 0);
    }
    assert_true(failed >= 6);
    for (n = 1, failed = 0;; n++) {
        calls = writes = 0;
        fail_at = n;
        if (root_prepare(&fake, "a/b", &params, &info) == 0)
            break;
        failed++;
        assert_int_equal(writes, 0); /* EIO is no reason to write */
    }
    assert_true(failed >= 4);
}

/* ---- Space ---- */

static const struct cistern_part parts[] = {{.name = "attn", .bytes = 65536}};
static const struct cistern_space space = {.size = sizeof space,
                                           .name = "tiny",
                                           .model = "m",
                                           .dtype = "bf16",
                                           .block_tokens = 64,
                                           .layers = 4,
                                           .shards = 2,
                                           .nparts = 1,
                                           .parts = parts};

struct named {
    uint8_t fingerprint[32];
    char dir[SPACE_DIR_MAX];
    char path[256]; /* of its space.json */
};

static struct named space_make(void)
{
    struct named n;
    struct root_info info;
    bool healed = true;

    assert_int_equal(space_fingerprint(&space, n.fingerprint), 0);
    space_dir_name(&space, n.fingerprint, n.dir);
    (void)snprintf(n.path, sizeof n.path, "r/%s/space.json", n.dir);
    assert_int_equal(root_prepare(&fake, "r", &params, &info), 0);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
    assert_false(healed);
    return n;
}

static void add_shard(const struct named *n)
{
    char path[300];

    (void)snprintf(path, sizeof path, "r/%s/s0of2", n->dir);
    (void)fake_put(path, "", 0, true);
}

static void test_space_is_made_and_found_again(void **state)
{
    struct named n = space_make();
    char json[SPACE_JSON_MAX];
    bool healed = true;
    int len = space_json(&space, json, sizeof json);

    (void)state;
    assert_int_equal(fake_find(n.path)->len, len);
    assert_memory_equal(fake_find(n.path)->data, json, (size_t)len);
    writes = 0;
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, false, &healed), 0);
    assert_false(healed);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
    assert_false(healed);
    assert_int_equal(writes, 0);
}

static void test_space_is_not_made_by_who_may_not_write(void **state)
{
    struct named n = space_make();
    bool healed;

    (void)state;
    fake_remove(n.path);
    (void)snprintf(n.path, sizeof n.path, "r/%s", n.dir);
    fake_remove(n.path);
    writes = 0;
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, false, &healed),
                     -ENOENT);
    assert_int_equal(writes, 0);
}

/* The directory's name is the proof of what the file must say. */
static void test_damaged_description_is_mended(void **state)
{
    struct named n = space_make();
    char flipped[SPACE_JSON_MAX], big[SPACE_JSON_MAX];
    size_t len = fake_find(n.path)->len;
    const struct {
        const char *data;
        size_t len;
    } damaged[] = {{"", 0},      {"{", 1},     {"{}\n", 3},           {flipped, len},
                   {flipped, 9}, {big, 16384}, {"{\"layers\":4}", 12}};
    size_t i;

    (void)state;
    memcpy(flipped, fake_find(n.path)->data, len);
    *strstr(flipped, "\"layers\":4") = 'L'; /* no JSON any more */
    memset(big, ' ', sizeof big);
    add_shard(&n);
    for (i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        bool healed = false;

        (void)fake_put(n.path, damaged[i].data, damaged[i].len, false);
        writes = 0;
        assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, false, &healed),
                         0);
        assert_true(healed); /* seen, not mended */
        assert_int_equal(writes, 0);
        assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
        assert_true(healed);
        assert_int_equal(writes, 1);
        assert_int_equal(fake_find(n.path)->len, len);
        assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
        assert_false(healed);
    }
}

static void test_deleted_description_is_written_again(void **state)
{
    struct named n = space_make();
    bool healed = true;

    (void)state;
    fake_remove(n.path);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
    assert_false(healed); /* an empty directory: somebody was about to make it */
    add_shard(&n);
    fake_remove(n.path);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed), 0);
    assert_true(healed);
    assert_non_null(fake_find(n.path));
}

/* A directory that was asked for by name and is another model's. */
static void test_another_space_is_refused_by_field(void **state)
{
    struct named n = space_make();
    struct cistern_space other = space;
    uint8_t fingerprint[32];
    bool healed;

    (void)state;
    other.layers = 5;
    assert_int_equal(space_fingerprint(&other, fingerprint), 0);
    writes = 0;
    assert_int_equal(space_prepare(&fake, "r", n.dir, &other, fingerprint, true, &healed),
                     CISTERN_ESPACE);
    assert_non_null(strstr(err_text(), "layers"));
    assert_non_null(strstr(err_text(), n.dir));
    (void)fake_put(n.path, "{", 1, false);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &other, fingerprint, true, &healed),
                     CISTERN_ESPACE);
    fake_remove(n.path);
    assert_int_equal(space_prepare(&fake, "r", n.dir, &other, fingerprint, true, &healed),
                     CISTERN_ESPACE);
    assert_int_equal(space_prepare(&fake, "r", "nowhere", &other, fingerprint, true, &healed),
                     CISTERN_ESPACE);
    assert_int_equal(writes, 0);
}

/* Moved to another name, the description still says whose it is. */
static void test_renamed_directory_with_the_same_description_is_taken(void **state)
{
    struct named n = space_make();
    bool healed = true;

    (void)state;
    (void)fake_put("r/mine", "", 0, true);
    (void)fake_put("r/mine/space.json", fake_find(n.path)->data, fake_find(n.path)->len, false);
    assert_int_equal(space_prepare(&fake, "r", "mine", &space, n.fingerprint, true, &healed), 0);
    assert_false(healed);
}

static void test_space_fails_cleanly_at_every_call(void **state)
{
    struct named n = space_make();
    unsigned i, failed = 0;

    (void)state;
    fake_remove(n.path);
    for (i = 1;; i++) {
        bool healed = true;
        int rc;

        calls = 0;
        fail_at = i;
        fail_with = -EIO;
        rc = space_prepare(&fake, "r", n.dir, &space, n.fingerprint, true, &healed);
        if (calls < i)
            break;
        failed++;
        assert_int_equal(rc, -EIO);
        assert_true(healed); /* untouched */
        assert_null(fake_find(n.path));
    }
    assert_true(failed >= 4);
    assert_non_null(fake_find(n.path));
}

/* ---- A real directory through the drop-in ---- */

#define RACERS 8

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

/* One of several processes that make the same root and space at once; tells its salt. */
static int racer(const char *dir, int start, int out)
{
    const struct io_options options = {.mount = dir, .provider = "local"};
    uint8_t fingerprint[32];
    char name[SPACE_DIR_MAX], go;
    struct root_info info;
    struct io *io = NULL;
    bool healed;
    int rc = io_open(&options, &io);

    if (rc == 0)
        rc = space_fingerprint(&space, fingerprint);
    if (rc == 0 && read(start, &go, 1) != 0)
        rc = -EIO;
    if (rc == 0)
        rc = root_prepare(io, "some/root", &params, &info);
    if (rc == 0) {
        space_dir_name(&space, fingerprint, name);
        rc = space_prepare(io, "some/root", name, &space, fingerprint, true, &healed);
    }
    io_close(io);
    if (rc == 0 && write(out, info.salt, 32) != 32)
        rc = -EIO;
    return rc ? 1 : 0;
}

static void test_processes_that_race_agree(void **state)
{
    char dir[] = "/tmp/cistern-root-XXXXXX", path[64];
    uint8_t salts[RACERS][32];
    int start[2], out[2], i, status;
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe(start) | pipe(out), 0);
    for (i = 0; i < RACERS; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            close(start[1]);
            _exit(racer(dir, start[0], out[1]));
        }
    }
    close(start[0]);
    close(start[1]); /* all go */
    for (i = 0; i < RACERS; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(read(out[0], salts, sizeof salts), sizeof salts);
    for (i = 1; i < RACERS; i++)
        assert_memory_equal(salts[i], salts[0], 32);
    (void)snprintf(path, sizeof path, "%s/some/root/salt", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(out[0]);
    close(out[1]);
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#define TEST(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_root_has_one_silence),
        TEST(test_root_is_made_once_and_read_again),
        TEST(test_root_may_be_the_mount),
        TEST(test_root_is_not_made_by_who_may_not_write),
        TEST(test_root_of_a_later_version_is_refused),
        TEST(test_root_with_unknown_members_is_read),
        TEST(test_damaged_root_file_is_mended),
        TEST(test_damaged_salt_is_an_error),
        TEST(test_the_loser_of_a_race_takes_what_the_winner_wrote),
        TEST(test_root_fails_cleanly_at_every_call),
        TEST(test_space_is_made_and_found_again),
        TEST(test_space_is_not_made_by_who_may_not_write),
        TEST(test_damaged_description_is_mended),
        TEST(test_deleted_description_is_written_again),
        TEST(test_another_space_is_refused_by_field),
        TEST(test_renamed_directory_with_the_same_description_is_taken),
        TEST(test_space_fails_cleanly_at_every_call),
        TEST(test_processes_that_race_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
