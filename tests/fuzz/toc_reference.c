/*
 * toc_reference.c - see toc_reference.h. Offsets are written as numbers, as docs/FORMAT.md has
 * them, so that a wrong one in the library's header is noticed.
 */
#include "toc_reference.h"

#include "base/le.h"

enum { PAGE = 4096, UNIT = 64, GOOD = 100 };

struct toc_event *toc_log_add(struct toc_log *log, uint8_t kind)
{
    if (log->count == log->room) {
        log->room = log->room ? 2 * log->room : 64;
        log->at = realloc(log->at, log->room * sizeof *log->at);
        if (!log->at)
            abort();
    }
    memset(&log->at[log->count], 0, sizeof *log->at);
    log->at[log->count].kind = kind;
    return &log->at[log->count++];
}

void toc_log_free(struct toc_log *log)
{
    free(log->at);
    *log = (struct toc_log){0};
}

static int sink_block(void *arg, const struct block_info *b)
{
    struct block_info *own = &toc_log_add(arg, RECORD_BLOCK)->block;
    unsigned i;

    toc_block_check(b);
    memcpy(own->key, b->key, sizeof own->key);
    own->offset = b->offset;
    own->depth = b->depth;
    own->mask = b->mask;
    own->parts = b->parts;
    for (i = 0; i < b->parts; i++) { /* what is behind them says nothing */
        own->length[i] = b->length[i];
        own->check[i] = b->check[i];
    }
    return 0;
}

static int sink_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16],
                     uint32_t offset, uint8_t reason)
{
    struct toc_event *e = toc_log_add(arg, RECORD_DEAD);

    memcpy(e->block.key, key, 32);
    memcpy(e->segment_id, segment_id, 16);
    e->block.offset = offset;
    e->reason = reason;
    return 0;
}

static int sink_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    struct toc_event *e = toc_log_add(arg, RECORD_ASIDE);

    memcpy(e->segment_id, segment_id, 16);
    e->reason = reason;
    return 0;
}

struct toc_sink toc_log_sink(struct toc_log *log)
{
    return (struct toc_sink){
        .block = sink_block, .dead = sink_dead, .aside = sink_aside, .arg = log};
}

void toc_log_take_cursor(struct toc_log *log, const struct toc_cursor *c, int end)
{
    log->position = c->position;
    log->number = c->number;
    log->data_end = c->data_end;
    log->end = end;
}

void toc_logs_equal(const struct toc_log *a, const struct toc_log *b)
{
    FUZZ_CHECK(a->count == b->count);
    if (a->count)
        FUZZ_CHECK(memcmp(a->at, b->at, a->count * sizeof *a->at) == 0);
    FUZZ_CHECK(a->position == b->position);
    FUZZ_CHECK(a->number == b->number);
    FUZZ_CHECK(a->data_end == b->data_end);
}

void toc_block_check(const struct block_info *b)
{
    unsigned i;

    FUZZ_CHECK(b->parts >= 1 && b->parts <= 16);
    FUZZ_CHECK(__builtin_popcount(b->mask) == b->parts);
    for (i = 0; i < b->parts; i++)
        FUZZ_CHECK(b->length[i] >= 1 && b->length[i] <= 1u << 30);
}

static bool zeros(const uint8_t *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (p[i])
            return false;
    }
    return true;
}

/* Records that a block takes with the one at r, or 0 when it makes no sense. */
static unsigned block_read(const uint8_t *r, unsigned left, uint64_t data_end, struct block_info *b)
{
    unsigned parts = r[49], mask = le16_load(r + 50), more = (parts + 2) / 4, i;
    uint64_t end = (uint64_t)le32_load(r + 40) * PAGE;

    if (parts < 1 || parts > 16 || (unsigned)__builtin_popcount(mask) != parts || more >= left)
        return 0;
    memcpy(b->key, r, 32);
    b->offset = le32_load(r + 40);
    b->depth = le32_load(r + 52);
    b->mask = (uint16_t)mask;
    b->parts = (uint8_t)parts;
    for (i = 0; i < parts; i++) {
        const uint8_t *c = r + UNIT * ((i + 3) / 4);
        unsigned slot = (i + 3) % 4, here = parts - i < 4 ? parts - i : 4;

        if (i > 0 && slot == 0 && (c[48] != 2 || c[49] != here))
            return 0;
        b->check[i] = le64_load(i ? c + 8 * slot : r + 32);
        b->length[i] = le32_load(i ? c + 32 + 4 * slot : r + 44);
        if (b->length[i] < 1 || b->length[i] > 1u << 30)
            return 0;
        end += ((uint64_t)b->length[i] + PAGE - 1) / PAGE * PAGE;
    }
    return end <= data_end ? 1 + more : 0;
}

/* All records of a frame into the log; false: one makes no sense, and nothing was added. */
static bool records_read(const uint8_t *r, unsigned n, uint64_t data_end, struct toc_log *log)
{
    size_t before = log->count;
    unsigned i = 0, taken;
    struct toc_event *e;

    for (; i < n; i += taken, r += UNIT * taken) {
        taken = 1;
        if (r[48] == 1) {
            taken = block_read(r, n - i, data_end, &toc_log_add(log, RECORD_BLOCK)->block);
        } else if (r[48] == 3 || r[48] == 4) {
            e = toc_log_add(log, r[48]);
            memcpy(e->segment_id, r + 32, 16);
            e->reason = r[49];
            if (r[48] == 3) {
                memcpy(e->block.key, r, 32);
                e->block.offset = le32_load(r + 52);
            }
        } else if (r[48] == 0 || r[48] == 2) {
            taken = 0;
        }
        if (!taken) {
            log->count = before;
            return false;
        }
    }
    return true;
}

/* The frame that should be at p; its bytes, or how the contents end. */
static int frame_read(const uint8_t *p, size_t left, const uint8_t segment_id[16], uint64_t at,
                      struct toc_log *log, size_t *bytes)
{
    unsigned n;

    if (left < UNIT || memcmp(p, "CFRM", 4) != 0)
        return TOC_TORN;
    n = le16_load(p + 4);
    *bytes = UNIT * (1 + (size_t)n);
    if (n < 1 || n > 63 || at % PAGE + *bytes > PAGE || *bytes > left)
        return TOC_TORN;
    if (le64_load(p + 56) != fuzz_checksum(p, *bytes, 56) || le64_load(p + 8) != log->number ||
        le64_load(p + 16) != at || memcmp(p + 24, segment_id, 16) != 0)
        return TOC_TORN;
    if (le16_load(p + 6))
        return TOC_LATER;
    if (!records_read(p + UNIT, n, le64_load(p + 40), log))
        return TOC_TORN;
    log->data_end = le64_load(p + 40);
    return GOOD;
}

void toc_reference(const uint8_t *bytes, size_t len, uint64_t position, uint64_t number,
                   const uint8_t segment_id[16], struct toc_log *log)
{
    const uint8_t *p = bytes, *end = bytes + len;
    size_t taken = 0, rest;

    log->position = position;
    log->number = number;
    for (;;) {
        size_t left = (size_t)(end - p), skip = 0;

        if (zeros(p, left)) {
            log->end = TOC_END;
            return;
        }
        rest = PAGE - log->position % PAGE;
        if (left >= UNIT && le32_load(p) == 0 && rest < PAGE && rest <= left && zeros(p, rest))
            skip = rest;
        log->end = frame_read(p + skip, left - skip, segment_id, log->position + skip, log, &taken);
        if (log->end != GOOD)
            return;
        p += skip + taken;
        log->position += skip + taken;
        log->number++;
    }
}

void toc_repair(uint8_t *bytes, size_t len, uint64_t position, const uint8_t segment_id[16],
                unsigned how)
{
    uint64_t number = 0;
    size_t at = 0;

    while (len - at >= UNIT) {
        uint8_t *p = bytes + at;
        size_t room = PAGE - (position + at) % PAGE, n = le16_load(p + 4);

        if (room > len - at || (how & 8))
            room = (len - at) / UNIT * UNIT;
        if ((how & 2) && !zeros(p, UNIT)) {
            memcpy(p, "CFRM", 4);
            if (room / UNIT > 1 && (n < 1 || n >= room / UNIT))
                le16_store(p + 4, (uint16_t)(n = 1 + n % (room / UNIT - 1)));
            le64_store(p + 8, number);
            le64_store(p + 16, position + at);
            memcpy(p + 24, segment_id, 16);
        }
        if (memcmp(p, "CFRM", 4) != 0 || n < 1 || UNIT * (1 + n) > room) {
            at += UNIT;
            continue;
        }
        if (how & 3)
            le64_store(p + 56, fuzz_checksum(p, UNIT * (1 + n), 56));
        number++;
        at += UNIT * (1 + n);
    }
}
