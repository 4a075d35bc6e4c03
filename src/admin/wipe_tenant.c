/*
 * wipe_tenant.c - cistern_wipe() of one tenant: its blocks in spaces that others share.
 *
 * First it is said of all copies that they are deleted, in segments of notes (engine/notes_file.h),
 * together with what the segments that are to go say of others. From here on nobody who opens finds
 * a block of the tenant, and who lives hears of it as of any deletion. Then every sealed segment
 * with a block of the tenant goes, in the two steps of leave.h, whatever else is in it. Then all is
 * looked at again, since an engine may have carried a block over meanwhile; at most ROUNDS times. A
 * segment of notes that speak of nothing any more goes last.
 *
 * Ended anywhere, by a kill too, it has lost no word about a copy that is still there: all are said
 * anew before any contents go. What it leaves is data without contents, which the next one removes
 * as well, since nobody can tell whose they are.
 *
 * Not removed: segments that may grow, and what cannot be read. They are told, at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/leave.h"
#include "admin/pins.h"
#include "admin/tenant.h"
#include "admin/wipe.h"
#include "base/bits.h"
#include "engine/notes_file.h"

#define ROUNDS     4u
#define NOTES_MOST ((size_t)65536) /* in one segment of notes: 4 MiB */

/* What is told at the end, of the last look. */
struct left {
    struct litter file;
    const char *why;
};

struct tenant_wipe {
    struct wipe *w;
    uint8_t mark[KEY_MARK];
    struct tenant_shard *shards; /* owned, like all below */
    size_t nshards;
    struct leaver *going;
    size_t ngoing;
    struct left *left;
    size_t nleft;
    unsigned round;
    bool worked;            /* this round changed something */
    uint64_t blocks, bytes; /* of segments that stay, in the last look */
    /* What earlier looks saw, and this did not remove: one listing that does not show it is no
     * proof that it is gone. */
    struct tenant_ids seen;
    bool blind; /* some of it could not be read */
};

static bool is_dry(const struct tenant_wipe *t)
{
    return t->w->r.ad.opt.flags & CISTERN_ADMIN_DRY_RUN;
}

static void forget(struct tenant_wipe *t)
{
    size_t i;

    for (i = 0; i < t->nshards; i++)
        tenant_free(&t->shards[i]);
    free(t->shards);
    free(t->going);
    free(t->left);
    t->shards = NULL;
    t->going = NULL;
    t->left = NULL;
    t->nshards = t->ngoing = t->nleft = 0;
    t->blocks = t->bytes = 0;
}

/* ---- Looking ---- */

static int look_all(struct tenant_wipe *t)
{
    struct survey *v = &t->w->r.v;
    size_t i, j;
    int rc = survey_unlocked(v);

    forget(t);
    for (i = 0; i < v->nspaces && !rc; i++) {
        struct survey_space *sp = &v->spaces[i];

        for (j = 0; j < sp->nshards && !rc && wipe_admits(t->w, sp); j++) {
            struct tenant_shard *one = admin_grow(&t->shards, t->nshards, sizeof *one);

            if (!one)
                return -ENOMEM;
            t->nshards++;
            rc = tenant_look(&t->w->r.ad, sp, &sp->shards[j], t->mark, one);
        }
    }
    return rc;
}

/* Segments whose writer neither closed nor was watched keep the tenant's blocks. */
static bool is_doubtful(const struct tenant_wipe *t)
{
    size_t i, j;

    for (i = 0; i < t->nshards; i++) {
        struct survey_shard *sh = t->shards[i].shard;

        for (j = 0; j < sh->nsegments; j++)
            if (t->shards[i].at[j].fate == TENANT_GROWS &&
                survey_writer_of(sh, sh->segments[j].writer)->state == OWNER_UNKNOWN)
                return true;
    }
    return false;
}

static int look(struct tenant_wipe *t)
{
    struct remover *r = &t->w->r;
    int rc;

    survey_free(&r->v);
    rc = survey_take(&r->ad, true, &r->v);
    rc = rc ? rc : look_all(t);
    if (rc || t->round || !is_doubtful(t))
        return rc;
    rc = survey_watch(&r->ad, &r->v); /* some may be silent */
    return rc ? rc : look_all(t);
}

/* ---- What goes, what stays ---- */

static struct leaver *going_add(struct tenant_wipe *t, const struct tenant_shard *of, size_t i)
{
    struct leaver *l = admin_grow(&t->going, t->ngoing, sizeof *l);
    const struct survey_segment *seg = &of->shard->segments[i];

    if (!l)
        return NULL;
    t->ngoing++;
    *l = (struct leaver){.space = of->space,
                         .shard = of->shard,
                         .segment = seg,
                         .bytes = seg->toc_stat.disk_bytes + seg->data_stat.disk_bytes,
                         .chosen = true,
                         .why = "data without contents"};
    return l;
}

static int take_going(struct tenant_wipe *t, const struct tenant_shard *of, size_t i)
{
    const struct tenant_segment *s = &of->at[i];
    struct cistern_removal_sum *sum = &t->w->r.sum;
    struct leaver *l = going_add(t, of, i);

    if (!l)
        return -ENOMEM;
    if (s->other_blocks)
        (void)snprintf(l->why, sizeof l->why, "%llu blocks of the tenant, and %llu of others",
                       (unsigned long long)s->blocks, (unsigned long long)s->other_blocks);
    else
        (void)snprintf(l->why, sizeof l->why, "%llu blocks of the tenant",
                       (unsigned long long)s->blocks);
    sum->tenant_blocks += s->blocks;
    sum->tenant_bytes += s->bytes;
    sum->other_blocks += s->other_blocks;
    sum->other_bytes += s->other_bytes;
    return 0;
}

static int take_left(struct tenant_wipe *t, const struct tenant_shard *of, size_t i)
{
    static const char *const why[] = {
        [TENANT_GROWS] = "its blocks of the tenant are found no more, but their bytes stay while "
                         "its writer may write to it: wipe again when that has closed, or has made "
                         "three more segments",
        [TENANT_UNREAD] = "its contents cannot be read: whose blocks they name cannot be told",
        [TENANT_LATER] = "a later version wrote it: whose blocks it holds cannot be told"};
    const struct tenant_segment *s = &of->at[i];
    const struct survey_segment *seg = &of->shard->segments[i];
    struct left *l = admin_grow(&t->left, t->nleft, sizeof *l);

    if (!l)
        return -ENOMEM;
    t->nleft++;
    l->why = why[s->fate];
    if (s->fate == TENANT_GROWS && is_dry(t))
        l->why = "its writer may write to it: its blocks of the tenant would be found no more, but "
                 "their bytes would stay";
    l->file.space = of->space->name;
    l->file.disk_bytes = seg->data_stat.disk_bytes;
    survey_segment_path(of->shard, seg, seg->has_data ? ".seg" : ".toc", l->file.path);
    t->blocks += s->blocks;
    t->bytes += s->bytes;
    return 0;
}

static int sort_out(struct tenant_wipe *t)
{
    size_t i, j;
    int rc = 0;

    for (i = 0; i < t->nshards; i++) {
        const struct tenant_shard *of = &t->shards[i];

        for (j = 0; j < of->shard->nsegments && !rc; j++) {
            if (!of->shard->segments[j].has_toc)
                rc = going_add(t, of, j) ? 0 : -ENOMEM;
            else if (of->at[j].fate == TENANT_GOES)
                rc = take_going(t, of, j);
            else if (of->at[j].fate != TENANT_NONE)
                rc = take_left(t, of, j);
        }
    }
    return rc;
}

/* ---- Saying it ---- */

static int say_some(struct tenant_wipe *t, const struct tenant_shard *of,
                    const struct dead_note *notes, size_t n)
{
    struct admin *ad = &t->w->r.ad;
    const struct notes_file f = {.io = ad->io,
                                 .crypt = ad->crypt,
                                 .cipher = ad->cipher,
                                 .dir = of->shard->dir,
                                 .of = &of->of};
    int rc = notes_file_write(&f, notes, n);

    t->worked = true;
    return rc ? err_set(rc, "notes cannot be written to %s/%s: %s", ad->io->mount, of->shard->dir,
                        cistern_error_string(rc))
              : 0;
}

/* Nobody believes contents of another space; where there are no others nothing has to be said. */
static int say(struct tenant_wipe *t, const struct tenant_shard *of)
{
    struct dead_note *notes;
    size_t n, i;
    int rc;

    if (!of->of.shards || (rc = tenant_unsaid(of, &notes, &n)))
        return of->of.shards ? rc : 0;
    for (i = 0; i < n && !rc; i += NOTES_MOST)
        rc = say_some(t, of, notes + i, min_u64(n - i, NOTES_MOST));
    free(notes);
    return rc;
}

/* ---- Removing ---- */

/* A power cut brings nothing back for which there are no notes any more. */
static int sync_names(struct tenant_wipe *t)
{
    struct admin *ad = &t->w->r.ad;
    size_t i;
    int rc = 0;

    for (i = 0; i < t->nshards && !rc && !is_dry(t); i++) {
        rc = admin_sync_dir(ad, t->shards[i].shard->dir);
        if (rc == -ENOENT) /* wiped meanwhile */
            rc = 0;
        if (rc)
            rc = err_set(rc, "%s/%s cannot be synced: %s", ad->io->mount, t->shards[i].shard->dir,
                         cistern_error_string(rc));
    }
    return rc;
}

static int remove_going(struct tenant_wipe *t)
{
    struct leave l = {.r = &t->w->r,
                      .at = t->going,
                      .n = t->ngoing,
                      .grace_ms = t->w->how.grace_ms,
                      .noted = true};
    size_t *order = calloc(t->ngoing + 1, sizeof *order), i;
    int rc;

    if (!order)
        return err_set(-ENOMEM, "no memory for %zu segments", t->ngoing);
    for (i = 0; i < t->ngoing; i++) {
        order[i] = i;
        l.bytes += t->going[i].bytes;
    }
    l.order = order;
    t->worked = true;
    rc = leave_run(&l);
    free(order);
    return rc ? rc : sync_names(t);
}

static int remove_talk(struct tenant_wipe *t, const struct tenant_shard *of, size_t i)
{
    const struct survey_segment *seg = &of->shard->segments[i];
    const struct survey_writer *w = survey_writer_of(of->shard, seg->writer);
    struct litter l = {.kind = LITTER_EMPTY, .space = of->space->name};
    static const char why[] = "notes about what is gone";
    int rc = 0;

    if (!survey_ended(w->state))
        return 0;
    survey_segment_path(of->shard, seg, ".toc", l.path);
    l.disk_bytes = seg->toc_stat.disk_bytes;
    rc = remover_take(&t->w->r, &l, why, false, true);
    survey_segment_path(of->shard, seg, ".seg", l.path);
    l.disk_bytes = seg->data_stat.disk_bytes;
    if (!rc && seg->has_data)
        rc = remover_take(&t->w->r, &l, why, false, true);
    survey_head_path(of->shard, w->id, l.path);
    l.disk_bytes = w->head_stat.disk_bytes;
    if (!rc && w->has_head && w->count == 1)
        rc = remover_take(&t->w->r, &l, why, false, true);
    return rc;
}

/* By the second look at the earliest. */
static int remove_all_talk(struct tenant_wipe *t)
{
    size_t i, j;
    int rc = 0;

    tenant_sort(&t->seen);
    if (!t->round || t->blind)
        return 0;
    for (i = 0; i < t->nshards; i++)
        for (j = 0; j < t->shards[i].shard->nsegments && !rc; j++)
            if (tenant_is_empty_talk(&t->shards[i], j, &t->seen))
                rc = remove_talk(t, &t->shards[i], j);
    return rc;
}

/* A pin of nothing but the tenant's keys. */
static int on_pin(void *arg, const struct pins_item *p)
{
    struct tenant_wipe *t = arg;
    struct litter l = {
        .kind = LITTER_EMPTY, .space = p->space->name, .disk_bytes = p->file->stat.disk_bytes};
    uint32_t i;

    if (p->rc || !wipe_admits(t->w, p->space))
        return 0;
    for (i = 0; i < p->pin.nkeys; i++)
        if (!key_has_mark(p->pin.keys + 32 * (size_t)i, t->mark))
            return 0;
    (void)snprintf(l.path, sizeof l.path, "%s", p->path);
    return remover_take(&t->w->r, &l, "a pin of the tenant's blocks", false, true);
}

/* ---- Together ---- */

static int run_round(struct tenant_wipe *t)
{
    size_t i;
    int rc = look(t);

    rc = rc ? rc : sort_out(t);
    if (!rc && !t->round)
        rc = pins_visit(&t->w->r.ad, &t->w->r.v, on_pin, t);
    for (i = 0; i < t->nshards && !rc && !is_dry(t); i++)
        rc = say(t, &t->shards[i]);
    if (!rc && t->ngoing)
        rc = remove_going(t);
    rc = rc ? rc : remove_all_talk(t);
    for (i = 0; i < t->nshards && !rc; i++) {
        t->blind |= t->shards[i].unread;
        rc = tenant_see(&t->shards[i], &t->seen);
    }
    return rc;
}

static int tell_left(struct tenant_wipe *t)
{
    size_t i;
    int rc = 0;

    t->w->r.sum.tenant_blocks += t->blocks;
    t->w->r.sum.tenant_bytes += t->bytes;
    for (i = 0; i < t->nleft && !rc; i++)
        rc = remover_take(&t->w->r, &t->left[i].file, t->left[i].why, false, false);
    return rc;
}

/* The root's salt, and whether notes can be written so that they are believed. */
static int take_mark(struct tenant_wipe *t)
{
    struct admin *ad = &t->w->r.ad;
    const struct root_params params = {.may_write = false, .crypt = ad->crypt};
    struct root_info root;
    int rc = root_prepare(ad->io, ad->cfg.root, &params, &root);

    rc = rc ? rc : admin_key_fits(ad, &root);
    return rc ? rc : key_tenant_mark(root.salt, t->w->how.tenant, t->w->how.tenant_len, t->mark);
}

int wipe_tenant(struct wipe *w)
{
    struct tenant_wipe t = {.w = w};
    int rc = take_mark(&t);

    if (!w->how.grace_ms)
        w->how.grace_ms = w->r.ad.cfg.evict_grace_ms;
    do {
        t.worked = false;
        rc = rc ? rc : run_round(&t);
    } while (!rc && t.worked && !is_dry(&t) && !w->r.sum.failed && ++t.round < ROUNDS);
    rc = rc ? rc : tell_left(&t);
    forget(&t);
    free(t.seen.at);
    return rc;
}
