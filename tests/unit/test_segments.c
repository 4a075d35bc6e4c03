/*
 * test_segments.c - who holds a segment: its writer from its making to its seal, and nobody when
 * all is at rest. A number that is given back once too often, or not, ends in a segment that is
 * closed while it is written, or never.
 */
#include "evict_fixture.h"

#include <stdatomic.h>

#include "base/fault.h"
#include "engine/writer_internal.h"

enum { BLOCKS = 10 * SEGMENT / STORE_BLOCK };

static struct fixture *_Atomic waiting; /* for another segment; main() sets the hook */
static _Atomic uint32_t waited;

/* A sealed segment gave its stage back, and the syncer goes on only when others were made. */
static void wait_for_the_next(const char *name)
{
    struct fixture *f = waiting;
    uint64_t end = now_ms() + SOON_MS, made;

    if (!f || !f->c || strcmp(name, "seal.stage_free") != 0)
        return;
    made = metric_of(f->c, "segments_created");
    while (metric_of(f->c, "segments_created") < made + 2 && waiting && now_ms() < end)
        (void)usleep(1000);
    waited += metric_of(f->c, "segments_created") >= made + 2;
    waiting = NULL;
}

static int setup(void **state)
{
    *state = fixture_new(0, 0);
    return 0;
}

/* Each segment that is being written is held once, each other one by nobody. */
static bool holds_are_right(struct fixture *f)
{
    struct segtab *t = &f->c->segs;
    uint32_t i, n = atomic_load(&t->count);

    for (i = 0; i < n; i++) {
        const struct segment *s = &t->at[i];
        bool open = segtab_in_use(t, i) && writer_segment_open(f->c, s->writer, s->seq);

        if ((atomic_load(&s->holds) & ~SEGMENT_GONE) != open)
            return false;
    }
    return n >= 8;
}

static void a_stage_that_is_used_again_at_once(void **state)
{
    struct fixture *f = *state;
    uint32_t i;

    open_store(f);
    waiting = f;
    for (i = 0; i < BLOCKS; i += BATCH)
        put_all(f, i, BATCH);
    waiting = NULL;
    assert_int_equal(waited, 1);
    assert_int_equal(cistern_flush(f->c, SOON_MS), 0);
    WAIT_FOR(holds_are_right(f));
    assert_int_equal(get_hits(f, 0, BLOCKS), BLOCKS);
    WAIT_FOR(holds_are_right(f));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stage_that_is_used_again_at_once),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    fault_hook = wait_for_the_next;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
