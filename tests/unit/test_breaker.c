/*
 * test_breaker.c - storage that fails again and again: after a few failures nobody waits for it any
 * more, and when it answers again everything comes back by itself.
 *
 * "Nobody waits" is counted in I/Os that are sent, not in time.
 */
#include "slow_store.h"

#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/breaker.h"
#include "engine/renew.h"
#include "segment/toc.h"

enum { LIMIT = 3, PROBE_MS = 50 };

static char last_log[512];
static int opened_logs, closed_logs;

static void listen(void *arg, int level, const char *text)
{
    (void)arg;
    (void)level;
    opened_logs += strncmp(text, "breaker open", 12) == 0;
    closed_logs += strncmp(text, "breaker closed", 14) == 0;
    (void)snprintf(last_log, sizeof last_log, "%s", text);
}

static void with_breaker(struct fixture *f)
{
    f->s.o.breaker = 1;
    f->s.o.breaker_failures = LIMIT;
    f->s.o.breaker_probe_ms = PROBE_MS;
    f->s.o.log = listen;
    opened_logs = closed_logs = 0;
    reopen(f);
}

static bool says(struct fixture *f, const char *line)
{
    char text[4096];

    assert_true(cistern_describe(f->c, text, sizeof text) < (int)sizeof text);
    return strstr(text, line) != NULL;
}

static uint32_t matched(struct fixture *f)
{
    struct cistern_match m = {0};

    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    return m.blocks;
}

static int all_reads(struct fixture *f)
{
    return atomic_load(&f->slow->reads);
}

/* ---- The state alone ---- */

static bool failed(struct breaker *b, int error, uint64_t place)
{
    return breaker_failed(b, BREAKER_READ, breaker_epoch(b, BREAKER_READ), error, place, 1000);
}

static void opens_after_failures_in_a_row(void **state)
{
    struct breaker b;
    uint32_t i;

    (void)state;
    breaker_init(&b, LIMIT, PROBE_MS);
    for (i = 0; i < 10; i++) {
        assert_false(failed(&b, -ETIMEDOUT, 7));
        assert_false(failed(&b, -EIO, i));
        breaker_answered(&b, BREAKER_READ);
    }
    assert_false(failed(&b, -ETIMEDOUT, 7));
    assert_false(failed(&b, -ETIMEDOUT, 7));
    assert_true(failed(&b, -ETIMEDOUT, 7));
    assert_true(breaker_is_open(&b, BREAKER_READ));
    assert_false(breaker_is_open(&b, BREAKER_WRITE));
    assert_false(failed(&b, -ETIMEDOUT, 7));
}

static void some_errors_do_not_count(void **state)
{
    static const int fine[] = {-ENOSPC, -EDQUOT,  -EROFS,  -ENOMEM, -EAGAIN, -EINTR,
                               -EMFILE, -EBADMSG, -ENOENT, -ESTALE, 0};
    struct breaker b;
    uint32_t i;

    (void)state;
    breaker_init(&b, 1, PROBE_MS);
    for (i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_false(failed(&b, fine[i], i));
    assert_false(breaker_is_open(&b, BREAKER_READ));
    assert_true(failed(&b, -EIO, 0));
}

static void one_bad_spot_counts_once(void **state)
{
    struct breaker b;
    uint32_t i;

    (void)state;
    breaker_init(&b, LIMIT, PROBE_MS);
    for (i = 0; i < 10; i++)
        assert_false(failed(&b, -EIO, 7));
    assert_false(failed(&b, -EIO, 8));
    assert_true(failed(&b, -EIO, 9));
}

static void old_news_do_not_count(void **state)
{
    struct breaker b;
    uint32_t i, epoch;

    (void)state;
    breaker_init(&b, LIMIT, PROBE_MS);
    epoch = breaker_epoch(&b, BREAKER_READ);
    for (i = 0; i < LIMIT; i++)
        (void)failed(&b, -ETIMEDOUT, i);
    assert_true(breaker_close(&b, BREAKER_READ));
    assert_false(breaker_close(&b, BREAKER_READ));
    for (i = 0; i < 10; i++)
        assert_false(breaker_failed(&b, BREAKER_READ, epoch, -ETIMEDOUT, i, 1));
    assert_true(failed(&b, -ETIMEDOUT, 0)); /* on trial one is enough */
    assert_true(breaker_close(&b, BREAKER_READ));
    breaker_answered(&b, BREAKER_READ);
    assert_false(failed(&b, -ETIMEDOUT, 0));
}

/* One failure after the other, whatever the limit is: below twice the timeout. */
static void waits_add_up_to_less_than_twice_the_timeout(void **state)
{
    const uint64_t full = 1000 * 1000000ull;
    uint32_t limit;

    (void)state;
    for (limit = 1; limit <= 16; limit++) {
        struct breaker b;
        uint64_t total = 0;
        bool opened = false;

        breaker_init(&b, limit, PROBE_MS);
        while (!opened) {
            total += breaker_timeout_ns(&b, BREAKER_READ, full);
            opened = failed(&b, -ETIMEDOUT, 0);
        }
        assert_true(total < 2 * full + 16 * 1000000ull);
        if (limit > 1)
            assert_true(total > full);
        assert_true(breaker_close(&b, BREAKER_READ));
        assert_true(breaker_timeout_ns(&b, BREAKER_READ, full) <= full / 2);
    }
}

static void switched_off_it_never_opens(void **state)
{
    struct breaker b;
    uint32_t i;

    (void)state;
    breaker_init(&b, 0, PROBE_MS);
    for (i = 0; i < 100; i++)
        assert_false(failed(&b, -ETIMEDOUT, i));
    assert_int_equal(breaker_timeout_ns(&b, BREAKER_READ, 500), 500);
    assert_true(breaker_next_ns(&b) == UINT64_MAX);
}

static void probes_are_due_at_their_interval(void **state)
{
    const uint64_t step = PROBE_MS * 1000000ull;
    struct breaker b;

    (void)state;
    breaker_init(&b, 1, PROBE_MS);
    assert_false(breaker_probe_due(&b, UINT64_MAX / 2));
    assert_true(failed(&b, -ETIMEDOUT, 0));
    assert_false(breaker_probe_due(&b, 1000 + step - 1));
    assert_true(breaker_probe_due(&b, 1000 + step));
    assert_false(breaker_probe_due(&b, 1000 + step));
    assert_true(breaker_next_ns(&b) == 1000 + 2 * step);
    breaker_hint(&b, BREAKER_READ, 1000 + step + 1);
    assert_true(breaker_probe_due(&b, 1000 + step + 1));
}

/* ---- Through the API ---- */

/* Gets until it is open; how many it took. */
static int open_by_gets(struct fixture *f)
{
    int gets = 0;

    while (!metric(f, "breaker_open") && gets < 100) {
        get(f, 0, 1, 0);
        gets++;
    }
    assert_int_equal(metric(f, "breaker_open"), 1);
    return gets;
}

/* No request waits for storage, and none is sent but probes. */
static void nobody_waits(struct fixture *f)
{
    uint64_t gets = metric(f, "breaker_gets"), puts = metric(f, "breaker_puts");
    uint64_t matches = metric(f, "breaker_matches"), dropped = metric(f, "put_dropped_blocks");
    uint64_t probes = metric(f, "breaker_probes");
    int reads = all_reads(f), i;

    for (i = 0; i < 10; i++) {
        assert_int_equal(matched(f), 0);
        get(f, 0, N, 0);
        assert_int_equal(f->ev.status, 0);
        assert_int_equal(f->ev.misses, N);
        all_are(f, 0, N, CISTERN_MISS);
        put_is(f, N, N, CISTERN_DROPPED);
        assert_int_equal(f->ev.status, 0);
    }
    assert_int_equal(metric(f, "breaker_open"), 1);
    assert_int_equal(metric(f, "breaker_gets"), gets + 10);
    assert_int_equal(metric(f, "breaker_puts"), puts + 10);
    assert_int_equal(metric(f, "breaker_matches"), matches + 10);
    assert_int_equal(metric(f, "put_dropped_blocks"), dropped + 10 * N);
    reads = all_reads(f) - reads; /* before the probes: a probe is counted before it is sent */
    assert_true(reads <= (int)(metric(f, "breaker_probes") - probes));
}

static void comes_back(struct fixture *f)
{
    all_pass(f->slow);
    WAIT_FOR(metric(f, "breaker_open") == 0);
    assert_int_equal(matched(f), N);
    get_hits(f, 0, N);
    WAIT_FOR(metric(f, "read_slots_free") == metric(f, "read_slots"));
    assert_true(says(f, "breaker=closed\n"));
}

static void reads_that_hang_open_it(void **state)
{
    struct fixture *f = *state;
    uint64_t start, lost;

    with_breaker(f);
    assert_true(says(f, "breaker=closed\n"));
    hang(&f->slow->read[SLOW_DATA]);
    start = now_ms();
    assert_int_equal(open_by_gets(f), LIMIT);
    lost = now_ms() - start;
    assert_true(lost < SOON_MS);
    assert_int_equal(metric(f, "io_timeouts"), LIMIT);
    assert_true(says(f, "breaker=open\n"));
    nobody_waits(f);
    assert_int_equal(cistern_refresh(f->c, LONG_MS), -EIO);
    WAIT_FOR(metric(f, "breaker_probes") >= 2); /* it is tried again, but not for ever: */
    usleep(4 * PROBE_MS * 1000);
    assert_true(atomic_load(&f->slow->held) - f->held <= LIMIT + 2 + (int)SCRATCHES);
    assert_int_equal(opened_logs, 1);
    assert_int_equal(closed_logs, 0);
    comes_back(f);
    assert_int_equal(opened_logs, 1);
    assert_int_equal(closed_logs, 1);
    assert_int_equal(metric(f, "breaker_opened"), 1);
    put_is(f, N, N, CISTERN_STORED);
    get_hits(f, 0, 2 * N);
}

/* A get of many I/Os that all hang: what is left of it ends when the breaker opens. */
static void one_large_get_opens_it(void **state)
{
    struct fixture *f = *state;

    f->s.o.io_blocks = 1;
    with_breaker(f);
    hang(&f->slow->read[SLOW_DATA]);
    get(f, 0, N, LONG_MS);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.hits, 0);
    assert_int_equal(metric(f, "breaker_open"), 1);
    nobody_waits(f);
    comes_back(f);
}

/* Callers that are less patient than the I/O: what they left behind counts all the same. */
static void impatient_gets_open_it(void **state)
{
    struct fixture *f = *state;
    uint64_t start = now_ms();

    with_breaker(f);
    hang(&f->slow->read[SLOW_DATA]);
    while (!metric(f, "breaker_open") && now_ms() - start < SOON_MS)
        get(f, 0, 1, 20);
    assert_int_equal(metric(f, "breaker_open"), 1);
    nobody_waits(f);
    comes_back(f);
}

static void reads_that_fail_open_it(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.io_blocks = 1;
    with_breaker(f);
    rule(&f->slow->read[SLOW_DATA], SLOW_FAIL, EIO, 0, 0);
    for (i = 0; i < LIMIT; i++) {
        get(f, i, 1, 0);
        all_are(f, i, 1, CISTERN_ERROR);
    }
    assert_int_equal(metric(f, "breaker_open"), 1);
    nobody_waits(f);
    WAIT_FOR(metric(f, "breaker_probes") >= 2);
    assert_int_equal(metric(f, "breaker_open"), 1); /* probes fail as well */
    comes_back(f);
}

static void a_failure_now_and_then_does_not(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.io_blocks = 1;
    with_breaker(f);
    for (i = 0; i < 4 * LIMIT; i++) {
        rule(&f->slow->read[SLOW_DATA], SLOW_FAIL, EIO, 0, 1);
        get(f, i % N, 1, 0);
        all_are(f, i % N, 1, CISTERN_ERROR);
        get_hits(f, (i + 1) % N, 1);
    }
    assert_int_equal(metric(f, "breaker_opened"), 0);
}

/* Storage that answers the probe and hangs again: the next failure opens it. */
static void on_trial_one_failure_is_enough(void **state)
{
    struct fixture *f = *state;

    with_breaker(f);
    hang(&f->slow->read[SLOW_DATA]);
    (void)open_by_gets(f);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "breaker_open") == 0);
    hang(&f->slow->read[SLOW_DATA]);
    assert_int_equal(open_by_gets(f), 1);
    assert_int_equal(metric(f, "breaker_opened"), 2);
    comes_back(f);
}

static void writes_that_hang_stop_puts_only(void **state)
{
    struct fixture *f = *state;
    uint64_t start;

    f->s.o.io_blocks = 1;
    with_breaker(f);
    hang(&f->slow->write[SLOW_DATA]);
    start = now_ms();
    while (!metric(f, "breaker_puts_open") && now_ms() - start < SOON_MS)
        put(f, N, 1);
    assert_int_equal(metric(f, "breaker_puts_open"), 1);
    assert_int_equal(metric(f, "breaker_open"), 0);
    assert_int_equal(matched(f), N);
    get_hits(f, 0, N);
    all_pass(f->slow);
    do {
        put(f, N, N);
    } while (f->results[2 * N - 1] != CISTERN_STORED && now_ms() - start < 2 * SOON_MS);
    WAIT_FOR(metric(f, "write_slots_quarantined") == 0);
    get_is_right(f, 0, 2 * N);
    assert_int_equal(metric(f, "breaker_puts_open"), 0);
}

/* Contents that cannot be written cost a segment each: only a few, however many puts come. */
static void failing_contents_do_not_use_up_segments(void **state)
{
    struct fixture *f = *state;
    uint64_t start = now_ms(), made;
    uint32_t i;

    f->s.o.breaker_probe_ms = LONG_MS;
    with_breaker(f);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.breaker_probe_ms = LONG_MS;
    open_ok(f);
    rule(&f->slow->write[SLOW_TOC], SLOW_FAIL, EIO, 0, 0);
    for (i = 0; i < 200 || (!metric(f, "breaker_puts_open") && now_ms() - start < SOON_MS); i++)
        put(f, N, N);
    assert_int_equal(metric(f, "breaker_puts_open"), 1);
    made = metric(f, "segments_created");
    assert_true(made <= LIMIT + 1);
    assert_int_equal(metric(f, "segments_abandoned"), LIMIT);
    assert_true(metric(f, "breaker_puts") > 0);
    all_are(f, N, N, CISTERN_DROPPED);
    get_hits(f, 0, N);
}

/* While all that is in flight is late, the lane looks for it now and then, not all the time. */
/* Looks at rings in a while that has nothing else in it; of each `ms` at most one is fine. */
static void few_waits(struct fixture *f, int ms)
{
    uint64_t start = now_ms();
    int waits = atomic_load(&f->slow->waits), elapsed;

    (void)usleep(400 * 1000);
    waits = atomic_load(&f->slow->waits) - waits;
    elapsed = (int)(now_ms() - start);
    assert_true(waits <= elapsed / ms + 2);
}

static void a_lane_does_not_spin_on_what_hangs(void **state)
{
    struct fixture *f = *state;

    f->s.o.breaker_probe_ms = 0;
    hang(&f->slow->read[SLOW_DATA]);
    get(f, 0, N, 0);
    all_are(f, 0, N, CISTERN_ERROR);
    (void)usleep(100 * 1000);
    few_waits(f, 10);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "read_slots_quarantined") == 0);
    get_hits(f, 0, N);
}

/* A head that is not answered makes its writer begin anew; the write lane looks for the answer now
 * and then, as for everything that is late. */
static void a_lost_head_is_not_polled_for(void **state)
{
    struct fixture *f = *state;

    f->s.o.silence_ms = 1000; /* of the root, which is made here */
    open_ok(f);
    put_is(f, 0, 2 * N, CISTERN_STORED);
    rule(&f->slow->write[SLOW_HEAD], SLOW_HANG, 0, 0, 1);
    WAIT_FOR(metric(f, "writer_fences") >= 1);
    WAIT_FOR(atomic_load(&f->slow->write[SLOW_HEAD].hits) == 1);
    put_is(f, 0, N, CISTERN_PRESENT);
    (void)usleep(100 * 1000);
    few_waits(f, 10);
    assert_int_equal(metric(f, "write_slots_quarantined"), 1);
    all_pass(f->slow);
    WAIT_FOR(metric(f, "write_slots_quarantined") == 0);
    get_hits(f, 0, 2 * N);
}

/* A block that one rank cannot load is of no use to the others: they read it in its head. */
static void the_other_ranks_hear_of_it(void **state)
{
    struct fixture *f = *state;
    struct cistern_options other;
    cistern *one, *two;

    f->s.space.shards = 2;
    f->s.o.breaker = 1;
    f->s.o.breaker_failures = LIMIT;
    f->s.o.breaker_probe_ms = PROBE_MS;
    open_ok(f);
    one = f->c;
    other = f->s.o;
    other.shard = 1;
    assert_int_equal(cistern_open(&other, &two), 0);
    put_is(f, 0, N, CISTERN_STORED);
    f->c = two;
    put_is(f, 0, N, CISTERN_STORED);
    f->c = one;
    WAIT_FOR(matched(f) == N);
    hang(&f->slow->read[SLOW_DATA]);
    f->c = two;
    (void)open_by_gets(f);
    f->c = one;
    WAIT_FOR(matched(f) == 0);
    assert_int_equal(metric(f, "breaker_open"), 0);
    assert_int_equal(metric(f, "breaker_ranks"), 1);
    assert_true(says(f, "breaker=open on another rank\n"));
    put_is(f, N, N, CISTERN_STORED); /* a put is of use later */
    all_pass(f->slow);
    WAIT_FOR(matched(f) == N);
    assert_int_equal(metric(f, "breaker_ranks"), 0);
    get_hits(f, 0, N);
    /* A rank that closed says nothing any more. */
    hang(&f->slow->read[SLOW_DATA]);
    f->c = two;
    (void)open_by_gets(f);
    f->c = one;
    WAIT_FOR(matched(f) == 0);
    all_pass(f->slow);
    assert_int_equal(cistern_close(two), 0);
    WAIT_FOR(matched(f) == N);
}

/* ---- A rank in a process of its own ---- */

static char self[PATH_MAX];

static void as_rank(struct cistern_options *o, struct cistern_space *space)
{
    space->shards = 2;
    o->breaker = 1;
    o->breaker_failures = LIMIT;
    o->breaker_probe_ms = PROBE_MS;
    o->poll_ms = PROBE_MS;
}

/* Rank 1: its breaker opens; then it lives on until it is killed. */
static int rank_main(const char *dir, int tell)
{
    struct fixture *f;
    void *state = NULL;

    if (setup(&state))
        return 1;
    f = state;
    store_rmdir(&f->s);
    f->s.o.mount = dir;
    f->s.o.shard = 1;
    as_rank(&f->s.o, &f->s.space);
    open_ok(f);
    put_is(f, 0, N, CISTERN_STORED);
    hang(&f->slow->read[SLOW_DATA]);
    (void)open_by_gets(f);
    if (write(tell, "o", 1) != 1)
        return 1;
    for (;;)
        (void)pause();
}

static pid_t spawn_rank(const struct fixture *f)
{
    char number[16], word;
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    (void)snprintf(number, sizeof number, "%d", ends[1]);
    pid = fork();
    if (pid == 0) {
        (void)execl(self, self, "--rank", f->s.dir, number, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &word, 1), 1);
    (void)close(ends[0]);
    return pid;
}

/* The counter in the only head of a shard; FORMAT.md. */
static uint64_t head_counter(const struct fixture *f, const char *shard)
{
    char pattern[PATH_MAX];
    uint8_t page[FORMAT_PAGE];
    struct head_record h = {0};
    glob_t found;
    FILE *file;

    (void)snprintf(pattern, sizeof pattern, "%s/rtp_llm/*/%s/*.head", f->s.dir, shard);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    file = fopen(found.gl_pathv[0], "r");
    assert_non_null(file);
    if (fread(page, sizeof page, 1, file) != 1 || head_decode(page, &h))
        h.counter = 0; /* it is being written */
    (void)fclose(file);
    globfree(&found);
    return h.counter;
}

/* As long as it lives its head moves; when it is killed the others go on without it soon, and not
 * only after silence_ms, a minute. */
static void a_dead_rank_is_not_believed_for_long(void **state)
{
    struct fixture *f = *state;
    uint64_t since;
    pid_t rank;

    as_rank(&f->s.o, &f->s.space);
    open_ok(f);
    put_is(f, 0, N, CISTERN_STORED);
    rank = spawn_rank(f);
    WAIT_FOR(metric(f, "breaker_ranks") == 1);
    since = head_counter(f, "s1of2");
    WAIT_FOR(head_counter(f, "s1of2") > since + 3);
    WAIT_FOR(matched(f) == 0);
    assert_int_equal(kill(rank, SIGKILL), 0);
    assert_int_equal(waitpid(rank, NULL, 0), rank);
    WAIT_FOR(matched(f) == N);
    assert_int_equal(metric(f, "breaker_ranks"), 0);
}

static void close_is_bounded_while_it_is_open(void **state)
{
    struct fixture *f = *state;

    with_breaker(f);
    hang(&f->slow->read[SLOW_DATA]);
    (void)open_by_gets(f);
    WAIT_FOR(metric(f, "breaker_probes") >= 1);
    close_left(f);
    all_pass(f->slow);
    open_ok(f);
    get_hits(f, 0, N);
}

#define TEST(name, set) cmocka_unit_test_setup_teardown(name, set, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_after_failures_in_a_row),
        cmocka_unit_test(some_errors_do_not_count),
        cmocka_unit_test(one_bad_spot_counts_once),
        cmocka_unit_test(old_news_do_not_count),
        cmocka_unit_test(waits_add_up_to_less_than_twice_the_timeout),
        cmocka_unit_test(switched_off_it_never_opens),
        cmocka_unit_test(probes_are_due_at_their_interval),
        TEST(reads_that_hang_open_it, setup_filled),
        TEST(one_large_get_opens_it, setup_filled),
        TEST(impatient_gets_open_it, setup_filled),
        TEST(reads_that_fail_open_it, setup_filled),
        TEST(a_failure_now_and_then_does_not, setup_filled),
        TEST(on_trial_one_failure_is_enough, setup_filled),
        TEST(writes_that_hang_stop_puts_only, setup_filled),
        TEST(failing_contents_do_not_use_up_segments, setup_filled),
        TEST(a_lane_does_not_spin_on_what_hangs, setup_filled),
        TEST(the_other_ranks_hear_of_it, setup),
        TEST(a_dead_rank_is_not_believed_for_long, setup),
        TEST(a_lost_head_is_not_polled_for, setup),
        TEST(close_is_bounded_while_it_is_open, setup_filled),
    };

    if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0)
        return 1;
    if (argc == 4 && strcmp(argv[1], "--rank") == 0)
        return rank_main(argv[2], atoi(argv[3]));
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
