/*
 * err.c - error codes and the text of a thread's last failure. The text lives in thread-local
 * storage: no lock, no allocation, cut off at its size.
 *
 * A text may quote what lay on disk or came from a caller, and ends up in logs and on terminals: it
 * is one line of UTF-8 without control characters, whatever it quotes.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cistern.h"

static __thread char last_text[512];

/* Bytes of the character at s; 0: no character, or one that controls a terminal. */
static size_t char_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4, i;

    if (s[0] < 0x20 || s[0] == 0x7f || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4)
        return 0;
    for (i = 1; i < n; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    }
    /* C1 controls; overlong forms; surrogates; beyond Unicode */
    if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
        (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void text_clean(char *text)
{
    unsigned char *s = (unsigned char *)text;
    size_t n;

    for (; *s; s += n) {
        n = char_length(s);
        if (n == 0) {
            *s = '?';
            n = 1;
        }
    }
}

int err_set(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last_text, sizeof last_text, format, args);
    va_end(args);
    text_clean(last_text);
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
    text_clean(last_text);
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
