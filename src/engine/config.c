/*
 * config.c - options to configuration: defaults, bounds, and the sums that staging is made of. Pure
 * functions, but for the clusters file that cluster.c reads.
 */
#include "engine/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "engine/cluster.h"
#include "key/grow.h"
#include "key/key.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

int config_take_struct(void *own, size_t own_size, const void *theirs)
{
    if (grow_take(own, own_size, theirs))
        return err_set(-EINVAL,
                       theirs ? "a struct's `size` is not sizeof the struct, or it has fields "
                                "that this version does not know"
                              : "a struct pointer is NULL");
    return 0;
}

static int take_path(char *to, size_t size, const char *from, const char *what, int absolute)
{
    size_t n;

    if (absolute ? from[0] != '/' : from[0] == '/')
        return err_set(CISTERN_ECONFIG, "%s '%s' must be %s", what, from,
                       absolute ? "an absolute path" : "relative to the mount point");
    n = strlen(from);
    while (n > 1 && from[n - 1] == '/')
        n--;
    if (n >= size)
        return err_set(CISTERN_ECONFIG, "%s is longer than %zu bytes", what, size - 1);
    memcpy(to, from, n);
    to[n] = 0;
    if (!absolute && (strstr(to, "..") || strcmp(to, "/") == 0))
        return err_set(CISTERN_ECONFIG, "%s '%s' must be a plain path below the mount point", what,
                       from);
    if (!absolute && strcmp(to, ".") == 0)
        to[0] = 0;
    return 0;
}

static int take_name(char *to, size_t size, const char *from, const char *what)
{
    if (!from)
        from = "";
    if (strlen(from) >= size)
        return err_set(CISTERN_ECONFIG, "%s is longer than %zu bytes", what, size - 1);
    memcpy(to, from, strlen(from) + 1);
    return 0;
}

static int take_u32(uint32_t *to, uint32_t value, uint32_t fallback, uint32_t low, uint32_t high,
                    const char *what)
{
    *to = value ? value : fallback;
    if (*to < low || *to > high)
        return err_set(CISTERN_ECONFIG, "%s is %u; it can be %u to %u", what, *to, low, high);
    return 0;
}

static int take_names(const struct cistern_options *o, struct config *c)
{
    int rc;

    if ((rc = take_path(c->mount, sizeof c->mount, o->mount ? o->mount : CONFIG_MOUNT,
                        "the mount point", 1)) ||
        (rc = take_path(c->root, sizeof c->root, o->root ? o->root : CONFIG_ROOT,
                        "the root directory", 0)) ||
        (rc = take_name(c->provider, sizeof c->provider, o->provider ? o->provider : "auto",
                        "provider")) ||
        (rc = take_name(c->provider_path, sizeof c->provider_path, o->provider_path,
                        "provider_path")) ||
        (rc = take_name(c->space_dir, sizeof c->space_dir, o->space_dir, "space_dir")) ||
        (rc = take_name(c->encryption_key_file, sizeof c->encryption_key_file,
                        o->encryption_key_file, "encryption_key_file")))
        return rc;
    if (strcmp(c->provider, "auto") != 0 && strcmp(c->provider, "hf3fs") != 0 &&
        strcmp(c->provider, "local") != 0)
        return err_set(CISTERN_ECONFIG, "provider is '%s'; it can be auto, hf3fs or local",
                       c->provider);
    if (c->provider_path[0] && c->provider_path[0] != '/')
        return err_set(CISTERN_ECONFIG, "provider_path '%s' must be an absolute path",
                       c->provider_path);
    if (strchr(c->space_dir, '/') || c->space_dir[0] == '.')
        return err_set(CISTERN_ECONFIG, "space_dir '%s' must be the plain name of a directory",
                       c->space_dir);
    return 0;
}

/* Goes before everything that could touch storage: which mount this host is to use. */
static int take_cluster(struct cistern_options *o, struct config *c, struct cistern_cluster *x)
{
    int rc = cluster_look(o, x);

    if (rc)
        return rc;
    if (x->verdict == CISTERN_CLUSTER_REFUSED || x->verdict == CISTERN_CLUSTER_UNKNOWN)
        return err_set(CISTERN_ECLUSTER, "%s", x->text);
    if (!o->mount && x->mount[0])
        o->mount = x->mount;
    c->cluster_verdict = x->verdict;
    (void)snprintf(c->cluster, sizeof c->cluster, "%s", x->name);
    (void)snprintf(c->cluster_storage, sizeof c->cluster_storage, "%s", x->storage);
    (void)snprintf(c->cluster_text, sizeof c->cluster_text, "%s", x->text);
    return 0;
}

void config_log_cluster(const struct config *c)
{
    if (c->cluster_verdict != CISTERN_CLUSTER_NONE)
        log_line(&c->log, c->cluster_verdict == CISTERN_CLUSTER_CROSSED ? LOG_WARN : LOG_INFO, "%s",
                 c->cluster_text);
}

static int take_admission(const struct cistern_options *o, struct config *c)
{
    const char *mode = o->admission ? o->admission : "all";

    if (strcmp(mode, "all") != 0 && strcmp(mode, "reused") != 0)
        return err_set(CISTERN_ECONFIG, "admission is '%s'; it can be all or reused", mode);
    c->admission = strcmp(mode, "reused") == 0 ? ADMIT_REUSED : ADMIT_ALL;
    return 0;
}

static int take_numbers(const struct cistern_options *o, struct config *c)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t lanes = (uint32_t)min_u64(8, max_u64(1, (uint64_t)(cpus > 0 ? cpus : 1) / 2));
    uint64_t hour = 3600u * 1000u;
    int rc;

    if ((rc = take_u32(&c->open_timeout_ms, o->open_timeout_ms, 30000, 1, (uint32_t)hour,
                       "open_timeout_ms")) ||
        (rc = take_u32(&c->get_timeout_ms, o->get_timeout_ms, 3000, 1, (uint32_t)hour,
                       "get_timeout_ms")) ||
        (rc = take_u32(&c->put_timeout_ms, o->put_timeout_ms, 3000, 1, (uint32_t)hour,
                       "put_timeout_ms")) ||
        (rc = take_u32(&c->read_timeout_ms, o->read_timeout_ms, 1000, 1, (uint32_t)hour,
                       "read_timeout_ms")) ||
        (rc = take_u32(&c->write_timeout_ms, o->write_timeout_ms, 2000, 1, (uint32_t)hour,
                       "write_timeout_ms")) ||
        (rc = take_u32(&c->close_timeout_ms, o->close_timeout_ms, 5000, 1, (uint32_t)hour,
                       "close_timeout_ms")) ||
        (rc = take_u32(&c->sync_ms, o->sync_ms, 2000, 1, (uint32_t)hour, "sync_ms")) ||
        (rc = take_u32(&c->poll_ms, o->poll_ms, 1000, 1, (uint32_t)hour, "poll_ms")) ||
        (rc = take_u32(&c->list_ms, o->list_ms, 5000, 1, (uint32_t)hour, "list_ms")) ||
        (rc = take_u32(&c->silence_ms, o->silence_ms, 60000, 100, (uint32_t)hour, "silence_ms")) ||
        (rc = take_u32(&c->io_blocks, o->io_blocks, 16, 1, 64,
                       "io_blocks (max_block_size_per_item)")) ||
        (rc = take_u32(&c->io_bytes, o->io_bytes, 1u << 20, 4096, 64u << 20, "io_bytes")) ||
        (rc = take_u32(&c->lanes, o->lanes, lanes, 1, 64, "lanes")) ||
        (rc = take_u32(&c->depth, o->depth, 32, 1, 1024, "depth")) ||
        (rc = take_u32(&c->max_ops, o->max_ops, 256, 1, 65536, "max_ops")) ||
        (rc = take_u32(&c->breaker_failures, o->breaker_failures, 4, 1, 16, "breaker_failures")) ||
        (rc = take_u32(&c->negative_ms, o->negative_ms, 30000, 1, (uint32_t)hour, "negative_ms")) ||
        (rc = take_u32(&c->aside_failures, o->aside_failures, 8, 1, 1u << 30, "aside_failures")) ||
        (rc = take_u32(&c->breaker_probe_ms, o->breaker_probe_ms, 1000, 1, (uint32_t)hour,
                       "breaker_probe_ms")))
        return rc;
    /* Until then every reader either ended or noticed that the contents are gone. */
    c->evict_grace_ms =
        o->evict_grace_ms ? o->evict_grace_ms : c->get_timeout_ms + c->list_ms + c->poll_ms;
    c->silence_asked = o->silence_ms != 0;
    c->free_floor_bytes = o->free_floor_bytes;
    c->stat_page = o->stat_page >= 0;
    c->open_files = o->open_files;
    c->carry_over = o->carry_over >= 0;
    c->ttl_seconds = o->ttl_seconds;
    c->write_budget_bytes_per_day = o->write_budget_bytes_per_day;
    c->write_bandwidth = o->write_bandwidth;
    c->read_bandwidth = o->read_bandwidth;
    c->prefill_rate = o->prefill_rate;
    c->shadow_every = o->shadow_every;
    if (o->breaker < 0)
        c->breaker_failures = 0;
    if (c->io_bytes % PAGE_BYTES)
        return err_set(CISTERN_ECONFIG, "io_bytes is %u; it must be a multiple of 4096",
                       c->io_bytes);
    c->max_blocks = o->max_blocks ? o->max_blocks : 64ull << 20;
    if (c->max_blocks > 1ull << 31)
        return err_set(CISTERN_ECONFIG, "max_blocks is above 2^31");
    c->capacity_bytes = o->capacity_bytes;
    c->segment_bytes = o->segment_bytes;
    if (!c->segment_bytes)
        c->segment_bytes = o->capacity_bytes ? o->capacity_bytes / 64 : 256 * MIB;
    if (!o->segment_bytes)
        c->segment_bytes = max_u64(64 * MIB, min_u64(GIB, c->segment_bytes));
    if (c->segment_bytes > 1ull << 40) /* before rounding, which could run over */
        return err_set(CISTERN_ECONFIG, "segment_bytes is above 1 TiB");
    c->segment_bytes = round_up(c->segment_bytes, c->io_bytes);
    return 0;
}

static void take_parts(const struct cistern_space *s, struct config *c)
{
    uint32_t i;

    c->shards = s->shards ? s->shards : 1;
    c->nparts = s->nparts;
    c->block_tokens = s->block_tokens;
    c->rules = (struct match_rules){.shards = c->shards, .own = c->shard};
    for (i = 0; i < s->nparts; i++) {
        const struct cistern_part *p = &s->parts[i];
        uint16_t bit = (uint16_t)(1u << i);

        c->part_bytes[i] = p->bytes;
        c->block_extent += round_up(p->bytes, PAGE_BYTES);
        c->rules.window[i] = p->window;
        if (p->policy == CISTERN_PART_ALL)
            c->rules.all |= bit;
        else if (p->policy == CISTERN_PART_LAST)
            c->rules.last |= bit;
        else
            c->rules.trailing |= bit;
    }
}

/* Slots hold one whole I/O, one whole block and one write of frames, so that a part is verified
 * where it lies in one piece. */
static int take_staging(const struct cistern_options *o, struct config *c)
{
    c->slot_bytes =
        round_up(max_u64(max_u64(c->io_bytes, c->block_extent), SLOT_LEAST), PAGE_BYTES);
    c->read_iov_bytes = o->read_iov_bytes ? o->read_iov_bytes : 4 * GIB;
    c->write_iov_bytes = o->write_iov_bytes ? o->write_iov_bytes : 4 * GIB;
    if (c->block_extent > c->segment_bytes)
        return err_set(
            CISTERN_ECONFIG,
            "a block of %llu bytes is larger than a segment of %llu: raise segment_bytes",
            (unsigned long long)c->block_extent, (unsigned long long)c->segment_bytes);
    if (c->write_budget_bytes_per_day && c->write_budget_bytes_per_day < 4 * c->block_extent)
        return err_set(
            CISTERN_ECONFIG,
            "write_budget_bytes_per_day is %llu; it must be at least four blocks of %llu",
            (unsigned long long)c->write_budget_bytes_per_day, (unsigned long long)c->block_extent);
    return 0;
}

int config_make(const struct cistern_options *options, int need_space, struct config *out)
{
    struct cistern_options o;
    struct cistern_space s;
    struct config c = {0};
    struct cistern_cluster cluster; /* o.mount may point into it */
    int rc = config_take_struct(&o, sizeof o, options);

    if (rc)
        return rc;
    c.log = (struct logger){.fn = o.log, .arg = o.log_arg};
    c.flags = o.flags;
    c.shard = o.shard;
    if (o.enable_3fs > 0 && o.reuse_cache <= 0)
        return err_set(
            CISTERN_ECONFIG,
            "enable_3fs needs reuse_cache: set REUSE_CACHE=1 or --reuse_cache True as well");
    if ((rc = take_cluster(&o, &c, &cluster)) || (rc = take_names(&o, &c)) ||
        (rc = take_numbers(&o, &c)) || (rc = take_admission(&o, &c)))
        return rc;
    if (!need_space) {
        *out = c;
        return 0;
    }
    if (o.reuse_cache <= 0 || o.enable_3fs <= 0)
        return err_set(CISTERN_EDISABLED, "switched off: set REUSE_CACHE=1 and ENABLE_3FS=1 "
                                          "(--reuse_cache True --enable_3fs True)");
    if (!o.space)
        return err_set(-EINVAL, "options.space is NULL: describe the model");
    if ((rc = config_take_struct(&s, sizeof s, o.space)) || (rc = space_check(&s)))
        return rc;
    if (c.shard >= (s.shards ? s.shards : 1))
        return err_set(CISTERN_ECONFIG, "shard is %u; the space has %u shards, numbered from 0",
                       c.shard, s.shards ? s.shards : 1);
    if (c.flags &
        ~(uint32_t)(CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY | CISTERN_OPEN_BUFFERED |
                    CISTERN_OPEN_NO_FOLLOW | CISTERN_OPEN_NO_BELL))
        return err_set(-EINVAL, "options.flags has unknown bits: 0x%x", c.flags);
    take_parts(&s, &c);
    if ((rc = take_staging(&o, &c)))
        return rc;
    *out = c;
    return 0;
}
