/*
 * bench_raw_write.c - writes by hand, the way the store writes: append to a file of a segment's
 * size, then to the next one. Files are allocated beforehand where the store's are, so that both
 * sides pay the file system for the same thing. Each lane has a file of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_lane.h"
#include "bench_raw.h"
#include "cli.h"

#define FILES_MAX 1024u /* of one lane between two syncs */

struct writing {
    int fds[FILES_MAX]; /* written since the last sync; the last one is being written */
    unsigned nfds;
    int next_fd; /* made beforehand, as the store's next segment is; -1 = none */
    uint64_t at;
    unsigned files;
};

struct raw_writer {
    const char *dir;
    uint64_t io_bytes, segment;
    bool allocate;
    uint64_t total;
    struct writing *files; /* one a lane */
    struct lane *lanes;
    unsigned nlanes;
};

static int file_make(struct raw_writer *w, struct writing *f, unsigned lane)
{
    char path[PATH_MAX + 128];

    if (f->next_fd >= 0)
        return CLI_OK;
    snprintf(path, sizeof(path), "%s/%u-%u.dat", w->dir, lane, f->files++);
    f->next_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (f->next_fd < 0)
        return cli_fail(CLI_IO, "raw baseline: %s: %s", path, strerror(errno));
    if (w->allocate && fallocate(f->next_fd, 0, 0, (off_t)w->segment) != 0)
        return cli_fail(CLI_IO, "raw baseline: %s: fallocate: %s", path, strerror(errno));
    return CLI_OK;
}

static int file_next(struct raw_writer *w, struct writing *f, unsigned lane)
{
    int r = file_make(w, f, lane);

    if (r != CLI_OK)
        return r;
    if (f->nfds == FILES_MAX)
        return cli_fail(CLI_USAGE, "--segment is so small that a slice takes %u files", FILES_MAX);
    f->fds[f->nfds++] = f->next_fd;
    f->next_fd = -1;
    f->at = 0;
    return CLI_OK;
}

static int write_next(struct lane *l, struct lane_io *io)
{
    struct raw_writer *w = l->source;
    struct writing *f = &w->files[l->number];
    int r;

    if (f->nfds == 0 || f->at + w->io_bytes > w->segment) {
        r = file_next(w, f, l->number);
        if (r != CLI_OK)
            return r;
    }
    io->fd = f->fds[f->nfds - 1];
    io->offset = f->at;
    io->bytes = (uint32_t)w->io_bytes;
    f->at += w->io_bytes;
    return CLI_OK;
}

int raw_writer_open(const struct bench_config *c, const char *dir, bool allocate,
                    struct raw_writer **out)
{
    struct raw_writer *w = calloc(1, sizeof(*w));
    int r = CLI_ENVIRONMENT;
    unsigned i;

    if (w != NULL) {
        *w = (struct raw_writer){
            .dir = dir, .io_bytes = c->io_bytes, .segment = c->segment, .allocate = allocate};
        w->files = calloc(c->lanes, sizeof(*w->files));
        w->lanes = calloc(c->lanes, sizeof(*w->lanes));
    }
    if (w == NULL || w->files == NULL || w->lanes == NULL) {
        raw_writer_close(w);
        return cli_fail(r, "out of memory");
    }
    for (i = 0; i < c->lanes; i++) {
        w->files[i] = (struct writing){.next_fd = -1};
        w->nlanes++;
        r = lane_open(&w->lanes[i], c, i);
        if (r != CLI_OK) {
            raw_writer_close(w);
            return r;
        }
        w->lanes[i].writes = true;
        w->lanes[i].next = write_next;
        w->lanes[i].source = w;
    }
    *out = w;
    return CLI_OK;
}

void raw_writer_restart(struct raw_writer *w)
{
    unsigned i;

    for (i = 0; i < w->nlanes; i++) {
        while (w->files[i].nfds > 0)
            close(w->files[i].fds[--w->files[i].nfds]);
        if (w->files[i].next_fd >= 0)
            close(w->files[i].next_fd);
        w->files[i].next_fd = -1;
    }
    w->total = 0;
}

uint64_t raw_writer_bytes(const struct raw_writer *w)
{
    return w->total;
}

void raw_writer_close(struct raw_writer *w)
{
    unsigned i;

    if (w == NULL)
        return;
    for (i = 0; i < w->nlanes; i++)
        lane_close(&w->lanes[i]);
    raw_writer_restart(w);
    free(w->files);
    free(w->lanes);
    free(w);
}

int raw_writer_run(void *arg, double seconds, struct slice *out)
{
    struct raw_writer *w = arg;
    int r = lanes_run(w->lanes, w->nlanes, seconds, out);

    w->total += out->bytes;
    return r;
}

int raw_writer_prepare(struct raw_writer *w)
{
    int r = CLI_OK;
    unsigned i;

    for (i = 0; i < w->nlanes && r == CLI_OK; i++)
        r = file_make(w, &w->files[i], i);
    return r;
}

/* All but the file that is being written are closed: they are full. */
static int sync_files(struct writing *f)
{
    unsigned i;

    for (i = 0; i < f->nfds; i++)
        if (fdatasync(f->fds[i]) != 0)
            return cli_fail(CLI_IO, "raw baseline: fdatasync: %s", strerror(errno));
    for (i = 0; i + 1 < f->nfds; i++)
        close(f->fds[i]);
    if (f->nfds > 1) {
        f->fds[0] = f->fds[f->nfds - 1];
        f->nfds = 1;
    }
    return CLI_OK;
}

int raw_writer_sync(void *arg)
{
    struct raw_writer *w = arg;
    int r = CLI_OK;
    unsigned i;

    for (i = 0; i < w->nlanes && r == CLI_OK; i++)
        r = sync_files(&w->files[i]);
    return r;
}
