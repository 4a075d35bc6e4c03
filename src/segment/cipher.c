/*
 * cipher.c - AES-256-GCM for one thread, by gcm_wide.c where the CPU can and by two contexts of
 * OpenSSL elsewhere, one for each direction. Where OpenSSL was told to use approved modules only
 * (FIPS), it is OpenSSL that works.
 *
 * A direction keeps the key that it was last given, so that the blocks of one segment do not pay
 * for the expansion of its key each time. Any failure of OpenSSL is -EIO; only a tag that does not
 * fit is -EBADMSG. See crypt.h.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/le.h"
#include "cistern.h"
#include "segment/crypt.h"
#include "segment/gcm_wide.h"
#include "segment/segment_internal.h"

struct way {
    struct gcm_wide wide;
    EVP_CIPHER_CTX *ctx; /* NULL with `is_wide` */
    uint8_t key[CRYPT_KEY];
    bool keyed, encrypt;
};

struct cipher {
    struct way way[2]; /* decryption, encryption */
    struct way *now;
    EVP_CIPHER *aes; /* NULL with `is_wide` */
    bool is_wide;
};
_Static_assert(sizeof(struct cipher) % _Alignof(struct cipher) == 0, "for aligned_alloc()");

void (*cipher_watch)(const uint8_t key[CRYPT_KEY], const uint8_t nonce[CRYPT_NONCE]);

/* The contexts of OpenSSL. False: there is no such cipher here. */
static bool contexts_make(struct cipher *c)
{
    bool good;
    int i;

    c->aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    good = c->aes != NULL;
    for (i = 0; i < 2 && good; i++) {
        c->way[i].ctx = EVP_CIPHER_CTX_new();
        good = c->way[i].ctx && EVP_CipherInit_ex2(c->way[i].ctx, c->aes, NULL, NULL, i, NULL);
    }
    return good;
}

int cipher_open_as(enum cipher_kind kind, struct cipher **out)
{
    bool can = gcm_wide_usable();
    struct cipher *c;

    if (kind == CIPHER_WIDE && !can)
        return err_set(-ENOTSUP, "this CPU has no VAES and AVX-512");
    c = aligned_alloc(_Alignof(struct cipher), sizeof *c);
    if (!c)
        return err_set(-ENOMEM, "no memory for a cipher");
    memset(c, 0, sizeof *c);
    c->way[1].encrypt = true;
    c->is_wide = kind == CIPHER_WIDE ||
                 (kind == CIPHER_ANY && can && !EVP_default_properties_is_fips_enabled(NULL));
    if (!c->is_wide && !contexts_make(c)) {
        cipher_close(c);
        return err_set(CISTERN_ECONFIG, "OpenSSL here has no AES-256-GCM");
    }
    *out = c;
    return 0;
}

int cipher_open(struct cipher **out)
{
    return cipher_open_as(CIPHER_ANY, out);
}

void cipher_close(struct cipher *c)
{
    if (!c)
        return;
    EVP_CIPHER_CTX_free(c->way[0].ctx); /* wipes the expanded key */
    EVP_CIPHER_CTX_free(c->way[1].ctx);
    EVP_CIPHER_free(c->aes);
    crypt_wipe(c, sizeof *c);
    free(c);
}

int cipher_begin_at(struct cipher *c, bool encrypt, const uint8_t key[CRYPT_KEY],
                    const uint8_t nonce[CRYPT_NONCE], const void *aad, size_t len)
{
    struct way *w = &c->way[encrypt];
    bool same = w->keyed && memcmp(w->key, key, CRYPT_KEY) == 0;
    int n;

    c->now = w;
    if (encrypt && cipher_watch)
        cipher_watch(key, nonce);
    if (!same) {
        w->keyed = true;
        memcpy(w->key, key, CRYPT_KEY);
    }
    if (c->is_wide) {
        if (!same)
            gcm_wide_key(&w->wide, key);
        gcm_wide_begin(&w->wide, nonce, aad, len);
        return 0;
    }
    if (!EVP_CipherInit_ex2(w->ctx, NULL, same ? NULL : key, nonce, encrypt, NULL) ||
        !EVP_CipherUpdate(w->ctx, NULL, &n, aad, (int)len)) {
        w->keyed = false;
        return err_set(-EIO, "OpenSSL failed");
    }
    return 0;
}

int cipher_begin(struct cipher *c, bool encrypt, const uint8_t key[CRYPT_KEY],
                 enum cipher_domain domain, uint64_t value, const void *aad, size_t len)
{
    uint8_t nonce[CRYPT_NONCE];

    le32_store(nonce, domain);
    le64_store(nonce + 4, value);
    return cipher_begin_at(c, encrypt, key, nonce, aad, len);
}

static int add(struct cipher *c, bool past, void *to, const void *from, size_t len)
{
    int n;

    if (c->is_wide) {
        gcm_wide_add(&c->now->wide, c->now->encrypt, past, to, from, len);
        return 0;
    }
    if (len > INT_MAX || !EVP_CipherUpdate(c->now->ctx, to, &n, from, (int)len))
        return err_set(-EIO, "OpenSSL failed");
    return 0;
}

int cipher_add(struct cipher *c, void *to, const void *from, size_t len)
{
    return add(c, false, to, from, len);
}

int cipher_add_past(struct cipher *c, void *to, const void *from, size_t len)
{
    return add(c, true, to, from, len);
}

int cipher_seal(struct cipher *c, uint8_t tag[CRYPT_TAG])
{
    uint8_t none[CRYPT_TAG];
    int n;

    if (c->is_wide) {
        gcm_wide_tag(&c->now->wide, tag);
        return 0;
    }
    if (!EVP_CipherFinal_ex(c->now->ctx, none, &n) ||
        !EVP_CIPHER_CTX_ctrl(c->now->ctx, EVP_CTRL_AEAD_GET_TAG, (int)CRYPT_TAG, tag))
        return err_set(-EIO, "OpenSSL failed");
    return 0;
}

int cipher_check(struct cipher *c, const uint8_t *tag, size_t len)
{
    uint8_t copy[CRYPT_TAG], none[CRYPT_TAG];
    int n;

    if (c->is_wide) {
        gcm_wide_tag(&c->now->wide, copy);
        return CRYPTO_memcmp(copy, tag, len) == 0 ? 0 : -EBADMSG;
    }
    memcpy(copy, tag, len);
    if (!EVP_CIPHER_CTX_ctrl(c->now->ctx, EVP_CTRL_AEAD_SET_TAG, (int)len, copy))
        return err_set(-EIO, "OpenSSL failed");
    return EVP_CipherFinal_ex(c->now->ctx, none, &n) ? 0 : -EBADMSG;
}

/* ---- Parts of blocks ---- */

int part_begin(struct cipher *c, bool encrypt, const uint8_t key[CRYPT_KEY],
               const struct check_identity *identity)
{
    uint8_t aad[sizeof(struct check_identity)];

    identity_encode(identity, aad);
    return cipher_begin(c, encrypt, key, CIPHER_PAYLOAD, identity->offset, aad, sizeof aad);
}

int part_seal(struct cipher *c, uint64_t *check)
{
    uint8_t tag[CRYPT_TAG];
    int rc = cipher_seal(c, tag);

    if (!rc)
        *check = le64_load(tag);
    return rc;
}

int part_check(struct cipher *c, uint64_t check)
{
    uint8_t tag[8];

    le64_store(tag, check);
    return cipher_check(c, tag, sizeof tag);
}

int part_encrypt(struct cipher *c, const uint8_t key[CRYPT_KEY],
                 const struct check_identity *identity, void *to, const void *from, uint64_t *check)
{
    int rc = part_begin(c, true, key, identity);

    rc = rc ? rc : cipher_add(c, to, from, identity->length);
    return rc ? rc : part_seal(c, check);
}

int part_decrypt(struct cipher *c, const uint8_t key[CRYPT_KEY],
                 const struct check_identity *identity, void *to, const void *from, uint64_t check)
{
    int rc = part_begin(c, false, key, identity);

    rc = rc ? rc : cipher_add(c, to, from, identity->length);
    return rc ? rc : part_check(c, check);
}
