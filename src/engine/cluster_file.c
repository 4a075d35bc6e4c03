/*
 * cluster_file.c - the clusters file: strict JSON to a list.
 *
 * Strict, because a misspelt member would be a host that crosses without a word: what is not known
 * is refused by its name. The list points into the parsed JSON and owns it.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/cluster.h"

#define NAME_MOST     63u
#define STORAGE_MOST  31u /* of a 3FS cluster id */
#define PATTERN_MOST  253u
#define NAME_CHARS    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define PATTERN_CHARS NAME_CHARS "*?[]!^"

/* Where in the file, for messages. */
struct place {
    const char *file;
    size_t index;
};

static int bad(const struct place *at, const char *member, const char *what)
{
    return err_set(CISTERN_ECLUSTER, "%.200s: clusters[%zu]%s%s: %s", at->file, at->index,
                   *member ? "." : "", member, what);
}

/* A string of 1 to `most` of these characters. */
static int take_word(const struct place *at, const json_t *entry, const char *member, size_t most,
                     const char *chars, const char **out)
{
    const char *word = json_string_value(json_object_get(entry, member));
    char what[96];
    size_t n = word ? strlen(word) : 0;

    if (n == 0 || n > most || strspn(word, chars) != n) {
        (void)snprintf(what, sizeof what,
                       "must be a string of 1 to %zu letters, digits, '.', '_' "
                       "or '-'",
                       most);
        return bad(at, member, what);
    }
    *out = word;
    return 0;
}

static int take_mount(const struct place *at, const json_t *entry, struct cluster *c)
{
    const char *mount = json_string_value(json_object_get(entry, "mount"));

    if (!mount || mount[0] != '/' || cluster_path(mount, "", c->mount, sizeof c->mount) ||
        !c->mount[1])
        return bad(at, "mount", "must be an absolute path of at most 255 bytes, not / itself");
    return 0;
}

static int take_hosts(const struct place *at, const json_t *entry, struct cluster *c)
{
    const json_t *hosts = json_object_get(entry, "hosts");
    char member[32];
    size_t i;

    c->hosts = hosts;
    if (!hosts)
        return 0;
    if (!json_is_array(hosts) || json_array_size(hosts) > CLUSTER_PATTERNS)
        return bad(at, "hosts", "must be an array of at most 256 patterns");
    for (i = 0; i < json_array_size(hosts); i++) {
        const char *p = json_string_value(json_array_get(hosts, i));
        size_t n = p ? strlen(p) : 0;

        (void)snprintf(member, sizeof member, "hosts[%zu]", i);
        if (n == 0 || n > PATTERN_MOST || strspn(p, PATTERN_CHARS) != n)
            return bad(at, member, "must be a host name, in which * ? and [] stand for others");
    }
    return 0;
}

static int take_entry(const struct place *at, json_t *entry, struct cluster *c)
{
    static const char *const members[] = {"name", "hosts", "storage", "mount"};
    const char *member;
    json_t *value;
    size_t i;
    int rc;

    if (!json_is_object(entry))
        return bad(at, "", "must be an object with name, hosts, storage and mount");
    json_object_foreach(entry, member, value)
    {
        for (i = 0; i < ARRAY_LEN(members) && strcmp(member, members[i]) != 0; i++)
            ;
        if (i == ARRAY_LEN(members))
            return bad(at, member, "is no member; name, hosts, storage and mount are");
    }
    if ((rc = take_word(at, entry, "name", NAME_MOST, NAME_CHARS, &c->name)) ||
        (rc = take_word(at, entry, "storage", STORAGE_MOST, NAME_CHARS, &c->storage)) ||
        (rc = take_mount(at, entry, c)))
        return rc;
    return take_hosts(at, entry, c);
}

static int take_list(const char *file, const json_t *list, struct clusters *out)
{
    size_t n = json_array_size(list), i;

    if (!json_is_array(list) || n == 0 || n > CLUSTERS_MOST)
        return err_set(CISTERN_ECLUSTER, "%.200s: clusters: must be an array of 1 to %u clusters",
                       file, CLUSTERS_MOST);
    out->list = calloc(n, sizeof *out->list);
    if (!out->list)
        return err_set(-ENOMEM, "no memory for %zu clusters", n);
    for (out->count = 0; out->count < n; out->count++) {
        struct place at = {file, out->count};
        struct cluster *c = &out->list[out->count];
        int rc = take_entry(&at, json_array_get(list, out->count), c);

        for (i = 0; !rc && i < out->count; i++) {
            if (strcmp(out->list[i].name, c->name) == 0)
                rc = bad(&at, "name", "is the name of a cluster before it");
        }
        if (rc)
            return rc;
    }
    return 0;
}

int clusters_parse(const char *file, const char *text, size_t len, struct clusters *out)
{
    struct clusters c = {0};
    json_error_t e;
    const char *member;
    json_t *value;
    int rc = 0;

    c.json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!c.json && json_error_code(&e) == json_error_out_of_memory)
        return err_set(-ENOMEM, "no memory for %.200s", file);
    if (!c.json)
        return err_set(CISTERN_ECLUSTER, "%.200s: line %d, column %d: %s", file, e.line, e.column,
                       e.text);
    if (!json_is_object(c.json))
        rc = err_set(CISTERN_ECLUSTER, "%.200s: line 1: must be {\"clusters\": [...]}", file);
    json_object_foreach(c.json, member, value)
    {
        if (!rc && strcmp(member, "clusters") != 0)
            rc =
                err_set(CISTERN_ECLUSTER, "%.200s: %.64s: is no member; clusters is", file, member);
    }
    rc = rc ? rc : take_list(file, json_object_get(c.json, "clusters"), &c);
    if (rc)
        clusters_release(&c);
    else
        *out = c;
    return rc;
}

void clusters_release(struct clusters *c)
{
    free(c->list);
    json_decref(c->json);
    *c = (struct clusters){0};
}

const char *cluster_pattern(const struct cluster *c, size_t i)
{
    return json_string_value(json_array_get(c->hosts, i));
}
