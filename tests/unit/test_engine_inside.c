/*
 * test_engine_inside.c - the store from inside: an index that lies, bytes that rot under an open
 * handle, a trip, tickets that run out.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../harness/store.h"
#include "engine/engine.h"

enum { N = 8 };

struct fixture {
    struct store s;
    cistern *c;
    cistern_key keys[N];
    uint8_t src[N][STORE_BLOCK], dst[N][STORE_BLOCK];
    struct cistern_vec in[N], out[N];
    struct cistern_span put[N], get[N];
    uint8_t results[N];
    struct cistern_event ev;
};

static void put_all(struct fixture *f)
{
    struct cistern_request r = {
        .size = sizeof r, .keys = f->keys, .spans = f->put, .results = f->results, .blocks = N};

    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.hits, N);
}

static void get_all(struct fixture *f)
{
    struct cistern_request r = {
        .size = sizeof r, .keys = f->keys, .spans = f->get, .results = f->results, .blocks = N};

    memset(f->dst, 0xaa, sizeof f->dst);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    uint32_t i;

    store_init(&f->s);
    for (i = 0; i < N; i++) {
        store_key(&f->keys[i], i);
        store_fill(f->src[i], STORE_BLOCK, i);
        f->in[i] = (struct cistern_vec){f->src[i], STORE_BLOCK};
        f->out[i] = (struct cistern_vec){f->dst[i], STORE_BLOCK};
        f->put[i] = (struct cistern_span){&f->in[i], 1};
        f->get[i] = (struct cistern_span){&f->out[i], 1};
    }
    assert_int_equal(cistern_open(&f->s.o, &f->c), 0);
    put_all(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cistern_close(f->c), 0);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

/* Key A is made to point at block B, with B's record in every other respect. */
static void an_index_that_points_elsewhere_is_a_miss(void **state)
{
    struct fixture *f = *state;
    struct index_place a, b;

    assert_true(index_find(f->c->index, &f->keys[2], &a));
    assert_true(index_find(f->c->index, &f->keys[5], &b));
    memcpy(b.info.key, f->keys[2].b, sizeof b.info.key);
    assert_int_equal(index_insert(f->c->index, b.segment, &b.info), 0);
    get_all(f);
    assert_int_equal(f->results[2], CISTERN_MISS);
    assert_int_equal(f->ev.run, 2);
    assert_int_equal(f->ev.hits, N - 1);
    assert_int_equal(metric_get(&f->c->metrics, METRIC_bad_checksum_blocks), 1);
    /* The lie is forgotten; the next good copy is A's own. */
    get_all(f);
    assert_int_equal(f->ev.hits, N);
    assert_memory_equal(f->src, f->dst, sizeof f->src);
}

/* As above, but with another place only: same key, same check, wrong offset. */
static void a_record_moved_to_another_place_is_a_miss(void **state)
{
    struct fixture *f = *state;
    struct index_place a, b;

    assert_true(index_find(f->c->index, &f->keys[2], &a));
    assert_true(index_find(f->c->index, &f->keys[5], &b));
    a.info.offset = b.info.offset;
    assert_int_equal(index_insert(f->c->index, a.segment, &a.info), 0);
    get_all(f);
    assert_int_equal(f->results[2], CISTERN_MISS);
}

static void flip_byte_of(struct fixture *f, uint64_t offset)
{
    char pattern[512];
    glob_t g;
    uint8_t byte;
    int fd;

    (void)snprintf(pattern, sizeof pattern, "%s/rtp_llm/*/s0of1/*-00000000.seg", f->s.dir);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    fd = open(g.gl_pathv[0], O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    assert_int_equal(fsync(fd), 0);
    (void)close(fd);
    globfree(&g);
}

/* One bit rots: a miss, counted, and still a miss after a restart, until the block is put again. */
static void rot_is_remembered(void **state)
{
    struct fixture *f = *state;
    struct index_place p;
    struct cistern_match m;

    get_all(f);
    assert_int_equal(f->ev.hits, N);
    assert_true(index_find(f->c->index, &f->keys[3], &p));
    flip_byte_of(f, (uint64_t)p.info.offset * 4096 + 12345);
    get_all(f);
    assert_int_equal(f->results[3], CISTERN_MISS);
    assert_int_equal(f->ev.hits, N - 1);
    assert_int_equal(metric_get(&f->c->metrics, METRIC_bad_checksum_blocks), 1);
    assert_int_equal(cistern_flush(f->c, 5000), 0);
    flip_byte_of(f, (uint64_t)p.info.offset * 4096 + 12345); /* good again, but nobody knows */
    assert_int_equal(cistern_close(f->c), 0);
    assert_int_equal(cistern_open(&f->s.o, &f->c), 0);
    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(m.blocks, 3);
    assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    put_all(f);
    get_all(f);
    assert_int_equal(f->ev.hits, N);
}

static void a_trip_answers_misses(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = {
        .size = sizeof r, .keys = f->keys, .spans = f->put, .results = f->results, .blocks = N};
    struct cistern_match m;
    char text[4096];

    assert_true(HOLDS(f->c, 1 + 1 == 2));
    assert_false(HOLDS(f->c, N == 7));
    assert_false(HOLDS(f->c, N == 6)); /* the first reason stays */
    get_all(f);
    assert_int_equal(f->ev.status, CISTERN_ETRIPPED);
    assert_int_equal(f->ev.misses, N);
    assert_int_equal(f->results[0], CISTERN_MISS);
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[0], CISTERN_DROPPED);
    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(m.blocks, 0);
    assert_true(cistern_describe(f->c, text, sizeof text) > 0);
    assert_non_null(strstr(text, "N == 7"));
}

static void tickets_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct cistern_match m;
    uint64_t first = 0;
    uint32_t i, none = 0;

    for (i = 0; i < TICKETS + 50; i++) {
        assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
        assert_int_equal(m.blocks, N);
        none += m.ticket == 0;
        if (!first)
            first = m.ticket;
    }
    assert_int_equal(none, 50);
    assert_int_equal(cistern_ticket_release(f->c, first), 0);
    assert_int_equal(cistern_ticket_release(f->c, first), -EINVAL);
}

static void operations_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = {
        .size = sizeof r, .keys = f->keys, .spans = f->get, .results = f->results, .blocks = N};
    static uint8_t results[300][N];
    struct cistern_event ev;
    uint64_t op[300];
    uint32_t i, n;

    for (n = 0; n < 300; n++) {
        r.results = results[n];
        if (cistern_get(f->c, &r, &op[n]))
            break;
    }
    assert_int_equal(n, 256);
    for (i = 0; i < n; i++)
        assert_int_equal(cistern_wait(f->c, op[i], 5000, &ev), 0);
    assert_int_equal(cistern_wait(f->c, op[0], 10, &ev), -EINVAL);
    get_all(f);
    assert_int_equal(f->ev.hits, N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_index_that_points_elsewhere_is_a_miss, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_moved_to_another_place_is_a_miss, setup, teardown),
        cmocka_unit_test_setup_teardown(rot_is_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trip_answers_misses, setup, teardown),
        cmocka_unit_test_setup_teardown(tickets_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(operations_are_bounded, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
