/*
 * victim.c - a program that stores blocks and reads them again while tests damage its store.
 * Public API only. Key, lengths and bytes of a block come from its number, so that wrong bytes are
 * known for what they are.
 *
 *   victim put MOUNT SPACE FIRST COUNT
 *       stores blocks FIRST .. FIRST + COUNT - 1, flushes, closes; prints one line
 *   victim check MOUNT SPACE COUNT
 *       reads blocks 0 .. COUNT - 1 with a read-only handle; waits for a line on stdin; reads them
 *       again with the same handle; then as a new process would, with a handle that may write,
 *       which stores the missing ones again; then once more with another handle
 *
 * Every reading prints one line of JSON: what open returned, one letter per block (h hit, m miss,
 * e error, w WRONG BYTES), and the metrics that are not zero.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cistern.h"

#define BLOCKS_MAX 256u
#define PARTS      2u
#define BATCH      8u
#define BYTES_MAX  12288u

struct victim {
    struct cistern_part parts[PARTS];
    struct cistern_space space;
    struct cistern_options options;
};

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
        p[i] = (uint8_t)(mix(&seed) >> 24);
}

static cistern_key key_of(uint32_t block)
{
    cistern_key k;

    fill(k.b, sizeof k.b, 1000003ull * block + 17);
    return k;
}

static size_t length_of(uint32_t block, uint32_t part)
{
    return part ? 2500 + 37u * (block % 40) : 9000 + 64u * (block % 50);
}

static void payload(uint32_t block, uint32_t part, uint8_t *out)
{
    fill(out, length_of(block, part), 2654435761ull * (PARTS * block + part) + 5);
}

static void victim_init(struct victim *v, const char *mount, const char *space)
{
    memset(v, 0, sizeof *v);
    v->parts[0] = (struct cistern_part){.name = "attn", .bytes = BYTES_MAX};
    v->parts[1] = (struct cistern_part){.name = "state", .bytes = 4096};
    v->space = (struct cistern_space){.size = sizeof v->space,
                                      .name = space,
                                      .model = "victim",
                                      .dtype = "bf16",
                                      .block_tokens = 16,
                                      .layers = 2,
                                      .nparts = PARTS,
                                      .parts = v->parts};
    v->options = (struct cistern_options){.size = sizeof v->options,
                                          .reuse_cache = 1,
                                          .enable_3fs = 1,
                                          .mount = mount,
                                          .root = "store",
                                          .provider = "local",
                                          .space = &v->space,
                                          .read_iov_bytes = 4u << 20,
                                          .write_iov_bytes = 4u << 20,
                                          .io_bytes = 64u << 10,
                                          .segment_bytes = 256u << 10,
                                          .max_blocks = 1u << 16,
                                          .lanes = 1,
                                          .aside_failures = 1u << 20, /* block by block */
                                          .depth = 8,
                                          .max_ops = 8,
                                          .encryption_key_file = getenv("CISTERN_TEST_KEY_FILE")};
}

/* One get or put of up to BATCH blocks. */
struct transfer {
    uint8_t bytes[BATCH][PARTS][BYTES_MAX];
    cistern_key keys[BATCH];
    struct cistern_vec vecs[BATCH][PARTS];
    struct cistern_span spans[BATCH][PARTS];
    uint8_t results[BATCH][PARTS];
    struct cistern_request request;
};

static void transfer_init(struct transfer *t, uint32_t first, uint32_t n)
{
    uint32_t b, p;

    memset(t, 0, sizeof *t);
    for (b = 0; b < n; b++) {
        t->keys[b] = key_of(first + b);
        for (p = 0; p < PARTS; p++) {
            t->vecs[b][p] = (struct cistern_vec){t->bytes[b][p], length_of(first + b, p)};
            t->spans[b][p] = (struct cistern_span){&t->vecs[b][p], 1};
        }
    }
    t->request = (struct cistern_request){.size = sizeof t->request,
                                          .keys = t->keys,
                                          .spans = &t->spans[0][0],
                                          .results = &t->results[0][0],
                                          .blocks = n,
                                          .first = first};
}

static char verdict(const struct transfer *t, uint32_t b, uint32_t block)
{
    static uint8_t want[BYTES_MAX];
    char out = 'h';
    uint32_t p;

    for (p = 0; p < PARTS; p++) {
        if (t->results[b][p] == CISTERN_HIT) {
            payload(block, p, want);
            if (memcmp(t->bytes[b][p], want, length_of(block, p)) != 0)
                return 'w';
        } else if (t->results[b][p] == CISTERN_MISS) {
            out = out == 'e' ? 'e' : 'm';
        } else {
            out = 'e';
        }
    }
    return out;
}

static void read_all(cistern *c, uint32_t count, char *out)
{
    static struct transfer t;
    struct cistern_event ev;
    uint32_t at, b, n;

    for (at = 0; at < count; at += n) {
        n = count - at < BATCH ? count - at : BATCH;
        transfer_init(&t, at, n);
        memset(t.bytes, 0xee, sizeof t.bytes);
        if (cistern_get_sync(c, &t.request, &ev) < 0)
            memset(t.results, CISTERN_ERROR, sizeof t.results);
        for (b = 0; b < n; b++)
            out[at + b] = verdict(&t, b, at + b);
    }
    /* Reads that fell short are looked into before it returns. */
    if (cistern_refresh(c, 60000))
        fprintf(stderr, "refresh: %s\n", cistern_error_text());
    out[count] = '\0';
}

static void report(const char *phase, int rc, const char *blocks, const cistern *c)
{
    struct cistern_metric m[256];
    int n = c ? cistern_metrics(c, m, 256) : 0, i;
    const char *between = "";

    printf("{\"phase\": \"%s\", \"open\": \"%s\", \"blocks\": \"%s\", \"metrics\": {", phase,
           rc ? cistern_error_name(rc) : "0", blocks);
    for (i = 0; i < n && i < 256; i++) {
        if (m[i].value == 0)
            continue;
        printf("%s\"%s\": %llu", between, m[i].name, (unsigned long long)m[i].value);
        between = ", ";
    }
    printf("}}\n");
    fflush(stdout);
}

/* Stores blocks first .. first + n - 1 with an open handle; how many of them are stored now. */
static uint32_t put_some(cistern *c, uint32_t first, uint32_t n)
{
    static struct transfer t;
    struct cistern_event ev;
    uint32_t b, p, stored = 0;

    transfer_init(&t, first, n);
    for (b = 0; b < n; b++) {
        for (p = 0; p < PARTS; p++)
            payload(first + b, p, t.bytes[b][p]);
    }
    if (cistern_put_sync(c, &t.request, &ev) < 0)
        return 0;
    for (b = 0; b < n; b++)
        stored += t.results[b][0] == CISTERN_STORED && t.results[b][1] == CISTERN_STORED;
    return stored;
}

static int put(struct victim *v, uint32_t first, uint32_t count)
{
    uint32_t at, n, stored = 0;
    cistern *c = NULL;
    int rc = cistern_open(&v->options, &c);

    for (at = first; rc == 0 && at < first + count; at += n) {
        n = first + count - at < BATCH ? first + count - at : BATCH;
        stored += put_some(c, at, n);
    }
    if (rc == 0)
        rc = cistern_flush(c, 5000);
    if (rc)
        fprintf(stderr, "victim put: %s: %s\n", cistern_error_name(rc), cistern_error_text());
    printf("{\"stored\": %u}\n", stored);
    if (cistern_close(c) && rc == 0)
        rc = -1;
    return rc == 0 && stored == count ? 0 : 1;
}

static void reopened(struct victim *v, const char *phase, uint32_t count)
{
    char blocks[BLOCKS_MAX + 1] = "";
    cistern *c = NULL;
    uint32_t b;
    int rc = cistern_open(&v->options, &c);

    if (rc == 0)
        read_all(c, count, blocks);
    report(phase, rc, blocks, c);
    for (b = 0; blocks[b]; b++) {
        if (blocks[b] != 'h' && put_some(c, b, 1) != 1)
            fprintf(stderr, "victim: block %u was not stored again: %s\n", b, cistern_error_text());
    }
    if (cistern_close(c))
        fprintf(stderr, "victim: close lost something\n");
}

static int check(struct victim *v, uint32_t count)
{
    char blocks[BLOCKS_MAX + 1] = "", line[16];
    cistern *c = NULL;
    int rc;

    v->options.flags = CISTERN_OPEN_READ_ONLY;
    rc = cistern_open(&v->options, &c);
    if (rc == 0)
        read_all(c, count, blocks);
    report("before", rc, blocks, c);
    if (rc || !fgets(line, sizeof line, stdin))
        return 1;
    read_all(c, count, blocks);
    report("live", rc, blocks, c);
    (void)cistern_close(c);
    v->options.flags = 0;
    reopened(v, "reopened", count);
    reopened(v, "again", count);
    return 0;
}

int main(int argc, char **argv)
{
    struct victim v;

    if (argc == 6 && strcmp(argv[1], "put") == 0 && atoi(argv[4]) + atoi(argv[5]) <= 256) {
        victim_init(&v, argv[2], argv[3]);
        return put(&v, (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
    }
    if (argc == 5 && strcmp(argv[1], "check") == 0 && atoi(argv[4]) <= 256) {
        victim_init(&v, argv[2], argv[3]);
        return check(&v, (uint32_t)atoi(argv[4]));
    }
    fprintf(stderr, "usage: victim put MOUNT SPACE FIRST COUNT | victim check MOUNT SPACE COUNT\n");
    return 2;
}
