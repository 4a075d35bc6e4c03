/*
 * crypt.h - encryption at rest: master keys, keys of segments, and AES-256-GCM through OpenSSL.
 * docs/FORMAT.md, "Encryption", has the layout and why no nonce is used twice.
 *
 * Keys lie in memory that core dumps leave out and a forked child does not get, and are wiped at
 * the end. Contexts of OpenSSL, which hold expanded keys, are made at open and belong to one thread
 * at a time; nothing is allocated between open and close. No key reaches a log or an error text;
 * ids of keys do.
 */
#ifndef SEGMENT_CRYPT_H
#define SEGMENT_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/format.h"

#define CRYPT_KEY      32u
#define CRYPT_ID       8u
#define CRYPT_NONCE    12u
#define CRYPT_TAG      16u
#define CRYPT_KEYS_MAX 8u
#define CRYPT_ID_TEXT  17u

/* ---- Keys ---- */

struct crypt;

/*
 * The master keys of a key file, the current one first: either 32 raw bytes, or lines of 64 hex
 * digits with blank lines and lines that begin with '#' between them. Beside them room for the keys
 * of `slots` segments. CISTERN_ECONFIG: no such file, or not what it should be.
 */
int crypt_open(const char *key_file, uint32_t slots, struct crypt **out) MUST_CHECK;
/* Wipes them. NULL is fine. */
void crypt_close(struct crypt *k);
/* Id of the key that new segments are wrapped with, and whether one is there. */
void crypt_current(const struct crypt *k, uint8_t id[CRYPT_ID]);
bool crypt_has(const struct crypt *k, const uint8_t id[CRYPT_ID]);
void crypt_id_text(const uint8_t id[CRYPT_ID], char out[CRYPT_ID_TEXT]);
/* The key of a segment by its number: 32 bytes, which whoever adds the segment fills. */
uint8_t *crypt_slot(struct crypt *k, uint32_t slot);
void crypt_forget(struct crypt *k, uint32_t slot);
/* A new random key. */
int crypt_make_key(uint8_t key[CRYPT_KEY]) MUST_CHECK;
void crypt_wipe(void *secret, size_t len);

/* ---- A thread's contexts ---- */

struct cipher;

int cipher_open(struct cipher **out) MUST_CHECK;
void cipher_close(struct cipher *c); /* NULL is fine */

enum cipher_domain { CIPHER_PAYLOAD = 1, CIPHER_FRAME = 2 };

/* Begins an encryption or a decryption of one message; `aad` is authenticated beside it. -EIO. */
int cipher_begin(struct cipher *c, bool encrypt, const uint8_t key[CRYPT_KEY],
                 enum cipher_domain domain, uint64_t value, const void *aad, size_t len) MUST_CHECK;
/* The next bytes of it; to == from is fine. */
int cipher_add(struct cipher *c, void *to, const void *from, size_t len) MUST_CHECK;
/* Ends an encryption. */
int cipher_seal(struct cipher *c, uint8_t tag[CRYPT_TAG]) MUST_CHECK;
/* Ends a decryption: -EBADMSG unless the first `len` bytes of the tag are these. */
int cipher_check(struct cipher *c, const uint8_t *tag, size_t len) MUST_CHECK;

/* ---- Parts of blocks ---- */

/* cipher_begin() for a part; ended by part_seal(), which gives its check, or part_check(). */
int part_begin(struct cipher *c, bool encrypt, const uint8_t key[CRYPT_KEY],
               const struct check_identity *identity) MUST_CHECK;
int part_seal(struct cipher *c, uint64_t *check) MUST_CHECK;
int part_check(struct cipher *c, uint64_t check) MUST_CHECK;
/* A whole part in one piece. */
int part_encrypt(struct cipher *c, const uint8_t key[CRYPT_KEY],
                 const struct check_identity *identity, void *to, const void *from,
                 uint64_t *check) MUST_CHECK;
int part_decrypt(struct cipher *c, const uint8_t key[CRYPT_KEY],
                 const struct check_identity *identity, void *to, const void *from,
                 uint64_t check) MUST_CHECK;

/* ---- Header pages ---- */

/* Puts the segment's key, wrapped by the current master, into a page that toc_header_encode() made
 * with TOC_ENCRYPTED, and renews its checksum. */
int toc_wrap(const struct crypt *k, struct cipher *c, const uint8_t key[CRYPT_KEY],
             void *page) MUST_CHECK;
/* Of a page that toc_header_decode() took. CISTERN_EKEY: wrapped by a master that is not there (or
 * `k` is NULL); -EBADMSG: not wrapped by the one it names. */
int toc_unwrap(const struct crypt *k, struct cipher *c, const void *page,
               uint8_t key[CRYPT_KEY]) MUST_CHECK;
/* The id of the master key that such a page names. */
void toc_key_id(const void *page, uint8_t id[CRYPT_ID]);

/* Where a test counts the nonces of encryptions; NULL in every release. The key belongs to the
 * caller. */
extern void (*cipher_watch)(const uint8_t key[CRYPT_KEY], const uint8_t nonce[CRYPT_NONCE]);

#endif
