/*
 * bell.c - the shared bell. See bell.h.
 *
 * A ring adds to the word of its shard, then to `rung`, then wakes those who wait on `rung`; a
 * waiter reads `rung` before it looks at the other words and sleeps only if it is still the same.
 * So a ring is either seen or ends the sleep. The kernel is called only when somebody else sleeps.
 *
 * What others rang is what the line says less what this handle rang. The two are read, and changed
 * from here, under one lock: else a ring of another that meets an own one could cancel out, and
 * nobody would be woken for it.
 */
#include "engine/bell.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/futex.h"
#include "base/le.h"
#include "key/sha.h"

#define PAGE_PREFIX "cistern-bell-"
#define PAGE_NAME   PAGE_PREFIX "%u-%016llx"

_Static_assert(sizeof(struct bell_line) == 64, "one cache line each");

static int open_page(struct bell *b, const uint8_t salt[32])
{
    static const char what[] = "cistern bell, version 1";
    struct sha_piece pieces[2] = {{what, sizeof what}, {salt, 32}};
    char name[64];
    uint8_t hash[32];
    int rc = sha256(pieces, 2, hash);

    if (rc)
        return rc;
    (void)snprintf(name, sizeof name, PAGE_NAME, (unsigned)geteuid(),
                   (unsigned long long)le64_load(hash));
    rc = shm_page_open(&b->page, name, PAGE_BYTES);
    if (!rc)
        shm_page_sweep(PAGE_PREFIX); /* its own is locked by now */
    return rc;
}

int bell_open(struct bell *b, bool shared, const uint8_t salt[32], const uint8_t fingerprint[32])
{
    struct bell_line *lines;
    int rc;

    memset(b, 0, sizeof *b);
    (void)pthread_mutex_init(&b->lock, NULL);
    b->line = &b->alone;
    if (!shared)
        return 0;
    rc = open_page(b, salt);
    if (rc)
        return rc;
    lines = b->page.at;
    b->line = &lines[le32_load(fingerprint) % (PAGE_BYTES / sizeof *lines)];
    return 0;
}

void bell_close(struct bell *b)
{
    b->line = NULL;
    shm_page_close(&b->page);
}

bool bell_shared(const struct bell *b)
{
    return b->page.at != NULL;
}

void bell_poke(struct bell *b)
{
    struct bell_line *l = b->line;

    if (!l)
        return;
    (void)atomic_fetch_add(&l->rung, 1);
    futex_wake_shared(&l->rung, INT_MAX);
}

/* Own waiters are counted in the line for at least as long as in `waiting`; one that comes or goes
 * between the loads, or both, means yes. */
static bool others_wait(struct bell *b)
{
    uint32_t turns = atomic_load(&b->turns), own = atomic_load(&b->waiting),
             all = atomic_load(&b->line->waiters);

    return all != own || atomic_load(&b->turns) != turns;
}

void bell_ring(struct bell *b, uint32_t shard, bool names)
{
    struct bell_line *l = b->line;
    uint32_t s = shard % BELL_SHARDS;

    if (!bell_shared(b))
        return;
    (void)pthread_mutex_lock(&b->lock);
    (void)atomic_fetch_add(&b->own.shard[s], 1);
    (void)atomic_fetch_add(&l->shard[s], 1);
    if (names) {
        (void)atomic_fetch_add(&b->own.names, 1);
        (void)atomic_fetch_add(&l->names, 1);
    }
    (void)atomic_fetch_add(&l->rung, 1);
    (void)pthread_mutex_unlock(&b->lock);
    if (others_wait(b))
        futex_wake_shared(&l->rung, INT_MAX);
}

struct bell_heard bell_hear(struct bell *b)
{
    const struct bell_line *l = b->line;
    struct bell_heard h;
    uint32_t i;

    (void)pthread_mutex_lock(&b->lock);
    h.rung = atomic_load(&l->rung); /* before what it tells of */
    h.names = atomic_load(&l->names) - atomic_load(&b->own.names);
    for (i = 0; i < BELL_SHARDS; i++)
        h.shard[i] = atomic_load(&l->shard[i]) - atomic_load(&b->own.shard[i]);
    (void)pthread_mutex_unlock(&b->lock);
    return h;
}

void bell_wait(struct bell *b, const struct bell_heard *heard, uint64_t ns)
{
    struct bell_line *l = b->line;

    (void)atomic_fetch_add(&l->waiters, 1);
    (void)atomic_fetch_add(&b->waiting, 1);
    (void)atomic_fetch_add(&b->turns, 1);
    futex_wait_shared(&l->rung, heard->rung, ns);
    (void)atomic_fetch_add(&b->turns, 1);
    (void)atomic_fetch_sub(&b->waiting, 1);
    (void)atomic_fetch_sub(&l->waiters, 1);
}
