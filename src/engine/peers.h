/*
 * peers.h - the other writers: what their heads last said, and whether they live.
 *
 * Silence decides death, never a clock of the writer: a head whose counter is the same in two reads
 * that lie silence_ms apart by our own boot clock belongs to a writer that ended. A live writer
 * writes its head four times in that time (writer_internal.h, fence.c), and one that could not for
 * half of it publishes nothing more under that name. A head that closed is an answer at once.
 *
 * Only the follower's thread (or the opener before it runs) changes the table, under the lock; it
 * reads it without. Others ask peers_writer_state(), which takes the lock: memory only.
 */
#ifndef ENGINE_PEERS_H
#define ENGINE_PEERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/io.h"
#include "segment/toc.h"

struct cistern;

enum peer_state {
    PEER_UNKNOWN, /* never seen here */
    PEER_LIVE,
    PEER_SILENT, /* its head did not change for silence_ms: it ended without closing */
    PEER_CLOSED
};

/*
 * From any thread until the handle closes. `own` writers are live; one that this handle gave up
 * (fence.c) counts as any other. A writer is forgotten, and unknown again, when it has no file left
 * in its directory.
 */
enum peer_state peers_writer_state(struct cistern *c, uint32_t shard, uint64_t writer);

struct peer {
    uint64_t writer;
    uint32_t shard;
    enum peer_state state;
    bool headed;         /* a valid head was read; the fields of `head` are of the last one */
    bool settled;        /* ended, and after that two looks at everything found nothing more */
    bool moved;          /* its head says, or may say, more than was read */
    bool unsure;         /* of some contents storage showed what it may not show the next time */
    bool confirm;        /* ended, and read since: more looks must find nothing new */
    uint8_t tries;       /* looks that did not find all that there should be */
    uint8_t waits;       /* so many times waited longer and longer for a listing to try again */
    uint32_t again;      /* at this listing */
    uint32_t seen;       /* listing that last saw a file of it */
    struct io_file file; /* of the head; open while it lives and was read once */
    struct head_record head;
    uint64_t changed_ns; /* boot clock, after the read that first showed this counter */
    uint64_t none_ns; /* boot clock, before the first read that gave none; 0: the last gave one */
    uint64_t checked_ns; /* boot clock, before the last read */
    uint64_t next_from;  /* contents before this segment need no look because of the head */
    uint64_t top;        /* all contents that are known, or were tried, are below it */
    uint64_t gone;       /* segments below it left the head's live range and are forgotten */
    /* Of one look: all of its contents are to be read; storage failed, or showed less than the head
     * says; some contents want another look. */
    bool full, failed, more;
};

struct peers {
    pthread_mutex_t lock;
    struct peer *at; /* moves when it grows */
    uint32_t count, room;
    uint32_t *slots; /* (shard, writer) -> place + 1; open addressing */
    uint32_t mask;
};

void peers_open(struct peers *p);
void peers_close(struct peers *p, struct io *io); /* accepts a zeroed one */
struct peer *peers_find(const struct peers *p, uint32_t shard, uint64_t writer);
/* Finds or adds; NULL: no memory. Pointers from before are void. */
struct peer *peers_get(struct peers *p, uint32_t shard, uint64_t writer, uint64_t boot_ns);
/* Forgets those that a listing did not see. */
void peers_sweep(struct peers *p, struct io *io, uint32_t listing);
/*
 * A head was looked at between two points of the boot clock. rc 0: *h is what it said; -ENOENT,
 * -ENODATA, -EBADMSG: there is none to read, which is silence as well, if it stays so: one bad read
 * says little of a head that was not looked at for long. Anything else says nothing. True: a writer
 * that had ended lived on, and may have added to what was read to its end.
 */
bool peer_looked(struct peers *p, struct peer *peer, int rc, const struct head_record *h,
                 uint64_t before_ns, uint64_t after_ns, uint64_t silence_ns);

#endif
