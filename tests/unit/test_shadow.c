/*
 * test_shadow.c - shadow compare: what is due, what is the same, what is not and who is cleared.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "evict_fixture.h"

enum { PIECE = 1000 }; /* the engine's pieces: the last is shorter */

struct shadow {
    struct cistern_vec vecs[STORE_BLOCK / PIECE + 1];
    struct cistern_span span;
    uint8_t bytes[STORE_BLOCK], loaded[STORE_BLOCK];
    struct cistern_vec loaded_vec;
    struct cistern_span loaded_span;
    struct cistern_shadow s;
    uint64_t offset;
};

static struct {
    char line[512];
    uint32_t lines;
} logged;

static void on_log(void *arg, int level, const char *line)
{
    (void)arg;
    if (level != CISTERN_LOG_ERROR)
        return;
    (void)snprintf(logged.line, sizeof logged.line, "%s", line);
    logged.lines++;
}

/* Block `number` as it was put, in pieces. */
static struct shadow *computed(struct fixture *f, uint32_t number)
{
    static struct shadow x;
    size_t at;

    memset(&x, 0, sizeof x);
    store_fill(x.bytes, STORE_BLOCK, number);
    store_fill(x.loaded, STORE_BLOCK, number);
    for (at = 0; at < STORE_BLOCK; at += PIECE)
        x.vecs[x.span.count++] =
            (struct cistern_vec){x.bytes + at, STORE_BLOCK - at < PIECE ? STORE_BLOCK - at : PIECE};
    x.span.vecs = x.vecs;
    x.loaded_vec = (struct cistern_vec){x.loaded, STORE_BLOCK};
    x.loaded_span = (struct cistern_span){&x.loaded_vec, 1};
    x.s = (struct cistern_shadow){
        .size = sizeof x.s, .key = &f->keys[number], .computed = &x.span, .timeout_ms = 60000};
    x.offset = 12345;
    return &x;
}

static int report(struct fixture *f, struct shadow *x)
{
    return cistern_shadow_report(f->c, &x->s, &x->offset);
}

static int setup(void **state)
{
    struct fixture *f = fixture_new(0, 0);

    memset(&logged, 0, sizeof logged);
    f->s.o.shadow_every = 3;
    f->s.o.log = on_log;
    *state = f;
    open_store(f);
    put_all(f, 0, 4);
    return 0;
}

static void every_third_is_due(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 1; i <= 12; i++)
        assert_int_equal(cistern_shadow_due(f->c), i % 3 == 0);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.shadow_every = 0;
    open_store(f);
    for (i = 0; i < 12; i++)
        assert_int_equal(cistern_shadow_due(f->c), 0);
    assert_int_equal(cistern_shadow_due(NULL), 0);
}

static void equal_bytes_clear_both(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    for (i = 0; i < 4; i++) {
        struct shadow *x = computed(f, i);

        x->s.loaded = i % 2 ? &x->loaded_span : NULL;
        assert_int_equal(report(f, x), CISTERN_SHADOW_SAME);
        assert_int_equal(x->offset, 12345);
    }
    assert_int_equal(metric_of(f->c, "shadow_checked"), 4);
    assert_int_equal(metric_of(f->c, "shadow_differs"), 0);
    assert_int_equal(logged.lines, 0);
}

/* Any byte of any piece; the log has the first only. */
static void the_first_difference_is_found(void **state)
{
    static const size_t places[] = {0, 1, PIECE - 1, PIECE, 40 * PIECE + 7, STORE_BLOCK - 1};
    struct fixture *f = *state;
    size_t i;

    for (i = 0; i < sizeof places / sizeof *places; i++) {
        struct shadow *x = computed(f, 1);

        x->bytes[places[i]] ^= 1;
        x->bytes[STORE_BLOCK - 1] ^= 2;
        x->s.loaded = &x->loaded_span;
        assert_int_equal(report(f, x), CISTERN_SHADOW_COMPUTED);
        assert_int_equal(x->offset, places[i]);
    }
    assert_int_equal(metric_of(f->c, "shadow_differs"), i);
    assert_int_equal(logged.lines, 1);
    assert_non_null(strstr(logged.line, "part 0: what was computed differs at byte 0 from what"));
}

static void bytes_that_changed_on_the_way(void **state)
{
    struct fixture *f = *state;
    struct shadow *x = computed(f, 2);

    x->loaded[777] ^= 0x40;
    x->s.loaded = &x->loaded_span;
    assert_int_equal(report(f, x), CISTERN_SHADOW_LOADED);
    assert_int_equal(x->offset, 777);
    assert_non_null(strstr(logged.line, "what was loaded differs at byte 777"));
}

/* Another engine put other bytes under the right key: valid, verified, and wrong. */
static void a_wrong_block_that_verifies_is_found(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, 9, 1);
    struct shadow *x;

    store_fill(f->buf[0], STORE_BLOCK, 10);
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[0], CISTERN_HIT);
    x = computed(f, 9);
    assert_int_equal(report(f, x), CISTERN_SHADOW_COMPUTED);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

/* Bytes may be off by one. */
static size_t nearly(void *arg, const void *stored, const void *mine, size_t len)
{
    const uint8_t *a = stored, *b = mine;
    size_t i;

    ++*(uint32_t *)arg;
    for (i = 0; i < len; i++) {
        if (a[i] - b[i] > 1 || b[i] - a[i] > 1)
            return i;
    }
    return len;
}

static void the_engine_decides_what_it_tolerates(void **state)
{
    struct fixture *f = *state;
    struct shadow *x = computed(f, 3);
    uint32_t calls = 0;

    x->s.differs = nearly;
    x->s.arg = &calls;
    x->bytes[5] = (uint8_t)(x->bytes[5] ^ 1);
    assert_int_equal(report(f, x), CISTERN_SHADOW_SAME);
    assert_int_equal(calls, x->span.count);
    x->bytes[3000] = (uint8_t)(x->bytes[3000] ^ 0x80);
    assert_int_equal(report(f, x), CISTERN_SHADOW_COMPUTED);
    assert_int_equal(x->offset, 3000);
}

static void what_is_not_stored_says_nothing(void **state)
{
    struct fixture *f = *state;
    struct shadow *x = computed(f, 20);

    assert_int_equal(report(f, x), CISTERN_SHADOW_GONE);
    assert_int_equal(metric_of(f->c, "shadow_checked"), 0);
}

static void bad_calls(void **state)
{
    struct fixture *f = *state;
    struct shadow *x = computed(f, 0);

    assert_int_equal(cistern_shadow_report(NULL, &x->s, NULL), -EINVAL);
    assert_int_equal(cistern_shadow_report(f->c, NULL, NULL), -EINVAL);
    x->s.part = 1;
    assert_int_equal(report(f, x), -EINVAL);
    x = computed(f, 0);
    x->s.key = NULL;
    assert_int_equal(report(f, x), -EINVAL);
    x = computed(f, 0);
    x->span.count = 0;
    assert_int_equal(report(f, x), -EINVAL);
    x = computed(f, 0);
    x->loaded_vec.len--;
    x->s.loaded = &x->loaded_span;
    assert_int_equal(report(f, x), -EINVAL);
    x = computed(f, 0);
    x->s.size = 3;
    assert_int_equal(report(f, x), -EINVAL);
    assert_int_equal(x->offset, 12345);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(every_third_is_due),
        TEST(equal_bytes_clear_both),
        TEST(the_first_difference_is_found),
        TEST(bytes_that_changed_on_the_way),
        TEST(a_wrong_block_that_verifies_is_found),
        TEST(the_engine_decides_what_it_tolerates),
        TEST(what_is_not_stored_says_nothing),
        TEST(bad_calls),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
