/*
 * test_io.c - the rows of struct io_ops: the drop-in on a directory of the build folder and on
 * /dev/shm, and a stand-in for the real client where only it differs.
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
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../harness/skip.h"
#include "../fakes/fakes.h"
#include "base/clock.h"
#include "cistern.h"
#include "io/io.h"

enum { MIB = 1 << 20 };

static char dir[PATH_MAX];
static struct io *io;
static int fsyncs, fdatasyncs;
static bool inherited[256]; /* descriptors that were there before main() */

int fsync(int fd)
{
    fsyncs++;
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    fdatasyncs++;
    return (int)syscall(SYS_fdatasync, fd);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void open_row(const char *parent, const char *provider, const char *library)
{
    struct io_options o = {.mount = dir, .provider = provider, .provider_path = library};
    int rc;

    (void)snprintf(dir, sizeof dir, "%s/cistern-io-XXXXXX", parent);
    assert_non_null(mkdtemp(dir));
    rc = io_open(&o, &io);
    if (rc)
        print_message("%s\n", err_text());
    assert_int_equal(rc, 0);
}

static int on_disk(void **state)
{
    char *parent = strdup(build_path("tests"));

    (void)state;
    assert_non_null(parent);
    open_row(parent, "local", drop_in_path());
    free(parent);
    return 0;
}

static int in_memory(void **state)
{
    (void)state;
    open_row("/dev/shm", "local", drop_in_path());
    return 0;
}

static struct fake_state *fake;

static int on_fake(void **state)
{
    void *h = dlopen(fake_path("real"), RTLD_NOW | RTLD_LOCAL);
    char path[PATH_MAX + 32];

    (void)state;
    assert_non_null(h);
    fake = dlsym(h, "fake_state");
    memset(fake, 0, sizeof *fake);
    fake->is_hf3fs = true;
    open_row("/tmp", "hf3fs", fake_path("real"));
    (void)snprintf(path, sizeof path, "%s/3fs-virt", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/3fs-virt/iovs", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_close(io);
    io = NULL;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void path_in(char *out, const char *name)
{
    (void)snprintf(out, PATH_MAX, "%.3000s/%s", dir, name);
}

/* ---- rings and memory */

struct bench {
    struct io_mem mem;
    struct io_ring w, r;
    struct io_file f;
};

static void bench_open(struct bench *b, size_t bytes, int entries, unsigned mode)
{
    assert_int_equal(io->ops->mem_create(io, &b->mem, bytes, 0), 0);
    assert_int_equal(io->ops->ring_create(io, &b->w, entries, false), 0);
    assert_int_equal(io->ops->ring_create(io, &b->r, entries, true), 0);
    assert_int_equal(io->ops->file_open(io, "data", IO_WRITE | IO_CREATE | mode, &b->f), 0);
}

static void bench_close(struct bench *b)
{
    io->ops->file_close(io, &b->f);
    assert_int_equal(b->f.fd, -1);
    io->ops->ring_destroy(io, &b->w);
    io->ops->ring_destroy(io, &b->r);
    io->ops->mem_destroy(io, &b->mem);
    assert_null(b->mem.base);
    /* all are harmless the second time */
    io->ops->file_close(io, &b->f);
    io->ops->ring_destroy(io, &b->r);
    io->ops->mem_destroy(io, &b->mem);
}

static int64_t one(struct bench *b, struct io_ring *r, void *at, uint64_t offset, uint64_t len)
{
    struct io_done d = {NULL, -1};

    assert_int_equal(io->ops->prep(io, r, &b->mem, at, &b->f, offset, len, at), 0);
    assert_int_equal(io->ops->submit(io, r), 0);
    assert_int_equal(io->ops->wait(io, r, &d, 1, 1, 10 * NS_PER_S), 1);
    assert_ptr_equal(d.userdata, at);
    return d.result;
}

static void round_trip(unsigned mode)
{
    struct bench b = {0};
    size_t i;

    bench_open(&b, 2 * MIB, 8, mode);
    for (i = 0; i < MIB; i++)
        b.mem.base[i] = (uint8_t)(i * 31 + (i >> 12));
    assert_int_equal(one(&b, &b.w, b.mem.base, 4096, MIB), MIB);
    assert_int_equal(one(&b, &b.r, b.mem.base + MIB, 4096, MIB), MIB);
    assert_memory_equal(b.mem.base, b.mem.base + MIB, MIB);
    /* to the end of the data, not further */
    assert_int_equal(one(&b, &b.r, b.mem.base + MIB, MIB, MIB), 4096);
    assert_int_equal(one(&b, &b.r, b.mem.base + MIB, 4 * MIB, 4096), 0);
    bench_close(&b);
}

static void bytes_come_back(void **state)
{
    (void)state;
    round_trip(0);
}

static void bytes_come_back_direct(void **state)
{
    (void)state;
    round_trip(IO_DIRECT);
}

static void direct_is_taken_or_left(void **state)
{
    struct io_file f = {-1, false}, g = {-1, false};
    bool direct;

    (void)state;
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE | IO_DIRECT, &f), 0);
    assert_int_equal(io->ops->file_open(io, "f", IO_READ | IO_DIRECT, &g), 0);
    direct = fcntl(f.fd, F_GETFL) & O_DIRECT;
    assert_int_equal(direct, !!(fcntl(g.fd, F_GETFL) & O_DIRECT));
    assert_int_equal(fcntl(g.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    io->ops->file_close(io, &g);
    assert_int_equal(io->ops->file_open(io, "f", IO_READ, &g), 0);
    assert_false(fcntl(g.fd, F_GETFL) & O_DIRECT);
    io->ops->file_close(io, &g);
    io->ops->file_close(io, &f);
}

static void full_ring_says_again(void **state)
{
    struct bench b = {0};
    struct io_done d[8];
    int i, rc = 0;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    for (i = 0; i < 4; i++)
        assert_int_equal(
            io->ops->prep(io, &b.w, &b.mem, b.mem.base, &b.f, (uint64_t)i * 4096, 4096, NULL), 0);
    rc = io->ops->prep(io, &b.w, &b.mem, b.mem.base, &b.f, 0, 4096, NULL);
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(io->ops->submit(io, &b.w), 0);
    assert_int_equal(io->ops->wait(io, &b.w, d, 8, 4, 10 * NS_PER_S), 4);
    rc = io->ops->prep(io, &b.w, &b.mem, b.mem.base, &b.f, 0, 4096, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(io->ops->submit(io, &b.w), 0);
    assert_int_equal(io->ops->wait(io, &b.w, d, 8, 1, 10 * NS_PER_S), 1);
    bench_close(&b);
}

static void wait_collects_more_than_one_batch(void **state)
{
    enum { N = 200 };
    static struct io_done d[N];
    struct bench b = {0};
    uint8_t seen[N] = {0};
    int i, n;

    (void)state;
    bench_open(&b, N * 4096, N, 0);
    for (i = 0; i < N; i++)
        assert_int_equal(io->ops->prep(io, &b.w, &b.mem, b.mem.base + i * 4096, &b.f,
                                       (uint64_t)i * 4096, 4096, seen + i),
                         0);
    assert_int_equal(io->ops->submit(io, &b.w), 0);
    n = io->ops->wait(io, &b.w, d, N, N, 30 * NS_PER_S);
    assert_int_equal(n, N);
    for (i = 0; i < N; i++) {
        assert_int_equal(d[i].result, 4096);
        assert_int_equal((*(uint8_t *)d[i].userdata)++, 0);
    }
    bench_close(&b);
}

static void wait_keeps_its_time(void **state)
{
    struct bench b = {0};
    struct io_done d;
    uint64_t start;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    start = clock_ns();
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, 0), 0);
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 0, NS_PER_S), 0);
    assert_true(clock_ns() - start < 500 * NS_PER_MS);
    start = clock_ns();
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, 250 * NS_PER_MS), 0);
    assert_true(clock_ns() - start >= 249 * NS_PER_MS);
    assert_true(clock_ns() - start < 2 * NS_PER_S);
    assert_int_equal(io->ops->wait(io, &b.r, &d, 0, 0, 0), -EINVAL);
    bench_close(&b);
}

static void bad_requests_are_refused(void **state)
{
    struct io_file closed = {-1, false};
    struct bench b = {0};
    struct io_ring ring;
    struct io_mem mem;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    assert_int_equal(io->ops->prep(io, &b.r, &b.mem, b.mem.base, &closed, 0, 4096, NULL), -EBADF);
    assert_int_equal(io->ops->prep(io, &b.r, &b.mem, b.mem.base, &b.f, 0, 0, NULL), -EINVAL);
    assert_int_equal(io->ops->prep(io, &b.r, &b.mem, b.mem.base + 1, &b.f, 0, MIB, NULL), -EINVAL);
    assert_int_equal(io->ops->ring_create(io, &ring, 0, true), -EINVAL);
    assert_int_equal(io->ops->mem_create(io, &mem, 0, 0), -EINVAL);
    assert_int_equal(io->ops->mem_create(io, &mem, 4096, 8192), -EINVAL);
    assert_int_equal(io->ops->mem_wrap(io, &mem, NULL, 4096), -EINVAL);
    assert_int_equal(io->ops->mem_wrap(io, &mem, b.mem.base, 0), -EINVAL);
    bench_close(&b);
}

static void any_memory_can_be_wrapped(void **state)
{
    struct bench b = {0};
    struct io_mem wrapped;
    uint8_t *memory = malloc(MIB);

    (void)state;
    assert_non_null(memory);
    memset(memory, 5, MIB);
    bench_open(&b, MIB, 4, 0);
    assert_int_equal(io->ops->mem_wrap(io, &wrapped, memory, MIB), 0);
    io->ops->mem_destroy(io, &b.mem);
    b.mem = wrapped;
    assert_int_equal(one(&b, &b.w, memory + 1, 0, MIB - 1), MIB - 1);
    memset(memory, 0, MIB);
    assert_int_equal(one(&b, &b.r, memory, 0, MIB), MIB - 1);
    assert_int_equal(memory[0], 5);
    assert_int_equal(memory[MIB - 2], 5);
    bench_close(&b);
    free(memory);
}

/* ---- file verbs */

static void modes_are_for_the_owner(void **state)
{
    struct io_file f = {-1, false};
    char path[PATH_MAX];
    struct stat st;
    mode_t old = umask(0);

    (void)state;
    assert_int_equal(io->ops->make_dir(io, "d"), 0);
    assert_int_equal(io->ops->file_open(io, "d/f", IO_WRITE | IO_CREATE, &f), 0);
    assert_int_equal(io->ops->small_write(io, "d/s", "x", 1, false), 0);
    (void)umask(old);
    path_in(path, "d");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    path_in(path, "d/s");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fstat(f.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
    io->ops->file_close(io, &f);
}

static void files_are_made_once(void **state)
{
    struct io_file f = {-1, false};

    (void)state;
    assert_int_equal(io->ops->file_open(io, "f", IO_READ, &f), -ENOENT);
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE, &f), -ENOENT);
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE, &f), 0);
    io->ops->file_close(io, &f);
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE | IO_DIRECT, &f), -EEXIST);
    assert_int_equal(f.fd, -1);
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE, &f), 0);
    io->ops->file_close(io, &f);
    assert_int_equal(io->ops->make_dir(io, "d"), 0);
    assert_int_equal(io->ops->make_dir(io, "d"), 0);
    assert_int_equal(io->ops->make_dir(io, "f"), -ENOTDIR);
    assert_int_equal(io->ops->make_dir(io, "no/d"), -ENOENT);
}

static void paths_stay_below_the_mount(void **state)
{
    struct io_stat st;

    (void)state;
    assert_int_equal(io->ops->make_dir(io, "/d"), 0);
    assert_int_equal(io->ops->stat(io, "d", &st), 0);
    assert_true(st.is_dir);
    assert_int_equal(io->ops->small_write(io, "//d//f", "abc", 3, false), 0);
    assert_int_equal(io->ops->stat(io, "d/f", &st), 0);
    assert_int_equal(st.size, 3);
    assert_false(st.is_dir);
    assert_int_equal(io->ops->stat(io, "", &st), 0);
    assert_int_equal(io->ops->stat(io, "/dev/null", &st), -ENOENT);
}

static void lengths_change(void **state)
{
    struct io_file f = {-1, false};
    struct io_stat st;
    int rc;

    (void)state;
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE, &f), 0);
    assert_int_equal(io->ops->file_truncate(io, &f, 12345), 0);
    assert_int_equal(io->ops->stat(io, "f", &st), 0);
    assert_int_equal(st.size, 12345);
    assert_true((uint64_t)time(NULL) - st.mtime_s < 60);
    rc = io->ops->file_allocate(io, &f, 0, 4 * MIB);
    assert_true(rc == 0 || rc == -EOPNOTSUPP);
    if (rc == 0) {
        assert_int_equal(io->ops->stat(io, "f", &st), 0);
        assert_int_equal(st.size, 4 * MIB);
        assert_true(st.disk_bytes >= 4 * MIB);
    }
    assert_int_equal(io->ops->file_allocate(io, &f, 0, 0), -EINVAL);
    io->ops->file_close(io, &f);
    assert_int_equal(io->ops->unlink(io, "f"), 0);
    assert_int_equal(io->ops->unlink(io, "f"), -ENOENT);
    assert_int_equal(io->ops->stat(io, "f", &st), -ENOENT);
}

struct names {
    int n, stop_at;
    bool a, b;
};

static int collect(void *arg, const char *name)
{
    struct names *l = arg;

    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    l->a |= strcmp(name, "a") == 0;
    l->b |= strcmp(name, "b") == 0;
    return ++l->n == l->stop_at ? 17 : 0;
}

static void directories_are_listed(void **state)
{
    struct names all = {0}, first = {.stop_at = 1};

    (void)state;
    assert_int_equal(io->ops->make_dir(io, "d"), 0);
    assert_int_equal(io->ops->list(io, "d", collect, &all), 0);
    assert_int_equal(all.n, 0);
    assert_int_equal(io->ops->small_write(io, "d/a", "1", 1, true), 0);
    assert_int_equal(io->ops->small_write(io, "d/b", "2", 1, false), 0);
    assert_int_equal(io->ops->list(io, "d", collect, &all), 0);
    assert_int_equal(all.n, 2);
    assert_true(all.a && all.b);
    assert_int_equal(io->ops->list(io, "d", collect, &first), 17);
    assert_int_equal(first.n, 1);
    assert_int_equal(io->ops->list(io, "no", collect, &all), -ENOENT);
    assert_int_equal(io->ops->list(io, "d/a", collect, &all), -ENOTDIR);
    assert_int_equal(io->ops->sync_dir(io, "d"), 0);
    assert_int_equal(io->ops->sync_dir(io, "no"), -ENOENT);
}

static void small_files_are_whole(void **state)
{
    struct names all = {0};
    char buf[16];

    (void)state;
    assert_int_equal(io->ops->make_dir(io, "d"), 0);
    assert_int_equal(io->ops->small_read(io, "d/f", buf, sizeof buf), -ENOENT);
    assert_int_equal(io->ops->small_write(io, "d/f", "first", 5, true), 0);
    assert_int_equal(io->ops->small_write(io, "d/f", "second", 6, true), -EEXIST);
    assert_int_equal(io->ops->small_read(io, "d/f", buf, sizeof buf), 5);
    assert_memory_equal(buf, "first", 5);
    assert_int_equal(io->ops->small_write(io, "d/f", "second", 6, false), 0);
    assert_int_equal(io->ops->small_read(io, "d/f", buf, 6), 6);
    assert_memory_equal(buf, "second", 6);
    assert_int_equal(io->ops->small_read(io, "d/f", buf, 5), -EFBIG);
    assert_int_equal(io->ops->small_write(io, "d/f", "", 0, false), 0);
    assert_int_equal(io->ops->small_read(io, "d/f", buf, sizeof buf), 0);
    assert_int_equal(io->ops->small_write(io, "no/f", "x", 1, false), -ENOENT);
    /* nothing else is left: no temporary name */
    assert_int_equal(io->ops->list(io, "d", collect, &all), 0);
    assert_int_equal(all.n, 1);
}

static void space_is_told(void **state)
{
    struct io_space s;

    (void)state;
    assert_int_equal(io->ops->space(io, &s), 0);
    assert_true(s.total_bytes > 0 && s.free_bytes <= s.total_bytes);
}

static void local_sync_is_of_data(void **state)
{
    struct io_file f = {-1, false};

    (void)state;
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE, &f), 0);
    fsyncs = fdatasyncs = 0;
    assert_int_equal(io->ops->file_sync(io, &f), 0);
    assert_int_equal(fdatasyncs, 1);
    assert_int_equal(fsyncs, 0);
    fsyncs = 0;
    assert_int_equal(io->ops->small_write(io, "s", "x", 1, false), 0);
    assert_true(fsyncs >= 1);
    io->ops->file_close(io, &f);
    f.fd = -1;
    assert_int_equal(io->ops->file_sync(io, &f), -EBADF);
}

static void backend_is_told(void **state)
{
    (void)state;
    assert_non_null(strstr(io->backend, "backend="));
    if (getenv("CISTERN_USRBIO_BACKEND"))
        SKIP("CISTERN_USRBIO_BACKEND is set");
    assert_int_equal(io->inline_reads, strncmp(dir, "/dev/shm", 8) == 0);
}

static void descriptors_close_on_exec(void **state)
{
    struct bench b = {0};
    int fd, flags, seen = 0;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    for (fd = 3; fd < 256; fd++) {
        flags = fcntl(fd, F_GETFD);
        if (flags < 0 || inherited[fd])
            continue;
        seen++;
        assert_true(flags & FD_CLOEXEC);
    }
    assert_true(seen >= 2); /* the mount and the file */
    bench_close(&b);
}

/* ---- what only the real client asks for */

static void real_rings_are_plain(void **state)
{
    struct io_ring r, w;

    (void)state;
    assert_int_equal(io->ops->ring_create(io, &r, 65, true), 0);
    assert_int_equal(fake->ring_entries, 65);
    assert_true(fake->ring_for_read);
    assert_int_equal(fake->ring_depth, 0);
    assert_int_equal(fake->ring_timeout, 0);
    assert_int_equal(fake->ring_numa, -1);
    assert_int_equal(fake->ring_flags, HF3FS_IOR_ALLOW_READ_UNCOMMITTED);
    assert_string_equal(fake->mount, dir);
    assert_int_equal(io->ops->ring_create(io, &w, 3, false), 0);
    assert_false(fake->ring_for_read);
    assert_int_equal(fake->ring_flags, 0);
    io->ops->ring_destroy(io, &r);
    io->ops->ring_destroy(io, &w);
    assert_int_equal(fake->rings, 0);
}

static void real_errors_become_negative(void **state)
{
    struct io_file f = {-1, false};
    struct bench b = {0};
    struct io_ring ring;
    struct io_stat st;
    struct io_mem mem;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    fake->prep_rc = -EBADF;
    assert_int_equal(io->ops->prep(io, &b.r, &b.mem, b.mem.base, &b.f, 0, 1, NULL), -EBADF);
    fake->reg_fd_rc = EINVAL; /* positive there */
    assert_int_equal(io->ops->file_open(io, "g", IO_WRITE | IO_CREATE, &f), -EINVAL);
    assert_int_equal(f.fd, -1);
    assert_int_equal(io->ops->stat(io, "g", &st), -ENOENT);
    fake->iovcreate_rc = -ENOENT;
    assert_int_equal(io->ops->mem_create(io, &mem, MIB, 0), -ENOENT);
    assert_non_null(strstr(err_text(), "/dev/shm"));
    fake->iorcreate_rc = -EMFILE;
    assert_int_equal(io->ops->ring_create(io, &ring, 4, true), -EMFILE);
    bench_close(&b);
}

static void real_files_are_let_go_before_they_close(void **state)
{
    struct io_file f = {-1, false};

    (void)state;
    assert_int_equal(io->ops->file_open(io, "f", IO_WRITE | IO_CREATE, &f), 0);
    assert_int_equal(fake->files, 1);
    fsyncs = fdatasyncs = 0;
    assert_int_equal(io->ops->file_sync(io, &f), 0);
    assert_int_equal(fsyncs, 1);
    assert_int_equal(fdatasyncs, 0);
    io->ops->file_close(io, &f);
    assert_int_equal(fake->files, 0);
    assert_int_equal(fake->closed_too_early, 0);
}

static void real_files_of_another_mount_are_refused(void **state)
{
    struct io_file f = {-1, false};
    char path[PATH_MAX];
    struct stat here, there;

    (void)state;
    if (stat(dir, &here) || stat("/proc/self/status", &there) || here.st_dev == there.st_dev)
        SKIP("there is no second file system to point at");
    path_in(path, "elsewhere");
    assert_int_equal(symlink("/proc/self/status", path), 0);
    assert_int_equal(io->ops->file_open(io, "elsewhere", IO_READ, &f), -EXDEV);
    assert_int_equal(fake->files, 0);
}

static void real_waits_have_deadlines(void **state)
{
    struct bench b = {0};
    struct io_done d;
    uint64_t start;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    fake->lose = 1;
    assert_int_equal(io->ops->prep(io, &b.r, &b.mem, b.mem.base, &b.f, 0, 1, NULL), 0);
    assert_int_equal(io->ops->submit(io, &b.r), 0);
    start = clock_ns();
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, 250 * NS_PER_MS), 0);
    assert_true(clock_ns() - start >= 249 * NS_PER_MS);
    assert_true(fake->waits > 0);
    assert_true(fake->wait_ms <= 100); /* slices; how many fit in depends on the scheduler */
    /* a deadline that seems over at once, as after a step of the time of day, ends no wait */
    fake->step_us = 1000;
    start = clock_ns();
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, 50 * NS_PER_MS), 0);
    assert_true(clock_ns() - start >= 50 * NS_PER_MS);
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, 1), 0);
    assert_int_equal(fake->waits_without_deadline, 0);
    fake->lose = 0;
    assert_int_equal(io->ops->wait(io, &b.r, &d, 1, 1, NS_PER_S), 1);
    bench_close(&b);
}

static void *make_ring(void *arg)
{
    int rc = io->ops->ring_create(io, arg, 4, true);

    return (void *)(intptr_t)rc;
}

static void make_rings_in_threads(struct io_ring r[4])
{
    pthread_t t[4];
    void *rc;
    int i;

    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, make_ring, &r[i]), 0);
    for (i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i], &rc), 0);
        assert_null(rc);
    }
}

/* A crash is cleaned up after by the daemon for one thread of a process only. */
static void real_things_are_made_by_one_thread(void **state)
{
    struct bench b = {0};
    struct io_ring r[4];
    int i;

    (void)state;
    bench_open(&b, MIB, 4, 0);
    fake->makers = 0;
    make_rings_in_threads(r);
    assert_int_equal(fake->rings, 6);
    assert_int_equal(fake->makers, 0); /* the one that made the first */
    for (i = 0; i < 4; i++)
        io->ops->ring_destroy(io, &r[i]);
    bench_close(&b);
}

/* A child has a thread of its own, and gets errors as their caller does. */
static int make_in_child(void)
{
    struct io_ring r;

    fake->iorcreate_rc = -EMFILE;
    if (io->ops->ring_create(io, &r, 4, true) != -EMFILE || fake->makers != 1)
        return 1;
    fake->iorcreate_rc = 0;
    return io->ops->ring_create(io, &r, 4, true) == 0 && fake->makers == 1 ? 0 : 2;
}

static void real_things_are_made_in_a_child_too(void **state)
{
    struct io_ring r;
    int status = -1;
    pid_t pid;

    (void)state;
#if defined(__SANITIZE_THREAD__)
    SKIP("ThreadSanitizer allows no threads in a child");
#endif
    assert_int_equal(io->ops->ring_create(io, &r, 4, true), 0);
    fake->makers = 0;
    pid = fork();
    if (pid == 0)
        _exit(make_in_child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    io->ops->ring_destroy(io, &r);
}

/* Counts the links below 3fs-virt/iovs and keeps the last one's target. */
static int links(char target[PATH_MAX])
{
    char path[PATH_MAX];
    struct dirent *e;
    ssize_t n;
    int count = 0;
    DIR *d;

    path_in(path, "3fs-virt/iovs");
    d = opendir(path);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        count++;
        n = readlinkat(dirfd(d), e->d_name, target, PATH_MAX - 1);
        assert_true(n > 0);
        target[n] = 0;
    }
    (void)closedir(d);
    return count;
}

static void real_memory_needs_a_name(void **state)
{
    char name[64], target[PATH_MAX] = "";
    struct io_mem m;
    void *anonymous = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *shared;
    int fd;

    (void)state;
    (void)snprintf(name, sizeof name, "/dev/shm/cistern-test-%d", (int)getpid());
    fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, MIB) == 0);
    shared = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    assert_ptr_not_equal(shared, MAP_FAILED);
    assert_int_equal(io->ops->mem_wrap(io, &m, anonymous, MIB), CISTERN_EMEMORY);
    assert_int_equal(io->ops->mem_wrap(io, &m, shared + 4096, MIB - 4096), CISTERN_EMEMORY);
    assert_int_equal(io->ops->mem_wrap(io, &m, shared, 2 * MIB), CISTERN_EMEMORY);
    assert_int_equal(links(target), 0);
    /* one mapping that the kernel keeps in two pieces */
    assert_int_equal(mprotect(shared + 8192, 4096, PROT_READ), 0);
    assert_int_equal(io->ops->mem_wrap(io, &m, shared, MIB), 0);
    assert_int_equal(links(target), 1);
    assert_string_equal(target, name);
    io->ops->mem_destroy(io, &m);
    assert_int_equal(links(target), 0);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(io->ops->mem_wrap(io, &m, shared, MIB), CISTERN_EMEMORY);
    (void)munmap(shared, MIB);
    (void)munmap(anonymous, MIB);
}

#define ON(f, where, setup)                                                                        \
    {                                                                                              \
        .name = #f " " where, .test_func = f, .setup_func = setup, .teardown_func = teardown       \
    }
#define BOTH(f) ON(f, "on disk", on_disk), ON(f, "in memory", in_memory)
#define FAKE(f) ON(f, "on a stand-in", on_fake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(bytes_come_back),
        BOTH(bytes_come_back_direct),
        BOTH(direct_is_taken_or_left),
        BOTH(full_ring_says_again),
        BOTH(wait_collects_more_than_one_batch),
        BOTH(wait_keeps_its_time),
        BOTH(bad_requests_are_refused),
        BOTH(any_memory_can_be_wrapped),
        BOTH(modes_are_for_the_owner),
        BOTH(files_are_made_once),
        BOTH(paths_stay_below_the_mount),
        BOTH(lengths_change),
        BOTH(directories_are_listed),
        BOTH(small_files_are_whole),
        BOTH(space_is_told),
        BOTH(local_sync_is_of_data),
        BOTH(backend_is_told),
        BOTH(descriptors_close_on_exec),
        FAKE(bytes_come_back),
        FAKE(real_rings_are_plain),
        FAKE(real_errors_become_negative),
        FAKE(real_files_are_let_go_before_they_close),
        FAKE(real_files_of_another_mount_are_refused),
        FAKE(real_waits_have_deadlines),
        FAKE(real_memory_needs_a_name),
        FAKE(real_things_are_made_by_one_thread),
        FAKE(real_things_are_made_in_a_child_too),
    };
    int fd;

    for (fd = 0; fd < 256; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
