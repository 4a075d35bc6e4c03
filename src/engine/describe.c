/* describe.c - a handle in words. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/hash.h"
#include "engine/engine.h"
#include "engine/policy.h"

struct text {
    char *buf;
    size_t size, used;
};

static void line(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->used < t->size ? t->buf + t->used : NULL,
                  t->used < t->size ? t->size - t->used : 0, format, args);
    va_end(args);
    t->used += n > 0 ? (size_t)n : 0;
}

int cistern_describe(const cistern *c, char *buf, size_t size)
{
    const char *tripped;
    struct text t = {.buf = buf, .size = size};
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (size && !buf)
        return err_set(-EINVAL, "buf is NULL");
    tripped = atomic_load(&c->tripped);
    line(&t, "version=%s\n", CISTERN_VERSION);
    line(&t, "mount=%s\n", c->io->mount);
    line(&t, "directory=%s/%s\n", c->io->mount, c->shard_path);
    line(&t, "provider=%s\n", c->io->ops->name);
    line(&t, "provider_path=%s\n", c->io->provider_path);
    line(&t, "usrbio=%s\n", c->io->backend);
    if (c->cfg.cluster_verdict != CISTERN_CLUSTER_NONE)
        line(&t, "cluster=%s\ncluster_storage=%s\ncluster_crossed=%d\ncluster_why=%s\n",
             c->cfg.cluster, c->cfg.cluster_storage,
             c->cfg.cluster_verdict == CISTERN_CLUSTER_CROSSED, c->cfg.cluster_text);
    line(&t, "mode=%s\n",
         c->cfg.flags & CISTERN_OPEN_MATCH_ONLY ? "match-only"
         : c->writer                            ? "read-write"
                                                : "read-only");
    line(&t, "read_iov_bytes=%llu\n", c->read_pool ? (unsigned long long)c->cfg.read_iov_bytes : 0);
    line(&t, "write_iov_bytes=%llu\n",
         c->write_pool ? (unsigned long long)c->cfg.write_iov_bytes : 0);
    line(&t, "slot_bytes=%llu\n", (unsigned long long)c->cfg.slot_bytes);
    line(&t, "segment_bytes=%llu\n", (unsigned long long)c->cfg.segment_bytes);
    line(&t, "io_bytes=%u\nio_blocks=%u\nlanes=%u\ndepth=%u\n", c->cfg.io_bytes, c->cfg.io_blocks,
         c->nlanes, c->cfg.depth);
    line(&t, "shard=%u\nshards=%u\nparts=%u\n", c->cfg.shard, c->cfg.shards, c->cfg.nparts);
    line(&t, "hash=%s\n", hash64_build());
    line(&t, "bell=%s\n", bell_shared(&c->bell) ? c->bell.page.path : "none");
    if (c->writer)
        line(&t, "writer=%016llx\nwriter_old=%016llx\n",
             (unsigned long long)writer_id(c, POLICY_YOUNG),
             (unsigned long long)writer_id(c, POLICY_OLD));
    line(&t, "breaker=%s\n",
         !c->breaker.limit                             ? "off"
         : engine_stops_gets(c)                        ? "open"
         : breaker_is_open(&c->breaker, BREAKER_WRITE) ? "open for puts"
         : engine_stops_matches(c)                     ? "open on another rank"
                                                       : "closed");
    line(&t, "prefill_rate=%u\n", c->cfg.prefill_rate);
    line(&t, "read_rate=%llu\n", (unsigned long long)engine_read_rate(c));
    line(&t, "retired=%s\n", atomic_load(&c->retired) ? "yes" : "no");
    line(&t, "ttl_seconds=%u\n", atomic_load(&c->ttl_seconds));
    line(&t, "tripped=%s\n", tripped ? tripped : "");
    return (int)t.used;
}
