/* host.c - memory that the CPU reaches: memcpy. No state; any thread. */
#include <string.h>

#include "mem/mem_internal.h"

static int host_copy_out(void *dst, const void *staging, size_t len)
{
    memcpy(dst, staging, len);
    return 0;
}

static int host_copy_in(void *staging, const void *src, size_t len)
{
    memcpy(staging, src, len);
    return 0;
}

const struct mem_ops mem_host = {
    .name = "host",
    .copy_out = host_copy_out,
    .copy_in = host_copy_in,
};
