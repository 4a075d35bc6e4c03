/*
 * entry.c - entries: taking, filling, copying, freeing. Writers hold the lock of the entry's table;
 * entry_load() may run at any time. No allocation: the row of entries is reserved address space, a
 * freed entry is used again by its table.
 */
#include "index/index_internal.h"

/* One entry; 0: none left. */
static uint32_t entry_take(struct index *ix, unsigned t)
{
    struct entry_pool *pool = &ix->pool[t];
    uint32_t number = pool->free;
    uint64_t first;

    if (number) {
        pool->free = word_low(order_peek(&entry_at(ix, number)->word[WORD_KIND]));
        return number;
    }
    if (pool->next == pool->end) {
        if (order_peek(&ix->row) + ENTRY_CHUNK > ix->capacity)
            return 0;
        first = order_add(&ix->row, ENTRY_CHUNK);
        if (first + ENTRY_CHUNK > ix->capacity) {
            (void)order_add(&ix->row, -(uint64_t)ENTRY_CHUNK);
            return 0;
        }
        pool->next = (uint32_t)first + 1;
        pool->end = pool->next + ENTRY_CHUNK;
    }
    return pool->next++;
}

static void entry_put_back(struct index *ix, unsigned t, uint32_t number)
{
    order_publish(&entry_at(ix, number)->word[WORD_KIND], word_pair(ix->pool[t].free, 0));
    ix->pool[t].free = number;
}

static void parts_fill(struct entry *e, const struct block_info *b, unsigned from, uint32_t next)
{
    uint32_t length[ENTRY_PARTS] = {0};
    unsigned i;

    for (i = 0; i < ENTRY_PARTS; i++) {
        bool is = from + i < b->parts;

        order_publish(&e->word[i], is ? b->check[from + i] : 0);
        length[i] = is ? b->length[from + i] : 0;
    }
    order_publish(&e->word[4], word_pair(length[0], length[1]));
    order_publish(&e->word[5], word_pair(length[2], length[3]));
    order_publish(&e->word[WORD_KIND], word_pair(next, (uint32_t)ENTRY_PARTS_OF << 16));
}

static void filter_set(struct index *ix, uint32_t number, uint32_t segment)
{
    _Atomic uint64_t *filter = &ix->filter[(number - 1) / ENTRY_PAGE];
    uint64_t bit = (uint64_t)1 << segment % 64;

    if (!(order_peek(filter) & bit))
        order_or(filter, bit);
}

uint32_t entry_make(struct index *ix, unsigned t, uint32_t segment, const struct block_info *b,
                    uint32_t older)
{
    unsigned i, n = b->parts == 1 ? 1 : 1 + (b->parts + ENTRY_PARTS - 1) / ENTRY_PARTS;
    uint32_t number[ENTRY_MAX];
    struct entry *e;
    uint64_t key[4];

    for (i = 0; i < n; i++) {
        number[i] = entry_take(ix, t);
        if (!number[i]) {
            while (i--)
                entry_put_back(ix, t, number[i]);
            return 0;
        }
    }
    for (i = n; i-- > 1;)
        parts_fill(entry_at(ix, number[i]), b, (i - 1) * ENTRY_PARTS,
                   i + 1 < n ? number[i + 1] : 0);
    e = entry_at(ix, number[0]);
    memcpy(key, b->key, sizeof key);
    for (i = 0; i < 4; i++)
        order_publish(&e->word[i], key[i]);
    order_publish(&e->word[WORD_CHECK], b->check[0]);
    order_publish(&e->word[WORD_PLACE], word_pair(b->offset, n == 1 ? b->length[0] : number[1]));
    order_publish(&e->word[WORD_SEGMENT], word_pair(segment, b->depth));
    filter_set(ix, number[0], segment);
    order_publish(&e->word[WORD_KIND], word_pair(older, (uint32_t)ENTRY_BLOCK << 16 | b->mask));
    return number[0];
}

void entry_free(struct index *ix, unsigned t, uint32_t number)
{
    const struct entry *e = entry_at(ix, number);
    uint32_t parts = 0;

    if (mask_parts(word_mask(order_peek(&e->word[WORD_KIND]))) > 1)
        parts = word_high(order_peek(&e->word[WORD_PLACE]));
    while (parts) {
        uint32_t next = word_low(order_peek(&entry_at(ix, parts)->word[WORD_KIND]));

        entry_put_back(ix, t, parts);
        parts = next;
    }
    entry_put_back(ix, t, number);
}

void entry_set_older(struct entry *e, uint32_t older)
{
    order_publish(&e->word[WORD_KIND],
                  word_pair(older, word_high(order_peek(&e->word[WORD_KIND]))));
}

static void parts_load(const struct index *ix, uint64_t number, struct block_info *b)
{
    unsigned i, done;

    for (done = 0; done < b->parts; done += ENTRY_PARTS) {
        const struct entry *e;

        if (number - 1 >= ix->capacity) /* reused meanwhile */
            return;
        e = entry_at(ix, number);
        for (i = 0; i < ENTRY_PARTS && done + i < b->parts; i++) {
            uint64_t pair = order_read(&e->word[4 + i / 2]);

            b->check[done + i] = order_read(&e->word[i]);
            b->length[done + i] = i % 2 ? word_high(pair) : word_low(pair);
        }
        number = word_low(order_read(&e->word[WORD_KIND]));
    }
}

void entry_load(const struct index *ix, const struct entry *e, struct index_place *out)
{
    uint64_t place = order_read(&e->word[WORD_PLACE]);
    uint64_t segment = order_read(&e->word[WORD_SEGMENT]);
    uint64_t kind = order_read(&e->word[WORD_KIND]);
    struct block_info *b = &out->info;
    uint64_t key[4];
    unsigned i;

    for (i = 0; i < 4; i++)
        key[i] = order_read(&e->word[i]);
    memcpy(b->key, key, sizeof b->key);
    out->segment = word_low(segment);
    out->use = word_use(kind);
    b->depth = word_high(segment);
    b->offset = word_low(place);
    b->mask = word_mask(kind);
    b->parts = (uint8_t)mask_parts(b->mask);
    if (b->parts == 1) {
        b->length[0] = word_high(place);
        b->check[0] = order_read(&e->word[WORD_CHECK]);
    } else {
        parts_load(ix, word_high(place), b);
    }
}
