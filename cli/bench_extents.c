/*
 * bench_extents.c - where the store's blocks lie, so that the baseline can read the same bytes.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_store.h"
#include "cli.h"

struct collect {
    struct extents *e;
    const char *mount;
    uint64_t room; /* extents */
};

static int path_add(struct collect *c, const char *name)
{
    struct extents *e = c->e;
    char path[PATH_MAX], **list;

    snprintf(path, sizeof(path), "%s/%s", c->mount, name);
    if (e->npaths > 0 && strcmp(e->paths[e->npaths - 1], path) == 0)
        return 0;
    list = realloc(e->paths, (e->npaths + 1) * sizeof(*list));
    if (list == NULL)
        return CLI_ENVIRONMENT;
    e->paths = list;
    e->paths[e->npaths] = strdup(path);
    return e->paths[e->npaths++] ? 0 : CLI_ENVIRONMENT;
}

static int visit(void *arg, const struct cistern_item *it)
{
    struct collect *c = arg;
    struct extents *e = c->e;
    struct extent *list;

    if (it->kind != CISTERN_ITEM_BLOCK)
        return 0;
    if (path_add(c, it->name) != 0)
        return CLI_ENVIRONMENT;
    if (e->n == c->room) {
        list = realloc(e->list, (c->room ? 2 * c->room : 1024) * sizeof(*list));
        if (list == NULL)
            return CLI_ENVIRONMENT;
        e->list = list;
        c->room = c->room ? 2 * c->room : 1024;
    }
    e->list[e->n++] = (struct extent){e->npaths - 1, it->offset, it->bytes};
    return 0;
}

int store_extents(const struct bench_store *s, struct extents *out)
{
    struct collect c = {.e = out, .mount = s->place->mount};
    struct cistern_options o;
    int r;

    memset(out, 0, sizeof(*out));
    store_options(s, &o);
    r = cistern_scan(&o, CISTERN_ITEM_BLOCK, visit, &c);
    if (r > 0)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    if (r < 0)
        return cli_fail_lib(r, "scanning what was stored");
    if (out->n != s->next)
        return cli_fail(CLI_IO, "%llu blocks were stored and a scan finds %zu",
                        (unsigned long long)s->next, out->n);
    return CLI_OK;
}
