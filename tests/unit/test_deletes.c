/*
 * test_deletes.c - what is deleted just while it is carried over stays away: from this handle, and
 * from a later one. Real files, evict_fixture.h; a hook holds the moments that are hard to meet.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../harness/skip.h"
#include "base/fault.h"
#include "engine/carry.h"
#include "engine/follow.h"
#include "engine/writer_internal.h"
#include "evict_fixture.h"

/* Blocks that are read, and carried: two of a segment, not side by side. */
enum { QUIET_MS = 400, FIRST = 3, NEAR = 8, STEP = 64, LAST = 256 };

static struct fixture *_Atomic hooked; /* set while the hook is to act */
static bool chosen[MANY];

static int setup(void **state)
{
    *state = fixture_new(16 * SEGMENT, QUIET_MS);
    memset(chosen, 0, sizeof chosen);
    return 0;
}

static void reopen(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
}

static bool in_index(struct fixture *f, uint32_t i)
{
    struct index_place place;

    return index_find(f->c->index, &f->keys[i], &place);
}

/* Puts until `done`, and reads some blocks now and then, so that these are carried over. */
static void churn(struct fixture *f, bool (*done)(struct fixture *f))
{
    uint32_t i, k;

    for (i = 0; !done(f) || i % MANY; i += BATCH) {
        assert_in_range(i, 0, 16 * MANY);
        put_all(f, i % MANY, BATCH);
        for (k = FIRST; i % STEP == 0 && k < LAST; k += NEAR)
            (void)get_one(f, k);
        if (done(f))
            break;
    }
}

static void none_is_there(struct fixture *f)
{
    uint32_t k, n = 0;

    for (k = FIRST; k < LAST; k += NEAR) {
        n += chosen[k];
        assert_false(chosen[k] && get_one(f, k));
    }
    assert_true(n > 0);
}

/* ---- The frame fails, and is there all the same ---- */

static const struct io_ops *true_ops;
static struct fixture *liar;
static void *victim;             /* the write of a frame that is said to have failed */
static bool arm;                 /* of the write lane */
static const struct wseg *armed; /* likewise: the next frame of this segment */
static _Atomic bool failed;

static bool is_toc(const struct io_file *file)
{
    char link[64], path[512];
    ssize_t n;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
    n = readlink(link, path, sizeof path);
    return n > 4 && memcmp(path + n - 4, ".toc", 4) == 0;
}

static int lying_prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr,
                      struct io_file *file, uint64_t offset, uint64_t len, void *userdata)
{
    if (armed && !r->for_read && is_toc(file) && liar->c->writer->batch_seg == armed) {
        victim = userdata;
        armed = NULL;
    }
    return true_ops->prep(io, r, m, ptr, file, offset, len, userdata);
}

static int lying_wait(struct io *io, struct io_ring *r, struct io_done *done, int max, int min,
                      uint64_t timeout_ns)
{
    int i, n = true_ops->wait(io, r, done, max, min, timeout_ns);

    for (i = 0; i < n; i++) {
        if (!r->for_read && victim && done[i].userdata == victim) {
            done[i].result = -EIO;
            victim = NULL;
            atomic_store(&failed, true);
        }
    }
    return n;
}

/* On the write lane: a carried block was laid out, and is in no index. The next frame has it. */
static void delete_laid_out(struct fixture *f)
{
    const struct wgroup *g = f->c->writer->order;
    uint32_t i, k;

    if (!g || !g->seg->started) /* else nothing of the segment stays */
        return;
    for (i = g->settled; i < g->count; i++) {
        for (k = FIRST; k < LAST && g->blocks[i].carried; k += STEP) {
            if (memcmp(g->blocks[i].info.key, f->keys[k].b, sizeof f->keys[k].b) != 0 ||
                cistern_delete(f->c, &f->keys[k], 1) != 0)
                continue;
            chosen[k] = true;
            arm = false;
            armed = g->seg;
        }
    }
}

static bool frame_failed(struct fixture *f)
{
    (void)f;
    return atomic_load(&failed);
}

static void deleted_before_its_frame_failed(void **state)
{
    struct fixture *f = *state;

    SKIP_UNLESS_EXCHANGED();
    open_store(f);
    true_ops = f->c->io->ops;
    f->ops = *true_ops;
    f->ops.prep = lying_prep;
    f->ops.wait = lying_wait;
    victim = NULL;
    armed = NULL;
    liar = f;
    arm = true;
    atomic_store(&failed, false);
    f->c->io->ops = &f->ops;
    hooked = f;
    churn(f, frame_failed);
    hooked = NULL;
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    f->c->io->ops = true_ops;
    none_is_there(f);
    reopen(f);
    none_is_there(f);
}

/* ---- All that was on its way arrives while a deletion looks ---- */

static pthread_t deleter;
static _Atomic int deleting; /* the block, when somebody is to delete it */
static _Atomic bool looked, deleted;
static uint32_t cleared_before;

static void *delete_it(void *arg)
{
    struct fixture *f = arg;

    atomic_store(&deleted, cistern_delete(f->c, &f->keys[atomic_load(&deleting)], 1) >= 0);
    return NULL;
}

/* On the keeper: blocks were read, and are in no index. */
static void delete_read(struct fixture *f)
{
    uint32_t k;

    for (k = FIRST; k < LAST && !atomic_load(&deleting); k += STEP) {
        if (in_index(f, k))
            continue;
        atomic_store(&deleting, (int)k);
        cleared_before = carry_cleared(f->c);
        chosen[k] = true;
        assert_int_equal(pthread_create(&deleter, NULL, delete_it, f), 0);
        while (!atomic_load(&looked))
            (void)usleep(500);
    }
}

/* In the middle of the deletion, which found nothing so far. */
static void wait_for_arrival(struct fixture *f)
{
    uint64_t end = now_ms() + SOON_MS;
    uint32_t k = (uint32_t)atomic_load(&deleting);

    atomic_store(&looked, true);
    while ((!in_index(f, k) || carry_cleared(f->c) == cleared_before) && now_ms() < end)
        (void)usleep(500);
}

static bool was_deleted(struct fixture *f)
{
    (void)f;
    return atomic_load(&deleted);
}

static void deleted_while_the_last_one_arrives(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    atomic_store(&deleting, 0);
    atomic_store(&looked, false);
    atomic_store(&deleted, false);
    hooked = f;
    churn(f, was_deleted);
    hooked = NULL;
    assert_int_equal(pthread_join(deleter, NULL), 0);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    none_is_there(f);
    reopen(f);
    none_is_there(f);
}

/* ---- Another store deleted it, and we hear of it when it has arrived here ---- */

static _Atomic bool hears, heard;

/* On the keeper, which has read the next blocks to be carried: some that went before arrived. */
static void hear_of_arrived(struct fixture *f)
{
    uint32_t k;

    for (k = FIRST; k < LAST; k += NEAR) {
        struct dead_note note = {.offset = 4096, .segment_id = {0xee}, .reason = DEAD_DELETED};

        if (!(chosen[k] = in_index(f, k)))
            continue;
        memcpy(note.key, f->keys[k].b, sizeof note.key);
        follow_hear(f->c, &note);
    }
    if (cistern_refresh(f->c, SOON_MS))
        return;
    for (k = FIRST; k < LAST; k += NEAR) { /* others were not carried, and are there */
        chosen[k] &= !in_index(f, k);
        if (chosen[k])
            atomic_store(&heard, true);
    }
}

static bool was_heard(struct fixture *f)
{
    (void)f;
    return atomic_load(&heard);
}

static void heard_of_after_it_arrived(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    atomic_store(&heard, false);
    atomic_store(&hears, true);
    hooked = f;
    churn(f, was_heard);
    hooked = NULL;
    atomic_store(&hears, false);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    none_is_there(f);
    reopen(f);
    none_is_there(f);
}

/* ---- Many deletions at a time ---- */

static _Atomic uint32_t taken;
static _Atomic int last_rc;

/* On the write lane, which takes none meanwhile. */
static void fill_the_ring(struct fixture *f)
{
    struct dead_note note = {.offset = 4096, .segment_id = {0xee}, .reason = DEAD_DELETED};
    uint32_t n = 0;

    while (n < DEAD_NOTES && writer_push_dead(f->c, &note, 1) == 0)
        n++;
    atomic_store(&last_rc, writer_push_carried(f->c, &note));
    atomic_store(&taken, n);
}

static void there_is_room_for_the_lane(void **state)
{
    struct fixture *f = *state;

    open_store(f);
    atomic_store(&taken, 0);
    hooked = f;
    put_all(f, 0, BATCH);
    hooked = NULL;
    assert_in_range(atomic_load(&taken), 1, DEAD_NOTES - DEAD_KEPT);
    assert_int_equal(atomic_load(&last_rc), 0);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
}

static void on_point(const char *name)
{
    struct fixture *f = hooked;

    if (!f || !f->c)
        return;
    if (strcmp(name, "put.payload_written") == 0 && arm)
        delete_laid_out(f);
    else if (strcmp(name, "put.payload_written") == 0 && !atomic_load(&taken))
        fill_the_ring(f);
    else if (strcmp(name, "carry.read") == 0 && atomic_load(&hears) && !atomic_load(&heard))
        hear_of_arrived(f);
    else if (strcmp(name, "carry.read") == 0 && !atomic_load(&deleting))
        delete_read(f);
    else if (strcmp(name, "delete.looked") == 0 && !atomic_load(&looked))
        wait_for_arrival(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(deleted_before_its_frame_failed),
        TEST(deleted_while_the_last_one_arrives),
        TEST(heard_of_after_it_arrived),
        TEST(there_is_room_for_the_lane),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    atomic_store(&taken, 1);
    atomic_store(&deleting, 1);
    atomic_store(&looked, true);
    fault_hook = on_point;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
