/*
 * names.c - names of the files of a shard. Strict: anything that this version would not write
 * itself is SEGMENT_FILE_OTHER and is left alone. Pure functions.
 */
#include "segment/toc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WRITER_DIGITS 16
#define SEQ_DIGITS    8

void segment_name(char out[SEGMENT_NAME_MAX], uint64_t writer, uint64_t seq, const char *suffix)
{
    (void)snprintf(out, SEGMENT_NAME_MAX, "%016" PRIx64 "-%08" PRIx64 "%s", writer,
                   seq & UINT32_MAX, suffix);
}

void head_name(char out[SEGMENT_NAME_MAX], uint64_t writer)
{
    (void)snprintf(out, SEGMENT_NAME_MAX, "%016" PRIx64 ".head", writer);
}

/* Exactly n lower-case digits. */
static bool hex_parse(const char *s, unsigned n, uint64_t *out)
{
    uint64_t v = 0;
    unsigned i;

    for (i = 0; i < n; i++) {
        if (s[i] >= '0' && s[i] <= '9')
            v = v << 4 | (uint64_t)(s[i] - '0');
        else if (s[i] >= 'a' && s[i] <= 'f')
            v = v << 4 | (uint64_t)(s[i] - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

enum segment_file segment_name_parse(const char *name, uint64_t *writer, uint64_t *seq)
{
    enum segment_file kind;
    uint64_t w, s = 0;

    if (!hex_parse(name, WRITER_DIGITS, &w))
        return SEGMENT_FILE_OTHER;
    name += WRITER_DIGITS;
    if (strcmp(name, ".head") == 0) {
        kind = SEGMENT_FILE_HEAD;
    } else {
        if (*name != '-' || !hex_parse(name + 1, SEQ_DIGITS, &s))
            return SEGMENT_FILE_OTHER;
        name += 1 + SEQ_DIGITS;
        if (strcmp(name, ".seg") == 0)
            kind = SEGMENT_FILE_DATA;
        else if (strcmp(name, ".toc") == 0)
            kind = SEGMENT_FILE_TOC;
        else
            return SEGMENT_FILE_OTHER;
    }
    *writer = w;
    *seq = s;
    return kind;
}
