/*
 * fuzz_cli.c - what the command reads by itself: the space.json of a directory, sizes and numbers,
 * prompts and keys, its command line.
 *
 * Input: one byte of what, then the bytes. Promises: what is taken from a file lies within the
 * file's memory and within the limits of a description; sizes and numbers are what a second reading
 * says; words that are left of a command line are among those given.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cistern.h"
#include "fuzz.h"

#include "../../cli/args.h"
#include "../../cli/cli.h"
#include "../../cli/prompt.h"
#include "../../cli/space_file.h"
#include "../../cli/text.h"

#define WORDS 16

static char base[64], path[128];

/* Words to a person are not what is tested. */
int cli_fail(enum cli_exit code, const char *fmt, ...)
{
    return fmt ? code : CLI_OK;
}

static void tidy(void)
{
    unlink(path);
    rmdir(base);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(base, sizeof base, "/dev/shm/fuzz-cli-XXXXXX");
    if (!mkdtemp(base))
        abort();
    snprintf(path, sizeof path, "%s/space.json", base);
    atexit(tidy);
    return 0;
}

static void file_put(const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || (n && write(fd, bytes, n) != (ssize_t)n))
        abort();
    close(fd);
}

static void space_check_file(const struct fuzz_in *in)
{
    struct space_file s;
    uint32_t i;
    int rc;

    file_put(in->at, in->left);
    rc = space_file_read("/dev/shm", strrchr(base, '/') + 1, &s);
    FUZZ_CHECK(rc == CLI_OK || rc == CLI_ENVIRONMENT);
    if (rc) {
        FUZZ_CHECK(s.json == NULL);
        return;
    }
    FUZZ_CHECK(s.space.nparts >= 1 && s.space.nparts <= CISTERN_MAX_PARTS);
    FUZZ_CHECK(s.space.parts == s.parts && s.space.size == sizeof s.space && *s.space.model);
    for (i = 0; i < s.space.nparts; i++)
        FUZZ_CHECK(strlen(s.parts[i].name) <= in->left);
    FUZZ_CHECK(strlen(s.space.name) + strlen(s.space.dtype) <= 2 * in->left);
    space_file_release(&s);
    FUZZ_CHECK(s.json == NULL);
}

/* Numbers in brackets are the tokens; anything that is no JSON list is one token for each byte. */
static void tokens_check(const struct fuzz_in *in)
{
    uint32_t *tokens = NULL, *again = NULL;
    size_t n = 0, n2 = 0, i, len = 1;
    json_t *list;
    char *text;

    file_put(in->at, in->left);
    list = json_loadb((const char *)in->at, in->left, 0, NULL);
    if (prompt_tokens(path, &tokens, &n) != CLI_OK) {
        FUZZ_CHECK(json_is_array(list));
        json_decref(list);
        return;
    }
    FUZZ_CHECK(n == (json_is_array(list) ? json_array_size(list) : in->left));
    for (i = 0; i < n; i++)
        FUZZ_CHECK(tokens[i] == (json_is_array(list) ? json_integer_value(json_array_get(list, i))
                                                     : (json_int_t)in->at[i]));
    json_decref(list);
    text = malloc(12 * n + 3);
    strcpy(text, "[");
    for (i = 0; i < n; i++)
        len += (size_t)sprintf(text + len, "%s%u", i ? "," : "", tokens[i]);
    strcpy(text + len, "]");
    file_put(text, len + 1);
    FUZZ_CHECK(prompt_tokens(path, &again, &n2) == CLI_OK && n2 == n);
    FUZZ_CHECK(memcmp(tokens, again, n * sizeof *tokens) == 0);
    free(text);
    free(tokens);
    free(again);
}

static void keys_check(const struct fuzz_in *in)
{
    cistern_key *keys = NULL, *again = NULL;
    size_t n = 0, n2 = 0, i, digits = 0;
    char *text;

    file_put(in->at, in->left);
    if (prompt_keys(NULL, path, &keys, &n) != CLI_OK)
        return;
    for (i = 0; i < in->left && in->at[i]; i++)
        digits += !strchr(" \t\r\n", in->at[i]);
    FUZZ_CHECK(digits == 64 * n);
    text = calloc(65, n + 1);
    for (i = 0; i < n; i++) {
        text_hex(keys[i].b, 32, text + 65 * i);
        text[65 * i + 64] = ',';
    }
    FUZZ_CHECK(prompt_keys(text, NULL, &again, &n2) == CLI_OK && n2 == n);
    FUZZ_CHECK(memcmp(keys, again, n * sizeof *keys) == 0);
    free(text);
    free(keys);
    free(again);
}

static bool decimal_read(const char **s, unsigned __int128 *v)
{
    if (!isdigit((unsigned char)**s))
        return false;
    for (*v = 0; isdigit((unsigned char)**s); ++*s) {
        *v = 10 * *v + (unsigned)(**s - '0');
        if (*v > UINT64_MAX)
            return false;
    }
    return true;
}

static void text_check(const char *text)
{
    static const char units[] = "KMGT";
    uint64_t number = 5, got = 5, bytes = 5;
    const char *s = text, *unit;
    unsigned __int128 v;
    bool ok = decimal_read(&s, &v), plain = ok && !*s;
    char shown[32];

    FUZZ_CHECK(text_number_parse(text, 10, 1000, &number) == (plain && v >= 10 && v <= 1000));
    FUZZ_CHECK(number == (plain && v >= 10 && v <= 1000 ? (uint64_t)v : 5));
    if (ok && *s && (unit = strchr(units, toupper((unsigned char)*s)))) {
        v <<= 10 * (unit - units + 1);
        s++;
        ok = v <= UINT64_MAX;
        s += (*s | 32) == 'i' && (s[1] | 32) == 'b' ? 2 : (*s | 32) == 'b' ? 1 : 0;
    }
    ok = ok && !*s;
    FUZZ_CHECK(text_size_parse(text, &bytes) == ok && bytes == (ok ? (uint64_t)v : 5));
    (void)text_size(bytes, shown, sizeof shown);
    FUZZ_CHECK(text_number_parse(text, 0, UINT64_MAX, &got) == plain);
    FUZZ_CHECK(text_distance(text, text) == 0 || strlen(text) > 63);
    FUZZ_CHECK(text_distance(text, "") == (strlen(text) > 63 ? 63 : strlen(text)));
}

static void line_check(struct fuzz_in *in)
{
    bool flag = false;
    const char *string = NULL;
    uint64_t size = 0, number = 3;
    double decimal = 1;
    struct arg args[] = {{.name = "flag", .kind = ARG_FLAG, .value = &flag, .help = ""},
                         {.name = "string", .kind = ARG_STRING, .value = &string, .metavar = "S"},
                         {.name = "size", .kind = ARG_SIZE, .value = &size, .metavar = "N"},
                         {.name = "number",
                          .kind = ARG_NUMBER,
                          .value = &number,
                          .min = 2,
                          .max = 9,
                          .metavar = "N"},
                         {.name = "decimal", .kind = ARG_DECIMAL, .value = &decimal}};
    struct arg_page page = {
        .usage = "cistern x [options] <word>", .about = "", .args = args, .nargs = 5};
    char *argv[WORDS + 1] = {(char *)"x"}, *own[WORDS + 1];
    int argc = 1, words = 0, i, k, rc;

    while (argc < WORDS && in->left) {
        const uint8_t *end = memchr(in->at, '\n', in->left);

        argv[argc++] = fuzz_string(fuzz_part(in, end ? (size_t)(end - in->at) : in->left));
        (void)fuzz_u8(in);
    }
    memcpy(own, argv, sizeof own);
    for (i = 1; i < argc; i++) /* the page of help is for people */
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            argv[i][1] = 'x';
    rc = args_parse(&page, argc, argv, 4, &words);
    FUZZ_CHECK(rc == ARG_GO || rc == CLI_USAGE);
    FUZZ_CHECK(number >= 2 && number <= 9 && decimal > 0);
    for (i = 0; rc == ARG_GO && i < words; i++) {
        for (k = 1; k < argc && own[k] != argv[i]; k++)
            ;
        FUZZ_CHECK(k < argc);
    }
    for (i = 1; i < argc; i++)
        free(own[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint8_t what = fuzz_u8(&in);
    char *text;

    switch (what % 5) {
    case 0:
        space_check_file(&in);
        break;
    case 1:
        text = fuzz_string(in);
        text_check(text);
        free(text);
        break;
    case 2:
        tokens_check(&in);
        break;
    case 3:
        keys_check(&in);
        break;
    default:
        line_check(&in);
        break;
    }
    return 0;
}
