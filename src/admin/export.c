/*
 * export.c - cistern_export(): one space as a stream. A segment's contents go first and name what
 * follows; a block that turns out bad on the way has an empty body instead. The stream is plain: an
 * encrypted segment is read twice, first for the checks that its blocks have without encryption.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/container.h"
#include "admin/payload.h"
#include "base/clock.h"
#include "base/le.h"
#include "engine/config.h"

struct export
{
    struct admin ad;
    struct survey v;
    int (*write)(void *arg, const void *data, size_t len);
    void *arg;
    uint64_t number; /* of the next member */
    uint8_t *block;  /* owned: payload of one block */
    uint64_t room;
    bool encrypted; /* the root is */
    struct cistern_transfer_sum sum;
};

static int put_bytes(struct export *x, const void *data, size_t len)
{
    return len ? admin_answer(&x->ad, x->write(x->arg, data, len)) : 0;
}

static int put_member(struct export *x, uint32_t kind, const void *body, uint64_t len)
{
    struct member_header h = {
        .magic = MEMBER_MAGIC, .kind = kind, .number = x->number++, .length = len};
    struct hash64_state state;
    uint8_t bytes[32];
    int rc;

    member_hash_begin(&state, &h);
    hash64_add(&state, body, len);
    h.checksum = hash64_end(&state);
    member_header_encode(&h, bytes);
    rc = put_bytes(x, bytes, sizeof bytes);
    return rc ? rc : put_bytes(x, body, len);
}

static int put_header(struct export *x)
{
    const struct root_params params = {.may_write = false, .crypt = x->ad.crypt};
    struct container_header h = {.created_s = clock_wall_s()};
    struct root_info root;
    uint8_t bytes[128];
    int rc = root_prepare(x->ad.io, x->ad.cfg.root, &params, &root);

    if (rc || (rc = container_salt_id(root.salt, h.salt_id)))
        return rc;
    x->encrypted = root.encrypted;
    if (x->ad.opt.flags & CISTERN_ADMIN_SALT) {
        h.flags = CONTAINER_SALT;
        memcpy(h.salt, root.salt, sizeof h.salt);
    }
    container_header_encode(&h, bytes);
    return put_bytes(x, bytes, sizeof bytes);
}

/* The contents of a segment, less what is dead; *blocks: how many they name. */
static int put_contents(struct export *x, const struct payload *p, uint64_t *blocks)
{
    struct toc_header header = p->seg->header;
    struct contents_out out;
    size_t i;
    int rc;

    header.flags = 0;
    rc = contents_out_begin(&out, &header, NULL);
    *blocks = 0;
    for (i = 0; i < p->count && !rc; i++) {
        if (p->blocks[i].dead)
            continue;
        ++*blocks;
        rc = contents_out_block(&out, p->blocks[i].plain ? p->blocks[i].plain : &p->blocks[i].info);
    }
    rc = rc ? rc : contents_out_end(&out);
    if (!rc && *blocks)
        rc = put_member(x, MEMBER_CONTENTS, out.bytes, out.len);
    contents_out_free(&out);
    return rc;
}

/* Room for the payload of a block. */
static int block_room(struct export *x, uint64_t len)
{
    if (len > x->room) {
        free(x->block);
        x->room = 0;
        x->block = malloc(len);
        if (!x->block)
            return err_set(-ENOMEM, "no memory for a block of %llu bytes", (unsigned long long)len);
        x->room = len;
    }
    return 0;
}

/* The blocks of an encrypted segment as they would be recorded in a plain one. One that is bad now
 * keeps the check that it has: it is not in the stream. */
static int find_plain(struct payload *p)
{
    struct payload_verdict verdict;
    size_t i;
    int rc = 0;

    for (i = 0; i < p->count && !rc; i++) {
        struct payload_block *b = &p->blocks[i];

        if (b->dead)
            continue;
        if (!(b->plain = malloc(sizeof *b->plain)))
            return err_set(-ENOMEM, "no memory for an export");
        *b->plain = b->info;
        rc = payload_check(p, b, NULL, &verdict);
        if (!rc && !verdict.state)
            memcpy(b->plain->check, verdict.plain, sizeof b->plain->check);
    }
    return rc;
}

static int put_block(struct export *x, struct payload *p, const struct payload_block *b)
{
    uint64_t len = payload_bytes(&b->info);
    struct payload_verdict verdict;
    int rc = block_room(x, len);

    if (rc || (rc = payload_check(p, b, x->block, &verdict)))
        return rc;
    x->ad.done += len;
    if (verdict.state) {
        x->sum.skipped++;
        return put_member(x, MEMBER_BLOCK, NULL, 0);
    }
    x->sum.blocks++;
    x->sum.bytes += len;
    return put_member(x, MEMBER_BLOCK, x->block, len);
}

static int put_segment(struct export *x, const struct survey_shard *sh,
                       const struct survey_segment *seg)
{
    struct payload p = {.file = {.fd = -1}};
    uint64_t blocks = 0;
    size_t i;
    int rc = payload_open(&p, &x->ad, sh, seg);

    if (rc) {
        rc = payload_close(&p, rc);
        return rc == -ENOENT ? 0 : rc; /* evicted meanwhile */
    }
    if (seg->cursor.encrypted)
        rc = find_plain(&p);
    rc = rc ? rc : put_contents(x, &p, &blocks);
    for (i = 0; i < p.count && !rc; i++)
        if (!p.blocks[i].dead)
            rc = put_block(x, &p, &p.blocks[i]);
    x->sum.segments += blocks > 0;
    return payload_close(&p, rc);
}

static int put_space(struct export *x, const struct survey_space *sp)
{
    size_t i, j;
    int rc = put_header(x);

    rc = rc ? rc : put_member(x, MEMBER_SPACE, sp->json, (uint64_t)sp->json_len);
    for (i = 0; i < sp->nshards && !rc; i++) {
        const struct survey_shard *sh = &sp->shards[i];

        for (j = 0; j < sh->nsegments && !rc; j++) {
            const struct survey_segment *seg = &sh->segments[j];

            if (!seg->toc_rc && !seg->aside && survey_space_is(sp, seg->header.space) &&
                (seg->cursor.encrypted || !x->encrypted)) /* nobody believes the others */
                rc = put_segment(x, sh, seg);
        }
    }
    return rc;
}

static int put_end(struct export *x)
{
    uint8_t body[24];

    le64_store(body, x->sum.segments);
    le64_store(body + 8, x->sum.blocks);
    le64_store(body + 16, x->sum.bytes);
    return put_member(x, MEMBER_END, body, sizeof body);
}

static int export_run(struct export *x)
{
    const struct survey_space *sp;
    size_t i, j;
    int rc = survey_take(&x->ad, true, &x->v);

    if (rc || (rc = survey_unlocked(&x->v)) || (rc = survey_one(&x->ad, &x->v, &sp)))
        return rc;
    if (sp->inspect_rc || !survey_space_is(sp, sp->fingerprint))
        return err_set(CISTERN_ESPACE,
                       "%s: its space.json is missing, damaged or another's; open the space once, "
                       "which mends it",
                       sp->name);
    x->ad.done = x->ad.total = 0;
    for (i = 0; i < sp->nshards; i++)
        for (j = 0; j < sp->shards[i].nsegments; j++)
            x->ad.total += sp->shards[i].segments[j].payload_bytes;
    (void)memcpy(x->sum.space, sp->name,
                 strnlen(sp->name, sizeof x->sum.space - 1)); /* zero behind it */
    rc = put_space(x, sp);
    return rc ? rc : put_end(x);
}

int cistern_export(const struct cistern_admin *a,
                   int (*write)(void *arg, const void *data, size_t len), void *arg,
                   struct cistern_transfer_sum *sum)
{
    struct export x = {.write = write, .arg = arg};
    struct cistern_transfer_sum own;
    int rc;

    if (!write || (sum && config_take_struct(&own, sizeof own, sum)))
        return err_set(-EINVAL, "write is NULL, or the sum's size is not set");
    if ((rc = admin_open(&x.ad, a)))
        return rc;
    rc = admin_result(&x.ad, export_run(&x));
    free(x.block);
    survey_free(&x.v);
    admin_close(&x.ad);
    if (!rc && sum)
        admin_give(sum, &x.sum, sizeof x.sum);
    return rc;
}
