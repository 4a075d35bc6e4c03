/*
 * notes_file.c - see notes_file.h.
 *
 * The data file first, so that a crash leaves an empty one at worst, which anybody collects: notes
 * are there with all that keeps them, or not at all. When a call fails the contents go last: data
 * never goes right after its contents, and whoever watches need not know that this has no blocks.
 */
#include "engine/notes_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/fault.h"

#define PATH_BYTES 800

/* A new writer of that shard, which closed: no blocks, only notes. */
struct alone {
    uint64_t writer;
    char toc[PATH_BYTES], seg[PATH_BYTES], head[PATH_BYTES];
    uint8_t *bytes;
    size_t len;
};

/* The header page, and the writer of what follows it; `key` is room for the segment's. */
static int begin(const struct notes_file *f, struct alone *a, struct toc_header *h,
                 struct toc_writer *w, uint8_t key[CRYPT_KEY])
{
    h->writer = a->writer;
    h->seq = 0;
    h->created_s = clock_wall_s();
    h->flags = f->crypt ? TOC_ENCRYPTED : 0;
    toc_header_encode(h, a->bytes);
    toc_writer_init(w, h->segment_id);
    if (!f->crypt)
        return 0;
    w->key = key;
    w->cipher = f->cipher;
    return crypt_make_key(key) ? -EIO : toc_wrap(f->crypt, f->cipher, key, a->bytes);
}

static int encode(const struct notes_file *f, struct alone *a, const struct dead_note *notes,
                  size_t n)
{
    struct toc_header h = *f->of;
    uint8_t key[CRYPT_KEY];
    struct toc_writer w;
    struct toc_batch b;
    size_t i, room = (n / (FORMAT_FRAME_RECORDS - 1) + 3) * FORMAT_PAGE;
    int rc, sealed;

    if (getrandom(&a->writer, sizeof a->writer, 0) != sizeof a->writer ||
        getrandom(h.segment_id, sizeof h.segment_id, 0) != sizeof h.segment_id)
        return -EIO;
    if (!(a->bytes = aligned_alloc(64, room)))
        return -ENOMEM;
    rc = begin(f, a, &h, &w, key);
    toc_batch_begin(&b, &w, a->bytes + FORMAT_PAGE, room - FORMAT_PAGE);
    for (i = 0; i < n && !rc; i++) {
        const struct dead_note *d = &notes[i];

        rc = d->offset == DEAD_NOTE_ASIDE
                 ? toc_batch_aside(&b, d->segment_id, d->reason)
                 : toc_batch_dead(&b, d->key, d->segment_id, d->offset, d->reason);
    }
    sealed = toc_batch_end(&b, 0, clock_wall_s());
    crypt_wipe(key, sizeof key);
    a->len = FORMAT_PAGE + b.used;
    return rc ? rc : sealed;
}

static int write_head(const struct notes_file *f, const struct alone *a)
{
    _Alignas(64) uint8_t page[FORMAT_PAGE];
    struct head_record h = {.state = HEAD_CLOSED,
                            .writer = a->writer,
                            .counter = 1,
                            .shard = f->of->shard,
                            .shards = f->of->shards,
                            .next_seq = 1,
                            .published = a->len,
                            .written_s = clock_wall_s()};

    memcpy(h.space, f->of->space, sizeof h.space);
    head_encode(&h, NULL, 0, page);
    return f->io->ops->small_write(f->io, a->head, page, sizeof page, true);
}

static int write_files(const struct notes_file *f, const struct alone *a)
{
    struct io_file data = {.fd = -1};
    int rc = f->io->ops->file_open(f->io, a->seg, IO_WRITE | IO_CREATE, &data);

    if (rc)
        return rc;
    f->io->ops->file_close(f->io, &data);
    fault_point("notes.data_made");
    rc = f->io->ops->small_write(f->io, a->toc, a->bytes, a->len, true);
    fault_point("notes.contents_made");
    rc = rc ? rc : write_head(f, a);
    fault_point("notes.made");
    return rc;
}

static void name_files(struct alone *a, const char *dir)
{
    char name[SEGMENT_NAME_MAX];

    segment_name(name, a->writer, 0, ".toc");
    (void)snprintf(a->toc, sizeof a->toc, "%s/%s", dir, name);
    segment_name(name, a->writer, 0, ".seg");
    (void)snprintf(a->seg, sizeof a->seg, "%s/%s", dir, name);
    head_name(name, a->writer);
    (void)snprintf(a->head, sizeof a->head, "%s/%s", dir, name);
}

int notes_file_write(const struct notes_file *f, const struct dead_note *notes, size_t n)
{
    struct alone a = {0};
    int rc = encode(f, &a, notes, n);

    if (!rc) {
        name_files(&a, f->dir);
        rc = write_files(f, &a);
        if (rc) {
            (void)f->io->ops->unlink(f->io, a.head);
            (void)f->io->ops->unlink(f->io, a.seg);
            (void)f->io->ops->unlink(f->io, a.toc);
        }
    }
    free(a.bytes);
    return rc;
}
