/*
 * test_index_threads.c - readers beside writers: what stays is never missed, what is found is never
 * torn. Also run under the thread sanitizer.
 *
 * Keys below KEPT are inserted first and stay. Writers insert and remove others all the time, let
 * the tables grow, put newer copies on top of kept keys and take them away again; one drops whole
 * segments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "index/presence.h"
#include "index_fixture.h"

#define KEPT     4000u
#define WRITERS  2u
#define READERS  2u
#define RUN_NS   (1000 * NS_PER_MS)
#define PASSING  100000u /* first number of keys that come and go */
#define SEGMENTS 8u

struct stress {
    struct index *ix;
    struct presence *others;
    uint64_t end;
    _Atomic unsigned errors; /* asserts are not for threads */
    _Atomic uint64_t reads, writes, hits, dropped;
};

struct worker {
    struct stress *s;
    unsigned number;
};

static uint16_t kept_mask(uint64_t i)
{
    return i % 5 ? 1 : 0x7f;
}

static void expect(struct stress *s, bool good)
{
    if (!good)
        atomic_fetch_add(&s->errors, 1);
}

/* ---- Writers ---- */

static void write_passing(struct stress *s, uint64_t n, uint64_t r)
{
    cistern_key key = key_number(PASSING + n);
    uint32_t segment = 1 + (uint32_t)(r % SEGMENTS);
    struct block_info b = block_of(&key, segment, (uint32_t)n, r & 256 ? 2 : 0x1fe);

    expect(s, index_insert(s->ix, segment, &b) == 0);
    if (r & 512) /* another thread may have dropped the segment */
        (void)index_remove_copy(s->ix, &key, segment, b.offset);
    expect(s, presence_add(s->others, &key, 0, (uint32_t)(r >> 20) % 16) == 0);
    if (r & 1024)
        presence_remove(s->others, &key, 0, (uint32_t)(r >> 20) % 16);
}

/* A newer copy on top of a kept one, and away again. */
static void write_on_top(struct stress *s, unsigned writer, uint64_t r)
{
    uint64_t i = (r >> 32) % KEPT;
    cistern_key key = key_number(i);
    struct block_info b = block_of(&key, 100 + writer, (uint32_t)i, kept_mask(i));

    if (index_insert(s->ix, 100 + writer, &b) == 0)
        expect(s, index_remove_copy(s->ix, &key, 100 + writer, (uint32_t)i));
}

static void *writer_main(void *arg)
{
    struct worker *w = arg;
    struct stress *s = w->s;
    uint64_t n, seed = 77 + w->number, done = 0;

    while (clock_ns() < s->end) {
        for (n = 0; n < 100; n++, done++) {
            uint64_t r = random_next(&seed);

            if (r % 4 == 0)
                write_on_top(s, w->number, r);
            else
                write_passing(s, done * WRITERS + w->number, r);
        }
        atomic_fetch_add(&s->writes, 100);
        if (w->number == 0 && done % 2000 == 0)
            atomic_fetch_add(&s->dropped,
                             index_remove_segment(s->ix, 1 + (uint32_t)(done / 2000 % SEGMENTS)));
    }
    return NULL;
}

/* ---- Readers ---- */

static void read_kept(struct stress *s, uint64_t i)
{
    cistern_key key = key_number(i);
    struct index_place p;
    bool found = index_find(s->ix, &key, &p);

    expect(s, found);
    if (found) {
        expect(s, !memcmp(p.info.key, key.b, 32));
        expect(s, (p.segment == 0 || p.segment >= 100) && p.info.offset == i);
        expect(s, place_is_right(&p));
    }
    expect(s, index_mask(s->ix, &key) == kept_mask(i));
    expect(s, presence_others(s->others, 3, slots_hash(key.b, 0)));
}

static void read_passing(struct stress *s, uint64_t n)
{
    cistern_key key = key_number(PASSING + n);
    struct index_place p;

    if (!index_find(s->ix, &key, &p))
        return;
    atomic_fetch_add(&s->hits, 1);
    expect(s, !memcmp(p.info.key, key.b, 32));
    expect(s, p.segment >= 1 && p.segment <= SEGMENTS && p.info.offset == (uint32_t)n);
    expect(s, place_is_right(&p));
}

static void read_chain(struct stress *s, uint64_t first)
{
    struct match_rules rules = {.all = 1, .shards = 16, .own = 3};
    struct match_answer answer;
    cistern_key keys[300];
    unsigned i;

    for (i = 0; i < 300; i++)
        keys[i] = key_number((first + i) % KEPT);
    index_match(s->ix, s->others, &rules, keys, 300, &answer);
    expect(s, answer.blocks == 300 && answer.have == 300);
}

static void *reader_main(void *arg)
{
    struct worker *w = arg;
    struct stress *s = w->s;
    uint64_t seed = 7 + w->number, i, done = 0;

    while (clock_ns() < s->end) {
        for (i = 0; i < 100; i++, done++) {
            uint64_t r = random_next(&seed);

            read_kept(s, r % KEPT);
            read_passing(s, (r >> 20) % (1 + 2 * atomic_load(&s->writes)));
        }
        read_chain(s, seed % KEPT);
        expect(s, index_blocks(s->ix) >= KEPT);
        expect(s, index_memory_bytes(s->ix) > 0 && presence_memory_bytes(s->others) > 0);
    }
    atomic_fetch_add(&s->reads, done);
    return NULL;
}

static void kept_fill(struct stress *s)
{
    uint32_t i, shard;

    for (i = 0; i < KEPT; i++) {
        cistern_key key = key_number(i);
        struct block_info b = block_of(&key, 0, i, kept_mask(i));

        assert_int_equal(index_insert(s->ix, 0, &b), 0);
        for (shard = 0; shard < 16; shard++) {
            if (shard != 3)
                assert_int_equal(presence_add(s->others, &key, 0, shard), 0);
        }
    }
}

static void test_readers_beside_writers(void **state)
{
    struct worker w[WRITERS + READERS];
    pthread_t thread[WRITERS + READERS];
    struct stress s = {.errors = 0};
    uint32_t i;

    (void)state;
    assert_int_equal(index_open((uint64_t)1 << 24, &s.ix), 0);
    assert_int_equal(presence_open((uint64_t)1 << 24, 16, &s.others), 0);
    kept_fill(&s);
    s.end = clock_ns() + RUN_NS;
    for (i = 0; i < WRITERS + READERS; i++) {
        w[i] = (struct worker){&s, i < WRITERS ? i : i - WRITERS};
        assert_int_equal(
            pthread_create(&thread[i], NULL, i < WRITERS ? writer_main : reader_main, &w[i]), 0);
    }
    for (i = 0; i < WRITERS + READERS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    print_message("%llu writes, %llu reads, %llu hits of passing keys, %llu dropped\n",
                  (unsigned long long)s.writes, (unsigned long long)s.reads,
                  (unsigned long long)s.hits, (unsigned long long)s.dropped);
    assert_int_equal(s.errors, 0);
    assert_true(s.writes > 0 && s.reads > 0 && s.hits > 0 && s.dropped > 0);
    for (i = 0; i < KEPT; i++)
        read_kept(&s, i);
    for (i = 1; i <= SEGMENTS; i++)
        (void)index_remove_segment(s.ix, i);
    assert_int_equal(index_blocks(s.ix), KEPT);
    assert_int_equal(s.errors, 0);
    presence_close(s.others);
    index_close(s.ix);
}

/* ---- Few keys, moved about as fast as can be ---- */

/*
 * One thread moves, one looks for keys that are there all the time. The mover's rounds each have an
 * index of their own; `round` is odd while the reader may look.
 */
struct moving {
    struct index *ix;
    const cistern_key *keys; /* that are there */
    unsigned n;
    _Atomic uint64_t round;
    _Atomic bool reading, stop;
    _Atomic uint64_t missed, reads;
};

static void *moving_reader(void *arg)
{
    struct moving *m = arg;
    uint64_t reads = 0, missed = 0, i;

    while (!atomic_load(&m->stop)) {
        atomic_store(&m->reading, true);
        if (atomic_load(&m->round) % 2) {
            for (i = 0; i < m->n; i++, reads++)
                missed += index_mask(m->ix, &m->keys[i]) != 1;
        }
        atomic_store(&m->reading, false);
    }
    atomic_store(&m->missed, missed);
    atomic_store(&m->reads, reads);
    return NULL;
}

static void moving_pause(struct moving *m)
{
    atomic_fetch_add(&m->round, 1);
    while (atomic_load(&m->reading))
        ;
}

static void moving_insert(struct moving *m, const cistern_key *key)
{
    struct block_info b = block_of(key, 1, 1, 1);

    assert_int_equal(index_insert(m->ix, 1, &b), 0);
}

/* Every round a small index grows to some thirty times its size. */
static void grow_rounds(struct moving *m, uint64_t end)
{
    uint64_t i, next = PASSING;

    while (clock_ns() < end) {
        assert_int_equal(index_open(100000, &m->ix), 0);
        for (i = 0; i < m->n; i++)
            moving_insert(m, &m->keys[i]);
        atomic_fetch_add(&m->round, 1);
        for (i = 0; i < 12000; i++) {
            cistern_key key = key_number(next++);

            moving_insert(m, &key);
        }
        moving_pause(m);
        index_close(m->ix);
    }
}

/*
 * All keys have one home line, and the ones that stay were inserted last: whenever another goes,
 * one of them moves up.
 */
#define CROWD 40u
static void crowd_rounds(struct moving *m, uint64_t end)
{
    cistern_key crowd[CROWD];
    uint64_t i, n, next = PASSING;

    for (n = 0; n < CROWD; next++) {
        crowd[n] = key_number(next);
        if ((slots_hash(crowd[n].b, 0) >> SLOTS_POSITION) % SLOTS_LINES ==
                (slots_hash(m->keys[0].b, 0) >> SLOTS_POSITION) % SLOTS_LINES &&
            slots_table(slots_hash(crowd[n].b, 0)) == slots_table(slots_hash(m->keys[0].b, 0)))
            n++;
    }
    while (clock_ns() < end) {
        assert_int_equal(index_open(1000, &m->ix), 0);
        for (i = 0; i < CROWD; i++)
            moving_insert(m, &crowd[i]);
        for (i = 0; i < m->n; i++)
            moving_insert(m, &m->keys[i]);
        atomic_fetch_add(&m->round, 1);
        for (i = 0; i < CROWD; i++)
            assert_true(index_remove_copy(m->ix, &crowd[i], 1, 1));
        moving_pause(m);
        index_close(m->ix);
    }
}

static void moving_run(void (*rounds)(struct moving *m, uint64_t end), const cistern_key *keys,
                       unsigned n)
{
    struct moving m = {.keys = keys, .n = n};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, moving_reader, &m), 0);
    rounds(&m, clock_ns() + RUN_NS / 2);
    atomic_store(&m.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%llu rounds, %llu reads\n", (unsigned long long)m.round / 2,
                  (unsigned long long)m.reads);
    assert_true(m.reads > 0);
    assert_int_equal(m.missed, 0);
}

static void test_growth_hides_nothing(void **state)
{
    cistern_key keys[400];
    unsigned i;

    (void)state;
    for (i = 0; i < 400; i++)
        keys[i] = key_number(i);
    moving_run(grow_rounds, keys, 400);
}

static void test_removal_beside_hides_nothing(void **state)
{
    cistern_key keys[1] = {key_number(1)};

    (void)state;
    moving_run(crowd_rounds, keys, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_beside_writers),
        cmocka_unit_test(test_growth_hides_nothing),
        cmocka_unit_test(test_removal_beside_hides_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
