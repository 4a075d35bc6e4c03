/*
 * test_fail_at.c - every operation with its first, second, third ... call failing, until it runs
 * untouched.
 *
 * One round: a fresh store on simulated storage, what the operation needs, fault n armed, the
 * operation, faults off, everything closed, and a fresh open that must work, hold what was promised
 * and give no wrong byte. n grows until nothing fired; an operation that was not hit must have
 * succeeded in full. A loop that never fires fails. "sticky": the n-th call and all after it.
 * Allocation: the n-th malloc, calloc, realloc, aligned_alloc or mmap of the library. Power cut:
 * the n-th call is the last, and then what was not synced is gone or torn.
 *
 *   test_fail_at [--sites FILE] [OPERATION]    --sites: each call of the table of operations, its
 *                                              return address and its hits; see run_fail_at
 *   test_fail_at --list
 */
#include "cistern_admin.h"
#include "fail_at_fixture.h"

/* ---- Operations ---- */

static void with_store(struct fixture *f)
{
    need(f, open_store(f, 0, "a", 0, false, &f->c) == 0, "open");
}

static void with_blocks(struct fixture *f)
{
    with_store(f);
    need(f, f->c && put_some(f, f->c, 0, BLOCKS), "put");
    need(f, f->c && cistern_flush(f->c, 20000) == 0, "flush");
}

static void with_blocks_of_before(struct fixture *f)
{
    with_blocks(f);
    need(f, f->c && cistern_close(f->c) == 0, "close");
    f->c = NULL;
}

static bool becomes(const cistern *c, const char *name, uint64_t value)
{
    uint64_t end = clock_ns() + 20 * NS_PER_S;

    while (metric_of(c, name) != value && clock_ns() < end)
        (void)usleep(300);
    return metric_of(c, name) == value;
}

static bool rises(const cistern *c, const char *name)
{
    uint64_t end = clock_ns() + 20 * NS_PER_S;

    while (!metric_of(c, name) && clock_ns() < end)
        (void)usleep(300);
    return metric_of(c, name) != 0;
}

/* So many that the next segment is made and not begun. */
static void with_unsynced(struct fixture *f)
{
    with_store(f);
    need(f, f->c && put_some(f, f->c, 0, 12), "put");
    need(f, f->c && becomes(f->c, "segments_created", 2), "making the next segment");
}

static void with_direct(struct fixture *f)
{
    with_blocks(f);
    need(f,
         f->c && cistern_memory_alloc(f->c, (size_t)BLOCKS * BYTES, &f->direct,
                                      (void **)&f->direct_base) == 0,
         "memory");
}

/* Three segments, of which the first one has to be opened to be read. */
static void with_shut(struct fixture *f)
{
    uint8_t results[BLOCKS];

    f->files = 1;
    with_store(f);
    need(f, f->c && put_some(f, f->c, 0, 40), "put");
    need(f, f->c && becomes(f->c, "segments_sealed", 2), "sealing");
    need(f, f->c && cistern_flush(f->c, 20000) == 0, "flush");
    need(f, f->c && transfer(f, f->c, FULL, BLOCKS, false, CISTERN_HIT, results), "get");
    need(f, f->c && rises(f->c, "data_files_shut"), "shutting");
}

/* Which the store hears of from a refresh, and by itself not. */
static void with_news(struct fixture *f)
{
    f->poll_ms = HOUR_MS;
    need(f, open_store(f, 0, "a", CISTERN_OPEN_NO_BELL, false, &f->c) == 0, "open");
    f->poll_ms = 0;
    need(f, open_store(f, 1, "b", 0, true, &f->other) == 0, "open");
    need(f, f->other && put_some(f, f->other, 0, BLOCKS), "put");
}

static void with_no_unlink(struct fixture *f)
{
    with_store(f);
    simfs_rate(f->fs, SIM_UNLINK_ERROR, 10000);
}

/* Reads failed until the breaker opened; now they would succeed. */
static void with_open_breaker(struct fixture *f)
{
    uint8_t results[BLOCKS];
    int tries;

    with_blocks(f);
    simfs_rate(f->fs, SIM_READ_ERROR, 10000);
    for (tries = 0; f->c && tries < 50 && !metric_of(f->c, "breaker_open"); tries++)
        (void)transfer(f, f->c, 0, BLOCKS, false, CISTERN_HIT, results);
    need(f, f->c && metric_of(f->c, "breaker_open"), "the breaker");
    simfs_rate(f->fs, SIM_READ_ERROR, 0);
}

static void unlink_it(void *arg, const char *path)
{
    struct fixture *f = arg;
    struct io *io;

    if (simfs_io_open(f->fs, 3, "hand", &io))
        return;
    need(f, io->ops->unlink(io, path) == 0, "unlink");
    io_close(io);
}

/* Its head names contents that are gone. */
static void with_damage(struct fixture *f)
{
    with_blocks_of_before(f);
    simfs_each(f->fs, ".toc", unlink_it, f);
    memset(f->promised, 0, sizeof f->promised);
}

/* Two full segments and one that grows; some of it was read, and some is deleted. */
static bool fill_up(struct fixture *f, cistern *c)
{
    uint8_t results[BLOCKS];
    cistern_key key;

    key_of(DELETED, &key);
    f->given_up[DELETED] = true;
    return put_some(f, c, 0, 40) && transfer(f, c, 0, BLOCKS, false, CISTERN_HIT, results) &&
           transfer(f, c, FULL, BLOCKS, false, CISTERN_HIT, results) &&
           cistern_delete(c, &key, 1) == 1 && cistern_flush(c, 20000) == 0;
}

static void with_victims(struct fixture *f)
{
    f->grace_ms = HOUR_MS;
    with_store(f);
    need(f, f->c && fill_up(f, f->c), "putting");
}

/* Data whose contents another process removed, and no bound that makes anybody look. */
static void with_leftovers(struct fixture *f)
{
    f->grace_ms = HOUR_MS;
    need(f, open_store(f, 1, "b", 0, true, &f->other) == 0, "open");
    need(f, f->other && fill_up(f, f->other), "putting");
    need(f, f->other && cistern_set_capacity(f->other, 3 * SEGMENT) == 0, "setting the capacity");
    need(f, f->other && rises(f->other, "evicted_segments"), "evicting");
    need(f, f->other && cistern_set_capacity(f->other, 0) == 0, "setting no capacity");
    need(f, f->other && cistern_close(f->other) == 0, "close");
    f->other = NULL;
    f->grace_ms = 1;
    with_store(f);
}

/* A shard in which nobody writes any more; what it says of the deleted block is in its last
 * contents. */
static void with_notes(struct fixture *f)
{
    f->space.shards = 2;
    f->shard = 1;
    need(f, open_store(f, 1, "b", 0, true, &f->other) == 0, "open");
    need(f, f->other && fill_up(f, f->other), "putting");
    need(f, f->other && cistern_close(f->other) == 0, "close");
    f->other = NULL;
    f->shard = 0;
    with_store(f);
    f->shard = 1;
    need(f, f->c && usage_scan(&f->usage, f->c) == 0, "looking at the root");
}

/* Another writer's two full segments and a third one; a pin keeps what the first holds. */
static void put_and_pin(struct fixture *f)
{
    char mount[64];
    struct cistern_options o = {
        .size = sizeof o, .mount = simfs_mount(mount, 1, "pin"), .root = "r", .space = &f->space};
    const struct cistern_admin a = {.size = sizeof a, .store = &o};
    const struct cistern_pin_new how = {.size = sizeof how};
    struct cistern_pin_sum sum = {.size = sizeof sum};
    cistern_key keys[FULL];
    const struct cistern_prefix prefix = {.size = sizeof prefix, .keys = keys, .nkeys = FULL};
    uint32_t i;

    for (i = 0; i < FULL; i++)
        key_of(i, &keys[i]);
    f->grace_ms = HOUR_MS;
    need(f, open_store(f, 1, "b", 0, true, &f->other) == 0, "open");
    need(f, f->other && put_some(f, f->other, 0, 40), "putting");
    need(f, f->other && cistern_close(f->other) == 0, "close");
    f->other = NULL;
    need(f, cistern_pin_add(&a, &prefix, &how, &sum) == 0, "pinning");
    f->carried = FULL;
}

static void with_pinned(struct fixture *f)
{
    put_and_pin(f);
    with_store(f);
}

/* In a shard that nobody has open. */
static void with_pinned_there(struct fixture *f)
{
    f->space.shards = 2;
    f->shard = 1;
    put_and_pin(f);
    f->shard = 0;
    with_store(f);
    f->shard = 1;
}

static void close_all(struct fixture *f)
{
    usage_free(&f->usage);
    if (f->c)
        (void)cistern_close(f->c);
    if (f->other)
        (void)cistern_close(f->other);
    f->c = f->other = NULL;
    simfs_kill(f->fs, "a");
    simfs_kill(f->fs, "a2");
    simfs_kill(f->fs, "b");
}

static void take_dead(void *arg, const char *path)
{
    (void)snprintf(((struct fixture *)arg)->dead, sizeof((struct fixture *)arg)->dead, "%s", path);
}

/* A writer that was killed with an empty segment; its other one is gone. */
static void with_dead(struct fixture *f)
{
    f->grace_ms = 1;
    f->silence_ms = 200;
    need(f, open_store(f, 1, "b", 0, true, &f->other) == 0, "open");
    need(f, f->other && put_some(f, f->other, 0, 12), "put");
    need(f, f->other && becomes(f->other, "segments_created", 2), "making the next segment");
    simfs_each(f->fs, ".head", take_dead, f);
    simfs_kill(f->fs, "b");
    close_all(f);
    simfs_each(f->fs, "-00000000.toc", unlink_it, f);
    simfs_each(f->fs, "-00000000.seg", unlink_it, f);
    memset(f->promised, 0, sizeof f->promised);
    with_store(f);
}

/* Two full segments; a few blocks of the first were used just now. */
static void with_used(struct fixture *f)
{
    uint8_t results[BLOCKS];

    f->grace_ms = 1;
    with_store(f);
    need(f, f->c && cistern_set_capacity(f->c, 6 * SEGMENT) == 0, "setting the capacity");
    need(f, f->c && put_some(f, f->c, 0, BLOCKS), "putting");
    need(f, f->c && rises(f->c, "usage_bytes"), "looking at the root");
    need(f, f->c && put_some(f, f->c, BLOCKS, 40 - BLOCKS), "putting");
    need(f, f->c && becomes(f->c, "segments_sealed", 2), "sealing");
    need(f, f->c && cistern_flush(f->c, 20000) == 0, "flush");
    need(f, f->c && transfer(f, f->c, 0, USED, false, CISTERN_HIT, results), "get");
}

static bool sees(struct fixture *f, cistern *c, uint32_t n)
{
    cistern_key keys[ALL];
    uint16_t masks[ALL];
    uint32_t i;

    (void)f;
    for (i = 0; i < n; i++)
        key_of(i, &keys[i]);
    if (cistern_exists(c, keys, n, masks))
        return false;
    for (i = 0; i < n && masks[i]; i++)
        ;
    return i == n;
}

/* With a time to live, which a new space has to be told. */
static bool do_open(struct fixture *f)
{
    f->ttl_s = 1u << 30;
    return open_store(f, 0, "a2", 0, false, &f->c) == 0;
}

static bool do_open_again(struct fixture *f)
{
    return open_store(f, 0, "a2", 0, false, &f->c) == 0 && sees(f, f->c, BLOCKS);
}

static bool do_open_read(struct fixture *f)
{
    return open_store(f, 0, "a2", CISTERN_OPEN_READ_ONLY, false, &f->c) == 0 &&
           sees(f, f->c, BLOCKS);
}

static bool do_put(struct fixture *f)
{
    return put_some(f, f->c, BLOCKS, BLOCKS);
}

/* Over the ends of two segments, and synced. */
static bool do_seal(struct fixture *f)
{
    bool good = put_some(f, f->c, 0, 5 * BLOCKS);

    return cistern_flush(f->c, 1000) == 0 && good;
}

static bool do_probe(struct fixture *f)
{
    return becomes(f->c, "breaker_open", 0);
}

static bool do_capacity(struct fixture *f)
{
    return cistern_set_capacity(f->c, 1ull << 30) == 0;
}

/* Waits for what the keeper does by itself, as long as it takes; not long once it was hit. */
static bool keeper_does(struct fixture *f, bool (*done)(struct fixture *f))
{
    uint64_t end = clock_ns() + 20 * NS_PER_S;

    while (!done(f) && clock_ns() < end) {
        if (failat_fired(f->fs, f->kind))
            end = clock_ns() + 60 * NS_PER_MS < end ? clock_ns() + 60 * NS_PER_MS : end;
        (void)usleep(500);
    }
    return done(f);
}

static bool was_evicted(struct fixture *f)
{
    return metric_of(f->c, "evicted_segments") != 0;
}

static bool do_evict(struct fixture *f)
{
    return cistern_set_capacity(f->c, 3 * SEGMENT) == 0 && keeper_does(f, was_evicted);
}

/* Evicts the last segment of the other shard, the one with the note, which has to live on. */
static bool do_notes(struct fixture *f)
{
    struct usage_segment *last = NULL;
    size_t i;

    for (i = 0; i < f->usage.nsegs; i++) {
        struct usage_segment *s = &f->usage.segs[i];

        if (strstr(f->usage.dirs[s->dir].path, "s1of2") && s->toc && (!last || s->seq > last->seq))
            last = s;
    }
    return last && notes_keep(f->c, &f->usage, last, false) == 0 &&
           evict_begin(f->c, &f->usage, last) == 0 && metric_of(f->c, "notes_moved") == 1;
}

static bool was_carried(struct fixture *f)
{
    return metric_of(f->c, "carried_blocks") >= USED;
}

/* Evicts the first segment, reads what was used of it, writes it to a new one, and syncs that. */
static bool do_carry(struct fixture *f)
{
    bool good = cistern_set_capacity(f->c, 3 * SEGMENT) == 0 && keeper_does(f, was_carried) &&
                cistern_flush(f->c, 1000) == 0;

    f->carried = good ? USED : 0;
    return good;
}

static void count_file(void *arg, const char *path)
{
    (void)path;
    ++*(uint32_t *)arg;
}

static bool was_collected(struct fixture *f)
{
    uint32_t data = 0, contents = 0;

    simfs_each(f->fs, ".seg", count_file, &data);
    simfs_each(f->fs, ".toc", count_file, &contents);
    return data == contents;
}

static bool do_collect(struct fixture *f)
{
    return cistern_set_capacity(f->c, 1ull << 30) == 0 && keeper_does(f, was_collected);
}

static bool was_buried(struct fixture *f)
{
    uint8_t byte;

    return simfs_peek(f->fs, f->dead, 0, &byte, 1) == -ENOENT;
}

/* Takes away what the dead left: the empty pair, then the head. */
static bool do_bury(struct fixture *f)
{
    return cistern_set_capacity(f->c, 1ull << 30) == 0 && keeper_does(f, was_buried);
}

static bool do_flush(struct fixture *f)
{
    return cistern_flush(f->c, 1000) == 0;
}

static bool do_get(struct fixture *f)
{
    uint8_t results[BLOCKS];
    bool good = transfer(f, f->c, 0, BLOCKS, false, CISTERN_HIT, results);
    uint32_t i;

    for (i = 0; i < BLOCKS; i++)
        f->given_up[i] |= results[i] != CISTERN_HIT;
    return good;
}

static bool do_delete(struct fixture *f)
{
    cistern_key keys[2];

    key_of(0, &keys[0]);
    key_of(1, &keys[1]);
    f->given_up[0] = f->given_up[1] = true;
    return cistern_delete(f->c, keys, 2) == 2 && cistern_flush(f->c, 1000) == 0;
}

static bool do_refresh(struct fixture *f)
{
    return cistern_refresh(f->c, 2000) == 0 && sees(f, f->c, BLOCKS);
}

static bool do_close(struct fixture *f)
{
    int rc = cistern_close(f->c);

    if (rc != -ENOMEM) /* else it is to be tried again */
        f->c = NULL;
    return rc == 0;
}

static bool do_memory(struct fixture *f)
{
    static uint8_t own[4096] __attribute__((aligned(4096)));
    cistern_memory *m;
    void *base;

    if (cistern_memory_alloc(f->c, 1 << 16, &m, &base) || cistern_memory_release(f->c, m))
        return false;
    return cistern_memory_register(f->c, own, sizeof own, &m) == 0 &&
           cistern_memory_release(f->c, m) == 0;
}

static int scanned(void *arg, const struct cistern_item *item)
{
    *(uint32_t *)arg += item->kind == CISTERN_ITEM_BLOCK;
    return 0;
}

static bool do_scan(struct fixture *f)
{
    char mount[64];
    struct cistern_options o = {.size = sizeof o,
                                .mount = simfs_mount(mount, 1, "scan"),
                                .root = "r",
                                .space = &f->space,
                                .read_timeout_ms = 60};
    uint32_t n = 0;

    return cistern_scan(&o, CISTERN_ITEM_BLOCK, scanned, &n) == 0 && n == BLOCKS;
}

#define MAKING  (K(OPEN_ERROR) | K(VERB_ERROR) | K(RING_ERROR))
#define READING (K(READ_ERROR) | K(SHORT_READ) | K(BIT_FLIP) | K(MISDIRECTED))
#define WRITING (K(WRITE_ERROR) | K(SHORT_WRITE) | K(TORN_WRITE))
#define SENDING (K(RING_ERROR) | K(BUSY) | K(WAIT_ERROR) | K(LATE))
#define ENDS    (K(KILL) | POWER)

struct operation {
    const char *name;
    void (*before)(struct fixture *f);
    bool (*run)(struct fixture *f);
    uint32_t kinds; /* that it can meet: each must fire */
};

static const struct operation operations[] = {
    /* Half a second a round: first, and in three, so that they run beside the others. */
    {"carry", with_used, do_carry,
     READING | WRITING | SENDING | K(OPEN_ERROR) | K(ALLOC_ERROR) | K(SYNC_ERROR) |
         K(UNLINK_ERROR) | K(VERB_ERROR) | MEMORY},
    {"bury", with_dead, do_bury, K(VERB_ERROR) | K(UNLINK_ERROR)},
    {"carry killed", with_used, do_carry, K(KILL)},
    {"carry cut", with_used, do_carry, POWER},
    {"open new", NULL, do_open,
     MAKING | K(SYNC_ERROR) | SENDING | K(READ_ERROR) | K(SHORT_READ) | ENDS | MEMORY},
    {"open again", with_blocks_of_before, do_open_again,
     MAKING | SENDING | READING | ENDS | MEMORY},
    {"open for read", with_blocks_of_before, do_open_read,
     MAKING | SENDING | READING | ENDS | MEMORY},
    {"put", with_blocks, do_put, WRITING | SENDING | ENDS},
    {"put first", with_store, do_seal,
     WRITING | SENDING | K(OPEN_ERROR) | K(ALLOC_ERROR) | K(SYNC_ERROR) | K(VERB_ERROR) | ENDS},
    {"flush", with_unsynced, do_flush, K(SYNC_ERROR) | ENDS},
    {"get", with_blocks, do_get, READING | SENDING | K(KILL)},
    {"get direct", with_direct, do_get, READING | SENDING | K(KILL)},
    {"get shut", with_shut, do_get, READING | SENDING | K(OPEN_ERROR) | K(KILL)},
    {"delete", with_blocks, do_delete, WRITING | SENDING | K(SYNC_ERROR) | ENDS},
    {"refresh", with_news, do_refresh,
     READING | SENDING | K(OPEN_ERROR) | K(VERB_ERROR) | K(KILL) | MEMORY},
    {"close", with_unsynced, do_close,
     WRITING | SENDING | K(SYNC_ERROR) | K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
    {"memory", with_store, do_memory, K(RING_ERROR) | K(KILL) | MEMORY},
    {"scan", with_blocks_of_before, do_scan,
     READING | SENDING | K(OPEN_ERROR) | K(VERB_ERROR) | K(KILL) | MEMORY},
    {"close idle", with_blocks, do_close, WRITING | K(RING_ERROR) | K(WAIT_ERROR) | ENDS},
    {"no unlink", with_no_unlink, do_seal, K(OPEN_ERROR)},
    {"open damaged", with_damage, do_open, K(VERB_ERROR) | K(KILL)},
    {"probe", with_open_breaker, do_probe, K(READ_ERROR) | K(RING_ERROR) | K(BUSY) | K(LATE)},
    {"set capacity", with_store, do_capacity, K(VERB_ERROR) | ENDS},
    {"evict", with_victims, do_evict, K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
    {"evict pinned", with_pinned, do_evict, K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
    {"evict pinned there", with_pinned_there, do_evict,
     K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
    {"notes", with_notes, do_notes,
     K(OPEN_ERROR) | K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
    {"collect", with_leftovers, do_collect, K(VERB_ERROR) | K(UNLINK_ERROR) | ENDS | MEMORY},
};

/* ---- One round ---- */

/* Storage answers again: memory that it owned is free soon. */
static void wait_for_memory(struct fixture *f)
{
    uint64_t end = clock_ns() + 30 * NS_PER_S;
    struct cistern_event e;
    int n = 0;

    while (f->owed && (n = cistern_poll(f->c, &e, 1)) == 0 && clock_ns() < end)
        (void)usleep(200);
    if (f->owed && (n != 1 || e.kind != CISTERN_EV_BUFFER_FREE))
        simfs_violate(f->fs, "the memory of a direct get was not given back");
}

static void note_eviction(void *arg, const char *path)
{
    struct fixture *f = arg;
    size_t n = strlen(path);
    uint8_t byte;

    f->evicted +=
        n > 4 && strcmp(path + n - 4, ".toc") == 0 && simfs_peek(f->fs, path, 4096, &byte, 1) == 1;
}

/* Everything that was promised is there in a fresh open, on another host, when all is calm. */
static void look_again(struct fixture *f)
{
    uint64_t end = clock_ns() + 20 * NS_PER_S;
    uint8_t results[BLOCKS];
    uint32_t i, lost = 0;
    cistern *c = NULL;

    while (simfs_unsettled(f->fs) && clock_ns() < end)
        (void)usleep(500);
    simfs_advance(f->fs, 60 * SIM_S);
    if (open_store(f, 2, "look", 0, true, &c)) {
        simfs_violate(f->fs, "a later open does not work: %s", cistern_error_text());
        return;
    }
    f->direct = NULL;
    for (i = 0; i < ALL; i++) {
        (void)transfer(f, c, i, 1, false, CISTERN_HIT, results);
        lost += f->promised[i] && !f->given_up[i] && results[0] != CISTERN_HIT;
        if (i < f->carried && results[0] != CISTERN_HIT)
            simfs_violate(f->fs, "block %u was carried over and is not there (%u)", i, results[0]);
        if (f->given_up[DELETED] && i == DELETED && results[0] == CISTERN_HIT)
            simfs_violate(f->fs, "block %u was deleted and is there", i);
        if (lost > f->evicted * FULL) /* what an evicted segment held may be gone */
            simfs_violate(f->fs, "block %u was stored and is not there (%u)", i, results[0]);
    }
    if (cistern_close(c))
        simfs_violate(f->fs, "a later close does not work: %s", cistern_error_text());
}

/* False: nothing fired. */
static bool round_of(uint32_t number, uint32_t kind, uint64_t n, bool sticky, char *finding,
                     size_t size)
{
    const struct operation *op = &operations[number];
    struct fixture f = {.part = {.name = "kv", .bytes = BYTES}};
    bool good, fired, synced_only = kind == FAILAT_POWER;
    uint32_t i;

    f.space = (struct cistern_space){.size = sizeof f.space,
                                     .model = "m",
                                     .dtype = "bf16",
                                     .block_tokens = 16,
                                     .nparts = 1,
                                     .parts = &f.part};
    f.fs = simfs_new(
        &(struct sim_options){.seed = n * 31 + kind, .late_ns = 90 * NS_PER_MS, .factor = 100});
    f.memory = calloc(ALL, BYTES);
    simfs_set_audit(f.fs, &(struct sim_audit){.unlink = note_eviction, .arg = &f});
    if (op->before)
        op->before(&f);
    if (synced_only && op->before == with_unsynced)
        memset(f.promised, 0, sizeof f.promised);
    if (!simfs_violation(f.fs)[0]) {
        failat_arm(f.fs, f.kind = kind, n, sticky);
        good = op->run(&f);
        fired = failat_disarm(f.fs, kind);
        wait_for_memory(&f);
        for (i = BLOCKS; i < ALL && synced_only && fired; i++)
            f.promised[i] = false;
        if (synced_only && fired && op->run == do_seal)
            memset(f.promised, 0, sizeof f.promised);
        if (!good && !fired)
            simfs_violate(f.fs, "did not work, and nothing was armed for it: %s",
                          cistern_error_text());
        if (synced_only && fired)
            simfs_power_cut(f.fs); /* a flush that succeeded covers what was carried over */
    } else {
        fired = true;
    }
    close_all(&f);
    look_again(&f);
    (void)snprintf(finding, size, "%s", simfs_violation(f.fs));
    simfs_free(f.fs);
    free(f.memory);
    return fired;
}

static const char *name_of(uint32_t op)
{
    return operations[op].name;
}

static uint32_t kinds_of(uint32_t op)
{
    return operations[op].kinds;
}

/* What waits for a fault's end, or tries again all the time by itself. */
static bool waits(uint32_t op)
{
    return operations[op].run == do_probe || operations[op].run == do_evict ||
           operations[op].run == do_collect || operations[op].run == do_carry ||
           operations[op].run == do_bury;
}

int main(int argc, char **argv)
{
    /* An answer that stays wrong, where one call alone may be hidden by a second try. */
    static const uint32_t stays = K(READ_ERROR) | K(WRITE_ERROR) | K(SYNC_ERROR) | K(OPEN_ERROR) |
                                  K(ALLOC_ERROR) | K(VERB_ERROR) | K(RING_ERROR) | K(UNLINK_ERROR);
    const struct failat f = {.count = sizeof operations / sizeof operations[0],
                             .rounds = ROUNDS,
                             .stays = stays,
                             .name = name_of,
                             .kinds = kinds_of,
                             .stays_not = waits,
                             .round = round_of};

    return failat_main(&f, argc, argv);
}
