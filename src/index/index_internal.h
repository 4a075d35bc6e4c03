/*
 * index_internal.h - entries, and what the files of the index share.
 *
 * An entry is one cache line of eight words. Entries have numbers from 1; 0 is none. A number that
 * a table's allocator took belongs to that table for ever.
 *
 *   block   0-3 key   4 check   5 offset | length << 32   6 segment | depth << 32   7 see below
 *   parts   0-3 check of four parts   4-5 their lengths   6 unused                  7 see below
 *   word 7  link | mask << 32 | kind << 48 | use << 56
 *
 * A block of one part has its check and length in its entry. A block of several has them all in
 * parts entries; its `length` is then the number of the first one. Links: of a block, to the next
 * older copy of its key; of a parts entry, to the next one; of a free entry, to the next free one.
 */
#ifndef INDEX_INDEX_INTERNAL_H
#define INDEX_INDEX_INTERNAL_H

#include "index/index.h"
#include "index/slots.h"

#define INDEX_PAYLOAD   32u /* bits of a slot that are an entry's number */
#define ENTRY_WORDS     8u
#define ENTRY_CHUNK     8u /* entries that a table takes from the row at once */
#define ENTRY_PAGE      64u
#define ENTRY_PARTS     4u
#define ENTRY_MAX       (1 + FORMAT_MAX_PARTS / ENTRY_PARTS)
#define ENTRY_HUGE_FROM ((size_t)128 << 20)

enum { WORD_CHECK = 4, WORD_PLACE = 5, WORD_SEGMENT = 6, WORD_KIND = 7 };
enum { ENTRY_FREE = 0, ENTRY_BLOCK = 1, ENTRY_PARTS_OF = 2 };

struct entry {
    _Alignas(64) _Atomic uint64_t word[ENTRY_WORDS];
};
_Static_assert(sizeof(struct entry) == 64, "an entry is a cache line");

/* Where a table gets entries from. Guarded by the lock of the table with the same number. */
struct entry_pool {
    uint32_t free;      /* first of the freed ones; 0 = none */
    uint32_t next, end; /* the rest of the chunk taken last */
};

struct index {
    struct slots slots; /* payload: number of the newest copy's entry */
    struct entry *entries;
    uint64_t capacity;         /* entries */
    _Atomic uint64_t *filter;  /* per 64 entries: bit (segment % 64) is set if one may lie there */
    pthread_mutex_t drop_lock; /* before all table locks: removal of segments, walks */
    uint64_t max_blocks;
    bool bulk; /* between index_bulk_begin() and index_bulk_end() */
    struct entry_pool pool[SLOTS_TABLES];
    _Alignas(64) _Atomic uint64_t blocks;
    _Atomic uint64_t row;     /* entries given out to tables */
    _Atomic uint64_t settled; /* 0 until index_settle() had something to do */
};

static inline struct entry *entry_at(const struct index *ix, uint64_t number)
{
    return &ix->entries[number - 1];
}

static inline uint32_t word_low(uint64_t w)
{
    return (uint32_t)w;
}

static inline uint32_t word_high(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

static inline uint64_t word_pair(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

static inline unsigned word_kind(uint64_t w)
{
    return (unsigned)(w >> 48) & 0xff;
}

static inline uint16_t word_mask(uint64_t w)
{
    return (uint16_t)(w >> 32);
}

/* When the block was last used: index_use(). */
static inline uint8_t word_use(uint64_t w)
{
    return (uint8_t)(w >> 56);
}

/* Bits of a mask; nearly always there is one. */
static inline unsigned mask_parts(uint16_t mask)
{
    unsigned rest, n = 0;

    for (rest = mask; rest; rest &= rest - 1)
        n++;
    return n;
}

static inline bool entry_has_key(const struct entry *e, const uint8_t key[32])
{
    uint64_t k[4];

    memcpy(k, key, sizeof k);
    return ((order_read(&e->word[0]) ^ k[0]) | (order_read(&e->word[1]) ^ k[1]) |
            (order_read(&e->word[2]) ^ k[2]) | (order_read(&e->word[3]) ^ k[3])) == 0;
}

/* index.c; the lock of table t is held. */
/* The slot of a key, and its newest entry's number; 0: none, and room for it. */
uint32_t key_slot(const struct index *ix, unsigned t, uint64_t hash, const uint8_t key[32],
                  slot **at);
/* The copy that lies there, of the newest and those below it; 0: none. */
uint32_t key_copy(const struct index *ix, uint32_t newest, uint32_t segment, uint32_t offset);
/* Puts a filled entry on top of `newest`, which with `at` is what key_slot() said. False: no room.
 */
bool key_link(struct index *ix, unsigned t, uint64_t hash, slot *at, uint32_t newest,
              uint32_t number);
/* Counts n blocks. False: beyond max_blocks; nothing was counted. */
bool blocks_count(struct index *ix, uint64_t n);

/* bulk.c */
int bulk_append(struct index *ix, uint32_t segment, const struct block_info *b) MUST_CHECK;

/* entry.c; under the lock of table t. 0: no room. */
uint32_t entry_make(struct index *ix, unsigned t, uint32_t segment, const struct block_info *b,
                    uint32_t older);
void entry_free(struct index *ix, unsigned t, uint32_t number);
void entry_set_older(struct entry *e, uint32_t older);
/* Copies a block. What it says is good only if nothing changed meanwhile; it is memory-safe always.
 */
void entry_load(const struct index *ix, const struct entry *e, struct index_place *out);

#endif
