/*
 * space_file.h - the readable description of a space, space.json, as the public struct.
 */
#ifndef CLI_SPACE_FILE_H
#define CLI_SPACE_FILE_H

#include <jansson.h>

#include "cistern.h"

struct space_file {
    json_t *json; /* owned; the strings below live in it */
    struct cistern_part parts[CISTERN_MAX_PARTS];
    struct cistern_space space;
};

/* Reads <mount>/<dir>/space.json. CLI_OK, or an exit code after saying what is wrong. */
int space_file_read(const char *mount, const char *dir, struct space_file *out);
void space_file_release(struct space_file *s); /* a zeroed one is fine */

#endif
