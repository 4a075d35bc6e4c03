/*
 * toc_fixture.h - contents in memory for the tests of src/segment: a file that grows by batches,
 * the blocks that were written, and a sink that remembers what a parse gave.
 */
#ifndef TEST_TOC_FIXTURE_H
#define TEST_TOC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/le.h"
#include "segment/toc.h"

#define FILE_BYTES  (256u << 10)
#define BLOCKS_MAX  4096u
#define BATCH_BYTES (64u << 10)

static const uint8_t segment_a[16] = "segment-a......";

/* SplitMix64: a seed gives the same numbers everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline uint64_t below(uint64_t *state, uint64_t n)
{
    return next_random(state) % n;
}

struct toc_file {
    uint8_t *bytes; /* FILE_BYTES; the header page stays zero */
    struct toc_writer writer;
    struct block_info written[BLOCKS_MAX];
    size_t blocks;
    uint64_t data; /* bytes of the data file given out */
};

static inline struct toc_file *file_new(void)
{
    struct toc_file *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->bytes = calloc(1, FILE_BYTES);
    assert_non_null(f->bytes);
    toc_writer_init(&f->writer, segment_a);
    return f;
}

static inline void file_free(struct toc_file *f)
{
    free(f->bytes);
    free(f);
}

/* A block with all that a number decides, at the end of the data. */
static inline struct block_info block_make(struct toc_file *f, uint64_t n, uint16_t mask)
{
    struct block_info b = {.mask = mask, .depth = (uint32_t)n};
    uint64_t seed = n;
    unsigned i;

    for (i = 0; i < 4; i++)
        le64_store(b.key + 8 * i, next_random(&seed));
    b.parts = (uint8_t)__builtin_popcount(mask);
    for (i = 0; i < b.parts; i++) {
        b.length[i] = 1 + (uint32_t)below(&seed, 100000);
        b.check[i] = next_random(&seed);
    }
    b.offset = (uint32_t)(f->data / FORMAT_PAGE);
    f->data += block_extent(&b);
    return b;
}

static inline uint16_t random_mask(uint64_t *seed)
{
    uint16_t mask = below(seed, 2) ? 1 : (uint16_t)next_random(seed);

    return mask ? mask : 0x8001;
}

/* One batch of n blocks; max_mask limits nothing: masks come from the seed. Written where it goes.
 */
static inline void file_batch(struct toc_file *f, size_t n, uint64_t *seed)
{
    static _Alignas(64) uint8_t buf[BATCH_BYTES];
    struct toc_batch batch;
    size_t i;

    memset(buf, 0xee, sizeof buf);
    toc_batch_begin(&batch, &f->writer, buf, sizeof buf);
    for (i = 0; i < n; i++) {
        struct block_info b = block_make(f, f->blocks, random_mask(seed));

        assert_true(f->blocks < BLOCKS_MAX);
        assert_int_equal(toc_batch_block(&batch, &b), 0);
        f->written[f->blocks++] = b;
    }
    toc_batch_end(&batch, f->data, 1700000000);
    assert_true(f->writer.position <= FILE_BYTES);
    memcpy(f->bytes + batch.start, buf, batch.used);
}

/* Several batches of several blocks until there are at least `blocks`. */
static inline void file_fill(struct toc_file *f, size_t blocks, uint64_t *seed)
{
    while (f->blocks < blocks)
        file_batch(f, 1 + below(seed, 9), seed);
}

struct seen {
    struct block_info blocks[BLOCKS_MAX];
    size_t n, dead, asides;
    uint8_t last_key[32], last_segment[16], last_reason;
    uint32_t last_offset;
};

static inline int seen_block(void *arg, const struct block_info *b)
{
    struct seen *s = arg;
    unsigned i;

    assert_true(s->n < BLOCKS_MAX);
    /* only what is said to be valid may be looked at */
    s->blocks[s->n] = (struct block_info){
        .offset = b->offset, .depth = b->depth, .mask = b->mask, .parts = b->parts};
    memcpy(s->blocks[s->n].key, b->key, 32);
    for (i = 0; i < b->parts; i++) {
        s->blocks[s->n].length[i] = b->length[i];
        s->blocks[s->n].check[i] = b->check[i];
    }
    s->n++;
    return 0;
}

static inline int seen_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16],
                            uint32_t offset, uint8_t reason)
{
    struct seen *s = arg;

    s->dead++;
    memcpy(s->last_key, key, 32);
    memcpy(s->last_segment, segment_id, 16);
    s->last_offset = offset;
    s->last_reason = reason;
    return 0;
}

static inline int seen_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    struct seen *s = arg;

    s->asides++;
    memcpy(s->last_segment, segment_id, 16);
    s->last_reason = reason;
    return 0;
}

static inline struct toc_sink seen_sink(struct seen *s)
{
    memset(s, 0, sizeof *s);
    return (struct toc_sink){.block = seen_block, .dead = seen_dead, .aside = seen_aside, .arg = s};
}

/* Field by field: block_info has padding. */
static inline int same_block(const struct block_info *a, const struct block_info *b)
{
    return memcmp(a->key, b->key, 32) == 0 && a->offset == b->offset && a->depth == b->depth &&
           a->mask == b->mask && a->parts == b->parts &&
           memcmp(a->length, b->length, 4u * a->parts) == 0 &&
           memcmp(a->check, b->check, 8u * a->parts) == 0;
}

/* What was given is the beginning of what was written. */
static inline int seen_prefix(const struct seen *s, const struct toc_file *f)
{
    size_t i;

    if (s->n > f->blocks)
        return 0;
    for (i = 0; i < s->n; i++) {
        if (!same_block(&s->blocks[i], &f->written[i]))
            return 0;
    }
    return 1;
}

/* Makes the frame at `at` valid again after its bytes were changed. */
static inline void frame_reseal(uint8_t *bytes, size_t at)
{
    uint8_t *h = bytes + at;
    size_t len =
        (size_t)FORMAT_RECORD * (1u + le16_load(h + offsetof(struct frame_header, records)));

    le64_store(h + offsetof(struct frame_header, checksum), 0);
    le64_store(h + offsetof(struct frame_header, checksum), hash64(h, len));
}

#endif
