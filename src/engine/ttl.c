/* ttl.c - see ttl.h. */
#include "engine/ttl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/evict.h"
#include "engine/notes.h"
#include "engine/writer_internal.h"
#include "segment/ttl_file.h"

#define SPAN_PART  4u /* of the time to live, from a segment's first block to its last */
#define EMPTY_PART 8u /* likewise, to empty a shard */
#define STEP_S     10u
#define REST_NS    (3600 * NS_PER_S)
#define ASK_NS     (60 * NS_PER_S)
#define LOOKS      8u /* contents that are read in one step */
#define PATH_BYTES 640

/* ---- Pure ---- */

bool ttl_is_over(uint64_t ttl_s, uint64_t now_s, uint64_t written_s)
{
    return ttl_s && written_s && now_s > written_s && now_s - written_s > ttl_s;
}

uint64_t ttl_pace_ns(uint64_t ttl_s, size_t segments)
{
    return ttl_s * (NS_PER_S / EMPTY_PART) / max_u64(segments, 1);
}

bool ttl_clock_trusted(struct ttl_clock *t, uint64_t wall_s, uint64_t boot_ns)
{
    uint64_t is = wall_s, should = t->wall_s + (boot_ns - t->boot_ns) / NS_PER_S;

    if (t->boot_ns && (is > should + STEP_S || is + STEP_S < should))
        t->rest_ns = boot_ns + REST_NS;
    t->wall_s = wall_s;
    t->boot_ns = boot_ns;
    return boot_ns >= t->rest_ns;
}

/* ---- What the clocks say of a segment ---- */

/* The time of the last frame, by the clock of who wrote it; 0: it cannot be told. */
static uint64_t newest_frame_s(cistern *c, const struct usage_segment *s)
{
    const struct toc_sink nothing = {0};
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    size_t size = s->toc_size + FORMAT_PAGE;
    struct toc_cursor cursor = {0};
    struct toc_header h;
    uint8_t *bytes = aligned_alloc(64, round_up(size, 64));
    int64_t n;

    if (!bytes)
        return 0;
    segment_name(name, s->writer, s->seq, ".toc");
    (void)snprintf(path, sizeof path, "%s/%s", c->shard_path, name);
    n = c->io->ops->small_read(c->io, path, bytes, size);
    if (n > FORMAT_PAGE && toc_header_decode(bytes, &h) == 0) {
        toc_cursor_init(&cursor, h.segment_id);
        cursor.encrypted = (h.flags & TOC_ENCRYPTED) != 0; /* the time is not */
        if (toc_parse(&cursor, bytes + FORMAT_PAGE, (size_t)n - FORMAT_PAGE, true, &nothing) < 0)
            cursor.written_s = 0;
    }
    free(bytes);
    return cursor.written_s;
}

/* The clock of the storage: what it says of a file made now. */
static uint64_t ask_storage_s(cistern *c)
{
    char path[PATH_BYTES];
    struct io_stat st = {0};
    int rc;

    (void)snprintf(path, sizeof path, "%s/.tmp-clock-%016llx", c->shard_path,
                   (unsigned long long)writer_id(c, POLICY_YOUNG));
    rc = c->io->ops->small_write(c->io, path, "", 0, false);
    if (!rc)
        rc = c->io->ops->stat(c->io, path, &st);
    (void)c->io->ops->unlink(c->io, path);
    return rc ? 0 : st.mtime_s;
}

/* A minute goes by our own clock. 0: it cannot be told. */
static uint64_t storage_now_s(cistern *c)
{
    struct ttl *t = &c->capacity->ttl;
    uint64_t boot = clock_boot_ns();

    if (!t->storage_s || boot - t->asked_ns > ASK_NS) {
        t->storage_s = ask_storage_s(c);
        t->asked_ns = boot;
    }
    return t->storage_s ? t->storage_s + (boot - t->asked_ns) / NS_PER_S : 0;
}

static bool is_candidate(cistern *c, const struct usage_segment *s)
{
    const struct usage *u = &c->capacity->usage;
    const struct segment *known;

    if (!u->dirs[s->dir].own || !s->sealed || !s->seg || !s->toc || s->unlinked ||
        usage_rests(s, clock_boot_ns()))
        return false;
    known = segtab_find_file(&c->segs, u->dirs[s->dir].shard, s->writer, s->seq);
    return !known || clock_ns() >= atomic_load(&known->pinned_ns);
}

/* Marks what is too old by both clocks, counts what is so by one; the oldest, or NULL. */
static struct usage_segment *judge_all(cistern *c, size_t *segments)
{
    struct usage *u = &c->capacity->usage;
    uint64_t ttl = atomic_load(&c->ttl_seconds), wall = clock_wall_s(), storage = 0, doubted = 0;
    struct usage_segment *oldest = NULL;
    uint32_t looks = 0;
    size_t i;

    for (i = 0, *segments = 0; i < u->nsegs; i++) {
        struct usage_segment *s = &u->segs[i];
        bool by_file, by_frame;

        s->expired = false;
        if (!is_candidate(c, s))
            continue;
        ++*segments;
        if (!ttl_is_over(ttl, wall, s->mtime_ns / NS_PER_S) && !ttl_is_over(ttl, wall, s->newest_s))
            continue; /* no need to ask anybody */
        if (!s->newest_s && looks++ < LOOKS)
            s->newest_s = newest_frame_s(c, s);
        if (s->newest_s && !storage)
            storage = storage_now_s(c);
        by_file = ttl_is_over(ttl, storage, s->mtime_ns / NS_PER_S);
        by_frame = ttl_is_over(ttl, wall, s->newest_s);
        s->expired = by_file && by_frame;
        doubted += by_file != by_frame && s->newest_s && storage;
        if (s->expired && (!oldest || s->mtime_ns < oldest->mtime_ns))
            oldest = s;
    }
    metric_set(&c->metrics, METRIC_ttl_doubted_segments, doubted);
    return oldest;
}

/* ---- What the space says ---- */

/* The first who writes and was given one says it to all. */
static int look_or_say(cistern *c, const char *path, uint32_t *seconds)
{
    bool may_write = !(c->cfg.flags & (CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY));
    int rc = ttl_file_read(c->io, path, seconds);

    if (rc != -ENOENT)
        return rc;
    *seconds = c->cfg.ttl_seconds;
    if (*seconds && may_write && ttl_file_write(c->io, path, *seconds, true) == -EEXIST)
        rc = ttl_file_read(c->io, path, seconds);
    return rc == -ENOENT ? 0 : rc;
}

void ttl_look(cistern *c)
{
    char path[sizeof c->space_path + sizeof SPACE_TTL + 1];
    uint32_t asked = c->cfg.ttl_seconds, seconds = 0, before;
    int rc;

    (void)snprintf(path, sizeof path, "%s/" SPACE_TTL, c->space_path);
    rc = look_or_say(c, path, &seconds);
    if (rc && rc != -EBADMSG)
        return;
    if (rc) {
        if (!c->ttl_unclear)
            log_line(&c->cfg.log, LOG_WARN, "%s cannot be read as one: nothing is too old", path);
        seconds = 0;
    }
    c->ttl_unclear = rc != 0;
    before = atomic_exchange(&c->ttl_seconds, seconds);
    if (before == seconds && c->ttl_told)
        return;
    if (!rc && asked && asked != seconds)
        log_line(&c->cfg.log, LOG_WARN,
                 "ttl_seconds is %u in %s, as all who share the space must have it: it is used "
                 "instead of %u",
                 seconds, path, asked);
    else if (before != seconds)
        log_line(&c->cfg.log, LOG_INFO, "the time to live of %s is %u s", c->space_path, seconds);
    c->ttl_told = true;
}

/* ---- The keeper ---- */

void ttl_step(cistern *c)
{
    struct ttl *t = &c->capacity->ttl;
    uint64_t boot = clock_boot_ns(), bytes;
    uint32_t ttl = atomic_load(&c->ttl_seconds);
    struct usage_segment *s;
    size_t segments;

    if (!ttl || !ttl_clock_trusted(&t->clock, clock_wall_s(), boot) ||
        !(s = judge_all(c, &segments)) || boot < t->next_ns)
        return;
    if (boot - t->next_ns > ttl_pace_ns(ttl, 1))
        t->most = 0; /* those before are long gone */
    t->most = max_u64(t->most, segments);
    bytes = s->seg_bytes;
    if (notes_keep(c, &c->capacity->usage, s, false) || evict_begin(c, &c->capacity->usage, s))
        return;
    metric_add(&c->metrics, METRIC_expired_segments, 1);
    metric_add(&c->metrics, METRIC_expired_bytes, bytes);
    t->next_ns = boot + ttl_pace_ns(ttl, t->most);
}

/* ---- The write lane ---- */

bool ttl_ends(const cistern *c, const struct wseg *s)
{
    uint64_t ttl = atomic_load_explicit(&c->ttl_seconds, memory_order_relaxed);

    return ttl && s->reserved && clock_boot_ns() - s->began_ns >= ttl * NS_PER_S / SPAN_PART;
}
