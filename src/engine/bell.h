/*
 * bell.h - tells followers on the same host at once that a writer wrote its head.
 *
 * A page in /dev/shm, named after the user and the root's salt, that all processes of one user on
 * one root map. It holds lines of 16 words; a space uses one of them, chosen by its fingerprint (to
 * share it with another space costs a look for nothing). Nothing is decided by what the page says:
 * a bell that rings makes a follower look at heads, one that does not leaves it to its polling.
 *
 * Threads: hear and wait on the follower's, ring and poke on any. Without a page (no /dev/shm, too
 * small, not ours, CISTERN_OPEN_NO_BELL) a line of the handle's own takes its place, so that the
 * follower can still be woken within the process.
 */
#ifndef ENGINE_BELL_H
#define ENGINE_BELL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/shmpage.h"

#define BELL_SHARDS 12u

/* All words only ever grow, and wrap. */
struct bell_line {
    _Atomic uint32_t rung;    /* what waiters sleep on: grows with everything below */
    _Atomic uint32_t waiters; /* who sleeps; too high after a kill, never too low */
    _Atomic uint32_t names;   /* heads were made, segments taken away */
    _Atomic uint32_t unused;
    _Atomic uint32_t shard[BELL_SHARDS]; /* heads of shard % BELL_SHARDS were written */
};

/* What a line said. */
struct bell_heard {
    uint32_t rung, names, shard[BELL_SHARDS];
};

struct bell {
    struct shm_page page;
    pthread_mutex_t lock;        /* ringing and hearing: the line and `own` change together */
    struct bell_line *line;      /* in the page, or `alone` */
    struct bell_line alone, own; /* own: what this handle rang itself */
    _Atomic uint32_t waiting;    /* own follower sleeps */
    _Atomic uint32_t turns;      /* how often it began to or ceased */
};

/* Always usable afterwards; 0, or why there is only polling. `shared` false: not even tried. */
int bell_open(struct bell *b, bool shared, const uint8_t salt[32],
              const uint8_t fingerprint[32]) MUST_CHECK;
void bell_close(struct bell *b); /* accepts a zeroed one */
bool bell_shared(const struct bell *b);

/* A head of the shard was written; `names`: followers should list directories too. */
void bell_ring(struct bell *b, uint32_t shard, bool names);
/* Wakes the followers, nothing happened: for one's own. */
void bell_poke(struct bell *b);

/* What others rang so far. */
struct bell_heard bell_hear(struct bell *b);
/* Sleeps until the bell rings after `heard`, at most ns. */
void bell_wait(struct bell *b, const struct bell_heard *heard, uint64_t ns);

#endif
