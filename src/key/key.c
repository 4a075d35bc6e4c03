/*
 * key.c - names of blocks. Pure functions; any thread; nothing is allocated.
 *
 * Every key is a SHA-256 over one string of bytes that ends in an 8-byte tag, so that no two kinds
 * of key ever hash the same string. Integers are little-endian.
 *
 *   root         salt[32]  u64 n, tenant[n]  u64 n, lora[n]  u64 n, content[n]  "cstnROOT"
 *   block        tokens, 4 bytes each        parent[32]  u64 bytes of the tokens   "cstnBLCK"
 *   engine hash  hash[n]                     root[32]    u64 n                     "cstnHASH"
 *   mix          content[n]                  parent[32]  u64 n                     "cstnMIXD"
 *
 * The last three have 48 fixed bytes behind what they name, which makes their framing unambiguous.
 * The parent stands behind the tokens, not before: all of a block but the last 64 bytes can then be
 * hashed before its parent is known, many blocks at a time, and 512 tokens are exactly 33 blocks
 * of SHA-256.
 */
#include "key/key.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/le.h"
#include "key/grow.h"
#include "key/sha.h"
#include "key/sha_wide.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tokens are hashed where they lie");

#define TAG_BYTES     8u
#define HASH_LEN_MAX  4096u
#define IDENTITY_MAX  ((size_t)1 << 30)
#define SUFFIX_PARENT 0u
#define SUFFIX_LENGTH 32u
#define SUFFIX_TAG    40u

static void suffix_set(uint8_t suffix[SHA_SUFFIX], const cistern_key *parent, uint64_t len,
                       const char tag[TAG_BYTES])
{
    memcpy(suffix + SUFFIX_PARENT, parent->b, 32);
    le64_store(suffix + SUFFIX_LENGTH, len);
    memcpy(suffix + SUFFIX_TAG, tag, TAG_BYTES);
}

int key_root(const uint8_t salt[32], const struct cistern_identity *id, cistern_key *out)
{
    struct cistern_identity d;
    uint8_t lengths[3][8];
    size_t lora_len;

    if (!salt || !out)
        return err_set(-EINVAL, "key root: NULL argument");
    memset(&d, 0, sizeof d);
    if (id && grow_take(&d, sizeof d, id))
        return err_set(-EINVAL, "identity: size is not set, or unknown fields are");
    if ((d.tenant_len && !d.tenant) || d.tenant_len > IDENTITY_MAX)
        return err_set(-EINVAL, "identity: tenant is NULL or too long");
    if ((d.content_len && !d.content) || d.content_len > IDENTITY_MAX)
        return err_set(-EINVAL, "identity: content is NULL or too long");
    lora_len = d.lora ? strlen(d.lora) : 0;
    le64_store(lengths[0], d.tenant_len);
    le64_store(lengths[1], lora_len);
    le64_store(lengths[2], d.content_len);
    return sha256((const struct sha_piece[]){{salt, 32},
                                             {lengths[0], 8},
                                             {d.tenant, d.tenant_len},
                                             {lengths[1], 8},
                                             {d.lora, lora_len},
                                             {lengths[2], 8},
                                             {d.content, d.content_len},
                                             {"cstnROOT", TAG_BYTES}},
                  8, out->b);
}

/* ---- Chains ---- */

/* What stands behind the whole SHA blocks of a message: the rest of the tokens, suffix, padding. */
struct tail {
    uint8_t bytes[2 * SHA_BLOCK];
    size_t blocks, rest;
};

static void tail_init(struct tail *t, const uint8_t suffix[SHA_SUFFIX], size_t bytes)
{
    uint64_t bits = htobe64((uint64_t)(bytes + SHA_SUFFIX) * 8);

    memset(t, 0, sizeof *t);
    t->rest = bytes % SHA_BLOCK;
    t->blocks = t->rest + SHA_SUFFIX + 1 + sizeof bits <= SHA_BLOCK ? 1 : 2;
    memcpy(t->bytes + t->rest, suffix, SHA_SUFFIX);
    t->bytes[t->rest + SHA_SUFFIX] = 0x80;
    memcpy(t->bytes + t->blocks * SHA_BLOCK - sizeof bits, &bits, sizeof bits);
}

/* Ends the message whose whole blocks are in `s`; its key is the parent of the next. */
static void tail_end(struct tail *t, struct sha_state *s, const uint8_t *rest, cistern_key *key)
{
    memcpy(t->bytes, rest, t->rest);
    sha_blocks(s, t->bytes, t->blocks);
    sha_end(s, key->b);
    memcpy(t->bytes + t->rest + SUFFIX_PARENT, key->b, 32);
}

/*
 * The whole SHA blocks of the first messages, as many as are best taken at once. Sixteen cost what
 * eight cost two at a time.
 */
static unsigned chain_ahead(const uint8_t *data, size_t n, size_t bytes, bool wide,
                            struct sha_state states[SHA_LANES])
{
    size_t whole = bytes / SHA_BLOCK;

    if (wide && n >= SHA_LANES / 2) {
        unsigned some = n < SHA_LANES ? (unsigned)n : SHA_LANES;

        sha_blocks_wide(states, some, data, bytes, whole);
        return some;
    }
    sha_begin(&states[0]);
    sha_begin(&states[1]);
    if (n == 1) {
        sha_blocks(&states[0], data, whole);
        return 1;
    }
    sha_blocks_pair(&states[0], data, &states[1], data + bytes, whole);
    return 2;
}

static void chain_fast(const uint8_t suffix[SHA_SUFFIX], const uint32_t *tokens, size_t n,
                       size_t bytes, cistern_key *keys)
{
    const uint8_t *data = (const uint8_t *)tokens;
    size_t whole = bytes / SHA_BLOCK * SHA_BLOCK;
    bool wide = whole && bytes <= SHA_STRIDE_MAX && sha_wide_usable();
    struct sha_state states[SHA_LANES];
    struct tail tail;

    tail_init(&tail, suffix, bytes);
    while (n) {
        unsigned i, some = chain_ahead(data, n, bytes, wide, states);

        for (i = 0; i < some; i++, data += bytes)
            tail_end(&tail, &states[i], data + whole, keys++);
        n -= some;
    }
}

static int chain_plain(uint8_t suffix[SHA_SUFFIX], const uint32_t *tokens, size_t n, size_t bytes,
                       cistern_key *keys)
{
    size_t i;
    int r;

    for (i = 0; i < n; i++) {
        r = sha256((const struct sha_piece[]){{(const uint8_t *)tokens + i * bytes, bytes},
                                              {suffix, SHA_SUFFIX}},
                   2, keys[i].b);
        if (r)
            return err_set(r, "key chain: SHA-256 failed");
        memcpy(suffix + SUFFIX_PARENT, keys[i].b, 32);
    }
    return 0;
}

CISTERN_API int64_t cistern_key_chain(const cistern_key *parent, const uint32_t *tokens,
                                      size_t ntokens, uint32_t block_tokens, cistern_key *keys)
{
    size_t n, bytes = (size_t)block_tokens * sizeof *tokens;
    uint8_t suffix[SHA_SUFFIX];
    int r = 0;

    if (!parent || !block_tokens || ntokens > SIZE_MAX / 8)
        return err_set(-EINVAL, "key chain: NULL parent or no block_tokens");
    n = ntokens / block_tokens;
    if (!n)
        return 0;
    if (!tokens || !keys)
        return err_set(-EINVAL, "key chain: NULL tokens or keys");
    suffix_set(suffix, parent, bytes, "cstnBLCK");
    if (sha_pair_usable())
        chain_fast(suffix, tokens, n, bytes, keys);
    else
        r = chain_plain(suffix, tokens, n, bytes, keys);
    return r ? r : (int64_t)n;
}

static int key_of_bytes(const cistern_key *parent, const void *data, size_t len,
                        const char tag[TAG_BYTES], cistern_key *out)
{
    uint8_t suffix[SHA_SUFFIX];

    suffix_set(suffix, parent, len, tag);
    return sha256((const struct sha_piece[]){{data, len}, {suffix, sizeof suffix}}, 2, out->b);
}

CISTERN_API int cistern_key_from_hash(const cistern_key *root, const void *hash, size_t len,
                                      cistern_key *out)
{
    if (!root || !hash || !out || !len || len > HASH_LEN_MAX)
        return err_set(-EINVAL, "key from hash: NULL argument, or not 1 to 4096 bytes");
    return key_of_bytes(root, hash, len, "cstnHASH", out);
}

CISTERN_API int cistern_key_mix(const cistern_key *parent, const void *content, size_t len,
                                cistern_key *out)
{
    if (!parent || !content || !out || !len)
        return err_set(-EINVAL, "key mix: NULL argument or no content");
    return key_of_bytes(parent, content, len, "cstnMIXD", out);
}
