/*
 * store.h - a small store in a folder of its own, for tests that use the public API.
 *
 * The folder is below TMPDIR or /tmp and is removed by store_rmdir(). Staging is a few MiB, so that
 * a machine with a 64 MiB /dev/shm can run the tests. Include it after cmocka.h. With
 * CISTERN_TEST_KEY_FILE in the environment stores are encrypted.
 */
#ifndef TESTS_HARNESS_STORE_H
#define TESTS_HARNESS_STORE_H

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cistern.h"

enum { STORE_BLOCK = 64 << 10, STORE_TOKENS = 16 };

struct store {
    char dir[256];
    struct cistern_part parts[1];
    struct cistern_space space;
    struct cistern_options o;
};

static int store_remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void store_rmdir(struct store *s)
{
    if (s->dir[0])
        (void)nftw(s->dir, store_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    s->dir[0] = 0;
}

/* A fresh folder and options that open; change what the test is about. */
static inline void store_init(struct store *s)
{
    const char *tmp = getenv("TMPDIR");

    memset(s, 0, sizeof *s);
    (void)snprintf(s->dir, sizeof s->dir, "%s/cistern-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(s->dir))
        s->dir[0] = 0;
    s->parts[0] = (struct cistern_part){.name = "kv", .bytes = STORE_BLOCK};
    s->space = (struct cistern_space){.size = sizeof s->space,
                                      .model = "test",
                                      .dtype = "bf16",
                                      .block_tokens = STORE_TOKENS,
                                      .nparts = 1,
                                      .parts = s->parts};
    s->o = (struct cistern_options){.size = sizeof s->o,
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = s->dir,
                                    .provider = "local",
                                    .space = &s->space,
                                    .read_iov_bytes = 8 << 20,
                                    .write_iov_bytes = 8 << 20,
                                    .segment_bytes = 64 << 20,
                                    .max_blocks = 1 << 20,
                                    .lanes = 1,
                                    .encryption_key_file = getenv("CISTERN_TEST_KEY_FILE")};
}

/* Bytes that depend on a number, so that a block in the wrong place is seen. */
static inline void store_fill(void *to, size_t len, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    unsigned char *p = to;
    size_t i;

    for (i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (unsigned char)(x >> 32);
    }
}

/* A key that depends on a number only. */
static inline void store_key(cistern_key *key, uint64_t number)
{
    store_fill(key->b, sizeof key->b, number ^ 0x6b6579);
}

#endif
