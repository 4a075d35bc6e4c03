/* report.c - see report.h; and cistern_metrics_text(). */
#include "engine/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/gauges.h"
#include "io/process.h"
#include "io/shmpage.h"
#include "metrics/page.h"
#include "metrics/text.h"

#define EVERY_NS (NS_PER_S / 2)
#define STACK    (256u << 10)

struct report {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* monotonic clock */
    bool stop;           /* guarded by lock */
    bool failing;        /* and was told; the thread's, like all below */
    struct shm_page file;
    struct page_identity id;
    _Atomic uint64_t updates;
    char model[1024];
    uint8_t *buf;
};

static const char *mode(const cistern *c)
{
    return c->cfg.flags & CISTERN_OPEN_MATCH_ONLY ? "match-only"
           : c->writer                            ? "read-write"
                                                  : "read-only";
}

static int64_t report_encode(cistern *c, void *buf, size_t size)
{
    const char *space = strrchr(c->space_path, '/');
    struct report *r = c->report;
    struct page_label labels[] = {
        {"version", CISTERN_VERSION},
        {"mount", c->io->mount},
        {"root", c->cfg.root},
        {"space", space ? space + 1 : c->space_path},
        {"model", r->model},
        {"provider", c->io->ops->name},
        {"mode", mode(c)},
    };
    struct page_update update = {.now_ns = clock_boot_ns(), .updates = atomic_load(&r->updates)};

    gauges_refresh(c);
    return page_encode(buf, size, &r->id, labels, sizeof labels / sizeof labels[0], &update,
                       &c->metrics);
}

static void write_page(cistern *c)
{
    struct report *r = c->report;
    int64_t n;
    int rc;

    (void)atomic_fetch_add(&r->updates, 1);
    n = report_encode(c, r->buf, PAGE_ROOM);
    rc = n < 0 ? (int)n : shm_file_write(&r->file, r->buf, (size_t)n);
    if (rc && !r->failing)
        log_line(&c->cfg.log, LOG_WARN, "%s cannot be written: %s", r->file.path,
                 cistern_error_string(rc));
    r->failing = rc != 0;
}

static int sweep(void *arg, const char *name)
{
    (void)arg;
    (void)shm_file_sweep(name);
    return 0;
}

static void *report_main(void *arg)
{
    cistern *c = arg;
    struct report *r = c->report;
    uint64_t next = clock_ns();

    write_page(c);
    (void)pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        struct timespec until = clock_timespec(next);

        if (clock_ns() < next) {
            (void)pthread_cond_timedwait(&r->wake, &r->lock, &until);
            continue;
        }
        next = clock_ns() + EVERY_NS;
        (void)pthread_mutex_unlock(&r->lock);
        write_page(c);
        (void)pthread_mutex_lock(&r->lock);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Everything that the page says, whether or not there will be one. */
static struct report *prepare(cistern *c, const struct cistern_space *s)
{
    struct report *r = calloc(1, sizeof *r);
    pthread_condattr_t attr;

    if (!r)
        return NULL;
    (void)snprintf(r->model, sizeof r->model, "%s", s->model);
    r->id = (struct page_identity){.pid = (uint32_t)getpid(),
                                   .interval_ms = EVERY_NS / NS_PER_MS,
                                   .shard = c->cfg.shard,
                                   .shards = c->cfg.shards,
                                   .start_ticks = process_start_ticks(0),
                                   .pid_ns = process_pid_namespace()};
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return r;
}

static int start_thread(cistern *c)
{
    pthread_attr_t attr;
    int rc;

    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK);
    rc = -pthread_create(&c->report->thread, &attr, report_main, c);
    (void)pthread_attr_destroy(&attr);
    c->report->started = !rc;
    return rc;
}

void report_start(cistern *c, const struct cistern_space *s)
{
    struct report *r = c->report = prepare(c, s);
    char prefix[48];
    int rc;

    if (!r || !c->cfg.stat_page)
        return;
    (void)snprintf(prefix, sizeof prefix, PAGE_PREFIX "%u-", r->id.pid);
    (void)shm_file_list(PAGE_PREFIX, sweep, NULL); /* of killed processes */
    rc = shm_file_make(&r->file, prefix, &r->id.handle);
    if (!rc && !(r->buf = malloc(PAGE_ROOM)))
        rc = -ENOMEM;
    if (!rc)
        rc = start_thread(c);
    if (!rc)
        return;
    shm_file_close(&r->file);
    log_line(&c->cfg.log, LOG_INFO, "no statistics page in /dev/shm (%s)",
             cistern_error_string(rc));
}

void report_stop(cistern *c)
{
    struct report *r = c->report;

    if (!r)
        return;
    if (r->started) {
        (void)pthread_mutex_lock(&r->lock);
        r->stop = true;
        (void)pthread_cond_signal(&r->wake);
        (void)pthread_mutex_unlock(&r->lock);
        (void)pthread_join(r->thread, NULL);
    }
    shm_file_close(&r->file);
    free(r->buf);
    free(r);
    c->report = NULL;
}

int64_t cistern_metrics_text(const cistern *c, char *buf, size_t size)
{
    struct text_handle handle;
    struct page *page;
    uint8_t *bytes;
    int64_t n;
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (size && !buf)
        return err_set(-EINVAL, "buf is NULL");
    page = malloc(sizeof *page);
    bytes = malloc(PAGE_ROOM);
    n = page && bytes && c->report ? report_encode((cistern *)(uintptr_t)c, bytes, PAGE_ROOM)
                                   : -ENOMEM;
    if (n >= 0 && (rc = page_decode(bytes, (size_t)n, page)))
        n = rc;
    handle = (struct text_handle){.page = page};
    if (n >= 0)
        n = (int64_t)text_render(buf, size, &handle, 1);
    else
        n = err_set((int)n, "no memory for the numbers of the handle");
    free(bytes);
    free(page);
    return n;
}
