/*
 * processes.c - cistern_process_list() and cistern_process_text(): the statistics pages of this
 * host.
 *
 * A page belongs to a live process if its writer still holds it (shmpage.h), and if, where both
 * count pids alike, there is a process of that number that started when it says. It is stale when
 * it was not written for a few of its intervals. What cannot be understood is left out, and left
 * alone. No state; any thread.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/le.h"
#include "cistern_admin.h"
#include "engine/config.h"
#include "io/process.h"
#include "io/shmpage.h"
#include "metrics/page.h"
#include "metrics/text.h"

#define READS      20 /* of a page that is being written */
#define PAUSE_NS   (NS_PER_MS / 2)
#define STALE_MS   2000u /* beside three intervals */
#define NAME_BYTES 64u
#define HANDLES    4096u

struct names {
    char (*at)[NAME_BYTES];
    uint32_t n, room;
};

/* Of one page, in one piece of memory. */
struct reading {
    struct page page;
    uint64_t age_ns;
    char path[NAME_BYTES + 16];
    _Alignas(8) uint8_t bytes[PAGE_MOST];
};

static int keep_name(void *arg, const char *name)
{
    struct names *l = arg;
    void *p;

    if (strlen(name) >= NAME_BYTES || l->n >= HANDLES)
        return 0;
    if (l->n == l->room) {
        p = realloc(l->at, (l->room + 64) * sizeof *l->at);
        if (!p)
            return -ENOMEM;
        l->at = p;
        l->room += 64;
    }
    (void)snprintf(l->at[l->n++], NAME_BYTES, "%s", name);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int read_page(struct reading *r, const char *name)
{
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    int64_t n;
    int rc = -EBADMSG, i;

    for (i = 0; i < READS && rc == -EBADMSG; i++) {
        if (i)
            (void)nanosleep(&pause, NULL);
        n = shm_file_read(name, r->bytes, sizeof r->bytes);
        rc = n < 0 ? (int)n : page_decode(r->bytes, (size_t)n, &r->page);
    }
    return rc;
}

static bool same_name(const struct page_identity *id, const char *name)
{
    char own[NAME_BYTES];

    (void)snprintf(own, sizeof own, PAGE_PREFIX "%u-%u", id->pid, id->handle);
    return strcmp(own, name) == 0;
}

static bool process_gone(const struct page_identity *id)
{
    return id->pid_ns && id->pid_ns == process_pid_namespace() &&
           process_start_ticks(id->pid) != id->start_ticks;
}

/* Reads it; false: there is no live handle behind it. */
static bool take(struct reading *r, const char *name, const struct cistern_process_query *q)
{
    uint64_t now, stale;
    int rc = read_page(r, name);

    if (rc == -EBADMSG && !q->keep)
        (void)shm_file_sweep(name); /* killed on its first line */
    if (rc || !same_name(&r->page.id, name))
        return false;
    if (q->pid && q->pid != r->page.id.pid)
        return false;
    now = clock_boot_ns();
    r->age_ns = now > r->page.updated_ns ? now - r->page.updated_ns : 0;
    stale = (3ull * r->page.id.interval_ms + STALE_MS) * NS_PER_MS;
    if (r->age_ns > stale / 4 && !q->keep && shm_file_sweep(name))
        return false;
    (void)snprintf(r->path, sizeof r->path, "/dev/shm/%s", name);
    return !process_gone(&r->page.id);
}

/* Asks `visit` about every live handle, in the order of their names. */
static int each(const struct cistern_process_query *theirs,
                int (*visit)(void *arg, struct reading *r), void *arg, int *count)
{
    struct cistern_process_query q = {.size = sizeof q};
    struct names names = {0};
    struct reading *r = malloc(sizeof *r);
    uint32_t i;
    int rc = 0;

    *count = 0;
    if (theirs)
        rc = config_take_struct(&q, sizeof q, theirs);
    if (!rc)
        rc = r ? shm_file_list(PAGE_PREFIX, keep_name, &names) : -ENOMEM;
    if (rc)
        rc = err_set(rc, "/dev/shm cannot be looked at: %s", cistern_error_string(rc));
    if (!rc && names.n)
        qsort(names.at, names.n, sizeof *names.at, by_name);
    for (i = 0; i < names.n && !rc; i++) {
        if (take(r, names.at[i], &q)) {
            ++*count;
            rc = visit(arg, r);
        }
    }
    free(names.at);
    free(r);
    return rc;
}

/* ---- As structs ---- */

struct listing {
    int (*callback)(void *arg, const struct cistern_process *p);
    void *arg;
};

static int tell(void *arg, struct reading *r)
{
    struct listing *l = arg;
    const struct page *p = &r->page;
    struct cistern_process x = {.path = r->path,
                                .pid = p->id.pid,
                                .handle = p->id.handle,
                                .shard = p->id.shard,
                                .shards = p->id.shards,
                                .stale =
                                    r->age_ns > (3ull * p->id.interval_ms + STALE_MS) * NS_PER_MS,
                                .age_ns = r->age_ns,
                                .updates = p->updates,
                                .version = page_label(p, "version"),
                                .mount = page_label(p, "mount"),
                                .root = page_label(p, "root"),
                                .space = page_label(p, "space"),
                                .model = page_label(p, "model"),
                                .provider = page_label(p, "provider"),
                                .mode = page_label(p, "mode"),
                                .samples = p->samples,
                                .nsamples = p->nsamples};

    return l->callback(l->arg, &x);
}

int cistern_process_list(const struct cistern_process_query *q,
                         int (*callback)(void *arg, const struct cistern_process *p), void *arg)
{
    struct listing l = {callback, arg};
    int count, rc;

    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    rc = each(q, tell, &l, &count);
    return rc ? rc : count;
}

/* ---- As text ---- */

struct kept {
    struct reading *one[HANDLES];
    uint32_t n;
};

static int keep(void *arg, struct reading *r)
{
    struct kept *k = arg;
    int64_t n = (int64_t)le64_load(r->bytes + 16); /* page_decode() compared it */
    struct reading *copy = malloc(offsetof(struct reading, bytes) + (size_t)n);

    if (!copy)
        return err_set(-ENOMEM, "no memory for the pages");
    memcpy(copy, r, offsetof(struct reading, bytes) + (size_t)n);
    k->one[k->n] = copy;
    /* Its pointers lead into the other one's bytes. */
    if (page_decode(copy->bytes, (size_t)n, &copy->page)) {
        free(copy);
        return 0;
    }
    k->n++;
    return 0;
}

int64_t cistern_process_text(const struct cistern_process_query *q, char *buf, size_t size)
{
    struct kept *k = calloc(1, sizeof *k);
    struct text_handle *handles = NULL;
    int64_t rc = k ? 0 : err_set(-ENOMEM, "no memory for the pages");
    uint32_t i;
    int count;

    if (!rc && size && !buf)
        rc = err_set(-EINVAL, "buf is NULL");
    if (!rc)
        rc = each(q, keep, k, &count);
    if (!rc && !(handles = calloc(k->n + 1, sizeof *handles)))
        rc = err_set(-ENOMEM, "no memory for the pages");
    for (i = 0; !rc && i < k->n; i++)
        handles[i] = (struct text_handle){.page = &k->one[i]->page, .age_ns = k->one[i]->age_ns};
    if (!rc)
        rc = (int64_t)text_render(buf, size, handles, k->n);
    for (i = 0; k && i < k->n; i++)
        free(k->one[i]);
    free(handles);
    free(k);
    return rc;
}
