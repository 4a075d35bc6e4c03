/*
 * segtab.c - the table of segments. Address space is reserved at open and grows by touching it: no
 * allocation later. See segtab.h.
 *
 * `holds` orders the end of a segment: who takes hold adds one and then looks whether the segment
 * was gone, who forgets it sets SEGMENT_GONE and then looks whether anybody holds it. One of the
 * two sees the other. Somebody who came too late takes his one back without having looked at
 * anything.
 */
#include "engine/segtab.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/le.h"

#define SLOTS (2u * SEGTAB_MAX)

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t bytes)
{
    if (p)
        (void)munmap(p, bytes);
}

int segtab_open(struct segtab *t)
{
    *t = (struct segtab){0};
    t->at = reserve(SEGTAB_MAX * sizeof *t->at);
    t->by_id = reserve(SLOTS * sizeof *t->by_id);
    t->by_file = reserve(SLOTS * sizeof *t->by_file);
    if (!t->at || !t->by_id || !t->by_file) {
        segtab_close(t, NULL);
        return err_set(-ENOMEM, "no address space for the table of segments");
    }
    return -pthread_mutex_init(&t->lock, NULL);
}

void segtab_close(struct segtab *t, struct io *io)
{
    uint32_t i, n = atomic_load(&t->count);

    for (i = 0; io && i < n; i++) {
        if (t->at[i].data.fd >= 0)
            io->ops->file_close(io, &t->at[i].data);
    }
    release(t->at, SEGTAB_MAX * sizeof *t->at);
    release(t->by_id, SLOTS * sizeof *t->by_id);
    release(t->by_file, SLOTS * sizeof *t->by_file);
    *t = (struct segtab){0};
}

/* ---- The two tables; the lock is held ---- */

/* Ids are random: their bytes are the hash. */
static uint32_t home_of_id(const struct segment *s)
{
    return le32_load(s->id) % SLOTS;
}

/* Writers are random; the segments of one lie side by side. */
static uint32_t home_of_file(const struct segment *s)
{
    return (uint32_t)(s->writer ^ s->writer >> 32) * 2 + (uint32_t)s->seq + s->shard * 0x9e3779b1u;
}

static bool same_id(const struct segment *a, const struct segment *b)
{
    return memcmp(a->id, b->id, sizeof a->id) == 0;
}

static bool same_file(const struct segment *a, const struct segment *b)
{
    return a->writer == b->writer && a->seq == b->seq && a->shard == b->shard;
}

/* The slot where it is, or the free one where it would go. */
static uint32_t probe(const struct segtab *t, const uint32_t *slots, const struct segment *s)
{
    bool by_id = slots == t->by_id;
    uint32_t i = (by_id ? home_of_id(s) : home_of_file(s)) % SLOTS;

    while (slots[i] &&
           !(by_id ? same_id(&t->at[slots[i] - 1], s) : same_file(&t->at[slots[i] - 1], s)))
        i = (i + 1) % SLOTS;
    return i;
}

/* No tombstones: what follows moves up as far as its home allows. */
static void erase(struct segtab *t, uint32_t *slots, uint32_t number)
{
    uint32_t hole = probe(t, slots, &t->at[number]), i;

    if (slots[hole] != number + 1)
        return;
    for (i = (hole + 1) % SLOTS; slots[i]; i = (i + 1) % SLOTS) {
        const struct segment *s = &t->at[slots[i] - 1];
        uint32_t home = (slots == t->by_id ? home_of_id(s) : home_of_file(s)) % SLOTS;

        if ((i - home) % SLOTS >= (i - hole) % SLOTS) {
            slots[hole] = slots[i];
            hole = i;
        }
    }
    slots[hole] = 0;
}

/* ---- Numbers; the lock is held ---- */

/* One that has rested long enough, else one that was never given out. */
static int64_t take_number(struct segtab *t)
{
    uint32_t count = atomic_load_explicit(&t->count, memory_order_relaxed);
    uint32_t first = t->free_first;

    if (first && clock_ns() - t->at[first - 1].freed_ns >= SEGTAB_REST_NS &&
        atomic_load(&t->at[first - 1].holds) == SEGMENT_GONE) {
        t->free_first = t->at[first - 1].link;
        if (!t->free_first)
            t->free_last = 0;
        return first - 1;
    }
    return count < SEGTAB_MAX ? (int64_t)count : -ENOSPC;
}

static void free_number(struct segtab *t, uint32_t number)
{
    t->at[number].link = 0;
    t->at[number].freed_ns = clock_ns();
    if (t->free_last)
        t->at[t->free_last - 1].link = number + 1;
    else
        t->free_first = number + 1;
    t->free_last = number + 1;
}

/* Everything but `holds`, which somebody who comes too late may be adding to. */
static void fill(struct segment *to, const struct segment *from)
{
    memcpy(to->id, from->id, sizeof to->id);
    to->writer = from->writer;
    to->seq = from->seq;
    to->shard = from->shard;
    to->own = from->own;
    to->has_data = from->has_data;
    to->data = from->data;
    atomic_store_explicit(&to->epoch, from->epoch, memory_order_relaxed);
    atomic_store_explicit(&to->file_uses, from->data.fd < 0 ? SEGMENT_SHUT : from->file_uses,
                          memory_order_relaxed);
    atomic_store_explicit(&to->file_used, from->file_used, memory_order_relaxed);
    atomic_store_explicit(&to->file_asked, 0, memory_order_relaxed);
    atomic_store_explicit(&to->touches, from->touches, memory_order_relaxed);
    atomic_store_explicit(&to->bad, 0, memory_order_relaxed);
    atomic_store_explicit(&to->pinned_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&to->blocks, 0, memory_order_relaxed);
    atomic_store_explicit(&to->extents, 0, memory_order_relaxed);
    atomic_store_explicit(&to->lost, 0, memory_order_relaxed);
    atomic_store_explicit(&to->used, 0, memory_order_relaxed);
    atomic_store_explicit(&to->births, 0, memory_order_relaxed);
    atomic_store_explicit(&to->uses, 0, memory_order_relaxed);
    atomic_store_explicit(&to->depths, 0, memory_order_relaxed);
    to->cursor = from->cursor;
    to->seen = from->seen;
    to->quiet = from->quiet;
    to->ended = from->ended;
    to->bare_ns = from->bare_ns;
    to->link = 0;
    to->freed_ns = 0;
}

int64_t segtab_add(struct segtab *t, const struct segment *s)
{
    uint32_t by_id, by_file;
    int64_t number;

    (void)pthread_mutex_lock(&t->lock);
    by_id = probe(t, t->by_id, s);
    number = t->by_id[by_id] ? -EEXIST : take_number(t);
    if (number >= 0) {
        fill(&t->at[number], s);
        t->by_id[by_id] = (uint32_t)number + 1;
        by_file = probe(t, t->by_file, s);
        if (!t->by_file[by_file])
            t->by_file[by_file] = (uint32_t)number + 1;
        (void)atomic_fetch_and(&t->at[number].holds, ~SEGMENT_GONE);
        (void)atomic_fetch_add(&t->live, 1);
        (void)atomic_fetch_add(&t->open, s->data.fd >= 0);
        if (number == atomic_load_explicit(&t->count, memory_order_relaxed))
            atomic_store_explicit(&t->count, (uint32_t)number + 1, memory_order_release);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return number;
}

int64_t segtab_find(struct segtab *t, const uint8_t id[16])
{
    struct segment like = {0};
    uint32_t found;

    memcpy(like.id, id, sizeof like.id);
    (void)pthread_mutex_lock(&t->lock);
    found = t->by_id[probe(t, t->by_id, &like)];
    (void)pthread_mutex_unlock(&t->lock);
    return found ? (int64_t)found - 1 : -ENOENT;
}

struct segment *segtab_find_file(struct segtab *t, uint32_t shard, uint64_t writer, uint64_t seq)
{
    struct segment like = {.writer = writer, .seq = seq, .shard = shard};
    uint32_t found;

    (void)pthread_mutex_lock(&t->lock);
    found = t->by_file[probe(t, t->by_file, &like)];
    (void)pthread_mutex_unlock(&t->lock);
    return found ? &t->at[found - 1] : NULL;
}

bool segtab_in_use(const struct segtab *t, uint32_t number)
{
    return number < atomic_load_explicit(&t->count, memory_order_acquire) &&
           !(atomic_load_explicit(&t->at[number].holds, memory_order_acquire) & SEGMENT_GONE);
}

/* ---- Holding and forgetting ---- */

bool segment_hold(struct segtab *t, uint32_t number)
{
    if (!(atomic_fetch_add(&t->at[number].holds, 1) & SEGMENT_GONE))
        return true;
    (void)atomic_fetch_sub(&t->at[number].holds, 1);
    return false;
}

void segment_hold_again(struct segtab *t, uint32_t number)
{
    (void)atomic_fetch_add(&t->at[number].holds, 1);
}

void segment_release(struct segtab *t, uint32_t number)
{
    (void)atomic_fetch_sub(&t->at[number].holds, 1);
}

void segtab_exchange(struct segtab *t, uint32_t number, struct io_file *data, uint32_t epoch)
{
    struct segment *s = &t->at[number];
    struct io_file before;

    (void)pthread_mutex_lock(&t->lock);
    before = s->data;
    s->data = *data;
    atomic_store_explicit(&s->epoch, epoch, memory_order_relaxed);
    (void)atomic_fetch_add(&t->open, (uint32_t)(data->fd >= 0) - (uint32_t)(before.fd >= 0));
    (void)pthread_mutex_unlock(&t->lock);
    *data = before;
}

bool segtab_forget(struct segtab *t, uint32_t number)
{
    bool was = false;

    (void)pthread_mutex_lock(&t->lock);
    if (segtab_in_use(t, number)) {
        was = true;
        erase(t, t->by_id, number);
        erase(t, t->by_file, number);
        (void)atomic_fetch_or(&t->at[number].holds, SEGMENT_GONE);
        (void)atomic_fetch_sub(&t->live, 1);
        t->at[number].link = atomic_load(&t->leaving);
        atomic_store(&t->leaving, number + 1);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return was;
}

/* Takes one off the leaving ones that nobody holds; -ENOENT: there is none. */
static int64_t take_left(struct segtab *t, uint32_t *held)
{
    uint32_t at, before = 0, next;

    *held = 0;
    (void)pthread_mutex_lock(&t->lock);
    for (at = atomic_load(&t->leaving); at; before = at, at = t->at[at - 1].link) {
        if (atomic_load(&t->at[at - 1].holds) == SEGMENT_GONE)
            break;
        ++*held;
    }
    if (at) {
        next = t->at[at - 1].link;
        if (before)
            t->at[before - 1].link = next;
        else
            atomic_store(&t->leaving, next);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return at ? (int64_t)at - 1 : -ENOENT;
}

bool segtab_open_file(struct segtab *t, uint32_t shard, uint64_t writer, uint64_t seq)
{
    struct segment like = {.writer = writer, .seq = seq, .shard = shard};
    uint32_t found, at;

    (void)pthread_mutex_lock(&t->lock);
    found = t->by_file[probe(t, t->by_file, &like)];
    for (at = atomic_load(&t->leaving); at && !found; at = t->at[at - 1].link)
        found = same_file(&t->at[at - 1], &like) ? at : 0;
    if (found && t->at[found - 1].data.fd < 0)
        found = 0;
    (void)pthread_mutex_unlock(&t->lock);
    return found != 0;
}

uint32_t segtab_collect(struct segtab *t, struct io *io, void (*left)(void *arg, uint32_t number),
                        void *arg)
{
    uint32_t held = 0;
    int64_t number;

    if (!atomic_load(&t->leaving))
        return 0;
    while ((number = take_left(t, &held)) >= 0) {
        left(arg, (uint32_t)number);
        if (t->at[number].data.fd >= 0) {
            io->ops->file_close(io, &t->at[number].data);
            (void)atomic_fetch_sub(&t->open, 1);
        }
        (void)pthread_mutex_lock(&t->lock);
        free_number(t, (uint32_t)number);
        (void)pthread_mutex_unlock(&t->lock);
    }
    return held;
}
