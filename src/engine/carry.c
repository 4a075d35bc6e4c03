/*
 * carry.c - see carry.h. One unit is a stretch of adjacent blocks in one slot of the write staging:
 * read by the keeper, verified, then written by the lane as a group of its own. One unit is on its
 * way at a time, which keeps carrying behind puts and gets.
 *
 * A block moves without being hashed again for its new place: the hash of the payload, which the
 * verification computed, is mixed with the new identity (segment/toc.h). With encryption it is
 * decrypted by the keeper and encrypted anew by the lane; what lies between the blocks that are
 * kept becomes zeros before it is written.
 */
#include "engine/carry.h"
#include "engine/carry_deletes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/le.h"
#include "engine/capacity.h"
#include "engine/files.h"
#include "engine/renew.h"
#include "engine/sealed.h"
#include "engine/writer_internal.h"

#define JOBS 8u

struct unit {
    uint8_t *slot;
    uint32_t len, count;
    bool copies; /* the segment stays: the index has these blocks already */
    enum policy_generation to;
    uint32_t erased;                         /* of the job */
    struct block_info blocks[WGROUP_BLOCKS]; /* check: the hash of the payload, not mixed */
    uint32_t at[WGROUP_BLOCKS];              /* place in the slot */
};

struct job {
    uint32_t number; /* held */
    bool taken;      /* its data file is */
    uint64_t writer, seq;
    struct block_info *blocks; /* by offset; NULL = no job */
    size_t count, room, next;
    bool copies; /* of pinned blocks; the segment is not evicted */
    enum policy_generation to;
    uint32_t erased; /* of struct carry, when the choice began */
};

struct carry {
    struct job jobs[JOBS];
    struct io_ring ring;
    bool lost;      /* a read was not answered */
    uint32_t epoch; /* of the handle, when the ring was made */
    struct unit unit;
    _Atomic bool ready; /* the unit is the lane's, else the keeper's */
    struct carry_deletes deletes;
    /* Of carry_begin(). */
    struct job *choosing;
    const struct policy_segment *victim;
};

/* Made at the first eviction that has something to carry; NULL: it cannot be, and is not tried
 * again.
 */
static struct carry *carry_get(cistern *c)
{
    struct capacity *k = c->capacity;
    struct carry *y = k->carry;

    if (y || k->carry_failed)
        return y;
    y = calloc(1, sizeof *y);
    if (y) {
        y->epoch = atomic_load(&c->epoch);
        carry_deletes_open(&y->deletes);
    }
    if (!y || c->io->ops->ring_create(c->io, &y->ring, 2, true)) {
        log_line(&c->cfg.log, LOG_WARN, "blocks cannot be carried over: no memory, or no ring");
        k->carry_failed = true;
        free(y);
        return NULL;
    }
    k->carry = y;
    return y;
}

static void end_job(cistern *c, struct job *job)
{
    if (job->taken)
        file_give(c, job->number);
    segment_release(&c->segs, job->number);
    free(job->blocks);
    *job = (struct job){0};
    c->capacity->next_ns = 0; /* its data may go */
}

void carry_close(cistern *c)
{
    struct carry *y = c->capacity ? c->capacity->carry : NULL;
    uint32_t i;

    if (!y)
        return;
    for (i = 0; i < JOBS; i++) {
        if (y->jobs[i].blocks)
            end_job(c, &y->jobs[i]);
    }
    if (atomic_load(&y->ready))
        pool_give(c->write_pool, y->unit.slot);
    c->io->ops->ring_destroy(c->io, &y->ring);
    carry_deletes_close(&y->deletes);
    free(y);
    c->capacity->carry = NULL;
}

static struct job *next_job(struct carry *y)
{
    uint32_t i;

    for (i = 0; i < JOBS && !y->jobs[i].blocks; i++)
        ;
    return i < JOBS ? &y->jobs[i] : NULL;
}

struct carry_deletes *carry_deletes_of(const cistern *c)
{
    struct carry *y = c->capacity ? atomic_load(&c->capacity->carry) : NULL;

    return y ? &y->deletes : NULL;
}

/* Nothing is on its way that a mark could stand for. */
static void clear_marks(struct carry *y)
{
    if (!next_job(y) && !atomic_load(&y->ready))
        carry_deletes_clear(&y->deletes);
}

/* ---- Choosing ---- */

static int by_offset(const void *x, const void *y)
{
    const struct block_info *a = x, *b = y;

    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int consider(void *arg, const struct index_place *p, bool others)
{
    cistern *c = arg;
    struct capacity *k = c->capacity;
    struct carry *y = k->carry;
    struct job *job = y->choosing;
    struct policy_block b = {.used = p->use != 0,
                             .use_age = heat_age(&k->heat, p->use),
                             .pinned = pins_has(c, p->info.key),
                             .copied = others};
    struct block_info *grown;

    if (!policy_carry(y->victim, &b, &k->params, &k->history) || !carry_mark(c, &p->info))
        return 0;
    if (job->count == job->room) {
        size_t room = job->room ? 2 * job->room : 64;

        if (!(grown = realloc(job->blocks, room * sizeof *grown)))
            return -ENOMEM;
        job->blocks = grown;
        job->room = room;
    }
    job->blocks[job->count++] = p->info;
    return 0;
}

/* Parents first, as far as the budget goes. */
static void cut_to_limit(cistern *c, struct job *job, const struct policy_segment *victim)
{
    struct capacity *k = c->capacity;
    uint64_t left = policy_carry_limit(victim, &k->params, &k->history);
    size_t i;

    if (job->count)
        qsort(job->blocks, job->count, sizeof *job->blocks, by_offset);
    for (i = 0; i < job->count && block_extent(&job->blocks[i]) <= left; i++)
        left -= block_extent(&job->blocks[i]);
    job->count = i;
}

/* A copy counts as written when it is made: where blocks age nothing is copied, so that none lives
 * on by it. */
static bool ages(const cistern *c)
{
    return atomic_load_explicit(&c->ttl_seconds, memory_order_relaxed) != 0;
}

void carry_begin(cistern *c, uint32_t number, const struct policy_segment *victim)
{
    struct carry *y = c->cfg.carry_over && !ages(c) ? carry_get(c) : NULL;
    struct job job = {.number = number,
                      .writer = c->segs.at[number].writer,
                      .seq = c->segs.at[number].seq,
                      .to = POLICY_OLD};
    uint32_t i;

    for (i = 0; y && i < JOBS && y->jobs[i].blocks; i++)
        ;
    if (!y || y->lost || i == JOBS || !segment_hold(&c->segs, number))
        return;
    clear_marks(y);
    job.erased = atomic_load(&y->deletes.erased);
    y->choosing = &job;
    y->victim = victim;
    if (index_walk_segment(c->index, number, consider, c)) /* short of memory */
        job.count = 0;
    if (job.count)
        cut_to_limit(c, &job, victim);
    if (job.count && c->segs.at[number].has_data) {
        y->jobs[i] = job;
        return;
    }
    free(job.blocks);
    segment_release(&c->segs, number);
}

void carry_copies(cistern *c, uint32_t number, struct block_info *blocks, size_t count,
                  enum policy_generation to)
{
    struct carry *y = ages(c) ? NULL : carry_get(c);
    struct job *free_job = NULL;
    uint32_t i, erased;
    size_t n;

    for (i = 0; y && i < JOBS; i++) {
        if (y->jobs[i].blocks && y->jobs[i].number == number)
            break; /* on their way */
        if (!y->jobs[i].blocks && !free_job)
            free_job = &y->jobs[i];
    }
    if (!y || y->lost || i < JOBS || !free_job || !segment_hold(&c->segs, number)) {
        free(blocks);
        return;
    }
    clear_marks(y);
    erased = atomic_load(&y->deletes.erased);
    for (n = 0; n < count; n++)
        (void)carry_mark(c, &blocks[n]); /* one that is deleted already is not laid out */
    qsort(blocks, count, sizeof *blocks, by_offset);
    *free_job = (struct job){.number = number,
                             .writer = c->segs.at[number].writer,
                             .seq = c->segs.at[number].seq,
                             .blocks = blocks,
                             .count = count,
                             .room = count,
                             .copies = true,
                             .erased = erased,
                             .to = to};
}

bool carry_copying(const cistern *c)
{
    const struct carry *y = c->capacity->carry;
    uint32_t i;

    for (i = 0; y && i < JOBS; i++) {
        if (y->jobs[i].blocks && y->jobs[i].copies)
            return true;
    }
    return y && atomic_load(&y->ready) && y->unit.copies;
}

bool carry_reads(const cistern *c, uint64_t writer, uint64_t seq)
{
    const struct carry *y = c->capacity ? c->capacity->carry : NULL;
    uint32_t i;

    for (i = 0; y && i < JOBS; i++) {
        if (y->jobs[i].blocks && y->jobs[i].writer == writer && y->jobs[i].seq == seq)
            return true;
    }
    return false;
}

void carry_cancel(cistern *c, uint64_t writer, uint64_t seq)
{
    struct carry *y = c->capacity ? c->capacity->carry : NULL;
    uint32_t i;

    for (i = 0; y && i < JOBS; i++) {
        if (y->jobs[i].blocks && y->jobs[i].writer == writer && y->jobs[i].seq == seq)
            end_job(c, &y->jobs[i]);
    }
}

/* ---- Reading ---- */

/* The next adjacent blocks of a job that fit one unit; where they begin in the file. */
static uint64_t take_run(const cistern *c, struct job *job, struct unit *u)
{
    uint64_t from = (uint64_t)job->blocks[job->next].offset * FORMAT_PAGE, extent;

    u->len = u->count = 0;
    u->copies = job->copies;
    u->to = job->to;
    u->erased = job->erased;
    while (job->next < job->count && u->count < c->cfg.io_blocks) {
        const struct block_info *b = &job->blocks[job->next];

        extent = block_extent(b);
        if ((uint64_t)b->offset * FORMAT_PAGE != from + u->len ||
            u->len + extent > pool_slot_bytes(c->write_pool))
            break;
        u->blocks[u->count] = *b;
        u->at[u->count++] = u->len;
        u->len += (uint32_t)extent;
        job->next++;
    }
    if (!u->count)
        job->next++; /* larger than a slot: never */
    return from;
}

/* Decrypts a part in place, or replaces its check by the hash of the payload; false: the bytes are
 * not what was stored. */
static bool verify_part(const cistern *c, uint32_t number, const struct check_identity *id,
                        uint8_t *bytes, uint64_t *check)
{
    uint64_t hash;

    if (c->crypt)
        return part_decrypt(c->keeper.cipher, crypt_slot(c->crypt, number), id, bytes, bytes,
                            *check) == 0;
    hash = hash64(bytes, id->length);
    if (format_check(id, hash) != *check)
        return false;
    *check = hash;
    return true;
}

static bool verify(const cistern *c, uint32_t number, uint8_t *bytes, struct block_info *b)
{
    const struct segment *s = &c->segs.at[number];
    struct check_identity id = {.offset = (uint64_t)b->offset * FORMAT_PAGE};
    uint32_t p, n = 0;

    memcpy(id.space, c->fingerprint, sizeof id.space);
    memcpy(id.segment_id, s->id, sizeof id.segment_id);
    memcpy(id.key, b->key, sizeof id.key);
    for (p = 0; p < FORMAT_MAX_PARTS && n < b->parts; p++) {
        if (!(b->mask & (1u << p)))
            continue;
        id.part = p;
        id.length = b->length[n];
        if (!verify_part(c, number, &id, bytes, &b->check[n]))
            return false;
        bytes += round_up(b->length[n], FORMAT_PAGE);
        id.offset += round_up(b->length[n], FORMAT_PAGE);
        n++;
    }
    return true;
}

/* Bytes that arrived, or why not; -ETIMEDOUT: storage owns the slot. */
static int64_t read_run(cistern *c, struct io_file *f, struct unit *u, uint64_t from)
{
    struct carry *y = c->capacity->carry;
    struct io_done done;
    int rc = c->io->ops->prep(c->io, &y->ring, pool_mem(c->write_pool, u->slot), u->slot, f, from,
                              u->len, u->slot);

    if (rc < 0)
        return rc;
    (void)c->io->ops->submit(c->io, &y->ring);
    if (c->io->ops->wait(c->io, &y->ring, &done, 1, 1, c->cfg.read_timeout_ms * NS_PER_MS) != 1)
        return -ETIMEDOUT;
    return done.result;
}

/* Fills the unit; false: there is nothing in it for the lane. */
static bool read_unit(cistern *c, struct job *job)
{
    struct carry *y = c->capacity->carry;
    struct segment *s = &c->segs.at[job->number];
    struct unit *u = &y->unit;
    uint64_t from = take_run(c, job, u);
    uint32_t i, kept = 0;
    int64_t got;

    if (!u->count || !budget_carries(c, u->count, u->len))
        return false;
    pace_read(c, u->len);
    got = read_run(c, &s->data, u, from);
    if (got == -ETIMEDOUT) {
        y->lost = true;
        job->taken = false; /* storage may still read it: not shut before the segment goes */
        pool_quarantine(c->write_pool, u->slot);
        u->slot = NULL;
        return false;
    }
    if (got != (int64_t)u->len) /* rare, and a carried block is a present */
        return false;
    for (i = 0; i < u->count; i++) {
        uint32_t offset = u->blocks[i].offset;
        cistern_key key;

        memcpy(key.b, u->blocks[i].key, sizeof key.b);
        if (!verify(c, job->number, u->slot + u->at[i], &u->blocks[i])) {
            if (job->copies)
                engine_bad_copy(c, &key, job->number, offset, DEAD_CHECKSUM);
            continue;
        }
        u->blocks[kept] = u->blocks[i];
        u->at[kept++] = u->at[i];
    }
    u->count = kept;
    return kept != 0;
}

/* Puts come first: carrying leaves them half of the staging. */
static uint8_t *spare_slot(cistern *c)
{
    struct pool_counts n;

    pool_count(c->write_pool, &n);
    return 2 * n.free > n.slots ? pool_take(c->write_pool) : NULL;
}

/* Storage is another one (renew.c): nothing that was begun can be finished. */
static bool begin_anew(cistern *c, struct carry *y)
{
    uint32_t i, epoch = atomic_load(&c->epoch);

    if (y->epoch == epoch)
        return true;
    for (i = 0; i < JOBS; i++) {
        if (y->jobs[i].blocks)
            end_job(c, &y->jobs[i]);
    }
    c->io->ops->ring_destroy(c->io, &y->ring);
    y->lost = c->io->ops->ring_create(c->io, &y->ring, 2, true) != 0;
    y->epoch = epoch;
    return false;
}

void carry_drop(struct writer *w)
{
    struct carry *y = w->c->capacity ? w->c->capacity->carry : NULL;

    if (!y || !atomic_load_explicit(&y->ready, memory_order_acquire))
        return;
    pool_give(w->c->write_pool, y->unit.slot);
    atomic_store_explicit(&y->ready, false, memory_order_release);
}

/* The keeper's part of a step, with the files as they are. */
static bool step(cistern *c, struct carry *y)
{
    struct job *job = next_job(y);

    if (!job || atomic_load_explicit(&y->ready, memory_order_acquire))
        return job != NULL;
    if (y->lost || engine_tripped(c) || atomic_load(&c->closing)) {
        end_job(c, job);
        return false;
    }
    if (!job->copies && job->erased != atomic_load(&y->deletes.erased)) {
        end_job(c, job);
        return true;
    }
    if (!job->taken || !pace_reads(c) || !(y->unit.slot = spare_slot(c)))
        return true;
    if (read_unit(c, job)) {
        fault_point("carry.read");
        atomic_store_explicit(&y->ready, true, memory_order_release);
        inbox_ring(&c->writer->in);
    } else if (y->unit.slot) {
        pool_give(c->write_pool, y->unit.slot);
    }
    if (job->next >= job->count)
        end_job(c, job);
    return true;
}

/* The file of the job that is next: an open may hang, and the files of others are not to wait for
 * it. */
static void open_next(cistern *c, struct carry *y)
{
    struct job *job = next_job(y);
    int rc;

    if (!job || job->taken || y->lost || atomic_load_explicit(&y->ready, memory_order_acquire) ||
        engine_tripped(c) || atomic_load(&c->closing))
        return;
    rc = file_take_now(c, job->number);
    job->taken = !rc;
    if (rc && rc != -EAGAIN)
        end_job(c, job);
}

bool carry_step(cistern *c)
{
    struct carry *y = c->capacity ? c->capacity->carry : NULL;
    bool more;

    if (!y)
        return false;
    open_next(c, y);
    (void)pthread_mutex_lock(&c->renew->files);
    more = begin_anew(c, y) ? step(c, y) : true;
    (void)pthread_mutex_unlock(&c->renew->files);
    return more;
}

/* ---- Writing: the lane ---- */

/* A part of the unit at its new place; what lies behind it is zeroed when it is encrypted. */
static int place_part(struct writer *w, const struct wgroup *g, const struct check_identity *id,
                      uint64_t *check)
{
    const uint8_t *key = g->seg->contents.key;
    uint8_t *at = g->slot + (id->offset - g->offset);

    if (!key) {
        *check = format_check(id, *check);
        return 0;
    }
    memset(at + id->length, 0, round_up(id->length, FORMAT_PAGE) - id->length);
    return part_encrypt(w->cipher, key, id, at, at, check);
}

/* A block of the unit at its new place. */
static int place_block(struct writer *w, struct wgroup *g, const struct unit *u, uint32_t i)
{
    struct wblock *b = &g->blocks[g->count];
    struct check_identity id = {.offset = g->offset + u->at[i]};
    uint32_t p, n = 0;
    int rc;

    *b = (struct wblock){.info = u->blocks[i], .carried = true};
    b->info.offset = (uint32_t)(id.offset / FORMAT_PAGE);
    memcpy(id.space, w->c->fingerprint, sizeof id.space);
    memcpy(id.segment_id, w->c->segs.at[g->number].id, sizeof id.segment_id);
    memcpy(id.key, b->info.key, sizeof id.key);
    for (p = 0; p < FORMAT_MAX_PARTS && n < b->info.parts; p++) {
        if (!(b->info.mask & (1u << p)))
            continue;
        id.part = p;
        id.length = b->info.length[n];
        if ((rc = place_part(w, g, &id, &b->info.check[n])))
            return rc;
        b->bytes += b->info.length[n];
        id.offset += round_up(b->info.length[n], FORMAT_PAGE);
        n++;
    }
    underway_add(w, b);
    (void)atomic_fetch_add(&carry_deletes_of(w->c)->laid, 1);
    g->count++;
    return 0;
}

static bool still_wanted(struct writer *w, const struct unit *u, const struct block_info *b)
{
    const struct carry *y = w->c->capacity->carry;
    cistern_key key;

    memcpy(key.b, b->key, sizeof key.b);
    if (u->copies) /* unless it was deleted meanwhile */
        return index_mask(w->c->index, &key) && !underway_find(w, b->key);
    if (u->erased != atomic_load(&y->deletes.erased))
        return false;
    return (index_mask(w->c->index, &key) & b->mask) != b->mask && !underway_find(w, b->key);
}

static void take_unit(struct writer *w, struct wstream *st, struct unit *u)
{
    struct carry *y = w->c->capacity->carry;
    struct wgroup *g = w->free_groups;
    uint32_t i, done = 0; /* bytes of the slot that may be written as they are */

    w->free_groups = g->link;
    *g = (struct wgroup){.seg = st->current,
                         .number = st->current->number,
                         .slot = u->slot,
                         .offset = st->current->reserved,
                         .len = u->len,
                         .blocks = g->blocks,
                         .erased = u->erased,
                         .deadline_ns = UINT64_MAX};
    carry_deletes_laying(&y->deletes, true);
    for (i = 0; i < u->count; i++) {
        if (!still_wanted(w, u, &u->blocks[i]))
            continue;
        if (place_block(w, g, u, i)) {
            writer_end_segment(w, st); /* nothing else may be encrypted for this place */
            break;
        }
        if (g->seg->contents.key)
            memset(g->slot + done, 0, u->at[i] - done);
        done = u->at[i] + (uint32_t)block_extent(&u->blocks[i]);
    }
    carry_deletes_laying(&y->deletes, false);
    if (g->seg->contents.key) /* what was decrypted and is not carried over */
        memset(g->slot + done, 0, u->len - done);
    if (g->count)
        put_append(w, g);
    else
        writer_free_group(w, g);
}

/* There was no room for an old segment: better among the young than not at all. */
static bool old_is_refused(struct writer *w)
{
    uint64_t since;

    (void)pthread_mutex_lock(&w->lock);
    since = writer_old(w)->refused_ns;
    (void)pthread_mutex_unlock(&w->lock);
    return since && clock_ns() - since >= PATIENCE_NS;
}

bool carry_lay_out(struct writer *w)
{
    struct carry *y = w->c->capacity ? w->c->capacity->carry : NULL;
    struct wstream *st;

    if (!y || !atomic_load_explicit(&y->ready, memory_order_acquire) || !w->free_groups)
        return false;
    st = &w->streams[y->unit.to];
    if (!st->current)
        (void)writer_need_segment(w, st);
    if (!st->current && st == writer_old(w) && old_is_refused(w))
        st = writer_young(w);
    if (!st->current)
        return false;
    if (st->current->reserved + y->unit.len > w->c->cfg.segment_bytes) {
        writer_end_segment(w, st);
        return false;
    }
    if (!segment_hold(&w->c->segs, st->current->number))
        return false;
    take_unit(w, st, &y->unit);
    atomic_store_explicit(&y->ready, false, memory_order_release);
    keeper_ask(w->c, KEEPER_COLLECT);
    return true;
}

bool carry_waits(const struct writer *w)
{
    const struct carry *y = w->c->capacity ? w->c->capacity->carry : NULL;

    return y && atomic_load_explicit(&y->ready, memory_order_acquire);
}
