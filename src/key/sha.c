/* sha.c - SHA-256 over pieces. No state; any thread. */
#include "key/sha.h"

#include <errno.h>

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

int sha256(const struct sha_piece *pieces, size_t n, uint8_t out[32])
{
    SHA256_CTX ctx;
    size_t i;

    if (!SHA256_Init(&ctx))
        return -EIO;
    for (i = 0; i < n; i++) {
        if (pieces[i].len && !SHA256_Update(&ctx, pieces[i].data, pieces[i].len))
            return -EIO;
    }
    return SHA256_Final(out, &ctx) ? 0 : -EIO;
}
