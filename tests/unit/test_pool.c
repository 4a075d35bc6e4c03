/*
 * test_pool.c - staging slots: who has which, and what survives a close. The memory is a row of
 * operations of this file's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cistern.h"
#include "pool/pool.h"

enum { SLOT = 8192, SLOTS = 6 };

static int fail_create, alive;
static size_t asked_size, asked_block;

static int create(struct io *io, struct io_mem *m, size_t size, size_t block_size)
{
    (void)io;
    if (fail_create)
        return err_set(fail_create, "no memory today");
    asked_size = size;
    asked_block = block_size;
    m->base = aligned_alloc(4096, size > (64 << 20) ? 4096 : size);
    m->size = size;
    alive++;
    return m->base ? 0 : -ENOMEM;
}

static void destroy(struct io *io, struct io_mem *m)
{
    (void)io;
    free(m->base);
    alive--;
}

static const struct io_ops ops = {.name = "test", .mem_create = create, .mem_destroy = destroy};
static struct io io = {.ops = &ops};

static struct pool *open_pool(void)
{
    struct pool *p = NULL;

    assert_int_equal(pool_open(&io, "staging", SLOTS * SLOT + 100, SLOT, 2, &p), 0);
    return p;
}

static void expect(const struct pool *p, uint32_t free_slots, uint32_t quarantined)
{
    struct pool_counts n;

    pool_count(p, &n);
    assert_int_equal(n.slots, SLOTS);
    assert_int_equal(n.free, free_slots);
    assert_int_equal(n.quarantined, quarantined);
}

static void slots_are_distinct_and_aligned(void **state)
{
    struct pool *p = open_pool();
    uint8_t seen[SLOTS] = {0};
    void *s[SLOTS];
    int i;

    (void)state;
    assert_int_equal(pool_slot_bytes(p), SLOT);
    assert_int_equal(asked_size, SLOTS * SLOT);
    for (i = 0; i < SLOTS; i++) {
        size_t at;

        s[i] = pool_take(p);
        assert_non_null(s[i]);
        at = (size_t)((uint8_t *)s[i] - pool_generation(p, 0)->base);
        assert_int_equal(at % SLOT, 0);
        assert_true(at / SLOT < SLOTS);
        assert_int_equal(seen[at / SLOT]++, 0);
    }
    assert_null(pool_take(p));
    expect(p, 0, 0);
    for (i = 0; i < SLOTS; i++)
        pool_give(p, s[i]);
    expect(p, SLOTS, 0);
    assert_int_equal(pool_close(p), 0);
    assert_int_equal(alive, 0);
    assert_int_equal(pool_close(NULL), 0);
}

static void last_given_is_first_taken(void **state)
{
    struct pool *p = open_pool();
    void *a = pool_take(p), *b = pool_take(p);

    (void)state;
    pool_give(p, a);
    pool_give(p, b);
    assert_ptr_equal(pool_take(p), b);
    assert_ptr_equal(pool_take(p), a);
    pool_give(p, a);
    pool_give(p, b);
    assert_int_equal(pool_close(p), 0);
}

static void quarantined_slots_stay_away(void **state)
{
    struct pool *p = open_pool();
    void *s[SLOTS];
    int i;

    (void)state;
    for (i = 0; i < SLOTS; i++)
        s[i] = pool_take(p);
    pool_quarantine(p, s[3]);
    expect(p, 0, 1);
    assert_null(pool_take(p));
    pool_give(p, s[3]); /* not while storage may write to it */
    expect(p, 0, 1);
    assert_null(pool_take(p));
    pool_unquarantine(p, s[3]);
    expect(p, 1, 0);
    assert_ptr_equal(pool_take(p), s[3]);
    for (i = 0; i < SLOTS; i++)
        pool_give(p, s[i]);
    assert_int_equal(pool_close(p), 0);
}

static void wrong_moves_change_nothing(void **state)
{
    struct pool *p = open_pool();
    uint8_t *s = pool_take(p);
    int local;

    (void)state;
    pool_give(p, s + 1);
    pool_give(p, s + SLOT);
    pool_give(p, NULL);
    pool_give(p, &local);
    pool_give(p, pool_generation(p, 0)->base - SLOT);
    pool_give(p, pool_generation(p, 0)->base + SLOTS * SLOT);
    pool_unquarantine(p, s);
    expect(p, SLOTS - 1, 0);
    pool_give(p, s);
    pool_give(p, s);
    pool_quarantine(p, s);
    expect(p, SLOTS, 0);
    assert_int_equal(pool_close(p), 0);
}

static void owned_slots_outlive_the_pool(void **state)
{
    struct pool *p = open_pool(), *q = open_pool();
    void *late = pool_take(p), *used = pool_take(q);

    (void)state;
    pool_quarantine(p, late);
    assert_int_equal(pool_close(p), -EBUSY);
    assert_int_equal(pool_close(q), -EBUSY);
    assert_int_equal(alive, 2);
    memset(late, 1, SLOT); /* storage answers at last */
    memset(used, 1, SLOT);
}

static void bad_sizes_are_named(void **state)
{
    struct pool *p = NULL;

    (void)state;
    assert_int_equal(pool_open(&io, "staging", 1 << 20, 0, 1, &p), -EINVAL);
    assert_int_equal(pool_open(&io, "staging", 1 << 20, 1000, 1, &p), -EINVAL);
    assert_int_equal(pool_open(&io, "read staging", 4 * SLOT, SLOT, 5, &p), CISTERN_ECONFIG);
    assert_non_null(strstr(err_text(), "read staging"));
    assert_int_equal(pool_open(&io, "staging", SLOT - 1, SLOT, 0, &p), CISTERN_ECONFIG);
    assert_int_equal(pool_open(&io, "staging", 4ull << 30, 2ull << 30, 1, &p), CISTERN_ECONFIG);
    fail_create = -ENOENT;
    assert_int_equal(pool_open(&io, "write staging", 4 * SLOT, SLOT, 1, &p), -ENOENT);
    assert_string_equal(err_text(), "write staging: no memory today");
    fail_create = 0;
    assert_null(p);
}

/* A slot never crosses a block of the iov, and no block is above 1 GiB. */
static void blocks_of_the_iov_hold_whole_slots(void **state)
{
    const uint64_t gib = 1ull << 30, slot = 3 << 20;
    struct pool *p = NULL;

    (void)state;
    assert_int_equal(pool_open(&io, "staging", 4 * gib, slot, 1, &p), 0);
    assert_true(asked_block > 0 && asked_block <= gib);
    assert_int_equal(asked_block % slot, 0);
    assert_true(asked_block > gib - slot);
    assert_int_equal(asked_size % slot, 0);
    assert_true(4 * gib - asked_size < slot);
    assert_int_equal(pool_close(p), 0);
    assert_int_equal(pool_open(&io, "staging", gib, 1 << 20, 1, &p), 0);
    assert_int_equal(asked_block, 0); /* one block: the whole */
    assert_int_equal(pool_close(p), 0);
}

static void *hammer(void *arg)
{
    struct pool *p = arg;
    intptr_t wrong = 0;
    int i;

    for (i = 0; i < 20000; i++) {
        uint32_t *s = pool_take(p);

        if (!s)
            continue;
        wrong += (*s)++ != 0; /* nobody else has it */
        if (i % 7 == 0) {
            pool_quarantine(p, s);
            (*s)--;
            pool_unquarantine(p, s);
        } else {
            (*s)--;
            pool_give(p, s);
        }
    }
    return (void *)wrong;
}

static void threads_never_share_a_slot(void **state)
{
    struct pool *p = open_pool();
    pthread_t t[4];
    void *wrong;
    int i;

    (void)state;
    memset(pool_generation(p, 0)->base, 0, SLOTS * SLOT);
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, hammer, p), 0);
    for (i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i], &wrong), 0);
        assert_null(wrong);
    }
    expect(p, SLOTS, 0);
    assert_int_equal(pool_close(p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_distinct_and_aligned),
        cmocka_unit_test(last_given_is_first_taken),
        cmocka_unit_test(quarantined_slots_stay_away),
        cmocka_unit_test(wrong_moves_change_nothing),
        cmocka_unit_test(bad_sizes_are_named),
        cmocka_unit_test(blocks_of_the_iov_hold_whole_slots),
        cmocka_unit_test(threads_never_share_a_slot),
        cmocka_unit_test(owned_slots_outlive_the_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
