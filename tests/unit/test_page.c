/*
 * test_page.c - the statistics page: what is written is read, what is damaged is refused, and the
 * text for Prometheus that is made of it. Then the file of an open handle.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../harness/skip.h"
#include "../harness/store.h"
#include "base/hash.h"
#include "base/le.h"
#include "cistern_admin.h"
#include "metrics/page.h"
#include "metrics/text.h"

enum { HEAD = 128, DAMAGES = 20000 };

static _Alignas(8) uint8_t good[PAGE_ROOM], bad[PAGE_ROOM];
static struct page page, other;
static char text[1 << 18];

static const struct page_identity identity = {.pid = 77,
                                              .handle = 3,
                                              .interval_ms = 1000,
                                              .shard = 1,
                                              .shards = 4,
                                              .start_ticks = 5,
                                              .pid_ns = 6};

static int64_t encode(const struct metrics *m, const char *model)
{
    struct page_label labels[] = {{"mount", "/mnt"}, {"root", "kv"}, {"model", model}};
    struct page_update update = {.now_ns = 9, .updates = 10};

    return page_encode(good, sizeof good, &identity, labels, 3, &update, m);
}

static void seal(uint8_t *p, size_t n)
{
    le64_store(p + n - 8, hash64(p, n - 8));
}

static void what_is_written_is_read(void **state)
{
    struct metrics m = {0};
    int64_t n;
    uint32_t i;

    (void)state;
    metric_add(&m, METRIC_get_ops, 12);
    metric_set(&m, METRIC_usage_bytes, UINT64_MAX);
    metric_record(&m, HISTOGRAM_get_latency_ns, 150000);
    n = encode(&m, "llama");
    assert_true(n > 0 && n % 8 == 0);
    assert_int_equal(page_decode(good, (size_t)n, &page), 0);
    assert_memory_equal(&page.id, &identity, sizeof identity);
    assert_int_equal(page.updated_ns, 9);
    assert_int_equal(page.updates, 10);
    assert_string_equal(page_label(&page, "model"), "llama");
    assert_string_equal(page_label(&page, "none"), "");
    assert_int_equal(page.nsamples, METRIC_COUNT + HISTOGRAM_COUNT);
    for (i = 0; i < METRIC_COUNT; i++) {
        assert_string_equal(page.samples[i].name, metric_name((enum metric)i));
        assert_string_equal(page.samples[i].help, metric_help((enum metric)i));
        assert_int_equal(page.samples[i].value, metric_get(&m, (enum metric)i));
        assert_int_equal(page.samples[i].kind == CISTERN_GAUGE, metric_is_gauge((enum metric)i));
    }
    i = METRIC_COUNT + HISTOGRAM_get_latency_ns;
    assert_int_equal(page.samples[i].kind, CISTERN_HISTOGRAM);
    assert_int_equal(page.samples[i].value, 150000);
    assert_int_equal(page.samples[i].counts[1], 1);
}

static void no_room_is_said(void **state)
{
    struct metrics m = {0};
    struct page_update update = {0};
    size_t size;

    (void)state;
    for (size = 0; size < 4096; size += 64)
        assert_int_equal(page_encode(good, size, &identity, NULL, 0, &update, &m), -ENOSPC);
}

static void every_torn_page_is_noticed(void **state)
{
    struct metrics m = {0};
    int64_t n = encode(&m, "llama");
    int64_t i;

    (void)state;
    for (i = 0; i < n; i++) {
        memcpy(bad, good, (size_t)n);
        bad[i] ^= 1;
        assert_true(page_decode(bad, (size_t)n, &other) < 0);
        assert_true(page_decode(good, (size_t)i, &other) < 0);
    }
}

/* The checksum is right and the rest is not: whoever may write the file can do that. Whatever is
 * taken for good can be printed. */
static void hostile_pages_harm_nobody(void **state)
{
    struct metrics m = {0};
    int64_t n = encode(&m, "llama");
    uint64_t x = 88172645463325252ull;
    uint32_t i, k, taken = 0, refused = 0;

    (void)state;
    for (i = 0; i < DAMAGES; i++) {
        memcpy(bad, good, (size_t)n);
        for (k = 0; k <= i % 4; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bad[(i % 3 ? 64 + x % 1024 : x % (uint64_t)n) % (uint64_t)(n - 8)] = (uint8_t)(x >> 32);
        }
        seal(bad, (size_t)n);
        if (page_decode(bad, (size_t)n, &other)) {
            refused++;
            continue;
        }
        taken++;
        (void)text_render(text, sizeof text, &(struct text_handle){.page = &other}, 1);
    }
    assert_true(taken > 100 && refused > 100);
}

static void refuse(size_t at, uint32_t value, int64_t n)
{
    memcpy(bad, good, (size_t)n);
    le32_store(bad + at, value);
    seal(bad, (size_t)n);
    assert_true(page_decode(bad, (size_t)n, &other) < 0);
}

static void heads_that_lie(void **state)
{
    struct metrics m = {0};
    int64_t n = encode(&m, "llama");

    (void)state;
    refuse(8, 2, n); /* of a later format */
    refuse(12, 0, n);
    refuse(12, 132, n);
    refuse(12, UINT32_MAX & ~7u, n);
    refuse(16, (uint32_t)n + 8, n);
    refuse(76, PAGE_LABELS_MOST + 1, n);
    refuse(76, 2, n);
    refuse(80, PAGE_MOST_SAMPLES + 1, n);
    refuse(80, 1, n);
    memcpy(bad, good, (size_t)n);
    le32_store(bad + 8, 2);
    assert_int_equal(page_decode(bad, (size_t)n, &other), -EPROTO);
    assert_int_equal(page_decode(bad + 1, (size_t)n, &other), -EINVAL);
}

static void what_is_no_text_is_replaced(void **state)
{
    struct metrics m = {0};
    int64_t n = encode(&m, "a\x01\xff\xc3\xa9\xed\xa0\x80\n\"\\");

    (void)state;
    assert_int_equal(page_decode(good, (size_t)n, &page), 0);
    assert_string_equal(page_label(&page, "model"), "a??\xc3\xa9????\"\\");
    (void)text_render(text, sizeof text, &(struct text_handle){.page = &page}, 1);
    assert_non_null(strstr(text, "model=\"a??\xc3\xa9????\\\"\\\\\""));
}

static void prometheus_reads_it(void **state)
{
    struct metrics m = {0};
    struct text_handle two[2];
    const char *labels = "{pid=\"77\",handle=\"3\",root=\"/mnt/kv\",model=\"llama\",shard=\"1\"";
    char line[512];
    int64_t n;
    size_t len, i;

    (void)state;
    metric_add(&m, METRIC_get_ns, 1500000001);
    metric_set(&m, METRIC_match_hit_now_ppm, 333333);
    metric_record(&m, HISTOGRAM_get_latency_ns, 150000);
    metric_record(&m, HISTOGRAM_get_latency_ns, UINT64_MAX / 2);
    n = encode(&m, "llama");
    assert_int_equal(page_decode(good, (size_t)n, &page), 0);
    two[0] = (struct text_handle){.page = &page, .age_ns = 250000000};
    len = text_render(text, sizeof text, two, 1);
    assert_int_equal(strlen(text), len);
    (void)snprintf(line, sizeof line, "\ncistern_get_seconds_total%s} 1.500000001\n", labels);
    assert_non_null(strstr(text, line));
    (void)snprintf(line, sizeof line, "\ncistern_match_hit_now_ratio%s} 0.333333\n", labels);
    assert_non_null(strstr(text, line));
    (void)snprintf(line, sizeof line, "\ncistern_get_latency_seconds_bucket%s,le=\"0.0002\"} 1\n",
                   labels);
    assert_non_null(strstr(text, line));
    (void)snprintf(line, sizeof line, "\ncistern_get_latency_seconds_bucket%s,le=\"+Inf\"} 2\n",
                   labels);
    assert_non_null(strstr(text, line));
    (void)snprintf(line, sizeof line, "\ncistern_handle_age_seconds%s} 0.25\n", labels);
    assert_non_null(strstr(text, line));
    /* As snprintf: what fits, and how long it would be. */
    for (i = 0; i < 300; i++) {
        memset(bad, 'x', 300);
        assert_int_equal(text_render((char *)bad, i, two, 1), len);
        assert_true(i == 0 || strlen((char *)bad) == i - 1);
        assert_int_equal(bad[i], 'x');
    }
    /* Two handles: each metric is explained once. */
    memcpy(bad, good, (size_t)n);
    le32_store(bad + 28, 4);
    seal(bad, (size_t)n);
    assert_int_equal(page_decode(bad, (size_t)n, &other), 0);
    two[1] = (struct text_handle){.page = &other};
    (void)text_render(text, sizeof text, two, 2);
    assert_non_null(strstr(text, "handle=\"4\""));
    assert_non_null(strstr(text, "# TYPE cistern_get_ops_total "));
    assert_null(
        strstr(strstr(text, "# TYPE cistern_get_ops_total ") + 1, "# TYPE cistern_get_ops_total "));
    len = text_render(text, sizeof text, NULL, 0);
    assert_int_equal(strlen(text), len);
    assert_non_null(strstr(text, "\ncistern_handles 0\n"));
}

/* ---- The file of a handle ---- */

struct seen {
    uint32_t n, handle;
    uint64_t updates;
    char path[128], model[64];
};

static int see(void *arg, const struct cistern_process *p)
{
    struct seen *s = arg;

    s->n++;
    s->handle = p->handle;
    s->updates = p->updates;
    (void)snprintf(s->path, sizeof s->path, "%s", p->path);
    (void)snprintf(s->model, sizeof s->model, "%s", p->model);
    return p->stale;
}

/* The handles of this process, once there are `n`. */
static struct seen processes(uint32_t n, uint64_t updates)
{
    struct cistern_process_query q = {.size = sizeof q, .pid = (uint32_t)getpid()};
    struct timespec pause = {.tv_nsec = 20000000};
    struct seen s = {0};
    int i, rc;

    for (i = 0; i < 3000; i++) {
        s = (struct seen){0};
        rc = cistern_process_list(&q, see, &s);
        if (rc == (int)n && s.n == n && s.updates >= updates)
            return s;
        (void)nanosleep(&pause, NULL);
    }
    fail_msg("%u handles instead of %u, %llu updates", s.n, n, (unsigned long long)s.updates);
    return s;
}

static void a_handle_has_a_page_while_it_is_open(void **state)
{
    struct store s;
    struct stat st;
    struct seen seen;
    cistern *c;

    (void)state;
    store_init(&s);
    if (access("/dev/shm", W_OK))
        SKIP("no /dev/shm here");
    assert_int_equal(cistern_open(&s.o, &c), 0);
    seen = processes(1, 3);
    assert_string_equal(seen.model, "test");
    assert_int_equal(stat(seen.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* Whatever is done to the file is its end, not that of the process. */
    assert_int_equal(truncate(seen.path, 0), 0);
    (void)processes(1, seen.updates + 1);
    assert_int_equal(cistern_close(c), 0);
    (void)processes(0, 0);
    assert_int_equal(stat(seen.path, &st), -1);
    store_rmdir(&s);
}

static void it_can_be_off(void **state)
{
    struct store s;
    cistern *c;

    (void)state;
    store_init(&s);
    s.o.stat_page = -1;
    assert_int_equal(cistern_open(&s.o, &c), 0);
    assert_int_equal(processes(0, 0).n, 0);
    /* The numbers can be had all the same. */
    assert_true(cistern_metrics_text(c, text, sizeof text) > 1000);
    assert_non_null(strstr(text, "model=\"test\""));
    assert_true(cistern_metrics_text(c, NULL, 0) > 1000);
    assert_int_equal(cistern_metrics_text(c, NULL, 5), -EINVAL);
    assert_int_equal(cistern_metrics_text(NULL, text, 5), -EINVAL);
    assert_int_equal(cistern_close(c), 0);
    store_rmdir(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(no_room_is_said),
        cmocka_unit_test(every_torn_page_is_noticed),
        cmocka_unit_test(hostile_pages_harm_nobody),
        cmocka_unit_test(heads_that_lie),
        cmocka_unit_test(what_is_no_text_is_replaced),
        cmocka_unit_test(prometheus_reads_it),
        cmocka_unit_test(a_handle_has_a_page_while_it_is_open),
        cmocka_unit_test(it_can_be_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
