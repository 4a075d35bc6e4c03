/*
 * wipe.c - cistern_wipe(): whole spaces, payloads included. Of one tenant: wipe_tenant.c.
 *
 * Contents go before data, so that a process that opens the space meanwhile finds less and never
 * contents without data. A wipe that is cut short leaves data without contents, which gc removes.
 * Files that are not Cistern's stay, and with them the directories that they lie in.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "admin/wipe.h"
#include "base/bits.h"
#include "base/clock.h"
#include "engine/config.h"
#include "segment/ttl_file.h"

/* When something was last written in a space, as far as file times and heads tell. */
static uint64_t last_written(const struct survey_space *sp)
{
    uint64_t last = sp->json_stat.mtime_s;
    size_t i, j;

    for (i = 0; i < sp->nshards; i++) {
        const struct survey_shard *sh = &sp->shards[i];

        for (j = 0; j < sh->nsegments; j++)
            last = max_u64(
                last, max_u64(sh->segments[j].toc_stat.mtime_s, sh->segments[j].data_stat.mtime_s));
        for (j = 0; j < sh->nwriters; j++)
            last =
                max_u64(last, max_u64(sh->writers[j].head_stat.mtime_s,
                                      sh->writers[j].head_rc ? 0 : sh->writers[j].head.written_s));
    }
    return last;
}

/* How well a directory fits what was asked for; it begins so. */
enum fit { FIT_NOT, FIT_DIGITS, FIT_NAME, FIT_WHOLE };

static enum fit fit_of(const char *dir, const char *wanted)
{
    size_t n = strlen(wanted), len = strlen(dir), name;

    if (strncmp(dir, wanted, n) != 0)
        return FIT_NOT;
    if (n == len)
        return FIT_WHOLE;
    if (!survey_named_like_space(dir))
        return FIT_NOT;
    name = strrchr(dir, '-') - dir;
    return n == name ? FIT_NAME : n > name + 1 ? FIT_DIGITS : FIT_NOT;
}

/* Elsewhere a beginning is enough. What is wiped is meant: by the whole directory's name, else by
 * the space's name, else by that and digits behind it that only one directory has. */
static bool is_meant(const struct wipe *w, const struct survey_space *sp)
{
    const char *wanted = w->r.ad.opt.space;
    const struct survey *v = &w->r.v;
    enum fit fit = wanted ? fit_of(sp->name, wanted) : FIT_WHOLE, other;
    size_t i;

    for (i = 0; wanted && i < v->nspaces && fit != FIT_NOT; i++) {
        other = fit_of(v->spaces[i].name, wanted);
        if (other > fit ||
            (other == fit && fit == FIT_DIGITS && strcmp(v->spaces[i].name, sp->name) != 0))
            fit = FIT_NOT;
    }
    return fit != FIT_NOT;
}

bool wipe_admits(const struct wipe *w, const struct survey_space *sp)
{
    uint64_t now = clock_wall_s();

    if (!is_meant(w, sp))
        return false;
    if (w->how.model && !survey_model_is(sp, w->how.model))
        return false;
    return !w->how.older_than_s || last_written(sp) + w->how.older_than_s <= now;
}

static bool space_ended(const struct survey_space *sp)
{
    size_t i, j;

    for (i = 0; i < sp->nshards; i++)
        for (j = 0; j < sp->shards[i].nwriters; j++)
            if (!survey_ended(sp->shards[i].writers[j].state))
                return false;
    return true;
}

static int take_file(struct wipe *w, const struct survey_space *sp, const char *path,
                     const struct io_stat *st, bool is_dir)
{
    struct litter l = {.kind = LITTER_EMPTY, .space = sp->name, .disk_bytes = st->disk_bytes};

    (void)snprintf(l.path, sizeof l.path, "%s", path);
    return remover_take(&w->r, &l, "wiped", is_dir, true);
}

/* Temporary files and pins; *foreign: something of others lies there. */
static int take_others(struct wipe *w, const struct survey_space *sp, const char *dir,
                       const struct survey_others *list, bool *foreign)
{
    char path[ADMIN_PATH];
    size_t i;
    int rc = 0;

    *foreign = false;
    for (i = 0; i < list->count && !rc; i++) {
        if (list->at[i].kind == OTHER_FOREIGN) {
            *foreign = true;
            continue;
        }
        (void)snprintf(path, sizeof path, "%.510s/%.255s", dir, list->at[i].name);
        rc = take_file(w, sp, path, &list->at[i].stat, false);
    }
    return rc;
}

static int wipe_shard(struct wipe *w, const struct survey_space *sp, const struct survey_shard *sh)
{
    char path[ADMIN_PATH];
    bool foreign = false;
    size_t i;
    int rc = 0;

    for (i = 0; i < sh->nsegments && !rc; i++) {
        const struct survey_segment *seg = &sh->segments[i];

        survey_segment_path(sh, seg, ".toc", path);
        if (seg->has_toc)
            rc = take_file(w, sp, path, &seg->toc_stat, false);
        survey_segment_path(sh, seg, ".seg", path);
        if (!rc && seg->has_data)
            rc = take_file(w, sp, path, &seg->data_stat, false);
    }
    for (i = 0; i < sh->nwriters && !rc; i++) {
        survey_head_path(sh, sh->writers[i].id, path);
        if (sh->writers[i].has_head)
            rc = take_file(w, sp, path, &sh->writers[i].head_stat, false);
    }
    rc = rc ? rc : take_others(w, sp, sh->dir, &sh->others, &foreign);
    return rc || foreign ? rc : take_file(w, sp, sh->dir, &sh->stat, true);
}

static int wipe_space(struct wipe *w, const struct survey_space *sp)
{
    struct litter l = {.space = sp->name};
    char path[ADMIN_PATH];
    bool foreign = false;
    size_t i;
    int rc = 0;

    if (!space_ended(sp) && !(w->r.ad.opt.flags & CISTERN_ADMIN_FORCE)) {
        (void)snprintf(l.path, sizeof l.path, "%s", sp->dir);
        return remover_take(&w->r, &l, "a writer may be alive", true, false);
    }
    for (i = 0; i < sp->nshards && !rc; i++)
        rc = wipe_shard(w, sp, &sp->shards[i]);
    rc = rc ? rc : take_others(w, sp, sp->dir, &sp->others, &foreign);
    if (!rc && sp->retired && !(rc = admin_path(&w->r.ad, path, sp->name, SPACE_RETIRED)))
        rc = take_file(w, sp, path, &sp->retired_stat, false);
    if (!rc && sp->ttl && !(rc = admin_path(&w->r.ad, path, sp->name, SPACE_TTL)))
        rc = take_file(w, sp, path, &sp->ttl_stat, false);
    if (!rc)
        rc = admin_path(&w->r.ad, path, sp->name, SPACE_FILE);
    if (!rc && sp->json_len != -ENOENT)
        rc = take_file(w, sp, path, &sp->json_stat, false);
    return rc || foreign ? rc : take_file(w, sp, sp->dir, &sp->stat, true);
}

static int wipe_run(struct wipe *w)
{
    struct survey *v = &w->r.v;
    bool wait = false;
    size_t i;
    int rc = survey_take(&w->r.ad, false, v);

    if (rc)
        return rc;
    for (i = 0; i < v->nspaces; i++)
        wait = wait || (wipe_admits(w, &v->spaces[i]) && !space_ended(&v->spaces[i]));
    if (wait && !(w->r.ad.opt.flags & CISTERN_ADMIN_FORCE))
        rc = survey_watch(&w->r.ad, v);
    for (i = 0; i < v->nspaces && !rc; i++)
        if (wipe_admits(w, &v->spaces[i]))
            rc = wipe_space(w, &v->spaces[i]);
    return rc;
}

/* Gc removes what no block needs, so there a warning does; here a mistake costs blocks. */
static int check_silence(const struct admin *ad)
{
    uint32_t of_root = admin_root_silence(ad);

    if (ad->opt.silence_ms >= of_root || ad->opt.flags & CISTERN_ADMIN_FORCE)
        return 0;
    return err_set(-EINVAL,
                   "a silence of %u ms is shorter than the %u ms of this root: a writer that lives "
                   "and has nothing to do would count as ended",
                   ad->opt.silence_ms, of_root);
}

int cistern_wipe(const struct cistern_admin *a, const struct cistern_wipe *how,
                 int (*callback)(void *arg, const struct cistern_removal *removal), void *arg,
                 struct cistern_removal_sum *sum)
{
    struct wipe w = {.r = {.callback = callback, .arg = arg}};
    int rc = config_take_struct(&w.how, sizeof w.how, how);

    if (!rc && w.how.tenant_len && !w.how.tenant)
        rc = err_set(-EINVAL, "wipe: tenant is NULL, and its length is not 0");
    if (!rc && w.how.tenant_len && w.how.older_than_s)
        rc = err_set(-EINVAL, "wipe: a tenant and an age do not go together, because what is "
                              "written first about the tenant makes a space young; name spaces, "
                              "or a model");
    if (rc || (rc = remover_open(&w.r, a, sum)))
        return rc;
    rc = check_silence(&w.r.ad);
    if (!rc)
        rc = w.how.tenant_len ? wipe_tenant(&w) : wipe_run(&w);
    return remover_close(&w.r, rc, sum);
}
