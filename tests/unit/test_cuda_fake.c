/*
 * test_cuda_fake.c - device memory, on stand-ins for libcuda.so.1.
 *
 * The driver is started once per process, so each case runs in a child. A library that is loaded
 * already answers to its name: that is how a stand-in takes the driver's place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <sys/wait.h>

#include "../harness/skip.h"
#include "../fakes/fakes.h"
#include "base/hash.h"
#include "cistern.h"
#include "mem/mem.h"

enum { LEN = 10000 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "line %d: %s; \"%s\"\n", __LINE__, #x, err_text());              \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static void in_child(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        SKIP("a real CUDA driver is here: its absence cannot be shown");
    assert_int_equal(WEXITSTATUS(status), 0);
}

static struct fake_cuda *load(const char *variant)
{
    char rest[64];
    void *h;

    (void)snprintf(rest, sizeof rest, "tests/fakes/cuda-%s/libcuda.so.1", variant);
    h = dlopen(build_path(rest), RTLD_NOW | RTLD_LOCAL);
    return h ? dlsym(h, "fake_cuda") : NULL;
}

static uint8_t device[2][LEN], staging[2 * LEN];

static struct fake_cuda *load_with_memory(void)
{
    struct fake_cuda *f = load("ok");
    int i;

    for (i = 0; f && i < 2; i++) {
        f->base[i] = device[i];
        f->len[i] = LEN;
        memset(device[i], i + 1, LEN);
    }
    return f;
}

/* One span over the memory of two devices. */
static int copies_body(void)
{
    struct fake_cuda *f = load_with_memory();
    struct cistern_vec v[2] = {{device[0] + 10, 5000}, {device[1], LEN}};
    const struct cistern_span s = {v, 2};
    const struct mem_ops *m = mem_ops_get(CISTERN_MEM_CUDA);
    uint64_t hash = 0;

    CHECK(f && m && m == mem_ops_get(CISTERN_MEM_CUDA));
    CHECK(f->inits == 1);
    CHECK(mem_gather(m, staging, &s, &hash) == 0);
    CHECK(staging[0] == 1 && staging[4999] == 1 && staging[5000] == 2 && staging[14999] == 2);
    CHECK(hash == hash64(staging, 15000));
    memset(staging, 9, 15000);
    CHECK(mem_scatter(m, staging, &s, &hash) == 0);
    CHECK(hash == hash64(staging, 15000));
    CHECK(device[0][9] == 1 && device[0][10] == 9 && device[0][5009] == 9 && device[0][5010] == 1);
    CHECK(device[1][0] == 9 && device[1][LEN - 1] == 9);
    /* the thread's own context is as it was */
    CHECK(f->pushes == 4 && f->pops == 4 && f->copies_without_context == 0);
    CHECK(f->retains == 0);
    return 0;
}

/* Memory of a device's pool belongs to no context. */
static int pooled_body(void)
{
    struct fake_cuda *f = load_with_memory();
    struct cistern_vec v = {device[0], LEN};
    const struct cistern_span s = {&v, 1};
    uint64_t hash;

    CHECK(f);
    f->outside = true;
    CHECK(mem_gather(mem_ops_get(CISTERN_MEM_CUDA), staging, &s, &hash) == 0);
    CHECK(mem_gather(mem_ops_get(CISTERN_MEM_CUDA), staging, &s, &hash) == 0);
    CHECK(f->retains == 1 && f->pushes == f->pops && f->copies_without_context == 0);
    return 0;
}

static int failing_copy_body(void)
{
    struct fake_cuda *f = load_with_memory();
    struct cistern_vec v = {device[0], LEN}, host = {staging, 100};
    const struct cistern_span s = {&v, 1}, wrong = {&host, 1};
    const struct mem_ops *m = mem_ops_get(CISTERN_MEM_CUDA);
    uint64_t hash = 5;

    CHECK(f && m);
    f->fail_copy = 1;
    CHECK(mem_scatter(m, staging, &s, &hash) == -EIO);
    CHECK(strstr(err_text(), "cuMemcpyHtoD") && strstr(err_text(), "CUDA_ERROR_INVALID_VALUE"));
    CHECK(mem_gather(m, staging, &s, &hash) == -EIO);
    CHECK(strstr(err_text(), "cuMemcpyDtoH"));
    CHECK(f->pushes == f->pops);
    f->fail_copy = 0;
    /* an address that is no device's */
    CHECK(mem_gather(m, staging + 1000, &wrong, &hash) == -EFAULT);
    CHECK(hash == 5);
    return 0;
}

static int pin_body(void)
{
    struct fake_cuda *f = load("ok");
    const struct mem_ops *m = mem_ops_get(CISTERN_MEM_CUDA);
    int (*push)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "cuCtxPushCurrent_v2");
    void *h = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);

    if (!push && h)
        push = (int (*)(void *))dlsym(h, "cuCtxPushCurrent_v2");
    CHECK(f && m && push);
    CHECK(m->pin(staging, LEN) == -ENODEV);
    CHECK(f->registered == 0 && f->retains == 0);
    CHECK(push((void *)1) == 0);
    CHECK(m->pin(staging, LEN) == 0);
    CHECK(f->registered == 1);
    m->unpin(staging);
    CHECK(f->registered == 0);
    return 0;
}

static int missing_body(void)
{
    CHECK(load("missing"));
    CHECK(!mem_ops_get(CISTERN_MEM_CUDA));
    CHECK(strstr(err_text(), "cannot be used") && strstr(err_text(), "cuMemcpyHtoD_v2"));
    return 0;
}

static int failing_start_body(void)
{
    struct fake_cuda *f = load("fail");

    CHECK(f);
    CHECK(!mem_ops_get(CISTERN_MEM_CUDA));
    CHECK(strstr(err_text(), "does not start: CUDA_ERROR_NO_DEVICE"));
    err_clear();
    CHECK(!mem_ops_get(CISTERN_MEM_CUDA));
    CHECK(strstr(err_text(), "does not start"));
    CHECK(f->inits == 1); /* remembered */
    return 0;
}

static int absent_body(void)
{
    void *h = dlopen("libcuda.so.1", RTLD_LAZY);

    if (h)
        return 77; /* this machine has a driver */
    CHECK(!mem_ops_get(CISTERN_MEM_CUDA));
    CHECK(strstr(err_text(), "is not installed"));
    return 0;
}

#define CASE(name)                                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        in_child(name##_body);                                                                     \
    }

CASE(copies)
CASE(pooled)
CASE(failing_copy)
CASE(pin)
CASE(missing)
CASE(failing_start)
CASE(absent)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies), cmocka_unit_test(pooled),  cmocka_unit_test(failing_copy),
        cmocka_unit_test(pin),    cmocka_unit_test(missing), cmocka_unit_test(failing_start),
        cmocka_unit_test(absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
