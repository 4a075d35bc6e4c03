/*
 * test_layout.c - the structures, and that a program compiled against the header agrees with one
 * that is written from the specification's offsets (offsets_only.c): one writes, the other reads.
 */
#include "conform.h"

int offsets_only_run(const char *mp, int fd, const uint8_t *expect, size_t size);

static void sizes_and_offsets(void **state)
{
    (void)state;
    CHECK_EQ(sizeof(struct hf3fs_iov), 312);
    CHECK_EQ(sizeof(struct hf3fs_ior), 600);
    CHECK_EQ(sizeof(struct hf3fs_cqe), 24);
    CHECK_EQ(offsetof(struct hf3fs_iov, base), 0);
    CHECK_EQ(offsetof(struct hf3fs_iov, iovh), 8);
    CHECK_EQ(offsetof(struct hf3fs_iov, id), 16);
    CHECK_EQ(offsetof(struct hf3fs_iov, mount_point), 32);
    CHECK_EQ(offsetof(struct hf3fs_iov, size), 288);
    CHECK_EQ(offsetof(struct hf3fs_iov, block_size), 296);
    CHECK_EQ(offsetof(struct hf3fs_iov, numa), 304);
    CHECK_EQ(offsetof(struct hf3fs_ior, iov), 0);
    CHECK_EQ(offsetof(struct hf3fs_ior, iorh), 312);
    CHECK_EQ(offsetof(struct hf3fs_ior, mount_point), 320);
    CHECK_EQ(offsetof(struct hf3fs_ior, for_read), 576);
    CHECK_EQ(offsetof(struct hf3fs_ior, io_depth), 580);
    CHECK_EQ(offsetof(struct hf3fs_ior, priority), 584);
    CHECK_EQ(offsetof(struct hf3fs_ior, timeout), 588);
    CHECK_EQ(offsetof(struct hf3fs_ior, flags), 592);
    CHECK_EQ(offsetof(struct hf3fs_cqe, index), 0);
    CHECK_EQ(offsetof(struct hf3fs_cqe, reserved), 4);
    CHECK_EQ(offsetof(struct hf3fs_cqe, result), 8);
    CHECK_EQ(offsetof(struct hf3fs_cqe, userdata), 16);
    CHECK_EQ(HF3FS_SUPER_MAGIC, 0x8f3f5fff);
    CHECK_EQ(HF3FS_IOR_ALLOW_READ_UNCOMMITTED, 1);
    CHECK_EQ(HF3FS_IOR_FORBID_READ_HOLES, 2);
}

static void ring_sizes(void **state)
{
    static const struct {
        int entries;
        size_t size;
    } known[] = {{1, 4336},      {16, 5776},     {64, 10384},
                 {1000, 100240}, {1024, 102544}, {8192, 790672}};

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct hf3fs_ior ior = ring_new(known[i].entries, true);

        CHECK_EQ(hf3fs_ior_size(known[i].entries), known[i].size);
        CHECK_EQ(ior.iov.size, known[i].size);
        CHECK_EQ(hf3fs_io_entries(&ior), known[i].entries);
        hf3fs_iordestroy(&ior);
    }
}

static void both_clients_agree(void **state)
{
    struct hf3fs_iov iov = memory_new(64 * KIB);
    struct hf3fs_ior w = ring_new(1, false);
    int fd = file_new("agree", 0);

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    pattern(iov.base, 64 * KIB, 11);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 64 * KIB), 64 * KIB);
    CHECK_EQ(offsets_only_run(mnt, fd, iov.base, 64 * KIB), 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_offsets),
        cmocka_unit_test(ring_sizes),
        cmocka_unit_test(both_clients_agree),
    };

    return cmocka_run_group_tests_name("layout", tests, mount_setup, mount_teardown);
}
