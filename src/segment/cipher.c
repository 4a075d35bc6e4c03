/*
 * cipher.c - AES-256-GCM for one thread: two contexts of OpenSSL that stay, one for each direction.
 *
 * A context keeps the key that it was last given, so that the blocks of one segment do not pay for
 * the expansion of its key each time. Any failure of OpenSSL is -EIO; only a tag that does not fit
 * is -EBADMSG. See crypt.h.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/le.h"
#include "cistern.h"
#include "segment/crypt.h"
#include "segment/segment_internal.h"

struct way {
    EVP_CIPHER_CTX *ctx;
    uint8_t key[CRYPT_KEY];
    bool keyed;
};

struct cipher {
    EVP_CIPHER *aes;
    struct way way[2]; /* decryption, encryption */
    struct way *now;
};

void (*cipher_watch)(const uint8_t key[CRYPT_KEY], const uint8_t nonce[CRYPT_NONCE]);

int cipher_open(struct cipher **out)
{
    struct cipher *c = calloc(1, sizeof *c);
    int i, good = 1;

    if (!c)
        return err_set(-ENOMEM, "no memory for a cipher");
    c->aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    for (i = 0; i < 2 && c->aes && good; i++) {
        c->way[i].ctx = EVP_CIPHER_CTX_new();
        good = c->way[i].ctx && EVP_CipherInit_ex2(c->way[i].ctx, c->aes, NULL, NULL, i, NULL);
    }
    if (!c->aes || !good) {
        cipher_close(c);
        return err_set(CISTERN_ECONFIG, "OpenSSL here has no AES-256-GCM");
    }
    *out = c;
    return 0;
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

int cipher_add(struct cipher *c, void *to, const void *from, size_t len)
{
    int n;

    if (len > INT_MAX || !EVP_CipherUpdate(c->now->ctx, to, &n, from, (int)len))
        return err_set(-EIO, "OpenSSL failed");
    return 0;
}

int cipher_seal(struct cipher *c, uint8_t tag[CRYPT_TAG])
{
    uint8_t none[CRYPT_TAG];
    int n;

    if (!EVP_CipherFinal_ex(c->now->ctx, none, &n) ||
        !EVP_CIPHER_CTX_ctrl(c->now->ctx, EVP_CTRL_AEAD_GET_TAG, (int)CRYPT_TAG, tag))
        return err_set(-EIO, "OpenSSL failed");
    return 0;
}

int cipher_check(struct cipher *c, const uint8_t *tag, size_t len)
{
    uint8_t copy[CRYPT_TAG], none[CRYPT_TAG];
    int n;

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
