/*
 * explain_find.c - goes through the contents of all spaces for some keys, and judges what it finds.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/explain.h"
#include "admin/payload.h"
#include "base/bits.h"
#include "base/hash.h"

/* ---- Finding ---- */

struct search {
    struct explain *x;
    const struct survey_space *space;
    const struct survey_shard *shard;
    const struct survey_segment *segment;
};

/* The first place in `order` whose key is not smaller. */
static size_t order_find(const struct explain *x, const uint8_t key[32])
{
    size_t lo = 0, hi = x->nkeys;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (memcmp(x->keys[x->order[mid]].b, key, 32) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int on_block(void *arg, const struct block_info *b)
{
    const struct search *s = arg;
    struct explain *x = s->x;
    size_t i;

    for (i = order_find(x, b->key); i < x->nkeys && memcmp(x->keys[x->order[i]].b, b->key, 32) == 0;
         i++) {
        struct explain_copy *c = admin_grow(&x->copies, x->ncopies, sizeof *c);

        if (!c)
            return -ENOMEM;
        x->ncopies++;
        *c = (struct explain_copy){
            .key = x->order[i],
            .space = s->space,
            .shard = s->shard,
            .segment = s->segment,
            .info = *b,
            .dead = survey_dead(s->shard, s->segment->header.segment_id, b->key, b->offset)};
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct explain_copy *x = a, *y = b;
    uint64_t s = x->segment->header.created_s, t = y->segment->header.created_s;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (s != t)
        return s > t ? -1 : 1;
    return x->info.offset > y->info.offset ? -1 : x->info.offset < y->info.offset;
}

int explain_find(struct explain *x)
{
    size_t i, j, k;
    int rc = 0;

    for (i = 0; i < x->v.nspaces && !rc; i++) {
        struct search s = {.x = x, .space = &x->v.spaces[i]};

        for (j = 0; j < s.space->nshards && !rc; j++) {
            s.shard = &s.space->shards[j];
            for (k = 0; k < s.shard->nsegments && !rc; k++) {
                s.segment = &s.shard->segments[k];
                if (s.segment->toc_rc || !survey_space_is(s.space, s.segment->header.space))
                    continue;
                rc = survey_blocks(&x->ad, s.shard, s.segment, on_block, &s);
                if (rc == -ENOENT) /* evicted meanwhile */
                    rc = 0;
            }
        }
    }
    if (!rc && x->ncopies)
        qsort(x->copies, x->ncopies, sizeof *x->copies, by_key);
    return rc;
}

size_t explain_first(const struct explain *x, size_t key)
{
    size_t lo = 0, hi = x->ncopies;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (x->copies[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < x->ncopies && x->copies[lo].key == key ? lo : x->ncopies;
}

/* ---- A copy ---- */

/* Reads one part. 0; 1: the file ends inside; a negative errno. */
static int64_t part_read(struct explain *x, struct io_file *f, uint64_t at, uint64_t len,
                         struct payload_part *q)
{
    const uint8_t *bytes;
    int rc;

    while (len) {
        uint32_t take = (uint32_t)min_u64(len, ADMIN_PIECE);
        int64_t n = admin_read(&x->ad, f, at, take, &bytes);

        if (n < 0)
            return n;
        if (n < (int64_t)take)
            return 1;
        if ((rc = payload_part_add(q, bytes, take, NULL)))
            return rc;
        x->read_bytes += take;
        x->ad.done += take;
        admin_pace(&x->ad, take);
        if (admin_progress(&x->ad, "reading"))
            return -ECANCELED;
        at += take;
        len -= take;
    }
    return 0;
}

static int copy_read(struct explain *x, const struct explain_copy *c, struct io_file *f,
                     uint32_t *why, char *detail, size_t size)
{
    uint64_t at = (uint64_t)c->info.offset * FORMAT_PAGE, plain;
    struct check_identity identity;
    struct payload_part q;
    unsigned i;

    for (i = 0; i < c->info.parts; i++) {
        int64_t rc;

        payload_identity(c->segment->header.space, c->segment->header.segment_id, &c->info, i, at,
                         &identity);
        rc = payload_part_begin(&q, &x->ad, c->segment, &identity);
        rc = rc ? rc : part_read(x, f, at, c->info.length[i], &q);
        if (rc == -ETIMEDOUT || rc == -EBUSY || rc == -ECANCELED)
            return (int)rc;
        if (rc) {
            *why = CISTERN_WHY_DATA;
            (void)snprintf(detail, size, "part %u cannot be read: %s", identity.part,
                           rc > 0 ? "the file ends inside it" : cistern_error_string((int)rc));
            return 0;
        }
        if (!payload_part_end(&q, &identity, c->info.check[i], &plain)) {
            *why = CISTERN_WHY_BAD;
            (void)snprintf(detail, size, "the payload of part %u is not what was stored",
                           identity.part);
            return 0;
        }
        at = round_up(at + c->info.length[i], FORMAT_PAGE);
    }
    return 0;
}

/* Is the data there, as long as it must be, and right? */
static int copy_data(struct explain *x, const struct explain_copy *c, uint32_t *why, char *detail,
                     size_t size)
{
    uint64_t last = (uint64_t)c->info.offset * FORMAT_PAGE + block_extent(&c->info) - FORMAT_PAGE;
    struct io_file f = {.fd = -1};
    const uint8_t *bytes;
    char path[ADMIN_PATH];
    int64_t n;
    int rc;

    survey_segment_path(c->shard, c->segment, ".seg", path);
    rc = x->ad.io->ops->file_open(x->ad.io, path, IO_READ, &f);
    if (rc) {
        *why = CISTERN_WHY_DATA;
        (void)snprintf(detail, size, "its data file: %s", cistern_error_string(rc));
        return 0;
    }
    if (x->ad.opt.flags & CISTERN_ADMIN_READ) {
        rc = copy_read(x, c, &f, why, detail, size);
    } else {
        n = admin_read(&x->ad, &f, last, FORMAT_PAGE, &bytes);
        if (n == -ETIMEDOUT || n == -EBUSY)
            rc = (int)n;
        else if (n <= 0) {
            *why = CISTERN_WHY_DATA;
            (void)snprintf(detail, size, "its data file %s",
                           n < 0 ? cistern_error_string((int)n) : "ends before it");
        }
    }
    x->ad.io->ops->file_close(x->ad.io, &f);
    return rc;
}

int explain_judge(struct explain *x, const struct explain_copy *c, uint32_t *why, char *detail,
                  size_t size)
{
    static const char *const reasons[] = {
        "for a reason of a later version", "because it was deleted",
        "because its checksum was wrong", "because its length was wrong",
        "because storage could not read it"};

    *why = CISTERN_WHY_HERE;
    (void)snprintf(detail, size, "stored%s",
                   x->ad.opt.flags & CISTERN_ADMIN_READ ? ", and its payload verifies" : "");
    if (c->segment->aside) {
        *why = CISTERN_WHY_ASIDE;
        (void)snprintf(detail, size, "its segment was set aside");
        return 0;
    }
    if (c->dead) {
        *why = CISTERN_WHY_DEAD;
        (void)snprintf(detail, size, "declared dead %s",
                       reasons[c->dead < ARRAY_LEN(reasons) ? c->dead : 0]);
        return 0;
    }
    return copy_data(x, c, why, detail, size);
}

/* ---- Nothing ---- */

static json_t *json_of(const struct survey_space *sp)
{
    return sp->json_len > 0 ? json_loadb(sp->json, (size_t)sp->json_len, 0, NULL) : NULL;
}

static void value_text(const json_t *object, const char *name, char *out, size_t size)
{
    const json_t *v = json_object_get(object, name);
    size_t n = v ? json_dumpb(v, out, size - 1, JSON_ENCODE_ANY | JSON_COMPACT) : 0;

    if (v)
        out[n < size ? n : size - 1] = 0;
    else
        (void)snprintf(out, size, "absent");
}

/* The first member that differs, in the order of names. */
static void space_differs(const struct survey_space *there, const struct survey_space *here,
                          char *detail, size_t size)
{
    json_t *a = json_of(there), *b = json_of(here), *value;
    const char *name, *best = NULL;
    char x[128], y[128];

    json_object_foreach(a, name, value)
    {
        if (!json_equal(value, json_object_get(b, name)) && (!best || strcmp(name, best) < 0))
            best = name;
    }
    (void)snprintf(detail, size, "stored in the space %.160s", there->name);
    if (best) {
        value_text(a, best, x, sizeof x);
        value_text(b, best, y, sizeof y);
        (void)snprintf(detail, size, "stored in the space %.160s: %.64s is %s there, %s here",
                       there->name, best, x, y);
    }
    json_decref(a);
    json_decref(b);
}

/* Is the salt younger than everything that is stored in the space? */
static bool salt_is_younger(const struct explain *x)
{
    uint64_t blocks = 0, latest = 0;
    size_t i, j;

    for (i = 0; i < x->space->nshards; i++)
        for (j = 0; j < x->space->shards[i].nsegments; j++) {
            const struct survey_segment *s = &x->space->shards[i].segments[j];

            if (s->toc_rc)
                continue;
            blocks += s->cursor.blocks;
            latest = max_u64(latest, s->header.created_s);
        }
    return blocks && x->v.has_salt && x->v.salt_stat.mtime_s > latest;
}

uint32_t explain_absent(const struct explain *x, size_t key, const struct explain_copy **where,
                        char *detail, size_t size)
{
    size_t i = explain_first(x, key);

    *where = NULL;
    if (i < x->ncopies) { /* copies of this space would have been judged */
        *where = &x->copies[i];
        space_differs(x->copies[i].space, x->space, detail, size);
        return CISTERN_WHY_SPACE;
    }
    if (x->nkeys > x->nprompt && (i = explain_first(x, x->nprompt + key)) < x->ncopies) {
        *where = &x->copies[i];
        (void)snprintf(detail, size,
                       "these tokens are stored without the tenant, adapter or content that was "
                       "given");
        return CISTERN_WHY_SALT;
    }
    if (salt_is_younger(x)) {
        (void)snprintf(detail, size,
                       "nothing is stored under this key, and the salt is younger than everything "
                       "that the space holds: it was replaced, and nobody asks for the keys of the "
                       "earlier one");
        return CISTERN_WHY_SALT;
    }
    return explain_lost(x, key, detail, size);
}
