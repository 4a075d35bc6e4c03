/* mem_internal.h - the rows of struct mem_ops. */
#ifndef MEM_MEM_INTERNAL_H
#define MEM_MEM_INTERNAL_H

#include "mem/mem.h"

extern const struct mem_ops mem_host;
/* NULL and an err text when libcuda.so.1 is absent, broken or does not start. */
const struct mem_ops *mem_cuda(void) MUST_CHECK;

#endif
