/*
 * test_crypt.c - keys, the cipher, wrapped keys and encrypted contents, without an engine.
 *
 * A change of any bit that the format says is covered must be seen; what a version without keys can
 * still say is told; key files are judged.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/le.h"
#include "cistern.h"
#include "segment/crypt.h"
#include "toc_fixture.h"

#define ONE "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define TWO "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char key_path[64];

static const char *key_file(const char *text, size_t len, mode_t mode)
{
    int fd;

    (void)snprintf(key_path, sizeof key_path, "/tmp/cistern-key-XXXXXX");
    fd = mkstemp(key_path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
    return key_path;
}

/* Opens what the text says; the file is gone afterwards. */
static int open_text(const char *text, size_t len, mode_t mode, struct crypt **k)
{
    int rc = crypt_open(key_file(text, len, mode), 4, k);

    assert_int_equal(unlink(key_path), 0);
    return rc;
}

static struct crypt *keys(const char *text)
{
    struct crypt *k = NULL;

    assert_int_equal(open_text(text, strlen(text), 0600, &k), 0);
    return k;
}

/* ---- Key files ---- */

static void key_files_are_judged(void **state)
{
    static const char *const bad[] = {"",
                                      "\n# nothing\n",
                                      "00112233",
                                      ONE "0",
                                      "zz112233445566778899aabbccddeeff00112233445566778899aabbccd"
                                      "deeff",
                                      ONE "\n" ONE "\n",
                                      ONE "\nrubbish\n"};
    struct crypt *k = NULL;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(open_text(bad[i], strlen(bad[i]), 0600, &k), CISTERN_ECONFIG);
        assert_null(strstr(cistern_error_text(), "0011")); /* no key in a text */
        assert_null(strstr(cistern_error_text(), "rubbish"));
    }
    assert_int_equal(open_text(ONE, strlen(ONE), 0640, &k), CISTERN_ECONFIG);
    assert_non_null(strstr(cistern_error_text(), "chmod 600"));
    assert_int_equal(open_text(ONE, strlen(ONE), 0604, &k), CISTERN_ECONFIG);
    assert_int_equal(crypt_open("/tmp/cistern-no-such-key", 4, &k), CISTERN_ECONFIG);
    assert_int_equal(crypt_open("/tmp", 4, &k), CISTERN_ECONFIG);
    assert_null(k);
}

static void raw_and_hex_are_one_key(void **state)
{
    uint8_t raw[32], a[CRYPT_ID], b[CRYPT_ID];
    struct crypt *hex = keys("# current\n\n  " ONE "  \r\n" TWO), *bin = NULL;
    unsigned i;

    (void)state;
    for (i = 0; i < 32; i++)
        raw[i] = (uint8_t)(i % 16 * 0x11);
    assert_int_equal(open_text((const char *)raw, sizeof raw, 0400, &bin), 0);
    crypt_current(hex, a);
    crypt_current(bin, b);
    assert_memory_equal(a, b, sizeof a);
    assert_true(crypt_has(hex, b));
    crypt_close(bin);
    bin = keys(TWO);
    crypt_current(bin, b);
    assert_true(crypt_has(hex, b)); /* the second one is there too */
    assert_false(crypt_has(bin, a));
    crypt_close(bin);
    crypt_close(hex);
    crypt_close(NULL);
}

/* ---- Parts ---- */

static const uint8_t key_a[32] = {1, 2, 3}, key_b[32] = {1, 2, 4};

static struct check_identity an_identity(void)
{
    struct check_identity id = {.offset = 8192, .length = 5000, .part = 3};

    memset(id.space, 7, sizeof id.space);
    memset(id.segment_id, 8, sizeof id.segment_id);
    memset(id.key, 9, sizeof id.key);
    return id;
}

static void every_bit_of_a_part_counts(void **state)
{
    struct check_identity id = an_identity(), other;
    uint8_t plain[5000], sealed[5000], back[5000];
    struct cipher *c;
    uint64_t check, again;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31);
    assert_int_equal(cipher_open(&c), 0);
    assert_int_equal(part_encrypt(c, key_a, &id, sealed, plain, &check), 0);
    assert_memory_not_equal(plain, sealed, sizeof plain);
    assert_int_equal(part_decrypt(c, key_a, &id, back, sealed, check), 0);
    assert_memory_equal(plain, back, sizeof plain);
    assert_int_equal(part_decrypt(c, key_b, &id, back, sealed, check), -EBADMSG);
    assert_int_equal(part_encrypt(c, key_b, &id, back, plain, &again), 0);
    assert_memory_not_equal(back, sealed, sizeof back);
    for (i = 0; i < 8 * sizeof sealed; i += 97) {
        sealed[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(part_decrypt(c, key_a, &id, back, sealed, check), -EBADMSG);
        sealed[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (i = 0; i < 64; i++)
        assert_int_equal(part_decrypt(c, key_a, &id, back, sealed, check ^ 1ull << i), -EBADMSG);
    for (i = 0; i < sizeof id; i++) {
        other = id;
        ((uint8_t *)&other)[i] ^= 1;
        if (other.length > sizeof sealed)
            continue;
        assert_int_equal(part_decrypt(c, key_a, &other, back, sealed, check), -EBADMSG);
    }
    /* in place, in pieces, and as often as one likes */
    memcpy(back, plain, sizeof back);
    assert_int_equal(part_begin(c, true, key_a, &id), 0);
    assert_int_equal(cipher_add(c, back, back, 17), 0);
    assert_int_equal(cipher_add(c, back + 17, back + 17, sizeof back - 17), 0);
    assert_int_equal(part_seal(c, &again), 0);
    assert_true(again == check);
    assert_memory_equal(back, sealed, sizeof back);
    cipher_close(c);
    cipher_close(NULL);
}

/* ---- Header pages ---- */

static void make_page(uint8_t *page, const struct crypt *k, struct cipher *c, const uint8_t *key)
{
    struct toc_header h = {.writer = 1, .seq = 2, .shards = 1, .flags = TOC_ENCRYPTED};

    memcpy(h.segment_id, segment_a, sizeof h.segment_id);
    toc_header_encode(&h, page);
    assert_int_equal(toc_wrap(k, c, key, page), 0);
}

static void wrapped_keys_come_back(void **state)
{
    struct crypt *k = keys(ONE "\n" TWO), *other = keys(TWO), *old = keys(ONE);
    uint8_t page[FORMAT_PAGE], twice[FORMAT_PAGE], key[32], id[CRYPT_ID], said[CRYPT_ID];
    struct toc_header h;
    struct cipher *c;
    char text[CRYPT_ID_TEXT];
    size_t i;

    (void)state;
    assert_int_equal(cipher_open(&c), 0);
    make_page(page, k, c, key_a);
    make_page(twice, k, c, key_a);
    assert_memory_not_equal(page, twice, FORMAT_PAGE); /* a new nonce each time */
    assert_int_equal(toc_header_decode(page, &h), 0);
    assert_int_equal(h.flags, TOC_ENCRYPTED);
    crypt_current(k, id);
    toc_key_id(page, said);
    assert_memory_equal(id, said, sizeof id);
    assert_int_equal(toc_unwrap(old, c, page, key), 0); /* by whoever has the key */
    assert_memory_equal(key, key_a, sizeof key);
    crypt_id_text(id, text);
    assert_int_equal(toc_unwrap(other, c, page, key), CISTERN_EKEY);
    assert_non_null(strstr(cistern_error_text(), text));
    assert_int_equal(toc_unwrap(NULL, c, page, key), CISTERN_EKEY);
    /* a forger can mend the checksum, not the tag */
    for (i = 16; i < 200; i++) {
        if (i >= 120 && i < 136) /* the checksum; the id: another key is asked for */
            continue;
        if (i >= 148 && i < 152) /* reserved */
            continue;
        page[i] ^= 1;
        assert_int_equal(toc_unwrap(k, c, page, key), -EBADMSG);
        page[i] ^= 1;
    }
    assert_int_equal(toc_unwrap(k, c, page, key), 0);
    cipher_close(c);
    crypt_close(k);
    crypt_close(other);
    crypt_close(old);
}

/* ---- Contents ---- */

struct told {
    uint32_t blocks, dead;
    struct block_info last;
};

static int on_block(void *arg, const struct block_info *b)
{
    struct told *s = arg;

    s->blocks++;
    s->last = *b;
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t id[16], uint32_t offset,
                   uint8_t reason)
{
    struct told *s = arg;

    (void)key;
    (void)id;
    (void)offset;
    (void)reason;
    s->dead++;
    return 0;
}

#define AREA 32768u

struct sealed {
    struct cipher *c;
    struct toc_writer w;
    size_t len;
    _Alignas(64) uint8_t bytes[AREA];
};

/* Blocks of one and of nine parts, and a dead record, in two batches. */
static void fill_sealed(struct sealed *s, const uint8_t *key)
{
    struct toc_batch batch;
    struct block_info b = {.mask = 1, .parts = 1, .length = {5000}, .check = {77}};
    unsigned i, n;

    assert_int_equal(cipher_open(&s->c), 0);
    toc_writer_init(&s->w, segment_a);
    s->w.key = key;
    s->w.cipher = s->c;
    for (n = 0, s->len = 0; n < 2; n++) {
        toc_batch_begin(&batch, &s->w, s->bytes + s->len, AREA - s->len);
        for (i = 0; i < 70; i++, b.offset += 32) {
            memset(b.key, (int)(0xa0 + n), sizeof b.key);
            b.parts = i % 10 == 9 ? 9 : 1;
            b.mask = (uint16_t)((1u << b.parts) - 1);
            memset(b.length, 0, sizeof b.length);
            for (unsigned p = 0; p < b.parts; p++)
                b.length[p] = 4096;
            assert_int_equal(toc_batch_block(&batch, &b), 0);
        }
        assert_int_equal(toc_batch_dead(&batch, b.key, segment_a, 9, DEAD_DELETED), 0);
        assert_int_equal(toc_batch_end(&batch, 0, 5), 0);
        s->len += batch.used;
    }
}

static int parse_sealed(struct sealed *s, const uint8_t *key, bool encrypted, struct told *seen,
                        struct toc_cursor *c)
{
    struct toc_sink sink = {.block = on_block, .dead = on_dead, .arg = seen};

    *seen = (struct told){0};
    toc_cursor_init(c, segment_a);
    c->encrypted = encrypted;
    c->key = key;
    c->cipher = s->c;
    return toc_parse(c, s->bytes, s->len, true, &sink);
}

static bool found(const uint8_t *in, size_t len, const void *what, size_t n)
{
    return memmem(in, len, what, n) != NULL;
}

static void contents_say_nothing_without_the_key(void **state)
{
    static struct sealed s;
    struct toc_cursor c;
    struct told seen;
    uint8_t secret[16];

    (void)state;
    fill_sealed(&s, key_a);
    memset(secret, 0xa0, sizeof secret);
    assert_false(found(s.bytes, s.len, secret, sizeof secret));
    assert_int_equal(parse_sealed(&s, key_a, true, &seen, &c), TOC_END);
    assert_int_equal(seen.blocks, 140);
    assert_int_equal(seen.dead, 2);
    assert_int_equal(seen.last.parts, 9);
    assert_int_equal(c.locked, 0);
    /* structure, and nothing else */
    assert_int_equal(parse_sealed(&s, NULL, true, &seen, &c), TOC_END);
    assert_int_equal(seen.blocks + seen.dead, 0);
    assert_true(c.number > 2 && c.locked == 142 + 14 * 2);
    assert_int_equal(c.position, s.w.position);
    /* a wrong key, and contents that do not say that they are encrypted */
    assert_int_equal(parse_sealed(&s, key_b, true, &seen, &c), TOC_TORN);
    assert_int_equal(parse_sealed(&s, key_a, false, &seen, &c), TOC_LATER);
    assert_int_equal(seen.blocks, 0);
    cipher_close(s.c);
}

static void mend(uint8_t *frame)
{
    size_t bytes = (size_t)FORMAT_RECORD * (1u + le16_load(frame + 4));

    le64_store(frame + offsetof(struct frame_header, checksum), 0);
    le64_store(frame + offsetof(struct frame_header, checksum), hash64(frame, bytes));
}

/* Whoever mends the checksum of a frame is found out by its tag. */
static void every_byte_of_a_frame_counts(void **state)
{
    static struct sealed s;
    struct toc_cursor c;
    struct told seen;
    size_t i, bytes;

    (void)state;
    fill_sealed(&s, key_a);
    bytes = (size_t)FORMAT_RECORD * (1u + le16_load(s.bytes + 4));
    for (i = 0; i < bytes; i++) {
        /* the number of records says what the checksum covers, which is put right again */
        if ((i >= 4 && i < 6) || (i >= 56 && i < 64))
            continue;
        s.bytes[i] ^= 0x40;
        mend(s.bytes);
        assert_int_not_equal(parse_sealed(&s, key_a, true, &seen, &c), TOC_END);
        assert_int_equal(seen.blocks, 0);
        s.bytes[i] ^= 0x40;
    }
    mend(s.bytes);
    assert_int_equal(parse_sealed(&s, key_a, true, &seen, &c), TOC_END);
    cipher_close(s.c);
}

static void plain_frames_are_not_believed_in_encrypted_contents(void **state)
{
    static struct sealed s;
    struct toc_cursor c;
    struct told seen;

    (void)state;
    fill_sealed(&s, NULL); /* as somebody without the key would write it */
    assert_int_equal(parse_sealed(&s, NULL, false, &seen, &c), TOC_END);
    assert_int_equal(seen.blocks, 140);
    assert_int_equal(parse_sealed(&s, key_a, true, &seen, &c), TOC_TORN);
    assert_int_equal(seen.blocks, 0);
    cipher_close(s.c);
}

/* ---- Nonces ---- */

static uint64_t serials[64];
static unsigned nserials;

static void watch(const uint8_t key[32], const uint8_t nonce[12])
{
    (void)key;
    assert_int_equal(le32_load(nonce), CIPHER_FRAME);
    assert_true(nserials < 64);
    serials[nserials++] = le64_load(nonce + 4);
}

/* The same place is written again with other records: with another nonce. */
static void a_batch_put_together_anew_has_new_nonces(void **state)
{
    static uint8_t buf[16384];
    struct block_info b = {.mask = 1, .parts = 1, .length = {4096}};
    struct toc_batch batch;
    struct toc_writer w;
    struct cipher *c;
    unsigned i;

    (void)state;
    assert_int_equal(cipher_open(&c), 0);
    toc_writer_init(&w, segment_a);
    w.key = key_a;
    w.cipher = c;
    cipher_watch = watch;
    for (i = 0; i < 20; i++) {
        toc_batch_begin(&batch, &w, buf, sizeof buf);
        b.offset = i;
        assert_int_equal(toc_batch_block(&batch, &b), 0);
        assert_int_equal(toc_batch_end(&batch, 0, 5), 0);
        if (i % 3)
            toc_batch_undo(&batch);
    }
    cipher_watch = NULL;
    assert_int_equal(nserials, 20);
    for (i = 1; i < nserials; i++)
        assert_true(serials[i] > serials[i - 1]);
    cipher_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_files_are_judged),
        cmocka_unit_test(raw_and_hex_are_one_key),
        cmocka_unit_test(every_bit_of_a_part_counts),
        cmocka_unit_test(wrapped_keys_come_back),
        cmocka_unit_test(contents_say_nothing_without_the_key),
        cmocka_unit_test(every_byte_of_a_frame_counts),
        cmocka_unit_test(plain_frames_are_not_believed_in_encrypted_contents),
        cmocka_unit_test(a_batch_put_together_anew_has_new_nonces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
