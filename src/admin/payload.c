/*
 * payload.c - reads payloads through the ring, a MiB at a time and ahead, and checks them.
 *
 * Parts are hashed as their pieces come by, so a block may be larger than what is in flight. What
 * storage refuses is the verdict on a block; storage that does not answer ends everything.
 */
#include "admin/payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/hash.h"

#define DECRYPT_BYTES (16u << 10)

struct gathering {
    struct payload *p;
    const struct survey_shard *sh;
};

static int on_block(void *arg, const struct block_info *b)
{
    struct gathering *g = arg;
    struct payload *p = g->p;
    struct payload_block *one = admin_grow(&p->blocks, p->count, sizeof *one);

    if (!one)
        return -ENOMEM;
    p->count++;
    one->info = *b;
    one->dead = survey_dead(g->sh, p->seg->header.segment_id, b->key, b->offset);
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct payload_block *x = a, *y = b;

    return x->info.offset < y->info.offset ? -1 : x->info.offset > y->info.offset;
}

uint64_t payload_bytes(const struct block_info *b)
{
    uint64_t bytes = 0;
    unsigned i;

    for (i = 0; i < b->parts; i++)
        bytes += b->length[i];
    return bytes;
}

/* Every piece that a living block touches, once. */
static int make_plan(struct payload *p)
{
    uint64_t next = 0, *one;
    size_t i;

    for (i = 0; i < p->count; i++) {
        const struct block_info *b = &p->blocks[i].info;
        uint64_t from = (uint64_t)b->offset * FORMAT_PAGE, piece;

        if (p->blocks[i].dead)
            continue;
        for (piece = max_u64(next, from / ADMIN_PIECE);
             piece <= (from + block_extent(b) - 1) / ADMIN_PIECE; piece++) {
            one = admin_grow(&p->plan, p->nplan, sizeof *one);
            if (!one)
                return -ENOMEM;
            p->nplan++;
            *one = piece;
            next = piece + 1;
        }
    }
    return 0;
}

int payload_open(struct payload *p, struct admin *ad, const struct survey_shard *sh,
                 const struct survey_segment *seg)
{
    struct gathering g = {.p = p, .sh = sh};
    char path[ADMIN_PATH];
    int rc;

    *p = (struct payload){.ad = ad, .seg = seg, .file = {.fd = -1}};
    rc = survey_blocks(ad, sh, seg, on_block, &g);
    if (rc)
        return rc;
    if (p->count)
        qsort(p->blocks, p->count, sizeof *p->blocks, by_offset);
    if ((rc = make_plan(p)))
        return rc;
    survey_segment_path(sh, seg, ".seg", path);
    p->open_rc = ad->io->ops->file_open(ad->io, path, IO_READ | IO_DIRECT, &p->file);
    admin_stream_begin(&p->stream, ad, &p->file, p->plan, p->nplan);
    return 0;
}

int payload_close(struct payload *p, int rc)
{
    int end = p->ad ? admin_stream_end(&p->stream) : 0;
    size_t i;

    if (p->file.fd >= 0 && !end)
        p->ad->io->ops->file_close(p->ad->io, &p->file);
    for (i = 0; i < p->count; i++)
        free(p->blocks[i].plain);
    free(p->blocks);
    free(p->plan);
    *p = (struct payload){.file = {.fd = -1}};
    return rc ? rc : end;
}

void payload_identity(const uint8_t space[32], const uint8_t segment_id[16],
                      const struct block_info *b, unsigned i, uint64_t at,
                      struct check_identity *out)
{
    uint32_t mask = b->mask;

    *out = (struct check_identity){.offset = at, .length = b->length[i]};
    while (i--)
        mask &= mask - 1;
    out->part = (uint32_t)__builtin_ctz(mask);
    memcpy(out->space, space, 32);
    memcpy(out->segment_id, segment_id, 16);
    memcpy(out->key, b->key, 32);
}

static size_t plan_find(const struct payload *p, uint64_t piece)
{
    size_t lo = 0, hi = p->nplan;

    while (lo + 1 < hi) {
        size_t mid = (lo + hi) / 2;

        if (p->plan[mid] <= piece)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

int payload_part_begin(struct payload_part *q, struct admin *ad, const struct survey_segment *seg,
                       const struct check_identity *identity)
{
    q->ad = ad;
    q->encrypted = seg->cursor.encrypted;
    hash64_begin(&q->state);
    return q->encrypted ? part_begin(ad->cipher, false, seg->key, identity) : 0;
}

int payload_part_add(struct payload_part *q, const uint8_t *bytes, size_t len, uint8_t *into)
{
    uint8_t piece[DECRYPT_BYTES];
    int rc = 0;

    if (!q->encrypted) {
        hash64_add(&q->state, bytes, len);
        if (into)
            memcpy(into, bytes, len);
        return 0;
    }
    while (len && !rc) {
        size_t n = min_u64(len, sizeof piece);
        uint8_t *to = into ? into : piece;

        rc = cipher_add(q->ad->cipher, to, bytes, n);
        hash64_add(&q->state, to, n);
        bytes += n;
        len -= n;
        into = into ? into + n : NULL;
    }
    return rc;
}

bool payload_part_end(struct payload_part *q, const struct check_identity *identity, uint64_t check,
                      uint64_t *plain)
{
    *plain = format_check(identity, hash64_end(&q->state));
    return q->encrypted ? part_check(q->ad->cipher, check) == 0 : *plain == check;
}

/* Reads one part. 0; 1: the file ends inside it; a negative errno. */
static int64_t part_read(struct payload *p, uint64_t at, uint64_t len, uint8_t *into,
                         struct payload_part *q)
{
    const uint8_t *bytes;
    int rc;

    while (len) {
        uint64_t skip = at % ADMIN_PIECE, take = min_u64(len, ADMIN_PIECE - skip);
        int64_t n = admin_stream_piece(&p->stream, plan_find(p, at / ADMIN_PIECE), &bytes);

        if (n < 0)
            return n;
        if ((uint64_t)n < skip + take)
            return 1;
        if ((rc = payload_part_add(q, bytes + skip, take, into)))
            return rc;
        into = into ? into + take : NULL;
        at += take;
        len -= take;
    }
    return 0;
}

int payload_check(struct payload *p, const struct payload_block *b, uint8_t *into,
                  struct payload_verdict *out)
{
    uint64_t at = (uint64_t)b->info.offset * FORMAT_PAGE;
    struct check_identity identity;
    struct payload_part q;
    unsigned i;

    *out = (struct payload_verdict){.offset = at, .length = b->info.length[0]};
    if (p->open_rc) {
        out->state = p->open_rc == -ENOENT ? CISTERN_BLOCK_MISSING : CISTERN_BLOCK_IO;
        out->error = p->open_rc;
        return 0;
    }
    for (i = 0; i < b->info.parts && !out->state; i++) {
        int64_t rc;

        payload_identity(p->seg->header.space, p->seg->header.segment_id, &b->info, i, at,
                         &identity);
        rc = payload_part_begin(&q, p->ad, p->seg, &identity);
        rc = rc ? rc : part_read(p, at, b->info.length[i], into, &q);
        if (rc == -ETIMEDOUT || rc == -EBUSY || rc == -ECANCELED)
            return (int)rc;
        out->part = identity.part;
        out->offset = at;
        out->length = b->info.length[i];
        if (rc)
            out->state = rc > 0 ? CISTERN_BLOCK_SHORT : CISTERN_BLOCK_IO;
        else if (!payload_part_end(&q, &identity, b->info.check[i], &out->plain[i]))
            out->state = CISTERN_BLOCK_CHECKSUM;
        out->error = rc < 0 ? (int)rc : 0;
        at = round_up(at + b->info.length[i], FORMAT_PAGE);
        if (into)
            into += b->info.length[i];
    }
    return 0;
}
