/*
 * config.h - a handle's options with every default filled in and every string copied.
 */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include "base/err.h"
#include "base/log.h"
#include "cistern.h"
#include "engine/policy.h"
#include "index/index.h"

#define SLOT_LEAST   (256u * 1024u) /* most bytes of one write of frames */
#define CONFIG_MOUNT "/3fs/stage/3fs/"
#define CONFIG_ROOT  "rtp_llm/"

struct config {
    char mount[256]; /* absolute, no slash at the end */
    char root[256];  /* relative to the mount, no slash at either end; "" = the mount itself */
    char provider[16];
    char provider_path[512];
    char space_dir[160];           /* as asked for; "" = derived */
    char encryption_key_file[512]; /* "" = no encryption */
    uint32_t shard, shards, nparts, flags;
    uint64_t part_bytes[CISTERN_MAX_PARTS];
    struct match_rules rules;
    uint64_t block_extent; /* most bytes that a block takes in a data file */
    uint64_t read_iov_bytes, write_iov_bytes, slot_bytes;
    uint32_t open_timeout_ms, get_timeout_ms, put_timeout_ms, read_timeout_ms, write_timeout_ms;
    uint32_t io_blocks, io_bytes, lanes, depth, max_ops, sync_ms, close_timeout_ms;
    uint32_t open_files;                         /* 0: by the limit of the process */
    uint32_t breaker_failures, breaker_probe_ms; /* failures 0: no breaker */
    uint32_t negative_ms, aside_failures;
    uint32_t prefill_rate, block_tokens, shadow_every;
    uint32_t poll_ms, list_ms, silence_ms;
    bool silence_asked; /* not the default */
    uint64_t free_floor_bytes;
    uint32_t evict_grace_ms;
    bool carry_over, stat_page;
    enum admit_mode admission;
    uint32_t ttl_seconds;
    uint64_t write_budget_bytes_per_day, write_bandwidth, read_bandwidth;
    uint64_t max_blocks, capacity_bytes, segment_bytes;
    char cluster[64], cluster_storage[32]; /* of this host; "" = not known */
    uint32_t cluster_verdict;
    char cluster_text[512];
    struct logger log;
};

/* 0, CISTERN_EDISABLED, -EINVAL, CISTERN_ECONFIG or CISTERN_ECLUSTER with a text. `need_space` is
 * false for a scan.
 */
int config_make(const struct cistern_options *o, int need_space, struct config *out) MUST_CHECK;
/* One line about the network cluster: a warning when it is crossed; nothing without clusters. */
void config_log_cluster(const struct config *c);
/* Copies a struct that begins with `size` into one of our own size; -EINVAL when it is not usable.
 */
int config_take_struct(void *own, size_t own_size, const void *theirs) MUST_CHECK;

#endif
