/*
 * transfer.c - the sum of an export or import, for people and for programs.
 */
#include "transfer.h"

#include <stdio.h>

#include "cli.h"
#include "json_out.h"
#include "text.h"

int transfer_print(struct admin_args *x, const char *done, const struct cistern_transfer_sum *s,
                   bool to_stderr)
{
    char bytes[32];
    json_t *o;

    admin_quiet(x);
    if (x->json && !to_stderr) {
        o = json_object();
        json_out_text(o, "space", s->space);
        json_out_number(o, "segments", s->segments);
        json_out_number(o, "blocks", s->blocks);
        json_out_number(o, "bytes", s->bytes);
        json_out_number(o, "skipped", s->skipped);
        return json_out_print(o);
    }
    fprintf(to_stderr ? stderr : stdout, "%s %s: %llu segments, %llu blocks, %s", done, s->space,
            (unsigned long long)s->segments, (unsigned long long)s->blocks,
            text_size(s->bytes, bytes, sizeof(bytes)));
    if (s->skipped)
        fprintf(to_stderr ? stderr : stdout, "; %llu bad blocks left out",
                (unsigned long long)s->skipped);
    fputc('\n', to_stderr ? stderr : stdout);
    return CLI_OK;
}
