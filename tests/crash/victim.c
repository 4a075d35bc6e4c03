/*
 * victim.c - the processes of the crash test: two that write, one that reads, one that checks.
 *
 *   victim write DIR LOG FIRST SEED [POINT NTH]   puts and gets until it is killed
 *   victim read  DIR LOG...                       reads what the logs say is stored, until killed
 *   victim check DIR OUT FIRST LOG...             opens, verifies every log, puts some more
 *
 * A block's key and bytes derive from its number alone. A log is a file with records of one fixed
 * size, appended by write() before the victim does anything else, so it is in the kernel when the
 * victim dies. With POINT the hook of the fault points raises SIGKILL at the NTH time that the
 * point is passed. Linked with the internal archive, which is the only way to that hook.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <errno.h>

#include "base/fault.h"
#include "../harness/store.h"

enum {
    KV = 24 << 10,
    AUX = 5000, /* not a multiple of a page */
    MOST = 16,
    SHARED = 400, /* numbers that every writer uses; from 1 */
    TRIED = 100,  /* in a record: the put is about to be called; else an enum cistern_result */
    LIMIT = 700   /* blocks of one victim, then it only reads */
};

struct record {
    uint64_t number;
    uint32_t what, count; /* `count` numbers from `number` on */
};

struct buffers {
    uint64_t number[MOST];
    cistern_key keys[MOST];
    uint8_t bytes[MOST][KV + AUX];
    struct cistern_vec vecs[MOST][2];
    struct cistern_span spans[MOST][2];
    uint8_t results[MOST][2];
};

static struct store store;
static struct cistern_part parts[2];
static const char *point;
static atomic_int passes;
static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % below;
}

static void at_point(const char *name)
{
    if (strcmp(name, point) == 0 && atomic_fetch_sub(&passes, 1) == 1)
        (void)raise(SIGKILL);
}

static void die(const char *what, int rc)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, cistern_error_name(rc), cistern_error_text());
    exit(1);
}

static void append(int log, uint64_t number, uint32_t what, uint32_t count)
{
    struct record r = {number, what, count};

    if (write(log, &r, sizeof r) != sizeof r)
        exit(3);
}

static void wrong(uint64_t number, const char *what)
{
    (void)printf("WRONG: block %llu: %s\n", (unsigned long long)number, what);
    (void)fflush(stdout);
    exit(1);
}

static cistern *open_store(const char *dir, uint32_t flags)
{
    cistern *c;
    int rc;

    parts[0] = (struct cistern_part){.name = "kv", .bytes = KV};
    parts[1] = (struct cistern_part){.name = "aux", .bytes = AUX, .policy = CISTERN_PART_LAST};
    store.space = (struct cistern_space){.size = sizeof store.space,
                                         .model = "crash",
                                         .dtype = "bf16",
                                         .block_tokens = 16,
                                         .nparts = 2,
                                         .parts = parts};
    store.o = (struct cistern_options){.size = sizeof store.o,
                                       .reuse_cache = 1,
                                       .enable_3fs = 1,
                                       .mount = dir,
                                       .provider = "local",
                                       .space = &store.space,
                                       .flags = flags,
                                       .read_iov_bytes = 8 << 20,
                                       .write_iov_bytes = 8 << 20,
                                       .segment_bytes = 2 << 20,
                                       .max_blocks = 1 << 20,
                                       .sync_ms = 50,
                                       .lanes = 1,
                                       .encryption_key_file = getenv("CISTERN_TEST_KEY_FILE")};
    rc = cistern_open(&store.o, &c);
    if (rc)
        die("open", rc);
    return c;
}

static void describe(struct buffers *b, uint32_t i, uint64_t number)
{
    b->number[i] = number;
    store_key(&b->keys[i], number);
    b->vecs[i][0] = (struct cistern_vec){b->bytes[i], KV};
    b->vecs[i][1] = (struct cistern_vec){b->bytes[i] + KV, AUX};
    b->spans[i][0] = (struct cistern_span){&b->vecs[i][0], 1};
    b->spans[i][1] = (struct cistern_span){&b->vecs[i][1], 1};
}

static struct cistern_request request(struct buffers *b, uint32_t n)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = b->keys,
                                    .spans = b->spans[0],
                                    .results = b->results[0],
                                    .blocks = n,
                                    .timeout_ms = 20000};
}

/* Stores blocks and logs what the store says of each before anything else happens. */
static uint32_t put(cistern *c, struct buffers *b, uint64_t first, uint32_t n, int log)
{
    struct cistern_request r = request(b, n);
    struct cistern_event ev;
    uint32_t i, stored = 0;
    int rc;

    for (i = 0; i < n; i++) {
        describe(b, i, first + i);
        store_fill(b->bytes[i], KV + AUX, first + i);
    }
    append(log, first, TRIED, n);
    rc = cistern_put_sync(c, &r, &ev);
    for (i = 0; !rc && i < n; i++) {
        if (b->results[i][0] == b->results[i][1])
            append(log, first + i, b->results[i][0], 1);
        stored += b->results[i][0] == CISTERN_STORED || b->results[i][0] == CISTERN_PRESENT;
    }
    if (rc)
        die("put", rc);
    return stored;
}

/* Reads the blocks described in b[0..n); every hit must have the right bytes. `must`: all are hits.
 */
static uint32_t get(cistern *c, struct buffers *b, uint32_t n, bool must)
{
    static uint8_t expect[KV + AUX];
    struct cistern_request r = request(b, n);
    struct cistern_event ev;
    uint32_t i, p, hits = 0;
    int rc;

    memset(b->bytes, 0x5a, sizeof b->bytes[0] * n);
    if ((rc = cistern_get_sync(c, &r, &ev)))
        die("get", rc);
    for (i = 0; i < n; i++) {
        store_fill(expect, sizeof expect, b->number[i]);
        for (p = 0; p < 2; p++) {
            const struct cistern_vec *v = &b->vecs[i][p];

            if (b->results[i][p] == CISTERN_HIT && memcmp(v->base, expect + p * KV, v->len) != 0)
                wrong(b->number[i], "reported as a hit, other bytes");
            if (must && b->results[i][p] != CISTERN_HIT) {
                (void)printf("part %u: result %u, status %d\n", p, b->results[i][p], ev.status);
                wrong(b->number[i], "was reported stored and is no hit");
            }
        }
        hits += b->results[i][0] == CISTERN_HIT && b->results[i][1] == CISTERN_HIT;
    }
    return hits;
}

/* ---- write ---- */

_Noreturn static void run_writer(const char *dir, const char *log_path, uint64_t first)
{
    static struct buffers b;
    int log = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    cistern *c = open_store(dir, 0);
    uint64_t next = first;

    append(log, 0, TRIED, 0); /* open */
    for (;;) {
        uint32_t n = 1 + (uint32_t)draw(MOST), i;

        if (next < first + LIMIT) {
            if (draw(6) == 0) {
                (void)put(c, &b, 1 + draw(SHARED - MOST), n, log);
            } else {
                (void)put(c, &b, next, n, log);
                next += n;
            }
        } else {
            (void)poll(NULL, 0, 1);
        }
        if (draw(4) == 0) {
            for (i = 0; i < n; i++)
                describe(&b, i,
                         draw(2) || next == first ? 1 + draw(SHARED) : first + draw(next - first));
            (void)get(c, &b, n, false);
        }
    }
}

/* ---- read ---- */

struct numbers {
    uint64_t *at;
    size_t count, room;
};

static void add(struct numbers *n, uint64_t number)
{
    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 1024;
        n->at = realloc(n->at, n->room * sizeof *n->at);
        if (!n->at)
            exit(3);
    }
    n->at[n->count++] = number;
}

/* Goes on in a log from *at: what was stored or present, and what was tried. */
static void read_log(const char *path, off_t *at, struct numbers *stored, struct numbers *tried)
{
    int log = open(path, O_RDONLY | O_CLOEXEC);
    struct record r;
    uint32_t i;

    while (log >= 0 && pread(log, &r, sizeof r, *at) == sizeof r) {
        *at += (off_t)sizeof r;
        for (i = 0; tried && r.what == TRIED && i < r.count; i++)
            add(tried, r.number + i);
        if (r.what == CISTERN_STORED || r.what == CISTERN_PRESENT)
            add(stored, r.number);
    }
    if (log >= 0)
        (void)close(log);
}

/* Gets all the numbers, some at a time; how many were whole hits. */
static size_t get_all(cistern *c, struct buffers *b, const struct numbers *all, size_t from,
                      bool must)
{
    size_t i, hits = 0;
    uint32_t n = 0;

    for (i = from; i < all->count; i++) {
        describe(b, n++, all->at[i]);
        if (n < MOST && i + 1 < all->count)
            continue;
        hits += get(c, b, n, must);
        n = 0;
    }
    return hits;
}

/* What a log said before a refresh must be a hit after it. */
_Noreturn static void run_reader(const char *dir, char **logs, int nlogs)
{
    static struct buffers b;
    struct numbers stored = {0};
    off_t at[16] = {0};
    cistern *c = open_store(dir, CISTERN_OPEN_READ_ONLY);
    size_t seen = 0;
    int i, rc;

    for (;;) {
        for (i = 0; i < nlogs && i < 16; i++)
            read_log(logs[i], &at[i], &stored, NULL);
        if ((rc = cistern_refresh(c, 20000)))
            die("refresh", rc);
        (void)get_all(c, &b, &stored, seen, true);
        seen = stored.count;
        for (i = 0; stored.count && i < MOST; i++)
            describe(&b, (uint32_t)i, stored.at[draw(stored.count)]);
        if (stored.count)
            (void)get(c, &b, MOST, true);
        (void)poll(NULL, 0, 1);
    }
}

/* ---- check ---- */

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

static int count_blocks(void *arg, const struct cistern_item *item)
{
    uint64_t *blocks = arg;

    *blocks += item->kind == CISTERN_ITEM_BLOCK;
    return 0;
}

/* Nobody damaged anything: a kill alone makes nothing bad. */
static void check_metrics(const cistern *c)
{
    static const char *const none[] = {
        "bad_checksum_blocks", "bad_length_blocks", "contents_bad", "io_read_errors",
        "io_write_errors",     "data_missing",      "space_healed", "tripped"};
    size_t i;

    for (i = 0; i < sizeof none / sizeof none[0]; i++) {
        if (metric(c, none[i])) {
            (void)printf("WRONG: %s is %llu after a kill\n", none[i],
                         (unsigned long long)metric(c, none[i]));
            exit(1);
        }
    }
}

static int run_checker(const char *dir, const char *out, uint64_t first, char **logs, int nlogs)
{
    static struct buffers b;
    struct numbers stored = {0}, tried = {0};
    uint64_t blocks = 0;
    cistern *c;
    size_t hits;
    int i, rc, log;

    for (i = 0; i < nlogs; i++) {
        off_t at = 0;

        read_log(logs[i], &at, &stored, &tried);
    }
    c = open_store(dir, 0);
    (void)get_all(c, &b, &stored, 0, true);
    hits = get_all(c, &b, &tried, 0, false);
    log = open(out, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (put(c, &b, first, 4, log) != 4)
        wrong(first, "a put after the kill was not taken");
    for (i = 0; i < 4; i++)
        describe(&b, (uint32_t)i, first + (uint64_t)i);
    (void)get(c, &b, 4, true);
    check_metrics(c);
    if ((rc = cistern_flush(c, 20000)))
        die("flush", rc);
    if ((rc = cistern_close(c)))
        die("close", rc);
    if ((rc = cistern_scan(&store.o, CISTERN_ITEM_BLOCK, count_blocks, &blocks)))
        die("scan", rc);
    if (blocks < 4)
        wrong(first, "a scan does not see what was put");
    (void)printf("%zu stored, %zu hits of %zu tried, %llu blocks in the directory\n", stored.count,
                 hits, tried.count, (unsigned long long)blocks);
    free(stored.at);
    free(tried.at);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 6 && strcmp(argv[1], "write") == 0) {
        random_state = strtoull(argv[5], NULL, 10);
        if (argc == 8) {
            point = argv[6];
            atomic_store(&passes, atoi(argv[7]));
            fault_hook = at_point;
        }
        run_writer(argv[2], argv[3], strtoull(argv[4], NULL, 10));
    }
    if (argc >= 4 && strcmp(argv[1], "read") == 0)
        run_reader(argv[2], argv + 3, argc - 3);
    if (argc >= 5 && strcmp(argv[1], "check") == 0)
        return run_checker(argv[2], argv[3], strtoull(argv[4], NULL, 10), argv + 5, argc - 5);
    (void)fprintf(stderr, "usage: victim write|read|check ...\n");
    return 2;
}
