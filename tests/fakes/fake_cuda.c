/*
 * fake_cuda.c - a stand-in for libcuda.so.1: "device" memory is ordinary memory that a test names
 * in `fake_cuda`, and a copy succeeds only in the context that owns it. One thread at a time.
 */
#include <stdint.h>
#include <string.h>

#include "fakes.h"

#define EXPORT __attribute__((visibility("default")))

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_CONTEXT = 201,
    NOT_SUPPORTED = 801
};
enum { ATTRIBUTE_CONTEXT = 1, ATTRIBUTE_DEVICE = 9 };

EXPORT struct fake_cuda fake_cuda;

static intptr_t stack[8];
static int depth;

static intptr_t owner(unsigned long long at)
{
    for (int i = 0; i < 4; i++) {
        unsigned long long base = (uintptr_t)fake_cuda.base[i];

        if (base && at >= base && at < base + fake_cuda.len[i])
            return i + 1;
    }
    return 0;
}

EXPORT int cuInit(unsigned flags)
{
    (void)flags;
    fake_cuda.inits++;
#ifdef FAKE_CUDA_FAIL
    return NO_DEVICE;
#else
    return OK;
#endif
}

EXPORT int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return OK;
}

EXPORT int cuDeviceGetCount(int *count)
{
    *count = 1;
    return OK;
}

EXPORT int cuGetErrorName(int r, const char **name)
{
    *name = r == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}

EXPORT int cuPointerGetAttribute(void *data, int attribute, unsigned long long at)
{
    intptr_t context = owner(at);

    if (!context)
        return INVALID_VALUE;
    if (attribute == ATTRIBUTE_DEVICE) {
        *(int *)data = 0;
        return OK;
    }
    *(void **)data = (void *)(fake_cuda.outside ? 0 : context);
    return OK;
}

EXPORT int cuCtxPushCurrent_v2(void *context)
{
    stack[depth++] = (intptr_t)context;
    fake_cuda.pushes++;
    return OK;
}

EXPORT int cuCtxPopCurrent_v2(void **context)
{
    *context = (void *)stack[--depth];
    fake_cuda.pops++;
    return OK;
}

EXPORT int cuCtxGetCurrent(void **context)
{
    *context = depth ? (void *)stack[depth - 1] : NULL;
    return OK;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = (void *)(intptr_t)(device + 1);
    fake_cuda.retains++;
#ifdef FAKE_CUDA_BUSY
    return OUT_OF_MEMORY;
#else
    return OK;
#endif
}

static int copy(void *dst, const void *src, size_t len, unsigned long long device)
{
    if (fake_cuda.fail_copy)
        return fake_cuda.fail_copy;
    if (depth == 0 || (!fake_cuda.outside && stack[depth - 1] != owner(device))) {
        fake_cuda.copies_without_context++;
        return INVALID_CONTEXT;
    }
    memcpy(dst, src, len);
    return OK;
}

#ifndef FAKE_CUDA_MISSING
EXPORT int cuMemcpyHtoD_v2(unsigned long long dst, const void *src, size_t len)
{
    return copy((void *)(uintptr_t)dst, src, len, dst);
}
#endif

EXPORT int cuMemcpyDtoH_v2(void *dst, unsigned long long src, size_t len)
{
    return copy(dst, (const void *)(uintptr_t)src, len, src);
}

EXPORT int cuMemHostRegister_v2(void *base, size_t len, unsigned flags)
{
    (void)base;
    (void)len;
    (void)flags;
    if (depth == 0)
        return INVALID_CONTEXT;
#ifdef FAKE_CUDA_UNPINNED
    return NOT_SUPPORTED;
#else
    fake_cuda.registered++;
    return OK;
#endif
}

EXPORT int cuMemHostUnregister(void *base)
{
    (void)base;
    fake_cuda.registered--;
    return OK;
}
