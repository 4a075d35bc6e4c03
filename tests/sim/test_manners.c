/*
 * test_manners.c - each manner of 3FS makes a naive client fail, and each kind of fault does what
 * the model says. A naive client is one that would be right on a local file system; every test
 * shows it wrong, with a careful one beside it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/clock.h"
#include "simfs.h"

#define CHUNK  (64u << 10)
#define MEMORY (1u << 20)

/* A process with a ring each way and memory for both. */
struct client {
    struct io *io;
    struct io_mem mem;
    struct io_ring r, w;
};

struct fixture {
    struct simfs *fs;
    struct client a, b; /* on two hosts */
};

static void client_open(struct simfs *fs, uint32_t host, const char *name, struct client *c)
{
    memset(c, 0, sizeof *c);
    assert_int_equal(simfs_io_open(fs, host, name, &c->io), 0);
    assert_int_equal(c->io->ops->mem_create(c->io, &c->mem, MEMORY, 0), 0);
    assert_int_equal(c->io->ops->ring_create(c->io, &c->r, 8, true), 0);
    assert_int_equal(c->io->ops->ring_create(c->io, &c->w, 8, false), 0);
}

static void client_close(struct client *c)
{
    if (!c->io)
        return;
    c->io->ops->ring_destroy(c->io, &c->r);
    c->io->ops->ring_destroy(c->io, &c->w);
    c->io->ops->mem_destroy(c->io, &c->mem);
    io_close(c->io);
    c->io = NULL;
}

static void start(struct fixture *f, const struct sim_options *o)
{
    f->fs = simfs_new(o);
    assert_non_null(f->fs);
    client_open(f->fs, 0, "a", &f->a);
    client_open(f->fs, 1, "b", &f->b);
}

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    simfs_calm(f->fs);
    assert_string_equal(simfs_violation(f->fs), "");
    client_close(&f->a);
    client_close(&f->b);
    simfs_free(f->fs);
    free(f);
    return 0;
}

static struct io_file open_file(struct client *c, const char *path, unsigned mode)
{
    struct io_file f = {.fd = -1};

    assert_int_equal(c->io->ops->file_open(c->io, path, mode, &f), 0);
    return f;
}

static void send(struct client *c, bool read, struct io_file *f, uint64_t offset, uint64_t len)
{
    struct io_ring *r = read ? &c->r : &c->w;

    assert_int_equal(c->io->ops->prep(c->io, r, &c->mem, c->mem.base, f, offset, len, c), 0);
    assert_int_equal(c->io->ops->submit(c->io, r), 0);
}

/* INT64_MIN: no answer within `ms`. */
static int64_t answer(struct client *c, bool read, uint64_t ms)
{
    struct io_done d;
    int n = c->io->ops->wait(c->io, read ? &c->r : &c->w, &d, 1, 1, ms * NS_PER_MS);

    return n == 1 ? d.result : INT64_MIN;
}

static int64_t put(struct client *c, struct io_file *f, uint64_t offset, int byte, uint64_t len)
{
    memset(c->mem.base, byte, len);
    send(c, false, f, offset, len);
    return answer(c, false, 10000);
}

static int64_t get(struct client *c, struct io_file *f, uint64_t offset, uint64_t len)
{
    memset(c->mem.base, 0xee, len);
    send(c, true, f, offset, len);
    return answer(c, true, 10000);
}

static void close_file(struct client *c, struct io_file *f)
{
    c->io->ops->file_close(c->io, f);
}

static void start_3fs(struct fixture *f)
{
    start(f, &(struct sim_options){.seed = 1, .manners = sim_manners_3fs, .chunk_bytes = CHUNK});
}

/* ---- Manners ---- */

/* Naive: asks whether the file is there, is told by its author that it is now, and asks again. */
static void negative_lookups(void **state)
{
    struct fixture *f = *state;
    struct io_file g = {.fd = -1}, made;

    start_3fs(f);
    assert_int_equal(f->b.io->ops->file_open(f->b.io, "x", IO_READ, &g), -ENOENT);
    made = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(f->b.io->ops->file_open(f->b.io, "x", IO_READ, &g), -ENOENT);
    simfs_advance(f->fs, 6 * SIM_S); /* careful: looks again after 5 s */
    g = open_file(&f->b, "x", IO_READ);
    close_file(&f->b, &g);
    close_file(&f->a, &made);
}

/* Naive: replaces a small file by rename and believes that readers have the new one by now. */
static void entry_cache(void **state)
{
    struct fixture *f = *state;
    char text[8] = {0};

    start_3fs(f);
    assert_int_equal(f->a.io->ops->small_write(f->a.io, "x", "old", 3, false), 0);
    assert_int_equal(f->b.io->ops->small_read(f->b.io, "x", text, sizeof text), 3);
    assert_int_equal(f->a.io->ops->small_write(f->a.io, "x", "new", 3, false), 0);
    assert_int_equal(f->b.io->ops->small_read(f->b.io, "x", text, sizeof text), 3);
    assert_memory_equal(text, "old", 3);
    assert_int_equal(f->a.io->ops->unlink(f->a.io, "x"), 0);
    assert_int_equal(f->b.io->ops->small_read(f->b.io, "x", text, sizeof text), 3);
    simfs_advance(f->fs, 31 * SIM_S);
    assert_int_equal(f->b.io->ops->small_read(f->b.io, "x", text, sizeof text), -ENOENT);
}

/* Naive: reads as many bytes as stat says there are. Careful: reads to where data ends. */
static void lagging_length(void **state)
{
    struct fixture *f = *state;
    struct io_file w, r;
    struct io_stat st;

    start_3fs(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(put(&f->a, &w, 0, 1, 3 * PAGE_BYTES), 3 * PAGE_BYTES);
    r = open_file(&f->b, "x", IO_READ);
    assert_int_equal(f->b.io->ops->stat(f->b.io, "x", &st), 0);
    assert_int_equal(st.size, 0);
    assert_int_equal(f->a.io->ops->stat(f->a.io, "x", &st), 0);
    assert_int_equal(st.size, 3 * PAGE_BYTES);
    assert_int_equal(get(&f->b, &r, 0, CHUNK), 3 * PAGE_BYTES);
    assert_int_equal(f->a.io->ops->file_sync(f->a.io, &w), 0);
    assert_int_equal(f->b.io->ops->stat(f->b.io, "x", &st), 0);
    assert_int_equal(st.size, 0); /* attributes of 30 s ago */
    simfs_advance(f->fs, 31 * SIM_S);
    assert_int_equal(f->b.io->ops->stat(f->b.io, "x", &st), 0);
    assert_int_equal(st.size, 3 * PAGE_BYTES);
    close_file(&f->a, &w);
    close_file(&f->b, &r);
}

/* Naive: reads committed bytes only, beside a write that is under way, and has a deadline. */
static void pending_chunks(void **state)
{
    struct fixture *f = *state;
    struct io_file w, r;
    uint64_t at;
    int naive;

    for (naive = 1; naive >= 0; naive--) {
        start(f, &(struct sim_options){.seed = 1,
                                       .manners = sim_manners_3fs,
                                       .chunk_bytes = CHUNK,
                                       .late_ns = 3600 * NS_PER_S,
                                       .committed_reads = naive});
        w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
        assert_int_equal(put(&f->a, &w, 0, 1, PAGE_BYTES), PAGE_BYTES);
        r = open_file(&f->b, "x", IO_READ);
        at = 0;
        do { /* until a late write has landed and only its answer is late */
            at += PAGE_BYTES;
            simfs_arm(f->fs, SIM_LATE, 1, false);
            send(&f->a, false, &w, at, PAGE_BYTES);
            (void)answer(&f->a, false, 0);
        } while (simfs_peek(f->fs, "x", at, f->b.mem.base, 1) != 1);
        send(&f->b, true, &r, 0, PAGE_BYTES);
        if (naive) {
            assert_int_equal(answer(&f->b, true, 20), INT64_MIN);
            simfs_advance(f->fs, 4 * SIM_S);
            assert_int_equal(answer(&f->b, true, 20), INT64_MIN);
            simfs_kill(f->fs, "a");
            simfs_kill(f->fs, "b");
        } else {
            assert_int_equal(answer(&f->b, true, 10000), PAGE_BYTES);
            simfs_kill(f->fs, "a");
        }
        close_file(&f->a, &w);
        close_file(&f->b, &r);
        if (naive) {
            client_close(&f->a);
            client_close(&f->b);
            simfs_free(f->fs);
        }
    }
}

/* Naive: believes that a record is all old or all new, though it lies in two chunks. */
static void chunk_atomic(void **state)
{
    struct fixture *f = *state;
    uint8_t two[2] = {0};
    struct io_file w;

    start_3fs(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(put(&f->a, &w, 0, 1, 2 * CHUNK), 2 * CHUNK);
    simfs_arm(f->fs, SIM_TORN_WRITE, 1, false);
    while (two[0] == two[1]) { /* a write over both that is cut between them */
        simfs_arm(f->fs, SIM_TORN_WRITE, 1, false);
        assert_int_equal(put(&f->a, &w, 0, 2, 2 * CHUNK), -EIO);
        assert_int_equal(simfs_peek(f->fs, "x", CHUNK - 1, two, 2), 2);
    }
    assert_int_equal(two[0], 2);
    assert_int_equal(two[1], 1);
    for (two[0] = 0; two[0] < 10; two[0]++) { /* careful: one chunk, which is whole or not there */
        uint8_t ends[2];

        simfs_arm(f->fs, SIM_TORN_WRITE, 1, false);
        assert_int_equal(put(&f->a, &w, 0, 3, CHUNK), -EIO);
        assert_int_equal(simfs_peek(f->fs, "x", 0, &ends[0], 1), 1);
        assert_int_equal(simfs_peek(f->fs, "x", CHUNK - 1, &ends[1], 1), 1);
        assert_int_equal(ends[0], ends[1]);
    }
    close_file(&f->a, &w);
}

/* Naive: an open file keeps its bytes after unlink; and unlink gives room at once. */
static void late_reclamation(void **state)
{
    struct fixture *f = *state;
    struct io_file w, r;
    uint64_t used;

    start_3fs(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(put(&f->a, &w, 0, 7, CHUNK), CHUNK);
    close_file(&f->a, &w);
    r = open_file(&f->b, "x", IO_READ);
    used = simfs_used(f->fs);
    assert_int_equal(f->a.io->ops->unlink(f->a.io, "x"), 0);
    assert_int_equal(simfs_used(f->fs), used);
    assert_int_equal(get(&f->b, &r, 0, CHUNK), CHUNK);
    simfs_advance(f->fs, 301 * SIM_S);
    assert_int_equal(simfs_used(f->fs), 0);
    assert_int_equal(get(&f->b, &r, 0, CHUNK), 0); /* success, and no bytes */
    assert_int_equal(f->b.mem.base[0], 0xee);
    close_file(&f->b, &r);
}

/* Naive: waits for the answer as long as it takes, on the ring that it has. */
static void daemon_death(void **state)
{
    struct fixture *f = *state;
    struct io_file w, r, again = {.fd = -1};
    struct client fresh;

    start_3fs(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(put(&f->a, &w, 0, 7, CHUNK), CHUNK);
    r = open_file(&f->b, "x", IO_READ);
    simfs_daemon_dies(f->fs, 1);
    send(&f->b, true, &r, 0, CHUNK);
    assert_int_equal(answer(&f->b, true, 20), INT64_MIN);
    assert_int_equal(f->b.io->ops->file_open(f->b.io, "x", IO_READ, &again), -ENOTCONN);
    simfs_daemon_returns(f->fs, 1);
    assert_int_equal(answer(&f->b, true, 20), INT64_MIN); /* nor does it come later */
    client_open(f->fs, 1, "fresh", &fresh);               /* careful: everything anew */
    again = open_file(&fresh, "x", IO_READ);
    assert_int_equal(get(&fresh, &again, 0, CHUNK), CHUNK);
    assert_int_equal(fresh.mem.base[CHUNK - 1], 7);
    close_file(&fresh, &again);
    client_close(&fresh);
    simfs_kill(f->fs, "b");
    close_file(&f->b, &r);
    close_file(&f->a, &w);
}

/* ---- Faults ---- */

static void start_local(struct fixture *f)
{
    start(f, &(struct sim_options){.seed = 3, .manners = sim_manners_local, .chunk_bytes = CHUNK});
}

/* What was synced is there after a power cut; what was not is there, gone or torn at 512 bytes. */
static void power_cut(void **state)
{
    struct fixture *f = *state;
    unsigned old = 0, new = 0, round;
    uint8_t bytes[CHUNK];

    start_local(f);
    for (round = 0; round < 40; round++) {
        struct io_file w;
        char path[8];
        uint32_t i;

        (void)snprintf(path, sizeof path, "f%u", round);
        w = open_file(&f->a, path, IO_WRITE | IO_CREATE);
        assert_int_equal(put(&f->a, &w, 0, 1, CHUNK), CHUNK);
        assert_int_equal(f->a.io->ops->file_sync(f->a.io, &w), 0);
        assert_int_equal(f->a.io->ops->sync_dir(f->a.io, ""), 0);
        assert_int_equal(put(&f->a, &w, CHUNK / 2, 2, CHUNK / 2), CHUNK / 2);
        simfs_power_cut(f->fs);
        close_file(&f->a, &w);
        client_close(&f->a);
        client_open(f->fs, 0, "a", &f->a);
        assert_int_equal(simfs_peek(f->fs, path, 0, bytes, CHUNK), CHUNK);
        for (i = 0; i < CHUNK; i++) {
            assert_true(bytes[i] == 1 || (i >= CHUNK / 2 && bytes[i] == 2));
            assert_true(i % 512 == 0 || bytes[i] == bytes[i - 1]);
            old += i >= CHUNK / 2 && bytes[i] == 1;
            new += bytes[i] == 2;
        }
    }
    assert_true(old > 0 && new > 0);
}

/* A name whose directory was not synced may be gone. */
static void names_at_a_power_cut(void **state)
{
    struct fixture *f = *state;
    unsigned gone = 0, round;

    start_local(f);
    for (round = 0; round < 40; round++) {
        struct io_file w;
        char path[8], byte;

        (void)snprintf(path, sizeof path, "f%u", round);
        w = open_file(&f->a, path, IO_WRITE | IO_CREATE);
        if (round % 2)
            assert_int_equal(f->a.io->ops->sync_dir(f->a.io, ""), 0);
        simfs_power_cut(f->fs);
        close_file(&f->a, &w);
        client_close(&f->a);
        client_open(f->fs, 0, "a", &f->a);
        if (simfs_peek(f->fs, path, 0, &byte, 1) == -ENOENT) {
            assert_int_equal(round % 2, 0);
            gone++;
        }
    }
    assert_in_range(gone, 1, 19);
}

/* A killed process: nothing it calls has an effect; what it had in flight lands later or never. */
static void kill_lands_later(void **state)
{
    struct fixture *f = *state;
    unsigned landed = 0, round;

    start(f, &(struct sim_options){.seed = 5, .late_ns = 1000000, .chunk_bytes = CHUNK});
    for (round = 0; round < 40; round++) {
        struct io_file w, other = {.fd = -1};
        uint64_t end = clock_ns() + 10 * NS_PER_S;
        char path[8], byte;

        (void)snprintf(path, sizeof path, "f%u", round);
        w = open_file(&f->a, path, IO_WRITE | IO_CREATE);
        memset(f->a.mem.base, 9, 512);
        send(&f->a, false, &w, 0, 512);
        simfs_kill(f->fs, "a");
        assert_true(simfs_killed(f->fs, "a"));
        memset(f->a.mem.base, 0, 512); /* its memory is not looked at any more */
        assert_int_equal(answer(&f->a, false, 10000), -EIO);
        assert_int_equal(f->a.io->ops->file_open(f->a.io, path, IO_READ, &other), -EIO);
        close_file(&f->a, &w);
        client_close(&f->a);
        client_open(f->fs, 0, "a", &f->a);
        while (simfs_in_flight(f->fs, "a") && clock_ns() < end)
            (void)answer(&f->a, true, 1);
        if (simfs_peek(f->fs, path, 0, &byte, 1) == 1) {
            assert_int_equal(byte, 9);
            landed++;
        }
    }
    assert_in_range(landed, 1, 39);
}

/* Every kind that hits one call, armed for the second such call. */
static void faults_hit_when_armed(void **state)
{
    struct fixture *f = *state;
    struct io_file w, other = {.fd = -1};
    int64_t n;

    start_local(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    assert_int_equal(put(&f->a, &w, 0, 1, CHUNK), CHUNK);
#define HITS(kind, first, second)                                                                  \
    do {                                                                                           \
        simfs_arm(f->fs, kind, 2, false);                                                          \
        assert_true(first);                                                                        \
        assert_true(second);                                                                       \
        assert_int_equal(simfs_fired(f->fs), 1);                                                   \
    } while (0)
    HITS(SIM_READ_ERROR, get(&f->a, &w, 0, 512) == 512, get(&f->a, &w, 0, 512) == -EIO);
    HITS(SIM_WRITE_ERROR, put(&f->a, &w, 0, 1, 512) == 512, put(&f->a, &w, 0, 1, 512) < 0);
    HITS(SIM_SHORT_READ, get(&f->a, &w, 0, 512) == 512,
         (n = get(&f->a, &w, 0, 512)) >= 0 && n < 512);
    HITS(SIM_SHORT_WRITE, put(&f->a, &w, 0, 1, 4096) == 4096,
         (n = put(&f->a, &w, 0, 1, 4096)) >= 0 && n < 4096);
    HITS(SIM_BIT_FLIP, get(&f->a, &w, 0, 64) == 64 && f->a.mem.base[0] == 1,
         get(&f->a, &w, 0, 1) == 1 && f->a.mem.base[0] != 1);
    HITS(SIM_SYNC_ERROR, f->a.io->ops->file_sync(f->a.io, &w) == 0,
         f->a.io->ops->file_sync(f->a.io, &w) < 0);
    HITS(SIM_ALLOC_ERROR, f->a.io->ops->file_allocate(f->a.io, &w, 0, 4096) == 0,
         f->a.io->ops->file_allocate(f->a.io, &w, 0, 4096) < 0);
    HITS(SIM_UNLINK_ERROR, f->a.io->ops->unlink(f->a.io, "none") == -ENOENT,
         f->a.io->ops->unlink(f->a.io, "x") == -EIO);
    HITS(SIM_VERB_ERROR, f->a.io->ops->make_dir(f->a.io, "d") == 0,
         f->a.io->ops->make_dir(f->a.io, "d") < 0);
    simfs_arm(f->fs, SIM_BUSY, 1, false);
    assert_int_equal(f->a.io->ops->prep(f->a.io, &f->a.r, &f->a.mem, f->a.mem.base, &w, 0, 1, NULL),
                     -EAGAIN);
    assert_int_equal(get(&f->a, &w, 0, 512), 512);
    simfs_arm(f->fs, SIM_OPEN_ERROR, 1, false);
    assert_true(f->a.io->ops->file_open(f->a.io, "x", IO_READ, &other) < 0);
    simfs_arm(f->fs, SIM_LATE, 1, false);
    send(&f->a, true, &w, 0, 512);
    assert_int_equal(answer(&f->a, true, 1), INT64_MIN);
    assert_int_equal(answer(&f->a, true, 20000), 512);
    close_file(&f->a, &w);
}

/* The capacity is filled by a stranger; there is room again when he goes. */
static void a_stranger(void **state)
{
    struct fixture *f = *state;
    struct io_file w;

    start_local(f);
    w = open_file(&f->a, "x", IO_WRITE | IO_CREATE);
    simfs_capacity(f->fs, 4 * CHUNK);
    assert_int_equal(put(&f->a, &w, 0, 1, CHUNK), CHUNK);
    simfs_stranger(f->fs, 3 * CHUNK);
    assert_int_equal(put(&f->a, &w, CHUNK, 1, CHUNK), -ENOSPC);
    assert_int_equal(put(&f->a, &w, 0, 2, CHUNK), CHUNK); /* in place */
    simfs_stranger(f->fs, 0);
    assert_int_equal(put(&f->a, &w, CHUNK, 1, CHUNK), CHUNK);
    close_file(&f->a, &w);
}

/* What the simulator watches: here are clients that do what none may. */
static void findings(void **state)
{
    struct fixture *f = *state;
    struct io_file w;
    struct client *c;
    int kind;

    for (kind = 0; kind < 3; kind++) {
        start(f, &(struct sim_options){.seed = 3, .late_ns = 20 * NS_PER_MS});
        c = &f->a;
        w = open_file(c, "x", IO_WRITE | IO_CREATE);
        assert_int_equal(put(c, &w, 0, 1, CHUNK), CHUNK);
        simfs_rate(f->fs, SIM_LATE, 10000);
        if (kind == 0) { /* memory that a read owns goes to another */
            send(c, true, &w, 0, 4096);
            send(c, true, &w, 8192, 4096);
        } else if (kind == 1) { /* the source of a write changes */
            send(c, false, &w, 0, 4096);
            memset(c->mem.base, 5, 4096);
            (void)answer(c, false, 10000);
        } else { /* memory goes while a read owns it */
            send(c, true, &w, 0, 4096);
            c->io->ops->mem_destroy(c->io, &c->mem);
        }
        assert_string_not_equal(simfs_violation(f->fs), "");
        simfs_kill(f->fs, "a");
        close_file(c, &w);
        client_close(c);
        client_close(&f->b);
        simfs_free(f->fs);
    }
    start_local(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(negative_lookups),
        T(entry_cache),
        T(lagging_length),
        T(pending_chunks),
        T(chunk_atomic),
        T(late_reclamation),
        T(daemon_death),
        T(power_cut),
        T(names_at_a_power_cut),
        T(kill_lands_later),
        T(faults_hit_when_armed),
        T(a_stranger),
        T(findings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
