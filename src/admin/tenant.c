/*
 * tenant.c - see tenant.h.
 *
 * Contents are read once more than by the survey, which keeps no blocks. What a live writer added
 * since counts.
 */
#include "admin/tenant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/contents.h"
#include "admin/leave.h"

struct looking {
    struct tenant_shard *t;
    size_t i;
    const uint8_t *mark;
    struct survey_segment again;
};

/* ---- Order ---- */

static int by_note(const void *x, const void *y)
{
    const struct dead_note *a = &((const struct tenant_note *)x)->note,
                           *b = &((const struct tenant_note *)y)->note;
    int r = memcmp(a->segment_id, b->segment_id, sizeof a->segment_id);

    if (!r)
        r = memcmp(a->key, b->key, sizeof a->key);
    return r ? r : a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int by_id(const void *x, const void *y)
{
    return memcmp(x, y, 16);
}

static int id_add(struct tenant_ids *ids, const uint8_t id[16])
{
    uint8_t(*one)[16] = admin_grow(&ids->at, ids->count, sizeof *one);

    if (!one)
        return -ENOMEM;
    ids->count++;
    memcpy(*one, id, sizeof *one);
    return 0;
}

static bool has_id(const struct tenant_ids *ids, const uint8_t id[16])
{
    return ids->count && bsearch(id, ids->at, ids->count, sizeof *ids->at, by_id);
}

void tenant_sort(struct tenant_ids *ids)
{
    if (ids->count)
        qsort(ids->at, ids->count, sizeof *ids->at, by_id);
}

/* ---- Reading ---- */

static int add(struct tenant_notes *list, size_t from, const uint8_t key[32], const uint8_t id[16],
               uint32_t offset, uint8_t reason)
{
    struct tenant_note *n = admin_grow(&list->at, list->count, sizeof *n);

    if (!n)
        return -ENOMEM;
    list->count++;
    n->from = from;
    n->note.offset = offset;
    n->note.reason = reason;
    memcpy(n->note.key, key, sizeof n->note.key);
    memcpy(n->note.segment_id, id, sizeof n->note.segment_id);
    return 0;
}

static int on_block(void *arg, const struct block_info *b)
{
    struct looking *l = arg;
    struct tenant_segment *s = &l->t->at[l->i];
    const uint8_t *id = l->again.header.segment_id;
    uint64_t bytes = 0;
    unsigned i;

    for (i = 0; i < b->parts; i++)
        bytes += b->length[i];
    s->recorded++;
    if (!key_has_mark(b->key, l->mark)) {
        bool lost =
            l->t->shard->segments[l->i].aside || survey_dead(l->t->shard, id, b->key, b->offset);

        s->other_blocks += !lost;
        s->other_bytes += lost ? 0 : bytes;
        return 0;
    }
    s->blocks++;
    s->bytes += bytes;
    return add(&l->t->copies, l->i, b->key, id, b->offset, DEAD_DELETED);
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t id[16], uint32_t offset,
                   uint8_t reason)
{
    struct looking *l = arg;

    l->t->at[l->i].said++;
    return add(&l->t->said, l->i, key, id, offset, reason);
}

static int on_aside(void *arg, const uint8_t id[16], uint8_t reason)
{
    static const uint8_t any[32];

    return on_dead(arg, any, id, DEAD_NOTE_ASIDE, reason);
}

/* Whoever reads it later finds nothing either. One bad read proves nothing. */
static bool is_nothing(const struct survey_segment *seg)
{
    return seg->toc_rc == -ENOENT || (seg->toc_rc == -ENODATA && !seg->toc_stat.size);
}

static enum tenant_fate fate_of(const struct looking *l)
{
    const struct survey_segment *seg = &l->again;
    const struct tenant_segment *s = &l->t->at[l->i];

    if (is_nothing(seg))
        return TENANT_NONE;
    if (seg->toc_rc == CISTERN_EFORMAT || (!seg->toc_rc && seg->end == TOC_LATER))
        return TENANT_LATER;
    if (seg->toc_rc || seg->locked)
        return TENANT_UNREAD;
    if (!s->blocks)
        return TENANT_NONE;
    return leave_sealed(seg, survey_writer_of(l->t->shard, seg->writer)) ? TENANT_GOES
                                                                         : TENANT_GROWS;
}

static int look_segment(struct admin *ad, struct looking *l)
{
    struct tenant_shard *t = l->t;
    struct tenant_segment *s = &t->at[l->i];
    const struct toc_sink sink = {.block = on_block, .dead = on_dead, .aside = on_aside, .arg = l};
    int rc = contents_read(ad, t->shard, &l->again, &sink);

    if (rc)
        return rc;
    s->fate = fate_of(l);
    if (l->again.toc_rc) {
        t->unread |= !is_nothing(&l->again);
        return 0;
    }
    s->whole = l->again.end == TOC_END && l->again.toc_stat.size <= l->again.cursor.position;
    s->known = true;
    memcpy(s->id, l->again.header.segment_id, sizeof s->id);
    if ((rc = id_add(&t->ids, s->id)))
        return rc;
    if (survey_space_is(t->space, l->again.header.space))
        t->of = l->again.header;
    return 0;
}

int tenant_look(struct admin *ad, const struct survey_space *sp, struct survey_shard *sh,
                const uint8_t mark[KEY_MARK], struct tenant_shard *out)
{
    size_t i;
    int rc = 0;

    *out = (struct tenant_shard){.space = sp, .shard = sh};
    if (!(out->at = calloc(sh->nsegments + 1, sizeof *out->at)))
        return err_set(-ENOMEM, "no memory for %zu segments", sh->nsegments);
    for (i = 0; i < sh->nsegments && !rc; i++) {
        struct looking l = {.t = out,
                            .i = i,
                            .mark = mark,
                            .again = {.writer = sh->segments[i].writer,
                                      .seq = sh->segments[i].seq,
                                      .toc_stat = sh->segments[i].toc_stat}};

        if (sh->segments[i].has_toc)
            rc = look_segment(ad, &l);
        rc = rc ? rc : admin_progress(ad, "looking for the tenant");
    }
    if (out->said.count)
        qsort(out->said.at, out->said.count, sizeof *out->said.at, by_note);
    tenant_sort(&out->ids);
    return rc;
}

void tenant_free(struct tenant_shard *t)
{
    free(t->at);
    free(t->said.at);
    free(t->copies.at);
    free(t->ids.at);
    *t = (struct tenant_shard){0};
}

/* ---- What is to be said ---- */

static bool is_there(const struct tenant_shard *t, const uint8_t id[16])
{
    return t->unread || has_id(&t->ids, id);
}

/* The first record that says this; NULL: none. */
static const struct tenant_note *first_said(const struct tenant_shard *t,
                                            const struct tenant_note *n)
{
    const struct tenant_note *found =
        t->said.count ? bsearch(n, t->said.at, t->said.count, sizeof *n, by_note) : NULL;

    while (found && found > t->said.at && by_note(found - 1, n) == 0)
        found--;
    return found;
}

/* A segment that stays says so: one with a data file, without which nobody keeps contents for
 * long. */
static bool is_said(const struct tenant_shard *t, const struct tenant_note *n)
{
    const struct tenant_note *s = first_said(t, n);

    for (; s && s < t->said.at + t->said.count && by_note(s, n) == 0; s++)
        if (t->at[s->from].fate != TENANT_GOES && t->shard->segments[s->from].has_data)
            return true;
    return false;
}

static int take(const struct tenant_shard *t, const struct tenant_note *n, struct dead_note **out,
                size_t *count)
{
    struct dead_note *one;

    if (is_said(t, n))
        return 0;
    if (!(one = admin_grow(out, *count, sizeof *one)))
        return -ENOMEM;
    *one = n->note;
    ++*count;
    return 0;
}

int tenant_unsaid(const struct tenant_shard *t, struct dead_note **out, size_t *n)
{
    size_t i;
    int rc = 0;

    *out = NULL;
    *n = 0;
    for (i = 0; i < t->copies.count && !rc; i++)
        rc = take(t, &t->copies.at[i], out, n);
    for (i = 0; i < t->said.count && !rc; i++) {
        const struct tenant_note *s = &t->said.at[i];

        if (t->at[s->from].fate == TENANT_GOES && first_said(t, s) == s &&
            memcmp(s->note.segment_id, t->at[s->from].id, 16) != 0 &&
            is_there(t, s->note.segment_id))
            rc = take(t, s, out, n);
    }
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

int tenant_see(const struct tenant_shard *t, struct tenant_ids *seen)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < t->shard->nsegments && !rc; i++)
        if (t->at[i].known && t->at[i].fate != TENANT_GOES)
            rc = id_add(seen, t->at[i].id);
    return rc;
}

bool tenant_is_empty_talk(const struct tenant_shard *t, size_t segment,
                          const struct tenant_ids *seen)
{
    const struct tenant_segment *s = &t->at[segment];
    size_t i;

    if (!s->known || !s->whole || s->fate != TENANT_NONE || s->recorded || !s->said)
        return false;
    for (i = 0; i < t->said.count; i++) {
        const struct tenant_note *n = &t->said.at[i];

        if (n->from == segment &&
            (is_there(t, n->note.segment_id) || has_id(seen, n->note.segment_id)))
            return false;
    }
    return true;
}
