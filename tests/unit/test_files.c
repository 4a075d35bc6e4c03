/*
 * test_files.c - more segments than files may be open: everything is read all the same, few
 * descriptors are used, the host keeps its own, and an open that hangs, fails or finds nothing
 * costs no more than a read that does.
 */
#include "slow_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/resource.h>

#include "../harness/skip.h"
#include "base/fault.h"
#include "engine/files.h"
#include "engine/lane_internal.h"

enum {
    FEW = 4,
    MANY = 80,        /* blocks, two to a segment */
    PIECE = 64 << 10, /* of one I/O */
    SEGMENT = 128 << 10,
    TIGHT = 200,  /* descriptors of a small process */
    OF_HOST = 60, /* that it wants for itself */
    IDLE_MS = 750 /* less than a lane sleeps */
};

static void key_at(uint32_t i, cistern_key *key)
{
    store_key(key, 1000 + i);
}

static uint8_t one(struct fixture *f, uint32_t i, bool is_put)
{
    cistern_key key;
    struct cistern_request r = request(f, is_put ? f->put : f->get, 0, 1);

    key_at(i, &key);
    r.keys = &key;
    if (is_put)
        store_fill(f->src, STORE_BLOCK, 1000 + i);
    else
        memset(f->dst, 0xaa, STORE_BLOCK);
    f->results[0] = CISTERN_NONE;
    assert_int_equal(
        is_put ? cistern_put_sync(f->c, &r, &f->ev) : cistern_get_sync(f->c, &r, &f->ev), 0);
    return f->results[0];
}

static void is_hit(struct fixture *f, uint32_t i)
{
    assert_int_equal(one(f, i, false), CISTERN_HIT);
    store_fill(f->src, STORE_BLOCK, 1000 + i);
    assert_memory_equal(f->src, f->dst, STORE_BLOCK);
}

static void put_many(struct fixture *f)
{
    uint32_t i;

    for (i = 0; i < MANY; i++)
        assert_int_equal(one(f, i, true), CISTERN_STORED);
}

static void get_many(struct fixture *f)
{
    uint32_t i;

    for (i = 0; i < MANY; i++)
        is_hit(f, i);
    for (i = 0; i < MANY; i++)
        is_hit(f, (i * 37 + 11) % MANY);
}

static int setup_many(void **state)
{
    struct fixture *f;

    if (setup(state))
        return -1;
    f = *state;
    f->s.o.io_bytes = PIECE;
    f->s.o.segment_bytes = SEGMENT;
    f->s.o.list_ms = f->s.o.poll_ms = 3600 * 1000; /* nobody else is there */
    f->s.o.open_files = FEW;
    f->s.o.write_timeout_ms = LONG_MS; /* this is about reads */
    f->s.o.read_timeout_ms = 3 * SHORT_MS;
    open_ok(f);
    put_many(f);
    assert_int_equal(cistern_flush(f->c, LONG_MS), 0);
    return 0;
}

static uint32_t descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    uint32_t n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        (void)closedir(d);
    return n;
}

/* Those that are being written, the next one to be written, and what is in flight come on top. */
static void few_are_open(void **state)
{
    struct fixture *f = *state;
    uint32_t before;

    assert_true(metric(f, "segments") >= MANY / 2);
    get_many(f);
    assert_true(metric(f, "data_files_open") <= FEW + 3);
    assert_true(metric(f, "data_files_opened") >= MANY / 2 - FEW - 3);
    assert_true(metric(f, "data_files_shut") > 0);
    before = descriptors();
    reopen(f);
    assert_true(metric(f, "data_files_open") <= FEW + 3);
    assert_int_equal(metric(f, "index_blocks"), MANY);
    get_many(f);
    assert_true(metric(f, "data_files_open") <= FEW + 3);
    assert_true(descriptors() <= before + 2 * FEW);
}

/* One get over all segments: many files are waited for at a time. */
static void one_get_over_many(void **state)
{
    struct fixture *f = *state;
    cistern_key keys[MANY];
    struct cistern_vec v[MANY];
    struct cistern_span spans[MANY];
    uint8_t results[MANY], *to = malloc((size_t)MANY * STORE_BLOCK);
    struct cistern_request r = {
        .size = sizeof r, .keys = keys, .spans = spans, .results = results, .blocks = MANY};
    uint32_t i, round;

    reopen(f);
    for (i = 0; i < MANY; i++) {
        key_at(i, &keys[i]);
        v[i] = (struct cistern_vec){to + (size_t)i * STORE_BLOCK, STORE_BLOCK};
        spans[i] = (struct cistern_span){&v[i], 1};
    }
    for (round = 0; round < 3; round++) {
        memset(to, 0xaa, (size_t)MANY * STORE_BLOCK);
        assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
        for (i = 0; i < MANY; i++) {
            assert_int_equal(results[i], CISTERN_HIT);
            store_fill(f->src, STORE_BLOCK, 1000 + i);
            assert_memory_equal(f->src, v[i].base, STORE_BLOCK);
        }
    }
    free(to);
}

/* While reads hang many files are in use; then those beyond the limit are shut, though nobody asks
 * for another. */
static void fewer_after_a_burst(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, 2 * N);
    uint64_t op, opened;
    uint32_t i;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.read_timeout_ms = LONG_MS;
    reopen(f);
    opened = metric(f, "data_files_opened");
    hang(&f->slow->read[SLOW_DATA]);
    for (i = 0; i < 2 * N; i++)
        key_at(2 * i, &f->keys[i]);
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    WAIT_FOR(atomic_load(&f->slow->held) == 2 * N);
    assert_true(metric(f, "data_files_open") >= 2 * N);
    assert_true(metric(f, "data_files_opened") - opened <= 3 * N); /* about once each */
    all_pass(f->slow);
    WAIT_FOR(cistern_poll(f->c, &f->ev, 1) == 1);
    all_are(f, 0, 2 * N, CISTERN_HIT);
    WAIT_FOR(metric(f, "data_files_open") <= FEW);
}

static void direct_reads_wait_too(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r;
    cistern_memory *m;
    cistern_key key;
    void *base;
    uint32_t i;

    assert_int_equal(cistern_memory_alloc(f->c, STORE_BLOCK, &m, &base), 0);
    for (i = 0; i < MANY; i += 7) {
        struct cistern_vec v = {base, STORE_BLOCK};
        struct cistern_span span = {&v, 1};

        key_at(i, &key);
        r = (struct cistern_request){.size = sizeof r,
                                     .keys = &key,
                                     .spans = &span,
                                     .results = f->results,
                                     .blocks = 1,
                                     .flags = CISTERN_GET_DIRECT,
                                     .memory = m};
        assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
        assert_int_equal(f->results[0], CISTERN_HIT);
        store_fill(f->src, STORE_BLOCK, 1000 + i);
        assert_memory_equal(f->src, base, STORE_BLOCK);
        WAIT_FOR(cistern_poll(f->c, &f->ev, 1) == 1 && f->ev.kind == CISTERN_EV_BUFFER_FREE);
    }
    assert_int_equal(cistern_memory_release(f->c, m), 0);
}

/* By itself a handle takes a part of what the process may have. */
static void a_small_process_reads_a_large_root(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, tight;
    int own[OF_HOST];
    uint32_t i;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = (struct rlimit){TIGHT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    f->s.o.open_files = 0;
    reopen(f);
    assert_int_equal(metric(f, "index_blocks"), MANY);
    assert_int_equal(metric(f, "contents_bad"), 0);
    get_many(f);
    for (i = 0; i < OF_HOST; i++)
        assert_true((own[i] = open("/dev/null", O_RDONLY)) >= 0);
    for (i = 0; i < OF_HOST; i++)
        (void)close(own[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* Heads of writers that closed, as many as a root may have after a year. */
static void make_heads(const struct fixture *f, uint64_t n)
{
    _Alignas(64) uint8_t page[FORMAT_PAGE];
    struct head_record h = {.state = HEAD_CLOSED, .counter = 1, .shards = 1, .next_seq = 1};
    char path[512], *name;
    glob_t g;
    int fd;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*/s0of1/*.head", f->s.dir);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    memcpy(h.space, f->c->fingerprint, sizeof h.space);
    for (h.writer = 1; h.writer <= n; h.writer++) {
        head_encode(&h, NULL, 0, page);
        (void)snprintf(path, sizeof path, "%s", g.gl_pathv[0]);
        name = strrchr(path, '/') + 1;
        (void)snprintf(name, 32, "%016llx.head", (unsigned long long)h.writer);
        assert_true((fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)) >= 0);
        assert_int_equal(write(fd, page, sizeof page), sizeof page);
        assert_int_equal(close(fd), 0);
    }
    globfree(&g);
}

/* Heads are read, and closed again: all of them are at one time more than a process may open. */
static void a_small_process_reads_many_heads(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, tight;

    make_heads(f, TIGHT);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = (struct rlimit){TIGHT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    f->s.o.open_files = 0;
    reopen(f);
    assert_int_equal(metric(f, "head_bad"), 0);
    get_many(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* The host has used up all there are: files of ours make room for each other. */
static void without_any_descriptor_left(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, tight;
    int own[TIGHT];
    uint32_t i, n = 0;

    reopen(f);
    get_many(f);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = (struct rlimit){TIGHT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    while (n < TIGHT && (own[n] = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    assert_int_equal(errno, EMFILE);
    get_many(f);
    for (i = 0; i < n; i++)
        (void)close(own[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void remove_data(const struct fixture *f, uint32_t *removed)
{
    char command[512];

    /* All but what is open and was written last. */
    (void)snprintf(command, sizeof command,
                   "find %s -name '*.seg' -size +0 | sort | head -n 8 | xargs rm", f->s.dir);
    assert_int_equal(system(command), 0);
    *removed = 8;
}

/* Blocks whose data file is lost are misses, and then forgotten. */
static void a_lost_file_is_forgotten(void **state)
{
    struct fixture *f = *state;
    uint32_t i, removed, lost = 0;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.open_files = 1;
    reopen(f);
    is_hit(f, MANY - 1);
    remove_data(f, &removed);
    for (i = 0; i < MANY; i++) {
        uint8_t result = one(f, i, false);

        assert_true(result == CISTERN_HIT || result == CISTERN_MISS);
        lost += result == CISTERN_MISS;
    }
    assert_in_range(lost, 2 * removed - 2, 2 * removed);
    WAIT_FOR(metric(f, "index_blocks") <= MANY - 2 * removed + 2);
    WAIT_FOR(metric(f, "segments_gone") >= removed - 1);
    assert_int_equal(metric(f, "bad_checksum_blocks"), 0);
    assert_int_equal(metric(f, "bad_length_blocks"), 0);
    assert_true(metric(f, "data_missing") >= removed - 1);
}

/* Whoever needs a file whose open hangs waits until the deadline of a read; others do not wait. */
static void an_open_that_hangs(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hung = 0;
    uint64_t ended;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    reopen(f);
    for (i = 0; i < FEW; i++)
        is_hit(f, 2 * i); /* four segments are open, or those that were opened first */
    atomic_store(&f->slow->hang_open, 1);
    for (i = 0; i < MANY && !hung; i += 2)
        hung = one(f, i, false) == CISTERN_HIT ? 0 : i + 1;
    ended = now_ms();
    assert_true(hung > 0);
    assert_int_equal(f->results[0], CISTERN_ERROR);
    assert_true(metric(f, "io_timeouts") >= 1);
    assert_int_equal(metric(f, "read_slots_quarantined"), 0); /* nothing was sent */
    assert_int_equal(metric(f, "ops_open"), 0);
    WAIT_FOR(metric(f, "read_slots_free") == metric(f, "read_slots"));
    assert_true(now_ms() - ended < IDLE_MS); /* not when the lane happens to wake up next */
    for (i = 0; i < FEW; i++)
        (void)one(f, 2 * i, false); /* open or not: it ends */
    atomic_store(&f->slow->hang_open, 0);
    get_many(f);
}

/* An open that hangs at the close keeps nobody. */
static void closed_while_an_open_hangs(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, 1);
    uint64_t op;
    cistern_key key;
    uint32_t i;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.open_files = 1;
    reopen(f);
    atomic_store(&f->slow->hang_open, 1);
    for (i = 0; i < MANY && one(f, i, false) == CISTERN_HIT; i += 2)
        ;
    assert_true(i < MANY);
    key_at(i, &key);
    r.keys = &key;
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    close_left(f);
    atomic_store(&f->slow->hang_open, 0);
}

/* Rings are made anew while a group, whose file could not be opened, is still to be delivered: none
 * of its memory is storage's, and its slot is free again. */
static void not_opened_when_rings_are_made_anew(void **state)
{
    struct fixture *f = *state;
    cistern *c = f->c;
    struct lane l = {.c = c};
    struct group *g;

    WAIT_FOR(metric(f, "read_slots_free") == metric(f, "read_slots"));
    assert_int_equal(lane_kit_make(c, &l.kit[0]), 0);
    lane_take_kit(&l, &l.kit[0]);
    g = l.free_groups;
    l.free_groups = g->link;
    g->link = NULL;
    assert_true(segment_hold(&c->segs, 0));
    g->buf = pool_take(c->read_pool);
    g->staged = true;
    l.live = l.ready = l.ready_last = g;
    lane_leave_kit(&l);
    assert_int_equal(metric(f, "read_slots_free"), metric(f, "read_slots"));
    lane_kit_free(c, &l.kit[0]);
}

static struct {
    cistern *c;
    pthread_t thread;
    _Atomic uint32_t began, ended;
} racer;

/* Opens whatever is shut, as the keeper may do beside the openers. */
static void *open_what_is_shut(void *arg)
{
    cistern *c = racer.c;
    uint32_t i;

    (void)arg;
    for (i = 0; i < atomic_load(&c->segs.count); i++) {
        if (!segment_hold(&c->segs, i))
            continue;
        if (c->segs.at[i].has_data && file_take_now(c, i) == 0)
            file_give(c, i);
        segment_release(&c->segs, i);
    }
    atomic_store(&racer.ended, 1);
    return NULL;
}

static void race(const char *point)
{
    int i;

    if (strcmp(point, "files.shut") != 0 || atomic_exchange(&racer.began, 1))
        return;
    assert_int_equal(pthread_create(&racer.thread, NULL, open_what_is_shut, NULL), 0);
    for (i = 0; i < 200 && !atomic_load(&racer.ended); i++)
        (void)usleep(1000);
}

/* Somebody opens a file just while another one shuts it: it is open afterwards or it is not, never
 * open without a descriptor, and none is left over. */
static void shut_and_opened_at_once(void **state)
{
    struct fixture *f = *state;
    const struct segtab *t;
    uint32_t i, open = 0, before;

    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    reopen(f);
    get_many(f);
    before = descriptors() - 2 * (uint32_t)metric(f, "data_files_open");
    memset(&racer, 0, sizeof racer);
    racer.c = f->c;
    fault_hook = race;
    get_many(f);
    fault_hook = NULL;
    assert_int_equal(atomic_load(&racer.began), 1);
    assert_int_equal(pthread_join(racer.thread, NULL), 0);
    get_many(f);
    for (t = &f->c->segs, i = 0; i < atomic_load(&t->count); i++) {
        if (!segtab_in_use(t, i) || atomic_load(&t->at[i].file_uses) & SEGMENT_SHUT)
            continue;
        assert_true(t->at[i].data.fd >= 0 || !t->at[i].has_data);
        open += t->at[i].data.fd >= 0;
    }
    assert_int_equal(metric(f, "data_files_open"), open);
    assert_int_equal(descriptors(), before + 2 * open);
}

/* Opens wait until they are let go. */
static struct io_ops gated;
static const struct io_ops *true_ops;
static _Atomic int32_t gate, at_gate;

static int gated_open(struct io *io, const char *path, unsigned mode, struct io_file *file)
{
    (void)atomic_fetch_add(&at_gate, 1);
    while (atomic_load(&gate) <= 0)
        (void)usleep(500);
    (void)atomic_fetch_sub(&gate, 1);
    return true_ops->file_open(io, path, mode, file);
}

/* Many files are asked for at once, and storage opens some of them: those that were not reached
 * when their time was over say nothing against it. */
static void waiting_in_a_queue_is_no_failure(void **state)
{
    struct fixture *f = *state;
    struct cistern_request r = request(f, f->get, 0, 2 * N);
    uint64_t op;
    uint32_t i;

    SKIP_UNLESS_EXCHANGED();
    f->s.o.flags = CISTERN_OPEN_READ_ONLY;
    f->s.o.open_files = 1;
    f->s.o.breaker = 1;
    f->s.o.read_timeout_ms = 1000;
    f->s.o.get_timeout_ms = LONG_MS;
    reopen(f);
    for (i = 0; i < 2 * N; i++)
        key_at(2 * i, &f->keys[i]);
    true_ops = f->c->io->ops;
    gated = *true_ops;
    gated.file_open = gated_open;
    atomic_store(&gate, 0);
    atomic_store(&at_gate, 0);
    f->c->io->ops = &gated;
    assert_int_equal(cistern_get(f->c, &r, &op), 0);
    WAIT_FOR(atomic_load(&at_gate) > 0);
    (void)usleep(100000); /* all of them asked */
    atomic_store(&gate, 2);
    WAIT_FOR(metric(f, "io_timeouts") >= 6);
    atomic_store(&gate, 1 << 20);
    WAIT_FOR(cistern_poll(f->c, &f->ev, 1) == 1);
    assert_int_equal(metric(f, "breaker_opened"), 0);
    f->c->io->ops = true_ops;
    get_many(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(few_are_open, setup_many, teardown),
        cmocka_unit_test_setup_teardown(one_get_over_many, setup_many, teardown),
        cmocka_unit_test_setup_teardown(fewer_after_a_burst, setup_many, teardown),
        cmocka_unit_test_setup_teardown(direct_reads_wait_too, setup_many, teardown),
        cmocka_unit_test_setup_teardown(a_small_process_reads_a_large_root, setup_many, teardown),
        cmocka_unit_test_setup_teardown(a_small_process_reads_many_heads, setup_many, teardown),
        cmocka_unit_test_setup_teardown(without_any_descriptor_left, setup_many, teardown),
        cmocka_unit_test_setup_teardown(a_lost_file_is_forgotten, setup_many, teardown),
        cmocka_unit_test_setup_teardown(an_open_that_hangs, setup_many, teardown),
        cmocka_unit_test_setup_teardown(closed_while_an_open_hangs, setup_many, teardown),
        cmocka_unit_test_setup_teardown(not_opened_when_rings_are_made_anew, setup_many, teardown),
        cmocka_unit_test_setup_teardown(shut_and_opened_at_once, setup_many, teardown),
        cmocka_unit_test_setup_teardown(waiting_in_a_queue_is_no_failure, setup_many, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
