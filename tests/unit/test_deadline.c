/*
 * test_deadline.c - gets and puts on storage that hangs, fails and falls short: every call ends,
 * what storage still owns is not used before it answered, and nothing wrong becomes visible.
 */
#include "slow_store.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- Reads ---- */

static void get_ends_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    uint64_t start, free_slots = metric(f, "read_slots_free");
    uint32_t i;

    f->s.o.read_timeout_ms = LONG_MS;
    reopen(f);
    start = now_ms();
    hang(&f->slow->read[SLOW_DATA]);
    get(f, 0, N, SHORT_MS);
    assert_true(now_ms() - start < SOON_MS);
    assert_int_equal(f->ev.status, -ETIMEDOUT);
    assert_int_equal(f->ev.hits, 0);
    assert_int_equal(f->ev.errors, N);
    all_are(f, 0, N, CISTERN_ERROR);
    assert_int_equal(metric(f, "get_timeouts"), 1);
    assert_int_equal(metric(f, "read_slots_quarantined"), 2);
    assert_int_equal(metric(f, "read_slots_free"), free_slots - 2);
    memset(f->dst, 0xee, (size_t)2 * N * STORE_BLOCK);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "read_slots_quarantined") == 0);
    assert_int_equal(metric(f, "read_slots_free"), free_slots);
    assert_int_equal(metric(f, "io_late"), 2);
    for (i = 0; i < 2 * N * STORE_BLOCK; i++)
        assert_int_equal(f->dst[i], 0xee);
    get_hits(f, 0, N);
}

static void one_read_has_its_own_timeout(void **state)
{
    struct fixture *f = *state;
    uint64_t start = now_ms();

    rule(&f->slow->read[SLOW_DATA], SLOW_HANG, 0, 1, 0);
    get(f, 0, N, LONG_MS);
    assert_true(now_ms() - start < SOON_MS);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.run, N / 2);
    all_are(f, 0, N / 2, CISTERN_HIT);
    all_are(f, N / 2, N / 2, CISTERN_ERROR);
    assert_memory_equal(f->src, f->dst, (size_t)N / 2 * STORE_BLOCK);
    assert_int_equal(metric(f, "io_timeouts"), 1);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "read_slots_quarantined") == 0);
    get_hits(f, 0, N);
}

static int buffer_free_came(struct fixture *f)
{
    struct cistern_event ev[4];
    int n = cistern_poll(f->c, ev, 4);

    assert_true(n >= 0 && n <= 1);
    return n == 1 && ev[0].kind == CISTERN_EV_BUFFER_FREE && ev[0].cookie == 7;
}

static void direct_read_keeps_its_buffer(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, N);
    cistern_memory *memory;
    void *base;
    uint32_t i;

    f->s.o.read_timeout_ms = LONG_MS;
    reopen(f);
    assert_int_equal(cistern_memory_alloc(f->c, (size_t)N * STORE_BLOCK, &memory, &base), 0);
    for (i = 0; i < N; i++)
        f->out[i].base = (uint8_t *)base + (size_t)i * STORE_BLOCK;
    r.flags = CISTERN_GET_DIRECT;
    r.memory = memory;
    r.cookie = 7;
    r.timeout_ms = SHORT_MS;
    hang(&f->slow->read[SLOW_DATA]);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.status, -ETIMEDOUT);
    all_are(f, 0, N, CISTERN_ERROR);
    for (i = 0; i < 20; i++, nap())
        assert_false(buffer_free_came(f));
    assert_int_equal(cistern_memory_release(f->c, memory), -EBUSY);
    all_pass(f->slow);
    WAIT_FOR(buffer_free_came(f));
    assert_int_equal(metric(f, "ops_open"), 0);
    assert_int_equal(cistern_memory_release(f->c, memory), 0);
    for (i = 0; i < N; i++)
        f->out[i].base = f->dst + (size_t)i * STORE_BLOCK;
    get_hits(f, 0, N);
}

static void failed_reads_are_errors_once(void **state)
{
    struct fixture *f = *state;

    rule(&f->slow->read[SLOW_DATA], SLOW_FAIL, EIO, 0, 0);
    get(f, 0, N, 0);
    assert_int_equal(f->ev.status, 0);
    all_are(f, 0, N, CISTERN_ERROR);
    assert_int_equal(metric(f, "io_read_errors"), 2);
    all_pass(f->slow);
    get_hits(f, 0, N);
}

static void short_reads_are_misses(void **state)
{
    struct fixture *f = *state;

    rule(&f->slow->read[SLOW_DATA], SLOW_SHORT, 0, 0, 1);
    get(f, 0, N, 0);
    all_are(f, 0, N / 4, CISTERN_HIT);
    all_are(f, N / 4, N / 4, CISTERN_MISS);
    all_are(f, N / 2, N / 2, CISTERN_HIT);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "bad_length_blocks") == N / 4); /* the contents are there: it is damage */
    get_is_right(f, 0, N);
}

/* Reads that hang one by one until half of the staging, or of the queue, is lost. */
static void lose(struct fixture *f, const char *what)
{
    uint64_t start;
    uint32_t i;

    hang(&f->slow->read[SLOW_DATA]);
    for (i = 0; i < 4; i++)
        get(f, i, 1, SHORT_MS);
    start = now_ms();
    get(f, 0, N, LONG_MS);
    if (now_ms() - start >= SOON_MS)
        fail_msg("a get waited although half of the %s was lost", what);
    all_are(f, 0, N, CISTERN_ERROR);
    assert_int_equal(atomic_load(&f->slow->read[SLOW_DATA].hits), 4);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "read_slots_quarantined") == 0);
    get_hits(f, 0, N);
}

static void gets_miss_when_staging_is_lost(void **state)
{
    struct fixture *f = *state;

    f->s.o.read_timeout_ms = LONG_MS;
    reopen(f);
    assert_int_equal(metric(f, "read_slots"), 8);
    lose(f, "staging");
}

static void gets_miss_when_the_queue_is_lost(void **state)
{
    struct fixture *f = *state;

    f->s.o.read_timeout_ms = LONG_MS;
    f->s.o.depth = 8;
    f->s.o.read_iov_bytes = 32 << 20;
    reopen(f);
    lose(f, "queue");
}

/* ---- Writes ---- */

static void put_gives_its_place_up(void **state)
{
    struct fixture *f = *state;

    hang(&f->slow->write[SLOW_DATA]);
    put_is(f, N, N, CISTERN_ERROR);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.errors, N);
    assert_int_equal(metric(f, "io_timeouts"), 2);
    assert_int_equal(metric(f, "write_slots_quarantined"), 2);
    get(f, N, N, 0);
    all_are(f, N, N, CISTERN_MISS);
    get_hits(f, 0, N);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "write_slots_quarantined") == 0);
    get(f, N, N, 0);
    all_are(f, N, N, CISTERN_MISS);
    put_is(f, N, N, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

static void put_ends_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put, N, N);

    f->s.o.write_timeout_ms = LONG_MS;
    reopen(f);
    hang(&f->slow->write[SLOW_DATA]);
    r.timeout_ms = SHORT_MS;
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.status, -ETIMEDOUT);
    all_are(f, N, N, CISTERN_ERROR);
    assert_int_equal(metric(f, "put_timeouts"), 1);
    memset(f->src + (size_t)N * STORE_BLOCK, 0, (size_t)N * STORE_BLOCK); /* the caller's again */
    all_pass(f->slow);
    WAIT_FOR(atomic_load(&f->slow->held) == f->held);
    for (uint32_t i = N; i < 2 * N; i++)
        store_fill(f->src + (size_t)i * STORE_BLOCK, STORE_BLOCK, i);
    get_is_right(f, 0, 2 * N);
    reopen(f);
    get_is_right(f, 0, 2 * N);
}

static void late_frames_do_not_meet_new_ones(void **state)
{
    struct fixture *f = *state;
    uint64_t made = metric(f, "segments_created");

    rule(&f->slow->write[SLOW_TOC], SLOW_HANG, 0, 0, 1);
    put_is(f, N, N / 2, CISTERN_ERROR);
    assert_int_equal(metric(f, "segments_abandoned"), 1);
    assert_int_equal(metric(f, "write_slots_quarantined"), 1);
    put_is(f, N + N / 2, N / 2, CISTERN_STORED); /* while the first still hangs */
    assert_true(metric(f, "segments_created") > made);
    get_hits(f, N + N / 2, N / 2);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "write_slots_quarantined") == 0);
    get_hits(f, 0, N);
    reopen(f);
    get_hits(f, 0, N);
    get_hits(f, N + N / 2, N / 2);
    get_is_right(f, N, N / 2);
}

/* The first frames of a segment carry its header. */
static void first_frames_hang(void **state)
{
    struct fixture *f = *state;

    open_ok(f);
    rule(&f->slow->write[SLOW_TOC], SLOW_HANG, 0, 0, 1);
    put_is(f, 0, N, CISTERN_ERROR);
    put_is(f, 0, N, CISTERN_STORED);
    all_pass(f->slow);
    WAIT_FOR(atomic_load(&f->slow->held) == f->held);
    reopen(f);
    get_hits(f, 0, N);
    assert_int_equal(metric(f, "contents_bad"), 0);
}

static void failed_frames_close_the_segment(void **state)
{
    struct fixture *f = *state;

    rule(&f->slow->write[SLOW_TOC], SLOW_FAIL, EIO, 0, 1);
    put_is(f, N, N, CISTERN_ERROR);
    assert_int_equal(metric(f, "segments_abandoned"), 1);
    put_is(f, N, N, CISTERN_STORED);
    rule(&f->slow->write[SLOW_TOC], SLOW_SHORT, 0, 0, 1);
    f->keys[N].b[0] ^= 1;
    put_is(f, N, 1, CISTERN_ERROR);
    put_is(f, N, 1, CISTERN_STORED);
    assert_int_equal(metric(f, "segments_abandoned"), 2);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

static void failed_writes_are_errors_once(void **state)
{
    struct fixture *f = *state;

    rule(&f->slow->write[SLOW_DATA], SLOW_FAIL, EIO, 0, 0);
    put_is(f, N, N, CISTERN_ERROR);
    rule(&f->slow->write[SLOW_DATA], SLOW_SHORT, 0, 0, 0);
    put_is(f, N, N, CISTERN_ERROR);
    all_pass(f->slow);
    get(f, N, N, 0);
    all_are(f, N, N, CISTERN_MISS);
    put_is(f, N, N, CISTERN_STORED);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

/* Puts stop for a while, gets go on, puts come back by themselves. */
static void full_disk(struct fixture *f, enum slow_file file, int error)
{
    uint64_t end = now_ms() + SOON_MS;

    rule(&f->slow->write[file], SLOW_FAIL, error, 0, 0);
    put_is(f, N, N / 2, CISTERN_ERROR);
    do { /* a put that comes after the pause is tried, and fails as the first one did */
        put(f, N, N);
    } while (f->results[2 * N - 1] != CISTERN_DROPPED && now_ms() < end);
    assert_int_equal(f->results[2 * N - 1], CISTERN_DROPPED);
    assert_true(metric(f, "put_dropped_blocks") > 0);
    get_hits(f, 0, N);
    all_pass(f->slow);
    do {
        put(f, N, N);
    } while (f->results[N] != CISTERN_STORED && now_ms() < end);
    all_are(f, N, N, CISTERN_STORED);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

static void full_disk_at_the_data(void **state)
{
    full_disk(*state, SLOW_DATA, ENOSPC);
}

static void full_disk_at_the_contents(void **state)
{
    full_disk(*state, SLOW_TOC, ENOSPC);
}

static void a_quota_that_is_used_up(void **state)
{
    full_disk(*state, SLOW_DATA, EDQUOT);
}

static void a_mount_that_became_read_only(void **state)
{
    full_disk(*state, SLOW_DATA, EROFS);
}

/* No call waits, every put gets its answer, and soon puts are dropped without waiting. */
static void puts_are_dropped_not_blocked(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r;
    struct cistern_event ev;
    uint64_t start, op[N];
    uint32_t i;

    hang(&f->slow->write[SLOW_DATA]);
    start = now_ms();
    for (i = 0; i < N; i++) {
        r = request(f, f->put, N + i, 1);
        assert_int_equal(cistern_put(f->c, &r, &op[i]), 0);
    }
    for (i = 0; i < N; i++) {
        assert_int_equal(cistern_wait(f->c, op[i], SOON_MS, &ev), 0);
        assert_true(f->results[N + i] == CISTERN_ERROR || f->results[N + i] == CISTERN_DROPPED);
    }
    while (f->results[N] != CISTERN_DROPPED && now_ms() < start + SOON_MS)
        put(f, N, 1);
    put_is(f, N, N, CISTERN_DROPPED);
    assert_true(metric(f, "write_slots_quarantined") >= 4);
    get_hits(f, 0, N);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "write_slots_quarantined") == 0);
    put_is(f, N, N, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
}

/* While a get waits for storage, a quarter of the writes is queued there; then all of them. */
static void reads_go_before_writes(void **state)
{
    enum { DEPTH = 8, LEAST = DEPTH / 4 };
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, 1), w = request(f, f->put, N, N);
    struct cistern_event ev;
    uint64_t get_op, put_op;
    int i;

    f->s.o.depth = DEPTH;
    f->s.o.io_bytes = STORE_BLOCK;
    f->s.o.read_timeout_ms = f->s.o.write_timeout_ms = LONG_MS;
    reopen(f);
    hang(&f->slow->read[SLOW_DATA]);
    hang(&f->slow->write[SLOW_DATA]);
    assert_int_equal(cistern_get(f->c, &r, &get_op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == 1);
    assert_int_equal(cistern_put(f->c, &w, &put_op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == 1 + LEAST);
    for (i = 0; i < 50; i++, nap())
        assert_in_range(atomic_load(&f->slow->held), 1, 1 + LEAST);
    atomic_store(&f->slow->read[SLOW_DATA].mode, SLOW_PASS);
    assert_int_equal(cistern_wait(f->c, get_op, SOON_MS, &ev), 0);
    assert_int_equal(f->results[0], CISTERN_HIT);
    WAIT_FOR(atomic_load(&f->slow->held) == DEPTH);
    all_pass(f->slow);
    assert_int_equal(cistern_wait(f->c, put_op, SOON_MS, &ev), 0);
    all_are(f, N, N, CISTERN_STORED);
}

/* Writes that storage never answers take none of that quarter, however long the get waits. */
static void lost_writes_leave_room_beside_a_get(void **state)
{
    enum { DEPTH = 8, LEAST = DEPTH / 4 };
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, 1);
    struct cistern_event ev;
    uint64_t get_op;

    f->s.o.depth = DEPTH;
    f->s.o.io_bytes = STORE_BLOCK;
    f->s.o.read_timeout_ms = LONG_MS;
    f->s.o.put_timeout_ms = 10 * SHORT_MS;
    reopen(f);
    hang(&f->slow->read[SLOW_DATA]);
    rule(&f->slow->write[SLOW_DATA], SLOW_HANG, 0, 0, LEAST);
    assert_int_equal(cistern_get(f->c, &r, &get_op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == 1);
    put(f, N, LEAST);
    all_are(f, N, LEAST, CISTERN_ERROR);
    put_is(f, N + LEAST, N - LEAST, CISTERN_STORED);
    all_pass(f->slow);
    assert_int_equal(cistern_wait(f->c, get_op, SOON_MS, &ev), 0);
    assert_int_equal(f->results[0], CISTERN_HIT);
}

static void a_full_ring_is_tried_again(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->slow->prep_again, 7);
    atomic_store(&f->slow->submit_again, 5);
    put_is(f, N, N, CISTERN_STORED);
    atomic_store(&f->slow->prep_again, 7);
    atomic_store(&f->slow->submit_again, 5);
    get_hits(f, 0, 2 * N);
    assert_int_equal(metric(f, "segments_abandoned"), 0);
}

/* A write of frames has a slot that holds it, however small the I/Os are. */
static void small_ios_keep_frames_apart(void **state)
{
    struct fixture *f = *state;

    f->s.o.io_bytes = 4096;
    f->s.o.write_timeout_ms = f->s.o.read_timeout_ms = LONG_MS;
    reopen(f);
    assert_int_equal(metric(f, "write_slots"), (8 << 20) / (256 << 10));
    put_is(f, N, N, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
}

static void a_head_that_hangs_stops_nothing(void **state)
{
    struct fixture *f = *state;

    hang(&f->slow->write[SLOW_HEAD]);
    put_is(f, N, N / 2, CISTERN_STORED);
    put_is(f, N + N / 2, N / 2, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
    close_left(f);
    all_pass(f->slow);
    open_ok(f);
    get_hits(f, 0, 2 * N);
}

static void flush_has_a_deadline(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put, N, N);
    uint64_t op, start = now_ms();

    f->s.o.write_timeout_ms = LONG_MS;
    reopen(f);
    hang(&f->slow->write[SLOW_DATA]);
    assert_int_equal(cistern_put(f->c, &r, &op), 0);
    assert_int_equal(cistern_flush(f->c, SHORT_MS), -ETIMEDOUT);
    assert_true(now_ms() - start < SOON_MS);
    all_pass(f->slow);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    assert_int_equal(cistern_wait(f->c, op, 0, &f->ev), 0);
    all_are(f, N, N, CISTERN_STORED);
}

/* ---- Draining ---- */

static void drain_finishes_what_was_accepted(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put, N, N / 2);
    uint64_t op;

    assert_int_equal(cistern_put(f->c, &r, &op), 0);
    assert_int_equal(cistern_drain(f->c, SOON_MS), 0);
    assert_int_equal(cistern_wait(f->c, op, 0, &f->ev), 0);
    all_are(f, N, N / 2, CISTERN_STORED);
    assert_true(metric(f, "syncs") >= 1);
    put_is(f, N + N / 2, N / 2, CISTERN_DROPPED); /* no new ones */
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(metric(f, "put_dropped_blocks"), N / 2);
    get_hits(f, 0, N + N / 2);
    assert_int_equal(cistern_drain(f->c, SOON_MS), 0);
    reopen(f);
    get_hits(f, 0, N + N / 2);
    put_is(f, N + N / 2, N / 2, CISTERN_STORED);
}

static void drain_says_what_is_left(void **state)
{
    struct fixture *f = *state;
    struct cistern_request a = request(f, f->put, N, N / 2), b = request(f, f->put, N + N / 2, 1);
    uint64_t op[2], start;

    f->s.o.write_timeout_ms = LONG_MS;
    reopen(f);
    hang(&f->slow->write[SLOW_DATA]);
    assert_int_equal(cistern_put(f->c, &a, &op[0]), 0);
    assert_int_equal(cistern_put(f->c, &b, &op[1]), 0);
    start = now_ms();
    assert_int_equal(cistern_drain(f->c, SHORT_MS), 2);
    assert_true(now_ms() - start < SOON_MS);
    all_pass(f->slow);
    assert_int_equal(cistern_drain(f->c, SOON_MS), 0);
    assert_int_equal(cistern_wait(f->c, op[0], 0, &f->ev), 0);
    assert_int_equal(cistern_wait(f->c, op[1], 0, &f->ev), 0);
    get_hits(f, 0, N + N / 2 + 1);
}

static void who_does_not_write_has_nothing_to_drain(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    open_ok(f);
    assert_int_equal(cistern_drain(f->c, 0), 0);
    assert_int_equal(cistern_drain(NULL, 0), -EINVAL);
    get_hits(f, 0, N);
}

/* When it goes on every deadline is over at once: the lanes still end the get before it returns,
 * for its memory is the caller's again then. */
static void a_process_that_was_stopped_ends_its_get(void **state)
{
    struct fixture *f = *state;
    pid_t parent = getpid(), child;
    int i, status;

    hang(&f->slow->read[SLOW_DATA]);
    for (i = 0; i < 4; i++) {
        child = fork();
        assert_true(child >= 0);
        if (!child) {
            (void)usleep(50000);
            (void)kill(parent, SIGSTOP);
            (void)usleep(1300000);
            (void)kill(parent, SIGCONT);
            _exit(0);
        }
        get(f, 0, N, 100); /* it returned 0 */
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    all_pass(f->slow);
}

#define TEST(name, set) cmocka_unit_test_setup_teardown(name, set, teardown)

/* test_deadline [PATTERN]: only the tests whose name matches. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(get_ends_at_its_deadline, setup_filled),
        TEST(one_read_has_its_own_timeout, setup_filled),
        TEST(direct_read_keeps_its_buffer, setup_filled),
        TEST(a_process_that_was_stopped_ends_its_get, setup_filled),
        TEST(failed_reads_are_errors_once, setup_filled),
        TEST(short_reads_are_misses, setup_filled),
        TEST(gets_miss_when_staging_is_lost, setup_filled),
        TEST(gets_miss_when_the_queue_is_lost, setup_filled),
        TEST(put_gives_its_place_up, setup_filled),
        TEST(put_ends_at_its_deadline, setup_filled),
        TEST(late_frames_do_not_meet_new_ones, setup_filled),
        TEST(first_frames_hang, setup),
        TEST(failed_frames_close_the_segment, setup_filled),
        TEST(failed_writes_are_errors_once, setup_filled),
        TEST(full_disk_at_the_data, setup_filled),
        TEST(full_disk_at_the_contents, setup_filled),
        TEST(a_quota_that_is_used_up, setup_filled),
        TEST(a_mount_that_became_read_only, setup_filled),
        TEST(puts_are_dropped_not_blocked, setup_filled),
        TEST(reads_go_before_writes, setup_filled),
        TEST(lost_writes_leave_room_beside_a_get, setup_filled),
        TEST(a_full_ring_is_tried_again, setup_filled),
        TEST(small_ios_keep_frames_apart, setup_filled),
        TEST(a_head_that_hangs_stops_nothing, setup_filled),
        TEST(flush_has_a_deadline, setup_filled),
        TEST(drain_finishes_what_was_accepted, setup_filled),
        TEST(drain_says_what_is_left, setup_filled),
        TEST(who_does_not_write_has_nothing_to_drain, setup_filled),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
