/*
 * test_client_rules.c - the store as a client of 3FS: on a stand-in for the real library that
 * notices what a client must not do, and that answers badly, late, or never.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>

#include "../fakes/fakes.h"
#include "../harness/store.h"
#include "base/clock.h"
#include "hf3fs_usrbio.h"

enum { N = 24 };

static struct fake_state *fake;
static struct store s;
static cistern *c;
static cistern *volatile left_behind; /* for leak checkers */
static cistern_key keys[N];
static uint8_t src[N][STORE_BLOCK], dst[N][STORE_BLOCK], results[N];
static struct cistern_vec in[N], out[N];
static struct cistern_span sources[N], destinations[N];
static struct cistern_event ev;

static void make_links_dir(void)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/3fs-virt", s.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/3fs-virt/iovs", s.dir);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void open_store(void)
{
    int rc = cistern_open(&s.o, &c);

    if (rc)
        print_message("open: %s: %s\n", cistern_error_name(rc), cistern_error_text());
    assert_int_equal(rc, 0);
}

static int setup(void **state)
{
    void *h = dlopen(fake_path("real"), RTLD_NOW | RTLD_LOCAL);
    uint32_t i;

    (void)state;
    assert_non_null(h);
    fake = dlsym(h, "fake_state");
    memset(fake, 0, sizeof *fake);
    fake->is_hf3fs = true;
    store_init(&s);
    make_links_dir();
    s.o.provider = "hf3fs";
    s.o.provider_path = strdup(fake_path("real"));
    s.o.read_timeout_ms = 200;
    s.o.write_timeout_ms = 200;
    s.o.close_timeout_ms = 500;
    s.o.lanes = 2;
    for (i = 0; i < N; i++) {
        store_key(&keys[i], i);
        store_fill(src[i], STORE_BLOCK, i);
        in[i] = (struct cistern_vec){src[i], STORE_BLOCK};
        out[i] = (struct cistern_vec){dst[i], STORE_BLOCK};
        sources[i] = (struct cistern_span){&in[i], 1};
        destinations[i] = (struct cistern_span){&out[i], 1};
    }
    open_store();
    return 0;
}

/* What no client may do, whatever storage does. */
static void no_rule_was_broken(void)
{
    assert_int_equal(fake->unasked, 0);
    assert_int_equal(fake->closed_too_early, 0);
    assert_int_equal(fake->waits_without_deadline, 0);
    assert_int_equal(fake->rings_shared, 0);
    assert_int_equal(fake->buffers_shared, 0);
    assert_int_equal(fake->crossings, 0);
    assert_int_equal(fake->memory_freed_busy, 0);
    assert_int_equal(fake->rings_freed_busy, 0);
}

static void everything_was_given_back(void)
{
    no_rule_was_broken();
    assert_int_equal(fake->files_freed_busy, 0);
    assert_int_equal(fake->rings, 0);
    assert_int_equal(fake->iovs, 0);
    assert_int_equal(fake->files, 0);
}

static int teardown(void **state)
{
    (void)state;
    if (c) {
        assert_int_equal(cistern_close(c), 0);
        everything_was_given_back();
    }
    c = NULL;
    free((void *)(uintptr_t)s.o.provider_path);
    store_rmdir(&s);
    return 0;
}

static struct cistern_request request(const struct cistern_span *spans, uint32_t timeout_ms)
{
    memset(results, 0, sizeof results);
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = keys,
                                    .spans = spans,
                                    .results = results,
                                    .timeout_ms = timeout_ms,
                                    .blocks = N};
}

static void put_all(void)
{
    struct cistern_request r = request(sources, 0);
    int i;

    assert_int_equal(cistern_put_sync(c, &r, &ev), 0);
    for (i = 0; i < N; i++)
        assert_int_equal(results[i], CISTERN_STORED);
}

static void get_all(uint32_t timeout_ms)
{
    struct cistern_request r = request(destinations, timeout_ms);

    memset(dst, 0xaa, sizeof dst);
    assert_int_equal(cistern_get_sync(c, &r, &ev), 0);
}

static void all_hit(void)
{
    int i;

    for (i = 0; i < N; i++)
        assert_int_equal(results[i], CISTERN_HIT);
    assert_memory_equal(dst, src, sizeof src);
}

static void none_hit(void)
{
    int i;

    for (i = 0; i < N; i++)
        assert_int_not_equal(results[i], CISTERN_HIT);
    assert_int_equal(ev.hits, 0);
    assert_int_equal(ev.run, 0);
}

static void rules_hold_on_the_good_path(void **state)
{
    (void)state;
    put_all();
    get_all(0);
    all_hit();
    assert_int_equal(cistern_flush(c, 5000), 0);
    assert_int_equal(cistern_close(c), 0);
    c = NULL;
    everything_was_given_back();
    assert_int_equal(fake->makers, 1);
    assert_int_equal(fake->ring_depth, 0);
    assert_int_equal(fake->ring_timeout, 0);
    /* names in /dev/shm are gone as soon as the memory is there */
    assert_true(fake->iovs_made >= 2);
    assert_int_equal(fake->unlinked, fake->iovs_made);
    open_store();
    get_all(0);
    all_hit();
}

static void full_ring_is_tried_again(void **state)
{
    (void)state;
    fake->again_every = 2;
    put_all();
    get_all(0);
    all_hit();
}

static void any_order_will_do(void **state)
{
    (void)state;
    fake->backwards = true;
    put_all();
    get_all(0);
    all_hit();
}

/* The end of an I/O that joined several blocks is missing: the others may still be good. */
static void short_read_is_no_hit(void **state)
{
    int i;

    (void)state;
    put_all();
    fake->short_by = 1;
    get_all(0);
    fake->short_by = 0;
    assert_true(ev.hits < N);
    for (i = 0; i < N; i++)
        assert_true(results[i] != CISTERN_HIT || memcmp(dst[i], src[i], STORE_BLOCK) == 0);
}

static void failed_read_is_no_hit(void **state)
{
    int i;

    (void)state;
    put_all();
    fake->read_rc = -EIO;
    get_all(0);
    none_hit();
    for (i = 0; i < N; i++)
        assert_int_equal(results[i], CISTERN_ERROR);
    fake->read_rc = 0;
    get_all(0);
    all_hit();
}

static void failed_write_is_not_stored(void **state)
{
    struct cistern_request r = request(sources, 0);
    int i;

    (void)state;
    fake->write_rc = -EIO;
    assert_int_equal(cistern_put_sync(c, &r, &ev), 0);
    for (i = 0; i < N; i++)
        assert_int_not_equal(results[i], CISTERN_STORED);
    fake->write_rc = 0;
    get_all(0);
    none_hit();
}

static void refused_prep_is_no_hit(void **state)
{
    (void)state;
    put_all();
    fake->prep_rc = -EBADF;
    get_all(0);
    none_hit();
    fake->prep_rc = 0;
}

/* Storage stops answering: the caller gets its answer in time, the buffers are used by nobody else,
 * and when storage comes back, so does everything. */
static void lost_reads_are_waited_out(void **state)
{
    uint64_t start;
    int i;

    (void)state;
    put_all();
    fake->lose = 1;
    for (i = 0; i < 3; i++) {
        start = clock_ns();
        get_all(300);
        assert_true(clock_ns() - start < 2 * NS_PER_S);
        none_hit();
    }
    no_rule_was_broken();
    fake->lose = 0;
    for (i = 0; i < 50; i++) {
        (void)usleep(20000);
        get_all(1000);
        if (ev.hits == N)
            break;
    }
    all_hit();
}

static void lost_writes_are_waited_out(void **state)
{
    struct cistern_request r = request(sources, 300);
    uint64_t start = clock_ns();
    int i;

    (void)state;
    fake->lose = 1;
    assert_int_equal(cistern_put_sync(c, &r, &ev), 0);
    assert_true(clock_ns() - start < 2 * NS_PER_S);
    for (i = 0; i < N; i++)
        assert_int_not_equal(results[i], CISTERN_STORED);
    no_rule_was_broken();
    fake->lose = 0;
    (void)usleep(300000);
}

/* The last case: what storage owns stays with the process. */
static void close_does_not_wait_for_ever(void **state)
{
    uint64_t start;

    (void)state;
    put_all();
    fake->lose = 1;
    get_all(300);
    none_hit();
    left_behind = c;
    start = clock_ns();
    assert_int_not_equal(cistern_close(c), 0);
    c = NULL;
    assert_true(clock_ns() - start < 10 * NS_PER_S);
    no_rule_was_broken();
    assert_true(fake->iovs >= 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rules_hold_on_the_good_path), CASE(full_ring_is_tried_again),
        CASE(any_order_will_do),           CASE(short_read_is_no_hit),
        CASE(failed_read_is_no_hit),       CASE(failed_write_is_not_stored),
        CASE(refused_prep_is_no_hit),      CASE(lost_reads_are_waited_out),
        CASE(lost_writes_are_waited_out),  CASE(close_does_not_wait_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
