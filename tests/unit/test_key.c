/*
 * test_key.c - keys, against values that hashlib computed (key_vectors.py prints them), and what
 * keys promise: resumable, told apart by kind, by length and by everything in the identity.
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

#include "../harness/skip.h"
#include "key/key.h"
#include "key/sha.h"
#include "key/sha_wide.h"

#define TOKENS 2000u

static uint32_t tokens[TOKENS];
static uint8_t salt[32];
static cistern_key bare;

static int fill(void **state)
{
    uint32_t i;

    (void)state;
    for (i = 0; i < TOKENS; i++)
        tokens[i] = i * 2654435761u;
    for (i = 0; i < sizeof salt; i++)
        salt[i] = (uint8_t)i;
    return key_root(salt, NULL, &bare);
}

static void expect_key(const cistern_key *key, const char *hex)
{
    char got[65];
    int i;

    for (i = 0; i < 32; i++)
        (void)snprintf(got + 2 * i, 3, "%02x", key->b[i]);
    assert_string_equal(got, hex);
}

static const struct {
    uint32_t block_tokens;
    int64_t keys;
    const char *first, *last;
} chains[] = {
    {1, 2000, "2d96d971f367922cb14893a84b44b9f0b26071e6f20e5f00cf209cb1f64915dc",
     "d4868075d97a9173863ed0ba2d0fd138104671f54d835c769adbd5899536006c"},
    {2, 1000, "d4a1c7577acc74e2eb83b7465ed355e893c90fe907af04b63bb536947e02f203",
     "599bc57722f95bec41d594db88f5dbb8a9b5feea431450bff43f144e3460c54e"},
    {3, 666, "089989fc3b29f6364952892440256c68fe0926b5bb2067487e272718de2e13a2",
     "3716fc5bdc38780b040e918643c5d51c7f43e399b0a48682e250e3e4003829db"},
    {13, 153, "1c66d0a84644c16b620c486ba713476ed5d56016dd9813ee4dd4262a3a20a08b",
     "cb276525951cf9cdb4e5ae24878d1e620005790fbc0b9e9feec95e4e75c421c7"},
    {14, 142, "b4d6b29229c39f53a6bb6cda58af8a78a7c0c1f598ffb4fc793ba8f5a9812613",
     "8a0d8c088e3aa303d177af860f5335cb62729dfe95ebf2e92ee06be3828a38a1"},
    {15, 133, "d2e4b254f86addef6b3a66cbc8a55c95e3d75eace6c66f8aec53a88b31d4dee4",
     "c0057dd7edb24a04d924a20b709f9a13b7217186ef73f4efb44698f2018e12dd"},
    {16, 125, "7d4f35a8610c74b128495fe82ce678c8bc6057270a83600f097a80512cf69010",
     "89e2c47d62f5e93cb24e77ae7e74be86392670dff221885d38f9a81711b7d0fd"},
    {17, 117, "043f619490a96f356ecb789221e0d011f65bc1a4614e02830280bc8c6d59a3ea",
     "2702ba5937d5bac2174482992ed5206c482c7cc235242c329d2f96dfe069bead"},
    {64, 31, "254a95d530f1e08dd6de0d2aadb65ab07b25f98af4003c0e708387adc7774ca7",
     "2e2f5abafc80af6c4e9b3d0539565ddee02f72f366fc093de8c7078afe3441e3"},
    {512, 3, "68c77e5f915cb572fb50631d9052da15e0ce6cbeb6a0dbfeb4f3d5109568efcc",
     "75a8694e420faa6e5dfd7c82dfc2a31496e2182cf3c8c328874adb617177c8aa"},
    {1000, 2, "78cca9130cd104b713fc16ee336db70751c446c06b114ab5e8462c7f0f325602",
     "6e5db6c5745ae048c43a32f75c1b286d557fc4c79234a010758296a9125f8066"},
    {2000, 1, "8b79b8511c7e31ef4d7ba7493ff9eb2ebe320946ad5d9a9b1cabb606c9391540",
     "8b79b8511c7e31ef4d7ba7493ff9eb2ebe320946ad5d9a9b1cabb606c9391540"},
};

static void test_chain_has_known_values(void **state)
{
    cistern_key *keys = calloc(TOKENS, sizeof *keys);
    size_t i;

    (void)state;
    assert_non_null(keys);
    for (i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        assert_int_equal(cistern_key_chain(&bare, tokens, TOKENS, chains[i].block_tokens, keys),
                         chains[i].keys);
        expect_key(&keys[0], chains[i].first);
        expect_key(&keys[chains[i].keys - 1], chains[i].last);
    }
    free(keys);
}

static const char tenant[] = "tenant\0salt";

static void test_other_kinds_have_known_values(void **state)
{
    struct cistern_identity id = {.size = sizeof id,
                                  .tenant = tenant,
                                  .tenant_len = sizeof tenant - 1,
                                  .lora = "adapter-v2",
                                  .content = "image digest",
                                  .content_len = 12};
    uint8_t long_hash[4096];
    cistern_key key;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof long_hash; i++)
        long_hash[i] = (uint8_t)(i % 251);
    expect_key(&bare, "90e86fd751a92d92affb120cf268107a106d366975b8e22b8f30943858dfa7f1");
    assert_int_equal(key_root(salt, &id, &key), 0);
    expect_key(&key, "bdaeaccbd0f82b4d1c17fa29c99d6c2bbdb1209fa21e74e8746e74ef7b9df944");
    assert_int_equal(cistern_key_from_hash(&bare, "\1", 1, &key), 0);
    expect_key(&key, "8ea6721f082787ed2dce794c0044ae14bc16147f91efd8e871bf2008695ecc15");
    assert_int_equal(cistern_key_from_hash(&bare, long_hash, sizeof long_hash, &key), 0);
    expect_key(&key, "9a431ef0f67e1f4f30a60c5119aafc8a776d3ce044506ad05ef28100e370b76e");
    assert_int_equal(cistern_key_mix(&bare, "image digest", 12, &key), 0);
    expect_key(&key, "8366ac23303e7e49bade9ba19f43547d0960462d244020cdf0d88d84312026f1");
    key = bare; /* in place */
    assert_int_equal(cistern_key_mix(&key, "image digest", 12, &key), 0);
    expect_key(&key, "8366ac23303e7e49bade9ba19f43547d0960462d244020cdf0d88d84312026f1");
}

static cistern_key tenant_root(const void *of, size_t len)
{
    struct cistern_identity id = {.size = sizeof id, .tenant = of, .tenant_len = len};
    cistern_key key;

    assert_int_equal(key_root(salt, &id, &key), 0);
    return key;
}

static void test_keys_of_a_tenant_have_known_values(void **state)
{
    static const struct {
        uint32_t block_tokens;
        int64_t keys;
        const char *first, *last;
    } want[] = {
        {15, 133, "7e7b0aaa2d29fb5d1a34637c2d8da9e7d033206426ad7605746e74ef7b9df944",
         "57eff127d787c4f18fb25de58b6040d503ade914cef50ee1746e74ef7b9df944"},
        {16, 125, "eb1e3f95a7b04c0f36f31ae361508e3d914e28a2e7c28f6e746e74ef7b9df944",
         "9cf83a6c2d54bfd3e521652136b2408697947003bdb3bac4746e74ef7b9df944"},
        {512, 3, "470d4e4fc026bb49020bfa65672746bab5af476cecf98b10746e74ef7b9df944",
         "df94fc9b2034cab9ff721e4a3211155cc651638105cf2263746e74ef7b9df944"},
    };
    cistern_key from = tenant_root(tenant, sizeof tenant - 1), keys[133], key;
    size_t i;

    (void)state;
    expect_key(&from, "4b1870b1968681081a1bd38a752b46891e8a022c6c76d0e9746e74ef7b9df944");
    for (i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(cistern_key_chain(&from, tokens, TOKENS, want[i].block_tokens, keys),
                         want[i].keys);
        expect_key(&keys[0], want[i].first);
        expect_key(&keys[want[i].keys - 1], want[i].last);
    }
    assert_int_equal(cistern_key_from_hash(&from, "\1", 1, &key), 0);
    expect_key(&key, "30f9b425d896178b765e67e7348722cb2fd97ea2c6897c79746e74ef7b9df944");
    assert_int_equal(cistern_key_mix(&from, "image digest", 12, &key), 0);
    expect_key(&key, "fa52989c2a4dd33a88cd8344d4ad8c3d947676260d969d1c746e74ef7b9df944");
}

/* Through everything that makes a key of another, and nobody else's. */
static void test_the_mark_of_a_tenant_goes_down_the_chain(void **state)
{
    cistern_key from = tenant_root("a", 1), keys[TOKENS / 16], key;
    uint8_t mark[KEY_MARK], other[KEY_MARK], wrong_salt[32] = {1};
    int64_t i, n = TOKENS / 16;

    (void)state;
    assert_int_equal(key_tenant_mark(salt, "a", 1, mark), 0);
    assert_int_equal(key_tenant_mark(salt, "b", 1, other), 0);
    assert_memory_not_equal(mark, other, KEY_MARK);
    assert_int_equal(cistern_key_chain(&from, tokens, TOKENS, 16, keys), n);
    for (i = 0; i < n; i++)
        assert_true(key_has_mark(keys[i].b, mark) && !key_has_mark(keys[i].b, other));
    assert_int_equal(cistern_key_mix(&keys[7], "image", 5, &key), 0);
    assert_true(key_has_mark(key.b, mark));
    assert_int_equal(cistern_key_from_hash(&key, "hash", 4, &key), 0); /* in place */
    assert_true(key_has_mark(key.b, mark));
    assert_int_equal(cistern_key_chain(&key, tokens, 16, 16, &key), 1);
    assert_true(key_has_mark(key.b, mark));
    from = tenant_root("b", 1);
    assert_true(key_has_mark(from.b, other) && !key_has_mark(from.b, mark));
    assert_false(key_has_mark(bare.b, mark) || key_has_mark(bare.b, other));
    assert_int_equal(key_tenant_mark(wrong_salt, "a", 1, other), 0);
    assert_memory_not_equal(mark, other, KEY_MARK);
    assert_int_equal(key_tenant_mark(salt, "a", 0, mark), -EINVAL);
    assert_int_equal(key_tenant_mark(salt, NULL, 1, mark), -EINVAL);
}

/* Chains are cut into groups by their length: one block at a time must come to the same. */
static void test_length_of_the_call_does_not_matter(void **state)
{
    static const uint32_t sizes[] = {7, 16, 31, 48};
    const cistern_key from[] = {bare, tenant_root("a", 1)};
    cistern_key one, many[TOKENS / 7];
    size_t i, n, k;

    (void)state;
    for (i = 0; i < 8; i++) {
        uint32_t size = sizes[i / 2];

        for (n = 1; n <= 41; n++) {
            assert_int_equal(cistern_key_chain(&from[i % 2], tokens, n * size, size, many), n);
            one = from[i % 2];
            for (k = 0; k < n; k++) {
                assert_int_equal(cistern_key_chain(&one, tokens + k * size, size, size, &one), 1);
                assert_memory_equal(&one, &many[k], sizeof one);
            }
        }
    }
}

static void test_chain_resumes_from_any_block(void **state)
{
    static const uint32_t sizes[] = {1, 3, 15, 16, 17, 64, 333};
    cistern_key *whole = calloc(TOKENS, sizeof *whole), *part = calloc(TOKENS, sizeof *part);
    size_t i;

    (void)state;
    assert_true(whole && part);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t n = cistern_key_chain(&bare, tokens, TOKENS, sizes[i], whole), k, step;

        for (k = 1, step = 1; k < n; k += step++) {
            size_t skip = (size_t)k * sizes[i];

            assert_int_equal(
                cistern_key_chain(&whole[k - 1], tokens + skip, TOKENS - skip, sizes[i], part),
                n - k);
            assert_memory_equal(part, whole + k, (size_t)(n - k) * sizeof *part);
        }
    }
    free(whole);
    free(part);
}

static void test_one_token_changes_all_that_follows(void **state)
{
    uint32_t changed[512];
    cistern_key a[8], b[8];
    int i;

    (void)state;
    memcpy(changed, tokens, sizeof changed);
    changed[200] ^= 0x80000000u;
    assert_int_equal(cistern_key_chain(&bare, tokens, 512, 64, a), 8);
    assert_int_equal(cistern_key_chain(&bare, changed, 512, 64, b), 8);
    for (i = 0; i < 8; i++)
        assert_int_equal(memcmp(&a[i], &b[i], sizeof a[i]) != 0, i >= 3);
}

/* The same bytes as a block, as an engine's hash and as content: three keys. */
static void test_kinds_are_told_apart(void **state)
{
    cistern_key key[4];
    int i, k;

    (void)state;
    assert_int_equal(cistern_key_chain(&bare, tokens, 16, 16, &key[0]), 1);
    assert_int_equal(cistern_key_from_hash(&bare, tokens, 64, &key[1]), 0);
    assert_int_equal(cistern_key_mix(&bare, tokens, 64, &key[2]), 0);
    assert_int_equal(cistern_key_mix(&bare, tokens, 63, &key[3]), 0);
    for (i = 0; i < 4; i++) {
        for (k = 0; k < i; k++)
            assert_memory_not_equal(&key[i], &key[k], sizeof key[i]);
    }
}

/* What stands in one field is not the same in another, nor cut elsewhere. */
static void test_identity_is_framed(void **state)
{
    const struct cistern_identity ids[] = {
        {.size = sizeof ids[0]},
        {.size = sizeof ids[0], .tenant = "ab", .tenant_len = 2},
        {.size = sizeof ids[0], .lora = "ab"},
        {.size = sizeof ids[0], .content = "ab", .content_len = 2},
        {.size = sizeof ids[0], .tenant = "a", .tenant_len = 1, .lora = "b"},
        {.size = sizeof ids[0], .lora = "a", .content = "b", .content_len = 1},
        {.size = sizeof ids[0], .tenant = "ab", .tenant_len = 1},
    };
    enum { N = sizeof ids / sizeof ids[0] };
    uint8_t other_salt[32] = {1};
    cistern_key key[N], other;
    int i, k;

    (void)state;
    for (i = 0; i < N; i++) {
        assert_int_equal(key_root(salt, &ids[i], &key[i]), 0);
        for (k = 0; k < i; k++)
            assert_memory_not_equal(&key[i], &key[k], sizeof key[i]);
    }
    assert_memory_equal(&key[0], &bare, sizeof bare);
    assert_int_equal(key_root(other_salt, NULL, &other), 0);
    assert_memory_not_equal(&other, &bare, sizeof bare);
}

static void test_identity_grows(void **state)
{
    struct {
        struct cistern_identity id;
        uint8_t later[16];
    } d = {.id = {.size = sizeof d, .lora = "x"}};
    cistern_key key, same;

    (void)state;
    assert_int_equal(key_root(salt, &d.id, &key), 0);
    d.id.size = sizeof d.id;
    assert_int_equal(key_root(salt, &d.id, &same), 0);
    assert_memory_equal(&key, &same, sizeof key);
    d.id.size = offsetof(struct cistern_identity, content);
    assert_int_equal(key_root(salt, &d.id, &same), 0);
    assert_memory_equal(&key, &same, sizeof key);
    d.id.size = sizeof d;
    d.later[7] = 1;
    assert_int_equal(key_root(salt, &d.id, &key), -EINVAL);
    assert_string_not_equal(err_text(), "");
    d.id.size = 0;
    assert_int_equal(key_root(salt, &d.id, &key), -EINVAL);
}

static void test_arguments_are_checked(void **state)
{
    struct cistern_identity id = {.size = sizeof id, .tenant_len = 1};
    cistern_key key = bare;

    (void)state;
    assert_int_equal(key_root(NULL, NULL, &key), -EINVAL);
    assert_int_equal(key_root(salt, NULL, NULL), -EINVAL);
    assert_int_equal(key_root(salt, &id, &key), -EINVAL);
    id = (struct cistern_identity){.size = sizeof id, .content_len = 1};
    assert_int_equal(key_root(salt, &id, &key), -EINVAL);
    assert_int_equal(cistern_key_chain(NULL, tokens, 16, 16, &key), -EINVAL);
    assert_int_equal(cistern_key_chain(&bare, NULL, 16, 16, &key), -EINVAL);
    assert_int_equal(cistern_key_chain(&bare, tokens, 16, 0, &key), -EINVAL);
    assert_int_equal(cistern_key_chain(&bare, tokens, 16, 16, NULL), -EINVAL);
    assert_int_equal(cistern_key_chain(&bare, tokens, SIZE_MAX, 16, &key), -EINVAL);
    assert_int_equal(cistern_key_chain(&bare, tokens, 15, 16, NULL), 0);
    assert_int_equal(cistern_key_chain(&bare, NULL, 0, 16, NULL), 0);
    assert_int_equal(cistern_key_from_hash(NULL, "x", 1, &key), -EINVAL);
    assert_int_equal(cistern_key_from_hash(&bare, NULL, 1, &key), -EINVAL);
    assert_int_equal(cistern_key_from_hash(&bare, "x", 1, NULL), -EINVAL);
    assert_int_equal(cistern_key_from_hash(&bare, "x", 0, &key), -EINVAL);
    assert_int_equal(cistern_key_from_hash(&bare, tokens, 4097, &key), -EINVAL);
    assert_int_equal(cistern_key_mix(NULL, "x", 1, &key), -EINVAL);
    assert_int_equal(cistern_key_mix(&bare, NULL, 1, &key), -EINVAL);
    assert_int_equal(cistern_key_mix(&bare, "x", 1, NULL), -EINVAL);
    assert_int_equal(cistern_key_mix(&bare, "x", 0, &key), -EINVAL);
    assert_memory_equal(&key, &bare, sizeof key); /* untouched by all of that */
}

/* Sixteen messages at once, where this CPU can do that, against OpenSSL one by one. */
static void test_wide_hashes_agree_with_openssl(void **state)
{
    enum { BLOCKS = 5, LEN = BLOCKS * SHA_BLOCK };
    static uint8_t data[SHA_LANES * LEN + 1];
    struct sha_state s[SHA_LANES];
    uint8_t want[32], got[32];
    unsigned i, n;

    (void)state;
    if (!sha_wide_usable())
        SKIP("nothing to compare: every key comes from OpenSSL on this CPU");
    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + i / 256);
    for (n = 1; n <= SHA_LANES; n++) {
        sha_blocks_wide(s, n, data + 1, LEN, BLOCKS);
        for (i = 0; i < n; i++) {
            assert_int_equal(
                sha256((struct sha_piece[]){{data + 1 + i * LEN, LEN}, {"end", 3}}, 2, want), 0);
            assert_int_equal(sha256_end(&s[i], LEN, (struct sha_piece[]){{"end", 3}}, 1, got), 0);
            assert_memory_equal(got, want, sizeof want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_has_known_values),
        cmocka_unit_test(test_other_kinds_have_known_values),
        cmocka_unit_test(test_keys_of_a_tenant_have_known_values),
        cmocka_unit_test(test_the_mark_of_a_tenant_goes_down_the_chain),
        cmocka_unit_test(test_length_of_the_call_does_not_matter),
        cmocka_unit_test(test_chain_resumes_from_any_block),
        cmocka_unit_test(test_one_token_changes_all_that_follows),
        cmocka_unit_test(test_kinds_are_told_apart),
        cmocka_unit_test(test_identity_is_framed),
        cmocka_unit_test(test_identity_grows),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_wide_hashes_agree_with_openssl),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
