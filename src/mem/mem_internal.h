/* mem_internal.h - the rows of struct mem_ops, and the copy past the cache. */
#ifndef MEM_MEM_INTERNAL_H
#define MEM_MEM_INTERNAL_H

#include "mem/mem.h"

extern const struct mem_ops mem_host;
/* NULL and an err text when libcuda.so.1 is absent, broken or does not start. */
const struct mem_ops *mem_cuda(void) MUST_CHECK;

/*
 * memcpy whose stores go past the cache: for bytes that this CPU does not read next. Meanwhile it
 * fetches `len` bytes of the source, the piece after the next, into the second-level cache.
 * host_copy_fence() before anybody is told of the bytes.
 */
void host_copy_past_cache(void *dst, const void *src, size_t len);
void host_copy_fence(void);

#endif
