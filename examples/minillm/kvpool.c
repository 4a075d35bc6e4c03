/*
 * kvpool.c - tier 1: block table, block hash, reference counts, LRU.
 *
 * Invariants: a block is in exactly one place: on the free list (not published, no holds), on the
 * LRU list (published, no holds), or held. A published block sits in the hash chain of its hash.
 * The parent of a block is named by number and generation, so that a recycled number never makes a
 * stale child match. A hash only finds candidates; tokens and parent are compared.
 */
#include "kvpool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NONE (-1)

struct block {
    uint64_t hash;            /* of the tokens and of the hash before */
    int parent;               /* block before it, NONE for the first */
    uint32_t parent_gen, gen; /* gen changes whenever the number is given to something else */
    int holds;
    int next, prev; /* of the free list (next only) or of the LRU list */
    int chain;      /* next block with the same slot */
    bool published, stored;
};

struct kvpool {
    struct shape shape;
    int nblocks, nfree, nidle;
    int free_head;
    int lru_old, lru_young;
    struct block *blocks;
    uint8_t *tokens; /* block_tokens per block */
    int *slots;
    uint32_t slot_mask;
    char *kv; /* [layer][K, V][block][piece] */
    size_t kv_bytes, piece;
};

/* An engine's KV memory is there before the first request; what the kernel refuses comes later. */
static void kv_prepare(void *at, size_t bytes)
{
    (void)madvise(at, bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
    (void)madvise(at, bytes, MADV_POPULATE_WRITE);
#endif
}

struct kvpool *kvpool_new(const struct shape *s, int blocks)
{
    struct kvpool *p = calloc(1, sizeof *p);
    uint32_t slots = 64;

    if (!p)
        return NULL;
    while (slots < 2 * (uint32_t)blocks)
        slots *= 2;
    p->shape = *s;
    p->nblocks = p->nfree = blocks;
    p->slot_mask = slots - 1;
    p->piece = shape_piece_bytes(s);
    p->kv_bytes = shape_block_bytes(s) * (size_t)blocks;
    p->blocks = calloc((size_t)blocks, sizeof *p->blocks);
    p->tokens = calloc((size_t)blocks, (size_t)s->block_tokens);
    p->slots = malloc(slots * sizeof *p->slots);
    p->kv = mmap(NULL, p->kv_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->kv == MAP_FAILED)
        p->kv = NULL;
    else
        kv_prepare(p->kv, p->kv_bytes);
    if (!p->blocks || !p->tokens || !p->slots || !p->kv) {
        kvpool_free(p);
        return NULL;
    }
    memset(p->slots, 0xff, slots * sizeof *p->slots);
    p->lru_old = p->lru_young = NONE;
    for (int i = 0; i < blocks; i++)
        p->blocks[i] = (struct block){.next = i + 1 < blocks ? i + 1 : NONE, .prev = NONE};
    return p;
}

void kvpool_free(struct kvpool *p)
{
    if (!p)
        return;
    if (p->kv)
        munmap(p->kv, p->kv_bytes);
    free(p->blocks);
    free(p->tokens);
    free(p->slots);
    free(p);
}

static void lru_remove(struct kvpool *p, int b)
{
    struct block *k = &p->blocks[b];
    *(k->prev == NONE ? &p->lru_old : &p->blocks[k->prev].next) = k->next;
    *(k->next == NONE ? &p->lru_young : &p->blocks[k->next].prev) = k->prev;
    p->nidle--;
}

static void lru_append(struct kvpool *p, int b)
{
    struct block *k = &p->blocks[b];
    k->prev = p->lru_young;
    k->next = NONE;
    *(k->prev == NONE ? &p->lru_old : &p->blocks[k->prev].next) = b;
    p->lru_young = b;
    p->nidle++;
}

static void free_push(struct kvpool *p, int b)
{
    p->blocks[b].next = p->free_head;
    p->free_head = b;
    p->nfree++;
}

static int *slot_of(struct kvpool *p, uint64_t hash)
{
    return &p->slots[(uint32_t)(hash ^ (hash >> 32)) & p->slot_mask];
}

static void unpublish(struct kvpool *p, int b)
{
    int *at = slot_of(p, p->blocks[b].hash);
    while (*at != b)
        at = &p->blocks[*at].chain;
    *at = p->blocks[b].chain;
    p->blocks[b].published = false;
    p->blocks[b].gen++;
}

int kvpool_room(const struct kvpool *p)
{
    return p->nfree + p->nidle;
}

int kvpool_alloc(struct kvpool *p, int n, int *blocks)
{
    if (n > kvpool_room(p))
        return -ENOSPC;
    for (int i = 0; i < n; i++) {
        int b = p->free_head;
        if (b != NONE) {
            p->free_head = p->blocks[b].next;
            p->nfree--;
        } else {
            b = p->lru_old;
            lru_remove(p, b);
            unpublish(p, b);
        }
        p->blocks[b].holds = 1;
        p->blocks[b].stored = false;
        blocks[i] = b;
    }
    return 0;
}

void kvpool_hold(struct kvpool *p, int block)
{
    if (p->blocks[block].holds++ == 0)
        lru_remove(p, block);
}

void kvpool_drop(struct kvpool *p, const int *blocks, int n)
{
    for (int i = n; i-- > 0;) {
        struct block *k = &p->blocks[blocks[i]];
        if (--k->holds > 0)
            continue;
        if (k->published)
            lru_append(p, blocks[i]);
        else
            free_push(p, blocks[i]);
    }
}

static uint64_t hash_block(uint64_t before, const uint8_t *tokens, int n)
{
    uint64_t h = before ^ 0xcbf29ce484222325ull;
    for (int i = 0; i < n; i++)
        h = (h ^ tokens[i]) * 0x100000001b3ull;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9ull;
    return h ^ (h >> 32);
}

/* The published block with these tokens after `parent`, or NONE. */
static int lookup(struct kvpool *p, uint64_t hash, int parent, const uint8_t *tokens)
{
    size_t n = (size_t)p->shape.block_tokens;

    for (int b = *slot_of(p, hash); b != NONE; b = p->blocks[b].chain) {
        const struct block *k = &p->blocks[b];
        if (k->hash != hash || k->parent != parent)
            continue;
        if (parent != NONE && k->parent_gen != p->blocks[parent].gen)
            continue;
        if (memcmp(p->tokens + (size_t)b * n, tokens, n) == 0)
            return b;
    }
    return NONE;
}

int kvpool_find(struct kvpool *p, const uint8_t *tokens, int limit, int *blocks)
{
    uint64_t hash = 0;
    int n = p->shape.block_tokens, found = 0, parent = NONE;

    while (found < limit) {
        const uint8_t *at = tokens + (size_t)found * (size_t)n;
        hash = hash_block(hash, at, n);
        int b = lookup(p, hash, parent, at);
        if (b == NONE)
            break;
        kvpool_hold(p, b);
        blocks[found++] = parent = b;
    }
    return found;
}

void kvpool_publish(struct kvpool *p, const uint8_t *tokens, int *table, int i)
{
    int n = p->shape.block_tokens, parent = i ? table[i - 1] : NONE, b = table[i];
    uint64_t before = i ? p->blocks[parent].hash : 0;
    const uint8_t *at = tokens + (size_t)i * (size_t)n;
    uint64_t hash = hash_block(before, at, n);
    struct block *k = &p->blocks[b];

    if (k->published)
        return;
    int known = lookup(p, hash, parent, at);
    if (known != NONE) {
        kvpool_hold(p, known);
        kvpool_drop(p, &b, 1);
        table[i] = known;
        return;
    }
    k->hash = hash;
    k->parent = parent;
    k->parent_gen = i ? p->blocks[parent].gen : 0;
    k->published = true;
    memcpy(p->tokens + (size_t)b * (size_t)n, at, (size_t)n);
    k->chain = *slot_of(p, hash);
    *slot_of(p, hash) = b;
}

float *kvpool_piece(const struct kvpool *p, int block, int layer, int which)
{
    size_t row = (size_t)layer * 2 + (size_t)which;
    return (float *)(void *)(p->kv + (row * (size_t)p->nblocks + (size_t)block) * p->piece);
}

void kvpool_mark_stored(struct kvpool *p, int block, bool stored)
{
    p->blocks[block].stored = stored;
}

bool kvpool_is_stored(const struct kvpool *p, int block)
{
    return p->blocks[block].stored;
}
