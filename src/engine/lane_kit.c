/*
 * lane_kit.c - what the read lanes work with, and their threads, from open to close.
 *
 * A kit is a ring and the groups and reads that may be in it; a lane takes a second one when
 * storage lost the first (renew.h). Who makes or warms one waits for storage: never a lane.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/lane_internal.h"
#include "segment/crypt.h"
#include "segment/root.h"

#define WARM_NS (50 * NS_PER_MS) /* a slice of the wait for a first read */

int lane_kit_make(cistern *c, struct lane_kit *kit)
{
    uint32_t groups = 2 * c->cfg.depth + 2, rios = c->cfg.depth + 1;
    uint32_t i;
    int rc = c->io->ops->ring_create(c->io, &kit->ring, (int)(rios + PROBES), true);

    if (rc)
        return err_set(rc, "a read ring of %u entries cannot be made: %s", rios + PROBES,
                       cistern_error_string(rc));
    kit->ring_open = true;
    kit->groups = calloc(groups, sizeof *kit->groups);
    kit->rios = calloc(rios, sizeof *kit->rios);
    kit->parts = calloc((size_t)groups * c->cfg.io_blocks, sizeof *kit->parts);
    kit->places = calloc((size_t)groups * c->cfg.io_blocks, sizeof *kit->places);
    if (!kit->groups || !kit->rios || !kit->parts || !kit->places)
        return err_set(-ENOMEM, "no memory for a lane");
    for (i = 0; i < groups; i++) {
        kit->groups[i].parts = kit->parts + (size_t)i * c->cfg.io_blocks;
        kit->groups[i].places = kit->places + (size_t)i * c->cfg.io_blocks;
        kit->groups[i].link = i + 1 < groups ? &kit->groups[i + 1] : NULL;
    }
    for (i = 0; i < rios; i++)
        kit->rios[i].link = i + 1 < rios ? &kit->rios[i + 1] : NULL;
    return 0;
}

void lane_kit_free(cistern *c, struct lane_kit *kit)
{
    if (kit->ring_open)
        c->io->ops->ring_destroy(c->io, &kit->ring);
    free(kit->groups);
    free(kit->rios);
    free(kit->parts);
    free(kit->places);
    *kit = (struct lane_kit){0};
}

void lane_take_kit(struct lane *l, struct lane_kit *kit)
{
    struct group **g = &l->free_groups;
    struct rio **io = &l->free_rios;

    l->now = kit;
    l->ring = &kit->ring;
    while (*g)
        g = &(*g)->link;
    *g = kit->groups;
    while (*io)
        io = &(*io)->link;
    *io = kit->rios;
}

static int lane_open(cistern *c, struct lane *l)
{
    int rc;

    l->c = c;
    inbox_init(&l->in);
    l->limit = c->io->inline_reads ? 1 : c->cfg.depth;
    if (c->crypt && (rc = cipher_open(&l->cipher)))
        return rc;
    if ((rc = lane_kit_make(c, &l->kit[0])))
        return rc;
    lane_take_kit(l, &l->kit[0]);
    return 0;
}

int lanes_open(cistern *c)
{
    uint32_t i;
    int rc = 0;

    c->lanes = calloc(c->cfg.lanes, sizeof *c->lanes);
    if (!c->lanes)
        return err_set(-ENOMEM, "no memory for the lanes");
    for (i = 0; i < c->cfg.lanes && !rc; i++) {
        c->nlanes = i + 1;
        rc = lane_open(c, &c->lanes[i]);
    }
    return rc;
}

int lane_kit_warm(cistern *c, struct lane_kit *kit, const struct io_mem *mem, void *slot,
                  struct io_file *f)
{
    uint64_t until = clock_ns() + 10ull * c->cfg.read_timeout_ms * NS_PER_MS;
    struct io_done done;
    bool sent = false;
    int rc = c->io->ops->prep(c->io, &kit->ring, mem, slot, f, 0, PAGE_BYTES, slot);

    if (rc < 0)
        return err_set(rc, "a first read could not be sent: %s", cistern_error_string(rc));
    do { /* prepared is storage's, sent or not */
        sent = sent || c->io->ops->submit(c->io, &kit->ring) >= 0;
        rc = c->io->ops->wait(c->io, &kit->ring, &done, 1, 1, WARM_NS);
    } while (rc != 1 && clock_ns() < until);
    if (rc != 1)
        return err_set(-ETIMEDOUT, "storage does not answer a first read");
    if (done.result <= 0)
        return err_set(done.result ? (int)done.result : -EIO, "a first read failed: %s",
                       cistern_error_string(done.result ? (int)done.result : -EIO));
    return 0;
}

/* Reads a page of cistern.json into one slot. */
static int warm(cistern *c, struct pool *pool, struct io_file *f)
{
    void *slot = pool_take(pool);
    int rc;

    if (!slot)
        return err_set(-EIO, "a staging area has no slot");
    rc = lane_kit_warm(c, &c->lanes[0].kit[0], pool_mem(pool, slot), slot, f);
    if (rc == -ETIMEDOUT)
        pool_quarantine(pool, slot);
    else
        pool_give(pool, slot);
    return rc;
}

int lanes_warm(cistern *c)
{
    struct io_file f = {.fd = -1};
    char path[300];
    int rc;

    (void)snprintf(path, sizeof path, "%s%s%s", c->cfg.root, c->cfg.root[0] ? "/" : "", ROOT_FILE);
    rc = c->io->ops->file_open(c->io, path, IO_READ, &f);
    if (rc)
        return err_set(rc, "%s cannot be opened: %s", path, cistern_error_string(rc));
    rc = warm(c, c->read_pool, &f);
    if (!rc && c->write_pool)
        rc = warm(c, c->write_pool, &f);
    c->io->ops->file_close(c->io, &f);
    return rc;
}

int lanes_start(cistern *c)
{
    uint32_t i;
    int rc;

    for (i = 0; i < c->nlanes; i++) {
        rc = -pthread_create(&c->lanes[i].thread, NULL, lane_main, &c->lanes[i]);
        if (rc)
            return err_set(rc, "no thread for a lane");
        c->lanes[i].started = true;
    }
    return 0;
}

int lanes_stop(cistern *c)
{
    uint32_t i;
    int rc = 0;

    for (i = 0; i < c->nlanes; i++)
        inbox_ring(&c->lanes[i].in);
    for (i = 0; i < c->nlanes; i++) {
        if (!c->lanes[i].started)
            continue;
        (void)pthread_join(c->lanes[i].thread, NULL);
        c->lanes[i].started = false;
        if (c->lanes[i].inflight || c->lanes[i].probing || c->lanes[i].old_inflight)
            rc = -EBUSY;
    }
    return rc;
}

void lanes_close(cistern *c)
{
    uint32_t i;

    for (i = 0; i < c->nlanes; i++) {
        struct lane *l = &c->lanes[i];

        cipher_close(l->cipher);
        lane_kit_free(c, &l->kit[0]);
        lane_kit_free(c, &l->kit[1]);
    }
    free(c->lanes);
    c->lanes = NULL;
    c->nlanes = 0;
}

void lane_push(cistern *c, uint32_t lane, struct share *s)
{
    inbox_push(&c->lanes[lane].in, s);
}
