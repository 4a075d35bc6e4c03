/* test_match.c - the longest run, against a reference that follows the definition word by word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "index_fixture.h"

#define CHAIN_MAX  200u
#define SHARDS_MAX 40u
#define PARTS      5u

struct scene {
    struct match_rules rules;
    uint32_t n;
    uint16_t mask[SHARDS_MAX][CHAIN_MAX]; /* parts of block i on shard s; 0 = not there */
};

/* ---- Reference ---- */

static bool everywhere(const struct scene *s, uint32_t block, uint16_t parts)
{
    uint32_t shard;

    for (shard = 0; shard < s->rules.shards; shard++) {
        if ((s->mask[shard][block] & parts) != parts)
            return false;
    }
    return true;
}

static bool run_is_good(const struct scene *s, uint32_t run)
{
    uint32_t i, part;

    for (i = 0; i < run; i++) {
        if (!everywhere(s, i, s->rules.all))
            return false;
    }
    if (!everywhere(s, run - 1, s->rules.last))
        return false;
    for (part = 0; part < CISTERN_MAX_PARTS; part++) {
        uint32_t need = s->rules.window[part] < run ? s->rules.window[part] : run;

        if (!(s->rules.trailing >> part & 1))
            continue;
        for (i = run - need; i < run; i++) {
            if (!everywhere(s, i, (uint16_t)(1u << part)))
                return false;
        }
    }
    return true;
}

static struct match_answer reference(const struct scene *s)
{
    struct match_answer a = {0, 0};

    for (a.blocks = s->n; a.blocks && !run_is_good(s, a.blocks);)
        a.blocks--;
    while (a.have < s->n && s->mask[s->rules.own][a.have])
        a.have++;
    return a;
}

/* ---- Scenes ---- */

static void scene_fill(const struct scene *s, uint64_t chain, struct index *ix,
                       struct presence *others)
{
    uint32_t i, shard, part;

    for (i = 0; i < s->n; i++) {
        cistern_key key = key_number(chain * CHAIN_MAX + i);

        for (shard = 0; shard < s->rules.shards; shard++) {
            uint16_t mask = s->mask[shard][i];
            struct block_info b = block_of(&key, 1, i, mask);

            if (shard == s->rules.own) {
                assert_int_equal(mask ? index_insert(ix, 1, &b) : 0, 0);
                continue;
            }
            if (s->n % 2) { /* by hand or all at once is the same */
                assert_int_equal(presence_add_blocks(others, &s->rules, shard, &b, mask != 0), 0);
                continue;
            }
            if (s->rules.all && (mask & s->rules.all) == s->rules.all)
                assert_int_equal(presence_add(others, &key, 0, shard), 0);
            for (part = 0; part < PARTS; part++) {
                if (mask >> part & 1)
                    assert_int_equal(presence_add(others, &key, 1 + part, shard), 0);
            }
        }
    }
}

static void scene_check(const struct scene *s, uint64_t chain, const struct index *ix,
                        const struct presence *others)
{
    struct match_answer got = {99, 99}, want = reference(s);
    cistern_key keys[CHAIN_MAX];
    uint32_t i;

    for (i = 0; i < s->n; i++)
        keys[i] = key_number(chain * CHAIN_MAX + i);
    index_match(ix, others, &s->rules, keys, s->n, &got);
    if (got.blocks != want.blocks || got.have != want.have)
        print_message("chain %llu: n %u all %x last %x trailing %x shards %u own %u\n",
                      (unsigned long long)chain, s->n, s->rules.all, s->rules.last,
                      s->rules.trailing, s->rules.shards, s->rules.own);
    assert_int_equal(got.blocks, want.blocks);
    assert_int_equal(got.have, want.have);
}

/* Parts of random policies; holes whose rarity differs from scene to scene. */
static void scene_random(struct scene *s, uint64_t *seed)
{
    uint64_t r = random_next(seed), rare = 1 + random_next(seed) % 150;
    uint32_t part, shard, i;

    memset(s, 0, sizeof *s);
    s->rules.shards = r % 4 ? 1 + (uint32_t)(r >> 8) % 9 : 1 + (uint32_t)(r >> 8) % SHARDS_MAX;
    s->rules.own = (uint32_t)(r >> 16) % s->rules.shards;
    s->n = (uint32_t)(r >> 24) % (CHAIN_MAX + 1);
    for (part = 0; part < PARTS; part++) {
        uint64_t policy = random_next(seed);

        if (policy % 8 < 4 || !part) {
            s->rules.all = (uint16_t)(s->rules.all | (part || policy % 5 ? 1u << part : 0));
        } else if (policy % 8 == 4) {
            s->rules.last = (uint16_t)(s->rules.last | 1u << part);
        } else if (policy % 8 < 7) {
            s->rules.trailing = (uint16_t)(s->rules.trailing | 1u << part);
            s->rules.window[part] = (uint32_t)(policy >> 8) % 20;
        }
    }
    for (shard = 0; shard < s->rules.shards; shard++) {
        for (i = 0; i < s->n; i++) {
            uint64_t v = random_next(seed);

            s->mask[shard][i] = (uint16_t)((1u << PARTS) - 1);
            if (v % (rare * s->rules.shards) == 0)
                s->mask[shard][i] = (uint16_t)((v >> 32) & ((1u << PARTS) - 1));
        }
    }
}

static void test_match_is_what_the_definition_says(void **state)
{
    struct scene *s = malloc(sizeof *s);
    uint64_t seed = 11, chain, zero = 0, whole = 0, between = 0;

    (void)state;
    assert_non_null(s);
    for (chain = 0; chain < 2000; chain++) {
        struct presence *others;
        struct index *ix;
        uint32_t blocks;

        scene_random(s, &seed);
        assert_int_equal(index_open(1000, &ix), 0);
        assert_int_equal(presence_open(10000, s->rules.shards, &others), 0);
        scene_fill(s, chain, ix, others);
        scene_check(s, chain, ix, others);
        blocks = reference(s).blocks;
        zero += blocks == 0;
        whole += blocks == s->n;
        between += blocks && blocks < s->n;
        presence_close(others);
        index_close(ix);
    }
    /* the scenes are of all kinds */
    assert_true(zero > 20 && whole > 100 && between > 500);
    free(s);
}

static void test_alone_nobody_is_asked(void **state)
{
    struct scene s = {.rules = {.all = 1, .shards = 1}, .n = 100};
    struct index *ix;
    uint32_t i;

    (void)state;
    for (i = 0; i < 70; i++)
        s.mask[0][i] = 1;
    assert_int_equal(index_open(1000, &ix), 0);
    scene_fill(&s, 1, ix, NULL);
    scene_check(&s, 1, ix, NULL);
    assert_int_equal(reference(&s).blocks, 70);
    s.n = 0;
    scene_check(&s, 1, ix, NULL);
    index_close(ix);
}

/* A state that is stored every 16 blocks, and a window of 4. */
static void test_hybrid_model_ends_at_a_state(void **state)
{
    struct scene s = {.rules = {.all = 1, .last = 2, .trailing = 4, .shards = 2, .own = 1}};
    struct presence *others;
    struct index *ix;
    uint32_t i, shard;

    (void)state;
    s.rules.window[2] = 4;
    s.n = 100;
    for (i = 0; i < 100; i++) {
        for (shard = 0; shard < 2; shard++)
            s.mask[shard][i] = (uint16_t)(i % 16 == 15 ? 7 : 5);
    }
    s.mask[0][78] = 1; /* in the window of the run of 80 */
    assert_int_equal(index_open(1000, &ix), 0);
    assert_int_equal(presence_open(1000, 2, &others), 0);
    scene_fill(&s, 1, ix, others);
    assert_int_equal(reference(&s).blocks, 96);
    scene_check(&s, 1, ix, others);
    s.n = 90;
    assert_int_equal(reference(&s).blocks, 64);
    scene_check(&s, 1, ix, others);
    presence_close(others);
    index_close(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match_is_what_the_definition_says),
        cmocka_unit_test(test_alone_nobody_is_asked),
        cmocka_unit_test(test_hybrid_model_ends_at_a_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
