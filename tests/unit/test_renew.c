/*
 * test_renew.c - storage that forgets a handle: its daemon dies and comes back, or answers are lost
 * for good. The handle makes its rings and staging anew, once, and goes on; nothing of before is
 * touched before storage has answered.
 */
#include "slow_store.h"

#include "../harness/metric.h"

#include "engine/renew.h"

enum { LIMIT = 3, PROBE_MS = 50 };

static _Atomic int lost_logs, anew_logs;
static long left_bytes, own_bytes; /* of handles before, storage's; of this one */

static void listen(void *arg, int level, const char *text)
{
    (void)arg;
    (void)level;
    lost_logs += strstr(text, "once more") != NULL;
    anew_logs += strstr(text, "were made anew") != NULL;
    if (level <= CISTERN_LOG_WARN)
        print_message("log: %s\n", text);
}

static void with_breaker(struct fixture *f)
{
    f->s.o.breaker = 1;
    f->s.o.breaker_failures = LIMIT;
    f->s.o.breaker_probe_ms = PROBE_MS;
    f->s.o.log = listen;
    lost_logs = anew_logs = 0;
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    left_bytes = atomic_load(&f->slow->bytes);
    open_ok(f);
    own_bytes = atomic_load(&f->slow->bytes) - left_bytes;
    atomic_store(&f->slow->most, 0);
    atomic_store(&f->slow->clashes, 0);
}

static void dies(struct fixture *f)
{
    atomic_store(&f->slow->dead, 1);
}

static void returns(struct fixture *f)
{
    atomic_fetch_add(&f->slow->daemon, 1);
    atomic_store(&f->slow->dead, 0);
}

static void open_by_gets(struct fixture *f)
{
    int gets = 0;

    while (!metric(f, "breaker_open") && gets++ < 100)
        get(f, 0, 1, 0);
    assert_int_equal(metric(f, "breaker_open"), 1);
}

static uint32_t matched(struct fixture *f)
{
    struct cistern_match m = {0};

    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    return m.blocks;
}

/* Gets and puts work, and with nothing of before. */
static void is_back(struct fixture *f)
{
    int unknown;

    WAIT_FOR(metric(f, "breaker_open") == 0 && metric(f, "breaker_puts_open") == 0);
    assert_int_equal(matched(f), N);
    get_hits(f, 0, N);
    assert_true(cistern_delete(f->c, f->keys + N, N) >= 0);
    put_is(f, N, N, CISTERN_STORED);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), 0);
    unknown = atomic_load(&f->slow->unknown);
    get_hits(f, 0, 2 * N);
    assert_int_equal(atomic_load(&f->slow->unknown), unknown);
    assert_int_equal(atomic_load(&f->slow->clashes), 0);
}

/* Twice what it began with, and a few pages to ask with. */
static void memory_is_bounded(struct fixture *f)
{
    long most = atomic_load(&f->slow->most) - left_bytes;

    assert_true(own_bytes >= (long)(f->s.o.read_iov_bytes + f->s.o.write_iov_bytes));
    assert_true(most > own_bytes && most <= 2 * own_bytes + (long)SCRATCHES * 4096);
}

static void a_daemon_that_died_and_came_back(void **state)
{
    struct fixture *f = *state;

    with_breaker(f);
    dies(f);
    open_by_gets(f);
    assert_int_equal(matched(f), 0);
    put_is(f, N, N, CISTERN_DROPPED);
    WAIT_FOR(metric(f, "breaker_probes") >= 2);
    assert_int_equal(metric(f, "renewals"), 0);
    returns(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f);
    assert_int_equal(anew_logs, 1);
    assert_true(metric(f, "read_slots_old") >= 1);
    assert_int_equal(metric(f, "read_slots_quarantined"), 0);
    memory_is_bounded(f);
    close_left(f);
    open_ok(f);
    get_hits(f, 0, N);
}

/* So quickly that no call of the file system met it. */
static void a_restart_that_nobody_saw(void **state)
{
    struct fixture *f = *state;

    with_breaker(f);
    returns(f);
    open_by_gets(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f);
    close_left(f);
}

static void puts_come_back_too(void **state)
{
    struct fixture *f = *state;
    uint64_t end = now_ms() + SOON_MS;

    with_breaker(f);
    put_is(f, N, 1, CISTERN_STORED); /* there is a segment */
    dies(f);
    while (!metric(f, "breaker_puts_opened") && now_ms() < end)
        put(f, N, N);
    assert_true(metric(f, "breaker_puts_opened") >= 1);
    returns(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f);
    memory_is_bounded(f);
    close_left(f);
}

static uint32_t known(cistern *c, struct fixture *f)
{
    uint16_t masks[2 * N];
    uint32_t i, n = 0;

    assert_int_equal(cistern_exists(c, f->keys, 2 * N, masks), 0);
    for (i = 0; i < 2 * N; i++)
        n += masks[i] != 0;
    return n;
}

/* A scheduler's handle has neither lanes nor a breaker, and hears of new blocks all the same. Once:
 * at the second death it keeps what it knows, and says so. */
static void a_handle_that_only_matches(void **state)
{
    struct fixture *f = *state;
    static cistern *volatile matches; /* where leak checkers see it */
    struct cistern_options o;
    cistern *c;

    with_breaker(f);
    o = f->s.o;
    o.flags |= CISTERN_OPEN_MATCH_ONLY;
    o.poll_ms = o.list_ms = PROBE_MS;
    assert_int_equal(cistern_open(&o, &c), 0);
    matches = c;
    assert_int_equal(known(matches, f), N);
    returns(f);
    open_by_gets(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f); /* stores N more */
    WAIT_FOR(known(matches, f) == 2 * N);
    assert_int_equal(metric_of(matches, "renewals"), 1);
    returns(f);
    WAIT_FOR(metric_of(matches, "renewals_refused") >= 1);
    assert_int_equal(known(matches, f), 2 * N);
    assert_int_equal(metric_of(matches, "renewals"), 1);
    assert_int_not_equal(cistern_close(matches), 0); /* reads of before are storage's */
    close_left(f);
}

/* There is one new generation, not two. Then everything is a miss, at once. */
static void the_second_death_is_the_last(void **state)
{
    struct fixture *f = *state;
    int reads;

    with_breaker(f);
    dies(f);
    open_by_gets(f);
    returns(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f);
    returns(f);
    open_by_gets(f);
    WAIT_FOR(metric(f, "renewals_refused") >= 1);
    WAIT_FOR(lost_logs == 1);
    reads = atomic_load(&f->slow->reads) - (int)metric(f, "breaker_probes");
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_MISS);
    put_is(f, N, N, CISTERN_DROPPED);
    assert_int_equal(matched(f), 0);
    assert_true(atomic_load(&f->slow->reads) - (int)metric(f, "breaker_probes") <= reads);
    assert_int_equal(metric(f, "renewals"), 1);
    assert_int_equal(metric(f, "breaker_open"), 1);
    memory_is_bounded(f);
    close_left(f);
    assert_int_equal(lost_logs, 1);
}

/* The daemon lives, but a part of what it was given is never answered. */
static void too_much_in_quarantine(void **state)
{
    struct fixture *f = *state;
    uint64_t part;
    int late;

    f->s.o.read_timeout_ms = 100;
    f->s.o.depth = 64;
    f->s.o.io_blocks = 1;
    f->s.o.breaker_probe_ms = PROBE_MS;
    f->s.o.log = listen;
    reopen(f);
    part = (metric(f, "read_slots") + RENEW_PART - 1) / RENEW_PART;
    atomic_store(&f->slow->clashes, 0);
    rule(&f->slow->read[SLOW_DATA], SLOW_HANG, 0, 0, (int)part);
    while (metric(f, "read_slots_quarantined") < part)
        get(f, 0, 1, 20);
    late = atomic_load(&f->slow->late);
    get_hits(f, 0, N);
    WAIT_FOR(metric(f, "renewals") == 1);
    assert_int_equal(metric(f, "read_slots_quarantined"), 0);
    assert_int_equal(metric(f, "read_slots_old"), part);
    get_hits(f, 0, N);
    put_is(f, N, N, CISTERN_STORED);
    assert_int_equal(atomic_load(&f->slow->late), late);
    all_pass(f->slow); /* now they come, into memory that is nobody's */
    WAIT_FOR(metric(f, "read_slots_old") == 0);
    assert_int_equal(atomic_load(&f->slow->late), late + (int)part);
    get_hits(f, 0, 2 * N);
    assert_int_equal(atomic_load(&f->slow->clashes), 0);
    assert_int_equal(metric(f, "renewals"), 1);
}

/* Memory that the caller registered before is out of the new daemon's reach: the bytes come through
 * staging, and the caller hears the same. */
static void registered_memory_of_before(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r;
    cistern_memory *m;
    uint64_t op;

    with_breaker(f);
    assert_int_equal(cistern_memory_register(f->c, f->dst, (size_t)2 * N * STORE_BLOCK, &m), 0);
    dies(f);
    open_by_gets(f);
    returns(f);
    WAIT_FOR(metric(f, "renewals") == 1);
    is_back(f);
    r = request(f, f->get, 0, N);
    r.flags = CISTERN_GET_DIRECT;
    r.memory = m;
    memset(f->dst, 0xaa, (size_t)2 * N * STORE_BLOCK);
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    assert_int_equal(cistern_wait(f->c, op, LONG_MS, &f->ev), 0);
    all_are(f, 0, N, CISTERN_HIT);
    assert_memory_equal(f->src, f->dst, (size_t)N * STORE_BLOCK);
    WAIT_FOR(cistern_memory_release(f->c, m) == 0);
    close_left(f);
}

static void close_is_bounded_while_it_is_dead(void **state)
{
    struct fixture *f = *state;

    with_breaker(f);
    dies(f);
    open_by_gets(f);
    WAIT_FOR(metric(f, "breaker_probes") >= 1);
    close_left(f);
    returns(f);
    open_ok(f);
    get_hits(f, 0, N);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_filled, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_daemon_that_died_and_came_back),
        TEST(a_restart_that_nobody_saw),
        TEST(puts_come_back_too),
        TEST(the_second_death_is_the_last),
        TEST(a_handle_that_only_matches),
        TEST(too_much_in_quarantine),
        TEST(registered_memory_of_before),
        TEST(close_is_bounded_while_it_is_dead),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
