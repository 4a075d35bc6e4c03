/*
 * fsck_shard.c - the checks of one shard: heads, contents, data, and what they say of each other.
 *
 * What can be removed is told elsewhere (litter.c), once. A writer that may be alive adds files and
 * frames while we look: nothing here is said of what a live writer has merely begun.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/fsck.h"

#define SEQS_MAX 65536u /* of a head's live range, looked at one by one */

/* ---- Heads ---- */

static const struct survey_segment *segment_of(const struct survey_shard *sh,
                                               const struct survey_writer *w, uint64_t seq)
{
    size_t i;

    for (i = w->first; i < w->first + w->count; i++)
        if (sh->segments[i].seq == seq)
            return &sh->segments[i];
    return NULL;
}

/* The live range that a good head tells, against what is there. */
static int head_range(struct fsck *f, const struct survey_shard *sh, const struct survey_writer *w,
                      const char *path)
{
    const struct head_record *h = &w->head;
    const struct survey_segment *last = NULL;
    uint64_t seq, gone = 0;
    int rc = 0;

    if (h->next_seq < h->first_seq || h->next_seq - h->first_seq > SEQS_MAX)
        return fsck_say(f, CF200, path, 0, "segments %" PRIu64 " to %" PRIu64, h->first_seq,
                        h->next_seq);
    for (seq = h->first_seq; seq < h->next_seq; seq++) {
        last = segment_of(sh, w, seq);
        gone += !last || !last->has_toc;
    }
    if (gone && w->count)
        rc = fsck_say(f, CF205, path, 0, "%" PRIu64 " of %" PRIu64 " segments", gone,
                      h->next_seq - h->first_seq);
    if (!rc && last && !last->toc_rc && last->cursor.position < h->published &&
        last->end != TOC_LATER)
        rc = fsck_say(f, CF204, path, 0,
                      "contents of segment %" PRIu64 " end at %" PRIu64 ", published %" PRIu64,
                      last->seq, last->cursor.position, h->published);
    return rc;
}

static int fsck_head(struct fsck *f, const struct survey_shard *sh, const struct survey_writer *w)
{
    char path[ADMIN_PATH];
    int rc;

    survey_head_path(sh, w->id, path);
    if (!w->has_head) {
        size_t i;

        for (i = w->first; i < w->first + w->count; i++)
            if (!sh->segments[i].toc_rc && sh->segments[i].cursor.number)
                return fsck_say(f, CF201, path, 0, "no such file");
        return 0;
    }
    if (w->head_rc == -ENODATA || w->head_rc == -ENOENT)
        return 0; /* made and never written: its writer lives, or all of it is litter */
    if (w->head_rc == CISTERN_EFORMAT)
        return fsck_say(f, CF202, path, 0, "%s", w->head_text);
    if (w->head_rc)
        return fsck_say(f, w->head_rc == -EBADMSG ? CF200 : CF310, path, 0, "%s", w->head_text);
    rc = head_range(f, sh, w, path);
    if (!rc && w->state != OWNER_CLOSED && w->head.health & HEAD_HEALTH_BREAKER)
        rc = fsck_say(f, CF207, path, 0, "process %u of %.63s", w->head.pid, w->head.host);
    if (!rc && w->state != OWNER_CLOSED)
        rc = fsck_say(f, CF203, path, 0, "%s, process %u of %.63s",
                      w->state == OWNER_SILENT ? "it has ended"
                      : w->state == OWNER_LIVE ? "it lives"
                                               : "it may be alive",
                      w->head.pid, w->head.host);
    return rc;
}

/* ---- Contents ---- */

static int contents_end(struct fsck *f, const struct survey_segment *seg, const char *path)
{
    static const enum fsck_id ids[] = {
        [TORN_BYTES] = CF303, [TORN_NUMBER] = CF304, [TORN_RECORDS] = CF305};

    if (seg->end == TOC_TORN)
        return fsck_say(f, ids[seg->torn], path, 0,
                        "at byte %" PRIu64 ", where frame %" PRIu64 " is due; %" PRIu64
                        " blocks before it",
                        seg->cursor.position, seg->cursor.number, seg->cursor.blocks);
    if (seg->end == TOC_LATER)
        return fsck_say(f, CF306, path, 0, "from byte %" PRIu64 " on", seg->cursor.position);
    return 0;
}

static int say_locked(struct fsck *f, const struct survey_segment *seg, const char *path)
{
    char id[CRYPT_ID_TEXT];

    crypt_id_text(seg->key_id, id);
    return fsck_say(f, CF311, path, 0, "key %s; %" PRIu64 " frames are whole", id,
                    seg->cursor.number);
}

static int fsck_contents(struct fsck *f, const struct survey_space *sp,
                         const struct survey_segment *seg, const char *path)
{
    int rc = 0;

    if (seg->toc_rc == CISTERN_EFORMAT)
        return fsck_say(f, CF306, path, 0, "%s", seg->toc_text);
    if (seg->toc_rc == -EBADMSG || seg->toc_rc == -ESTALE)
        return fsck_say(f, seg->toc_rc == -ESTALE ? CF301 : CF300, path, 0, "%s", seg->toc_text);
    if (seg->toc_rc == -ENODATA || seg->toc_rc == -ENOENT)
        return 0;
    if (seg->toc_rc)
        return fsck_say(f, CF310, path, 0, "%s", seg->toc_text);
    if (!survey_space_is(sp, seg->header.space))
        rc = fsck_say(f, CF302, path, 0, "its fingerprint begins with %02x%02x%02x%02x",
                      seg->header.space[0], seg->header.space[1], seg->header.space[2],
                      seg->header.space[3]);
    if (!rc && seg->locked)
        rc = say_locked(f, seg, path);
    if (!rc && f->encrypted && !seg->cursor.encrypted)
        rc = fsck_say(f, CF312, path, 0, "%" PRIu64 " blocks", seg->cursor.blocks);
    rc = rc ? rc : contents_end(f, seg, path);
    if (!rc && seg->aside)
        rc = fsck_say(f, CF309, path, 0, "%" PRIu64 " blocks", seg->cursor.blocks);
    return rc;
}

/* ---- Data ---- */

/* st_size may lag: what is missing is asked for before it is said to be. */
static int data_ends_before(struct fsck *f, const char *path, uint64_t end, bool *out)
{
    uint64_t page = (end - 1) / FORMAT_PAGE * FORMAT_PAGE;
    struct io_file file = {.fd = -1};
    const uint8_t *p;
    int64_t n = f->ad.io->ops->file_open(f->ad.io, path, IO_READ, &file);

    if (n == 0)
        n = admin_read(&f->ad, &file, page, FORMAT_PAGE, &p);
    f->ad.io->ops->file_close(f->ad.io, &file);
    if (n < 0)
        return (int)n;
    *out = page + (uint64_t)n < end;
    return 0;
}

static int fsck_data(struct fsck *f, const struct survey_shard *sh,
                     const struct survey_segment *seg)
{
    char path[ADMIN_PATH];
    bool cut = false;
    int rc;

    survey_segment_path(sh, seg, ".seg", path);
    if (seg->toc_rc || !seg->cursor.blocks)
        return 0;
    if (!seg->has_data) /* without marks it is litter, and told there */
        return seg->marks ? fsck_say(f, CF400, path, 0, "%" PRIu64 " blocks", seg->cursor.blocks)
                          : 0;
    if (seg->data_stat.size >= seg->data_end)
        return 0;
    rc = data_ends_before(f, path, seg->data_end, &cut);
    if (rc == -ETIMEDOUT || rc == -EBUSY)
        return rc;
    if (rc)
        return fsck_say(f, CF310, path, 0, "%s", cistern_error_string(rc));
    return cut ? fsck_say(f, CF401, path, 0, "%" PRIu64 " bytes, payloads end at %" PRIu64,
                          seg->data_stat.size, seg->data_end)
               : 0;
}

int fsck_shard(struct fsck *f, const struct survey_space *sp, struct survey_shard *sh)
{
    char path[ADMIN_PATH];
    size_t i;
    int rc = 0;

    for (i = 0; i < sh->nwriters && !rc; i++) {
        f->sum.writers++;
        f->sum.files += sh->writers[i].has_head;
        rc = fsck_head(f, sh, &sh->writers[i]);
    }
    for (i = 0; i < sh->nsegments && !rc; i++) {
        const struct survey_segment *seg = &sh->segments[i];

        f->sum.segments++;
        f->sum.files += (uint64_t)seg->has_toc + seg->has_data;
        f->sum.blocks += seg->toc_rc ? 0 : seg->cursor.blocks;
        survey_segment_path(sh, seg, ".toc", path);
        rc = seg->has_toc ? fsck_contents(f, sp, seg, path) : 0;
        rc = rc ? rc : fsck_data(f, sh, seg);
    }
    return rc;
}

/* ---- Ids ---- */

struct named_id {
    uint8_t id[16];
    const struct survey_shard *sh;
    const struct survey_segment *seg;
};

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static int say_twice(struct fsck *f, const struct named_id *a, const struct named_id *b)
{
    char first[ADMIN_PATH], second[ADMIN_PATH];

    survey_segment_path(a->sh, a->seg, ".toc", first);
    survey_segment_path(b->sh, b->seg, ".toc", second);
    return fsck_say(f, CF308, second, 0, "the same id as %.400s", first);
}

int fsck_ids(struct fsck *f, struct survey_space *sp)
{
    struct named_id *ids = NULL, *one;
    size_t n = 0, i, j;
    int rc = 0;

    for (i = 0; i < sp->nshards && !rc; i++) {
        const struct survey_shard *sh = &sp->shards[i];

        for (j = 0; j < sh->nsegments && !rc; j++) {
            if (sh->segments[j].toc_rc)
                continue;
            one = admin_grow(&ids, n, sizeof *ids);
            if (!one) {
                rc = -ENOMEM;
                continue;
            }
            n++;
            memcpy(one->id, sh->segments[j].header.segment_id, sizeof one->id);
            one->sh = sh;
            one->seg = &sh->segments[j];
        }
    }
    if (n)
        qsort(ids, n, sizeof *ids, by_id);
    for (i = 1; i < n && !rc; i++)
        if (memcmp(ids[i - 1].id, ids[i].id, 16) == 0)
            rc = say_twice(f, &ids[i - 1], &ids[i]);
    free(ids);
    return rc;
}
