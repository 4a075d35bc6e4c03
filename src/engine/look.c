/*
 * look.c - one look at what other writers did: names, then heads, then contents.
 *
 * In this order, so that contents are at least as new as what their head was seen to say: what is
 * read of a writer after its head closed, or after it was found silent, is the last that there is,
 * and is not read again. Of a writer that lives only segments that its head moved on from, or to,
 * are read; which these are follows from their numbers, so that directories are listed for new
 * writers and for what was taken away, and for nothing else.
 *
 * What cannot be read now is tried at later looks; it never ends the look of the others. Bytes that
 * make no sense, or end too early, may be storage's fault in passing: they are read again a few
 * times at once, then at listings that lie further and further apart, and whenever somebody asks.
 * Nothing is taken for the last that a writer had to say before a look found nothing behind it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/evict.h"
#include "engine/follow.h"
#include "engine/gone.h"
#include "engine/writer_internal.h"
#include "io/process.h"

#define RANGE_MAX   65536u /* segments that one look takes from what a head says */
#define BEHIND      4u     /* segments before the last that a writer may still add to */
#define TRIES_MAX   8u
#define WAITS_MAX   6u   /* the longest wait is of 2^6 listings */
#define HEADS_OPEN  256u /* at most, and two descriptors each of a part of those of the process */
#define HEADS_PART  32u
#define MISSING_MAX 64u

static bool is_own(const cistern *c, uint32_t shard, uint64_t writer)
{
    return shard == c->cfg.shard && writer_is_own(c, writer);
}

/* ---- Names ---- */

static int add_file(struct follower *f, uint64_t writer, uint64_t seq)
{
    struct look_file *grown;

    if (f->nfiles == f->files_room) {
        size_t room = f->files_room ? 2 * f->files_room : 64;

        grown = realloc(f->files, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        f->files = grown;
        f->files_room = room;
    }
    f->files[f->nfiles++] = (struct look_file){writer, seq, f->listed_shard};
    return 0;
}

/* Contents that nobody knows: worth a look? What was tried in vain of a writer that went on since
 * is not. */
static bool worth_a_look(const struct peer *p, uint64_t seq)
{
    if (p->settled)
        return false;
    return !p->headed || seq >= p->top || seq + BEHIND >= p->head.next_seq;
}

static int on_name(void *arg, const char *name)
{
    cistern *c = arg;
    struct follower *f = c->follower;
    uint64_t writer, seq;
    enum segment_file kind = segment_name_parse(name, &writer, &seq);
    struct segment *s = NULL;
    struct peer *p;

    if (kind != SEGMENT_FILE_TOC && kind != SEGMENT_FILE_HEAD)
        return 0;
    if (kind == SEGMENT_FILE_TOC &&
        (s = segtab_find_file(&c->segs, f->listed_shard, writer, seq)) != NULL)
        s->seen = f->listing;
    if (is_own(c, f->listed_shard, writer))
        return 0;
    if (!(p = peers_get(&f->peers, f->listed_shard, writer, clock_boot_ns())))
        return -ENOMEM;
    p->seen = f->listing;
    if (kind == SEGMENT_FILE_HEAD || s || !worth_a_look(p, seq))
        return 0;
    return add_file(f, writer, seq);
}

static bool contents_gone(cistern *c, uint32_t shard, uint64_t writer, uint64_t seq)
{
    return gone_file(c, shard, writer, seq, ".toc");
}

void peer_look_again(struct peer *p, uint64_t seq)
{
    if (!p)
        return;
    if (p->top > seq)
        p->top = seq;
    p->settled = false;
}

/* Segments that a listing had shown before, or that were made here, and that it does not show now.
 */
static void forget_vanished(cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count), listing = c->follower->listing;

    for (i = 0; i < n; i++) {
        const struct segment *s = &c->segs.at[i];

        if (segtab_in_use(&c->segs, i) && (s->seen || s->own) && s->seen != listing &&
            follow_wants(c, s->shard) && !gone_not_yet(c, i) &&
            contents_gone(c, s->shard, s->writer, s->seq)) {
            peer_look_again(peers_find(&c->follower->peers, s->shard, s->writer), s->seq);
            gone_forget(c, i);
        }
    }
}

/* On 3FS a host that missed a name, because it looked while the segment was being made, goes on to
 * miss it for seconds: a segment whose data came to light is taken up once more, with its blocks.
 */
static void look_for_data(cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++) {
        struct segment *s = &c->segs.at[i];

        if (!s->bare_ns || !segtab_in_use(&c->segs, i))
            continue;
        if (clock_boot_ns() >= s->bare_ns) {
            s->bare_ns = 0;
        } else if (!gone_file(c, s->shard, s->writer, s->seq, ".seg")) {
            peer_look_again(peers_find(&c->follower->peers, s->shard, s->writer), s->seq);
            gone_forget(c, i);
        }
    }
}

static int list_names(cistern *c)
{
    struct follower *f = c->follower;
    char dir[544];
    uint32_t s;
    int rc = 0;

    look_for_data(c);
    f->listing++;
    for (s = 0; s < c->cfg.shards && !rc; s++) {
        if (!follow_wants(c, s))
            continue;
        follow_dir(c, s, dir);
        f->listed_shard = s;
        rc = c->io->ops->list(c->io, dir, on_name, c);
        if (rc == -ENOENT)
            rc = 0;
        else if (rc)
            rc = err_set(rc, "%s cannot be listed: %s", dir, cistern_error_string(rc));
    }
    if (rc)
        return rc;
    forget_vanished(c);
    peers_sweep(&f->peers, c->io, f->listing);
    return 0;
}

/* ---- Heads ---- */

static bool head_due(const cistern *c, const struct peer *p, unsigned what, uint32_t shards,
                     uint64_t boot_ns)
{
    if (is_own(c, p->shard, p->writer) || p->state == PEER_CLOSED)
        return false;
    if (p->state == PEER_SILENT)
        return boot_ns - p->checked_ns >= c->cfg.silence_ms * NS_PER_MS;
    if (what & (LOOK_LIST | LOOK_ALL))
        return true;
    return what & LOOK_HEADS && shards >> p->shard % 32 & 1;
}

/* `keep`: it may stay open; others are closed as soon as they were read. */
static int add_head_job(cistern *c, struct peer *p, bool keep)
{
    struct contents_job *job;
    char dir[544];

    follow_dir(c, p->shard, dir);
    if (!(job = contents_list_add(&c->follower->heads, dir, p->shard, p->writer)))
        return -ENOMEM;
    job->is_head = true;
    job->keep = keep || p->file.fd >= 0;
    job->file = p->file;
    p->file.fd = -1; /* the job has it until it is over */
    return 0;
}

/* Segments that left the live range of the head: their writer is about to remove them. */
static void forget_before(cistern *c, struct peer *p)
{
    uint64_t seq = p->gone;

    if (!seq || p->head.first_seq - seq > RANGE_MAX)
        seq = p->head.first_seq > RANGE_MAX ? p->head.first_seq - RANGE_MAX : 0;
    for (; seq < p->head.first_seq; seq++) {
        struct segment *s = segtab_find_file(&c->segs, p->shard, p->writer, seq);

        if (s)
            gone_forget(c, (uint32_t)(s - c->segs.at));
    }
    p->gone = p->head.first_seq;
}

static void note_head(cistern *c, const struct contents_job *job)
{
    if (!c->follower->first || !job->result || job->result == -ENODATA || job->result == -ENOENT)
        return;
    metric_add(&c->metrics, METRIC_head_bad, 1);
    log_line(&c->cfg.log, LOG_WARN, "%s: the head of writer %016llx cannot be used: %s", job->dir,
             (unsigned long long)job->writer, cistern_error_string(job->result));
}

/* It was taken for ended, and read to its end: that was not the end. */
static void read_anew(cistern *c, struct peer *p)
{
    uint32_t i, n = atomic_load(&c->segs.count);

    for (i = 0; i < n; i++) {
        struct segment *s = &c->segs.at[i];

        if (segtab_in_use(&c->segs, i) && s->shard == p->shard && s->writer == p->writer)
            s->ended = s->quiet = false;
    }
    p->unsure = true; /* all of it */
    p->tries = 0;
}

static void head_over(cistern *c, struct contents_job *job, uint64_t before_ns, uint64_t after_ns,
                      uint32_t *open, uint32_t most)
{
    struct follower *f = c->follower;
    struct peer *p = peers_find(&f->peers, job->shard, job->writer);
    uint64_t counter = p ? p->head.counter : 0;

    note_head(c, job);
    if (p) {
        if (peer_looked(&f->peers, p, job->result, &job->head, before_ns, after_ns,
                        c->cfg.silence_ms * NS_PER_MS))
            read_anew(c, p);
        if (p->headed && p->head.counter != counter)
            forget_before(c, p);
        if (p->state == PEER_LIVE && !job->result && job->file.fd >= 0 && *open < most) {
            p->file = job->file;
            job->file.fd = -1;
            ++*open;
        }
    }
    if (job->file.fd >= 0)
        c->io->ops->file_close(c->io, &job->file);
}

static int read_heads(cistern *c, unsigned what, uint32_t shards)
{
    struct follower *f = c->follower;
    uint64_t before_ns = clock_boot_ns(), after_ns;
    uint32_t i, open = 0, most = (uint32_t)min_u64(HEADS_OPEN, process_files_max() / HEADS_PART);
    size_t j;
    int rc = 0;

    f->heads.count = 0;
    for (i = 0; i < f->peers.count && !rc; i++) {
        struct peer *p = &f->peers.at[i];

        if (head_due(c, p, what, shards, before_ns))
            rc = add_head_job(c, p, f->heads.count < most);
        open += p->file.fd >= 0;
    }
    if (!f->heads.count)
        return rc;
    metric_add(&c->metrics, METRIC_head_reads, f->heads.count);
    rc = rc ? rc : contents_run(&f->reader, f->heads.at, f->heads.count);
    after_ns = clock_boot_ns();
    for (j = 0; j < f->heads.count; j++)
        head_over(c, &f->heads.at[j], before_ns, after_ns, &open, most);
    return rc;
}

/* ---- Contents ---- */

static int add_contents_job(cistern *c, const struct peer *p, uint64_t seq,
                            const struct segment *known)
{
    uint32_t number = known ? (uint32_t)(known - c->segs.at) : 0;
    struct contents_job *job;
    char dir[544];

    if (known && !segment_hold(&c->segs, number))
        return 0; /* forgotten just now */
    follow_dir(c, p->shard, dir);
    if (!(job = contents_list_add(&c->follower->contents, dir, p->shard, p->writer))) {
        if (known)
            segment_release(&c->segs, number);
        return -ENOMEM;
    }
    job->seq = seq;
    job->fresh = !known;
    job->held = known != NULL;
    if (known) {
        job->cursor = known->cursor;
        job->from = known->cursor.position;
        job->number = number;
    } else {
        job->want_data = p->shard == c->cfg.shard && !(c->cfg.flags & CISTERN_OPEN_MATCH_ONLY);
    }
    return 0;
}

/* What a head that moved points at: the segment that was the last, and those after it. */
static int add_range(cistern *c, struct peer *p, bool listed)
{
    uint64_t seq = p->next_from > p->head.first_seq ? p->next_from : p->head.first_seq;
    int rc = 0;

    if (p->head.next_seq > seq + RANGE_MAX)
        seq = p->head.next_seq - RANGE_MAX;
    for (; seq < p->head.next_seq && !rc; seq++) {
        const struct segment *s = segtab_find_file(&c->segs, p->shard, p->writer, seq);

        if (s ? !p->full && !s->own && !s->ended : !listed || seq >= p->top)
            rc = add_contents_job(c, p, seq, s);
        if (seq >= p->top)
            p->top = seq + 1;
    }
    return rc;
}

/* Those that the listing showed and nobody knew. */
static int add_listed(cistern *c)
{
    struct follower *f = c->follower;
    size_t i;
    int rc = 0;

    for (i = 0; i < f->nfiles && !rc; i++) {
        const struct look_file *file = &f->files[i];
        struct peer *p = peers_find(&f->peers, file->shard, file->writer);

        if (!p || (p->headed && file->seq < p->head.first_seq))
            continue;
        rc = add_contents_job(c, p, file->seq, NULL);
        if (!rc)
            f->contents.at[f->contents.count - 1].listed = true;
        if (file->seq >= p->top)
            p->top = file->seq + 1;
    }
    return rc;
}

/* All known ones of the writers concerned that may still grow. */
static int add_full(cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count);
    int rc = 0;

    for (i = 0; i < n && !rc; i++) {
        const struct segment *s = &c->segs.at[i];
        const struct peer *p;

        if (!segtab_in_use(&c->segs, i) || s->own || s->ended || !follow_wants(c, s->shard))
            continue;
        p = peers_find(&c->follower->peers, s->shard, s->writer);
        if (p && p->full)
            rc = add_contents_job(c, p, s->seq, s);
    }
    return rc;
}

/* All contents of this writer are to be read. */
static bool wants_all(const cistern *c, const struct peer *p, unsigned what)
{
    bool due = what & LOOK_LIST && c->follower->listing >= p->again;

    if (p->settled || is_own(c, p->shard, p->writer))
        return false;
    if (what & LOOK_ALL)
        return true;
    if (p->unsure)
        return due || p->tries < TRIES_MAX;
    return p->state != PEER_LIVE && (due || !p->confirm);
}

static int choose_contents(cistern *c, unsigned what)
{
    struct follower *f = c->follower;
    bool any_full = false;
    uint32_t i;
    int rc;

    f->contents.count = 0;
    rc = add_listed(c);
    for (i = 0; i < f->peers.count && !rc; i++) {
        struct peer *p = &f->peers.at[i];

        p->failed = p->more = false;
        p->confirm &= p->state != PEER_LIVE;
        p->full = wants_all(c, p, what);
        p->unsure &= !p->full; /* until the next word about it */
        any_full |= p->full;
        if (p->headed && (p->moved || p->full))
            rc = add_range(c, p, what & LOOK_LIST);
    }
    if (any_full && !rc)
        rc = add_full(c);
    return rc;
}

/* Whether the next read may tell something else. What a living writer is just adding to may end in
 * half a frame. */
static bool doubtful(const struct peer *p, const struct contents_job *job)
{
    bool growing = p->state == PEER_LIVE && (!p->headed || job->seq + 1 >= p->head.next_seq);

    if (job->result == -ENOENT || job->result == -EEXIST || job->result == CISTERN_EFORMAT ||
        job->result == CISTERN_EKEY)
        return false;
    if (growing && (job->result == -ENODATA || (!job->result && job->end == TOC_TORN)))
        return false;
    return job->result || job->end == TOC_TORN;
}

/* Whether contents that were just read have said their last. One look that shows nothing more is
 * not enough: a read may come back short, once. */
static void judge_end(cistern *c, struct peer *p, const struct contents_job *job)
{
    struct segment *s = &c->segs.at[job->number];
    bool quiet = job->cursor.position == job->from;
    bool last = p->state != PEER_LIVE || (p->headed && job->seq + BEHIND < p->head.next_seq);

    s->ended = last && quiet && s->quiet;
    s->quiet = last && quiet;
    p->more |= !s->ended;
}

static void job_over(cistern *c, const struct contents_job *job)
{
    struct peer *p = peers_find(&c->follower->peers, job->shard, job->writer);
    bool is_short;

    if (!p)
        return;
    p->more |= job->listed && job->result == -ENOENT; /* a stale lookup hides it, or it went */
    is_short = !job->result && p->headed && job->seq + 1 == p->head.next_seq &&
               job->cursor.position < p->head.published;
    if (doubtful(p, job))
        p->failed = p->unsure = true;
    if (job->result && job->result != -EEXIST && job->result != CISTERN_EFORMAT)
        peer_look_again(p, job->seq);
    if (is_short ||
        (job->result && p->headed && p->state == PEER_LIVE && job->seq + 1 == p->head.next_seq))
        p->failed = true;
    p->unsure |= is_short && p->state != PEER_LIVE;
    if (job->result || job->end == TOC_TORN || is_short)
        return;
    judge_end(c, p, job);
}

/* What storage did not show is tried again: at once, then at a later listing. */
static bool peer_again(const struct follower *f, struct peer *p)
{
    if (!p->failed)
        return false;
    if (p->tries < TRIES_MAX && ++p->tries < TRIES_MAX)
        return true;
    p->again = f->listing + (1u << p->waits);
    p->waits += p->waits < WAITS_MAX;
    return false;
}

/* Whatever a writer had to say was read, or waits. `listed`: every name was looked at as well. */
static void peer_over(const struct follower *f, struct peer *p, bool listed)
{
    if (peer_again(f, p))
        return;
    if (!p->failed)
        p->waits = 0;
    if (p->state != PEER_LIVE && p->full && !p->failed) {
        p->settled = listed && !p->more;
        p->confirm = true;
        p->again = f->listing + 1;
    }
    if (p->headed && p->head.next_seq)
        p->next_from = p->head.next_seq - 1;
    p->moved = false;
}

/* ---- What heads and contents say about each other; at the open only ---- */

static void check_published(cistern *c, const struct peer *p)
{
    const struct segment *s = NULL;
    uint64_t seq, missing = 0;
    char dir[544];

    follow_dir(c, p->shard, dir);
    for (seq = p->head.first_seq; seq < p->head.next_seq && missing < MISSING_MAX; seq++) {
        s = segtab_find_file(&c->segs, p->shard, p->writer, seq);
        if (s || !contents_gone(c, p->shard, p->writer, seq))
            continue;
        if (gone_file(c, p->shard, p->writer, seq, ".seg"))
            continue; /* evicted; whoever loses contents alone still has the data */
        missing++;
        metric_add(&c->metrics, METRIC_contents_missing, 1);
        log_line(&c->cfg.log, LOG_INFO, "%s: the contents of segment %llu of %016llx are gone", dir,
                 (unsigned long long)seq, (unsigned long long)p->writer);
    }
    if (!s || s->cursor.position >= p->head.published)
        return;
    metric_add(&c->metrics, METRIC_contents_short, 1);
    log_line(&c->cfg.log, LOG_WARN,
             "%s: contents of writer %016llx end at %llu, its head published %llu", dir,
             (unsigned long long)p->writer, (unsigned long long)s->cursor.position,
             (unsigned long long)p->head.published);
}

static void check_open(cistern *c)
{
    struct follower *f = c->follower;
    uint32_t i;

    for (i = 0; i < f->peers.count; i++) {
        if (f->peers.at[i].headed)
            check_published(c, &f->peers.at[i]);
    }
    for (i = 0; i < atomic_load(&c->segs.count); i++) {
        const struct segment *s = &c->segs.at[i];
        const struct peer *p = peers_find(&f->peers, s->shard, s->writer);

        if (s->cursor.number && p && !p->headed)
            metric_add(&c->metrics, METRIC_head_missing, 1);
    }
}

/* ---- The look ---- */

static int take_contents(cistern *c)
{
    struct follower *f = c->follower;
    size_t i;
    int rc = 0;

    if (f->first && (rc = index_bulk_begin(c->index)))
        return err_set(rc, "no memory for the index");
    rc = follow_take(c, &f->contents);
    if (f->first && index_bulk_end(c->index))
        metric_add(&c->metrics, METRIC_index_full, 1);
    follow_settle(c);
    for (i = 0; i < f->contents.count; i++)
        job_over(c, &f->contents.at[i]);
    return rc;
}

static void count_peers(cistern *c)
{
    const struct peers *p = &c->follower->peers;
    uint64_t live = 0, silent = 0;
    uint32_t i;

    for (i = 0; i < p->count; i++) {
        live += p->at[i].state == PEER_LIVE;
        silent += p->at[i].state == PEER_SILENT;
    }
    metric_set(&c->metrics, METRIC_peers_live, live);
    metric_set(&c->metrics, METRIC_peers_silent, silent);
}

int look_run(cistern *c, unsigned what, uint32_t shards)
{
    struct follower *f = c->follower;
    uint32_t i;
    int rc, listed;

    f->nfiles = 0;
    listed = what & LOOK_LIST ? list_names(c) : 0;
    rc = read_heads(c, what, shards);
    rc = rc ? rc : choose_contents(c, what);
    if (!rc && (f->contents.count || f->first))
        rc = take_contents(c);
    else if (!rc)
        follow_settle(c); /* what was heard otherwise */
    for (i = 0; i < f->peers.count && !rc; i++) {
        struct peer *p = &f->peers.at[i];

        if (p->moved || p->full)
            peer_over(f, p, what & LOOK_LIST && !listed);
    }
    follow_release(c, &f->contents);
    if (!rc && f->first)
        check_open(c);
    f->first = false;
    count_peers(c);
    ranks_look(c);
    if (what & LOOK_LIST && listed)
        gone_sweep(c);
    else if (what & LOOK_LIST && !rc)
        others_tidy(c);
    return listed ? listed : rc;
}

bool look_unfinished(const struct follower *f)
{
    uint32_t i;

    for (i = 0; i < f->peers.count; i++) {
        if (f->peers.at[i].failed && f->peers.at[i].tries < TRIES_MAX)
            return true;
    }
    return false;
}

void look_close(struct follower *f)
{
    free(f->files);
    contents_list_free(&f->heads);
    contents_list_free(&f->contents);
}
