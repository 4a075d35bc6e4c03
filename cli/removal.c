/*
 * removal.c - the answer of gc and wipe: a line or an object for each file, and a sum; of wipe also
 * where that was.
 */
#include "removal.h"

#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json_out.h"
#include "text.h"

static const char *word_of(int32_t result)
{
    return result == 0 ? "removed" : result == 1 ? "would remove" : result == 2 ? "left" : "failed";
}

static void take_space(struct removal *x, const struct cistern_removal *r)
{
    json_t *name;
    size_t i;

    if (!x->from || !r->space[0] || r->result < 0 || r->result > 1)
        return;
    json_array_foreach(x->from, i, name) if (strcmp(json_string_value(name), r->space) == 0) return;
    name = json_string(r->space);
    (void)json_array_append_new(x->from, name ? name : json_string("(not UTF-8)"));
}

/* " from ROOT: one, another" */
static void print_from(const struct removal *x)
{
    json_t *name;
    size_t i;

    printf(" from %s", x->x.t.root_path);
    json_array_foreach(x->from, i, name) printf("%s %s", i ? "," : ":", json_string_value(name));
}

int removal_on_item(void *arg, const struct cistern_removal *r)
{
    struct removal *x = arg;
    json_t *o;

    admin_quiet(&x->x);
    take_space(x, r);
    if (x->list == NULL) {
        if (x->verbose || x->dry_run || r->result == 2 || r->result < 0)
            printf("%s %s (%s)%s%s\n", word_of(r->result), r->path, r->why,
                   r->result < 0 ? ": " : "", r->result < 0 ? cistern_error_string(r->result) : "");
        return ferror(stdout) ? CLI_IO : 0;
    }
    o = json_object();
    json_out_text(o, "path", r->path);
    json_out_text(o, "space", r->space);
    json_out_text(o, "result", word_of(r->result));
    json_out_text(o, "why", r->why);
    json_out_number(o, "disk_bytes", r->disk_bytes);
    return json_array_append_new(x->list, o) != 0 ? CLI_ENVIRONMENT : 0;
}

static void tenant_out(json_t *o, const struct cistern_removal_sum *sum)
{
    json_out_number(o, "tenant_blocks", sum->tenant_blocks);
    json_out_number(o, "tenant_bytes", sum->tenant_bytes);
    json_out_number(o, "other_blocks", sum->other_blocks);
    json_out_number(o, "other_bytes", sum->other_bytes);
}

static void tenant_print(const struct cistern_removal_sum *sum)
{
    char own[32], others[32];

    printf("%llu blocks of the tenant, %s; %llu blocks of others in the same segments, %s\n",
           (unsigned long long)sum->tenant_blocks, text_size(sum->tenant_bytes, own, sizeof(own)),
           (unsigned long long)sum->other_blocks,
           text_size(sum->other_bytes, others, sizeof(others)));
}

static int sum_json(struct removal *x, const struct cistern_removal_sum *sum)
{
    json_t *o = json_object();

    json_object_set_new(o, "files", x->list);
    if (x->from) {
        json_out_text(o, "root", x->x.t.root_path);
        json_object_set(o, "spaces", x->from);
    }
    json_out_number(o, x->dry_run ? "would_remove" : "removed", sum->files);
    json_out_number(o, "disk_bytes", sum->disk_bytes);
    json_out_number(o, "left", sum->waiting);
    json_out_number(o, "failed", sum->failed);
    if (x->tenant)
        tenant_out(o, sum);
    return json_out_print(o);
}

static void sum_print(const struct removal *x, const struct cistern_removal_sum *sum)
{
    char bytes[32];

    if (x->tenant)
        tenant_print(sum);
    printf("%s %llu files, %s", word_of(x->dry_run), (unsigned long long)sum->files,
           text_size(sum->disk_bytes, bytes, sizeof(bytes)));
    if (x->from)
        print_from(x);
    if (sum->waiting)
        printf("; %llu left%s", (unsigned long long)sum->waiting,
               x->tenant ? "" : ", because a writer may be alive");
    if (sum->failed)
        printf("; %llu could not be removed", (unsigned long long)sum->failed);
    putchar('\n');
}

int removal_end(struct removal *x, int r, const struct cistern_removal_sum *sum)
{
    admin_quiet(&x->x);
    if (r != 0) {
        json_decref(x->list);
        r = r > 0 ? r : cli_fail_lib(r, "%s", x->x.t.root_path);
    } else {
        if (x->list)
            r = sum_json(x, sum);
        else
            sum_print(x, sum);
        r = r != CLI_OK ? r : sum->failed ? CLI_IO : CLI_OK;
    }
    json_decref(x->from);
    return r;
}
