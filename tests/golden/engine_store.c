/*
 * engine_store.c - a store as the engine of a release leaves it, through the public API alone.
 *
 *   engine_store make DIR    a mount directory: fills it, prints what it holds as JSON
 *   engine_store read DIR    prints the numbers of the blocks that a get verifies, one a line
 *   engine_store add DIR     stores one more
 *
 * tests/golden/v1-0.1 was made once with the library of the first release that bounds and shares a
 * store, and is never made again: one writer that was killed, one that evicted and closed, one that
 * found damage, noted bad copies and set a segment aside. Names and ids are random, so making it
 * again gives other bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cistern.h"

enum { KV = 5000, AUX = 700, EXTENT = 12 << 10, SEGMENT = 4 * EXTENT, CAPACITY = 10 * SEGMENT };
enum { KILLED = 8, FIRST = 100, CLOSED = 60, ALL = 200, ONE_MORE = 1000, WAIT_MS = 60000 };

static cistern *c;

static void need(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "engine_store: %s: %s\n", what, cistern_error_text());
    exit(1);
}

static void open_store(const char *dir, uint32_t flags)
{
    static const struct cistern_part parts[] = {
        {.name = "kv", .bytes = KV}, {.name = "aux", .bytes = AUX, .policy = CISTERN_PART_LAST}};
    struct cistern_space space = {.size = sizeof space,
                                  .name = "engine",
                                  .model = "golden",
                                  .dtype = "bf16",
                                  .block_tokens = 16,
                                  .nparts = 2,
                                  .parts = parts};
    struct cistern_options o = {.size = sizeof o,
                                .reuse_cache = 1,
                                .enable_3fs = 1,
                                .mount = dir,
                                .provider = "local",
                                .space = &space,
                                .flags = flags,
                                .io_bytes = 4096,
                                .segment_bytes = SEGMENT,
                                .capacity_bytes = CAPACITY,
                                .evict_grace_ms = 100,
                                .aside_failures = 2,
                                .sync_ms = 50,
                                .read_iov_bytes = 4 << 20,
                                .write_iov_bytes = 4 << 20};

    need(cistern_open(&o, &c), "open");
}

static void key_of(uint64_t number, cistern_key *key)
{
    cistern_key root;

    need(cistern_key_root(c, NULL, &root), "root key");
    need(cistern_key_from_hash(&root, &number, sizeof number, key), "key");
}

static uint8_t byte_of(uint64_t number, size_t i)
{
    return (uint8_t)(number * 31 + (i >> 6) * 7 + i % 3);
}

/* 1: stored, or a hit with the right bytes. */
static int transfer(uint64_t number, int put)
{
    static uint8_t bytes[KV + AUX];
    struct cistern_vec vecs[2] = {{bytes, KV}, {bytes + KV, AUX}};
    struct cistern_span spans[2] = {{&vecs[0], 1}, {&vecs[1], 1}};
    uint8_t results[2] = {0, 0};
    struct cistern_event event;
    cistern_key key;
    struct cistern_request r = {.size = sizeof r,
                                .keys = &key,
                                .spans = spans,
                                .results = results,
                                .blocks = 1,
                                .timeout_ms = WAIT_MS};
    size_t i;

    key_of(number, &key);
    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = put ? byte_of(number, i) : 0;
    if (put) {
        need(cistern_put_sync(c, &r, &event), "put");
        return results[0] == CISTERN_STORED;
    }
    need(cistern_get_sync(c, &r, &event), "get");
    if (results[0] != CISTERN_HIT || results[1] != CISTERN_HIT)
        return 0;
    for (i = 0; i < sizeof bytes; i++) {
        if (bytes[i] != byte_of(number, i)) {
            fprintf(stderr, "engine_store: block %llu has other bytes\n",
                    (unsigned long long)number);
            exit(1);
        }
    }
    return 1;
}

/* ---- Making ---- */

static void put_range(uint64_t first, uint64_t n)
{
    uint64_t i;

    for (i = first; i < first + n; i++) {
        while (!transfer(i, 1))
            (void)usleep(10000); /* until something was evicted */
    }
}

static void writer_that_is_killed(const char *dir)
{
    cistern_key key;
    pid_t child = fork();
    int status;

    if (child == 0) {
        open_store(dir, 0);
        put_range(0, KILLED);
        key_of(KILLED - 3, &key);
        need(cistern_delete(c, &key, 1) == 1 ? 0 : -1, "delete");
        need(cistern_flush(c, WAIT_MS), "flush");
        _exit(0); /* no close: its head goes on to say that it lives */
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        exit(1);
}

static void writer_that_closes(const char *dir)
{
    int i;

    open_store(dir, 0);
    put_range(FIRST, CLOSED);
    for (i = 0; i < 5; i++)
        (void)transfer(FIRST + CLOSED - 3, 0);
    need(cistern_flush(c, WAIT_MS), "flush");
    need(cistern_close(c), "close");
}

/* Flips a byte of each of the first two blocks of the last segment. */
static void damage(const char *dir)
{
    static const char *const find = "f=$(ls -t \"$1\"/rtp_llm/engine-*/s0of1/*.head | head -1) && "
                                    "f=$(ls \"${f%.head}\"-*.seg | tail -1) && "
                                    "for at in 100 12388; do printf '\\377' | dd of=\"$f\" bs=1 "
                                    "seek=$at conv=notrunc status=none; done";
    pid_t child = fork();
    int status;

    if (child == 0) {
        (void)execl("/bin/sh", "sh", "-c", find, "sh", dir, (char *)NULL);
        _exit(1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        exit(1);
}

static void writer_that_finds_damage(const char *dir)
{
    uint64_t i;

    open_store(dir, 0);
    for (i = 0; i < ALL; i++)
        (void)transfer(i, 0);
    put_range(ALL - 1, 1);
    need(cistern_flush(c, WAIT_MS), "flush");
    need(cistern_close(c), "close");
}

static void print_blocks(const char *dir)
{
    const char *between = "";
    cistern_key key;
    unsigned k;
    uint64_t i;

    open_store(dir, CISTERN_OPEN_READ_ONLY);
    printf("{\"blocks\": [");
    for (i = 0; i < ALL; i++) {
        if (!transfer(i, 0))
            continue;
        key_of(i, &key);
        printf("%s\n  {\"number\": %llu, \"key\": \"", between, (unsigned long long)i);
        for (k = 0; k < sizeof key.b; k++)
            printf("%02x", key.b[k]);
        printf("\"}");
        between = ",";
    }
    printf("\n]}\n");
    need(cistern_close(c), "close");
}

int main(int argc, char **argv)
{
    uint64_t i;

    if (argc == 3 && strcmp(argv[1], "make") == 0) {
        writer_that_is_killed(argv[2]);
        writer_that_closes(argv[2]);
        damage(argv[2]);
        writer_that_finds_damage(argv[2]);
        print_blocks(argv[2]);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "add") == 0) {
        open_store(argv[2], 0);
        put_range(ONE_MORE, 1);
        need(cistern_close(c), "close");
        return 0;
    }
    if (argc != 3 || strcmp(argv[1], "read") != 0)
        return 2;
    open_store(argv[2], CISTERN_OPEN_READ_ONLY);
    for (i = 0; i <= ONE_MORE; i++) {
        if (transfer(i, 0))
            printf("%llu\n", (unsigned long long)i);
    }
    need(cistern_close(c), "close");
    return 0;
}
