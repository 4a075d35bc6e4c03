/*
 * build.c - makes the files of a large store without writing a payload: contents as the engine
 * writes them, frame by frame, heads, and data files that are one hole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "growth.h"
#include "segment/toc.h"

#define PAGES ((GROWTH_LENGTH + FORMAT_PAGE - 1) / FORMAT_PAGE)
#define ROOM  ((size_t)4 << 20)

struct segment_plan {
    uint64_t writer, seq, first;
    uint32_t shard, blocks;
};

static uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

void growth_key(cistern_key *key, uint64_t number)
{
    uint64_t w[4];
    unsigned i;

    for (i = 0; i < 4; i++)
        w[i] = scramble(4 * number + i + 1);
    memcpy(key->b, w, sizeof w);
}

static int complain(const char *path)
{
    fprintf(stderr, "growth: %s: %s\n", path, strerror(errno));
    return -1;
}

static int shard_path(const cistern *c, uint32_t shard, const char *name, char out[1024])
{
    int n = snprintf(out, 1024, "%s/%s/s%uof%u/%s", c->cfg.mount, c->space_path, shard,
                     c->cfg.shards, name);

    return n < 1024 ? 0 : -1;
}

/* A new file with these bytes, or a hole of that length. */
static int make_file(const char *path, const void *bytes, size_t len, uint64_t hole)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc = 0;

    if (fd < 0)
        return complain(path);
    if (bytes ? write(fd, bytes, len) != (ssize_t)len : ftruncate(fd, (off_t)hole))
        rc = complain(path);
    (void)close(fd);
    return rc;
}

/* The contents of a segment in `buf`; their length. */
static size_t contents(const cistern *c, const struct segment_plan *p, uint8_t *buf, size_t size)
{
    struct toc_header h = {.magic = FORMAT_TOC_MAGIC,
                           .version = FORMAT_VERSION,
                           .header_bytes = FORMAT_PAGE,
                           .writer = p->writer,
                           .seq = p->seq,
                           .shard = p->shard,
                           .shards = c->cfg.shards,
                           .created_s = clock_wall_s(),
                           .segment_bytes = c->cfg.segment_bytes};
    struct toc_writer w;
    struct toc_batch b;
    uint32_t i;

    memcpy(h.space, c->fingerprint, sizeof h.space);
    memcpy(h.segment_id, (uint64_t[]){scramble(p->writer), scramble(p->writer ^ p->seq << 32)}, 16);
    toc_header_encode(&h, buf);
    toc_writer_init(&w, h.segment_id);
    toc_batch_begin(&b, &w, buf + FORMAT_PAGE, size - FORMAT_PAGE);
    for (i = 0; i < p->blocks; i++) {
        struct block_info info = {.offset = i * PAGES,
                                  .depth = (uint32_t)((p->first + i) % GROWTH_CHAIN),
                                  .mask = 1,
                                  .parts = 1,
                                  .length = {GROWTH_LENGTH},
                                  .check = {scramble(p->first + i)}};
        cistern_key key;

        growth_key(&key, p->first + i);
        memcpy(info.key, key.b, sizeof info.key);
        if (toc_batch_block(&b, &info))
            return 0;
    }
    toc_batch_end(&b, 0, clock_wall_s());
    return FORMAT_PAGE + b.used;
}

static int make_segment(const cistern *c, const struct segment_plan *p, uint64_t *published)
{
    static uint8_t buf[ROOM] __attribute__((aligned(64)));
    char name[SEGMENT_NAME_MAX], path[1024];
    size_t len = contents(c, p, buf, sizeof buf);

    if (!len) {
        fprintf(stderr, "growth: %u blocks are too many for a segment\n", p->blocks);
        return -1;
    }
    *published = len;
    segment_name(name, p->writer, p->seq, ".seg");
    if (shard_path(c, p->shard, name, path) ||
        make_file(path, NULL, 0, (uint64_t)p->blocks * PAGES * FORMAT_PAGE))
        return -1;
    segment_name(name, p->writer, p->seq, ".toc");
    return shard_path(c, p->shard, name, path) ? -1 : make_file(path, buf, len, 0);
}

static int make_head(const cistern *c, uint32_t shard, const struct head_record *record)
{
    struct head_record h = *record;
    uint8_t page[FORMAT_PAGE];
    char name[SEGMENT_NAME_MAX], path[1024];

    h.magic = FORMAT_HEAD_MAGIC;
    h.version = FORMAT_VERSION;
    h.shard = shard;
    h.shards = c->cfg.shards;
    h.written_s = clock_wall_s();
    memcpy(h.space, c->fingerprint, sizeof h.space);
    head_encode(&h, NULL, 0, page);
    head_name(name, h.writer);
    return shard_path(c, shard, name, path) ? -1 : make_file(path, page, sizeof page, 0);
}

static int build_shard(const cistern *c, const struct growth_size *size, uint32_t shard)
{
    uint32_t per = (size->segments + GROWTH_WRITERS - 1) / GROWTH_WRITERS, s;
    uint64_t published = 0;
    char dir[1024];

    if (shard_path(c, shard, "", dir) || (mkdir(dir, 0700) && errno != EEXIST))
        return complain(dir);
    for (s = 0; s < size->segments; s++) {
        uint64_t from = size->blocks * s / size->segments,
                 to = size->blocks * (s + 1) / size->segments;
        struct segment_plan p = {.writer = scramble(1 + shard * GROWTH_WRITERS + s / per),
                                 .seq = s % per,
                                 .first = from,
                                 .shard = shard,
                                 .blocks = (uint32_t)(to - from)};
        struct head_record h = {.state = HEAD_CLOSED, .writer = p.writer, .counter = 2};

        if (make_segment(c, &p, &published))
            return -1;
        h.next_seq = p.seq + 1;
        h.published = published;
        if ((p.seq + 1 == per || s + 1 == size->segments) && make_head(c, shard, &h))
            return -1;
    }
    return 0;
}

static void say(void *arg, int level, const char *line)
{
    (void)arg;
    if (level <= CISTERN_LOG_WARN)
        fprintf(stderr, "growth: %s\n", line);
}

void growth_options(struct cistern_options *o, struct cistern_space *space, const char *dir,
                    uint32_t shards)
{
    static const struct cistern_part part = {.name = "kv", .bytes = GROWTH_LENGTH};

    *space = (struct cistern_space){.size = sizeof *space,
                                    .model = "growth",
                                    .dtype = "bf16",
                                    .block_tokens = 64,
                                    .nparts = 1,
                                    .parts = &part,
                                    .shards = shards};
    *o = (struct cistern_options){.size = sizeof *o,
                                  .reuse_cache = 1,
                                  .enable_3fs = 1,
                                  .mount = dir,
                                  .provider = "local",
                                  .space = space,
                                  .read_iov_bytes = 8 << 20,
                                  .write_iov_bytes = 8 << 20,
                                  .segment_bytes = (uint64_t)1 << 30,
                                  .flags = GROWTH_OPTIONS,
                                  .lanes = 1,
                                  .open_timeout_ms = 600000,
                                  .log = say};
}

int growth_build(const char *dir, const struct growth_size *size)
{
    struct cistern_options o;
    struct cistern_space space;
    uint32_t shard;
    cistern *c;
    int rc;

    growth_options(&o, &space, dir, size->shards);
    if ((rc = cistern_open(&o, &c))) { /* makes the root and the space */
        fprintf(stderr, "growth: open: %s\n", cistern_error_text());
        return -1;
    }
    for (shard = 0; shard < size->shards && !rc; shard++)
        rc = build_shard(c, size, shard);
    return cistern_close(c) || rc ? -1 : 0;
}

int growth_add(cistern *c, uint64_t first, uint32_t blocks, uint64_t seq)
{
    struct segment_plan p = {
        .writer = GROWTH_LIVE, .seq = seq, .first = first, .shard = c->cfg.shard, .blocks = blocks};
    struct head_record h = {
        .state = HEAD_LIVE, .writer = p.writer, .counter = seq + 1, .next_seq = seq + 1};

    if (make_segment(c, &p, &h.published))
        return -1;
    return make_head(c, p.shard, &h);
}
