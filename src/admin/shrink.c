/*
 * shrink.c - cistern_shrink(): evicts down to a size, now, by the policy that engines evict by.
 *
 * Only sealed segments go, those that writers may evict of each other: of writers that closed or
 * are silent, and all but the last two of those that live, in the two steps of leave.h.
 *
 * Nothing can be written again from here: a segment with a pinned block stays, and so does one that
 * says of others that they are not to be used, unless those go before it. Contents go in the order
 * in which they were chosen, so that wherever it ends, by a kill or by what cannot be removed,
 * nothing that was deleted is there without the word that it was. Who cannot tell what a segment
 * says leaves it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/contents.h"
#include "admin/leave.h"
#include "admin/pins.h"
#include "base/bits.h"
#include "engine/config.h"
#include "engine/policy.h"

struct shrink {
    struct remover r;
    struct cistern_shrink how;
    struct cistern_shrink_sum sum;
    struct leaver *at; /* owned, like all below */
    struct policy_segment *segs;
    size_t count;
    size_t *order;          /* of sum.segments that are chosen */
    struct pins_keys *pins; /* of each space */
    size_t npins;
};

/* ---- Segments as the policy sees them ---- */

static bool space_lives(const struct survey_space *sp)
{
    size_t i, j;

    for (i = 0; i < sp->nshards; i++)
        for (j = 0; j < sp->shards[i].nwriters; j++)
            if (!survey_ended(sp->shards[i].writers[j].state))
                return true;
    return false;
}

static uint64_t space_newest(const struct survey_space *sp)
{
    uint64_t newest = 0;
    size_t i, j;

    for (i = 0; i < sp->nshards; i++)
        for (j = 0; j < sp->shards[i].nwriters; j++)
            if (!sp->shards[i].writers[j].head_rc)
                newest = max_u64(newest, sp->shards[i].writers[j].head.written_s);
    return newest;
}

/* As engine/usage.c ranks them. */
static uint32_t space_rank(const struct survey *v, const struct survey_space *sp)
{
    uint32_t rank = 1;
    size_t i;

    if (sp->retired)
        return POLICY_RANK_EXPIRED;
    if (space_lives(sp))
        return 0;
    for (i = 0; i < v->nspaces; i++)
        rank += !space_lives(&v->spaces[i]) && space_newest(&v->spaces[i]) > space_newest(sp);
    return rank;
}

static void describe(const struct shrink *s, size_t i, uint32_t rank, struct survey_writer *w)
{
    const struct leaver *c = &s->at[i];
    const struct survey_segment *seg = c->segment;
    bool known = w->has_head && !w->head_rc;
    uint64_t back =
        known && seg->seq < w->head.next_seq ? w->head.next_seq - 1 - seg->seq : HEAD_TOUCHES_MAX;

    s->segs[i] = (struct policy_segment){
        .number = i,
        .rank = rank,
        .flags = (leave_sealed(seg, w) && seg->has_toc && seg->has_data ? 0 : POLICY_PINNED) |
                 (survey_ended(w->state) ? POLICY_SILENT : 0),
        .generation = known && w->head.generation == POLICY_OLD ? POLICY_OLD : POLICY_YOUNG,
        .idle = POLICY_UNKNOWN,
        .bytes = c->bytes,
        .live_bytes = seg->data_stat.disk_bytes,
        .touches = back < HEAD_TOUCHES_MAX ? w->touches[back] : 0,
        .blocks = (uint32_t)min_u64(seg->cursor.blocks, UINT32_MAX),
    };
}

static int by_time(const void *x, const void *y, void *arg)
{
    const struct leaver *at = arg;
    const struct survey_segment *a = at[*(const size_t *)x].segment,
                                *b = at[*(const size_t *)y].segment;

    if (a->toc_stat.mtime_s != b->toc_stat.mtime_s)
        return a->toc_stat.mtime_s > b->toc_stat.mtime_s ? -1 : 1;
    if (a->writer == b->writer && a->seq != b->seq)
        return a->seq > b->seq ? -1 : 1;
    return *(const size_t *)x < *(const size_t *)y ? -1 : 1;
}

/* Age is what is younger, in bytes. */
static int date(struct shrink *s)
{
    size_t *order = calloc(s->count + 1, sizeof *order), i;
    uint64_t age = 0;

    if (!order)
        return err_set(-ENOMEM, "no memory for %zu segments", s->count);
    for (i = 0; i < s->count; i++)
        order[i] = i;
    qsort_r(order, s->count, sizeof *order, by_time, s->at);
    for (i = 0; i < s->count; i++) {
        s->segs[order[i]].age = age;
        age += s->at[order[i]].segment->data_stat.disk_bytes;
    }
    free(order);
    return 0;
}

/* Of spaces that are not asked for too: they are what the others are compared with. */
static int list_shard(struct shrink *s, const struct survey_space *sp, struct survey_shard *sh)
{
    uint32_t rank = space_rank(&s->r.v, sp);
    size_t i;

    for (i = 0; i < sh->nsegments; i++) {
        const struct survey_segment *seg = &sh->segments[i];
        struct leaver *c = admin_grow(&s->at, s->count, sizeof *s->at);
        struct policy_segment *p = admin_grow(&s->segs, s->count, sizeof *s->segs);

        if (!c || !p)
            return -ENOMEM;
        *c = (struct leaver){.space = sp,
                             .shard = sh,
                             .segment = seg,
                             .bytes = seg->toc_stat.disk_bytes + seg->data_stat.disk_bytes,
                             .why = "evicted"};
        describe(s, s->count, rank, survey_writer_of(sh, seg->writer));
        if (!admin_wants_space(&s->r.ad, sp->name))
            s->segs[s->count].flags |= POLICY_PINNED;
        s->count++;
    }
    return 0;
}

static int list_all(struct shrink *s)
{
    struct survey *v = &s->r.v;
    size_t i, j;
    int rc = 0;

    free(s->at);
    free(s->segs);
    free(s->order);
    s->at = NULL;
    s->segs = NULL;
    s->order = NULL;
    s->count = 0;
    for (i = 0; i < v->nspaces && !rc; i++)
        for (j = 0; j < v->spaces[i].nshards && !rc; j++)
            rc = list_shard(s, &v->spaces[i], &v->spaces[i].shards[j]);
    if (!rc && !(s->order = calloc(s->count + 1, sizeof *s->order)))
        rc = err_set(-ENOMEM, "no memory for %zu segments", s->count);
    return rc ? rc : date(s);
}

/* ---- What has to stay ---- */

struct looking {
    const struct shrink *s;
    const struct leaver *c;
    const struct pins_keys *pins;
};

static int on_block(void *arg, const struct block_info *b)
{
    const struct looking *l = arg;

    return pins_keys_have(l->pins, b->key) ? -EEXIST : 0;
}

/* Another segment of the shard that is there and does not go before, of which this one says
 * something; or may be it. */
static int on_dead(void *arg, const uint8_t key[32], const uint8_t id[16], uint32_t offset,
                   uint8_t reason)
{
    const struct looking *l = arg;
    size_t i;

    (void)key;
    (void)offset;
    (void)reason;
    for (i = 0; i < l->s->count; i++) {
        const struct leaver *o = &l->s->at[i];

        if (o == l->c || o->shard != l->c->shard || o->chosen)
            continue;
        if (survey_unread(o->segment) ||
            (!o->segment->toc_rc && memcmp(o->segment->header.segment_id, id, 16) == 0))
            return -EEXIST;
    }
    return 0;
}

static int on_aside(void *arg, const uint8_t id[16], uint8_t reason)
{
    static const uint8_t none[32];

    return on_dead(arg, none, id, 0, reason);
}

/* 1: it stays; 0: it may go. */
static int has_to_stay(struct shrink *s, size_t i)
{
    const struct leaver *c = &s->at[i];
    struct looking l = {.s = s, .c = c, .pins = &s->pins[c->space - s->r.v.spaces]};
    const struct toc_sink sink = {.block = on_block, .dead = on_dead, .aside = on_aside, .arg = &l};
    struct survey_segment again = {
        .writer = c->segment->writer, .seq = c->segment->seq, .toc_stat = c->segment->toc_stat};
    const struct pins_keys none = {0};
    int rc;

    if (s->segs[i].rank == POLICY_RANK_EXPIRED)
        l.pins = &none;
    if (c->segment->locked) /* nobody can tell without its key */
        return 1;
    if (!l.pins->count && !c->segment->marks && !survey_unread(c->segment))
        return 0;
    if ((rc = contents_read(&s->r.ad, c->shard, &again, &sink)))
        return rc;
    return survey_unread(&again);
}

/* ---- Choosing ---- */

/* What would be there if all that is chosen were gone. */
static uint64_t bytes_left(const struct shrink *s)
{
    return s->sum.used_bytes - s->sum.bytes;
}

static int choose(struct shrink *s)
{
    struct policy_history none = {0};
    struct policy_params params;
    int rc;

    policy_defaults(&params, max_u64(s->how.to_bytes, 1));
    while (bytes_left(s) > s->how.to_bytes) {
        size_t v = policy_choose(s->segs, s->count, &params, &none);

        if (v == POLICY_NONE)
            break;
        s->segs[v].flags |= POLICY_PINNED;
        if ((rc = has_to_stay(s, v)) < 0)
            return rc;
        if (rc) {
            s->sum.kept++;
            continue;
        }
        s->at[v].chosen = true;
        s->order[s->sum.segments++] = v;
        s->sum.bytes += s->at[v].bytes;
    }
    return 0;
}

static void pins_forget(struct shrink *s)
{
    size_t i;

    for (i = 0; i < s->npins; i++)
        pins_keys_free(&s->pins[i]);
    free(s->pins);
    s->pins = NULL;
    s->npins = 0;
}

static int choose_all(struct shrink *s)
{
    size_t i, n = s->r.v.nspaces;
    int rc = 0;

    pins_forget(s);
    if (!(s->pins = calloc(n + 1, sizeof *s->pins)))
        return err_set(-ENOMEM, "no memory for %zu spaces", n);
    s->npins = n;
    for (i = 0; i < n && !rc; i++)
        rc = pins_keys_take(&s->r.ad, &s->r.v, &s->r.v.spaces[i], &s->pins[i]);
    s->sum = (struct cistern_shrink_sum){.used_bytes = survey_usage(&s->r.v)};
    rc = rc ? rc : list_all(s);
    return rc ? rc : choose(s);
}

/* ---- Evicting ---- */

static void stayed(void *arg, const struct leaver *l)
{
    struct shrink *s = arg;

    s->sum.segments--;
    s->sum.bytes -= l->bytes;
    s->sum.kept++;
}

static int survey_all(struct admin *ad, struct survey *v)
{
    return survey_take(ad, true, v);
}

/* The size is that of the root, whatever spaces are asked for. */
static int survey_root(struct shrink *s, int (*survey)(struct admin *ad, struct survey *v))
{
    const char *space = s->r.ad.opt.space;
    int rc;

    s->r.ad.opt.space = NULL;
    rc = survey(&s->r.ad, &s->r.v);
    s->r.ad.opt.space = space;
    return rc;
}

static bool someone_is_unknown(const struct survey *v)
{
    size_t i, j, k;

    for (i = 0; i < v->nspaces; i++)
        for (j = 0; j < v->spaces[i].nshards; j++)
            for (k = 0; k < v->spaces[i].shards[j].nwriters; k++)
                if (!survey_ended(v->spaces[i].shards[j].writers[k].state))
                    return true;
    return false;
}

static int shrink_run(struct shrink *s)
{
    int rc = survey_root(s, survey_all);

    rc = rc ? rc : choose_all(s);
    if (!rc && bytes_left(s) > s->how.to_bytes && someone_is_unknown(&s->r.v)) {
        rc = survey_root(s, survey_watch); /* some may be silent */
        rc = rc ? rc : choose_all(s);
    }
    if (rc || !s->sum.segments)
        return rc;
    return leave_run(&(struct leave){.r = &s->r,
                                     .at = s->at,
                                     .order = s->order,
                                     .n = s->sum.segments,
                                     .bytes = s->sum.bytes,
                                     .grace_ms = s->how.grace_ms,
                                     .stayed = stayed,
                                     .arg = s});
}

static void shrink_end(struct shrink *s)
{
    pins_forget(s);
    free(s->at);
    free(s->segs);
    free(s->order);
}

int cistern_shrink(const struct cistern_admin *a, const struct cistern_shrink *how,
                   int (*callback)(void *arg, const struct cistern_removal *removal), void *arg,
                   struct cistern_shrink_sum *sum)
{
    struct shrink s = {.r = {.callback = callback, .arg = arg}};
    struct cistern_shrink_sum theirs;
    int rc = config_take_struct(&s.how, sizeof s.how, how);

    if (rc || (sum && (rc = config_take_struct(&theirs, sizeof theirs, sum))) ||
        (rc = remover_open(&s.r, a, NULL)))
        return rc;
    if (!s.how.grace_ms)
        s.how.grace_ms = s.r.ad.cfg.evict_grace_ms;
    rc = shrink_run(&s);
    shrink_end(&s);
    s.sum.files = s.r.sum.files;
    s.sum.failed = s.r.sum.failed;
    s.sum.missing = bytes_left(&s) > s.how.to_bytes ? bytes_left(&s) - s.how.to_bytes : 0;
    rc = remover_close(&s.r, rc, NULL);
    if (!rc && sum)
        admin_give(sum, &s.sum, sizeof s.sum);
    return rc;
}
