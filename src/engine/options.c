/*
 * options.c - options by name: one table for flags, environment variables and RTP-LLM's spellings.
 *
 * A name matches without regard to case, leading dashes, and '-' against '_'. A variable of the
 * environment is the name in capitals, for RTP-LLM's own names as they are, for all with CISTERN_
 * before it; the latter wins.
 */
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/config.h"

enum kind { KIND_SWITCH, KIND_U32, KIND_U64, KIND_STRING };

struct option {
    const char *name;
    enum kind kind;
    size_t at;
    int bare_env; /* its variable needs no CISTERN_ before it: RTP-LLM's names */
};

#define AT(field) offsetof(struct cistern_options, field)

static const struct option table[] = {
    {"reuse_cache", KIND_SWITCH, AT(reuse_cache), 1},
    {"enable_3fs", KIND_SWITCH, AT(enable_3fs), 1},
    {"threefs_mountpoint", KIND_STRING, AT(mount), 1},
    {"threefs_root_dir", KIND_STRING, AT(root), 1},
    {"threefs_read_iov_size", KIND_U64, AT(read_iov_bytes), 1},
    {"threefs_write_iov_size", KIND_U64, AT(write_iov_bytes), 1},
    {"threefs_match_timeout_ms", KIND_U32, AT(match_timeout_ms), 1},
    {"threefs_rpc_get_cache_timeout_ms", KIND_U32, AT(get_timeout_ms), 1},
    {"threefs_rpc_put_cache_timeout_ms", KIND_U32, AT(put_timeout_ms), 1},
    {"threefs_read_timeout_ms", KIND_U32, AT(read_timeout_ms), 1},
    {"threefs_write_timeout_ms", KIND_U32, AT(write_timeout_ms), 1},
    {"max_block_size_per_item", KIND_U32, AT(io_blocks), 1},
    {"mount", KIND_STRING, AT(mount), 0},
    {"root", KIND_STRING, AT(root), 0},
    {"provider", KIND_STRING, AT(provider), 0},
    {"provider_path", KIND_STRING, AT(provider_path), 0},
    {"space_dir", KIND_STRING, AT(space_dir), 0},
    {"shard", KIND_U32, AT(shard), 0},
    {"read_iov_bytes", KIND_U64, AT(read_iov_bytes), 0},
    {"write_iov_bytes", KIND_U64, AT(write_iov_bytes), 0},
    {"open_timeout_ms", KIND_U32, AT(open_timeout_ms), 0},
    {"match_timeout_ms", KIND_U32, AT(match_timeout_ms), 0},
    {"get_timeout_ms", KIND_U32, AT(get_timeout_ms), 0},
    {"put_timeout_ms", KIND_U32, AT(put_timeout_ms), 0},
    {"read_timeout_ms", KIND_U32, AT(read_timeout_ms), 0},
    {"write_timeout_ms", KIND_U32, AT(write_timeout_ms), 0},
    {"close_timeout_ms", KIND_U32, AT(close_timeout_ms), 0},
    {"io_blocks", KIND_U32, AT(io_blocks), 0},
    {"io_bytes", KIND_U32, AT(io_bytes), 0},
    {"lanes", KIND_U32, AT(lanes), 0},
    {"depth", KIND_U32, AT(depth), 0},
    {"max_ops", KIND_U32, AT(max_ops), 0},
    {"max_blocks", KIND_U64, AT(max_blocks), 0},
    {"capacity_bytes", KIND_U64, AT(capacity_bytes), 0},
    {"free_floor_bytes", KIND_U64, AT(free_floor_bytes), 0},
    {"evict_grace_ms", KIND_U32, AT(evict_grace_ms), 0},
    {"carry_over", KIND_SWITCH, AT(carry_over), 0},
    {"segment_bytes", KIND_U64, AT(segment_bytes), 0},
    {"sync_ms", KIND_U32, AT(sync_ms), 0},
    {"poll_ms", KIND_U32, AT(poll_ms), 0},
    {"list_ms", KIND_U32, AT(list_ms), 0},
    {"silence_ms", KIND_U32, AT(silence_ms), 0},
    {"breaker", KIND_SWITCH, AT(breaker), 0},
    {"breaker_failures", KIND_U32, AT(breaker_failures), 0},
    {"breaker_probe_ms", KIND_U32, AT(breaker_probe_ms), 0},
    {"negative_ms", KIND_U32, AT(negative_ms), 0},
    {"aside_failures", KIND_U32, AT(aside_failures), 0},
    {"prefill_rate", KIND_U32, AT(prefill_rate), 0},
    {"admission", KIND_STRING, AT(admission), 0},
    {"write_budget_bytes_per_day", KIND_U64, AT(write_budget_bytes_per_day), 0},
    {"ttl_seconds", KIND_U32, AT(ttl_seconds), 0},
    {"write_bandwidth", KIND_U64, AT(write_bandwidth), 0},
    {"read_bandwidth", KIND_U64, AT(read_bandwidth), 0},
    {"encryption_key_file", KIND_STRING, AT(encryption_key_file), 0},
    {"shadow_every", KIND_U32, AT(shadow_every), 0},
    {"clusters", KIND_STRING, AT(clusters), 0},
    {"cluster", KIND_STRING, AT(cluster), 0},
    {"host", KIND_STRING, AT(host), 0},
    {"cross_cluster", KIND_SWITCH, AT(cross_cluster), 0},
    {"stat_page", KIND_SWITCH, AT(stat_page), 0},
    {"open_files", KIND_U32, AT(open_files), 0},
};

static int same_name(const char *given, size_t n, const char *name)
{
    size_t i;

    for (i = 0; i < n && name[i]; i++) {
        char g = given[i] == '-' ? '_' : (char)tolower((unsigned char)given[i]);

        if (g != name[i])
            return 0;
    }
    return i == n && !name[i];
}

static const struct option *find(const char *name, size_t n)
{
    size_t i;

    while (n && *name == '-') {
        name++;
        n--;
    }
    for (i = 0; i < ARRAY_LEN(table); i++) {
        if (same_name(name, n, table[i].name))
            return &table[i];
    }
    return NULL;
}

static int parse_switch(const char *value, int32_t *out)
{
    static const char *const on[] = {"1", "true", "on", "yes"};
    static const char *const off[] = {"0", "false", "off", "no"};
    size_t i;

    for (i = 0; i < ARRAY_LEN(on); i++) {
        if (strcasecmp(value, on[i]) == 0) {
            *out = 1;
            return 0;
        }
        if (strcasecmp(value, off[i]) == 0) {
            *out = -1;
            return 0;
        }
    }
    return -EINVAL;
}

/* "4G", "4GiB", "4294967296" */
static int parse_number(const char *value, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *unit;
    char *end;
    unsigned shift = 0;

    if (!isdigit((unsigned char)*value))
        return -EINVAL;
    errno = 0;
    *out = strtoull(value, &end, 10);
    if (errno)
        return -EINVAL;
    if (*end && (unit = strchr(units, toupper((unsigned char)*end)))) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (*end == 'i')
            end++;
        if (*end == 'B' || *end == 'b')
            end++;
    }
    if (*end || *out > UINT64_MAX >> shift)
        return -EINVAL;
    *out <<= shift;
    return 0;
}

static int bad_value(const struct option *o, const char *value, const char *wanted)
{
    return err_set(CISTERN_ECONFIG, "%s is '%s'; it must be %s", o->name, value, wanted);
}

static int set(struct cistern_options *options, const struct option *o, const char *value)
{
    char *field = (char *)options + o->at;
    uint64_t number;
    int32_t on;
    uint32_t small;

    switch (o->kind) {
    case KIND_SWITCH:
        if (parse_switch(value, &on))
            return bad_value(o, value, "1, 0, true, false, on, off, yes or no");
        memcpy(field, &on, sizeof on);
        return 0;
    case KIND_U32:
        if (parse_number(value, &number) || number > UINT32_MAX)
            return bad_value(o, value, "a number below 2^32");
        small = (uint32_t)number;
        memcpy(field, &small, sizeof small);
        return 0;
    case KIND_U64:
        if (parse_number(value, &number))
            return bad_value(o, value, "a size such as 4294967296, 512M or 4G");
        memcpy(field, &number, sizeof number);
        return 0;
    default:
        if (!*value)
            return bad_value(o, value, "not empty");
        memcpy(field, &value, sizeof value);
        return 0;
    }
}

/* A caller built against another version has another size; only our own fields may be written. */
static int check(const struct cistern_options *o)
{
    if (!o || o->size < sizeof *o)
        return err_set(
            -EINVAL,
            "options is NULL or its `size` is too small: set it to sizeof(struct cistern_options)");
    return 0;
}

int cistern_options_set(struct cistern_options *o, const char *name, const char *value)
{
    const struct option *option;
    int rc = check(o);

    if (rc)
        return rc;
    if (!name || !value)
        return err_set(-EINVAL, "the name or the value of an option is NULL");
    option = find(name, strlen(name));
    if (!option)
        return err_set(-ENOENT, "there is no option '%s'", name);
    return set(o, option, value);
}

static const char *from_env(const struct option *o, const char *prefix)
{
    char name[96];
    size_t i, n = strlen(prefix);

    (void)snprintf(name, sizeof name, "%s%s", prefix, o->name);
    for (i = n; name[i]; i++)
        name[i] = (char)toupper((unsigned char)name[i]);
    return getenv(name);
}

int cistern_options_from_env(struct cistern_options *o)
{
    const char *value;
    size_t i;
    int rc = check(o);

    for (i = 0; !rc && i < ARRAY_LEN(table); i++) {
        value = from_env(&table[i], "CISTERN_");
        if (!value && table[i].bare_env)
            value = from_env(&table[i], "");
        if (value)
            rc = set(o, &table[i], value);
    }
    if (rc == CISTERN_ECONFIG)
        err_prefix("environment");
    return rc;
}

int cistern_options_from_args(struct cistern_options *o, int *argc, char **argv)
{
    int i, kept = 0, rc = check(o);

    if (rc)
        return rc;
    if (!argc || !argv || *argc < 0)
        return err_set(-EINVAL, "argc or argv is NULL");
    for (i = 0; i < *argc; i++) {
        const struct option *option = NULL;
        const char *equals = strchr(argv[i], '=');
        const char *value = equals ? equals + 1 : i + 1 < *argc ? argv[i + 1] : NULL;

        if (i > 0 && strcmp(argv[i], "--") == 0)
            break;
        if (i > 0 && strncmp(argv[i], "--", 2) == 0)
            option = find(argv[i], equals ? (size_t)(equals - argv[i]) : strlen(argv[i]));
        if (!option) {
            argv[kept++] = argv[i];
            continue;
        }
        if (!value)
            return err_set(CISTERN_ECONFIG, "%s needs a value", argv[i]);
        if ((rc = set(o, option, value)))
            return rc;
        if (!equals)
            i++;
    }
    while (i < *argc)
        argv[kept++] = argv[i++];
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}
