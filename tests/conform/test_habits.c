/*
 * test_habits.c - how programs in the field call the interface: one test for each row of the table
 * of habits in section 6 of the specification, in its order.
 *
 *   one iov for both rings, odd sizes      iov_shared_by_rings_odd_size
 *   reg_fd result; three handles           three_names_of_a_file
 *   NULL, monotonic, relative deadline     wrong_clocks_poll
 *   -ETIMEDOUT or -EAGAIN expected         timeout_is_a_count
 *   iov per I/O, ring per request          create_and_destroy_are_cheap
 *   own object, link and iovwrap           own_symlink_and_wrap; test_symlink_client.py
 *   wrapped, then unlinked at once         wrapped_then_unlinked; test_symlink_client.py
 *   dlopen and dlclose around each call    dlopen_around_every_operation
 *   directory inside the mount             directory_inside_the_mount
 *   index and userdata                     index_and_userdata_verbatim
 *   submission order                       order_kept_where_it_is_free
 *   cudaHostRegister, mlock                memory_is_aligned_pinnable_and_stays
 *   stat and fsync after a write           stat_and_fsync_after_write
 *   jobs fork after loading                fork_after_load; test_ctypes_client.py
 *   clean-up of /dev/shm/hf3fs-iov-*       memory_lives_without_its_name
 *   layouts duplicated in ctypes           test_layout.c, test_ctypes_client.py
 *   double destroy                         double_destroy
 */
#include "conform.h"

#include <dlfcn.h>
#include <sys/file.h>

static void iov_shared_by_rings_odd_size(void **state)
{
    struct hf3fs_iov iov = memory_new(8396798);
    struct hf3fs_ior w = ring_new(16, false), r = ring_new(16, true);
    int fd = file_new("odd", 0);

    (void)state;
    CHECK_EQ(iov.size, 8396798);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    pattern(iov.base, 4198399, 1);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4198399), 4198399);
    CHECK_EQ(transfer(&r, &iov, iov.base + 4198399, fd, 0, 4198399), 4198399);
    CHECK(memcmp(iov.base, iov.base + 4198399, 4198399) == 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void three_names_of_a_file(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("names", 0), handle;

    (void)state;
    handle = hf3fs_reg_fd(fd, 0);
    CHECK(handle <= 0);
    CHECK(-handle != fd);
    CHECK(fcntl(-handle, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 512), 512);
    CHECK_EQ(transfer(&w, &iov, iov.base, handle, 512, 512), 512);
    CHECK_EQ(transfer(&w, &iov, iov.base, -handle, 1024, 512), 512);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 1536);
    CHECK_EQ(hf3fs_reg_fd(1 << 20, 0), EBADF); /* an error is positive */
    hf3fs_dereg_fd(fd);
    CHECK_EQ(fcntl(-handle, F_GETFD), -1);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void wrong_clocks_poll(void **state)
{
    struct hf3fs_ior r = ring_new(4, true);
    struct timespec monotonic, relative = {.tv_sec = 5}, past = realtime_in_ms(-1);
    struct timespec *wrong[] = {&monotonic, &relative, &past};
    struct hf3fs_cqe cqe;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    monotonic.tv_sec += 5;
    for (int i = 0; i < 3; i++) {
        long start = now_ms();

        CHECK_EQ(hf3fs_wait_for_ios(&r, &cqe, 1, 1, wrong[i]), 0);
        CHECK(now_ms() - start < 1000);
    }
    /* A completion that is there is still found by such a poll. */
    struct hf3fs_iov iov = memory_new(4096);
    int fd = file_new("poll", 0), n = 0;

    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base, fd, 0, 4096, NULL), 0);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    for (int i = 0; i < 5000 && n == 0; i++) {
        n = hf3fs_wait_for_ios(&r, &cqe, 1, 1, &relative);
        usleep(n == 0 ? 1000 : 0);
    }
    CHECK_EQ(n, 1);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void timeout_is_a_count(void **state)
{
    struct hf3fs_ior r = ring_new(4, true);
    struct timespec soon = realtime_in_ms(50);
    struct hf3fs_cqe cqes[4];
    long start = now_ms();

    (void)state;
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 4, 2, &soon), 0);
    CHECK(now_ms() - start >= 40);
    CHECK(now_ms() - start < 5000);
    hf3fs_iordestroy(&r);
}

static void create_and_destroy_are_cheap(void **state)
{
    enum { RINGS = 300 };
    static struct hf3fs_ior many[RINGS];
    int fd = file_new("cheap", 0), fds;
    long start = now_ms();

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 500; i++) {
        struct hf3fs_ior ior = ring_new(i % 2 ? 16 : 1000, false);
        struct hf3fs_iov iov;

        CHECK_EQ(hf3fs_iovcreate(&iov, mnt, 64 * KIB, 64 * KIB, -1), 0);
        CHECK_EQ(transfer(&ior, &iov, iov.base, fd, 0, 64 * KIB), 64 * KIB);
        hf3fs_iordestroy(&ior);
        hf3fs_iovdestroy(&iov);
    }
    CHECK(now_ms() - start < 20000); /* 40 ms each would not be cheap */
    fds = count_fds();
    for (int i = 0; i < RINGS; i++)
        many[i] = ring_new(16, true);
    CHECK(count_fds() - fds <= 16); /* rings share a few io_urings */
    for (int i = 0; i < RINGS; i++)
        hf3fs_iordestroy(&many[i]);
    hf3fs_dereg_fd(fd);
    close(fd);
}

static void own_symlink_and_wrap(void **state)
{
    static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    struct hf3fs_ior r = ring_new(4, true), w = ring_new(4, false); /* makes 3fs-virt/iovs */
    char shm[64], link[PATH_MAX + 128];
    struct hf3fs_iov iov, other;
    int fd = file_new("wrap", 0), shm_fd;
    uint8_t *base;

    (void)state;
    snprintf(shm, sizeof(shm), "/dev/shm/conform-%d", (int)getpid());
    shm_fd = open(shm, O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK(shm_fd >= 0);
    CHECK_EQ(ftruncate(shm_fd, (off_t)MIB), 0);
    base = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, shm_fd, 0);
    CHECK(base != MAP_FAILED);
    CHECK_EQ(hf3fs_iovwrap(&iov, base, id, mnt, MIB, 0, -1), 0);
    CHECK(iov.iovh == NULL);
    CHECK(iov.base == base);
    link_of(&iov, link, sizeof(link));
    CHECK_EQ(symlink(shm, link), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    pattern(base, 4096, 3);
    CHECK_EQ(transfer(&w, &iov, base, fd, 0, 4096), 4096);
    CHECK_EQ(transfer(&r, &iov, base + 8192, fd, 0, 4096), 4096);
    CHECK(memcmp(base, base + 8192, 4096) == 0);
    /* Others find it through the link. */
    CHECK_EQ(hf3fs_iovopen(&other, id, mnt, MIB, 0, -1), 0);
    CHECK(memcmp(other.base, base, 4096) == 0);
    hf3fs_iovdestroy(&other);
    CHECK_EQ(unlink(link), 0);
    hf3fs_iovdestroy(&iov); /* no-op on wrapped memory */
    base[0] = 1;
    munmap(base, MIB);
    close(shm_fd);
    unlink(shm);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iordestroy(&w);
}

static void wrapped_then_unlinked(void **state)
{
    static const uint8_t id[16] = {9};
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("unlinked", 0), shm_fd;
    struct hf3fs_iov iov;
    char shm[64];
    void *base;

    (void)state;
    snprintf(shm, sizeof(shm), "/dev/shm/conform-u%d", (int)getpid());
    shm_fd = open(shm, O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK(shm_fd >= 0);
    CHECK_EQ(ftruncate(shm_fd, 4096), 0);
    base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shm_fd, 0);
    CHECK(base != MAP_FAILED);
    close(shm_fd);
    unlink(shm);
    CHECK_EQ(hf3fs_iovwrap(&iov, base, id, mnt, 4096, 0, -1), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, base, fd, 0, 4096), 4096);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    munmap(base, 4096);
}

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);

    CHECK(p != NULL);
    return p;
}

static void dlopen_around_every_operation(void **state)
{
    struct hf3fs_iov iov;
    struct hf3fs_ior w;
    struct hf3fs_cqe cqe;
    int fd = file_new("dl", 0);
    Dl_info where;

    (void)state;
    CHECK(dladdr((void *)(uintptr_t)hf3fs_iovcreate, &where) != 0);
    for (int i = 0; i < 20; i++) {
        void *l = dlopen(where.dli_fname, RTLD_NOW | RTLD_LOCAL);
        __typeof__(hf3fs_iovcreate) *iovcreate = symbol(l, "hf3fs_iovcreate");
        __typeof__(hf3fs_iorcreate) *iorcreate = symbol(l, "hf3fs_iorcreate");
        __typeof__(hf3fs_reg_fd) *reg = symbol(l, "hf3fs_reg_fd");

        CHECK_EQ(iovcreate(&iov, mnt, 4096, 0, -1), 0);
        CHECK_EQ(iorcreate(&w, mnt, 4, false, 0, -1), 0);
        CHECK(reg(fd, 0) <= 0);
        dlclose(l);
        l = dlopen(where.dli_fname, RTLD_NOW | RTLD_LOCAL);
        __typeof__(hf3fs_prep_io) *prep = symbol(l, "hf3fs_prep_io");
        __typeof__(hf3fs_wait_for_ios) *wait = symbol(l, "hf3fs_wait_for_ios");

        CHECK(prep(&w, &iov, false, iov.base, fd, 0, 4096, NULL) >= 0);
        CHECK_EQ(wait(&w, &cqe, 1, 1, NULL), 1);
        CHECK_EQ(cqe.result, 4096);
        hf3fs_dereg_fd(fd);
        hf3fs_iordestroy(&w);
        hf3fs_iovdestroy(&iov);
        dlclose(l);
    }
    close(fd);
}

static void directory_inside_the_mount(void **state)
{
    struct hf3fs_iov iov;
    struct hf3fs_ior r;
    char buf[PATH_MAX];

    (void)state;
    CHECK_EQ(mkdir(in_mount("sub"), 0755), 0);
    CHECK_EQ(mkdir(in_mount("sub/deep"), 0755), 0);
    CHECK_EQ(hf3fs_iovcreate(&iov, in_mount("sub/deep"), 4096, 0, -1), 0);
    CHECK_EQ(hf3fs_iorcreate(&r, in_mount("sub/deep/"), 4, true, 0, -1), 0);
    CHECK(strcmp(iov.mount_point, in_mount("sub/deep")) == 0);
    CHECK_EQ(access(in_mount("sub/deep/3fs-virt"), F_OK), -1);
    CHECK_EQ(hf3fs_extract_mount_point(buf, sizeof(buf), in_mount("sub/deep")), strlen(mnt) + 1);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void index_and_userdata_verbatim(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(16, false);
    int fd = file_new("index", 0), index[16];
    struct hf3fs_cqe cqes[16];
    const void *data[16];

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 16; i++) {
        data[i] = i % 3 == 0 ? NULL : i % 3 == 1 ? (void *)(uintptr_t)i : &cqes[i];
        index[i] = hf3fs_prep_io(&w, &iov, false, iov.base + i * 4096, fd, (size_t)i * 4096, 4096,
                                 data[i]);
        CHECK_EQ(index[i], i); /* the lowest free one */
    }
    CHECK_EQ(hf3fs_submit_ios(&w), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 16, 16, NULL), 16);
    for (int i = 0; i < 16; i++) {
        CHECK(cqes[i].index >= 0 && cqes[i].index < 16);
        CHECK(cqes[i].userdata == data[cqes[i].index]);
        CHECK_EQ(cqes[i].result, 4096);
        index[cqes[i].index] = -1;
    }
    for (int i = 0; i < 16; i++)
        CHECK_EQ(index[i], -1); /* each exactly once */
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

/* Not promised; free where the calling thread does the work, and so it must hold there. */
static void order_kept_where_it_is_free(void **state)
{
    const char *backend = getenv("CISTERN_USRBIO_BACKEND");
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior r = ring_new(16, true);
    int fd = file_new("order", 0);
    struct hf3fs_cqe cqes[16];

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 16; i++)
        CHECK_EQ(hf3fs_prep_io(&r, &iov, true, iov.base + i * 4096, fd, 0, 4096, NULL), i);
    CHECK_EQ(hf3fs_submit_ios(&r), 0);
    CHECK_EQ(hf3fs_wait_for_ios(&r, cqes, 16, 16, NULL), 16);
    for (int i = 0; i < 16 && backend != NULL && strcmp(backend, "inline") == 0; i++)
        CHECK_EQ(cqes[i].index, i);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void memory_is_aligned_pinnable_and_stays(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB + 123);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("pinned", 0);
    uint8_t *base = iov.base;

    (void)state;
    CHECK_EQ((uintptr_t)base % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    for (size_t i = 0; i < MIB; i += 4096)
        CHECK_EQ(base[i], 0);
    CHECK_EQ(mlock(base, 64 * KIB), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(transfer(&w, &iov, base + i * 4096, fd, 0, 4096), 4096);
    CHECK(iov.base == base);
    CHECK_EQ(munlock(base, 64 * KIB), 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void stat_and_fsync_after_write(void **state)
{
    struct hf3fs_iov iov = memory_new(MIB);
    struct hf3fs_ior w = ring_new(4, false);
    int fd = file_new("stat", 0);
    struct stat st;

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 1000, 5000), 5000);
    CHECK_EQ(stat(in_mount("stat"), &st), 0);
    CHECK_EQ(st.st_size, 6000);
    CHECK_EQ(fsync(fd), 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

static void job(void *arg)
{
    struct hf3fs_ior w = ring_new(8, false), r = ring_new(8, true);
    struct hf3fs_iov iov = memory_new(MIB);
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "job-%d", *(int *)arg);
    fd = file_new(name, 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    pattern(iov.base, 64 * KIB, (unsigned)*(int *)arg);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 64 * KIB), 64 * KIB);
    CHECK_EQ(transfer(&r, &iov, iov.base + 512 * KIB, fd, 0, 64 * KIB), 64 * KIB);
    CHECK(memcmp(iov.base, iov.base + 512 * KIB, 64 * KIB) == 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void fork_after_load(void **state)
{
    pid_t pids[4];
    int status;

    (void)state;
    job(&(int){99}); /* used before the fork */
    for (int i = 0; i < 4; i++) {
        fflush(NULL);
        pids[i] = fork();
        if (pids[i] == 0) {
            child_process = true;
            alarm(60);
            job(&i);
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++) {
        CHECK(waitpid(pids[i], &status, 0) == pids[i]);
        CHECK_EQ(status, 0);
    }
    job(&(int){100});
}

/* A child that closed what it had no use for, and has other files under those numbers by now: they
 * stay open. */
static void files_of_a_child_are_its_own(void **state)
{
    int fd = file_new("parent", 0), dup = -hf3fs_reg_fd(fd, 0), status, pid;

    (void)state;
    CHECK(dup > 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int ends[2], more, again;

        child_process = true;
        alarm(60);
        close(dup);
        close(fd);
        more = pipe(ends);
        CHECK_EQ(more, 0);
        while ((more = open("/dev/null", O_RDONLY)) >= 0 && (more < dup || more < fd))
            ;
        CHECK(fcntl(dup, F_GETFD) >= 0);
        close(fd);
        again = file_new("child", 0);
        CHECK_EQ(again, fd);
        CHECK(hf3fs_reg_fd(again, 0) <= 0);
        CHECK(fcntl(dup, F_GETFD) >= 0);
        hf3fs_dereg_fd(again);
        CHECK(fcntl(dup, F_GETFD) >= 0);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    hf3fs_dereg_fd(fd);
    close(fd);
}

/* What was registered before the fork, and is open, is registered in the child. */
static void registered_before_the_fork(void **state)
{
    int fd = file_new("before", 0), status, pid;

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct hf3fs_ior w = ring_new(4, false);
        struct hf3fs_iov iov = memory_new(64 * KIB);

        child_process = true;
        alarm(60);
        CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4096), 4096);
        hf3fs_iordestroy(&w);
        hf3fs_iovdestroy(&iov);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    hf3fs_dereg_fd(fd);
    close(fd);
}

/* Closes what names the same file under numbers that only the library knows. */
static void close_hidden(int fd, int dup)
{
    struct stat mine, st;

    CHECK_EQ(fstat(fd, &mine), 0);
    for (int i = 3; i < 1024; i++) {
        if (i != fd && i != dup && fstat(i, &st) == 0 && st.st_dev == mine.st_dev &&
            st.st_ino == mine.st_ino)
            close(i);
    }
}

/* A child that closed what it did not know: a write at an offset goes there, not to the end. And a
 * number that names another file by now is not registered any more. */
static void odd_children(void **state)
{
    int fd = file_new("appended", O_APPEND), dup = -hf3fs_reg_fd(fd, 0), status, pid;
    struct stat st;

    (void)state;
    CHECK(dup > 0);
    CHECK_EQ(ftruncate(fd, 8192), 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct hf3fs_ior w;
        struct hf3fs_iov iov;

        child_process = true;
        alarm(60);
        close_hidden(fd, dup);
        w = ring_new(4, false); /* the child's first call */
        iov = memory_new(64 * KIB);
        pattern(iov.base, 4096, 5);
        CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4096), 4096);
        CHECK_EQ(fstat(dup, &st), 0);
        CHECK_EQ(st.st_size, 8192);
        hf3fs_iordestroy(&w);
        hf3fs_iovdestroy(&iov);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    pid = fork();
    if (pid == 0) {
        struct hf3fs_ior w;
        struct hf3fs_iov iov;
        int other;

        child_process = true;
        alarm(60);
        other = file_new("other", 0);
        CHECK_EQ(dup2(other, fd), fd);
        w = ring_new(4, false);
        iov = memory_new(64 * KIB);
        CHECK(hf3fs_prep_io(&w, &iov, false, iov.base, fd, 0, 4096, NULL) < 0);
        hf3fs_iordestroy(&w);
        hf3fs_iovdestroy(&iov);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    hf3fs_dereg_fd(fd);
    close(fd);
}

static void memory_lives_without_its_name(void **state)
{
    struct hf3fs_iov iov = memory_new(64 * KIB), other;
    struct hf3fs_ior w = ring_new(4, false);
    char link[PATH_MAX + 128], shm[PATH_MAX];
    int fd = file_new("nameless", 0);
    ssize_t n;

    (void)state;
    link_of(&iov, link, sizeof(link));
    n = readlink(link, shm, sizeof(shm) - 1);
    CHECK(n > 0);
    shm[n] = '\0';
    CHECK(strncmp(shm, "/dev/shm/hf3fs-iov-", 19) == 0);
    CHECK_EQ(unlink(shm), 0); /* what such clean-up does */
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 4096), 4096);
    CHECK_EQ(hf3fs_iovopen(&other, (const uint8_t *)iov.id, mnt, 64 * KIB, 0, -1), -ENOENT);
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
    CHECK_EQ(access(link, F_OK), -1);
}

static void double_destroy(void **state)
{
    struct hf3fs_iov iov = memory_new(4096), wrapped;
    struct hf3fs_ior r = ring_new(4, true);
    static const uint8_t id[16];
    static uint8_t memory[4096];

    (void)state;
    hf3fs_iordestroy(&r);
    CHECK(r.iorh == NULL);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
    CHECK(iov.iovh == NULL);
    hf3fs_iovdestroy(&iov);
    CHECK_EQ(hf3fs_iovwrap(&wrapped, memory, id, mnt, sizeof(memory), 0, -1), 0);
    hf3fs_iovdestroy(&wrapped);
    hf3fs_iovunlink(&wrapped);
    hf3fs_iordestroy(NULL);
    hf3fs_iovdestroy(NULL);
    hf3fs_iovunlink(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iov_shared_by_rings_odd_size),
        cmocka_unit_test(three_names_of_a_file),
        cmocka_unit_test(wrong_clocks_poll),
        cmocka_unit_test(timeout_is_a_count),
        cmocka_unit_test(create_and_destroy_are_cheap),
        cmocka_unit_test(own_symlink_and_wrap),
        cmocka_unit_test(wrapped_then_unlinked),
        cmocka_unit_test(dlopen_around_every_operation),
        cmocka_unit_test(directory_inside_the_mount),
        cmocka_unit_test(index_and_userdata_verbatim),
        cmocka_unit_test(order_kept_where_it_is_free),
        cmocka_unit_test(memory_is_aligned_pinnable_and_stays),
        cmocka_unit_test(stat_and_fsync_after_write),
        cmocka_unit_test(fork_after_load),
        cmocka_unit_test(files_of_a_child_are_its_own),
        cmocka_unit_test(registered_before_the_fork),
        cmocka_unit_test(odd_children),
        cmocka_unit_test(memory_lives_without_its_name),
        cmocka_unit_test(double_destroy),
    };

    return cmocka_run_group_tests_name("habits", tests, mount_setup, mount_teardown);
}
