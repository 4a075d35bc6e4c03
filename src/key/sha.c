/* sha.c - SHA-256 over pieces. No state; any thread. */
#include "key/sha.h"

#include <errno.h>
#include <string.h>

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

static int add_and_end(SHA256_CTX *ctx, const struct sha_piece *pieces, size_t n, uint8_t out[32])
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (pieces[i].len && !SHA256_Update(ctx, pieces[i].data, pieces[i].len))
            return -EIO;
    }
    return SHA256_Final(out, ctx) ? 0 : -EIO;
}

int sha256(const struct sha_piece *pieces, size_t n, uint8_t out[32])
{
    SHA256_CTX ctx;

    return SHA256_Init(&ctx) ? add_and_end(&ctx, pieces, n, out) : -EIO;
}

/* The fields are public: the chaining value and the number of bits so far. */
int sha256_end(const struct sha_state *s, size_t bytes, const struct sha_piece *pieces, size_t n,
               uint8_t out[32])
{
    SHA256_CTX ctx;
    uint64_t bits = (uint64_t)bytes * 8;

    if (!SHA256_Init(&ctx))
        return -EIO;
    memcpy(ctx.h, s->h, sizeof ctx.h);
    ctx.Nl = (SHA_LONG)bits;
    ctx.Nh = (SHA_LONG)(bits >> 32);
    return add_and_end(&ctx, pieces, n, out);
}
