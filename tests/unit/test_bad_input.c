/*
 * test_bad_input.c - what a caller or an operator can get wrong is answered with an error that says
 * what: the code of the header's contract, a text with the words that help, nothing written to an
 * out-parameter, no crash.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "bad_fixture.h"

#define NOBODY 65534
/* ThreadSanitizer has no threads in the child of a process that has some. */
#ifdef __SANITIZE_THREAD__
#define MAY_FORK_AND_THREAD 0
#else
#define MAY_FORK_AND_THREAD 1
#endif

/* ---- The place ---- */

static void test_missing_mount(void **state)
{
    struct store *s = *state;
    char file[300];
    FILE *f;

    s->o.mount = "/no/such/mount";
    open_refused(s, CISTERN_EMOUNT, "/no/such/mount");
    s->o.provider = NULL;
    open_refused(s, CISTERN_EMOUNT, "/no/such/mount");
    (void)snprintf(file, sizeof file, "%s/file", s->dir);
    f = fopen(file, "w");
    assert_non_null(f);
    (void)fclose(f);
    s->o.mount = file;
    open_refused(s, CISTERN_EMOUNT, "file");
    s->o.mount = "relative/path";
    open_refused(s, CISTERN_ECONFIG, "relative/path");
    assert_int_equal(cistern_scan(&s->o, CISTERN_ITEM_SPACE, NULL, NULL), -EINVAL);
}

static void test_mount_that_is_not_3fs(void **state)
{
    struct store *s = *state;
    cistern *c = untouched;
    int rc;

    /* Without a 3FS client on the machine the library is what is missing; with one, the mount. */
    s->o.provider = "hf3fs";
    rc = cistern_open(&s->o, &c);
    assert_true(rc == CISTERN_EPROVIDER || rc == CISTERN_EMOUNT);
    assert_true(strlen(cistern_error_text()) > 20);
    assert_ptr_equal(c, untouched);
}

static void test_provider_that_cannot_be_used(void **state)
{
    struct store *s = *state;
    char file[300];
    FILE *f;

    s->o.provider = "s3";
    open_refused(s, CISTERN_ECONFIG, "provider");
    s->o.provider = "local";
    s->o.provider_path = "/no/such/library.so";
    open_refused(s, CISTERN_EPROVIDER, "/no/such/library.so");
    s->o.provider_path = "library.so";
    open_refused(s, CISTERN_ECONFIG, "absolute");
    (void)snprintf(file, sizeof file, "%s/broken.so", s->dir);
    f = fopen(file, "w");
    assert_non_null(f);
    assert_true(fputs("no library at all", f) > 0);
    (void)fclose(f);
    s->o.provider_path = file;
    open_refused(s, CISTERN_EPROVIDER, "broken.so");
}

static void test_root_that_is_no_plain_path(void **state)
{
    struct store *s = *state;
    char file[300];
    FILE *f;

    s->o.root = "../elsewhere";
    open_refused(s, CISTERN_ECONFIG, "root");
    s->o.root = "/absolute";
    open_refused(s, CISTERN_ECONFIG, "root");
    (void)snprintf(file, sizeof file, "%s/taken", s->dir);
    f = fopen(file, "w");
    assert_non_null(f);
    (void)fclose(f);
    s->o.root = "taken/";
    open_refused(s, -ENOTDIR, "taken");
}

/* Runs in a child that is nobody, as root may write anywhere. */
static int open_as_nobody(const struct store *s)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        cistern *c = NULL;
        int rc;

        if (getuid() == 0 && (setgid(NOBODY) || setuid(NOBODY)))
            _exit(99);
        rc = cistern_open(&s->o, &c);
        if (rc == 0)
            (void)cistern_close(c);
        if (rc == -EACCES && !strstr(cistern_error_text(), "rtp_llm"))
            _exit(98);
        _exit(-rc & 0x7f);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_unwritable_root(void **state)
{
    struct store *s = *state;
    char virt[300];

    /* What the drop-in needs of the mount is there already; the root cannot be made. */
    (void)snprintf(virt, sizeof virt, "%s/.cistern-mount", s->dir);
    assert_int_equal(fclose(fopen(virt, "w")), 0);
    assert_int_equal(chmod(s->dir, 0555), 0);
    assert_int_equal(open_as_nobody(s), EACCES);
    /* Control: the same child can open where it may write. */
    assert_int_equal(chmod(s->dir, 0777), 0);
    assert_int_equal(open_as_nobody(s), 0);
}

static void test_staging_that_does_not_fit(void **state)
{
    struct store *s = *state;
    struct statvfs v;

    assert_int_equal(statvfs("/dev/shm", &v), 0);
    s->o.read_iov_bytes = (uint64_t)v.f_blocks * v.f_frsize + (1ull << 30);
    open_refused(s, CISTERN_ESTAGING, "/dev/shm");
    s->o.read_iov_bytes = 8 << 20;
    s->o.write_iov_bytes = (uint64_t)v.f_blocks * v.f_frsize + (1ull << 30);
    open_refused(s, CISTERN_ESTAGING, "/dev/shm");
    /* A match-only handle needs none. */
    s->o.flags = CISTERN_OPEN_MATCH_ONLY;
    cistern_close(open_good(s));
}

static void test_block_larger_than_the_pool(void **state)
{
    struct store *s = *state;

    s->parts[0].bytes = 16 << 20;
    open_refused(s, CISTERN_ECONFIG, "read_iov_size");
    s->o.read_iov_bytes = 128 << 20;
    open_refused(s, CISTERN_ECONFIG, "write_iov_size");
    s->parts[0].bytes = 512 << 20;
    s->o.write_iov_bytes = 128 << 20;
    open_refused(s, CISTERN_ECONFIG, "segment");
}

/* ---- The space ---- */

/* The directory that a store made for its space. */
static void space_dir_of(const struct store *s, char *to, size_t size)
{
    char path[300];
    struct cistern_options o = s->o;
    cistern *c;
    char text[4096];
    const char *at;

    o.space_dir = NULL;
    assert_int_equal(cistern_open(&o, &c), 0);
    assert_true(cistern_describe(c, text, sizeof text) > 0);
    cistern_close(c);
    (void)snprintf(path, sizeof path, "rtp_llm/space-");
    at = strstr(text, path);
    assert_non_null(at);
    at += strlen("rtp_llm/");
    (void)snprintf(to, size, "%.*s", (int)strcspn(at, "/\n "), at);
}

static void test_another_models_space(void **state)
{
    struct store *s = *state;
    char dir[200];

    space_dir_of(s, dir, sizeof dir);
    s->o.space_dir = dir;
    cistern_close(open_good(s));
    s->space.model = "another";
    open_refused(s, CISTERN_ESPACE, "model");
    s->space.model = "test";
    s->space.dtype = "fp8_e4m3";
    open_refused(s, CISTERN_ESPACE, "dtype");
    s->space.dtype = "bf16";
    s->space.block_tokens = 32;
    open_refused(s, CISTERN_ESPACE, "block_tokens");
    s->space.block_tokens = STORE_TOKENS;
    s->space.epoch = 1;
    open_refused(s, CISTERN_ESPACE, "epoch");
    s->space.epoch = 0;
    s->space.revision = "main";
    open_refused(s, CISTERN_ESPACE, "revision");
    s->space.revision = NULL;
    s->space.shards = 2;
    open_refused(s, CISTERN_ESPACE, "shards");
    s->space.shards = 1;
    s->parts[0].bytes /= 2;
    open_refused(s, CISTERN_ESPACE, "bytes");
    s->parts[0].bytes *= 2;
    cistern_close(open_good(s));
}

static void test_spaces_that_make_no_sense(void **state)
{
    struct store *s = *state;
    const struct store good = *s;
    struct cistern_part many[CISTERN_MAX_PARTS + 1];
    unsigned i;

#define BAD(change, word)                                                                          \
    do {                                                                                           \
        *s = good;                                                                                 \
        s->space.parts = s->parts;                                                                 \
        s->o.space = &s->space;                                                                    \
        s->o.mount = s->dir;                                                                       \
        change;                                                                                    \
        open_refused(s, CISTERN_ECONFIG, word);                                                    \
    } while (0)
    BAD(s->space.model = NULL, "model");
    BAD(s->space.model = "", "model");
    BAD(s->space.model = "a\nb", "model");
    BAD(s->space.model = "\xff", "model");
    BAD(s->space.dtype = NULL, "dtype");
    BAD(s->space.block_tokens = 0, "block_tokens");
    BAD(s->space.name = "a/b", "name");
    BAD(s->space.shards = CISTERN_MAX_SHARDS + 1, "shards");
    BAD(s->o.shard = 1, "shard");
    BAD(s->space.nparts = 0, "nparts");
    BAD(s->space.parts = NULL, "parts");
    BAD(s->parts[0].name = NULL, "name");
    BAD(s->parts[0].name = "", "name");
    BAD(s->parts[0].name = "KV", "name");
    BAD(s->parts[0].bytes = 0, "bytes");
    BAD(s->parts[0].bytes = (1ull << 30) + 1, "bytes");
    BAD(s->parts[0].policy = 3, "policy");
    BAD(s->parts[0].policy = CISTERN_PART_TRAILING, "window");
    for (i = 0; i < CISTERN_MAX_PARTS + 1; i++)
        many[i] = good.parts[0];
    BAD((s->space.parts = many, s->space.nparts = 2), "twice");
    BAD((s->space.parts = many, s->space.nparts = CISTERN_MAX_PARTS + 1), "nparts");
    /* Options that make no sense, likewise. */
    BAD(s->o.lanes = 65, "lanes");
    BAD(s->o.io_bytes = 4097, "io_bytes");
    BAD(s->o.io_bytes = 1024, "io_bytes");
    BAD(s->o.space_dir = "a/b", "space_dir");
    BAD(s->o.space_dir = "..", "space_dir");
    BAD(s->o.enable_3fs = (s->o.reuse_cache = -1, 1), "reuse_cache");
#undef BAD
    *s = good;
    s->o.space = NULL;
    open_refused(s, -EINVAL, "space");
}

static void test_switched_off(void **state)
{
    struct store *s = *state;

    s->o.enable_3fs = 0;
    open_refused(s, CISTERN_EDISABLED, "ENABLE_3FS");
    s->o.enable_3fs = -1;
    open_refused(s, CISTERN_EDISABLED, "ENABLE_3FS");
    s->o.reuse_cache = 0;
    open_refused(s, CISTERN_EDISABLED, "REUSE_CACHE");
}

static void test_sizes_of_structs(void **state)
{
    struct store *s = *state;
    struct {
        struct cistern_options o;
        uint64_t later;
    } grown = {s->o, 0};
    struct {
        struct cistern_space space;
        uint64_t later;
    } space = {s->space, 1};
    cistern *c = untouched;

    s->o.size = 0;
    open_refused(s, -EINVAL, "size");
    s->o.size = 4;
    open_refused(s, -EINVAL, "size");
    grown.o.size = sizeof grown;
    assert_int_equal(cistern_open(&grown.o, &c), 0);
    cistern_close(c);
    grown.later = 1;
    c = untouched;
    refused(cistern_open(&grown.o, &c), -EINVAL, "");
    assert_ptr_equal(c, untouched);
    s->o.size = sizeof s->o;
    space.space.size = sizeof space;
    s->o.space = &space.space;
    open_refused(s, -EINVAL, "");
    space.space.size = 0;
    open_refused(s, -EINVAL, "size");
}

/* ---- One process, two handles ---- */

static void test_same_shard_twice(void **state)
{
    struct store *s = *state;
    cistern *a, *b;

    s->space.shards = 2;
    a = open_good(s);
    open_refused(s, CISTERN_ESHARD, "open");
    /* Reading beside it is fine, and so is another shard. */
    s->o.flags = CISTERN_OPEN_READ_ONLY;
    cistern_close(open_good(s));
    s->o.flags = 0;
    open_refused(s, CISTERN_ESHARD, "open");
    s->o.shard = 1;
    b = open_good(s);
    s->o.shard = 0;
    assert_int_equal(cistern_close(a), 0);
    a = open_good(s);
    assert_int_equal(cistern_close(a), 0);
    assert_int_equal(cistern_close(b), 0);
}

/* ---- Fork ---- */

/* Number of calls in a child that were not refused as the parent's; 0 is right. */
static int child_calls(cistern *c)
{
    static uint8_t bytes[STORE_BLOCK];
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    cistern_key key = {{1}};
    uint8_t result;
    struct cistern_request r = {
        .size = sizeof r, .keys = &key, .spans = &span, .results = &result, .blocks = 1};
    struct cistern_match match;
    struct cistern_event event;
    cistern_memory *memory;
    void *base;
    uint16_t mask;
    uint64_t op;
    char text[64];
    int i, wrong = 0;
    const int64_t got[] = {
        cistern_key_root(c, NULL, &key),
        cistern_match(c, &key, 1, &match),
        cistern_ticket_release(c, 1),
        cistern_exists(c, &key, 1, &mask),
        cistern_touch(c, &key, 1),
        cistern_delete(c, &key, 1),
        cistern_refresh(c, 1),
        cistern_get(c, &r, &op),
        cistern_put(c, &r, &op),
        cistern_poll(c, &event, 1),
        cistern_event_fd(c),
        cistern_wait(c, 1, 1, &event),
        cistern_get_sync(c, &r, &event),
        cistern_put_sync(c, &r, &event),
        cistern_flush(c, 1),
        cistern_memory_alloc(c, 4096, &memory, &base),
        cistern_memory_register(c, bytes, 4096, &memory),
        cistern_metrics(c, NULL, 0),
        cistern_describe(c, text, sizeof text),
        cistern_close(c),
    };

    for (i = 0; i < (int)(sizeof got / sizeof *got); i++) {
        if (got[i] != CISTERN_EFORKED) {
            print_error("call %d of a forked child gave %lld\n", i, (long long)got[i]);
            wrong++;
        }
    }
    return wrong + !strstr(cistern_error_text(), "fork");
}

static void test_use_after_fork(void **state)
{
    struct store *s = *state;
    cistern *c = open_good(s), *own = NULL;
    static uint8_t bytes[STORE_BLOCK];
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    cistern_key key = {{1}};
    uint8_t result;
    struct cistern_request r = {
        .size = sizeof r, .keys = &key, .spans = &span, .results = &result, .blocks = 1};
    struct cistern_event event;
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        int wrong = child_calls(c);

        /* A handle of its own works; the parent's registration is not in its way. */
        if (MAY_FORK_AND_THREAD &&
            (cistern_open(&s->o, &own) || cistern_put_sync(own, &r, &event) || event.hits != 1 ||
             cistern_close(own))) {
            print_error("a handle of the child's own: %s\n", cistern_error_text());
            wrong++;
        }
        _exit(wrong);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    /* The parent's handle has not noticed. */
    assert_int_equal(cistern_put_sync(c, &r, &event), 0);
    assert_int_equal(event.hits, 1);
    assert_int_equal(cistern_get_sync(c, &r, &event), 0);
    assert_int_equal(event.hits, 1);
    assert_int_equal(cistern_close(c), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(test_missing_mount),
        T(test_mount_that_is_not_3fs),
        T(test_provider_that_cannot_be_used),
        T(test_root_that_is_no_plain_path),
        T(test_unwritable_root),
        T(test_staging_that_does_not_fit),
        T(test_block_larger_than_the_pool),
        T(test_another_models_space),
        T(test_spaces_that_make_no_sense),
        T(test_switched_off),
        T(test_sizes_of_structs),
        T(test_same_shard_twice),
        T(test_use_after_fork),
    };

    return cmocka_run_group_tests_name("bad_input", tests, NULL, NULL);
}
