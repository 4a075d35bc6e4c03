/*
 * conform.h - what the conformance programs share: a mount in $CONFORM_DIR (default: the current
 * directory), rings, whole transfers, and steps in a forked child, which reads the environment
 * afresh.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hf3fs_usrbio.h"

int cistern_usrbio_info(const char *mp, char *buf, size_t size);

#define KIB ((size_t)1024)
#define MIB ((size_t)1 << 20)

static char mnt[PATH_MAX]; /* this program's mount, a fresh directory with the marker in it */
static bool child_process;

/* Works in a forked child too, where cmocka would go on with the next test. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            if (child_process) {                                                                   \
                fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                    \
                _exit(1);                                                                          \
            }                                                                                      \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, #condition);                                 \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (a_ != b_) {                                                                            \
            if (child_process) {                                                                   \
                fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_);  \
                _exit(1);                                                                          \
            }                                                                                      \
            fail_msg("%s:%d: %s is %lld, not %lld", __FILE__, __LINE__, #a, a_, b_);               \
        }                                                                                          \
    } while (0)

#define CHILD_SKIPS 77 /* exit status of a step that finds nothing to test on this machine */

/* Runs a step in a child; it fails if the child's step fails, dies or takes longer than a minute.
 */
__attribute__((unused)) static void in_child(void (*step)(void *), void *arg)
{
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        child_process = true;
        alarm(60);
        step(arg);
        _exit(0);
    }
    CHECK(pid > 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPS)
        skip(); /* the child said why */
    CHECK_EQ(status, 0);
}

__attribute__((unused)) static const char *in_mount(const char *name)
{
    static __thread char paths[4][PATH_MAX + 64];
    static __thread int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", mnt, name);
    return path;
}

static int mount_setup(void **state)
{
    const char *dir = getenv("CONFORM_DIR");
    char *made, text[PATH_MAX];
    int fd;

    (void)state;
    snprintf(text, sizeof(text), "%s/conform-XXXXXX", dir != NULL ? dir : ".");
    made = mkdtemp(text);
    if (made == NULL || realpath(made, mnt) == NULL)
        return -1;
    fd = open(in_mount(".cistern-mount"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

/* Children that ended without a word left memory behind; its links say where. */
static int mount_teardown(void **state)
{
    char command[3 * PATH_MAX];

    (void)state;
    snprintf(
        command, sizeof(command),
        "find '%s' -lname '/dev/shm/hf3fs-iov-*' -printf '%%l\\n' | xargs -r rm -f; rm -rf '%s'",
        mnt, mnt);
    return system(command) == 0 ? 0 : -1;
}

__attribute__((unused)) static int file_new(const char *name, int flags)
{
    int fd = open(in_mount(name), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | flags, 0644);

    CHECK(fd >= 0);
    return fd;
}

/* Bytes that differ from place to place and from seed to seed. */
__attribute__((unused)) static void pattern(void *p, size_t size, unsigned seed)
{
    uint8_t *b = p;

    for (size_t i = 0; i < size; i++)
        b[i] = (uint8_t)((i * 2654435761u + seed * 40503u) >> 11) | 1;
}

__attribute__((unused)) static struct timespec realtime_in_ms(long ms)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    } else if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += 1000000000;
    }
    return t;
}

__attribute__((unused)) static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((unused)) static struct hf3fs_ior ring_new(int entries, bool for_read)
{
    struct hf3fs_ior ior;

    memset(&ior, 0x5a, sizeof(ior));
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, entries, for_read, 0, -1), 0);
    return ior;
}

__attribute__((unused)) static struct hf3fs_iov memory_new(size_t size)
{
    struct hf3fs_iov iov;

    memset(&iov, 0x5a, sizeof(iov));
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, size, 0, -1), 0);
    return iov;
}

/* One I/O, from prep to reap; the result of its completion. */
__attribute__((unused)) static int64_t transfer(struct hf3fs_ior *ior, struct hf3fs_iov *iov,
                                                void *p, int fd, size_t off, uint64_t len)
{
    struct hf3fs_cqe cqe = {.reserved = 77};
    int index = hf3fs_prep_io(ior, iov, ior->for_read, p, fd, off, len, p);

    CHECK(index >= 0);
    CHECK_EQ(hf3fs_submit_ios(ior), 0);
    CHECK_EQ(hf3fs_wait_for_ios(ior, &cqe, 1, 1, NULL), 1);
    CHECK_EQ(cqe.index, index);
    CHECK_EQ(cqe.reserved, 77);
    CHECK(cqe.userdata == p);
    return cqe.result;
}

/* Entries of a directory whose name begins with `prefix`. */
__attribute__((unused)) static int count_entries(const char *dir, const char *prefix)
{
    char command[PATH_MAX + 128];
    int n = -1;
    FILE *f;

    snprintf(command, sizeof(command), "ls -1 '%s' | grep -c '^%s'", dir, prefix);
    f = popen(command, "r");
    CHECK(f != NULL);
    CHECK(fscanf(f, "%d", &n) == 1);
    pclose(f);
    return n;
}

__attribute__((unused)) static int count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Where the shm object of an iov lies, read from its link. "" if there is no link. */
__attribute__((unused)) static void link_of(const struct hf3fs_iov *iov, char *link, size_t size)
{
    const uint8_t *id = (const uint8_t *)iov->id;
    char suffix[32] = "";

    if (iov->block_size > 0)
        snprintf(suffix, sizeof(suffix), ".b%zu", iov->block_size);
    snprintf(
        link, size,
        "%s/3fs-virt/iovs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x%s",
        mnt, id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11],
        id[12], id[13], id[14], id[15], suffix);
}

#endif
