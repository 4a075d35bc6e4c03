/*
 * drop.c - what looks at all entries: removal of a segment, walks. Entries lie about in the order
 * of their insertion, so a segment's are close together; a filter word for every 64 entries tells
 * where to look, and is made exact again where something was removed. Only one such operation runs
 * at a time; a removal holds a table's lock for one entry at a time, a walk holds all.
 */
#include "index/index_internal.h"

static void lock_all(struct index *ix)
{
    unsigned t;

    for (t = 0; t < SLOTS_TABLES; t++)
        (void)pthread_mutex_lock(&ix->slots.table[t].lock);
}

static void unlock_all(struct index *ix)
{
    unsigned t;

    for (t = SLOTS_TABLES; t--;)
        (void)pthread_mutex_unlock(&ix->slots.table[t].lock);
}

/* Pages of the row that were begun. */
static uint64_t row_pages(const struct index *ix)
{
    uint64_t row = order_peek(&ix->row);

    row = row < ix->capacity ? row : ix->capacity;
    return (row + ENTRY_PAGE - 1) / ENTRY_PAGE;
}

/* All locks held. */
static void filter_refresh(struct index *ix, uint64_t page)
{
    const struct entry *e = &ix->entries[page * ENTRY_PAGE];
    uint64_t bits = 0;
    unsigned i;

    for (i = 0; i < ENTRY_PAGE; i++) {
        if (word_kind(order_peek(&e[i].word[WORD_KIND])) == ENTRY_BLOCK)
            bits |= (uint64_t)1 << word_low(order_peek(&e[i].word[WORD_SEGMENT])) % 64;
    }
    order_publish(&ix->filter[page], bits);
}

/*
 * Looks without a lock: an entry that lies in the segment throughout reads the same throughout.
 * What reads torn is looked for and not found.
 */
static uint64_t page_remove(struct index *ix, uint64_t page, uint32_t segment)
{
    const struct entry *e = &ix->entries[page * ENTRY_PAGE];
    cistern_key keys[ENTRY_PAGE];
    uint32_t offset[ENTRY_PAGE];
    unsigned i, w, n = 0;
    uint64_t removed = 0;

    for (i = 0; i < ENTRY_PAGE; i++) {
        uint64_t key[4];

        if (word_kind(order_read(&e[i].word[WORD_KIND])) != ENTRY_BLOCK ||
            word_low(order_read(&e[i].word[WORD_SEGMENT])) != segment)
            continue;
        for (w = 0; w < 4; w++)
            key[w] = order_read(&e[i].word[w]);
        memcpy(keys[n].b, key, sizeof key);
        offset[n] = word_low(order_read(&e[i].word[WORD_PLACE]));
        index_prefetch(ix, &keys[n++]);
    }
    for (i = 0; i < n; i++)
        removed += index_remove_copy(ix, &keys[i], segment, offset[i]);
    return removed;
}

uint64_t index_remove_segment(struct index *ix, uint32_t segment)
{
    uint64_t bit = (uint64_t)1 << segment % 64, removed = 0, pages, page;

    (void)pthread_mutex_lock(&ix->drop_lock);
    pages = row_pages(ix);
    for (page = 0; page < pages; page++) {
        if (!(order_read(&ix->filter[page]) & bit))
            continue;
        removed += page_remove(ix, page, segment);
        lock_all(ix);
        filter_refresh(ix, page);
        unlock_all(ix);
    }
    (void)pthread_mutex_unlock(&ix->drop_lock);
    return removed;
}

/* Loads the copy of a key that lies there, exactly; false: it is gone. */
static bool copy_load(struct index *ix, const cistern_key *key, uint32_t segment, uint32_t offset,
                      struct index_place *out, bool *others)
{
    uint64_t hash = slots_hash(key->b, 0);
    unsigned t = slots_table(hash);
    uint32_t newest, number;
    slot *at = NULL;

    (void)pthread_mutex_lock(&ix->slots.table[t].lock);
    newest = key_slot(ix, t, hash, key->b, &at);
    number = key_copy(ix, newest, segment, offset);
    if (number) {
        entry_load(ix, entry_at(ix, number), out);
        *others = number != newest || word_low(order_peek(&entry_at(ix, number)->word[WORD_KIND]));
    }
    (void)pthread_mutex_unlock(&ix->slots.table[t].lock);
    return number != 0;
}

int index_walk_segment(struct index *ix, uint32_t segment,
                       int (*visit)(void *arg, const struct index_place *p, bool others), void *arg)
{
    uint64_t bit = (uint64_t)1 << segment % 64, pages, i, key[4];
    struct index_place place;
    cistern_key k;
    bool others;
    unsigned w;
    int r = 0;

    (void)pthread_mutex_lock(&ix->drop_lock);
    pages = row_pages(ix);
    for (i = 0; i < pages * ENTRY_PAGE && !r; i++) {
        const struct entry *e = &ix->entries[i];

        if (i % ENTRY_PAGE == 0 && !(order_read(&ix->filter[i / ENTRY_PAGE]) & bit)) {
            i += ENTRY_PAGE - 1;
            continue;
        }
        if (word_kind(order_read(&e->word[WORD_KIND])) != ENTRY_BLOCK ||
            word_low(order_read(&e->word[WORD_SEGMENT])) != segment)
            continue;
        for (w = 0; w < 4; w++)
            key[w] = order_read(&e->word[w]);
        memcpy(k.b, key, sizeof key);
        if (copy_load(ix, &k, segment, word_low(order_read(&e->word[WORD_PLACE])), &place, &others))
            r = visit(arg, &place, others);
    }
    (void)pthread_mutex_unlock(&ix->drop_lock);
    return r;
}

int index_walk(struct index *ix, int (*visit)(void *arg, const struct index_place *p), void *arg)
{
    uint64_t pages, i;
    int r = 0;

    (void)pthread_mutex_lock(&ix->drop_lock);
    lock_all(ix);
    pages = row_pages(ix);
    for (i = 0; !r && i < pages * ENTRY_PAGE; i++) {
        const struct entry *e = &ix->entries[i];
        struct index_place place;

        if (word_kind(order_peek(&e->word[WORD_KIND])) != ENTRY_BLOCK)
            continue;
        entry_load(ix, e, &place);
        r = visit(arg, &place);
    }
    unlock_all(ix);
    (void)pthread_mutex_unlock(&ix->drop_lock);
    return r;
}
