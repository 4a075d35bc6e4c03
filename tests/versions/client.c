/*
 * client.c - one process of the test of two versions: it is compiled against the header of one
 * version and linked with its library. Public API of the first version only.
 *
 *   client DIR
 *
 * Then one command a line on stdin, one line with a number as the answer:
 *
 *   put N       stores block N: an enum cistern_result
 *   get N       reads block N: an enum cistern_result, 100 for a hit with other bytes
 *   has N       1 when block N is known
 *   delete N    how many copies of it were forgotten
 *   flush 0     0 or an error
 *   refresh 0   likewise
 *
 * The end of the input closes the store; the exit status says whether that worked.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cistern.h"

enum { KV = 20000, AUX = 3000, WRONG = 100, TIMEOUT_MS = 60000 };

static void fill(unsigned char *p, size_t len, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    size_t i;

    for (i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (unsigned char)(x >> 32);
    }
}

static long transfer(cistern *c, const cistern_key *key, uint64_t number, int put)
{
    static unsigned char bytes[KV + AUX], expect[KV + AUX];
    struct cistern_vec vecs[2] = {{bytes, KV}, {bytes + KV, AUX}};
    struct cistern_span spans[2] = {{&vecs[0], 1}, {&vecs[1], 1}};
    struct cistern_event event;
    unsigned char results[2] = {0, 0};
    struct cistern_request r;
    int rc;

    memset(&r, 0, sizeof r);
    r.size = sizeof r;
    r.keys = key;
    r.spans = spans;
    r.results = results;
    r.blocks = 1;
    r.timeout_ms = TIMEOUT_MS;
    fill(expect, sizeof expect, number);
    if (put)
        memcpy(bytes, expect, sizeof bytes);
    else
        memset(bytes, 0, sizeof bytes);
    rc = put ? cistern_put_sync(c, &r, &event) : cistern_get_sync(c, &r, &event);
    if (rc)
        return rc;
    if (results[0] == CISTERN_HIT && results[1] == CISTERN_HIT &&
        memcmp(bytes, expect, sizeof bytes) != 0)
        return WRONG;
    return results[0] == results[1] ? results[0] : -1;
}

static long answer(cistern *c, const char *word, uint64_t number)
{
    cistern_key key;
    uint16_t mask = 0;
    int rc;

    fill(key.b, sizeof key.b, number ^ 0x6b6579);
    if (strcmp(word, "put") == 0)
        return transfer(c, &key, number, 1);
    if (strcmp(word, "get") == 0)
        return transfer(c, &key, number, 0);
    if (strcmp(word, "delete") == 0)
        return (long)cistern_delete(c, &key, 1);
    if (strcmp(word, "flush") == 0)
        return cistern_flush(c, TIMEOUT_MS);
    if (strcmp(word, "refresh") == 0)
        return cistern_refresh(c, TIMEOUT_MS);
    rc = cistern_exists(c, &key, 1, &mask);
    return rc ? rc : mask != 0;
}

int main(int argc, char **argv)
{
    struct cistern_part parts[2];
    struct cistern_space space;
    struct cistern_options o;
    unsigned long long number;
    char line[64], word[32];
    cistern *c;

    memset(parts, 0, sizeof parts);
    memset(&space, 0, sizeof space);
    memset(&o, 0, sizeof o);
    parts[0].name = "kv";
    parts[0].bytes = KV;
    parts[1].name = "aux";
    parts[1].bytes = AUX;
    parts[1].policy = CISTERN_PART_LAST;
    space.size = sizeof space;
    space.model = "versions";
    space.dtype = "bf16";
    space.block_tokens = 16;
    space.nparts = 2;
    space.parts = parts;
    o.size = sizeof o;
    o.reuse_cache = o.enable_3fs = 1;
    o.mount = argc > 1 ? argv[1] : "";
    o.provider = "local";
    o.space = &space;
    o.read_iov_bytes = o.write_iov_bytes = 8 << 20;
    o.segment_bytes = 1 << 20;
    o.max_blocks = 1 << 20;
    o.sync_ms = 100;
    o.lanes = 1;
    if (cistern_open(&o, &c)) {
        (void)fprintf(stderr, "open: %s\n", cistern_error_text());
        return 1;
    }
    (void)printf("0\n");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%31s %llu", word, &number) == 2) {
        (void)printf("%ld\n", answer(c, word, number));
        (void)fflush(stdout);
    }
    return cistern_close(c) ? 1 : 0;
}
