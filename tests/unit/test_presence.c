/* test_presence.c - presence against a plain model; no false positives; memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "index/presence.h"
#include "index_fixture.h"

#define KEYS     2000u
#define VARIANTS 3u
#define SHARDS   21u /* three tables, the last one not full */

/* The bits of all shards, from all tables. */
static uint64_t shards_of(const struct presence *p, const cistern_key *key, uint32_t variant)
{
    uint64_t all = 0;
    unsigned i;

    for (i = 0; i < p->planes; i++)
        all |= (uint64_t)presence_of(&p->plane[i], slots_hash(key->b, variant))
               << (i * PRESENCE_SHARDS);
    return all;
}

static void test_presence_is_what_a_plain_model_is(void **state)
{
    uint64_t(*model)[VARIANTS] = calloc(KEYS, sizeof *model), seed = 3;
    struct presence *p;
    unsigned i;

    (void)state;
    assert_non_null(model);
    assert_int_equal(presence_open(KEYS * VARIANTS, SHARDS, &p), 0);
    for (i = 0; i < 300000; i++) {
        uint64_t r = random_next(&seed);
        unsigned k = (unsigned)(r >> 32) % KEYS, v = (unsigned)(r >> 16) % VARIANTS;
        uint32_t shard = (uint32_t)(r >> 24) % SHARDS;
        cistern_key key = key_number(k);

        if (r % 8 < (i / 50000 % 2 ? 2u : 5u)) {
            assert_int_equal(presence_add(p, &key, v, shard), 0);
            model[k][v] |= (uint64_t)1 << shard;
        } else {
            presence_remove(p, &key, v, shard);
            model[k][v] &= ~((uint64_t)1 << shard);
        }
        k = (unsigned)(r >> 40) % KEYS;
        key = key_number(k);
        assert_int_equal(shards_of(p, &key, v), model[k][v]);
    }
    for (i = 0; i < KEYS * VARIANTS; i++) {
        cistern_key key = key_number(i / VARIANTS);

        assert_int_equal(shards_of(p, &key, i % VARIANTS), model[i / VARIANTS][i % VARIANTS]);
    }
    presence_close(p);
    free(model);
}

static void test_others_are_all_but_the_own(void **state)
{
    cistern_key key = key_number(1);
    struct presence *p;
    uint32_t shard, own;

    (void)state;
    assert_int_equal(presence_open(100, SHARDS, &p), 0);
    for (shard = 0; shard < SHARDS; shard++) {
        if (shard != 9)
            assert_int_equal(presence_add(p, &key, 0, shard), 0);
    }
    for (own = 0; own < SHARDS; own++) {
        assert_int_equal(presence_others(p, own, slots_hash(key.b, 0)), own == 9);
        assert_int_equal(presence_glance(p, own, slots_hash(key.b, 0)), own == 9);
        assert_false(presence_others(p, own, slots_hash(key.b, 1)));
    }
    presence_close(p);
}

static void test_no_false_positives(void **state)
{
    const uint64_t keys = 200000;
    struct presence *p;
    uint64_t i, wrong = 0;

    (void)state;
    assert_int_equal(presence_open(keys, 2, &p), 0);
    for (i = 0; i < keys; i++) {
        cistern_key key = key_number(i);

        assert_int_equal(presence_add(p, &key, 0, 1), 0);
        if (i >= 10000)
            assert_true(presence_memory_bytes(p) <= 16 * i);
    }
    for (i = 0; i < 1000000; i++) {
        cistern_key key = key_number(keys + i), there = key_number(i % keys);

        wrong += presence_of(&p->plane[0], slots_hash(key.b, 0)) != 0;
        wrong += presence_of(&p->plane[0], slots_hash(there.b, 1)) != 0;
        wrong += presence_of(&p->plane[0], slots_hash(there.b, 0)) != 2;
    }
    assert_int_equal(wrong, 0);
    presence_close(p);
}

static void test_blocks_are_added_by_their_parts(void **state)
{
    const struct match_rules rules = {.all = 3, .last = 4, .trailing = 8, .shards = 9};
    struct block_info blocks[100];
    struct presence *p;
    unsigned i, part;

    (void)state;
    for (i = 0; i < 100; i++) {
        cistern_key key = key_number(i);

        blocks[i] = block_of(&key, 1, i, (uint16_t)(1 + i % 31));
    }
    assert_int_equal(presence_open(1000, 9, &p), 0);
    assert_int_equal(presence_add_blocks(p, &rules, 9, blocks, 100), -EINVAL);
    assert_int_equal(presence_add_blocks(p, &rules, 8, blocks, 100), 0);
    for (i = 0; i < 100; i++) {
        cistern_key key = key_number(i);

        assert_int_equal(shards_of(p, &key, 0), (blocks[i].mask & 3) == 3 ? 1 << 8 : 0);
        for (part = 0; part < 5; part++)
            assert_int_equal(shards_of(p, &key, 1 + part),
                             (part == 2 || part == 3) && blocks[i].mask >> part & 1 ? 1 << 8 : 0);
    }
    presence_close(p);
}

static void test_arguments_and_limits(void **state)
{
    cistern_key key = key_number(1);
    struct presence *p = NULL;
    uint64_t i, added = 0;

    (void)state;
    assert_int_equal(presence_open(0, 1, &p), -EINVAL);
    assert_int_equal(presence_open((uint64_t)1 << 31, 1, &p), -EINVAL);
    assert_int_equal(presence_open(10, 0, &p), -EINVAL);
    assert_int_equal(presence_open(10, CISTERN_MAX_SHARDS + 1, &p), -EINVAL);
    assert_int_equal(presence_open(10, 1, NULL), -EINVAL);
    assert_null(p);
    assert_int_equal(presence_open(1000, CISTERN_MAX_SHARDS, &p), 0);
    assert_int_equal(presence_add(p, &key, 0, CISTERN_MAX_SHARDS), -EINVAL);
    assert_int_equal(presence_add(p, &key, 16, CISTERN_MAX_SHARDS - 1), 0);
    presence_remove(p, &key, 16, CISTERN_MAX_SHARDS);
    assert_int_equal(presence_of(&p->plane[31], slots_hash(key.b, 16)), 0x80);
    presence_remove(p, &key, 16, CISTERN_MAX_SHARDS - 1);
    presence_remove(p, &key, 16, CISTERN_MAX_SHARDS - 1);
    assert_int_equal(presence_of(&p->plane[31], slots_hash(key.b, 16)), 0);
    presence_close(p);
    presence_close(NULL);

    /* beyond its size it fills up, says so, and loses nothing */
    assert_int_equal(presence_open(1000, 1, &p), 0);
    for (i = 0; i < 100000; i++) {
        key = key_number(i);
        if (presence_add(p, &key, 0, 0))
            break;
        added++;
    }
    assert_true(added >= 2000 && added < 20000);
    for (i = 0; i < added; i++) {
        key = key_number(i);
        assert_int_equal(presence_of(&p->plane[0], slots_hash(key.b, 0)), 1);
    }
    presence_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presence_is_what_a_plain_model_is),
        cmocka_unit_test(test_others_are_all_but_the_own),
        cmocka_unit_test(test_no_false_positives),
        cmocka_unit_test(test_blocks_are_added_by_their_parts),
        cmocka_unit_test(test_arguments_and_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
