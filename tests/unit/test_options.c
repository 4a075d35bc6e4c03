/*
 * test_options.c - every name that RTP-LLM gives its options, as flag and as variable, in a table.
 *
 * Each row becomes one test per spelling: "--name value", "--name=value", NAME in the environment,
 * CISTERN_NAME in the environment, and cistern_options_set(). Only the row's own field may change.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ctype.h>

#include <cmocka.h>

#include "cistern.h"

#define FIELD(f) offsetof(struct cistern_options, f), sizeof((struct cistern_options){0}.f)
#define GIB      (1ull << 30)

struct row {
    const char *name, *value;
    size_t at, size;
    int64_t want;      /* of a number or a switch */
    const char *words; /* of a string */
    int own;           /* Cistern's own: its variable needs CISTERN_ before it */
};

static const struct row rows[] = {
    {"reuse_cache", "True", FIELD(reuse_cache), 1, NULL, 0},
    {"reuse_cache", "1", FIELD(reuse_cache), 1, NULL, 0},
    {"reuse_cache", "False", FIELD(reuse_cache), -1, NULL, 0},
    {"enable_3fs", "True", FIELD(enable_3fs), 1, NULL, 0},
    {"enable_3fs", "0", FIELD(enable_3fs), -1, NULL, 0},
    {"threefs_mountpoint", "/mnt/3fs/", FIELD(mount), 0, "/mnt/3fs/", 0},
    {"threefs_root_dir", "kv/", FIELD(root), 0, "kv/", 0},
    {"threefs_read_iov_size", "4294967296", FIELD(read_iov_bytes), 4 * GIB, NULL, 0},
    {"threefs_read_iov_size", "512M", FIELD(read_iov_bytes), 512 << 20, NULL, 0},
    {"threefs_write_iov_size", "8G", FIELD(write_iov_bytes), 8 * GIB, NULL, 0},
    {"threefs_match_timeout_ms", "1001", FIELD(match_timeout_ms), 1001, NULL, 0},
    {"threefs_rpc_get_cache_timeout_ms", "3001", FIELD(get_timeout_ms), 3001, NULL, 0},
    {"threefs_rpc_put_cache_timeout_ms", "3002", FIELD(put_timeout_ms), 3002, NULL, 0},
    {"threefs_read_timeout_ms", "1002", FIELD(read_timeout_ms), 1002, NULL, 0},
    {"threefs_write_timeout_ms", "2001", FIELD(write_timeout_ms), 2001, NULL, 0},
    {"max_block_size_per_item", "8", FIELD(io_blocks), 8, NULL, 0},
    {"mount", "/data", FIELD(mount), 0, "/data", 1},
    {"root", "there", FIELD(root), 0, "there", 1},
    {"provider", "local", FIELD(provider), 0, "local", 1},
    {"write_budget_bytes_per_day", "2T", FIELD(write_budget_bytes_per_day), 2ull << 40, NULL, 1},
    {"ttl_seconds", "86400", FIELD(ttl_seconds), 86400, NULL, 1},
    {"write_bandwidth", "512M", FIELD(write_bandwidth), 512ull << 20, NULL, 1},
    {"read_bandwidth", "3G", FIELD(read_bandwidth), 3ull << 30, NULL, 1},
    {"admission", "reused", FIELD(admission), 0, "reused", 1},
    {"provider_path", "/opt/lib.so", FIELD(provider_path), 0, "/opt/lib.so", 1},
    {"space_dir", "llama-00", FIELD(space_dir), 0, "llama-00", 1},
    {"shard", "3", FIELD(shard), 3, NULL, 1},
    {"open_timeout_ms", "7", FIELD(open_timeout_ms), 7, NULL, 1},
    {"lanes", "2", FIELD(lanes), 2, NULL, 1},
    {"depth", "64", FIELD(depth), 64, NULL, 1},
    {"max_ops", "32", FIELD(max_ops), 32, NULL, 1},
    {"max_blocks", "10K", FIELD(max_blocks), 10 << 10, NULL, 1},
    {"io_bytes", "2M", FIELD(io_bytes), 2 << 20, NULL, 1},
    {"capacity_bytes", "1T", FIELD(capacity_bytes), 1024 * GIB, NULL, 1},
    {"segment_bytes", "64MiB", FIELD(segment_bytes), 64 << 20, NULL, 1},
    {"sync_ms", "100", FIELD(sync_ms), 100, NULL, 1},
    {"close_timeout_ms", "9", FIELD(close_timeout_ms), 9, NULL, 1},
    {"free_floor_bytes", "3G", FIELD(free_floor_bytes), 3 * GIB, NULL, 1},
    {"evict_grace_ms", "7000", FIELD(evict_grace_ms), 7000, NULL, 1},
    {"carry_over", "off", FIELD(carry_over), -1, NULL, 1},
    {"breaker", "off", FIELD(breaker), -1, NULL, 1},
    {"breaker_failures", "3", FIELD(breaker_failures), 3, NULL, 1},
    {"breaker_probe_ms", "250", FIELD(breaker_probe_ms), 250, NULL, 1},
    {"negative_ms", "77", FIELD(negative_ms), 77, NULL, 1},
    {"aside_failures", "2", FIELD(aside_failures), 2, NULL, 1},
    {"prefill_rate", "9000", FIELD(prefill_rate), 9000, NULL, 1},
    {"shadow_every", "100", FIELD(shadow_every), 100, NULL, 1},
    {"clusters", "/etc/c.json", FIELD(clusters), 0, "/etc/c.json", 1},
    {"cluster", "na61", FIELD(cluster), 0, "na61", 1},
    {"host", "web-17", FIELD(host), 0, "web-17", 1},
    {"cross_cluster", "on", FIELD(cross_cluster), 1, NULL, 1},
};

enum { ROWS = sizeof rows / sizeof *rows, SPELLINGS = 5 };
static const char *const spellings[SPELLINGS] = {"flag", "flag=", "env", "CISTERN_ env", "set"};

struct one {
    const struct row *row;
    int spelling;
    char title[96];
};
static struct one ones[ROWS * SPELLINGS];

static void capitals(char *to, size_t size, const char *prefix, const char *name)
{
    size_t i;

    (void)snprintf(to, size, "%s%s", prefix, name);
    for (i = 0; to[i]; i++)
        to[i] = (char)toupper((unsigned char)to[i]);
}

static int by_args(struct cistern_options *o, const struct row *r, int joined)
{
    char flag[64], both[128], other[] = "--other", engine[] = "engine", value[64];
    char *argv[] = {engine, other, flag, value, other, NULL};
    int argc = 5, rc;

    (void)snprintf(flag, sizeof flag, "--%s", r->name);
    (void)snprintf(value, sizeof value, "%s", r->value);
    if (joined) {
        (void)snprintf(both, sizeof both, "--%s=%s", r->name, r->value);
        argv[2] = both;
        argv[3] = other;
        argv[4] = NULL;
        argc = 4;
    }
    rc = cistern_options_from_args(o, &argc, argv);
    assert_int_equal(argc, 3);
    assert_string_equal(argv[1], "--other");
    assert_string_equal(argv[2], "--other");
    assert_null(argv[3]);
    /* String options point into argv; give them something that outlives it. */
    if (r->words && rc == 0) {
        const char *lasting = r->value;

        assert_string_equal(*(const char **)((char *)o + r->at), r->value);
        memcpy((char *)o + r->at, &lasting, sizeof lasting);
    }
    return rc;
}

static int by_env(struct cistern_options *o, const struct row *r, const char *prefix)
{
    char name[96];
    int rc;

    capitals(name, sizeof name, prefix, r->name);
    assert_int_equal(setenv(name, r->value, 1), 0);
    rc = cistern_options_from_env(o);
    /* getenv's answer dies with the variable. */
    if (r->words && rc == 0) {
        const char *lasting = r->value;

        memcpy((char *)o + r->at, &lasting, sizeof lasting);
    }
    assert_int_equal(unsetenv(name), 0);
    return rc;
}

static void check_field(const struct cistern_options *o, const struct row *r)
{
    const char *field = (const char *)o + r->at;
    struct cistern_options clean = {.size = sizeof clean}, rest = *o;
    int64_t got = 0;

    if (r->words) {
        assert_string_equal(*(const char *const *)field, r->words);
    } else {
        memcpy(&got, field, r->size);
        if (r->size == 4)
            got = (int32_t)got;
        assert_int_equal(got, r->want);
    }
    memset((char *)&rest + r->at, 0, r->size);
    assert_memory_equal(&rest, &clean, sizeof clean);
}

static void test_name(void **state)
{
    const struct one *t = *state;
    const struct row *r = t->row;
    struct cistern_options o;
    int rc;

    memset(&o, 0, sizeof o);
    o.size = sizeof o;
    if (t->spelling <= 1)
        rc = by_args(&o, r, t->spelling);
    else if (t->spelling <= 3)
        rc = by_env(&o, r, t->spelling == 3 ? "CISTERN_" : "");
    else
        rc = cistern_options_set(&o, r->name, r->value);
    assert_int_equal(rc, 0);
    if (t->spelling == 2 && r->own) {
        struct cistern_options clean = {.size = sizeof clean};
        const void *nothing = NULL;

        if (r->words)
            memcpy((char *)&o + r->at, &nothing, sizeof nothing);
        assert_memory_equal(&o, &clean, sizeof o);
        return;
    }
    check_field(&o, r);
}

static void test_names_are_found_as_people_write_them(void **state)
{
    static const char *const names[] = {"enable_3fs", "--enable_3fs", "--enable-3fs", "ENABLE_3FS"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        struct cistern_options o = {.size = sizeof o};

        assert_int_equal(cistern_options_set(&o, names[i], "on"), 0);
        assert_int_equal(o.enable_3fs, 1);
    }
}

static void test_switches_take_all_words_for_yes_and_no(void **state)
{
    static const char *const words[] = {"1", "true",  "True",  "TRUE", "on", "yes",
                                        "0", "false", "False", "off",  "no", "NO"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof words / sizeof *words; i++) {
        struct cistern_options o = {.size = sizeof o};

        assert_int_equal(cistern_options_set(&o, "reuse_cache", words[i]), 0);
        assert_int_equal(o.reuse_cache, i < 6 ? 1 : -1);
    }
}

static void test_bad_values_are_refused_and_named(void **state)
{
    static const char *const bad[][2] = {
        {"reuse_cache", "maybe"},
        {"reuse_cache", ""},
        {"lanes", "-1"},
        {"lanes", "two"},
        {"lanes", "4294967296"},
        {"threefs_read_iov_size", "4X"},
        {"threefs_read_iov_size", "1e9"},
        {"threefs_read_iov_size", "99999999999999999999"},
        {"capacity_bytes", "20000000T"},
        {"threefs_mountpoint", ""},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cistern_options o = {.size = sizeof o}, clean = o;

        assert_int_equal(cistern_options_set(&o, bad[i][0], bad[i][1]), CISTERN_ECONFIG);
        assert_non_null(strstr(cistern_error_text(), bad[i][0]));
        assert_memory_equal(&o, &clean, sizeof o);
    }
}

static void test_unknown_names_are_left_to_the_caller(void **state)
{
    struct cistern_options o = {.size = sizeof o}, clean = o;
    char a0[] = "engine", a1[] = "--model", a2[] = "x", a3[] = "--lanes_", a4[] = "4";
    char *argv[] = {a0, a1, a2, a3, a4, NULL};
    int argc = 5;

    (void)state;
    assert_int_equal(cistern_options_set(&o, "no_such_option", "1"), -ENOENT);
    assert_int_equal(cistern_options_set(&o, "", "1"), -ENOENT);
    assert_int_equal(cistern_options_set(&o, "--", "1"), -ENOENT);
    assert_int_equal(cistern_options_from_args(&o, &argc, argv), 0);
    assert_int_equal(argc, 5);
    assert_ptr_equal(argv[3], a3);
    assert_memory_equal(&o, &clean, sizeof o);
}

static void test_flags_without_a_value_and_after_two_dashes(void **state)
{
    struct cistern_options o = {.size = sizeof o};
    char a0[] = "engine", a1[] = "--lanes", a2[] = "--", a3[] = "3";
    char *missing[] = {a0, a1, NULL}, *ended[] = {a0, a2, a1, a3, NULL};
    int argc = 2;

    (void)state;
    assert_int_equal(cistern_options_from_args(&o, &argc, missing), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "lanes"));
    argc = 4;
    assert_int_equal(cistern_options_from_args(&o, &argc, ended), 0);
    assert_int_equal(argc, 4);
    assert_int_equal(o.lanes, 0);
}

static void test_cisterns_own_variable_wins(void **state)
{
    struct cistern_options o = {.size = sizeof o};

    (void)state;
    setenv("THREEFS_READ_TIMEOUT_MS", "5", 1);
    setenv("CISTERN_THREEFS_READ_TIMEOUT_MS", "6", 1);
    assert_int_equal(cistern_options_from_env(&o), 0);
    assert_int_equal(o.read_timeout_ms, 6);
    setenv("CISTERN_THREEFS_READ_TIMEOUT_MS", "soon", 1);
    assert_int_equal(cistern_options_from_env(&o), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "threefs_read_timeout_ms"));
    unsetenv("THREEFS_READ_TIMEOUT_MS");
    unsetenv("CISTERN_THREEFS_READ_TIMEOUT_MS");
}

int main(void)
{
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_names_are_found_as_people_write_them),
        cmocka_unit_test(test_switches_take_all_words_for_yes_and_no),
        cmocka_unit_test(test_bad_values_are_refused_and_named),
        cmocka_unit_test(test_unknown_names_are_left_to_the_caller),
        cmocka_unit_test(test_flags_without_a_value_and_after_two_dashes),
        cmocka_unit_test(test_cisterns_own_variable_wins),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    static struct CMUnitTest tests[ROWS * SPELLINGS + OTHERS];
    size_t i;

    for (i = 0; i < ROWS * SPELLINGS; i++) {
        struct one *t = &ones[i];

        t->row = &rows[i / SPELLINGS];
        t->spelling = (int)(i % SPELLINGS);
        (void)snprintf(t->title, sizeof t->title, "%s as %s: %s", t->row->name,
                       spellings[t->spelling], t->row->value);
        tests[i] = (struct CMUnitTest){t->title, test_name, NULL, NULL, t};
    }
    memcpy(tests + ROWS * SPELLINGS, others, sizeof others);
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
