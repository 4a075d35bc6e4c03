/*
 * cmd_ls.c - lists the segments or the blocks of a directory, one line or one JSON object each, as
 * they are found: nothing is kept in memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "target.h"
#include "text.h"

#define ANY_SHARD UINT64_MAX

struct listing {
    const char *space; /* NULL = all */
    uint64_t shard;
    enum cistern_item_kind kind;
    bool json;
    uint64_t printed;
};

static bool wanted(const struct listing *l, const struct cistern_item *it)
{
    const char *base;

    if (it->kind != (uint32_t)l->kind)
        return false;
    if (l->shard != ANY_SHARD && it->shard != l->shard)
        return false;
    if (l->space == NULL)
        return true;
    /* The directory's name, with or without what stands before it. */
    base = strrchr(it->space, '/');
    base = base ? base + 1 : it->space;
    return strncmp(base, l->space, strlen(l->space)) == 0 || strcmp(it->space, l->space) == 0;
}

static void line_block(const struct cistern_item *it)
{
    char key[65];

    text_hex(it->key.b, sizeof(it->key.b), key);
    printf("%s  %04x %12llu  %s+%llu%s%s\n", key, it->parts, (unsigned long long)it->bytes,
           it->name, (unsigned long long)it->offset, it->note[0] ? "  " : "", it->note);
}

static void line_segment(const struct cistern_item *it)
{
    char created[32];

    printf("%-19s %5u/%-5u %10llu %8llu %14llu %14llu  %s%s%s\n",
           text_time(it->created_s, created, sizeof(created)), it->shard, it->shards,
           (unsigned long long)it->blocks, (unsigned long long)it->dead,
           (unsigned long long)it->bytes, (unsigned long long)it->disk_bytes, it->name,
           it->note[0] ? "  " : "", it->note);
}

static int line_json(const struct listing *l, const struct cistern_item *it)
{
    json_t *o = json_object();
    char key[65];
    int r;

    json_out_text(o, "name", it->name);
    json_out_text(o, "space", it->space);
    json_out_number(o, "shard", it->shard);
    json_out_number(o, "shards", it->shards);
    json_out_number(o, "bytes", it->bytes);
    if (l->kind == CISTERN_ITEM_BLOCK) {
        text_hex(it->key.b, sizeof(it->key.b), key);
        json_out_text(o, "key", key);
        json_out_number(o, "parts", it->parts);
        json_out_number(o, "offset", it->offset);
    } else {
        json_out_number(o, "blocks", it->blocks);
        json_out_number(o, "dead", it->dead);
        json_out_number(o, "disk_bytes", it->disk_bytes);
        json_out_number(o, "created", it->created_s);
    }
    if (it->note[0] != '\0')
        json_out_text(o, "note", it->note);
    printf("%s  ", l->printed ? ",\n" : "");
    r = json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    return r == 0 ? 0 : CLI_IO;
}

static int visit(void *arg, const struct cistern_item *it)
{
    struct listing *l = arg;
    int r = 0;

    if (!wanted(l, it))
        return 0;
    if (l->json)
        r = line_json(l, it);
    else if (l->kind == CISTERN_ITEM_BLOCK)
        line_block(it);
    else
        line_segment(it);
    l->printed++;
    return r != 0 || ferror(stdout) ? CLI_IO : 0;
}

static void heading(const struct listing *l)
{
    if (l->json)
        printf("[\n");
    else if (l->kind == CISTERN_ITEM_BLOCK)
        printf("%-64s parts %11s  place\n", "key", "bytes");
    else
        printf("%-19s %11s %10s %8s %14s %14s  %s\n", "created (UTC)", "shard", "blocks", "dead",
               "bytes", "on disk", "segment");
}

static int list(struct target *t, struct listing *l)
{
    int r;

    heading(l);
    r = cistern_scan(&t->options, l->kind, visit, l);
    if (l->json)
        printf("%s]\n", l->printed ? "\n" : "");
    if (r > 0)
        return cli_fail(CLI_IO, "cannot write the answer to stdout");
    if (r < 0)
        return cli_fail_lib(r, "%s", t->root_path);
    return CLI_OK;
}

int cmd_ls(int argc, char **argv)
{
    struct target t = {0};
    struct listing l = {.shard = ANY_SHARD, .kind = CISTERN_ITEM_SEGMENT};
    bool segments = false, blocks = false;
    const struct arg args[] = {
        TARGET_ARGS(&t),
        {"space", "NAME", ARG_STRING, &l.space, 0, 0, "only spaces whose directory begins so"},
        {"shard", "N", ARG_NUMBER, &l.shard, 0, CISTERN_MAX_SHARDS - 1, "only this shard"},
        {"segments", NULL, ARG_FLAG, &segments, 0, 0, "one line a segment (default)"},
        {"blocks", NULL, ARG_FLAG, &blocks, 0, 0, "one line a block: key, parts, bytes, place"},
        {"json", NULL, ARG_FLAG, &l.json, 0, 0, "a JSON array"},
    };
    const struct arg_page page = {
        .usage = "cistern ls [options]",
        .about = "Lists what a directory holds, from its contents files alone. Writes nothing.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "A block's parts are a hexadecimal mask, bit p for part p; its place is\n"
                "<segment>+<offset>.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 0, &words);
    if (r != ARG_GO)
        return r;
    if (segments && blocks)
        return cli_fail(CLI_USAGE, "--segments and --blocks: choose one");
    if (blocks)
        l.kind = CISTERN_ITEM_BLOCK;
    r = target_resolve(&t);
    return r == CLI_OK ? list(&t, &l) : r;
}
