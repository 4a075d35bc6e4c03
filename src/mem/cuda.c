/*
 * cuda.c - device memory through the CUDA driver, loaded at the first use of libcuda.so.1.
 *
 * No CUDA header is needed to build: the few functions have prototypes of our own. The library's
 * threads have no current context, so every copy pushes the context that owns the address and pops
 * it again. The driver is started once per process and stays loaded; a failed start is remembered
 * with its reason. A forked child cannot use the parent's driver and gets the driver's own errors.
 *
 * Threads: any.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/dl.h"
#include "cistern.h"
#include "mem/mem_internal.h"

typedef int cu_result;
typedef unsigned long long cu_address;
typedef void *cu_context;

#define CU_SUCCESS                          0
#define CU_INVALID_VALUE                    1
#define CU_POINTER_ATTRIBUTE_CONTEXT        1
#define CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL 9
#define CUDA_DEVICES                        64
#define CU_MEMHOSTREGISTER_PORTABLE         1u

/* In the order of cuda_symbols[]. */
struct cuda_calls {
    cu_result (*init)(unsigned flags);
    cu_result (*get_error_name)(cu_result r, const char **name);
    cu_result (*pointer_get_attribute)(void *data, int attribute, cu_address address);
    cu_result (*ctx_push)(cu_context context);
    cu_result (*ctx_pop)(cu_context *context);
    cu_result (*ctx_get_current)(cu_context *context);
    cu_result (*primary_retain)(cu_context *context, int device);
    cu_result (*to_device)(cu_address dst, const void *src, size_t len);
    cu_result (*to_host)(void *dst, cu_address src, size_t len);
    cu_result (*host_register)(void *base, size_t len, unsigned flags);
    cu_result (*host_unregister)(void *base);
};

static const char *const cuda_symbols[] = {
    "cuInit",
    "cuGetErrorName",
    "cuPointerGetAttribute",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuCtxGetCurrent",
    "cuDevicePrimaryCtxRetain",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
};
#define SYMBOLS ARRAY_LEN(cuda_symbols)
_Static_assert(sizeof(struct cuda_calls) == SYMBOLS * sizeof(void *), "one symbol per member");

static pthread_once_t cuda_once = PTHREAD_ONCE_INIT;
/* Written once by cuda_start(). */
static struct cuda_calls cuda;
static char cuda_why[300];
static bool cuda_ready;

static const char *cuda_error(cu_result r)
{
    const char *name = NULL;

    return cuda.get_error_name(r, &name) == CU_SUCCESS && name ? name : "unknown CUDA error";
}

static void cuda_start(void)
{
    struct dl_symbol symbols[SYMBOLS];
    void *found[SYMBOLS] = {NULL};
    enum dl_outcome outcome;
    char why[200] = "";
    void *handle;
    cu_result r;
    size_t i;

    for (i = 0; i < SYMBOLS; i++)
        symbols[i] = (struct dl_symbol){cuda_symbols[i], &found[i], 0};
    outcome = dl_load("libcuda.so.1", symbols, SYMBOLS, &handle, why, sizeof why);
    if (outcome != DL_LOADED) {
        (void)snprintf(cuda_why, sizeof cuda_why, "the CUDA driver %s: %s",
                       outcome == DL_ABSENT ? "is not installed" : "cannot be used", why);
        return;
    }
    memcpy(&cuda, found, sizeof cuda);
    r = cuda.init(0);
    if (r != CU_SUCCESS)
        (void)snprintf(cuda_why, sizeof cuda_why, "the CUDA driver does not start: %s",
                       cuda_error(r));
    cuda_ready = r == CU_SUCCESS;
}

/* Kept until the process ends: one reference per device that was ever needed. */
static cu_result primary_context(int device, cu_context *out)
{
    static _Atomic(cu_context) kept[CUDA_DEVICES];
    cu_context context = NULL;
    cu_result r;

    if (device < 0 || device >= CUDA_DEVICES)
        return CU_INVALID_VALUE;
    context = atomic_load(&kept[device]);
    if (!context) {
        r = cuda.primary_retain(&context, device);
        if (r != CU_SUCCESS)
            return r;
        atomic_store(&kept[device], context);
    }
    *out = context;
    return CU_SUCCESS;
}

/* Makes the context that owns a device address current. Memory of a pool belongs to a device, but
 * to no context: then it is the device's primary one. */
static int enter_context_of(const void *address)
{
    cu_address at = (cu_address)(uintptr_t)address;
    cu_context context = NULL;
    cu_result r = cuda.pointer_get_attribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, at);
    int device = -1;

    if (r == CU_SUCCESS && !context) {
        r = cuda.pointer_get_attribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, at);
        if (r == CU_SUCCESS)
            r = primary_context(device, &context);
    }
    if (r == CU_SUCCESS)
        r = cuda.ctx_push(context);
    return r == CU_SUCCESS ? 0
                           : err_set(-EFAULT, "%p is no device memory: %s", address, cuda_error(r));
}

static int leave_context(const char *what, cu_result r)
{
    cu_context old;

    (void)cuda.ctx_pop(&old);
    return r == CU_SUCCESS ? 0 : err_set(-EIO, "%s: %s", what, cuda_error(r));
}

static int cuda_copy_out(void *dst, const void *staging, size_t len)
{
    int rc = enter_context_of(dst);

    return rc ? rc
              : leave_context("cuMemcpyHtoD",
                              cuda.to_device((cu_address)(uintptr_t)dst, staging, len));
}

static int cuda_copy_in(void *staging, const void *src, size_t len)
{
    int rc = enter_context_of(src);

    return rc ? rc
              : leave_context("cuMemcpyDtoH",
                              cuda.to_host(staging, (cu_address)(uintptr_t)src, len));
}

/* In the context of the calling thread: making one would take memory on a device that may be
 * somebody else's. */
static int cuda_pin(void *base, size_t len)
{
    cu_context context = NULL;
    cu_result r = cuda.ctx_get_current(&context);

    if (r == CU_SUCCESS && !context)
        return err_set(-ENODEV, "this thread has no CUDA context");
    if (r == CU_SUCCESS)
        r = cuda.host_register(base, len, CU_MEMHOSTREGISTER_PORTABLE);
    return r == CU_SUCCESS ? 0 : err_set(-EIO, "cuMemHostRegister: %s", cuda_error(r));
}

static void cuda_unpin(void *base)
{
    (void)cuda.host_unregister(base);
}

static const struct mem_ops cuda_ops = {
    .name = "cuda",
    .copy_out = cuda_copy_out,
    .copy_in = cuda_copy_in,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
};

const struct mem_ops *mem_cuda(void)
{
    (void)pthread_once(&cuda_once, cuda_start);
    if (!cuda_ready) {
        (void)err_set(CISTERN_EMEMORY, "%s", cuda_why);
        return NULL;
    }
    return &cuda_ops;
}
