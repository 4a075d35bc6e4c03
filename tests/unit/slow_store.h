/*
 * slow_store.h - a small store on storage that misbehaves on demand (tests/fakes/slow_usrbio.h),
 * for the tests of deadlines. Include it first.
 *
 * Timeouts are short, but what passes and fails are states, not times: SOON only tells "at the
 * deadline" from "never".
 */
#ifndef TESTS_SLOW_STORE_H
#define TESTS_SLOW_STORE_H

#include <dlfcn.h>
#include <errno.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/vfs.h>
#include <time.h>

#include <cmocka.h>

#include "../fakes/fakes.h"
#include "../fakes/slow_usrbio.h"
#include "../harness/store.h"

enum { N = 8, SHORT_MS = 300, LONG_MS = 20000, SOON_MS = 8000 };

struct fixture {
    struct store s;
    cistern *c;
    struct slow_state *slow;
    int mems, rings, held;   /* left behind by closed handles: storage owns them */
    cistern_key keys[2 * N]; /* the second half is for other blocks */
    uint8_t *src, *dst;
    struct cistern_vec in[2 * N], out[2 * N];
    struct cistern_span put[2 * N], get[2 * N];
    uint8_t results[2 * N];
    struct cistern_event ev;
};

static inline uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void nap(void)
{
    (void)usleep(2000);
}

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t end_ = now_ms() + SOON_MS;                                                        \
        bool came_;                                                                                \
        while (!(came_ = (condition)) && now_ms() < end_)                                          \
            nap();                                                                                 \
        if (!came_)                                                                                \
            fail_msg("never came true: %s", #condition);                                           \
    } while (0)

static inline void say(void *arg, int level, const char *text)
{
    (void)arg;
    if (level <= CISTERN_LOG_ERROR)
        print_message("log: %s\n", text);
}

/* ---- The fixture ---- */

static inline void all_pass(struct slow_state *s)
{
    int i;

    for (i = 0; i < SLOW_FILES; i++) {
        atomic_store(&s->read[i].mode, SLOW_PASS);
        atomic_store(&s->write[i].mode, SLOW_PASS);
    }
    atomic_store(&s->prep_again, 0);
    atomic_store(&s->submit_again, 0);
    atomic_store(&s->hang_ring, 0);
    atomic_store(&s->hang_open, 0);
}

static inline void rule(struct slow_rule *r, int mode, int error, int after, int most)
{
    atomic_store(&r->hits, 0);
    atomic_store(&r->error, error);
    atomic_store(&r->after, after);
    atomic_store(&r->most, most);
    atomic_store(&r->mode, mode);
}

static inline void hang(struct slow_rule *r)
{
    rule(r, SLOW_HANG, 0, 0, 0);
}

static inline void count_left(struct fixture *f)
{
    f->mems = atomic_load(&f->slow->mems);
    f->rings = atomic_load(&f->slow->rings);
    f->held = atomic_load(&f->slow->held);
}

static inline bool only_left(const struct fixture *f)
{
    return atomic_load(&f->slow->mems) == f->mems && atomic_load(&f->slow->rings) == f->rings &&
           atomic_load(&f->slow->held) == f->held;
}

/* An open that its caller gave up keeps the shard until its thread has tidied up. */
static inline void open_ok(struct fixture *f)
{
    uint64_t start = now_ms();
    int rc;

    while ((rc = cistern_open(&f->s.o, &f->c)) == CISTERN_ESHARD && now_ms() - start < 20000)
        (void)usleep(10000);

    if (rc)
        print_message("open: %s: %s\n", cistern_error_name(rc), cistern_error_text());
    assert_int_equal(rc, 0);
}

static inline int setup(void **state)
{
    static char path[PATH_MAX];
    struct fixture *f = calloc(1, sizeof *f);
    struct statfs fs;
    void *lib;
    uint32_t i;

    store_init(&f->s);
    /* In memory the drop-in reads inline, one at a time: nothing would be left hanging. */
    if (statfs(f->s.dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
        (void)setenv("CISTERN_USRBIO_BACKEND", "threads", 0);
    (void)snprintf(path, sizeof path, "%s", fake_path("slow"));
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    f->slow = lib ? dlsym(lib, "slow_state") : NULL;
    if (!f->slow) {
        print_message("%s: %s\n", path, dlerror());
        return -1;
    }
    all_pass(f->slow);
    count_left(f);
    f->s.o.log = say;
    f->s.o.provider_path = path;
    f->s.o.get_timeout_ms = f->s.o.put_timeout_ms = LONG_MS;
    f->s.o.read_timeout_ms = f->s.o.write_timeout_ms = SHORT_MS;
    f->s.o.close_timeout_ms = 2000;
    f->s.o.breaker = -1; /* one failure after the other; test_breaker.c is about that */
    f->s.o.io_blocks = N / 2;
    f->src = malloc((size_t)2 * N * STORE_BLOCK);
    f->dst = malloc((size_t)2 * N * STORE_BLOCK);
    for (i = 0; i < 2 * N; i++) {
        store_key(&f->keys[i], i);
        store_fill(f->src + (size_t)i * STORE_BLOCK, STORE_BLOCK, i);
        f->in[i] = (struct cistern_vec){f->src + (size_t)i * STORE_BLOCK, STORE_BLOCK};
        f->out[i] = (struct cistern_vec){f->dst + (size_t)i * STORE_BLOCK, STORE_BLOCK};
        f->put[i] = (struct cistern_span){&f->in[i], 1};
        f->get[i] = (struct cistern_span){&f->out[i], 1};
    }
    *state = f;
    return 0;
}

/* The fixture with an open handle that has blocks [0, N). */
static inline struct cistern_request request(struct fixture *f, struct cistern_span *spans,
                                             uint32_t from, uint32_t n)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = f->keys + from,
                                    .spans = spans + from,
                                    .results = f->results + from,
                                    .blocks = n};
}

static inline void put(struct fixture *f, uint32_t from, uint32_t n)
{
    struct cistern_request r = request(f, f->put, from, n);

    assert_int_equal(cistern_put_sync(f->c, &r, &f->ev), 0);
}

static inline void get(struct fixture *f, uint32_t from, uint32_t n, uint32_t timeout_ms)
{
    struct cistern_request r = request(f, f->get, from, n);

    r.timeout_ms = timeout_ms;
    memset(f->dst, 0xaa, (size_t)2 * N * STORE_BLOCK);
    assert_int_equal(cistern_get_sync(f->c, &r, &f->ev), 0);
}

static inline void all_are(struct fixture *f, uint32_t from, uint32_t n, uint8_t result)
{
    uint32_t i;

    for (i = from; i < from + n; i++)
        assert_int_equal(f->results[i], result);
}

static inline void put_is(struct fixture *f, uint32_t from, uint32_t n, uint8_t result)
{
    put(f, from, n);
    all_are(f, from, n, result);
}

static inline void get_hits(struct fixture *f, uint32_t from, uint32_t n)
{
    get(f, from, n, 0);
    all_are(f, from, n, CISTERN_HIT);
    assert_memory_equal(f->src + (size_t)from * STORE_BLOCK, f->dst + (size_t)from * STORE_BLOCK,
                        (size_t)n * STORE_BLOCK);
}

/* Hits have the right bytes; what else is reported does not matter. */
static inline void get_is_right(struct fixture *f, uint32_t from, uint32_t n)
{
    uint32_t i;

    get(f, from, n, 0);
    for (i = from; i < from + n; i++) {
        if (f->results[i] == CISTERN_HIT)
            assert_memory_equal(f->src + (size_t)i * STORE_BLOCK, f->dst + (size_t)i * STORE_BLOCK,
                                STORE_BLOCK);
        else
            assert_int_equal(f->results[i], CISTERN_MISS);
    }
}

static inline int setup_filled(void **state)
{
    struct fixture *f;

    if (setup(state))
        return -1;
    f = *state;
    open_ok(f);
    put_is(f, 0, N, CISTERN_STORED);
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    all_pass(f->slow);
    if (f->c)
        assert_int_equal(cistern_close(f->c), 0);
    WAIT_FOR(only_left(f));
    store_rmdir(&f->s);
    free(f->src);
    free(f->dst);
    free(f);
    return 0;
}

/* Storage still owned something when the handle was closed: memory and all stay with the process.
 */
static inline void close_left(struct fixture *f)
{
    static cistern *volatile left[16]; /* where leak checkers see them */
    static int n;
    uint64_t start = now_ms();

    left[n] = f->c;
    assert_non_null(left[n++]);
    assert_int_not_equal(cistern_close(f->c), 0);
    f->c = NULL;
    assert_true(now_ms() - start < SOON_MS);
    count_left(f);
}

static inline void reopen(struct fixture *f)
{
    assert_int_equal(cistern_close(f->c), 0);
    f->c = NULL;
    open_ok(f);
}

static inline uint64_t metric(struct fixture *f, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(f->c, m, 256);

    for (i = 0; i < n && i < 256; i++) {
        if (strcmp(m[i].name, name) == 0)
            return m[i].value;
    }
    fail_msg("no metric %s", name);
    return 0;
}

#endif
