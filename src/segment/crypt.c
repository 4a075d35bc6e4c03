/*
 * crypt.c - master keys and keys of segments in memory; wrapping. See crypt.h.
 *
 * Invariants: a slot is written once per life of its segment, before anybody else can know the
 * segment's number. The masters never change after crypt_open(). Threads: any, on what they hold.
 */
#include "segment/crypt.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/hash.h"
#include "cistern.h"
#include "io/keyfile.h"
#include "segment/segment_internal.h"
#include "segment/toc.h"

#define FILE_MAX   2048u
#define WRAP_AT    128u
#define WRAPPED_BY 120u /* bytes of the header page that a wrapped key is bound to */

struct master {
    uint8_t key[CRYPT_KEY], id[CRYPT_ID];
};

struct crypt {
    size_t bytes; /* of the whole mapping */
    uint32_t masters, slots;
    struct master master[CRYPT_KEYS_MAX];
    uint8_t slot[][CRYPT_KEY];
};

/* ---- The key file ---- */

static int hex_digit(unsigned char c)
{
    return isdigit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_key(const uint8_t *text, size_t len, uint8_t key[CRYPT_KEY])
{
    size_t i;

    if (len != 2 * CRYPT_KEY)
        return false;
    for (i = 0; i < CRYPT_KEY; i++) {
        int high = hex_digit((unsigned char)tolower(text[2 * i])),
            low = hex_digit((unsigned char)tolower(text[2 * i + 1]));

        if (high < 0 || low < 0)
            return false;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int master_add(struct crypt *k, const uint8_t key[CRYPT_KEY])
{
    static const char domain[8] = "cstnKYID";
    uint8_t both[CRYPT_KEY + sizeof domain], digest[SHA256_DIGEST_LENGTH];
    struct master *m = &k->master[k->masters];

    memcpy(m->key, key, CRYPT_KEY);
    memcpy(both, key, CRYPT_KEY);
    memcpy(both + CRYPT_KEY, domain, sizeof domain);
    (void)SHA256(both, sizeof both, digest);
    memcpy(m->id, digest, CRYPT_ID);
    crypt_wipe(both, sizeof both);
    if (crypt_has(k, m->id))
        return err_set(CISTERN_ECONFIG, "the key file names a key twice");
    k->masters++;
    return 0;
}

/* Lines of hex digits; the text of an error counts lines and shows none. */
static int masters_parse(struct crypt *k, const uint8_t *text, size_t len)
{
    size_t at = 0, line = 0;
    uint8_t key[CRYPT_KEY];
    int rc = 0;

    while (at < len && !rc) {
        size_t from = at, to;

        line++;
        while (at < len && text[at] != '\n')
            at++;
        to = at++;
        while (from < to && isspace(text[from]))
            from++;
        while (to > from && isspace(text[to - 1]))
            to--;
        if (from == to || text[from] == '#')
            continue;
        if (k->masters == CRYPT_KEYS_MAX)
            rc = err_set(CISTERN_ECONFIG, "the key file has more than %u keys", CRYPT_KEYS_MAX);
        else if (!hex_key(text + from, to - from, key))
            rc = err_set(CISTERN_ECONFIG,
                         "line %zu of the key file is no key: it must be 64 hex digits "
                         "(or the file 32 raw bytes)",
                         line);
        else
            rc = master_add(k, key);
    }
    crypt_wipe(key, sizeof key);
    if (!rc && !k->masters)
        rc = err_set(CISTERN_ECONFIG, "the key file is empty");
    return rc;
}

static int masters_load(struct crypt *k, const char *path)
{
    uint8_t text[FILE_MAX];
    int64_t n = keyfile_read(path, text, sizeof text);
    int rc;

    if (n < 0)
        rc = CISTERN_ECONFIG;
    else if (n == CRYPT_KEY)
        rc = master_add(k, text);
    else
        rc = masters_parse(k, text, (size_t)n);
    crypt_wipe(text, sizeof text);
    return rc;
}

/* ---- Memory ---- */

int crypt_open(const char *key_file, uint32_t slots, struct crypt **out)
{
    size_t bytes = sizeof(struct crypt) + (size_t)slots * CRYPT_KEY;
    struct crypt *k = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc;

    if (k == MAP_FAILED)
        return err_set(-ENOMEM, "no address space for keys");
    /* Hints, all three: a kernel that cannot take one still keeps the keys right. */
    (void)madvise(k, bytes, MADV_DONTDUMP);
    (void)madvise(k, bytes, MADV_WIPEONFORK);
    (void)mlock(k, sizeof *k);
    k->bytes = bytes;
    k->slots = slots;
    rc = masters_load(k, key_file);
    if (rc)
        crypt_close(k);
    else
        *out = k;
    return rc;
}

void crypt_close(struct crypt *k)
{
    size_t i, bytes;

    if (!k)
        return;
    bytes = k->bytes;
    for (i = 0; i < k->slots; i++) { /* what was never written stays unmapped */
        static const uint8_t zero[CRYPT_KEY];

        if (memcmp(k->slot[i], zero, CRYPT_KEY) != 0)
            crypt_wipe(k->slot[i], CRYPT_KEY);
    }
    crypt_wipe(k, sizeof *k);
    (void)munmap(k, bytes);
}

void crypt_current(const struct crypt *k, uint8_t id[CRYPT_ID])
{
    memcpy(id, k->master[0].id, CRYPT_ID);
}

static const struct master *master_find(const struct crypt *k, const uint8_t id[CRYPT_ID])
{
    uint32_t i;

    for (i = 0; i < k->masters; i++) {
        if (memcmp(k->master[i].id, id, CRYPT_ID) == 0)
            return &k->master[i];
    }
    return NULL;
}

bool crypt_has(const struct crypt *k, const uint8_t id[CRYPT_ID])
{
    return master_find(k, id) != NULL;
}

void crypt_id_text(const uint8_t id[CRYPT_ID], char out[CRYPT_ID_TEXT])
{
    unsigned i;

    for (i = 0; i < CRYPT_ID; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", id[i]);
}

uint8_t *crypt_slot(struct crypt *k, uint32_t slot)
{
    return k->slot[slot];
}

void crypt_forget(struct crypt *k, uint32_t slot)
{
    crypt_wipe(k->slot[slot], CRYPT_KEY);
}

int crypt_make_key(uint8_t key[CRYPT_KEY])
{
    return getrandom(key, CRYPT_KEY, 0) == CRYPT_KEY ? 0 : err_set(-EIO, "no random bytes");
}

void crypt_wipe(void *secret, size_t len)
{
    OPENSSL_cleanse(secret, len);
}

/* ---- Header pages ---- */

#define WRAP(page, field) ((uint8_t *)(page) + WRAP_AT + offsetof(struct toc_key, field))

int toc_wrap(const struct crypt *k, struct cipher *c, const uint8_t key[CRYPT_KEY], void *page)
{
    int rc = getrandom(WRAP(page, nonce), CRYPT_NONCE, 0) == CRYPT_NONCE ? 0 : -EIO;

    memcpy(WRAP(page, key_id), k->master[0].id, CRYPT_ID);
    if (!rc)
        rc = cipher_begin_at(c, true, k->master[0].key, WRAP(page, nonce), page, WRAPPED_BY);
    if (!rc)
        rc = cipher_add(c, WRAP(page, wrapped), key, CRYPT_KEY);
    if (!rc)
        rc = cipher_seal(c, WRAP(page, tag));
    toc_header_sum(page);
    return rc;
}

void toc_key_id(const void *page, uint8_t id[CRYPT_ID])
{
    memcpy(id, (const uint8_t *)page + WRAP_AT + offsetof(struct toc_key, key_id), CRYPT_ID);
}

int toc_unwrap(const struct crypt *k, struct cipher *c, const void *page, uint8_t key[CRYPT_KEY])
{
    uint8_t copy[WRAP_AT + sizeof(struct toc_key)], plain[CRYPT_KEY];
    const struct master *m;
    char text[CRYPT_ID_TEXT];
    int rc;

    memcpy(copy, page, sizeof copy);
    m = k ? master_find(k, WRAP(copy, key_id)) : NULL;
    if (!m) {
        crypt_id_text(WRAP(copy, key_id), text);
        return err_set(CISTERN_EKEY, "the segment is encrypted with key %s, which was not given",
                       text);
    }
    rc = cipher_begin_at(c, false, m->key, WRAP(copy, nonce), copy, WRAPPED_BY);
    if (!rc)
        rc = cipher_add(c, plain, WRAP(copy, wrapped), CRYPT_KEY);
    if (!rc)
        rc = cipher_check(c, WRAP(copy, tag), CRYPT_TAG);
    if (!rc)
        memcpy(key, plain, CRYPT_KEY);
    crypt_wipe(plain, sizeof plain);
    return rc ? err_set(rc, "the key of the segment was not wrapped by the key that it names") : 0;
}
