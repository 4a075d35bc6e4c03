/*
 * test_follow.c - what other processes store, take away or leave behind, seen without a refresh.
 *
 * The others are this program, executed again: a child opens the store with the options of its
 * arguments and does what its standard input says, one word and one number a line, answering each
 * with a line. Nothing is judged by how long it takes: every wait has a limit of a minute, and the
 * intervals that must not be what made it happen are an hour.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../harness/deleted.h"
#include "../harness/metric.h"
#include "base/fault.h"
#include "engine/peers.h"
#include "../harness/store.h"

static char self[1024]; /* this program: the drop-in is found beside it */

enum { HOUR = 3600 * 1000, LIMIT_S = 60, KIDS = 3, LIKE = 1000 };

/* ---- One handle, in this process or in a child ---- */

struct setting {
    unsigned shard, shards, flags, poll_ms, list_ms, silence_ms;
};

static cistern *open_with(struct store *s, const struct setting *set)
{
    cistern *c = NULL;
    int rc;

    s->space.shards = set->shards;
    s->o.shard = set->shard;
    s->o.flags = set->flags;
    s->o.poll_ms = set->poll_ms;
    s->o.list_ms = set->list_ms;
    s->o.silence_ms = set->silence_ms;
    s->o.segment_bytes = 4 << 20;
    s->o.sync_ms = 100;
    rc = cistern_open(&s->o, &c);
    if (rc)
        (void)fprintf(stderr, "open: %s\n", cistern_error_text());
    return rc ? NULL : c;
}

/* One block; its result, or -1. */
static int transfer(cistern *c, uint64_t number, void *bytes, bool put)
{
    struct cistern_vec vec = {bytes, STORE_BLOCK};
    struct cistern_span span = {&vec, 1};
    struct cistern_event ev;
    cistern_key key;
    uint8_t result = 0;
    struct cistern_request r = {.size = sizeof r,
                                .keys = &key,
                                .spans = &span,
                                .results = &result,
                                .blocks = 1,
                                .timeout_ms = LIMIT_S * 1000};
    int rc;

    store_key(&key, number);
    rc = put ? cistern_put_sync(c, &r, &ev) : cistern_get_sync(c, &r, &ev);
    return rc ? -1 : result;
}

static int put(cistern *c, uint64_t number)
{
    static uint8_t bytes[STORE_BLOCK];

    store_fill(bytes, sizeof bytes, number);
    return transfer(c, number, bytes, true);
}

/* A hit has the right bytes, or it is none. */
static int get(cistern *c, uint64_t number)
{
    static uint8_t bytes[STORE_BLOCK], expect[STORE_BLOCK];
    int result = transfer(c, number, bytes, false);

    store_fill(expect, sizeof expect, number);
    return result == CISTERN_HIT && memcmp(bytes, expect, sizeof bytes) != 0 ? LIKE : result;
}

static bool described(const cistern *c, const char *key, char out[128])
{
    char text[4096], *at;

    if (cistern_describe(c, text, sizeof text) < 0 || !(at = strstr(text, key)))
        return false;
    (void)snprintf(out, 128, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

/* ---- The child ---- */

static int answer(cistern *c, const char *word, uint64_t number)
{
    char line[128];

    if (strcmp(word, "put") == 0)
        return put(c, number);
    if (strcmp(word, "get") == 0)
        return get(c, number);
    if (strcmp(word, "fences") == 0)
        return (int)metric_of(c, "writer_fences");
    if (strcmp(word, "writer") == 0 && described(c, "writer=", line))
        return (int)(strtoull(line + 7, NULL, 16) >> 33);
    return -1;
}

static int child_main(char **argv)
{
    static struct store s;
    struct setting set;
    char line[64], word[32];
    unsigned long long number;
    cistern *c;

    store_init(&s);
    store_rmdir(&s);
    s.o.mount = argv[2];
    if (sscanf(argv[3], "%u %u %u %u %u %u", &set.shard, &set.shards, &set.flags, &set.poll_ms,
               &set.list_ms, &set.silence_ms) != 6 ||
        !(c = open_with(&s, &set)))
        return 1;
    (void)printf("0\n");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%31s %llu", word, &number) == 2) {
        (void)printf("%d\n", answer(c, word, number));
        (void)fflush(stdout);
    }
    return cistern_close(c) ? 1 : 0;
}

/* ---- The test's side ---- */

struct kid {
    pid_t pid;
    FILE *to, *from;
};

struct fixture {
    struct store s;
    cistern *c;
    struct kid kids[KIDS];
    int nkids;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    store_init(&f->s);
    *state = f;
    return f->s.dir[0] ? 0 : -1;
}

static int kid_end(struct kid *k, int sig)
{
    int status = 0;

    if (!k->pid)
        return 0;
    if (sig)
        (void)kill(k->pid, sig);
    (void)fclose(k->to);
    (void)waitpid(k->pid, &status, 0);
    (void)fclose(k->from);
    *k = (struct kid){0};
    return status;
}

/* Pages of the bell that killed children left are taken away by our own close, the last one. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    int i;

    for (i = 0; i < f->nkids; i++)
        (void)kid_end(&f->kids[i], SIGKILL);
    if (f->c)
        (void)cistern_close(f->c);
    store_rmdir(&f->s);
    free(f);
    return 0;
}

static int hear(struct kid *k)
{
    int value;
    char line[64];

    if (!fgets(line, sizeof line, k->from) || sscanf(line, "%d", &value) != 1)
        fail_msg("the child ended");
    return value;
}

static void tell(struct kid *k, const char *word, uint64_t number)
{
    assert_true(fprintf(k->to, "%s %llu\n", word, (unsigned long long)number) > 0);
    assert_int_equal(fflush(k->to), 0);
}

static int ask(struct kid *k, const char *word, uint64_t number)
{
    tell(k, word, number);
    return hear(k);
}

static struct kid *spawn(struct fixture *f, const struct setting *set)
{
    struct kid *k = &f->kids[f->nkids++];
    char text[128];
    int in[2], out[2];

    (void)snprintf(text, sizeof text, "%u %u %u %u %u %u", set->shard, set->shards, set->flags,
                   set->poll_ms, set->list_ms, set->silence_ms);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    k->pid = fork();
    if (k->pid == 0) {
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        (void)execl(self, self, "--child", f->s.dir, text, (char *)NULL);
        _exit(127);
    }
    assert_true(k->pid > 0);
    (void)close(in[0]);
    (void)close(out[1]);
    k->to = fdopen(in[1], "w");
    k->from = fdopen(out[0], "r");
    assert_int_equal(hear(k), 0);
    return k;
}

static void open_here(struct fixture *f, const struct setting *set)
{
    f->c = open_with(&f->s, set);
    assert_non_null(f->c);
}

static bool waited(time_t since)
{
    (void)poll(NULL, 0, 2);
    return time(NULL) - since > LIMIT_S;
}

static bool exists(cistern *c, uint64_t number)
{
    cistern_key key;
    uint16_t mask = 0;

    store_key(&key, number);
    assert_int_equal(cistern_exists(c, &key, 1, &mask), 0);
    return mask != 0;
}

static void wait_exists(cistern *c, uint64_t number, bool wanted)
{
    time_t since = time(NULL);

    while (exists(c, number) != wanted)
        assert_false(waited(since));
}

static void wait_metric(cistern *c, const char *name, uint64_t wanted)
{
    time_t since = time(NULL);

    while (metric_of(c, name) != wanted)
        assert_false(waited(since));
}

static uint64_t head_path(const struct fixture *f, uint64_t but, char out[512]);

/* What this handle thinks of the only writer with a head in shard 0 of 1. */
static enum peer_state state_of_kid(const struct fixture *f)
{
    char path[512];
    uint64_t id = head_path(f, 0, path);

    return peers_writer_state(f->c, 0, id);
}

/* ---- Taking up ---- */

static const struct setting rung = {0, 1, 0, HOUR, HOUR, HOUR};
static const struct setting polled = {0, 1, CISTERN_OPEN_NO_BELL, 20, 50, HOUR};

/* Nobody polls: a new writer's block and then its next one come by the bell alone. */
static void the_bell_is_enough(void **state)
{
    struct fixture *f = *state;
    char line[128];
    struct kid *a;

    open_here(f, &rung);
    if (!described(f->c, "bell=/", line)) {
        print_message("skipped: no page in /dev/shm\n");
        skip();
    }
    a = spawn(f, &rung);
    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    wait_exists(f->c, 1, true);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
    assert_int_equal(ask(a, "put", 2), CISTERN_STORED);
    wait_exists(f->c, 2, true);
    assert_int_equal(get(f->c, 2), CISTERN_HIT);
    assert_int_equal(metric_of(f->c, "refreshes"), 0);
    assert_int_equal(state_of_kid(f), PEER_LIVE);
    assert_int_equal(peers_writer_state(f->c, 0, 1), PEER_UNKNOWN);
}

static struct kid *putter;
static int put_result;

static void put_then(const char *point)
{
    if (strcmp(point, "open.contents_read") == 0)
        put_result = ask(putter, "put", 1);
}

/* What is published between the look of the open and the follower's first turn. */
static void a_ring_during_the_open_is_heard(void **state)
{
    struct fixture *f = *state;
    char line[128];

    putter = spawn(f, &rung);
    put_result = -1;
    fault_hook = put_then;
    open_here(f, &rung);
    fault_hook = NULL;
    if (!described(f->c, "bell=/", line)) {
        print_message("skipped: no page in /dev/shm\n");
        skip();
    }
    assert_int_equal(put_result, CISTERN_STORED);
    wait_exists(f->c, 1, true);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
    assert_int_equal(metric_of(f->c, "refreshes"), 0);
}

/* A handle that does not follow shows that nothing else takes blocks up. */
static void polling_is_enough(void **state)
{
    struct fixture *f = *state;
    struct setting alone = polled;
    struct store s2;
    cistern *still;
    struct kid *a;
    uint64_t n;

    open_here(f, &polled);
    a = spawn(f, &polled);
    alone.flags |= CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_NO_FOLLOW;
    store_init(&s2);
    store_rmdir(&s2);
    s2.o.mount = f->s.dir;
    still = open_with(&s2, &alone);
    assert_non_null(still);
    for (n = 1; n <= 3; n++) {
        assert_int_equal(ask(a, "put", n), CISTERN_STORED);
        wait_exists(f->c, n, true);
        assert_int_equal(get(f->c, n), CISTERN_HIT);
    }
    assert_false(exists(still, 1));
    assert_int_equal(cistern_refresh(still, LIMIT_S * 1000), 0);
    assert_true(exists(still, 3));
    assert_int_equal(cistern_close(still), 0);
    assert_int_equal(metric_of(f->c, "refreshes"), 0);
}

/* More than a segment holds: the next ones are found from the head, directories are not listed. */
static void new_segments_are_found_by_the_head(void **state)
{
    struct fixture *f = *state;
    struct setting set = polled;
    struct kid *a = spawn(f, &set);
    uint64_t n;

    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    set.list_ms = HOUR;
    open_here(f, &set);
    for (n = 2; n <= 200; n++)
        assert_int_equal(ask(a, "put", n), CISTERN_STORED);
    wait_exists(f->c, 200, true);
    for (n = 1; n <= 200; n++)
        assert_int_equal(get(f->c, n), CISTERN_HIT);
    assert_true(metric_of(f->c, "segments_opened") >= 3);
}

static void other_shards_count_in_a_match(void **state)
{
    struct fixture *f = *state;
    struct setting here = {0, 2, CISTERN_OPEN_NO_BELL, 20, 50, HOUR}, there = here;
    time_t since = time(NULL);
    struct cistern_match m;
    cistern_key key;
    struct kid *a;

    there.shard = 1;
    open_here(f, &here);
    a = spawn(f, &there);
    store_key(&key, 1);
    assert_int_equal(put(f->c, 1), CISTERN_STORED);
    assert_int_equal(cistern_match(f->c, &key, 1, &m), 0);
    assert_int_equal(m.blocks, 0);
    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    do {
        assert_int_equal(cistern_match(f->c, &key, 1, &m), 0);
        assert_int_equal(cistern_ticket_release(f->c, m.ticket), 0);
    } while (!m.blocks && !waited(since));
    assert_int_equal(m.blocks, 1);
}

/* Two processes are told to store the same blocks before either has answered. */
static void the_same_block_twice_is_no_harm(void **state)
{
    struct fixture *f = *state;
    struct kid *a = spawn(f, &rung), *b = spawn(f, &rung);
    uint64_t n;

    for (n = 1; n <= 40; n++) {
        int x, y;

        tell(a, "put", n);
        tell(b, "put", n);
        x = hear(a);
        y = hear(b);
        assert_true(x == CISTERN_STORED || x == CISTERN_PRESENT);
        assert_true(y == CISTERN_STORED || y == CISTERN_PRESENT);
        assert_true(x == CISTERN_STORED || y == CISTERN_STORED);
    }
    open_here(f, &rung);
    for (n = 1; n <= 40; n++) {
        assert_int_equal(get(f->c, n), CISTERN_HIT);
        assert_int_equal(ask(a, "get", n), CISTERN_HIT);
        assert_int_equal(ask(b, "get", n), CISTERN_HIT);
    }
    assert_int_equal(metric_of(f->c, "bad_checksum_blocks"), 0);
}

/* ---- Taking away ---- */

static int remove_segment_file(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    const char *dot = strrchr(path, '.');

    (void)st;
    (void)kind;
    (void)where;
    return dot && (strcmp(dot, ".toc") == 0 || strcmp(dot, ".seg") == 0) ? unlink(path) : 0;
}

static int remove_of_shard_1(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    return strstr(path, "/s1of2/") ? remove_segment_file(path, st, kind, where) : 0;
}

static void evicted_segments_are_forgotten_and_closed(void **state)
{
    struct fixture *f = *state;
    struct kid *a = spawn(f, &polled);
    time_t since = time(NULL);

    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    assert_int_equal(kid_end(a, 0), 0); /* closes */
    open_here(f, &polled);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
    wait_metric(f->c, "peers_live", 0);
    assert_int_equal(state_of_kid(f), PEER_CLOSED);
    assert_int_equal(nftw(f->s.dir, remove_segment_file, 16, FTW_PHYS), 0);
    assert_true(holds_deleted_data());
    wait_exists(f->c, 1, false);
    assert_int_equal(get(f->c, 1), CISTERN_MISS);
    assert_int_equal(metric_of(f->c, "segments_gone"), 1);
    while (holds_deleted_data())
        assert_false(waited(since));
    assert_int_equal(put(f->c, 1), CISTERN_STORED);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
}

static uint32_t run_of(cistern *c, uint64_t first, uint32_t n)
{
    struct cistern_match m;
    cistern_key keys[512];
    uint32_t i;

    for (i = 0; i < n; i++)
        store_key(&keys[i], first + i);
    assert_int_equal(cistern_match(c, keys, n, &m), 0);
    assert_int_equal(cistern_ticket_release(c, m.ticket), 0);
    return m.blocks;
}

/* Presence forgets what went with its segments, and keeps what others still have. */
static void other_shards_come_and_go(void **state)
{
    enum { N = 300 };
    struct fixture *f = *state;
    struct setting here = {0, 2, CISTERN_OPEN_NO_BELL, 20, 50, HOUR}, there = here;
    time_t since = time(NULL);
    struct kid *a, *b;
    uint64_t n;

    there.shard = 1;
    open_here(f, &here);
    a = spawn(f, &there);
    for (n = 1; n <= N + 20; n++) {
        assert_int_equal(put(f->c, n), CISTERN_STORED);
        if (n <= N)
            assert_int_equal(ask(a, "put", n), CISTERN_STORED);
    }
    while (run_of(f->c, 1, N) != N)
        assert_false(waited(since));
    assert_int_equal(kid_end(a, 0), 0);
    assert_int_equal(nftw(f->s.dir, remove_of_shard_1, 16, FTW_PHYS), 0);
    b = spawn(f, &there);
    for (n = N + 1; n <= N + 20; n++)
        assert_int_equal(ask(b, "put", n), CISTERN_STORED);
    while (run_of(f->c, 1, N) || run_of(f->c, N + 1, 20) != 20)
        assert_false(waited(since));
    assert_true(metric_of(f->c, "presence_rebuilds") >= 1);
    assert_int_equal(get(f->c, 1), CISTERN_HIT); /* our own shard has it */
    assert_int_equal(ask(b, "put", 1), CISTERN_STORED);
    while (run_of(f->c, 1, 1) != 1)
        assert_false(waited(since));
}

/* ---- Silence ---- */

/* The child's head, where it is the only one that is not `but`; 0 = none. */
static uint64_t head_path(const struct fixture *f, uint64_t but, char out[512])
{
    char dir[300], name[300] = "";
    struct dirent *e;
    DIR *d;
    uint64_t id = 0;

    (void)snprintf(dir, sizeof dir, "%s/rtp_llm", f->s.dir);
    assert_non_null(d = opendir(dir));
    while ((e = readdir(d))) {
        if (strncmp(e->d_name, "space-", 6) == 0)
            (void)snprintf(name, sizeof name, "%s", e->d_name);
    }
    (void)closedir(d);
    (void)snprintf(out, 512, "%s/%.100s/s0of1", dir, name);
    assert_non_null(d = opendir(out));
    while ((e = readdir(d))) {
        if (strstr(e->d_name, ".head") && strtoull(e->d_name, NULL, 16) != but)
            id = strtoull(e->d_name, NULL, 16);
    }
    (void)closedir(d);
    (void)snprintf(out, 512, "%s/%.100s/s0of1/%016llx.head", dir, name, (unsigned long long)id);
    return id;
}

static void read_page(const char *path, uint8_t page[4096])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    memset(page, 0, 4096);
    (void)pread(fd, page, 4096, 0);
    (void)close(fd);
}

static uint64_t counter(const uint8_t page[4096])
{
    uint64_t n;

    memcpy(&n, page + 56, sizeof n);
    return n;
}

static void an_idle_writer_is_heard_of(void **state)
{
    struct fixture *f = *state;
    struct setting set = {0, 1, CISTERN_OPEN_NO_BELL, 20, 50, 4000};
    struct kid *a = spawn(f, &set);
    time_t since = time(NULL);
    uint8_t page[4096];
    uint64_t first;
    char path[512];

    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    assert_true(head_path(f, 0, path) != 0);
    do
        read_page(path, page);
    while (!(first = counter(page)) && !waited(since));
    do
        read_page(path, page);
    while (counter(page) < first + 3 && !waited(since));
    assert_true(counter(page) >= first + 3);
}

static void a_killed_writer_is_read_to_the_end_once(void **state)
{
    struct fixture *f = *state;
    struct setting set = {0, 1, CISTERN_OPEN_NO_BELL | CISTERN_OPEN_READ_ONLY, HOUR, HOUR, 6000},
                   writes = {0, 1, CISTERN_OPEN_NO_BELL, HOUR, HOUR, 6000};
    struct kid *a = spawn(f, &writes);
    time_t since = time(NULL);
    uint64_t reads;
    int i;

    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    open_here(f, &set);
    reads = metric_of(f->c, "contents_reads");
    assert_int_equal(cistern_refresh(f->c, LIMIT_S * 1000), 0);
    assert_true(metric_of(f->c, "contents_reads") > reads); /* it may have more to say */
    assert_int_equal(ask(a, "put", 2), CISTERN_STORED);
    (void)kid_end(a, SIGKILL);
    while (metric_of(f->c, "peers_silent") != 1) {
        assert_int_equal(cistern_refresh(f->c, LIMIT_S * 1000), 0);
        assert_false(waited(since));
    }
    assert_int_equal(cistern_refresh(f->c, LIMIT_S * 1000), 0); /* nothing new, twice: the end */
    reads = metric_of(f->c, "contents_reads");
    for (i = 0; i < 20; i++)
        assert_int_equal(cistern_refresh(f->c, LIMIT_S * 1000), 0);
    assert_int_equal(metric_of(f->c, "contents_reads"), reads);
    assert_int_equal(metric_of(f->c, "peers_live"), 0);
    assert_int_equal(state_of_kid(f), PEER_SILENT);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
    assert_int_equal(get(f->c, 2), CISTERN_HIT);
}

/* A writer that was stopped for longer than it may be silent comes back under another name; under
 * the old one it says nothing more, and what that had published stays. */
static void a_stopped_writer_fences_itself(void **state)
{
    struct fixture *f = *state;
    struct setting set = {0, 1, CISTERN_OPEN_NO_BELL, 20, 50, 5000},
                   look = {0, 1, CISTERN_OPEN_NO_BELL | CISTERN_OPEN_READ_ONLY, 20, 50, 5000};
    struct kid *a = spawn(f, &set);
    uint8_t before[4096], after[4096];
    char old_path[512], path[512];
    uint64_t old, id;
    time_t since;
    int fences;

    assert_int_equal(ask(a, "put", 1), CISTERN_STORED);
    open_here(f, &look);
    assert_int_equal(kill(a->pid, SIGSTOP), 0);
    wait_metric(f->c, "peers_silent", 1);
    wait_metric(f->c, "peers_live", 0);
    old = head_path(f, 0, old_path);
    read_page(old_path, before);
    assert_int_equal(kill(a->pid, SIGCONT), 0);
    since = time(NULL);
    while (!(fences = ask(a, "fences", 0)))
        assert_false(waited(since));
    assert_true(fences >= 1);
    assert_int_equal(ask(a, "put", 2), CISTERN_STORED);
    id = head_path(f, old, path);
    assert_true(id != old && id != 0);
    assert_int_equal(ask(a, "writer", 0), (int)(id >> 33));
    read_page(old_path, after);
    assert_memory_equal(before, after, sizeof before);
    wait_exists(f->c, 2, true);
    assert_int_equal(get(f->c, 1), CISTERN_HIT);
    assert_int_equal(get(f->c, 2), CISTERN_HIT);
    assert_int_equal(ask(a, "get", 1), CISTERN_HIT);
    assert_int_equal(ask(a, "get", 2), CISTERN_HIT);
    assert_int_equal(kid_end(a, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(the_bell_is_enough),
        TEST(a_ring_during_the_open_is_heard),
        TEST(polling_is_enough),
        TEST(new_segments_are_found_by_the_head),
        TEST(other_shards_count_in_a_match),
        TEST(the_same_block_twice_is_no_harm),
        TEST(evicted_segments_are_forgotten_and_closed),
        TEST(other_shards_come_and_go),
        TEST(an_idle_writer_is_heard_of),
        TEST(a_killed_writer_is_read_to_the_end_once),
        TEST(a_stopped_writer_fences_itself),
    };

    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0)
        return 1;
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child_main(argv);
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
