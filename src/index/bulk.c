/*
 * bulk.c - the first filling of an index. Entries are written one after another; only when all are
 * there, and so their number is known, are the tables made, at their final size: growing on the way
 * would move every slot four or five times.
 *
 * Meanwhile all entries may lie on 2 MiB pages, which come faster; what is left of the last one is
 * given back.
 *
 * One thread, before any other sees the index. What cannot be linked in is freed.
 */
#include <errno.h>

#include "base/bits.h"
#include "index/index_internal.h"
#include "index/reserve.h"

#define BULK_BATCH 32u

int index_bulk_begin(struct index *ix)
{
    if (ix->bulk || order_peek(&ix->row))
        return -EBUSY;
    ix->bulk = true;
    reserve_huge(ix->entries, min_u64(ix->capacity * sizeof *ix->entries, ENTRY_HUGE_FROM));
    return 0;
}

int bulk_append(struct index *ix, uint32_t segment, const struct block_info *b)
{
    uint64_t blocks = order_peek(&ix->blocks);

    /* Any table will do to take the entry from; its own gets it at the end. */
    if (blocks == ix->max_blocks || !entry_make(ix, 0, segment, b, 0))
        return -ENOSPC;
    order_publish(&ix->blocks, blocks + 1);
    return 0;
}

struct bulk_item {
    uint64_t hash;
    slot *home;
    uint32_t number;
    uint8_t key[32];
};

static int bulk_link(struct index *ix, const struct bulk_item *item)
{
    struct entry *e = entry_at(ix, item->number);
    uint32_t segment = word_low(order_peek(&e->word[WORD_SEGMENT]));
    uint32_t offset = word_low(order_peek(&e->word[WORD_PLACE])), newest;
    unsigned t = slots_table(item->hash);
    slot *at;
    int r = 0;

    newest = key_slot(ix, t, item->hash, item->key, &at);
    if (key_copy(ix, newest, segment, offset))
        r = -EEXIST;
    if (!r && newest)
        entry_set_older(e, newest);
    if (!r && !key_link(ix, t, item->hash, at, newest, item->number))
        r = -ENOSPC;
    if (r) {
        entry_free(ix, t, item->number);
        (void)order_add(&ix->blocks, (uint64_t)-1);
    }
    return r == -EEXIST ? 0 : r;
}

/* As insert_batch(): slot lines are on their way before the first is needed. */
static int bulk_batch(struct index *ix, struct bulk_item *items, unsigned n)
{
    unsigned i;
    int r = 0;

    for (i = 0; i < n; i++) {
        items[i].hash = slots_hash(items[i].key, 0);
        items[i].home = slots_home(&ix->slots, slots_table(items[i].hash), items[i].hash);
        __builtin_prefetch((const void *)items[i].home, 1);
    }
    for (i = 0; i < n; i++) {
        if (!line_empty(items[i].home))
            __builtin_prefetch((const void *)line_after(items[i].home), 1);
    }
    for (i = 0; i < n; i++) {
        int one = bulk_link(ix, &items[i]);

        r = r ? r : one;
    }
    return r;
}

int index_bulk_end(struct index *ix)
{
    struct bulk_item items[BULK_BATCH];
    uint64_t i, end = order_peek(&ix->row);
    unsigned n = 0, w;
    int r = 0;

    if (!ix->bulk)
        return -EINVAL;
    ix->bulk = false;
    slots_size(&ix->slots, order_peek(&ix->blocks));
    if (end * sizeof *ix->entries > ENTRY_HUGE_FROM)
        (void)order_add(&ix->settled, 1);
    else
        reserve_trim(ix->entries, end * sizeof *ix->entries,
                     min_u64(ix->capacity * sizeof *ix->entries, ENTRY_HUGE_FROM));
    for (i = 1; i <= end; i++) {
        const struct entry *e = entry_at(ix, i);

        if (word_kind(order_peek(&e->word[WORD_KIND])) == ENTRY_BLOCK) {
            uint64_t key[4];

            for (w = 0; w < 4; w++)
                key[w] = order_peek(&e->word[w]);
            memcpy(items[n].key, key, sizeof key);
            items[n++].number = (uint32_t)i;
        }
        if (n == BULK_BATCH || (n && i == end)) {
            int one = bulk_batch(ix, items, n);

            r = r ? r : one;
            n = 0;
        }
    }
    return r;
}
