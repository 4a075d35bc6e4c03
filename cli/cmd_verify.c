/*
 * cmd_verify.c - reads and checks every payload of a root: bad blocks as they are found, a line a
 * segment on request, a sum.
 */
#include <stdio.h>

#include "admin.h"
#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "text.h"

static const char *const states[] = {"good", "checksum", "short", "missing", "io"};

struct verify {
    struct admin_args x;
    double rate;
    bool segments;
    json_t *bad, *done; /* NULL without --json */
};

/* What both kinds of item have. */
static json_t *item_object(const struct cistern_verify_item *it)
{
    json_t *o = json_object();

    json_out_text(o, "segment", it->path);
    json_out_number(o, "shard", it->shard);
    return o;
}

static int on_bad(struct verify *v, const struct cistern_verify_item *it)
{
    char key[65];
    json_t *o;

    text_hex(it->key.b, sizeof(it->key.b), key);
    if (v->bad == NULL) {
        printf("bad %-8s %s part %u  %s+%llu, %llu bytes%s%s\n", states[it->state], key, it->part,
               it->path, (unsigned long long)it->offset, (unsigned long long)it->length,
               it->error ? ": " : "", it->error ? cistern_error_string(it->error) : "");
        return ferror(stdout) ? CLI_IO : 0;
    }
    o = item_object(it);
    json_out_text(o, "key", key);
    json_out_text(o, "state", states[it->state]);
    json_out_number(o, "part", it->part);
    json_out_number(o, "offset", it->offset);
    json_out_number(o, "length", it->length);
    return json_array_append_new(v->bad, o) != 0 ? CLI_ENVIRONMENT : 0;
}

static int on_item(void *arg, const struct cistern_verify_item *it)
{
    struct verify *v = arg;
    json_t *o;

    admin_quiet(&v->x);
    if (!it->segment_done)
        return on_bad(v, it);
    if (v->done == NULL) {
        if (v->segments || it->bad || it->note[0])
            printf("%s: %llu blocks, %llu dead, %llu bad%s%s\n", it->path,
                   (unsigned long long)it->blocks, (unsigned long long)it->dead,
                   (unsigned long long)it->bad, it->note[0] ? "; " : "", it->note);
        return ferror(stdout) ? CLI_IO : 0;
    }
    o = item_object(it);
    json_out_text(o, "space", it->space);
    json_out_number(o, "blocks", it->blocks);
    json_out_number(o, "dead", it->dead);
    json_out_number(o, "bad", it->bad);
    json_out_number(o, "bytes", it->bytes);
    json_out_text(o, "note", it->note);
    return json_array_append_new(v->done, o) != 0 ? CLI_ENVIRONMENT : 0;
}

static int sum_print(struct verify *v, const struct cistern_verify_sum *s)
{
    double seconds = (double)s->nanoseconds / 1e9;
    char bytes[32];
    json_t *o, *t;

    if (v->bad == NULL) {
        printf("%llu segments, %llu blocks, %llu dead, %llu bad, %llu segments unreadable; "
               "%s verified in %.1f s\n",
               (unsigned long long)s->segments, (unsigned long long)s->blocks,
               (unsigned long long)s->dead, (unsigned long long)s->bad_blocks,
               (unsigned long long)s->unreadable, text_size(s->bytes, bytes, sizeof(bytes)),
               seconds);
        return CLI_OK;
    }
    t = json_object();
    json_out_number(t, "segments", s->segments);
    json_out_number(t, "blocks", s->blocks);
    json_out_number(t, "dead", s->dead);
    json_out_number(t, "bad", s->bad_blocks);
    json_out_number(t, "unreadable", s->unreadable);
    json_out_number(t, "bytes", s->bytes);
    json_out_real(t, "seconds", seconds);
    o = json_object();
    json_object_set_new(o, "bad", v->bad);
    json_object_set_new(o, "segments", v->done);
    json_object_set_new(o, "summary", t);
    return json_out_print(o);
}

static int verify(struct verify *v)
{
    struct cistern_verify_sum sum = {.size = sizeof(sum)};
    int r;

    v->x.a.rate_bytes = (uint64_t)(v->rate * 1024 * 1024);
    if (v->x.json) {
        v->bad = json_array();
        v->done = json_array();
    }
    r = cistern_verify(&v->x.a, on_item, v, &sum);
    admin_quiet(&v->x);
    if (r != 0) {
        json_decref(v->bad);
        json_decref(v->done);
        return r > 0 ? r : cli_fail_lib(r, "%s", v->x.t.root_path);
    }
    r = sum_print(v, &sum);
    return r != CLI_OK ? r : sum.bad_blocks || sum.unreadable ? CLI_FINDINGS : CLI_OK;
}

int cmd_verify(int argc, char **argv)
{
    struct verify v = {0};
    const struct arg args[] = {
        TARGET_ARGS(&v.x.t),
        ADMIN_SPACE_ARG(&v.x),
        {"rate", "MIB", ARG_DECIMAL, &v.rate, 0, 0, "most MiB that are read a second (no limit)"},
        {"segments", NULL, ARG_FLAG, &v.segments, 0, 0, "a line for good segments too"},
        ADMIN_JSON_ARG(&v.x),
    };
    const struct arg_page page = {
        .usage = "cistern verify [ROOT] [options]",
        .about = "Reads every payload that contents name and nobody declared dead, and checks it\n"
                 "against key, place and checksum. Writes nothing: a get that meets a bad block\n"
                 "forgets it by itself.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "Each bad block is shown with its key and its place, <data file>+<offset>.\n"
                "Exit status 1: a block is bad, or contents cannot be read.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    r = admin_resolve(&v.x, words ? argv[0] : NULL, true);
    return r == CLI_OK ? verify(&v) : r;
}
