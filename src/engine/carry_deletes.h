/*
 * carry_deletes.h - deletions of what is just carried over. The index does not have what is on its
 * way, so a deletion does not find it there. Each block chosen leaves a mark; a deletion that meets
 * one counts `erased` up, and everything chosen before is dropped: now and then too much, which
 * costs a hit. What the lane has laid out by then cannot be dropped: it is published, looked for
 * among the last keys of such deletions, and deleted in its turn.
 *
 * What another store deletes it deletes by the copy that it knows. That this was carried, and
 * whereto, is known here for those that arrived lately.
 *
 * Threads: the keeper marks, counts and clears, the write lane lays out and settles, whoever
 * deletes asks: any thread.
 */
#ifndef ENGINE_CARRY_DELETES_H
#define ENGINE_CARRY_DELETES_H

#include "engine/engine.h"

#define CARRY_MARKS   (64u << 10) /* bits; 8 KiB */
#define CARRY_ERASED  1024u
#define CARRY_ARRIVED 4096u

/* Where a carried block went. */
struct carry_arrival {
    uint64_t key; /* its first bytes */
    uint32_t segment, offset;
    bool there;
};

struct carry_deletes {
    _Atomic uint64_t marks[CARRY_MARKS / 64];
    _Atomic uint32_t cleared;       /* so many times all marks were taken away */
    _Atomic uint32_t erased;        /* deletions that met a mark */
    _Atomic uint64_t laid, settled; /* blocks, ever; the write lane's, in the same order */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    uint64_t erased_keys[CARRY_ERASED];          /* [erased % CARRY_ERASED] */
    struct carry_arrival arrived[CARRY_ARRIVED]; /* [key % CARRY_ARRIVED] */
    bool laying; /* the lane looks which are wanted, and counts them in `laid` */
};

void carry_deletes_open(struct carry_deletes *d); /* a zeroed one */
void carry_deletes_close(struct carry_deletes *d);
/* NULL: nothing was ever carried. */
struct carry_deletes *carry_deletes_of(const cistern *c);
/* Before it is chosen. False: it was deleted just now. */
bool carry_mark(cistern *c, const struct block_info *b);
/* No block is chosen, or waits for the lane: the marks go, if all that were laid out are settled.
 */
void carry_deletes_clear(struct carry_deletes *d);
void carry_deletes_laying(struct carry_deletes *d, bool laying);

#endif
