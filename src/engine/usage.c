/*
 * usage.c - see usage.h. A scan makes a new list of names (usage_list.c), sorts it, takes over what
 * is known of each from the old list, which has the same order, and asks storage only for the rest.
 */
#include "engine/usage_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/writer_internal.h"

#define GROWING_NS (3 * NS_PER_S) /* what did not change for so long is not growing */
#define SETTLED_NS (10 * NS_PER_S)
/* A settled file is asked for its size once in so many scans; not all of them in the same one. */
#define LOOK_AGAIN 32u
#define PATH_BYTES 640

/* ---- What is known of them ---- */

/* The data file and the contents of a segment become one entry. */
static void join_files(struct usage *u)
{
    size_t i, n = 0;

    if (u->nsegs)
        qsort(u->segs, u->nsegs, sizeof *u->segs, usage_seg_order);
    if (u->nheads)
        qsort(u->heads, u->nheads, sizeof *u->heads, usage_head_order);
    for (i = 0; i < u->nsegs; i++) {
        if (n && usage_seg_order(&u->segs[n - 1], &u->segs[i]) == 0) {
            u->segs[n - 1].seg |= u->segs[i].seg;
            u->segs[n - 1].toc |= u->segs[i].toc;
        } else {
            u->segs[n++] = u->segs[i];
        }
    }
    u->nsegs = n;
}

/* One that vanished under us while this handle has it open holds its space. */
static bool still_open(const struct usage *u, cistern *c, const struct usage_segment *s)
{
    return u->dirs[s->dir].own && s->seg_bytes &&
           segtab_open_file(&c->segs, u->dirs[s->dir].shard, s->writer, s->seq);
}

static int take_over(struct usage *u, cistern *c, uint64_t now)
{
    size_t i = 0, o = 0, n = u->nsegs;

    while (i < n || o < u->nold) {
        int order = i == n ? 1 : o == u->nold ? -1 : usage_seg_order(&u->segs[i], &u->old_segs[o]);
        struct usage_segment *s = &u->segs[i], *was = &u->old_segs[o];

        if (order < 0) {
            s->changed_ns = u->scans ? now : 0;
            i++;
        } else if (order > 0) {
            if (still_open(u, c, was)) {
                struct usage_segment left = *was;

                left.seg = left.toc = false;
                left.unlinked = true;
                left.toc_bytes = 0;
                if (usage_grow((void **)&u->segs, &u->rsegs, u->nsegs, sizeof *u->segs))
                    return -ENOMEM;
                u->segs[u->nsegs++] = left;
            }
            o++;
        } else {
            bool seg = s->seg, toc = s->toc;

            *s = *was;
            s->seg = seg;
            s->toc = toc;
            s->unlinked = s->hurried = false;
            if (!toc)
                s->toc_bytes = 0;
            if (!seg)
                s->seg_bytes = 0;
            i++;
            o++;
        }
    }
    if (u->nsegs != n)
        qsort(u->segs, u->nsegs, sizeof *u->segs, usage_seg_order);
    for (i = 0, o = 0; i < u->nheads; i++) {
        while (o < u->nold_heads && usage_head_order(&u->old_heads[o], &u->heads[i]) < 0)
            o++;
        if (o < u->nold_heads && usage_head_order(&u->old_heads[o], &u->heads[i]) == 0)
            u->heads[i] = u->old_heads[o];
    }
    return 0;
}

/* ---- Asking storage ---- */

/* Sizes that storage does not tell stay as they were. */
static int stat_file(struct usage *u, cistern *c, struct usage_segment *s, const char *suffix,
                     struct io_stat *st)
{
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    int rc;

    segment_name(name, s->writer, s->seq, suffix);
    (void)snprintf(path, sizeof path, "%s/%s", u->dirs[s->dir].path, name);
    rc = c->io->ops->stat(c->io, path, st);
    s->blind = rc && rc != -ENOENT;
    if (s->blind)
        usage_note_blind(u, c, path, rc);
    return rc;
}

static void look_data(struct usage *u, cistern *c, struct usage_segment *s)
{
    struct io_stat st;
    int rc = stat_file(u, c, s, ".seg", &st);

    if (s->blind)
        return;
    s->seg = !rc;
    s->seg_bytes = rc ? 0 : st.disk_bytes;
}

static void look_contents(struct usage *u, cistern *c, struct usage_segment *s)
{
    struct io_stat st;
    int rc = stat_file(u, c, s, ".toc", &st);

    if (s->blind)
        return;
    s->toc = !rc;
    s->toc_bytes = rc ? 0 : st.disk_bytes;
    s->toc_size = rc ? 0 : st.size;
    if (!rc)
        s->mtime_ns = st.mtime_ns ? st.mtime_ns : st.mtime_s * NS_PER_S;
}

/* What this handle writes moves the clock when it is written. */
static void note_growth(const struct usage *u, cistern *c, struct usage_segment *s, uint64_t bytes)
{
    struct heat *heat = &c->capacity->heat;

    if (!u->dirs[s->dir].own || !writer_is_own(c, s->writer))
        heat_written(heat, bytes);
    s->place = (int64_t)atomic_load(&heat->written);
}

static void look(struct usage *u, cistern *c, struct usage_segment *s, uint64_t now)
{
    uint64_t was = s->seg_bytes + s->toc_bytes, is;

    if (s->unlinked || (s->looked && (u->scans + s->writer + s->seq) % LOOK_AGAIN && s->sealed &&
                        past_ns(now, s->changed_ns) >= SETTLED_NS))
        return;
    s->blind = false;
    if (s->seg)
        look_data(u, c, s);
    if (s->toc && !s->blind)
        look_contents(u, c, s);
    if (s->blind)
        return;
    is = s->seg_bytes + s->toc_bytes;
    if (is != was && u->scans)
        s->changed_ns = clock_boot_ns();
    if (is > was && u->scans)
        note_growth(u, c, s, is - was);
    s->looked = u->scans + 1;
}

static void read_head(struct usage *u, cistern *c, struct usage_head *h)
{
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    uint64_t before = clock_boot_ns();
    struct head_record is;
    int64_t n;
    int rc;

    if (h->valid && h->h.state == HEAD_CLOSED)
        return;
    head_name(name, h->writer);
    (void)snprintf(path, sizeof path, "%s/%s", u->dirs[h->dir].path, name);
    n = c->io->ops->small_read(c->io, path, u->head_page, sizeof u->head_page);
    h->blind = n < 0 && n != -ENOENT && n != -EFBIG;
    if (h->blind) {
        usage_note_blind(u, c, path, (int)n);
        return;
    }
    h->checked_ns = before;
    if (!h->changed_ns)
        h->changed_ns = clock_boot_ns();
    rc = n == FORMAT_PAGE ? head_decode(u->head_page, &is) : -EBADMSG;
    h->later = rc == CISTERN_EFORMAT;
    if (rc || is.writer != h->writer) {
        h->bad_ns = h->bad_ns ? h->bad_ns : before;
        return; /* being written, of another, or none: silence will tell, if it stays so */
    }
    h->bad_ns = 0;
    head_touches(u->head_page, h->touches, HEAD_TOUCHES_MAX);
    if (!h->valid || h->h.counter != is.counter || h->h.state != is.state)
        h->changed_ns = clock_boot_ns();
    h->h = is;
    h->valid = true;
}

const struct usage_head *usage_head_of(const struct usage *u, uint32_t dir, uint64_t writer)
{
    struct usage_head key;

    key.dir = dir;
    key.writer = writer;
    return u->nheads ? bsearch(&key, u->heads, u->nheads, sizeof *u->heads, usage_head_order)
                     : NULL;
}

bool usage_head_ended(const struct usage_head *h, uint64_t silence_ns)
{
    uint64_t since;

    if (h->valid && h->h.state == HEAD_CLOSED)
        return true;
    since = max_u64(h->changed_ns, h->bad_ns);
    return !h->blind && !h->later && h->checked_ns > since && h->checked_ns - since >= silence_ns;
}

/* ---- What follows from it ---- */

/* Nobody can say what it does now. */
static bool is_blind(const struct usage *u, const struct usage_segment *s)
{
    const struct usage_head *h = usage_head_of(u, s->dir, s->writer);

    return s->blind || u->dirs[s->dir].blind || (h && h->blind);
}

static bool is_sealed(const struct usage *u, cistern *c, const struct usage_segment *s,
                      uint64_t now)
{
    const struct usage_head *h;

    if (u->dirs[s->dir].own && writer_is_own(c, s->writer))
        return !writer_segment_open(c, s->writer, s->seq);
    if (is_blind(u, s))
        return false;
    h = usage_head_of(u, s->dir, s->writer);
    if (!h)
        return s->changed_ns ? past_ns(now, s->changed_ns) >= c->capacity->silence_ns
                             : past_ns(now, u->first_ns) >= c->capacity->silence_ns;
    return usage_head_ended(h, c->capacity->silence_ns) || (h->valid && s->seq + 1 < h->h.next_seq);
}

static void judge_spaces(struct usage *u, cistern *c)
{
    uint32_t i, j;
    size_t k;

    for (i = 0; i < u->nspaces; i++)
        u->spaces[i].live = u->spaces[i].own;
    for (k = 0; k < u->nheads; k++) {
        const struct usage_head *h = &u->heads[k];
        struct usage_space *s = &u->spaces[u->dirs[h->dir].space];

        s->live |= h->valid && !usage_head_ended(h, c->capacity->silence_ns);
        s->newest_s = max_u64(s->newest_s, h->valid ? h->h.written_s : 0);
    }
    for (i = 0; i < u->nspaces; i++) {
        u->spaces[i].rank = !u->spaces[i].live;
        for (j = 0; j < u->nspaces && !u->spaces[i].live; j++)
            u->spaces[i].rank +=
                !u->spaces[j].live && u->spaces[j].newest_s > u->spaces[i].newest_s;
        if (u->spaces[i].retired)
            u->spaces[i].rank = POLICY_RANK_EXPIRED;
    }
}

/* Two of the segments of a writer may be growing: the one that it writes and the one after. */
static bool is_newest(const struct usage *u, size_t i)
{
    return i + 2 >= u->nsegs || u->segs[i + 2].dir != u->segs[i].dir ||
           u->segs[i + 2].writer != u->segs[i].writer;
}

/* Counts as the whole segment that it may become. */
static bool may_grow(const struct usage *u, const cistern *c, size_t i, uint64_t now)
{
    const struct usage_segment *s = &u->segs[i];

    if (s->sealed)
        return false;
    if (u->dirs[s->dir].own && writer_is_own(c, s->writer))
        return true;
    if (s->toc && s->changed_ns && past_ns(now, s->changed_ns) < GROWING_NS)
        return true;
    return s->toc && is_blind(u, s) && (!s->looked || is_newest(u, i));
}

static void sum_up(struct usage *u, cistern *c, uint64_t now)
{
    size_t i;

    u->bytes = u->counted = u->leaving = u->stuck = 0;
    u->files = u->nheads;
    for (i = 0; i < u->nsegs; i++) {
        struct usage_segment *s = &u->segs[i];
        uint64_t bytes = s->seg_bytes + s->toc_bytes;

        s->sealed = s->unlinked || is_sealed(u, c, s, now);
        s->alone_ns = s->seg != s->toc ? (s->alone_ns ? s->alone_ns : clock_boot_ns()) : 0;
        s->counted = bytes;
        if (may_grow(u, c, i, now))
            s->counted = max_u64(bytes, c->cfg.segment_bytes + s->toc_bytes);
        u->bytes += bytes;
        u->counted += s->counted;
        if (!s->toc && usage_stuck(s))
            u->stuck += bytes;
        else if (!s->toc)
            u->leaving += bytes;
        u->files += s->seg + s->toc;
    }
    u->bytes += u->nheads * FORMAT_PAGE;
    u->counted += u->nheads * FORMAT_PAGE;
}

static void mark_bare_heads(struct usage *u, uint64_t now)
{
    size_t i, k;

    for (i = 0, k = 0; i < u->nheads; i++) {
        struct usage_head *h = &u->heads[i];

        while (k < u->nsegs && (u->segs[k].dir < h->dir ||
                                (u->segs[k].dir == h->dir && u->segs[k].writer < h->writer)))
            k++;
        if (u->dirs[h->dir].blind ||
            (k < u->nsegs && u->segs[k].dir == h->dir && u->segs[k].writer == h->writer))
            h->bare_ns = 0;
        else if (!h->bare_ns)
            h->bare_ns = now;
    }
}

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        __typeof__(a) was_ = (a);                                                                  \
        (a) = (b);                                                                                 \
        (b) = was_;                                                                                \
    } while (0)

static void swap_lists(struct usage *u)
{
    SWAP(u->segs, u->old_segs);
    SWAP(u->nsegs, u->nold);
    SWAP(u->rsegs, u->rold);
    SWAP(u->heads, u->old_heads);
    SWAP(u->nheads, u->nold_heads);
    SWAP(u->rheads, u->rold_heads);
}

int usage_scan(struct usage *u, cistern *c)
{
    uint64_t now = clock_boot_ns();
    size_t i;
    int rc;

    swap_lists(u);
    u->nsegs = u->nheads = 0;
    u->blind_last = u->blind;
    u->blind = 0;
    rc = usage_list(u, c);
    join_files(u);
    if (!rc)
        rc = take_over(u, c, clock_boot_ns());
    for (i = 0; i < u->nheads && !rc; i++)
        read_head(u, c, &u->heads[i]);
    for (i = 0; i < u->nsegs && !rc; i++)
        look(u, c, &u->segs[i], now);
    if (rc) {
        swap_lists(u);
        return rc;
    }
    if (u->blind_last && !u->blind)
        log_line(&c->cfg.log, LOG_INFO, "everything in the root can be looked at again");
    if (!u->scans)
        u->first_ns = clock_boot_ns();
    mark_bare_heads(u, clock_boot_ns());
    sum_up(u, c, now);
    judge_spaces(u, c);
    u->scans++;
    return 0;
}
