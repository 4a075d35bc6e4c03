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
#define RUN_NS   (1500 * NS_PER_MS)
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
    struct block_info b = block_of(&key, segment, (uint32_t)n, r & 256 ? 1 : 0x1ff);

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_beside_writers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
