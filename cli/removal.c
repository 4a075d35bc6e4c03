/*
 * removal.c - the answer of gc and wipe: a line or an object for each file, and a sum.
 */
#include "removal.h"

#include <stdio.h>

#include "cli.h"
#include "json_out.h"
#include "text.h"

static const char *word_of(int32_t result)
{
    return result == 0 ? "removed" : result == 1 ? "would remove" : result == 2 ? "left" : "failed";
}

int removal_on_item(void *arg, const struct cistern_removal *r)
{
    struct removal *x = arg;
    json_t *o;

    admin_quiet(&x->x);
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

int removal_end(struct removal *x, int r, const struct cistern_removal_sum *sum)
{
    char bytes[32];
    json_t *o;

    admin_quiet(&x->x);
    if (r != 0) {
        json_decref(x->list);
        return r > 0 ? r : cli_fail_lib(r, "%s", x->x.t.root_path);
    }
    if (x->list != NULL) {
        o = json_object();
        json_object_set_new(o, "files", x->list);
        json_out_number(o, x->dry_run ? "would_remove" : "removed", sum->files);
        json_out_number(o, "disk_bytes", sum->disk_bytes);
        json_out_number(o, "left", sum->waiting);
        json_out_number(o, "failed", sum->failed);
        r = json_out_print(o);
        if (r != CLI_OK)
            return r;
    } else {
        printf("%s %llu files, %s", word_of(x->dry_run), (unsigned long long)sum->files,
               text_size(sum->disk_bytes, bytes, sizeof(bytes)));
        if (sum->waiting)
            printf("; %llu left, because a writer may be alive", (unsigned long long)sum->waiting);
        if (sum->failed)
            printf("; %llu could not be removed", (unsigned long long)sum->failed);
        putchar('\n');
    }
    return sum->failed ? CLI_IO : CLI_OK;
}
