/*
 * worker.c - one process of the stress test: it stores or reads blocks in a directory that many
 * share, until it is killed.
 *
 *   worker write DIR SEED PROGRESS SLOT CAPACITY   puts blocks of a common range, and reads some
 *   worker read  DIR SEED PROGRESS SLOT CAPACITY   reads blocks of that range
 *   worker check DIR SEED PROGRESS SLOT CAPACITY   reads all of them once, prints what it found
 *   worker sample DIR SEED PROGRESS SLOT CAPACITY  every 100 ms sums up what the directory takes,
 * with what the workers of the slots before its own hold open though it is unlinked
 *
 * A block's key and bytes derive from its number alone, so every process can tell a wrong byte.
 * PROGRESS is a file of 40 bytes a slot (operations, hits, stored, evicted, process) that the test
 * reads while we run; of the sampler: samples, the last, the greatest.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "../harness/store.h"

enum { BATCH = 8, SEGMENT = 1 << 20 };

struct progress {
    _Atomic uint64_t ops, hits, stored, evicted, pid;
};

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

static uint64_t metric(const cistern *c, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(c, m, 256);

    for (i = 0; i < n && i < 256; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    (void)printf("no metric %s\n", name);
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
    store.o.evict_grace_ms = 1000;
    /* A machine with more processes than processors is slow, not broken. */
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
    atomic_store(&progress->evicted, metric(c, "evicted_segments"));
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
    (void)printf("%llu hits, %llu bad\n", (unsigned long long)hits,
                 (unsigned long long)(metric(c, "bad_checksum_blocks") + metric(c, "tripped")));
    return cistern_close(c);
}

/* ---- The sampler ---- */

static uint64_t taken;

static int sum_file(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)path;
    (void)where;
    if (kind == FTW_F)
        taken += (uint64_t)st->st_blocks * 512;
    return 0;
}

/* What process `pid` has open below the directory and nobody can find any more. Two that share such
 * a file are both counted: too much rather than too little. */
static void sum_unlinked(uint64_t pid, const char *dir)
{
    char fds[64], link[512];
    struct dirent *e;
    struct stat st;
    DIR *d;

    (void)snprintf(fds, sizeof fds, "/proc/%llu/fd", (unsigned long long)pid);
    if (!(d = opendir(fds)))
        return;
    while ((e = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);

        if (n < 11 || strncmp(link, dir, strlen(dir)) != 0)
            continue;
        link[n] = 0;
        if (strcmp(link + n - 10, " (deleted)") == 0 && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
            taken += (uint64_t)st.st_blocks * 512;
    }
    (void)closedir(d);
}

static _Noreturn void sample(const char *dir, struct progress *all, uint32_t workers)
{
    uint32_t i;

    (void)setpriority(PRIO_PROCESS, 0, -15); /* as root: it must not wait behind the workers */
    for (;;) {
        taken = 0;
        (void)nftw(dir, sum_file, 16, FTW_PHYS);
        for (i = 0; i < workers; i++)
            sum_unlinked(atomic_load(&all[i].pid), dir);
        atomic_store(&progress->hits, taken);
        if (taken > atomic_load(&progress->stored))
            atomic_store(&progress->stored, taken);
        (void)atomic_fetch_add(&progress->ops, 1);
        (void)usleep(100000);
    }
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
        sample(argv[2], all, (uint32_t)(progress - all));
    c = open_store(argv[2], capacity, strcmp(argv[1], "read") == 0 ? CISTERN_OPEN_READ_ONLY : 0);
    if (strcmp(argv[1], "check") == 0)
        return check(c) ? 1 : 0;
    run(c, strcmp(argv[1], "write") == 0);
}
