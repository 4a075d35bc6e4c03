/*
 * test_checklist_files.c - items 10 (reads), 11 (writes) and 12 (reg_fd) of the check list in
 * section 8.1 of the specification; the table is in test_checklist.c.
 */
#include "../harness/skip.h"
#include "conform.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

static void reads_end_where_the_file_ends(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior r = ring_new(8, true);
    static const int flags[] = {0, O_DIRECT};
    uint8_t bytes[5000];

    (void)state;
    pattern(bytes, sizeof(bytes), 5);
    for (int i = 0; i < 2; i++) {
        int fd = open(in_mount("end"), O_CREAT | O_RDWR | flags[i], 0644), plain;

        if (fd < 0 && errno == EINVAL)
            continue; /* this file system has no O_DIRECT */
        plain = open(in_mount("end"), O_WRONLY);
        CHECK_EQ(pwrite(plain, bytes, sizeof(bytes), 0), sizeof(bytes));
        close(plain);
        CHECK(hf3fs_reg_fd(fd, 0) <= 0);
        memset(iov.base, 0xee, 16 * KIB);
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 8192), 5000);
        CHECK(memcmp(iov.base, bytes, 5000) == 0);
        for (size_t j = 5000; j < 16 * KIB; j++)
            CHECK_EQ(iov.base[j], 0xee); /* past the end nothing is touched */
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 4096, 4096), 904);
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 5000, 4096), 0);
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 8192, 4096), 0);
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 1 << 30, 4096), 0);
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 4999, 1), 1);
        hf3fs_dereg_fd(fd);
        close(fd);
    }
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void forbidden_holes(void **state)
{
    struct hf3fs_iov iov = memory_new(8 * MIB);
    int fd = file_new("holes", 0);
    struct hf3fs_ior r, plain;

    (void)state;
    CHECK_EQ(hf3fs_iorcreate4(&r, mnt, 4, true, 0, 0, -1, HF3FS_IOR_FORBID_READ_HOLES), 0);
    CHECK_EQ(hf3fs_iorcreate4(&plain, mnt, 4, true, 0, 0, -1, 0), 0);
    CHECK_EQ(r.flags, 2);
    CHECK_EQ(pwrite(fd, "a", 1, 0), 1);
    CHECK_EQ(pwrite(fd, "b", 1, 4 << 20), 1);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, (4 << 20) + 1), -ENODATA);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 1), 1);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 4 << 20, 1), 1);
    memset(iov.base, 0xee, 5 * MIB);
    CHECK_EQ(transfer(&plain, &iov, iov.base, fd, 0, (4 << 20) + 1), (4 << 20) + 1);
    CHECK_EQ(iov.base[MIB], 0); /* holes read as zeros */
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iordestroy(&plain);
    hf3fs_iovdestroy(&iov);
}

/* One I/O of more than a system call moves. The file is sparse, the memory is one page mapped again
 * and again. */
static void read_above_2_gib(void **state)
{
    static const uint8_t id[16] = {2};
    const size_t size = (size_t)5 << 29, window = 64 * MIB;
    struct hf3fs_ior r = ring_new(2, true);
    int fd = file_new("large", 0), memory;
    struct hf3fs_iov iov;
    uint8_t *base;

    (void)state;
    memory = memfd_create("window", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(memory, (off_t)window), 0);
    base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    for (size_t at = 0; at < size; at += window)
        CHECK(mmap(base + at, window, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0) !=
              MAP_FAILED);
    CHECK_EQ(ftruncate(fd, (off_t)size), 0);
    CHECK_EQ(pwrite(fd, "end", 3, (off_t)size - 3), 3);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(hf3fs_iovwrap(&iov, base, id, mnt, size, 0, -1), 0);
    CHECK_EQ(transfer(&r, &iov, base, fd, 0, size), (long long)size);
    CHECK(memcmp(base + size - 3, "end", 3) == 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    munmap(base, size);
    close(memory);
    unlink(in_mount("large"));
}

static void writes_are_whole(void **state)
{
    struct hf3fs_iov iov = memory_new(9 * MIB);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("whole", 0);
    uint8_t *back = malloc(9 * MIB);

    (void)state;
    CHECK(back != NULL);
    pattern(iov.base, 9 * MIB, 9);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base + 1, fd, 3, 9 * MIB - 1), 9 * MIB - 1);
    CHECK_EQ(pread(fd, back, 9 * MIB - 1, 3), 9 * MIB - 1);
    CHECK(memcmp(back, iov.base + 1, 9 * MIB - 1) == 0);
    free(back);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void append_honours_the_offset(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("append", O_APPEND);
    char text[16] = {0};

    (void)state;
    CHECK_EQ(write(fd, "0123456789", 10), 10);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    memcpy(iov.base, "xy", 2);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 3, 2), 2);
    CHECK_EQ(pread(fd, text, 16, 0), 10);
    CHECK(memcmp(text, "012xy56789", 10) == 0);
    CHECK_EQ(write(fd, "!", 1), 1); /* the caller's descriptor still appends */
    CHECK_EQ(pread(fd, text, 16, 0), 11);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void direct_with_odd_alignment(void **state)
{
    static const struct {
        size_t ptr, off, len;
    } cases[] = {
        {0, 0, 4096},    {1, 0, 4096},    {0, 1, 4096}, {0, 0, 4097},
        {7, 13, 100003}, {512, 512, 512}, {0, 4096, 1},
    };
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(4, false), r = ring_new(4, true);
    int fd = open(in_mount("direct"), O_CREAT | O_TRUNC | O_RDWR | O_DIRECT, 0644);

    (void)state;
    if (fd < 0)
        SKIP("this file system has no O_DIRECT");
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *from = iov.base + cases[i].ptr, *to = iov.base + 512 * KIB + cases[i].ptr;

        pattern(from, cases[i].len, (unsigned)i);
        memset(to, 0, cases[i].len);
        CHECK_EQ(transfer(&w, &iov, from, fd, cases[i].off, cases[i].len), cases[i].len);
        CHECK_EQ(transfer(&r, &iov, to, fd, cases[i].off, cases[i].len), cases[i].len);
        CHECK(memcmp(from, to, cases[i].len) == 0);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void too_large_step(void *arg)
{
    struct rlimit limit = {.rlim_cur = 64 * KIB, .rlim_max = 64 * KIB};
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("errors", 0);

    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, (size_t)1 << 63, 4096), -EFBIG);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, SIZE_MAX - 100, 4096), -EFBIG);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 128 * KIB, 4096), -EFBIG);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4096), 4096);
}

/* A file system of 64 KiB, in a mount namespace of the child's own. */
static void no_space_step(void *arg)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w;
    int fd;

    (void)arg;
    CHECK_EQ(mkdir(in_mount("small"), 0755), 0);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("small", in_mount("small"), "tmpfs", 0, "size=64k") != 0)
        _exit(0); /* not permitted here */
    fd = file_new("small/file", 0);
    w = ring_new(4, false);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 32 * KIB), 32 * KIB);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 32 * KIB, 512 * KIB),
             -ENOSPC); /* whole or an error */
}

static void write_errors(void **state)
{
    (void)state;
    in_child(too_large_step, NULL);
    in_child(no_space_step, NULL);
}

static void registration_rules(void **state)
{
    int fd = file_new("reg", 0), handle, again;

    (void)state;
    CHECK_EQ(hf3fs_reg_fd(-1, 0), EBADF);
    CHECK_EQ(hf3fs_reg_fd(1 << 20, 0), EBADF);
    CHECK_EQ(hf3fs_reg_fd(INT_MAX, 0), EBADF);
    CHECK_EQ(hf3fs_reg_fd(open("/dev/null", O_RDWR), 0), EBADF); /* not in a mount */
    handle = hf3fs_reg_fd(fd, 12345);                            /* flags are ignored */
    CHECK(handle <= 0);
    CHECK_EQ(hf3fs_reg_fd(fd, 0), EINVAL); /* registered already */
    CHECK(fcntl(-handle, F_GETFD) >= 0);   /* and that one is not harmed */
    /* Closed without dereg, and the number used again: tolerated, it is the new file. */
    close(fd);
    again = open(in_mount("reg2"), O_CREAT | O_RDWR, 0644);
    CHECK_EQ(again, fd);
    CHECK(hf3fs_reg_fd(again, 0) <= 0);
    hf3fs_dereg_fd(again);
    hf3fs_dereg_fd(again);
    hf3fs_dereg_fd(-5);
    hf3fs_dereg_fd(INT_MAX);
    close(again);
    /* Closed, then dereg: nothing stays behind. */
    fd = file_new("reg3", 0);
    handle = hf3fs_reg_fd(fd, 0);
    close(fd);
    hf3fs_dereg_fd(fd);
    CHECK_EQ(fcntl(-handle, F_GETFD), -1);
}

static void access_is_a_snapshot(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    struct hf3fs_ior w = ring_new(4, false), r = ring_new(4, true);
    int fd = file_new("access", 0), ro, wo;

    (void)state;
    ro = open(in_mount("access"), O_RDONLY);
    wo = open(in_mount("access"), O_WRONLY);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, ro, 0, 1, NULL), -EBADF); /* not registered */
    CHECK(hf3fs_reg_fd(ro, 0) <= 0);
    CHECK(hf3fs_reg_fd(wo, 0) <= 0);
    CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, ro, 0, 1, NULL), -EACCES);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, wo, 0, 1, NULL), -EACCES);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, INT_MAX, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, INT_MIN, 0, 1, NULL), -EINVAL);
    CHECK_EQ(transfer(&w, &iov, iov.base, wo, 0, 1), 1);
    CHECK_EQ(transfer(&r, &iov, iov.base, ro, 0, 1), 1);
    hf3fs_dereg_fd(ro);
    hf3fs_dereg_fd(wo);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, ro, 0, 1, NULL), -EBADF);
    close(ro);
    close(wo);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

/* An unlinked file is still in its mount, and its data lives until the last descriptor goes. */
static void unlinked_file(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    struct hf3fs_ior w = ring_new(4, false), r = ring_new(4, true);
    int fd = file_new("gone", 0);

    (void)state;
    CHECK_EQ(unlink(in_mount("gone")), 0);
    CHECK(hf3fs_is_hf3fs(fd));
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    memcpy(iov.base, "still", 5);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 5), 5);
    CHECK_EQ(transfer(&r, &iov, iov.base + 100, fd, 0, 50), 5);
    CHECK(memcmp(iov.base + 100, "still", 5) == 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

/* I/O that was prepared keeps the file, whatever happens to its registration. */
static void dereg_with_io_prepared(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("dereg", 0), handle = hf3fs_reg_fd(fd, 0);
    struct hf3fs_cqe cqe;
    char byte = 0;

    (void)state;
    CHECK(handle <= 0);
    iov.base[0] = 9;
    CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 0, 1, NULL), 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    CHECK(fcntl(-handle, F_GETFD) >= 0);
    CHECK_EQ(hf3fs_wait_for_ios(&w, &cqe, 1, 1, NULL), 1);
    CHECK_EQ(cqe.result, 1);
    CHECK_EQ(fcntl(-handle, F_GETFD), -1);
    fd = open(in_mount("dereg"), O_RDONLY);
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 9);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_end_where_the_file_ends),
        cmocka_unit_test(forbidden_holes),
        cmocka_unit_test(read_above_2_gib),
        cmocka_unit_test(writes_are_whole),
        cmocka_unit_test(append_honours_the_offset),
        cmocka_unit_test(direct_with_odd_alignment),
        cmocka_unit_test(write_errors),
        cmocka_unit_test(registration_rules),
        cmocka_unit_test(access_is_a_snapshot),
        cmocka_unit_test(unlinked_file),
        cmocka_unit_test(dereg_with_io_prepared),
    };

    return cmocka_run_group_tests_name("checklist_files", tests, mount_setup, mount_teardown);
}
