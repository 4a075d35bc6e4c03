/*
 * test_space.c - descriptions of spaces: the canonical text (its value and fingerprint are what
 * key_vectors.py prints), checks that name the field, comparison that names the difference.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "key/key.h"

static struct cistern_part parts[17] = {
    {.name = "kv", .bytes = 65536, .policy = CISTERN_PART_ALL},
    {.name = "state", .bytes = 4096, .policy = CISTERN_PART_LAST},
    {.name = "swa", .bytes = 8192, .policy = CISTERN_PART_TRAILING, .window = 4},
};

static const struct cistern_space demo = {
    .size = sizeof demo,
    .name = "demo",
    .model = "tiny-llama \"7\"\\\xc3\xa9",
    .revision = "abc123",
    .epoch = 5,
    .dtype = "bf16",
    .layout = "paged-v1",
    .block_tokens = 64,
    .layers = 4,
    .kv_heads = 2,
    .head_dim = 32,
    .shards = 2,
    .nparts = 3,
    .parts = parts,
};

static const char demo_json[] =
    "{\"block_tokens\":64,\"dtype\":\"bf16\",\"epoch\":5,\"extra\":\"\",\"head_di"
    "m\":32,\"kv_heads\":2,\"layers\":4,\"layout\":\"paged-v1\",\"model\":\"tiny-"
    "llama \\\"7\\\"\\\\é\",\"name\":\"demo\",\"parts\":[{\"bytes\":65536,\"name\""
    ":\"kv\",\"policy\":\"all\",\"window\":0},{\"bytes\":4096,\"name\":\"state\","
    "\"policy\":\"last\",\"window\":0},{\"bytes\":8192,\"name\":\"swa\",\"policy\""
    ":\"trailing\",\"window\":4}],\"revision\":\"abc123\",\"shards\":2}\n";
static const char demo_fingerprint[] =
    "98033990455170c458674cec651b57b733f1e6dd2d8ef7d7c09e389bf049a0fa";

static void expect_hex(const uint8_t bytes[32], const char *hex)
{
    char got[65];
    int i;

    for (i = 0; i < 32; i++)
        (void)snprintf(got + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(got, hex);
}

static void test_text_is_canonical(void **state)
{
    char buf[SPACE_JSON_MAX], small[sizeof demo_json];
    char dir[SPACE_DIR_MAX], want[SPACE_DIR_MAX];
    uint8_t fingerprint[32];

    (void)state;
    assert_int_equal(space_check(&demo), 0);
    assert_int_equal(space_json(&demo, buf, sizeof buf), strlen(demo_json));
    assert_string_equal(buf, demo_json);
    assert_int_equal(space_json(&demo, small, sizeof small), strlen(demo_json));
    assert_int_equal(space_json(&demo, small, sizeof small - 1), -ENOSPC);
    assert_int_equal(space_fingerprint(&demo, fingerprint), 0);
    expect_hex(fingerprint, demo_fingerprint);
    space_dir_name(&demo, fingerprint, dir);
    (void)snprintf(want, sizeof want, "demo-%.32s", demo_fingerprint);
    assert_string_equal(dir, want);
}

static void test_defaults_are_written_out(void **state)
{
    struct cistern_space s = demo;
    char a[SPACE_JSON_MAX], b[SPACE_JSON_MAX], dir[SPACE_DIR_MAX];
    uint8_t fingerprint[32] = {0xab};

    (void)state;
    s.name = "";
    s.shards = 0;
    s.revision = NULL;
    assert_true(space_json(&s, a, sizeof a) > 0);
    space_dir_name(&s, fingerprint, dir);
    assert_string_equal(dir, "space-ab000000000000000000000000000000");
    s.name = "space";
    s.shards = 1;
    s.revision = "";
    assert_true(space_json(&s, b, sizeof b) > 0);
    assert_string_equal(a, b);
}

/* ---- Checks ---- */

static char long_text[1026];

struct bad {
    const char *field; /* must be in the text */
    size_t offset;
    uint64_t value; /* written there: a pointer or a number */
    size_t size;
};

#define BAD_TEXT(field, text)                                                                      \
    {                                                                                              \
#field, offsetof(struct cistern_space, field), (uintptr_t)(text), sizeof(char *)           \
    }
#define BAD_NUMBER(field, number)                                                                  \
    {                                                                                              \
#field, offsetof(struct cistern_space, field), number,                                     \
            sizeof((struct cistern_space *)0)->field                                               \
    }

static void test_bad_fields_are_named(void **state)
{
    const struct bad bad[] = {
        BAD_TEXT(model, NULL),       BAD_TEXT(model, ""),         BAD_TEXT(model, "a\nb"),
        BAD_TEXT(model, "\xff"),     BAD_TEXT(model, "\xc2\x85"), BAD_TEXT(model, "del\x7f"),
        BAD_TEXT(model, long_text),  BAD_TEXT(dtype, NULL),       BAD_TEXT(dtype, "\t"),
        BAD_TEXT(revision, "\x01"),  BAD_TEXT(layout, "\xc3"),    BAD_TEXT(extra, long_text),
        BAD_TEXT(name, "a/b"),       BAD_TEXT(name, "a b"),       BAD_TEXT(name, long_text),
        BAD_NUMBER(block_tokens, 0), BAD_NUMBER(shards, 257),     BAD_NUMBER(nparts, 0),
        BAD_NUMBER(nparts, 17),      BAD_TEXT(parts, NULL),       BAD_NUMBER(epoch, UINT64_MAX),
    };
    struct cistern_space s;
    size_t i;

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        s = demo;
        memcpy((char *)&s + bad[i].offset, &bad[i].value, bad[i].size);
        err_clear();
        assert_int_equal(space_check(&s), CISTERN_ECONFIG);
        if (!strstr(err_text(), bad[i].field))
            fail_msg("row %zu: \"%s\" does not name %s", i, err_text(), bad[i].field);
    }
    long_text[1024] = 0; /* the longest that is allowed */
    s = demo;
    s.model = s.revision = s.dtype = s.layout = s.extra = long_text;
    assert_int_equal(space_check(&s), 0);
}

static void test_bad_parts_are_named(void **state)
{
    static const struct {
        struct cistern_part part;
        const char *field;
    } bad[] = {
        {{.name = NULL, .bytes = 1}, "parts[1].name"},
        {{.name = "", .bytes = 1}, "parts[1].name"},
        {{.name = "Kv", .bytes = 1}, "parts[1].name"},
        {{.name = "abcdefghijklmnopqrstuvwxyz0123456", .bytes = 1}, "parts[1].name"},
        {{.name = "kv", .bytes = 1}, "parts[1].name"},
        {{.name = "b", .bytes = 0}, "parts[1].bytes"},
        {{.name = "b", .bytes = (1ull << 30) + 1}, "parts[1].bytes"},
        {{.name = "b", .bytes = 1, .policy = 3}, "parts[1].policy"},
        {{.name = "b", .bytes = 1, .window = 1}, "parts[1].window"},
        {{.name = "b", .bytes = 1, .policy = CISTERN_PART_TRAILING}, "parts[1].window"},
    };
    struct cistern_part two[2] = {{.name = "kv", .bytes = 1ull << 30}};
    struct cistern_space s = demo;
    size_t i;

    (void)state;
    s.parts = two;
    s.nparts = 2;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        two[1] = bad[i].part;
        assert_int_equal(space_check(&s), CISTERN_ECONFIG);
        if (!strstr(err_text(), bad[i].field))
            fail_msg("row %zu: \"%s\" does not name %s", i, err_text(), bad[i].field);
    }
}

static void test_structs_are_checked(void **state)
{
    struct {
        struct cistern_space s;
        uint64_t later;
    } grown = {.s = demo, .later = 0};
    uint8_t fingerprint[32];
    char buf[SPACE_JSON_MAX];

    (void)state;
    assert_int_equal(space_check(NULL), -EINVAL);
    grown.s.size = 0;
    assert_int_equal(space_check(&grown.s), -EINVAL);
    grown.s.size = offsetof(struct cistern_space, model) + 1; /* half a pointer */
    assert_int_equal(space_check(&grown.s), -EINVAL);
    grown.s.size = sizeof grown;
    assert_int_equal(space_check(&grown.s), 0);
    grown.later = 1;
    assert_int_equal(space_check(&grown.s), -EINVAL);
    assert_int_equal(space_json(NULL, buf, sizeof buf), -EINVAL);
    assert_int_equal(space_fingerprint(NULL, fingerprint), -EINVAL);
}

/* ---- Comparison ---- */

static void test_every_field_is_compared(void **state)
{
    static const struct bad other[] = {
        BAD_TEXT(name, "demo2"), BAD_TEXT(model, "other"),     BAD_TEXT(revision, "abc124"),
        BAD_NUMBER(epoch, 6),    BAD_TEXT(dtype, "fp8_e4m3"),  BAD_TEXT(layout, "paged-v2"),
        BAD_TEXT(extra, "e"),    BAD_NUMBER(block_tokens, 32), BAD_NUMBER(layers, 5),
        BAD_NUMBER(kv_heads, 1), BAD_NUMBER(head_dim, 64),     BAD_NUMBER(shards, 4),
    };
    uint8_t fingerprint[32], first[32];
    size_t i;

    (void)state;
    assert_int_equal(space_compare(demo_json, strlen(demo_json), &demo), 0);
    assert_int_equal(space_fingerprint(&demo, first), 0);
    for (i = 0; i < sizeof other / sizeof other[0]; i++) {
        struct cistern_space s = demo;

        memcpy((char *)&s + other[i].offset, &other[i].value, other[i].size);
        assert_int_equal(space_compare(demo_json, strlen(demo_json), &s), CISTERN_ESPACE);
        if (!strstr(err_text(), other[i].field))
            fail_msg("\"%s\" does not name %s", err_text(), other[i].field);
        assert_int_equal(space_fingerprint(&s, fingerprint), 0);
        assert_memory_not_equal(fingerprint, first, sizeof first);
    }
}

static void expect_difference(const struct cistern_space *s, const char *text)
{
    assert_int_equal(space_compare(demo_json, strlen(demo_json), s), CISTERN_ESPACE);
    assert_string_equal(err_text(), text);
}

static void test_differences_name_both_values(void **state)
{
    struct cistern_part changed[3] = {parts[0], parts[1], parts[2]};
    struct cistern_space s = demo;

    (void)state;
    s.dtype = "fp8_e4m3";
    s.layers = 80; /* later in the order of names */
    expect_difference(&s,
                      "space: dtype is \"bf16\" in the directory, and \"fp8_e4m3\" was asked for");
    s = demo;
    s.shards = 8;
    expect_difference(&s, "space: shards is 2 in the directory, and 8 was asked for");
    s = demo;
    s.parts = changed;
    changed[2].window = 8;
    expect_difference(&s, "space: parts[2].window is 4 in the directory, and 8 was asked for");
    changed[1].policy = CISTERN_PART_ALL;
    expect_difference(
        &s, "space: parts[1].policy is \"last\" in the directory, and \"all\" was asked for");
    s.nparts = 1;
    assert_int_equal(space_compare(demo_json, strlen(demo_json), &s), CISTERN_ESPACE);
    assert_non_null(strstr(err_text(), "parts is [{"));
}

/* What is said about a long value begins with it and is one line, whatever it holds. */
static void test_long_and_odd_values_are_cut_clean(void **state)
{
    char value[301], text[400], want[160];
    struct cistern_space s = demo;

    (void)state;
    memset(value, 'm', 300);
    value[300] = 0;
    s.model = value;
    assert_int_equal(space_compare(demo_json, strlen(demo_json), &s), CISTERN_ESPACE);
    (void)snprintf(want, sizeof want, "and \"%.126s was asked for", value);
    if (!strstr(err_text(), want))
        fail_msg("\"%s\" does not quote the model", err_text());
    (void)snprintf(text, sizeof text, "{\"\\n\xc2\x9b%.78s\xc3\xa9\":1}", value);
    assert_int_equal(space_compare(text, strlen(text), &demo), CISTERN_ESPACE);
    (void)snprintf(want, sizeof want, "space: ???%.77s is 1", value);
    if (strncmp(err_text(), want, strlen(want)))
        fail_msg("\"%s\" is not clean", err_text());
    assert_int_equal(space_compare("\033[31m\n", 6, &demo), -EBADMSG);
    assert_int_equal(strcspn(err_text(), "\033\n"), strlen(err_text()));
}

static void test_text_of_others_is_read(void **state)
{
    static const char loose[] = "{ \"b\": 1, \"shards\": 3 }",
                      canonical[] = "{\"b\":1,\"shards\":3}\n";
    static const char *const broken[] = {"",           "{",          "[]", "7",
                                         "{\"a\":1,}", "{\"a\":1}x", "\0", "{\"a\":1,\"a\":2}"};
    uint8_t a[32], b[32];
    uint32_t shards = 7;
    size_t i;

    (void)state;
    assert_int_equal(space_compare(loose, strlen(loose), &demo), CISTERN_ESPACE);
    assert_string_equal(err_text(), "space: b is 1 in the directory, and absent was asked for");
    assert_int_equal(space_inspect(demo_json, strlen(demo_json), &shards, a), 0);
    assert_int_equal(shards, 2);
    expect_hex(a, demo_fingerprint);
    assert_int_equal(space_inspect(loose, strlen(loose), &shards, a), 0);
    assert_int_equal(space_inspect(canonical, strlen(canonical), &shards, b), 0);
    assert_int_equal(shards, 3);
    assert_memory_equal(a, b, sizeof a);
    for (i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        err_clear();
        assert_int_equal(space_compare(broken[i], strlen(broken[i]), &demo), -EBADMSG);
        assert_string_not_equal(err_text(), "");
        assert_int_equal(space_inspect(broken[i], strlen(broken[i]), &shards, a), -EBADMSG);
    }
    assert_int_equal(space_compare(NULL, 0, &demo), -EINVAL);
    assert_int_equal(space_inspect("{\"shards\":0}", 12, &shards, a), -EBADMSG);
    assert_int_equal(space_inspect("{\"shards\":\"2\"}", 14, &shards, a), -EBADMSG);
    assert_int_equal(space_inspect("{\"shards\":257}", 14, &shards, a), -EBADMSG);
    assert_int_equal(shards, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_canonical),
        cmocka_unit_test(test_defaults_are_written_out),
        cmocka_unit_test(test_bad_fields_are_named),
        cmocka_unit_test(test_bad_parts_are_named),
        cmocka_unit_test(test_structs_are_checked),
        cmocka_unit_test(test_every_field_is_compared),
        cmocka_unit_test(test_differences_name_both_values),
        cmocka_unit_test(test_long_and_odd_values_are_cut_clean),
        cmocka_unit_test(test_text_of_others_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
