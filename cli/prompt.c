/*
 * prompt.c - reads prompts and lists of keys.
 */
#include "prompt.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define FILE_MAX (256u << 20)

/* A whole file with a NUL behind it; malloc'd. */
static int file_read(const char *file, char **out, size_t *len)
{
    FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "rbe");
    size_t n = 0, room = 0, got;
    char *text = NULL, *more;
    bool failed = f == NULL;

    while (!failed) {
        if (n + 1 >= room) {
            room = room ? 2 * room : 65536;
            more = room <= FILE_MAX ? realloc(text, room) : NULL;
            if (more == NULL) {
                errno = EFBIG;
                failed = true;
                break;
            }
            text = more;
        }
        got = fread(text + n, 1, room - n - 1, f);
        n += got;
        if (got == 0) {
            failed = ferror(f);
            break;
        }
    }
    if (f != NULL && f != stdin)
        fclose(f);
    if (failed) {
        free(text);
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", file, strerror(errno));
    }
    text[n] = '\0';
    *out = text;
    *len = n;
    return CLI_OK;
}

/* NULL when memory is out, or a member is no token. */
static uint32_t *tokens_of_json(const json_t *list, size_t *n)
{
    uint32_t *out = calloc(json_array_size(list) + 1, sizeof(*out));
    size_t i;

    for (i = 0; out != NULL && i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);

        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) > UINT32_MAX) {
            free(out);
            return NULL;
        }
        out[i] = (uint32_t)json_integer_value(v);
    }
    *n = json_array_size(list);
    return out;
}

int prompt_tokens(const char *file, uint32_t **out, size_t *n)
{
    json_t *list;
    char *text;
    size_t len, i;
    int r = file_read(file, &text, &len);

    if (r != CLI_OK)
        return r;
    list = json_loadb(text, len, 0, NULL);
    if (json_is_array(list)) {
        *out = tokens_of_json(list, n);
        if (*out == NULL)
            r = cli_fail(CLI_USAGE, "%s: a list of token ids, whole numbers below 2^32, is needed",
                         file);
    } else {
        *out = calloc(len + 1, sizeof(**out));
        for (i = 0; *out != NULL && i < len; i++)
            (*out)[i] = (unsigned char)text[i];
        *n = len;
        if (*out == NULL)
            r = cli_fail(CLI_ENVIRONMENT, "out of memory");
    }
    json_decref(list);
    free(text);
    return r;
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool key_parse(const char *word, size_t len, cistern_key *out)
{
    size_t i;

    if (len != 64)
        return false;
    for (i = 0; i < 32; i++) {
        if (digit(word[2 * i]) < 0 || digit(word[2 * i + 1]) < 0)
            return false;
        out->b[i] = (uint8_t)(16 * digit(word[2 * i]) + digit(word[2 * i + 1]));
    }
    return true;
}

static int keys_parse(const char *text, const char *between, cistern_key **out, size_t *n)
{
    const char *p = text + strspn(text, between);
    size_t len;

    *out = calloc(strlen(text) / 64 + 1, sizeof(**out));
    *n = 0;
    if (*out == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    while (*p != '\0') {
        len = strcspn(p, between);
        if (!key_parse(p, len, &(*out)[*n])) {
            free(*out);
            *out = NULL;
            return cli_fail(CLI_USAGE, "'%.*s' is no key: 64 hexadecimal digits are needed",
                            (int)(len > 80 ? 80 : len), p);
        }
        ++*n;
        p += len;
        p += strspn(p, between);
    }
    return CLI_OK;
}

int prompt_keys(const char *list, const char *file, cistern_key **out, size_t *n)
{
    char *text;
    size_t len;
    int r;

    if (list != NULL)
        return keys_parse(list, ",", out, n);
    r = file_read(file, &text, &len);
    if (r != CLI_OK)
        return r;
    r = keys_parse(text, " \t\r\n", out, n);
    free(text);
    return r;
}
