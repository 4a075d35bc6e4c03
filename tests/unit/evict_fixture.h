/*
 * evict_fixture.h - a bounded store on real files: segments of 1 MiB, blocks of 64 KiB, puts that
 * wait for room, gets that compare bytes. With encryption no nonce may be used twice in a program.
 */
#ifndef EVICT_FIXTURE_H
#define EVICT_FIXTURE_H

#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../harness/metric.h"
#include "../harness/nonces.h"
#include "../harness/store.h"
#include "io/io.h"
#include "metrics/metrics.h"

enum { MANY = 1024, BATCH = 4, SEGMENT = 1 << 20, SOON_MS = 60000, GRACE_MS = 60 };

struct fixture {
    struct store s;
    cistern *c;
    cistern_key keys[MANY];
    uint8_t buf[BATCH][STORE_BLOCK], want[STORE_BLOCK];
    struct cistern_vec vecs[BATCH];
    struct cistern_span spans[BATCH];
    uint8_t results[BATCH];
    struct cistern_event ev;
    bool mounted;      /* a file system of the test's own */
    struct io_ops ops; /* a copy of the handle's, to exchange some */
};

static inline uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t end_ = now_ms() + SOON_MS;                                                        \
        bool came_;                                                                                \
        while (!(came_ = (condition)) && now_ms() < end_)                                          \
            (void)usleep(5000);                                                                    \
        if (!came_)                                                                                \
            fail_msg("never came true: %s", #condition);                                           \
    } while (0)

static inline struct cistern_request request(struct fixture *f, uint32_t from, uint32_t n)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = f->keys + from,
                                    .spans = f->spans,
                                    .results = f->results,
                                    .blocks = n};
}

static inline void put_once(struct fixture *f, uint32_t from, uint32_t n)
{
    struct cistern_request r = request(f, from, n);
    uint32_t i;

    for (i = 0; i < n; i++)
        store_fill(f->buf[i], STORE_BLOCK, from + i);
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(nonces.twice, 0);
}

/* A put that finds no room now is tried again: room comes back when a grace is over. */
static inline void put_all(struct fixture *f, uint32_t from, uint32_t n)
{
    uint64_t end = now_ms() + SOON_MS;

    do {
        put_once(f, from, n);
        if (f->ev.hits < n)
            (void)usleep(10000);
    } while (f->ev.hits < n && now_ms() < end);
    assert_int_equal(f->ev.hits, n);
}

/* A hit has the right bytes; anything else is a miss. */
static inline bool get_one(struct fixture *f, uint32_t number)
{
    struct cistern_request r = request(f, number, 1);

    memset(f->buf[0], 0xaa, STORE_BLOCK);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    if (f->results[0] != CISTERN_HIT) {
        assert_int_equal(f->results[0], CISTERN_MISS);
        return false;
    }
    store_fill(f->want, STORE_BLOCK, number);
    assert_memory_equal(f->buf[0], f->want, STORE_BLOCK);
    return true;
}

static inline uint32_t get_hits(struct fixture *f, uint32_t from, uint32_t to)
{
    uint32_t i, hits = 0;

    for (i = from; i < to; i++)
        hits += get_one(f, i);
    return hits;
}

static inline struct fixture *fixture_new(uint64_t capacity, uint32_t silence_ms)
{
    struct fixture *f = calloc(1, sizeof *f);
    uint32_t i;

    store_init(&f->s);
    if (f->s.o.encryption_key_file)
        cipher_watch = nonces_note;
    for (i = 0; i < MANY; i++)
        store_key(&f->keys[i], i);
    for (i = 0; i < BATCH; i++) {
        f->vecs[i] = (struct cistern_vec){f->buf[i], STORE_BLOCK};
        f->spans[i] = (struct cistern_span){&f->vecs[i], 1};
    }
    f->s.o.segment_bytes = SEGMENT;
    f->s.o.capacity_bytes = capacity;
    f->s.o.evict_grace_ms = GRACE_MS;
    f->s.o.silence_ms = silence_ms;
    f->s.o.sync_ms = 50;
    return f;
}

/* A teardown. */
static inline int fixture_end(void **state)
{
    struct fixture *f = *state;

    if (f->c)
        assert_int_equal(cistern_close(f->c), 0);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

/* The store is encrypted from the next open on, with a key of 64 digits in a file beside it. */
static inline void use_key(struct fixture *f)
{
    static char path[300];
    int fd, i;

    (void)snprintf(path, sizeof path, "%s/key", f->s.dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (i = 0; i < 64; i++)
        assert_int_equal(write(fd, "7", 1), 1);
    assert_int_equal(close(fd), 0);
    f->s.o.encryption_key_file = path;
}

/* Files in the directories of all shards. */
static inline size_t count_files(const struct fixture *f, const char *pattern)
{
    char path[512];
    glob_t g;
    size_t n;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/%s", f->s.dir, pattern);
    n = glob(path, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
    globfree(&g);
    return n;
}

static inline void open_store(struct fixture *f)
{
    assert_int_equal(cistern_open(&f->s.o, &f->c), 0);
}

#endif
