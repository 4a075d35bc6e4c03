/*
 * audit.c - the other side of the disk boundary: every frame on its way to contents is read as a
 * reader would, and each block that it names must lie in the data file already, whole. And damage
 * that knows the format.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/hash.h"
#include "segment/toc.h"
#include "world.h"

struct frame_at {
    struct frame_header h;
    const uint8_t *records;
};

/* The next frame at or behind *at in bytes that begin at `offset` of the file. */
static bool next_frame(const uint8_t *bytes, size_t len, uint64_t offset, size_t *at,
                       struct frame_at *f)
{
    while (*at + sizeof f->h <= len) {
        memcpy(&f->h, bytes + *at, sizeof f->h);
        if (f->h.magic == FORMAT_FRAME_MAGIC && f->h.position == offset + *at &&
            *at + sizeof f->h + (size_t)f->h.records * FORMAT_RECORD <= len) {
            f->records = bytes + *at + sizeof f->h;
            *at += sizeof f->h + (size_t)f->h.records * FORMAT_RECORD;
            return true;
        }
        *at += FORMAT_PAGE - (offset + *at) % FORMAT_PAGE;
    }
    return false;
}

static void data_path(const char *toc, char out[1024])
{
    (void)snprintf(out, 1024, "%.*sseg", (int)strlen(toc) - 3, toc);
}

/* Whether part `nth` of the block lies in the data file as the record says. */
static bool part_there(struct world *w, const char *data, const struct toc_header *h,
                       const struct block_record *b, uint32_t part, uint64_t at, uint32_t length,
                       uint64_t check)
{
    struct check_identity id = {.offset = at, .length = length, .part = part};
    uint8_t *bytes = malloc(length);
    bool good = bytes && simfs_peek(w->fs, data, at, bytes, length) == (int64_t)length;

    memcpy(id.space, h->space, sizeof id.space);
    memcpy(id.segment_id, h->segment_id, sizeof id.segment_id);
    memcpy(id.key, b->key, sizeof id.key);
    good = good && format_check(&id, hash64(bytes, length)) == check;
    free(bytes);
    return good;
}

/* Counts the frame for the block that it names. */
static void note_frame(struct world *w, const struct toc_header *h, const struct block_record *b)
{
    cistern_key key;
    uint32_t k;

    for (k = 0; k < KEYS && h->shard < SHARDS; k++) {
        world_key(k, &key);
        w->blocks[h->shard][k].framed += memcmp(key.b, b->key, sizeof key.b) == 0;
    }
}

static void audit_block(struct world *w, const char *toc, const struct toc_header *h,
                        const uint8_t *record)
{
    struct block_record b;
    struct parts_record more;
    uint32_t part, n = 0;
    uint64_t at;
    char data[1024];

    memcpy(&b, record, sizeof b);
    note_frame(w, h, &b);
    data_path(toc, data);
    at = (uint64_t)b.offset * FORMAT_PAGE;
    for (part = 0; part < FORMAT_MAX_PARTS; part++) {
        uint32_t length = b.length;
        uint64_t check = b.check;

        if (!(b.mask & (1u << part)))
            continue;
        if (n) {
            memcpy(&more, record + FORMAT_RECORD * (1 + (n - 1) / FORMAT_CONT_PARTS), sizeof more);
            length = more.length[(n - 1) % FORMAT_CONT_PARTS];
            check = more.check[(n - 1) % FORMAT_CONT_PARTS];
        }
        if (!part_there(w, data, h, &b, part, at, length, check)) {
            simfs_violate(w->fs, "%s: a frame names a block at %llu whose payload is not there",
                          toc, (unsigned long long)at);
            return;
        }
        at += (length + FORMAT_PAGE - 1) / FORMAT_PAGE * FORMAT_PAGE;
        n++;
    }
}

/* What was published before is never written again with other bytes. */
static void audit_rewrite(struct world *w, const char *path, uint64_t offset, const uint8_t *bytes,
                          size_t len)
{
    uint8_t *old = malloc(len);
    int64_t had = old ? simfs_peek(w->fs, path, offset, old, len) : 0;
    int64_t i;

    for (i = 0; i < had; i++) {
        if (old[i] && old[i] != bytes[i]) {
            simfs_violate(w->fs, "%s: published bytes at %llu are written again", path,
                          (unsigned long long)(offset + (uint64_t)i));
            break;
        }
    }
    free(old);
}

static void audit_write(void *arg, const char *path, uint64_t offset, const uint8_t *bytes,
                        size_t len)
{
    struct world *w = arg;
    struct toc_header h;
    struct frame_at f;
    size_t n = strlen(path), at = offset ? 0 : FORMAT_PAGE;
    uint32_t i;

    if (n < 4 || strcmp(path + n - 4, ".toc") != 0 || w->rotted)
        return;
    audit_rewrite(w, path, offset, bytes, len);
    if (!offset)
        memcpy(&h, bytes, sizeof h);
    else if (simfs_peek(w->fs, path, 0, &h, sizeof h) != sizeof h)
        return;
    while (next_frame(bytes, len, offset, &at, &f)) {
        for (i = 0; i < f.h.records; i++) {
            const uint8_t *record = f.records + (size_t)i * FORMAT_RECORD;

            if (record[offsetof(struct block_record, kind)] == RECORD_BLOCK)
                audit_block(w, path, &h, record);
        }
    }
}

static void audit_collect(struct world *w, const char *path, uint64_t after_ns)
{
    w->collected++;
    if (w->watch_grace && after_ns < w->grace_ns)
        simfs_violate(w->fs, "%s goes %llu ms after its contents: readers may use it", path,
                      (unsigned long long)(after_ns / NS_PER_MS));
}

/* Eviction: contents first, data not before the grace is over. */
static void audit_unlink(void *arg, const char *path)
{
    struct world *w = arg;
    size_t n = strlen(path);
    uint8_t page[8];
    uint32_t i;

    if (n > 4 && strcmp(path + n - 4, ".toc") == 0) {
        if (simfs_peek(w->fs, path, FORMAT_PAGE, page, sizeof page) <= 0)
            return;
        i = w->nevicted++ % ARRAY_LEN(w->evicted);
        (void)snprintf(w->evicted[i].path, sizeof w->evicted[i].path, "%.*sseg", (int)n - 3, path);
        w->evicted[i].at = clock_ns();
        (void)atomic_fetch_add(&w->evictions, 1);
    } else if (n > 4 && strcmp(path + n - 4, ".seg") == 0) {
        for (i = 0; i < ARRAY_LEN(w->evicted); i++) {
            if (strcmp(w->evicted[i].path, path) == 0)
                audit_collect(w, path, clock_ns() - w->evicted[i].at);
        }
    }
}

void audit_attach(struct world *w)
{
    simfs_set_audit(w->fs,
                    &(struct sim_audit){.write = audit_write, .unlink = audit_unlink, .arg = w});
}

/* ---- Damage ---- */

struct pick {
    struct world *w;
    const char *suffix;
    char path[1024];
    uint64_t seen;
    bool done;
};

static void pick_one(void *arg, const char *path)
{
    struct pick *p = arg;

    if (world_random(p->w, ++p->seen) == 0)
        (void)snprintf(p->path, sizeof p->path, "%s", path);
}

bool damage_flip(struct world *w, const char *suffix)
{
    struct pick p = {.w = w};
    uint8_t *bytes = malloc(1 << 20), byte;
    int64_t n = 0;
    uint64_t at;

    simfs_each(w->fs, suffix, pick_one, &p);
    if (p.path[0] && bytes)
        n = simfs_peek(w->fs, p.path, 0, bytes, 1 << 20);
    if (n > 0) {
        w->rotted = true;
        at = world_random(w, (uint64_t)n);
        byte = (uint8_t)(bytes[at] ^ (1u << world_random(w, 8)));
        (void)simfs_poke(w->fs, p.path, at, &byte, 1);
    }
    free(bytes);
    return n > 0;
}

/* Swaps the keys of two one- or two-record blocks of equal shape and seals the frame again. */
static bool swap_in_frame(uint8_t *frame)
{
    struct frame_header h;
    uint8_t *first = NULL, *r, key[32];
    uint32_t i;

    memcpy(&h, frame, sizeof h);
    for (i = 0; i < h.records; i++) {
        r = frame + sizeof h + (size_t)i * FORMAT_RECORD;
        if (r[offsetof(struct block_record, kind)] != RECORD_BLOCK)
            continue;
        if (!first) {
            first = r;
            continue;
        }
        memcpy(key, first, sizeof key);
        memcpy(first, r, sizeof key);
        memcpy(r, key, sizeof key);
        h.checksum = 0;
        memcpy(frame, &h, sizeof h);
        h.checksum = hash64(frame, sizeof h + (size_t)h.records * FORMAT_RECORD);
        memcpy(frame, &h, sizeof h);
        return true;
    }
    return false;
}

static void swap_one(void *arg, const char *path)
{
    struct pick *p = arg;
    uint8_t *bytes = malloc(1 << 20);
    int64_t n = bytes ? simfs_peek(p->w->fs, path, 0, bytes, 1 << 20) : 0;
    size_t at = FORMAT_PAGE, before = at;
    struct frame_at f;

    while (n > 0 && !p->done && next_frame(bytes, (size_t)n, 0, &at, &f)) {
        before = (size_t)(f.records - bytes) - sizeof f.h;
        if (!swap_in_frame(bytes + before))
            continue;
        p->done = p->w->rotted = true;
        (void)simfs_poke(p->w->fs, path, before, bytes + before, at - before);
    }
    free(bytes);
}

bool damage_swap_keys(struct world *w)
{
    struct pick p = {.w = w};

    simfs_each(w->fs, ".toc", swap_one, &p);
    return p.done;
}
