/*
 * text.c - sizes, keys and names as people write them.
 */
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define AGE_MAX (100ull * 365 * 86400)

#define TEXT_WORD_MAX 63

bool text_number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
    unsigned long long v;
    char *end;

    if (s[0] < '0' || s[0] > '9')
        return false;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return false;
    *out = v;
    return true;
}

bool text_size_parse(const char *s, uint64_t *out)
{
    static const char letters[] = "KMGT";
    unsigned long long v;
    const char *letter;
    unsigned shift;
    char *end;

    if (s[0] < '0' || s[0] > '9')
        return false;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno != 0)
        return false;
    if (*end == '\0') {
        *out = v;
        return true;
    }
    letter = strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end);
    if (letter == NULL || (end[1] != '\0' && strcasecmp(end + 1, "iB") && strcasecmp(end + 1, "B")))
        return false;
    shift = 10 * (unsigned)(letter - letters + 1);
    if (v > UINT64_MAX >> shift)
        return false;
    *out = (uint64_t)v << shift;
    return true;
}

bool text_age_parse(const char *s, uint64_t *out)
{
    static const char letters[] = "smhdw";
    static const uint64_t units[] = {1, 60, 3600, 86400, 7 * 86400};
    size_t len = strlen(s);
    const char *letter = len ? strchr(letters, s[len - 1]) : NULL;
    char digits[24];
    uint64_t v;

    if (letter != NULL)
        len--;
    if (len == 0 || len >= sizeof(digits))
        return false;
    memcpy(digits, s, len);
    digits[len] = '\0';
    if (!text_number_parse(digits, 1, AGE_MAX, &v))
        return false;
    *out = v * (letter != NULL ? units[letter - letters] : 1);
    return *out <= AGE_MAX;
}

const char *text_size(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    unsigned u = 0;

    while (v >= 1024.0 && u + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024.0;
        u++;
    }
    if (v == (double)(uint64_t)v)
        snprintf(buf, size, "%.0f %s", v, units[u]);
    else
        snprintf(buf, size, "%.1f %s", v, units[u]);
    return buf;
}

void text_hex(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

const char *text_time(uint64_t seconds, char *buf, size_t size)
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (seconds == 0 || gmtime_r(&t, &tm) == NULL ||
        strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(buf, size, "-");
    return buf;
}

unsigned text_distance(const char *a, const char *b)
{
    unsigned row[TEXT_WORD_MAX + 1], corner, up, best;
    size_t la = strlen(a), lb = strlen(b), i, j;

    if (la > TEXT_WORD_MAX || lb > TEXT_WORD_MAX)
        return TEXT_WORD_MAX;
    for (j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (i = 1; i <= la; i++) {
        corner = row[0];
        row[0] = (unsigned)i;
        for (j = 1; j <= lb; j++) {
            up = row[j];
            best = corner + (a[i - 1] != b[j - 1]);
            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            corner = up;
            row[j] = best;
        }
    }
    return row[lb];
}
