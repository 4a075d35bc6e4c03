/*
 * follow.c - takes up what others wrote: at open all of it, later what came since.
 *
 * Own shard: into the index. Other shards: into the presence table. A dead record names one copy by
 * segment and place, so the order in which contents are read does not matter; they are applied when
 * all is read. Other shards' dead records are not, and their segments that go are taken out late
 * (others.c): a presence that is too good costs a miss at the get.
 *
 * The keeper may forget a segment while its contents are read here: it removes its blocks from the
 * index before and after it says that the segment is gone, and here that is looked at after blocks
 * went in, so that none stays.
 */
#include "engine/carry.h"
#include "engine/files.h"
#include "engine/follow.h"
#include "engine/gone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/heat.h"

#define NOTE_LISTINGS 1000u           /* as long a note is kept whose segment nobody saw */
#define BARE_NS       (60 * NS_PER_S) /* twice as long as 3FS may miss a name */

/* ---- What the contents say ---- */

/* Gives the batch, all of one segment, to the index or to presence. */
static void flush_batch(cistern *c)
{
    struct follower *f = c->follower;
    uint32_t i;
    int rc = 0;

    if (f->batched && f->number_shard == c->cfg.shard) {
        rc = index_insert_many(c->index, f->number, f->batch, f->batched, NULL);
        for (i = 0; i < f->batched; i++)
            heat_taken(&c->segs.at[f->number], &f->batch[i]);
        if (!f->first && !segtab_in_use(&c->segs, f->number))
            (void)index_remove_segment(c->index, f->number);
    } else if (f->batched) {
        rc = presence_add_blocks(f->fresh ? f->fresh : c->others, &c->cfg.rules, f->number_shard,
                                 f->batch, f->batched);
    }
    if (rc)
        metric_add(&c->metrics, METRIC_index_full, 1);
    f->batched = 0;
}

static int on_block(void *arg, const struct block_info *b)
{
    cistern *c = arg;
    struct follower *f = c->follower;

    if (f->number_shard == c->cfg.shard && engine_is_aside(c, f->number))
        return 0;
    if (f->number_shard == c->cfg.shard && f->number_bare &&
        !(c->cfg.flags & CISTERN_OPEN_MATCH_ONLY))
        return 0;
    f->batch[f->batched] = *b;
    if (++f->batched == ARRAY_LEN(f->batch))
        flush_batch(c);
    return 0;
}

static int note_add(struct follow_notes *n, const struct follow_note *note)
{
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 256;
        struct follow_note *grown = realloc(n->at, room * sizeof *grown);

        if (!grown)
            return -ENOMEM;
        n->at = grown;
        n->room = room;
    }
    n->at[n->count++] = *note;
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                   uint8_t reason)
{
    cistern *c = arg;
    struct follower *f = c->follower;
    struct follow_note note = {.dead = {.offset = offset, .reason = reason}, .listing = f->listing};

    if (f->reader.current->shard != c->cfg.shard)
        return 0;
    memcpy(note.dead.key, key, 32);
    memcpy(note.dead.segment_id, segment_id, 16);
    return note_add(&f->dead, &note);
}

/* A segment that is set aside is as good as empty. */
static int on_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    static const uint8_t any[32];

    return on_dead(arg, any, segment_id, UINT32_MAX, reason);
}

/* False: its segment is not known. *absent: that one may still bring the copy, because not all of
 * its contents were read, because a look saw the note and not yet what it is about, or because we
 * are writing it, and others saw the frame before we were told that it is there. */
static bool apply_note(cistern *c, const struct dead_note *d, bool *absent)
{
    int64_t number = segtab_find(&c->segs, d->segment_id);
    cistern_key key;

    *absent = false;
    if (number < 0)
        return false;
    memcpy(key.b, d->key, sizeof key.b);
    if (d->offset == DEAD_NOTE_ASIDE)
        engine_aside(c, (uint32_t)number);
    else if (index_remove_copy(c->index, &key, (uint32_t)number, d->offset))
        heat_lost(&c->segs.at[number], 1);
    else
        *absent = c->segs.at[number].own ? gone_not_yet(c, (uint32_t)number)
                                         : !c->segs.at[number].ended || c->segs.at[number].bare_ns;
    return true;
}

static bool is_fresh(const struct follower *f, const struct follow_note *note)
{
    return f->listing - note->listing < NOTE_LISTINGS;
}

static void apply_absent(cistern *c)
{
    struct follow_notes *n = &c->follower->absent;
    size_t i, kept = 0;
    bool absent;

    for (i = 0; i < n->count; i++) {
        const struct follow_note note = n->at[i];

        if (apply_note(c, &note.dead, &absent) && absent && is_fresh(c->follower, &note))
            n->at[kept++] = note;
    }
    n->count = kept;
}

void follow_hear(cistern *c, const struct dead_note *note)
{
    struct follower *f = c->follower;
    int rc;

    (void)pthread_mutex_lock(&f->lock);
    rc = note_add(&f->heard_of, &(struct follow_note){.dead = *note});
    (void)pthread_mutex_unlock(&f->lock);
    if (rc)
        log_line(&c->cfg.log, LOG_WARN, "no memory: a deletion is known after the restart only");
}

/* As if they had been read in this look. */
static void take_heard(struct follower *f)
{
    size_t i;

    (void)pthread_mutex_lock(&f->lock);
    for (i = 0; i < f->heard_of.count; i++) {
        f->heard_of.at[i].listing = f->listing;
        (void)note_add(&f->dead, &f->heard_of.at[i]); /* no memory: found at the next open */
    }
    f->heard_of.count = 0;
    (void)pthread_mutex_unlock(&f->lock);
}

/* Another store deleted what this one may be carrying over: a copy that no note speaks of. */
static void erase_carried(cistern *c, const struct dead_note *d)
{
    cistern_key key;

    memcpy(key.b, d->key, sizeof key.b);
    if (d->reason == DEAD_DELETED)
        carry_erase_for(c, &key);
}

/* Those of segments that are not known are kept for a while: these may come to light later, or were
 * evicted. */
static void apply_dead(cistern *c)
{
    struct follower *f = c->follower;
    size_t i, kept, new = f->dead_tried;
    bool absent;

    take_heard(f);
    apply_absent(c);
    for (i = kept = f->opened ? 0 : f->dead_tried; i < f->dead.count; i++) {
        const struct follow_note note = f->dead.at[i];

        if (i >= new)
            erase_carried(c, &note.dead);
        if (!apply_note(c, &note.dead, &absent)) {
            if (is_fresh(f, &note))
                f->dead.at[kept++] = note;
        } else if (absent) {
            (void)note_add(&f->absent, &note); /* no memory: found at the next open */
        }
    }
    f->dead.count = f->dead_tried = kept;
    f->opened = false;
}

/* ---- Segments ---- */

/* Moves the parse on to another segment. */
static int begin(void *arg, struct contents_job *job)
{
    cistern *c = arg;
    struct segment s = {
        .writer = job->writer, .seq = job->seq, .shard = job->shard, .epoch = c->follower->epoch};
    int64_t number;

    if (memcmp(job->header.space, c->fingerprint, sizeof c->fingerprint) != 0 ||
        job->header.shards != c->cfg.shards)
        return err_set(-EBADMSG, "the contents are of another space");
    if (job->want_data &&
        job->data_rc == -ENOENT) /* it was made before the first frame was written */
        contents_open_data(&c->follower->reader, job);
    if (job->want_data && job->data_rc && job->data_rc != -ENOENT)
        /* A later look may have more luck. */
        return err_set(job->data_rc, "the data file cannot be opened: %s",
                       cistern_error_string(job->data_rc));
    if (c->follower->fresh) { /* read once more, from its beginning */
        number = segtab_find(&c->segs, job->header.segment_id);
        job->number = (uint32_t)number;
        job->held = number >= 0 && segment_hold(&c->segs, job->number);
        return job->held ? 0 : -ENOENT;
    }
    memcpy(s.id, job->header.segment_id, sizeof s.id);
    s.has_data = job->want_data && !job->data_rc;
    if (!files_room(c)) /* it is there, and opened when it is read */
        c->io->ops->file_close(c->io, &job->data);
    s.data = job->data;
    s.cursor = job->cursor;
    s.cursor.key = NULL;
    s.seen = c->follower->listing;
    if (job->want_data && job->data_rc) /* what it says of other segments counts all the same */
        s.bare_ns = clock_boot_ns() + BARE_NS;
    c->follower->opened = true;
    number = segtab_add(&c->segs, &s);
    if (number < 0)
        return err_set((int)number,
                       "the segment is known already, or the table of segments is full");
    job->data.fd = -1; /* it belongs to the table now */
    job->number = (uint32_t)number;
    if (job->cursor.key) { /* from here on it lies where whoever holds the segment finds it */
        memcpy(crypt_slot(c->crypt, job->number), job->cursor.key, CRYPT_KEY);
        c->segs.at[job->number].cursor.key = job->cursor.key = crypt_slot(c->crypt, job->number);
    }
    if (!(job->held = segment_hold(&c->segs, job->number)))
        return err_set(-ENOENT, "the segment was forgotten at once");
    metric_add(&c->metrics, METRIC_segments_opened, 1);
    if (job->want_data && job->data_rc && c->follower->first) {
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
        f->number_bare = !c->segs.at[f->number].has_data;
    }
    return on_block(c, b);
}

/* Also after an error: what was read before it is not taken up again, for some of it may have been
 * declared dead meanwhile. */
static void note_cursor(cistern *c, const struct contents_job *job)
{
    if (job->held && !c->follower->fresh) /* else it went into a table that may be thrown away */
        c->segs.at[job->number].cursor = job->cursor;
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
}

static void note_bad(cistern *c, const struct contents_job *job)
{
    char id[CRYPT_ID_TEXT];

    if (job->result == -ENODATA || job->result == -ENOENT || !c->follower->first)
        return; /* nothing in it yet; evicted, or lost, which look.c tells */
    metric_add(&c->metrics,
               job->result == CISTERN_EKEY ? METRIC_contents_locked : METRIC_contents_bad, 1);
    if (job->result == CISTERN_EKEY) {
        crypt_id_text(job->key_id, id);
        log_line(&c->cfg.log, LOG_WARN, "%s: contents of writer %016llx need the key %s", job->dir,
                 (unsigned long long)job->writer, id);
        return;
    }
    log_line(&c->cfg.log, LOG_WARN, "%s: contents of writer %016llx cannot be used: %s", job->dir,
             (unsigned long long)job->writer, cistern_error_string(job->result));
}

/* Also when it fails, whatever was read is taken up. */
int follow_take(cistern *c, struct contents_list *jobs)
{
    struct follower *f = c->follower;
    size_t i;
    int rc;

    f->number = UINT32_MAX;
    metric_add(&c->metrics, METRIC_contents_reads, jobs->count);
    rc = contents_run(&f->reader, jobs->at, jobs->count);
    flush_batch(c);
    for (i = 0; i < jobs->count; i++) {
        struct contents_job *job = &jobs->at[i];

        note_cursor(c, job);
        if (job->result)
            note_bad(c, job);
        else
            note_end(c, job);
    }
    return rc;
}

void follow_release(cistern *c, struct contents_list *jobs)
{
    size_t i;

    for (i = 0; i < jobs->count; i++) {
        if (jobs->at[i].held)
            segment_release(&c->segs, jobs->at[i].number);
        jobs->at[i].held = false;
    }
}

void follow_settle(cistern *c)
{
    if (c->others && c->follower->first)
        presence_settle(c->others);
    apply_dead(c);
}

void follow_dir(const cistern *c, uint32_t shard, char out[544])
{
    (void)snprintf(out, 544, "%s/s%uof%u", c->space_path, shard, c->cfg.shards);
}

bool follow_wants(const cistern *c, uint32_t shard)
{
    return shard == c->cfg.shard || (shard < c->cfg.shards && c->others);
}

int follower_open(cistern *c)
{
    struct follower *f = calloc(1, sizeof *f);
    pthread_condattr_t attr;

    int rc = doubts_open(c);

    if (rc || !f) {
        free(f);
        return rc ? rc : err_set(-ENOMEM, "no memory for the follower");
    }
    c->follower = f;
    f->first = true;
    f->heard = bell_hear(&c->bell);
    peers_open(&f->peers);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    f->sink = (struct toc_sink){.block = sink_block, .dead = on_dead, .aside = on_aside, .arg = c};
    f->reader.log = c->cfg.log;
    f->reader.crypt = c->crypt;
    f->reader.buffered = (c->cfg.flags & CISTERN_OPEN_BUFFERED) != 0;
    f->reader.begin = begin;
    f->reader.sink = &f->sink;
    f->reader.arg = c;
    return contents_reader_open(&f->reader, c->io, 10ull * c->cfg.read_timeout_ms * NS_PER_MS);
}

int follow_renew(cistern *c)
{
    struct follower *f = c->follower;
    uint32_t i, epoch = atomic_load(&c->coming);
    int rc = epoch == f->epoch ? 0 : contents_reader_renew(&f->reader);

    if (rc || epoch == f->epoch)
        return rc;
    for (i = 0; i < f->peers.count; i++) {
        if (f->peers.at[i].file.fd >= 0)
            c->io->ops->file_close(c->io, &f->peers.at[i].file);
    }
    f->epoch = epoch;
    return 0;
}

int follower_close(cistern *c)
{
    struct follower *f = c->follower;
    int rc;

    doubts_close(c);
    if (!f)
        return 0;
    look_close(f);
    presence_close(f->retired);
    peers_close(&f->peers, c->io);
    rc = contents_reader_close(&f->reader);
    free(f->dead.at);
    free(f->absent.at);
    free(f->heard_of.at);
    free(f);
    c->follower = NULL;
    return rc;
}
