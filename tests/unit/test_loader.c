/*
 * test_loader.c - which library stands behind a mount, and what is said when none can.
 *
 * Cases that change the whole process (limits, a library in the global scope, the user) run in a
 * child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../fakes/fakes.h"
#include "cistern.h"
#include "io/io.h"

static char dir[64];

/* What getrlimit() is to say, when not 0; what setrlimit() was told. */
static struct rlimit limit_said, limit_set;

int getrlimit(__rlimit_resource_t what, struct rlimit *out)
{
    if (what == RLIMIT_NOFILE && limit_said.rlim_max) {
        *out = limit_said;
        return 0;
    }
    return (int)syscall(SYS_prlimit64, 0, what, NULL, out);
}

int setrlimit(__rlimit_resource_t what, const struct rlimit *limit)
{
    if (what == RLIMIT_NOFILE && limit_said.rlim_max) {
        limit_set = *limit;
        return 0;
    }
    return (int)syscall(SYS_prlimit64, 0, what, limit, NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

/* The fake client in the process, with an answer set before the loader asks. */
static struct fake_state *load_fake(bool is_hf3fs)
{
    void *h = dlopen(fake_path("real"), RTLD_NOW | RTLD_LOCAL);
    struct fake_state *s;

    assert_non_null(h);
    s = dlsym(h, "fake_state");
    memset(s, 0, sizeof *s);
    s->is_hf3fs = is_hf3fs;
    return s;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/cistern-loader-XXXXXX");
    (void)unsetenv("CISTERN_HF3FS_LIB");
    (void)unsetenv("CISTERN_USRBIO_ROOT");
    (void)setenv("CISTERN_LOCAL_LIB", drop_in_path(), 1);
    limit_said = limit_set = (struct rlimit){0, 0};
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int try_open(const char *provider, const char *path, struct io **io)
{
    struct io_options o = {.mount = dir, .provider = provider, .provider_path = path};

    err_clear();
    return io_open(&o, io);
}

static void open_and_expect(const char *provider, const char *path, const char *row,
                            const char *library)
{
    struct io *io = NULL;
    int rc = try_open(provider, path, &io);

    if (rc)
        print_message("%s\n", err_text());
    assert_int_equal(rc, 0);
    assert_string_equal(io->ops->name, row);
    assert_string_equal(io->provider_path, library);
    assert_string_equal(io->mount, dir);
    io_close(io);
}

static void fail_and_expect(const char *provider, const char *path, int code, const char *word)
{
    struct io *io = NULL;

    assert_int_equal(try_open(provider, path, &io), code);
    assert_null(io);
    if (!strstr(err_text(), word))
        print_message("\"%s\" does not say \"%s\"\n", err_text(), word);
    assert_non_null(strstr(err_text(), word));
}

/* Runs a case in a child; the case asserts by exit code. */
static void in_child(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void local_marks_its_mount(void **state)
{
    struct stat st;
    char path[128];

    (void)state;
    open_and_expect("local", NULL, "local", drop_in_path());
    (void)snprintf(path, sizeof path, "%s/.cistern-mount", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    open_and_expect("local", drop_in_path(), "local", drop_in_path());
}

static void auto_is_local_where_nothing_says_3fs(void **state)
{
    (void)state;
    open_and_expect(NULL, NULL, "local", drop_in_path());
    open_and_expect("auto", NULL, "local", drop_in_path());
    open_and_expect("", drop_in_path(), "local", drop_in_path());
}

static int drop_in_beside_the_program(void)
{
    struct io *io = NULL;
    bool ok;

    (void)unsetenv("CISTERN_LOCAL_LIB");
    if (try_open("local", NULL, &io))
        return 1;
    ok = strstr(io->provider_path, "/hf3fs/libhf3fs_api_shared.so") != NULL;
    io_close(io);
    return ok ? 0 : 2;
}

static void drop_in_is_found_beside_the_program(void **state)
{
    (void)state;
    in_child(drop_in_beside_the_program);
}

static void bad_mounts_are_named(void **state)
{
    struct io_options o = {.mount = "/nowhere/at/all", .provider = "local"};
    char file[128], slashes[128];
    struct io *io = NULL;
    int fd;

    (void)state;
    assert_int_equal(io_open(&o, &io), CISTERN_EMOUNT);
    assert_non_null(strstr(err_text(), "/nowhere/at/all does not exist"));
    o.mount = "relative/path";
    assert_int_equal(io_open(&o, &io), CISTERN_ECONFIG);
    o.mount = NULL;
    assert_int_equal(io_open(&o, &io), CISTERN_ECONFIG);
    (void)snprintf(file, sizeof file, "%s/file", dir);
    fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    o.mount = file;
    assert_int_equal(io_open(&o, &io), CISTERN_EMOUNT);
    assert_null(io);
    (void)snprintf(slashes, sizeof slashes, "%s///", dir);
    o.mount = slashes;
    assert_int_equal(io_open(&o, &io), 0);
    assert_string_equal(io->mount, dir);
    io_close(io);
}

static void long_mount_is_refused(void **state)
{
    char mount[400];
    struct io_options o = {.mount = mount, .provider = "local"};
    struct io *io = NULL;

    (void)state;
    memset(mount, 'x', sizeof mount);
    mount[0] = '/';
    mount[256] = 0;
    assert_int_equal(io_open(&o, &io), CISTERN_ECONFIG);
    mount[255] = 0;
    assert_int_equal(io_open(&o, &io), CISTERN_EMOUNT);
}

static int open_as_nobody(void)
{
    struct io *io = NULL;
    int rc;

    if (geteuid() == 0 && seteuid(65534) != 0)
        return 77;
    rc = try_open("local", NULL, &io);
    return rc == CISTERN_EMOUNT && strstr(err_text(), ".cistern-mount") ? 0 : 1;
}

static void unwritable_mount_is_refused(void **state)
{
    (void)state;
    assert_int_equal(chmod(dir, 0555), 0);
    in_child(open_as_nobody);
    assert_int_equal(chmod(dir, 0755), 0);
}

static void unknown_provider_is_refused(void **state)
{
    (void)state;
    fail_and_expect("s3", NULL, CISTERN_ECONFIG, "s3");
}

static void absent_library_is_an_error_where_it_was_named(void **state)
{
    static const char *const providers[] = {"local", "hf3fs", "auto"};
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++) {
        fail_and_expect(providers[i], "/nowhere/lib.so", CISTERN_EPROVIDER, "does not exist");
        fail_and_expect(providers[i], "lib.so", CISTERN_ECONFIG, "absolute");
    }
    (void)setenv("CISTERN_LOCAL_LIB", "/nowhere/local.so", 1);
    fail_and_expect("local", NULL, CISTERN_EPROVIDER, "CISTERN_LOCAL_LIB");
    (void)setenv("CISTERN_HF3FS_LIB", "/nowhere/real.so", 1);
    fail_and_expect("hf3fs", NULL, CISTERN_EPROVIDER, "CISTERN_HF3FS_LIB");
}

static void broken_library_says_why(void **state)
{
    char text[128];
    FILE *f;

    (void)state;
    (void)snprintf(text, sizeof text, "%s/no-library.so", dir);
    f = fopen(text, "we");
    assert_non_null(f);
    (void)fputs("not an object\n", f);
    (void)fclose(f);
    fail_and_expect("local", text, CISTERN_EPROVIDER, "cannot be used");
    fail_and_expect("hf3fs", fake_path("missing"), CISTERN_EPROVIDER, "hf3fs_prep_io");
    fail_and_expect("local", fake_path("undefined"), CISTERN_EPROVIDER, "nobody_has");
}

static void symbols_of_another_file_are_refused(void **state)
{
    (void)state;
    fail_and_expect("local", fake_path("wrapper"), CISTERN_EPROVIDER, "libinner.so");
}

static void hf3fs_needs_a_3fs_mount(void **state)
{
    (void)state;
    load_fake(true);
    open_and_expect("hf3fs", fake_path("real"), "hf3fs", fake_path("real"));
    load_fake(false);
    fail_and_expect("hf3fs", fake_path("real"), CISTERN_EMOUNT, "is not on 3FS");
}

static void drop_in_is_not_taken_for_3fs(void **state)
{
    (void)state;
    open_and_expect("local", NULL, "local", drop_in_path());
    fail_and_expect("hf3fs", drop_in_path(), CISTERN_EPROVIDER, "drop-in");
    (void)setenv("CISTERN_HF3FS_LIB", drop_in_path(), 1);
    fail_and_expect("hf3fs", NULL, CISTERN_EPROVIDER, "drop-in");
}

static void auto_asks_a_named_library(void **state)
{
    (void)state;
    (void)setenv("CISTERN_HF3FS_LIB", fake_path("real"), 1);
    load_fake(true);
    open_and_expect("auto", NULL, "hf3fs", fake_path("real"));
    load_fake(false);
    open_and_expect("auto", NULL, "local", drop_in_path());
    (void)setenv("CISTERN_HF3FS_LIB", drop_in_path(), 1);
    open_and_expect("auto", NULL, "local", drop_in_path());
}

static void both_clients_live_in_one_process(void **state)
{
    struct fake_state *s = load_fake(true);
    struct io *real = NULL, *local = NULL;
    struct io_file a = {-1, false}, b = {-1, false};

    (void)state;
    assert_int_equal(try_open("hf3fs", fake_path("real"), &real), 0);
    assert_int_equal(try_open("local", NULL, &local), 0);
    assert_string_equal(real->ops->name, "hf3fs");
    assert_string_equal(local->provider_path, drop_in_path());
    assert_int_equal(local->ops->file_open(local, "a", IO_WRITE | IO_CREATE, &a), 0);
    assert_int_equal(s->files, 0);
    assert_int_equal(real->ops->file_open(real, "b", IO_WRITE | IO_CREATE, &b), 0);
    assert_int_equal(s->files, 1);
    local->ops->file_close(local, &a);
    real->ops->file_close(real, &b);
    assert_int_equal(s->files, 0);
    io_close(local);
    io_close(real);
}

/* Runs a case in a fresh program, where nothing is loaded yet. */
static void in_program(const char *name)
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl("/proc/self/exe", "test_loader", name, dir, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The host program has a client of its own, visible to all. */
static int with_global_client(void)
{
    void *host = dlopen(fake_path("real"), RTLD_NOW | RTLD_GLOBAL);
    struct fake_state *s = host ? dlsym(host, "fake_state") : NULL;
    struct io_file f = {-1, false};
    struct io *io = NULL;

    if (!host || !s)
        return 1;
    s->is_hf3fs = false; /* what the drop-in would hear if its calls went astray */
    if (try_open("local", NULL, &io))
        return 2;
    if (io->ops->file_open(io, "f", IO_WRITE | IO_CREATE, &f) || s->files)
        return 3;
    io->ops->file_close(io, &f);
    io_close(io);
    return 0;
}

static int real_behind_global_client(void)
{
    void *host = dlopen(drop_in_path(), RTLD_NOW | RTLD_GLOBAL);
    struct io *io = NULL;

    load_fake(true);
    if (!host)
        return 1;
    if (try_open("hf3fs", fake_path("real"), &io) != CISTERN_EPROVIDER)
        return 2;
    return strstr(err_text(), "loaded globally") ? 0 : 3;
}

static void global_client_of_the_host_is_no_trap(void **state)
{
    (void)state;
    in_program("with_global_client");
    in_program("real_behind_global_client");
}

static void limit_of_files_is_lowered_or_refused(void **state)
{
    (void)state;
    load_fake(true);
    limit_said = (struct rlimit){1024, RLIM_INFINITY};
    open_and_expect("hf3fs", fake_path("real"), "hf3fs", fake_path("real"));
    assert_int_equal(limit_set.rlim_max, 1 << 20);
    assert_int_equal(limit_set.rlim_cur, 1024);
    limit_set.rlim_max = 0;
    limit_said = (struct rlimit){1024, 1 << 20};
    open_and_expect("hf3fs", fake_path("real"), "hf3fs", fake_path("real"));
    assert_int_equal(limit_set.rlim_max, 0);
    limit_said = (struct rlimit){(1 << 20) + 1, 1 << 30};
    fail_and_expect("hf3fs", fake_path("real"), CISTERN_EPROVIDER, "ulimit");
    /* the drop-in does not mind */
    open_and_expect("local", NULL, "local", drop_in_path());
    assert_int_equal(limit_set.rlim_max, 0);
}

static int count_fds(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void failures_leave_no_descriptors(void **state)
{
    struct io *io = NULL;
    int before, i;

    (void)state;
    load_fake(false);
    open_and_expect("local", NULL, "local", drop_in_path());
    before = count_fds();
    for (i = 0; i < 5; i++) {
        assert_int_equal(try_open("hf3fs", fake_path("real"), &io), CISTERN_EMOUNT);
        assert_int_equal(try_open("local", "/nowhere.so", &io), CISTERN_EPROVIDER);
        open_and_expect("local", NULL, "local", drop_in_path());
    }
    assert_int_equal(count_fds(), before);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(local_marks_its_mount),
        CASE(auto_is_local_where_nothing_says_3fs),
        CASE(drop_in_is_found_beside_the_program),
        CASE(bad_mounts_are_named),
        CASE(long_mount_is_refused),
        CASE(unwritable_mount_is_refused),
        CASE(unknown_provider_is_refused),
        CASE(absent_library_is_an_error_where_it_was_named),
        CASE(broken_library_says_why),
        CASE(symbols_of_another_file_are_refused),
        CASE(hf3fs_needs_a_3fs_mount),
        CASE(drop_in_is_not_taken_for_3fs),
        CASE(auto_asks_a_named_library),
        CASE(both_clients_live_in_one_process),
        CASE(global_client_of_the_host_is_no_trap),
        CASE(limit_of_files_is_lowered_or_refused),
        CASE(failures_leave_no_descriptors),
    };

    if (argc == 3) {
        (void)snprintf(dir, sizeof dir, "%s", argv[2]);
        return strcmp(argv[1], "with_global_client") == 0 ? with_global_client()
                                                          : real_behind_global_client();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
