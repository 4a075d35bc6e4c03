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

#define MARKS       (64u << 10) /* bits; 8 KiB */
#define ERASED_KEYS 1024u
#define ARRIVED     4096u

/* Where a carried block went. */
struct arrived {
    uint64_t key; /* its first bytes */
    uint32_t segment, offset;
    bool there;
};

struct carry {
    struct job jobs[JOBS];
    struct io_ring ring;
    bool lost;      /* a read was not answered */
    uint32_t epoch; /* of the handle, when the ring was made */
    struct unit unit;
    _Atomic bool ready; /* the unit is the lane's, else the keeper's */
    /* The index does not have what is on its way, so a deletion does not find it there. Each block
     * chosen leaves a mark; a deletion that meets one counts `erased` up, and everything chosen
     * before is dropped: now and then too much, which costs a hit. What the lane has laid out by
     * then cannot be dropped: it is published, looked for among the last keys of such deletions,
     * and deleted in its turn. */
    _Atomic uint64_t marks[MARKS / 64];
    _Atomic uint32_t cleared; /* so many times all marks were taken away */
    _Atomic uint32_t erased;
    pthread_mutex_t erased_lock;
    uint64_t erased_keys[ERASED_KEYS]; /* [erased % ERASED_KEYS]; guarded by erased_lock */
    /* Those that arrived lately, [key % ARRIVED]; guarded by erased_lock. What another store
     * deletes it deletes by the copy that it knows; that this was carried, and whereto, is known
     * here. */
    struct arrived arrived[ARRIVED];
    _Atomic uint64_t laid, settled; /* blocks, ever; the write lane's, in the same order */
    bool laying; /* it looks which are wanted, and counts them in `laid`; guarded by erased_lock */
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
        (void)pthread_mutex_init(&y->erased_lock, NULL);
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
    (void)pthread_mutex_destroy(&y->erased_lock);
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

/* ---- Deletions of what is on its way ---- */

static uint32_t mark_of(const uint8_t key[32])
{
    return le32_load(key) % MARKS;
}

/* False: it was deleted just now. */
static bool mark(cistern *c, struct carry *y, const struct block_info *b)
{
    uint32_t bit = mark_of(b->key);
    cistern_key key;

    (void)atomic_fetch_or(&y->marks[bit / 64], UINT64_C(1) << bit % 64);
    memcpy(key.b, b->key, sizeof key.b);
    return index_mask(c->index, &key) != 0; /* after the mark: a deletion sees it from here on */
}

bool carry_erase(cistern *c, const cistern_key *key)
{
    struct carry *y = c->capacity ? atomic_load(&c->capacity->carry) : NULL;
    uint32_t bit = mark_of(key->b);

    if (!y || !(atomic_load(&y->marks[bit / 64]) & UINT64_C(1) << bit % 64))
        return false;
    (void)pthread_mutex_lock(&y->erased_lock);
    y->erased_keys[atomic_load(&y->erased) % ERASED_KEYS] = le64_load(key->b);
    (void)atomic_fetch_add(&y->erased, 1);
    (void)pthread_mutex_unlock(&y->erased_lock);
    return true;
}

static struct arrived *place_in(struct carry *y, const uint8_t key[32])
{
    return &y->arrived[le64_load(key) % ARRIVED];
}

/* A copy in one of our own segments. */
static void delete_copy(cistern *c, const cistern_key *key, uint32_t segment, uint32_t offset)
{
    struct dead_note note = {.offset = offset, .reason = DEAD_DELETED};

    if (!segment_hold(&c->segs, segment))
        return; /* evicted since */
    memcpy(note.key, key->b, sizeof note.key);
    memcpy(note.segment_id, c->segs.at[segment].id, sizeof note.segment_id);
    if (writer_push_carried(c, &note))
        log_line(&c->cfg.log, LOG_WARN,
                 "too many deletions at once: one is remembered until the restart only");
    if (index_remove_copy(c->index, key, segment, offset))
        heat_lost(&c->segs.at[segment], 1);
    segment_release(&c->segs, segment);
}

void carry_erase_for(cistern *c, const cistern_key *key)
{
    struct carry *y = c->capacity ? atomic_load(&c->capacity->carry) : NULL;
    struct arrived a;

    if (!carry_erase(c, key))
        return;
    (void)pthread_mutex_lock(&y->erased_lock);
    a = *place_in(y, key->b);
    (void)pthread_mutex_unlock(&y->erased_lock);
    if (a.there && a.key == le64_load(key->b))
        delete_copy(c, key, a.segment, a.offset);
}

void carry_arrived(cistern *c, const uint8_t key[32], uint32_t since, uint32_t segment,
                   uint32_t offset)
{
    struct carry *y = c->capacity->carry;
    cistern_key k;
    uint32_t now, i;
    bool found;

    /* It went into the index before: who deletes it takes the lock before this, and is seen here,
     * or after it, and finds it there. */
    (void)pthread_mutex_lock(&y->erased_lock);
    now = atomic_load(&y->erased);
    found = now - since > ERASED_KEYS; /* perhaps */
    for (i = since; i != now && !found; i++)
        found = y->erased_keys[i % ERASED_KEYS] == le64_load(key);
    *place_in(y, key) = (struct arrived){le64_load(key), segment, offset, true};
    (void)pthread_mutex_unlock(&y->erased_lock);
    memcpy(k.b, key, sizeof k.b);
    if (found)
        delete_copy(c, &k, segment, offset);
}

void carry_settled(cistern *c)
{
    (void)atomic_fetch_add(&((struct carry *)c->capacity->carry)->settled, 1);
}

uint64_t carry_laid(const cistern *c)
{
    struct carry *y = c->capacity ? atomic_load(&c->capacity->carry) : NULL;
    uint64_t laid;

    if (!y)
        return 0;
    /* After a deletion, which whoever lays out now sees, or we see him. */
    (void)pthread_mutex_lock(&y->erased_lock);
    laid = y->laying ? CARRY_LAYING : atomic_load(&y->laid);
    (void)pthread_mutex_unlock(&y->erased_lock);
    return laid;
}

static void set_laying(struct carry *y, bool laying)
{
    (void)pthread_mutex_lock(&y->erased_lock);
    y->laying = laying;
    (void)pthread_mutex_unlock(&y->erased_lock);
}

bool carry_is_settled(const cistern *c, uint64_t laid)
{
    return !laid || atomic_load(&((struct carry *)c->capacity->carry)->settled) >= laid;
}

/* Nothing is on its way that a mark could stand for. */
static void clear_marks(struct carry *y)
{
    uint32_t i;

    if (next_job(y) || atomic_load(&y->ready) || atomic_load(&y->laid) != atomic_load(&y->settled))
        return;
    (void)atomic_fetch_add(&y->cleared, 1); /* before the marks: see carry_cleared() */
    for (i = 0; i < MARKS / 64; i++)
        atomic_store(&y->marks[i], 0);
}

uint32_t carry_cleared(const cistern *c)
{
    struct carry *y = c->capacity ? atomic_load(&c->capacity->carry) : NULL;

    return y ? atomic_load(&y->cleared) : 0;
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

    if (!policy_carry(y->victim, &b, &k->params, &k->history) || !mark(c, y, &p->info))
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
    job.erased = atomic_load(&y->erased);
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
    erased = atomic_load(&y->erased);
    for (n = 0; n < count; n++)
        (void)mark(c, y, &blocks[n]); /* one that is deleted already is not laid out */
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
    if (!job->copies && job->erased != atomic_load(&y->erased)) {
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
    (void)atomic_fetch_add(&((struct carry *)w->c->capacity->carry)->laid, 1);
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
    if (u->erased != atomic_load(&y->erased))
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
    set_laying(y, true);
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
    set_laying(y, false);
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
