/*
 * json_out.c - answers for programs, by jansson.
 */
#include "json_out.h"

#include <math.h>
#include <stdio.h>

#include "cli.h"

/* Set when a member could not be made; the command has one thread that prints. */
static bool incomplete;

static void set(json_t *o, const char *name, json_t *value)
{
    if (json_object_set_new(o, name, value) != 0)
        incomplete = true;
}

void json_out_text(json_t *o, const char *name, const char *value)
{
    json_t *text = json_string(value);

    /* A file name may be any bytes; JSON may not. */
    set(o, name, text ? text : json_string("(not UTF-8)"));
}

void json_out_number(json_t *o, const char *name, uint64_t value)
{
    set(o, name, json_integer((json_int_t)value));
}

void json_out_real(json_t *o, const char *name, double value)
{
    set(o, name, isfinite(value) ? json_real(value) : json_null());
}

int json_out_print(json_t *o)
{
    int r;

    if (o == NULL || incomplete) {
        json_decref(o);
        return cli_fail(CLI_ENVIRONMENT, "out of memory while the answer was written");
    }
    r = json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(o);
    putchar('\n');
    return r == 0 ? CLI_OK : cli_fail(CLI_IO, "cannot write the answer to stdout");
}
