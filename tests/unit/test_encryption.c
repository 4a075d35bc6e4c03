/*
 * test_encryption.c - an encrypted root through the public API: what lies on disk, who can open it,
 * what a forger without the key achieves, rotation, and that no nonce is used twice.
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

#include "../harness/nonces.h"
#include "../harness/store.h"
#include "metrics/metrics.h"

enum { BLOCKS = 48, BATCH = 8, PARTS = 2, KV = 24 << 10, TAIL = 5000 };

struct fixture {
    struct store s;
    struct cistern_part parts[PARTS];
    char key[3][300]; /* paths of key files, and what is in them */
    char hex[3][65];
    cistern *c;
    uint8_t buf[BATCH][PARTS][KV];
    uint8_t results[BATCH * PARTS];
    struct cistern_event ev;
};

/* ---- Fixture ---- */

static void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    assert_int_equal(close(fd), 0);
}

static uint8_t *read_file(const char *path, size_t *len)
{
    struct stat st;
    uint8_t *bytes;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *len = (size_t)st.st_size;
    bytes = malloc(*len + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, *len), (ssize_t)*len);
    bytes[*len] = 0;
    assert_int_equal(close(fd), 0);
    return bytes;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char dir[256];
    int i, j;

    assert_non_null(f);
    store_init(&f->s);
    assert_true(f->s.dir[0]);
    (void)snprintf(dir, sizeof dir, "%.255s", f->s.dir);
    f->parts[0] = (struct cistern_part){.name = "kv", .bytes = KV};
    f->parts[1] = (struct cistern_part){.name = "tail", .bytes = TAIL};
    f->s.space.parts = f->parts;
    f->s.space.nparts = PARTS;
    f->s.o.segment_bytes = 1 << 20;
    for (i = 0; i < 3; i++) {
        for (j = 0; j < 64; j++)
            f->hex[i][j] = "0123456789abcdef"[(j * 7 + i * 5 + j / 3) % 16];
        (void)snprintf(f->key[i], sizeof f->key[i], "%.200s/key%d", dir, i);
        write_file(f->key[i], f->hex[i], 64);
    }
    f->s.o.encryption_key_file = f->key[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->c)
        (void)cistern_close(f->c);
    cipher_watch = NULL;
    store_rmdir(&f->s);
    free(f);
    return 0;
}

static void open_store(struct fixture *f)
{
    if (cistern_open(&f->s.o, &f->c))
        fail_msg("open: %s", cistern_error_text());
}

static void close_store(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
}

static void one_batch(struct fixture *f, uint32_t from, bool put, cistern_key *keys,
                      struct cistern_vec *vecs, struct cistern_span *spans)
{
    struct cistern_request r = {.size = sizeof r,
                                .keys = keys,
                                .spans = spans,
                                .results = f->results,
                                .blocks = BATCH,
                                .timeout_ms = 60000};
    uint32_t i, p;

    for (i = 0; i < BATCH; i++) {
        store_key(&keys[i], from + i);
        for (p = 0; p < PARTS; p++) {
            vecs[i * PARTS + p] = (struct cistern_vec){f->buf[i][p], p ? TAIL : KV};
            spans[i * PARTS + p] = (struct cistern_span){&vecs[i * PARTS + p], 1};
            if (put)
                store_fill(f->buf[i][p], p ? TAIL : KV, (from + i) * 2 + p);
            else
                memset(f->buf[i][p], 0xee, KV);
        }
    }
    assert_int_equal(put ? cistern_put_sync(f->c, &r, &f->ev) : cistern_get_sync(f->c, &r, &f->ev),
                     0);
}

static void put_all(struct fixture *f, uint32_t from, uint32_t n)
{
    struct cistern_span spans[BATCH * PARTS];
    struct cistern_vec vecs[BATCH * PARTS];
    cistern_key keys[BATCH];
    uint32_t at;

    for (at = from; at < from + n; at += BATCH)
        one_batch(f, at, true, keys, vecs, spans);
    assert_int_equal(cistern_flush(f->c, 60000), 0);
}

/* How many parts are hits; a hit has the right bytes. */
static uint32_t get_all(struct fixture *f, uint32_t from, uint32_t n)
{
    static uint8_t want[KV];
    struct cistern_span spans[BATCH * PARTS];
    struct cistern_vec vecs[BATCH * PARTS];
    cistern_key keys[BATCH];
    uint32_t at, i, p, hits = 0;

    for (at = from; at < from + n; at += BATCH) {
        one_batch(f, at, false, keys, vecs, spans);
        for (i = 0; i < BATCH; i++) {
            for (p = 0; p < PARTS; p++) {
                if (f->results[i * PARTS + p] != CISTERN_HIT)
                    continue;
                store_fill(want, p ? TAIL : KV, (at + i) * 2 + p);
                assert_memory_equal(f->buf[i][p], want, p ? TAIL : KV);
                hits++;
            }
        }
    }
    return hits;
}

static uint64_t metric(cistern *c, const char *name)
{
    struct cistern_metric m[METRIC_COUNT];
    int i, n = cistern_metrics(c, m, METRIC_COUNT);

    for (i = 0; i < n; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    fail_msg("no metric %s", name);
    return 0;
}

/* Calls for each file of the root; how many. */
static size_t each_file(struct fixture *f, const char *pattern,
                        void (*call)(const struct fixture *f, const char *path))
{
    char path[600];
    glob_t g;
    size_t i, n;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/%s", f->s.dir, pattern);
    if (glob(path, 0, NULL, &g))
        return 0;
    n = g.gl_pathc;
    for (i = 0; i < n && call; i++)
        call(f, g.gl_pathv[i]);
    globfree(&g);
    return n;
}

static void first_path(struct fixture *f, const char *pattern, size_t nth, char out[512])
{
    char path[600];
    glob_t g;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/%s", f->s.dir, pattern);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    assert_true(g.gl_pathc > nth);
    (void)snprintf(out, 512, "%s", g.gl_pathv[nth]);
    globfree(&g);
}

#define DATA     "*-*/s*/*.seg"
#define CONTENTS "*-*/s*/*.toc"

/* ---- On disk ---- */

static bool has(const uint8_t *bytes, size_t len, const void *what, size_t n)
{
    return memmem(bytes, len, what, n) != NULL;
}

static void nothing_known_is_in(const struct fixture *f, const char *path)
{
    uint8_t secret[KV], raw[32];
    size_t len;
    uint8_t *bytes = read_file(path, &len);
    cistern_key key;
    unsigned i, byte;

    for (i = 0; i < 32; i++) {
        assert_int_equal(sscanf(f->hex[0] + 2 * (size_t)i, "%2x", &byte), 1);
        raw[i] = (uint8_t)byte;
    }
    assert_false(has(bytes, len, raw, 16));
    assert_false(has(bytes, len, f->hex[0], 32));
    for (i = 0; i < BLOCKS; i++) {
        store_key(&key, i);
        assert_false(has(bytes, len, key.b, 16));
        store_fill(secret, KV, i * 2);
        assert_false(has(bytes, len, secret, 32));
        assert_false(has(bytes, len, secret + KV - 32, 32));
        store_fill(secret, TAIL, i * 2 + 1);
        assert_false(has(bytes, len, secret + TAIL - 32, 32));
    }
    free(bytes);
}

static void nothing_readable_lies_on_disk(void **state)
{
    struct fixture *f = *state;
    char text[8192];

    open_store(f);
    put_all(f, 0, BLOCKS);
    assert_int_equal(get_all(f, 0, BLOCKS), BLOCKS * PARTS);
    assert_true(each_file(f, DATA, nothing_known_is_in) > 1);
    assert_true(each_file(f, CONTENTS, nothing_known_is_in) > 1);
    assert_true(cistern_describe(f->c, text, sizeof text) > 0);
    assert_null(strstr(text, f->hex[0]));
    close_store(f);
    assert_true(each_file(f, DATA, nothing_known_is_in) > 1);
    (void)each_file(f, "*-*/s*/*.head", nothing_known_is_in);
    (void)each_file(f, "cistern.json", nothing_known_is_in);
    open_store(f);
    assert_int_equal(get_all(f, 0, BLOCKS), BLOCKS * PARTS);
}

/* ---- Who can open it ---- */

static void refused(struct fixture *f, const char *key, const char *text)
{
    f->s.o.encryption_key_file = key;
    assert_int_equal(cistern_open(&f->s.o, &f->c), CISTERN_EKEY);
    if (!strstr(cistern_error_text(), text))
        fail_msg("'%s' does not have '%s'", cistern_error_text(), text);
    f->c = NULL;
}

static void key_id(struct fixture *f, char id[17])
{
    char path[512];
    uint8_t *bytes;
    size_t len;

    first_path(f, "cistern.json", 0, path);
    bytes = read_file(path, &len);
    assert_non_null(strstr((char *)bytes, "\"key_id\":\""));
    memcpy(id, strstr((char *)bytes, "\"key_id\":\"") + 10, 16);
    id[16] = 0;
    assert_non_null(strstr((char *)bytes, "\"format\":2"));
    free(bytes);
}

static void a_wrong_key_is_named(void **state)
{
    struct fixture *f = *state;
    char id[17];
    size_t files;

    open_store(f);
    put_all(f, 0, BATCH);
    close_store(f);
    key_id(f, id);
    files = each_file(f, DATA, NULL);
    refused(f, f->key[1], id);
    refused(f, NULL, id);
    refused(f, NULL, "encryption_key_file");
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    refused(f, f->key[1], id);
    f->s.o.flags = CISTERN_OPEN_MATCH_ONLY;
    refused(f, NULL, id);
    f->s.o.flags = 0;
    assert_int_equal(each_file(f, DATA, NULL), files);
    f->s.o.encryption_key_file = f->key[0];
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
}

static void key_files_that_others_read_are_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(chmod(f->key[0], 0644), 0);
    assert_int_equal(cistern_open(&f->s.o, &f->c), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "chmod 600"));
    f->s.o.encryption_key_file = "/no/such/key";
    assert_int_equal(cistern_open(&f->s.o, &f->c), CISTERN_ECONFIG);
    f->c = NULL;
}

static void a_damaged_description_does_not_make_it_plain(void **state)
{
    struct fixture *f = *state;
    char path[512];
    uint8_t *bytes;
    size_t len;

    open_store(f);
    close_store(f);
    first_path(f, "cistern.json", 0, path);
    bytes = read_file(path, &len);
    write_file(path, bytes, len - 4);
    free(bytes);
    refused(f, NULL, "damaged");
    f->s.o.encryption_key_file = f->key[0];
    open_store(f); /* which mends it */
    close_store(f);
    refused(f, NULL, "encryption_key_file");
}

static void a_plain_root_becomes_an_encrypted_one(void **state)
{
    struct fixture *f = *state;

    f->s.o.encryption_key_file = NULL;
    open_store(f);
    put_all(f, 0, BATCH);
    close_store(f);
    f->s.o.encryption_key_file = f->key[0];
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), 0); /* anybody could have written them */
    assert_true(metric(f->c, "contents_bad") > 0);
    close_store(f);
    f->s.o.flags = 0;
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), 0);
    put_all(f, 0, BATCH);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
    close_store(f);
    refused(f, NULL, "encryption_key_file");
    f->s.o.encryption_key_file = f->key[0];
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
}

/* ---- Rotation ---- */

static void two_keys(struct fixture *f, const char *first, const char *second)
{
    char text[200];
    int n = snprintf(text, sizeof text, "# current first\n%s\n%s\n", first, second);

    write_file(f->key[2], text, (size_t)n);
    f->s.o.encryption_key_file = f->key[2];
}

static void keys_rotate(void **state)
{
    struct fixture *f = *state;
    char before[17], after[17];

    open_store(f);
    put_all(f, 0, BATCH);
    close_store(f);
    key_id(f, before);
    two_keys(f, f->hex[1], f->hex[0]);
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
    put_all(f, BATCH, BATCH);
    close_store(f);
    key_id(f, after);
    assert_string_not_equal(before, after);
    refused(f, f->key[0], after);
    /* the old key alone is gone: what it wrapped is left alone, and counted */
    f->s.o.encryption_key_file = f->key[1];
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), 0);
    assert_int_equal(get_all(f, BATCH, BATCH), BATCH * PARTS);
    assert_int_equal(metric(f->c, "contents_locked"), 1);
    close_store(f);
    two_keys(f, f->hex[1], f->hex[0]);
    open_store(f);
    assert_int_equal(get_all(f, 0, 2 * BATCH), 2 * BATCH * PARTS);
    assert_int_equal(metric(f->c, "contents_locked"), 0);
}

/* ---- Damage and forgery ---- */

static void flip(const char *path, uint64_t *seed)
{
    size_t len, at;
    uint8_t *bytes = read_file(path, &len);

    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    if (!len) { /* of a writer that had nothing but notes */
        free(bytes);
        return;
    }
    at = (size_t)(*seed >> 20) % len;
    bytes[at] ^= (uint8_t)(1u << (*seed >> 60) % 8);
    write_file(path, bytes, len);
    free(bytes);
}

/* get_all() compares: what is a hit is right. */
static void a_flipped_bit_is_a_miss_at_most(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 20;
    char path[512];
    uint32_t i, lost = 0;

    for (i = 0; i < 24; i++) {
        uint32_t hits;

        open_store(f);
        put_all(f, 0, BATCH);
        close_store(f);
        first_path(f, i % 2 ? CONTENTS : DATA, each_file(f, DATA, NULL) - 1, path);
        flip(path, &seed);
        open_store(f);
        hits = get_all(f, 0, BATCH);
        lost += hits < BATCH * PARTS;
        close_store(f);
    }
    assert_true(lost > 0); /* most bytes lie behind ends, and in padding */
}

static void exchange(const char *a, const char *b)
{
    char c[520];

    (void)snprintf(c, sizeof c, "%s.x", a);
    assert_int_equal(rename(a, c), 0);
    assert_int_equal(rename(b, a), 0);
    assert_int_equal(rename(c, b), 0);
}

static void exchanged_segments_are_misses(void **state)
{
    struct fixture *f = *state;
    char a[512], b[512];

    open_store(f);
    put_all(f, 0, BLOCKS);
    close_store(f);
    assert_true(each_file(f, DATA, NULL) >= 2);
    first_path(f, DATA, 0, a);
    first_path(f, DATA, 1, b);
    exchange(a, b);
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    open_store(f);
    assert_true(get_all(f, 0, BLOCKS) < BLOCKS * PARTS);
    assert_true(metric(f->c, "bad_checksum_blocks") + metric(f->c, "bad_length_blocks") > 0);
    close_store(f);
    first_path(f, CONTENTS, 0, a);
    first_path(f, CONTENTS, 1, b);
    exchange(a, b); /* now both pairs have each other's names */
    open_store(f);
    assert_true(get_all(f, 0, BLOCKS) < BLOCKS * PARTS);
}

/* Somebody who can write the directory, has the salt and knows the format, but not the key. */
static void a_forged_plain_segment_is_not_believed(void **state)
{
    struct fixture *f = *state, *forger;
    char from[512], to[600], json[512];
    uint8_t *bytes, *description;
    size_t len, json_len;
    void *other = NULL;

    open_store(f);
    put_all(f, 0, BATCH);
    close_store(f);
    first_path(f, "cistern.json", 0, json);
    description = read_file(json, &json_len);
    assert_int_equal(setup(&other), 0);
    forger = other;
    forger->s.o.encryption_key_file = NULL;
    open_store(forger);
    put_all(forger, BATCH, BATCH);
    close_store(forger);
    for (int kind = 0; kind < 2; kind++) {
        first_path(forger, kind ? CONTENTS : DATA, 0, from);
        bytes = read_file(from, &len);
        first_path(f, DATA, 0, to);
        (void)snprintf(strrchr(to, '/'), 100, "%s", strrchr(from, '/'));
        write_file(to, bytes, len);
        free(bytes);
    }
    assert_int_equal(teardown(&other), 0);
    open_store(f);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
    assert_int_equal(get_all(f, BATCH, BATCH), 0);
    assert_true(metric(f->c, "contents_bad") > 0);
    close_store(f);
    /* nor does a description that says "plain" help */
    write_file(
        json, "{\"format\":1,\"capacity_bytes\":0,\"created_s\":1,\"segment_bytes\":1048576}",
        strlen("{\"format\":1,\"capacity_bytes\":0,\"created_s\":1,\"segment_bytes\":1048576}"));
    open_store(f);
    assert_int_equal(get_all(f, BATCH, BATCH), 0);
    assert_int_equal(get_all(f, 0, BATCH), BATCH * PARTS);
    free(description);
}

/* ---- Nonces ---- */

/* Eviction, carrying over and full disks: test_evict, which make test-encrypted runs with a key. */
static void no_nonce_is_used_twice(void **state)
{
    struct fixture *f = *state;
    uint32_t round;

    cipher_watch = nonces_note;
    for (round = 0; round < 6; round++) {
        open_store(f);
        put_all(f, round * 400, 400);
        (void)get_all(f, 0, BLOCKS);
        (void)get_all(f, round * 400, 400);
        close_store(f);
    }
    assert_true(nonces.count > 2 * 400);
    assert_int_equal(nonces.lost, 0);
    assert_int_equal(nonces.twice, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_readable_lies_on_disk),
        TEST(a_wrong_key_is_named),
        TEST(key_files_that_others_read_are_refused),
        TEST(a_damaged_description_does_not_make_it_plain),
        TEST(a_plain_root_becomes_an_encrypted_one),
        TEST(keys_rotate),
        TEST(a_flipped_bit_is_a_miss_at_most),
        TEST(exchanged_segments_are_misses),
        TEST(a_forged_plain_segment_is_not_believed),
        TEST(no_nonce_is_used_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
