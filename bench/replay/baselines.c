/*
 * baselines.c - caches of single blocks that a policy is held against: LRU, FIFO, and Belady's MIN
 * with bypass.
 */
#include "replay.h"

#include <stdlib.h>

/* ---- LRU and FIFO: a list, newest first, `head` = number of blocks ---- */

struct list {
    uint32_t *next, *prev, head, n;
    bool *in;
};

static void list_open(struct list *l, uint32_t blocks)
{
    l->next = replay_alloc((size_t)blocks + 1, sizeof *l->next);
    l->prev = replay_alloc((size_t)blocks + 1, sizeof *l->prev);
    l->in = replay_alloc(blocks, sizeof *l->in);
    l->head = blocks;
    l->next[blocks] = l->prev[blocks] = blocks;
    l->n = 0;
}

static void list_close(struct list *l)
{
    free(l->next);
    free(l->prev);
    free(l->in);
}

static void list_remove(struct list *l, uint32_t b)
{
    l->next[l->prev[b]] = l->next[b];
    l->prev[l->next[b]] = l->prev[b];
    l->in[b] = false;
    l->n--;
}

static void list_add(struct list *l, uint32_t b)
{
    l->next[b] = l->next[l->head];
    l->prev[b] = l->head;
    l->prev[l->next[b]] = b;
    l->next[l->head] = b;
    l->in[b] = true;
    l->n++;
}

static uint64_t replay_list(const struct trace *t, uint32_t capacity, bool move_when_used)
{
    struct list l;
    uint64_t hits = 0;
    size_t r, i;

    list_open(&l, t->blocks);
    for (r = 0; r < t->requests; r++) {
        for (i = t->starts[r]; i < t->starts[r + 1] && l.in[t->ids[i]]; i++)
            hits++;
        for (i = t->starts[r]; i < t->starts[r + 1]; i++) {
            uint32_t b = t->ids[i];

            if (l.in[b] && !move_when_used)
                continue;
            if (l.in[b])
                list_remove(&l, b);
            else if (l.n == capacity)
                list_remove(&l, l.prev[l.head]);
            list_add(&l, b);
        }
    }
    list_close(&l);
    return hits;
}

uint64_t replay_lru(const struct trace *t, uint32_t capacity)
{
    return replay_list(t, capacity, true);
}

uint64_t replay_fifo(const struct trace *t, uint32_t capacity)
{
    return replay_list(t, capacity, false);
}

/* ---- MIN: a heap of (next use, block), farthest first; entries that no longer hold are passed
 * over ---- */

struct later {
    size_t at;
    uint32_t block;
};

struct heap {
    struct later *at;
    size_t n;
};

static void heap_push(struct heap *h, struct later v)
{
    size_t i = h->n++, up;

    for (; i && h->at[up = (i - 1) / 2].at < v.at; i = up)
        h->at[i] = h->at[up];
    h->at[i] = v;
}

static void heap_pop(struct heap *h)
{
    struct later v = h->at[--h->n];
    size_t i = 0, c;

    for (; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && h->at[c + 1].at > h->at[c].at)
            c++;
        if (h->at[c].at <= v.at)
            break;
        h->at[i] = h->at[c];
    }
    h->at[i] = v;
}

#define NEVER SIZE_MAX

/* For each place in the trace, the next one of the same block. */
static size_t *next_uses(const struct trace *t)
{
    size_t n = t->starts[t->requests], i;
    size_t *next = replay_alloc(n, sizeof *next), *last = replay_alloc(t->blocks, sizeof *last);

    for (i = 0; i < t->blocks; i++)
        last[i] = NEVER;
    for (i = n; i-- > 0;) {
        next[i] = last[t->ids[i]];
        last[t->ids[i]] = i;
    }
    free(last);
    return next;
}

uint64_t replay_min(const struct trace *t, uint32_t capacity)
{
    size_t *next = next_uses(t), *use = replay_alloc(t->blocks, sizeof *use), r, i;
    struct heap h = {.at = replay_alloc(t->starts[t->requests] + 1, sizeof *h.at)};
    uint64_t hits = 0;
    uint32_t in = 0, b;

    /* use[b]: 0 = not in the cache, else its next use + 1 */
    for (r = 0; r < t->requests; r++) {
        for (i = t->starts[r]; i < t->starts[r + 1] && use[t->ids[i]]; i++)
            hits++;
        for (i = t->starts[r]; i < t->starts[r + 1]; i++) {
            b = t->ids[i];
            in -= use[b] != 0;
            use[b] = 0;
            if (next[i] == NEVER)
                continue;
            use[b] = next[i] + 1;
            heap_push(&h, (struct later){next[i] + 1, b});
            in++;
            while (in > capacity) {
                struct later far = h.at[0];

                heap_pop(&h);
                if (use[far.block] != far.at)
                    continue;
                use[far.block] = 0;
                in--;
            }
        }
    }
    free(next);
    free(use);
    free(h.at);
    return hits;
}
