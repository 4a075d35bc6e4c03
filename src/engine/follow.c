/*
 * follow.c - takes up what others wrote: at open all of it, at a refresh what came since.
 *
 * Own shard: into the index. Other shards: into the presence table. A dead record names one copy by
 * segment and place, so the order in which contents are read does not matter; they are applied when
 * all is read. Other shards' dead records are not: a presence that is too good costs a miss at the
 * get.
 */
#include "engine/follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"

#define MISSING_MAX 64u

/* ---- What the contents say ---- */

/* Gives the batch, all of one segment, to the index or to presence. */
static void flush_batch(cistern *c)
{
    struct follower *f = c->follower;
    int rc = 0;

    if (f->batched && f->number_shard == c->cfg.shard)
        rc = index_insert_many(c->index, f->number, f->batch, f->batched, NULL);
    else if (f->batched)
        rc = presence_add_blocks(c->others, &c->cfg.rules, f->number_shard, f->batch, f->batched);
    if (rc)
        metric_add(&c->metrics, METRIC_index_full, 1);
    f->batched = 0;
}

static int on_block(void *arg, const struct block_info *b)
{
    cistern *c = arg;
    struct follower *f = c->follower;

    if (f->number_shard == c->cfg.shard && c->segs.at[f->number].data.fd < 0 &&
        !(c->cfg.flags & CISTERN_OPEN_MATCH_ONLY))
        return 0;
    f->batch[f->batched] = *b;
    if (++f->batched == ARRAY_LEN(f->batch))
        flush_batch(c);
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                   uint8_t reason)
{
    cistern *c = arg;
    struct follower *f = c->follower;
    struct dead_note *grown;

    if (f->reader.current->shard != c->cfg.shard)
        return 0;
    if (f->dead_count == f->dead_room) {
        size_t room = f->dead_room ? 2 * f->dead_room : 256;

        grown = realloc(f->dead, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        f->dead = grown;
        f->dead_room = room;
    }
    f->dead[f->dead_count] = (struct dead_note){.offset = offset, .reason = reason};
    memcpy(f->dead[f->dead_count].key, key, 32);
    memcpy(f->dead[f->dead_count].segment_id, segment_id, 16);
    f->dead_count++;
    return 0;
}

/* A segment that is set aside is as good as empty. */
static int on_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    static const uint8_t any[32];

    return on_dead(arg, any, segment_id, UINT32_MAX, reason);
}

static void apply_dead(cistern *c)
{
    struct follower *f = c->follower;
    size_t i, kept = 0;

    for (i = 0; i < f->dead_count; i++) {
        const struct dead_note d = f->dead[i];
        int64_t number = segtab_find(&c->segs, d.segment_id);
        cistern_key key;

        memcpy(key.b, d.key, sizeof key.b);
        if (number < 0)
            f->dead[kept++] = d; /* its segment may come to light later */
        else if (d.offset == UINT32_MAX)
            (void)index_remove_segment(c->index, (uint32_t)number);
        else
            (void)index_remove_copy(c->index, &key, (uint32_t)number, d.offset);
    }
    f->dead_count = kept;
}

/* ---- Segments ---- */

/* Moves the parse on to another segment. */
static int begin(void *arg, struct contents_job *job)
{
    cistern *c = arg;
    struct segment s = {
        .writer = job->writer, .seq = job->seq, .shard = job->shard, .data = job->data};
    int64_t number;

    if (memcmp(job->header.space, c->fingerprint, sizeof c->fingerprint) != 0 ||
        job->header.shards != c->cfg.shards)
        return err_set(-EBADMSG, "the contents are of another space");
    memcpy(s.id, job->header.segment_id, sizeof s.id);
    s.cursor = job->cursor;
    number = segtab_add(&c->segs, &s);
    if (number < 0)
        return err_set((int)number,
                       "the segment is known already, or the table of segments is full");
    job->data.fd = -1; /* it belongs to the table now */
    job->number = (uint32_t)number;
    metric_add(&c->metrics, METRIC_segments_opened, 1);
    if (job->want_data && job->data_rc) {
        metric_add(&c->metrics, METRIC_data_missing, 1);
        log_line(&c->cfg.log, LOG_WARN,
                 "%s: a data file of writer %016llx cannot be opened (%s): its blocks are misses",
                 job->dir, (unsigned long long)job->writer, cistern_error_string(job->data_rc));
    }
    return 0;
}

static int sink_block(void *arg, const struct block_info *b)
{
    cistern *c = arg;
    struct follower *f = c->follower;

    if (f->number != f->reader.current->number) {
        flush_batch(c);
        f->number = f->reader.current->number;
        f->number_shard = f->reader.current->shard;
    }
    return on_block(c, b);
}

/* Drops the jobs that have nothing new to say: own segments, and those that ended. */
static size_t choose(cistern *c, struct contents_list *list)
{
    size_t i, kept = 0;

    for (i = 0; i < list->count; i++) {
        struct contents_job job = list->at[i];
        struct segment *s =
            job.is_head ? NULL : segtab_find_file(&c->segs, job.shard, job.writer, job.seq);

        if (job.is_head && c->writer && job.writer == writer_id(c))
            continue;
        if (s && (s->own || s->ended))
            continue;
        if (s) {
            job.fresh = false;
            job.cursor = s->cursor;
            job.number = (uint32_t)(s - c->segs.at);
        }
        job.want_data = !s && !job.is_head && job.shard == c->cfg.shard &&
                        !(c->cfg.flags & CISTERN_OPEN_MATCH_ONLY);
        list->at[kept++] = job;
    }
    return kept;
}

static void note_end(cistern *c, const struct contents_job *job)
{
    if (job->end == TOC_TORN && c->follower->first) {
        metric_add(&c->metrics, METRIC_contents_torn, 1);
        log_line(&c->cfg.log, LOG_WARN, "%s: contents %016llx-%llu end in a torn frame at %llu",
                 job->dir, (unsigned long long)job->writer, (unsigned long long)job->seq,
                 (unsigned long long)job->cursor.position);
    } else if (job->end == TOC_LATER) {
        metric_add(&c->metrics, METRIC_contents_later, 1);
    }
    c->segs.at[job->number].cursor = job->cursor;
}

static void note_bad(cistern *c, const struct contents_job *job)
{
    if (job->result == -ENODATA || !c->follower->first)
        return;
    metric_add(&c->metrics, job->is_head ? METRIC_head_bad : METRIC_contents_bad, 1);
    log_line(&c->cfg.log, LOG_WARN, "%s: %s of writer %016llx cannot be used: %s", job->dir,
             job->is_head ? "the head" : "contents", (unsigned long long)job->writer,
             cistern_error_string(job->result));
}

/* A writer that ended for good, or went on to later segments, adds nothing to these. */
static void apply_head(cistern *c, const struct contents_job *job)
{
    const struct head_record *h = &job->head;
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++) {
        struct segment *s = &c->segs.at[i];

        if (!segtab_in_use(&c->segs, i) || s->writer != job->writer || s->own)
            continue;
        /* The contents may have been read before their last frame and the head after it: only a
         * look that began when they were over is the last one. */
        s->ended = s->over;
        s->over = h->state == HEAD_CLOSED || s->seq + 4 < h->next_seq;
    }
}

static const struct contents_job *job_of(const struct contents_job *jobs, size_t n, bool is_head,
                                         const struct contents_job *like, uint64_t seq)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (jobs[i].is_head == is_head && jobs[i].writer == like->writer &&
            jobs[i].shard == like->shard && (is_head || jobs[i].seq == seq))
            return &jobs[i];
    }
    return NULL;
}

/* The list may be older than the head: what it lacks is looked for once more. */
static bool contents_gone(cistern *c, const struct contents_job *head, uint64_t seq)
{
    char name[SEGMENT_NAME_MAX], path[640];
    struct io_stat st;

    segment_name(name, head->writer, seq, ".toc");
    (void)snprintf(path, sizeof path, "%s/%s", head->dir, name);
    return c->io->ops->stat(c->io, path, &st) == -ENOENT;
}

/* Contents that a head names: are they there, and as long as it says? */
static void check_published(cistern *c, const struct contents_job *head,
                            const struct contents_job *jobs, size_t n)
{
    const struct head_record *h = &head->head;
    const struct contents_job *last = NULL;
    uint64_t seq;

    if (h->next_seq - h->first_seq > n + MISSING_MAX) { /* too many to ask for one by one */
        metric_add(&c->metrics, METRIC_contents_missing, h->next_seq - h->first_seq - n);
        return;
    }
    for (seq = h->first_seq; seq < h->next_seq; seq++) {
        last = job_of(jobs, n, false, head, seq);
        if (!last && contents_gone(c, head, seq)) {
            metric_add(&c->metrics, METRIC_contents_missing, 1);
            log_line(&c->cfg.log, LOG_WARN, "%s: the contents of segment %llu of %016llx are gone",
                     head->dir, (unsigned long long)seq, (unsigned long long)head->writer);
        }
    }
    if (!last || last->result || last->cursor.position >= h->published)
        return;
    metric_add(&c->metrics, METRIC_contents_short, 1);
    log_line(&c->cfg.log, LOG_WARN,
             "%s: contents of writer %016llx end at %llu, its head published %llu", head->dir,
             (unsigned long long)head->writer, (unsigned long long)last->cursor.position,
             (unsigned long long)h->published);
}

/* What heads and contents say about each other; at the open only. */
static void check_heads(cistern *c, const struct contents_job *jobs, size_t n)
{
    size_t i;

    for (i = 0; i < n && c->follower->first; i++) {
        if (jobs[i].result)
            continue;
        if (jobs[i].is_head)
            check_published(c, &jobs[i], jobs, n);
        else if (jobs[i].cursor.number && !job_of(jobs, n, true, &jobs[i], 0))
            metric_add(&c->metrics, METRIC_head_missing, 1);
    }
}

static void settle_jobs(cistern *c, struct contents_job *jobs, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (jobs[i].data.fd >= 0)
            c->io->ops->file_close(c->io, &jobs[i].data);
        if (jobs[i].result)
            note_bad(c, &jobs[i]);
        else if (!jobs[i].is_head)
            note_end(c, &jobs[i]);
    }
    for (i = 0; i < n; i++) {
        if (!jobs[i].is_head || jobs[i].result)
            continue;
        apply_head(c, &jobs[i]);
    }
    check_heads(c, jobs, n);
}

/* Heads before contents, so that contents are at least as new as what their head says of them. */
static int run_jobs(cistern *c, struct contents_list *list)
{
    struct contents_reader *r = &c->follower->reader;
    size_t i, heads = 0;
    int rc;

    for (i = 0; i < list->count; i++) {
        struct contents_job job = list->at[i];

        if (!job.is_head)
            continue;
        list->at[i] = list->at[heads];
        list->at[heads++] = job;
    }
    rc = contents_run(r, list->at, heads);
    return rc ? rc : contents_run(r, list->at + heads, list->count - heads);
}

int follower_scan(cistern *c)
{
    struct contents_list list = {0};
    char dir[544];
    uint32_t s;
    int rc = 0;

    for (s = 0; s < c->cfg.shards && !rc; s++) {
        if (s != c->cfg.shard && !c->others)
            continue;
        (void)snprintf(dir, sizeof dir, "%s/s%uof%u", c->space_path, s, c->cfg.shards);
        rc = contents_list_dir(c->io, dir, s, &list);
    }
    if (!rc) {
        list.count = choose(c, &list);
        c->follower->number = UINT32_MAX;
        if (c->follower->first && (rc = index_bulk_begin(c->index))) {
            contents_list_free(&list);
            return err_set(rc, "no memory for the index");
        }
        rc = run_jobs(c, &list);
        flush_batch(c);
        if (c->follower->first && index_bulk_end(c->index))
            metric_add(&c->metrics, METRIC_index_full, 1);
        if (c->others)
            presence_settle(c->others);
        settle_jobs(c, list.at, list.count);
        apply_dead(c);
    }
    c->follower->first = false;
    contents_list_free(&list);
    return rc;
}

int follower_open(cistern *c)
{
    struct follower *f = calloc(1, sizeof *f);

    if (!f)
        return err_set(-ENOMEM, "no memory for the follower");
    c->follower = f;
    f->first = true;
    f->sink = (struct toc_sink){.block = sink_block, .dead = on_dead, .aside = on_aside, .arg = c};
    f->reader.log = c->cfg.log;
    f->reader.buffered = (c->cfg.flags & CISTERN_OPEN_BUFFERED) != 0;
    f->reader.begin = begin;
    f->reader.sink = &f->sink;
    f->reader.arg = c;
    return contents_reader_open(&f->reader, c->io, 10ull * c->cfg.read_timeout_ms * NS_PER_MS);
}

void follower_close(cistern *c)
{
    struct follower *f = c->follower;

    if (!f)
        return;
    contents_reader_close(&f->reader);
    free(f->dead);
    free(f);
    c->follower = NULL;
}
