/*
 * test_strict.c - strict mode: the sharp edges of the real library, one by one, and only when asked
 * for. Each test runs in a child, which reads CISTERN_USRBIO_STRICT afresh.
 */
#include "conform.h"

static void with_strict(const char *words, void (*step)(void *))
{
    setenv("CISTERN_USRBIO_STRICT", words, 1);
    in_child(step, NULL);
    unsetenv("CISTERN_USRBIO_STRICT");
}

/* Data in the first and the third MiB of four; the file is six MiB long. */
static int sparse_file(const char *name)
{
    uint8_t *bytes = malloc(MIB);
    int fd = file_new(name, 0);

    CHECK(bytes != NULL);
    memset(bytes, 5, MIB);
    CHECK_EQ(pwrite(fd, bytes, MIB, 0), MIB);
    CHECK_EQ(pwrite(fd, bytes, MIB, 2 * MIB), MIB);
    CHECK_EQ(ftruncate(fd, 6 << 20), 0);
    free(bytes);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    return fd;
}

static void holes_step(void *arg)
{
    struct hf3fs_iov iov = memory_new(8 * MIB);
    struct hf3fs_ior r = ring_new(4, true);
    int fd = sparse_file("holes");

    (void)arg;
    memset(iov.base, 0xee, 8 * MIB);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 8 * MIB),
             3 * MIB); /* to the end of the data, not of the file */
    CHECK_EQ(iov.base[0], 5);
    CHECK_EQ(iov.base[MIB], 0);        /* the hole in between reads as zeros */
    CHECK_EQ(iov.base[3 * MIB], 0xee); /* and nothing after the result is touched */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 2 * MIB), MIB);       /* trailing hole */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, MIB, MIB), 0);           /* all hole */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 5 * MIB, MIB), 0);       /* below st_size */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, MIB, 2 * MIB), 2 * MIB); /* leading hole, then data */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 10, 100), 100);
}

static void loose_step(void *arg)
{
    struct hf3fs_iov iov = memory_new(8 * MIB);
    struct hf3fs_ior r = ring_new(4, true);
    int fd = sparse_file("loose");

    (void)arg;
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 8 * MIB), 6 * MIB);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 5 * MIB, MIB), MIB);
}

static void trailing_holes_are_short(void **state)
{
    (void)state;
    with_strict("holes", holes_step);
    with_strict("crossing", loose_step);
}

static void enodata_step(void *arg)
{
    struct hf3fs_iov iov = memory_new(8 * MIB);
    int fd = sparse_file("enodata");
    struct hf3fs_ior r;

    (void)arg;
    CHECK_EQ(hf3fs_iorcreate4(&r, mnt, 4, true, 0, 0, -1, HF3FS_IOR_FORBID_READ_HOLES), 0);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 3 * MIB), -ENODATA);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, MIB, 2 * MIB), -ENODATA);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, 2 * MIB), MIB); /* trailing: short, no error */
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 4 * MIB, MIB), 0);
    CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, MIB), MIB);
}

static void inner_holes_are_enodata(void **state)
{
    (void)state;
    with_strict("1", enodata_step);
    with_strict("holes,enodata", enodata_step);
}

static void crossing_step(void *arg)
{
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("crossing", 0);
    struct hf3fs_iov iov;

    (void)arg;
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 10000, 4096, -1), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4096), 4096);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4097),
             -EINVAL); /* in the completion, not at prep */
    CHECK_EQ(transfer(&w, &iov, iov.base + 4095, fd, 0, 2), -EINVAL);
    CHECK_EQ(transfer(&w, &iov, iov.base + 8192, fd, 0, 1808), 1808); /* the last block is short */
}

static void crossing_a_block_is_einval(void **state)
{
    (void)state;
    with_strict("crossing", crossing_step);
    with_strict("all", crossing_step);
}

static void exact_step(void *arg)
{
    struct timespec soon;
    struct hf3fs_iov iov = memory_new(64 * KIB);
    int fd = file_new("exact", 0);
    struct hf3fs_cqe cqes[8];
    struct hf3fs_ior w;

    (void)arg;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(hf3fs_iorcreate(&w, mnt, 8, false, 3, -1), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, (size_t)i * 100, 100, NULL), i);
    CHECK_EQ(hf3fs_submit_ios(&w), 0);
    soon = realtime_in_ms(200);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 5, &soon), 3); /* two are left hanging */
    CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 500, 100, NULL) >= 0, 1);
    CHECK_EQ(hf3fs_submit_ios(&w), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 3, NULL), 3); /* until the batch is whole */
    hf3fs_iordestroy(&w);
    CHECK_EQ(hf3fs_iorcreate(&w, mnt, 8, false, -3, -1), 0);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, (size_t)i * 100, 100, NULL), i);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 5, NULL),
             5); /* at most three, any smaller number too */
}

static void batches_are_exact(void **state)
{
    (void)state;
    with_strict("exact", exact_step);
}

static void overlap_step(void *arg)
{
    struct hf3fs_iov iov = memory_new(64 * KIB);
    int fd = file_new("overlap", 0);
    struct hf3fs_cqe cqes[8];
    struct hf3fs_ior r = ring_new(8, true), w = ring_new(8, false);

    (void)arg;
    CHECK_EQ(ftruncate(fd, 64 << 10), 0);
    CHECK_EQ(pwrite(fd, iov.base, 64 * KIB, 0), 64 * KIB);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 3; i++) /* 0-99, 50-149, 1000-1099 */
        CHECK_EQ(
            hf3fs_prep_io(&r, &iov, true, iov.base + (i == 2 ? 1000 : i * 50), fd, 0, 100, NULL),
            i);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 3, NULL), 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(cqes[i].result, -EIO); /* the whole batch */
    for (int i = 0; i < 2; i++)
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + i * 100, fd, 0, 100, NULL), i);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 8, 2, NULL), 2);
    CHECK_EQ(cqes[0].result, 100);
    CHECK_EQ(cqes[1].result, 100);
    for (int i = 0; i < 2; i++) /* sources of writes may overlap */
        CHECK_EQ(hf3fs_prep_io(&w, &iov, false, iov.base, fd, (size_t)i * 100, 100, NULL), i);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 8, 2, NULL), 2);
    CHECK_EQ(cqes[0].result, 100);
}

static void overlapping_reads_are_eio(void **state)
{
    (void)state;
    with_strict("overlap", overlap_step);
}

static void stale_step(void *arg)
{
    int fd = file_new("stale", 0), again;

    (void)arg;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    close(fd);
    hf3fs_dereg_fd(fd); /* closed already: does nothing */
    again = open(in_mount("stale"), O_RDWR);
    CHECK_EQ(again, fd);
    CHECK_EQ(hf3fs_reg_fd(again, 0), EINVAL); /* the number is poisoned */
}

static void stale_numbers_are_einval(void **state)
{
    (void)state;
    with_strict("stale", stale_step);
}

static void info_step(void *arg)
{
    char buf[256];

    (void)arg;
    CHECK(cistern_usrbio_info(mnt, buf, sizeof(buf)) > 0);
    CHECK(strstr(buf, " strict=holes,overlap ") != NULL);
}

static void switches_are_shown(void **state)
{
    (void)state;
    with_strict("overlap,nonsense,holes", info_step);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trailing_holes_are_short),   cmocka_unit_test(inner_holes_are_enodata),
        cmocka_unit_test(crossing_a_block_is_einval), cmocka_unit_test(batches_are_exact),
        cmocka_unit_test(overlapping_reads_are_eio),  cmocka_unit_test(stale_numbers_are_einval),
        cmocka_unit_test(switches_are_shown),
    };

    return cmocka_run_group_tests_name("strict", tests, mount_setup, mount_teardown);
}
