/*
 * test_gcm.c - AES-256-GCM as the store uses it: published vectors, messages in pieces, scatter
 * lists, and memory that only a driver reaches.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/le.h"
#include "cistern.h"
#include "engine/sealed.h"
#include "mem/mem.h"
#include "segment/crypt.h"

#define LONGEST (70u << 10)
#define SLACK   128u

static uint8_t plain[LONGEST + SLACK], there[LONGEST + SLACK], other[LONGEST + SLACK],
    back[LONGEST + SLACK];
static uint64_t seed = 1;

static uint32_t dice(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static void fill(uint8_t *to, size_t len)
{
    while (len--)
        *to++ = (uint8_t)dice(256);
}

static struct cipher *cipher_new(void)
{
    struct cipher *c = NULL;

    assert_int_equal(cipher_open(&c), 0);
    return c;
}

/* ---- Published vectors: McGrew and Viega, test cases 13 to 16 ---- */

#define KEY                                                                                        \
    "\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08"                             \
    "\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08"
#define NONCE "\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88"
#define PLAIN                                                                                      \
    "\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a"                             \
    "\x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72"                             \
    "\x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25"                             \
    "\xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39\x1a\xaf\xd2\x55"
#define SEALED                                                                                     \
    "\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d"                             \
    "\x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa"                             \
    "\x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38"                             \
    "\xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62\x89\x80\x15\xad"
#define AAD "\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2"

static const struct vector {
    const char *key, *nonce, *plain, *sealed, *aad, *tag;
    size_t len, aad_len;
} vectors[] = {
    {(char[32]){0}, (char[12]){0}, "", "", "",
     "\x53\x0f\x8a\xfb\xc7\x45\x36\xb9\xa9\x63\xb4\xf1\xc4\xcb\x73\x8b", 0, 0},
    {(char[32]){0}, (char[12]){0}, (char[16]){0},
     "\xce\xa7\x40\x3d\x4d\x60\x6b\x6e\x07\x4e\xc5\xd3\xba\xf3\x9d\x18", "",
     "\xd0\xd1\xc8\xa7\x99\x99\x6b\xf0\x26\x5b\x98\xb5\xd4\x8a\xb9\x19", 16, 0},
    {KEY, NONCE, PLAIN, SEALED, "",
     "\xb0\x94\xda\xc5\xd9\x34\x71\xbd\xec\x1a\x50\x22\x70\xe3\xcc\x6c", 64, 0},
    {KEY, NONCE, PLAIN, SEALED, AAD,
     "\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b", 60, 20},
};

static void begin(struct cipher *c, bool encrypt, const struct vector *v)
{
    assert_int_equal(cipher_begin(c, encrypt, (const uint8_t *)v->key,
                                  (enum cipher_domain)le32_load(v->nonce), le64_load(v->nonce + 4),
                                  v->aad, v->aad_len),
                     0);
}

static void published_vectors_hold(void **state)
{
    struct cipher *c = cipher_new();
    uint8_t tag[CRYPT_TAG];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const struct vector *v = &vectors[i];

        begin(c, true, v);
        assert_int_equal(cipher_add(c, there, v->plain, v->len), 0);
        assert_int_equal(cipher_seal(c, tag), 0);
        assert_memory_equal(there, v->sealed, v->len);
        assert_memory_equal(tag, v->tag, sizeof tag);
        begin(c, false, v);
        assert_int_equal(cipher_add(c, back, v->sealed, v->len), 0);
        assert_int_equal(cipher_check(c, tag, sizeof tag), 0);
        assert_memory_equal(back, v->plain, v->len);
    }
    cipher_close(c);
}

/* ---- In pieces ---- */

/* A message in pieces of any length. */
static void add_any(struct cipher *c, uint8_t *to, const uint8_t *from, size_t len, uint32_t most)
{
    size_t at = 0, n;

    while (at < len) {
        n = dice(most + 1);
        n = n < len - at ? n : len - at;
        assert_int_equal(cipher_add(c, to + at, from + at, n), 0);
        at += n;
    }
}

static void one_length(struct cipher *whole, struct cipher *pieces, size_t len)
{
    uint8_t key[32], aad[96], tag[CRYPT_TAG], again[CRYPT_TAG];
    uint32_t from = dice(SLACK / 2), to = dice(2) ? 0 : dice(SLACK / 2), most = 1 + dice(3000);
    size_t aad_len = dice(sizeof aad + 1), bad;

    fill(key, sizeof key);
    fill(aad, sizeof aad);
    fill(plain + from, len);
    assert_int_equal(cipher_begin(whole, true, key, CIPHER_PAYLOAD, len, aad, aad_len), 0);
    assert_int_equal(cipher_add(whole, there, plain + from, len), 0);
    assert_int_equal(cipher_seal(whole, tag), 0);
    assert_int_equal(cipher_begin(pieces, true, key, CIPHER_PAYLOAD, len, aad, aad_len), 0);
    other[to + len] = 0x5a;
    add_any(pieces, other + to, plain + from, len, most);
    assert_int_equal(cipher_seal(pieces, again), 0);
    assert_memory_equal(other + to, there, len);
    assert_int_equal(other[to + len], 0x5a);
    assert_memory_equal(again, tag, sizeof tag);
    /* Back, in place; then with a byte of the tag or of the text that is another. */
    assert_int_equal(cipher_begin(pieces, false, key, CIPHER_PAYLOAD, len, aad, aad_len), 0);
    add_any(pieces, other + to, other + to, len, most);
    assert_int_equal(cipher_check(pieces, tag, sizeof tag), 0);
    assert_memory_equal(other + to, plain + from, len);
    bad = dice((uint32_t)(len + sizeof tag));
    *(bad < len ? &there[bad] : &tag[bad - len]) ^= (uint8_t)(1u << dice(8));
    assert_int_equal(cipher_begin(pieces, false, key, CIPHER_PAYLOAD, len, aad, aad_len), 0);
    add_any(pieces, other + to, there, len, most);
    assert_int_equal(cipher_check(pieces, tag, sizeof tag), -EBADMSG);
}

static void pieces_change_nothing(void **state)
{
    struct cipher *whole = cipher_new(), *pieces = cipher_new();
    size_t len;

    (void)state;
    for (len = 0; len < 1200; len++)
        one_length(whole, pieces, len);
    for (len = 0; len < 200; len++)
        one_length(whole, pieces, dice(LONGEST));
    cipher_close(whole);
    cipher_close(pieces);
}

/* One key after the other, both directions in turn: no message leaves anything to the next. */
static void keys_take_turns(void **state)
{
    static const uint8_t key[2][32] = {{1}, {2}};
    struct cipher *c = cipher_new();
    uint8_t tag[2][CRYPT_TAG];
    unsigned i;

    (void)state;
    fill(plain, 1000);
    for (i = 0; i < 8; i++) {
        uint8_t *to = i % 2 ? other : there;

        assert_int_equal(cipher_begin(c, true, key[i % 2], CIPHER_PAYLOAD, 7, "a", 1), 0);
        assert_int_equal(cipher_add(c, to, plain, 1000), 0);
        assert_int_equal(cipher_begin(c, true, key[i % 2], CIPHER_PAYLOAD, 7, "a", 1), 0);
        assert_int_equal(cipher_add(c, to, plain, 1000), 0); /* the one before was given up */
        assert_int_equal(cipher_seal(c, tag[i % 2]), 0);
        assert_int_equal(cipher_begin(c, false, key[i % 2], CIPHER_PAYLOAD, 7, "a", 1), 0);
        assert_int_equal(cipher_add(c, back, to, 1000), 0);
        assert_int_equal(cipher_check(c, tag[i % 2], CRYPT_TAG), 0);
        assert_memory_equal(back, plain, 1000);
    }
    assert_memory_not_equal(tag[0], tag[1], CRYPT_TAG);
    cipher_close(c);
}

/* ---- Scatter lists ---- */

#define PIECES 40u

/* Lists of the same total: pieces of any length and place in `memory`, some empty. */
static void list_make(struct cistern_span *s, struct cistern_vec *v, uint8_t *memory, size_t len)
{
    size_t at = dice(8), left = len, i;

    for (i = 0; i < PIECES; i++) {
        size_t n = i + 1 == PIECES ? left : dice(4) ? dice((uint32_t)(2 * len / PIECES + 2)) : 0;

        n = n < left ? n : left;
        v[i] = (struct cistern_vec){memory + at, n};
        at += n + (dice(2) ? 0 : dice(40));
        left -= n;
    }
    *s = (struct cistern_span){v, PIECES};
}

static void list_text(const struct cistern_span *s, uint8_t *to, bool store)
{
    uint32_t i;

    for (i = 0; i < s->count; to += s->vecs[i++].len) {
        if (store)
            memcpy(s->vecs[i].base, to, s->vecs[i].len);
        else
            memcpy(to, s->vecs[i].base, s->vecs[i].len);
    }
}

static void one_list(const struct mem_ops *host, struct cipher *c, struct cipher *judge, size_t len)
{
    static uint8_t source[LONGEST + PIECES * SLACK], target[LONGEST + PIECES * SLACK],
        before[sizeof target], staging[LONGEST + SLACK];
    struct check_identity id = {.offset = 4096, .length = (uint32_t)len, .part = 1};
    struct cistern_vec in[PIECES], out[PIECES];
    static const uint8_t key[32] = {9};
    struct cistern_span from, to;
    uint64_t check;
    uint32_t i;

    fill(plain, len);
    list_make(&from, in, source, len);
    list_text(&from, plain, true);
    assert_int_equal(sealed_gather(host, c, key, &id, staging, &from, &check), 0);
    assert_int_equal(part_decrypt(judge, key, &id, back, staging, check), 0);
    assert_memory_equal(back, plain, len);

    list_make(&to, out, target, len);
    fill(target, sizeof target);
    memcpy(before, target, sizeof target);
    assert_int_equal(sealed_scatter(host, c, key, &id, staging, &to, check), 0);
    list_text(&to, back, false);
    assert_memory_equal(back, plain, len);
    for (i = 0; i < to.count; i++) /* what stands around is as it was */
        memcpy(to.vecs[i].base, before + ((uint8_t *)to.vecs[i].base - target), to.vecs[i].len);
    assert_memory_equal(target, before, sizeof target);
    /* The last byte of the tag, and where there is one the last of the text. */
    assert_int_equal(sealed_scatter(host, c, key, &id, staging, &to, check ^ 1ull << 63), -EBADMSG);
    if (len) {
        staging[len - 1] ^= 1;
        assert_int_equal(sealed_scatter(host, c, key, &id, staging, &to, check), -EBADMSG);
    }
}

static void lists_come_back_as_they_went(void **state)
{
    struct cipher *c = cipher_new(), *judge = cipher_new();
    const struct mem_ops *host = mem_ops_get(CISTERN_MEM_HOST);
    size_t len;

    (void)state;
    for (len = 0; len < 600; len++)
        one_list(host, c, judge, len);
    for (len = 0; len < 60; len++)
        one_list(host, c, judge, dice(LONGEST));
    cipher_close(c);
    cipher_close(judge);
}

/* ---- Memory that only its driver reaches ---- */

static unsigned copied_out, nonces_used;

static void count_nonce(const uint8_t key[CRYPT_KEY], const uint8_t nonce[CRYPT_NONCE])
{
    (void)key, (void)nonce;
    nonces_used++;
}

static int device_out(void *dst, const void *from, size_t len)
{
    copied_out++;
    memcpy(dst, from, len);
    return 0;
}

static int device_in(void *to, const void *src, size_t len)
{
    memcpy(to, src, len);
    return 0;
}

static int device_fails(void *to, const void *src, size_t len)
{
    (void)to, (void)src, (void)len;
    return -EIO;
}

/* A device gets nothing that was not verified, and a put that fails there uses up no nonce. */
static void devices_get_what_was_verified(void **state)
{
    static uint8_t staging[10000], device[2][5000], before[2][5000];
    struct mem_ops m = {.name = "device", .copy_out = device_out, .copy_in = device_in};
    struct check_identity id = {.offset = 8192, .length = sizeof device};
    struct cistern_vec v[2] = {{device[0], 5000}, {device[1], 5000}};
    const struct cistern_span s = {v, 2};
    static const uint8_t key[32] = {3};
    struct cipher *c = cipher_new();
    uint64_t check;

    (void)state;
    fill(device[0], sizeof device);
    memcpy(before, device, sizeof device);
    assert_int_equal(sealed_gather(&m, c, key, &id, staging, &s, &check), 0);
    assert_memory_equal(before, device, sizeof device);
    assert_memory_not_equal(staging, device, sizeof device);
    memcpy(back, staging, sizeof staging);
    assert_int_equal(sealed_scatter(&m, c, key, &id, staging, &s, check ^ 1), -EBADMSG);
    assert_int_equal(copied_out, 0);
    memcpy(staging, back, sizeof staging);
    memset(device, 0, sizeof device);
    assert_int_equal(sealed_scatter(&m, c, key, &id, staging, &s, check), 0);
    assert_int_equal(copied_out, 2);
    assert_memory_equal(before, device, sizeof device);
    m.copy_in = device_fails;
    cipher_watch = count_nonce;
    assert_int_equal(sealed_gather(&m, c, key, &id, staging, &s, &check), -EIO);
    cipher_watch = NULL;
    assert_int_equal(nonces_used, 0);
    cipher_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_hold),
        cmocka_unit_test(pieces_change_nothing),
        cmocka_unit_test(keys_take_turns),
        cmocka_unit_test(lists_come_back_as_they_went),
        cmocka_unit_test(devices_get_what_was_verified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
