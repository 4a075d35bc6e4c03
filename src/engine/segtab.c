/*
 * segtab.c - the table of segments. Address space is reserved at open and grows by touching it: no
 * allocation later.
 */
#include "engine/segtab.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/le.h"

#define SLOTS (2u * SEGTAB_MAX)

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int segtab_open(struct segtab *t)
{
    *t = (struct segtab){0};
    t->at = reserve(SEGTAB_MAX * sizeof *t->at);
    t->slots = reserve(SLOTS * sizeof *t->slots);
    if (!t->at || !t->slots) {
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
    if (t->at)
        (void)munmap(t->at, SEGTAB_MAX * sizeof *t->at);
    if (t->slots)
        (void)munmap(t->slots, SLOTS * sizeof *t->slots);
    *t = (struct segtab){0};
}

/* The slot of the id, or the free slot where it would go. Ids are random: their bytes are the hash.
 */
static uint32_t probe(const struct segtab *t, const uint8_t id[16])
{
    uint32_t i = le32_load(id) % SLOTS;

    while (t->slots[i] && memcmp(t->at[t->slots[i] - 1].id, id, 16) != 0)
        i = (i + 1) % SLOTS;
    return i;
}

int64_t segtab_add(struct segtab *t, const struct segment *s)
{
    int64_t number;
    uint32_t slot;

    (void)pthread_mutex_lock(&t->lock);
    number = atomic_load_explicit(&t->count, memory_order_relaxed);
    slot = probe(t, s->id);
    if (t->slots[slot]) {
        number = -EEXIST;
    } else if (number == SEGTAB_MAX) {
        number = -ENOSPC;
    } else {
        t->at[number] = *s;
        t->slots[slot] = (uint32_t)number + 1;
        atomic_store_explicit(&t->count, (uint32_t)number + 1, memory_order_release);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return number;
}

int64_t segtab_find(struct segtab *t, const uint8_t id[16])
{
    int64_t number;
    uint32_t slot;

    (void)pthread_mutex_lock(&t->lock);
    slot = t->slots[probe(t, id)];
    number = slot ? (int64_t)slot - 1 : -ENOENT;
    (void)pthread_mutex_unlock(&t->lock);
    return number;
}

struct segment *segtab_find_file(struct segtab *t, uint32_t shard, uint64_t writer, uint64_t seq)
{
    uint32_t i, n = atomic_load_explicit(&t->count, memory_order_acquire);

    for (i = 0; i < n; i++) {
        struct segment *s = &t->at[i];

        if (s->writer == writer && s->seq == seq && s->shard == shard)
            return s;
    }
    return NULL;
}
