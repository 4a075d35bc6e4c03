/*
 * carry_deletes.c - see carry_deletes.h, and carry.h for what others call.
 */
#include "engine/carry_deletes.h"

#include <string.h>

#include "base/le.h"
#include "engine/capacity.h"
#include "engine/carry.h"
#include "engine/heat.h"

void carry_deletes_open(struct carry_deletes *d)
{
    (void)pthread_mutex_init(&d->lock, NULL);
}

void carry_deletes_close(struct carry_deletes *d)
{
    (void)pthread_mutex_destroy(&d->lock);
}

static uint32_t mark_of(const uint8_t key[32])
{
    return le32_load(key) % CARRY_MARKS;
}

bool carry_mark(cistern *c, const struct block_info *b)
{
    struct carry_deletes *d = carry_deletes_of(c);
    uint32_t bit = mark_of(b->key);
    cistern_key key;

    (void)atomic_fetch_or(&d->marks[bit / 64], UINT64_C(1) << bit % 64);
    memcpy(key.b, b->key, sizeof key.b);
    return index_mask(c->index, &key) != 0; /* after the mark: a deletion sees it from here on */
}

bool carry_erase(cistern *c, const cistern_key *key)
{
    struct carry_deletes *d = carry_deletes_of(c);
    uint32_t bit = mark_of(key->b);

    if (!d || !(atomic_load(&d->marks[bit / 64]) & UINT64_C(1) << bit % 64))
        return false;
    (void)pthread_mutex_lock(&d->lock);
    d->erased_keys[atomic_load(&d->erased) % CARRY_ERASED] = le64_load(key->b);
    (void)atomic_fetch_add(&d->erased, 1);
    (void)pthread_mutex_unlock(&d->lock);
    return true;
}

static struct carry_arrival *place_in(struct carry_deletes *d, const uint8_t key[32])
{
    return &d->arrived[le64_load(key) % CARRY_ARRIVED];
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
    struct carry_deletes *d = carry_deletes_of(c);
    struct carry_arrival a;

    if (!carry_erase(c, key))
        return;
    (void)pthread_mutex_lock(&d->lock);
    a = *place_in(d, key->b);
    (void)pthread_mutex_unlock(&d->lock);
    if (a.there && a.key == le64_load(key->b))
        delete_copy(c, key, a.segment, a.offset);
}

void carry_arrived(cistern *c, const uint8_t key[32], uint32_t since, uint32_t segment,
                   uint32_t offset)
{
    struct carry_deletes *d = carry_deletes_of(c);
    cistern_key k;
    uint32_t now, i;
    bool found;

    /* It went into the index before: who deletes it takes the lock before this, and is seen here,
     * or after it, and finds it there. */
    (void)pthread_mutex_lock(&d->lock);
    now = atomic_load(&d->erased);
    found = now - since > CARRY_ERASED; /* perhaps */
    for (i = since; i != now && !found; i++)
        found = d->erased_keys[i % CARRY_ERASED] == le64_load(key);
    *place_in(d, key) = (struct carry_arrival){le64_load(key), segment, offset, true};
    (void)pthread_mutex_unlock(&d->lock);
    memcpy(k.b, key, sizeof k.b);
    if (found)
        delete_copy(c, &k, segment, offset);
}

void carry_settled(cistern *c)
{
    (void)atomic_fetch_add(&carry_deletes_of(c)->settled, 1);
}

uint64_t carry_laid(const cistern *c)
{
    struct carry_deletes *d = carry_deletes_of(c);
    uint64_t laid;

    if (!d)
        return 0;
    /* After a deletion, which whoever lays out now sees, or we see him. */
    (void)pthread_mutex_lock(&d->lock);
    laid = d->laying ? CARRY_LAYING : atomic_load(&d->laid);
    (void)pthread_mutex_unlock(&d->lock);
    return laid;
}

void carry_deletes_laying(struct carry_deletes *d, bool laying)
{
    (void)pthread_mutex_lock(&d->lock);
    d->laying = laying;
    (void)pthread_mutex_unlock(&d->lock);
}

bool carry_is_settled(const cistern *c, uint64_t laid)
{
    return !laid || atomic_load(&carry_deletes_of(c)->settled) >= laid;
}

void carry_deletes_clear(struct carry_deletes *d)
{
    uint32_t i;

    if (atomic_load(&d->laid) != atomic_load(&d->settled))
        return;
    (void)atomic_fetch_add(&d->cleared, 1); /* before the marks: see carry_cleared() */
    for (i = 0; i < CARRY_MARKS / 64; i++)
        atomic_store(&d->marks[i], 0);
}

uint32_t carry_cleared(const cistern *c)
{
    struct carry_deletes *d = carry_deletes_of(c);

    return d ? atomic_load(&d->cleared) : 0;
}
