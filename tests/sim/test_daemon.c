/*
 * test_daemon.c - the daemon of the simulated storage dies under a store and comes back, which then
 * knows neither rings nor memory nor files of before (simfs.h). The store must come back by itself.
 *
 * The second half is a fail-at-N loop over that: its first, second, third ... call of a kind fails
 * once, until it runs untouched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness/metric.h"
#include "base/clock.h"
#include "cistern.h"
#include "simfs.h"

#define BYTES    12000u
#define BLOCKS   8u
#define ROUNDS   100u
#define LIMIT_NS (60 * NS_PER_S)

struct fixture {
    struct simfs *fs;
    struct cistern_part part;
    struct cistern_space space;
    struct cistern_options o;
    cistern *c;
    char mount[64];
    cistern_key keys[2 * BLOCKS];
    uint8_t *bytes, results[2 * BLOCKS];
    struct cistern_vec vecs[2 * BLOCKS];
    struct cistern_span spans[2 * BLOCKS];
};

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t end_ = clock_ns() + LIMIT_NS;                                                     \
        bool came_;                                                                                \
        while (!(came_ = (condition)) && clock_ns() < end_)                                        \
            (void)usleep(2000);                                                                    \
        if (!came_)                                                                                \
            fail_msg("never came true: %s", #condition);                                           \
    } while (0)

static void fill(struct fixture *f)
{
    uint32_t i;

    for (i = 0; i < 2 * BLOCKS; i++)
        memset(f->bytes + i * BYTES, (int)i + 1, BYTES);
}

static bool filled(const struct fixture *f, uint32_t i)
{
    uint32_t b;

    for (b = 0; b < BYTES; b++) {
        if (f->bytes[i * BYTES + b] != i + 1)
            return false;
    }
    return true;
}

/* How many blocks of [from, from + BLOCKS) have that result; a hit has the right bytes. */
static uint32_t transfer(struct fixture *f, bool put, uint32_t from, uint8_t wanted)
{
    struct cistern_request r = {.size = sizeof r,
                                .keys = f->keys + from,
                                .spans = f->spans + from,
                                .results = f->results + from,
                                .blocks = BLOCKS};
    struct cistern_event ev;
    uint32_t i, n = 0;

    if (put)
        fill(f);
    else
        memset(f->bytes, 0, 2 * BLOCKS * BYTES);
    assert_int_equal(put ? cistern_put_sync(f->c, &r, &ev) : cistern_get_sync(f->c, &r, &ev), 0);
    for (i = from; i < from + BLOCKS; i++) {
        n += f->results[i] == wanted;
        if (!put && f->results[i] == CISTERN_HIT)
            assert_true(filled(f, i));
    }
    return n;
}

static void say(void *arg, int level, const char *text)
{
    (void)arg;
    if (level <= CISTERN_LOG_ERROR)
        print_message("log: %s\n", text);
}

static void setup(struct fixture *f, const struct sim_manners *manners)
{
    uint32_t i;

    memset(f, 0, sizeof *f);
    f->fs = simfs_new(&(struct sim_options){
        .seed = 1, .manners = *manners, .factor = 1000, .chunk_bytes = 65536});
    f->part = (struct cistern_part){.name = "kv", .bytes = BYTES};
    f->space = (struct cistern_space){.size = sizeof f->space,
                                      .model = "test",
                                      .dtype = "bf16",
                                      .block_tokens = 16,
                                      .nparts = 1,
                                      .parts = &f->part};
    f->o = (struct cistern_options){.size = sizeof f->o,
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .log = say,
                                    .mount = simfs_mount(f->mount, 1, "store"),
                                    .root = "r",
                                    .space = &f->space,
                                    .read_iov_bytes = 1 << 20,
                                    .write_iov_bytes = 1 << 20,
                                    .segment_bytes = 4 << 20,
                                    .max_blocks = 4096,
                                    .io_blocks = 4,
                                    .io_bytes = 64 << 10,
                                    .depth = 4,
                                    .lanes = 2,
                                    .read_timeout_ms = 200,
                                    .write_timeout_ms = 200,
                                    .get_timeout_ms = 5000,
                                    .put_timeout_ms = 5000,
                                    .close_timeout_ms = 500,
                                    .breaker_failures = 2,
                                    .breaker_probe_ms = 50};
    f->bytes = malloc(2 * BLOCKS * BYTES);
    for (i = 0; i < 2 * BLOCKS; i++) {
        memset(&f->keys[i], (int)i + 1, sizeof f->keys[i]);
        f->vecs[i] = (struct cistern_vec){f->bytes + i * BYTES, BYTES};
        f->spans[i] = (struct cistern_span){&f->vecs[i], 1};
    }
    if (cistern_open(&f->o, &f->c))
        fail_msg("open: %s", cistern_error_text());
    assert_int_equal(transfer(f, true, 0, CISTERN_STORED), BLOCKS);
}

static cistern *volatile left[2 * ROUNDS]; /* where leak checkers see what storage owns */
static uint32_t nleft;

static void teardown(struct fixture *f)
{
    cistern *c = f->c;

    simfs_calm(f->fs);
    if (cistern_close(c) && nleft < 2 * ROUNDS)
        left[nleft++] = c;
    assert_string_equal(simfs_violation(f->fs), "");
    simfs_kill(f->fs, "store");
    simfs_free(f->fs);
    free(f->bytes);
}

static void lose(struct fixture *f)
{
    simfs_daemon_dies(f->fs, 1);
    WAIT_FOR(transfer(f, false, 0, CISTERN_HIT) == 0 && metric_of(f->c, "breaker_open"));
}

static void comes_back(struct fixture *f)
{
    WAIT_FOR(transfer(f, false, 0, CISTERN_HIT) == BLOCKS);
    WAIT_FOR(transfer(f, true, BLOCKS, CISTERN_DROPPED) == 0);
    WAIT_FOR(transfer(f, false, BLOCKS, CISTERN_HIT) == BLOCKS ||
             transfer(f, true, BLOCKS, CISTERN_STORED) == BLOCKS);
    simfs_calm(f->fs);
    assert_int_equal(transfer(f, false, 0, CISTERN_HIT), BLOCKS);
    assert_int_equal(metric_of(f->c, "renewals"), 1);
}

static void back_by_itself(const struct sim_manners *manners)
{
    struct fixture f;

    setup(&f, manners);
    lose(&f);
    simfs_daemon_returns(f.fs, 1);
    comes_back(&f);
    teardown(&f);
}

static void back_on_3fs(void **state)
{
    (void)state;
    back_by_itself(&sim_manners_3fs);
}

static void back_on_a_local_file_system(void **state)
{
    (void)state;
    back_by_itself(&sim_manners_local);
}

/* It can be seen that the old rings are dead only because nothing comes back from them. */
static void back_after_a_restart_in_between(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, &sim_manners_3fs);
    simfs_daemon_dies(f.fs, 1);
    simfs_daemon_returns(f.fs, 1);
    WAIT_FOR(transfer(&f, false, 0, CISTERN_HIT) == 0 && metric_of(f.c, "breaker_open"));
    comes_back(&f);
    teardown(&f);
}

/* Fails the n-th call of that kind after the daemon is back; false: nothing was hit. */
static bool one_round(enum sim_fault kind, uint64_t n)
{
    struct fixture f;
    bool fired;

    setup(&f, &sim_manners_local);
    lose(&f);
    simfs_arm(f.fs, kind, n, false);
    simfs_daemon_returns(f.fs, 1);
    comes_back(&f);
    fired = simfs_fired(f.fs) != 0;
    print_message("%s %llu\n", sim_fault_names[kind], (unsigned long long)n);
    teardown(&f);
    return fired;
}

static void each_call_may_fail(void **state)
{
    static const enum sim_fault kinds[] = {SIM_RING_ERROR, SIM_OPEN_ERROR};
    uint64_t n;
    size_t k;

    (void)state;
    for (k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (n = 1; n < ROUNDS && one_round(kinds[k], n); n += 1 + n / 6)
            ;
        print_message("%s: %llu\n", sim_fault_names[kinds[k]], (unsigned long long)n);
        assert_true(n > 3);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(back_on_3fs),
        cmocka_unit_test(back_on_a_local_file_system),
        cmocka_unit_test(back_after_a_restart_in_between),
        cmocka_unit_test(each_call_may_fail),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
