/*
 * worker.c - one process of the stress test: it stores or reads blocks in a directory that many
 * share, until it is killed.
 *
 *   worker write DIR SEED PROGRESS SLOT CAPACITY   puts blocks of a common range, and reads some
 *   worker read  DIR SEED PROGRESS SLOT CAPACITY   reads blocks of that range
 *   worker check DIR SEED PROGRESS SLOT CAPACITY   reads all of them once, prints what it found
 *   worker keep  DIR SEED PROGRESS SLOT CAPACITY   opens as a writer, and leaves the rest to it
 *   worker sample DIR SEED PROGRESS SLOT CAPACITY  see sampler.c
 *
 * A block's key and bytes derive from its number alone, so every process can tell a wrong byte.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "../harness/metric.h"
#include "../harness/store.h"
#include "stress.h"

enum { BATCH = 8, SEGMENT = 1 << 20 };

static struct store store;
static struct progress *progress;
static uint64_t random_state, numbers;
static cistern_key keys[BATCH];
static uint8_t bytes[BATCH][STORE_BLOCK], expect[STORE_BLOCK];
static struct cistern_vec vecs[BATCH];
static struct cistern_span spans[BATCH];
static uint8_t results[BATCH];

static uint64_t draw(uint64_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % below;
}

static void die(const char *what, int rc)
{
    (void)printf("%s: %s: %s\n", what, cistern_error_name(rc), cistern_error_text());
    (void)fflush(stdout);
    exit(1);
}

static cistern *open_store(const char *dir, uint64_t capacity, uint32_t flags)
{
    cistern *c;
    int rc;

    store_init(&store);
    (void)rmdir(store.dir); /* only its options are of use here */
    store.o.mount = dir;
    store.o.flags = flags;
    store.o.capacity_bytes = capacity;
    store.o.segment_bytes = SEGMENT;
    store.o.io_bytes = 256 << 10;
    store.o.read_iov_bytes = store.o.write_iov_bytes = 2 << 20;
    store.o.sync_ms = 200;
    store.o.poll_ms = 50;
    store.o.list_ms = 100;
    store.o.silence_ms = 4000;
    /* A machine with more processes than processors is slow, not broken. What is evicted is gone
     * only when everybody had the time to notice and closed it. */
    store.o.evict_grace_ms = 3000;
    store.o.read_timeout_ms = store.o.write_timeout_ms = 20000;
    store.o.get_timeout_ms = store.o.put_timeout_ms = 20000;
    store.o.open_timeout_ms = 60000;
    rc = cistern_open(&store.o, &c);
    if (rc)
        die("open", rc);
    return c;
}

static struct cistern_request request(uint64_t first, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        store_key(&keys[i], first + i);
        vecs[i] = (struct cistern_vec){bytes[i], STORE_BLOCK};
        spans[i] = (struct cistern_span){&vecs[i], 1};
    }
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = keys,
                                    .spans = spans,
                                    .results = results,
                                    .blocks = n};
}

static void put(cistern *c, uint64_t first, uint32_t n)
{
    struct cistern_request r = request(first, n);
    struct cistern_event ev;
    uint32_t i;
    int rc;

    for (i = 0; i < n; i++)
        store_fill(bytes[i], STORE_BLOCK, first + i);
    if ((rc = cistern_put_sync(c, &r, &ev)))
        die("put", rc);
    for (i = 0; i < n; i++)
        (void)atomic_fetch_add(&progress->stored, results[i] == CISTERN_STORED);
    if (!ev.hits) /* no room now: it comes with the grace of something */
        (void)usleep(5000);
    atomic_store(&progress->evicted, metric_of(c, "evicted_segments"));
}

static uint32_t get(cistern *c, uint64_t first, uint32_t n)
{
    struct cistern_request r = request(first, n);
    struct cistern_event ev;
    uint32_t i, hits = 0;
    int rc;

    memset(bytes, 0x5a, sizeof bytes);
    if ((rc = cistern_get_sync(c, &r, &ev)))
        die("get", rc);
    for (i = 0; i < n; i++) {
        if (results[i] != CISTERN_HIT)
            continue;
        store_fill(expect, STORE_BLOCK, first + i);
        if (memcmp(bytes[i], expect, STORE_BLOCK) != 0) {
            (void)printf("WRONG: block %llu: reported as a hit, other bytes\n",
                         (unsigned long long)(first + i));
            (void)fflush(stdout);
            exit(1);
        }
        hits++;
    }
    (void)atomic_fetch_add(&progress->hits, hits);
    return hits;
}

static _Noreturn void run(cistern *c, bool writes)
{
    for (;;) {
        uint64_t first = draw(numbers - BATCH);
        uint32_t n = 1 + (uint32_t)draw(BATCH);
        struct cistern_match m;

        if (writes && draw(4)) {
            put(c, first, n);
        } else {
            (void)request(first, n);
            if (cistern_match(c, keys, n, &m) == 0)
                (void)cistern_ticket_release(c, m.ticket);
            (void)get(c, first, n);
        }
        (void)atomic_fetch_add(&progress->ops, 1);
    }
}

static int check(cistern *c)
{
    uint64_t i, hits = 0;

    for (i = 0; i + BATCH <= numbers; i += BATCH)
        hits += get(c, i, BATCH);
    (void)printf(
        "%llu hits, %llu bad\n", (unsigned long long)hits,
        (unsigned long long)(metric_of(c, "bad_checksum_blocks") + metric_of(c, "tripped")));
    return cistern_close(c);
}

int main(int argc, char **argv)
{
    struct progress *all;
    uint64_t capacity;
    cistern *c;
    int fd;

    if (argc != 7)
        return 2;
    random_state = strtoull(argv[3], NULL, 10);
    capacity = strtoull(argv[6], NULL, 10);
    numbers = 3 * capacity / STORE_BLOCK;
    fd = open(argv[4], O_RDWR | O_CLOEXEC);
    progress = mmap(NULL, 4096 * sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || progress == MAP_FAILED)
        return 3;
    all = progress;
    progress += strtoul(argv[5], NULL, 10);
    atomic_store(&progress->pid, (uint64_t)getpid());
    if (strcmp(argv[1], "sample") == 0)
        sample(argv[2], progress, all, (uint32_t)(progress - all));
    c = open_store(argv[2], capacity, strcmp(argv[1], "read") == 0 ? CISTERN_OPEN_READ_ONLY : 0);
    if (strcmp(argv[1], "check") == 0)
        return check(c) ? 1 : 0;
    while (strcmp(argv[1], "keep") == 0)
        (void)pause();
    run(c, strcmp(argv[1], "write") == 0);
}
