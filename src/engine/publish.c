/*
 * publish.c - frames and the head: what makes written blocks findable, in the order in which they
 * were laid out.
 *
 * One write of frames is under way at a time, so that a frame on disk implies all before it; what
 * becomes ready meanwhile goes out together with the next. Blocks are in the index and reported
 * only after the frames that name them were written. The head follows when it can: it only tells
 * followers how far to look.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/carry.h"
#include "engine/heat.h"
#include "engine/writer_internal.h"

static bool group_written(const struct wgroup *g)
{
    return g->issued >= g->len && !g->again && (!g->ios || g->late);
}

/* Takes the first group off the order. */
static void drop_first(struct writer *w)
{
    struct wgroup *g = w->order;

    w->order = g->link;
    if (!w->order)
        w->order_last = NULL;
    g->seg->groups--;
    if (!g->late || !g->ios)
        writer_free_group(w, g);
}

/* If it was deleted when it was on its way, in no index, it can be now. */
static void note_arrival(cistern *c, const struct wgroup *g, const struct wblock *b)
{
    if (b->carried)
        carry_arrived(c, b->info.key, g->erased, g->number, b->info.offset);
}

void publish_settle_failed(struct writer *w)
{
    struct wgroup *g;

    while ((g = w->order) && group_written(g) && (g->error || g->seg->abandoned)) {
        for (; g->settled < g->count; g->settled++) {
            note_arrival(w->c, g, &g->blocks[g->settled]); /* its frame may still land */
            put_block_done(w, &g->blocks[g->settled], CISTERN_ERROR);
        }
        drop_first(w);
    }
}

/* ---- Frames ---- */

static uint32_t add_blocks(struct writer *w, struct wseg *seg)
{
    struct wgroup *g;
    uint32_t n = 0, i;

    for (g = w->order; g && group_written(g) && !g->error && g->seg == seg; g = g->link) {
        for (i = g->settled; i < g->count; i++, n++) {
            if (toc_batch_block(&w->batch, &g->blocks[i].info))
                return n;
        }
    }
    return n;
}

static int add_note(struct writer *w, const struct dead_note *d)
{
    if (d->offset != DEAD_NOTE_ASIDE)
        return toc_batch_dead(&w->batch, d->key, d->segment_id, d->offset, d->reason);
    return toc_batch_aside(&w->batch, d->segment_id, d->reason);
}

static uint32_t add_dead(struct writer *w)
{
    uint32_t n = 0;

    (void)pthread_mutex_lock(&w->dead_lock);
    while (n < w->dead_count) {
        const struct dead_note *d = &w->dead[(w->dead_first + n) % DEAD_NOTES];

        if (add_note(w, d))
            break;
        n++;
    }
    (void)pthread_mutex_unlock(&w->dead_lock);
    return n;
}

static int encode_header(struct writer *w, struct wseg *seg, void *page)
{
    const struct config *cfg = &w->c->cfg;
    struct toc_header h = {.magic = FORMAT_TOC_MAGIC,
                           .version = FORMAT_VERSION,
                           .header_bytes = FORMAT_PAGE,
                           .writer = w->c->segs.at[seg->number].writer,
                           .seq = seg->seq,
                           .shard = cfg->shard,
                           .shards = cfg->shards,
                           .created_s = clock_wall_s(),
                           .segment_bytes = cfg->segment_bytes,
                           .flags = seg->contents.key ? TOC_ENCRYPTED : 0};

    memcpy(h.space, w->c->fingerprint, sizeof h.space);
    memcpy(h.segment_id, w->c->segs.at[seg->number].id, sizeof h.segment_id);
    toc_header_encode(&h, page);
    return seg->contents.key ? toc_wrap(w->c->crypt, w->cipher, seg->contents.key, page) : 0;
}

/* The segment that the front of the order lies in; dead notes alone go to the one that is open. */
static struct wseg *publish_segment(struct writer *w)
{
    struct wgroup *g = w->order;

    if (g)
        return group_written(g) ? g->seg : NULL;
    return w->dead_count && !engine_stops_puts(w->c, clock_ns()) ? writer_young(w)->current : NULL;
}

static void start_toc(struct writer *w)
{
    struct wseg *seg = publish_segment(w);
    uint64_t header;
    int rc = 0;

    if (!seg || seg->abandoned || !w->toc_buf || fence_holds(w))
        return;
    header = seg->started ? 0 : FORMAT_PAGE;
    if (header)
        rc = encode_header(w, seg, w->toc_buf);
    toc_batch_begin(&w->batch, &seg->contents, w->toc_buf + header, TOC_BYTES - header);
    w->batch_blocks = add_blocks(w, seg);
    w->batch_dead = add_dead(w);
    if (!w->batch_blocks && !w->batch_dead)
        return;
    rc = rc ? rc : toc_batch_end(&w->batch, seg->reserved, clock_wall_s());
    w->batch_seg = seg;
    w->toc_busy = true;
    w->toc_deadline_ns = clock_ns() + w->c->cfg.write_timeout_ms * NS_PER_MS;
    w->toc_epoch = breaker_epoch(&w->c->breaker, BREAKER_WRITE);
    fault_point("put.payload_written");
    if (!rc)
        rc = writer_prep(w, &seg->toc, w->toc_buf, w->batch.start - header,
                         (uint32_t)(w->batch.used + header), WIO_TOC, NULL);
    if (rc == -EAGAIN) { /* the ring is full: nothing was written, the same frames go out later */
        w->toc_busy = false;
        toc_batch_undo(&w->batch);
    } else if (rc) {
        publish_toc_done(w, rc, 0);
    }
}

/* For eviction: what came back soon after it was evicted is worth more; what is carried over did
 * not go. */
static void note_stored(cistern *c, const struct wgroup *g, const struct wblock *b)
{
    heat_stored(c, &c->segs.at[g->number], &b->info);
    if (b->carried)
        (void)heat_ghost_take(c, b->info.key);
    else if (b->returned)
        metric_add(&c->metrics, METRIC_put_returned_bytes, b->bytes);
}

/* The blocks of the batch are on disk and findable: index first, then results. */
static void batch_published(struct writer *w)
{
    cistern *c = w->c;
    uint32_t left = w->batch_blocks;

    while (left) {
        struct wgroup *g = w->order;
        struct wblock *b;
        int rc;

        if (!HOLDS(c, g && g->settled < g->count && g->seg == w->batch_seg))
            break;
        b = &g->blocks[g->settled];
        rc = index_insert(c->index, g->seg->number, &b->info);

        if (rc && rc != -EEXIST)
            metric_add(&c->metrics, METRIC_index_full, 1);
        note_stored(c, g, b);
        metric_add(&c->metrics, b->carried ? METRIC_carried_blocks : METRIC_put_stored_blocks, 1);
        metric_add(&c->metrics, b->carried ? METRIC_carried_bytes : METRIC_put_bytes, b->bytes);
        note_arrival(c, g, b);
        put_block_done(w, b, CISTERN_STORED);
        left--;
        if (++g->settled == g->count)
            drop_first(w);
    }
    (void)pthread_mutex_lock(&w->dead_lock);
    w->dead_first = (w->dead_first + w->batch_dead) % DEAD_NOTES;
    w->dead_count -= w->batch_dead;
    w->dead_published += w->batch_dead;
    (void)pthread_mutex_unlock(&w->dead_lock);
    c->segs.at[w->batch_seg->number].cursor.dead += w->batch_dead; /* notes.c wants to know */
    metric_add(&c->metrics, METRIC_dead_records, w->batch_dead);
}

/* No further frame goes to this segment: what was not published in it becomes an error. */
static void abandon_segment(struct writer *w, struct wseg *seg)
{
    metric_add(&w->c->metrics, METRIC_segments_abandoned, 1);
    log_line(&w->c->cfg.log, LOG_WARN,
             "a write of contents failed: the segment is closed, its unpublished blocks are lost");
    seg->abandoned = true;
    if (seg->stream->current == seg)
        writer_end_segment(w, seg->stream);
}

void publish_toc_done(struct writer *w, int64_t result, uint32_t len)
{
    struct wseg *seg = w->batch_seg;

    if (!w->toc_busy)
        return;
    w->toc_busy = false;
    if (result != (int64_t)len || result < 0) {
        metric_add(&w->c->metrics, METRIC_io_write_errors, 1);
        toc_batch_undo(&w->batch);
        engine_io_failed(w->c, BREAKER_WRITE, w->toc_epoch, result < 0 ? (int)result : -EIO,
                         BREAKER_NOWHERE);
        abandon_segment(w, seg);
        full_frames(w, result);
        return;
    }
    breaker_answered(&w->c->breaker, BREAKER_WRITE);
    fault_point("put.frame_written");
    seg->started = true;
    (void)atomic_fetch_add(&seg->written, 1);
    batch_published(w);
    seg->stream->published = seg->contents.position;
    seg->stream->published_next = seg->seq + 1;
    seg->stream->head_dirty = true;
    fault_point("put.completed");
}

/* The write was not answered in time: its buffer belongs to storage, and so does the place in the
 * file. */
void publish_toc_late(struct writer *w)
{
    metric_add(&w->c->metrics, METRIC_io_timeouts, 1);
    engine_io_failed(w->c, BREAKER_WRITE, w->toc_epoch, -ETIMEDOUT, BREAKER_NOWHERE);
    pool_quarantine(w->c->write_pool, w->toc_buf);
    w->lost_pages++;
    w->toc_buf = NULL;
    w->toc_busy = false;
    toc_batch_undo(&w->batch);
    abandon_segment(w, w->batch_seg);
}

/* ---- Head ---- */

static uint32_t health(const cistern *c)
{
    return engine_stops_gets(c) ? HEAD_HEALTH_BREAKER : 0;
}

struct head_record publish_head(struct writer *w, struct wstream *st, uint32_t state)
{
    const struct config *cfg = &w->c->cfg;
    struct head_record h = {.state = state,
                            .writer = st->id,
                            .counter = ++st->head_counter,
                            .shard = cfg->shard,
                            .shards = cfg->shards,
                            .first_seq = min_u64(atomic_load(&st->first_seq), st->published_next),
                            .next_seq = st->published_next,
                            .published = st->published,
                            .written_s = clock_wall_s(),
                            .pid = (uint32_t)getpid(),
                            .health = health(w->c),
                            .generation = st->generation};

    memcpy(h.space, w->c->fingerprint, sizeof h.space);
    (void)gethostname(h.host, sizeof h.host - 1);
    return h;
}

void publish_encode(struct wstream *st, const struct head_record *h, uint8_t *page)
{
    uint64_t i, n = min_u64(HEAD_TOUCHES_MAX, h->next_seq - h->first_seq);
    uint32_t touches[HEAD_TOUCHES_MAX];

    for (i = 0; i < n; i++)
        touches[i] = atomic_load_explicit(&st->touches[(h->next_seq - 1 - i) % HEAD_TOUCHES_MAX],
                                          memory_order_relaxed);
    head_encode(h, touches, n, page);
}

static void start_head(struct writer *w, struct wstream *st)
{
    struct head_record h;
    int fd;

    (void)pthread_mutex_lock(&w->lock);
    fd = st->head.fd;
    (void)pthread_mutex_unlock(&w->lock);
    if (fd < 0 || !w->head_buf || fence_holds(w))
        return;
    h = publish_head(w, st, HEAD_LIVE);
    publish_encode(st, &h, w->head_buf);
    st->health = h.health;
    st->head_dirty = false;
    atomic_store(&st->first_moved, false);
    w->head_busy = true;
    w->head_of = st;
    fence_head_sent(st);
    if (writer_prep(w, &st->head, w->head_buf, 0, FORMAT_PAGE, WIO_HEAD, NULL)) {
        w->head_busy = false;
        st->head_failed = true;
        metric_add(&w->c->metrics, METRIC_io_write_errors, 1);
    }
}

void publish_head_done(struct writer *w, int64_t result)
{
    w->head_busy = false;
    if (result != FORMAT_PAGE) {
        w->head_of->head_failed = true;
        metric_add(&w->c->metrics, METRIC_io_write_errors, 1);
        return;
    }
    fence_head_written(w, w->head_of);
    fault_point("put.head_written");
}

void publish_step(struct writer *w)
{
    uint32_t i;

    for (i = 0; i < WSTREAMS; i++) {
        struct wstream *st = &w->streams[i];

        if (st->current && atomic_load(&st->current->sync_error))
            writer_end_segment(w, st);
    }
    if (!w->toc_busy) {
        publish_settle_failed(w);
        start_toc(w);
    }
    for (i = 0; i < WSTREAMS; i++) {
        struct wstream *st = &w->streams[i];

        if (!w->head_busy &&
            (st->head_dirty || atomic_load(&st->first_moved) || st->health != health(w->c)))
            start_head(w, st);
    }
}

bool publish_idle(struct writer *w)
{
    return !w->toc_busy && !w->head_busy && !w->order && !writer_young(w)->head_dirty &&
           !writer_old(w)->head_dirty && !w->dead_count;
}
