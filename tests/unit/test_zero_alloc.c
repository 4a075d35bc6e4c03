/*
 * test_zero_alloc.c - put and get allocate nothing: a million blocks are put, through growth of the
 * index and rolls of the segment, and gets run in between, while every allocation is counted.
 *
 * This program's own malloc, mmap and their kin stand before libc's, for the library and for the
 * drop-in alike, and pass on to it; the break is compared. A count is kept for each thread, because
 * making the next segment (opening, listing and syncing files, on the keeper's thread) is not the
 * path of a put. What bypasses libc would show in the size of the address space.
 *
 * ZERO_ALLOC_PUTS sets the number of blocks.
 */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "../harness/store.h"

enum { BLOCK = 4096, BATCH = 64, DEPTH = 16, MAX_THREADS = 64 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTING 0
#define PUTS     50000
#else
#define COUNTING 1
#define PUTS     1000000
#endif

/* ---- Counting ---- */

static atomic_bool armed;
static struct {
    _Atomic pid_t thread;
    atomic_ulong calls;
    char first[24], name[24]; /* the first function called, the thread's name; by that thread */
} counts[MAX_THREADS];

#if COUNTING
static void count(const char *what)
{
    pid_t me, none = 0;
    int i;

    if (!atomic_load_explicit(&armed, memory_order_relaxed))
        return;
    me = (pid_t)syscall(SYS_gettid);
    for (i = 0; i < MAX_THREADS; i++, none = 0) {
        if (atomic_load(&counts[i].thread) == me)
            break;
        if (atomic_compare_exchange_strong(&counts[i].thread, &none, me)) {
            (void)snprintf(counts[i].first, sizeof counts[i].first, "%s", what);
            (void)pthread_getname_np(pthread_self(), counts[i].name, sizeof counts[i].name);
            break;
        }
    }
    if (i < MAX_THREADS)
        atomic_fetch_add(&counts[i].calls, 1);
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

void *malloc(size_t size)
{
    count("malloc");
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count("calloc");
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    count("realloc");
    return __libc_realloc(p, size);
}

void *memalign(size_t align, size_t size)
{
    count("memalign");
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    count("aligned_alloc");
    return __libc_memalign(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    count("posix_memalign");
    *p = __libc_memalign(align, size);
    return *p ? 0 : 12;
}

void free(void *p)
{
    __libc_free(p);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    count("mmap");
    return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    return mmap(at, size, prot, flags, fd, offset);
}
#endif

/* Pages of address space. */
static long address_space(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = -1;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pages), 1);
    (void)fclose(f);
    return pages;
}

/* ---- The load ---- */

struct batch {
    cistern_key keys[BATCH];
    uint8_t results[BATCH];
    struct cistern_vec vecs[BATCH];
    struct cistern_span spans[BATCH];
    uint8_t bytes[BATCH][BLOCK];
    uint64_t op;
};

static struct batch writes[DEPTH], reads[DEPTH];

struct load {
    cistern *c;
    uint64_t next, hits, stored, dropped;
};

static void prepare(struct batch *b)
{
    int i;

    for (i = 0; i < BATCH; i++) {
        b->vecs[i] = (struct cistern_vec){b->bytes[i], BLOCK};
        b->spans[i] = (struct cistern_span){&b->vecs[i], 1};
    }
}

static struct cistern_request request(struct batch *b)
{
    return (struct cistern_request){.size = sizeof(struct cistern_request),
                                    .keys = b->keys,
                                    .spans = b->spans,
                                    .results = b->results,
                                    .blocks = BATCH,
                                    .timeout_ms = 60000};
}

static void wait_for(struct load *l, struct batch *b, bool put)
{
    struct cistern_event e;
    int rc = cistern_wait(l->c, b->op, 60000, &e);

    if (rc || e.status)
        fail_msg("wait: %d, status %d: %s", rc, e.status, cistern_error_text());
    b->op = 0;
    if (put) {
        l->stored += e.hits;
        l->dropped += e.misses;
    } else {
        l->hits += e.hits;
    }
}

/* One batch of new blocks is put; one batch of old ones is matched and read. */
static void step(struct load *l, struct batch *w, struct batch *r, uint64_t blocks)
{
    struct cistern_request wr = request(w), rr = request(r);
    struct cistern_match m;
    uint64_t old;
    int i;

    if (w->op)
        wait_for(l, w, true);
    if (r->op)
        wait_for(l, r, false);
    for (i = 0; i < BATCH; i++) {
        store_key(&w->keys[i], l->next + (uint64_t)i);
        memcpy(w->bytes[i], &l->next, sizeof l->next);
    }
    if (cistern_put(l->c, &wr, &w->op))
        fail_msg("put: %s", cistern_error_text());
    l->next += BATCH;
    if (l->next % (16 * BATCH) || l->next >= blocks)
        return;
    old = l->next * 2654435761u % (l->next / 2) / BATCH * BATCH;
    for (i = 0; i < BATCH; i++)
        store_key(&r->keys[i], old + (uint64_t)i);
    if (cistern_match(l->c, r->keys, BATCH, &m))
        fail_msg("match: %s", cistern_error_text());
    rr.ticket = m.ticket;
    if (cistern_get(l->c, &rr, &r->op))
        fail_msg("get: %s", cistern_error_text());
}

static uint64_t metric(const cistern *c, const char *name)
{
    struct cistern_metric m[256];
    int i, n = cistern_metrics(c, m, 256);

    for (i = 0; i < n; i++) {
        if (!strcmp(m[i].name, name))
            return m[i].value;
    }
    fail_msg("no metric %s", name);
    return 0;
}

/* Where io_uring is forbidden, the drop-in's threads come as the load does, each with its stack. */
static bool has_threads(const cistern *c)
{
    char text[4096];

    assert_true(cistern_describe(c, text, sizeof text) > 0);
    return strstr(text, "backend=threads") != NULL;
}

/* Steps before counting, so that most of them are there. */
static uint64_t warm_up(const cistern *c)
{
    return has_threads(c) ? 1000 : 0;
}

/* Pages that those may take which come later. */
static long late_stacks(const cistern *c)
{
    return has_threads(c) ? 32 * 36 : 0;
}

static void check_counts(void)
{
    unsigned long path = 0;
    int i;

    for (i = 0; i < MAX_THREADS && counts[i].thread; i++) {
        print_message("thread %d \"%s\": %lu allocations, the first by %s\n", (int)counts[i].thread,
                      counts[i].name, counts[i].calls, counts[i].first);
        if (!strstr(counts[i].name, "keep"))
            path += counts[i].calls;
    }
    assert_int_equal(path, 0);
}

static void test_a_million_puts_allocate_nothing(void **state)
{
    const char *set = getenv("ZERO_ALLOC_PUTS");
    uint64_t blocks = set ? strtoull(set, NULL, 10) : PUTS, index_bytes, i;
    struct load l = {0};
    struct store s;
    void *brk_before;
    long pages;

    (void)state;
    /* What the threads in the background need now and then, a listing's buffer say, is there. */
    (void)mallopt(M_TOP_PAD, 16 << 20);
    free(malloc(1 << 20));
    store_init(&s);
    s.parts[0].bytes = BLOCK;
    s.o.max_blocks = 4 << 20;
    s.o.read_iov_bytes = s.o.write_iov_bytes = 16 << 20;
    if (cistern_open(&s.o, &l.c))
        fail_msg("open: %s", cistern_error_text());
    for (i = 0; i < DEPTH; i++) {
        prepare(&writes[i]);
        prepare(&reads[i]);
    }
    index_bytes = metric(l.c, "index_bytes");
    for (i = 0; i < warm_up(l.c); i++)
        step(&l, &writes[i % DEPTH], &reads[i % DEPTH], blocks);
    pages = address_space();
    brk_before = sbrk(0);
    atomic_store(&armed, true);
    for (; l.next < blocks; i++)
        step(&l, &writes[i % DEPTH], &reads[i % DEPTH], blocks);
    for (i = 0; i < DEPTH; i++) {
        if (writes[i].op)
            wait_for(&l, &writes[i], true);
        if (reads[i].op)
            wait_for(&l, &reads[i], false);
    }
    atomic_store(&armed, false);
    print_message("%llu stored, %llu dropped, %llu read back, index %llu -> %llu bytes, %llu "
                  "segments\n",
                  (unsigned long long)l.stored, (unsigned long long)l.dropped,
                  (unsigned long long)l.hits, (unsigned long long)index_bytes,
                  (unsigned long long)metric(l.c, "index_bytes"),
                  (unsigned long long)metric(l.c, "segments_created"));
    check_counts();
    if (COUNTING) {
        assert_in_range(address_space(), pages, pages + late_stacks(l.c));
        assert_ptr_equal(sbrk(0), brk_before);
    }
    /* It was a load: nearly all of it was stored, gets hit, the index grew, segments rolled. */
    assert_true(l.stored > blocks / 10 * 9);
    assert_true(l.hits > blocks / 16 / 10 * 5);
    assert_true(metric(l.c, "index_bytes") > index_bytes);
    assert_true(metric(l.c, "segments_created") > 1);
    assert_int_equal(cistern_close(l.c), 0);
    store_rmdir(&s);
}

static unsigned long take_counts(void)
{
    unsigned long sum = 0;
    int i;

    for (i = 0; i < MAX_THREADS; i++) {
        sum += atomic_exchange(&counts[i].calls, 0);
        atomic_store(&counts[i].thread, 0);
    }
    return sum;
}

/* The count sees what this file does, and what the library and the drop-in do at an open. */
static void test_the_counter_counts(void **state)
{
    struct store s;
    void *volatile p;
    cistern *c;

    (void)state;
    if (!COUNTING) {
        print_message("a sanitizer has its own malloc; the release build counts\n");
        skip();
    }
    atomic_store(&armed, true);
    p = malloc(1);
    free(p);
    p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(p, 4096);
    atomic_store(&armed, false);
    assert_int_equal(take_counts(), 2);
    store_init(&s);
    atomic_store(&armed, true);
    assert_int_equal(cistern_open(&s.o, &c), 0);
    atomic_store(&armed, false);
    assert_true(counts[1].thread != 0);
    assert_true(take_counts() > 20);
    assert_int_equal(cistern_close(c), 0);
    store_rmdir(&s);
}

int main(void)
{
    const char *build = getenv("CISTERN_BUILD");
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_counter_counts),
        cmocka_unit_test(test_a_million_puts_allocate_nothing),
    };

    /* Each arena that libc gives a new thread would take 64 MiB of addresses. */
    (void)mallopt(M_ARENA_MAX, 1);
    /* Some GiB of blocks: not in a /tmp that is memory. */
    if (build && *build)
        (void)setenv("TMPDIR", build, 0);
    return cmocka_run_group_tests_name("zero_alloc", tests, NULL, NULL);
}
