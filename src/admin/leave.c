/*
 * leave.c - see leave.h. A file that cannot be removed is told and counted by the remover, and what
 * depends on it stays.
 */
#include "admin/leave.h"

bool leave_sealed(const struct survey_segment *seg, const struct survey_writer *w)
{
    return survey_ended(w->state) ||
           (w->has_head && !w->head_rc && seg->seq + 2 < w->head.next_seq);
}

/* Contents of this shard stay: so does what says of them that they are not to be used, and the
 * data. */
static void let_stay(const struct leave *l, struct leaver *s)
{
    s->chosen = false;
    if (l->stayed)
        l->stayed(l->arg, s);
}

static bool has_stayed(const struct leave *l, const struct survey_shard *shard, size_t before)
{
    size_t i;

    for (i = 0; i < before; i++)
        if (l->at[l->order[i]].shard == shard && !l->at[l->order[i]].chosen)
            return true;
    return false;
}

static int take_contents(struct leave *l, size_t i)
{
    struct leaver *s = &l->at[l->order[i]];
    struct litter file = {.kind = LITTER_EMPTY,
                          .space = s->space->name,
                          .disk_bytes = s->segment->toc_stat.disk_bytes};
    uint64_t failed = l->r->sum.failed;
    int rc;

    if (!l->noted && s->segment->marks && has_stayed(l, s->shard, i))
        let_stay(l, s);
    if (!s->chosen || !s->segment->has_toc)
        return 0;
    survey_segment_path(s->shard, s->segment, ".toc", file.path);
    rc = remover_take(l->r, &file, s->why, false, true);
    if (l->r->sum.failed != failed)
        let_stay(l, s);
    return rc;
}

static int take_data(struct leave *l, size_t i)
{
    struct leaver *s = &l->at[l->order[i]];
    struct litter file = {.kind = LITTER_DATA,
                          .space = s->space->name,
                          .disk_bytes = s->segment->data_stat.disk_bytes};
    int rc;

    if (!s->chosen || !s->segment->has_data)
        return 0;
    survey_segment_path(s->shard, s->segment, ".seg", file.path);
    rc = remover_take(l->r, &file, s->why, false, true);
    l->r->ad.done += file.disk_bytes;
    admin_pace(&l->r->ad, file.disk_bytes);
    return rc;
}

static int take_all(struct leave *l, int (*take)(struct leave *l, size_t i))
{
    size_t i;
    int rc = 0;

    for (i = 0; i < l->n && !rc; i++) {
        rc = take(l, i);
        rc = rc ? rc : admin_progress(&l->r->ad, "evicting");
    }
    return rc;
}

int leave_run(struct leave *l)
{
    struct admin *ad = &l->r->ad;
    int rc;

    ad->done = 0;
    ad->total = l->bytes;
    rc = take_all(l, take_contents);
    if (!rc && !(ad->opt.flags & CISTERN_ADMIN_DRY_RUN))
        rc = admin_sleep(ad, "waiting for readers", l->grace_ms);
    ad->total = l->bytes;
    return rc ? rc : take_all(l, take_data);
}
