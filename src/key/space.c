/*
 * space.c - what makes blocks interchangeable, as canonical JSON. Pure functions; any thread.
 *
 * The text is one JSON object: members sorted by name, no blanks, UTF-8 as it is, one newline at
 * the end. Its SHA-256, newline included, is the fingerprint, so `sha256sum space.json` prints it.
 * Defaults are written out (name "space", shards 1) and a policy is its name, so that two
 * descriptions that mean the same are the same bytes. A member that a later version adds must be
 * left out where it has its default; the fingerprints of old spaces depend on it.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "key/grow.h"
#include "key/key.h"
#include "key/sha.h"

#define STRING_MAX    1024u
#define NAME_MAX_LEN  64u
#define PART_NAME_MAX 31u
#define PART_BYTES    (1ull << 30)
#define JSON_FLAGS    (JSON_SORT_KEYS | JSON_COMPACT)

static const char *const policy_names[] = {"all", "last", "trailing"};

static const char *text_of(const char *s)
{
    return s ? s : "";
}

static const char *name_of(const struct cistern_space *s)
{
    return s->name && *s->name ? s->name : "space";
}

/* ---- Checks ---- */

/* Length of a string that consists of characters of `set` only; -1 if it does not. */
static int span_of(const char *s, const char *set)
{
    size_t n = strspn(s, set);

    return s[n] || n > STRING_MAX ? -1 : (int)n;
}

static int check_text(const char *field, const char *s, bool required)
{
    size_t i, n = strnlen(text_of(s), STRING_MAX + 1);
    json_t *j;

    if (required && !n)
        return err_set(CISTERN_ECONFIG, "space: %s is required", field);
    if (n > STRING_MAX)
        return err_set(CISTERN_ECONFIG, "space: %s is longer than %u bytes", field, STRING_MAX);
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        /* C0, DEL, and C1 (U+0080 to U+009F, which is C2 80 to C2 9F) */
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0))
            return err_set(CISTERN_ECONFIG, "space: %s has a control character", field);
    }
    j = json_string(text_of(s));
    if (!j)
        return err_set(CISTERN_ECONFIG, "space: %s is not UTF-8", field);
    json_decref(j);
    return 0;
}

static int check_part(const struct cistern_space *s, uint32_t i)
{
    const struct cistern_part *p = &s->parts[i];
    const char *name = text_of(p->name);
    int n = span_of(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    uint32_t k;

    if (n < 1 || n > (int)PART_NAME_MAX)
        return err_set(CISTERN_ECONFIG, "space: parts[%u].name must be 1 to %u of [a-z0-9_]", i,
                       PART_NAME_MAX);
    for (k = 0; k < i; k++) {
        if (!strcmp(s->parts[k].name, name))
            return err_set(CISTERN_ECONFIG, "space: parts[%u].name \"%s\" is there twice", i, name);
    }
    if (!p->bytes || p->bytes > PART_BYTES)
        return err_set(CISTERN_ECONFIG, "space: parts[%u].bytes is %llu, not 1 to 1 GiB", i,
                       (unsigned long long)p->bytes);
    if (p->policy > CISTERN_PART_TRAILING)
        return err_set(CISTERN_ECONFIG, "space: parts[%u].policy is %u, not 0 to 2", i, p->policy);
    if ((p->policy == CISTERN_PART_TRAILING) != (p->window != 0))
        return err_set(CISTERN_ECONFIG,
                       "space: parts[%u].window is %u; it is for the policy \"trailing\", at least "
                       "1, and 0 for others",
                       i, p->window);
    return 0;
}

static int check_numbers(const struct cistern_space *s)
{
    int n = span_of(name_of(s), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._-");

    if (n < 1 || n > (int)NAME_MAX_LEN)
        return err_set(CISTERN_ECONFIG, "space: name must be at most %u of [A-Za-z0-9._-]",
                       NAME_MAX_LEN);
    if (s->epoch > INT64_MAX)
        return err_set(CISTERN_ECONFIG, "space: epoch is beyond 2^63 - 1");
    if (!s->block_tokens)
        return err_set(CISTERN_ECONFIG, "space: block_tokens is required");
    if (s->shards > CISTERN_MAX_SHARDS)
        return err_set(CISTERN_ECONFIG, "space: shards is %u, not 1 to %u", s->shards,
                       CISTERN_MAX_SHARDS);
    if (!s->nparts || s->nparts > CISTERN_MAX_PARTS)
        return err_set(CISTERN_ECONFIG, "space: nparts is %u, not 1 to %u", s->nparts,
                       CISTERN_MAX_PARTS);
    if (!s->parts)
        return err_set(CISTERN_ECONFIG, "space: parts is NULL");
    return 0;
}

/* A checked copy, grown to this version's size and with its defaults filled in. */
static int space_take(const struct cistern_space *given, struct cistern_space *s)
{
    uint32_t i;
    int r;

    if (grow_take(s, sizeof *s, given))
        return err_set(-EINVAL, "space: NULL, size is not set, or unknown fields are");
    r = check_text("model", s->model, true);
    r = r ? r : check_text("revision", s->revision, false);
    r = r ? r : check_text("dtype", s->dtype, true);
    r = r ? r : check_text("layout", s->layout, false);
    r = r ? r : check_text("extra", s->extra, false);
    r = r ? r : check_numbers(s);
    for (i = 0; !r && i < s->nparts; i++)
        r = check_part(s, i);
    s->name = name_of(s);
    s->shards = s->shards ? s->shards : 1;
    return r;
}

int space_check(const struct cistern_space *s)
{
    struct cistern_space own;

    return space_take(s, &own);
}

/* ---- JSON ---- */

/* Of a checked copy. NULL: no memory. */
static json_t *space_object(const struct cistern_space *s)
{
    json_t *parts = json_array();
    uint32_t i;

    for (i = 0; parts && i < s->nparts; i++) {
        const struct cistern_part *p = &s->parts[i];
        json_t *part =
            json_pack("{s:s, s:I, s:s, s:I}", "name", p->name, "bytes", (json_int_t)p->bytes,
                      "policy", policy_names[p->policy], "window", (json_int_t)p->window);

        if (!part || json_array_append_new(parts, part)) {
            json_decref(parts);
            parts = NULL;
        }
    }
    if (!parts)
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "name",
                     s->name, "model", s->model, "revision", text_of(s->revision), "epoch",
                     (json_int_t)s->epoch, "dtype", s->dtype, "layout", text_of(s->layout), "extra",
                     text_of(s->extra), "block_tokens", (json_int_t)s->block_tokens, "layers",
                     (json_int_t)s->layers, "kv_heads", (json_int_t)s->kv_heads, "head_dim",
                     (json_int_t)s->head_dim, "shards", (json_int_t)s->shards, "parts", parts);
}

static int dump_canonical(const json_t *j, char *buf, size_t size)
{
    size_t n = json_dumpb(j, buf, size, JSON_FLAGS);

    if (!n)
        return err_set(-ENOMEM, "space: no memory for JSON");
    if (n + 2 > size)
        return err_set(-ENOSPC, "space: the description takes %zu bytes, room is %zu", n + 2, size);
    buf[n] = '\n';
    buf[n + 1] = 0;
    return (int)n + 1;
}

int space_json(const struct cistern_space *s, char *buf, size_t size)
{
    struct cistern_space own;
    json_t *j;
    int r = space_take(s, &own);

    if (r)
        return r;
    j = space_object(&own);
    if (!j)
        return err_set(-ENOMEM, "space: no memory for JSON");
    r = dump_canonical(j, buf, size);
    json_decref(j);
    return r;
}

static int fingerprint_of(const char *text, int len, uint8_t out[32])
{
    return sha256((const struct sha_piece[]){{text, (size_t)len}}, 1, out);
}

int space_fingerprint(const struct cistern_space *s, uint8_t out[32])
{
    char text[SPACE_JSON_MAX];
    int n = space_json(s, text, sizeof text);

    return n < 0 ? n : fingerprint_of(text, n, out);
}

void space_dir_name(const struct cistern_space *s, const uint8_t fingerprint[32],
                    char out[SPACE_DIR_MAX])
{
    int i, n = snprintf(out, SPACE_DIR_MAX, "%.*s-", (int)NAME_MAX_LEN, name_of(s));

    for (i = 0; i < 16; i++)
        n += snprintf(out + n, SPACE_DIR_MAX - (size_t)n, "%02x", fingerprint[i]);
}

/* ---- Comparing ---- */

struct cut_text {
    char *buf;
    size_t used, size;
};

static int cut_add(const char *bytes, size_t n, void *arg)
{
    struct cut_text *t = arg;
    size_t room = t->size - 1 - t->used;

    n = n < room ? n : room;
    memcpy(t->buf + t->used, bytes, n);
    t->used += n;
    t->buf[t->used] = 0;
    return 0;
}

/* "absent" or the JSON of a value, cut to size. */
static void value_text(const json_t *j, char *buf, size_t size)
{
    struct cut_text t = {.buf = buf, .size = size};

    (void)snprintf(buf, size, "absent");
    if (j)
        (void)json_dump_callback(j, cut_add, &t, JSON_FLAGS | JSON_ENCODE_ANY);
}

/* Names the first difference of two objects, in the order of the names of both. 0: none. */
static int compare_objects(const char *where, json_t *there, json_t *here);

static int compare_values(const char *where, json_t *there, json_t *here)
{
    char a[128], b[128];
    size_t i;

    if (there && here && json_equal(there, here))
        return 0;
    if (json_is_object(there) && json_is_object(here))
        return compare_objects(where, there, here);
    if (json_is_array(there) && json_is_array(here) &&
        json_array_size(there) == json_array_size(here)) {
        for (i = 0; i < json_array_size(here); i++) {
            char sub[160];
            int r;

            (void)snprintf(sub, sizeof sub, "%s[%zu]", where, i);
            r = compare_values(sub, json_array_get(there, i), json_array_get(here, i));
            if (r)
                return r;
        }
    }
    value_text(there, a, sizeof a);
    value_text(here, b, sizeof b);
    return err_set(CISTERN_ESPACE, "space: %s is %s in the directory, and %s was asked for", where,
                   a, b);
}

/* The smallest member name of either object that is greater than `after` (NULL to begin). */
static const char *next_name(json_t *a, json_t *b, const char *after)
{
    const char *best = NULL, *name;
    json_t *each[2] = {a, b}, *value;
    int i;

    for (i = 0; i < 2; i++) {
        json_object_foreach(each[i], name, value)
        {
            (void)value;
            if ((!after || strcmp(name, after) > 0) && (!best || strcmp(name, best) < 0))
                best = name;
        }
    }
    return best;
}

static int compare_objects(const char *where, json_t *there, json_t *here)
{
    const char *name = NULL;
    int r = 0;

    while (!r && (name = next_name(there, here, name))) {
        char sub[192];

        (void)snprintf(sub, sizeof sub, "%s%s%.80s", where, *where ? "." : "", name);
        r = compare_values(sub, json_object_get(there, name), json_object_get(here, name));
    }
    return r;
}

static int parse_object(const char *json, size_t len, json_t **out)
{
    json_error_t e;
    json_t *j = json ? json_loadb(json, len, JSON_REJECT_DUPLICATES, &e) : NULL;

    if (!json)
        return err_set(-EINVAL, "space.json: NULL");
    if (!j)
        return err_set(-EBADMSG, "space.json: line %d, byte %d: %s", e.line, e.position, e.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return err_set(-EBADMSG, "space.json: not an object");
    }
    *out = j;
    return 0;
}

int space_compare(const char *json, size_t len, const struct cistern_space *s)
{
    struct cistern_space own;
    json_t *there, *here;
    int r = space_take(s, &own);

    r = r ? r : parse_object(json, len, &there);
    if (r)
        return r;
    here = space_object(&own);
    r = here ? compare_objects("", there, here) : err_set(-ENOMEM, "space: no memory for JSON");
    json_decref(here);
    json_decref(there);
    return r;
}

int space_inspect(const char *json, size_t len, uint32_t *shards, uint8_t fingerprint[32])
{
    char text[SPACE_JSON_MAX];
    json_int_t n;
    json_t *j;
    int r = parse_object(json, len, &j);

    if (r)
        return r;
    n = json_integer_value(json_object_get(j, "shards"));
    if (n < 1 || n > CISTERN_MAX_SHARDS)
        r = err_set(-EBADMSG, "space.json: shards is not 1 to %u", CISTERN_MAX_SHARDS);
    r = r ? r : dump_canonical(j, text, sizeof text);
    json_decref(j);
    r = r < 0 ? r : fingerprint_of(text, r, fingerprint);
    if (!r)
        *shards = (uint32_t)n;
    return r;
}
