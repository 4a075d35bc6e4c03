/*
 * make_golden.c - writes the golden store of format version 1 into an empty directory: fixed ids,
 * keys, times and payloads, through the writing code of src/segment. Beside it, expected.json says
 * what was meant to be written; it comes from the calls made here and from no reading code.
 *
 *   make_golden DIRECTORY
 *
 * tests/golden/v1 was made by this program once and stays as it is, whatever later versions write.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/hash.h"
#include "base/le.h"
#include "key/key.h"
#include "key/sha.h"
#include "segment/toc.h"

#define DATA_MAX  (1u << 20)
#define TOC_MAX   (64u << 10)
#define CREATED_S 1700000000ull

static char root[512], space_name[SPACE_DIR_MAX];
static uint8_t fingerprint[32];
static FILE *expected;
static const char *between = ""; /* elements of a list in expected.json */

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "make_golden: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    size_t i;

    for (i = 0; i < n; i++)
        p[i] = (uint8_t)(mix(&seed) >> 32);
}

static const char *hex(const uint8_t *p, size_t n)
{
    static char text[2][65];
    static unsigned turn;
    char *out = text[turn++ % 2];
    size_t i;

    for (i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
    return out;
}

static void write_file(const char *path, const void *data, size_t len)
{
    char full[1024];
    FILE *f;

    snprintf(full, sizeof full, "%s/%s", root, path);
    f = fopen(full, "wb");
    check(f != NULL, full);
    check(fwrite(data, 1, len, f) == len && fclose(f) == 0, full);
}

static void make_dir(const char *path)
{
    char full[1024];

    snprintf(full, sizeof full, "%s/%s", root, path);
    check(mkdir(full, 0777) == 0, full);
}

/* ---- One segment ---- */

struct segment {
    struct toc_header header;
    struct toc_writer writer;
    struct toc_batch batch;
    uint8_t *data, *toc;
    uint64_t data_end;
    uint32_t frames;
};

static _Alignas(64) uint8_t batch_buf[TOC_MAX];

static void segment_begin(struct segment *s, uint64_t writer, uint64_t seq, uint32_t shard)
{
    memset(s, 0, sizeof *s);
    memcpy(s->header.space, fingerprint, 32);
    fill(s->header.segment_id, 16, writer * 1000 + seq);
    s->header.writer = writer;
    s->header.seq = seq;
    s->header.shard = shard;
    s->header.shards = 2;
    s->header.created_s = CREATED_S + seq;
    s->header.segment_bytes = 64u << 20;
    s->data = calloc(1, DATA_MAX);
    s->toc = calloc(1, TOC_MAX);
    check(s->data && s->toc, "memory");
    toc_header_encode(&s->header, s->toc);
    toc_writer_init(&s->writer, s->header.segment_id);
    fprintf(expected,
            "%s\n  {\"name\": \"%016" PRIx64 "-%08" PRIx64 "\", \"shard\": %u, \"shards\": 2, "
            "\"id\": \"%s\", \"created_s\": %" PRIu64 ",\n   \"records\": [",
            between, writer, seq, shard, hex(s->header.segment_id, 16), s->header.created_s);
    between = "";
}

static void batch_begin(struct segment *s)
{
    toc_batch_begin(&s->batch, &s->writer, batch_buf, sizeof batch_buf);
}

static void batch_end(struct segment *s, uint64_t now_s)
{
    toc_batch_end(&s->batch, s->data_end, now_s);
    memcpy(s->toc + s->batch.start, batch_buf, s->batch.used);
}

/* Key, content and lengths come from the number of the block. */
static void block_key(uint64_t number, uint8_t key[32])
{
    fill(key, 32, number * 7919 + 1);
}

static void part_write(struct segment *s, struct block_info *b, unsigned part, uint32_t length,
                       uint64_t number)
{
    struct check_identity identity = {.offset = s->data_end, .length = length, .part = part};
    uint8_t digest[32], *payload = s->data + s->data_end;

    check(s->data_end + length <= DATA_MAX, "data");
    fill(payload, length, number * 100 + part);
    memcpy(identity.space, fingerprint, 32);
    memcpy(identity.segment_id, s->header.segment_id, 16);
    memcpy(identity.key, b->key, 32);
    b->length[b->parts] = length;
    b->check[b->parts++] = format_check(&identity, hash64(payload, length));
    check(sha256(&(struct sha_piece){payload, length}, 1, digest) == 0, "SHA-256");
    fprintf(expected,
            "%s{\"part\": %u, \"offset\": %" PRIu64 ", \"length\": %u, \"sha256\": \"%s\"}",
            b->parts > 1 ? ", " : "", part, s->data_end, length, hex(digest, 32));
    s->data_end = round_up(s->data_end + length, FORMAT_PAGE);
}

/* `length` of the lowest part; the others get lengths of their own. */
static void block_add(struct segment *s, uint64_t number, uint16_t mask, uint32_t length,
                      uint32_t depth)
{
    struct block_info b = {.mask = mask, .depth = depth};
    unsigned part, first = 1;

    b.offset = (uint32_t)(s->data_end / FORMAT_PAGE);
    block_key(number, b.key);
    fprintf(expected,
            "%s\n    {\"kind\": \"block\", \"key\": \"%s\", \"depth\": %u, \"offset\": %" PRIu64
            ", \"mask\": %u, \"parts\": [",
            between, hex(b.key, 32), depth, s->data_end, mask);
    between = ",";
    for (part = 0; part < FORMAT_MAX_PARTS; part++) {
        if (!(mask >> part & 1))
            continue;
        part_write(s, &b, part, first ? length : 100 + part * 211, number);
        first = 0;
    }
    fprintf(expected, "]}");
    check(toc_batch_block(&s->batch, &b) == 0, "block");
}

static void dead_add(struct segment *s, uint64_t number, const uint8_t segment_id[16],
                     uint64_t offset, uint8_t reason)
{
    static const char *const reasons[] = {"", "deleted", "checksum", "length", "io"};
    uint8_t key[32];

    block_key(number, key);
    check(toc_batch_dead(&s->batch, key, segment_id, (uint32_t)(offset / FORMAT_PAGE), reason) == 0,
          "dead");
    fprintf(expected,
            "%s\n    {\"kind\": \"dead\", \"key\": \"%s\", \"segment_id\": \"%s\", \"offset\": "
            "%" PRIu64 ", \"reason\": \"%s\"}",
            between, hex(key, 32), hex(segment_id, 16), offset, reasons[reason]);
    between = ",";
}

static void aside_add(struct segment *s, const uint8_t segment_id[16])
{
    check(toc_batch_aside(&s->batch, segment_id, DEAD_CHECKSUM) == 0, "aside");
    fprintf(expected,
            "%s\n    {\"kind\": \"aside\", \"segment_id\": \"%s\", \"reason\": \"checksum\"}",
            between, hex(segment_id, 16));
    between = ",";
}

/* `torn`: bytes of a further frame, which a crash has cut. */
static void segment_end(struct segment *s, size_t torn)
{
    char name[SEGMENT_NAME_MAX], path[512];
    uint64_t end = s->writer.position, number = s->writer.number;

    if (torn) {
        struct block_info b = {.mask = 1, .parts = 1, .length = {5}};

        batch_begin(s);
        check(toc_batch_block(&s->batch, &b) == 0, "torn");
        batch_end(s, CREATED_S + 99);
    }
    segment_name(name, s->header.writer, s->header.seq, ".seg");
    snprintf(path, sizeof path, "%s/s%uof2/%s", space_name, s->header.shard, name);
    write_file(path, s->data, s->data_end);
    segment_name(name, s->header.writer, s->header.seq, ".toc");
    snprintf(path, sizeof path, "%s/s%uof2/%s", space_name, s->header.shard, name);
    write_file(path, s->toc, (size_t)end + torn);
    fprintf(expected,
            "],\n   \"end\": \"%s\", \"position\": %" PRIu64 ", \"frames\": %" PRIu64
            ", \"data_end\": %" PRIu64 "}",
            torn ? "torn" : "end", end, number, s->data_end);
    between = ",";
    free(s->data);
    free(s->toc);
}

/* ---- The store ---- */

static void head_write(uint64_t writer, uint32_t shard, uint32_t state, uint64_t next_seq,
                       uint64_t published)
{
    static const uint32_t touches[] = {3, 1};
    struct head_record h = {.state = state,
                            .writer = writer,
                            .counter = 17 + writer,
                            .shard = shard,
                            .shards = 2,
                            .next_seq = next_seq,
                            .published = published,
                            .written_s = CREATED_S + 50,
                            .pid = 4242,
                            .host = "golden.example"};
    static _Alignas(64) uint8_t page[FORMAT_PAGE];
    char name[SEGMENT_NAME_MAX], path[512];

    memcpy(h.space, fingerprint, 32);
    head_encode(&h, touches, 2, page);
    head_name(name, writer);
    snprintf(path, sizeof path, "%s/s%uof2/%s", space_name, shard, name);
    write_file(path, page, sizeof page);
    fprintf(expected,
            "%s\n  {\"writer\": \"%016" PRIx64
            "\", \"shard\": %u, \"state\": \"%s\", \"counter\": %" PRIu64
            ", \"first_seq\": 0, \"next_seq\": %" PRIu64 ", \"published\": %" PRIu64
            ", \"written_s\": %" PRIu64
            ", \"pid\": 4242, \"host\": \"golden.example\", \"touches\": [3, 1]}",
            between, writer, shard, state == HEAD_LIVE ? "live" : "closed", h.counter, next_seq,
            published, h.written_s);
    between = ",";
}

static void root_write(void)
{
    static const char about[] = "{\"format\":1,\"capacity_bytes\":1099511627776,\"created_s\":"
                                "1700000000,\"segment_bytes\":67108864}\n";
    static char names[FORMAT_MAX_PARTS][8], json[SPACE_JSON_MAX], path[512];
    struct cistern_part parts[FORMAT_MAX_PARTS] = {{0}};
    struct cistern_space space = {.size = sizeof space,
                                  .name = "golden",
                                  .model = "golden-model",
                                  .revision = "r1",
                                  .epoch = 3,
                                  .dtype = "bf16",
                                  .layout = "paged-v1",
                                  .block_tokens = 64,
                                  .layers = 2,
                                  .kv_heads = 2,
                                  .head_dim = 16,
                                  .shards = 2,
                                  .nparts = FORMAT_MAX_PARTS,
                                  .parts = parts};
    uint8_t salt[32];
    unsigned i;
    int len;

    for (i = 0; i < FORMAT_MAX_PARTS; i++) {
        snprintf(names[i], sizeof names[i], "part%u", i);
        parts[i].name = names[i];
        parts[i].bytes = 16384;
    }
    check(space_fingerprint(&space, fingerprint) == 0, "fingerprint");
    space_dir_name(&space, fingerprint, space_name);
    len = space_json(&space, json, sizeof json);
    check(len > 0, "space.json");
    for (i = 0; i < 32; i++)
        salt[i] = (uint8_t)i;
    write_file("cistern.json", about, sizeof about - 1);
    write_file("salt", salt, sizeof salt);
    make_dir(space_name);
    snprintf(path, sizeof path, "%s/space.json", space_name);
    write_file(path, json, (size_t)len);
    snprintf(path, sizeof path, "%s/s0of2", space_name);
    make_dir(path);
    snprintf(path, sizeof path, "%s/s1of2", space_name);
    make_dir(path);
    snprintf(path, sizeof path, "%s/s1of2/a-later-version.idx", space_name);
    write_file(path, "unknown files are left alone\n", 29);
    fprintf(expected, "{\"space\": \"%s\", \"fingerprint\": \"%s\",\n \"segments\": [", space_name,
            hex(fingerprint, 32));
}

/* Writer a1: two finished segments; the first has padding, the second kills copies in it. */
static uint64_t shard_0(void)
{
    static const uint8_t elsewhere[16] = "another-segment";
    uint8_t first[16];
    struct segment s;
    unsigned i;

    segment_begin(&s, 0xa1, 0, 0);
    memcpy(first, s.header.segment_id, 16);
    batch_begin(&s); /* lengths around a page, one part */
    block_add(&s, 1, 0x0001, 1, 0);
    block_add(&s, 2, 0x0001, 4096, 1);
    block_add(&s, 3, 0x0001, 4097, 2);
    block_add(&s, 4, 0x8000, 10000, 3);
    batch_end(&s, CREATED_S + 1);
    batch_begin(&s); /* six parts, three records each */
    block_add(&s, 5, 0x003f, 5000, 4);
    block_add(&s, 6, 0x0db1, 300, 5);
    batch_end(&s, CREATED_S + 2);
    batch_begin(&s); /* leaves two records' room in the page */
    for (i = 0; i < 49; i++)
        dead_add(&s, 1000 + i, elsewhere, i * 4096ull, DEAD_IO);
    batch_end(&s, CREATED_S + 3);
    check(s.writer.position == 2 * FORMAT_PAGE - 128, "the padding case");
    batch_begin(&s); /* needs three */
    block_add(&s, 7, 0x0155, 700, 6);
    batch_end(&s, CREATED_S + 4);
    segment_end(&s, 0);

    segment_begin(&s, 0xa1, 1, 0);
    batch_begin(&s);
    block_add(&s, 2, 0x0001, 4096, 1); /* a second copy; the first is killed below */
    block_add(&s, 8, 0xffff, 9, 7);
    dead_add(&s, 2, first, 1 * 4096, DEAD_CHECKSUM);
    dead_add(&s, 3, first, 2 * 4096, DEAD_DELETED);
    batch_end(&s, CREATED_S + 5);
    segment_end(&s, 0);
    return s.writer.position;
}

/* Writer b2: killed while it wrote a frame; its second segment was set aside. */
static uint64_t shard_1(void)
{
    uint8_t second[16];
    struct segment s;

    segment_begin(&s, 0xb2, 1, 1);
    memcpy(second, s.header.segment_id, 16);
    batch_begin(&s);
    block_add(&s, 11, 0x0003, 4000, 1);
    batch_end(&s, CREATED_S + 6);
    segment_end(&s, 0);
    segment_begin(&s, 0xb2, 0, 1);
    batch_begin(&s);
    block_add(&s, 10, 0x0003, 12288, 0);
    batch_end(&s, CREATED_S + 7);
    batch_begin(&s);
    aside_add(&s, second);
    block_add(&s, 12, 0x0001, 8192, 2);
    batch_end(&s, CREATED_S + 8);
    segment_end(&s, 100);
    return FORMAT_PAGE + 64 * 2;
}

int main(int argc, char **argv)
{
    uint64_t published[2];
    char path[600];

    if (argc != 2) {
        fprintf(stderr, "usage: make_golden DIRECTORY\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/expected.json", argv[1]);
    expected = fopen(path, "w");
    check(expected != NULL, path);
    snprintf(root, sizeof root, "%s/root", argv[1]);
    check(mkdir(root, 0777) == 0, root);
    root_write();
    published[0] = shard_0();
    published[1] = shard_1();
    fprintf(expected, "],\n \"heads\": [");
    between = "";
    head_write(0xa1, 0, HEAD_CLOSED, 2, published[0]);
    head_write(0xb2, 1, HEAD_LIVE, 2, published[1]);
    fprintf(expected, "]}\n");
    return fclose(expected) == 0 ? 0 : 1;
}
