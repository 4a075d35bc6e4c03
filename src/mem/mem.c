/*
 * mem.c - kinds of memory, and the copy that hashes.
 *
 * Host memory is copied and hashed in pieces that fit the first-level cache, so that the bytes come
 * through memory once. Device memory is copied whole, because a call costs more than the cache
 * saves. Threads: any.
 */
#include "mem/mem.h"

#include <errno.h>

#include "base/bits.h"
#include "base/hash.h"
#include "mem/mem_internal.h"

#define PIECE_BYTES (16u << 10)

const struct mem_ops *mem_ops_get(uint32_t kind)
{
    if (kind == CISTERN_MEM_HOST)
        return &mem_host;
    if (kind == CISTERN_MEM_CUDA)
        return mem_cuda();
    (void)err_set(-EINVAL, "there is no kind %u of memory", kind);
    return NULL;
}

uint64_t mem_span_bytes(const struct cistern_span *s)
{
    uint64_t bytes = 0;
    uint32_t i;

    for (i = 0; i < s->count; i++)
        bytes += s->vecs[i].len;
    return bytes;
}

static size_t piece_len(const struct mem_ops *m, size_t left)
{
    return m == &mem_host && left > PIECE_BYTES ? PIECE_BYTES : left;
}

int mem_gather(const struct mem_ops *m, void *staging, const struct cistern_span *s, uint64_t *hash)
{
    struct hash64_state state;
    uint8_t *to = staging;
    size_t at, n;
    uint32_t i;
    int rc;

    hash64_begin(&state);
    for (i = 0; i < s->count; i++) {
        for (at = 0; at < s->vecs[i].len; at += n, to += n) {
            n = piece_len(m, s->vecs[i].len - at);
            rc = m->copy_in(to, (const uint8_t *)s->vecs[i].base + at, n);
            if (rc)
                return rc;
            hash64_add(&state, to, n);
        }
    }
    *hash = hash64_end(&state);
    return 0;
}

int mem_scatter(const struct mem_ops *m, const void *staging, const struct cistern_span *s,
                uint64_t *hash)
{
    struct hash64_state state;
    const uint8_t *from = staging;
    size_t at, n;
    uint32_t i;
    int rc;

    hash64_begin(&state);
    for (i = 0; i < s->count; i++) {
        for (at = 0; at < s->vecs[i].len; at += n, from += n) {
            n = piece_len(m, s->vecs[i].len - at);
            hash64_add(&state, from, n);
            rc = m->copy_out((uint8_t *)s->vecs[i].base + at, from, n);
            if (rc)
                return rc;
        }
    }
    *hash = hash64_end(&state);
    return 0;
}
