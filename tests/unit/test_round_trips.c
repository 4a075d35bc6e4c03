/*
 * test_round_trips.c - on storage where opening a file is a round trip, an open of a store waits
 * for few of them one after the other.
 *
 * A row of operations under the engine makes each call about a name last 5 ms and counts them for
 * each thread. What the thread that lists the shard's directory called is what came one after the
 * other: it takes its share of the work while the threads that help it do the rest, and waits for
 * them meanwhile. Counted are calls, not time.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../harness/store.h"
#include "io/hook.h"

enum { SEGMENTS = 100, ALLOWED = 3, TRIP_US = 5000, TRIES = 20 };

static struct io_ops ops;
static const struct io_ops *below;
static bool slow;
static _Thread_local unsigned trips; /* of this thread */
static _Atomic unsigned all;
static unsigned *_Atomic listing; /* the counter of the thread that listed the shard */
static _Atomic unsigned in_sequence;

static void trip(void)
{
    if (!slow)
        return;
    trips++;
    (void)atomic_fetch_add(&all, 1);
    (void)usleep(TRIP_US);
    if (atomic_load(&listing) == &trips)
        atomic_store(&in_sequence, trips);
}

static int slow_open(struct io *io, const char *path, unsigned mode, struct io_file *f)
{
    trip();
    return below->file_open(io, path, mode, f);
}

static int slow_stat(struct io *io, const char *path, struct io_stat *out)
{
    trip();
    return below->stat(io, path, out);
}

static int slow_list(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                     void *arg)
{
    if (strstr(path, "/s0of1"))
        atomic_store(&listing, &trips);
    trip();
    return below->list(io, path, visit, arg);
}

static int64_t slow_read(struct io *io, const char *path, void *buf, size_t size)
{
    trip();
    return below->small_read(io, path, buf, size);
}

static int hook(const struct io_options *o, struct io **out)
{
    int rc;

    io_open_hook = NULL;
    rc = io_open(o, out);
    io_open_hook = hook;
    if (rc)
        return rc;
    below = (*out)->ops;
    ops = *below;
    ops.name = "slow"; /* not this host's own files */
    ops.file_open = slow_open;
    ops.stat = slow_stat;
    ops.list = slow_list;
    ops.small_read = slow_read;
    (*out)->ops = &ops;
    return 0;
}

static void put_one(cistern *c, uint64_t number)
{
    static uint8_t bytes[STORE_BLOCK];
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    struct cistern_event ev;
    uint8_t result = 0;
    cistern_key key;
    struct cistern_request r = {
        .size = sizeof r, .keys = &key, .spans = &span, .results = &result, .blocks = 1};

    store_key(&key, number);
    store_fill(bytes, sizeof bytes, number);
    assert_int_equal(cistern_put_sync(c, &r, &ev), 0);
    assert_int_equal(result, CISTERN_STORED);
}

static cistern *open_again(struct store *s)
{
    cistern *c = NULL;

    trips = 0;
    atomic_store(&listing, NULL);
    atomic_store(&in_sequence, 0);
    atomic_store(&all, 0);
    if (cistern_open(&s->o, &c))
        fail_msg("open: %s", cistern_error_text());
    return c;
}

/* Round trips in sequence of an open for reading, the fewest of some: a thread that got no
 * processor leaves its work to the others. */
static unsigned sequence_of_open(struct store *s, unsigned enough)
{
    unsigned fewest = UINT32_MAX, i;

    slow = true;
    s->o.flags = CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW;
    for (i = 0; i < TRIES && fewest > enough; i++) {
        cistern *c = open_again(s);
        unsigned took = atomic_load(&in_sequence);

        assert_true(took > 0);
        fewest = took < fewest ? took : fewest;
        assert_int_equal(cistern_close(c), 0);
    }
    slow = false;
    s->o.flags = 0;
    return fewest;
}

/* Each segment of a writer of its own: three files to open for each. */
static void few_round_trips_in_sequence(void **state)
{
    struct store s;
    unsigned empty, full, i;

    (void)state;
    store_init(&s);
    s.o.segment_bytes = 1 << 20;
    s.o.read_iov_bytes = s.o.write_iov_bytes = 4 << 20;
    io_open_hook = hook;
    assert_int_equal(cistern_close(open_again(&s)), 0);
    empty = sequence_of_open(&s, 0);
    for (i = 0; i < SEGMENTS; i++) {
        cistern *c = open_again(&s);

        put_one(c, i);
        assert_int_equal(cistern_close(c), 0);
    }
    full = sequence_of_open(&s, empty + ALLOWED);
    print_message("%u round trips in sequence for an empty store, %u for %d segments, %u in all\n",
                  empty, full, SEGMENTS, atomic_load(&all));
    assert_true(atomic_load(&all) >= 3 * SEGMENTS);
    assert_true(full <= empty + ALLOWED);
    io_open_hook = NULL;
    store_rmdir(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_round_trips_in_sequence)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
