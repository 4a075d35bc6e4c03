/*
 * test_deadline_open.c - open, close and refresh on storage that hangs: they end in time, leave to
 * storage what it owns, and work again when it does.
 */
#include "slow_store.h"

static void open_fails_in_time(struct fixture *f)
{
    uint64_t start = now_ms();

    f->s.o.open_timeout_ms = SHORT_MS;
    assert_int_equal(cistern_open(&f->s.o, &f->c), -ETIMEDOUT);
    assert_true(now_ms() - start < SOON_MS);
    assert_null(f->c);
    all_pass(f->slow);
    WAIT_FOR(only_left(f));
    f->s.o.open_timeout_ms = SOON_MS;
    open_ok(f);
    put_is(f, 0, N, CISTERN_STORED);
    get_hits(f, 0, N);
}

static _Atomic bool is_over;
static _Atomic int said_after;

static void listen(void *arg, int level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
    atomic_fetch_add(&said_after, atomic_load(&is_over));
}

/* The callback and its argument are the caller's again when the open has failed. */
static void nothing_is_said_after_an_open_that_failed(void **state)
{
    struct fixture *f = *state;

    atomic_store(&is_over, false);
    f->s.o.log = listen;
    f->s.o.open_timeout_ms = SHORT_MS;
    atomic_store(&f->slow->hang_open, 1);
    assert_int_equal(cistern_open(&f->s.o, &f->c), -ETIMEDOUT);
    atomic_store(&is_over, true);
    all_pass(f->slow);
    WAIT_FOR(only_left(f));
    f->s.o.log = say;
    f->s.o.open_timeout_ms = SOON_MS;
    open_ok(f);
    assert_int_equal(atomic_load(&said_after), 0);
}

static void open_on_hanging_rings(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->slow->hang_ring, 1);
    open_fails_in_time(f);
}

static void open_on_hanging_files(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->slow->hang_open, 1);
    open_fails_in_time(f);
}

static void open_on_hanging_reads(void **state)
{
    struct fixture *f = *state;

    f->s.o.read_timeout_ms = SOON_MS;
    hang(&f->slow->read[SLOW_OTHER]);
    open_fails_in_time(f);
}

static void open_on_hanging_contents(void **state)
{
    struct fixture *f = *state;

    reopen(f);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    f->s.o.read_timeout_ms = SOON_MS;
    f->s.o.open_timeout_ms = SHORT_MS;
    hang(&f->slow->read[SLOW_TOC]);
    assert_int_equal(cistern_open(&f->s.o, &f->c), -ETIMEDOUT);
    all_pass(f->slow);
    WAIT_FOR(only_left(f));
    f->s.o.open_timeout_ms = SOON_MS;
    open_ok(f);
    get_hits(f, 0, N);
}

/* What storage owns stays behind, and the shard can be opened again. */
static void close_on_hanging_storage(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put, N, N), g = request(f, f->get, 0, N);
    uint64_t op;

    f->s.o.read_timeout_ms = f->s.o.write_timeout_ms = LONG_MS;
    f->s.o.close_timeout_ms = 200;
    reopen(f);
    hang(&f->slow->write[SLOW_DATA]);
    hang(&f->slow->read[SLOW_DATA]);
    assert_int_equal(cistern_put(f->c, &r, &op), 0);
    assert_int_equal(cistern_get(f->c, &g, &op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == f->held + 4);
    close_left(f);
    memset(f->dst, 0xee, (size_t)2 * N * STORE_BLOCK);
    all_pass(f->slow);
    f->s.o.close_timeout_ms = 2000;
    open_ok(f);
    assert_int_equal(f->dst[0], 0xee);
    get_hits(f, 0, N);
    get_is_right(f, N, N);
    put_is(f, N, N, CISTERN_STORED);
}

static void close_gives_back_what_was_answered(void **state)
{
    struct fixture *f = *state;
    struct cistern_request g = request(f, f->get, 0, N);
    uint64_t op;

    hang(&f->slow->read[SLOW_DATA]);
    assert_int_equal(cistern_get(f->c, &g, &op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == f->held + 2);
    assert_int_equal(cistern_wait(f->c, op, SOON_MS, &f->ev), 0);
    all_pass(f->slow);
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    assert_true(only_left(f));
}

static void close_writes_out_what_was_accepted(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put, N, N);
    uint64_t op;

    assert_int_equal(cistern_put(f->c, &r, &op), 0);
    reopen(f);
    get_hits(f, 0, 2 * N);
}

static void refresh_recovers(void **state)
{
    struct fixture *f = *state;
    cistern *reader = NULL, *writer = f->c;
    uint16_t parts[N] = {0};
    uint64_t end = now_ms() + SOON_MS;
    int rc;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.read_timeout_ms = 50;
    assert_int_equal(cistern_open(&f->s.o, &reader), 0);
    put_is(f, N, N, CISTERN_STORED);
    hang(&f->slow->read[SLOW_TOC]);
    assert_int_equal(cistern_refresh(reader, SHORT_MS), -ETIMEDOUT);
    /* The look itself gives up as well, after ten read timeouts; so do later ones. */
    assert_int_equal(cistern_refresh(reader, SOON_MS), -ETIMEDOUT);
    all_pass(f->slow);
    do {
        rc = cistern_refresh(reader, SOON_MS);
    } while (rc && now_ms() < end);
    if (rc)
        print_message("refresh: %s\n", cistern_error_text());
    assert_int_equal(rc, 0);
    assert_int_equal(cistern_exists(reader, f->keys + N, N, parts), 0);
    assert_int_equal(parts[0], 1);
    assert_int_equal(parts[N - 1], 1);
    assert_int_equal(cistern_close(reader), 0);
    f->c = writer;
}

#define TEST(name, set) cmocka_unit_test_setup_teardown(name, set, teardown)

/* test_deadline_open [PATTERN]: only the tests whose name matches. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_said_after_an_open_that_failed, setup),
        TEST(open_on_hanging_rings, setup),
        TEST(open_on_hanging_files, setup),
        TEST(open_on_hanging_reads, setup),
        TEST(open_on_hanging_contents, setup_filled),
        TEST(close_on_hanging_storage, setup_filled),
        TEST(close_gives_back_what_was_answered, setup_filled),
        TEST(close_writes_out_what_was_accepted, setup_filled),
        TEST(refresh_recovers, setup_filled),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
