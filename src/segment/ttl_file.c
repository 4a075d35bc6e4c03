/* ttl_file.c - see ttl_file.h. */
#include "segment/ttl_file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define TEXT_MAX 4096

int ttl_file_parse(const char *text, size_t len, uint32_t *seconds)
{
    json_t *object = json_loadb(text, len, 0, NULL), *member;
    json_int_t value;
    int rc = -EBADMSG;

    member = object ? json_object_get(object, "ttl_seconds") : NULL; /* NULL of what is no object */
    value = json_is_integer(member) ? json_integer_value(member) : -1;
    if (value >= 0 && value <= UINT32_MAX) {
        *seconds = (uint32_t)value;
        rc = 0;
    }
    json_decref(object);
    return rc;
}

int ttl_file_read(struct io *io, const char *path, uint32_t *seconds)
{
    char text[TEXT_MAX];
    int64_t n = io->ops->small_read(io, path, text, sizeof text);

    if (n == -EFBIG)
        return -EBADMSG;
    return n < 0 ? (int)n : ttl_file_parse(text, (size_t)n, seconds);
}

int ttl_file_write(struct io *io, const char *path, uint32_t seconds, bool exclusive)
{
    char text[64];
    int n = snprintf(text, sizeof text, "{\"ttl_seconds\": %" PRIu32 "}\n", seconds);

    return io->ops->small_write(io, path, text, (size_t)n, exclusive);
}
