/*
 * fsck.c - cistern_fsck(): everything but payloads; the root and the spaces are here, shards in
 * fsck_shard.c. A finding never ends the run; storage that does not answer does.
 *
 * Repair removes litter (litter.c) and rewrites a space.json whose content is right and whose bytes
 * are not. Both lose nothing.
 */
#include "admin/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "admin/pins.h"
#include "base/bits.h"
#include "engine/config.h"
#include "key/grow.h"
#include "segment/format.h"

#define OTHERS_ACCESS 077u
#define BAD           CISTERN_BAD
#define WARN          CISTERN_WARN
#define NOTE          CISTERN_NOTE

static const struct cistern_check checks[] = {
#define X(id, severity, repairable, title, meaning, advice)                                        \
    {#id, severity, repairable, title, meaning, advice},
#include "admin/checks.def"
#undef X
};

int cistern_fsck_checks(struct cistern_check *out, int max)
{
    int i;

    for (i = 0; out && i < max && i < FSCK_CHECKS; i++)
        out[i] = checks[i];
    return FSCK_CHECKS;
}

int fsck_say(struct fsck *f, enum fsck_id id, const char *path, uint32_t repair, const char *format,
             ...)
{
    const struct cistern_check *c = &checks[id];
    char detail[512];
    struct cistern_finding finding = {.check = c, .path = path, .detail = detail, .repair = repair};
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(detail, sizeof detail, format, ap);
    va_end(ap);
    if (c->severity == NOTE)
        f->sum.notes++;
    else if (c->severity == WARN)
        f->sum.warnings++;
    else
        f->sum.errors++;
    if (repair == CISTERN_REPAIR_DONE)
        f->sum.repaired++;
    else if (c->severity != NOTE || repair == CISTERN_REPAIR_FAILED)
        f->sum.unrepaired++;
    return admin_answer(&f->ad, f->callback(f->arg, &finding));
}

/* ---- The root ---- */

/* Each may be one segment ahead of eviction. */
static uint64_t writers_open(const struct survey *v)
{
    uint64_t n = 0;
    size_t i, j, k;

    for (i = 0; i < v->nspaces; i++)
        for (j = 0; j < v->spaces[i].nshards; j++)
            for (k = 0; k < v->spaces[i].shards[j].nwriters; k++)
                n += v->spaces[i].shards[j].writers[k].state != OWNER_CLOSED;
    return n;
}

static int root_json(struct fsck *f)
{
    char path[ADMIN_PATH], text[4096];
    uint64_t used = survey_usage(&f->v);
    uint64_t open = writers_open(&f->v);
    json_int_t format, capacity, segment;
    json_t *o = NULL;
    int64_t n;
    int rc = admin_path(&f->ad, path, ROOT_FILE, "");

    f->sum.disk_bytes = used;
    if (rc)
        return rc;
    if (!f->v.has_json)
        return fsck_say(f, CF001, path, 0, "no such file");
    n = f->ad.io->ops->small_read(f->ad.io, path, text, sizeof text);
    if (n < 0 && n != -EFBIG)
        return fsck_say(f, CF310, path, 0, "%s", cistern_error_string((int)n));
    if (n >= 0)
        o = json_loadb(text, (size_t)n, 0, NULL);
    format = json_integer_value(json_object_get(o, "format"));
    capacity = json_integer_value(json_object_get(o, "capacity_bytes"));
    segment = json_integer_value(json_object_get(o, "segment_bytes"));
    json_decref(o);
    if (format < 1 || capacity < 0)
        return fsck_say(f, CF002, path, 0, "no JSON object with format and capacity_bytes");
    if (format > ROOT_ENCRYPTED)
        return fsck_say(f, CF003, path, 0, "format %lld; this version reads up to %d",
                        (long long)format, ROOT_ENCRYPTED);
    f->encrypted = format == ROOT_ENCRYPTED;
    f->sum.capacity_bytes = (uint64_t)capacity;
    if (capacity && used > (uint64_t)capacity + open * (uint64_t)segment && !f->v.unwanted)
        return fsck_say(f, CF030, path, 0, "%" PRIu64 " bytes used, capacity %lld", used,
                        (long long)capacity);
    return 0;
}

static int root_salt(struct fsck *f)
{
    char path[ADMIN_PATH];
    uint8_t buf[33];
    int64_t n;
    int rc = admin_path(&f->ad, path, ROOT_SALT, "");

    if (rc)
        return rc;
    if (!f->v.has_salt)
        return fsck_say(f, CF010, path, 0, "no such file");
    n = f->ad.io->ops->small_read(f->ad.io, path, buf, sizeof buf);
    if (n < 0 && n != -EFBIG)
        return fsck_say(f, CF310, path, 0, "%s", cistern_error_string((int)n));
    if (n != 32)
        return fsck_say(f, CF011, path, 0, "%" PRIu64 " bytes, not 32", f->v.salt_stat.size);
    if (f->v.salt_stat.mode & OTHERS_ACCESS)
        return fsck_say(f, CF012, path, 0, "mode %04o", f->v.salt_stat.mode);
    return 0;
}

static int foreign(struct fsck *f, const char *dir, const struct survey_others *list)
{
    char path[ADMIN_PATH];
    size_t i;
    int rc = 0;

    for (i = 0; i < list->count && !rc; i++) {
        if (list->at[i].kind != OTHER_FOREIGN)
            continue;
        (void)snprintf(path, sizeof path, "%.510s%s%.255s", dir, *dir ? "/" : "", list->at[i].name);
        rc = fsck_say(f, CF040, path, 0, "%s", list->at[i].stat.is_dir ? "a directory" : "a file");
    }
    return rc;
}

static int fsck_root(struct fsck *f)
{
    int rc = root_json(f);

    rc = rc ? rc : root_salt(f);
    if (!rc && f->v.stat.mode & OTHERS_ACCESS)
        rc = fsck_say(f, CF020, f->v.root, 0, "mode %04o", f->v.stat.mode);
    return rc ? rc : foreign(f, f->v.root, &f->v.others);
}

/* ---- Spaces ---- */

/* The canonical text of a space.json; its length, 0 = none. */
static size_t json_canonical(const struct survey_space *sp, char out[SPACE_JSON_MAX])
{
    json_t *o = json_loadb(sp->json, (size_t)sp->json_len, JSON_REJECT_DUPLICATES, NULL);
    size_t n = o ? json_dumpb(o, out, SPACE_JSON_MAX, JSON_SORT_KEYS | JSON_COMPACT) : 0;

    json_decref(o);
    if (!n || n >= SPACE_JSON_MAX)
        return 0;
    out[n] = '\n';
    return n + 1;
}

static int json_rewrite(struct fsck *f, const char *path, const struct survey_space *sp)
{
    char text[SPACE_JSON_MAX];
    size_t n = json_canonical(sp, text);
    uint32_t repair = CISTERN_REPAIR_NONE;
    int rc = 0;

    if (!n || ((int64_t)n == sp->json_len && memcmp(text, sp->json, n) == 0))
        return 0;
    if (f->ad.opt.flags & CISTERN_ADMIN_REPAIR) {
        repair = CISTERN_REPAIR_WOULD;
        if (!(f->ad.opt.flags & CISTERN_ADMIN_DRY_RUN)) {
            rc = f->ad.io->ops->small_write(f->ad.io, path, text, n, false);
            repair = rc ? CISTERN_REPAIR_FAILED : CISTERN_REPAIR_DONE;
        }
    }
    return fsck_say(f, CF103, path, repair, "%s",
                    rc ? cistern_error_string(rc) : "other order, blanks or end of line");
}

static int space_json_check(struct fsck *f, const struct survey_space *sp)
{
    char path[ADMIN_PATH], digits[33];
    const char *tail = strrchr(sp->name, '-');
    unsigned i;
    int rc = admin_path(&f->ad, path, sp->name, SPACE_FILE);

    if (rc)
        return rc;
    if (sp->json_len == -ENOENT)
        return fsck_say(f, CF100, path, 0, "no such file");
    if (sp->json_len < 0 && sp->json_len != -EFBIG)
        return fsck_say(f, CF310, path, 0, "%s", cistern_error_string((int)sp->json_len));
    if (sp->json_len == -EFBIG || sp->inspect_rc)
        return fsck_say(f, CF101, path, 0, "not the description of a space");
    for (i = 0; i < 16; i++)
        (void)snprintf(digits + 2 * i, 3, "%02x", sp->fingerprint[i]);
    if (!tail || strlen(tail + 1) != 32)
        rc = fsck_say(f, CF104, sp->dir, 0, "its fingerprint begins with %s", digits);
    else if (strcmp(tail + 1, digits) != 0)
        return fsck_say(f, CF102, path, 0, "its fingerprint begins with %s", digits);
    return rc ? rc : json_rewrite(f, path, sp);
}

static void note_access(const struct io_stat *st, uint64_t *count)
{
    if (st->mode & OTHERS_ACCESS)
        ++*count;
}

/* One word for a space, however many files it has. */
static int space_access(struct fsck *f, const struct survey_space *sp)
{
    uint64_t count = 0;
    size_t i, j;

    note_access(&sp->stat, &count);
    note_access(&sp->json_stat, &count);
    for (i = 0; i < sp->nshards; i++) {
        note_access(&sp->shards[i].stat, &count);
        for (j = 0; j < sp->shards[i].nsegments; j++) {
            note_access(&sp->shards[i].segments[j].toc_stat, &count);
            note_access(&sp->shards[i].segments[j].data_stat, &count);
        }
        for (j = 0; j < sp->shards[i].nwriters; j++)
            note_access(&sp->shards[i].writers[j].head_stat, &count);
    }
    return count ? fsck_say(f, CF020, sp->dir, 0, "%" PRIu64 " files and directories", count) : 0;
}

static int fsck_space(struct fsck *f, struct survey_space *sp)
{
    size_t i;
    int rc = space_json_check(f, sp);

    f->sum.spaces++;
    rc = rc ? rc : space_access(f, sp);
    rc = rc ? rc : foreign(f, sp->dir, &sp->others);
    for (i = 0; i < sp->nshards && !rc; i++) {
        struct survey_shard *sh = &sp->shards[i];

        f->sum.shards++;
        if (!sp->inspect_rc && sh->shards != sp->json_shards)
            rc = fsck_say(f, CF110, sh->dir, 0, "the space has %u shards", sp->json_shards);
        rc = rc ? rc : foreign(f, sh->dir, &sh->others);
        rc = rc ? rc : fsck_shard(f, sp, sh);
    }
    return rc ? rc : fsck_ids(f, sp);
}

/* ---- What can be removed ---- */

static int on_litter(void *arg, const struct litter *l)
{
    static const enum fsck_id ids[] = {[LITTER_TEMPORARY] = CF041,
                                       [LITTER_EMPTY] = CF307,
                                       [LITTER_DATA] = CF402,
                                       [LITTER_CONTENTS] = CF403,
                                       [LITTER_HEAD] = CF206};
    struct fsck *f = arg;
    uint32_t repair = CISTERN_REPAIR_NONE;
    int rc = 0;

    if (f->ad.opt.flags & CISTERN_ADMIN_REPAIR) {
        if (!survey_ended(l->state)) {
            repair = CISTERN_REPAIR_WAITS;
        } else if (f->ad.opt.flags & CISTERN_ADMIN_DRY_RUN) {
            repair = CISTERN_REPAIR_WOULD;
        } else {
            rc = litter_collect(&f->ad, l);
            repair = rc ? CISTERN_REPAIR_FAILED : CISTERN_REPAIR_DONE;
        }
    }
    return fsck_say(f, ids[l->kind], l->path, repair, "%" PRIu64 " bytes on disk%s%s",
                    l->disk_bytes, survey_ended(l->state) ? "" : "; its writer may be alive",
                    rc ? "; it cannot be removed" : "");
}

static int on_pin(void *arg, const struct pins_item *p)
{
    struct fsck *f = arg;
    uint32_t repair = CISTERN_REPAIR_NONE;

    if (p->rc)
        return fsck_say(f, CF120, p->path, 0, "%s", p->text);
    if (p->holds)
        return 0;
    if (f->ad.opt.flags & CISTERN_ADMIN_REPAIR) {
        repair = CISTERN_REPAIR_WOULD;
        if (!(f->ad.opt.flags & CISTERN_ADMIN_DRY_RUN))
            repair =
                litter_remove(&f->ad, p->path, false) ? CISTERN_REPAIR_FAILED : CISTERN_REPAIR_DONE;
    }
    return fsck_say(f, CF121, p->path, repair, "%" PRIu32 " keys, label '%s'", p->pin.nkeys,
                    p->pin.label);
}

static int fsck_run(struct fsck *f)
{
    size_t i;
    int rc = survey_take(&f->ad, true, &f->v);

    if (!rc && f->ad.opt.flags & CISTERN_ADMIN_REPAIR && litter_waits(&f->v))
        rc = survey_watch(&f->ad, &f->v);
    rc = rc ? rc : fsck_root(f);
    for (i = 0; i < f->v.nspaces && !rc; i++)
        rc = fsck_space(f, &f->v.spaces[i]);
    rc = rc ? rc : pins_visit(&f->ad, &f->v, on_pin, f);
    return rc ? rc : litter_visit(&f->v, on_litter, f);
}

int cistern_fsck(const struct cistern_admin *a,
                 int (*callback)(void *arg, const struct cistern_finding *finding), void *arg,
                 struct cistern_fsck_sum *sum)
{
    struct fsck f = {.callback = callback, .arg = arg};
    struct cistern_fsck_sum own;
    int rc;

    if (!callback || (sum && config_take_struct(&own, sizeof own, sum)))
        return err_set(-EINVAL, "callback is NULL, or the sum's size is not set");
    if ((rc = admin_open(&f.ad, a)))
        return rc;
    if (f.ad.opt.flags & CISTERN_ADMIN_REPAIR)
        admin_warn_of_silence(&f.ad);
    rc = admin_result(&f.ad, fsck_run(&f));
    survey_free(&f.v);
    admin_close(&f.ad);
    if (!rc && sum)
        admin_give(sum, &f.sum, sizeof f.sum);
    return rc;
}
