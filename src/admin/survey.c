/*
 * survey.c - lists a root and reads its heads and contents into one picture.
 *
 * A file that is gone between the list and the look is left out: others evict and close while we
 * look. What cannot be read is part of the picture; only storage that does not answer ends it.
 */
#include "admin/survey.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/contents.h"
#include "base/bits.h"
#include "base/hash.h"
#include "segment/pin.h"
#include "segment/ttl_file.h"

struct names {
    char (*at)[256];
    size_t count;
};

static int take_name(void *arg, const char *name)
{
    struct names *n = arg;
    char(*one)[256] = admin_grow(&n->at, n->count, sizeof *n->at);

    if (!one)
        return -ENOMEM;
    n->count++;
    (void)snprintf(*one, sizeof *one, "%s", name);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int list_names(struct admin *ad, const char *path, struct names *out)
{
    int rc = ad->io->ops->list(ad->io, path, take_name, out);

    if (rc)
        return err_set(rc, "%s/%s cannot be listed: %s", ad->io->mount, path,
                       cistern_error_string(rc));
    if (out->count)
        qsort(out->at, out->count, sizeof *out->at, by_name);
    return 0;
}

/* Is it there? What storage will not say counts as there, without a size: nothing is ever taken for
 * absent, and what lies beside it for useless, because of an error. */
static bool look_at(struct admin *ad, const char *dir, const char *name, struct io_stat *st)
{
    char path[ADMIN_PATH + 260];

    (void)snprintf(path, sizeof path, "%s%s%s", dir, *dir && *name ? "/" : "", name);
    *st = (struct io_stat){0};
    return ad->io->ops->stat(ad->io, path, st) != -ENOENT;
}

static int add_other(struct survey_others *list, const char *name, const struct io_stat *st)
{
    struct survey_other *o = admin_grow(&list->at, list->count, sizeof *o);

    if (!o)
        return -ENOMEM;
    list->count++;
    (void)snprintf(o->name, sizeof o->name, "%s", name);
    o->stat = *st;
    o->kind = strncmp(name, ".tmp-", 5) == 0 && !st->is_dir ? OTHER_TEMPORARY : OTHER_FOREIGN;
    return 0;
}

/* ---- A shard ---- */

static struct survey_writer *writer_add(struct survey_shard *sh, uint64_t id)
{
    struct survey_writer *w;

    /* Names come sorted, so the files of one writer come together. */
    if (sh->nwriters && sh->writers[sh->nwriters - 1].id == id)
        return &sh->writers[sh->nwriters - 1];
    w = admin_grow(&sh->writers, sh->nwriters, sizeof *w);
    if (w) {
        sh->nwriters++;
        w->id = id;
        w->first = sh->nsegments;
    }
    return w;
}

static struct survey_segment *segment_add(struct survey_shard *sh, struct survey_writer *w,
                                          uint64_t seq)
{
    struct survey_segment *s;

    if (w->count && sh->segments[sh->nsegments - 1].seq == seq)
        return &sh->segments[sh->nsegments - 1];
    s = admin_grow(&sh->segments, sh->nsegments, sizeof *s);
    if (s) {
        sh->nsegments++;
        w->count++;
        s->writer = w->id;
        s->seq = seq;
        s->toc_rc = -ENOENT;
    }
    return s;
}

static void picture_add(struct survey_writer *w, const char *name, const struct io_stat *st)
{
    uint64_t all[4] = {w->picture, hash64(name, strlen(name)), st->size, st->mtime_s};

    w->picture = hash64(all, sizeof all);
}

static int add_file(struct survey_shard *sh, const char *name, const struct io_stat *st)
{
    struct survey_segment *seg;
    struct survey_writer *w;
    uint64_t writer, seq;
    enum segment_file kind = segment_name_parse(name, &writer, &seq);

    if (kind == SEGMENT_FILE_OTHER || st->is_dir)
        return add_other(&sh->others, name, st);
    if (!(w = writer_add(sh, writer)))
        return -ENOMEM;
    picture_add(w, name, st);
    if (kind == SEGMENT_FILE_HEAD) {
        w->has_head = true;
        w->head_stat = *st;
        return 0;
    }
    if (!(seg = segment_add(sh, w, seq)))
        return -ENOMEM;
    if (kind == SEGMENT_FILE_TOC) {
        seg->has_toc = true;
        seg->toc_stat = *st;
    } else {
        seg->has_data = true;
        seg->data_stat = *st;
    }
    return 0;
}

struct reading {
    struct survey_shard *sh;
    struct survey_segment *seg;
};

static int on_block(void *arg, const struct block_info *b)
{
    struct reading *r = arg;
    uint64_t at = (uint64_t)b->offset * FORMAT_PAGE, end = at;
    unsigned i;

    for (i = 0; i < b->parts; i++) {
        r->seg->payload_bytes += b->length[i];
        end = at + b->length[i];
        at = round_up(end, FORMAT_PAGE);
    }
    if (end > r->seg->data_end)
        r->seg->data_end = end;
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t id[16], uint32_t offset,
                   uint8_t reason)
{
    struct reading *r = arg;
    struct survey_mark *m = admin_grow(&r->sh->marks, r->sh->nmarks, sizeof *m);

    if (!m)
        return -ENOMEM;
    r->sh->nmarks++;
    r->seg->marks++;
    memcpy(m->segment_id, id, sizeof m->segment_id);
    memcpy(m->key, key, sizeof m->key);
    m->offset = offset;
    m->reason = reason;
    return 0;
}

static int on_aside(void *arg, const uint8_t id[16], uint8_t reason)
{
    static const uint8_t none[32];

    return on_dead(arg, none, id, UINT32_MAX, reason);
}

static int by_mark(const void *a, const void *b)
{
    const struct survey_mark *x = a, *y = b;
    int r = memcmp(x->segment_id, y->segment_id, sizeof x->segment_id);

    if (!r)
        r = memcmp(x->key, y->key, sizeof x->key);
    return r ? r : x->offset < y->offset ? -1 : x->offset > y->offset;
}

static const struct survey_mark *mark_find(const struct survey_shard *sh, const uint8_t id[16],
                                           const uint8_t key[32], uint32_t offset)
{
    struct survey_mark want = {.offset = offset};

    memcpy(want.segment_id, id, sizeof want.segment_id);
    memcpy(want.key, key, sizeof want.key);
    return sh->nmarks ? bsearch(&want, sh->marks, sh->nmarks, sizeof want, by_mark) : NULL;
}

uint8_t survey_dead(const struct survey_shard *sh, const uint8_t segment_id[16],
                    const uint8_t key[32], uint32_t offset)
{
    const struct survey_mark *m = mark_find(sh, segment_id, key, offset);

    return m ? m->reason : 0;
}

static int read_contents(struct admin *ad, struct survey_shard *sh)
{
    static const uint8_t none[32];
    size_t i;
    int rc = 0;

    for (i = 0; i < sh->nsegments && !rc; i++) {
        struct reading r = {.sh = sh, .seg = &sh->segments[i]};
        const struct toc_sink sink = {
            .block = on_block, .dead = on_dead, .aside = on_aside, .arg = &r};

        if (r.seg->has_toc)
            rc = contents_read(ad, sh, r.seg, &sink);
        rc = rc ? rc : admin_progress(ad, "reading contents");
    }
    if (sh->nmarks)
        qsort(sh->marks, sh->nmarks, sizeof *sh->marks, by_mark);
    for (i = 0; i < sh->nsegments && !rc; i++) {
        struct survey_segment *seg = &sh->segments[i];

        seg->aside = !seg->toc_rc && mark_find(sh, seg->header.segment_id, none, UINT32_MAX);
    }
    return rc;
}

static int read_heads(struct admin *ad, struct survey_shard *sh)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < sh->nwriters && !rc; i++) {
        struct survey_writer *w = &sh->writers[i];
        uint64_t both[2] = {w->picture, 0};

        if (!w->has_head)
            continue;
        rc = contents_head(ad, sh, w, &both[1]);
        w->picture = hash64(both, sizeof both);
        if (!w->head_rc && w->head.state == HEAD_CLOSED)
            w->state = OWNER_CLOSED;
    }
    return rc;
}

static int take_shard(struct admin *ad, struct survey_shard *sh, bool contents)
{
    struct names names = {0};
    struct io_stat st;
    size_t i;
    int rc = list_names(ad, sh->dir, &names);

    if (rc == -ENOENT) /* wiped meanwhile */
        rc = 0;
    for (i = 0; i < names.count && !rc; i++)
        if (look_at(ad, sh->dir, names.at[i], &st))
            rc = add_file(sh, names.at[i], &st);
    free(names.at);
    rc = rc ? rc : read_heads(ad, sh);
    if (!rc && contents)
        rc = read_contents(ad, sh);
    return rc;
}

/* ---- A space ---- */

/* "s3of8" */
static bool shard_name(const char *name, uint32_t *shard, uint32_t *shards)
{
    char check[32];

    if (sscanf(name, "s%uof%u", shard, shards) != 2 || !*shards || *shard >= *shards ||
        *shards > CISTERN_MAX_SHARDS)
        return false;
    (void)snprintf(check, sizeof check, "s%uof%u", *shard, *shards);
    return strcmp(check, name) == 0;
}

static int add_shard(struct survey_space *sp, const char *name, uint32_t shard, uint32_t shards,
                     const struct io_stat *st)
{
    struct survey_shard *sh = admin_grow(&sp->shards, sp->nshards, sizeof *sh);
    int n;

    if (!sh)
        return -ENOMEM;
    sp->nshards++;
    sh->shard = shard;
    sh->shards = shards;
    sh->stat = *st;
    n = snprintf(sh->dir, sizeof sh->dir, "%.700s/%.20s", sp->dir, name);
    return n > 0 ? 0 : -ENAMETOOLONG;
}

static int take_json(struct admin *ad, struct survey_space *sp, const struct io_stat *st)
{
    char path[ADMIN_PATH + 32];

    sp->json_stat = *st;
    sp->json = calloc(1, SPACE_JSON_MAX + 1);
    if (!sp->json)
        return err_set(-ENOMEM, "no memory for " SPACE_FILE);
    (void)snprintf(path, sizeof path, "%s/" SPACE_FILE, sp->dir);
    sp->json_len = ad->io->ops->small_read(ad->io, path, sp->json, SPACE_JSON_MAX);
    if (sp->json_len >= 0)
        sp->inspect_rc =
            space_inspect(sp->json, (size_t)sp->json_len, &sp->json_shards, sp->fingerprint);
    return 0;
}

static int take_space(struct admin *ad, struct survey_space *sp)
{
    struct names names = {0};
    struct io_stat st;
    uint32_t shard, shards;
    uint64_t pin;
    size_t i;
    int rc = list_names(ad, sp->dir, &names);

    sp->json_len = sp->inspect_rc = -ENOENT;
    for (i = 0; i < names.count && !rc; i++) {
        if (!look_at(ad, sp->dir, names.at[i], &st))
            continue;
        if (strcmp(names.at[i], SPACE_FILE) == 0 && !st.is_dir) {
            rc = take_json(ad, sp, &st);
        } else if (strcmp(names.at[i], SPACE_RETIRED) == 0 && !st.is_dir) {
            sp->retired = true;
            sp->retired_stat = st;
        } else if (strcmp(names.at[i], SPACE_TTL) == 0 && !st.is_dir) {
            sp->ttl = true;
            sp->ttl_stat = st;
        } else if (st.is_dir && shard_name(names.at[i], &shard, &shards)) {
            rc = add_shard(sp, names.at[i], shard, shards, &st);
        } else if (!(rc = add_other(&sp->others, names.at[i], &st)) && !st.is_dir &&
                   pin_name_parse(names.at[i], &pin)) {
            sp->others.at[sp->others.count - 1].kind = OTHER_PIN;
        }
    }
    free(names.at);
    return rc;
}

bool survey_named_like_space(const char *name)
{
    size_t len = strlen(name), i;

    if (len < 34 || name[len - 33] != '-')
        return false;
    for (i = len - 32; i < len; i++)
        if (!strchr("0123456789abcdef", name[i]))
            return false;
    return true;
}

static void space_free(struct survey_space *sp)
{
    size_t i;

    for (i = 0; i < sp->nshards; i++) {
        free(sp->shards[i].writers);
        free(sp->shards[i].segments);
        free(sp->shards[i].marks);
        free(sp->shards[i].others.at);
    }
    free(sp->shards);
    free(sp->others.at);
    free(sp->json);
    *sp = (struct survey_space){0};
}

/* ---- The root ---- */

static int take_dir(struct admin *ad, struct survey *v, const char *name, const struct io_stat *st)
{
    struct survey_space *sp = admin_grow(&v->spaces, v->nspaces, sizeof *sp);
    int rc;

    if (!sp)
        return -ENOMEM;
    (void)snprintf(sp->name, sizeof sp->name, "%s", name);
    sp->stat = *st;
    if ((rc = admin_path(ad, sp->dir, name, "")) || (rc = take_space(ad, sp))) {
        space_free(sp);
        return rc == -ENOENT ? 0 : rc; /* wiped meanwhile */
    }
    if (!sp->nshards && sp->json_len == -ENOENT && !survey_named_like_space(name)) {
        space_free(sp);
        return add_other(&v->others, name, st);
    }
    if (!admin_wants_space(ad, name)) {
        space_free(sp);
        v->unwanted++;
        return 0;
    }
    v->nspaces++;
    return 0;
}

static int take_root(struct admin *ad, struct survey *v, const char *root)
{
    struct names names = {0};
    struct io_stat st;
    size_t i;
    int rc = list_names(ad, root, &names);

    (void)look_at(ad, root, "", &v->stat);
    for (i = 0; i < names.count && !rc; i++) {
        if (!look_at(ad, root, names.at[i], &st))
            continue;
        if (strcmp(names.at[i], ROOT_FILE) == 0 && !st.is_dir) {
            v->has_json = true;
            v->json_stat = st;
        } else if (strcmp(names.at[i], ROOT_SALT) == 0 && !st.is_dir) {
            v->has_salt = true;
            v->salt_stat = st;
        } else if (st.is_dir && names.at[i][0] != '.') {
            rc = take_dir(ad, v, names.at[i], &st);
        } else {
            rc = add_other(&v->others, names.at[i], &st);
        }
    }
    free(names.at);
    return rc;
}

int survey_names(struct admin *ad, struct survey *out)
{
    struct survey v = {0};
    int rc = admin_path(ad, v.root, "", "");

    rc = rc ? rc : take_root(ad, &v, v.root);
    if (!rc && !v.has_json && !v.has_salt && !v.nspaces && !v.unwanted)
        rc = err_set(-ENOENT, "%s/%s holds nothing of Cistern", ad->io->mount, v.root);
    if (rc)
        survey_free(&v);
    else
        *out = v;
    return rc;
}

int survey_take(struct admin *ad, bool contents, struct survey *out)
{
    struct survey v = {0};
    size_t i, j;
    int rc = survey_names(ad, &v);

    for (i = 0; i < v.nspaces && !rc; i++)
        for (j = 0; j < v.spaces[i].nshards && !rc; j++)
            rc = take_shard(ad, &v.spaces[i].shards[j], contents);
    if (rc)
        survey_free(&v);
    else
        *out = v;
    return rc;
}

void survey_free(struct survey *v)
{
    size_t i;

    for (i = 0; i < v->nspaces; i++)
        space_free(&v->spaces[i]);
    free(v->spaces);
    free(v->others.at);
    *v = (struct survey){0};
}

/* ---- Asking ---- */

static int shard_unlocked(const struct survey_shard *sh)
{
    char id[CRYPT_ID_TEXT];
    size_t i;

    for (i = 0; i < sh->nsegments; i++) {
        if (!sh->segments[i].locked)
            continue;
        crypt_id_text(sh->segments[i].key_id, id);
        return err_set(CISTERN_EKEY, "%s is encrypted: give encryption_key_file, with key %s",
                       sh->dir, id);
    }
    return 0;
}

int survey_unlocked(const struct survey *v)
{
    size_t i, j;
    int rc = 0;

    for (i = 0; i < v->nspaces && !rc; i++)
        for (j = 0; j < v->spaces[i].nshards && !rc; j++)
            rc = shard_unlocked(&v->spaces[i].shards[j]);
    return rc;
}

struct survey_writer *survey_writer_of(struct survey_shard *sh, uint64_t id)
{
    size_t lo = 0, hi = sh->nwriters;

    while (lo + 1 < hi) {
        size_t mid = (lo + hi) / 2;

        if (sh->writers[mid].id <= id)
            lo = mid;
        else
            hi = mid;
    }
    return &sh->writers[lo];
}

int survey_blocks(struct admin *ad, const struct survey_shard *sh, const struct survey_segment *seg,
                  int (*block)(void *arg, const struct block_info *b), void *arg)
{
    const struct toc_sink sink = {.block = block, .arg = arg};
    struct survey_segment again = {
        .writer = seg->writer, .seq = seg->seq, .toc_stat = seg->toc_stat};
    int rc = contents_read(ad, sh, &again, &sink);

    return rc ? rc : again.toc_rc;
}

void survey_segment_path(const struct survey_shard *sh, const struct survey_segment *seg,
                         const char *suffix, char out[ADMIN_PATH])
{
    char name[SEGMENT_NAME_MAX];

    segment_name(name, seg->writer, seg->seq, suffix);
    (void)snprintf(out, ADMIN_PATH, "%.720s/%s", sh->dir, name);
}

void survey_head_path(const struct survey_shard *sh, uint64_t writer, char out[ADMIN_PATH])
{
    char name[SEGMENT_NAME_MAX];

    head_name(name, writer);
    (void)snprintf(out, ADMIN_PATH, "%.720s/%s", sh->dir, name);
}

bool survey_unread(const struct survey_segment *seg)
{
    return seg->toc_rc && seg->toc_rc != -EBADMSG && seg->toc_rc != -ESTALE &&
           seg->toc_rc != -ENODATA && seg->toc_rc != -ENOENT;
}

bool survey_model_is(const struct survey_space *sp, const char *model)
{
    json_t *o = sp->json_len > 0 ? json_loadb(sp->json, (size_t)sp->json_len, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(o, "model"));
    bool same = text && strcmp(text, model) == 0;

    json_decref(o);
    return same;
}

bool survey_space_is(const struct survey_space *sp, const uint8_t fingerprint[32])
{
    size_t len = strlen(sp->name);
    char digits[33];
    unsigned i;

    if (!sp->inspect_rc && memcmp(sp->fingerprint, fingerprint, 32) == 0)
        return true;
    if (!survey_named_like_space(sp->name))
        return sp->inspect_rc != 0; /* nothing says what it should be */
    for (i = 0; i < 16; i++)
        (void)snprintf(digits + 2 * i, 3, "%02x", fingerprint[i]);
    return strcmp(sp->name + len - 32, digits) == 0;
}

int survey_one(const struct admin *ad, const struct survey *v, const struct survey_space **out)
{
    const char *what = ad->opt.space ? ad->opt.space : "(any)";

    if (v->nspaces == 0)
        return err_set(CISTERN_ESPACE, "%s: no space has a name that begins so", what);
    if (v->nspaces > 1)
        return err_set(CISTERN_ESPACE, "%s: %zu spaces have names that begin so; name one", what,
                       v->nspaces);
    *out = &v->spaces[0];
    return 0;
}

uint64_t survey_usage(const struct survey *v)
{
    uint64_t bytes = v->json_stat.disk_bytes + v->salt_stat.disk_bytes;
    size_t i, j, k;

    for (i = 0; i < v->nspaces; i++) {
        const struct survey_space *sp = &v->spaces[i];

        bytes += sp->json_stat.disk_bytes;
        for (j = 0; j < sp->nshards; j++) {
            const struct survey_shard *sh = &sp->shards[j];

            for (k = 0; k < sh->nsegments; k++)
                bytes += sh->segments[k].toc_stat.disk_bytes + sh->segments[k].data_stat.disk_bytes;
            for (k = 0; k < sh->nwriters; k++)
                bytes += sh->writers[k].head_stat.disk_bytes;
        }
    }
    return bytes;
}
