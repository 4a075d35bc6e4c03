/*
 * renew_make.c - making everything anew, and the exchange. See renew.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/futex.h"
#include "engine/lane_internal.h"
#include "engine/renew.h"
#include "engine/writer_internal.h"
#include "segment/root.h"

/* A data file that was opened anew. Its segment is held, and what was open before is not shut. */
struct fresh {
    uint32_t segment;
    struct io_file file;
    bool used; /* the keeper is not done with what was open until now */
};

/* ---- Files ---- */

/* Opens those data files anew that are open and not of `epoch`; how many. */
static size_t open_files(cistern *c, uint32_t epoch, struct fresh **out)
{
    uint32_t i, n = atomic_load(&c->segs.count);
    struct fresh *list = calloc(n ? n : 1, sizeof *list);
    size_t count = 0;

    for (i = 0; list && i < n; i++) {
        char path[640], name[SEGMENT_NAME_MAX];
        struct io_file f = {.fd = -1};
        unsigned mode = IO_READ | (c->cfg.flags & CISTERN_OPEN_BUFFERED ? 0 : IO_DIRECT);

        if (!segment_hold(&c->segs, i))
            continue;
        if (!file_pin(c, i)) { /* shut: whoever opens it opens what is there then */
            segment_release(&c->segs, i);
            continue;
        }
        segment_name(name, c->segs.at[i].writer, c->segs.at[i].seq, ".seg");
        (void)snprintf(path, sizeof path, "%s/%s", c->shard_path, name);
        if (atomic_load(&c->segs.at[i].epoch) != epoch &&
            c->io->ops->file_open(c->io, path, mode, &f) == 0)
            list[count++] = (struct fresh){.segment = i, .file = f};
        else
            file_leave(c, i);
    }
    *out = list;
    return count;
}

/* While the lanes stand still. What was open until now is in the list afterwards. */
static void exchange_files(cistern *c, struct fresh *list, size_t n, uint32_t epoch)
{
    size_t i;

    for (i = 0; i < n; i++) {
        const struct segment *s = &c->segs.at[list[i].segment];

        list[i].used = c->writer && s->own && writer_segment_open(c, s->writer, s->seq);
        segtab_exchange(&c->segs, list[i].segment, &list[i].file, epoch);
    }
}

static void close_files(cistern *c, struct fresh *list, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (!list[i].used)
            c->io->ops->file_close(c->io, &list[i].file);
        file_leave(c, list[i].segment);
    }
    free(list);
}

/* ---- Standing still ---- */

static bool all_parked(cistern *c, uint32_t phase)
{
    bool all = true;
    uint32_t i;

    for (i = 0; i < c->nlanes; i++)
        all &= atomic_load(&c->lanes[i].parked) == phase || atomic_load(&c->lanes[i].ended);
    if (c->writer)
        all &= atomic_load(&c->writer->parked) == phase || atomic_load(&c->writer->ended);
    return all;
}

/* No lane waits for anything but its ring, and for that not long: this comes to an end. */
static void park_lanes(cistern *c, bool kits)
{
    struct renew *r = c->renew;
    uint32_t phase = atomic_load(&r->phase) + 1, i;

    (void)pthread_mutex_lock(&r->files);
    r->kits = kits;
    atomic_store(&r->phase, phase);
    while (!all_parked(c, phase)) {
        for (i = 0; i < c->nlanes; i++)
            inbox_ring(&c->lanes[i].in);
        if (c->writer)
            inbox_ring(&c->writer->in);
        (void)renew_sleep(r, NS_PER_MS);
    }
}

static void run_lanes(cistern *c)
{
    struct renew *r = c->renew;

    (void)atomic_fetch_add(&r->phase, 1);
    futex_wake(&r->phase, INT32_MAX);
    (void)pthread_mutex_unlock(&r->files);
}

static void stand_still(struct renew *r, uint32_t phase, _Atomic uint32_t *parked)
{
    atomic_store(parked, phase);
    while (atomic_load(&r->phase) == phase)
        futex_wait(&r->phase, phase, NS_PER_S);
}

void renew_turn(struct lane *l)
{
    struct renew *r = l->c->renew;
    uint32_t phase = atomic_load_explicit(&r->phase, memory_order_acquire);
    bool kits;

    lane_reap_old(l);
    if (phase % 2 == 0)
        return;
    kits = r->kits;
    if (kits)
        lane_leave_kit(l);
    stand_still(r, phase, &l->parked);
    if (kits)
        lane_take_kit(l, &l->kit[1]);
}

void renew_writer_turn(struct writer *w)
{
    struct renew *r = w->c->renew;
    uint32_t phase = atomic_load_explicit(&r->phase, memory_order_acquire);
    bool kits;

    writer_reap_old(w);
    if (phase % 2 == 0)
        return;
    kits = r->kits;
    if (kits)
        writer_leave_kit(w);
    stand_still(r, phase, &w->parked);
    if (kits)
        writer_take_kit(w, &w->kit[1]);
}

/* ---- Making ---- */

static int make_pools(cistern *c)
{
    int rc = pool_spare(c->read_pool);

    if ((rc == 0 || rc == -EALREADY) && c->write_pool)
        rc = pool_spare(c->write_pool);
    return rc == -EALREADY ? 0 : rc;
}

static int make_kits(cistern *c)
{
    uint32_t i;
    int rc = 0;

    for (i = 0; i < c->nlanes && !rc; i++) {
        rc = lane_kit_make(c, &c->lanes[i].kit[1]);
    }
    if (!rc && c->writer)
        rc = writer_kit_make(c, &c->writer->kit[1]);
    return rc;
}

static void free_kits(cistern *c)
{
    uint32_t i;

    for (i = 0; i < c->nlanes; i++)
        lane_kit_free(c, &c->lanes[i].kit[1]);
    if (c->writer)
        writer_kit_free(c, &c->writer->kit[1]);
}

static int warm_pool(cistern *c, struct pool *pool, struct io_file *f)
{
    const struct io_mem *mem = pool ? pool_generation(pool, 1) : NULL;
    int rc = mem ? lane_kit_warm(c, &c->lanes[0].kit[1], mem, mem->base, f) : 0;

    if (rc == -ETIMEDOUT)
        pool_spare_lost(pool);
    return rc;
}

/* As at the open: the first I/O pays for the pinning, and shows that storage answers. */
static int warm(cistern *c)
{
    struct io_file f = {.fd = -1};
    char path[300];
    int rc;

    (void)snprintf(path, sizeof path, "%s%s%s", c->cfg.root, c->cfg.root[0] ? "/" : "", ROOT_FILE);
    if ((rc = c->io->ops->file_open(c->io, path, IO_READ, &f)))
        return rc;
    rc = warm_pool(c, c->read_pool, &f);
    rc = rc ? rc : warm_pool(c, c->write_pool, &f);
    c->io->ops->file_close(c->io, &f);
    return rc;
}

/* The next request with device memory pins the staging that is used now. */
static void unpinned(cistern *c)
{
    (void)pthread_mutex_lock(&c->pin_lock);
    c->pinned_before = atomic_load(&c->pinned);
    atomic_store(&c->pinned, NULL);
    (void)pthread_mutex_unlock(&c->pin_lock);
}

int renew_all(cistern *c)
{
    uint32_t epoch = atomic_load(&c->epoch) + 1;
    struct fresh *files;
    size_t n;
    int rc;

    rc = make_pools(c);
    rc = rc ? rc : make_kits(c);
    rc = rc ? rc : warm(c);
    if (rc) {
        c->renew->used |= rc == -ETIMEDOUT; /* storage may own the spare: there is no third */
        free_kits(c);
        return rc;
    }
    fault_point("renew.made");
    atomic_store(&c->coming, epoch);
    n = open_files(c, epoch, &files);
    park_lanes(c, true);
    pool_renew(c->read_pool);
    if (c->write_pool)
        pool_renew(c->write_pool);
    unpinned(c);
    exchange_files(c, files, n, epoch);
    atomic_store(&c->epoch, epoch);
    run_lanes(c);
    c->renew->used = true;
    close_files(c, files, n);
    return 0;
}

void renew_stale_files(cistern *c)
{
    uint32_t epoch = atomic_load(&c->epoch);
    struct fresh *files;
    size_t n = epoch ? open_files(c, epoch, &files) : 0;

    if (!epoch)
        return;
    if (n) {
        park_lanes(c, false);
        exchange_files(c, files, n, epoch);
        run_lanes(c);
    }
    close_files(c, files, n);
}
