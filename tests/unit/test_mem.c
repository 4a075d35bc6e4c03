/* test_mem.c - the copy that hashes, on spans of every shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "mem/mem.h"

enum { ROOM = 1 << 20, GUARD = 64, VECS = 40 };

static uint8_t *scattered, *staging, *expected;
static uint64_t seed = 42;

static uint32_t any(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static void fill(uint8_t *p, size_t n)
{
    while (n--)
        *p++ = (uint8_t)any(256);
}

static int setup(void **state)
{
    (void)state;
    scattered = aligned_alloc(GUARD, 2 * ROOM + GUARD);
    staging = aligned_alloc(GUARD, ROOM + 2 * GUARD);
    expected = malloc(ROOM);
    return scattered && staging && expected ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(scattered);
    free(staging);
    free(expected);
    return 0;
}

/* Lengths around every border of the copies: lines, pieces, the streaming minimum, large spans. */
static size_t any_length(void)
{
    static const size_t borders[] = {0, 1, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 4097, 8192};

    return any(3) ? borders[any(12)] : any(20000);
}

/* Half of the spans lie in whole lines and blocks of the hash, where copy and hash are one loop. */
static size_t gap(bool whole)
{
    return whole ? GUARD * (1 + any(3)) : any(130) + 1;
}

/* A span of up to VECS pieces in `scattered` with gaps between them; returns its length. */
static size_t make_span(struct cistern_vec v[VECS], struct cistern_span *s, size_t one)
{
    bool whole = any(2);
    size_t at = gap(whole), bytes = 0;
    uint32_t i, n = one ? 1 : any(VECS) + 1;

    for (i = 0; i < n; i++) {
        size_t len = one ? one : whole && any(20) ? 1024 * any(24) : any_length();

        v[i] = (struct cistern_vec){scattered + at, len};
        at += len + gap(whole);
        if (whole)
            at += (size_t)(-at % GUARD);
        bytes += len;
    }
    *s = (struct cistern_span){v, n};
    assert_true(at < 2 * ROOM && bytes <= ROOM);
    assert_int_equal(mem_span_bytes(s), bytes);
    return bytes;
}

static void join(const struct cistern_span *s)
{
    uint8_t *to = expected;
    uint32_t i;

    for (i = 0; i < s->count; i++) {
        memcpy(to, s->vecs[i].base, s->vecs[i].len);
        to += s->vecs[i].len;
    }
}

static void check_gather(size_t one)
{
    const struct mem_ops *m = mem_ops_get(CISTERN_MEM_HOST);
    uint8_t *to = staging + any(2) * any(GUARD);
    struct cistern_vec v[VECS];
    struct cistern_span s;
    uint64_t hash = 0;
    size_t n;

    fill(scattered, 2 * ROOM);
    n = make_span(v, &s, one);
    join(&s);
    memset(staging, 0xa5, ROOM + 2 * GUARD);
    assert_int_equal(mem_gather(m, to, &s, &hash), 0);
    assert_memory_equal(to, expected, n);
    assert_int_equal(to[n], 0xa5);
    assert_true(to == staging || to[-1] == 0xa5);
    assert_true(hash == hash64(expected, n));
}

static void check_scatter(size_t one)
{
    const struct mem_ops *m = mem_ops_get(CISTERN_MEM_HOST);
    uint8_t *from = staging + any(GUARD);
    struct cistern_vec v[VECS];
    struct cistern_span s;
    uint64_t hash = 0;
    size_t n, i, outside = 0;

    memset(scattered, 0xa5, 2 * ROOM);
    fill(staging, ROOM + GUARD);
    n = make_span(v, &s, one);
    assert_int_equal(mem_scatter(m, from, &s, &hash), 0);
    join(&s);
    assert_memory_equal(from, expected, n);
    assert_true(hash == hash64(from, n));
    /* nothing around the pieces was touched */
    for (i = 0; i < s.count; i++)
        memset(s.vecs[i].base, 0xa5, s.vecs[i].len);
    for (i = 0; i < 2 * ROOM; i++)
        outside += scattered[i] != 0xa5;
    assert_int_equal(outside, 0);
}

static void spans_are_gathered(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 30; i++)
        check_gather(0);
    for (i = 0; i < 20; i++) /* the end of the hash looks back into what was copied */
        check_gather((24 << 10) + 1 + any(70));
    check_gather(128 << 10);
    check_gather((128 << 10) - 1);
    check_gather(ROOM);
}

static void spans_are_scattered(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 30; i++)
        check_scatter(0);
    for (i = 0; i < 20; i++)
        check_scatter((2 << 10) + 1 + any(70));
    check_scatter(2 << 10);
    check_scatter(ROOM);
}

static void empty_span_has_the_hash_of_nothing(void **state)
{
    const struct cistern_span s = {NULL, 0};
    uint64_t a = 1, b = 2;

    (void)state;
    assert_int_equal(mem_gather(mem_ops_get(CISTERN_MEM_HOST), staging, &s, &a), 0);
    assert_int_equal(mem_scatter(mem_ops_get(CISTERN_MEM_HOST), staging, &s, &b), 0);
    assert_true(a == hash64("", 0));
    assert_true(b == a);
    assert_int_equal(mem_span_bytes(&s), 0);
}

static int copies;

static int copy_fails(void *to, const void *from, size_t len)
{
    if (++copies == 3)
        return -EFAULT;
    memcpy(to, from, len);
    return 0;
}

/* Another kind of memory: its own copies are used, and the first error ends it. */
static void error_of_a_copy_comes_out(void **state)
{
    const struct mem_ops m = {.name = "test", .copy_out = copy_fails, .copy_in = copy_fails};
    struct cistern_vec v[5];
    const struct cistern_span s = {v, 5};
    uint64_t hash = 77;
    int i;

    (void)state;
    for (i = 0; i < 5; i++)
        v[i] = (struct cistern_vec){scattered + i * 8192, 5000};
    copies = 0;
    assert_int_equal(mem_gather(&m, staging, &s, &hash), -EFAULT);
    assert_int_equal(copies, 3);
    copies = 0;
    assert_int_equal(mem_scatter(&m, staging, &s, &hash), -EFAULT);
    assert_int_equal(copies, 3);
    assert_int_equal(hash, 77);
    copies = 3;
    fill(staging, 25000);
    assert_int_equal(mem_scatter(&m, staging, &s, &hash), 0);
    assert_true(hash == hash64(staging, 25000));
    copies = 3;
    assert_int_equal(mem_gather(&m, staging + GUARD, &s, &hash), 0);
    join(&s);
    assert_memory_equal(staging + GUARD, expected, 25000);
    assert_true(hash == hash64(expected, 25000));
}

static void unknown_kind_is_refused(void **state)
{
    (void)state;
    assert_null(mem_ops_get(99));
    assert_non_null(strstr(err_text(), "99"));
    assert_string_equal(mem_ops_get(CISTERN_MEM_HOST)->name, "host");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_gathered),
        cmocka_unit_test(spans_are_scattered),
        cmocka_unit_test(empty_span_has_the_hash_of_nothing),
        cmocka_unit_test(error_of_a_copy_comes_out),
        cmocka_unit_test(unknown_kind_is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
