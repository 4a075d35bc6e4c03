/*
 * mem.c - kinds of memory, and the copy that hashes.
 *
 * Host memory is copied and hashed in pieces that fit the first-level cache, so that the bytes come
 * through memory once: hash first, which fetches, then copy. A get's destination is written past
 * the cache; so is a put's staging unless it is small. Device memory is copied whole, because a
 * call costs more than the cache saves. Threads: any.
 */
#include "mem/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bits.h"
#include "base/hash.h"
#include "mem/mem_internal.h"

/* Small enough for the processor to hash one piece while the stores of the one before drain. */
#define PIECE_BYTES 1024u
#define LINE_BYTES  64u
/* From this size on staging is written past the cache: storage takes it by DMA, or from memory
 * later. */
#define LARGE_SPAN  (16u << 10)

const struct mem_ops *mem_ops_get(uint32_t kind)
{
    if (kind == CISTERN_MEM_HOST)
        return &mem_host;
    if (kind == CISTERN_MEM_CUDA)
        return mem_cuda();
    (void)err_set(-EINVAL, "there is no kind %u of memory", kind);
    return NULL;
}

bool mem_is_host(const struct mem_ops *m)
{
    return m == &mem_host;
}

uint64_t mem_span_bytes(const struct cistern_span *s)
{
    uint64_t bytes = 0;
    uint32_t i;

    for (i = 0; i < s->count; i++)
        bytes += s->vecs[i].len;
    return bytes;
}

/* Of `left` bytes to write at `to`: the next piece, which ends at a whole line if it can. */
static size_t piece_at(const uint8_t *to, size_t left)
{
    return min_u64(left, PIECE_BYTES - (uintptr_t)to % LINE_BYTES);
}

/* One pass past the cache. `more` bytes follow in the hash. */
static void hash_past_cache(uint8_t *to, const uint8_t *from, size_t len, uint64_t more,
                            struct hash64_state *state)
{
    size_t whole = more || !len ? len : len - 1, at = host_hash_copy(state, to, from, whole), n;

    for (; at < len; at += n) {
        n = piece_at(to + at, len - at);
        hash64_add(state, from + at, n);
        host_copy_past_cache(to + at, from + at, n);
    }
}

/* Small staging stays in the cache. */
static void hash_to_cache(uint8_t *to, const uint8_t *from, size_t len, struct hash64_state *state)
{
    hash64_add(state, from, len);
    memcpy(to, from, len);
}

static int gather_other(const struct mem_ops *m, uint8_t *to, const struct cistern_vec *v,
                        struct hash64_state *state)
{
    int rc = m->copy_in(to, v->base, v->len);

    if (rc == 0)
        hash64_add(state, to, v->len);
    return rc;
}

int mem_gather(const struct mem_ops *m, void *staging, const struct cistern_span *s, uint64_t *hash)
{
    uint64_t more = mem_span_bytes(s);
    bool large = more >= LARGE_SPAN;
    struct hash64_state state;
    uint8_t *to = staging;
    uint32_t i;
    int rc = 0;

    hash64_begin(&state);
    for (i = 0; i < s->count && rc == 0; i++) {
        more -= s->vecs[i].len;
        if (m == &mem_host && large)
            hash_past_cache(to, s->vecs[i].base, s->vecs[i].len, more, &state);
        else if (m == &mem_host)
            hash_to_cache(to, s->vecs[i].base, s->vecs[i].len, &state);
        else
            rc = gather_other(m, to, &s->vecs[i], &state);
        to += s->vecs[i].len;
    }
    host_copy_fence();
    if (rc == 0)
        *hash = hash64_end(&state);
    return rc;
}

int mem_scatter(const struct mem_ops *m, const void *staging, const struct cistern_span *s,
                uint64_t *hash)
{
    struct hash64_state state;
    const uint8_t *from = staging;
    uint64_t more = mem_span_bytes(s);
    uint32_t i;
    int rc = 0;

    hash64_begin(&state);
    for (i = 0; i < s->count && rc == 0; i++) {
        more -= s->vecs[i].len;
        if (m == &mem_host) {
            hash_past_cache(s->vecs[i].base, from, s->vecs[i].len, more, &state);
        } else {
            hash64_add(&state, from, s->vecs[i].len);
            rc = m->copy_out(s->vecs[i].base, from, s->vecs[i].len);
        }
        from += s->vecs[i].len;
    }
    host_copy_fence();
    if (rc == 0)
        *hash = hash64_end(&state);
    return rc;
}
