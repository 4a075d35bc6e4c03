/*
 * contents.c - reads one contents file or one head through the ring, to where its data ends, never
 * by st_size. An end that may be none is looked at a few times: a writer may be in the middle of a
 * frame.
 */
#include "admin/contents.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"

#define LOOKS   3
#define LOOK_MS 20

static int open_file(struct admin *ad, const char *path, struct io_file *f)
{
    *f = (struct io_file){.fd = -1};
    return ad->io->ops->file_open(ad->io, path, IO_READ, f);
}

/* What stands where a frame should: enough of it for a word about what is wrong? */
static enum torn_kind torn_look(const struct toc_cursor *c, const uint8_t *p, size_t len)
{
    uint8_t frame[FORMAT_PAGE];
    uint64_t at = c->position;
    size_t skip = 0, bytes;

    if (len >= sizeof(uint32_t) && le32_load(p) == 0)
        skip = FORMAT_PAGE - at % FORMAT_PAGE; /* padding */
    if (len < skip + FORMAT_RECORD || le32_load(p + skip) != FORMAT_FRAME_MAGIC)
        return TORN_BYTES;
    at += skip;
    bytes = (size_t)FORMAT_RECORD * (1u + le16_load(p + skip + 4));
    if (bytes > FORMAT_PAGE || bytes > len - skip)
        return TORN_BYTES;
    memcpy(frame, p + skip, bytes);
    memset(frame + offsetof(struct frame_header, checksum), 0, 8);
    if (hash64(frame, bytes) != le64_load(p + skip + offsetof(struct frame_header, checksum)))
        return TORN_BYTES;
    if (le64_load(frame + offsetof(struct frame_header, number)) != c->number ||
        le64_load(frame + offsetof(struct frame_header, position)) != at ||
        memcmp(frame + offsetof(struct frame_header, segment_id), c->segment_id, 16) != 0)
        return TORN_NUMBER;
    return TORN_RECORDS;
}

static int take_header(struct admin *ad, struct io_file *f, const struct survey_shard *sh,
                       struct survey_segment *seg)
{
    const uint8_t *p;
    int64_t n = admin_read(ad, f, 0, FORMAT_PAGE, &p);

    if (n < 0)
        return (int)n;
    if (n == 0)
        return -ENODATA;
    if (n < (int64_t)FORMAT_PAGE)
        return err_set(-EBADMSG, "the header page is cut at byte %lld", (long long)n);
    n = toc_header_decode(p, &seg->header);
    if (n)
        return (int)n;
    if (seg->header.writer != seg->writer || seg->header.seq != seg->seq ||
        seg->header.shard != sh->shard || seg->header.shards != sh->shards)
        return err_set(-ESTALE,
                       "the header is of another file: writer %016llx, segment %llu, "
                       "shard %u of %u",
                       (unsigned long long)seg->header.writer, (unsigned long long)seg->header.seq,
                       seg->header.shard, seg->header.shards);
    toc_cursor_init(&seg->cursor, seg->header.segment_id);
    seg->cursor.encrypted = (seg->header.flags & TOC_ENCRYPTED) != 0;
    if (!seg->cursor.encrypted)
        return 0;
    toc_key_id(p, seg->key_id);
    n = toc_unwrap(ad->crypt, ad->cipher, p, seg->key);
    seg->locked = n == CISTERN_EKEY;
    return seg->locked ? 0 : (int)n;
}

/* Frames from the cursor on. */
static int take_frames(struct admin *ad, struct io_file *f, struct survey_segment *seg,
                       const struct toc_sink *sink)
{
    const uint8_t *p;
    int64_t n;

    /* Segments move when their list is sorted: where the key lies is said anew each time. */
    seg->cursor.key = seg->cursor.encrypted && !seg->locked ? seg->key : NULL;
    seg->cursor.cipher = ad->cipher;
    do {
        uint64_t before = seg->cursor.position;

        n = admin_read(ad, f, before, ADMIN_PIECE, &p);
        if (n < 0)
            return (int)n;
        seg->end = toc_parse(&seg->cursor, p, (size_t)n, n < (int64_t)ADMIN_PIECE, sink);
        if (seg->end < 0)
            return seg->end;
        if (seg->end == TOC_MORE && seg->cursor.position == before)
            seg->end = TOC_TORN;
        if (seg->end == TOC_TORN)
            seg->torn = torn_look(&seg->cursor, p + (seg->cursor.position - before),
                                  (size_t)n - (size_t)(seg->cursor.position - before));
    } while (seg->end == TOC_MORE);
    return 0;
}

/* A read that ends early looks like the end of the file: its size must say the same. It is no proof
 * that there is more: behind a crash zeros may follow. */
static bool look_again(const struct survey_segment *seg)
{
    return seg->end == TOC_TORN ||
           (seg->end == TOC_END && seg->toc_stat.size > seg->cursor.position);
}

int contents_read(struct admin *ad, const struct survey_shard *sh, struct survey_segment *seg,
                  const struct toc_sink *sink)
{
    struct io_file f;
    char path[ADMIN_PATH];
    int look, rc;

    survey_segment_path(sh, seg, ".toc", path);
    err_clear();
    rc = open_file(ad, path, &f);
    if (!rc)
        rc = take_header(ad, &f, sh, seg);
    for (look = 0; !rc && look < LOOKS && (look == 0 || look_again(seg)); look++) {
        if (look)
            rc = admin_sleep(ad, "looking again", LOOK_MS);
        rc = rc ? rc : take_frames(ad, &f, seg, sink);
    }
    ad->io->ops->file_close(ad->io, &f);
    seg->toc_rc = rc;
    (void)snprintf(seg->toc_text, sizeof seg->toc_text, "%s",
                   rc && err_text()[0] ? err_text() : cistern_error_string(rc));
    return admin_ends_all(rc) ? rc : 0;
}

int contents_head(struct admin *ad, const struct survey_shard *sh, struct survey_writer *w,
                  uint64_t *hash)
{
    const uint8_t *p = NULL;
    struct io_file f;
    char path[ADMIN_PATH];
    int64_t n;
    int rc;

    survey_head_path(sh, w->id, path);
    err_clear();
    *hash = 0;
    n = rc = open_file(ad, path, &f);
    if (!rc)
        n = admin_read(ad, &f, 0, FORMAT_PAGE, &p);
    if (n < 0)
        rc = (int)n;
    else if (n < (int64_t)FORMAT_PAGE)
        rc = n ? err_set(-EBADMSG, "it has %lld bytes, not a page", (long long)n) : -ENODATA;
    else if (!(rc = head_decode(p, &w->head)) &&
             (w->head.writer != w->id || w->head.shard != sh->shard))
        rc = err_set(-EBADMSG, "it is of another writer, %016llx",
                     (unsigned long long)w->head.writer);
    if (!rc)
        head_touches(p, w->touches, HEAD_TOUCHES_MAX);
    if (n > 0)
        *hash = hash64(p, (size_t)n);
    ad->io->ops->file_close(ad->io, &f);
    w->head_rc = rc;
    (void)snprintf(w->head_text, sizeof w->head_text, "%s",
                   rc && err_text()[0] ? err_text() : cistern_error_string(rc));
    return admin_ends_all(rc) ? rc : 0;
}
