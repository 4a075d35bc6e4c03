/*
 * litter.c - finds and removes files that hold nothing.
 *
 * Invariant: nothing that a valid frame names is litter while its data file is there, and contents
 * that declare blocks of other segments dead are kept for ever.
 */
#include "admin/litter.h"

#include <errno.h>
#include <stdio.h>

struct sweep {
    int (*visit)(void *arg, const struct litter *l);
    void *arg;
    const struct survey_space *space;
    const struct survey_shard *shard;
};

static int tell(const struct sweep *s, struct litter *l)
{
    l->space = s->space ? s->space->name : "";
    return s->visit(s->arg, l);
}

static int sweep_others(const struct sweep *s, const char *dir, const struct survey_others *list)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < list->count && !rc; i++) {
        const struct survey_other *o = &list->at[i];
        struct litter l = {
            .kind = LITTER_TEMPORARY, .disk_bytes = o->stat.disk_bytes, .state = o->state};

        if (o->kind != OTHER_TEMPORARY)
            continue;
        (void)snprintf(l.path, sizeof l.path, "%.510s%s%.255s", dir, *dir ? "/" : "", o->name);
        rc = tell(s, &l);
    }
    return rc;
}

static int tell_file(const struct sweep *s, const struct survey_segment *seg, const char *suffix,
                     enum litter_kind kind, const struct io_stat *st, enum owner_state state)
{
    struct litter l = {.kind = kind, .disk_bytes = st->disk_bytes, .state = state};

    survey_segment_path(s->shard, seg, suffix, l.path);
    return tell(s, &l);
}

/* A read that ends early looks like the end of the file: its size must say the same. */
static bool nothing_published(const struct survey_segment *seg)
{
    if (seg->toc_rc == -ENODATA)
        return seg->toc_stat.size == 0;
    return !seg->toc_rc && seg->end == TOC_END && !seg->cursor.number &&
           seg->toc_stat.size <= FORMAT_PAGE;
}

static bool nothing_left(const struct survey_segment *seg)
{
    return !seg->toc_rc && seg->end == TOC_END && !seg->has_data && !seg->marks && !seg->locked &&
           seg->toc_stat.size <= seg->cursor.position;
}

/* 1: the segment stays; 0: all of it is litter and was told. */
static int sweep_segment(const struct sweep *s, const struct survey_segment *seg,
                         enum owner_state state)
{
    int rc = 0;

    if (!seg->has_toc)
        return tell_file(s, seg, ".seg", LITTER_DATA, &seg->data_stat, state);
    if (nothing_published(seg)) {
        if (seg->has_data)
            rc = tell_file(s, seg, ".seg", LITTER_EMPTY, &seg->data_stat, state);
        return rc ? rc : tell_file(s, seg, ".toc", LITTER_EMPTY, &seg->toc_stat, state);
    }
    if (nothing_left(seg))
        return tell_file(s, seg, ".toc", LITTER_CONTENTS, &seg->toc_stat, state);
    return 1;
}

static int sweep_shard(const struct sweep *s)
{
    const struct survey_shard *sh = s->shard;
    size_t i, j;
    int rc = sweep_others(s, sh->dir, &sh->others);

    for (i = 0; i < sh->nwriters && rc >= 0; i++) {
        const struct survey_writer *w = &sh->writers[i];
        struct litter l = {
            .kind = LITTER_HEAD, .disk_bytes = w->head_stat.disk_bytes, .state = w->state};
        size_t kept = 0;

        for (j = w->first; j < w->first + w->count && rc >= 0; j++) {
            rc = sweep_segment(s, &sh->segments[j], w->state);
            kept += rc == 1;
        }
        /* A head of a later version may mean something that we do not know. */
        if (rc < 0 || kept || !w->has_head || w->head_rc == CISTERN_EFORMAT)
            continue;
        survey_head_path(sh, w->id, l.path);
        rc = tell(s, &l);
    }
    return rc < 0 ? rc : 0;
}

int litter_visit(const struct survey *v, int (*visit)(void *arg, const struct litter *l), void *arg)
{
    struct sweep s = {.visit = visit, .arg = arg};
    size_t i, j;
    int rc = 0;

    for (i = 0; i < v->nspaces && !rc; i++) {
        s.space = &v->spaces[i];
        rc = sweep_others(&s, s.space->dir, &s.space->others);
        for (j = 0; j < s.space->nshards && !rc; j++) {
            s.shard = &s.space->shards[j];
            rc = sweep_shard(&s);
        }
    }
    s.space = NULL;
    return rc ? rc : sweep_others(&s, v->root, &v->others);
}

static int is_waiting(void *arg, const struct litter *l)
{
    (void)arg;
    return survey_ended(l->state) ? 0 : -EAGAIN;
}

bool litter_waits(const struct survey *v)
{
    return litter_visit(v, is_waiting, NULL) != 0;
}

const char *litter_why(enum litter_kind kind)
{
    static const char *const why[] = {
        "a temporary file that was left", "nothing was published in the segment",
        "data without contents", "contents whose data are gone", "a head without segments"};

    return why[kind];
}

/* Is the other file of a segment certainly not there? */
static bool other_is_absent(struct admin *ad, const char *path, const char *suffix)
{
    char other[ADMIN_PATH];
    struct io_stat st;
    int n = snprintf(other, sizeof other, "%s", path);

    if (n < 4 || n >= (int)sizeof other)
        return false;
    (void)snprintf(other + n - 4, 5, "%s", suffix);
    return ad->io->ops->stat(ad->io, other, &st) == -ENOENT;
}

int litter_collect(struct admin *ad, const struct litter *l)
{
    if ((l->kind == LITTER_DATA && !other_is_absent(ad, l->path, ".toc")) ||
        (l->kind == LITTER_CONTENTS && !other_is_absent(ad, l->path, ".seg")))
        return err_set(-EAGAIN, "%s: the other file of the segment is there now", l->path);
    return litter_remove(ad, l->path, false);
}

int litter_remove(struct admin *ad, const char *path, bool is_dir)
{
    int rc;

    if (is_dir && !ad->io->ops->remove_dir)
        return err_set(-EOPNOTSUPP, "this provider removes no directories");
    rc = is_dir ? ad->io->ops->remove_dir(ad->io, path) : ad->io->ops->unlink(ad->io, path);
    if (rc == -ENOENT)
        rc = 0;
    return rc ? err_set(rc, "%s/%s cannot be removed: %s", ad->io->mount, path,
                        cistern_error_string(rc))
              : 0;
}
