/*
 * test_bell.c - the shared bell and its page: who rings is heard, who sleeps is woken, and a page
 * that is not ours, or that nobody needs any more, is left alone or goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/bell.h"

static uint8_t salt[32], space[32];
static struct bell a, b;

static int setup(void **state)
{
    (void)state;
    assert_int_equal(getrandom(salt, sizeof salt, 0), sizeof salt);
    memset(space, 7, sizeof space);
    if (bell_open(&a, true, salt, space)) {
        print_message("skipped: /dev/shm gives no page here\n");
        return 1;
    }
    assert_int_equal(bell_open(&b, true, salt, space), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bell_close(&a);
    bell_close(&b);
    return 0;
}

static void others_are_heard_oneself_is_not(void **state)
{
    struct bell_heard before_a = bell_hear(&a), before_b = bell_hear(&b), after;

    (void)state;
    bell_ring(&a, 3, false);
    after = bell_hear(&b);
    assert_int_equal(after.shard[3], before_b.shard[3] + 1);
    assert_int_equal(after.shard[2], before_b.shard[2]);
    assert_int_equal(after.names, before_b.names);
    assert_int_equal(bell_hear(&a).shard[3], before_a.shard[3]);
    bell_ring(&a, 3 + BELL_SHARDS, true);
    after = bell_hear(&b);
    assert_int_equal(after.shard[3], before_b.shard[3] + 2);
    assert_int_equal(after.names, before_b.names + 1);
    bell_poke(&a);
    assert_int_equal(bell_hear(&b).shard[3], after.shard[3]);
}

static void *sleeper(void *arg)
{
    struct bell_heard heard = bell_hear(&b);

    *(_Atomic bool *)arg = true;
    while (bell_hear(&b).shard[1] == heard.shard[1]) {
        bell_wait(&b, &heard, 600 * NS_PER_S);
        heard.rung = bell_hear(&b).rung;
    }
    return NULL;
}

/* Nothing but the ring ends the sleep: without it the test would hang. */
static void a_sleeper_is_woken(void **state)
{
    _Atomic bool ready = false;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, sleeper, &ready), 0);
    while (!atomic_load(&ready) || !atomic_load(&b.waiting))
        (void)usleep(1000);
    bell_ring(&a, 1, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static bool there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* The page outlives whoever dies, and goes with the last who leaves. */
static void the_last_takes_the_name_away(void **state)
{
    char path[sizeof a.page.path];
    pid_t child;
    int status;

    (void)state;
    (void)snprintf(path, sizeof path, "%s", a.page.path);
    child = fork();
    if (child == 0) {
        struct bell c;

        _exit(bell_open(&c, true, salt, space) ? 1 : 0); /* dies without a word */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    bell_close(&a);
    assert_true(there(path));
    bell_close(&b);
    assert_false(there(path));
}

/* All users of a root were killed: whoever opens another one takes its page away, and no other. */
static void pages_of_the_dead_go(void **state)
{
    uint8_t other[32];
    char path[sizeof a.page.path];
    struct bell c;
    int fds[2];
    pid_t child;

    (void)state;
    memset(other, 0x5c, sizeof other);
    memcpy(other, salt, 16);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        bool open = bell_open(&c, true, other, space) == 0;

        (void)!write(fds[1], c.page.path, open ? sizeof c.page.path : 0);
        _exit(0);
    }
    assert_int_equal(read(fds[0], path, sizeof path), sizeof path);
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    memset(other, 0xc5, 16);
    assert_int_equal(bell_open(&c, true, other, space), 0);
    assert_false(there(path));
    assert_true(there(a.page.path));
    bell_close(&c);
    assert_true(there(a.page.path));
}

static void refused(int expected)
{
    struct bell c;

    assert_int_equal(bell_open(&c, true, salt, space), expected);
    assert_false(bell_shared(&c));
    bell_ring(&c, 0, true); /* still usable */
    bell_poke(&c);
    assert_int_equal(bell_hear(&c).names, 0);
    bell_close(&c);
}

static void a_foreign_page_is_not_used(void **state)
{
    char path[sizeof a.page.path], target[] = "/tmp/cistern-bell-XXXXXX";
    struct stat st;
    int fd;

    (void)state;
    (void)snprintf(path, sizeof path, "%s", a.page.path);
    bell_close(&a);
    bell_close(&b);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0666), 0);
    (void)close(fd);
    refused(-EPERM);
    assert_int_equal(unlink(path), 0);
    fd = mkstemp(target);
    assert_true(fd >= 0);
    assert_int_equal(symlink(target, path), 0);
    refused(-ELOOP);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    (void)close(fd);
    assert_int_equal(unlink(target), 0);
    assert_int_equal(unlink(path), 0);
}

/* Its maker died between making it and giving it bytes: the next one does that. */
static void an_empty_page_is_filled(void **state)
{
    char path[sizeof a.page.path];
    int fd;

    (void)state;
    (void)snprintf(path, sizeof path, "%s", a.page.path);
    bell_close(&a);
    bell_close(&b);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(bell_open(&a, true, salt, space), 0);
    bell_ring(&a, 0, false);
    assert_int_equal(bell_open(&b, true, salt, space), 0);
    assert_int_equal(bell_hear(&b).shard[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(others_are_heard_oneself_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sleeper_is_woken, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_takes_the_name_away, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_of_the_dead_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_foreign_page_is_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_page_is_filled, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
