/*
 * index.c - key -> where the block lies: open, insert, find, remove. index.h is the contract,
 * slots.h and index_internal.h the layout, order.h the ordering.
 *
 * Writers take the lock of one table; lock order is drop_lock, then tables in ascending order.
 * Nothing fails but for want of room.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "index/index_internal.h"
#include "index/reserve.h"

#define MANY_BATCH 64u

/* ---- Open and close ---- */

int index_open(uint64_t max_blocks, struct index **out)
{
    struct index *ix;
    int r;

    if (!max_blocks || max_blocks > (uint64_t)1 << 30 || !out)
        return err_set(-EINVAL, "index: max_blocks is not 1 to 2^30");
    ix = aligned_alloc(64, sizeof *ix);
    if (!ix)
        return err_set(-ENOMEM, "index: no memory");
    memset(ix, 0, sizeof *ix);
    ix->max_blocks = max_blocks;
    /* Room for blocks of up to four parts, and the chunks that tables have begun. */
    ix->capacity = round_up(2 * max_blocks + SLOTS_TABLES * ENTRY_CHUNK, ENTRY_PAGE);
    r = slots_open(&ix->slots, max_blocks);
    if (r)
        goto fail;
    (void)pthread_mutex_init(&ix->drop_lock, NULL);
    ix->entries = reserve_open(ix->capacity * sizeof *ix->entries, ENTRY_HUGE_FROM);
    ix->filter = reserve_open(ix->capacity / ENTRY_PAGE * sizeof *ix->filter, SIZE_MAX);
    if (!ix->entries || !ix->filter) {
        r = err_set(-ENOMEM, "index: no address space for %llu blocks",
                    (unsigned long long)max_blocks);
        goto fail;
    }
    *out = ix;
    return 0;
fail:
    index_close(ix);
    return r;
}

void index_close(struct index *ix)
{
    if (!ix)
        return;
    reserve_close(ix->entries, ix->capacity * sizeof *ix->entries);
    reserve_close((void *)ix->filter, ix->capacity / ENTRY_PAGE * sizeof *ix->filter);
    if (ix->slots.base)
        (void)pthread_mutex_destroy(&ix->drop_lock);
    slots_close(&ix->slots);
    free(ix);
}

uint64_t index_blocks(const struct index *ix)
{
    return order_peek(&ix->blocks);
}

uint64_t index_memory_bytes(const struct index *ix)
{
    uint64_t row = order_peek(&ix->row);

    return sizeof *ix + slots_memory(&ix->slots) +
           reserve_touched(row * sizeof *ix->entries, ENTRY_HUGE_FROM) +
           reserve_touched((row + ENTRY_PAGE - 1) / ENTRY_PAGE * sizeof *ix->filter, SIZE_MAX);
}

void index_settle(struct index *ix)
{
    slots_settle(&ix->slots);
    if (order_peek(&ix->row) * sizeof *ix->entries > ENTRY_HUGE_FROM && !order_add(&ix->settled, 1))
        reserve_settle(ix->entries, ENTRY_HUGE_FROM);
}

/* ---- Find ---- */

uint32_t key_slot(const struct index *ix, unsigned t, uint64_t hash, const uint8_t key[32],
                  slot **at)
{
    struct slot_probe p = slots_probe(slots_home(&ix->slots, t, hash), hash, INDEX_PAYLOAD);
    uint64_t v;

    do {
        v = slots_next(&p, INDEX_PAYLOAD);
    } while (v && !entry_has_key(entry_at(ix, word_low(v)), key));
    *at = p.at;
    return word_low(v);
}

bool index_find(const struct index *ix, const cistern_key *key, struct index_place *out)
{
    uint64_t hash = slots_hash(key->b, 0), version;
    unsigned t = slots_table(hash);
    uint32_t number;
    slot *at;

    do {
        version = order_read(&ix->slots.table[t].version);
        number = key_slot(ix, t, hash, key->b, &at);
        if (number)
            entry_load(ix, entry_at(ix, number), out);
    } while (order_read(&ix->slots.table[t].version) != version);
    return number != 0;
}

uint16_t index_mask(const struct index *ix, const cistern_key *key)
{
    uint64_t hash = slots_hash(key->b, 0), version;
    unsigned t = slots_table(hash);
    uint32_t number;
    uint16_t mask;
    slot *at;

    do {
        version = order_read(&ix->slots.table[t].version);
        number = key_slot(ix, t, hash, key->b, &at);
        mask = number ? word_mask(order_read(&entry_at(ix, number)->word[WORD_KIND])) : 0;
    } while (order_read(&ix->slots.table[t].version) != version);
    return mask;
}

uint8_t index_use(struct index *ix, const cistern_key *key, uint8_t stamp, uint32_t *segment)
{
    uint64_t hash = slots_hash(key->b, 0), word;
    struct entry *e;
    uint32_t number;
    slot *at;

    number = key_slot(ix, slots_table(hash), hash, key->b, &at);
    if (!number)
        return stamp;
    e = entry_at(ix, number);
    word = order_read(&e->word[WORD_KIND]);
    *segment = word_low(order_read(&e->word[WORD_SEGMENT]));
    /* An entry that was freed and used again since has another word, or is the same key's. */
    if (word_kind(word) == ENTRY_BLOCK && word_use(word) != stamp && entry_has_key(e, key->b))
        return order_try(&e->word[WORD_KIND], word, (word << 8 >> 8) | (uint64_t)stamp << 56)
                   ? word_use(word)
                   : stamp;
    return stamp;
}

void index_prefetch(const struct index *ix, const cistern_key *key)
{
    uint64_t hash = slots_hash(key->b, 0);

    __builtin_prefetch((const void *)slots_home(&ix->slots, slots_table(hash), hash));
}

/* ---- Insert ---- */

static bool block_valid(uint32_t segment, const struct block_info *b)
{
    return b && segment < (uint32_t)1 << 31 && b->parts && b->parts == mask_parts(b->mask);
}

static bool copy_is(const struct entry *e, uint32_t segment, uint32_t offset)
{
    return word_low(order_peek(&e->word[WORD_SEGMENT])) == segment &&
           word_low(order_peek(&e->word[WORD_PLACE])) == offset;
}

static uint32_t older_of(const struct entry *e)
{
    return word_low(order_peek(&e->word[WORD_KIND]));
}

bool blocks_count(struct index *ix, uint64_t n)
{
    if (order_add(&ix->blocks, n) + n <= ix->max_blocks)
        return true;
    (void)order_add(&ix->blocks, -n);
    return false;
}

bool key_link(struct index *ix, unsigned t, uint64_t hash, slot *at, uint32_t newest,
              uint32_t number)
{
    uint64_t value = hash >> INDEX_PAYLOAD << INDEX_PAYLOAD | number;

    if (!newest)
        return slots_insert(&ix->slots, t, at, value);
    order_publish(at, value);
    return true;
}

uint32_t key_copy(const struct index *ix, uint32_t newest, uint32_t segment, uint32_t offset)
{
    uint32_t number = newest;

    while (number && !copy_is(entry_at(ix, number), segment, offset))
        number = older_of(entry_at(ix, number));
    return number;
}

/* The caller has counted the block. */
static int insert_locked(struct index *ix, unsigned t, uint64_t hash, uint32_t segment,
                         const struct block_info *b)
{
    uint32_t newest, number;
    slot *at = NULL;

    slots_tick(&ix->slots, t);
    newest = key_slot(ix, t, hash, b->key, &at);
    if (key_copy(ix, newest, segment, b->offset))
        return -EEXIST;
    number = entry_make(ix, t, segment, b, newest);
    if (!number)
        return -ENOSPC;
    if (!key_link(ix, t, hash, at, newest, number)) {
        entry_free(ix, t, number);
        return -ENOSPC;
    }
    return 0;
}

/* A copy that is there is -EEXIST even when the index is full. */
static int insert_counted(struct index *ix, unsigned t, uint64_t hash, uint32_t segment,
                          const struct block_info *b)
{
    slot *at;
    int r;

    if (!blocks_count(ix, 1))
        return key_copy(ix, key_slot(ix, t, hash, b->key, &at), segment, b->offset) ? -EEXIST
                                                                                    : -ENOSPC;
    r = insert_locked(ix, t, hash, segment, b);
    if (r)
        (void)order_add(&ix->blocks, (uint64_t)-1);
    return r;
}

int index_insert(struct index *ix, uint32_t segment, const struct block_info *b)
{
    uint64_t hash;
    unsigned t;
    int r;

    if (!block_valid(segment, b))
        return -EINVAL;
    if (ix->bulk)
        return bulk_append(ix, segment, b);
    hash = slots_hash(b->key, 0);
    t = slots_table(hash);
    (void)pthread_mutex_lock(&ix->slots.table[t].lock);
    r = insert_counted(ix, t, hash, segment, b);
    (void)pthread_mutex_unlock(&ix->slots.table[t].lock);
    return r;
}

/*
 * Up to MANY_BATCH blocks: all slot lines are on their way before the first is needed, and so are
 * those behind the full ones.
 */
static int insert_batch(struct index *ix, uint32_t segment, const struct block_info *blocks,
                        unsigned n, uint64_t *inserted)
{
    uint8_t first[SLOTS_TABLES], next[MANY_BATCH];
    uint64_t hash[MANY_BATCH];
    slot *home[MANY_BATCH];
    unsigned t, i, done = 0;
    bool counted;
    int r = 0;

    memset(first, MANY_BATCH, sizeof first);
    for (i = n; i--;) {
        hash[i] = slots_hash(blocks[i].key, 0);
        t = slots_table(hash[i]);
        next[i] = first[t];
        first[t] = (uint8_t)i;
        home[i] = slots_home(&ix->slots, t, hash[i]);
        __builtin_prefetch((const void *)home[i], 1);
    }
    for (i = n; i--;) {
        if (!line_empty(home[i]))
            __builtin_prefetch((const void *)line_after(home[i]), 1);
    }
    counted = blocks_count(ix, n);
    for (t = 0; t < SLOTS_TABLES; t++) {
        if (first[t] == MANY_BATCH)
            continue;
        (void)pthread_mutex_lock(&ix->slots.table[t].lock);
        for (i = first[t]; i != MANY_BATCH; i = next[i]) {
            int one = !block_valid(segment, &blocks[i]) ? -EINVAL
                      : counted ? insert_locked(ix, t, hash[i], segment, &blocks[i])
                                : insert_counted(ix, t, hash[i], segment, &blocks[i]);

            done += one == 0;
            r = r || one == -EEXIST ? r : one;
        }
        (void)pthread_mutex_unlock(&ix->slots.table[t].lock);
    }
    if (counted && done < n)
        (void)order_add(&ix->blocks, (uint64_t)done - n);
    *inserted += done;
    return r;
}

static int append_batch(struct index *ix, uint32_t segment, const struct block_info *blocks,
                        unsigned n, uint64_t *inserted)
{
    int r = 0, one;
    unsigned i;

    for (i = 0; i < n; i++) {
        one = block_valid(segment, &blocks[i]) ? bulk_append(ix, segment, &blocks[i]) : -EINVAL;
        *inserted += one == 0;
        r = r ? r : one;
    }
    return r;
}

int index_insert_many(struct index *ix, uint32_t segment, const struct block_info *blocks, size_t n,
                      uint64_t *inserted)
{
    uint64_t count = 0;
    int r = 0;

    while (n) {
        unsigned some = n < MANY_BATCH ? (unsigned)n : MANY_BATCH;
        int one = ix->bulk ? append_batch(ix, segment, blocks, some, &count)
                           : insert_batch(ix, segment, blocks, some, &count);

        r = r ? r : one;
        blocks += some;
        n -= some;
    }
    if (inserted)
        *inserted = count;
    return r;
}

/* ---- Remove ---- */

bool index_remove_copy(struct index *ix, const cistern_key *key, uint32_t segment, uint32_t offset)
{
    uint64_t hash = slots_hash(key->b, 0);
    unsigned t = slots_table(hash);
    uint32_t number, newer = 0, older;
    slot *at = NULL;

    (void)pthread_mutex_lock(&ix->slots.table[t].lock);
    number = key_slot(ix, t, hash, key->b, &at);
    while (number && !copy_is(entry_at(ix, number), segment, offset)) {
        newer = number;
        number = older_of(entry_at(ix, number));
    }
    if (number) {
        older = older_of(entry_at(ix, number));
        if (newer)
            entry_set_older(entry_at(ix, newer), older);
        else if (older)
            order_publish(at, hash >> INDEX_PAYLOAD << INDEX_PAYLOAD | older);
        else
            slots_erase(&ix->slots, t, at);
        slots_raise(&ix->slots, t);
        entry_free(ix, t, number);
        (void)order_add(&ix->blocks, (uint64_t)-1);
    }
    (void)pthread_mutex_unlock(&ix->slots.table[t].lock);
    return number != 0;
}
