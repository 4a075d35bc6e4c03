/*
 * err.c - error codes and the text of a thread's last failure. The text lives in thread-local
 * storage: no lock, no allocation, cut off at its size.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cistern.h"

static __thread char last_text[512];

int err_set(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last_text, sizeof last_text, format, args);
    va_end(args);
    return code;
}

void err_prefix(const char *format, ...)
{
    char old[sizeof last_text];
    va_list args;
    size_t n;

    memcpy(old, last_text, sizeof old);
    va_start(args, format);
    (void)vsnprintf(last_text, sizeof last_text, format, args);
    va_end(args);
    n = strlen(last_text);
    (void)snprintf(last_text + n, sizeof last_text - n, ": %.500s", old);
}

void err_clear(void)
{
    last_text[0] = 0;
}

const char *err_text(void)
{
    return last_text;
}

void err_copy_text(char *buf, unsigned long size)
{
    (void)snprintf(buf, size, "%s", last_text);
}

const char *cistern_error_text(void)
{
    return last_text;
}

const char *cistern_error_name(int code)
{
    const char *name;

    switch (code) {
#define X(value, text, sentence)                                                                   \
    case value:                                                                                    \
        return text;
#include "base/errors.def"
#undef X
    default:
        break;
    }
    name = code <= 0 && code > -4096 ? strerrorname_np(-code) : NULL;
    return name ? name : "EUNKNOWN";
}

const char *cistern_error_string(int code)
{
    const char *text;

    switch (code) {
#define X(value, name, sentence)                                                                   \
    case value:                                                                                    \
        return sentence;
#include "base/errors.def"
#undef X
    default:
        break;
    }
    text = code <= 0 && code > -4096 ? strerrordesc_np(-code) : NULL;
    return text ? text : "unknown error";
}

const char *cistern_version(void)
{
    return CISTERN_VERSION;
}
