/*
 * index_bench.c - what the key layer and the index cost, for docs/BENCHMARKS.md.
 *
 *   index_bench [blocks ...]      default: 10000 100000 1000000 10000000
 *
 * Bytes a block are resident pages over blocks: of the index at the end of a filling by live
 * insertion, the most of any size on the way from 10,000, after a bulk filling as open does it, and
 * of the presence of seven other shards. Insertion is in batches of 63; bulk has the building of
 * the tables in it; presence is for one shard. A match is of 2,048 blocks that were inserted one
 * after another, beginning anywhere, or of 256 from anywhere; with eight shards all others are
 * asked. Every round takes other blocks, so that nothing of them is in the CPU's caches if the
 * index is larger than they are. These times are CPU time of the thread.
 *
 * The latency rows: one thread matches chains of 2,048 keys over eight shards as fast as it can,
 * another inserts 100,000 blocks a second and adds presence of each for the seven other shards.
 * Where other work competes for the CPUs, wall time has the waiting for a CPU in it, CPU time not.
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
#define ROUNDS      1000u
#define LATENCIES   1000000u

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

/* As open does it: shard by shard, in batches. */
static double presence_fill(struct presence *others, uint64_t n)
{
    const struct match_rules rules = {.all = 1, .shards = SHARDS};
    static struct block_info blocks[BATCH];
    double spent = 0, start;
    uint64_t i, count;
    uint32_t shard;

    for (shard = 1; shard < SHARDS; shard++) {
        for (i = 0; i < n; i += count) {
            for (count = 0; count < BATCH && i + count < n; count++)
                blocks[count] = block_number(i + count);
            start = cpu_ns();
            if (presence_add_blocks(others, &rules, shard, blocks, count))
                die("presence");
            spent += cpu_ns() - start;
        }
    }
    presence_settle(others);
    return spent / (double)n / (SHARDS - 1);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Prints the median of the rounds and, in brackets, their lowest tenth. */
static void match_row(const struct index *ix, const struct presence *others, uint64_t n, bool chain)
{
    struct match_rules rules = {.all = 1, .shards = others ? SHARDS : 1};
    uint32_t i, length = chain ? CHAIN : SCATTER;
    unsigned round, rounds = (unsigned)(min_u64(n, ROUNDS * length) / length);
    static uint64_t took[ROUNDS], seed;
    static cistern_key keys[CHAIN];
    struct match_answer answer;
    double start;

    for (round = 0; round < rounds; round++) {
        uint64_t first = scramble(++seed) % (n - length);

        for (i = 0; i < length; i++)
            keys[i] = key_number(chain ? first + i : scramble(seed << 20 | i) % n);
        start = cpu_ns();
        index_match(ix, others, &rules, keys, length, &answer);
        took[round] = (uint64_t)((cpu_ns() - start) * 10 / length);
        if (answer.blocks != length)
            die("match");
    }
    qsort(took, rounds, sizeof *took, by_value);
    printf("  %6.1f (%5.1f)", (double)took[rounds / 2] / 10, (double)took[rounds / 10] / 10);
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

static void print_latency(const char *clock, uint64_t *took, uint64_t count)
{
    qsort(took, count, sizeof *took, by_value);
    printf("  %s: median %.0f, p99 %.0f, max %.0f us\n", clock, (double)took[count / 2] / 1e3,
           (double)took[count * 99 / 100] / 1e3, (double)took[count - 1] / 1e3);
}

static void latency_rows(struct index *ix, struct presence *others, uint64_t n)
{
    static uint64_t wall[LATENCIES], cpu[LATENCIES];
    struct match_rules rules = {.all = 1, .shards = SHARDS};
    struct load load = {.ix = ix, .others = others, .first = n};
    uint64_t start = clock_ns(), i, t, count = 0;
    static cistern_key keys[CHAIN];
    struct match_answer answer;
    pthread_t thread;
    double c;

    if (pthread_create(&thread, NULL, put_thread, &load))
        die("thread");
    while (clock_ns() - start < PUT_SECONDS * NS_PER_S && count < LATENCIES) {
        uint64_t first = scramble(count) % (n - CHAIN);

        for (i = 0; i < CHAIN; i++)
            keys[i] = key_number(first + i);
        c = cpu_ns();
        t = clock_ns();
        index_match(ix, others, &rules, keys, CHAIN, &answer);
        wall[count] = clock_ns() - t;
        cpu[count++] = (uint64_t)(cpu_ns() - c);
        if (answer.blocks != CHAIN)
            die("match under load");
    }
    t = clock_ns() - start;
    atomic_store(&load.stop, true);
    (void)pthread_join(thread, NULL);
    printf("\n%llu blocks, %.0f puts/s, %llu matches of %u keys over %u shards\n",
           (unsigned long long)n, (double)atomic_load(&load.put) * 1e9 / (double)t,
           (unsigned long long)count, CHAIN, SHARDS);
    print_latency("wall time", wall, count);
    print_latency("CPU time ", cpu, count);
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

static void size_row(uint64_t n, bool latency)
{
    struct fill live, bulk;
    struct presence *others;
    struct index *ix;
    uint64_t before;
    double present;

    if (index_open(RESERVE, &ix))
        die("open");
    live = index_fill(ix, n, false);
    index_close(ix);
    if (index_open(RESERVE, &ix) || presence_open(RESERVE, SHARDS, &others))
        die("open");
    bulk = index_fill(ix, n, true);
    before = resident_bytes();
    present = presence_fill(others, n);
    if (latency) {
        latency_rows(ix, others, n);
    } else {
        printf("%9llu %5.1f %5.1f %5.1f %8.1f %6.0f %5.0f %8.0f", (unsigned long long)n, live.bytes,
               live.most, bulk.bytes, (double)(resident_bytes() - before) / (double)n, live.ns,
               bulk.ns, present);
        match_row(ix, NULL, n, true);
        match_row(ix, others, n, true);
        match_row(ix, NULL, n, false);
        match_row(ix, others, n, false);
        printf("\n");
    }
    (void)fflush(stdout);
    presence_close(others);
    index_close(ix);
}

int main(int argc, char **argv)
{
    uint64_t sizes[16] = {10000, 100000, 1000000, 10000000};
    int i, count = argc > 1 ? argc - 1 : 4;

    for (i = 1; i < argc && i <= 16; i++) {
        sizes[i - 1] = strtoull(argv[i], NULL, 10);
        if (sizes[i - 1] < 4096 || argc > 17) {
            fprintf(stderr, "index_bench: up to 16 sizes of at least 4096 blocks\n");
            return 2;
        }
    }
    printf("          bytes a block              insert, ns             match, ns a key: median "
           "(lowest tenth)\n");
    printf("          index                                             chain of 2048             "
           "     256 from anywhere\n");
    printf("   blocks  live  most  bulk presence   live  bulk presence   1 shard         8 shards  "
           "      1 shard         8 shards\n");
    for (i = 0; i < count; i++)
        size_row(sizes[i], false);
    key_row();
    size_row(sizes[count - 1], true);
    return 0;
}
