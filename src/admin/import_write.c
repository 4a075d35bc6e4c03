/*
 * import_write.c - files of an import, in the order that docs/FORMAT.md asks of every writer: head,
 * empty contents, data; contents when data are synced; the head says closed.
 *
 * The head is rewritten every few seconds, so that nobody takes the writer for a dead one. Data go
 * out a MiB at a time, one write after the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "admin/import.h"
#include "base/bits.h"
#include "base/clock.h"

#define BEAT_NS (5 * NS_PER_S)
#define DATA    0u /* piece of the staging that data lie in until they go out */
#define SMALL   1u /* ... of contents and heads */
#define PATIENT 10u

static uint8_t *piece(struct import *m, unsigned i)
{
    return m->ad.mem.base + (size_t)i * ADMIN_PIECE;
}

/* One write and its answer. */
static int write_piece(struct import *m, struct io_file *f, uint8_t *from, uint64_t offset,
                       uint64_t len)
{
    struct io *io = m->ad.io;
    struct io_done done = {0};
    int n, rc = admin_send(&m->ad, &m->ring, from, f, offset, len, 0);

    if (rc || (rc = admin_submit(&m->ad, &m->ring)))
        return rc;
    n = io->ops->wait(io, &m->ring, &done, 1, 1,
                      (uint64_t)PATIENT * m->ad.cfg.write_timeout_ms * NS_PER_MS);
    if (n != 1)
        return err_set(n < 0 ? n : -ETIMEDOUT, "storage does not answer writes");
    if (done.result < 0)
        return err_set((int)done.result, "a write failed: %s",
                       cistern_error_string((int)done.result));
    if ((uint64_t)done.result != len)
        return err_set(-EIO, "a write of %llu bytes wrote %lld", (unsigned long long)len,
                       (long long)done.result);
    return 0;
}

static int write_bytes(struct import *m, struct io_file *f, const uint8_t *bytes, size_t len)
{
    size_t done = 0;
    int rc = 0;

    while (done < len && !rc) {
        size_t n = len - done < ADMIN_PIECE ? len - done : ADMIN_PIECE;

        memcpy(piece(m, SMALL), bytes + done, n);
        rc = write_piece(m, f, piece(m, SMALL), done, n);
        done += n;
    }
    return rc;
}

/* ---- Heads ---- */

static int write_head(struct import *m, struct import_writer *w, uint32_t state)
{
    struct head_record h = {.state = state,
                            .writer = w->id,
                            .counter = ++w->counter,
                            .shard = w->shard,
                            .shards = m->shards,
                            .next_seq = state == HEAD_CLOSED ? w->next_seq : 0,
                            .published = state == HEAD_CLOSED ? w->published : 0,
                            .written_s = clock_wall_s(),
                            .pid = (uint32_t)getpid()};

    memcpy(h.space, m->fingerprint, sizeof h.space);
    (void)gethostname(h.host, sizeof h.host - 1);
    head_encode(&h, NULL, 0, piece(m, SMALL));
    return write_piece(m, &w->head, piece(m, SMALL), 0, FORMAT_PAGE);
}

static int beat(struct import *m)
{
    uint64_t now = clock_ns();
    size_t i;
    int rc = 0;

    if (now - m->beat_ns < BEAT_NS)
        return 0;
    m->beat_ns = now;
    for (i = 0; i < m->nwriters && !rc; i++)
        rc = write_head(m, &m->writers[i], HEAD_LIVE);
    return rc;
}

static void head_path(const struct import_writer *w, char out[ADMIN_PATH])
{
    char name[SEGMENT_NAME_MAX];

    head_name(name, w->id);
    (void)snprintf(out, ADMIN_PATH, "%.700s/%s", w->dir, name);
}

static void file_path(const struct import_writer *w, uint64_t seq, const char *suffix,
                      char out[ADMIN_PATH])
{
    char name[SEGMENT_NAME_MAX];

    segment_name(name, w->id, seq, suffix);
    (void)snprintf(out, ADMIN_PATH, "%.700s/%s", w->dir, name);
}

/* The writer of a shard, made when its first segment comes. */
static int writer_of(struct import *m, uint32_t shard, uint32_t *out)
{
    char path[ADMIN_PATH];
    struct import_writer *w;
    size_t i;
    int rc;

    for (i = 0; i < m->nwriters; i++)
        if (m->writers[i].shard == shard) {
            *out = (uint32_t)i;
            return 0;
        }
    if (!(w = admin_grow(&m->writers, m->nwriters, sizeof *w)))
        return -ENOMEM;
    w->shard = shard;
    w->head.fd = -1;
    if (getrandom(&w->id, sizeof w->id, 0) != sizeof w->id)
        return err_set(-EIO, "no random bytes");
    (void)snprintf(w->dir, sizeof w->dir, "%.700s/s%uof%u", m->space_dir, shard, m->shards);
    if ((rc = m->ad.io->ops->make_dir(m->ad.io, w->dir)))
        return err_set(rc, "cannot make the directory %s", w->dir);
    head_path(w, path);
    rc = m->ad.io->ops->file_open(m->ad.io, path, IO_WRITE | IO_CREATE, &w->head);
    if (rc)
        return err_set(rc, "cannot make %s: %s", path, cistern_error_string(rc));
    *out = (uint32_t)m->nwriters++;
    return write_head(m, w, HEAD_LIVE);
}

/* ---- Segments ---- */

int import_segment_begin(struct import *m, const struct toc_header *source, struct toc_header *h)
{
    struct io *io = m->ad.io;
    struct io_file toc = {.fd = -1};
    struct contents_seal seal;
    struct import_segment *s;
    char path[ADMIN_PATH];
    uint32_t writer = 0;
    int rc = writer_of(m, source->shard, &writer);

    if (rc)
        return rc;
    if (!(s = admin_grow(&m->segments, m->nsegments, sizeof *s)))
        return -ENOMEM;
    s->shard = writer;
    s->seq = m->writers[writer].next_seq++;
    m->nsegments++;
    *h = *source;
    h->writer = m->writers[writer].id;
    h->seq = s->seq;
    h->created_s = clock_wall_s();
    if (getrandom(h->segment_id, sizeof h->segment_id, 0) != sizeof h->segment_id)
        return err_set(-EIO, "no random bytes");
    file_path(&m->writers[writer], s->seq, ".toc", path);
    if (!(rc = io->ops->file_open(io, path, IO_WRITE | IO_CREATE, &toc))) {
        io->ops->file_close(io, &toc);
        file_path(&m->writers[writer], s->seq, ".seg", path);
        rc = io->ops->file_open(io, path, IO_WRITE | IO_CREATE | IO_DIRECT, &m->data);
    }
    m->data_end = m->written = 0;
    if (rc)
        return err_set(rc, "cannot make %s: %s", path, cistern_error_string(rc));
    if (!m->ad.crypt) {
        h->flags = 0;
        return contents_out_begin(&s->contents, h, NULL);
    }
    h->flags = TOC_ENCRYPTED;
    s->key = malloc(CRYPT_KEY); /* the list of segments moves while it grows */
    if (!s->key)
        return err_set(-ENOMEM, "no memory for a key");
    seal = (struct contents_seal){m->ad.crypt, m->ad.cipher, s->key};
    rc = crypt_make_key(s->key);
    return rc ? rc : contents_out_begin(&s->contents, h, &seal);
}

static int flush_data(struct import *m)
{
    uint64_t len = m->data_end - m->written;
    int rc;

    if (!len)
        return 0;
    rc = write_piece(m, &m->data, piece(m, DATA), m->written, len);
    m->written = m->data_end;
    return rc ? rc : beat(m);
}

int import_data(struct import *m, const uint8_t *bytes, size_t len)
{
    int rc = 0;

    while (len && !rc) {
        uint64_t used = m->data_end - m->written, n = min_u64(len, ADMIN_PIECE - used);

        memcpy(piece(m, DATA) + used, bytes, n);
        m->data_end += n;
        bytes += n;
        len -= n;
        if (used + n == ADMIN_PIECE)
            rc = flush_data(m);
    }
    return rc;
}

int import_align(struct import *m)
{
    static const uint8_t zeros[FORMAT_PAGE];

    return import_data(m, zeros, round_up(m->data_end, FORMAT_PAGE) - m->data_end);
}

int import_segment_end(struct import *m)
{
    struct io *io = m->ad.io;
    int rc;

    if (m->data.fd < 0)
        return 0;
    rc = flush_data(m);
    if (!rc && (rc = io->ops->file_sync(io, &m->data)))
        rc = err_set(rc, "data cannot be synced: %s", cistern_error_string(rc));
    io->ops->file_close(io, &m->data);
    return rc ? rc : contents_out_end(&m->segments[m->nsegments - 1].contents);
}

/* ---- The end ---- */

static int commit_segment(struct import *m, struct import_segment *s)
{
    struct import_writer *w = &m->writers[s->shard];
    struct io *io = m->ad.io;
    struct io_file f = {.fd = -1};
    struct io_stat st;
    char path[ADMIN_PATH];
    int rc;

    file_path(w, s->seq, ".seg", path);
    if (io->ops->stat(io, path, &st) != 0)
        return err_set(-ESTALE, "%s was removed while the import ran", path);
    file_path(w, s->seq, ".toc", path);
    rc = io->ops->file_open(io, path, IO_WRITE, &f);
    rc = rc ? rc : write_bytes(m, &f, s->contents.bytes, s->contents.len);
    if (f.fd >= 0) {
        rc = rc ? rc : io->ops->file_sync(io, &f);
        io->ops->file_close(io, &f);
    }
    w->published = s->contents.len;
    return rc ? err_set(rc, "%s cannot be written: %s", path, cistern_error_string(rc)) : 0;
}

/* Names last as long as what they name: of all directories from the mount down to the segments. */
static int sync_names(struct import *m)
{
    char path[ADMIN_PATH], *slash;
    size_t i;
    int rc = 0;

    for (i = 0; i < m->nwriters && !rc; i++)
        rc = admin_sync_dir(&m->ad, m->writers[i].dir);
    (void)snprintf(path, sizeof path, "%s", m->space_dir);
    while (!rc && path[0]) {
        rc = admin_sync_dir(&m->ad, path);
        slash = strrchr(path, '/');
        path[slash ? slash - path : 0] = 0;
    }
    return rc ? rc : admin_sync_dir(&m->ad, "");
}

int import_commit(struct import *m)
{
    size_t i;
    int rc = sync_names(m);

    for (i = 0; i < m->nsegments && !rc; i++) {
        rc = commit_segment(m, &m->segments[i]);
        rc = rc ? rc : beat(m); /* each has a sync */
    }
    for (i = 0; i < m->nwriters && !rc; i++) {
        rc = write_head(m, &m->writers[i], HEAD_CLOSED);
        rc = rc ? rc : m->ad.io->ops->file_sync(m->ad.io, &m->writers[i].head);
    }
    return rc;
}

void import_undo(struct import *m)
{
    struct io *io = m->ad.io;
    char path[ADMIN_PATH];
    size_t i;

    for (i = 0; i < m->nsegments; i++) {
        const struct import_writer *w = &m->writers[m->segments[i].shard];

        file_path(w, m->segments[i].seq, ".toc", path);
        (void)io->ops->unlink(io, path);
        file_path(w, m->segments[i].seq, ".seg", path);
        (void)io->ops->unlink(io, path);
    }
    for (i = 0; i < m->nwriters; i++) {
        head_path(&m->writers[i], path);
        (void)io->ops->unlink(io, path);
        if (m->space_made && io->ops->remove_dir)
            (void)io->ops->remove_dir(io, m->writers[i].dir);
    }
    if (!m->space_made || !io->ops->remove_dir)
        return;
    (void)snprintf(path, sizeof path, "%.700s/" SPACE_FILE, m->space_dir);
    (void)io->ops->unlink(io, path);
    (void)io->ops->remove_dir(io, m->space_dir);
}

void import_release(struct import *m)
{
    size_t i;

    if (m->data.fd >= 0 && m->ad.io)
        m->ad.io->ops->file_close(m->ad.io, &m->data);
    for (i = 0; i < m->nsegments; i++) {
        contents_out_free(&m->segments[i].contents);
        if (m->segments[i].key)
            crypt_wipe(m->segments[i].key, CRYPT_KEY);
        free(m->segments[i].key);
    }
    for (i = 0; i < m->nwriters; i++)
        if (m->writers[i].head.fd >= 0)
            m->ad.io->ops->file_close(m->ad.io, &m->writers[i].head);
    free(m->segments);
    free(m->writers);
    if (m->ring_open) {
        /* What storage still owes an answer to stays where it is. */
        m->ad.ring.inflight += m->ring.inflight;
        m->ad.io->ops->ring_destroy(m->ad.io, &m->ring);
    }
}
