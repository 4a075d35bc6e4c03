/*
 * test_engine.c - the store from outside: what was put is found and comes back, in this handle, in
 * the next, and in another one's; parts, scatter lists, direct reads, events, deletes.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../harness/store.h"

enum { N = 40 };

struct fixture {
    struct store s;
    cistern *c;
    cistern_key keys[N];
    uint8_t *src, *dst;
    struct cistern_vec in[N], out[N];
    struct cistern_span put[N], get[N];
    uint8_t results[N];
    struct cistern_event ev;
};

static void say(void *arg, int level, const char *text)
{
    (void)arg;
    if (level <= CISTERN_LOG_WARN)
        print_message("log: %s\n", text);
}

static void open_ok(struct fixture *f)
{
    int rc = cistern_open(&f->s.o, &f->c);

    if (rc)
        print_message("open: %s: %s\n", cistern_error_name(rc), cistern_error_text());
    assert_int_equal(rc, 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    uint32_t i;

    store_init(&f->s);
    f->s.o.log = say;
    f->src = malloc((size_t)N * STORE_BLOCK);
    f->dst = malloc((size_t)N * STORE_BLOCK);
    for (i = 0; i < N; i++) {
        store_key(&f->keys[i], i);
        store_fill(f->src + (size_t)i * STORE_BLOCK, STORE_BLOCK, i);
        f->in[i] = (struct cistern_vec){f->src + (size_t)i * STORE_BLOCK, STORE_BLOCK};
        f->out[i] = (struct cistern_vec){f->dst + (size_t)i * STORE_BLOCK, STORE_BLOCK};
        f->put[i] = (struct cistern_span){&f->in[i], 1};
        f->get[i] = (struct cistern_span){&f->out[i], 1};
    }
    memset(f->dst, 0xaa, (size_t)N * STORE_BLOCK);
    *state = f;
    open_ok(f);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cistern_close(f->c), 0);
    store_rmdir(&f->s);
    free(f->src);
    free(f->dst);
    free(f);
    return 0;
}

static struct cistern_request request(struct fixture *f, struct cistern_span *spans)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = f->keys,
                                    .spans = spans,
                                    .results = f->results,
                                    .blocks = N};
}

static void put_all(struct fixture *f, uint8_t expect)
{
    struct cistern_request r = request(f, f->put);
    uint32_t i;

    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.status, 0);
    for (i = 0; i < N; i++)
        assert_int_equal(f->results[i], expect);
}

static void get_all_hit(struct fixture *f)
{
    struct cistern_request r = request(f, f->get);

    memset(f->dst, 0xaa, (size_t)N * STORE_BLOCK);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.status, 0);
    assert_int_equal(f->ev.run, N);
    assert_int_equal(f->ev.hits, N);
    assert_int_equal(f->ev.bytes, (uint64_t)N * STORE_BLOCK);
    assert_memory_equal(f->src, f->dst, (size_t)N * STORE_BLOCK);
}

static uint32_t matched(struct fixture *f)
{
    struct cistern_match m;

    assert_int_equal(cistern_match(f->c, f->keys, N, &m), 0);
    assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    return m.blocks;
}

static void reopen(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    open_ok(f);
}

static uint64_t metric(cistern *c, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(c, m, 256);

    for (i = 0; i < n; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    fail_msg("no metric %s", name);
    return 0;
}

static void put_match_get(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get);

    assert_int_equal(matched(f), 0);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.hits, 0);
    assert_int_equal(f->ev.misses, N);
    put_all(f, CISTERN_STORED);
    assert_int_equal(matched(f), N);
    get_all_hit(f);
    put_all(f, CISTERN_PRESENT);
}

static void survives_a_restart(void **state)
{
    struct fixture *f = *state;

    put_all(f, CISTERN_STORED);
    reopen(f);
    assert_int_equal(matched(f), N);
    get_all_hit(f);
    put_all(f, CISTERN_PRESENT);
    reopen(f);
    get_all_hit(f);
}

static void a_second_process_follows(void **state)
{
    struct fixture *f = *state;
    struct fixture g = *f;

    g.s.o.flags = CISTERN_OPEN_READ_ONLY;
    open_ok(&g);
    assert_int_equal(matched(&g), 0);
    put_all(f, CISTERN_STORED);
    assert_int_equal(cistern_refresh(g.c, 0), 0);
    assert_int_equal(matched(&g), N);
    get_all_hit(&g);
    assert_int_equal(cistern_close(g.c), 0);
}

static void match_only_opens_without_staging(void **state)
{
    struct fixture *f = *state;
    struct fixture g = *f;
    struct cistern_request r;
    uint64_t op;

    put_all(f, CISTERN_STORED);
    g.s.o.flags = CISTERN_OPEN_MATCH_ONLY;
    open_ok(&g);
    assert_int_equal(matched(&g), N);
    r = request(&g, g.get);
    assert_int_equal(cistern_get(g.c, &r, &op), -EROFS);
    assert_int_equal(cistern_close(g.c), 0);
}

static void a_deleted_block_stays_deleted(void **state)
{
    struct fixture *f = *state;
    uint16_t mask;

    put_all(f, CISTERN_STORED);
    assert_int_equal(cistern_delete(f->c, &f->keys[5], 1), 1);
    assert_int_equal(cistern_delete(f->c, &f->keys[5], 1), 0);
    assert_int_equal(matched(f), 5);
    assert_int_equal(cistern_flush(f->c, 5000), 0);
    reopen(f);
    assert_int_equal(matched(f), 5);
    assert_int_equal(cistern_exists(f->c, &f->keys[5], 1, &mask), 0);
    assert_int_equal(mask, 0);
}

static void deleted_then_put_again(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put);

    put_all(f, CISTERN_STORED);
    assert_int_equal(cistern_delete(f->c, &f->keys[5], 1), 1);
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[5], CISTERN_STORED);
    assert_int_equal(f->results[6], CISTERN_PRESENT);
    reopen(f);
    get_all_hit(f);
}

static void asynchronous_with_event_fd(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->put);
    struct pollfd p = {.fd = cistern_event_fd(f->c), .events = POLLIN};
    struct cistern_event ev[4];
    uint64_t op;

    r.cookie = 77;
    assert_int_equal(cistern_put(f->c, &r, &op), 0);
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(cistern_poll(f->c, ev, 4), 1);
    assert_int_equal(ev[0].op, op);
    assert_int_equal(ev[0].cookie, 77);
    assert_int_equal(ev[0].kind, CISTERN_EV_DONE);
    assert_int_equal(ev[0].run, N);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(cistern_poll(f->c, ev, 4), 0);
}

static void scatter_lists(void **state)
{
    struct fixture *f = *state;
    struct cistern_vec in[7], out[3];
    struct cistern_span si = {in, 7}, so = {out, 3};
    struct cistern_request r = request(f, &si);
    size_t at = 0, cut[7] = {1, 4095, 4096, 10000, 77, 30000};
    int i;

    r.blocks = 1;
    for (i = 0; i < 7; i++) {
        in[i] = (struct cistern_vec){f->src + at, i < 6 ? cut[i] : STORE_BLOCK - at};
        at += in[i].len;
    }
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[0], CISTERN_STORED);
    out[0] = (struct cistern_vec){f->dst, 50000};
    out[1] = (struct cistern_vec){f->dst + 50000, 3};
    out[2] = (struct cistern_vec){f->dst + 50003, STORE_BLOCK - 50003};
    r.spans = &so;
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[0], CISTERN_HIT);
    assert_memory_equal(f->src, f->dst, STORE_BLOCK);
}

static void a_span_of_another_length_is_a_miss(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get);

    put_all(f, CISTERN_STORED);
    f->out[3].len = STORE_BLOCK - 1;
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->results[3], CISTERN_MISS);
    assert_int_equal(f->ev.run, 3);
    assert_int_equal(f->ev.hits, N - 1);
    assert_int_equal(metric(f->c, "bad_span_blocks"), 1);
}

static void direct_reads(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get);
    struct cistern_event ev[8];
    cistern_memory *m;
    uint64_t op;
    int n = 0, k;

    put_all(f, CISTERN_STORED);
    assert_int_equal(cistern_memory_register(f->c, f->dst, (size_t)N * STORE_BLOCK, &m), 0);
    r.flags = CISTERN_GET_DIRECT;
    r.memory = m;
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    while (n < 2) {
        struct pollfd p = {.fd = cistern_event_fd(f->c), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 5000), 1);
        k = cistern_poll(f->c, ev + n, 8 - n);
        assert_true(k >= 0);
        n += k;
    }
    assert_int_equal(ev[0].kind, CISTERN_EV_DONE);
    assert_int_equal(ev[0].hits, N);
    assert_int_equal(ev[1].kind, CISTERN_EV_BUFFER_FREE);
    assert_memory_equal(f->src, f->dst, (size_t)N * STORE_BLOCK);
    assert_int_equal(cistern_memory_release(f->c, m), 0);
}

/* Two parts, the second only in every fourth block; a run ends where the second is. */
static void parts_and_policies(void **state)
{
    struct fixture *f = *state;
    struct cistern_part parts[2] = {{.name = "kv", .bytes = STORE_BLOCK},
                                    {.name = "state", .bytes = 5000, .policy = CISTERN_PART_LAST}};
    struct cistern_span spans[2 * N];
    struct cistern_vec state_in[N], state_out[N];
    uint8_t results[2 * N];
    struct cistern_request r = {
        .size = sizeof r, .keys = f->keys, .spans = spans, .results = results, .blocks = N};
    struct cistern_event ev[8];
    uint64_t op;
    uint32_t i, told = 0;
    int n, k;

    assert_int_equal(cistern_close(f->c), 0);
    f->s.space.parts = parts;
    f->s.space.nparts = 2;
    open_ok(f);
    for (i = 0; i < N; i++) {
        state_in[i] = (struct cistern_vec){f->src + i * 100, 5000};
        state_out[i] = (struct cistern_vec){malloc(5000), 5000};
        spans[2 * i] = f->put[i];
        spans[2 * i + 1] = (struct cistern_span){&state_in[i], i % 4 == 3};
    }
    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
    assert_int_equal(f->ev.run, N);
    assert_int_equal(results[0], CISTERN_STORED);
    assert_int_equal(results[1], CISTERN_NONE);
    assert_int_equal(results[7], CISTERN_STORED);
    reopen(f);
    assert_int_equal(matched(f), N);
    assert_int_equal(cistern_delete(f->c, &f->keys[N - 1], 1), 1);
    assert_int_equal(matched(f), N - 4);
    for (i = 0; i < N; i++) {
        spans[2 * i] = f->get[i];
        spans[2 * i + 1] = (struct cistern_span){&state_out[i], i % 4 == 3};
    }
    r.blocks = N - 4;
    r.flags = CISTERN_GET_BY_PART;
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    for (n = 0; n < 3; n += k) {
        struct pollfd p = {.fd = cistern_event_fd(f->c), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 5000), 1);
        k = cistern_poll(f->c, ev, 8);
        assert_true(k >= 0);
        for (i = 0; i < (uint32_t)k; i++) {
            if (ev[i].kind == CISTERN_EV_PART)
                assert_int_equal(ev[i].part, told++);
            else
                assert_int_equal(ev[i].hits, N - 4);
        }
    }
    assert_int_equal(told, 2);
    assert_memory_equal(f->src, f->dst, (size_t)(N - 4) * STORE_BLOCK);
    for (i = 0; i < N; i++) {
        if (i % 4 == 3 && i < N - 4)
            assert_memory_equal(state_out[i].base, state_in[i].base, 5000);
        free(state_out[i].base);
    }
}

/* Two shards: a match on one knows of the other after a refresh. */
static void match_over_two_shards(void **state)
{
    struct fixture *f = *state;
    struct fixture g = *f;
    struct cistern_request r;

    assert_int_equal(cistern_close(f->c), 0);
    f->s.space.shards = 2;
    g.s.space.shards = 2;
    g.s.o.space = &g.s.space;
    g.s.o.shard = 1;
    open_ok(f);
    open_ok(&g);
    put_all(f, CISTERN_STORED);
    assert_int_equal(matched(f), 0);
    r = request(&g, g.put);
    r.blocks = 10;
    assert_int_equal(cistern_put_sync(g.c, &r, &g.ev), 0);
    assert_int_equal(cistern_refresh(f->c, 0), 0);
    assert_int_equal(matched(f), 10);
    assert_int_equal(cistern_close(g.c), 0);
    reopen(f);
    assert_int_equal(matched(f), 10);
}

/* Segments roll when they are full, and all of them are read back. */
static void segments_roll(void **state)
{
    struct fixture *f = *state;
    uint32_t round, i;

    assert_int_equal(cistern_close(f->c), 0);
    f->s.o.segment_bytes = 1 << 20;
    open_ok(f);
    for (round = 0; round < 10; round++) {
        for (i = 0; i < N; i++)
            store_key(&f->keys[i], 1000 * round + i);
        put_all(f, CISTERN_STORED);
    }
    for (i = 0; i < 2000 && metric(f->c, "segments_sealed") < 20; i++)
        (void)usleep(5000); /* seals are the syncer's, behind the puts */
    assert_true(metric(f->c, "segments_sealed") >= 20);
    reopen(f);
    for (round = 0; round < 10; round++) {
        for (i = 0; i < N; i++)
            store_key(&f->keys[i], 1000 * round + i);
        get_all_hit(f);
    }
    assert_int_equal(metric(f->c, "contents_torn"), 0);
    assert_int_equal(metric(f->c, "contents_short"), 0);
}

static int count_items(void *arg, const struct cistern_item *item)
{
    uint64_t *n = arg;

    n[item->kind] += item->kind == CISTERN_ITEM_ROOT ? item->blocks : 1;
    return 0;
}

static void scan_counts(void **state)
{
    struct fixture *f = *state;
    uint64_t n[CISTERN_ITEM_BLOCK + 1] = {0};

    put_all(f, CISTERN_STORED);
    assert_int_equal(cistern_scan(&f->s.o, CISTERN_ITEM_BLOCK, count_items, n), 0);
    assert_int_equal(n[CISTERN_ITEM_ROOT], N);
    assert_int_equal(n[CISTERN_ITEM_SPACE], 1);
    assert_int_equal(n[CISTERN_ITEM_SHARD], 1);
    assert_int_equal(n[CISTERN_ITEM_WRITER], 1);
    assert_int_equal(n[CISTERN_ITEM_BLOCK], N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(put_match_get, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_process_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(match_only_opens_without_staging, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_block_stays_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_then_put_again, setup, teardown),
        cmocka_unit_test_setup_teardown(asynchronous_with_event_fd, setup, teardown),
        cmocka_unit_test_setup_teardown(scatter_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(a_span_of_another_length_is_a_miss, setup, teardown),
        cmocka_unit_test_setup_teardown(direct_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_and_policies, setup, teardown),
        cmocka_unit_test_setup_teardown(match_over_two_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_roll, setup, teardown),
        cmocka_unit_test_setup_teardown(scan_counts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
