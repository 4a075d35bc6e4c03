/*
 * test_hang.c - a file system that does not answer: the end of a ring does not wait for it for
 * ever.
 *
 * A read hangs because a fanotify permission event on its file is not answered; that needs root.
 */
#include "../harness/skip.h"
#include "conform.h"

#include <linux/magic.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/vfs.h>

enum { SIZE = 64 << 10 };

static void skip_here(const char *why)
{
    fprintf(stderr, "skipped: %s\n", why);
    _exit(CHILD_SKIPS);
}

/* Reads of the file hang from now on, until let_go(). */
static int hold_reads(const char *path)
{
    int fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);

    if (fan < 0)
        skip_here("fanotify_init needs root");
    if (fanotify_mark(fan, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, path) != 0)
        skip_here("no fanotify permission events here");
    return fan;
}

static void let_go(int fan)
{
    char events[4096];
    const struct fanotify_event_metadata *m = (const void *)events;
    ssize_t n = read(fan, events, sizeof events);

    CHECK(n >= (ssize_t)sizeof *m);
    for (; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
        struct fanotify_response r = {.fd = m->fd, .response = FAN_ALLOW};

        CHECK(write(fan, &r, sizeof r) == sizeof r);
        close(m->fd);
    }
    close(fan); /* the rest is allowed as well */
}

static void destroy_while_a_read_hangs(void *arg)
{
    const uint8_t id[16] = "hang";
    static uint8_t data[SIZE];
    struct hf3fs_iov iov;
    struct hf3fs_ior ior;
    volatile uint8_t *memory;
    struct pollfd held;
    struct statfs fs;
    int fd, fan;

    (void)arg;
    if (statfs(mnt, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
        skip_here("in memory reads are done by who waits for them");
    (void)setenv("CISTERN_USRBIO_BACKEND", "threads", 1); /* inline, the submit itself would hang */
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    pattern(data, SIZE, 3);
    fd = file_new("held", 0);
    CHECK(write(fd, data, SIZE) == SIZE);
    close(fd);
    fan = hold_reads(in_mount("held")); /* holds those of files that are opened later */
    fd = open(in_mount("held"), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(hf3fs_reg_fd(fd, 0) <= 0, 1);
    CHECK_EQ(hf3fs_iovwrap(&iov, (void *)memory, id, mnt, SIZE, 0, -1), 0);
    ior = ring_new(4, true);
    CHECK(hf3fs_prep_io(&ior, &iov, true, (void *)memory, fd, 0, SIZE, NULL) >= 0);
    CHECK_EQ(hf3fs_submit_ios(&ior), 0);
    held = (struct pollfd){.fd = fan, .events = POLLIN};
    CHECK_EQ(poll(&held, 1, 20000), 1);
    hf3fs_iordestroy(&ior); /* the test's alarm ends one that does not return */
    CHECK_EQ(memory[0], 0);
    /* The ring lived on, unreachable: its read is done when storage answers. */
    let_go(fan);
    while (memory[SIZE - 1] != data[SIZE - 1])
        usleep(1000);
    hf3fs_dereg_fd(fd);
}

static void a_ring_ends_while_a_read_hangs(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__ /* the test looks at memory that storage still writes to */
    (void)destroy_while_a_read_hangs;
    SKIP("under ThreadSanitizer the test looks at memory that storage still writes to");
#else
    in_child(destroy_while_a_read_hangs, NULL);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_ring_ends_while_a_read_hangs)};

    return cmocka_run_group_tests(tests, mount_setup, mount_teardown);
}
