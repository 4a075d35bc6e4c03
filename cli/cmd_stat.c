/*
 * cmd_stat.c - what is in a directory: spaces, shards, writers, blocks, bytes; and which library
 * would do the I/O here.
 *
 * Two steps. cistern_scan() reads contents and heads and fills a tree; nothing is written. Then one
 * shard is opened for matching only, which tells the provider and its back end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "metrics.h"
#include "space_file.h"
#include "target.h"
#include "text.h"

struct sum {
    uint64_t writers, segments, blocks, dead, bytes, disk_bytes;
};

struct shard {
    uint32_t shard, shards;
    struct sum sum;
};

struct space {
    char *path; /* relative to the mount */
    struct shard *shards;
    size_t nshards;
    struct space_file file; /* released with the tree */
};

struct note {
    char *name, *text;
};

/* How many segments need a master key; an encrypted root only. */
struct key {
    uint8_t id[8];
    uint64_t segments;
};

struct tree {
    struct key *keys;
    size_t nkeys;
    struct space *spaces;
    size_t nspaces;
    struct note *notes;
    size_t nnotes;
    struct sum total;
};

/* Makes room for one more element behind n; NULL when memory is out. */
static void *grow(void **list, size_t n, size_t size)
{
    char *p = *list;

    if ((n & (n - 1)) == 0) {
        p = realloc(p, (n ? 2 * n : 1) * size);
        if (p == NULL)
            return NULL;
        *list = p;
    }
    memset(p + n * size, 0, size);
    return p + n * size;
}

static int note_add(struct tree *t, const struct cistern_item *it)
{
    struct note *n = grow((void **)&t->notes, t->nnotes, sizeof(*n));

    if (n == NULL)
        return CLI_ENVIRONMENT;
    t->nnotes++;
    n->name = strdup(it->name);
    n->text = strdup(it->note);
    return n->name && n->text ? 0 : CLI_ENVIRONMENT;
}

static int space_add(struct tree *t, const struct cistern_item *it)
{
    struct space *s = grow((void **)&t->spaces, t->nspaces, sizeof(*s));

    if (s == NULL)
        return CLI_ENVIRONMENT;
    t->nspaces++;
    s->path = strdup(it->name);
    return s->path ? 0 : CLI_ENVIRONMENT;
}

static int shard_add(struct space *s, const struct cistern_item *it)
{
    struct shard *sh = grow((void **)&s->shards, s->nshards, sizeof(*sh));

    if (sh == NULL)
        return CLI_ENVIRONMENT;
    s->nshards++;
    sh->shard = it->shard;
    sh->shards = it->shards;
    return 0;
}

static int key_add(struct tree *t, const struct cistern_item *it)
{
    struct key *k;
    size_t i;

    for (i = 0; i < t->nkeys; i++) {
        if (memcmp(t->keys[i].id, it->key_id, sizeof(it->key_id)) == 0) {
            t->keys[i].segments++;
            return 0;
        }
    }
    k = grow((void **)&t->keys, t->nkeys, sizeof(*k));
    if (k == NULL)
        return CLI_ENVIRONMENT;
    t->nkeys++;
    memcpy(k->id, it->key_id, sizeof(k->id));
    k->segments = 1;
    return 0;
}

static const char *key_text(const struct key *k, char text[17])
{
    size_t i;

    for (i = 0; i < sizeof(k->id); i++)
        snprintf(text + 2 * i, 3, "%02x", k->id[i]);
    return text;
}

static void segment_add(struct sum *s, const struct cistern_item *it)
{
    s->segments++;
    s->blocks += it->blocks;
    s->dead += it->dead;
    s->bytes += it->bytes;
    s->disk_bytes += it->disk_bytes;
}

static int visit(void *arg, const struct cistern_item *it)
{
    struct tree *t = arg;
    struct space *s = t->nspaces ? &t->spaces[t->nspaces - 1] : NULL;
    struct shard *sh = s && s->nshards ? &s->shards[s->nshards - 1] : NULL;

    /* "closed" is how a writer should end. */
    if (it->note[0] != '\0' && strcmp(it->note, "closed") != 0 && note_add(t, it) != 0)
        return CLI_ENVIRONMENT;
    switch (it->kind) {
    case CISTERN_ITEM_SPACE:
        return space_add(t, it);
    case CISTERN_ITEM_SHARD:
        return s ? shard_add(s, it) : 0;
    case CISTERN_ITEM_WRITER:
        if (sh != NULL)
            sh->sum.writers++;
        t->total.writers++;
        return 0;
    case CISTERN_ITEM_SEGMENT:
        if (sh != NULL)
            segment_add(&sh->sum, it);
        segment_add(&t->total, it);
        return it->encrypted ? key_add(t, it) : 0;
    default:
        return 0;
    }
}

static void tree_release(struct tree *t)
{
    size_t i;

    for (i = 0; i < t->nspaces; i++) {
        space_file_release(&t->spaces[i].file);
        free(t->spaces[i].path);
        free(t->spaces[i].shards);
    }
    for (i = 0; i < t->nnotes; i++) {
        free(t->notes[i].name);
        free(t->notes[i].text);
    }
    free(t->spaces);
    free(t->notes);
    free(t->keys);
}

/* The smallest shard of a space whose description can be read: cheap to open. */
static const struct shard *shard_smallest(const struct tree *t, struct space **space)
{
    const struct shard *best = NULL;
    size_t i, j;

    for (i = 0; i < t->nspaces; i++)
        for (j = 0; t->spaces[i].file.json != NULL && j < t->spaces[i].nshards; j++)
            if (best == NULL || t->spaces[i].shards[j].sum.blocks < best->sum.blocks) {
                best = &t->spaces[i].shards[j];
                *space = &t->spaces[i];
            }
    return best;
}

/* Lines of "key=value" of a handle on this directory; "" where nothing can be opened. */
static void describe(const struct target *t, const struct tree *tree, char *buf, size_t size)
{
    struct cistern_options o = t->options;
    const struct shard *sh;
    struct space *s = NULL;
    cistern *c = NULL;
    const char *base;
    int r;

    buf[0] = '\0';
    sh = shard_smallest(tree, &s);
    if (sh == NULL)
        return;
    o.reuse_cache = o.enable_3fs = 1;
    o.flags = CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY;
    o.space = &s->file.space;
    base = strrchr(s->path, '/');
    o.space_dir = base ? base + 1 : s->path;
    o.shard = sh->shard;
    r = cistern_open(&o, &c);
    if (r != 0) {
        (void)cli_fail_lib(r, "the provider is not known, %s cannot be opened", s->path);
        return;
    }
    cistern_describe(c, buf, size);
    cistern_close(c);
}

static json_t *sum_json(const struct sum *s)
{
    json_t *o = json_object();

    json_out_number(o, "writers", s->writers);
    json_out_number(o, "segments", s->segments);
    json_out_number(o, "blocks", s->blocks);
    json_out_number(o, "dead", s->dead);
    json_out_number(o, "bytes", s->bytes);
    json_out_number(o, "disk_bytes", s->disk_bytes);
    return o;
}

static json_t *space_json(const struct space *s)
{
    json_t *o = json_object(), *list = json_array(), *sh;
    size_t i;

    json_out_text(o, "directory", s->path);
    json_object_set(o, "description", s->file.json);
    for (i = 0; i < s->nshards; i++) {
        sh = sum_json(&s->shards[i].sum);
        json_out_number(sh, "shard", s->shards[i].shard);
        json_out_number(sh, "shards", s->shards[i].shards);
        json_array_append_new(list, sh);
    }
    json_object_set_new(o, "shards", list);
    return o;
}

static json_t *words_json(char *lines)
{
    json_t *o = json_object();
    char *line, *save = NULL, *eq;

    for (line = strtok_r(lines, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        eq = strchr(line, '=');
        if (eq != NULL) {
            *eq = '\0';
            json_out_text(o, line, eq + 1);
        }
    }
    return o;
}

static int print_json(const struct target *t, const struct tree *tree, char *handle)
{
    json_t *o = json_object(), *spaces = json_array(), *notes = json_array(), *n,
           *keys = json_object();
    char id[17];
    size_t i;

    json_out_text(o, "root", t->root_path);
    if (t->cluster.verdict != CISTERN_CLUSTER_NONE)
        json_out_text(o, "cluster", t->cluster.text);
    for (i = 0; i < tree->nspaces; i++)
        json_array_append_new(spaces, space_json(&tree->spaces[i]));
    json_object_set_new(o, "spaces", spaces);
    json_object_set_new(o, "total", sum_json(&tree->total));
    for (i = 0; i < tree->nnotes; i++) {
        n = json_object();
        json_out_text(n, "name", tree->notes[i].name);
        json_out_text(n, "note", tree->notes[i].text);
        json_array_append_new(notes, n);
    }
    json_object_set_new(o, "notes", notes);
    for (i = 0; i < tree->nkeys; i++)
        json_out_number(keys, key_text(&tree->keys[i], id), tree->keys[i].segments);
    json_object_set_new(o, "keys", keys);
    json_object_set_new(o, "handle", words_json(handle));
    return json_out_print(o);
}

static void print_description(const struct cistern_space *sp)
{
    static const char *const policies[] = {"in every block", "in the last block",
                                           "in trailing blocks"};
    char size[32];
    uint32_t i;

    printf("  model %s, revision %s, epoch %llu, dtype %s, layout %s\n", sp->model,
           sp->revision[0] ? sp->revision : "-", (unsigned long long)sp->epoch, sp->dtype,
           sp->layout[0] ? sp->layout : "-");
    printf("  %u tokens a block, %u layers, %u KV heads of %u\n", sp->block_tokens, sp->layers,
           sp->kv_heads, sp->head_dim);
    for (i = 0; i < sp->nparts; i++)
        printf("  part %s: up to %s, needed %s\n", sp->parts[i].name,
               text_size(sp->parts[i].bytes, size, sizeof(size)),
               policies[sp->parts[i].policy <= CISTERN_PART_TRAILING ? sp->parts[i].policy : 0]);
}

static void print_sum(const char *label, const struct sum *s)
{
    char bytes[32], disk[32];

    printf("%-16s %8llu %9llu %11llu %9llu %12s %12s\n", label, (unsigned long long)s->writers,
           (unsigned long long)s->segments, (unsigned long long)s->blocks,
           (unsigned long long)s->dead, text_size(s->bytes, bytes, sizeof(bytes)),
           text_size(s->disk_bytes, disk, sizeof(disk)));
}

static void print_text(const struct target *t, const struct tree *tree, const char *handle)
{
    char label[32], id[17];
    size_t i, j;

    printf("root %s\n", t->root_path);
    if (t->cluster.verdict != CISTERN_CLUSTER_NONE)
        printf("%s\n", t->cluster.text);
    for (i = 0; i < tree->nspaces; i++) {
        printf("\nspace %s\n", tree->spaces[i].path);
        if (tree->spaces[i].file.json != NULL)
            print_description(&tree->spaces[i].file.space);
        printf("%-16s %8s %9s %11s %9s %12s %12s\n", "", "writers", "segments", "blocks", "dead",
               "bytes", "on disk");
        for (j = 0; j < tree->spaces[i].nshards; j++) {
            snprintf(label, sizeof(label), "  shard %u of %u", tree->spaces[i].shards[j].shard,
                     tree->spaces[i].shards[j].shards);
            print_sum(label, &tree->spaces[i].shards[j].sum);
        }
    }
    if (tree->nspaces == 0)
        printf("no spaces yet\n");
    else
        print_sum("total", &tree->total);
    for (i = 0; i < tree->nkeys; i++)
        printf("%skey %s: %llu segments\n", i == 0 ? "\n" : "", key_text(&tree->keys[i], id),
               (unsigned long long)tree->keys[i].segments);
    for (i = 0; i < tree->nnotes; i++)
        printf("%snote: %s: %s\n", i == 0 ? "\n" : "", tree->notes[i].name, tree->notes[i].text);
    if (handle[0] != '\0')
        printf("\nopened here for matching:\n%s", handle);
}

static int answer(struct target *t, struct tree *tree, bool json)
{
    char handle[4096];
    size_t i;
    int r;

    r = cistern_scan(&t->options, CISTERN_ITEM_SEGMENT, visit, tree);
    if (r > 0)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    if (r < 0)
        return cli_fail_lib(r, "%s", t->root_path);
    for (i = 0; i < tree->nspaces; i++)
        if (space_file_read(t->mount_path, tree->spaces[i].path, &tree->spaces[i].file) != CLI_OK)
            cli_note("the space is counted all the same");
    describe(t, tree, handle, sizeof(handle));
    if (json)
        return print_json(t, tree, handle);
    print_text(t, tree, handle);
    return CLI_OK;
}

int cmd_stat(int argc, char **argv)
{
    struct target t = {0};
    struct tree tree = {0};
    uint64_t pid = 0, watch_s = 0, times = 0;
    bool json = false, live = false;
    const struct arg args[] = {
        TARGET_ARGS(&t),
        {"live", NULL, ARG_FLAG, &live, 0, 0, "what the engines of this host do, once"},
        {"pid", "PID", ARG_NUMBER, &pid, 1, UINT32_MAX, "the same, of one process"},
        {"watch", "SECONDS", ARG_NUMBER, &watch_s, 1, 86400,
         "the same again and again, with rates, until a signal"},
        {"times", "N", ARG_NUMBER, &times, 1, 0, "with --watch: end after N looks"},
        {"json", NULL, ARG_FLAG, &json, 0, 0, "one JSON object"},
    };
    const struct arg_page page = {
        .usage = "cistern stat [options]",
        .about =
            "Says what is in a directory: spaces with their models, shards, writers, segments, "
            "blocks\nand bytes, and which library would do the I/O here. Writes nothing.\n"
            "With --live, --pid or --watch: what engines that run on this host do; no mount is "
            "needed.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "example: cistern stat --mount /mnt/nvme/cistern --root rtp_llm\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 0, &words);
    if (r != ARG_GO)
        return r;
    if (times && !watch_s)
        return cli_fail(CLI_USAGE, "--times goes with --watch");
    if (live || pid || watch_s)
        return stat_live((uint32_t)pid, watch_s, times, json);
    r = target_resolve(&t);
    if (r == CLI_OK)
        r = answer(&t, &tree, json);
    tree_release(&tree);
    return r;
}
