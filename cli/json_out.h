/*
 * json_out.h - answers for programs.
 */
#ifndef CLI_JSON_OUT_H
#define CLI_JSON_OUT_H

#include <jansson.h>
#include <stdint.h>

/* Sets members of an object; the value is owned by the object. Out of memory leaves one out, which
 * json_out_print() notices. */
void json_out_text(json_t *o, const char *name, const char *value);
void json_out_number(json_t *o, const char *name, uint64_t value);
void json_out_real(json_t *o, const char *name, double value);
/* Prints to stdout with a newline and drops the reference. CLI_OK, or an exit code. */
int json_out_print(json_t *o);

#endif
