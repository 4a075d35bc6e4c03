/*
 * test_backends.c - how the drop-in chooses what runs the I/O, and that it behaves as a guest:
 * io_uring forbidden by seccomp, little locked memory for a user who is not root, no thread and no
 * descriptor left behind, a process killed in the middle, several waiters and preparers at once,
 * waiting without burning the processor.
 */
#include "conform.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void round_trip(size_t size)
{
    struct hf3fs_iov iov = memory_new(2 * size);
    struct hf3fs_ior w = ring_new(4, false), r = ring_new(4, true);
    int fd = file_new("round-trip", 0);

    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    pattern(iov.base, size, 21);
    CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, size), size);
    CHECK_EQ(transfer(&r, &iov, iov.base + size, fd, 0, size), size);
    CHECK(memcmp(iov.base, iov.base + size, size) == 0);
    hf3fs_dereg_fd(fd);
    close(fd);
    unlink(in_mount("round-trip"));
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static bool info_says(const char *text)
{
    char buf[256];

    CHECK(cistern_usrbio_info(mnt, buf, sizeof(buf)) > 0);
    return strstr(buf, text) != NULL;
}

static void forbid(long call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};

    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void forbidden_step(void *arg)
{
    bool in_memory;

    forbid(*(long *)arg);
    setenv("CISTERN_USRBIO_BACKEND", "auto", 1);
    in_memory = info_says("fs=tmpfs");
    CHECK(info_says(in_memory ? "backend=inline urings=0" : "backend=threads urings=0"));
    round_trip(MIB);
}

static void forced_step(void *arg)
{
    struct hf3fs_ior ior;

    forbid(*(long *)arg);
    setenv("CISTERN_USRBIO_BACKEND", "io_uring", 1);
    CHECK_EQ(hf3fs_iorcreate(&ior, mnt, 4, true, 0, -1), -EPERM); /* asked for, and not to be had */
}

static void seccomp_leads_to_threads(void **state)
{
    long setup = SYS_io_uring_setup, enter = SYS_io_uring_enter;

    (void)state;
    in_child(forbidden_step, &setup);
    in_child(forbidden_step, &enter); /* setting up is allowed, using is not */
    in_child(forced_step, &setup);
}

static void small_memlock_step(void *arg)
{
    struct rlimit limit = {.rlim_cur = 8 << 20, .rlim_max = 8 << 20};
    enum { RINGS = 1000 };
    static struct hf3fs_ior rings[RINGS];

    (void)arg;
    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0) {
        CHECK_EQ(chmod(mnt, 0777), 0);
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(0);
        if (access(mnt, W_OK) != 0)
            _exit(0); /* a parent directory is closed to that user */
    }
    for (int i = 0; i < RINGS; i++)
        rings[i] = ring_new(64, i % 2 == 0);
    round_trip(MIB);
    for (int i = 0; i < RINGS; i++)
        hf3fs_iordestroy(&rings[i]);
}

static void thousand_rings_with_8_mib_of_memlock(void **state)
{
    (void)state;
    in_child(small_memlock_step, NULL);
}

/* Threads of this process, without the kernel's own io-wq workers. */
static int count_threads(void)
{
    int n = -1;
    FILE *f = popen("cat /proc/$PPID/task/*/comm | grep -vc '^iou-'", "r");

    CHECK(f != NULL);
    CHECK(fscanf(f, "%d", &n) == 1);
    pclose(f);
    return n;
}

/* A thread that was joined is still listed for a moment: the kernel tells the joiner first. */
static void comes_down_to(int (*count)(void), int expected)
{
    for (int i = 0; i < 200 && count() > expected; i++)
        usleep(10000);
    CHECK_EQ(count(), expected);
}

static void threads_step(void *arg)
{
    int before = count_threads(), fds;

    (void)arg;
    round_trip(MIB); /* an idle io_uring may be kept from here on */
    fds = count_fds();
    for (int i = 0; i < 20; i++)
        round_trip(MIB);
#ifndef __SANITIZE_THREAD__ /* which has a thread of its own */
    comes_down_to(count_threads, before);
#endif
    (void)before;
    comes_down_to(count_fds, fds);
}

static void nothing_is_left_behind(void **state)
{
    const char *old = getenv("CISTERN_USRBIO_BACKEND");
    char *keep = old != NULL ? strdup(old) : NULL;

    (void)state;
    in_child(threads_step, NULL);
    setenv("CISTERN_USRBIO_BACKEND", "threads", 1);
    in_child(threads_step, NULL);
    if (keep != NULL)
        setenv("CISTERN_USRBIO_BACKEND", keep, 1);
    free(keep);
}

static void backend_as_configured(void *arg)
{
    char text[64];

    setenv("CISTERN_USRBIO_BACKEND", arg, 1);
    snprintf(text, sizeof(text), "backend=%s ", (char *)arg);
    CHECK(info_says(text));
    round_trip(3 * MIB + 1);
    CHECK(info_says(text));
}

/* Containers forbid it by default. What is tested without it is everything but io_uring itself. */
static bool uring_allowed(void)
{
    return syscall(SYS_io_uring_setup, 0, NULL) == -1 && errno != EPERM && errno != ENOSYS;
}

static void environment_chooses(void **state)
{
    (void)state;
    if (uring_allowed())
        in_child(backend_as_configured, "io_uring");
    in_child(backend_as_configured, "threads");
    in_child(backend_as_configured, "inline");
}

struct load {
    struct hf3fs_ior *ior;
    struct hf3fs_iov *iov;
    int fd;
    _Atomic int total, reaped;
    _Atomic int per_index[64];
    _Atomic bool buffer_busy[64];
};

static void *waiter(void *arg)
{
    struct load *load = arg;
    struct hf3fs_cqe cqes[8];

    while (atomic_load(&load->reaped) < load->total) {
        struct timespec soon = realtime_in_ms(200);
        int n = hf3fs_wait_for_ios(load->ior, cqes, 8, 3, &soon);

        for (int i = 0; i < n; i++) {
            if (cqes[i].result == 4096 && cqes[i].index < 64)
                atomic_fetch_sub(&load->per_index[cqes[i].index], 1);
            atomic_store((_Atomic bool *)(uintptr_t)cqes[i].userdata, false);
        }
        atomic_fetch_add(&load->reaped, n);
    }
    return NULL;
}

/* One thread prepares and submits, three others wait: each completion goes to exactly one of them.
 */
static void several_waiters(void **state)
{
    struct hf3fs_iov iov = memory_new(64 * 4096);
    struct hf3fs_ior r = ring_new(64, true);
    struct load load = {.ior = &r, .iov = &iov, .fd = file_new("waiters", 0), .total = 20000};
    const int total = load.total;
    pthread_t threads[3];

    (void)state;
    CHECK_EQ(ftruncate(load.fd, 4096), 0);
    CHECK(hf3fs_reg_fd(load.fd, 0) <= 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, waiter, &load), 0);
    for (int n = 0; n < total;) {
        for (int k = 0; k < 16 && n < total; k++) {
            int buffer = 0, index;

            while (buffer < 64 && atomic_load(&load.buffer_busy[buffer]))
                buffer++;
            if (buffer == 64)
                break;
            atomic_store(&load.buffer_busy[buffer], true);
            index = hf3fs_prep_io(&r, &iov, true, iov.base + (size_t)buffer * 4096, load.fd, 0,
                                  4096, &load.buffer_busy[buffer]);
            if (index == -EAGAIN) {
                atomic_store(&load.buffer_busy[buffer], false);
                break;
            }
            CHECK(index >= 0);
            atomic_fetch_add(&load.per_index[index], 1);
            n++;
        }
        CHECK_EQ(hf3fs_submit_ios(&r), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&load.reaped), load.total);
    for (int i = 0; i < 64; i++)
        CHECK_EQ(atomic_load(&load.per_index[i]), 0);
    hf3fs_dereg_fd(load.fd);
    close(load.fd);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
}

static void *own_ring(void *arg)
{
    struct load *load = arg;
    struct hf3fs_ior r = ring_new(16, true);
    struct hf3fs_cqe cqes[16];
    uint8_t *base = load->iov->base + (size_t)atomic_fetch_add(&load->total, 1) * 16 * 4096;
    int mine = 0;

    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 16; i++)
            mine +=
                hf3fs_prep_io(&r, load->iov, true, base + i * 4096, load->fd, 0, 4096, NULL) >= 0;
        (void)hf3fs_submit_ios(&r);
        for (int n = 0; n < 16;)
            n += hf3fs_wait_for_ios(&r, cqes, 16, round % 3 == 0 ? 1 : 16 - n, NULL);
    }
    hf3fs_iordestroy(&r);
    atomic_fetch_add(&load->reaped, mine);
    return NULL;
}

/* More rings and threads than io_urings: leaders and followers. */
static void many_threads_with_rings_of_their_own(void **state)
{
    enum { THREADS = 24 };
    struct hf3fs_iov iov = memory_new(THREADS * 16 * 4096);
    struct load load = {.iov = &iov, .fd = file_new("threads", 0)};
    pthread_t threads[THREADS];

    (void)state;
    CHECK_EQ(ftruncate(load.fd, 4096), 0);
    CHECK(hf3fs_reg_fd(load.fd, 0) <= 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, own_ring, &load), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&load.reaped), THREADS * 300 * 16);
    hf3fs_dereg_fd(load.fd);
    close(load.fd);
    hf3fs_iovdestroy(&iov);
}

/* More I/O in flight than one completion queue takes. */
static void more_in_flight_than_the_queue_holds(void **state)
{
    enum { RINGS = 24, DEPTH = 1000 };
    static struct hf3fs_ior rings[RINGS];
    static struct hf3fs_cqe cqes[DEPTH];
    struct hf3fs_iov iov = memory_new(RINGS * DEPTH * 512);
    int fd = file_new("flood", 0);

    (void)state;
    CHECK_EQ(ftruncate(fd, 4096), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < RINGS; i++) {
        rings[i] = ring_new(DEPTH, true);
        for (int k = 0; k < DEPTH; k++)
            CHECK_EQ(hf3fs_prep_io(&rings[i], &iov, true, iov.base + (size_t)(i * DEPTH + k) * 512,
                                   fd, 0, 512, NULL),
                     k);
        CHECK_EQ(hf3fs_submit_ios(&rings[i]), 0);
    }
    for (int i = 0; i < RINGS; i++) {
        CHECK_EQ(hf3fs_wait_for_ios(&rings[i], cqes, DEPTH, DEPTH, NULL), DEPTH);
        for (int k = 0; k < DEPTH; k++)
            CHECK_EQ(cqes[k].result, 512);
        hf3fs_iordestroy(&rings[i]);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iovdestroy(&iov);
}

static long cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Of three threads that wait a second each; ThreadSanitizer has a thread of its own. */
#ifdef __SANITIZE_THREAD__
#define WAITING_CPU_MS 300
#else
#define WAITING_CPU_MS 100
#endif

static void *wait_a_second(void *arg)
{
    struct timespec later = realtime_in_ms(1000);
    struct hf3fs_cqe cqe;

    (void)hf3fs_wait_for_ios(arg, &cqe, 1, 1, &later);
    return NULL;
}

static void waiting_burns_no_cpu(void **state)
{
    struct hf3fs_ior r = ring_new(4, true), s = ring_new(4, true);
    struct hf3fs_ior *which[] = {&r, &r, &s};
    pthread_t threads[3];
    long before = cpu_ms();

    (void)state;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, wait_a_second, which[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(cpu_ms() - before < WAITING_CPU_MS);
    hf3fs_iordestroy(&r);
    hf3fs_iordestroy(&s);
}

/* Killed with I/O in flight: the next process on the mount works. */
static void survives_a_killed_neighbour(void **state)
{
    int status;

    (void)state;
    for (int i = 0; i < 5; i++) {
        pid_t pid;

        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            child_process = true;
            for (;;)
                round_trip(MIB);
        }
        usleep(20000);
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGKILL);
        round_trip(64 * KIB);
    }
}

/* A thread that ends with I/O in flight does not take it along. */
static void *submit_and_leave(void *arg)
{
    struct load *load = arg;

    for (int i = 0; i < 16; i++)
        (void)hf3fs_prep_io(load->ior, load->iov, false, load->iov->base + i * 4096, load->fd,
                            (size_t)i * 4096, 4096, NULL);
    (void)hf3fs_submit_ios(load->ior);
    return NULL;
}

static void submitter_may_end(void **state)
{
    struct hf3fs_iov iov = memory_new(64 * 4096);
    struct hf3fs_ior w = ring_new(16, false);
    struct load load = {.ior = &w, .iov = &iov, .fd = file_new("leave", 0)};
    struct hf3fs_cqe cqes[16];
    pthread_t thread;

    (void)state;
    CHECK(hf3fs_reg_fd(load.fd, 0) <= 0);
    for (int round = 0; round < 50; round++) {
        CHECK_EQ(pthread_create(&thread, NULL, submit_and_leave, &load), 0);
        pthread_join(thread, NULL);
        CHECK_EQ(hf3fs_wait_for_ios(&w, cqes, 16, 16, NULL), 16);
        for (int i = 0; i < 16; i++)
            CHECK_EQ(cqes[i].result, 4096);
    }
    hf3fs_dereg_fd(load.fd);
    close(load.fd);
    hf3fs_iordestroy(&w);
    hf3fs_iovdestroy(&iov);
}

/* Memory that was used long enough is pinned; new memory under the same number is not mistaken for
 * it. */
static void fixed_buffers_follow_their_memory(void **state)
{
    struct hf3fs_ior w = ring_new(4, false), r = ring_new(4, true);
    int fd = file_new("fixed", 0);

    (void)state;
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (unsigned round = 0; round < 20; round++) {
        struct hf3fs_iov iov = memory_new(256 * KIB);

        for (unsigned pass = 0; pass < 8; pass++) {
            pattern(iov.base, 128 * KIB, round * 100 + pass);
            memset(iov.base + 128 * KIB, 0, 128 * KIB);
            CHECK_EQ(transfer(&w, &iov, iov.base, fd, 0, 128 * KIB), 128 * KIB);
            CHECK_EQ(transfer(&r, &iov, iov.base + 128 * KIB, fd, 0, 128 * KIB), 128 * KIB);
            CHECK(memcmp(iov.base, iov.base + 128 * KIB, 128 * KIB) == 0);
        }
        hf3fs_iovdestroy(&iov);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
}

static void pinning_refused_step(void *arg)
{
    struct rlimit limit = {.rlim_cur = 64 << 10, .rlim_max = 64 << 10};
    struct hf3fs_iov iov;
    struct hf3fs_ior r;
    int fd;

    (void)arg;
    setenv("CISTERN_USRBIO_BACKEND", "io_uring", 1);
    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    CHECK_EQ(chmod(mnt, 0777), 0);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0 || access(mnt, W_OK) != 0)) {
        print_message("skipped: nobody cannot write to the mount\n");
        _exit(CHILD_SKIPS);
    }
    /* Kernels from 6.14 on count the io_uring itself as locked memory of its user. */
    if (hf3fs_iorcreate(&r, mnt, 4, true, 0, -1) == -ENOMEM) {
        print_message("skipped: the memlock limit refuses the io_uring too\n");
        _exit(CHILD_SKIPS);
    }
    hf3fs_iordestroy(&r);
    fd = file_new("refused", 0);
    iov = memory_new(MIB);
    r = ring_new(4, true);
    CHECK_EQ(ftruncate(fd, 1 << 20), 0);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(transfer(&r, &iov, iov.base, fd, 0, MIB), MIB);
    CHECK(info_says("fixed_buffers=no"));
}

static void pinning_may_be_refused(void **state)
{
    (void)state;
    if (!uring_allowed()) {
        print_message("skipped: io_uring is forbidden here\n");
        skip();
    }
    in_child(pinning_refused_step, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seccomp_leads_to_threads),
        cmocka_unit_test(thousand_rings_with_8_mib_of_memlock),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(environment_chooses),
        cmocka_unit_test(several_waiters),
        cmocka_unit_test(many_threads_with_rings_of_their_own),
        cmocka_unit_test(more_in_flight_than_the_queue_holds),
        cmocka_unit_test(waiting_burns_no_cpu),
        cmocka_unit_test(survives_a_killed_neighbour),
        cmocka_unit_test(submitter_may_end),
        cmocka_unit_test(fixed_buffers_follow_their_memory),
        cmocka_unit_test(pinning_may_be_refused),
    };

    return cmocka_run_group_tests_name("backends", tests, mount_setup, mount_teardown);
}
