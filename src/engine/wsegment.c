/*
 * wsegment.c - segments from their making to their seal: the part of the write lane that may hang,
 * so it runs on the keeper (making) and on the syncer (growing, syncing, sealing); at close on the
 * keeper alone.
 *
 * Making: head (once), contents, data, in this order; a crash in between leaves empty files that
 * nobody believes. Sealing: the data file is cut to what is used, data is synced before contents.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/files.h"
#include "engine/renew.h"
#include "engine/writer_internal.h"
#include "segment/root.h"

#define PATH_BYTES    640
#define FULL_RETRY_NS (50 * NS_PER_MS) /* room comes back when the grace of something is over */
#define SEAL_RETRY_NS (10 * NS_PER_MS) /* all that may be written at once waits for its seal */

static void path_of(const cistern *c, char out[PATH_BYTES], const char *name)
{
    (void)snprintf(out, PATH_BYTES, "%s/%s", c->shard_path, name);
}

/* The disk was full at the open, or the space was wiped since. Not in a root with another salt: it
 * is not ours any more. */
static int make_shard(cistern *c)
{
    struct root_params look = {.look = true, .crypt = c->crypt};
    struct root_info root;
    char path[PATH_BYTES];
    int rc = root_prepare(c->io, c->cfg.root, &look, &root);

    if (rc || memcmp(root.salt, c->salt, sizeof c->salt) != 0)
        return -ENOENT;
    if ((rc = c->io->ops->make_dir(c->io, c->space_path)))
        return rc;
    (void)snprintf(path, sizeof path, "%s/" SPACE_FILE, c->space_path);
    rc = c->io->ops->small_write(c->io, path, c->space_json, strlen(c->space_json), true);
    return rc && rc != -EEXIST ? rc : c->io->ops->make_dir(c->io, c->shard_path);
}

static int make_head(cistern *c, struct writer *w, struct wstream *st)
{
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    struct io_file f = {.fd = -1};
    int rc;

    if (st->head.fd >= 0)
        return 0;
    head_name(name, st->id);
    path_of(c, path, name);
    rc = c->io->ops->file_open(c->io, path, IO_WRITE | IO_CREATE, &f);
    if (rc == -ENOENT && make_shard(c) == 0)
        rc = c->io->ops->file_open(c->io, path, IO_WRITE | IO_CREATE, &f);
    if (rc)
        return rc;
    fault_point("open.head_made");
    (void)pthread_mutex_lock(&w->lock);
    st->head = f;
    (void)pthread_mutex_unlock(&w->lock);
    return 0;
}

/* The directory is gone, and with it our heads: nobody would look for what comes under these names.
 */
static void give_names_up(cistern *c)
{
    uint32_t none = FENCE_NONE;

    if (!atomic_compare_exchange_strong(&c->writer->fence, &none, FENCE_RAISED))
        return;
    log_line(&c->cfg.log, LOG_WARN, "%s is gone: its writer begins anew under another name",
             c->shard_path);
    inbox_ring(&c->writer->in);
}

static int make_files(cistern *c, struct wstream *st, uint64_t seq, struct segment *seg,
                      struct io_file *toc)
{
    unsigned mode = IO_WRITE | IO_CREATE | (c->cfg.flags & CISTERN_OPEN_BUFFERED ? 0 : IO_DIRECT);
    char name[SEGMENT_NAME_MAX], toc_path[PATH_BYTES], data_path[PATH_BYTES];
    int rc;

    segment_name(name, st->id, seq, ".toc");
    path_of(c, toc_path, name);
    segment_name(name, st->id, seq, ".seg");
    path_of(c, data_path, name);
    if ((rc = make_head(c, c->writer, st)))
        return rc;
    if ((rc = c->io->ops->file_open(c->io, toc_path, IO_WRITE | IO_CREATE, toc))) {
        if (rc == -ENOENT)
            give_names_up(c);
        return rc;
    }
    fault_point("open.contents_made");
    if ((rc = c->io->ops->file_open(c->io, data_path, mode, &seg->data))) {
        c->io->ops->file_close(c->io, toc);
        (void)c->io->ops->unlink(c->io, toc_path);
        return rc;
    }
    fault_point("open.data_made");
    return 0;
}

/* Writes into allocated space do not wait for the file system to grow the file; it grows by steps,
 * ahead of the writes. */
static uint64_t allocate_step(cistern *c, struct io_file *f, uint64_t from)
{
    uint64_t len = min_u64(ALLOCATE_STEP, c->cfg.segment_bytes - from);

    if (c->io->inline_reads || !len || c->io->ops->file_allocate(c->io, f, from, len))
        return from;
    return from + len;
}

static void allocate_more(cistern *c, struct wseg *s)
{
    uint64_t from = atomic_load(&s->allocated), to = from;

    if (from)
        to = allocate_step(c, &s->data, from);
    atomic_store(&s->allocated, to > from || !from ? to : c->cfg.segment_bytes); /* or no more */
}

void writer_allocate(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t i;

    for (i = 0; i < WSEGS; i++) {
        bool open;

        (void)pthread_mutex_lock(&w->lock);
        open = w->segs[i].stage == WSEG_OPEN;
        (void)pthread_mutex_unlock(&w->lock);
        if (open)
            allocate_more(c, &w->segs[i]);
    }
    (void)pthread_mutex_lock(&w->lock);
    w->allocating = false;
    (void)pthread_mutex_unlock(&w->lock);
}

/* Data first: nothing names it once the contents are gone, and they name nothing yet. */
static void remove_files(cistern *c, uint64_t writer, uint64_t seq)
{
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];

    segment_name(name, writer, seq, ".seg");
    path_of(c, path, name);
    (void)c->io->ops->unlink(c->io, path);
    segment_name(name, writer, seq, ".toc");
    path_of(c, path, name);
    (void)c->io->ops->unlink(c->io, path);
}

/* A file of that name is there, left by an attempt that could not be tidied up: never reused. */
static void pass_over(struct writer *w, struct wstream *st, uint64_t seq)
{
    (void)pthread_mutex_lock(&w->lock);
    st->seq = seq + 1;
    (void)pthread_mutex_unlock(&w->lock);
}

static int make(cistern *c, struct writer *w, struct wstream *st)
{
    struct segment seg = {.writer = st->id,
                          .shard = c->cfg.shard,
                          .own = true,
                          .has_data = true,
                          .file_uses = 1, /* until it is sealed */
                          .epoch = atomic_load(&c->coming),
                          .data = {.fd = -1}};
    struct io_file toc = {.fd = -1};
    struct wseg *s = NULL;
    uint8_t key[CRYPT_KEY];
    uint64_t allocated;
    int64_t number;
    uint32_t i;
    int rc;

    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS && !s; i++) {
        if (w->segs[i].stage == WSEG_FREE)
            s = &w->segs[i];
    }
    seg.seq = st->seq;
    (void)pthread_mutex_unlock(&w->lock);
    if (!s)
        return -EAGAIN;
    if (getrandom(seg.id, sizeof seg.id, 0) != sizeof seg.id || crypt_make_key(key))
        return -EIO;
    rc = make_files(c, st, seg.seq, &seg, &toc);
    if (rc == -EEXIST)
        pass_over(w, st, seg.seq);
    if (rc)
        return rc;
    allocated = allocate_step(c, &seg.data, 0); /* before anybody else knows the file */
    /* From the table on, files may be exchanged (renew.h): not before ours is known to be in use.
     */
    (void)pthread_mutex_lock(&c->renew->files);
    number = segtab_add(&c->segs, &seg);
    if (number >= 0 && c->crypt) /* nobody asks for it before something is published */
        memcpy(crypt_slot(c->crypt, (uint32_t)number), key, sizeof key);
    crypt_wipe(key, sizeof key);
    if (number < 0 ||
        !HOLDS(c, segment_hold(&c->segs, (uint32_t)number))) { /* until it is sealed */
        (void)pthread_mutex_unlock(&c->renew->files);
        if (number >= 0)
            return -EIO;
        c->io->ops->file_close(c->io, &toc);
        c->io->ops->file_close(c->io, &seg.data);
        remove_files(c, seg.writer, seg.seq);
        return (int)number;
    }
    (void)pthread_mutex_lock(&w->lock);
    s->stream = st;
    s->stage = WSEG_READY;
    s->number = (uint32_t)number;
    s->seq = seg.seq;
    s->toc = toc;
    s->data = seg.data;
    toc_writer_init(&s->contents, seg.id);
    if (c->crypt) {
        s->contents.key = crypt_slot(c->crypt, (uint32_t)number);
        s->contents.cipher = w->cipher;
    }
    atomic_store(&s->reserved, 0);
    atomic_store(&s->allocated, allocated);
    s->groups = 0;
    s->started = s->abandoned = s->names_synced = false;
    atomic_store(&s->sync_error, 0);
    atomic_store(&st->touches[seg.seq % HEAD_TOUCHES_MAX], 0);
    atomic_store(&s->written, 0);
    atomic_store(&s->synced, 0);
    st->seq = seg.seq + 1;
    st->next = s;
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_mutex_unlock(&c->renew->files);
    files_trim(c);
    return 0;
}

bool writer_segment_open(cistern *c, uint64_t writer, uint64_t seq)
{
    struct writer *w = c->writer;
    bool open = false;
    uint32_t i;

    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS && !open; i++)
        open = w->segs[i].stage != WSEG_FREE && w->segs[i].seq == seq &&
               c->segs.at[w->segs[i].number].writer == writer;
    (void)pthread_mutex_unlock(&w->lock);
    return open;
}

void writer_first_seq(cistern *c, uint64_t id, uint64_t first)
{
    struct writer *w = c->writer;
    struct wstream *st = writer_young(w)->id == id ? writer_young(w) : writer_old(w);
    uint32_t i;

    (void)pthread_mutex_lock(&w->lock);
    first = min_u64(first, st->seq);
    for (i = 0; i < WSEGS; i++) { /* what a listing did not show yet */
        if (w->segs[i].stage != WSEG_FREE && c->segs.at[w->segs[i].number].writer == id)
            first = min_u64(first, w->segs[i].seq);
    }
    (void)pthread_mutex_unlock(&w->lock);
    atomic_store(&st->first_seq, first);
    atomic_store(&st->first_moved, true);
    inbox_ring(&w->in);
}

/* The lane writes them with the head when it does so anyway. */
void writer_note_touches(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++) {
        const struct segment *s = &c->segs.at[i];
        struct wstream *st = s->writer == writer_young(w)->id ? writer_young(w) : writer_old(w);

        if (segtab_in_use(&c->segs, i) && s->own && s->writer == st->id &&
            s->seq + HEAD_TOUCHES_MAX >= st->seq) /* older ones have no place in the head */
            atomic_store_explicit(&st->touches[s->seq % HEAD_TOUCHES_MAX],
                                  atomic_load_explicit(&s->touches, memory_order_relaxed),
                                  memory_order_relaxed);
    }
}

void writer_room_made(cistern *c, bool made)
{
    atomic_store(&c->writer->room_made, made ? ROOM_MADE : ROOM_NONE);
    inbox_ring(&c->writer->in);
}

void writer_room_back(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t i;

    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSTREAMS; i++) {
        if (w->streams[i].make_error == -ENOSPC)
            w->streams[i].make_after_ns = 0;
    }
    (void)pthread_mutex_unlock(&w->lock);
    inbox_ring(&w->in);
}

static bool any_free(struct writer *w)
{
    bool any = false;
    uint32_t i;

    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS; i++)
        any |= w->segs[i].stage == WSEG_FREE;
    (void)pthread_mutex_unlock(&w->lock);
    return any;
}

/* A full disk is asked for room once. */
static int make_relieved(cistern *c, struct writer *w, struct wstream *st)
{
    int rc = any_free(w) ? capacity_admit(c) : -EAGAIN;

    if (rc)
        return rc;
    rc = make(c, w, st);
    if ((rc == -ENOSPC || rc == -EDQUOT) && capacity_relieve(c))
        rc = make(c, w, st);
    return rc;
}

static void make_for(cistern *c, struct writer *w, struct wstream *st)
{
    int rc = make_relieved(c, w, st);

    if (!rc) {
        metric_add(&c->metrics, METRIC_segments_created, 1);
    } else if (rc != -EAGAIN && rc != st->make_logged) {
        log_line(&c->cfg.log, LOG_WARN, "no segment could be made in %s: %s", c->shard_path,
                 cistern_error_string(rc));
    }
    (void)pthread_mutex_lock(&w->lock);
    st->make_error = rc == -EAGAIN ? 0 : rc;
    st->refused_ns = !st->make_error ? 0 : st->refused_ns ? st->refused_ns : clock_ns();
    st->make_after_ns = clock_ns() + (!rc             ? 0
                                      : rc == -EAGAIN ? SEAL_RETRY_NS
                                      : rc == -ENOSPC ? FULL_RETRY_NS
                                                      : NS_PER_S);
    st->make_logged = rc == -EAGAIN ? st->make_logged : rc;
    st->making = false;
    (void)pthread_mutex_unlock(&w->lock);
    inbox_ring(&w->in);
}

void writer_make_segment(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t i;

    for (i = 0; i < WSTREAMS; i++) {
        bool asked;

        (void)pthread_mutex_lock(&w->lock);
        asked = w->streams[i].making;
        (void)pthread_mutex_unlock(&w->lock);
        if (asked)
            make_for(c, w, &w->streams[i]);
    }
}

/* A directory that may not be read cannot be synced; what was made in it is as safe as it gets. */
static int sync_name(cistern *c, const char *dir)
{
    int rc = c->io->ops->sync_dir(c->io, dir);

    return rc == -EACCES || rc == -EPERM ? 0 : rc;
}

/* Names last as long as what they name: those of a segment, and once those of all directories on
 * the way to it. The first failure; it is tried again with the next sync. */
static int sync_names(cistern *c)
{
    char path[PATH_BYTES], *slash = path;
    int rc = 0, one;

    (void)snprintf(path, sizeof path, "%s", c->shard_path);
    while (slash) {
        one = sync_name(c, path);
        rc = rc ? rc : one;
        if (c->writer->parents_synced)
            return rc;
        slash = strrchr(path, '/');
        if (slash)
            *slash = 0;
    }
    one = sync_name(c, "");
    rc = rc ? rc : one;
    c->writer->parents_synced = !rc;
    return rc;
}

static int sync_segment(cistern *c, struct wseg *s)
{
    uint64_t written = atomic_load(&s->written);
    int rc, names = 0;

    if (written == atomic_load(&s->synced) && (s->names_synced || !written))
        return 0;
    if (!s->names_synced) {
        names = sync_names(c);
        s->names_synced = !names;
    }
    rc = c->io->ops->file_sync(c->io, &s->data);
    fault_point("seal.data_synced");
    if (!rc && !(rc = atomic_load(&s->sync_error))) {
        rc = c->io->ops->file_sync(c->io, &s->toc);
        atomic_store(&s->sync_error, rc);
    }
    fault_point("seal.contents_synced");
    /* A failed sync is not tried again, as if it could mend anything: its caller has to hear of it.
     * After one of data the next covers what is written from here on. After one of contents none
     * does: a frame is found only if all before it are there. So the segment ends, and whoever
     * still published in it hears of the same error. */
    rc = rc ? rc : names;
    metric_add(&c->metrics, rc ? METRIC_sync_errors : METRIC_syncs, 1);
    atomic_store(&s->synced, written);
    return rc;
}

static void free_stage(struct writer *w, struct wseg *s)
{
    cistern *c = w->c;
    struct io_file data = s->data;
    uint32_t number = s->number;

    (void)pthread_mutex_lock(&c->renew->files);
    if (c->segs.at[number].data.fd == data.fd)
        data.fd = -1; /* it is closed with the segment */
    (void)pthread_mutex_lock(&w->lock);
    s->toc.fd = -1;
    s->stage = WSEG_FREE; /* from here on it may be another segment's */
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_mutex_unlock(&c->renew->files);
    fault_point("seal.stage_free");
    c->io->ops->file_close(c->io, &data);
    file_leave(c, number);
}

/* Made, and nothing was ever published in it: leave no litter. Nothing names its data either. */
static void discard(cistern *c, struct wseg *s)
{
    uint64_t writer = c->segs.at[s->number].writer; /* the name may be another by now: fence.c */
    uint64_t seq = s->seq;

    c->io->ops->file_close(c->io, &s->toc);
    (void)segtab_forget(&c->segs, s->number);
    free_stage(c->writer, s);
    keeper_ask(c, KEEPER_COLLECT); /* it closes the data file */
    remove_files(c, writer, seq);
}

static int seal(cistern *c, struct wseg *s)
{
    int rc;

    if (!s->started) {
        discard(c, s);
        return 0;
    }
    fault_point("seal.begin");
    if (atomic_load(&s->allocated))
        (void)c->io->ops->file_truncate(c->io, &s->data, s->reserved);
    fault_point("seal.truncated");
    rc = sync_segment(c, s);
    c->io->ops->file_close(c->io, &s->toc);
    free_stage(c->writer, s);
    metric_add(&c->metrics, METRIC_segments_sealed, 1); /* whoever waits for it may evict it */
    fault_point("seal.done");
    return rc;
}

int writer_seal_ended(cistern *c)
{
    struct writer *w = c->writer;
    int rc = 0, one;
    uint32_t i;

    for (i = 0; i < WSEGS; i++) {
        bool sealing;

        (void)pthread_mutex_lock(&w->lock);
        sealing = w->segs[i].stage == WSEG_SEALING;
        (void)pthread_mutex_unlock(&w->lock);
        if (!sealing)
            continue;
        one = seal(c, &w->segs[i]);
        rc = rc ? rc : one;
    }
    return rc;
}

/* Names that are gone come back after a power cut unless their directory was synced, and with them
 * blocks that a deletion did not find any more: it wrote no note about them. */
static int sync_gone(cistern *c)
{
    struct writer *w = c->writer;
    uint32_t gone = atomic_load(&c->forgotten);
    int rc = gone == w->gone_synced ? 0 : sync_name(c, c->shard_path);

    if (!rc)
        w->gone_synced = gone;
    return rc;
}

int writer_sync(cistern *c)
{
    struct writer *w = c->writer;
    int rc, one;
    uint32_t i;

    if (!w)
        return 0;
    rc = sync_gone(c);
    for (i = 0; i < WSEGS; i++) {
        bool open;

        (void)pthread_mutex_lock(&w->lock);
        open = w->segs[i].stage == WSEG_OPEN || w->segs[i].stage == WSEG_ENDED ||
               w->segs[i].stage == WSEG_SEALING; /* handed over, the seal is still to come */
        (void)pthread_mutex_unlock(&w->lock);
        if (!open)
            continue;
        one = sync_segment(c, &w->segs[i]);
        rc = rc ? rc : one;
    }
    return rc;
}

/* A last head says that nothing more will come. The lane's thread has ended: the ring is ours. */
static void close_head(cistern *c, struct writer *w, struct wstream *st)
{
    struct head_record h;
    struct io_done done;

    if (st->head.fd < 0 || w->inflight || fence_holds(w))
        return;
    writer_note_touches(c);
    h = publish_head(w, st, HEAD_CLOSED);
    publish_encode(st, &h, w->head_buf);
    if (writer_prep(w, &st->head, w->head_buf, 0, FORMAT_PAGE, WIO_HEAD, NULL) == 0) {
        w->head_busy = true;
        (void)c->io->ops->submit(c->io, w->ring);
        if (c->io->ops->wait(c->io, w->ring, &done, 1, 1, c->cfg.write_timeout_ms * NS_PER_MS) ==
            1) {
            w->inflight--;
            w->head_busy = false;
            bell_ring(&c->bell, c->cfg.shard, false);
        }
    }
}

int writer_last_rites(cistern *c)
{
    struct writer *w = c->writer;
    int rc = 0, one;
    uint32_t i;

    for (i = 0; i < WSEGS; i++) {
        if (w->segs[i].stage == WSEG_FREE)
            continue;
        one = seal(c, &w->segs[i]);
        rc = rc ? rc : one;
    }
    for (i = 0; i < WSTREAMS; i++) {
        struct wstream *st = &w->streams[i];

        close_head(c, w, st);
        if (st->head.fd >= 0)
            c->io->ops->file_close(c->io, &st->head);
        st->head.fd = -1;
    }
    return rc;
}
