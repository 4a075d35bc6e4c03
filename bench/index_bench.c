/*
 * index_bench.c - what the key layer and the index cost, for docs/BENCHMARKS.md.
 *
 *   index_bench [blocks ...]      default: 10000 100000 1000000 10000000
 *
 * Columns of the index table: bytes a block are resident pages of the whole index over blocks, at
 * the end of a filling by live insertion, the most of any size on the way from 10,000, and after a
 * bulk filling, as open does it. Nanoseconds to insert one block in batches of 63, live and in bulk
 * (its building of the tables included), and to match one key: "chain" takes 2,048 blocks that were
 * inserted one after another, beginning anywhere; "scattered" takes 256 blocks from anywhere. Each
 * with one shard and with eight. A chain is used once, so that nothing of it is in the CPU's caches
 * if the index is larger than they are. Times of single-threaded rows are CPU time of the thread.
 *
 * The p99 row: one thread matches chains of 2,048 keys over eight shards as fast as it can, another
 * inserts 100,000 blocks a second and tells presence of each for the seven other shards. Wall time.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "index/index.h"

#define SHARDS      8u
#define BATCH       63u
#define CHAIN       2048u
#define SCATTER     256u
#define PUTS        100000u
#define PUT_SECONDS 5u
#define RESERVE     ((uint64_t)64 << 20)

static double cpu_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

static cistern_key key_number(uint64_t i)
{
    uint64_t w[4];
    cistern_key key;
    unsigned k;

    for (k = 0; k < 4; k++)
        w[k] = scramble(4 * i + k + 1);
    memcpy(key.b, w, sizeof w);
    return key;
}

static void die(const char *what)
{
    fprintf(stderr, "index_bench: %s failed\n", what);
    exit(4);
}

/* Exact, unlike statm and status, which lag by some hundred KiB. */
static uint64_t resident_bytes(void)
{
    unsigned long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/self/smaps_rollup", "r");

    if (!f)
        die("/proc/self/smaps_rollup");
    while (fgets(line, sizeof line, f) && sscanf(line, "Anonymous: %lu", &kib) != 1)
        ;
    (void)fclose(f);
    return kib * 1024ull;
}

static struct block_info block_number(uint64_t i)
{
    struct block_info b = {.mask = 1, .parts = 1, .length = {65536}};
    cistern_key key = key_number(i);

    memcpy(b.key, key.b, sizeof b.key);
    b.offset = (uint32_t)i;
    b.depth = (uint32_t)(i % CHAIN);
    b.check[0] = scramble(i);
    return b;
}

struct fill {
    double ns, bytes, most;
};

/* Bulk: as open does, with the time of building the tables. */
static struct fill index_fill(struct index *ix, uint64_t n, bool bulk)
{
    static struct block_info blocks[BATCH];
    uint64_t i, count, before, look = 10000;
    struct fill f = {0, 0, 0};
    double spent = 0, start, now;

    blocks[0] = block_number(0);
    before = resident_bytes();
    if (bulk && index_bulk_begin(ix))
        die("bulk");
    for (i = 0; i < n; i += count) {
        for (count = 0; count < BATCH && i + count < n; count++)
            blocks[count] = block_number(i + count);
        start = cpu_ns();
        if (index_insert_many(ix, (uint32_t)(i / 131072), blocks, count, NULL))
            die("insert");
        spent += cpu_ns() - start;
        if (!bulk && (i + count >= look || i + count == n)) {
            now = (double)(resident_bytes() - before) / (double)(i + count);
            f.most = now > f.most ? now : f.most;
            f.bytes = now;
            look += look / 32;
        }
    }
    if (bulk) {
        start = cpu_ns();
        if (index_bulk_end(ix))
            die("bulk");
        spent += cpu_ns() - start;
        f.bytes = f.most = (double)(resident_bytes() - before) / (double)n;
    }
    f.ns = spent / (double)n;
    return f;
}

static void presence_fill(struct presence *others, uint64_t n)
{
    uint32_t shard;
    uint64_t i;

    for (i = 0; i < n; i++) {
        cistern_key key = key_number(i);

        for (shard = 1; shard < SHARDS; shard++) {
            if (presence_add(others, &key, 0, shard))
                die("presence");
        }
    }
}

static double match_cost(const struct index *ix, const struct presence *others, uint64_t n,
                         uint32_t length, bool chain, uint64_t seed)
{
    struct match_rules rules = {.all = 1, .shards = others ? SHARDS : 1};
    unsigned round, rounds = (unsigned)(min_u64(n, 1000000) / length) + 1;
    static cistern_key keys[CHAIN];
    struct match_answer answer;
    double spent = 0, start;
    uint32_t i;

    for (round = 0; round < rounds; round++) {
        uint64_t first = scramble(seed + round) % (n - length);

        for (i = 0; i < length; i++)
            keys[i] = key_number(chain ? first + i : scramble(seed + round * length + i) % n);
        start = cpu_ns();
        index_match(ix, others, &rules, keys, length, &answer);
        spent += cpu_ns() - start;
        if (answer.blocks != length)
            die("match");
    }
    return spent / rounds / length;
}

/* ---- p99 ---- */

struct load {
    struct index *ix;
    struct presence *others;
    uint64_t first;
    _Atomic uint64_t put;
    _Atomic bool stop;
};

static void *put_thread(void *arg)
{
    struct load *l = arg;
    uint64_t start = clock_ns(), done = 0, due;
    uint32_t shard;

    while (!atomic_load(&l->stop)) {
        for (due = (clock_ns() - start) * PUTS / NS_PER_S; done < due; done++) {
            struct block_info b = block_number(l->first + done);
            cistern_key key;

            memcpy(key.b, b.key, sizeof key.b);
            if (index_insert(l->ix, 1000000, &b))
                die("insert");
            for (shard = 1; shard < SHARDS; shard++) {
                if (presence_add(l->others, &key, 0, shard))
                    die("presence");
            }
        }
        atomic_store(&l->put, done);
        (void)usleep(200);
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void latency_row(struct index *ix, struct presence *others, uint64_t n)
{
    struct match_rules rules = {.all = 1, .shards = SHARDS};
    struct load load = {.ix = ix, .others = others, .first = n};
    static uint64_t took[1000000];
    static cistern_key keys[CHAIN];
    struct match_answer answer;
    uint64_t start = clock_ns(), i, t, count = 0;
    pthread_t thread;

    if (pthread_create(&thread, NULL, put_thread, &load))
        die("thread");
    while (clock_ns() - start < PUT_SECONDS * NS_PER_S && count < ARRAY_LEN(took)) {
        uint64_t first = scramble(count) % (n - CHAIN);

        for (i = 0; i < CHAIN; i++)
            keys[i] = key_number(first + i);
        t = clock_ns();
        index_match(ix, others, &rules, keys, CHAIN, &answer);
        took[count++] = clock_ns() - t;
        if (answer.blocks != CHAIN)
            die("match under load");
    }
    t = clock_ns() - start;
    atomic_store(&load.stop, true);
    (void)pthread_join(thread, NULL);
    qsort(took, count, sizeof *took, by_value);
    printf("%10llu blocks, %6.0f puts/s: %llu matches of %u keys, us: median %.0f, p99 %.0f, max "
           "%.0f\n",
           (unsigned long long)n, (double)atomic_load(&load.put) * 1e9 / (double)t,
           (unsigned long long)count, CHAIN, (double)took[count / 2] / 1e3,
           (double)took[count * 99 / 100] / 1e3, (double)took[count - 1] / 1e3);
}

/* ---- Keys ---- */

/* Alternating slices; the median of each and of their ratio. */
static void key_row(void)
{
    enum { SLICES = 41, CALLS = 500, TOKENS = 512, BLOCKS = 16 };
    static uint32_t tokens[TOKENS * BLOCKS];
    uint64_t raw[SLICES], ours[SLICES];
    cistern_key parent = key_number(1), keys[BLOCKS];
    uint8_t out[32];
    unsigned i, k;

    for (i = 0; i < ARRAY_LEN(tokens); i++)
        tokens[i] = (uint32_t)scramble(i) % 150000;
    for (i = 0; i < SLICES; i++) {
        double start = cpu_ns();

        for (k = 0; k < CALLS * BLOCKS; k++) {
            SHA256_CTX ctx;

            (void)SHA256_Init(&ctx);
            (void)SHA256_Update(&ctx, tokens + k % BLOCKS * TOKENS, sizeof *tokens * TOKENS);
            (void)SHA256_Final(out, &ctx);
        }
        raw[i] = (uint64_t)((cpu_ns() - start) / k);
        start = cpu_ns();
        for (k = 0; k < CALLS; k++) {
            if (cistern_key_chain(&parent, tokens, ARRAY_LEN(tokens), TOKENS, keys) != BLOCKS)
                die("key chain");
            parent = keys[BLOCKS - 1];
        }
        ours[i] = (uint64_t)((cpu_ns() - start) / (k * BLOCKS));
    }
    qsort(raw, SLICES, sizeof *raw, by_value);
    qsort(ours, SLICES, sizeof *ours, by_value);
    printf("\nkeys, us for 512 tokens: %.2f (least %.2f); one SHA-256 of as many bytes by OpenSSL: "
           "%.2f (least %.2f)\n",
           (double)ours[SLICES / 2] / 1e3, (double)ours[0] / 1e3, (double)raw[SLICES / 2] / 1e3,
           (double)raw[0] / 1e3);
}

static void size_rows(uint64_t n)
{
    struct presence *others;
    struct index *ix;
    struct fill fill, bulk;
    uint64_t before;

    if (index_open(RESERVE, &ix))
        die("open");
    fill = index_fill(ix, n, false);
    index_close(ix);
    if (index_open(RESERVE, &ix) || presence_open(RESERVE, SHARDS, &others))
        die("open");
    bulk = index_fill(ix, n, true);
    before = resident_bytes();
    presence_fill(others, n);
    printf("%10llu %6.1f %6.1f %6.1f %9.1f %9.0f %6.0f", (unsigned long long)n, fill.bytes,
           fill.most, bulk.bytes, (double)(resident_bytes() - before) / (double)n, fill.ns,
           bulk.ns);
    printf("  %9.1f %9.1f", match_cost(ix, NULL, n, CHAIN, true, 1000),
           match_cost(ix, others, n, CHAIN, true, 2000000));
    printf("  %9.1f %9.1f\n", match_cost(ix, NULL, n, SCATTER, false, 3000000),
           match_cost(ix, others, n, SCATTER, false, 7000000));
    (void)fflush(stdout);
    if (n >= 1000000)
        latency_row(ix, others, n);
    presence_close(others);
    index_close(ix);
}

int main(int argc, char **argv)
{
    static const uint64_t usual[] = {10000, 100000, 1000000, 10000000};
    int i;

    printf("                bytes a block: index  presence   insert, ns  match, ns a key: chain"
           "          scattered\n");
    printf("    blocks   live   most   bulk       end      live   bulk    1 shard  8 shards    "
           "1 shard  8 shards\n");
    if (argc < 2) {
        for (i = 0; i < (int)ARRAY_LEN(usual); i++)
            size_rows(usual[i]);
    }
    for (i = 1; i < argc; i++) {
        uint64_t n = strtoull(argv[i], NULL, 10);

        if (n < 4096) {
            fprintf(stderr, "index_bench: at least 4096 blocks\n");
            return 2;
        }
        size_rows(n);
    }
    key_row();
    return 0;
}
