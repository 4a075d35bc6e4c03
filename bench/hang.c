/*
 * hang.c - what storage that stops answering costs a process, for docs/BENCHMARKS.md.
 *
 *   hang PROVIDER [DIR]     PROVIDER: tests/fakes/slow/libhf3fs_api_shared.so of the build
 *
 * The store has its default limits: 1,000 ms a read, four failures, a probe each 1,000 ms. One
 * block is got again and again, as an engine would one request after the other. Two ways to stop:
 * reads hang and are answered late; the daemon dies, and the next one knows nothing of before. Of
 * each round, with a handle of its own:
 *
 *   lost      milliseconds that gets took in sum until the breaker was open, and how many gets
 *   request   a match, a get and a put one after the other while it is open, in milliseconds: the
 *             median of 1,000, the 99th percentile, the longest
 *   back      milliseconds from the moment in which storage answers again to the first hit
 *
 * Exit status 1: in some round gets lost more than twice the read timeout, more than one request in
 * a hundred took longer than a millisecond, or hits took longer than a probe interval to return.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cistern.h"
#include "../tests/fakes/slow_usrbio.h"

enum { BLOCK = 1 << 20, BLOCKS = 8, ROUNDS = 5, REQUESTS = 1000, GIVE_UP_MS = 60000 };
enum { LOST_MS = 2000, REQUEST_MS = 1, PROBE_MS = 1000 };

struct bench {
    struct slow_state *slow;
    struct cistern_options o;
    cistern *c;
    cistern_key keys[2 * BLOCKS];
    unsigned char *bytes;
    struct cistern_vec vecs[2 * BLOCKS];
    struct cistern_span spans[2 * BLOCKS];
    uint8_t results[2 * BLOCKS];
};

static double now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(int ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "hang: %s: %s\n", what, cistern_error_text());
    exit(1);
}

static uint64_t metric(const struct bench *b, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(b->c, m, 256);

    for (i = 0; i < n && i < 256; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    return 0;
}

/* Returns the result of the first block. */
static uint8_t transfer(struct bench *b, int put, uint32_t from, uint32_t n)
{
    struct cistern_request r = {.size = sizeof r,
                                .keys = b->keys + from,
                                .spans = b->spans + from,
                                .results = b->results + from,
                                .blocks = n};
    struct cistern_event ev;

    must((put ? cistern_put_sync(b->c, &r, &ev) : cistern_get_sync(b->c, &r, &ev)) == 0,
         put ? "put" : "get");
    return b->results[from];
}

static void stop(struct bench *b, int dies)
{
    atomic_store(&b->slow->dead, dies);
    atomic_store(&b->slow->read[SLOW_DATA].mode, dies ? SLOW_PASS : SLOW_HANG);
}

static void go_on(struct bench *b, int died)
{
    atomic_fetch_add(&b->slow->daemon, died);
    atomic_store(&b->slow->dead, 0);
    atomic_store(&b->slow->read[SLOW_DATA].mode, SLOW_PASS);
}

static int by_size(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;

    return a < b ? -1 : a > b;
}

/* In rising order. */
static void time_requests(struct bench *b, double took[REQUESTS])
{
    int i;

    for (i = 0; i < REQUESTS; i++) {
        struct cistern_match m = {0};
        double start = now_ms();

        must(cistern_match(b->c, b->keys, BLOCKS, &m) == 0, "match");
        (void)cistern_ticket_release(b->c, m.ticket);
        (void)transfer(b, 0, 0, 1);
        (void)transfer(b, 1, BLOCKS, 1);
        took[i] = now_ms() - start;
    }
    qsort(took, REQUESTS, sizeof *took, by_size);
}

/* False: more than is allowed. */
static int one_round(struct bench *b, int dies)
{
    static double took[REQUESTS];
    double start, lost, back;
    int gets = 0;

    must(cistern_open(&b->o, &b->c) == 0, "open");
    must(transfer(b, 0, 0, 1) == CISTERN_HIT, "a hit");
    stop(b, dies);
    start = now_ms();
    while (!metric(b, "breaker_open") && now_ms() - start < GIVE_UP_MS) {
        (void)transfer(b, 0, 0, 1);
        gets++;
    }
    lost = now_ms() - start;
    time_requests(b, took);
    go_on(b, dies);
    start = now_ms();
    while (transfer(b, 0, 0, 1) != CISTERN_HIT && now_ms() - start < GIVE_UP_MS)
        (void)usleep(1000);
    back = now_ms() - start;
    (void)printf("| %s | %.0f in %d | %.3f, %.3f, %.3f | %.0f |\n",
                 dies ? "its daemon dies" : "it hangs", lost, gets, took[REQUESTS / 2],
                 took[REQUESTS * 99 / 100], took[REQUESTS - 1], back);
    (void)fflush(stdout);
    (void)cistern_close(b->c); /* after a death it says that something is left behind */
    return lost <= LOST_MS && took[REQUESTS * 99 / 100] <= REQUEST_MS && back <= PROBE_MS;
}

static void set_up(struct bench *b, struct cistern_space *space, char *dir, const char *provider)
{
    void *lib = dlopen(provider, RTLD_NOW | RTLD_LOCAL);
    uint32_t i;

    b->slow = lib ? dlsym(lib, "slow_state") : NULL;
    if (!b->slow || !mkdtemp(dir)) {
        (void)fprintf(stderr, "hang: %s or %s cannot be used\n", provider, dir);
        exit(1);
    }
    b->o = (struct cistern_options){.size = sizeof b->o,
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = dir,
                                    .provider = "local",
                                    .provider_path = provider,
                                    .space = space,
                                    .read_iov_bytes = 64 << 20,
                                    .write_iov_bytes = 64 << 20,
                                    .close_timeout_ms = 500};
    b->bytes = calloc(2 * BLOCKS, BLOCK);
    must(b->bytes != NULL, "memory");
    for (i = 0; i < 2 * BLOCKS; i++) {
        memset(&b->keys[i], (int)i + 1, sizeof b->keys[i]);
        b->vecs[i] = (struct cistern_vec){b->bytes + (size_t)i * BLOCK, BLOCK};
        b->spans[i] = (struct cistern_span){&b->vecs[i], 1};
    }
    must(cistern_open(&b->o, &b->c) == 0, "open");
    must(transfer(b, 1, 0, BLOCKS) == CISTERN_STORED, "put");
    must(cistern_close(b->c) == 0, "close");
}

int main(int argc, char **argv)
{
    struct cistern_part part = {.name = "kv", .bytes = BLOCK};
    struct cistern_space space = {.size = sizeof space,
                                  .model = "bench",
                                  .dtype = "bf16",
                                  .block_tokens = 16,
                                  .nparts = 1,
                                  .parts = &part};
    struct bench b = {0};
    char dir[512], command[600];
    int i, bad = 0;

    if (argc < 2) {
        (void)fprintf(stderr, "usage: hang PROVIDER [DIR]\n");
        return 2;
    }
    (void)setenv("CISTERN_USRBIO_BACKEND", "threads", 0); /* inline reads cannot hang one by one */
    (void)snprintf(dir, sizeof dir, "%s/cistern-hang-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    set_up(&b, &space, dir, argv[1]);
    (void)printf("| storage | lost, ms | request, ms: median, 99 %%, longest | back, ms |\n"
                 "|---|---|---|---|\n");
    for (i = 0; i < 2 * ROUNDS; i++)
        bad += !one_round(&b, i % 2);
    if (bad)
        (void)printf("%d of %d rounds cost more than they may\n", bad, 2 * ROUNDS);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) || bad;
}
