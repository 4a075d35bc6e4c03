/*
 * sealed.c - see sealed.h. Host memory is encrypted and decrypted on the way, in pieces that the
 * cache holds; other memory is copied whole, and staging is worked on in place: what a device gets
 * was verified before.
 */
#include "engine/sealed.h"

#include <errno.h>

#include "base/bits.h"
#include "cistern.h"

#define PIECE_BYTES (32u << 10) /* through the cipher at a time */

int sealed_open(cistern *c)
{
    int rc;

    if (!c->cfg.encryption_key_file[0])
        return 0;
    rc = crypt_open(c->cfg.encryption_key_file, SEGTAB_MAX, &c->crypt);
    return rc ? rc : cipher_open(&c->keeper.cipher);
}

void sealed_close(cistern *c)
{
    cipher_close(c->keeper.cipher);
    crypt_close(c->crypt);
    c->keeper.cipher = NULL;
    c->crypt = NULL;
}

int sealed_cursor(const cistern *c, const void *page, const struct toc_header *h,
                  struct toc_cursor *cursor, uint8_t key[CRYPT_KEY])
{
    int rc;

    toc_cursor_init(cursor, h->segment_id);
    cursor->encrypted = (h->flags & TOC_ENCRYPTED) != 0;
    if (!cursor->encrypted)
        return c->crypt ? -EBADMSG : 0;
    rc = toc_unwrap(c->crypt, c->keeper.cipher, page, key);
    cursor->key = rc ? NULL : key;
    cursor->cipher = c->keeper.cipher;
    return rc;
}

static int add_pieces(struct cipher *cipher, uint8_t *to, const uint8_t *from, uint64_t len)
{
    uint64_t at, n;
    int rc = 0;

    for (at = 0; at < len && !rc; at += n) {
        n = min_u64(PIECE_BYTES, len - at);
        rc = cipher_add(cipher, to + at, from + at, n);
    }
    return rc;
}

int sealed_gather(const struct mem_ops *m, struct cipher *cipher, const uint8_t *key,
                  const struct check_identity *id, void *staging, const struct cistern_span *s,
                  uint64_t *check)
{
    bool host = mem_is_host(m);
    uint8_t *to = staging;
    uint32_t i;
    int rc = 0;

    for (i = 0; i < s->count && !host && !rc; i++) { /* before a nonce is used up */
        rc = m->copy_in(to, s->vecs[i].base, s->vecs[i].len);
        to += s->vecs[i].len;
    }
    if (rc || (rc = part_begin(cipher, true, key, id)))
        return rc;
    to = staging;
    for (i = 0; i < s->count && !rc; i++) {
        rc = add_pieces(cipher, to, host ? s->vecs[i].base : to, s->vecs[i].len);
        to += s->vecs[i].len;
    }
    return rc ? rc : part_seal(cipher, check);
}

int sealed_scatter(const struct mem_ops *m, struct cipher *cipher, const uint8_t *key,
                   const struct check_identity *id, uint8_t *staging, const struct cistern_span *s,
                   uint64_t check)
{
    bool host = mem_is_host(m);
    uint8_t *from = staging;
    uint32_t i;
    int rc = part_begin(cipher, false, key, id);

    for (i = 0; i < s->count && !rc; i++) {
        rc = add_pieces(cipher, host ? s->vecs[i].base : from, from, s->vecs[i].len);
        from += s->vecs[i].len;
    }
    rc = rc ? rc : part_check(cipher, check);
    from = staging;
    for (i = 0; i < s->count && !host && !rc; i++) {
        rc = m->copy_out(s->vecs[i].base, from, s->vecs[i].len);
        from += s->vecs[i].len;
    }
    return rc;
}
