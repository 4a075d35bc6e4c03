/*
 * test_memreserve.c - staging memory that cannot fault: reserved whole, or refused with nothing
 * left behind.
 *
 * Cases with a small /dev/shm run in a child with mounts of its own; where the machine does not
 * allow that, they are skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../fakes/fakes.h"
#include "cistern.h"
#include "io/io.h"
#include "pool/pool.h"

enum { MIB = 1 << 20, SKIPPED = 77 };

static char dir[64];
static int statvfs_lies; /* 1: everything has a terabyte free */

int statvfs(const char *path, struct statvfs *out)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fstatvfs(fd, out);

    if (fd >= 0)
        (void)close(fd);
    if (statvfs_lies)
        out->f_bavail = (1ull << 40) / out->f_frsize;
    return rc;
}

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "line %d: %s; \"%s\"\n", __LINE__, #x, err_text());              \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/cistern-reserve-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void in_child(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED) {
        print_message("skipped: no mount namespace of one's own here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return -1;
    (void)fputs(text, f);
    return fclose(f);
}

/* Mounts of one's own, also without being root. */
static int own_mounts(void)
{
    char users[64], groups[64];

    (void)snprintf(users, sizeof users, "0 %d 1\n", (int)geteuid());
    (void)snprintf(groups, sizeof groups, "0 %d 1\n", (int)getegid());
    if (unshare(CLONE_NEWNS) == 0)
        return 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return -1;
    return put_text("/proc/self/setgroups", "deny\n") || put_text("/proc/self/uid_map", users) ||
           put_text("/proc/self/gid_map", groups);
}

/* A /dev/shm of `mib` MiB that only this process sees. */
static int small_shm(int mib)
{
    char size[32];

    (void)snprintf(size, sizeof size, "size=%dm", mib);
    if (own_mounts() != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, size) != 0)
        return SKIPPED;
    return 0;
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    if (d)
        (void)closedir(d);
    return n;
}

static uint64_t shm_free(void)
{
    struct statvfs v;
    int fd = open("/dev/shm", O_PATH | O_CLOEXEC);
    int rc = fstatvfs(fd, &v);

    (void)close(fd);
    return rc ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
}

/* Mappings of objects in /dev/shm. */
static int mapped(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    int n = 0;

    while (f && fgets(line, sizeof line, f))
        n += strstr(line, "/dev/shm/") != NULL;
    if (f)
        (void)fclose(f);
    return n;
}

static struct io *open_io(const char *provider, const char *library)
{
    struct io_options o = {.mount = dir, .provider = provider, .provider_path = library};
    struct io *io = NULL;

    if (io_open(&o, &io))
        (void)fprintf(stderr, "%s\n", err_text());
    return io;
}

static int nothing_left(void)
{
    char links[128];

    (void)snprintf(links, sizeof links, "%s/3fs-virt/iovs", dir);
    CHECK(entries("/dev/shm") == 0);
    CHECK(entries(links) == 0);
    CHECK(mapped() == 0);
    return 0;
}

/* Wants more than there is: the ways in which that shows. */
static int too_much(const char *provider, const char *library)
{
    uint64_t before;
    struct io_mem m;
    struct io *io;
    int rc = small_shm(16);

    if (rc)
        return rc;
    io = open_io(provider, library);
    CHECK(io);
    before = shm_free();
    CHECK(before == 16 * MIB);
    CHECK(io_mem_reserve(io, &m, 64 * MIB, MIB) == CISTERN_ESTAGING);
    CHECK(strstr(err_text(), "64 MiB") && strstr(err_text(), "16 MiB free"));
    CHECK(strstr(err_text(), "remount") && strstr(err_text(), "sizeLimit"));
    CHECK(nothing_left() == 0);
    /* another process takes the room between the question and the reservation */
    statvfs_lies = 1;
    CHECK(io_mem_reserve(io, &m, 64 * MIB, MIB) == CISTERN_ESTAGING);
    CHECK(strstr(err_text(), "cannot hold 64 MiB"));
    CHECK(nothing_left() == 0);
    CHECK(shm_free() == before);
    statvfs_lies = 0;
    /* what fits is taken whole, and has no name */
    CHECK(io_mem_reserve(io, &m, 12 * MIB, MIB) == 0);
    CHECK(shm_free() <= before - 12 * MIB);
    CHECK(entries("/dev/shm") == 0 && mapped() == 1);
    memset(m.base, 1, m.size);
    io->ops->mem_destroy(io, &m);
    CHECK(nothing_left() == 0);
    CHECK(shm_free() == before);
    io_close(io);
    return 0;
}

static int too_much_local(void)
{
    return too_much("local", drop_in_path());
}

static int too_much_real(void)
{
    struct fake_state *s;
    char path[128];
    void *h = dlopen(fake_path("real"), RTLD_NOW | RTLD_LOCAL);

    CHECK(h);
    s = dlsym(h, "fake_state");
    s->is_hf3fs = true;
    (void)snprintf(path, sizeof path, "%s/3fs-virt", dir);
    CHECK(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof path, "%s/3fs-virt/iovs", dir);
    CHECK(mkdir(path, 0700) == 0);
    return too_much("hf3fs", fake_path("real"));
}

static void small_shm_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    in_child(too_much_local);
}

static void small_shm_behind_the_real_client_too(void **state)
{
    (void)state;
    in_child(too_much_real);
}

/* Staging is two pools: the second must see what the first has taken. */
static int second_pool(void)
{
    struct pool *a = NULL, *b = NULL;
    struct io *io;
    int rc = small_shm(16);

    if (rc)
        return rc;
    io = open_io("local", drop_in_path());
    CHECK(io);
    CHECK(pool_open(io, "read staging", 10 * MIB, MIB, 4, &a) == 0);
    CHECK(pool_open(io, "write staging", 10 * MIB, MIB, 4, &b) == CISTERN_ESTAGING);
    CHECK(strncmp(err_text(), "write staging: ", 15) == 0);
    CHECK(b == NULL && entries("/dev/shm") == 0);
    CHECK(pool_close(a) == 0);
    CHECK(pool_open(io, "write staging", 10 * MIB, MIB, 4, &b) == 0);
    CHECK(pool_close(b) == 0);
    CHECK(nothing_left() == 0);
    io_close(io);
    return 0;
}

static void second_pool_sees_the_first(void **state)
{
    (void)state;
    in_child(second_pool);
}

/* /dev/shm is large, but the machine, or the container, has little left. */
static int little_memory(void)
{
    char path[128];
    struct io_mem m;
    struct io *io;
    int rc = small_shm(64);

    if (rc)
        return rc;
    io = open_io("local", drop_in_path());
    (void)snprintf(path, sizeof path, "%s/meminfo", dir);
    CHECK(io && put_text(path, "MemTotal: 99999999 kB\nMemAvailable:    8192 kB\n") == 0);
    if (mount(path, "/proc/meminfo", NULL, MS_BIND, NULL) != 0)
        return SKIPPED;
    CHECK(io_mem_reserve(io, &m, 32 * MIB, MIB) == CISTERN_ESTAGING);
    CHECK(strstr(err_text(), "32 MiB") && strstr(err_text(), "8 MiB that this machine"));
    CHECK(nothing_left() == 0);
    CHECK(io_mem_reserve(io, &m, 4 * MIB, MIB) == 0);
    io->ops->mem_destroy(io, &m);
    CHECK(umount("/proc/meminfo") == 0);
    CHECK(io_mem_reserve(io, &m, 32 * MIB, MIB) == 0);
    io->ops->mem_destroy(io, &m);
    io_close(io);
    return 0;
}

static void little_memory_is_an_error(void **state)
{
    (void)state;
    in_child(little_memory);
}

/* The limit of a container whose cgroup is the root that it sees. */
static int cgroup_limit(void)
{
    char path[128];
    struct io_mem m;
    struct io *io;
    int rc = small_shm(64);

    if (rc)
        return rc;
    io = open_io("local", drop_in_path());
    (void)snprintf(path, sizeof path, "%s/cgroup", dir);
    CHECK(io && put_text(path, "4:memory:/x\n0::/\n") == 0);
    if (mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "size=1m") != 0 ||
        mount(path, "/proc/self/cgroup", NULL, MS_BIND, NULL) != 0)
        return SKIPPED;
    CHECK(put_text("/sys/fs/cgroup/memory.max", "104857600\n") == 0);
    CHECK(put_text("/sys/fs/cgroup/memory.current", "94371840\n") == 0);
    CHECK(put_text("/sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 6291456\n") == 0);
    CHECK(io_mem_reserve(io, &m, 32 * MIB, MIB) == CISTERN_ESTAGING);
    CHECK(strstr(err_text(), "the 16 MiB that this machine"));
    CHECK(io_mem_reserve(io, &m, 8 * MIB, MIB) == 0);
    io->ops->mem_destroy(io, &m);
    CHECK(put_text("/sys/fs/cgroup/memory.max", "max\n") == 0);
    CHECK(io_mem_reserve(io, &m, 32 * MIB, MIB) == 0);
    io->ops->mem_destroy(io, &m);
    io_close(io);
    return 0;
}

static void limit_of_the_container_is_an_error(void **state)
{
    (void)state;
    in_child(cgroup_limit);
}

static void reserved_memory_is_zero_and_usable(void **state)
{
    struct io *io = open_io("local", drop_in_path());
    struct io_mem m;
    size_t i, used = 0;

    (void)state;
    assert_non_null(io);
    assert_int_equal(io_mem_reserve(io, &m, 3 * MIB, 4096), 0);
    assert_int_equal(m.size, 3 * MIB);
    assert_int_equal((uintptr_t)m.base % 4096, 0);
    for (i = 0; i < m.size; i++)
        used += m.base[i] != 0;
    assert_int_equal(used, 0);
    io->ops->mem_destroy(io, &m);
    assert_int_equal(io_mem_reserve(io, &m, 4 * MIB, (1ull << 30) + 4096), CISTERN_ECONFIG);
    io_close(io);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(reserved_memory_is_zero_and_usable),
        CASE(small_shm_is_an_error_and_leaves_nothing),
        CASE(small_shm_behind_the_real_client_too),
        CASE(second_pool_sees_the_first),
        CASE(little_memory_is_an_error),
        CASE(limit_of_the_container_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
