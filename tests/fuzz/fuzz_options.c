/*
 * fuzz_options.c - options by name: one by one, from a command line, from the environment; and the
 * configuration that is made of them. Beside them the drop-in's list of strict switches.
 *
 * Promises: a known name with a good value sets its field to what the value says, by a second
 * reading of numbers; anything else sets nothing and says why; words of a command line that are no
 * options stay, in their order; an accepted configuration keeps the bounds that the engine counts
 * on.
 */
#include <ctype.h>
#include <errno.h>
#include <strings.h>
#include <unistd.h>

#include "cistern.h"
#include "engine/config.h"
#include "fuzz.h"
#include "usrbio/state.h"

#define WORDS 24

static const struct cistern_part parts[] = {{.name = "kv", .bytes = 65536}};
static const struct cistern_space space = {.size = sizeof space,
                                           .model = "m",
                                           .dtype = "bf16",
                                           .block_tokens = 64,
                                           .shards = 4,
                                           .nparts = 1,
                                           .parts = parts};

static bool result_ok(int rc)
{
    return rc == 0 || rc == -EINVAL || rc == -ENOENT || rc == CISTERN_ECONFIG;
}

/* What "4G" and the like say; false: not a number. Digit by digit, no strtoull. */
static bool number_read(const char *s, uint64_t *out)
{
    static const char units[] = "kmgt";
    unsigned __int128 v = 0;
    const char *unit = NULL;

    if (!isdigit((unsigned char)*s))
        return false;
    for (; isdigit((unsigned char)*s); s++) {
        v = 10 * v + (unsigned)(*s - '0');
        if (v > UINT64_MAX)
            return false;
    }
    if (*s && (unit = strchr(units, tolower((unsigned char)*s)))) {
        v <<= 10 * (unit - units + 1);
        s++;
        s += *s == 'i';
        s += *s == 'b' || *s == 'B';
    }
    *out = (uint64_t)v;
    return !*s && v <= UINT64_MAX;
}

/* Three options of three kinds, read a second time. */
static void value_check(const char *value)
{
    struct cistern_options o = {.size = sizeof o};
    uint64_t want = 0;
    bool number = number_read(value, &want);
    int rc = cistern_options_set(&o, "capacity_bytes", value);

    FUZZ_CHECK(rc == (number ? 0 : CISTERN_ECONFIG) && o.capacity_bytes == (number ? want : 0));
    number = number && want <= UINT32_MAX;
    rc = cistern_options_set(&o, "--threefs-read-timeout-ms", value);
    FUZZ_CHECK(rc == (number ? 0 : CISTERN_ECONFIG) && o.read_timeout_ms == (number ? want : 0));
    rc = cistern_options_set(&o, "REUSE_CACHE", value);
    FUZZ_CHECK(rc ? o.reuse_cache == 0 : o.reuse_cache == 1 || o.reuse_cache == -1);
    FUZZ_CHECK(!!rc ==
               (strcasecmp(value, "1") && strcasecmp(value, "true") && strcasecmp(value, "on") &&
                strcasecmp(value, "yes") && strcasecmp(value, "0") && strcasecmp(value, "false") &&
                strcasecmp(value, "off") && strcasecmp(value, "no")));
}

static void config_check(const struct cistern_options *o, int need_space)
{
    struct config *c = malloc(sizeof *c);
    int rc = config_make(o, need_space, c);

    FUZZ_CHECK(rc == 0 || rc == -EINVAL || rc == CISTERN_ECONFIG || rc == CISTERN_EDISABLED ||
               rc == CISTERN_ECLUSTER);
    if (rc) {
        FUZZ_CHECK(*err_text());
        free(c);
        return;
    }
    FUZZ_CHECK(c->mount[0] == '/' && memchr(c->mount, 0, sizeof c->mount));
    FUZZ_CHECK(c->mount[1] == 0 || c->mount[strlen(c->mount) - 1] != '/');
    FUZZ_CHECK(c->root[0] != '/' && !strstr(c->root, "..") && !strchr(c->space_dir, '/'));
    FUZZ_CHECK(c->lanes >= 1 && c->depth >= 1 && c->max_ops >= 1 && c->io_blocks >= 1);
    FUZZ_CHECK(c->io_bytes >= 4096 && c->io_bytes % 4096 == 0);
    FUZZ_CHECK(c->segment_bytes >= c->io_bytes && c->segment_bytes % c->io_bytes == 0);
    FUZZ_CHECK(c->segment_bytes < (1ull << 40) + c->io_bytes &&
               c->segment_bytes >= o->segment_bytes);
    FUZZ_CHECK(c->read_timeout_ms && c->write_timeout_ms && c->open_timeout_ms && c->sync_ms);
    if (need_space) {
        FUZZ_CHECK(c->shard < c->shards && c->nparts == 1);
        FUZZ_CHECK(c->block_extent <= c->segment_bytes && c->slot_bytes >= c->io_bytes);
        FUZZ_CHECK(c->slot_bytes >= c->block_extent && c->slot_bytes % 4096 == 0);
    }
    free(c);
}

/* The input as words, cut at line ends. */
static int words_take(struct fuzz_in *in, char *words[WORDS])
{
    int n = 0;

    while (n < WORDS && in->left) {
        const uint8_t *end = memchr(in->at, '\n', in->left);

        words[n++] = fuzz_string(fuzz_part(in, end ? (size_t)(end - in->at) : in->left));
        (void)fuzz_u8(in);
    }
    return n;
}

static void one_by_one(struct cistern_options *o, char *words[], int n)
{
    int i;

    for (i = 0; i < n; i++) {
        struct cistern_options before = *o;
        char *value = strchr(words[i], '=');
        int rc;

        value_check(words[i]);
        if (value)
            *value++ = 0;
        rc = cistern_options_set(o, words[i], value);
        FUZZ_CHECK(result_ok(rc) && (value || rc == -EINVAL));
        if (rc)
            FUZZ_CHECK(memcmp(&before, o, sizeof before) == 0 && *err_text());
    }
}

/* Is it "--name" or "--name=..." of an option? */
static bool option_there(const char *word)
{
    struct cistern_options scratch = {.size = sizeof scratch};
    char *name = strdup(word);
    bool there;

    name[strcspn(name, "=")] = 0;
    there = strncmp(word, "--", 2) == 0 &&
            cistern_options_set(&scratch, name, "no value at all") != -ENOENT;
    free(name);
    return there;
}

/* The words that are no options, nor values of options. */
static int words_left(char *words[], int n, char *left[])
{
    int i, count = 0;

    for (i = 0; i < n && strcmp(words[i], "--") != 0; i++) {
        if (!option_there(words[i]))
            left[count++] = words[i];
        else if (!strchr(words[i], '='))
            i++;
    }
    for (; i < n; i++)
        left[count++] = words[i];
    return count;
}

static void from_line(struct cistern_options *o, char *words[], int n)
{
    char *argv[WORDS + 2] = {(char *)"program"}, *left[WORDS];
    int argc = n + 1, i, rc, want = words_left(words, n, left);

    memcpy(argv + 1, words, (size_t)n * sizeof *words);
    rc = cistern_options_from_args(o, &argc, argv);
    FUZZ_CHECK(rc == 0 || rc == CISTERN_ECONFIG);
    if (rc) {
        FUZZ_CHECK(*err_text());
        return;
    }
    FUZZ_CHECK(argc == want + 1 && argv[argc] == NULL);
    for (i = 0; i < want; i++)
        FUZZ_CHECK(argv[1 + i] == left[i]);
}

static void from_environment(struct cistern_options *o, char *words[], int n)
{
    char *mine[WORDS + 1] = {0}, **before = environ;
    int rc;

    memcpy(mine, words, (size_t)n * sizeof *words);
    environ = mine;
    rc = cistern_options_from_env(o);
    environ = before;
    FUZZ_CHECK(rc == 0 || rc == CISTERN_ECONFIG);
    if (rc)
        FUZZ_CHECK(strncmp(err_text(), "environment: ", 13) == 0);
}

/* Is the word, or one for all of them, in a list? */
static bool word_there(const char *text, const char *word)
{
    char *list = strdup(text), *save, *w;
    bool there = false;

    for (w = strtok_r(list, ",: ", &save); w && !there; w = strtok_r(NULL, ",: ", &save))
        there = !strcmp(w, word) || !strcmp(w, "all") || !strcmp(w, "1");
    free(list);
    return there;
}

static void strict_check(const char *text)
{
    struct strict strict, again;
    char said[128];

    strict_parse(&strict, text);
    FUZZ_CHECK(strict_describe(&strict, said, sizeof said) < (int)sizeof said);
    strict_parse(&again, said);
    FUZZ_CHECK(memcmp(&strict, &again, sizeof strict) == 0);
    FUZZ_CHECK(strict.holes == word_there(text, "holes"));
    FUZZ_CHECK(strict.crossing == word_there(text, "crossing"));
    FUZZ_CHECK(strict.exact == word_there(text, "exact"));
    FUZZ_CHECK(strict.overlap == word_there(text, "overlap"));
    FUZZ_CHECK(strict.stale == word_there(text, "stale"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct cistern_options o = {.size = sizeof o, .space = &space};
    uint8_t how = fuzz_u8(&in);
    char *words[WORDS];
    int i, n;

    n = words_take(&in, words);
    switch (how % 4) {
    case 0:
        one_by_one(&o, words, n);
        break;
    case 1:
        from_line(&o, words, n);
        break;
    case 2:
        from_environment(&o, words, n);
        break;
    default:
        for (i = 0; i < n; i++)
            strict_check(words[i]);
        break;
    }
    if (how & 4)
        o.reuse_cache = o.enable_3fs = 1;
    config_check(&o, how & 8);
    for (i = 0; i < n; i++)
        free(words[i]);
    return 0;
}
