/*
 * verify.c - cistern_verify(): reads every payload that somebody may be given. Writes nothing.
 */
#include <errno.h>
#include <string.h>

#include "admin/payload.h"
#include "base/clock.h"
#include "engine/config.h"

struct verify {
    struct admin ad;
    struct survey v;
    int (*callback)(void *arg, const struct cistern_verify_item *item);
    void *arg;
    struct cistern_verify_sum sum;
};

/* Why a segment is left out; NULL: it is not. *unreadable: that is a finding. */
static const char *left_out(const struct survey_space *sp, const struct survey_segment *seg,
                            bool *unreadable)
{
    *unreadable = false;
    if (seg->toc_rc == -ENODATA || seg->toc_rc == -ENOENT)
        return "nothing was published in it";
    if (seg->toc_rc == CISTERN_EFORMAT)
        return "of a later version";
    *unreadable = true;
    if (seg->toc_rc)
        return seg->toc_text;
    if (!survey_space_is(sp, seg->header.space))
        return "its contents belong to another space";
    *unreadable = false;
    return seg->aside ? "it was set aside" : NULL;
}

static int tell_bad(struct verify *k, const struct cistern_verify_item *segment,
                    const struct payload_block *b, const struct payload_verdict *v)
{
    struct cistern_verify_item item = *segment;

    item.state = v->state;
    item.part = v->part;
    item.offset = v->offset;
    item.length = v->length;
    item.error = v->error;
    memcpy(item.key.b, b->info.key, sizeof item.key.b);
    return admin_answer(&k->ad, k->callback(k->arg, &item));
}

static int verify_blocks(struct verify *k, struct payload *p, struct cistern_verify_item *item)
{
    const struct cistern_verify_item segment = *item;
    struct payload_verdict verdict;
    size_t i;
    int rc = 0;

    for (i = 0; i < p->count && !rc; i++) {
        const struct payload_block *b = &p->blocks[i];

        item->blocks++;
        if (b->dead) {
            item->dead++;
            continue;
        }
        if ((rc = payload_check(p, b, NULL, &verdict)))
            break;
        k->ad.done += payload_bytes(&b->info);
        if (!verdict.state) {
            item->bytes += payload_bytes(&b->info);
            continue;
        }
        item->bad++;
        rc = tell_bad(k, &segment, b, &verdict);
    }
    return rc;
}

static int verify_segment(struct verify *k, const struct survey_space *sp,
                          const struct survey_shard *sh, const struct survey_segment *seg)
{
    char path[ADMIN_PATH];
    struct cistern_verify_item item = {
        .space = sp->name, .path = path, .shard = sh->shard, .note = ""};
    struct payload p = {.file = {.fd = -1}};
    const char *why;
    bool unreadable;
    int rc = 0;

    survey_segment_path(sh, seg, ".seg", path);
    why = left_out(sp, seg, &unreadable);
    if (!why) {
        rc = payload_open(&p, &k->ad, sh, seg);
        if (!rc)
            rc = verify_blocks(k, &p, &item);
        rc = payload_close(&p, rc);
        if (rc == -ENOENT) { /* evicted meanwhile */
            why = "it went away";
            rc = 0;
        } else if (rc && !admin_ends_all(rc)) {
            why = "its contents cannot be read";
            unreadable = true;
            rc = 0;
        }
    }
    if (rc)
        return rc;
    k->sum.segments++;
    k->sum.unreadable += unreadable;
    k->sum.blocks += item.blocks;
    k->sum.dead += item.dead;
    k->sum.bad_blocks += item.bad;
    k->sum.bytes += item.bytes;
    item.segment_done = 1;
    item.note = why ? why : seg->end == TOC_TORN ? "its contents end torn" : "";
    return admin_answer(&k->ad, k->callback(k->arg, &item));
}

static int verify_run(struct verify *k)
{
    uint64_t begin = clock_ns();
    size_t i, j, n;
    int rc = survey_take(&k->ad, true, &k->v);

    rc = rc ? rc : survey_unlocked(&k->v);
    k->ad.done = k->ad.total = 0;
    for (i = 0; i < k->v.nspaces; i++)
        for (j = 0; j < k->v.spaces[i].nshards; j++)
            for (n = 0; n < k->v.spaces[i].shards[j].nsegments; n++)
                k->ad.total += k->v.spaces[i].shards[j].segments[n].payload_bytes;
    for (i = 0; i < k->v.nspaces && !rc; i++)
        for (j = 0; j < k->v.spaces[i].nshards && !rc; j++) {
            const struct survey_shard *sh = &k->v.spaces[i].shards[j];

            for (n = 0; n < sh->nsegments && !rc; n++)
                rc = verify_segment(k, &k->v.spaces[i], sh, &sh->segments[n]);
        }
    k->sum.nanoseconds = clock_ns() - begin;
    return rc;
}

int cistern_verify(const struct cistern_admin *a,
                   int (*callback)(void *arg, const struct cistern_verify_item *item), void *arg,
                   struct cistern_verify_sum *sum)
{
    struct verify k = {.callback = callback, .arg = arg};
    struct cistern_verify_sum own;
    int rc;

    if (!callback || (sum && config_take_struct(&own, sizeof own, sum)))
        return err_set(-EINVAL, "callback is NULL, or the sum's size is not set");
    if ((rc = admin_open(&k.ad, a)))
        return rc;
    rc = admin_result(&k.ad, verify_run(&k));
    survey_free(&k.v);
    admin_close(&k.ad);
    if (!rc && sum)
        admin_give(sum, &k.sum, sizeof k.sum);
    return rc;
}
