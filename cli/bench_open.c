/*
 * bench_open.c - the figure of open: a match-only, read-only open of a whole shard, beside reading
 * the same contents files through the page cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_figures.h"
#include "bench_store.h"
#include "cli.h"
#include "space_file.h"
#include "text.h"

#define READ_BYTES (1u << 20)

struct opening {
    struct cistern_options o;
    char space_path[PATH_MAX]; /* of the fullest shard's space, relative to the mount */
    uint32_t shard;
    uint64_t blocks, best; /* of the shard under the scan; of the fullest so far */
    struct space_file file;
    struct extents tocs; /* paths only */
    uint8_t *buf;
    uint64_t found; /* blocks in the index of the last open */
};

/* Scan: which shard of which space has the most blocks. */
static int find_shard(void *arg, const struct cistern_item *it)
{
    struct opening *x = arg;

    if (it->kind == CISTERN_ITEM_SHARD)
        x->blocks = 0;
    if (it->kind != CISTERN_ITEM_SEGMENT)
        return 0;
    x->blocks += it->blocks;
    if (x->blocks > x->best) {
        x->best = x->blocks;
        x->shard = it->shard;
        snprintf(x->space_path, sizeof(x->space_path), "%.*s",
                 (int)(strstr(it->name, it->space) - it->name + (int)strlen(it->space)), it->name);
    }
    return 0;
}

/* Scan: the contents files beside that shard's data files. */
static int find_tocs(void *arg, const struct cistern_item *it)
{
    struct opening *x = arg;
    size_t len = strlen(it->name);
    char path[PATH_MAX], **list;

    if (it->kind != CISTERN_ITEM_SEGMENT || it->shard != x->shard || len < 4 ||
        strncmp(it->name, x->space_path, strlen(x->space_path)) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%.*s.toc", x->o.mount, (int)len - 4, it->name);
    list = realloc(x->tocs.paths, (x->tocs.npaths + 1) * sizeof(*list));
    if (list == NULL)
        return CLI_ENVIRONMENT;
    x->tocs.paths = list;
    list[x->tocs.npaths] = strdup(path);
    return list[x->tocs.npaths++] != NULL ? 0 : CLI_ENVIRONMENT;
}

static int blocks_of(const cistern *c, uint64_t *out)
{
    struct cistern_metric m[256];
    int n = cistern_metrics(c, m, 256), i;

    for (i = 0; i < n && i < 256; i++)
        if (strcmp(m[i].name, "index_blocks") == 0) {
            *out = m[i].value;
            return CLI_OK;
        }
    return cli_fail(CLI_IO, "the handle reports no index_blocks");
}

static int open_run(void *arg, double seconds, struct slice *out)
{
    struct opening *x = arg;
    uint64_t t = bench_now_ns();
    cistern *c = NULL;
    int r = cistern_open(&x->o, &c);

    (void)seconds; /* one open is a slice */
    if (r != 0)
        return cli_fail_lib(r, "open");
    out->seconds = (double)(bench_now_ns() - t) / 1e9;
    out->ops = 1;
    r = blocks_of(c, &x->found);
    cistern_close(c);
    if (r == CLI_OK && x->found != x->best)
        r = cli_fail(CLI_IO, "an open took up %llu of %llu blocks", (unsigned long long)x->found,
                     (unsigned long long)x->best);
    return r;
}

static int read_run(void *arg, double seconds, struct slice *out)
{
    struct opening *x = arg;
    ssize_t n = 0;
    uint32_t i;
    int fd;

    (void)seconds;
    for (i = 0; i < x->tocs.npaths; i++) {
        fd = open(x->tocs.paths[i], O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && (n = read(fd, x->buf, READ_BYTES)) > 0)
            out->bytes += (uint64_t)n;
        if (fd < 0 || n < 0)
            return cli_fail(CLI_IO, "%s: %s", x->tocs.paths[i], strerror(errno));
        close(fd);
    }
    out->ops = 1;
    return CLI_OK;
}

static int opening_prepare(struct bench_run *run, struct opening *x)
{
    const char *base;
    int r;

    x->o = (struct cistern_options){.size = sizeof(x->o),
                                    .reuse_cache = 1,
                                    .enable_3fs = 1,
                                    .mount = run->place.mount,
                                    .root = run->place.root,
                                    .provider = run->c.provider,
                                    .provider_path = run->c.provider_path,
                                    .flags = CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY};
    r = cistern_scan(&x->o, CISTERN_ITEM_SEGMENT, find_shard, x);
    if (r != 0)
        return cli_fail_lib(r, "%s/%s", run->place.mount, run->place.root);
    if (x->best == 0)
        return cli_fail(CLI_ENVIRONMENT,
                        "%s/%s holds no blocks, so there is nothing to open; fill it, or leave out "
                        "--root to have %llu blocks made",
                        run->place.mount, run->place.root, (unsigned long long)run->c.count);
    r = cistern_scan(&x->o, CISTERN_ITEM_SEGMENT, find_tocs, x);
    if (r != 0)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    r = space_file_read(run->place.mount, x->space_path, &x->file);
    if (r != CLI_OK)
        return r;
    base = strrchr(x->space_path, '/');
    x->o.space_dir = base ? base + 1 : x->space_path;
    x->o.space = &x->file.space;
    x->o.shard = x->shard;
    x->buf = malloc(READ_BYTES);
    return x->buf ? CLI_OK : cli_fail(CLI_ENVIRONMENT, "out of memory");
}

static int opening_figure(struct bench_run *run, struct opening *x)
{
    struct side ours = {"cistern", open_run, NULL, x}, base = {"read()", read_run, NULL, x};
    struct figure *f = figure_add(&run->figures);
    char bytes[32];
    double cpu = 0;
    size_t i;
    int r;

    if (f == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    snprintf(f->what, sizeof(f->what), "open");
    f->block = x->best;
    f->by_time = true;
    r = slices_run(&run->c, f, &ours, &base);
    if (r != CLI_OK)
        return r;
    for (i = 0; i < f->n; i++)
        cpu += f->ours[i].cpu_seconds / (double)f->n;
    snprintf(f->remark, sizeof(f->remark), "%s of contents in %u files; %.1f ms of CPU",
             text_size(f->base[0].bytes, bytes, sizeof(bytes)), x->tocs.npaths, cpu * 1e3);
    return CLI_OK;
}

int bench_open(struct bench_run *run, bool build)
{
    struct opening x;
    int r = CLI_OK;

    memset(&x, 0, sizeof(x));
    if (build)
        r = bench_hollow_build(run);
    if (r == CLI_OK)
        r = opening_prepare(run, &x);
    if (r == CLI_OK)
        r = opening_figure(run, &x);
    space_file_release(&x.file);
    extents_release(&x.tocs);
    free(x.buf);
    if (r == CLI_OK && build && !run->c.keep)
        r = place_clear_root(&run->place);
    return r;
}
