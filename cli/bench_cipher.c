/*
 * bench_cipher.c - AES-256-GCM of OpenSSL alone: the baseline of encryption.
 *
 * One context whose key stays, as an engine of OpenSSL's would do it at best: a block costs a new
 * nonce and one pass, in pieces that the cache holds. A decryption is not ended, for what lies in
 * the area is no ciphertext; checking a tag of sixteen bytes takes no time that could be seen.
 */
#include <string.h>

#include <openssl/evp.h>

#include "bench_raw.h"
#include "cli.h"

#define PIECE ((size_t)32 << 10)
#define BATCH (4u << 20) /* bytes between two looks at the clock */

int crypter_open(struct crypter *k)
{
    static const unsigned char key[32] = {1};

    k->ctx = EVP_CIPHER_CTX_new();
    if (k->ctx == NULL ||
        !EVP_CipherInit_ex(k->ctx, EVP_aes_256_gcm(), NULL, key, NULL, k->encrypt))
        return cli_fail(CLI_ENVIRONMENT, "OpenSSL here has no AES-256-GCM");
    return CLI_OK;
}

void crypter_close(struct crypter *k)
{
    EVP_CIPHER_CTX_free(k->ctx);
    k->ctx = NULL;
}

static bool block_run(struct crypter *k)
{
    const uint8_t *from = copier_source(&k->copy);
    uint8_t *to = area_next(k->copy.to, &k->copy.to_at, k->copy.block);
    unsigned char nonce[12] = {0};
    size_t at, n;
    int len;

    k->nonce++;
    memcpy(nonce, &k->nonce, sizeof(k->nonce));
    if (!EVP_CipherInit_ex(k->ctx, NULL, NULL, NULL, nonce, k->encrypt))
        return false;
    for (at = 0; at < k->copy.block; at += n) {
        n = k->copy.block - at < PIECE ? k->copy.block - at : PIECE;
        if (!EVP_CipherUpdate(k->ctx, to + at, &len, from + at, (int)n))
            return false;
    }
    return true;
}

int crypter_run(void *arg, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    struct crypter *k = arg;
    size_t n = BATCH / k->copy.block ? BATCH / k->copy.block : 1, i;

    do {
        for (i = 0; i < n; i++)
            if (!block_run(k))
                return cli_fail(CLI_ENVIRONMENT, "OpenSSL failed");
        out->ops += n;
        out->bytes += (uint64_t)n * k->copy.block;
    } while (bench_now_ns() < until && !bench_stopped);
    return CLI_OK;
}
