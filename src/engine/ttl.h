/*
 * ttl.h - blocks that are too old: segments whose youngest block is older than ttl_seconds go
 * without need of room.
 *
 * The promise, for a handle that writes and stays open: a block is found for ttl_seconds at least,
 * as far as time decides, and evicted at the latest one and a half times that after it was stored,
 * and a look (half a minute). For a growing segment is ended when its first block is a quarter old,
 * and a shard is never emptied in less than an eighth. Nothing is carried over, since that would
 * make it young; nor is anything merged. It is the space's: a file `ttl` in its directory says it
 * to all who share it (segment/ttl_file.h). The first handle that writes and was given one makes
 * the file, from then on it goes before the options; cistern_ttl() changes it, and handles that are
 * open see that at their next look. Each handle applies it to its own shard, whoever wrote.
 *
 * Clocks are wrong at times. What keeps a wrong one from emptying the store:
 *   - Two must agree. The time of the last frame, by the clock of who wrote it, is compared with
 *     the clock of this host; the time of the file, by the clock of the storage, with the time of a
 *     file made just now. On a storage of its own the two are independent.
 *   - A clock that is set while the handle is open makes all rest for an hour.
 *   - What lies in the future is not old.
 *   - Segments go one by one, an eighth of the time to live for all of them together, so that a
 *     clock that is years off and is put right has cost a part.
 *
 * Threads: the keeper, but for ttl_ends(), which is the write lane's.
 */
#ifndef ENGINE_TTL_H
#define ENGINE_TTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cistern;
struct wseg;

/* ---- Pure ---- */

/* By one clock: seconds since 1970, 0 = not known. */
bool ttl_is_over(uint64_t ttl_s, uint64_t now_s, uint64_t written_s);
/* The least time between two segments of `segments`. */
uint64_t ttl_pace_ns(uint64_t ttl_s, size_t segments);

struct ttl_clock {
    uint64_t wall_s, boot_ns; /* at the last look; 0 = none yet */
    uint64_t rest_ns;         /* until then by the boot clock nothing is too old */
};
/* False: the wall clock was set lately, against the one that counts since boot. */
bool ttl_clock_trusted(struct ttl_clock *t, uint64_t wall_s, uint64_t boot_ns);

/* ---- Of a handle ---- */

struct ttl {
    struct ttl_clock clock;
    uint64_t next_ns;             /* boot clock: no segment goes before */
    uint64_t storage_s, asked_ns; /* what the storage's clock said, and when; 0 = not known */
    size_t most;                  /* segments of the shard while they go */
};

/* What the space says now; what cannot be told stays as it was, and what says nothing stops all
 * ageing. Blocks on storage: the opener, and the keeper. */
void ttl_look(struct cistern *c);
/* After a scan: evicts at most one segment. */
void ttl_step(struct cistern *c);
/* Its first block is so old that it gets no more. */
bool ttl_ends(const struct cistern *c, const struct wseg *s);

#endif
