/*
 * bench_raw_read.c - reads by hand from the places where the store's blocks lie.
 *
 * In order, all lanes walk the same list, each from its own start; at random, each draws for
 * itself. The walk goes on where the last slice ended, half a list away from the store's own, so
 * that neither side finds warm what the other has just read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_lane.h"
#include "bench_raw.h"
#include "cli.h"

struct cursor {
    size_t at;     /* extent */
    uint64_t done; /* bytes of it */
    uint64_t seed;
};

struct raw_reader {
    struct extent *list;
    size_t n;
    int *fds;
    uint32_t nfds;
    uint64_t io_bytes;
    bool random;
    struct cursor *cursors; /* one a lane */
    struct lane *lanes;
    unsigned nlanes;
};

void extents_release(struct extents *e)
{
    uint32_t i;

    for (i = 0; i < e->npaths; i++)
        free(e->paths[i]);
    free(e->paths);
    free(e->list);
    memset(e, 0, sizeof(*e));
}

static int read_next(struct lane *l, struct lane_io *io)
{
    struct raw_reader *r = l->source;
    struct cursor *c = &r->cursors[l->number];
    const struct extent *e = &r->list[c->at];
    uint64_t left;

    if (c->done >= e->bytes) {
        c->at = r->random ? (size_t)(bench_random(&c->seed) % r->n) : (c->at + 1) % r->n;
        c->done = 0;
        e = &r->list[c->at];
    }
    left = e->bytes - c->done;
    io->fd = r->fds[e->file];
    io->offset = e->offset + c->done;
    io->bytes = (uint32_t)(left < r->io_bytes ? left : r->io_bytes);
    c->done += io->bytes;
    return CLI_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Sorts by place and joins what touches. Returns the new count. */
static size_t extents_join(struct extent *list, size_t n)
{
    size_t i, out = 0;

    qsort(list, n, sizeof(*list), by_place);
    for (i = 1; i < n; i++) {
        if (list[i].file == list[out].file && list[i].offset == list[out].offset + list[out].bytes)
            list[out].bytes += list[i].bytes;
        else
            list[++out] = list[i];
    }
    return n ? out + 1 : 0;
}

static int files_open(struct raw_reader *r, const struct extents *e)
{
    uint32_t i;

    r->fds = calloc(e->npaths, sizeof(*r->fds));
    if (r->fds == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    for (i = 0; i < e->npaths; i++) {
        r->fds[i] = open(e->paths[i], O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (r->fds[i] < 0)
            return cli_fail(CLI_IO, "raw baseline: %s: %s", e->paths[i], strerror(errno));
        r->nfds++;
    }
    return CLI_OK;
}

static int lanes_make(struct raw_reader *r, const struct bench_config *c)
{
    unsigned i;
    int s;

    r->lanes = calloc(c->lanes, sizeof(*r->lanes));
    r->cursors = calloc(c->lanes, sizeof(*r->cursors));
    if (r->lanes == NULL || r->cursors == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    for (i = 0; i < c->lanes; i++) {
        r->nlanes++;
        s = lane_open(&r->lanes[i], c, i);
        if (s != CLI_OK)
            return s;
        r->lanes[i].next = read_next;
        r->lanes[i].source = r;
        r->cursors[i].seed = c->seed + 77 + i;
        r->cursors[i].at = (r->n / 2 + i * r->n / c->lanes) % r->n;
    }
    return CLI_OK;
}

int raw_reader_open(const struct bench_config *c, const struct extents *e, bool joined,
                    uint64_t io_bytes, struct raw_reader **out)
{
    struct raw_reader *r = calloc(1, sizeof(*r));
    int s = CLI_ENVIRONMENT;

    if (r == NULL || e->n == 0)
        goto out;
    r->list = malloc(e->n * sizeof(*r->list));
    if (r->list == NULL)
        goto out;
    memcpy(r->list, e->list, e->n * sizeof(*r->list));
    r->n = joined ? extents_join(r->list, e->n) : e->n;
    r->random = !joined;
    r->io_bytes = io_bytes;
    s = files_open(r, e);
    if (s == CLI_OK)
        s = lanes_make(r, c);
    if (s == CLI_OK) {
        *out = r;
        return CLI_OK;
    }
    raw_reader_close(r);
    return s;
out:
    raw_reader_close(r);
    return cli_fail(s, "out of memory, or nothing to read");
}

void raw_reader_close(struct raw_reader *r)
{
    uint32_t i;

    if (r == NULL)
        return;
    for (i = 0; i < r->nlanes; i++)
        lane_close(&r->lanes[i]);
    for (i = 0; i < r->nfds; i++)
        close(r->fds[i]);
    free(r->fds);
    free(r->lanes);
    free(r->cursors);
    free(r->list);
    free(r);
}

int raw_reader_run(void *arg, double seconds, struct slice *out)
{
    struct raw_reader *r = arg;

    return lanes_run(r->lanes, r->nlanes, seconds, out);
}
