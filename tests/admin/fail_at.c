/*
 * fail_at.c - the operator's functions with their first, second, third ... call failing, on
 * simulated storage, until they run untouched.
 *
 * Whatever fails: no crash, no read or write of memory that storage owns, and afterwards every
 * block that was stored is there and right in a fresh open; only a wipe may remove any. An import
 * that returned 0 has brought every block; one that did not has brought none that is wrong. So it
 * is when the power goes with the n-th call of a function that changes something. A function that
 * no fault hit must have succeeded in full. The wipe of a tenant may remove its blocks and nobody
 * else's, and what was deleted stays so; done again it ends complete.
 *
 *   fail_at [--sites FILE] [FUNCTION]      --sites: each call of the table of operations that was
 *                                          seen: verb, return address, calls, hits
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cistern_admin.h"
#include "failat.h"

#define BYTES    6000u
#define BLOCKS   24u
#define ROUNDS   900u
#define OTHERS   12u /* with a tenant: blocks before that are not the tenant's */
#define IMPORTED "new/r"

struct fixture {
    struct simfs *fs;
    struct cistern_part part;
    struct cistern_space space;
    char mount[64];
    struct cistern_options o;
    struct cistern_admin a;
    cistern_key keys[BLOCKS];
    uint8_t *stream;
    size_t len, room, at;
    char files[16][256];
    uint32_t nfiles;
    uint64_t seen;   /* what a callback counts */
    uint32_t found;  /* bits of the blocks that the last look found */
    bool tenant;     /* blocks from OTHERS on are a tenant's, and the first was deleted */
    bool tenant_out; /* they must be gone */
    bool wiped;      /* blocks may be gone */
    bool imported;   /* IMPORTED must have them all */
    bool may_import; /* it may have some */
};

/* ---- The store ---- */

static void fill(uint8_t *to, uint32_t number)
{
    uint32_t i, x = number * 2654435761u + 99;

    for (i = 0; i < BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        to[i] = (uint8_t)(x >> 24);
    }
}

static struct cistern_options options_of(struct fixture *f, const char *mount, const char *root)
{
    return (struct cistern_options){.size = sizeof(struct cistern_options),
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = mount,
                                    .root = root,
                                    .space = &f->space,
                                    .read_iov_bytes = 2 << 20,
                                    .write_iov_bytes = 2 << 20,
                                    .get_timeout_ms = 30000,
                                    .put_timeout_ms = 30000,
                                    .read_timeout_ms = 20000,
                                    .write_timeout_ms = 20000,
                                    .close_timeout_ms = 20000,
                                    .io_blocks = 4,
                                    .io_bytes = 64 << 10,
                                    .lanes = 1,
                                    .depth = 4,
                                    .max_ops = 8,
                                    .max_blocks = 1 << 12,
                                    .segment_bytes = 128 << 10};
}

/* How many of these blocks are found; wrong bytes are a violation. */
static uint32_t transfer_some(struct fixture *f, cistern *c, bool put, uint32_t i, uint32_t end)
{
    static uint8_t bytes[BYTES], want[BYTES];
    uint32_t good = 0;

    f->found = 0;
    for (; i < end; i++) {
        struct cistern_vec v = {bytes, BYTES};
        struct cistern_span span = {&v, 1};
        uint8_t result = 0;
        struct cistern_event e;
        struct cistern_request r = {
            .size = sizeof r, .keys = &f->keys[i], .spans = &span, .results = &result, .blocks = 1};

        fill(put ? bytes : want, i);
        if ((put ? cistern_put_sync(c, &r, &e) : cistern_get_sync(c, &r, &e)) != 0)
            continue;
        good += result == (put ? CISTERN_STORED : CISTERN_HIT);
        f->found |= (result == CISTERN_HIT ? 1u : 0) << i;
        if (!put && result == CISTERN_HIT && memcmp(bytes, want, BYTES) != 0)
            simfs_violate(f->fs, "wrong bytes: block %u", i);
    }
    return good;
}

static uint32_t transfer(struct fixture *f, cistern *c, bool put)
{
    return transfer_some(f, c, put, 0, BLOCKS);
}

static void need(struct fixture *f, bool good, const char *what)
{
    if (!good)
        simfs_violate(f->fs, "before any fault: %s did not work: %s", what, cistern_error_text());
}

static void store_make(struct fixture *f)
{
    char mount[64];
    struct cistern_options o = options_of(f, simfs_mount(mount, 1, "store"), "r");
    cistern *c = NULL;

    need(f, cistern_open(&o, &c) == 0, "open");
    need(f, c && transfer(f, c, true) == BLOCKS, "put");
    need(f, c && cistern_close(c) == 0, "close");
}

/* Keys of a tenant for the later blocks. */
static void tenant_keys(struct fixture *f, cistern *c)
{
    const struct cistern_identity id = {.size = sizeof id, .tenant = "acme", .tenant_len = 4};
    cistern_key root;
    uint32_t i;

    need(f, c && cistern_key_root(c, &id, &root) == 0, "the tenant's root");
    for (i = OTHERS; i < BLOCKS; i++)
        need(f, cistern_key_from_hash(&root, &i, sizeof i, &f->keys[i]) == 0, "a tenant's key");
}

/* Two handles, one after the other, so that each has segments of its own. The tenant's has the word
 * that a block of the other one is deleted. */
static void tenant_make(struct fixture *f)
{
    char mount[64];
    struct cistern_options o = options_of(f, simfs_mount(mount, 1, "store"), "r");
    uint32_t i;

    f->tenant = true;
    for (i = 0; i < 2; i++) {
        cistern *c = NULL;

        need(f, cistern_open(&o, &c) == 0, "open");
        if (i)
            tenant_keys(f, c);
        need(f, c && transfer_some(f, c, true, i * OTHERS, (i + 1) * OTHERS) == OTHERS, "put");
        need(f, !i || (c && cistern_delete(c, &f->keys[0], 1) == 1), "delete");
        need(f, c && cistern_close(c) == 0, "close");
    }
}

/* A client of the table of operations. */
static struct io *client(struct fixture *f)
{
    struct io *io = NULL;

    need(f, simfs_io_open(f->fs, 1, "client", &io) == 0, "a client");
    return io;
}

/* space.json with a blank more: right, and not canonical. */
static void json_spoil(struct fixture *f, struct io *io)
{
    char path[512], text[4096];
    int64_t n;

    (void)snprintf(path, sizeof path, "r/%s/space.json", f->a.space);
    n = io->ops->small_read(io, path, text, sizeof text - 1);
    need(f, n > 0, "space.json");
    text[n > 0 ? n : 0] = ' ';
    need(f, n > 0 && io->ops->small_write(io, path, text, (size_t)n + 1, false) == 0, "space.json");
}

static void cut(void *arg, const char *path)
{
    struct fixture *f = arg;

    if (f->nfiles < sizeof f->files / sizeof f->files[0])
        (void)snprintf(f->files[f->nfiles++], sizeof f->files[0], "%s", path);
}

/* Data files that end after a page: blocks are lost, and that is known. */
static void short_make(struct fixture *f)
{
    struct io *io;
    uint32_t i;

    store_make(f);
    f->wiped = true;
    simfs_each(f->fs, ".seg", cut, f);
    io = client(f);
    for (i = 0; io && i < f->nfiles; i++) {
        struct io_file file = {.fd = -1};

        need(f, io->ops->file_open(io, f->files[i], IO_WRITE, &file) == 0, "data");
        need(f, io->ops->file_truncate(io, &file, 4096) == 0, "cutting data");
        io->ops->file_close(io, &file);
    }
    if (io)
        io_close(io);
}

/* What dead writers leave: nothing of it names a process. */
static void litter_make(struct fixture *f)
{
    static const char *const names[] = {
        "00000000000000ab-00000000.seg", "00000000000000ac-00000000.seg",
        "00000000000000ac-00000000.toc", "00000000000000ac.head", ".tmp-0001"};
    char path[512];
    struct io *io = client(f);
    uint32_t i;

    for (i = 0; io && i < sizeof names / sizeof names[0]; i++) {
        struct io_file file = {.fd = -1};

        (void)snprintf(path, sizeof path, "r/%s/s0of1/%s", f->a.space, names[i]);
        need(f, io->ops->file_open(io, path, IO_WRITE | IO_CREATE, &file) == 0, "litter");
        io->ops->file_close(io, &file);
    }
    if (io) {
        json_spoil(f, io);
        io_close(io);
    }
}

/* ---- Functions ---- */

static int on_finding(void *arg, const struct cistern_finding *x)
{
    struct fixture *f = arg;

    f->seen += x->repair == CISTERN_REPAIR_DONE;
    return 0;
}

static bool do_fsck(struct fixture *f)
{
    struct cistern_fsck_sum sum = {.size = sizeof sum};

    return cistern_fsck(&f->a, on_finding, f, &sum) == 0 && sum.blocks == BLOCKS &&
           sum.unrepaired == 0;
}

static bool do_short(struct fixture *f)
{
    struct cistern_fsck_sum sum = {.size = sizeof sum};

    return cistern_fsck(&f->a, on_finding, f, &sum) == 0 && sum.errors == f->nfiles;
}

static bool do_repair(struct fixture *f)
{
    f->a.flags = CISTERN_ADMIN_REPAIR;
    return do_fsck(f) && f->seen == 6;
}

static int on_verify(void *arg, const struct cistern_verify_item *x)
{
    (void)arg;
    (void)x;
    return 0;
}

static bool do_verify(struct fixture *f)
{
    struct cistern_verify_sum sum = {.size = sizeof sum};

    return cistern_verify(&f->a, on_verify, f, &sum) == 0 && sum.blocks == BLOCKS &&
           sum.bad_blocks == 0 && sum.unreadable == 0;
}

static int on_removal(void *arg, const struct cistern_removal *x)
{
    (void)arg;
    (void)x;
    return 0;
}

static bool do_gc(struct fixture *f)
{
    struct cistern_removal_sum sum = {.size = sizeof sum};

    return cistern_gc(&f->a, on_removal, f, &sum) == 0 && sum.files == 5 && sum.failed == 0;
}

static bool do_shrink(struct fixture *f)
{
    struct cistern_shrink how = {.size = sizeof how, .to_bytes = 1, .grace_ms = 1};
    struct cistern_shrink_sum sum = {.size = sizeof sum};

    f->wiped = true;
    return cistern_shrink(&f->a, &how, on_removal, f, &sum) == 0 && sum.files >= 2 &&
           sum.failed == 0 && sum.kept == 0;
}

static bool do_wipe(struct fixture *f)
{
    struct cistern_wipe how = {.size = sizeof how};
    struct cistern_removal_sum sum = {.size = sizeof sum};

    f->wiped = true;
    f->a.flags = CISTERN_ADMIN_FORCE; /* a silence of one millisecond */
    return cistern_wipe(&f->a, &how, on_removal, f, &sum) == 0 && sum.files > 4 && !sum.failed &&
           !sum.waiting;
}

static int wipe_tenant(struct cistern_admin *a, struct cistern_removal_sum *sum)
{
    const struct cistern_wipe how = {
        .size = sizeof how, .tenant = "acme", .tenant_len = 4, .grace_ms = 1};

    *sum = (struct cistern_removal_sum){.size = sizeof *sum};
    a->flags |= CISTERN_ADMIN_FORCE; /* likewise */
    return cistern_wipe(a, &how, on_removal, NULL, sum);
}

static bool do_tenant(struct fixture *f)
{
    struct cistern_removal_sum sum;

    f->tenant_out = wipe_tenant(&f->a, &sum) == 0 && !sum.failed && !sum.waiting &&
                    sum.tenant_blocks == BLOCKS - OTHERS && !sum.other_blocks && sum.files >= 2;
    return f->tenant_out;
}

/* Once more, by another process; then nothing is left to be done. */
static void tenant_again(struct fixture *f)
{
    char mount[64];
    struct cistern_options o = options_of(f, simfs_mount(mount, 3, "again"), "r");
    struct cistern_admin a = {.size = sizeof a, .store = &o, .silence_ms = 1};
    struct cistern_removal_sum sum;

    if (wipe_tenant(&a, &sum) != 0 || sum.failed || sum.waiting) {
        simfs_violate(f->fs, "done again it does not work: %s", cistern_error_text());
        return;
    }
    a.flags = CISTERN_ADMIN_DRY_RUN;
    if (wipe_tenant(&a, &sum) != 0 || sum.tenant_blocks || sum.files || sum.waiting)
        simfs_violate(f->fs, "done again it leaves %llu blocks, %llu files",
                      (unsigned long long)sum.tenant_blocks, (unsigned long long)sum.files);
    f->tenant_out = true;
}

static int on_retired(void *arg, const struct cistern_retired *x)
{
    (void)arg;
    return x->result;
}

static int on_ttl(void *arg, const struct cistern_space_ttl *x)
{
    (void)arg;
    return x->result;
}

/* Said, changed, told. */
static bool do_ttl(struct fixture *f)
{
    struct cistern_ttl how = {.size = sizeof how, .change = 1, .seconds = 1u << 30};

    if (cistern_ttl(&f->a, &how, on_ttl, f) != 1)
        return false;
    how.seconds = 0;
    if (cistern_ttl(&f->a, &how, on_ttl, f) != 1)
        return false;
    how.change = 0;
    return cistern_ttl(&f->a, &how, on_ttl, f) == 1;
}

/* Marked and taken back. */
static bool do_retire(struct fixture *f)
{
    struct cistern_retire how = {.size = sizeof how};

    if (cistern_retire(&f->a, &how, on_retired, f) != 1)
        return false;
    how.undo = 1;
    return cistern_retire(&f->a, &how, on_retired, f) == 1;
}

static int on_write(void *arg, const void *data, size_t len)
{
    struct fixture *f = arg;

    if (f->len + len > f->room)
        return -ENOSPC;
    memcpy(f->stream + f->len, data, len);
    f->len += len;
    return 0;
}

static int64_t on_read(void *arg, void *buf, size_t len)
{
    struct fixture *f = arg;

    if (len > f->len - f->at)
        len = f->len - f->at;
    memcpy(buf, f->stream + f->at, len);
    f->at += len;
    return (int64_t)len;
}

static bool do_export(struct fixture *f)
{
    struct cistern_transfer_sum sum = {.size = sizeof sum};

    f->a.flags = CISTERN_ADMIN_SALT;
    f->len = 0;
    return cistern_export(&f->a, on_write, f, &sum) == 0 && sum.blocks == BLOCKS;
}

static void export_make(struct fixture *f)
{
    store_make(f);
    need(f, do_export(f), "export");
}

static bool do_import(struct fixture *f)
{
    struct cistern_transfer_sum sum = {.size = sizeof sum};

    f->may_import = true;
    f->o.root = IMPORTED;
    f->imported = cistern_import(&f->a, on_read, f, &sum) == 0;
    return f->imported && sum.blocks == BLOCKS;
}

/* A stream that is cut: all that was made has to go. */
static bool do_undo(struct fixture *f)
{
    f->may_import = true;
    f->o.root = IMPORTED;
    f->len -= 100;
    return cistern_import(&f->a, on_read, f, NULL) == -EBADMSG;
}

static int on_explained(void *arg, const struct cistern_explanation *x)
{
    (void)arg;
    (void)x;
    return 0;
}

static bool do_explain(struct fixture *f)
{
    struct cistern_explain e = {.size = sizeof e, .keys = f->keys, .nkeys = BLOCKS};

    f->a.flags = CISTERN_ADMIN_READ;
    return cistern_explain(&f->a, &e, on_explained, f) == BLOCKS;
}

static int on_pin(void *arg, const struct cistern_pin *p)
{
    struct fixture *f = arg;

    f->seen += p->state == CISTERN_PIN_HOLDS && p->keys == BLOCKS;
    return 0;
}

static bool do_pins(struct fixture *f)
{
    struct cistern_prefix p = {.size = sizeof p, .keys = f->keys, .nkeys = BLOCKS};
    struct cistern_pin_new how = {.size = sizeof how, .label = "kept"};
    struct cistern_pin_sum sum = {.size = sizeof sum};

    return cistern_pin_add(&f->a, &p, &how, &sum) == 0 && sum.missing == 0 &&
           cistern_pin_list(&f->a, on_pin, f) == 0 && f->seen == 1 &&
           cistern_pin_remove(&f->a, "kept", NULL, NULL) == 1;
}

static bool do_warm(struct fixture *f)
{
    struct cistern_prefix p = {.size = sizeof p, .keys = f->keys, .nkeys = BLOCKS};
    struct cistern_warm_sum sum = {.size = sizeof sum};

    return cistern_warm(&f->a, &p, NULL, NULL, &sum) == 0 && sum.hits == BLOCKS;
}

#define LOOKING                                                                                    \
    (K(READ_ERROR) | K(OPEN_ERROR) | K(VERB_ERROR) | K(RING_ERROR) | K(WAIT_ERROR) | K(BUSY) |     \
     K(SHORT_READ) | K(BIT_FLIP) | K(MISDIRECTED) | K(LATE) | K(KILL) | MEMORY)
#define WRITING                                                                                    \
    (K(WRITE_ERROR) | K(SYNC_ERROR) | K(OPEN_ERROR) | K(VERB_ERROR) | K(RING_ERROR) |              \
     K(WAIT_ERROR) | K(BUSY) | K(SHORT_WRITE) | K(TORN_WRITE) | K(LATE) | K(KILL) | POWER |        \
     MEMORY)

static const struct function {
    const char *name;
    void (*before)(struct fixture *f);
    bool (*run)(struct fixture *f);
    uint32_t kinds; /* each must fire */
} functions[] = {
    {"fsck", store_make, do_fsck, LOOKING},
    {"repair", litter_make, do_repair, LOOKING | K(UNLINK_ERROR) | POWER},
    {"verify", store_make, do_verify, LOOKING},
    {"gc", litter_make, do_gc, LOOKING | K(UNLINK_ERROR) | POWER},
    {"shrink", store_make, do_shrink, LOOKING | K(UNLINK_ERROR) | POWER},
    {"wipe", store_make, do_wipe, LOOKING | K(UNLINK_ERROR) | POWER},
    {"tenant", tenant_make, do_tenant, LOOKING | K(UNLINK_ERROR) | POWER},
    {"retire", store_make, do_retire, LOOKING | K(UNLINK_ERROR) | POWER},
    {"ttl", store_make, do_ttl, LOOKING | POWER},
    {"export", store_make, do_export, LOOKING},
    {"import", export_make, do_import, WRITING},
    {"undo", export_make, do_undo, (WRITING & ~K(SYNC_ERROR)) | K(UNLINK_ERROR)},
    {"short", short_make, do_short, LOOKING & ~K(BIT_FLIP) & ~K(MISDIRECTED)},
    {"explain", store_make, do_explain, LOOKING},
    {"pins", store_make, do_pins, K(VERB_ERROR) | K(UNLINK_ERROR) | K(KILL) | POWER | MEMORY},
    {"warm", store_make, do_warm, LOOKING},
};

/* ---- One round ---- */

static void tenant_judge(const struct fixture *f)
{
    const uint32_t others = (1u << OTHERS) - 2, tenant = ~((1u << OTHERS) - 1);

    if (f->found & 1)
        simfs_violate(f->fs, "a block that was deleted is found");
    if ((f->found & others) != others)
        simfs_violate(f->fs, "blocks of others are gone: %x", f->found);
    if (f->tenant_out && f->found & tenant)
        simfs_violate(f->fs, "blocks of the tenant are found: %x", f->found);
}

static void look_again(struct fixture *f, const char *root, bool all)
{
    char mount[64];
    struct cistern_options o = options_of(f, simfs_mount(mount, 2, "look"), root);
    uint64_t end = clock_ns() + 20 * NS_PER_S;
    cistern *c = NULL;
    uint32_t found;

    while (simfs_unsettled(f->fs) && clock_ns() < end)
        (void)usleep(500);
    if (cistern_open(&o, &c)) {
        simfs_violate(f->fs, "a later open of %s does not work: %s", root, cistern_error_text());
        return;
    }
    found = transfer(f, c, false);
    if (f->tenant)
        tenant_judge(f);
    else if (all && found != BLOCKS)
        simfs_violate(f->fs, "%s has %u of %u blocks", root, found, BLOCKS);
    if (cistern_close(c))
        simfs_violate(f->fs, "a later close does not work: %s", cistern_error_text());
}

static void fixture_make(struct fixture *f, uint64_t seed, uint32_t kind)
{
    uint32_t i;

    *f = (struct fixture){.part = {.name = "kv", .bytes = BYTES}, .room = 1 << 20};
    f->space = (struct cistern_space){.size = sizeof f->space,
                                      .model = "m",
                                      .dtype = "bf16",
                                      .block_tokens = 16,
                                      .nparts = 1,
                                      .parts = &f->part};
    for (i = 0; i < BLOCKS; i++)
        memset(f->keys[i].b, (int)i + 1, sizeof f->keys[i].b);
    f->fs = simfs_new(&(struct sim_options){.seed = seed, .late_ns = 90 * NS_PER_MS});
    f->stream = malloc(f->room);
    f->o = options_of(f, simfs_mount(f->mount, 0, "tool"), "r");
    /* A read may take ten times as long; only LATE is to be later than that. */
    f->o.read_timeout_ms = f->o.write_timeout_ms = kind == SIM_LATE ? 4 : 400;
    f->a = (struct cistern_admin){.size = sizeof f->a, .store = &f->o, .silence_ms = 1};
}

/* The one space's directory. */
static void take_name(void *arg, const char *path)
{
    struct fixture *f = arg;
    static char name[128];

    if (sscanf(path, "r/%127[^/]/space.json", name) == 1)
        f->a.space = name;
}

/* False: nothing fired. */
static bool round_of(uint32_t number, uint32_t kind, uint64_t n, bool sticky, char *finding,
                     size_t size)
{
    const struct function *fn = &functions[number];
    struct fixture f;
    bool good, fired = true;

    fixture_make(&f, n * 31 + kind, kind);
    if (fn->before == litter_make) { /* its place must be known first */
        store_make(&f);
        simfs_each(f.fs, "space.json", take_name, &f);
    }
    fn->before(&f);
    simfs_each(f.fs, "space.json", take_name, &f);
    if (!simfs_violation(f.fs)[0]) {
        failat_arm(f.fs, kind, n, sticky);
        good = fn->run(&f);
        fired = failat_disarm(f.fs, kind);
        if (!good && !fired)
            simfs_violate(f.fs, "did not work, and nothing was armed for it: %s",
                          cistern_error_text());
        if (kind == FAILAT_POWER && fired) /* the store was closed before: all of it is synced */
            simfs_power_cut(f.fs);
    }
    simfs_kill(f.fs, "tool");
    look_again(&f, "r", !f.wiped);
    if (f.tenant && !simfs_violation(f.fs)[0]) {
        tenant_again(&f);
        look_again(&f, "r", true);
    }
    if (f.may_import)
        look_again(&f, IMPORTED, f.imported);
    (void)snprintf(finding, size, "%s", simfs_violation(f.fs));
    simfs_free(f.fs);
    free(f.stream);
    return fired;
}

static const char *name_of(uint32_t op)
{
    return functions[op].name;
}

static uint32_t kinds_of(uint32_t op)
{
    return functions[op].kinds;
}

int main(int argc, char **argv)
{
    /* Answers that stay wrong, where one call alone may be hidden by a second try. */
    static const uint32_t stays = K(READ_ERROR) | K(OPEN_ERROR) | K(SYNC_ERROR) | K(VERB_ERROR) |
                                  K(RING_ERROR) | K(UNLINK_ERROR);
    const struct failat f = {.count = sizeof functions / sizeof functions[0],
                             .rounds = ROUNDS,
                             .stays = stays,
                             .name = name_of,
                             .kinds = kinds_of,
                             .round = round_of};

    return failat_main(&f, argc, argv);
}
