/* mem_internal.h - the rows of struct mem_ops, and the copy past the cache. */
#ifndef MEM_MEM_INTERNAL_H
#define MEM_MEM_INTERNAL_H

#include "base/hash.h"
#include "mem/mem.h"

extern const struct mem_ops mem_host;
/* NULL and an err text when libcuda.so.1 is absent, broken or does not start. */
const struct mem_ops *mem_cuda(void) MUST_CHECK;

/* How far ahead of what it copies a copy past the cache fetches into the second-level cache. */
#define HOST_COPY_AHEAD 4096u

/*
 * memcpy whose stores go past the cache: for bytes that this CPU does not read next. It fetches the
 * source ahead, also beyond `len`: whoever copies in pieces wants the next ones soon.
 * host_copy_fence() before anybody is told of the bytes.
 */
void host_copy_past_cache(void *dst, const void *src, size_t len);
void host_copy_fence(void);

/*
 * Copies past the cache and hashes as much of `len` bytes as it can in one loop: whole blocks of
 * HOST_HASH_BLOCK bytes, to a destination at a multiple of 64, while the state stands at a multiple
 * of such a block. More bytes must follow in the state afterwards. Returns how many bytes it did,
 * often 0.
 */
#define HOST_HASH_BLOCK 1024u
size_t host_hash_copy(struct hash64_state *state, void *dst, const void *src, size_t len);

#endif
