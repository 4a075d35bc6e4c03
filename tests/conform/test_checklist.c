/*
 * test_checklist.c - the check list for a drop-in, section 8.1 of the specification, in its order.
 * The tests of items 10 to 12 are in test_checklist_files.c.
 *
 *    1  SONAME, symbols, sizes     symbols_and_soname; test_layout.c
 *    2  -EINVAL for crashes        no_crash_on_bad_arguments; test_arguments.c
 *    3  roots and mount points     roots_and_mount_points
 *    4  3fs-virt/iovs is real      iovs_directory_takes_symlinks
 *    5  names, grammar, wrapping   names_follow_the_grammar
 *    6  start at submit and wait   prepared_io_is_never_lost
 *    7  slots                      slots
 *    8  io_depth                   any_io_depth_runs_at_once; test_strict.c
 *    9  wait                       waiting
 *   10  reads                      reads_end_where_the_file_ends, forbidden_holes,
 *                                  read_above_2_gib; test_strict.c
 *   11  writes                     writes_are_whole, append_honours_the_offset,
 *                                  direct_with_odd_alignment, write_errors
 *   12  reg_fd                     registration_rules, access_is_a_snapshot; test_strict.c
 *   13  destroy                    destroy_with_io_in_flight, many_rings
 *   14  dlclose, fork              rings_of_the_parent_in_a_child; test_habits.c, test_backends.c
 *   15  crossing a block           crossing_is_no_error_at_prep; test_strict.c
 *   16  overlapping reads          overlapping_reads_are_accepted; test_strict.c
 */
#include "../harness/skip.h"
#include "conform.h"

#include <dlfcn.h>
#include <pthread.h>

static void symbols_and_soname(void **state)
{
    static const char *const names[] = {
        "hf3fs_is_hf3fs",     "hf3fs_extract_mount_point",
        "hf3fs_iovcreate",    "hf3fs_iovopen",
        "hf3fs_iovunlink",    "hf3fs_iovdestroy",
        "hf3fs_iovwrap",      "hf3fs_ior_size",
        "hf3fs_iorcreate",    "hf3fs_iorcreate2",
        "hf3fs_iorcreate3",   "hf3fs_iorcreate4",
        "hf3fs_iordestroy",   "hf3fs_reg_fd",
        "hf3fs_dereg_fd",     "hf3fs_io_entries",
        "hf3fs_prep_io",      "hf3fs_submit_ios",
        "hf3fs_wait_for_ios", "hf3fs_hardlink",
        "hf3fs_punchhole",
    };
    void *library = dlopen("libhf3fs_api_shared.so", RTLD_NOW | RTLD_NOLOAD); /* by SONAME */

    (void)state;
    CHECK(library != NULL);
    CHECK_EQ(sizeof(names) / sizeof(names[0]), 21);
    for (size_t i = 0; i < 21; i++)
        CHECK(dlsym(library, names[i]) != NULL);
    dlclose(library);
}

static void no_crash_on_bad_arguments(void **state)
{
    struct hf3fs_iov iov;
    struct hf3fs_ior ior;
    size_t one[1001] = {0};

    (void)state;
    CHECK_EQ(hf3fs_iovcreate(&iov, NULL, 4096, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 4096, 8192, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 0, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, 0, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, -1, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, INT_MIN, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_io_entries(NULL), -EINVAL);
    CHECK_EQ(hf3fs_punchhole(0, 1001, one, one, 0), EINVAL);
    CHECK_EQ(hf3fs_punchhole(0, -1, one, one, 0), EINVAL);
    CHECK_EQ(hf3fs_punchhole(0, 1, NULL, NULL, 0), EINVAL);
    CHECK_EQ(hf3fs_hardlink(NULL, NULL), EINVAL);
    CHECK_EQ(hf3fs_extract_mount_point(NULL, 0, NULL), -1);
    CHECK_EQ(hf3fs_extract_mount_point(NULL, 0, "/nowhere/at/all"), -1);
}

static void roots_step(void *arg)
{
    char list[PATH_MAX * 2], buf[PATH_MAX], dir[] = "/tmp/conform-root-XXXXXX", path[PATH_MAX];
    struct hf3fs_ior ior;
    int fd, pipes[2];

    (void)arg;
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/a", dir);
    CHECK_EQ(mkdir(path, 0755), 0);
    fd = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    CHECK(!hf3fs_is_hf3fs(fd));
    CHECK_EQ(hf3fs_iorcreate(&ior, path, 4, true, 0, -1), -ENOENT);
    snprintf(list, sizeof(list), "/nonexistent:%s/:%s", dir, mnt);
    setenv("CISTERN_USRBIO_ROOT", list, 1);
    CHECK(hf3fs_is_hf3fs(fd));
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), path), strlen(dir) + 1);
    CHECK(strcmp(buf, dir) == 0); /* no slash at the end */
    /* A neighbour whose name only begins like the root is not in it. */
    snprintf(path, sizeof(path), "%s2", dir);
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), path), -1);
    /* Too small: untouched, and the length says so. */
    strcpy(buf, "untouched");
    CHECK_EQ(hf3fs_extract_mount_point(buf, (int)strlen(dir), dir), strlen(dir) + 1);
    CHECK(strcmp(buf, "untouched") == 0);
    /* What does not exist is found by what does. */
    snprintf(path, sizeof(path), "%s/a/not/there", dir);
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), path), strlen(dir) + 1);
    /* The deepest mount wins. */
    snprintf(path, sizeof(path), "%s/a/.cistern-mount", dir);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    snprintf(path, sizeof(path), "%s/a", dir);
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), path), strlen(path) + 1);
    close(fd);
    CHECK(!hf3fs_is_hf3fs(fd));
    CHECK(!hf3fs_is_hf3fs(-1));
    CHECK_EQ(pipe(pipes), 0);
    CHECK(!hf3fs_is_hf3fs(pipes[0]));
    CHECK_EQ(hf3fs_reg_fd(pipes[0], 0), EBADF);
    snprintf(path, sizeof(path), "rm -rf %s", dir);
    CHECK_EQ(system(path), 0);
}

static void roots_and_mount_points(void **state)
{
    char buf[PATH_MAX];
    int fd = file_new("inside", 0);

    (void)state;
    CHECK(hf3fs_is_hf3fs(fd)); /* by the marker */
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), mnt), strlen(mnt) + 1);
    CHECK(strcmp(buf, mnt) == 0);
    close(fd);
    in_child(roots_step, NULL);
}

static void iovs_directory_takes_symlinks(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    struct stat st;

    (void)state;
    CHECK_EQ(lstat(in_mount("3fs-virt/iovs"), &st), 0);
    CHECK(S_ISDIR(st.st_mode));
    CHECK_EQ(symlink("/dev/shm/x", in_mount("3fs-virt/iovs/00000000-0000-4000-8000-000000000000")),
             0);
    CHECK_EQ(unlink(in_mount("3fs-virt/iovs/00000000-0000-4000-8000-000000000000")), 0);
    hf3fs_iovdestroy(&iov);
    CHECK_EQ(count_entries(in_mount("3fs-virt/iovs"), ""), 0); /* nothing is left behind */
}

static void names_follow_the_grammar(void **state)
{
    char link[PATH_MAX + 128], shm[PATH_MAX];
    struct hf3fs_iov iov, other;
    struct stat st;
    ssize_t n;

    (void)state;
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 10000, 4096, -1), 0);
    link_of(&iov, link, sizeof(link)); /* <uuid>.b4096 */
    n = readlink(link, shm, sizeof(shm) - 1);
    CHECK(n > 0);
    shm[n] = '\0';
    CHECK(strncmp(shm, "/dev/shm/hf3fs-iov-", 19) == 0);
    CHECK_EQ(strlen(shm), 19 + 36);
    CHECK_EQ(stat(shm, &st), 0);
    CHECK_EQ(st.st_size, 10000);
    CHECK(strstr(link, shm + 19) == NULL); /* two uuids, tied by the link alone */
    /* Another handle on the same memory; another block size is another name. */
    CHECK_EQ(hf3fs_iovopen(&other, (const uint8_t *)iov.id, mnt, 10000, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovopen(&other, (const uint8_t *)iov.id, mnt, 10000, 4096, 3), 0);
    CHECK_EQ(other.numa, 3);
    iov.base[9999] = 42;
    CHECK_EQ(other.base[9999], 42);
    hf3fs_iovdestroy(&other);
    CHECK_EQ(stat(shm, &st), 0); /* the creator's */
    hf3fs_iovunlink(&iov);
    CHECK_EQ(stat(shm, &st), -1);
    iov.base[0] = 1; /* the mapping goes on */
    CHECK_EQ(hf3fs_iovopen(&other, (const uint8_t *)iov.id, mnt, 10000, 4096, -1), -ENOENT);
    hf3fs_iovdestroy(&iov);
    CHECK_EQ(lstat(link, &st), -1);
    /* A link that leads elsewhere is refused. */
    CHECK_EQ(symlink("/etc/passwd", in_mount("3fs-virt/iovs/00000000-0000-0000-0000-000000000000")),
             0);
    CHECK_EQ(hf3fs_iovopen(&other, (const uint8_t[16]){0}, mnt, 4096, 0, -1), -EINVAL);
    CHECK_EQ(unlink(in_mount("3fs-virt/iovs/00000000-0000-0000-0000-000000000000")), 0);
}

static void prepared_io_is_never_lost(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(8, false);
    int fd = file_new("lost", 0);
    struct hf3fs_cqe cqes[8];
    char byte = 0;

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(hf3fs_submit_ios(&w), 0); /* nothing prepared: fine */
    for (int i = 0; i < 4; i++)
        CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 0, 4096, NULL), i);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 4, NULL), 4); /* never submitted */
    /* Submitted: it runs without anybody waiting. */
    iov.base[0] = 7;
    CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 100000, 1, NULL), 0);
    CHECK_EQ(hf3fs_submit_ios(&w), 0);
    for (int i = 0; i < 5000 && pread(fd, &byte, 1, 100000) != 1; i++)
        usleep(1000);
    CHECK_EQ(byte, 7);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 1, NULL), 1);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void slots(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior r;
    int fd = file_new("slots", 0);
    struct hf3fs_cqe cqes[70];
    int seen[70] = {0};

    (void)state;
    CHECK_EQ(hf3fs_iorcreate(&r, mnt, 70, true, 0, -1), 0);
    CHECK_EQ(hf3fs_io_entries(&r), 70);
    CHECK_EQ(r.iov.size, hf3fs_ior_size(70));
    CHECK(r.iov.base != NULL);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 70; i++)
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + i, fd, 0, 1, NULL), i);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), -EAGAIN);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    usleep(20000); /* completed, but not reaped: still taken */
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), -EAGAIN);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 3, 3, NULL), 3);
    for (int i = 0; i < 3; i++)
        seen[cqes[i].index] = 1;
    for (int i = 0, n = 0; i < 70 && n < 3; i++) { /* freed slots come back, lowest first */
        if (!seen[i])
            continue;
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), i);
        n++;
    }
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), -EAGAIN);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 70, 70, NULL), 70);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void any_io_depth_runs_at_once(void **state)
{
    static const int depths[] = {0, 1, 8, -1, -3, -100};
    struct hf3fs_iov iov = memory_new(MIB);
    int fd = file_new("depth", 0);
    struct hf3fs_cqe cqes[8];

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
        struct hf3fs_ior w;

        CHECK_EQ(hf3fs_iorcreate3(&w, mnt, 8, false, depths[d], 1, 1, -1), 0);
        CHECK_EQ(w.io_depth, depths[d]);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 0, 100, NULL), i);
        CHECK_EQ(hf3fs_submit_ios(&w), 0);
        CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 5, NULL), 5);
        hf3fs_iordestroy(&w);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iovdestroy(&iov);
}

struct other_thread {
    struct hf3fs_ior *ior;
    struct hf3fs_iov *iov;
    int fd;
};

static void *prepare_later(void *arg)
{
    struct other_thread *t = arg;

    usleep(100000);
    for (int i = 0; i < 4; i++)
        (void)hf3fs_prep_io(t->ior, t->iov, true, t->iov->base + i * 4096, t->fd, 0, 4096, NULL);
    (void)hf3fs_submit_ios(t->ior);
    return NULL;
}

static void waiting(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior r = ring_new(8, true);
    int fd = file_new("waiting", 0);
    struct other_thread t = {&r, &iov, fd};
    struct timespec soon, past = realtime_in_ms(-1000);
    struct hf3fs_cqe cqes[8];
    pthread_t thread;
    long start;
    int n;

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 0, NULL), 0); /* polls */
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, -5, NULL), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 3, &past), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 0, 0, NULL), -EINVAL);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, -1, 0, NULL), -EINVAL);
    /* min_results is clamped to cqec. */
    for (int i = 0; i < 4; i++)
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), i);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 2, 100, NULL), 2);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 2, NULL), 2);
    /* At the deadline: the count so far. */
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 1, NULL), 0);
    soon = realtime_in_ms(100);
    start = now_ms();
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 2, &soon), 1);
    CHECK(now_ms() - start >= 90);
    CHECK(now_ms() - start < 5000);
    /* Blocks for ever until another thread prepares and submits. */
    CHECK_EQ(pthread_create(&thread, NULL, prepare_later, &t), 0);
    for (n = 0; n < 4;) {
        int k = hf3fs_wait_for_ios(&r, cqes, 8, 4 - n, NULL);

        CHECK(k > 0);
        n += k;
    }
    pthread_join(thread, NULL);
    CHECK_EQ(n, 4);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

/* Memory of ours may go while I/O runs; after the ring of wrapped memory is gone nothing touches
 * that memory. */
static void destroy_with_io_in_flight(void **state)
{
    static const uint8_t id[16] = {7};
    int fd = file_new("flight", 0);
    uint8_t *memory =
        mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    CHECK(memory != MAP_FAILED);
    CHECK_EQ(ftruncate(fd, 8 << 20), 0);
    memset(memory, 1, 8 * MIB);
    CHECK_EQ(pwrite(fd, memory, 8 * MIB, 0), 8 * MIB);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int round = 0; round < 20; round++) {
        struct hf3fs_ior r = ring_new(8, true), s = ring_new(8, true);
        struct hf3fs_iov own = memory_new(8 * MIB), wrapped;

        CHECK_EQ(hf3fs_iovwrap(&wrapped, memory, id, mnt, 8 * MIB, 0, -1), 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        for (size_t i = 0; i < 8; i++) {
            CHECK(hf3fs_prep_io(&r, &own, true, own.base + i * MIB, fd, i * MIB, MIB, NULL) >= 0);
            CHECK(hf3fs_prep_io(&s, &wrapped, true, memory + i * MIB, fd, i * MIB, MIB, NULL) >= 0);
        }
        CHECK_EQ(hf3fs_submit_ios(&r), 0);
        CHECK_EQ(hf3fs_submit_ios(&s), 0);
        if (round % 2 == 0)
            hf3fs_iovdestroy(&own);
        hf3fs_iordestroy(&r);
        hf3fs_iordestroy(&s);
        memset(memory, 0x77, 8 * MIB);
        if (round % 2 != 0)
            hf3fs_iovdestroy(&own);
        usleep(2000);
        for (size_t i = 0; i < 8 * MIB; i += 512)
            CHECK_EQ(memory[i], 0x77);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    munmap(memory, 8 * MIB);
}

/* The memory goes between prep and submit: the library keeps it until that I/O is over. */
static void destroy_with_io_prepared(void **state)
{
    int fd = file_new("prepared", 0);
    struct hf3fs_cqe cqes[4];

    (void)state;
    CHECK_EQ(ftruncate(fd, MIB), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int round = 0; round < 4; round++) {
        struct hf3fs_ior r = ring_new(4, round & 1);
        struct hf3fs_iov own = memory_new(MIB);

        for (size_t i = 0; i < 4; i++)
            CHECK(hf3fs_prep_io(&r, &own, round & 1, own.base + i * 4096, fd, i * 4096, 4096,
                                NULL) >= 0);
        hf3fs_iovdestroy(&own);
        CHECK_EQ(hf3fs_submit_ios(&r), 0);
        CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 4, 4, NULL), 4);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(cqes[i].result, 4096);
        hf3fs_iordestroy(&r);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
}

static void many_rings(void **state)
{
    enum { RINGS = 1500 };
    static struct hf3fs_ior rings[RINGS];
    struct hf3fs_iov iov = memory_new(RINGS * 16);
    int fd = file_new("many", 0);
    struct hf3fs_cqe cqe;

    (void)state;
    CHECK_EQ(ftruncate(fd, RINGS * 16), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < RINGS; i++)
        rings[i] = ring_new(16, i % 2 == 0);
    for (int i = 0; i < RINGS; i++) {
        CHECK_EQ(hf3fs_prep_io(&rings[i], &iov, i % 2 == 0, iov.base + i * 16, fd, (size_t)i * 16,
                               16, &rings[i]),
                 0);
        CHECK_EQ(hf3fs_submit_ios(&rings[i]), 0);
    }
    for (int i = RINGS - 1; i >= 0; i--) {
        CHECK_EQ(hf3fs_wait_for_ios(&rings[i], &cqe, 1, 1, NULL), 1);
        CHECK(cqe.userdata == &rings[i]);
        CHECK_EQ(cqe.result, 16);
    }
    for (int i = 0; i < RINGS; i++)
        hf3fs_iordestroy(&rings[i]);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iovdestroy(&iov);
}

struct inherited {
    struct hf3fs_ior ior;
    struct hf3fs_iov iov;
    int fd;
};

static void use_inherited(void *arg)
{
    struct inherited *p = arg;
    struct hf3fs_cqe cqe;
    struct hf3fs_ior own;
    char link[PATH_MAX + 128];

    CHECK_EQ(hf3fs_prep_io(&p->ior, &p->iov, false, p->iov.base, p->fd, 0, 16, NULL), -EINVAL);
    CHECK_EQ(hf3fs_submit_ios(&p->ior), -EINVAL);
    CHECK_EQ(hf3fs_wait_for_ios(&p->ior, &cqe, 1, 1, NULL), -EINVAL);
    own = ring_new(4, false); /* the parent's memory and file serve the child's own ring */
    CHECK_EQ(transfer(&own, &p->iov, p->iov.base, p->fd, 4096, 16), 16);
    hf3fs_iordestroy(&own);
    hf3fs_iordestroy(&p->ior);
    link_of(&p->iov, link, sizeof(link));
    hf3fs_iovdestroy(&p->iov);
    CHECK_EQ(access(link, F_OK), 0); /* the parent's names are the parent's */
}

static void rings_of_the_parent_in_a_child(void **state)
{
    struct inherited p = {.fd = file_new("inherited", 0)};
    struct hf3fs_cqe cqe;

    (void)state;
    p.ior = ring_new(4, false);
    p.iov = memory_new(64 * KIB);
    CHECK(hf3fs_reg_fd(p.fd, 0) <= 0);
    CHECK_EQ(hf3fs_prep_io(&p.ior, &p.iov, false, p.iov.base, p.fd, 0, 16, NULL), 0);
    in_child(use_inherited, &p);
    CHECK_EQ(hf3fs_submit_ios(&p.ior), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&p.ior, &cqe, 1, 1, NULL), 1);
    CHECK_EQ(cqe.result, 16);
    hf3fs_dereg_fd(p.fd);
    close(p.fd);
    hf3fs_iordestroy(&p.ior);
    hf3fs_iovdestroy(&p.iov);
}

static void crossing_is_no_error_at_prep(void **state)
{
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("crossing", 0);
    struct hf3fs_iov iov;

    (void)state;
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 10000, 4096, -1), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base + 4000, fd, 0, 200), 200); /* accepted unless strict */
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void overlapping_reads_are_accepted(void **state)
{
    struct hf3fs_iov iov = memory_new(64 * KIB);
    struct hf3fs_ior r = ring_new(4, true);
    int fd = file_new("overlap", 0);
    struct hf3fs_cqe cqes[4];

    (void)state;
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer would see what this test does on purpose");
#endif
    CHECK_EQ(ftruncate(fd, 8192), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + i * 100, fd, 0, 4096, NULL), i);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 4, 4, NULL), 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(cqes[i].result, 4096);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symbols_and_soname),
        cmocka_unit_test(no_crash_on_bad_arguments),
        cmocka_unit_test(roots_and_mount_points),
        cmocka_unit_test(iovs_directory_takes_symlinks),
        cmocka_unit_test(names_follow_the_grammar),
        cmocka_unit_test(prepared_io_is_never_lost),
        cmocka_unit_test(slots),
        cmocka_unit_test(any_io_depth_runs_at_once),
        cmocka_unit_test(waiting),
        cmocka_unit_test(destroy_with_io_in_flight),
        cmocka_unit_test(destroy_with_io_prepared),
        cmocka_unit_test(many_rings),
        cmocka_unit_test(rings_of_the_parent_in_a_child),
        cmocka_unit_test(crossing_is_no_error_at_prep),
        cmocka_unit_test(overlapping_reads_are_accepted),
    };

    return cmocka_run_group_tests_name("checklist", tests, mount_setup, mount_teardown);
}
