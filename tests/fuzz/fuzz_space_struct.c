/*
 * fuzz_space_struct.c - a description as a caller gives it, with hostile strings, numbers and
 * `size`, and what is made of it.
 *
 * Promises: a refused description says why; an accepted one gives canonical JSON that compares as
 * equal to it, has its fingerprint and its shards; another value of any one field gives another
 * fingerprint and is told apart; the directory's name is a plain one.
 */
#include <errno.h>
#include <jansson.h>

#include "cistern.h"
#include "fuzz.h"
#include "key/key.h"

#define STRINGS 6

struct given {
    char *strings[STRINGS], *part_names[CISTERN_MAX_PARTS];
    struct cistern_part *parts;
    struct cistern_space *space; /* as long as its size says */
};

static char *string_take(struct fuzz_in *in)
{
    uint8_t n = fuzz_u8(in);
    char *s;

    if (n == 255)
        return NULL;
    if (n < 250)
        return fuzz_string(fuzz_part(in, n));
    s = malloc(1030); /* about the longest that there may be */
    memset(s, "a\"\\/\t"[n - 250], 1030);
    s[1022 + fuzz_u8(in) % 7] = 0;
    return s;
}

static void parts_take(struct fuzz_in *in, struct given *g, uint32_t nparts)
{
    uint32_t i, n = nparts < CISTERN_MAX_PARTS ? nparts : CISTERN_MAX_PARTS;

    g->parts = malloc((n + 1) * sizeof *g->parts);
    for (i = 0; i < n; i++) {
        uint8_t how = fuzz_u8(in);
        char name[] = {(char)('a' + i), 0};

        g->part_names[i] = how & 1 ? string_take(in) : fuzz_copy(name, sizeof name);
        g->parts[i] = (struct cistern_part){.name = g->part_names[i], .bytes = 1 + how};
        if (how & 2)
            g->parts[i].bytes = fuzz_u64(in);
        if (how & 4) {
            g->parts[i].policy = fuzz_u8(in) % 8;
            g->parts[i].window = fuzz_u16(in);
        }
    }
}

static void space_take_in(struct fuzz_in *in, struct given *g)
{
    uint8_t how = fuzz_u8(in);
    struct cistern_space s = {.size = sizeof s, .block_tokens = 64, .nparts = 1, .shards = 1};
    size_t given_size = sizeof s, held;
    int i;

    for (i = 0; i < STRINGS; i++)
        g->strings[i] = string_take(in);
    s.name = g->strings[0], s.model = g->strings[1], s.revision = g->strings[2];
    s.dtype = g->strings[3], s.layout = g->strings[4], s.extra = g->strings[5];
    if (how & 1)
        s.nparts = fuzz_u8(in);
    if (how & 2) {
        s.epoch = fuzz_u64(in);
        s.block_tokens = fuzz_u32(in), s.layers = fuzz_u32(in), s.kv_heads = fuzz_u32(in);
        s.head_dim = fuzz_u32(in), s.shards = fuzz_u16(in);
    }
    parts_take(in, g, s.nparts);
    s.parts = how & 4 ? NULL : g->parts;
    if (how & 8)
        s.size = given_size = fuzz_u16(in) % 512;
    if ((how & 24) == 24)
        s.size = (size_t)-1 - fuzz_u8(in); /* said, not held */
    held = given_size > sizeof s ? given_size : sizeof s;
    g->space = calloc(1, held);
    memcpy(g->space, &s, sizeof s);
    if (given_size > sizeof s && (how & 32))
        ((uint8_t *)g->space)[given_size - 1] = 1;
    if (given_size < sizeof s) { /* a caller of an earlier version: no more than that is there */
        void *cut = fuzz_copy(g->space, given_size > sizeof(size_t) ? given_size : sizeof(size_t));

        free(g->space);
        g->space = cut;
    }
}

static void given_free(struct given *g)
{
    int i;

    for (i = 0; i < STRINGS; i++)
        free(g->strings[i]);
    for (i = 0; i < CISTERN_MAX_PARTS; i++)
        free(g->part_names[i]);
    free(g->parts);
    free(g->space);
}

static void canonical_check(const char *text, int len)
{
    json_error_t error;
    json_t *j = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, &error);
    char *again = j ? json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    FUZZ_CHECK(json_is_object(j) && again);
    FUZZ_CHECK(text[len] == 0 && text[len - 1] == '\n' && strlen(again) + 1 == (size_t)len);
    FUZZ_CHECK(memcmp(again, text, strlen(again)) == 0);
    free(again);
    json_decref(j);
}

static void dir_check(const struct cistern_space *s, const uint8_t fp[32])
{
    char dir[SPACE_DIR_MAX];
    size_t n;

    space_dir_name(s, fp, dir);
    n = strlen(dir);
    FUZZ_CHECK(n >= 34 && n < SPACE_DIR_MAX && dir[n - 33] == '-');
    FUZZ_CHECK(strspn(dir + n - 32, "0123456789abcdef") == 32 && !strchr(dir, '/'));
}

/* One field of the whole struct is another one. */
static bool other_make(uint8_t which, struct cistern_space *s)
{
    switch (which % 9) {
    case 0:
        s->epoch ^= 1;
        return true;
    case 1:
        s->layers++;
        return true;
    case 2:
        s->kv_heads ^= 1u << 31;
        return true;
    case 3:
        s->head_dim ^= 2;
        return true;
    case 4:
        s->block_tokens += 7;
        return true;
    case 5:
        s->model = "another model";
        return true;
    case 6:
        s->extra = "something else";
        return true;
    case 7:
        s->shards = s->shards > 1 ? s->shards - 1 : 2;
        return true;
    default:
        return false;
    }
}

static void other_check(uint8_t which, const struct cistern_space *s, const char *text, int len,
                        const uint8_t fp[32])
{
    struct cistern_space other = *s;
    uint8_t fp2[32];

    if (!other_make(which, &other) || space_check(&other))
        return;
    FUZZ_CHECK(strcmp(s->model, "another model") &&
               (!s->extra || strcmp(s->extra, "something else")));
    FUZZ_CHECK(space_compare(text, (size_t)len, &other) == CISTERN_ESPACE);
    FUZZ_CHECK(space_fingerprint(&other, fp2) == 0 && memcmp(fp, fp2, 32) != 0);
}

static void accepted_check(const struct cistern_space *s, uint8_t which)
{
    char *text = malloc(SPACE_JSON_MAX);
    uint8_t fp[32], fp2[32];
    uint32_t shards;
    int len = space_json(s, text, SPACE_JSON_MAX);

    FUZZ_CHECK(len > 0 && len < SPACE_JSON_MAX);
    text = realloc(text, (size_t)len + 1);
    canonical_check(text, len);
    FUZZ_CHECK(space_fingerprint(s, fp) == 0);
    FUZZ_CHECK(space_compare(text, (size_t)len, s) == 0);
    FUZZ_CHECK(space_inspect(text, (size_t)len, &shards, fp2) == 0);
    FUZZ_CHECK(memcmp(fp, fp2, 32) == 0 && shards >= 1 && shards <= CISTERN_MAX_SHARDS);
    FUZZ_CHECK(s->size < sizeof *s || shards == (s->shards ? s->shards : 1));
    if (s->size == sizeof *s) {
        dir_check(s, fp);
        other_check(which, s, text, len, fp);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint8_t which = fuzz_u8(&in), fp[32];
    struct given g = {0};
    char text[8];
    int rc;

    space_take_in(&in, &g);
    rc = space_check(g.space);
    FUZZ_CHECK(rc == 0 || rc == -EINVAL || rc == CISTERN_ECONFIG);
    if (rc == 0) {
        FUZZ_CHECK(space_json(g.space, text, sizeof text) == -ENOSPC);
        accepted_check(g.space, which);
    } else {
        FUZZ_CHECK(*err_text());
        FUZZ_CHECK(space_json(g.space, text, sizeof text) == rc);
        FUZZ_CHECK(space_fingerprint(g.space, fp) == rc);
    }
    given_free(&g);
    return 0;
}
