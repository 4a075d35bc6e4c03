/* index_fixture.h - keys, blocks and random numbers for the tests of the index. */
#ifndef TESTS_INDEX_FIXTURE_H
#define TESTS_INDEX_FIXTURE_H

#include <string.h>

#include "index/index.h"

static inline uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

/* A sequence of its own for every seed. */
static inline uint64_t random_next(uint64_t *seed)
{
    return scramble(*seed += 0x9e3779b97f4a7c15ull);
}

static inline cistern_key key_number(uint64_t i)
{
    uint64_t w[4];
    cistern_key key;
    unsigned k;

    for (k = 0; k < 4; k++)
        w[k] = scramble(4 * i + k + 1);
    memcpy(key.b, w, sizeof w);
    return key;
}

/* Every field follows from key, segment, offset and mask, so that a torn or mistaken one shows. */
static inline struct block_info block_of(const cistern_key *key, uint32_t segment, uint32_t offset,
                                         uint16_t mask)
{
    struct block_info b = {.offset = offset, .mask = mask};
    uint64_t seed;
    unsigned i;

    memcpy(b.key, key->b, sizeof b.key);
    memcpy(&seed, key->b + 24, sizeof seed);
    seed ^= (uint64_t)segment << 32 ^ offset;
    b.depth = (uint32_t)scramble(seed);
    b.parts = (uint8_t)__builtin_popcount(mask);
    for (i = 0; i < b.parts; i++) {
        b.check[i] = random_next(&seed);
        b.length[i] = 1 + (uint32_t)(random_next(&seed) >> 34);
    }
    return b;
}

static inline int place_is_right(const struct index_place *p)
{
    struct block_info want;
    cistern_key key;

    memcpy(key.b, p->info.key, sizeof key.b);
    want = block_of(&key, p->segment, p->info.offset, p->info.mask);
    return p->info.parts == want.parts && p->info.depth == want.depth &&
           !memcmp(p->info.check, want.check, want.parts * sizeof want.check[0]) &&
           !memcmp(p->info.length, want.length, want.parts * sizeof want.length[0]);
}

#endif
