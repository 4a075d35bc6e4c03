/* test_index.c - the index against a plain model, its limits, its memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "index_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* ---- Model ---- */

#define MODEL_KEYS     3000u
#define MODEL_COPIES   4u
#define MODEL_SEGMENTS 100u

struct model_copy {
    uint32_t segment, offset;
    uint16_t mask;
};

/* Per key its copies, oldest first. */
struct model {
    struct model_copy copy[MODEL_KEYS][MODEL_COPIES];
    unsigned copies[MODEL_KEYS];
    uint64_t blocks;
};

static void model_take(struct model *m, unsigned key, unsigned at)
{
    m->copies[key]--;
    m->blocks--;
    memmove(&m->copy[key][at], &m->copy[key][at + 1],
            (m->copies[key] - at) * sizeof m->copy[key][0]);
}

static void model_insert(struct model *m, struct index *ix, unsigned k, uint64_t r)
{
    struct model_copy c = {(uint32_t)(r >> 8) % MODEL_SEGMENTS, (uint32_t)(r >> 20) % 3, 1};
    cistern_key key = key_number(k);
    struct block_info b;
    int want = 0, got;
    unsigned i;

    if (r & 64) /* several parts, sixteen at times */
        c.mask = (r & 128) && (r & 3) == 0 ? 0xffff : (uint16_t)(r >> 40 | 1);
    for (i = 0; i < m->copies[k]; i++) {
        if (m->copy[k][i].segment == c.segment && m->copy[k][i].offset == c.offset)
            want = -EEXIST;
    }
    if (!want && m->copies[k] == MODEL_COPIES)
        return;
    b = block_of(&key, c.segment, c.offset, c.mask);
    got = index_insert(ix, c.segment, &b);
    assert_int_equal(got, want);
    if (!want) {
        m->copy[k][m->copies[k]++] = c;
        m->blocks++;
    }
}

static void model_remove(struct model *m, struct index *ix, unsigned k, uint64_t r)
{
    unsigned at = m->copies[k] ? (unsigned)(r >> 8) % m->copies[k] : 0;
    cistern_key key = key_number(k);
    struct model_copy c;

    assert_false(index_remove_copy(ix, &key, MODEL_SEGMENTS, 0));
    if (!m->copies[k])
        return;
    c = m->copy[k][at];
    assert_true(index_remove_copy(ix, &key, c.segment, c.offset));
    assert_false(index_remove_copy(ix, &key, c.segment, c.offset));
    model_take(m, k, at);
}

static void model_remove_segment(struct model *m, struct index *ix, uint32_t segment)
{
    uint64_t removed = 0;
    unsigned k, i;

    for (k = 0; k < MODEL_KEYS; k++) {
        for (i = m->copies[k]; i-- > 0;) {
            if (m->copy[k][i].segment == segment) {
                model_take(m, k, i);
                removed++;
            }
        }
    }
    assert_int_equal(index_remove_segment(ix, segment), removed);
}

static void model_check_key(const struct model *m, const struct index *ix, unsigned k)
{
    cistern_key key = key_number(k);
    const struct model_copy *c;
    struct index_place p;

    if (!m->copies[k]) {
        assert_false(index_find(ix, &key, &p));
        assert_int_equal(index_mask(ix, &key), 0);
        return;
    }
    c = &m->copy[k][m->copies[k] - 1];
    assert_true(index_find(ix, &key, &p));
    assert_memory_equal(p.info.key, key.b, 32);
    assert_int_equal(p.segment, c->segment);
    assert_int_equal(p.info.offset, c->offset);
    assert_int_equal(p.info.mask, c->mask);
    assert_true(place_is_right(&p));
    assert_int_equal(index_mask(ix, &key), c->mask);
}

static int count_place(void *arg, const struct index_place *p)
{
    uint64_t *count = arg;

    assert_true(place_is_right(p));
    (*count)++;
    return 0;
}

static void model_check(const struct model *m, struct index *ix)
{
    uint64_t count = 0;
    unsigned k;

    for (k = 0; k < MODEL_KEYS; k++)
        model_check_key(m, ix, k);
    assert_int_equal(index_blocks(ix), m->blocks);
    assert_int_equal(index_walk(ix, count_place, &count), 0);
    assert_int_equal(count, m->blocks);
}

static void model_run(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    struct index *ix;
    unsigned i, k;

    assert_non_null(m);
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_int_equal(index_open(MODEL_KEYS * MODEL_COPIES, &ix), 0);
    for (i = 0; i < 60000; i++) {
        uint64_t r = random_next(&seed);

        k = (unsigned)(r >> 32) % MODEL_KEYS;
        if (r % 1000 == 0)
            model_remove_segment(m, ix, (uint32_t)(r >> 16) % MODEL_SEGMENTS);
        else if (r % 16 < (i / 10000 % 2 ? 4 : 9))
            model_insert(m, ix, k, r);
        else if (r % 16 < 12)
            model_remove(m, ix, k, r);
        else
            model_check_key(m, ix, k);
        if (i % 10000 == 9999)
            model_check(m, ix);
    }
    for (i = 0; i < MODEL_SEGMENTS; i++)
        model_remove_segment(m, ix, i);
    assert_int_equal(index_blocks(ix), 0);
    model_check(m, ix);
    index_close(ix);
    free(m);
}

static void test_index_is_what_a_plain_model_is(void **state)
{
    (void)state;
    model_run(1);
    model_run(20250101);
}

/* ---- Limits ---- */

static void test_arguments_are_checked(void **state)
{
    cistern_key key = key_number(1);
    struct block_info b = block_of(&key, 1, 1, 1);
    struct index *ix = NULL;

    (void)state;
    assert_int_equal(index_open(0, &ix), -EINVAL);
    assert_int_equal(index_open((uint64_t)1 << 31, &ix), -EINVAL);
    assert_int_equal(index_open(10, NULL), -EINVAL);
    assert_null(ix);
    assert_int_equal(index_open(10, &ix), 0);
    assert_int_equal(index_insert(ix, 1, NULL), -EINVAL);
    assert_int_equal(index_insert(ix, (uint32_t)1 << 31, &b), -EINVAL);
    b.parts = 2;
    assert_int_equal(index_insert(ix, 1, &b), -EINVAL);
    b.parts = 0;
    b.mask = 0;
    assert_int_equal(index_insert(ix, 1, &b), -EINVAL);
    assert_int_equal(index_blocks(ix), 0);
    index_close(ix);
    index_close(NULL);
}

static void test_full_is_full_and_room_comes_back(void **state)
{
    const uint32_t limit = 5000;
    struct index *ix;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(limit, &ix), 0);
    for (i = 0; i <= limit; i++) {
        cistern_key key = key_number(i);
        struct block_info b = block_of(&key, i % 7, i, i % 2 ? 0xf : 1);

        assert_int_equal(index_insert(ix, i % 7, &b), i < limit ? 0 : -ENOSPC);
        assert_int_equal(index_mask(ix, &key), i < limit ? b.mask : 0);
    }
    assert_int_equal(index_blocks(ix), limit);
    assert_true(index_remove_segment(ix, 3) > 0);
    for (i = 0; index_blocks(ix) < limit; i++) {
        cistern_key key = key_number(limit + i);
        struct block_info b = block_of(&key, 3, i, 1);

        assert_int_equal(index_insert(ix, 3, &b), 0);
    }
    index_close(ix);
}

/* Keys that agree in all that is hashed: they share one group, which has 512 slots. */
static cistern_key equal_key(uint32_t i)
{
    cistern_key key = {{1, 2, 3}};

    key.b[30] = (uint8_t)(i >> 8);
    key.b[31] = (uint8_t)i;
    return key;
}

static void test_equal_hashes_are_told_apart(void **state)
{
    enum { GROUP = 512, STEP = 37 }; /* no common divisor: every number once, in another order */
    struct index_place p;
    struct index *ix;
    uint32_t i, k;

    (void)state;
    assert_int_equal(index_open(100000, &ix), 0);
    for (i = 0; i < GROUP + 10; i++) {
        cistern_key key = equal_key(i);
        struct block_info b = block_of(&key, 1, i, 1);

        assert_int_equal(index_insert(ix, 1, &b), i < GROUP ? 0 : -ENOSPC);
    }
    assert_int_equal(index_blocks(ix), GROUP);
    for (i = 0; i < GROUP; i++) {
        cistern_key key = equal_key(i * STEP % GROUP);

        assert_true(index_remove_copy(ix, &key, 1, i * STEP % GROUP));
        assert_int_equal(index_mask(ix, &key), 0);
        for (k = i + 1; k < GROUP; k += 1 + k % 13) {
            key = equal_key(k * STEP % GROUP);
            assert_true(index_find(ix, &key, &p));
            assert_int_equal(p.info.offset, k * STEP % GROUP);
        }
    }
    assert_int_equal(index_blocks(ix), 0);
    index_close(ix);
}

/* A full group that cannot move stops the growth of its table, and of no other. */
static void test_equal_hashes_harm_nobody(void **state)
{
    struct index *ix;
    uint64_t lost = 0;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(200000, &ix), 0);
    for (i = 0; i < 40000; i++) {
        cistern_key key = i % 40 == 0 ? equal_key(i / 40) : key_number(i);
        struct block_info b = block_of(&key, 1, i, 1);
        int r = index_insert(ix, 1, &b);

        assert_true(r == 0 || r == -ENOSPC);
        lost += r != 0;
        assert_int_equal(index_mask(ix, &key), r ? 0 : 1);
    }
    /* what does not fit beside 512 equal ones */
    assert_true(lost >= 1000 - 512 && lost < 1000);
    index_close(ix);
}

/* ---- Growth and memory ---- */

static uint64_t resident_bytes(void)
{
    unsigned long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/self/smaps_rollup", "r");

    while (f && fgets(line, sizeof line, f) && sscanf(line, "Anonymous: %lu", &kib) != 1)
        ;
    if (f)
        (void)fclose(f);
    return kib * 1024ull;
}

static void test_growth_keeps_all_and_stays_small(void **state)
{
    const uint64_t most = 300000;
    uint64_t i, k, before, look = 10000;
    struct index *ix;

    (void)state;
    (void)resident_bytes();
    before = resident_bytes();
    assert_int_equal(index_open(most, &ix), 0);
    for (i = 0; i < most; i++) {
        cistern_key key = key_number(i);
        struct block_info b = block_of(&key, (uint32_t)(i / 1000), (uint32_t)i, 1);

        assert_int_equal(index_insert(ix, (uint32_t)(i / 1000), &b), 0);
        if (i + 1 >= 10000)
            assert_true(index_memory_bytes(ix) <= 80 * (i + 1));
        if (i + 1 == look) {
            uint64_t resident = resident_bytes() - before;

            /* 64 KiB for what stack and stdio touched meanwhile */
            if (!SANITIZED && before)
                assert_true(resident <= index_memory_bytes(ix) + 65536);
            for (k = 0; k <= i; k += 1 + look / 5000) {
                cistern_key old = key_number(k);

                assert_int_equal(index_mask(ix, &old), 1);
            }
            look += look / 3;
        }
    }
    index_close(ix);
}

static void test_freed_entries_are_used_again(void **state)
{
    uint64_t round, i, memory = 0;
    struct index *ix;

    (void)state;
    assert_int_equal(index_open(1000000, &ix), 0);
    for (round = 0; round < 30; round++) {
        for (i = 0; i < 10000; i++) {
            cistern_key key = key_number(round * 10000 + i);
            struct block_info b = block_of(&key, (uint32_t)round, (uint32_t)i, i % 8 ? 1 : 0x1ff);

            assert_int_equal(index_insert(ix, (uint32_t)round, &b), 0);
        }
        if (round)
            assert_int_equal(index_remove_segment(ix, (uint32_t)round - 1), 10000);
        if (round == 4)
            memory = index_memory_bytes(ix);
    }
    assert_int_equal(index_blocks(ix), 10000);
    /* Not the same: tables take what they need in turns. */
    assert_true(index_memory_bytes(ix) <= memory + memory / 16);
    index_close(ix);
}

/* Long use at one size: removals must not leave the tables worn. */
static void test_churn_loses_nothing(void **state)
{
    enum { LIVE = 20000, ROUNDS = 400000 };
    uint64_t *number = calloc(LIVE, sizeof *number), i, next = 0, seed = 5;
    struct index *ix;

    (void)state;
    assert_non_null(number);
    assert_int_equal(index_open(LIVE, &ix), 0);
    for (i = 0; i < ROUNDS; i++) {
        uint64_t at = i < LIVE ? i : random_next(&seed) % LIVE, other;
        cistern_key key = key_number(number[at]);
        struct block_info b;

        if (i >= LIVE)
            assert_true(index_remove_copy(ix, &key, 1, (uint32_t)number[at]));
        number[at] = next++;
        key = key_number(number[at]);
        b = block_of(&key, 1, (uint32_t)number[at], 1);
        assert_int_equal(index_insert(ix, 1, &b), 0);
        other = random_next(&seed) % (i < LIVE ? i + 1 : LIVE);
        key = key_number(number[other]);
        assert_int_equal(index_mask(ix, &key), 1);
        key = key_number(next + 1000000);
        assert_int_equal(index_mask(ix, &key), 0);
    }
    for (i = 0; i < LIVE; i++) {
        cistern_key key = key_number(number[i]);

        assert_int_equal(index_mask(ix, &key), 1);
    }
    index_close(ix);
    free(number);
}

static void test_many_is_one_by_one(void **state)
{
    enum { N = 1000 };
    struct block_info *b = calloc(N, sizeof *b);
    uint64_t inserted = 0;
    struct index *ix;
    uint32_t i;

    (void)state;
    assert_non_null(b);
    assert_int_equal(index_open(2000, &ix), 0);
    for (i = 0; i < N; i++) {
        cistern_key key = key_number(i / 2); /* two copies of each */

        b[i] = block_of(&key, 9, i, i % 5 ? 1 : 7);
    }
    assert_int_equal(index_insert_many(ix, 9, b, 0, &inserted), 0);
    assert_int_equal(inserted, 0);
    assert_int_equal(index_insert_many(ix, 9, b, 300, NULL), 0);
    assert_int_equal(index_insert_many(ix, 9, b, N, &inserted), 0);
    assert_int_equal(inserted, N - 300);
    for (i = 0; i < N / 2; i++) {
        cistern_key key = key_number(i);
        struct index_place p;

        assert_true(index_find(ix, &key, &p));
        assert_int_equal(p.info.offset, 2 * i + 1);
        assert_true(place_is_right(&p));
    }
    b[500].parts = 0;
    assert_int_equal(index_insert_many(ix, 10, b, N, &inserted), -EINVAL);
    assert_int_equal(inserted, N - 1);
    assert_int_equal(index_insert_many(ix, 11, b, N, &inserted), -ENOSPC);
    assert_int_equal(inserted, 1);
    assert_int_equal(index_blocks(ix), 2000);
    index_close(ix);
    free(b);
}

/* What was filled in bulk is what was filled one by one, and is as good to work on. */
static void test_bulk_is_one_by_one(void **state)
{
    enum { N = 60000, SEGMENTS = 64 };
    struct index *bulk, *live;
    struct index_place p, q;
    uint64_t inserted, seed = 9;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(N + 100, &bulk), 0);
    assert_int_equal(index_open(N + 100, &live), 0);
    assert_int_equal(index_bulk_end(bulk), -EINVAL);
    assert_int_equal(index_bulk_begin(bulk), 0);
    assert_int_equal(index_bulk_begin(bulk), -EBUSY);
    for (i = 0; i < N; i++) {
        uint64_t r = random_next(&seed);
        cistern_key key = key_number(r % (N / 2));
        struct block_info b =
            block_of(&key, (uint32_t)(r >> 20) % SEGMENTS, (r >> 40) % 2, r >> 60 ? 1 : 0x3ff);
        int a = index_insert(live, (uint32_t)(r >> 20) % SEGMENTS, &b);

        assert_true(a == 0 || a == -EEXIST);
        if (r % 3)
            assert_int_equal(index_insert(bulk, (uint32_t)(r >> 20) % SEGMENTS, &b), 0);
        else
            assert_int_equal(
                index_insert_many(bulk, (uint32_t)(r >> 20) % SEGMENTS, &b, 1, &inserted), 0);
        assert_false(index_find(bulk, &key, &p));
    }
    assert_int_equal(index_bulk_end(bulk), 0);
    assert_int_equal(index_blocks(bulk), index_blocks(live));
    for (i = 0; i < SEGMENTS / 2; i++)
        assert_int_equal(index_remove_segment(bulk, i), index_remove_segment(live, i));
    for (i = 0; i < N / 2; i++) {
        cistern_key key = key_number(i);
        bool found = index_find(live, &key, &q);

        assert_int_equal(index_find(bulk, &key, &p), found);
        assert_int_equal(index_mask(bulk, &key), index_mask(live, &key));
        if (found) {
            assert_true(p.segment == q.segment && p.info.offset == q.info.offset);
            assert_true(place_is_right(&p));
        }
    }
    assert_int_equal(index_bulk_begin(bulk), -EBUSY);
    index_close(bulk);
    index_close(live);
}

static void test_bulk_stays_small(void **state)
{
    static const uint32_t sizes[] = {10000, 10300, 12400, 33000, 70000};
    unsigned k;

    (void)state;
    for (k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        uint64_t before = resident_bytes(), resident;
        struct index *ix;
        uint32_t i;

        assert_int_equal(index_open(1000000, &ix), 0);
        assert_int_equal(index_bulk_begin(ix), 0);
        for (i = 0; i < sizes[k]; i++) {
            cistern_key key = key_number(i);
            struct block_info b = block_of(&key, 1, i, 1);

            assert_int_equal(index_insert(ix, 1, &b), 0);
        }
        assert_int_equal(index_bulk_end(ix), 0);
        resident = resident_bytes() - before;
        assert_true(index_memory_bytes(ix) <= 80ull * sizes[k]);
        if (!SANITIZED && before)
            assert_true(resident <= index_memory_bytes(ix) + 16384);
        index_close(ix);
    }
}

static void test_bulk_has_limits_too(void **state)
{
    struct block_info b[2];
    uint64_t inserted = 0;
    struct index *ix;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(100, &ix), 0);
    assert_int_equal(index_bulk_begin(ix), 0);
    for (i = 0; i < 102; i++) {
        cistern_key key = key_number(i);

        b[0] = block_of(&key, 1, i, 1);
        assert_int_equal(index_insert(ix, 1, &b[0]), i < 100 ? 0 : -ENOSPC);
    }
    b[1] = b[0];
    b[1].parts = 0;
    assert_int_equal(index_insert(ix, 1, &b[1]), -EINVAL);
    assert_int_equal(index_insert_many(ix, 1, &b[1], 1, &inserted), -EINVAL);
    assert_int_equal(inserted, 0);
    assert_int_equal(index_bulk_end(ix), 0);
    assert_int_equal(index_blocks(ix), 100);
    index_close(ix);

    assert_int_equal(index_open(1000, &ix), 0); /* a full group is found at the end */
    assert_int_equal(index_bulk_begin(ix), 0);
    for (i = 0; i < 600; i++) {
        cistern_key key = equal_key(i);

        b[0] = block_of(&key, 1, i, 1);
        assert_int_equal(index_insert(ix, 1, &b[0]), 0);
    }
    assert_int_equal(index_bulk_end(ix), -ENOSPC);
    assert_int_equal(index_blocks(ix), 512);
    index_close(ix);

    assert_int_equal(index_open(1000, &ix), 0); /* nothing at all */
    assert_int_equal(index_bulk_begin(ix), 0);
    assert_int_equal(index_bulk_end(ix), 0);
    assert_int_equal(index_blocks(ix), 0);
    index_close(ix);
}

static int stop_at_third(void *arg, const struct index_place *p)
{
    int *count = arg;

    (void)p;
    return ++*count == 3 ? -ECANCELED : 0;
}

static void test_walk_ends_when_told(void **state)
{
    struct index *ix;
    int count = 0;
    uint32_t i;

    (void)state;
    assert_int_equal(index_open(100, &ix), 0);
    for (i = 0; i < 10; i++) {
        cistern_key key = key_number(i);
        struct block_info b = block_of(&key, 1, i, 1);

        index_prefetch(ix, &key);
        assert_int_equal(index_insert(ix, 1, &b), 0);
    }
    assert_int_equal(index_walk(ix, stop_at_third, &count), -ECANCELED);
    assert_int_equal(count, 3);
    index_close(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_is_what_a_plain_model_is),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_full_is_full_and_room_comes_back),
        cmocka_unit_test(test_equal_hashes_are_told_apart),
        cmocka_unit_test(test_equal_hashes_harm_nobody),
        cmocka_unit_test(test_growth_keeps_all_and_stays_small),
        cmocka_unit_test(test_freed_entries_are_used_again),
        cmocka_unit_test(test_churn_loses_nothing),
        cmocka_unit_test(test_many_is_one_by_one),
        cmocka_unit_test(test_bulk_is_one_by_one),
        cmocka_unit_test(test_bulk_stays_small),
        cmocka_unit_test(test_bulk_has_limits_too),
        cmocka_unit_test(test_walk_ends_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
