/*
 * space_file.c - reads the description of a space, for verbs that look at a directory whose model
 * they were not told.
 */
#include "space_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));

    return s ? s : "";
}

static uint64_t number_of(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v > 0 ? (uint64_t)v : 0;
}

static uint32_t policy_of(const json_t *part)
{
    static const char *const names[] = {"all", "last", "trailing"};
    const char *word = json_string_value(json_object_get(part, "policy"));
    uint32_t i;

    for (i = 0; word != NULL && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    return (uint32_t)number_of(part, "policy");
}

static bool parts_take(struct space_file *s)
{
    const json_t *list = json_object_get(s->json, "parts"), *p;
    size_t i;

    if (json_array_size(list) == 0 || json_array_size(list) > CISTERN_MAX_PARTS)
        return false;
    for (i = 0; i < json_array_size(list); i++) {
        p = json_array_get(list, i);
        s->parts[i].name = text_of(p, "name");
        s->parts[i].bytes = number_of(p, "bytes");
        s->parts[i].policy = policy_of(p);
        s->parts[i].window = (uint32_t)number_of(p, "window");
    }
    s->space.nparts = (uint32_t)i;
    s->space.parts = s->parts;
    return true;
}

static bool fields_take(struct space_file *s)
{
    struct cistern_space *sp = &s->space;
    const json_t *o = s->json;

    memset(sp, 0, sizeof(*sp));
    sp->size = sizeof(*sp);
    sp->name = text_of(o, "name");
    sp->model = text_of(o, "model");
    sp->revision = text_of(o, "revision");
    sp->epoch = number_of(o, "epoch");
    sp->dtype = text_of(o, "dtype");
    sp->layout = text_of(o, "layout");
    sp->extra = text_of(o, "extra");
    sp->block_tokens = (uint32_t)number_of(o, "block_tokens");
    sp->layers = (uint32_t)number_of(o, "layers");
    sp->kv_heads = (uint32_t)number_of(o, "kv_heads");
    sp->head_dim = (uint32_t)number_of(o, "head_dim");
    sp->shards = (uint32_t)number_of(o, "shards");
    return sp->model[0] != '\0' && parts_take(s);
}

int space_file_read(const char *mount, const char *dir, struct space_file *out)
{
    char path[PATH_MAX];
    json_error_t error;

    memset(out, 0, sizeof(*out));
    if (snprintf(path, sizeof(path), "%s/%s/space.json", mount, dir) >= (int)sizeof(path))
        return cli_fail(CLI_ENVIRONMENT, "%s: the path is too long", dir);
    out->json = json_load_file(path, 0, &error);
    if (out->json == NULL)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", path, error.text);
    if (!json_is_object(out->json) || !fields_take(out)) {
        space_file_release(out);
        return cli_fail(CLI_ENVIRONMENT, "%s: not the description of a space", path);
    }
    return CLI_OK;
}

void space_file_release(struct space_file *s)
{
    json_decref(s->json);
    s->json = NULL;
}
