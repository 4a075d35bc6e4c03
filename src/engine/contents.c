/*
 * contents.c - reading contents and heads. A file that cannot be read is one job's result, never
 * the end of the run; only storage that does not answer at all ends it.
 */
#include "engine/contents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "io/process.h"

#define PIECE     (1u << 20)
#define SLICE_NS  (50 * NS_PER_MS)
#define SETTLE_NS (250 * NS_PER_MS)
#define OPENERS_MAX                                                                                \
    128u /* where an open is a round trip: at most 3 in sequence per 100 segments                  \
          */
#define OPENERS_LOCAL 4u
/* Jobs whose files are open at once, of up to four descriptors each, as a part of what the process
 * may have. */
#define OPEN_MAX      1024u
#define OPEN_LEAST    8u
#define OPEN_PART     10u
#define OPENER_LOAD   16u /* files that make one more thread worth it, where it is a system call */

/* What of a reader is storage's. */
static int make_ways(struct io *io, struct contents_ways *w)
{
    uint32_t i;
    int rc;

    rc = pool_open(io, "contents", (uint64_t)CONTENTS_WINDOW * PIECE, PIECE, CONTENTS_WINDOW,
                   &w->pool);
    if (rc)
        return rc;
    rc = io->ops->ring_create(io, &w->ring, (int)CONTENTS_WINDOW, true);
    if (rc)
        return err_set(rc, "a ring for contents cannot be made: %s", cistern_error_string(rc));
    w->ring_open = true;
    for (i = 0; i < CONTENTS_WINDOW; i++) {
        w->pieces[i] = (struct contents_piece){.buf = pool_take(w->pool)};
        if (!w->pieces[i].buf)
            return err_set(-ENOMEM, "a pool for contents has too few slots");
    }
    return 0;
}

static int drop_ways(struct io *io, struct contents_ways *w)
{
    uint32_t i;
    int rc = 0;

    if (w->ring_open)
        io->ops->ring_destroy(io, &w->ring);
    for (i = 0; w->pool && i < CONTENTS_WINDOW; i++) {
        if (w->pieces[i].lost)
            rc = -EBUSY;
        else if (w->pieces[i].buf)
            pool_give(w->pool, w->pieces[i].buf);
    }
    if (w->pool && pool_close(w->pool))
        rc = -EBUSY;
    *w = (struct contents_ways){0};
    return rc;
}

int contents_reader_open(struct contents_reader *r, struct io *io, uint64_t timeout_ns)
{
    int rc;

    r->io = io;
    r->timeout_ns = timeout_ns;
    r->open_max = min_u64(OPEN_MAX, max_u64(OPEN_LEAST, process_files_max() / OPEN_PART));
    rc = r->crypt ? cipher_open(&r->cipher) : 0;
    return rc ? rc : make_ways(io, &r->w);
}

int contents_reader_renew(struct contents_reader *r)
{
    struct contents_ways fresh = {0};
    int rc = make_ways(r->io, &fresh);

    if (rc) {
        (void)drop_ways(r->io, &fresh);
        return rc;
    }
    if (drop_ways(r->io, &r->w))
        r->left = true;
    r->w = fresh;
    return 0;
}

int contents_reader_close(struct contents_reader *r)
{
    int rc = r->io ? drop_ways(r->io, &r->w) : 0;

    rc = r->left ? -EBUSY : rc;
    cipher_close(r->cipher);
    crypt_wipe(r, sizeof *r);
    return rc;
}

/* ---- Listing ---- */

struct listing {
    struct contents_list *list;
    const char *dir;
    uint32_t shard;
};

struct contents_job *contents_list_add(struct contents_list *list, const char *dir, uint32_t shard,
                                       uint64_t writer)
{
    struct contents_job *grown, *job;

    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;

        grown = realloc(list->at, room * sizeof *grown);
        if (!grown)
            return NULL;
        list->at = grown;
        list->room = room;
    }
    job = &list->at[list->count++];
    *job = (struct contents_job){
        .shard = shard, .writer = writer, .file = {.fd = -1}, .data = {.fd = -1}};
    (void)snprintf(job->dir, sizeof job->dir, "%s", dir);
    return job;
}

static int list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    uint64_t writer, seq;
    enum segment_file kind = segment_name_parse(name, &writer, &seq);
    struct contents_job *job;

    if (kind != SEGMENT_FILE_TOC && kind != SEGMENT_FILE_HEAD)
        return 0;
    if (!(job = contents_list_add(l->list, l->dir, l->shard, writer)))
        return -ENOMEM;
    job->seq = seq;
    job->is_head = kind == SEGMENT_FILE_HEAD;
    job->fresh = true;
    return 0;
}

int contents_list_dir(struct io *io, const char *dir, uint32_t shard, struct contents_list *list)
{
    struct listing l = {.list = list, .dir = dir, .shard = shard};
    int rc = io->ops->list(io, dir, list_one, &l);

    if (rc == -ENOENT)
        return 0;
    return rc ? err_set(rc, "%s cannot be listed: %s", dir, cistern_error_string(rc)) : 0;
}

void contents_list_free(struct contents_list *list)
{
    free(list->at);
    *list = (struct contents_list){0};
}

/* ---- Opening, side by side ---- */

struct openers {
    struct io *io;
    bool buffered;
    struct contents_job *jobs;
    size_t n;
    _Atomic size_t next;
};

static void open_data(struct io *io, struct contents_job *job, bool buffered)
{
    char path[640], name[SEGMENT_NAME_MAX];

    segment_name(name, job->writer, job->seq, ".seg");
    (void)snprintf(path, sizeof path, "%s/%s", job->dir, name);
    job->data_rc = io->ops->file_open(io, path, IO_READ | (buffered ? 0 : IO_DIRECT), &job->data);
}

void contents_open_data(const struct contents_reader *r, struct contents_job *job)
{
    open_data(r->io, job, r->buffered);
}

static void open_job(struct io *io, struct contents_job *job, bool buffered)
{
    char path[640], name[SEGMENT_NAME_MAX];

    if (job->file.fd >= 0)
        return;
    if (job->is_head)
        head_name(name, job->writer);
    else
        segment_name(name, job->writer, job->seq, ".toc");
    (void)snprintf(path, sizeof path, "%s/%s", job->dir, name);
    job->open_rc = io->ops->file_open(io, path, IO_READ, &job->file);
    if (job->want_data)
        open_data(io, job, buffered);
}

static void *open_some(void *arg)
{
    struct openers *o = arg;
    size_t i;

    while ((i = atomic_fetch_add(&o->next, 1)) < o->n)
        open_job(o->io, &o->jobs[i], o->buffered);
    return NULL;
}

static void open_all(const struct contents_reader *r, struct contents_job *jobs, size_t n)
{
    struct openers o = {.io = r->io, .buffered = r->buffered, .jobs = jobs, .n = n};
    bool remote = strcmp(r->io->ops->name, "local") != 0;
    pthread_t threads[OPENERS_MAX];
    size_t i,
        want = !n       ? 0
               : remote ? min_u64(OPENERS_MAX, n - 1)
                        : min_u64(OPENERS_LOCAL, n / OPENER_LOAD),
        got = 0;

    for (i = 0; i < want; i++) {
        if (pthread_create(&threads[got], NULL, open_some, &o) == 0)
            got++;
    }
    (void)open_some(&o);
    for (i = 0; i < got; i++)
        (void)pthread_join(threads[i], NULL);
}

/* ---- Reading ---- */

static int check_header(struct contents_job *job)
{
    const struct toc_header *h = &job->header;

    if (h->writer != job->writer || h->seq != job->seq || h->shard != job->shard)
        return err_set(-EBADMSG, "the header is of another file (writer %016llx, segment %llu)",
                       (unsigned long long)h->writer, (unsigned long long)h->seq);
    return 0;
}

static int take_head(struct contents_job *job, const uint8_t *bytes, int64_t len)
{
    int rc;

    if (len != FORMAT_PAGE)
        return len ? -EBADMSG : -ENODATA;
    rc = head_decode(bytes, &job->head);
    if (!rc && (job->head.writer != job->writer || job->head.shard != job->shard))
        rc = err_set(-EBADMSG, "the head is of another writer (%016llx)",
                     (unsigned long long)job->head.writer);
    return rc;
}

/* A good header begins the parse; of encrypted contents it has the key. */
static int take_key(struct contents_reader *r, struct contents_piece *p, const uint8_t *page)
{
    struct contents_job *job = p->job;
    int rc;

    toc_cursor_init(&job->cursor, job->header.segment_id);
    job->cursor.encrypted = (job->header.flags & TOC_ENCRYPTED) != 0;
    if (!job->cursor.encrypted)
        return r->crypt && !r->look
                   ? err_set(-EBADMSG, "plain contents are not believed in an encrypted root")
                   : 0;
    toc_key_id(page, job->key_id);
    rc = toc_unwrap(r->crypt, r->cipher, page, p->key);
    if (!rc)
        job->cursor.key = p->key;
    return rc == CISTERN_EKEY && r->look ? 0 : rc;
}

/* Returns true when the job wants to read on. */
static bool take_bytes(struct contents_reader *r, struct contents_piece *p, const uint8_t *bytes,
                       size_t len, bool last)
{
    struct contents_job *job = p->job;
    uint64_t before = job->cursor.position;

    if (job->fresh) {
        if (len == 0) {
            job->result = -ENODATA; /* made, and its writer died before it wrote anything */
            return false;
        }
        job->result = len < FORMAT_PAGE ? -EBADMSG : toc_header_decode(bytes, &job->header);
        if (!job->result)
            job->result = check_header(job);
        if (!job->result)
            job->result = take_key(r, p, bytes);
        if (job->result)
            return false;
        if (r->begin && (job->result = r->begin(r->arg, job)))
            return false;
        job->fresh = false;
        bytes += FORMAT_PAGE;
        len -= FORMAT_PAGE;
        before = 0;
    }
    r->current = job;
    job->cursor.cipher = r->cipher;
    job->end = toc_parse(&job->cursor, bytes, len, last, r->sink);
    if (job->end < 0)
        job->result = job->end;
    if (job->end == TOC_MORE && job->cursor.position == before)
        job->end = TOC_TORN; /* a whole piece that is not a frame */
    return !job->result && job->end == TOC_MORE;
}

/* Sends the next read of a job; -ETIMEDOUT and the like are the job's. */
static bool send(struct contents_reader *r, struct contents_piece *p)
{
    struct contents_job *job = p->job;
    int rc;

    p->offset = job->is_head || job->fresh ? 0 : job->cursor.position;
    rc = r->io->ops->prep(r->io, &r->w.ring, pool_mem(r->w.pool, p->buf), p->buf, &job->file,
                          p->offset, job->is_head ? FORMAT_PAGE : PIECE, p);
    if (rc < 0) {
        job->result = rc;
        return false;
    }
    return true;
}

static bool answered(struct contents_reader *r, struct contents_piece *p, int64_t got)
{
    struct contents_job *job = p->job;

    if (got < 0) {
        job->result = (int)got;
        return false;
    }
    if (job->is_head) {
        job->result = take_head(job, p->buf, got);
        return false;
    }
    return take_bytes(r, p, p->buf, (size_t)got, got < PIECE) && send(r, p);
}

struct run {
    struct contents_job *jobs;
    size_t n, next, flying;
};

/* Gives every free piece a job. */
static void feed(struct contents_reader *r, struct run *run)
{
    uint32_t i;

    for (i = 0; i < CONTENTS_WINDOW; i++) {
        struct contents_piece *p = &r->w.pieces[i];

        while (!p->job && !p->lost && run->next < run->n) {
            struct contents_job *job = &run->jobs[run->next++];

            job->result = job->open_rc;
            if (job->result)
                continue;
            p->job = job;
            if (send(r, p))
                run->flying++;
            else
                p->job = NULL;
        }
    }
    (void)r->io->ops->submit(r->io, &r->w.ring);
}

static void take_answers(struct contents_reader *r, struct run *run, const struct io_done *done,
                         int n)
{
    int i;

    for (i = 0; i < n; i++) {
        struct contents_piece *p = done[i].userdata;

        if (p->lost) {
            p->lost = false; /* what it read is for a job of the past */
        } else if (!answered(r, p, done[i].result)) {
            p->job = NULL;
            run->flying--;
        }
    }
}

/* What did not come to an end has no result but this one; its buffers are storage's until it
 * answers. */
static void give_up(struct contents_reader *r, struct run *run)
{
    uint32_t i;

    for (i = 0; i < CONTENTS_WINDOW; i++) {
        struct contents_piece *p = &r->w.pieces[i];

        if (!p->job)
            continue;
        p->job->result = -ETIMEDOUT;
        p->job = NULL;
        p->lost = true;
    }
    for (; run->next < run->n; run->next++)
        run->jobs[run->next].result = -ETIMEDOUT;
}

/* In slices, so that who closes the handle is not kept waiting. */
static int wait_answers(struct contents_reader *r, struct io_done *done)
{
    uint64_t until = clock_ns() + r->timeout_ns, now;
    int got = 0;

    while (!got && (now = clock_ns()) < until) {
        if (atomic_load(&r->cancel))
            return -ECANCELED;
        got = r->io->ops->wait(r->io, &r->w.ring, done, CONTENTS_WINDOW, 1,
                               min_u64(SLICE_NS, until - now));
    }
    return got;
}

static bool any_lost(const struct contents_reader *r)
{
    uint32_t i;

    for (i = 0; i < CONTENTS_WINDOW; i++) {
        if (r->w.pieces[i].lost)
            return true;
    }
    return false;
}

/* The handle closes: what is under way nearly always ends in a moment, and then nothing is left
 * behind. */
static void settle(struct contents_reader *r, struct run *run)
{
    uint64_t until = clock_ns() + SETTLE_NS, now;
    struct io_done done[CONTENTS_WINDOW];

    (void)r->io->ops->submit(r->io, &r->w.ring);
    while (any_lost(r) && (now = clock_ns()) < until) {
        int got = r->io->ops->wait(r->io, &r->w.ring, done, CONTENTS_WINDOW, 1,
                                   min_u64(SLICE_NS, until - now));

        if (got < 0)
            return;
        take_answers(r, run, done, got);
    }
}

static int read_all(struct contents_reader *r, struct contents_job *jobs, size_t n)
{
    struct run run = {.jobs = jobs, .n = n};
    struct io_done done[CONTENTS_WINDOW];
    int got, rc = 0;

    got = r->io->ops->wait(r->io, &r->w.ring, done, CONTENTS_WINDOW, 0, 0);
    take_answers(r, &run, done, got);
    feed(r, &run);
    while (!rc && (run.flying || run.next < n)) {
        got = wait_answers(r, done);
        if (got <= 0)
            rc = err_set(got ? got : -ETIMEDOUT, "storage does not answer reads of contents");
        else
            take_answers(r, &run, done, got);
        if (!rc)
            feed(r, &run);
    }
    give_up(r, &run);
    if (rc == -ECANCELED)
        settle(r, &run);
    return rc;
}

static int run_some(struct contents_reader *r, struct contents_job *jobs, size_t n)
{
    size_t i;
    int rc;

    open_all(r, jobs, n);
    rc = read_all(r, jobs, n);
    for (i = 0; i < n; i++) {
        if (jobs[i].file.fd >= 0 && !jobs[i].keep)
            r->io->ops->file_close(r->io, &jobs[i].file);
        if (jobs[i].data.fd >= 0) /* which nobody took */
            r->io->ops->file_close(r->io, &jobs[i].data);
    }
    return rc;
}

int contents_run(struct contents_reader *r, struct contents_job *jobs, size_t n)
{
    size_t i, some;
    int rc = 0;

    for (i = 0; i < n && !rc; i += some) {
        some = min_u64(r->open_max, n - i);
        rc = run_some(r, &jobs[i], some);
    }
    for (; i < n; i++) /* not begun */
        jobs[i].result = -ETIMEDOUT;
    return rc;
}
