/*
 * test_policy.c - the eviction and admission policy: a table of cases for choosing, merging and
 * carrying; properties over random segments; the ghost list and the filter against plain models.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/policy.h"

#define MIB      ((uint64_t)1 << 20)
#define CAPACITY (4096 * MIB)
#define SEGMENT  (64 * MIB)

static const struct policy_history quiet;

static uint64_t random_next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static struct policy_params params(void)
{
    struct policy_params p;

    policy_defaults(&p, CAPACITY);
    return p;
}

/* A full young segment, last used 1 GiB of writes ago. */
#define SEG(...)                                                                                   \
    {                                                                                              \
        .age = 2048 * MIB, .idle = 1024 * MIB, .bytes = SEGMENT, .live_bytes = SEGMENT,            \
        .blocks = 32, .depth = 5, __VA_ARGS__                                                      \
    }

struct choice {
    const char *what;
    size_t n, want; /* want: an index, or POLICY_NONE */
    struct policy_segment s[3];
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const struct choice choices[] = {
    {"nothing to choose from", 0, POLICY_NONE, {{0}}},
    {"one", 1, 0, {SEG(.number = 1)}},
    {"pinned alone", 1, POLICY_NONE, {SEG(.number = 1, .flags = POLICY_PINNED)}},
    {"the longest idle",
     3,
     1,
     {SEG(.number = 1), SEG(.number = 2, .idle = 1025 * MIB), SEG(.number = 3, .idle = 9)}},
    {"a pinned one is passed over",
     2,
     1,
     {SEG(.number = 1, .flags = POLICY_PINNED, .idle = 9999 * MIB), SEG(.number = 2)}},
    {"a colder space before a longer idle segment",
     2,
     1,
     {SEG(.number = 1, .idle = 2048 * MIB), SEG(.number = 2, .rank = 1, .idle = 1)}},
    {"the coldest of colder spaces",
     3,
     2,
     {SEG(.number = 1), SEG(.number = 2, .rank = 1), SEG(.number = 3, .rank = 2)}},
    {"what has expired before every space",
     2,
     0,
     {SEG(.number = 1, .rank = POLICY_RANK_EXPIRED, .idle = 1), SEG(.number = 2, .rank = 7)}},
    {"children before parents",
     3,
     1,
     {SEG(.number = 1, .depth = 3), SEG(.number = 2, .depth = 9), SEG(.number = 3, .depth = 8)}},
    {"heat counts more than depth",
     2,
     0,
     {SEG(.number = 1, .depth = 0, .idle = 1025 * MIB), SEG(.number = 2, .depth = 99)}},
    {"a silent writer's first, other things equal",
     2,
     1,
     {SEG(.number = 1), SEG(.number = 2, .flags = POLICY_SILENT)}},
    {"the lower number at last", 2, 1, {SEG(.number = 8), SEG(.number = 7)}},
    {"an old one has earned half again as long",
     2,
     1,
     {SEG(.number = 1, .generation = POLICY_OLD, .idle = 1500 * MIB), SEG(.number = 2)}},
    {"but not twice as long",
     2,
     0,
     {SEG(.number = 1, .generation = POLICY_OLD, .idle = 2000 * MIB), SEG(.number = 2)}},
    {"half dead counts twice",
     2,
     1,
     {SEG(.number = 1, .idle = 1900 * MIB), SEG(.number = 2, .live_bytes = SEGMENT / 2)}},
    {"dead goes first, however new",
     2,
     1,
     {SEG(.number = 1, .idle = 4000 * MIB), SEG(.number = 2, .idle = 0, .live_bytes = 0)}},
    {"dead and old too",
     2,
     1,
     {SEG(.number = 1, .idle = 4000 * MIB),
      SEG(.number = 2, .generation = POLICY_OLD, .idle = 0, .live_bytes = 0)}},
    {"dead before a colder space",
     2,
     1,
     {SEG(.number = 1, .rank = 3, .idle = 4000 * MIB),
      SEG(.number = 2, .idle = 0, .live_bytes = 0)}},
    {"unknown: touched ones stay",
     2,
     1,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN, .touches = 20),
      SEG(.number = 2, .idle = POLICY_UNKNOWN, .touches = 2)}},
    {"unknown and untouched: as idle as it is old",
     2,
     0,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN), SEG(.number = 2, .idle = 2047 * MIB)}},
    {"unknown blocks: by age alone",
     2,
     0,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN, .blocks = 0, .touches = 900),
      SEG(.number = 2, .idle = 2047 * MIB)}},
    {"unknown: a late touch of some outweighs early ones of all",
     2,
     1,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN, .touches = 20, .touch_age = MIB),
      SEG(.number = 2, .idle = POLICY_UNKNOWN, .touches = 900, .touch_age = 1500 * MIB)}},
    {"unknown: one late touch does not",
     2,
     0,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN, .touches = 1, .touch_age = MIB),
      SEG(.number = 2, .idle = POLICY_UNKNOWN, .touches = 900, .touch_age = 1500 * MIB)}},
    {"more touches than blocks are not more than all",
     2,
     1,
     {SEG(.number = 1, .idle = POLICY_UNKNOWN, .touches = 4000000000u),
      SEG(.number = 2, .idle = 513 * MIB)}},
};
#pragma GCC diagnostic pop

static void test_choices(void **state)
{
    struct policy_params p = params();
    size_t i, got;

    (void)state;
    for (i = 0; i < ARRAY_LEN(choices); i++) {
        got = policy_choose(choices[i].s, choices[i].n, &p, &quiet);
        if (got != choices[i].want)
            fail_msg("%s: %zd in place of %zd", choices[i].what, (ssize_t)got,
                     (ssize_t)choices[i].want);
    }
}

static void test_old_segments_stay_longer_when_ghosts_come_back(void **state)
{
    struct policy_params p = params();
    struct policy_history h = {.hit = 512 * MIB};
    struct policy_segment s[2] = {
        {.number = 1, .generation = POLICY_OLD, .idle = 3000 * MIB, .bytes = 1, .live_bytes = 1},
        {.number = 2, .idle = 1000 * MIB, .bytes = 1, .live_bytes = 1}};

    (void)state;
    assert_int_equal(policy_choose(s, 2, &p, &h), 0);
    h.ghost = 512 * MIB;
    assert_int_equal(policy_choose(s, 2, &p, &h), 1);
    /* which is where what comes back goes */
    assert_int_equal(policy_place(true), POLICY_OLD);
    assert_int_equal(policy_place(false), POLICY_YOUNG);
    /* but never for ever */
    s[0].idle = 10100 * MIB;
    h.ghost = UINT64_MAX / 2;
    assert_int_equal(policy_choose(s, 2, &p, &h), 0);
}

static void test_tiny_segments_merge_when_there_are_some(void **state)
{
    struct policy_params p = params();
    struct policy_segment s[6] = {{.number = 1, .age = 900, .flags = 0}};
    unsigned i;

    (void)state;
    for (i = 1; i < 6; i++)
        s[i] = (struct policy_segment){.number = i + 1, .age = 100 + i % 3, .flags = POLICY_TINY};
    assert_int_equal(policy_merge(s, 1, &p), POLICY_NONE);
    assert_int_equal(policy_merge(s, 4, &p), POLICY_NONE); /* three of them */
    assert_int_equal(policy_merge(s, 5, &p), 2);           /* four: the oldest */
    assert_int_equal(policy_merge(s, 6, &p), 2);           /* of equal age the lower number */
    s[2].flags |= POLICY_PINNED;
    assert_int_equal(policy_merge(s, 6, &p), 5);
    s[5].flags |= POLICY_PINNED;
    assert_int_equal(policy_merge(s, 6, &p), POLICY_NONE);
    p.tiny_count = 0;
    assert_int_equal(policy_merge(s, 1, &p), POLICY_NONE);
}

struct carry {
    const char *what;
    bool want;
    uint64_t idle; /* of the victim, MiB */
    uint32_t rank;
    uint64_t stored, carried; /* MiB */
    struct policy_block b;
};

static const struct carry carries[] = {
    {"never used", false, 1000, 0, 0, 0, {.use_age = 0}},
    {"used just now", true, 1000, 0, 0, 0, {.used = true}},
    {"less idle than three quarters", true, 1000, 0, 0, 0, {.used = true, .use_age = 749 * MIB}},
    {"not less", false, 1000, 0, 0, 0, {.used = true, .use_age = 750 * MIB}},
    {"as idle as the rest", false, 1000, 0, 0, 0, {.used = true, .use_age = 1000 * MIB}},
    {"a copy elsewhere", false, 1000, 0, 0, 0, {.used = true, .copied = true}},
    {"a pinned copy elsewhere", false, 1000, 0, 0, 0, {.pinned = true, .copied = true}},
    {"pinned, never used", true, 1000, 0, 0, 0, {.pinned = true, .use_age = 5000 * MIB}},
    {"of an expired segment", false, 1000, POLICY_RANK_EXPIRED, 0, 0, {.used = true}},
    {"pinned in an expired segment", false, 1000, POLICY_RANK_EXPIRED, 0, 0, {.pinned = true}},
    {"of a cold space", true, 1000, 3, 0, 0, {.used = true}},
    {"half the budget left: as ever",
     true,
     1000,
     0,
     10000,
     736,
     {.used = true, .use_age = 749 * MIB}},
    {"a tenth left: only the latest",
     false,
     1000,
     0,
     10000,
     1325,
     {.used = true, .use_age = 300 * MIB}},
    {"a tenth left, used lately", true, 1000, 0, 10000, 1325, {.used = true, .use_age = 100 * MIB}},
    {"nothing left", false, 1000, 0, 10000, 1480, {.used = true, .use_age = 0}},
    {"nothing left, pinned", true, 1000, 0, 10000, 1480, {.pinned = true}},
};

static void test_carries(void **state)
{
    struct policy_params p = params();
    size_t i;

    (void)state;
    for (i = 0; i < ARRAY_LEN(carries); i++) {
        const struct carry *c = &carries[i];
        struct policy_segment v = {.idle = c->idle * MIB, .rank = c->rank, .bytes = SEGMENT};
        struct policy_history h = {.stored = c->stored * MIB, .carried = c->carried * MIB};

        if (policy_carry(&v, &c->b, &p, &h) != c->want)
            fail_msg("%s: %s", c->what, c->want ? "left behind" : "carried");
    }
}

static void test_carry_limits(void **state)
{
    struct policy_params p = params();
    struct policy_segment v = {.bytes = SEGMENT, .live_bytes = SEGMENT};
    struct policy_history h = {0};
    uint64_t credit;

    (void)state;
    /* A store that was just opened has some credit, less than a segment's share here. */
    credit = policy_carry_limit(&v, &p, &h);
    assert_true(credit > 0 && credit < SEGMENT);
    /* Plenty earned: the share of the victim, and never all of it. */
    h.stored = CAPACITY;
    assert_true(policy_carry_limit(&v, &p, &h) < SEGMENT);
    assert_true(policy_carry_limit(&v, &p, &h) > SEGMENT / 2);
    /* Nothing earned. */
    h.carried = CAPACITY;
    assert_int_equal(policy_carry_limit(&v, &p, &h), 0);
    h.carried = 0;
    v.rank = POLICY_RANK_EXPIRED;
    assert_int_equal(policy_carry_limit(&v, &p, &h), 0);
}

static void test_history_forgets_and_keeps_its_ratios(void **state)
{
    struct policy_params p = params();
    struct policy_history h = {0}, more = {.hit = 30 * MIB, .ghost = 15 * MIB, .stored = 60 * MIB};
    unsigned i;

    (void)state;
    more.carried = 6 * MIB;
    for (i = 0; i < 100000; i++) {
        policy_history_add(&h, &more, &p);
        assert_true(h.hit + h.stored <= 5 * CAPACITY);
    }
    assert_true(h.hit + h.stored > CAPACITY);
    assert_in_range(h.hit * 100 / h.stored, 49, 51);
    assert_in_range(h.ghost * 100 / h.hit, 49, 51);
    assert_in_range(h.carried * 100 / h.stored, 9, 11);
    /* A capacity of nothing is no endless loop. */
    p.capacity = 0;
    policy_history_add(&h, &more, &p);
    assert_true(h.hit + h.stored <= 8);
}

static struct policy_segment random_segment(uint64_t *seed, uint64_t number)
{
    uint64_t r = random_next(seed), bytes = 1 + random_next(seed) % SEGMENT;
    static const uint32_t ranks[] = {0, 0, 0, 0, 1, 2, POLICY_RANK_EXPIRED};

    return (struct policy_segment){
        .number = number,
        .rank = ranks[r % ARRAY_LEN(ranks)],
        .flags = (uint32_t)(r >> 8) & (POLICY_PINNED | POLICY_TINY | POLICY_SILENT),
        .generation = (uint32_t)(r >> 16) & 1,
        .depth = (uint32_t)(r >> 24) % 4,
        .age = random_next(seed) % (8 * CAPACITY),
        .idle = r >> 60 ? random_next(seed) % 16 * CAPACITY / 4 : POLICY_UNKNOWN,
        .bytes = bytes,
        .live_bytes = random_next(seed) % (bytes + 1),
        .blocks = (uint32_t)(r >> 32) % 100,
        .touches = (uint32_t)(r >> 40) % 300,
        .touch_age = r >> 61 ? random_next(seed) % (8 * CAPACITY) : 0,
    };
}

#define MANY 40u

/* Whatever the order of the array, and whatever is taken away that was not chosen, the same segment
 * goes next; what is pinned never does; and removing victims one by one ends with pinned ones. */
static void test_choosing_is_an_order(void **state)
{
    struct policy_params p = params();
    uint64_t seed = 11;
    unsigned round, i;

    (void)state;
    for (round = 0; round < 500; round++) {
        struct policy_segment s[MANY], t;
        struct policy_history h = {.hit = random_next(&seed) % CAPACITY,
                                   .ghost = random_next(&seed) % CAPACITY};
        size_t n = MANY, got;
        uint64_t first;

        for (i = 0; i < MANY; i++)
            s[i] = random_segment(&seed, i);
        got = policy_choose(s, n, &p, &h);
        first = got == POLICY_NONE ? UINT64_MAX : s[got].number;
        for (i = MANY - 1; i; i--) {
            unsigned j = (unsigned)(random_next(&seed) % (i + 1));

            t = s[i], s[i] = s[j], s[j] = t;
        }
        got = policy_choose(s, n, &p, &h);
        assert_int_equal(got == POLICY_NONE ? UINT64_MAX : s[got].number, first);
        i = (unsigned)(random_next(&seed) % n);
        if (got != POLICY_NONE && i != got) {
            s[i] = s[--n];
            got = policy_choose(s, n, &p, &h);
            assert_int_equal(s[got].number, first);
        }
        for (; (got = policy_choose(s, n, &p, &h)) != POLICY_NONE; s[got] = s[--n])
            assert_false(s[got].flags & POLICY_PINNED);
        for (i = 0; i < n; i++)
            assert_true(s[i].flags & POLICY_PINNED);
    }
}

/* Making a segment colder in any way never saves it. */
static void test_colder_never_saves(void **state)
{
    struct policy_params p = params();
    uint64_t seed = 12;
    unsigned round, i;

    (void)state;
    for (round = 0; round < 2000; round++) {
        struct policy_segment s[8];
        size_t got;

        for (i = 0; i < ARRAY_LEN(s); i++) {
            s[i] = random_segment(&seed, i);
            s[i].flags &= ~POLICY_PINNED;
        }
        got = policy_choose(s, ARRAY_LEN(s), &p, &quiet);
        assert_true(got < ARRAY_LEN(s));
        if (round % 4 == 0 && s[got].idle != POLICY_UNKNOWN)
            s[got].idle += random_next(&seed) % CAPACITY;
        else if (round % 4 == 1)
            s[got].live_bytes -= random_next(&seed) % (s[got].live_bytes + 1);
        else if (round % 4 == 2)
            s[got].generation = POLICY_YOUNG;
        else
            s[got].depth++;
        assert_int_equal(policy_choose(s, ARRAY_LEN(s), &p, &quiet), got);
    }
}

/* ---- ghost list and admission ---- */

static uint64_t hash_of(uint64_t i)
{
    uint64_t s = i;

    return random_next(&s);
}

static void test_ghosts_are_kept_for_their_time(void **state)
{
    static const uint64_t sizes[] = {1, 100, 5000, 100000};
    struct ghost *g;
    uint64_t size, i, kept, late;
    unsigned k;

    (void)state;
    for (k = 0; k < ARRAY_LEN(sizes); k++) {
        size = sizes[k];
        assert_int_equal(ghost_create(size, &g), 0);
        assert_true(ghost_bytes(g) <= size * 6 + 512);
        for (i = 0; i < 8 * size; i++)
            ghost_note(g, hash_of(i));
        for (kept = 0, i = 7 * size + size / 10; i < 8 * size; i++)
            kept += ghost_seen(g, hash_of(i));
        assert_true(kept >= (size - size / 10) * 99 / 100);
        for (late = 0, i = 0; i < 6 * size - 6 * size / 10; i++)
            late += ghost_seen(g, hash_of(i));
        /* small ones are rounded up to a set, and a tick is at least one note */
        assert_true(size < 512 || late <= size / 1000 + 1);
        ghost_free(g);
    }
}

static void test_ghosts_are_taken_once(void **state)
{
    struct ghost *g;
    uint64_t i, wrong = 0;

    (void)state;
    assert_int_equal(ghost_create(4096, &g), 0);
    assert_false(ghost_take(g, 0));
    ghost_note(g, 0); /* a hash of zeros is a key like any other */
    ghost_note(g, 0);
    assert_true(ghost_seen(g, 0));
    assert_true(ghost_take(g, 0));
    assert_false(ghost_take(g, 0));
    for (i = 1; i <= 2000; i++)
        ghost_note(g, hash_of(i));
    for (i = 1; i <= 2000; i++)
        assert_true(ghost_take(g, hash_of(i)));
    for (i = 1; i <= 2000; i++)
        wrong += ghost_seen(g, hash_of(i));
    assert_int_equal(wrong, 0);
    for (i = 1; i <= 2000; i++)
        ghost_note(g, hash_of(i));
    for (i = 10000; i < 210000; i++)
        wrong += ghost_seen(g, hash_of(i));
    assert_true(wrong <= 20); /* a hundred thousandth is expected, so two */
    ghost_free(g);
}

static void test_ghost_arguments(void **state)
{
    struct ghost *g = NULL;
    struct admit *a = NULL;

    (void)state;
    assert_int_equal(ghost_create(0, &g), -EINVAL);
    assert_int_equal(ghost_create((1ull << 32) + 1, &g), -EINVAL);
    assert_null(g);
    ghost_free(NULL);
    assert_int_equal(admit_create((enum admit_mode)9, 64, &a), -EINVAL);
    assert_int_equal(admit_create(ADMIT_REUSED, 0, &a), -EINVAL);
    assert_null(a);
    admit_free(NULL);
    assert_int_equal(ghost_entries_for(0, 1), 64);
    assert_int_equal(ghost_entries_for(1000 * MIB, MIB), 4000);
    assert_int_equal(ghost_entries_for(UINT64_MAX, 4096), 1u << 24);
    assert_int_equal(ghost_entries_for(UINT64_MAX, 0), 1u << 24);
}

static void test_admission_all_says_yes(void **state)
{
    struct admit *a;
    uint64_t i;

    (void)state;
    assert_int_equal(admit_create(ADMIT_ALL, 0, &a), 0);
    for (i = 0; i < 1000; i++)
        assert_true(admit_put(a, hash_of(i)));
    admit_free(a);
}

static void test_admission_reused_says_yes_the_second_time(void **state)
{
    struct admit *a;
    uint64_t i;

    (void)state;
    assert_int_equal(admit_create(ADMIT_REUSED, 4096, &a), 0);
    for (i = 0; i < 3000; i++)
        assert_false(admit_put(a, hash_of(i)));
    for (i = 0; i < 3000; i++)
        assert_true(admit_put(a, hash_of(i)));
    for (i = 0; i < 3000; i++) /* it was stored and is gone again: from the start */
        assert_false(admit_put(a, hash_of(i)));
    for (i = 10000; i < 20000; i++)
        (void)admit_put(a, hash_of(i));
    assert_false(admit_put(a, hash_of(1))); /* too long ago */
    admit_free(a);
}

#define THREADS     4u
#define THREAD_KEYS 20000u

struct worker {
    struct ghost *g;
    uint64_t from, kept;
};

static void *note_and_look(void *arg)
{
    struct worker *w = arg;
    uint64_t i;

    for (i = 0; i < THREAD_KEYS; i++) {
        ghost_note(w->g, hash_of(w->from + i));
        if (i % 2)
            (void)ghost_take(w->g, hash_of(w->from + i));
    }
    for (i = 0; i < THREAD_KEYS; i += 2)
        w->kept += ghost_seen(w->g, hash_of(w->from + i));
    return NULL;
}

/* No lock: some notes may be lost where two threads meet in a set, hardly any are. */
static void test_threads_share_a_ghost_list(void **state)
{
    struct worker w[THREADS] = {0};
    pthread_t threads[THREADS];
    struct ghost *g;
    unsigned i;

    (void)state;
    assert_int_equal(ghost_create(2 * THREADS * THREAD_KEYS, &g), 0);
    for (i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.g = g, .from = i * 1000000ull};
        assert_int_equal(pthread_create(&threads[i], NULL, note_and_look, &w[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(w[i].kept >= THREAD_KEYS / 2 * 95 / 100);
    }
    ghost_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_old_segments_stay_longer_when_ghosts_come_back),
        cmocka_unit_test(test_tiny_segments_merge_when_there_are_some),
        cmocka_unit_test(test_carries),
        cmocka_unit_test(test_carry_limits),
        cmocka_unit_test(test_history_forgets_and_keeps_its_ratios),
        cmocka_unit_test(test_choosing_is_an_order),
        cmocka_unit_test(test_colder_never_saves),
        cmocka_unit_test(test_ghosts_are_kept_for_their_time),
        cmocka_unit_test(test_ghosts_are_taken_once),
        cmocka_unit_test(test_ghost_arguments),
        cmocka_unit_test(test_admission_all_says_yes),
        cmocka_unit_test(test_admission_reused_says_yes_the_second_time),
        cmocka_unit_test(test_threads_share_a_ghost_list),
    };

    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
