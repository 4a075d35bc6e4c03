/*
 * fail_at_fixture.h - the store under test_fail_at.c: what it is opened with, what it holds, and
 * what must be found again. Include it once.
 */
#ifndef SIM_FAIL_AT_FIXTURE_H
#define SIM_FAIL_AT_FIXTURE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness/metric.h"
#include "base/clock.h"
#include "cistern.h"
#include "engine/evict.h"
#include "engine/notes.h"
#include "failat.h"

#define BYTES   12000u
#define BLOCKS  8u /* of one put */
#define ALL     48u
#define SEGMENT (192u << 10)
#define ROUNDS  600u
#define FULL    16u /* blocks of a full segment */
#define USED    3u  /* blocks that an eviction carries over */
#define DELETED 30u /* the block that fill_up() deletes */
#define HOUR_MS 3600000u

struct fixture {
    struct simfs *fs;
    uint32_t kind; /* that is armed */
    struct cistern_part part;
    struct cistern_space space;
    cistern *c;         /* the store under test */
    cistern *other;     /* another host's */
    uint8_t *memory;    /* ALL blocks */
    bool promised[ALL]; /* must be found and right */
    bool given_up[ALL]; /* a get did not deliver it: it may be forgotten */
    cistern_memory *direct;
    uint8_t *direct_base;
    uint32_t evicted;             /* contents that were taken away; under the simulator's lock */
    uint32_t grace_ms;            /* of stores that are opened; 0: the usual one */
    uint32_t ttl_s;               /* likewise; 0: blocks do not age */
    uint32_t poll_ms, silence_ms; /* likewise; 0: the usual ones */
    uint32_t files;               /* likewise, data files that stay open; 0: all */
    char dead[256];               /* head of a writer that was killed */
    bool owed;                    /* the event that says that the memory of a direct get is free */
    uint32_t carried;             /* first blocks that are to be there in spite of evictions */
    uint32_t shard;               /* of stores that are opened */
    struct usage usage;
};

/* ---- The store ---- */

static void fill(uint8_t *to, uint32_t number)
{
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15ull;
    uint32_t i;

    for (i = 0; i + 8 <= BYTES; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(to + i, &x, 8);
    }
}

static void key_of(uint32_t number, cistern_key *key)
{
    memset(key, 0, sizeof *key);
    memcpy(key->b, &(uint64_t){(number + 7) * 0xd1342543de82ef95ull}, 8);
    key->b[31] = (uint8_t)number;
}

static int open_store(struct fixture *f, uint32_t host, const char *process, uint32_t flags,
                      bool patient, cistern **out)
{
    char mount[64];
    struct cistern_options o = {.size = sizeof o,
                                .reuse_cache = 1,
                                .enable_3fs = 1,
                                .mount = simfs_mount(mount, host, process),
                                .root = "r",
                                .space = &f->space,
                                .shard = f->shard,
                                .flags = flags,
                                .read_iov_bytes = 2 << 20,
                                .write_iov_bytes = 2 << 20,
                                .get_timeout_ms = patient ? 30000 : 1500,
                                .put_timeout_ms = patient ? 30000 : 1500,
                                .read_timeout_ms = patient ? 20000 : 60,
                                .write_timeout_ms = patient ? 20000 : 80,
                                .open_timeout_ms = 30000,
                                .close_timeout_ms = patient ? 20000 : 500,
                                .io_blocks = 4,
                                .io_bytes = 64 << 10,
                                .lanes = 1,
                                .depth = 4,
                                .max_ops = 8,
                                .max_blocks = 1 << 12,
                                .segment_bytes = SEGMENT,
                                .evict_grace_ms = f->grace_ms,
                                .breaker_probe_ms = 20,
                                .sync_ms = 3600 * 1000,
                                .poll_ms = f->poll_ms,
                                .open_files = f->files,
                                .silence_ms = f->silence_ms,
                                .ttl_seconds = f->ttl_s};

    return cistern_open(&o, out);
}

/* A get or put of [from, from + n); true: all results are `want` and the bytes of hits are right.
 */
static bool transfer(struct fixture *f, cistern *c, uint32_t from, uint32_t n, bool is_put,
                     uint8_t want, uint8_t results[BLOCKS])
{
    cistern_key keys[BLOCKS];
    struct cistern_vec v[BLOCKS];
    struct cistern_span spans[BLOCKS];
    struct cistern_event e;
    static uint8_t bytes[BYTES];
    struct cistern_request r = {
        .size = sizeof r, .keys = keys, .spans = spans, .results = results, .blocks = n};
    uint8_t *base = !is_put && f->direct ? f->direct_base : f->memory;
    bool good = true;
    uint32_t i;
    int rc;

    if (!is_put && f->direct) {
        r.flags = CISTERN_GET_DIRECT;
        r.memory = f->direct;
    }
    for (i = 0; i < n; i++) {
        key_of(from + i, &keys[i]);
        v[i] = (struct cistern_vec){base + (size_t)i * BYTES, BYTES};
        spans[i] = (struct cistern_span){&v[i], 1};
        if (is_put)
            fill(v[i].base, from + i);
        results[i] = CISTERN_NONE;
    }
    rc = is_put ? cistern_put_sync(c, &r, &e) : cistern_get_sync(c, &r, &e);
    if (rc) {
        if (rc == -ETIMEDOUT)
            simfs_violate(f->fs, "a %s did not end at its deadline", is_put ? "put" : "get");
        return false;
    }
    for (i = 0; i < n; i++) {
        good &= results[i] == want || (is_put && results[i] == CISTERN_PRESENT);
        if (is_put || results[i] != CISTERN_HIT)
            continue;
        fill(bytes, from + i);
        if (memcmp(bytes, v[i].base, BYTES) != 0)
            simfs_violate(f->fs, "wrong bytes: block %u", from + i);
    }
    f->owed = (r.flags & CISTERN_GET_DIRECT) != 0;
    return good;
}

static void need(struct fixture *f, bool good, const char *what)
{
    if (!good)
        simfs_violate(f->fs, "before any fault: %s did not work: %s", what, cistern_error_text());
}

static bool put_some(struct fixture *f, cistern *c, uint32_t from, uint32_t n)
{
    uint8_t results[BLOCKS];
    bool good = true;
    uint32_t i, at;

    for (at = from; at < from + n; at += BLOCKS) {
        uint32_t k = from + n - at < BLOCKS ? from + n - at : BLOCKS;

        good &= transfer(f, c, at, k, true, CISTERN_STORED, results);
        for (i = 0; i < k; i++)
            f->promised[at + i] = results[i] == CISTERN_STORED;
        if (!good)
            break;
    }
    return good;
}

#endif
