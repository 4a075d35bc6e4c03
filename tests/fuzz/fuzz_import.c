/*
 * fuzz_import.c - an export file, as cistern_import() reads it.
 *
 * Input: a script. A stream with segments and blocks is made from it, then damaged, cut, given in
 * pieces of any size, perhaps with right checksums of its members again. Promises: an undamaged
 * stream is taken whole; whatever is taken verifies where it lies now and is what was exported
 * under that key; whatever is refused leaves no file of its own behind.
 */
#include <errno.h>

#include "admin/container.h"
#include "admin/payload.h"
#include "base/hash.h"
#include "base/le.h"
#include "cistern_admin.h"
#include "fake_dir.h"
#include "io/hook.h"
#include "key/key.h"
#include "segment/root.h"
#include "toc_reference.h"

#define BLOCKS_MAX 32
#define STREAM_MAX (1u << 20)

static const struct cistern_part parts[] = {
    {.name = "a", .bytes = 65536}, {.name = "b", .bytes = 65536}, {.name = "c", .bytes = 65536}};
static const struct cistern_space space = {.size = sizeof space,
                                           .name = "fuzz",
                                           .model = "m",
                                           .dtype = "bf16",
                                           .block_tokens = 64,
                                           .shards = 3,
                                           .nparts = 3,
                                           .parts = parts};
static const uint8_t salt[32] = "thirty-two bytes of known salt";

/* A block as it was exported: key[0] is its place here. */
struct sent {
    struct block_info info;
    uint64_t hash[FORMAT_MAX_PARTS];
    bool skipped; /* did not verify at the export */
};

static struct stream {
    uint8_t bytes[STREAM_MAX];
    size_t len, at, step;
    uint64_t members, segments, blocks, payload;
    struct sent sent[BLOCKS_MAX];
    unsigned nsent;
    uint8_t fingerprint[32];
} s;
static struct fake_dir dir;

static int hook(const struct io_options *o, struct io **out)
{
    (void)o;
    *out = fuzz_copy(&dir.io, sizeof dir.io); /* io_close() frees it */
    return 0;
}

/* ---- The stream ---- */

static void add(const void *bytes, size_t n)
{
    FUZZ_CHECK(n <= STREAM_MAX - s.len);
    memcpy(s.bytes + s.len, bytes, n);
    s.len += n;
}

static void member_seal(uint8_t *at, uint64_t length)
{
    le64_store(at + offsetof(struct member_header, checksum), 0);
    le64_store(at + offsetof(struct member_header, checksum), hash64(at, 32 + length));
}

static void member_add(uint32_t kind, const void *body, size_t length)
{
    struct member_header h = {.kind = kind, .number = s.members++, .length = length};
    uint8_t bytes[32], *at = s.bytes + s.len;

    member_header_encode(&h, bytes);
    add(bytes, sizeof bytes);
    add(body, length);
    member_seal(at, length);
}

static void header_add(uint8_t how)
{
    struct container_header h = {.flags = how & 1 ? 0 : CONTAINER_SALT};
    char text[SPACE_JSON_MAX];
    uint8_t bytes[128];
    int n = space_json(&space, text, sizeof text);

    FUZZ_CHECK(n > 0 && container_salt_id(salt, h.salt_id) == 0);
    if (h.flags)
        memcpy(h.salt, salt, sizeof salt);
    container_header_encode(&h, bytes);
    add(bytes, sizeof bytes);
    member_add(MEMBER_SPACE, text, (size_t)n);
}

/* Payload of a block: parts behind one another, byte i of part p from its key. */
static size_t payload_make(struct sent *b, const struct toc_header *h, uint8_t *to)
{
    uint64_t at = (uint64_t)b->info.offset * FORMAT_PAGE;
    struct check_identity identity;
    size_t len = 0, i;
    unsigned p;

    for (p = 0; p < b->info.parts; p++) {
        for (i = 0; i < b->info.length[p]; i++)
            to[len + i] = (uint8_t)(b->info.key[0] * 31u + p * 7u + i);
        b->hash[p] = hash64(to + len, b->info.length[p]);
        payload_identity(s.fingerprint, h->segment_id, &b->info, p, at, &identity);
        b->info.check[p] = format_check(&identity, b->hash[p]);
        at += (b->info.length[p] + FORMAT_PAGE - 1ull) / FORMAT_PAGE * FORMAT_PAGE;
        len += b->info.length[p];
    }
    return len;
}

static void block_plan(struct fuzz_in *in, struct sent *b, uint64_t *data_end)
{
    uint8_t shape = fuzz_u8(in);
    unsigned i;

    *b = (struct sent){.skipped = shape >= 240};
    b->info.key[0] = (uint8_t)(b - s.sent);
    b->info.mask = (uint16_t)(1 + shape % 7);
    b->info.parts = (uint8_t)__builtin_popcount(b->info.mask);
    b->info.offset = (uint32_t)(*data_end / FORMAT_PAGE);
    b->info.depth = shape;
    for (i = 0; i < b->info.parts; i++)
        b->info.length[i] = 1 + fuzz_u16(in) % 9000;
    *data_end += block_extent(&b->info);
}

static void segment_add(struct fuzz_in *in)
{
    struct toc_header h = {.shard = fuzz_u8(in) % 3, .shards = 3, .segment_bytes = 1 << 20};
    unsigned n = fuzz_u8(in) % 8, first = s.nsent, i;
    static uint8_t body[3 * FORMAT_PAGE], payload[3 * 9001];
    uint64_t data_end = 0;
    struct toc_writer w;
    struct toc_batch b;

    memcpy(h.space, s.fingerprint, sizeof h.space);
    memset(h.segment_id, (int)s.segments + 1, sizeof h.segment_id);
    toc_header_encode(&h, body);
    toc_writer_init(&w, h.segment_id);
    toc_batch_begin(&b, &w, body + FORMAT_PAGE, 2 * FORMAT_PAGE);
    for (i = 0; i < n && s.nsent < BLOCKS_MAX; i++) {
        block_plan(in, &s.sent[s.nsent], &data_end);
        (void)payload_make(&s.sent[s.nsent], &h, payload);
        FUZZ_CHECK(toc_batch_block(&b, &s.sent[s.nsent++].info) == 0);
    }
    toc_batch_end(&b, data_end, 1);
    member_add(MEMBER_CONTENTS, body, FORMAT_PAGE + b.used);
    for (i = first; i < s.nsent; i++) {
        size_t len = s.sent[i].skipped ? 0 : payload_make(&s.sent[i], &h, payload);

        member_add(MEMBER_BLOCK, payload, len);
        s.blocks += len > 0;
        s.payload += len;
    }
    s.segments++;
}

static void stream_make(struct fuzz_in *in, uint8_t how)
{
    unsigned n = fuzz_u8(in) % 4;
    uint8_t end[24];

    s.len = s.at = 0;
    s.members = s.segments = s.blocks = s.payload = 0;
    s.nsent = 0;
    header_add(how);
    while (n--)
        segment_add(in);
    le64_store(end, s.segments);
    le64_store(end + 8, s.blocks);
    le64_store(end + 16, s.payload);
    member_add(MEMBER_END, end, sizeof end);
}

/* Right checksums for what still looks like members. */
static void stream_repair(void)
{
    size_t at = 128;

    while (s.len - at >= 32) {
        uint64_t length = le64_load(s.bytes + at + offsetof(struct member_header, length));

        if (length > s.len - at - 32)
            return;
        if (length >= FORMAT_PAGE && le32_load(s.bytes + at + 4) == MEMBER_CONTENTS) {
            uint8_t *page = s.bytes + at + 32, id[16];

            memcpy(id, page + offsetof(struct toc_header, segment_id), sizeof id);
            le64_store(page + offsetof(struct toc_header, checksum),
                       fuzz_checksum(page, FORMAT_PAGE, offsetof(struct toc_header, checksum)));
            toc_repair(page + FORMAT_PAGE, length - FORMAT_PAGE, FORMAT_PAGE, id, 1);
        }
        member_seal(s.bytes + at, length);
        at += 32 + length;
    }
}

/* Returns whether anything is other than it was. */
static bool damage(struct fuzz_in *in, uint8_t how)
{
    unsigned n = how & 2 ? 1 + fuzz_u8(in) % 6 : 0;
    bool changed = false;

    while (n--) {
        size_t at = fuzz_u32(in) % s.len;
        uint8_t bits = fuzz_u8(in);

        s.bytes[at] ^= bits;
        changed |= bits != 0;
    }
    if (changed && (how & 4))
        stream_repair();
    if (how & 8) {
        s.len = fuzz_u32(in) % s.len;
        changed = true;
    }
    return changed;
}

static int64_t stream_read(void *arg, void *buf, size_t len)
{
    size_t n = s.len - s.at;

    (void)arg;
    n = n < len ? n : len;
    n = n < s.step ? n : s.step;
    memcpy(buf, s.bytes + s.at, n);
    s.at += n;
    return (int64_t)n;
}

/* ---- What came of it ---- */

static unsigned files_of(const char *suffix)
{
    unsigned n = 0;
    int i;

    for (i = 0; i < dir.count; i++) {
        const char *dot = strrchr(dir.files[i].name, '.');

        n += dot && strcmp(dot, suffix) == 0;
    }
    return n;
}

/* Every block of a table is one that was sent, and its payload verifies where it lies. */
static void table_check(const struct fake_file *toc, uint64_t *blocks)
{
    struct toc_log log = {0};
    const struct fake_file *data;
    struct toc_header h;
    char name[64];
    size_t i;
    unsigned p;

    FUZZ_CHECK(toc->len >= FORMAT_PAGE && toc_header_decode(toc->bytes, &h) == 0);
    snprintf(name, sizeof name, "%.25s.seg", toc->name);
    data = fake_dir_find(&dir, name);
    FUZZ_CHECK(data != NULL && h.shard < 3 && memcmp(h.space, s.fingerprint, 32) == 0);
    toc_reference(toc->bytes + FORMAT_PAGE, toc->len - FORMAT_PAGE, FORMAT_PAGE, 0, h.segment_id,
                  &log);
    FUZZ_CHECK(log.end == TOC_END && log.position == toc->len);
    for (i = 0; i < log.count; i++) {
        const struct block_info *b = &log.at[i].block;
        uint64_t at = (uint64_t)b->offset * FORMAT_PAGE;
        struct check_identity identity;

        FUZZ_CHECK(log.at[i].kind == RECORD_BLOCK && at + block_extent(b) <= data->len);
        for (p = 0; p < b->parts; p++) {
            uint64_t hash = hash64(data->bytes + at, b->length[p]);
            bool known = b->key[0] < s.nsent && p < s.sent[b->key[0]].info.parts;

            payload_identity(s.fingerprint, h.segment_id, b, p, at, &identity);
            FUZZ_CHECK(format_check(&identity, hash) == b->check[p]);
            FUZZ_CHECK(known && hash == s.sent[b->key[0]].hash[p]);
            at += (b->length[p] + FORMAT_PAGE - 1ull) / FORMAT_PAGE * FORMAT_PAGE;
        }
        ++*blocks;
    }
    toc_log_free(&log);
}

static void taken_check(const struct cistern_transfer_sum *sum, bool changed)
{
    uint64_t blocks = 0;
    int i;

    FUZZ_CHECK(files_of(".toc") == sum->segments && files_of(".seg") == sum->segments);
    for (i = 0; i < dir.count; i++) {
        if (strstr(dir.files[i].name, ".toc"))
            table_check(&dir.files[i], &blocks);
    }
    FUZZ_CHECK(blocks == sum->blocks);
    if (!changed)
        FUZZ_CHECK(sum->segments == s.segments && blocks == s.blocks && sum->bytes == s.payload);
}

static void refused_check(int rc, bool changed, bool faults, bool no_root)
{
    FUZZ_CHECK(rc == -EBADMSG || rc == CISTERN_ESPACE || rc == CISTERN_EFORMAT || rc == -ENOSPC ||
               (faults && (rc == -EIO || rc == -EMFILE)));
    FUZZ_CHECK(changed || faults || no_root);
    FUZZ_CHECK(*err_text());
    FUZZ_CHECK(!files_of(".toc") && !files_of(".seg") && !files_of(".head"));
}

/* The root that the stream is for is there already. */
static void root_put(void)
{
    static const char text[] =
        "{\"format\":1,\"capacity_bytes\":0,\"segment_bytes\":1048576,\"created_s\":1}";

    (void)fake_dir_add(&dir, ROOT_SALT, fuzz_copy(salt, sizeof salt), sizeof salt);
    (void)fake_dir_add(&dir, ROOT_FILE, fuzz_copy(text, sizeof text - 1), sizeof text - 1);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    io_open_hook = hook;
    return space_fingerprint(&space, s.fingerprint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cistern_options store = {.size = sizeof store, .mount = "/mount", .root = "root"};
    struct cistern_admin a = {.size = sizeof a, .store = &store};
    struct cistern_transfer_sum sum = {.size = sizeof sum};
    struct fuzz_in in = {data, size};
    uint8_t how = fuzz_u8(&in), more = fuzz_u8(&in);
    struct fuzz_in hits = fuzz_part(&in, how & 14 ? 40 : 0);
    bool changed;
    int rc;

    stream_make(&in, how);
    changed = damage(&hits, how);
    s.step = more & 1 ? 1 + fuzz_u16(&in) : SIZE_MAX;
    fake_dir_init(&dir);
    if (how & 16)
        root_put();
    if (how & 32)
        dir.faults.open_fails = more >> 2;
    if (how & 64)
        dir.faults.read_fails = more >> 2;
    rc = cistern_import(&a, stream_read, NULL, &sum);
    if (rc == 0)
        taken_check(&sum, changed);
    else
        refused_check(rc, changed, how & 96, how & 1);
    fake_dir_clear(&dir);
    return 0;
}
