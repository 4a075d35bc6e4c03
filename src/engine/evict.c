/*
 * evict.c - see evict.h.
 *
 * A crash between the steps leaves data without contents; one before them changes nothing; there is
 * no third state. Two evictors of one segment both see -ENOENT at worst.
 *
 * A listing is no snapshot, and may be old: that it does not show the contents of a segment says
 * that they may be gone. Before anything is forgotten or removed for it they are asked for by name.
 *
 * Threads: the keeper (segment_forget(): also the follower, and the opener before both run).
 */
#include "engine/evict.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/carry.h"
#include "engine/heat.h"
#include "engine/notes.h"
#include "engine/writer_internal.h"

#define PATH_BYTES 640
#define READ_NS    (2 * NS_PER_S)

/* ---- In memory ---- */

uint64_t segment_forget(cistern *c, uint32_t number)
{
    uint64_t blocks = 0;

    if (!segtab_in_use(&c->segs, number))
        return 0;
    /* The index first: a match that is asked from here on does not promise it, and a get that found
     * it before still finds the file, open or by its name. */
    if (c->segs.at[number].shard == c->cfg.shard)
        (void)atomic_fetch_add(&c->forgotten, 1);
    heat_forget(c, number);
    blocks = index_remove_segment(c->index, number);
    (void)segtab_forget(&c->segs, number);
    return blocks;
}

/* What was inserted while it was being forgotten goes now, when nobody holds it any more. */
static void left(void *arg, uint32_t number)
{
    cistern *c = arg;

    (void)index_remove_segment(c->index, number);
    if (c->crypt)
        crypt_forget(c->crypt, number);
}

uint32_t segments_collect(cistern *c)
{
    return segtab_collect(&c->segs, c->io, left, c);
}

/* ---- On storage ---- */

static void path_of(const struct usage *u, const struct usage_segment *s, const char *suffix,
                    char path[PATH_BYTES])
{
    char name[SEGMENT_NAME_MAX];

    segment_name(name, s->writer, s->seq, suffix);
    (void)snprintf(path, PATH_BYTES, "%s/%s", u->dirs[s->dir].path, name);
}

/* Storage does not let it go. What was thought to leave stays, from the last try on. */
static void refused(cistern *c, struct usage *u, struct usage_segment *s, const char *path, int rc)
{
    s->tried_ns = clock_boot_ns();
    if (usage_stuck(s) || ++s->tries < USAGE_TRIES)
        return;
    log_line(&c->cfg.log, LOG_WARN, "%s cannot be removed (%s): it stays, and counts as used", path,
             cistern_error_string(rc));
    if (!s->toc) {
        u->leaving -= s->seg_bytes;
        u->stuck += s->seg_bytes;
    }
}

static int unlink_file(cistern *c, struct usage *u, struct usage_segment *s, const char *suffix)
{
    char path[PATH_BYTES];
    int rc;

    if (usage_rests(s, clock_boot_ns()))
        return -EAGAIN;
    path_of(u, s, suffix, path);
    rc = c->io->ops->unlink(c->io, path);
    if (rc && rc != -ENOENT) {
        refused(c, u, s, path, rc);
        return rc;
    }
    if (!s->toc && usage_stuck(s)) {
        u->stuck -= s->seg_bytes;
        u->leaving += s->seg_bytes;
    }
    s->tries = 0;
    return 0;
}

/* The listing did not show the contents: are they gone? */
static bool contents_gone(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    char path[PATH_BYTES];
    struct io_stat st;

    if (s->begun)
        return true;
    path_of(u, s, ".toc", path);
    return c->io->ops->stat(c->io, path, &st) == -ENOENT;
}

/* Of this handle's shard: the number, or -1. */
static int64_t number_of(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    const struct segment *known =
        u->dirs[s->dir].own ? segtab_find_file(&c->segs, u->dirs[s->dir].shard, s->writer, s->seq)
                            : NULL;

    return known ? known - c->segs.at : -1;
}

static bool is_own(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    return u->dirs[s->dir].own && writer_is_own(c, s->writer);
}

/* The first segment of one of our streams that is not forgotten. A listing would not do: it may be
 * older than the last ones, and what lies before the first is not looked at by anybody. */
static void move_first(cistern *c, uint64_t writer)
{
    uint32_t i, n = atomic_load(&c->segs.count);
    uint64_t first = UINT64_MAX;

    for (i = 0; i < n; i++) {
        const struct segment *s = &c->segs.at[i];

        if (segtab_in_use(&c->segs, i) && s->own && s->writer == writer && s->seq < first)
            first = s->seq;
    }
    writer_first_seq(c, writer, first);
}

int evict_begin(cistern *c, struct usage *u, struct usage_segment *s)
{
    int64_t number = number_of(c, u, s);
    int rc;

    fault_point("evict.begin");
    if ((rc = unlink_file(c, u, s, ".toc")))
        return rc;
    fault_point("evict.contents_gone");
    s->toc = false;
    s->begun = true;
    s->alone_ns = clock_boot_ns();
    u->leaving += s->seg_bytes;
    u->bytes -= s->toc_bytes;
    u->counted -= s->toc_bytes;
    s->toc_bytes = 0;
    number = number_of(c, u, s); /* again: the unlink may have taken its time */
    if (number >= 0)
        (void)segment_forget(c, (uint32_t)number);
    if (is_own(c, u, s))
        move_first(c, s->writer);
    if (u->dirs[s->dir].own)
        bell_ring(&c->bell, u->dirs[s->dir].shard, true);
    metric_add(&c->metrics, METRIC_evicted_segments, 1);
    metric_add(&c->metrics, METRIC_evicted_bytes, s->seg_bytes);
    return 0;
}

bool evict_finish(cistern *c, struct usage *u, struct usage_segment *s)
{
    if (u->dirs[s->dir].own)
        carry_cancel(c, s->writer, s->seq);
    (void)segments_collect(c);
    if (unlink_file(c, u, s, ".seg"))
        return false;
    fault_point("evict.data_gone");
    s->seg = false;
    if (u->dirs[s->dir].own &&
        segtab_open_file(&c->segs, u->dirs[s->dir].shard, s->writer, s->seq)) {
        s->unlinked = true; /* a read of ours still holds it, and its space */
        return true;
    }
    u->leaving -= s->seg_bytes;
    u->bytes -= s->seg_bytes;
    u->counted -= s->seg_bytes;
    s->seg_bytes = 0;
    return true;
}

/* A size alone decides nothing: that of the scan may be old, and on 3FS it lags. What a head says
 * was published is there. */
static bool is_empty(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    const struct usage_head *h = usage_head_of(u, s->dir, s->writer);
    char path[PATH_BYTES];
    struct io_stat st;

    if (s->toc_size >= FORMAT_PAGE || (h && h->valid && s->seq < h->h.next_seq))
        return false;
    path_of(u, s, ".toc", path);
    return c->io->ops->stat(c->io, path, &st) == 0 && st.size < FORMAT_PAGE;
}

/* Contents without data: a crash while they were made, or a data file that was lost. Empty pairs: a
 * writer that died before it put anything in. */
static bool is_litter(cistern *c, const struct usage *u, const struct usage_segment *s,
                      uint64_t now, uint64_t silence_ns)
{
    if (!s->sealed || !s->toc)
        return false;
    if (!s->seg)
        return s->alone_ns && past_ns(now, s->alone_ns) >= silence_ns;
    return past_ns(now, s->changed_ns) >= silence_ns && is_empty(c, u, s);
}

/* What contents say of other segments outlives them, also when their data is lost. */
static bool notes_are_kept(cistern *c, struct usage *u, struct usage_segment *s, uint64_t now)
{
    return now >= s->wait_ns && notes_keep(c, u, s, false) == 0;
}

static void collect_head(cistern *c, const struct usage *u, struct usage_head *h)
{
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];

    head_name(name, h->writer);
    (void)snprintf(path, sizeof path, "%s/%s", u->dirs[h->dir].path, name);
    if (c->io->ops->unlink(c->io, path) == 0)
        metric_add(&c->metrics, METRIC_orphans_removed, 1);
}

static void collect_heads(cistern *c, struct usage *u, uint64_t now, uint64_t grace_ns,
                          uint64_t silence_ns)
{
    size_t i;

    for (i = 0; i < u->nheads; i++) {
        struct usage_head *h = &u->heads[i];

        if (u->dirs[h->dir].own && writer_is_own(c, h->writer))
            continue;
        if (h->bare_ns && past_ns(now, h->bare_ns) >= grace_ns && usage_head_ended(h, silence_ns))
            collect_head(c, u, h);
    }
}

/* Another process evicted it: our index has it still. */
static void notice(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    int64_t number = s->toc ? -1 : number_of(c, u, s);

    if (number < 0 || (is_own(c, u, s) && !s->sealed) || !contents_gone(c, u, s))
        return;
    if (segment_forget(c, (uint32_t)number))
        log_line(&c->cfg.log, LOG_DEBUG, "a segment of %016llx was evicted elsewhere",
                 (unsigned long long)s->writer);
}

/* What is carried over of it is still being read: a little longer than the grace. */
static bool is_read(const cistern *c, const struct usage *u, const struct usage_segment *s,
                    uint64_t now, uint64_t grace_ns)
{
    return u->dirs[s->dir].own && past_ns(now, s->alone_ns) < grace_ns + READ_NS &&
           carry_reads(c, s->writer, s->seq);
}

uint64_t evict_collect(cistern *c, struct usage *u, uint64_t grace_ns, uint64_t silence_ns)
{
    uint64_t now = clock_boot_ns(), before = u->bytes;
    size_t i;

    for (i = 0; i < u->nsegs; i++) {
        struct usage_segment *s = &u->segs[i];

        notice(c, u, s);
        /* Another process removed the data while blocks of it are carried over here: that may have
         * to wait for room, and the room is what it holds open. */
        if (s->unlinked && u->dirs[s->dir].own)
            carry_cancel(c, s->writer, s->seq);
        if (is_own(c, u, s) && !s->sealed)
            continue;
        if (is_litter(c, u, s, now, silence_ns)) {
            if ((s->seg || notes_are_kept(c, u, s, now)) && unlink_file(c, u, s, ".toc") == 0) {
                s->toc = false;
                s->alone_ns = now;
                metric_add(&c->metrics, METRIC_orphans_removed, 1);
            }
        } else if (s->seg && !s->toc && s->alone_ns && past_ns(now, s->alone_ns) >= grace_ns &&
                   !usage_rests(s, now) && !is_read(c, u, s, now, grace_ns) &&
                   contents_gone(c, u, s)) {
            (void)evict_finish(c, u, s);
        }
    }
    (void)segments_collect(c);
    collect_heads(c, u, now, grace_ns, silence_ns);
    return before - u->bytes;
}

/* The one to go first, or NULL. */
static struct usage_segment *next_leaving(struct usage *u, uint64_t now)
{
    struct usage_segment *first = NULL;
    size_t i;

    for (i = 0; i < u->nsegs; i++) {
        struct usage_segment *s = &u->segs[i];

        if (!s->sealed || !s->seg || s->toc || s->hurried || usage_rests(s, now))
            continue;
        if (!first || (s->begun != first->begun ? s->begun : s->alone_ns < first->alone_ns))
            first = s;
    }
    return first;
}

uint64_t evict_hurry(cistern *c, struct usage *u, uint64_t need)
{
    uint64_t before = u->bytes, now = clock_boot_ns();
    struct usage_segment *s;

    while (before - u->bytes < need && (s = next_leaving(u, now))) {
        s->hurried = true;
        if (contents_gone(c, u, s))
            (void)evict_finish(c, u, s);
    }
    return before - u->bytes;
}
