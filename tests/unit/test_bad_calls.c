/*
 * test_bad_calls.c - NULL and zero in every argument of the public API, requests that make no
 * sense, and handles that may not do what they are asked.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bad_fixture.h"

static void test_functions_without_a_handle(void **state)
{
    struct cistern_options o = {.size = 0};
    cistern_key key = {{0}};
    uint32_t token = 1;
    char *argv[] = {NULL};
    int code, argc = -1;

    (void)state;
    for (code = -6000; code <= 200; code++) {
        assert_non_null(cistern_error_name(code));
        assert_non_null(cistern_error_string(code));
    }
    assert_non_null(cistern_error_name(INT_MIN));
    assert_non_null(cistern_error_string(INT_MIN));
    assert_non_null(cistern_error_text());
    assert_string_equal(cistern_error_name(CISTERN_ESPACE), "CISTERN_ESPACE");
    assert_string_equal(cistern_error_name(-EIO), "EIO");

    refused(cistern_options_set(NULL, "lanes", "1"), -EINVAL, "NULL");
    refused(cistern_options_set(&o, "lanes", "1"), -EINVAL, "size");
    refused(cistern_options_from_env(NULL), -EINVAL, "NULL");
    refused(cistern_options_from_args(NULL, &argc, argv), -EINVAL, "NULL");
    o.size = sizeof o;
    refused(cistern_options_set(&o, NULL, "1"), -EINVAL, "NULL");
    refused(cistern_options_set(&o, "lanes", NULL), -EINVAL, "NULL");
    refused(cistern_options_from_args(&o, NULL, argv), -EINVAL, "NULL");
    refused(cistern_options_from_args(&o, &argc, argv), -EINVAL, "argc");
    refused(cistern_open(NULL, NULL), -EINVAL, "NULL");
    refused(cistern_scan(NULL, CISTERN_ITEM_SPACE, NULL, NULL), -EINVAL, "");
    assert_int_equal(cistern_close(NULL), 0);

    refused(cistern_key_chain(NULL, &token, 1, 1, &key), -EINVAL, "");
    refused(cistern_key_chain(&key, NULL, 1, 1, &key), -EINVAL, "");
    refused(cistern_key_chain(&key, &token, 1, 0, &key), -EINVAL, "");
    refused(cistern_key_chain(&key, &token, 1, 1, NULL), -EINVAL, "");
    assert_int_equal(cistern_key_chain(&key, NULL, 0, 16, NULL), 0);
    assert_int_equal(cistern_key_chain(&key, &token, 1, 16, NULL), 0);
    refused(cistern_key_from_hash(NULL, "h", 1, &key), -EINVAL, "");
    refused(cistern_key_from_hash(&key, NULL, 1, &key), -EINVAL, "");
    refused(cistern_key_from_hash(&key, "h", 0, &key), -EINVAL, "");
    refused(cistern_key_from_hash(&key, "h", 4097, &key), -EINVAL, "");
    refused(cistern_key_from_hash(&key, "h", 1, NULL), -EINVAL, "");
    refused(cistern_key_mix(NULL, "c", 1, &key), -EINVAL, "");
    refused(cistern_key_mix(&key, NULL, 1, &key), -EINVAL, "");
    refused(cistern_key_mix(&key, "c", 1, NULL), -EINVAL, "");
}

static void test_every_function_refuses_a_null_handle(void **state)
{
    struct cistern_request r = {.size = sizeof r};
    struct cistern_match match;
    struct cistern_event event;
    cistern_memory *memory = (cistern_memory *)(void *)untouched;
    void *base = untouched;
    cistern_key key = {{0}};
    uint16_t mask;
    uint64_t op = 77;
    char text[8];

    (void)state;
    refused(cistern_key_root(NULL, NULL, &key), -EINVAL, "");
    refused(cistern_match(NULL, &key, 1, &match), -EINVAL, "");
    refused(cistern_ticket_release(NULL, 1), -EINVAL, "");
    refused(cistern_exists(NULL, &key, 1, &mask), -EINVAL, "");
    refused(cistern_touch(NULL, &key, 1), -EINVAL, "");
    refused(cistern_delete(NULL, &key, 1), -EINVAL, "");
    refused(cistern_refresh(NULL, 1), -EINVAL, "");
    refused(cistern_get(NULL, &r, &op), -EINVAL, "");
    refused(cistern_put(NULL, &r, &op), -EINVAL, "");
    refused(cistern_poll(NULL, &event, 1), -EINVAL, "");
    refused(cistern_event_fd(NULL), -EINVAL, "");
    refused(cistern_wait(NULL, 1, 1, &event), -EINVAL, "");
    refused(cistern_get_sync(NULL, &r, &event), -EINVAL, "");
    refused(cistern_put_sync(NULL, &r, &event), -EINVAL, "");
    refused(cistern_flush(NULL, 1), -EINVAL, "");
    refused(cistern_drain(NULL, 1), -EINVAL, "");
    refused(cistern_memory_alloc(NULL, 4096, &memory, &base), -EINVAL, "");
    refused(cistern_memory_register(NULL, text, 4096, &memory), -EINVAL, "");
    refused(cistern_memory_release(NULL, NULL), -EINVAL, "");
    refused(cistern_metrics(NULL, NULL, 0), -EINVAL, "");
    refused(cistern_describe(NULL, text, sizeof text), -EINVAL, "");
    assert_int_equal(op, 77);
    assert_ptr_equal(base, untouched);
}

static void test_null_and_zero_with_a_handle(void **state)
{
    struct store *s = *state;
    cistern *c = open_good(s);
    struct cistern_identity id = {0};
    struct cistern_match match = {.blocks = 7};
    struct cistern_event event;
    cistern_memory *memory = NULL;
    void *base = NULL;
    cistern_key key = {{0}};
    uint16_t mask = 0;
    char text[8];

    refused(cistern_open(&s->o, NULL), -EINVAL, "NULL");
    refused(cistern_key_root(c, NULL, NULL), -EINVAL, "");
    refused(cistern_key_root(c, &id, &key), -EINVAL, "size");
    id = (struct cistern_identity){.size = sizeof id, .tenant_len = 1};
    refused(cistern_key_root(c, &id, &key), -EINVAL, "");
    id = (struct cistern_identity){.size = sizeof id, .content_len = 1};
    refused(cistern_key_root(c, &id, &key), -EINVAL, "");
    refused(cistern_match(c, NULL, 1, &match), -EINVAL, "");
    refused(cistern_match(c, &key, 1, NULL), -EINVAL, "");
    assert_int_equal(match.blocks, 7);
    assert_int_equal(cistern_match(c, NULL, 0, &match), 0);
    assert_int_equal(match.blocks + match.have + match.ticket, 0);
    assert_int_equal(cistern_ticket_release(c, 0), 0);
    assert_true(cistern_ticket_release(c, 0xdeadbeefdeadbeefu) < 0);
    refused(cistern_exists(c, NULL, 1, &mask), -EINVAL, "");
    refused(cistern_exists(c, &key, 1, NULL), -EINVAL, "");
    assert_int_equal(cistern_exists(c, NULL, 0, &mask), 0);
    refused(cistern_touch(c, NULL, 1), -EINVAL, "");
    assert_int_equal(cistern_touch(c, NULL, 0), 0);
    refused(cistern_delete(c, NULL, 1), -EINVAL, "");
    assert_int_equal(cistern_delete(c, NULL, 0), 0);
    assert_int_equal(cistern_refresh(c, 0), 0);
    assert_int_equal(cistern_flush(c, 5000), 0);
    refused(cistern_poll(c, NULL, 1), -EINVAL, "");
    refused(cistern_poll(c, &event, -1), -EINVAL, "");
    assert_true(cistern_poll(c, &event, 1) == 0);
    assert_true(cistern_event_fd(c) >= 0);
    assert_true(cistern_wait(c, 12345, 1, &event) < 0);
    refused(cistern_memory_alloc(c, 0, &memory, &base), -EINVAL, "");
    refused(cistern_memory_alloc(c, 4096, NULL, &base), -EINVAL, "");
    refused(cistern_memory_alloc(c, 4096, &memory, NULL), -EINVAL, "");
    refused(cistern_memory_register(c, NULL, 4096, &memory), -EINVAL, "");
    refused(cistern_memory_register(c, text, 0, &memory), -EINVAL, "");
    refused(cistern_memory_register(c, text, 8, NULL), -EINVAL, "");
    refused(cistern_memory_release(c, NULL), -EINVAL, "");
    assert_true(cistern_metrics(c, NULL, 0) > 10);
    refused(cistern_metrics(c, NULL, 5), -EINVAL, "");
    assert_true(cistern_describe(c, NULL, 0) > 10);
    assert_true(cistern_describe(c, text, sizeof text) > 10);
    assert_true(strlen(text) < sizeof text);
    refused(cistern_scan(&s->o, CISTERN_ITEM_SPACE, NULL, NULL), -EINVAL, "");
    assert_int_equal(cistern_close(c), 0);
}

static void test_requests_that_make_no_sense(void **state)
{
    struct store *s = *state;
    cistern *c = open_good(s);
    static uint8_t bytes[STORE_BLOCK + 1];
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    cistern_key key = {{1}};
    uint8_t result;
    const struct cistern_request good = {
        .size = sizeof good, .keys = &key, .spans = &span, .results = &result, .blocks = 1};
    struct cistern_request r;
    struct cistern_event event;
    uint64_t op = 77;

#define BOTH(change, word)                                                                         \
    do {                                                                                           \
        r = good;                                                                                  \
        change;                                                                                    \
        refused(cistern_get(c, &r, &op), -EINVAL, word);                                           \
        refused(cistern_put(c, &r, &op), -EINVAL, word);                                           \
        refused(cistern_get_sync(c, &r, &event), -EINVAL, word);                                   \
        refused(cistern_put_sync(c, &r, &event), -EINVAL, word);                                   \
        assert_int_equal(op, 77);                                                                  \
        vec = (struct cistern_vec){bytes, STORE_BLOCK};                                            \
        span = (struct cistern_span){&vec, 1};                                                     \
    } while (0)
    BOTH(r.size = 0, "size");
    BOTH(r.keys = NULL, "keys");
    BOTH(r.spans = NULL, "spans");
    BOTH(r.results = NULL, "results");
    BOTH(r.blocks = 0, "blocks");
    BOTH(r.flags = 0x80000000u, "flags");
    BOTH(r.mem = 7, "mem");
    BOTH(span.vecs = NULL, "");
    BOTH(vec.base = NULL, "");
    r = good;
    refused(cistern_get(c, NULL, &op), -EINVAL, "");
    refused(cistern_put(c, NULL, &op), -EINVAL, "");
    refused(cistern_get(c, &r, NULL), -EINVAL, "");
    refused(cistern_put(c, &r, NULL), -EINVAL, "");
    r.flags = CISTERN_GET_DIRECT;
    refused(cistern_get(c, &r, &op), -EINVAL, "memory");
    refused(cistern_put(c, &r, &op), -EINVAL, "flags");
    vec.len = STORE_BLOCK + 1;
    r = good;
    refused(cistern_put(c, &r, &op), -EINVAL, "bytes");
#undef BOTH
    assert_int_equal(op, 77);
    assert_int_equal(cistern_close(c), 0);
}

static void test_handles_that_may_not_put_or_get(void **state)
{
    struct store *s = *state;
    static uint8_t bytes[STORE_BLOCK];
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    cistern_key key = {{1}};
    uint8_t result;
    struct cistern_request r = {
        .size = sizeof r, .keys = &key, .spans = &span, .results = &result, .blocks = 1};
    struct cistern_match match;
    struct cistern_event event;
    cistern *c;

    cistern_close(open_good(s)); /* something to open for reading */
    s->o.flags = CISTERN_OPEN_READ_ONLY;
    c = open_good(s);
    refused(cistern_put_sync(c, &r, &event), -EROFS, "read");
    assert_true(cistern_delete(c, &key, 1) < 0);
    assert_int_equal(cistern_get_sync(c, &r, &event), 0);
    assert_int_equal(event.misses, 1);
    assert_int_equal(cistern_close(c), 0);
    s->o.flags = CISTERN_OPEN_MATCH_ONLY;
    c = open_good(s);
    assert_true(cistern_put_sync(c, &r, &event) < 0);
    assert_non_null(strstr(cistern_error_text(), "match"));
    assert_true(cistern_get_sync(c, &r, &event) < 0);
    assert_non_null(strstr(cistern_error_text(), "match"));
    assert_int_equal(cistern_match(c, &key, 1, &match), 0);
    assert_int_equal(cistern_close(c), 0);
    s->o.flags = 0x100;
    open_refused(s, -EINVAL, "flags");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(test_functions_without_a_handle),      T(test_every_function_refuses_a_null_handle),
        T(test_null_and_zero_with_a_handle),     T(test_requests_that_make_no_sense),
        T(test_handles_that_may_not_put_or_get),
    };

    return cmocka_run_group_tests_name("bad_calls", tests, NULL, NULL);
}
