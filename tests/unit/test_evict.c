/*
 * test_evict.c - capacity on real files: what is evicted, what stays, what crashes and strangers
 * leave. A file system that is full: test_full.c.
 *
 * Segments are of 1 MiB, blocks of 64 KiB. Nothing is judged by time: conditions are waited for
 * with a limit that only tells "soon" from "never".
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/fault.h"
#include "engine/evict.h"
#include "engine/follow.h"
#include "engine/writer_internal.h"
#include "evict_fixture.h"

enum { QUIET_MS = 400 };

/* ---- Files ---- */

static uint64_t du_bytes, du_files;

static int du_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    const char *dot = strrchr(path, '.');

    (void)where;
    if (kind == FTW_F && dot &&
        (strcmp(dot, ".seg") == 0 || strcmp(dot, ".toc") == 0 || strcmp(dot, ".head") == 0)) {
        du_bytes += (uint64_t)st->st_blocks * 512;
        du_files++;
    }
    return 0;
}

static uint64_t du(const struct fixture *f)
{
    du_bytes = du_files = 0;
    (void)nftw(f->s.dir, du_one, 16, FTW_PHYS);
    return du_bytes;
}

/* Removes the first that matches, or makes a file of that name beside it. */
static void first_path(const struct fixture *f, const char *pattern, char *out, size_t size)
{
    char path[512];
    glob_t g;

    (void)snprintf(path, sizeof path, "%s/rtp_llm/*-*/s*/%s", f->s.dir, pattern);
    assert_int_equal(glob(path, 0, NULL, &g), 0);
    (void)snprintf(out, size, "%s", g.gl_pathv[0]);
    globfree(&g);
}

static void make_file(const char *path, size_t len)
{
    char byte = 'x';
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (; len; len--)
        assert_int_equal(write(fd, &byte, 1), 1);
    assert_int_equal(close(fd), 0);
}

/* ---- Fixture ---- */

static void reopen(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    open_store(f);
}

static int setup_with(void **state, uint64_t capacity)
{
    *state = fixture_new(capacity, QUIET_MS);
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, 16 * SEGMENT);
}

/* ---- The bound ---- */

static void bytes_stay_within_the_capacity(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits;

    open_store(f);
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        assert_true(du(f) <= 17 * SEGMENT);
    }
    assert_true(metric_of(f->c, "evicted_segments") >= MANY / 16 - 17);
    assert_true(get_one(f, MANY - 1));
    assert_false(get_one(f, 0));
    hits = get_hits(f, 0, MANY);
    assert_in_range(hits, 4 * 16, 17 * 16);
    WAIT_FOR(metric_of(f->c, "usage_bytes") <= 16 * SEGMENT);
    assert_true(count_files(f, "*.toc") <= 18);
    reopen(f);
    /* A segment may have gone since, and blocks may have been on their way out of another. */
    assert_in_range(get_hits(f, 0, MANY), hits - 2 * 16, hits + 16);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

static void what_was_evicted_can_be_put_again(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    for (i = 0; i < 512; i += BATCH)
        put_all(f, i, BATCH);
    assert_false(get_one(f, 0));
    put_all(f, 0, BATCH);
    assert_int_equal(f->results[0], CISTERN_STORED);
    assert_true(get_one(f, 0));
}

/* Reads that were planned before an eviction end in peace; the file is closed after the last. */
static void a_segment_that_is_held_stays_open(void **state)
{
    struct fixture *f = *state;
    struct index_place place;
    uint32_t number, i;

    f->s.o.capacity_bytes = 0;
    open_store(f);
    for (i = 0; i < 32; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(metric_of(f->c, "segments_sealed") > 0);
    assert_true(index_find(f->c->index, &f->keys[0], &place));
    number = place.segment;
    assert_true(segment_hold(&f->c->segs, number));
    assert_int_equal(segment_forget(f->c, number), 16);
    assert_int_equal(segment_forget(f->c, number), 0);
    assert_false(index_find(f->c->index, &f->keys[0], &place));
    assert_false(segment_hold(&f->c->segs, number));
    assert_int_equal(segments_collect(f->c), 1);
    assert_true(f->c->segs.at[number].data.fd >= 0);
    segment_release(&f->c->segs, number);
    WAIT_FOR(segments_collect(f->c) == 0 && f->c->segs.at[number].data.fd < 0);
    assert_false(get_one(f, 0));
}

/* ---- Capacity at run time ---- */

static void a_smaller_capacity_is_taken_up(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    for (i = 0; i < 192; i += BATCH)
        put_all(f, i, BATCH);
    assert_true(du(f) > 10 * SEGMENT);
    assert_int_equal(cistern_set_capacity(f->c, 6 * SEGMENT), 0);
    WAIT_FOR(du(f) <= 6 * SEGMENT);
    assert_int_equal(metric_of(f->c, "capacity_bytes"), 6 * SEGMENT);
    assert_int_equal(cistern_set_capacity(f->c, 2 * SEGMENT - 1), -EINVAL);
    assert_non_null(strstr(cistern_error_text(), "less than 2 segments"));
    assert_int_equal(metric_of(f->c, "capacity_bytes"), 6 * SEGMENT);
    assert_true(get_one(f, 191));
    reopen(f);
    assert_int_equal(metric_of(f->c, "capacity_bytes"), 6 * SEGMENT);
    assert_int_equal(cistern_set_capacity(f->c, 0), 0);
    for (i = 256; i < 512; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(get_hits(f, 256, 512), 256);
}

/* Written by another handle (of another shard); other members of the file stay. */
static void a_capacity_that_another_wrote_is_taken_up(void **state)
{
    struct fixture *f = *state;
    char path[300], text[512] = {0};
    cistern *other;
    int fd;

    f->s.space.shards = 2;
    open_store(f);
    f->s.o.shard = 1;
    assert_int_equal(cistern_open(&f->s.o, &other), 0);
    assert_int_equal(cistern_set_capacity(other, 9 * SEGMENT), 0);
    WAIT_FOR(metric_of(f->c, "capacity_bytes") == 9 * SEGMENT);
    assert_int_equal(cistern_close(other), 0);
    (void)snprintf(path, sizeof path, "%s/rtp_llm/cistern.json", f->s.dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    assert_int_equal(close(fd), 0);
    assert_non_null(strstr(text, "\"segment_bytes\":1048576"));
    assert_non_null(strstr(text, "\"capacity_bytes\":9437184"));
}

/* ---- Whose segments ---- */

static void old_models_go_first(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    for (i = 0; i < 128; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(cistern_close(f->c), 0);
    f->s.space.model = "next";
    open_store(f);
    for (i = 0; i < 144; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(du(f) <= 16 * SEGMENT);
    assert_int_equal(get_hits(f, 0, 144), 144);
    assert_true(metric_of(f->c, "evicted_segments") > 0);
}

/* The segments of a writer that closed may be evicted by the next. */
static void segments_of_ended_writers_are_evicted(void **state)
{
    struct fixture *f = *state;
    uint32_t i, round;

    for (round = 0; round < 6; round++) {
        open_store(f);
        for (i = 0; i < 64; i += BATCH)
            put_all(f, round * 64 + i, BATCH);
        assert_true(du(f) <= 17 * SEGMENT);
        assert_int_equal(cistern_close(f->c), 0);
    }
    open_store(f);
    assert_true(get_one(f, 6 * 64 - 1));
    assert_true(get_hits(f, 0, 2 * 64) < 2 * 64); /* of the oldest */
    /* Heads of writers that have nothing any more go as well. */
    WAIT_FOR(count_files(f, "*.head") <= 5);
}

static void a_run_that_was_matched_is_not_chosen(void **state)
{
    struct fixture *f = *state;
    struct cistern_match m;
    uint32_t i;

    open_store(f);
    for (i = 0; i < 160; i += BATCH)
        put_all(f, i, BATCH);
    assert_int_equal(cistern_match(f->c, f->keys, 16, &m), 0);
    assert_int_equal(m.blocks, 16);
    assert_true(m.ticket != 0);
    for (i = 160; i < 400; i += BATCH) {
        put_all(f, i, BATCH);
        assert_int_equal(cistern_match(f->c, f->keys, 16, &m), 0);
    }
    assert_int_equal(get_hits(f, 0, 16), 16);
    assert_true(metric_of(f->c, "evicted_segments") > 4);
}

/* ---- What outlives its segment ---- */

/* One block of every fourth segment is read now and then. */
static void read_some(struct fixture *f, uint32_t *hits)
{
    uint32_t i;

    for (i = 3; i < 256; i += 64)
        *hits += get_one(f, i);
}

static void used_blocks_are_carried_over(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits = 0, again = 0;

    open_store(f);
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        if (i % 64 == 0)
            read_some(f, &hits);
    }
    assert_true(metric_of(f->c, "evicted_segments") > 20);
    assert_true(metric_of(f->c, "carried_blocks") > 0);
    assert_int_equal(metric_of(f->c, "carried_bytes"),
                     metric_of(f->c, "carried_blocks") * STORE_BLOCK);
    assert_true(metric_of(f->c, "carried_bytes") * 4 < metric_of(f->c, "put_bytes"));
    assert_true(du(f) <= 17 * SEGMENT);
    hits = 0;
    read_some(f, &hits);
    assert_true(hits > 0);
    assert_true(get_hits(f, 100, 300) < 100);
    reopen(f);
    read_some(f, &again);
    assert_true(again > 0);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

static struct fixture *_Atomic deleting; /* by the hook, once; main() sets the hook */
static _Atomic int64_t deleted;
static struct fixture *_Atomic hearing; /* likewise */
static _Atomic int heard_rc;

/* A block of an evicted segment was read to be carried over: it is in no index now. */
static void delete_while_carried(const char *name)
{
    struct fixture *f = deleting;
    int64_t found = 0;
    uint32_t i;

    if (!f || strcmp(name, "carry.read") != 0)
        return;
    for (i = 3; i < 256; i += 64)
        found += cistern_delete(f->c, &f->keys[i], 1);
    deleted = found;
    deleting = NULL;
}

static void what_is_deleted_while_it_is_carried_stays_away(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits = 0;

    open_store(f);
    deleted = -1;
    deleting = f;
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        if (i % 64 == 0 && deleting)
            read_some(f, &hits);
    }
    assert_null(deleting);
    assert_true(deleted >= 0 && deleted < 4); /* one at least was on its way */
    for (i = 3; i < 256; i += 64)
        assert_false(get_one(f, i));
    reopen(f);
    for (i = 3; i < 256; i += 64)
        assert_false(get_one(f, i));
}

static bool was_gone[MANY]; /* in no index while a carrying over was held up */

/* Another store's notes of deletion arrive; they name the copies that it knew. */
static void hear_while_carried(const char *name)
{
    struct fixture *f = hearing;
    uint32_t i;

    if (!f || strcmp(name, "carry.read") != 0)
        return;
    hearing = NULL;
    for (i = 3; i < 256; i += 64) {
        struct dead_note note = {.offset = 4096, .segment_id = {0xee}, .reason = DEAD_DELETED};
        struct index_place place;

        if (!(was_gone[i] = !index_find(f->c->index, &f->keys[i], &place)))
            continue;
        memcpy(note.key, f->keys[i].b, sizeof note.key);
        follow_hear(f->c, &note);
    }
    heard_rc = cistern_refresh(f->c, SOON_MS);
}

static struct fixture *_Atomic deleting_late; /* by the hook; all that it can */
static bool was_laid_out[MANY];

/* A carried block was laid out, and the frame that will name it is about to be written: it is in no
 * index now. */
static void delete_while_laid_out(const char *name)
{
    struct fixture *f = deleting_late;
    const struct wgroup *g;
    uint32_t i, k;

    if (!f || !f->c || strcmp(name, "put.payload_written") != 0)
        return;
    for (g = f->c->writer->order; g; g = g->link) {
        for (i = g->settled; i < g->count; i++) {
            for (k = 3; k < 256; k += 64) {
                if (!g->blocks[i].carried || was_laid_out[k] ||
                    memcmp(g->blocks[i].info.key, f->keys[k].b, sizeof f->keys[k].b) != 0)
                    continue;
                was_laid_out[k] = cistern_delete(f->c, &f->keys[k], 1) == 0;
            }
        }
    }
}

static void what_is_deleted_when_it_was_laid_out_stays_away(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits = 0, gone = 0;

    open_store(f);
    deleting_late = f;
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        if (i % 64 == 0 && !was_laid_out[3])
            read_some(f, &hits);
    }
    deleting_late = NULL;
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    for (i = 3; i < 256; i += 64) {
        gone += was_laid_out[i];
        assert_false(was_laid_out[i] && get_one(f, i));
    }
    assert_true(gone > 0);
    reopen(f);
    for (i = 3; i < 256; i += 64)
        assert_false(was_laid_out[i] && get_one(f, i));
}

static void while_carried(const char *name)
{
    delete_while_carried(name);
    hear_while_carried(name);
    delete_while_laid_out(name);
}

static void what_others_delete_while_it_is_carried_stays_away(void **state)
{
    struct fixture *f = *state;
    uint32_t i, hits = 0, gone = 0;

    open_store(f);
    heard_rc = 1;
    hearing = f;
    for (i = 0; i < MANY; i += BATCH) {
        put_all(f, i, BATCH);
        if (i % 64 == 0 && hearing)
            read_some(f, &hits);
    }
    assert_null(hearing);
    WAIT_FOR(heard_rc == 0);
    reopen(f);
    for (i = 3; i < 256; i += 64) {
        gone += was_gone[i];
        assert_false(was_gone[i] && get_one(f, i));
    }
    assert_true(gone > 0);
}

static void nothing_is_carried_when_it_is_off(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    f->s.o.carry_over = -1;
    open_store(f);
    for (i = 0; i < 512; i += BATCH) {
        put_all(f, i, BATCH);
        if (i >= 16)
            (void)get_one(f, 3 + i / BATCH % 8);
    }
    assert_true(metric_of(f->c, "evicted_segments") > 8);
    assert_int_equal(metric_of(f->c, "carried_blocks"), 0);
}

/* A deletion is noted in the segment that is being written; it holds for as long as the block's own
 * segment is there, which here is longer. */
static void deletions_outlive_their_segment(void **state)
{
    struct fixture *f = *state;
    struct cistern_match m;
    uint32_t i;

    f->s.o.get_timeout_ms = SOON_MS; /* matched segments stay */
    open_store(f);
    for (i = 0; i < 64; i += BATCH)
        put_all(f, i, BATCH);
    WAIT_FOR(metric_of(f->c, "segments_sealed") > 0);
    assert_int_equal(cistern_delete(f->c, &f->keys[5], 1), 1);
    for (; i < 512; i += BATCH) {
        assert_int_equal(cistern_match(f->c, f->keys, 4, &m), 0);
        assert_int_equal(m.blocks, 4);
        assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
        put_all(f, i, BATCH);
    }
    assert_false(get_one(f, 70)); /* of the segment that had the note, or near it */
    reopen(f);
    assert_true(get_one(f, 4));
    assert_false(get_one(f, 5));
    assert_true(get_one(f, 6));
}

/* ---- Crashes ---- */

static const char *die_at;

static void die(const char *name)
{
    if (strcmp(name, die_at) == 0)
        (void)kill(getpid(), SIGKILL);
}

/* A child writes until it dies at the point. */
static void child_dies(struct fixture *f, const char *point)
{
    pid_t pid = fork();
    uint32_t i;
    int status;

    if (pid == 0) {
        die_at = point;
        fault_hook = die;
        if (cistern_open(&f->s.o, &f->c))
            _exit(3);
        for (i = 0; i < MANY; i++)
            put_once(f, i % MANY, 1);
        _exit(4);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void crash_at(struct fixture *f, const char *point)
{
    uint32_t hits;

    child_dies(f, point);
    open_store(f);
    hits = get_hits(f, 0, MANY);
    assert_true(hits > 0);
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
    /* The dead writer is silent after a while; what it left without contents goes. */
    WAIT_FOR(count_files(f, "*.seg") == count_files(f, "*.toc"));
    put_all(f, 0, BATCH);
    WAIT_FOR(du(f) <= 16 * SEGMENT);
    assert_true(get_hits(f, 0, MANY) >= BATCH);
}

static void killed_before_the_first_step(void **state)
{
    crash_at(*state, "evict.begin");
}

static void killed_between_the_steps(void **state)
{
    crash_at(*state, "evict.contents_gone");
}

static void killed_after_the_last_step(void **state)
{
    crash_at(*state, "evict.data_gone");
}

static void litter_of_dead_writers_goes(void **state)
{
    struct fixture *f = *state;
    char path[512], dir[512];

    open_store(f);
    put_all(f, 0, BATCH);
    first_path(f, "*.toc", dir, sizeof dir);
    *strrchr(dir, '/') = 0;
    /* Data without contents; contents without data; a pair that nothing was put in; a bare head. */
    (void)snprintf(path, sizeof path, "%.400s/00000000000000a1-00000000.seg", dir);
    make_file(path, 5000);
    (void)snprintf(path, sizeof path, "%.400s/00000000000000a2-00000000.toc", dir);
    make_file(path, 4096);
    (void)snprintf(path, sizeof path, "%.400s/00000000000000a3-00000007.seg", dir);
    make_file(path, 0);
    (void)snprintf(path, sizeof path, "%.400s/00000000000000a3-00000007.toc", dir);
    make_file(path, 0);
    (void)snprintf(path, sizeof path, "%.400s/00000000000000a4.head", dir);
    make_file(path, 100);
    (void)snprintf(path, sizeof path, "%.400s/notes.txt", dir);
    make_file(path, 10);
    WAIT_FOR(count_files(f, "00000000000000a*") == 0);
    assert_int_equal(count_files(f, "notes.txt"), 1);
    assert_true(metric_of(f->c, "orphans_removed") >= 3);
    assert_int_equal(get_hits(f, 0, BATCH), BATCH);
}

/* A live writer's newest segment and its head are nobody's litter. */
static void live_writers_keep_their_files(void **state)
{
    struct fixture *f = *state;
    cistern *other;
    uint64_t end;
    uint32_t i;

    f->s.space.shards = 2;
    f->s.o.silence_ms = 5 * QUIET_MS;
    open_store(f);
    for (i = 0; i < 40; i += BATCH)
        put_all(f, i, BATCH);
    f->s.o.shard = 1;
    assert_int_equal(cistern_open(&f->s.o, &other), 0);
    assert_int_equal(cistern_set_capacity(other, 2 * SEGMENT), 0);
    for (end = now_ms() + 7 * QUIET_MS; now_ms() < end;)
        (void)usleep(10000);
    assert_int_equal(cistern_close(other), 0);
    if (metric_of(f->c, "writer_fences")) {
        print_message("skipped: the machine stood still, the writer gave its name up\n");
        skip();
    }
    assert_int_equal(get_hits(f, 40 - BATCH, 40), BATCH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_stay_within_the_capacity),
        TEST(what_was_evicted_can_be_put_again),
        TEST(a_segment_that_is_held_stays_open),
        TEST(a_smaller_capacity_is_taken_up),
        TEST(a_capacity_that_another_wrote_is_taken_up),
        TEST(old_models_go_first),
        TEST(segments_of_ended_writers_are_evicted),
        TEST(a_run_that_was_matched_is_not_chosen),
        TEST(used_blocks_are_carried_over),
        TEST(what_is_deleted_while_it_is_carried_stays_away),
        TEST(what_others_delete_while_it_is_carried_stays_away),
        TEST(what_is_deleted_when_it_was_laid_out_stays_away),
        TEST(nothing_is_carried_when_it_is_off),
        TEST(deletions_outlive_their_segment),
        TEST(killed_before_the_first_step),
        TEST(killed_between_the_steps),
        TEST(killed_after_the_last_step),
        TEST(litter_of_dead_writers_goes),
        TEST(live_writers_keep_their_files),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    fault_hook = while_carried;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
