/*
 * renew_ask.c - does storage answer somebody whom it does not know yet? See renew.h.
 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "engine/lane_internal.h"
#include "engine/renew.h"
#include "segment/root.h"

#define SLICE_NS (20 * NS_PER_MS)

/* What a descriptor of a dead mount says, and a path that leads into it. */
static bool says_dead(int rc)
{
    return rc == -ENOTCONN || rc == -ECONNABORTED || rc == -ESTALE || rc == -ENODEV ||
           rc == -ENXIO || rc == -ESHUTDOWN || rc == -EXDEV;
}

/* The page to ask for: of a segment, since that is what gets want; of cistern.json if there is
 * none. */
static int open_page(cistern *c, struct io_file *f, uint64_t *offset)
{
    char path[640], name[SEGMENT_NAME_MAX];
    uint32_t segment;

    *offset = 0;
    if (probe_take_place(c, c->renew->tries++, &segment, offset) == FILE_TAKEN) {
        segment_name(name, c->segs.at[segment].writer, c->segs.at[segment].seq, ".seg");
        file_leave(c, segment);
        (void)snprintf(path, sizeof path, "%s/%s", c->shard_path, name);
    } else {
        (void)snprintf(path, sizeof path, "%s%s%s", c->cfg.root, c->cfg.root[0] ? "/" : "",
                       ROOT_FILE);
    }
    return c->io->ops->file_open(c->io, path, IO_READ, f);
}

void renew_drop_scratch(cistern *c, struct scratch *s)
{
    struct scratch none = {.file = {.fd = -1}};

    c->io->ops->ring_destroy(c->io, &s->ring);
    if (s->out)
        none.mem = s->mem;
    else if (s->mem.base)
        c->io->ops->mem_destroy(c->io, &s->mem);
    if (s->file.fd >= 0)
        c->io->ops->file_close(c->io, &s->file);
    *s = none;
}

static int make(cistern *c, struct scratch *s, uint64_t *offset)
{
    int rc = open_page(c, &s->file, offset);

    rc = rc ? rc : io_mem_reserve(c->io, &s->mem, FORMAT_PAGE, 0);
    rc = rc ? rc : c->io->ops->ring_create(c->io, &s->ring, 1, true);
    if (rc)
        renew_drop_scratch(c, s);
    return rc;
}

static bool in_time(struct renew *r, cistern *c, struct scratch *s, struct io_done *done)
{
    uint64_t until = clock_ns() + c->cfg.read_timeout_ms * NS_PER_MS;

    do {
        if (c->io->ops->wait(c->io, &s->ring, done, 1, 1, SLICE_NS) == 1) {
            s->out = false;
            return true;
        }
    } while (clock_ns() < until && renew_sleep(r, 0));
    return false;
}

/* True: answered, well or with what is no illness of storage's. */
static bool ask(cistern *c, struct scratch *s)
{
    struct io_done done = {0};
    uint64_t offset;
    int rc = make(c, s, &offset);

    if (says_dead(rc))
        c->renew->died = true;
    if (rc)
        return false;
    metric_add(&c->metrics, METRIC_breaker_probes, 1);
    rc = c->io->ops->prep(c->io, &s->ring, &s->mem, s->mem.base, &s->file, offset, FORMAT_PAGE, s);
    s->out = rc >= 0; /* prepared is storage's, sent or not */
    if (rc >= 0)
        rc = c->io->ops->submit(c->io, &s->ring);
    if (rc < 0 || !in_time(c->renew, c, s, &done)) {
        if (!s->out)
            renew_drop_scratch(c, s);
        return false;
    }
    renew_drop_scratch(c, s);
    return done.result >= 0 || !breaker_counts((int)done.result);
}

bool renew_storage_answers(cistern *c)
{
    struct renew *r = c->renew;
    bool died = r->died;
    uint32_t i;
    int rc = c->io->ops->renew ? c->io->ops->renew(c->io) : 0;

    if (rc) {
        r->died = true;
        return false;
    }
    for (i = 0; i < SCRATCHES && r->scratch[i].out; i++)
        ;
    if (i < SCRATCHES && ask(c, &r->scratch[i])) {
        r->spacing = 0;
        return true;
    }
    if (r->died && !died) /* those before the death say nothing about what comes after it */
        r->spacing = 0;
    else
        r->spacing += i < SCRATCHES && r->scratch[i].out;
    return false;
}

void renew_reap_scratch(cistern *c)
{
    struct io_done done;
    uint32_t i;

    for (i = 0; i < SCRATCHES; i++) {
        struct scratch *s = &c->renew->scratch[i];

        if (!s->out || c->io->ops->wait(c->io, &s->ring, &done, 1, 0, 0) != 1)
            continue;
        s->out = false;
        renew_drop_scratch(c, s);
        c->renew->spacing = 0;
        c->renew->next_ns = 0; /* late, but alive: ask again */
    }
}
