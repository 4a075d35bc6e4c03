/*
 * checks.c - what must hold in a scenario: after every step, and on storage that works again.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/peers.h"
#include "segment/toc.h"
#include "pace.h"
#include "world.h"

#define IDLE_BYTE  0xc5
#define REST_NS    (30 * NS_PER_S)
#define NOTE_TRIES 3u
#define ENTRIES_GO (60 * SIM_S)
#define FLUSH_NS   (6 * NS_PER_S)
#define IDLE_SIZE  ((size_t)RUN_MAX * (KV_BYTES + TAIL_BYTES))

struct open_writers {
    struct simfs *fs;
    uint32_t count;
};

/* Memory that was declared free is as its owner left it. */
static void check_idle_memory(struct world *w)
{
    uint32_t i;

    for (i = 0; i < SLOTS; i++) {
        const struct slot *s = &w->slots[i];

        if (s->busy || s->waits_for_buffer)
            continue;
        if (s->bytes[0] != IDLE_BYTE || memcmp(s->bytes, s->bytes + 1, IDLE_SIZE - 1) != 0)
            world_wrong(w, "memory of an operation that was over has changed (slot %u)", i);
    }
}

static void count_open(void *arg, const char *path)
{
    struct open_writers *n = arg;
    uint8_t page[FORMAT_PAGE];
    struct head_record h;

    n->count += simfs_peek(n->fs, path, 0, page, sizeof page) != sizeof page ||
                head_decode(page, &h) || h.state != HEAD_CLOSED;
}

/* The capacity, plus one growing segment for each that writes or that ended without a word (what it
 * left is nobody's before it was silent long enough), plus what names and heads take. A store is
 * one writer, or two when it carries blocks over: the heads say. */
static void check_bound(struct world *w)
{
    uint64_t rest = w->capacity + (256 << 10), used = simfs_named(w->fs);
    struct open_writers open = {.fs = w->fs};
    uint32_t writers = STORES + w->crashes;

    w->bounded += w->evictions_seen != 0;
    if (used <= rest + writers * w->segment_bytes)
        return;
    simfs_each(w->fs, ".head", count_open, &open);
    writers = open.count > writers ? open.count : writers;
    if (used > rest + writers * w->segment_bytes)
        world_wrong(w, "%llu KiB are used, the bound is %llu KiB with %u writers",
                    (unsigned long long)used >> 10,
                    (unsigned long long)(rest + writers * w->segment_bytes) >> 10, writers);
}

void check_step(struct world *w)
{
    const char *finding = simfs_violation(w->fs);

    check_idle_memory(w);
    (void)doubt_evicted(w);
    if (w->capacity)
        check_bound(w);
    if (finding[0])
        world_wrong(w, "%s", finding);
}

/* ---- Rebuilt against live ---- */

static bool masks_of(struct world *w, cistern *c, uint16_t masks[KEYS])
{
    cistern_key keys[KEYS];
    uint32_t k;
    int rc;

    for (k = 0; k < KEYS; k++)
        world_key(k, &keys[k]);
    rc = cistern_exists(c, keys, KEYS, masks);
    if (rc)
        world_wrong(w, "exists: %s", cistern_error_name(rc));
    return !rc;
}

/* Where a store has a block, and what it knows of each segment: for whoever looks into a failure.
 */
static void print_view(cistern *c, const char *who, uint32_t block)
{
    struct index_place at;
    cistern_key key;
    uint32_t i;

    world_key(block, &key);
    if (index_find(c->index, &key, &at))
        printf("  %s: block %u is in segment %u at page %u\n", who, block, at.segment,
               at.info.offset);
    for (i = 0; i < atomic_load(&c->segs.count); i++) {
        const struct segment *g = &c->segs.at[i];

        if (segtab_in_use(&c->segs, i))
            printf("  %s: segment %u %016llx-%llu of shard %u:%s%s%s read to %llu, %llu blocks, "
                   "%llu lost, %u bad\n",
                   who, i, (unsigned long long)g->writer, (unsigned long long)g->seq, g->shard,
                   g->own ? " own," : "", g->has_data ? "" : " no data,", g->ended ? " ended," : "",
                   (unsigned long long)g->cursor.position, (unsigned long long)g->blocks,
                   (unsigned long long)g->lost, g->bad);
    }
}

static void print_views(const struct world *w, cistern *fresh, uint32_t shard, uint32_t block)
{
    char who[32];
    uint32_t i;

    print_view(fresh, "a fresh open", block);
    for (i = 0; i < STORES; i++) {
        (void)snprintf(who, sizeof who, "store %u", i);
        if (w->stores[i].shard == shard && w->stores[i].c)
            print_view(w->stores[i].c, who, block);
    }
}

/* What a fresh open finds in a shard: everything sure, and nothing that nobody put or that was
 * deleted. `names_last`: a host of 3FS sees names for 30 s after they are gone, so that one which
 * looked before may find what was evicted, and what a deletion after that did not find. */
static void check_rebuilt(struct world *w, uint32_t shard, cistern *c, bool names_last,
                          const uint16_t masks[KEYS])
{
    bool fine = !w->wrong[0];
    uint32_t k;

    (void)doubt_evicted(w);
    for (k = 0; k < KEYS; k++) {
        const struct block_model *b = &w->blocks[shard][k];

        if (masks[k] && !b->attempted)
            world_wrong(w, "a fresh open of shard %u finds block %u, which nobody put", shard, k);
        if (masks[k] && b->gone_for_good && (!names_last || !w->evictions_seen))
            world_wrong(w, "a fresh open of shard %u finds block %u, which was deleted", shard, k);
        if (!masks[k] && b->sure)
            world_wrong(w, "a fresh open of shard %u does not find block %u, which store %d stored",
                        shard, k, (int)b->stored_by);
        if (fine && w->wrong[0])
            print_views(w, c, shard, k);
        fine = !w->wrong[0];
    }
}

/* What says that a copy is not to be used may have gone with the contents it stood in (FORMAT.md):
 * a fresh open finds the copy, a store that heard of it does not. */
static bool note_went(const struct world *w, uint32_t shard, uint32_t key, uint16_t live)
{
    return !live && w->evictions_seen && w->blocks[shard][key].noted;
}

/* A frame whose write was not answered in time may land all the same: its writer gave the segment
 * up and does not have what it names, nor has another store that had read it to its end by then; a
 * fresh open has. Of puts the writer says so by their results; of what it carried over nobody hears
 * but the metric. */
static bool landed_late(const struct world *w, const struct store *s, uint32_t key, uint16_t live)
{
    const struct block_model *b = &w->blocks[s->shard][key];
    uint64_t given_up = 0;
    uint32_t i;

    for (i = 0; i < STORES; i++) {
        if (w->stores[i].shard == s->shard && w->stores[i].c)
            given_up += store_metric(w->stores[i].c, "segments_abandoned");
    }
    return !live && b->framed > b->put_framed && given_up;
}

/* What was in flight when its writer fell silent may land when a store had found it silent and read
 * all that it had to say: that store never looks there again, a fresh open does. */
static bool landed_in_silence(cistern *c, cistern *fresh, uint32_t key, uint16_t live)
{
    struct index_place at;
    const struct segment *there, *here;
    cistern_key name;
    int64_t number;

    world_key(key, &name);
    if (live || !index_find(fresh->index, &name, &at))
        return false;
    there = &fresh->segs.at[at.segment];
    number = segtab_find(&c->segs, there->id);
    here = &c->segs.at[number < 0 ? 0 : number];
    return number >= 0 && here->ended && here->cursor.position < there->cursor.position &&
           peers_writer_state(c, here->shard, here->writer) == PEER_SILENT;
}

/* "" or how they differ. */
static void compare(struct world *w, cistern *fresh, uint32_t store, const uint16_t rebuilt[KEYS],
                    const uint16_t live[KEYS], char *text, size_t size)
{
    const struct store *s = &w->stores[store];
    uint32_t k;

    text[0] = 0;
    for (k = 0; k < KEYS && !s->damaged; k++) {
        if (rebuilt[k] != live[k] && !s->unlike[k] && !note_went(w, s->shard, k, live[k]) &&
            !landed_late(w, s, k, live[k]) && !landed_in_silence(s->c, fresh, k, live[k])) {
            (void)snprintf(text, size,
                           "block %u of shard %u: parts %x after a fresh open, %x in "
                           "store %u",
                           k, s->shard, rebuilt[k], live[k], store);
            w->differs_block = k;
            return;
        }
    }
}

/* What is sure can be read, before what is not: bad blocks may set their whole segment aside. Where
 * a newer copy is bad, at the next try. */
static void check_readable(struct world *w, uint32_t shard, cistern *c, bool sure)
{
    static uint8_t bytes[KV_BYTES + TAIL_BYTES], want[KV_BYTES + TAIL_BYTES];
    uint32_t k;

    for (k = 0; k < KEYS && !w->wrong[0]; k++) {
        struct cistern_vec v[PARTS] = {{bytes, KV_BYTES}, {bytes + KV_BYTES, TAIL_BYTES}};
        struct cistern_span spans[PARTS] = {{&v[0], 1}, {&v[1], 1}};
        uint8_t results[PARTS];
        struct cistern_event e;
        cistern_key key;
        struct cistern_request r = {
            .size = sizeof r, .keys = &key, .spans = spans, .results = results, .blocks = 1};
        int rc = -1, tries;

        if (!w->blocks[shard][k].attempted || w->blocks[shard][k].sure != sure)
            continue;
        world_key(k, &key);
        for (tries = 0; tries < 4; tries++) {
            rc = cistern_get_sync(c, &r, &e);
            if (!rc && results[0] == CISTERN_HIT && results[1] == CISTERN_HIT)
                break;
        }
        world_fill(k, shard, 0, want, KV_BYTES);
        world_fill(k, shard, 1, want + KV_BYTES, TAIL_BYTES);
        if (!rc && results[0] == CISTERN_HIT && results[1] == CISTERN_HIT) {
            if (memcmp(bytes, want, sizeof bytes) != 0)
                world_wrong(w, "wrong bytes in a fresh open: block %u of shard %u", k, shard);
            w->hits++;
        } else if (sure && !doubt_evicted(w) && w->blocks[shard][k].sure &&
                   !store_metric(c, "segments_aside")) {
            world_wrong(w, "block %u of shard %u was stored and cannot be read: %d, %u, %u", k,
                        shard, rc, results[0], results[1]);
        }
    }
}

/* Whether each live store of the shard has what a fresh open has; "" or how they differ. */
static void compare_all(struct world *w, cistern *fresh, uint32_t shard,
                        const uint16_t rebuilt[KEYS], uint32_t *store, char *text, size_t size)
{
    uint16_t live[KEYS];
    uint32_t i;

    text[0] = 0;
    for (i = 0; i < STORES && !text[0]; i++) {
        if (w->stores[i].shard != shard || !w->stores[i].c)
            continue;
        (void)op_refresh(w, i, true);
        if (masks_of(w, w->stores[i].c, live))
            compare(w, fresh, i, rebuilt, live, text, size);
        *store = i;
    }
}

/* One fresh open beside the live stores; "" in text or how they differ. The handle, or NULL. */
static cistern *look_beside(struct world *w, uint32_t shard, char *text, size_t size)
{
    uint16_t rebuilt[KEYS];
    cistern *c = store_look(w, shard);
    uint32_t store = 0, i;

    text[0] = 0;
    if (!c || !masks_of(w, c, rebuilt))
        return c;
    check_rebuilt(w, shard, c, false, rebuilt);
    compare_all(w, c, shard, rebuilt, &store, text, size);
    for (i = 0; i < STORES && text[0] && w->lenient; i++) { /* it must not stay so */
        w->stale++;
        world_say(w, "stale: %s", text);
        store_close(w, store);
        (void)store_open(w, store, true);
        compare_all(w, c, shard, rebuilt, &store, text, size);
    }
    return c;
}

/* Where segments are evicted that goes on between two looks, and so does carrying over: they agree
 * when it has come to rest. Elsewhere a last note may still be on its way: a store that is asked to
 * look writes down what it finds out then, and on 3FS another host does not see the name of the
 * segment that it makes for that before its entries have run out. */
static void check_shard(struct world *w, uint32_t shard)
{
    uint64_t until = pace_ns() + (w->capacity || w->evictions_seen ? REST_NS : 0);
    uint32_t tries = NOTE_TRIES;
    char text[200];
    cistern *c;

    while ((c = look_beside(w, shard, text, sizeof text)) && text[0] && !w->wrong[0] &&
           (--tries || pace_ns() < until)) {
        tries = tries ? tries : 1;
        (void)cistern_close(c);
        (void)usleep(20000);
        simfs_advance(w->fs, ENTRIES_GO);
    }
    if (text[0])
        world_wrong(w, "rebuilt is not live: %s", text);
    if (c && text[0])
        print_views(w, c, shard, w->differs_block);
    if (!c)
        return;
    check_readable(w, shard, c, true);
    check_readable(w, shard, c, false);
    (void)cistern_close(c);
    w->checks++;
}

/* Another host finds what is stored at once, whatever it is told of sizes. */
static void check_at_once(struct world *w, uint32_t shard)
{
    cistern *c = store_look(w, shard);
    uint16_t masks[KEYS];

    if (c && masks_of(w, c, masks))
        check_rebuilt(w, shard, c, w->o.manners.entry_cache, masks);
    (void)cistern_close(c);
}

/* Works again when storage does; the first error is of the time before. Where crashes left so much
 * that there is no room within the capacity before they were silent long enough, deletes cannot be
 * written down: that store begins anew. */
static void check_flush(struct world *w, uint32_t i)
{
    uint64_t until = pace_ns() + FLUSH_NS;

    (void)op_flush(w, i);
    while (pace_ns() < until) {
        if (!op_flush(w, i))
            return;
        (void)usleep(100000);
    }
    if (w->capacity && w->crashes) {
        store_close(w, i);
        (void)store_open(w, i, true);
    } else {
        world_wrong(w, "store %u cannot flush on storage that works: %s", i, cistern_error_text());
    }
}

void check_all(struct world *w)
{
    uint64_t until = pace_ns() + 20 * NS_PER_S;
    uint32_t i;

    simfs_label(w->fs, OP_CHECK);
    simfs_calm(w->fs);
    while (simfs_unsettled(w->fs) && pace_ns() < until)
        (void)usleep(1000);
    op_drain(w);
    for (i = 0; i < SHARDS && !w->wrong[0]; i++)
        check_at_once(w, i);
    simfs_advance(w->fs, ENTRIES_GO);
    for (i = 0; i < STORES && !w->wrong[0]; i++) {
        if (w->stores[i].c && simfs_killed(w->fs, w->stores[i].process))
            store_close(w, i);
        if (!w->stores[i].c)
            (void)store_open(w, i, true);
        (void)op_refresh(w, i, true); /* what reads left in doubt is decided, and written down */
        check_flush(w, i);
    }
    simfs_advance(w->fs, ENTRIES_GO);
    for (i = 0; i < SHARDS && !w->wrong[0]; i++)
        check_shard(w, i);
    check_step(w);
}
