/*
 * writer.c - a program that stores blocks for the tests of the operator's tools, and can be left
 * alive, closed, or killed. Public API only.
 *
 *   writer MOUNT ROOT NAME MODEL SHARD SHARDS SEED
 *
 * Then one command a line on stdin, one line of answer each:
 *
 *   put N        stores blocks 0 .. N - 1 of the prompt whose token i is the byte text(SEED, i)
 *   delete I     forgets block I
 *   match N      "match M": the run of blocks 0 .. N - 1
 *   check N      "hits H wrong W": reads blocks 0 .. N - 1 and compares
 *   tenant NAME  goes on as this tenant
 *   close        closes and ends
 *
 * End of input ends the process at once, as a crash would. In a space whose NAME is "last" the
 * second part is needed in the last block of a run only, and odd blocks have none. WRITER_KEY_FILE
 * names the key file of an encrypted root, WRITER_TENANT the tenant; its payloads, and nobody
 * else's, have its salt in them every 64 bytes. WRITER_LIST_MS is how often directories are listed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cistern.h"

enum { TOKENS = 16, BLOCKS = 512, KV = 10000, STATE = 3000 };

static const size_t lengths[2] = {KV, STATE};

struct writer {
    struct cistern_part parts[2];
    struct cistern_space space;
    struct cistern_options o;
    cistern *c;
    cistern_key keys[BLOCKS];
    unsigned seed;
    int last;
    char tenant[64];
};

/* Printable, so that a prompt can be a text file. */
static uint32_t text(unsigned seed, unsigned i)
{
    return 'a' + (i * 7 + i / 26 + seed * 11 + (i >> 5) * seed) % 26;
}

static void fill(uint8_t *p, size_t n, uint32_t x)
{
    size_t i;

    for (i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24);
    }
}

/* So that a search of the disk finds whose bytes lie there. */
static void sign(const struct writer *w, uint8_t *p, size_t n)
{
    size_t i, len = strlen(w->tenant);

    for (i = 0; len && i + len <= n; i += 64)
        memcpy(p + i, w->tenant, len);
}

static void payload(const struct writer *w, unsigned i, int part, uint8_t *out)
{
    fill(out, lengths[part], w->seed * 1000003u + i * 2 + (unsigned)part);
    sign(w, out, lengths[part]);
}

/* Puts or gets block i; how many parts had the wanted result, and for a get whether bytes are
 * wrong. */
static int transfer(struct writer *w, unsigned i, int get, int *wrong)
{
    static uint8_t bytes[2][KV], want[KV];
    uint8_t results[2] = {0, 0};
    struct cistern_vec vecs[2];
    struct cistern_span spans[2];
    struct cistern_event ev;
    struct cistern_request r = {.size = sizeof r,
                                .keys = &w->keys[i],
                                .spans = spans,
                                .results = results,
                                .blocks = 1,
                                .first = i,
                                .timeout_ms = 60000};
    int p, good = 0;

    for (p = 0; p < 2; p++) {
        vecs[p] = (struct cistern_vec){bytes[p], lengths[p]};
        spans[p] = (struct cistern_span){&vecs[p], p == 0 || !w->last || i % 2 == 0};
        if (!get)
            payload(w, i, p, bytes[p]);
    }
    if ((get ? cistern_get_sync(w->c, &r, &ev) : cistern_put_sync(w->c, &r, &ev)) != 0)
        return -1;
    for (p = 0; p < 2; p++) {
        good += get ? results[p] == CISTERN_HIT
                    : results[p] == CISTERN_STORED || results[p] == CISTERN_PRESENT;
        payload(w, i, p, want);
        if (get && results[p] == CISTERN_HIT && memcmp(want, bytes[p], lengths[p]) != 0)
            ++*wrong;
    }
    return good + (w->last && i % 2);
}

static int take_keys(struct writer *w, const char *tenant)
{
    static uint32_t tokens[TOKENS * BLOCKS];
    struct cistern_identity id = {.size = sizeof id, .tenant = w->tenant};
    cistern_key root;
    unsigned i;
    int rc;

    (void)snprintf(w->tenant, sizeof w->tenant, "%s", tenant ? tenant : "");
    id.tenant_len = strlen(w->tenant);
    for (i = 0; i < TOKENS * BLOCKS; i++)
        tokens[i] = text(w->seed, i);
    rc = cistern_key_root(w->c, &id, &root);
    if (rc)
        return rc;
    return cistern_key_chain(&root, tokens, TOKENS * BLOCKS, TOKENS, w->keys) == BLOCKS ? 0 : -1;
}

static int open_it(struct writer *w, char **argv)
{
    int rc;

    w->parts[0] = (struct cistern_part){.name = "kv", .bytes = KV};
    w->last = strcmp(argv[3], "last") == 0;
    w->parts[1] = (struct cistern_part){
        .name = "state", .bytes = STATE, .policy = w->last ? CISTERN_PART_LAST : CISTERN_PART_ALL};
    w->space = (struct cistern_space){.size = sizeof w->space,
                                      .name = argv[3],
                                      .model = argv[4],
                                      .dtype = "bf16",
                                      .block_tokens = TOKENS,
                                      .shards = (uint32_t)atoi(argv[6]),
                                      .nparts = 2,
                                      .parts = w->parts};
    w->o = (struct cistern_options){.size = sizeof w->o,
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = argv[1],
                                    .root = argv[2],
                                    .provider = "local",
                                    .space = &w->space,
                                    .shard = (uint32_t)atoi(argv[5]),
                                    .read_iov_bytes = 4u << 20,
                                    .write_iov_bytes = 4u << 20,
                                    .io_bytes = 64u << 10,
                                    .segment_bytes = 256u << 10,
                                    .max_blocks = 1u << 16,
                                    .lanes = 1,
                                    .depth = 8,
                                    .max_ops = 8,
                                    .encryption_key_file = getenv("WRITER_KEY_FILE")};
    if (getenv("WRITER_LIST_MS"))
        w->o.list_ms = (uint32_t)atoi(getenv("WRITER_LIST_MS"));
    w->seed = (unsigned)atoi(argv[7]);
    rc = cistern_open(&w->o, &w->c);
    return rc ? rc : take_keys(w, getenv("WRITER_TENANT"));
}

static void command(struct writer *w, const char *line)
{
    unsigned n = 0, i, hits = 0;
    char tenant[64];
    int wrong = 0;

    if (sscanf(line, "put %u", &n) == 1) {
        for (i = 0; i < n && i < BLOCKS; i++)
            hits += transfer(w, i, 0, &wrong) == 2;
        printf("stored %u flush %d\n", hits, cistern_flush(w->c, 60000));
    } else if (sscanf(line, "delete %u", &n) == 1 && n < BLOCKS) {
        printf("deleted %lld", (long long)cistern_delete(w->c, &w->keys[n], 1));
        printf(" flush %d\n", cistern_flush(w->c, 60000));
    } else if (sscanf(line, "tenant %63s", tenant) == 1) {
        printf("tenant %d\n", take_keys(w, tenant));
    } else if (sscanf(line, "match %u", &n) == 1 && n <= BLOCKS) {
        struct cistern_match m = {0};
        int rc = cistern_match(w->c, w->keys, n, &m);

        (void)cistern_ticket_release(w->c, m.ticket);
        printf("match %d\n", rc ? rc : (int)m.blocks);
    } else if (sscanf(line, "check %u", &n) == 1) {
        if (cistern_refresh(w->c, 60000) != 0)
            printf("refresh failed ");
        for (i = 0; i < n && i < BLOCKS; i++)
            hits += transfer(w, i, 1, &wrong) == 2;
        printf("hits %u wrong %d\n", hits, wrong);
    } else {
        printf("what?\n");
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct writer w;
    char line[64];
    int rc;

    if (argc != 8)
        return 2;
    rc = open_it(&w, argv);
    printf("open %d %s\n", rc, rc ? cistern_error_text() : "");
    fflush(stdout);
    while (!rc && fgets(line, sizeof line, stdin)) {
        if (strncmp(line, "close", 5) == 0) {
            printf("close %d\n", cistern_close(w.c));
            return 0;
        }
        command(&w, line);
    }
    _exit(3);
}
