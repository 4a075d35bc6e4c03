/*
 * test_arguments.c - the tables of errors in section 1 of the specification, and sections 3.9
 * and 3.10: each function answers bad input with its own family's sign, and leaves the caller's
 * structure as it was.
 */
#include "conform.h"

#include <sched.h>
#include <sys/mount.h>

static void iovcreate_errors(void **state)
{
    struct hf3fs_iov iov, before;
    char name[300];

    (void)state;
    memset(&iov, 0x5a, sizeof(iov));
    before = iov;
    memset(name, 'x', sizeof(name));
    name[256] = '\0';
    CHECK_EQ(hf3fs_iovcreate(NULL, mnt, 4096, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, NULL, 4096, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, name, 4096, 0, -1), -EINVAL);
    name[255] = '\0';
    CHECK(hf3fs_iovcreate(&iov, name, 4096, 0, -1) < 0);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 0, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 0, 1, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 4096, 4097, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovcreate(&iov, "/nonexistent", 4096, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovcreate(&iov, "", 4096, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovcreate(&iov, "/usr", 4096, 0, -1), -ENOENT); /* no mount */
    CHECK_EQ(hf3fs_iovcreate(&iov, in_mount("not-there"), 4096, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, SIZE_MAX - 4096, 0, -1), -EIO); /* cannot be mapped */
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, (size_t)1 << 60, 0, -1), -EIO);
    CHECK(memcmp(&iov, &before, sizeof(iov)) == 0);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 4096, 4096, 9999), 0); /* a missing node is not checked */
    CHECK_EQ(iov.numa, 9999);
    hf3fs_iovdestroy(&iov);
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 1, 1, 0), 0);
    hf3fs_iovdestroy(&iov);
}

/* With a /dev/shm of the child's own, so that nobody else's names are counted. */
static void no_name_step(void *arg)
{
    char dir[] = "/tmp/conform-names-XXXXXX", path[PATH_MAX];
    struct hf3fs_iov iov;

    (void)arg;
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/.cistern-mount", dir);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("shm", "/dev/shm", "tmpfs", 0, NULL) == 0) {
        CHECK_EQ(hf3fs_iovcreate(&iov, dir, (size_t)1 << 60, 0, -1), -EIO);
        CHECK_EQ(count_entries("/dev/shm", "hf3fs-iov-"), 0);
        CHECK_EQ(hf3fs_iovcreate(&iov, dir, 4096, 0, -1), 0);
        CHECK_EQ(count_entries("/dev/shm", "hf3fs-iov-"), 1);
        hf3fs_iovdestroy(&iov);
        CHECK_EQ(count_entries("/dev/shm", "hf3fs-iov-"), 0);
    }
    snprintf(path, sizeof(path), "rm -rf %s", dir);
    CHECK_EQ(system(path), 0);
}

static void failed_create_leaves_no_name(void **state)
{
    struct hf3fs_iov iov = memory_new(4096);
    int links;

    (void)state;
    hf3fs_iovdestroy(&iov);
    links = count_entries(in_mount("3fs-virt/iovs"), "");
    CHECK_EQ(hf3fs_iovcreate(&iov, mnt, (size_t)1 << 60, 0, -1), -EIO);
    CHECK_EQ(count_entries(in_mount("3fs-virt/iovs"), ""), links);
    in_child(no_name_step, NULL);
}

static void iovopen_errors(void **state)
{
    struct hf3fs_iov iov = memory_new(8192), other;
    static const uint8_t unknown[16] = {0xde, 0xad};
    const uint8_t *id = (const uint8_t *)iov.id;

    (void)state;
    CHECK_EQ(hf3fs_iovopen(NULL, id, mnt, 8192, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovopen(&other, NULL, mnt, 8192, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovopen(&other, id, NULL, 8192, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovopen(&other, unknown, mnt, 8192, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovopen(&other, id, mnt, 8192, 8192, -1), -ENOENT); /* another block size */
    CHECK_EQ(hf3fs_iovopen(&other, id, "/usr", 8192, 0, -1), -ENOENT);
    CHECK_EQ(hf3fs_iovopen(&other, id, mnt, 8192, 0, -1), 0);
    CHECK(other.iovh != NULL);
    CHECK(memcmp(other.id, iov.id, 16) == 0);
    hf3fs_iovunlink(&other); /* not the creator: the name stays */
    hf3fs_iovdestroy(&other);
    CHECK_EQ(hf3fs_iovopen(&other, id, mnt, 8192, 0, -1), 0);
    hf3fs_iovdestroy(&other);
    hf3fs_iovdestroy(&iov);
}

static void foreign_link(void *arg)
{
    struct hf3fs_iov other;

    if (geteuid() != 0 || seteuid(65534) != 0 || euidaccess(mnt, X_OK) != 0)
        _exit(0); /* not root, or a parent directory is closed to that user */
    CHECK_EQ(hf3fs_iovopen(&other, arg, mnt, 8192, 0, -1), -EPERM);
}

static void iovopen_of_another_user(void **state)
{
    struct hf3fs_iov iov = memory_new(8192);

    (void)state;
    chmod(mnt, 0755);
    in_child(foreign_link, iov.id);
    hf3fs_iovdestroy(&iov);
}

static void iovwrap_errors(void **state)
{
    static const uint8_t id[16] = {1, 2};
    struct hf3fs_iov iov;
    char name[300];

    (void)state;
    memset(name, 'x', sizeof(name));
    name[256] = '\0';
    CHECK_EQ(hf3fs_iovwrap(NULL, name, id, mnt, 1, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovwrap(&iov, name, id, name, 1, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovwrap(&iov, name, id, NULL, 1, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovwrap(&iov, name, NULL, mnt, 1, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iovwrap(&iov, name, id, "/not/checked", 123, 7, -1), 0); /* no checks */
    CHECK(iov.iovh == NULL);
    CHECK_EQ(iov.size, 123);
    CHECK_EQ(iov.block_size, 7);
    CHECK(memcmp(iov.id, id, 16) == 0);
}

static void iorcreate_errors(void **state)
{
    struct hf3fs_ior ior, before;
    char name[300];

    (void)state;
    memset(&ior, 0x5a, sizeof(ior));
    before = ior;
    memset(name, 'x', sizeof(name));
    name[256] = '\0';
    CHECK_EQ(hf3fs_iorcreate(NULL, mnt, 4, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, NULL, 4, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, "", 4, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, name, 4, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, 0, true, 0, -1), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, 4, true, 5, -1), -EINVAL);         /* io_depth > entries */
    CHECK_EQ(hf3fs_iorcreate3(&ior, mnt, 4, true, 0, 0, -1, -1), -EINVAL); /* timeout < 0 */
    CHECK_EQ(hf3fs_iorcreate4(&ior, mnt, 4, true, 0, -1, -1, 0), -EINVAL);
    CHECK_EQ(hf3fs_iorcreate(&ior, "/usr", 4, true, 0, -1), -ENOENT);
    CHECK(memcmp(&ior, &before, sizeof(ior)) == 0);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, 4, true, -5, -1), 0); /* never binds */
    hf3fs_iordestroy(&ior);
    CHECK_EQ(hf3fs_iorcreate4(&ior, mnt, 4, true, 4, 0, -1, 0xff00),
             0); /* unknown flags are ignored */
    hf3fs_iordestroy(&ior);
    CHECK_EQ(hf3fs_iorcreate2(&ior, mnt, 4, true, 0, -3, -1), 0);
    CHECK_EQ(ior.priority, -3);
    hf3fs_iordestroy(&ior);
}

static void prep_errors(void **state)
{
    static const struct timespec past[] = {
        {0, 0}, {INT64_MIN, 0}, {INT64_MIN, INT64_MAX}, {INT64_MIN, INT64_MIN}, {0, INT64_MIN}};
    struct hf3fs_iov iov = memory_new(4096), none = {0};
    struct hf3fs_ior r = ring_new(4, true), dead = ring_new(4, true);
    int fd = file_new("prep", 0);

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    hf3fs_iordestroy(&dead);
    CHECK_EQ(hf3fs_prep_io(NULL, &iov, true, iov.base, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&dead, &iov, true, iov.base, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, NULL, true, iov.base, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &none, true, iov.base, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, false, iov.base, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 0, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base - 1, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + 4096, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + 1, fd, 0, 4096, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + 1, fd, 0, UINT64_MAX, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, NULL, fd, 0, 1, NULL), -EINVAL);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, 1000, 0, 1, NULL), -EBADF);
    CHECK_EQ(hf3fs_submit_ios(NULL), -EINVAL);
    CHECK_EQ(hf3fs_submit_ios(&dead), -EINVAL);
    CHECK_EQ(hf3fs_wait_for_ios(NULL, (struct hf3fs_cqe[1]){{0}}, 1, 0, NULL), -EINVAL);
    CHECK_EQ(hf3fs_wait_for_ios(&dead, (struct hf3fs_cqe[1]){{0}}, 1, 0, NULL), -EINVAL);
    CHECK_EQ(hf3fs_wait_for_ios(&r, NULL, 1, 0, NULL), -EINVAL);
    for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++)
        CHECK_EQ(hf3fs_wait_for_ios(&r, (struct hf3fs_cqe[1]){{0}}, 1, 1, &past[i]), 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void hardlinks(void **state)
{
    struct stat a, b;
    char cwd[PATH_MAX];
    int fd = file_new("target", 0);

    (void)state;
    close(fd);
    CHECK_EQ(hf3fs_hardlink(in_mount("target"), in_mount("linked")), 0);
    CHECK_EQ(stat(in_mount("target"), &a), 0);
    CHECK_EQ(stat(in_mount("linked"), &b), 0);
    CHECK(a.st_ino == b.st_ino);
    CHECK_EQ(hf3fs_hardlink(in_mount("target"), in_mount("linked")), EEXIST);
    CHECK_EQ(hf3fs_hardlink(in_mount("absent"), in_mount("linked2")), ENOENT);
    CHECK_EQ(hf3fs_hardlink(in_mount("target"), in_mount("absent/linked")), ENOENT);
    mkdir(in_mount("dir"), 0755);
    CHECK_EQ(hf3fs_hardlink(in_mount("dir"), in_mount("linked3")), EISDIR);
    CHECK_EQ(hf3fs_hardlink("/etc/passwd", "/etc/linked"), ENOTTY); /* in no mount */
    CHECK_EQ(hf3fs_hardlink(in_mount("target"), "/tmp/conform-linked"), ENOTTY);
    CHECK(getcwd(cwd, sizeof(cwd)) != NULL);
    CHECK_EQ(chdir(mnt), 0);
    CHECK_EQ(hf3fs_hardlink("target", "bare"),
             ENOENT); /* as the real library: the parent must be named */
    CHECK_EQ(hf3fs_hardlink("target", "./named"), 0);
    CHECK_EQ(chdir(cwd), 0);
}

static void punched_holes(void **state)
{
    int fd = file_new("punch", 0), ro, outside;
    uint8_t *bytes = malloc(4 * MIB);
    size_t start[1000] = {MIB}, end[1000] = {2 * MIB};
    struct stat st;

    (void)state;
    CHECK(bytes != NULL);
    memset(bytes, 7, 4 * MIB);
    CHECK_EQ(write(fd, bytes, 4 * MIB), 4 * MIB);
    CHECK_EQ(hf3fs_punchhole(fd, 1, start, end, 0), 0);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, 4 * MIB); /* the length stays */
    CHECK_EQ(pread(fd, bytes, 4 * MIB, 0), 4 * MIB);
    CHECK_EQ(bytes[MIB - 1], 7);
    CHECK_EQ(bytes[MIB], 0);
    CHECK_EQ(bytes[2 * MIB - 1], 0);
    CHECK_EQ(bytes[2 * MIB], 7);
    CHECK_EQ(hf3fs_punchhole(fd, 0, NULL, NULL, 0), 0);
    CHECK_EQ(hf3fs_punchhole(fd, 1000, start, end, 99),
             0); /* 999 empty ranges; flags are ignored */
    CHECK_EQ(hf3fs_punchhole(fd, 1001, start, end, 0), EINVAL);
    start[0] = 4096; /* not a chunk boundary */
    CHECK_EQ(hf3fs_punchhole(fd, 1, start, end, 0), EINVAL);
    start[0] = 3 * MIB; /* backwards */
    CHECK_EQ(hf3fs_punchhole(fd, 1, start, end, 0), EINVAL);
    start[0] = 0;
    end[0] = (size_t)1 << 63;
    CHECK_EQ(hf3fs_punchhole(fd, 1, start, end, 0), EINVAL);
    CHECK_EQ(hf3fs_punchhole(-1, 0, NULL, NULL, 0), EBADF);
    ro = open(in_mount("punch"), O_RDONLY); /* no permission check */
    end[0] = MIB;
    CHECK_EQ(hf3fs_punchhole(ro, 1, start, end, 0), 0);
    CHECK_EQ(pread(fd, bytes, 1, 0), 1);
    CHECK_EQ(bytes[0], 0);
    outside = open("/dev/null", O_RDWR);
    CHECK_EQ(hf3fs_punchhole(outside, 0, NULL, NULL, 0), ENOTTY);
    close(outside);
    close(ro);
    close(fd);
    free(bytes);
}

static void info_line(void **state)
{
    char buf[256], small[8];
    int n;

    (void)state;
    n = cistern_usrbio_info(mnt, buf, sizeof(buf));
    CHECK(n > 0);
    CHECK_EQ(strlen(buf), n);
    CHECK(strstr(buf, "backend=") == buf);
    CHECK(strstr(buf, " strict=none") != NULL);
    CHECK(strstr(buf, " fs=") != NULL);
    CHECK(strchr(buf, '\n') == NULL);
    CHECK(cistern_usrbio_info(NULL, small, sizeof(small)) > (int)sizeof(small));
    CHECK_EQ(strlen(small), sizeof(small) - 1);
    CHECK_EQ(cistern_usrbio_info(mnt, NULL, 10), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iovcreate_errors), cmocka_unit_test(failed_create_leaves_no_name),
        cmocka_unit_test(iovopen_errors),   cmocka_unit_test(iovopen_of_another_user),
        cmocka_unit_test(iovwrap_errors),   cmocka_unit_test(iorcreate_errors),
        cmocka_unit_test(prep_errors),      cmocka_unit_test(hardlinks),
        cmocka_unit_test(punched_holes),    cmocka_unit_test(info_line),
    };

    return cmocka_run_group_tests_name("arguments", tests, mount_setup, mount_teardown);
}
