/*
 * scan.c - cistern_scan(): what is in a directory, without opening a space.
 *
 * Reads like a follower: names, contents and heads, no payloads. What a shard holds is gathered
 * first, for the totals of a parent come before its children.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/contents.h"
#include "segment/root.h"

struct found_block {
    uint8_t key[32];
    uint64_t offset, bytes;
    uint32_t job, mask;
};

/* One segment's sums, by the job's place in the list. */
struct found {
    uint64_t blocks, dead, bytes, disk_bytes;
};

struct shard_scan {
    char dir[544];
    uint32_t shard, shards;
    struct contents_list jobs;
    struct found *found; /* per job */
    struct found_block *blocks;
    size_t nblocks, room;
};

struct space_scan {
    char name[256];
    struct shard_scan *shards;
    size_t nshards;
    const char *note;
};

struct scan {
    struct io *io;
    const struct config *cfg;
    struct contents_reader reader;
    struct shard_scan *current;
    uint32_t depth;
    struct space_scan *spaces;
    size_t nspaces;
    int (*callback)(void *arg, const struct cistern_item *item);
    void *arg;
};

/* ---- Gathering ---- */

static void join(const struct scan *s, char out[512], const char *tail)
{
    (void)snprintf(out, 512, "%s%s%s", s->cfg->root, s->cfg->root[0] && *tail ? "/" : "", tail);
}

static int begin(void *arg, struct contents_job *job)
{
    struct scan *s = arg;

    job->number = (uint32_t)(job - s->current->jobs.at);
    return 0;
}

static int on_block(void *arg, const struct block_info *b)
{
    struct scan *s = arg;
    struct shard_scan *sh = s->current;
    uint32_t job = s->reader.current->number, i;
    struct found_block *grown, *f;
    uint64_t bytes = 0;

    for (i = 0; i < b->parts; i++)
        bytes += b->length[i];
    sh->found[job].blocks++;
    sh->found[job].bytes += bytes;
    if (s->depth < CISTERN_ITEM_BLOCK)
        return 0;
    if (sh->nblocks == sh->room) {
        sh->room = sh->room ? 2 * sh->room : 1024;
        grown = realloc(sh->blocks, sh->room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        sh->blocks = grown;
    }
    f = &sh->blocks[sh->nblocks++];
    *f = (struct found_block){
        .offset = (uint64_t)b->offset * FORMAT_PAGE, .bytes = bytes, .job = job, .mask = b->mask};
    memcpy(f->key, b->key, sizeof f->key);
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                   uint8_t reason)
{
    struct scan *s = arg;

    (void)key;
    (void)segment_id;
    (void)offset;
    (void)reason;
    s->current->found[s->reader.current->number].dead++;
    return 0;
}

static int on_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    (void)arg;
    (void)segment_id;
    (void)reason;
    return 0;
}

/* Heads before contents of the same writer, segments in order. */
static int by_writer(const void *a, const void *b)
{
    const struct contents_job *x = a, *y = b;

    if (x->writer != y->writer)
        return x->writer < y->writer ? -1 : 1;
    if (x->is_head != y->is_head)
        return x->is_head ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int scan_shard(struct scan *s, struct shard_scan *sh)
{
    char path[640], name[SEGMENT_NAME_MAX];
    struct io_stat st;
    size_t i;
    int rc = contents_list_dir(s->io, sh->dir, sh->shard, &sh->jobs);

    if (rc)
        return rc;
    if (sh->jobs.count)
        qsort(sh->jobs.at, sh->jobs.count, sizeof *sh->jobs.at, by_writer);
    sh->found = calloc(sh->jobs.count + 1, sizeof *sh->found);
    if (!sh->found)
        return err_set(-ENOMEM, "no memory for the scan");
    s->current = sh;
    if ((rc = contents_run(&s->reader, sh->jobs.at, sh->jobs.count)))
        return rc;
    for (i = 0; i < sh->jobs.count; i++) {
        const struct contents_job *job = &sh->jobs.at[i];

        if (job->is_head)
            continue;
        segment_name(name, job->writer, job->seq, ".seg");
        (void)snprintf(path, sizeof path, "%s/%s", sh->dir, name);
        if (s->io->ops->stat(s->io, path, &st) == 0)
            sh->found[i].disk_bytes += st.disk_bytes;
        segment_name(name, job->writer, job->seq, ".toc");
        (void)snprintf(path, sizeof path, "%s/%s", sh->dir, name);
        if (s->io->ops->stat(s->io, path, &st) == 0)
            sh->found[i].disk_bytes += st.disk_bytes;
    }
    return 0;
}

/* "s3of8" */
static bool shard_name(const char *name, uint32_t *shard, uint32_t *shards)
{
    char check[32];

    if (sscanf(name, "s%uof%u", shard, shards) != 2 || !*shards || *shard >= *shards ||
        *shards > CISTERN_MAX_SHARDS)
        return false;
    (void)snprintf(check, sizeof check, "s%uof%u", *shard, *shards);
    return strcmp(check, name) == 0;
}

struct listing {
    struct scan *s;
    struct space_scan *sp;
    bool retired;
};

static int list_shard(void *arg, const char *name)
{
    struct listing *l = arg;
    struct shard_scan *grown, *sh;
    char path[512];
    uint32_t shard, shards;

    l->retired |= strcmp(name, SPACE_RETIRED) == 0;
    if (!shard_name(name, &shard, &shards))
        return 0;
    grown = realloc(l->sp->shards, (l->sp->nshards + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    l->sp->shards = grown;
    sh = &grown[l->sp->nshards++];
    *sh = (struct shard_scan){.shard = shard, .shards = shards};
    join(l->s, path, l->sp->name);
    (void)snprintf(sh->dir, sizeof sh->dir, "%s/%.20s", path, name);
    return 0;
}

static int list_space(void *arg, const char *name)
{
    struct scan *s = arg;
    struct space_scan *grown, *sp;

    if (name[0] == '.' || strcmp(name, ROOT_FILE) == 0 || strcmp(name, ROOT_SALT) == 0 ||
        strlen(name) >= sizeof sp->name)
        return 0;
    grown = realloc(s->spaces, (s->nspaces + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    s->spaces = grown;
    sp = &grown[s->nspaces++];
    *sp = (struct space_scan){.note = ""};
    (void)snprintf(sp->name, sizeof sp->name, "%s", name);
    return 0;
}

static int by_space(const void *a, const void *b)
{
    return strcmp(((const struct space_scan *)a)->name, ((const struct space_scan *)b)->name);
}

static int by_shard(const void *a, const void *b)
{
    const struct shard_scan *x = a, *y = b;

    return x->shard < y->shard ? -1 : x->shard > y->shard;
}

static int scan_space(struct scan *s, struct space_scan *sp)
{
    struct listing l = {.s = s, .sp = sp};
    char path[512], json[SPACE_JSON_MAX];
    uint8_t fingerprint[32];
    uint32_t shards;
    int64_t len;
    size_t i;
    int rc;

    join(s, path, sp->name);
    rc = s->io->ops->list(s->io, path, list_shard, &l);
    if (rc)
        return rc == -ENOTDIR
                   ? 0
                   : err_set(rc, "%s cannot be listed: %s", path, cistern_error_string(rc));
    (void)snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", SPACE_FILE);
    len = s->io->ops->small_read(s->io, path, json, sizeof json);
    if (len < 0)
        sp->note = "space.json cannot be read";
    else if (space_inspect(json, (size_t)len, &shards, fingerprint))
        sp->note = "space.json is not a description of a space";
    else if (l.retired)
        sp->note = "retired";
    if (sp->nshards)
        qsort(sp->shards, sp->nshards, sizeof *sp->shards, by_shard);
    for (i = 0; i < sp->nshards && !rc; i++)
        rc = scan_shard(s, &sp->shards[i]);
    return rc;
}

/* A directory below the root that is no space (no description, no shard) is not ours to speak of.
 */
static void drop_strangers(struct scan *s)
{
    size_t i, kept = 0;

    for (i = 0; i < s->nspaces; i++) {
        if (s->spaces[i].nshards || !s->spaces[i].note[0])
            s->spaces[kept++] = s->spaces[i];
        else
            free(s->spaces[i].shards);
    }
    s->nspaces = kept;
}

static int gather(struct scan *s)
{
    char path[512];
    size_t i;
    int rc;

    join(s, path, "");
    rc = s->io->ops->list(s->io, path, list_space, s);
    if (rc)
        return err_set(rc, "%s/%s cannot be listed: %s", s->io->mount, path,
                       cistern_error_string(rc));
    if (s->nspaces)
        qsort(s->spaces, s->nspaces, sizeof *s->spaces, by_space);
    for (i = 0; i < s->nspaces && !rc; i++)
        rc = scan_space(s, &s->spaces[i]);
    drop_strangers(s);
    return rc;
}

/* ---- Telling ---- */

static void add_found(struct cistern_item *item, const struct found *f)
{
    item->blocks += f->blocks;
    item->dead += f->dead;
    item->bytes += f->bytes;
    item->disk_bytes += f->disk_bytes;
}

static void add_shard(struct cistern_item *item, const struct shard_scan *sh)
{
    size_t i;

    for (i = 0; i < sh->jobs.count; i++)
        add_found(item, &sh->found[i]);
}

static void add_space(struct cistern_item *item, const struct space_scan *sp)
{
    size_t i;

    for (i = 0; i < sp->nshards; i++)
        add_shard(item, &sp->shards[i]);
}

static int tell_blocks(struct scan *s, const struct cistern_item *segment,
                       const struct shard_scan *sh, size_t job)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < sh->nblocks && !rc; i++) {
        const struct found_block *b = &sh->blocks[i];
        struct cistern_item item = *segment;

        if (b->job != job)
            continue;
        item.kind = CISTERN_ITEM_BLOCK;
        item.blocks = 1;
        item.dead = item.disk_bytes = 0;
        item.bytes = b->bytes;
        item.offset = b->offset;
        item.parts = b->mask;
        memcpy(item.key.b, b->key, sizeof item.key.b);
        rc = s->callback(s->arg, &item);
    }
    return rc;
}

static const char *job_note(const struct contents_job *job)
{
    if (job->result == -ENODATA)
        return "empty: its writer ended before it wrote anything";
    if (job->result == CISTERN_EFORMAT)
        return "of a later version";
    if (job->result)
        return job->is_head ? "the head is not valid" : "the contents are not valid";
    if (job->is_head)
        return job->head.state == HEAD_CLOSED ? "closed" : "";
    return job->end == TOC_TORN    ? "the contents end in a torn frame"
           : job->end == TOC_LATER ? "goes on in a later version"
           : job->cursor.locked    ? "encrypted, and its key was not given"
                                   : "";
}

static int tell_segment(struct scan *s, const struct space_scan *sp, struct shard_scan *sh,
                        size_t i)
{
    const struct contents_job *job = &sh->jobs.at[i];
    char name[SEGMENT_NAME_MAX], path[640];
    struct cistern_item item = {.kind = CISTERN_ITEM_SEGMENT,
                                .shard = sh->shard,
                                .shards = sh->shards,
                                .space = sp->name,
                                .name = path,
                                .note = job_note(job),
                                .created_s = job->result ? 0 : job->header.created_s,
                                .encrypted = job->cursor.encrypted};
    int rc;

    memcpy(item.key_id, job->key_id, sizeof item.key_id);
    segment_name(name, job->writer, job->seq, ".seg");
    (void)snprintf(path, sizeof path, "%s/%s", sh->dir, name);
    add_found(&item, &sh->found[i]);
    rc = s->callback(s->arg, &item);
    if (!rc && s->depth >= CISTERN_ITEM_BLOCK)
        rc = tell_blocks(s, &item, sh, i);
    return rc;
}

static int tell_writers(struct scan *s, const struct space_scan *sp, struct shard_scan *sh)
{
    size_t i, j, end;
    int rc = 0;

    for (i = 0; i < sh->jobs.count && !rc; i = end) {
        const struct contents_job *first = &sh->jobs.at[i];
        char name[SEGMENT_NAME_MAX], path[640];
        struct cistern_item item = {.kind = CISTERN_ITEM_WRITER,
                                    .shard = sh->shard,
                                    .shards = sh->shards,
                                    .space = sp->name,
                                    .name = path};

        head_name(name, first->writer);
        (void)snprintf(path, sizeof path, "%s/%s", sh->dir, name);
        item.note = first->is_head ? job_note(first) : "it has no head";
        for (end = i; end < sh->jobs.count && sh->jobs.at[end].writer == first->writer; end++)
            add_found(&item, &sh->found[end]);
        rc = s->callback(s->arg, &item);
        for (j = i; j < end && !rc && s->depth >= CISTERN_ITEM_SEGMENT; j++) {
            if (!sh->jobs.at[j].is_head)
                rc = tell_segment(s, sp, sh, j);
        }
    }
    return rc;
}

static int tell_space(struct scan *s, struct space_scan *sp)
{
    char path[512];
    struct cistern_item item = {
        .kind = CISTERN_ITEM_SPACE, .space = sp->name, .name = path, .note = sp->note};
    size_t i;
    int rc;

    join(s, path, sp->name);
    if (sp->nshards)
        item.shards = sp->shards[0].shards;
    add_space(&item, sp);
    rc = s->callback(s->arg, &item);
    for (i = 0; i < sp->nshards && !rc && s->depth >= CISTERN_ITEM_SHARD; i++) {
        struct shard_scan *sh = &sp->shards[i];
        struct cistern_item shard = {.kind = CISTERN_ITEM_SHARD,
                                     .shard = sh->shard,
                                     .shards = sh->shards,
                                     .space = sp->name,
                                     .name = sh->dir,
                                     .note = ""};

        add_shard(&shard, sh);
        rc = s->callback(s->arg, &shard);
        if (!rc && s->depth >= CISTERN_ITEM_WRITER)
            rc = tell_writers(s, sp, sh);
    }
    return rc;
}

static int tell(struct scan *s, const struct root_info *root)
{
    struct cistern_item item = {.kind = CISTERN_ITEM_ROOT,
                                .space = "",
                                .name = s->cfg->root,
                                .note = "",
                                .created_s = root->created_s};
    size_t i;
    int rc;

    for (i = 0; i < s->nspaces; i++)
        add_space(&item, &s->spaces[i]);
    rc = s->callback(s->arg, &item);
    for (i = 0; i < s->nspaces && !rc && s->depth >= CISTERN_ITEM_SPACE; i++)
        rc = tell_space(s, &s->spaces[i]);
    return rc;
}

static void scan_free(struct scan *s)
{
    size_t i, j;

    for (i = 0; i < s->nspaces; i++) {
        for (j = 0; j < s->spaces[i].nshards; j++) {
            contents_list_free(&s->spaces[i].shards[j].jobs);
            free(s->spaces[i].shards[j].found);
            free(s->spaces[i].shards[j].blocks);
        }
        free(s->spaces[i].shards);
    }
    free(s->spaces);
}

int cistern_scan(const struct cistern_options *o, uint32_t depth,
                 int (*callback)(void *arg, const struct cistern_item *item), void *arg)
{
    struct config cfg;
    struct scan s = {.cfg = &cfg, .depth = depth, .callback = callback, .arg = arg};
    const struct toc_sink sink = {.block = on_block, .dead = on_dead, .aside = on_aside, .arg = &s};
    const struct root_params params = {.may_write = false, .look = true};
    struct crypt *crypt = NULL;
    struct root_info root;
    struct io_options io;
    int rc;

    if (!callback || depth > CISTERN_ITEM_BLOCK)
        return err_set(-EINVAL, "callback is NULL or depth is unknown");
    if ((rc = config_make(o, 0, &cfg)))
        return rc;
    config_log_cluster(&cfg);
    io = (struct io_options){.mount = cfg.mount,
                             .provider = cfg.provider,
                             .log = cfg.log,
                             .provider_path = cfg.provider_path[0] ? cfg.provider_path : NULL};
    if ((rc = io_open(&io, &s.io)))
        return rc;
    s.reader = (struct contents_reader){
        .begin = begin, .sink = &sink, .arg = &s, .log = cfg.log, .look = true};
    if (cfg.encryption_key_file[0] && (rc = crypt_open(cfg.encryption_key_file, 0, &crypt)))
        goto out;
    s.reader.crypt = crypt;
    if (!(rc = root_prepare(s.io, cfg.root, &params, &root)) &&
        !(rc = contents_reader_open(&s.reader, s.io, 10ull * cfg.read_timeout_ms * NS_PER_MS)) &&
        !(rc = gather(&s)))
        rc = tell(&s, &root);
    scan_free(&s);
    (void)contents_reader_close(&s.reader);
out:
    crypt_close(crypt);
    io_close(s.io);
    return rc;
}
