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
 *
 * Keys of a tenant end in its mark, in place of the last 8 bytes of the hash: 3 bytes that say that
 * there is one, "tnt", and the first 5 of
 *
 *   mark         salt[32]  u64 n, tenant[n]  "cstnTENA"
 *
 * A root has it when its identity has a tenant; every other key takes over the last 8 bytes of its
 * parent, or root, when they begin as a mark does. So whoever knows the tenant finds its blocks,
 * and only its blocks, among the keys of a directory: cistern_wipe(). What is left of the hash, 192
 * bits, is far more than a key needs. A key without a tenant whose hash happens to have these 3
 * bytes (one in 2^24) hands its last 8 on in the same way, always and everywhere alike: keys that
 * follow from it are still told apart by their other 24, and are nobody's, but for one chance in
 * 2^40. Two tenants share a mark with the same chance: keys stay apart, a wipe takes both.
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

#define MARK_AT    24u /* in a key */
#define MARK_MAGIC 3u

static const uint8_t mark_magic[MARK_MAGIC] = {'t', 'n', 't'};

static void suffix_set(uint8_t suffix[SHA_SUFFIX], const cistern_key *parent, uint64_t len,
                       const char tag[TAG_BYTES])
{
    memcpy(suffix + SUFFIX_PARENT, parent->b, 32);
    le64_store(suffix + SUFFIX_LENGTH, len);
    memcpy(suffix + SUFFIX_TAG, tag, TAG_BYTES);
}

/* Ends a key that was hashed with this suffix: the parent's mark, if it has one. */
static void mark_inherit(const uint8_t suffix[SHA_SUFFIX], cistern_key *key)
{
    const uint8_t *mark = suffix + SUFFIX_PARENT + MARK_AT;

    if (memcmp(mark, mark_magic, MARK_MAGIC) == 0)
        memcpy(key->b + MARK_AT, mark, KEY_MARK);
}

int key_tenant_mark(const uint8_t salt[32], const void *tenant, size_t len, uint8_t out[KEY_MARK])
{
    uint8_t hash[32], length[8];
    int r;

    if (!salt || !tenant || !len || len > IDENTITY_MAX || !out)
        return err_set(-EINVAL, "tenant: NULL, empty or too long");
    le64_store(length, len);
    r = sha256(
        (const struct sha_piece[]){{salt, 32}, {length, 8}, {tenant, len}, {"cstnTENA", TAG_BYTES}},
        4, hash);
    if (r)
        return r;
    memcpy(out, mark_magic, MARK_MAGIC);
    memcpy(out + MARK_MAGIC, hash, KEY_MARK - MARK_MAGIC);
    return 0;
}

bool key_has_mark(const uint8_t key[32], const uint8_t mark[KEY_MARK])
{
    return memcmp(key + MARK_AT, mark, KEY_MARK) == 0;
}

int key_root(const uint8_t salt[32], const struct cistern_identity *id, cistern_key *out)
{
    struct cistern_identity d;
    uint8_t lengths[3][8];
    size_t lora_len;
    cistern_key key;
    int r;

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
    r = sha256((const struct sha_piece[]){{salt, 32},
                                          {lengths[0], 8},
                                          {d.tenant, d.tenant_len},
                                          {lengths[1], 8},
                                          {d.lora, lora_len},
                                          {lengths[2], 8},
                                          {d.content, d.content_len},
                                          {"cstnROOT", TAG_BYTES}},
               8, key.b);
    if (!r && d.tenant_len)
        r = key_tenant_mark(salt, d.tenant, d.tenant_len, key.b + MARK_AT);
    if (!r)
        *out = key;
    return r;
}

/* ---- Chains ---- */

/* From so many blocks on, sixteen at once are faster than one after the other. */
#define WIDE_MIN 8u

/* Hashes the tokens of up to sixteen blocks side by side, then ends them in the chain's order. */
static int chain_wide(uint8_t suffix[SHA_SUFFIX], const uint8_t *tokens, unsigned n, size_t bytes,
                      cistern_key *keys)
{
    struct sha_state states[SHA_LANES];
    size_t whole = bytes / SHA_BLOCK * SHA_BLOCK;
    unsigned i;
    int r = 0;

    sha_blocks_wide(states, n, tokens, bytes, bytes / SHA_BLOCK);
    for (i = 0; i < n && !r; i++) {
        const struct sha_piece rest[] = {{tokens + i * bytes + whole, bytes - whole},
                                         {suffix, SHA_SUFFIX}};

        r = sha256_end(&states[i], whole, rest, 2, keys[i].b);
        mark_inherit(suffix, &keys[i]);
        memcpy(suffix + SUFFIX_PARENT, keys[i].b, 32);
    }
    return r;
}

static int chain(uint8_t suffix[SHA_SUFFIX], const uint8_t *tokens, size_t n, size_t bytes,
                 cistern_key *keys)
{
    bool wide = bytes >= SHA_BLOCK && bytes <= SHA_STRIDE_MAX && sha_wide_usable();
    size_t i, some;
    int r = 0;

    for (i = 0; i < n && !r; i += some) {
        const struct sha_piece one[] = {{tokens + i * bytes, bytes}, {suffix, SHA_SUFFIX}};

        some = 1;
        if (wide && n - i >= WIDE_MIN) {
            some = n - i < SHA_LANES ? n - i : SHA_LANES;
            r = chain_wide(suffix, tokens + i * bytes, (unsigned)some, bytes, keys + i);
            continue;
        }
        r = sha256(one, 2, keys[i].b);
        mark_inherit(suffix, &keys[i]);
        memcpy(suffix + SUFFIX_PARENT, keys[i].b, 32);
    }
    return r ? err_set(r, "key chain: SHA-256 failed") : 0;
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
    r = chain(suffix, (const uint8_t *)tokens, n, bytes, keys);
    return r ? r : (int64_t)n;
}

static int key_of_bytes(const cistern_key *parent, const void *data, size_t len,
                        const char tag[TAG_BYTES], cistern_key *out)
{
    uint8_t suffix[SHA_SUFFIX];
    int r;

    suffix_set(suffix, parent, len, tag);
    r = sha256((const struct sha_piece[]){{data, len}, {suffix, sizeof suffix}}, 2, out->b);
    if (!r)
        mark_inherit(suffix, out);
    return r;
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
