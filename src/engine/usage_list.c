/*
 * usage_list.c - the names in the root: which spaces, directories, segments and heads are there.
 * See usage.h.
 *
 * A directory that cannot be listed keeps what was known of it. No file is asked for anything here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/usage_internal.h"
#include "segment/pin.h"
#include "segment/root.h"

/* Room for one more; keeps what it has when there is none. */
int usage_grow(void **at, size_t *room, size_t count, size_t size)
{
    size_t want = *room ? 2 * *room : 64;
    void *grown;

    if (count < *room)
        return 0;
    grown = realloc(*at, want * size);
    if (!grown)
        return -ENOMEM;
    *at = grown;
    *room = want;
    return 0;
}

void usage_free(struct usage *u)
{
    free(u->spaces);
    free(u->dirs);
    free(u->segs);
    free(u->old_segs);
    free(u->heads);
    free(u->old_heads);
    memset(u, 0, sizeof *u);
}

struct walk {
    struct usage *u;
    cistern *c;
    uint32_t space, dir;
};

int usage_seg_order(const void *x, const void *y)
{
    const struct usage_segment *a = x, *b = y;

    if (a->dir != b->dir)
        return a->dir < b->dir ? -1 : 1;
    if (a->writer != b->writer)
        return a->writer < b->writer ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

int usage_head_order(const void *x, const void *y)
{
    const struct usage_head *a = x, *b = y;

    if (a->dir != b->dir)
        return a->dir < b->dir ? -1 : 1;
    return a->writer < b->writer ? -1 : a->writer > b->writer;
}

static int add_head(struct usage *u, uint32_t dir, uint64_t writer)
{
    if (usage_grow((void **)&u->heads, &u->rheads, u->nheads, sizeof *u->heads))
        return -ENOMEM;
    memset(&u->heads[u->nheads], 0, offsetof(struct usage_head, touches));
    u->heads[u->nheads].dir = dir;
    u->heads[u->nheads].writer = writer;
    u->heads[u->nheads++].there = true;
    return 0;
}

static int add_file(void *arg, const char *name)
{
    struct walk *w = arg;
    struct usage *u = w->u;
    uint64_t writer, seq;
    enum segment_file kind = segment_name_parse(name, &writer, &seq);

    if (kind == SEGMENT_FILE_OTHER)
        return 0;
    if (kind == SEGMENT_FILE_HEAD)
        return add_head(u, w->dir, writer);
    if (usage_grow((void **)&u->segs, &u->rsegs, u->nsegs, sizeof *u->segs))
        return -ENOMEM;
    u->segs[u->nsegs++] = (struct usage_segment){.dir = w->dir,
                                                 .writer = writer,
                                                 .seq = seq,
                                                 .seg = kind == SEGMENT_FILE_DATA,
                                                 .toc = kind == SEGMENT_FILE_TOC};
    return 0;
}

static int add_dir(struct walk *w, const char *path, uint32_t shard)
{
    struct usage *u = w->u;
    size_t room = u->rdirs;
    uint32_t i;

    for (i = 0; i < u->ndirs && strcmp(u->dirs[i].path, path) != 0; i++)
        ;
    if (i == u->ndirs) {
        if (usage_grow((void **)&u->dirs, &room, u->ndirs, sizeof *u->dirs))
            return -ENOMEM;
        u->rdirs = (uint32_t)room;
        u->dirs[i] = (struct usage_dir){
            .space = w->space, .shard = shard, .own = strcmp(path, w->c->shard_path) == 0};
        memcpy(u->dirs[i].path, path, strlen(path) + 1);
        u->ndirs++;
    }
    w->dir = i;
    u->dirs[i].seen = true;
    return 0;
}

/* A directory that went away while we looked is as good as empty. */
static int list(cistern *c, const char *path, int (*visit)(void *, const char *), void *arg)
{
    int rc = c->io->ops->list(c->io, path, visit, arg);

    return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

/* Told once, until a scan sees everything again. */
void usage_note_blind(struct usage *u, cistern *c, const char *path, int rc)
{
    if (!u->blind++ && !u->blind_last)
        log_line(&c->cfg.log, LOG_WARN,
                 "%s cannot be looked at (%s): it counts as it was, nothing of it is evicted", path,
                 cistern_error_string(rc));
}

/* What is known of a directory that cannot be listed stays as it is. */
static int keep_dir(struct walk *w, uint32_t dir)
{
    struct usage *u = w->u;
    size_t i;

    u->dirs[dir].seen = u->dirs[dir].blind = true;
    for (i = 0; i < u->nold; i++) {
        const struct usage_segment *s = &u->old_segs[i];

        if (s->dir != dir || s->unlinked)
            continue;
        if (usage_grow((void **)&u->segs, &u->rsegs, u->nsegs, sizeof *u->segs))
            return -ENOMEM;
        u->segs[u->nsegs++] = (struct usage_segment){
            .dir = dir, .writer = s->writer, .seq = s->seq, .seg = s->seg, .toc = s->toc};
    }
    for (i = 0; i < u->nold_heads; i++) {
        if (u->old_heads[i].dir == dir && add_head(u, dir, u->old_heads[i].writer))
            return -ENOMEM;
    }
    return 0;
}

struct names {
    char (*at)[176];
    size_t count, room;
};

static int add_name(void *arg, const char *name)
{
    struct names *n = arg;

    if (strlen(name) >= sizeof n->at[0] || name[0] == '.')
        return 0;
    if (usage_grow((void **)&n->at, &n->room, n->count, sizeof n->at[0]))
        return -ENOMEM;
    (void)snprintf(n->at[n->count++], sizeof n->at[0], "%s", name);
    return 0;
}

static int list_dir(struct walk *w, const char *path)
{
    struct usage *u = w->u;
    size_t segs = u->nsegs, heads = u->nheads;
    int rc = list(w->c, path, add_file, w);

    u->dirs[w->dir].blind = false;
    if (!rc || rc == -ENOMEM || u->dirs[w->dir].own)
        return rc;
    usage_note_blind(u, w->c, path, rc);
    u->nsegs = segs;
    u->nheads = heads;
    return keep_dir(w, w->dir);
}

/* The directories of a space that cannot be listed. */
static int keep_space(struct walk *w, const char *path, int why)
{
    struct usage *u = w->u;
    uint32_t d;
    int rc = 0;

    usage_note_blind(u, w->c, path, why);
    for (d = 0; d < u->ndirs && !rc; d++)
        rc = u->dirs[d].space == w->space ? keep_dir(w, d) : 0;
    return rc;
}

static int list_space(struct walk *w, const char *space)
{
    char path[544], dir[544 + 192];
    struct names shards = {0};
    bool retired = false;
    size_t i;
    int rc;

    (void)snprintf(path, sizeof path, "%s%s%s", w->c->cfg.root, w->c->cfg.root[0] ? "/" : "",
                   space);
    rc = list(w->c, path, add_name, &shards);
    if (rc && rc != -ENOMEM && !w->u->spaces[w->space].own) {
        free(shards.at);
        return keep_space(w, path, rc);
    }
    w->u->spaces[w->space].pins = 0;
    for (i = 0; i < shards.count && !rc; i++) {
        unsigned shard, of;
        uint64_t pin;
        char more;

        if (pin_name_parse(shards.at[i], &pin))
            w->u->spaces[w->space].pins += pin | 1;
        retired |= strcmp(shards.at[i], SPACE_RETIRED) == 0;
        if (sscanf(shards.at[i], "s%uof%u%c", &shard, &of, &more) != 2 ||
            snprintf(dir, sizeof dir, "%s/%s", path, shards.at[i]) >=
                (int)sizeof w->u->dirs[0].path)
            continue;
        rc = add_dir(w, dir, shard);
        if (!rc)
            rc = list_dir(w, dir);
    }
    w->u->spaces[w->space].retired = retired;
    free(shards.at);
    return rc;
}

static int add_space(struct usage *u, cistern *c, const char *name)
{
    const char *slash = strrchr(c->space_path, '/');
    size_t room = u->rspaces;
    uint32_t i;

    for (i = 0; i < u->nspaces && strcmp(u->spaces[i].name, name) != 0; i++)
        ;
    if (i < u->nspaces)
        return (int)i;
    if (usage_grow((void **)&u->spaces, &room, u->nspaces, sizeof *u->spaces))
        return -ENOMEM;
    u->rspaces = (uint32_t)room;
    u->spaces[i] =
        (struct usage_space){.own = strcmp(name, slash ? slash + 1 : c->space_path) == 0};
    (void)snprintf(u->spaces[i].name, sizeof u->spaces[i].name, "%s", name);
    u->nspaces++;
    return (int)i;
}

int usage_list(struct usage *u, cistern *c)
{
    struct walk w = {.u = u, .c = c};
    struct names spaces = {0};
    uint32_t d;
    size_t i;
    int rc;

    for (d = 0; d < u->ndirs; d++)
        u->dirs[d].seen = false;
    rc = list(c, c->cfg.root, add_name, &spaces);
    for (i = 0; i < spaces.count && !rc; i++) {
        int space = strchr(spaces.at[i], '-') ? add_space(u, c, spaces.at[i]) : -1;

        if (space == -ENOMEM)
            rc = -ENOMEM;
        if (space < 0) /* cistern.json and its like: no file of ours has a hyphen */
            continue;
        w.space = (uint32_t)space;
        rc = list_space(&w, spaces.at[i]);
    }
    free(spaces.at);
    return rc;
}
