/*
 * world.c - the three stores of a scenario and its operations. See world.h for the model.
 */
#include "../harness/metric.h"
#include "pace.h"
#include "world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define IDLE_BYTE    0xc5
#define OP_MS        1500u
#define GENEROUS     20u /* times an operation's own timeout, and */
#define SLACK_MS     20000u
#define DELETE_TRIES 4u
#define OPEN_TRIES   10 /* of one that ran out of time on a machine that stood still */
#define BLOCK_SPAN   (KV_BYTES + TAIL_BYTES)

#define WORLD_TEXT(name, text) text,
const char *const world_op_names[OP_KINDS] = {WORLD_OPS(WORLD_TEXT)};

static const uint32_t part_bytes[PARTS] = {KV_BYTES, TAIL_BYTES};
static const uint32_t store_hosts[STORES] = {0, 1, 1}, store_shards[STORES] = {0, 0, 1};

/* ---- Numbers and words ---- */

uint64_t world_random(struct world *w, uint64_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % n;
}

void world_wrong(struct world *w, const char *format, ...)
{
    va_list args;

    if (w->wrong[0])
        return;
    va_start(args, format);
    (void)vsnprintf(w->wrong, sizeof w->wrong, format, args);
    va_end(args);
}

void world_say(const struct world *w, const char *format, ...)
{
    va_list args;

    if (!w->verbose)
        return;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

static void log_callback(void *arg, int level, const char *line)
{
    const struct world *w = arg;

    if (w->verbose > 1 || level <= CISTERN_LOG_ERROR)
        world_say(w, "    log %d: %s", level, line);
}

void world_key(uint32_t number, cistern_key *key)
{
    uint64_t x = number * 0x9e3779b97f4a7c15ull + 0x6b6579;
    size_t i;

    for (i = 0; i < sizeof key->b; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        key->b[i] = (uint8_t)(x >> 32);
    }
}

void world_fill(uint32_t number, uint32_t shard, uint32_t part, uint8_t *to, size_t len)
{
    uint64_t x =
        (number * SHARDS + shard + 1) * 0xd1342543de82ef95ull + part * 0x632be59bd9b4e019ull;
    size_t i;

    for (i = 0; i + 8 <= len; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(to + i, &x, 8);
    }
    for (; i < len; i++)
        to[i] = (uint8_t)(x >> (i % 8 * 8));
}

/* ---- The whole ---- */

static void slot_idle(struct slot *s)
{
    memset(s->bytes, IDLE_BYTE, (size_t)RUN_MAX * BLOCK_SPAN);
    s->busy = s->waits_for_buffer = s->direct = false;
}

void world_init(struct world *w, uint64_t seed, const struct sim_options *o, uint64_t capacity)
{
    uint32_t i;

    w->seed = seed;
    w->random = seed ^ 0x5ca1ab1e;
    w->o = *o;
    w->fs = simfs_new(o);
    w->capacity = capacity;
    w->segment_bytes = capacity ? 128 << 10 : 512 << 10;
    w->grace_ns = 60 * NS_PER_MS;
    w->open_files = w->seed / 3 % 3 ? 0 : 1 + (uint32_t)(w->seed / 9 % 4);
    w->parts[0] = (struct cistern_part){.name = "kv", .bytes = KV_BYTES};
    w->parts[1] =
        (struct cistern_part){.name = "tail", .bytes = TAIL_BYTES, .policy = CISTERN_PART_LAST};
    w->space = (struct cistern_space){.size = sizeof w->space,
                                      .model = "sim",
                                      .dtype = "bf16",
                                      .block_tokens = 16,
                                      .shards = SHARDS,
                                      .nparts = PARTS,
                                      .parts = w->parts};
    for (i = 0; i < STORES; i++)
        w->stores[i] = (struct store){.host = store_hosts[i], .shard = store_shards[i]};
    for (i = 0; i < SLOTS; i++) {
        w->slots[i].bytes = malloc((size_t)RUN_MAX * BLOCK_SPAN);
        slot_idle(&w->slots[i]);
    }
    audit_attach(w);
}

void world_end(struct world *w)
{
    uint32_t i;

    simfs_calm(w->fs);
    for (i = 0; i < STORES; i++)
        store_close(w, i);
}

static struct cistern_options options(struct world *w, uint32_t shard, char mount[64])
{
    return (struct cistern_options){.size = sizeof(struct cistern_options),
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = mount,
                                    .root = "root",
                                    .space = &w->space,
                                    .shard = shard,
                                    .read_iov_bytes = 3 << 20,
                                    .write_iov_bytes = 3 << 20,
                                    .open_timeout_ms = 20000,
                                    .get_timeout_ms = OP_MS,
                                    .put_timeout_ms = OP_MS,
                                    .read_timeout_ms = 60,
                                    .write_timeout_ms = 80,
                                    .io_blocks = 4,
                                    .io_bytes = 64 << 10,
                                    .lanes = 1,
                                    .depth = 4,
                                    .max_ops = 16,
                                    .max_blocks = 1 << 14,
                                    .capacity_bytes = w->capacity,
                                    .segment_bytes = w->segment_bytes,
                                    .evict_grace_ms = (uint32_t)(w->grace_ns / NS_PER_MS),
                                    .open_files = w->open_files,
                                    .sync_ms = 40,
                                    .breaker_probe_ms = 50,
                                    .close_timeout_ms = 1500,
                                    .silence_ms = w->silence_ms,
                                    .log = log_callback,
                                    .log_arg = w};
}

/* ---- Opening and closing ---- */

static void took(struct world *w, const char *what, uint32_t store, const struct pace_span *start,
                 uint64_t timeout_ms)
{
    uint64_t ms = (pace_ns() - start->pace_ns) / NS_PER_MS;

    if (ms > GENEROUS * timeout_ms + SLACK_MS)
        world_wrong(
            w, "%s of store %u took %llu ms, not counting %llu ms that this process stood still",
            what, store, (unsigned long long)ms,
            (unsigned long long)((clock_ns() - start->clock_ns) / NS_PER_MS - ms));
}

int store_open(struct world *w, uint32_t i, bool must)
{
    struct store *s = &w->stores[i];
    struct cistern_options o;
    char mount[64];
    struct pace_span start = pace_begin();
    int rc, tries = 0;

    simfs_label(w->fs, OP_OPEN);
    do {
        (void)snprintf(s->process, sizeof s->process, "s%u-%u", i, w->opens++);
        o = options(w, s->shard, (char *)(uintptr_t)simfs_mount(mount, s->host, s->process));
        rc = cistern_open(&o, &s->c);
    } while (must && rc == -ETIMEDOUT && pace_stood_still(&start) && ++tries < OPEN_TRIES);
    took(w, "open", i, &start, 20000);
    world_say(w, "open store %u as %s: %d %s", i, s->process, rc, rc ? cistern_error_text() : "");
    s->life++;
    s->complete = must;
    s->damaged = false;
    memset(s->unlike, 0, sizeof s->unlike);
    s->memory = NULL;
    s->base_busy = false;
    if (rc) {
        s->c = NULL;
        w->crashes++;
        simfs_kill(w->fs, s->process); /* a helper thread may still be at it */
        if (must)
            world_wrong(w, "store %u cannot be opened on storage that works: %s (%s)", i,
                        cistern_error_name(rc), cistern_error_text());
        return rc;
    }
    w->opened++;
    if (cistern_memory_alloc(s->c, (size_t)RUN_MAX * BLOCK_SPAN, &s->memory, (void **)&s->base))
        s->memory = NULL;
    return 0;
}

/* The operations of a store that ends are lost; their memory is the caller's again, unless the
 * store left something behind. */
static void forget_ops(struct world *w, uint32_t i, bool left_behind)
{
    struct block_model *m = w->blocks[w->stores[i].shard];
    uint32_t n, b;

    for (n = 0; n < KEYS; n++) {
        if (m[n].stored_by == i && !m[n].durable)
            m[n].stored_by = UINT32_MAX; /* no flush of a later life covers it */
        m[n].gone = false;
    }
    for (n = 0; n < SLOTS; n++) {
        struct slot *s = &w->slots[n];

        if (s->store != i || (!s->busy && !s->waits_for_buffer))
            continue;
        if (left_behind)
            s->bytes = malloc((size_t)RUN_MAX * BLOCK_SPAN);
        for (b = 0; b < s->blocks; b++) { /* what was put may be there; what was got may be bad */
            if (s->is_put) {
                m[s->key + b].doubts++;
                m[s->key + b].put_framed++;
                m[s->key + b].astray = true;
            } else
                note_block(w, w->stores[i].shard, s->key + b);
        }
        slot_idle(s);
    }
}

void store_close(struct world *w, uint32_t i)
{
    struct store *s = &w->stores[i];
    struct pace_span start = pace_begin();
    bool killed;
    int rc;

    if (!s->c)
        return;
    simfs_label(w->fs, OP_CLOSE);
    (void)doubt_evicted(w);
    if (store_metric(s->c, "tripped"))
        world_wrong(w, "store %u tripped", i);
    w->carried += store_metric(s->c, "carried_blocks");
    w->silent += store_metric(s->c, "peers_silent");
    w->fences += store_metric(s->c, "writer_fences");
    killed = simfs_killed(w->fs, s->process);
    w->crashes += killed;
    if (s->memory && !s->base_busy && cistern_memory_release(s->c, s->memory))
        world_wrong(w, "memory that is free cannot be released: %s", cistern_error_text());
    rc = cistern_close(s->c);
    took(w, "close", i, &start, 1500);
    world_say(w, "close store %u (%s%s): %d", i, s->process, killed ? ", killed" : "", rc);
    s->c = NULL;
    w->crashes += rc != 0 && !killed;
    simfs_kill(w->fs, s->process); /* what it left behind ends here */
    forget_ops(w, i, rc == -EBUSY || rc == -ETIMEDOUT);
}

cistern *store_look(struct world *w, uint32_t shard)
{
    struct cistern_options o;
    cistern *c = NULL;
    char mount[64], process[24];
    struct pace_span start = pace_begin();
    int rc, tries = 0;

    simfs_label(w->fs, OP_CHECK);
    do {
        (void)snprintf(process, sizeof process, "look%u-%u", shard, w->opens++);
        o = options(w, shard, (char *)(uintptr_t)simfs_mount(mount, 2, process));
        o.flags = CISTERN_OPEN_READ_ONLY;
        o.read_timeout_ms = o.get_timeout_ms = 30000;
        rc = cistern_open(&o, &c);
    } while (rc == -ETIMEDOUT && pace_stood_still(&start) && ++tries < OPEN_TRIES);
    if (rc)
        world_wrong(w, "shard %u cannot be looked at on storage that works: %s (%s)", shard,
                    cistern_error_name(rc), cistern_error_text());
    return rc ? NULL : c;
}

uint64_t store_metric(const cistern *c, const char *name)
{
    return metric_of(c, name);
}

/* ---- Puts and gets ---- */

static struct slot *slot_take(struct world *w, uint32_t store)
{
    uint32_t i, open = 0;
    struct slot *free_slot = NULL;

    for (i = 0; i < SLOTS; i++) {
        open += w->slots[i].busy;
        if (!w->slots[i].busy && !w->slots[i].waits_for_buffer)
            free_slot = &w->slots[i];
    }
    if (open >= OPS_MAX || !free_slot || !w->stores[store].c)
        return NULL;
    return free_slot;
}

/* Two pieces a part, cut at an odd place; one for a direct read. */
static void slot_spans(struct world *w, struct slot *s, uint8_t *base, bool split)
{
    uint32_t b, p;

    for (b = 0; b < s->blocks; b++) {
        uint8_t *at = base + (size_t)b * BLOCK_SPAN;

        world_key(s->key + b, &s->keys[b]);
        for (p = 0; p < PARTS; p++) {
            size_t cut = split ? 1 + world_random(w, part_bytes[p] - 1) : part_bytes[p];

            s->vecs[b][p][0] = (struct cistern_vec){at, cut};
            s->vecs[b][p][1] = (struct cistern_vec){at + cut, part_bytes[p] - cut};
            s->spans[b][p] = (struct cistern_span){.vecs = s->vecs[b][p], .count = split ? 2 : 1};
            at += part_bytes[p];
        }
        s->doubts[b] = w->blocks[w->stores[s->store].shard][s->key + b].doubts;
    }
}

static struct cistern_request slot_request(struct world *w, struct slot *s)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = s->keys,
                                    .spans = &s->spans[0][0],
                                    .results = &s->results[0][0],
                                    .blocks = s->blocks,
                                    .first = s->key % CHAIN,
                                    .cookie = (uint64_t)(s - w->slots)};
}

static bool slot_begin(struct world *w, struct slot *s, uint32_t store, uint32_t key,
                       uint32_t blocks, bool is_put)
{
    *s = (struct slot){.bytes = s->bytes,
                       .store = store,
                       .life = w->stores[store].life,
                       .key = key,
                       .blocks = blocks,
                       .is_put = is_put,
                       .started_ns = pace_ns(),
                       .timeout_ms = OP_MS};
    return true;
}

bool op_put(struct world *w, uint32_t store, uint32_t key, uint32_t blocks)
{
    struct slot *s = slot_take(w, store);
    uint32_t b, p, shard = w->stores[store].shard;
    struct cistern_request r;
    int rc;

    if (!s)
        return false;
    (void)slot_begin(w, s, store, key, blocks, true);
    slot_spans(w, s, s->bytes, true);
    for (b = 0; b < blocks; b++) {
        uint8_t *at = s->bytes + (size_t)b * BLOCK_SPAN;

        for (p = 0; p < PARTS; at += part_bytes[p++])
            world_fill(key + b, shard, p, at, part_bytes[p]);
        w->blocks[shard][key + b].attempted = true;
        w->blocks[shard][key + b].putters |= 1u << store;
        w->blocks[shard][key + b].gone = w->blocks[shard][key + b].gone_for_good = false;
    }
    r = slot_request(w, s);
    simfs_label(w->fs, OP_PUT);
    rc = cistern_put(w->stores[store].c, &r, &s->op);
    s->busy = rc == 0;
    if (rc)
        slot_idle(s);
    if (rc && rc != -EAGAIN)
        world_wrong(w, "put: %s (%s)", cistern_error_name(rc), cistern_error_text());
    world_say(w, "put store %u blocks %u+%u: %d", store, key, blocks, rc);
    return rc == 0;
}

bool op_get(struct world *w, uint32_t store, uint32_t key, uint32_t blocks, bool direct)
{
    struct slot *s = slot_take(w, store);
    struct store *of = &w->stores[store];
    struct cistern_request r;
    int rc;

    direct = direct && s && of->memory && !of->base_busy;
    if (!s)
        return false;
    (void)slot_begin(w, s, store, key, blocks, false);
    slot_spans(w, s, direct ? of->base : s->bytes, !direct);
    r = slot_request(w, s);
    if (direct) {
        r.flags = CISTERN_GET_DIRECT;
        r.memory = of->memory;
        s->direct = of->base_busy = true;
    } else if (world_random(w, 3) == 0) {
        r.flags = CISTERN_GET_BY_PART;
    }
    simfs_label(w->fs, direct ? OP_DIRECT : OP_GET);
    rc = cistern_get(of->c, &r, &s->op);
    s->busy = rc == 0;
    if (rc) {
        slot_idle(s);
        if (direct)
            of->base_busy = false;
    }
    if (rc && rc != -EAGAIN)
        world_wrong(w, "get: %s (%s)", cistern_error_name(rc), cistern_error_text());
    world_say(w, "get store %u blocks %u+%u%s: %d", store, key, blocks, direct ? " direct" : "",
              rc);
    return rc == 0;
}

static void put_done(struct world *w, struct slot *s)
{
    uint32_t b, shard = w->stores[s->store].shard;

    for (b = 0; b < s->blocks; b++) {
        struct block_model *m = &w->blocks[shard][s->key + b];
        uint8_t result = s->results[b][0];

        if (result != s->results[b][1] || result < CISTERN_STORED || result > CISTERN_ERROR)
            world_wrong(w, "put of block %u: results %u and %u", s->key + b, result,
                        s->results[b][1]);
        if (result == CISTERN_ERROR) { /* its frame may land without its writer's knowing */
            w->stores[s->store].unlike[s->key + b] = 1;
            m->astray = true;
        }
        m->put_framed += result == CISTERN_ERROR || result == CISTERN_STORED;
        if (result != CISTERN_STORED)
            continue;
        w->stored++;
        if (m->doubts != s->doubts[b] || w->stores[s->store].damaged)
            continue;
        if (!m->sure)
            m->durable = false;
        m->sure = true;
        m->stored_by = s->unsynced ? UINT32_MAX : s->store;
    }
}

static void hit_is_right(struct world *w, const struct slot *s, uint32_t b, uint32_t p)
{
    static uint8_t want[KV_BYTES];
    const uint8_t *got = s->vecs[b][p][0].base;
    uint32_t shard = w->stores[s->store].shard;

    w->hits++;
    if (!w->blocks[shard][s->key + b].attempted) {
        world_wrong(w, "a hit for block %u of shard %u, which nobody put", s->key + b, shard);
        return;
    }
    world_fill(s->key + b, shard, p, want, part_bytes[p]);
    if (memcmp(want, got, part_bytes[p]) != 0)
        world_wrong(w, "wrong bytes: block %u of shard %u, part %u, store %u", s->key + b, shard, p,
                    s->store);
}

static void get_done(struct world *w, struct slot *s)
{
    struct store *of = &w->stores[s->store];
    uint32_t b, p;

    for (b = 0; b < s->blocks; b++) {
        bool bad = false;

        for (p = 0; p < PARTS; p++) {
            uint8_t result = s->results[b][p];

            if (result == CISTERN_HIT)
                hit_is_right(w, s, b, p);
            else if (result != CISTERN_MISS && result != CISTERN_ERROR)
                world_wrong(w, "get of block %u part %u: result %u", s->key + b, p, result);
            bad |= result != CISTERN_HIT;
        }
        if (bad) { /* the store may take the copy for bad, and say so to all */
            of->unlike[s->key + b] = 1;
            note_block(w, of->shard, s->key + b);
        }
    }
}

static void op_event(struct world *w, uint32_t store, const struct cistern_event *e)
{
    struct slot *s = e->cookie < SLOTS ? &w->slots[e->cookie] : NULL;

    if (e->kind == CISTERN_EV_PART)
        return;
    if (!s || s->store != store || s->op != e->op || !(s->busy || s->waits_for_buffer)) {
        world_wrong(w, "an event of an operation that is not open");
        return;
    }
    world_say(w, "  event %u of store %u blocks %u+%u: status %d, %u hits, %u errors", e->kind,
              store, s->key, s->blocks, e->status, e->hits, e->errors);
    if (e->kind == CISTERN_EV_BUFFER_FREE) {
        w->stores[store].base_busy = false;
        slot_idle(s);
        return;
    }
    if (s->is_put)
        put_done(w, s);
    else
        get_done(w, s);
    s->busy = false;
    s->waits_for_buffer = s->direct;
    if (!s->direct)
        slot_idle(s);
}

void op_poll(struct world *w)
{
    struct cistern_event e[16];
    uint32_t i;
    int n, k;

    for (i = 0; i < STORES; i++) {
        if (!w->stores[i].c)
            continue;
        n = cistern_poll(w->stores[i].c, e, 16);
        for (k = 0; k < n; k++)
            op_event(w, i, &e[k]);
    }
    for (i = 0; i < SLOTS; i++) {
        const struct slot *s = &w->slots[i];

        if (s->busy &&
            pace_ns() - s->started_ns > (GENEROUS * s->timeout_ms + SLACK_MS) * NS_PER_MS)
            world_wrong(w, "a %s of store %u was not answered in %llu ms",
                        s->is_put ? "put" : "get", s->store,
                        (unsigned long long)((pace_ns() - s->started_ns) / NS_PER_MS));
    }
}

void op_drain(struct world *w)
{
    bool open = true;
    uint32_t i;

    simfs_label(w->fs, OP_WAIT);
    while (open && !w->wrong[0]) {
        open = false;
        op_poll(w);
        for (i = 0; i < SLOTS; i++)
            open |= w->slots[i].busy;
        if (open)
            (void)usleep(300);
    }
}

/* ---- The rest ---- */

void op_match(struct world *w, uint32_t store, uint32_t key, uint32_t blocks)
{
    struct store *s = &w->stores[store];
    cistern_key keys[CHAIN];
    struct cistern_match m;
    uint16_t masks[CHAIN];
    uint32_t b, other;
    int rc;

    if (!s->c)
        return;
    simfs_label(w->fs, OP_MATCH);
    for (b = 0; b < blocks; b++)
        world_key(key + b, &keys[b]);
    rc = cistern_match(s->c, keys, blocks, &m);
    if (!rc)
        rc = cistern_exists(s->c, keys, blocks, masks);
    if (rc) {
        world_wrong(w, "match: %s", cistern_error_name(rc));
        return;
    }
    if (m.blocks > m.have || m.have > blocks)
        world_wrong(w, "match of %u: %u blocks, %u here", blocks, m.blocks, m.have);
    for (b = 0; b < blocks; b++) {
        bool seen = b < m.have || masks[b];

        if (seen && !w->blocks[s->shard][key + b].attempted)
            world_wrong(w, "store %u sees block %u, which nobody put", store, key + b);
        for (other = 0; other < SHARDS && b < m.blocks; other++) {
            if (!w->blocks[other][key + b].attempted)
                world_wrong(w, "store %u matches block %u, which shard %u never had", store,
                            key + b, other);
        }
    }
    w->matched += m.blocks;
    (void)cistern_ticket_release(s->c, m.ticket);
    world_say(w, "match store %u blocks %u+%u: %u, here %u", store, key, blocks, m.blocks, m.have);
}

void op_touch(struct world *w, uint32_t store, uint32_t key, uint32_t blocks)
{
    cistern_key keys[CHAIN];
    uint32_t b;

    simfs_label(w->fs, OP_TOUCH);
    for (b = 0; b < blocks; b++)
        world_key(key + b, &keys[b]);
    if (w->stores[store].c && cistern_touch(w->stores[store].c, keys, blocks) < 0)
        world_wrong(w, "touch: %s", cistern_error_text());
}

static bool put_under_way(const struct world *w, uint32_t store, uint32_t key)
{
    uint32_t i;

    for (i = 0; i < SLOTS; i++) {
        const struct slot *s = &w->slots[i];

        if (s->busy && s->is_put && s->store == store && key >= s->key && key < s->key + s->blocks)
            return true;
    }
    return false;
}

/* All copies of a block that there are were put by this store in its sight: it took up those of
 * before when it was opened, and knows how each of its puts ended. */
static bool knows_all_copies(const struct world *w, uint32_t store, uint32_t key)
{
    const struct store *s = &w->stores[store];
    const struct block_model *m = &w->blocks[s->shard][key];

    return s->complete && !s->damaged && !m->astray && !(m->putters & ~(1u << store));
}

/* A deletion takes the copies that its store has heard of. One that another process put or carried
 * over, that a put of unknown end left, or that lies in contents that could not be read so far, may
 * be taken up between the deletion and the question. Then a second deletion finds it; when all puts
 * are over and all was taken up, there is no third. */
static bool stays_gone(struct world *w, uint32_t store, const cistern_key *key)
{
    struct store *s = &w->stores[store];
    uint16_t mask = 1;
    uint32_t tries;

    for (tries = 0; mask && tries < DELETE_TRIES; tries++) {
        op_drain(w);
        (void)op_refresh(w, store, false);
        simfs_label(w->fs, OP_DELETE);
        if (cistern_delete(s->c, key, 1) < 0) { /* no room for its notes: it may stay, then */
            (void)op_flush(w, store);
            mask = 0;
        } else if (cistern_exists(s->c, key, 1, &mask)) {
            world_wrong(w, "exists: %s", cistern_error_text());
        }
    }
    return !mask;
}

void op_delete(struct world *w, uint32_t store, uint32_t key, uint32_t blocks)
{
    struct store *s = &w->stores[store];
    cistern_key keys[CHAIN];
    uint16_t masks[CHAIN];
    uint32_t b;
    int64_t n;

    if (!s->c)
        return;
    simfs_label(w->fs, OP_DELETE);
    for (b = 0; b < blocks; b++) {
        world_key(key + b, &keys[b]);
        note_block(w, s->shard, key + b);
    }
    n = cistern_delete(s->c, keys, blocks);
    world_say(w, "delete store %u blocks %u+%u: %lld", store, key, blocks, (long long)n);
    if (n < 0) {
        for (b = 0; b < blocks; b++)
            s->unlike[key + b] = 1; /* some of them may be gone here */
        return;
    }
    if (cistern_exists(s->c, keys, blocks, masks))
        world_wrong(w, "exists: %s", cistern_error_text());
    for (b = 0; b < blocks; b++) {
        doubt_block(w, s->shard, key + b);
        w->blocks[s->shard][key + b].gone = s->shard == LONE_SHARD &&
                                            knows_all_copies(w, store, key + b) &&
                                            !put_under_way(w, store, key + b);
    }
    for (b = 0; b < blocks; b++) {
        if (!masks[b] || put_under_way(w, store, key + b))
            continue;
        if (knows_all_copies(w, store, key + b) || !stays_gone(w, store, &keys[b]))
            world_wrong(w, "store %u still has block %u, which it deleted", store, key + b);
    }
}

int op_refresh(struct world *w, uint32_t store, bool must)
{
    int rc = 0, tries;

    if (!w->stores[store].c)
        return 0;
    simfs_label(w->fs, OP_REFRESH);
    for (tries = must ? 400 : 1; tries; tries--) { /* a breaker that is open closes soon */
        rc = cistern_refresh(w->stores[store].c, must ? 20000 : 300);
        if (!rc)
            break;
        if (must)
            (void)usleep(50000);
    }
    world_say(w, "refresh store %u: %d %s", store, rc, rc ? cistern_error_text() : "");
    if (rc && must)
        world_wrong(w, "store %u cannot refresh on storage that works: %s (%s)", store,
                    cistern_error_name(rc), cistern_error_text());
    return rc;
}

int op_flush(struct world *w, uint32_t store)
{
    struct store *s = &w->stores[store];
    struct block_model *m = w->blocks[s->shard];
    bool covered[KEYS];
    uint32_t doubts[KEYS], k;
    int rc;

    if (!s->c)
        return 0;
    simfs_label(w->fs, OP_FLUSH);
    for (k = 0; k < KEYS; k++) {
        covered[k] = m[k].sure && m[k].stored_by == store;
        doubts[k] = m[k].doubts;
    }
    rc = cistern_flush(s->c, 1500);
    for (k = 0; k < SLOTS && rc; k++) /* stored before it failed, perhaps, and not yet said so */
        w->slots[k].unsynced |= w->slots[k].busy && w->slots[k].store == store;
    for (k = 0; k < KEYS; k++) {
        m[k].gone_for_good |= m[k].gone && !rc;
        if (!covered[k] || doubts[k] != m[k].doubts)
            continue;
        if (!rc)
            m[k].durable = true;
        else if (!m[k].durable)
            m[k].stored_by = UINT32_MAX; /* a sync failed: a later one may not cover it */
    }
    world_say(w, "flush store %u: %d", store, rc);
    return rc;
}
