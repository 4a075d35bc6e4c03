/*
 * test_peers.c - who lives: heads as they are read, and what a writer that was taken for ended
 * and lives on still has to say; and that one short read is not the end of what it said.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../harness/metric.h"
#include "../harness/skip.h"
#include "../harness/store.h"
#include "engine/engine.h"
#include "engine/follow.h"
#include "engine/peers.h"

enum { SILENCE = 400, BLOCKS = 4 };

static struct peers peers;
static struct peer *peer;

/* A head, or none with rc, that was read between `at` and a moment later. */
static bool look(uint64_t at, int rc, uint64_t counter)
{
    const struct head_record h = {.state = HEAD_LIVE, .counter = counter, .next_seq = 1};

    return peer_looked(&peers, peer, rc, &h, at, at + 1, SILENCE);
}

static int setup(void **state)
{
    (void)state;
    peers_open(&peers);
    peer = peers_get(&peers, 0, 7, 1);
    return peer ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    peers_close(&peers, NULL);
    return 0;
}

static void silence_is_a_counter_that_stays(void **state)
{
    (void)state;
    assert_false(look(100, 0, 1));
    assert_false(look(400, 0, 1));
    assert_int_equal(peer->state, PEER_LIVE);
    assert_false(look(501, 0, 1));
    assert_int_equal(peer->state, PEER_SILENT);
    assert_true(look(600, 0, 2)); /* it was wrong */
    assert_int_equal(peer->state, PEER_LIVE);
    assert_false(look(700, 0, 3));
}

/* However long nobody looked, one read that gives no head says little. */
static void one_bad_read_is_no_silence(void **state)
{
    (void)state;
    assert_false(look(100, 0, 1));
    assert_false(look(5000, -EBADMSG, 0));
    assert_int_equal(peer->state, PEER_LIVE);
    assert_false(look(5300, -ENODATA, 0));
    assert_int_equal(peer->state, PEER_LIVE);
    assert_false(look(5350, 0, 2));
    assert_false(look(9000, -EBADMSG, 0));
    assert_false(look(9300, -EIO, 0)); /* says nothing at all */
    assert_int_equal(peer->state, PEER_LIVE);
    assert_false(look(9400, -EBADMSG, 0));
    assert_int_equal(peer->state, PEER_SILENT);
    assert_true(look(9500, 0, 3));
}

static void a_closed_head_that_goes_on(void **state)
{
    const struct head_record closed = {.state = HEAD_CLOSED, .counter = 5, .next_seq = 1};

    (void)state;
    assert_false(peer_looked(&peers, peer, 0, &closed, 100, 101, SILENCE));
    assert_int_equal(peer->state, PEER_CLOSED);
    assert_true(look(200, 0, 6));
}

/* It was taken for silent, went on for a moment and closed: what it said last is still to be read.
 */
static void a_silent_one_that_closes(void **state)
{
    const struct head_record closed = {.state = HEAD_CLOSED, .counter = 2, .next_seq = 1};

    (void)state;
    assert_false(look(100, 0, 1));
    assert_false(look(501, 0, 1));
    assert_int_equal(peer->state, PEER_SILENT);
    assert_true(peer_looked(&peers, peer, 0, &closed, 600, 601, SILENCE));
    assert_int_equal(peer->state, PEER_CLOSED);
}

/* ---- With stores ---- */

static void put(struct store *s, cistern *c, uint64_t from)
{
    uint8_t *bytes = malloc(STORE_BLOCK), results[1];
    struct cistern_vec v = {bytes, STORE_BLOCK};
    struct cistern_span span = {&v, 1};
    struct cistern_event e;
    cistern_key key;
    struct cistern_request r = {
        .size = sizeof r, .keys = &key, .spans = &span, .results = results, .blocks = 1};
    uint64_t i;

    (void)s;
    for (i = from; i < from + BLOCKS; i++) {
        store_key(&key, i);
        store_fill(bytes, STORE_BLOCK, i);
        assert_int_equal(cistern_put_sync(c, &r, &e), 0);
        assert_int_equal(results[0], CISTERN_STORED);
    }
    free(bytes);
    assert_int_equal(cistern_flush(c, 20000), 0);
}

static struct peer *take_for_silent(cistern *reader)
{
    struct peer *p = &reader->follower->peers.at[0];

    assert_int_equal(reader->follower->peers.count, 1);
    p->state = PEER_SILENT;
    p->moved = true;
    return p;
}

/* A reader took a writer for silent and read all there was; then it hears that it lives. */
static void what_comes_after_silence_is_read(void **state)
{
    struct store s;
    struct cistern_options o;
    cistern *writer, *reader;
    int i;

    (void)state;
    store_init(&s);
    assert_int_equal(cistern_open(&s.o, &writer), 0);
    put(&s, writer, 0);
    o = s.o;
    o.flags = CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL;
    assert_int_equal(cistern_open(&o, &reader), 0);
    assert_int_equal(metric_of(reader, "index_blocks"), BLOCKS);
    (void)take_for_silent(reader);
    for (i = 0; i < 3; i++)
        assert_int_equal(look_run(reader, LOOK_LIST, UINT32_MAX), 0);
    put(&s, writer, BLOCKS); /* to the same segment; its head moves a moment later */
    for (i = 0; i < 500 && metric_of(reader, "index_blocks") != 2 * BLOCKS; i++) {
        reader->follower->peers.at[0].checked_ns = 0; /* due */
        assert_int_equal(look_run(reader, LOOK_LIST | LOOK_HEADS, UINT32_MAX), 0);
        (void)usleep(20000);
    }
    assert_int_equal(metric_of(reader, "index_blocks"), 2 * BLOCKS);
    assert_int_equal(cistern_close(reader), 0);
    assert_int_equal(cistern_close(writer), 0);
    store_rmdir(&s);
}

/* Storage that shows nothing new of contents, as long as `cut`. */
static struct io_ops cutting;
static const struct io_ops *true_ops;
static bool cut;

static int cut_prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr,
                    struct io_file *f, uint64_t offset, uint64_t len, void *userdata)
{
    return true_ops->prep(io, r, m, ptr, f, cut && offset ? 1ull << 40 : offset, len, userdata);
}

/* A writer filled a segment, went on to another and closed. The reader knew the beginning of the
 * first; the read of the rest came back with nothing, once. */
static void one_short_read_is_no_end(void **state)
{
    struct store s;
    struct cistern_options o;
    cistern *writer, *reader;
    int i;

    SKIP_UNLESS_EXCHANGED();
    (void)state;
    store_init(&s);
    s.o.io_bytes = STORE_BLOCK;
    s.o.segment_bytes = 2 * BLOCKS * STORE_BLOCK;
    assert_int_equal(cistern_open(&s.o, &writer), 0);
    put(&s, writer, 0);
    o = s.o;
    o.flags = CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL;
    assert_int_equal(cistern_open(&o, &reader), 0);
    assert_int_equal(metric_of(reader, "index_blocks"), BLOCKS);
    put(&s, writer, BLOCKS);
    put(&s, writer, 2 * BLOCKS);
    assert_int_equal(cistern_close(writer), 0);
    true_ops = reader->io->ops;
    cutting = *true_ops;
    cutting.prep = cut_prep;
    reader->io->ops = &cutting;
    for (i = 0; i < 5; i++) {
        cut = !i;
        reader->follower->peers.at[0].checked_ns = 0; /* due */
        assert_int_equal(look_run(reader, LOOK_LIST | LOOK_HEADS, UINT32_MAX), 0);
        if (cut)
            assert_int_equal(metric_of(reader, "index_blocks"), 2 * BLOCKS); /* of both ends */
    }
    reader->io->ops = true_ops;
    assert_int_equal(metric_of(reader, "index_blocks"), 3 * BLOCKS);
    assert_true(reader->follower->peers.at[0].settled);
    assert_int_equal(cistern_close(reader), 0);
    store_rmdir(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(silence_is_a_counter_that_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(one_bad_read_is_no_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_head_that_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_one_that_closes, setup, teardown),
        cmocka_unit_test(what_comes_after_silence_is_read),
        cmocka_unit_test(one_short_read_is_no_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
