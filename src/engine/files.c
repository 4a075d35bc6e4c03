/*
 * files.c - see files.h.
 *
 * `file_uses` of a segment orders opening, shutting and taking. Who takes adds one and then looks
 * whether the file was shut; who shuts exchanges zero for SEGMENT_SHUT, so that nobody has taken
 * it, and takes the file away, both under the lock. An opener holds the segment, opens, and under
 * the lock puts the file where it belongs and takes SEGMENT_SHUT away. Somebody who came in between
 * takes his one back without having looked at the file. What was opened and not taken yet is kept
 * for a moment, so that the next one that is opened does not shut it before its lane wakes up.
 *
 * Threads: openers take segments from the queue. What is in the queue is held. The keeper opens
 * one by itself (file_take_now).
 */
#include "engine/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/lane_internal.h"
#include "io/process.h"

#define OPENERS        4u /* an open may be a round trip */
#define OPENERS_MEMORY 1u /* it is not, in memory */
#define SHUT_PART      8u /* of the limit, at a time: looking for them costs a walk over all */
#define TICK_NS        (16 * NS_PER_MS)
#define AGE_SLACK      1024u
#define OPENED         2  /* in file_asked: it was opened, and nobody took it since */
#define OPENED_TICKS   8u /* so long it is kept for whoever asked */
#define ROOM_TRIES     4u

struct files {
    pthread_t thread[OPENERS];
    uint32_t threads;
    uint32_t limit;
    pthread_mutex_t lock;
    pthread_cond_t wake, changed; /* monotonic clock */
    _Atomic uint32_t answers;     /* opens that storage answered, whatever it said */
    /* Guarded by lock. */
    uint32_t *queue; /* a ring of SEGTAB_MAX numbers */
    uint32_t first, count;
    uint32_t ended;
    bool stop, trim;
    bool shutting; /* one of the openers looks for files to shut */
};

static uint32_t tick(void)
{
    return (uint32_t)(clock_ns() / TICK_NS);
}

/* ---- Taking ---- */

static bool is_of_now(const cistern *c, const struct segment *s)
{
    return atomic_load_explicit(&s->epoch, memory_order_relaxed) ==
           atomic_load_explicit(&c->epoch, memory_order_relaxed);
}

bool file_readable(const cistern *c, uint32_t number)
{
    const struct segment *s = &c->segs.at[number];

    return s->has_data &&
           (atomic_load_explicit(&s->file_uses, memory_order_acquire) & SEGMENT_SHUT ||
            is_of_now(c, s));
}

bool file_pin(cistern *c, uint32_t number)
{
    if (!(atomic_fetch_add(&c->segs.at[number].file_uses, 1) & SEGMENT_SHUT))
        return true;
    file_give(c, number);
    return false;
}

static void answer(struct segment *s, int32_t from, int32_t to)
{
    (void)atomic_compare_exchange_strong(&s->file_asked, &from, to);
}

enum file_state file_take(cistern *c, uint32_t number)
{
    struct segment *s = &c->segs.at[number];

    if (!s->has_data)
        return FILE_NONE;
    if (!file_pin(c, number))
        return FILE_SHUT;
    if (!is_of_now(c, s)) {
        file_give(c, number);
        return FILE_NONE;
    }
    atomic_store_explicit(&s->file_used, tick(), memory_order_relaxed);
    if (atomic_load_explicit(&s->file_asked, memory_order_relaxed) == OPENED)
        answer(s, OPENED, 0);
    return FILE_TAKEN;
}

void file_give(cistern *c, uint32_t number)
{
    (void)atomic_fetch_sub(&c->segs.at[number].file_uses, 1);
}

void file_leave(cistern *c, uint32_t number)
{
    file_give(c, number);
    segment_release(&c->segs, number);
}

uint32_t files_answers(const cistern *c)
{
    return atomic_load_explicit(&c->files->answers, memory_order_relaxed);
}

int file_asked(const cistern *c, uint32_t number)
{
    int asked = atomic_load(&c->segs.at[number].file_asked);

    return asked == OPENED ? 0 : asked;
}

void file_ask(cistern *c, uint32_t number)
{
    struct files *f = c->files;
    struct segment *s = &c->segs.at[number];

    (void)pthread_mutex_lock(&f->lock);
    if (atomic_load(&s->file_asked) != 1 && f->count < SEGTAB_MAX) {
        segment_hold_again(&c->segs, number);
        atomic_store(&s->file_asked, 1);
        f->queue[(f->first + f->count++) % SEGTAB_MAX] = number;
        (void)pthread_cond_signal(&f->wake);
    }
    (void)pthread_mutex_unlock(&f->lock);
}

/* ---- Shutting ---- */

struct candidate {
    uint32_t number, age;
};

static int by_age(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;

    return a->age != b->age ? (a->age < b->age ? 1 : -1) : (a->number > b->number) * 2 - 1;
}

/* The segment is held. Whoever opens it meanwhile finds it shut, and without a file, or open. */
static bool shut(cistern *c, uint32_t number)
{
    struct segment *s = &c->segs.at[number];
    struct io_file file = {.fd = -1};
    uint32_t unused = 0;
    bool done;

    (void)pthread_mutex_lock(&c->files->lock);
    done = atomic_compare_exchange_strong(&s->file_uses, &unused, SEGMENT_SHUT);
    fault_point("files.shut");
    if (done)
        segtab_exchange(&c->segs, number, &file, atomic_load(&s->epoch));
    (void)pthread_mutex_unlock(&c->files->lock);
    if (!done)
        return false;
    c->io->ops->file_close(c->io, &file);
    metric_add(&c->metrics, METRIC_data_files_shut, 1);
    return true;
}

/* In ticks; it may have been used after we looked at the clock. */
static uint32_t age_of(const struct segment *s, uint32_t now)
{
    uint32_t age = now - atomic_load(&s->file_used);

    return age > UINT32_MAX - AGE_SLACK ? 0 : age;
}

/* Those that were not used for longest, at least `want` if so many are not in use and nobody waits
 * for them. */
static void shut_some(cistern *c, uint64_t want, bool urgent)
{
    uint32_t i, n = atomic_load(&c->segs.count), found = 0, now = tick();
    struct candidate *list = calloc(n ? n : 1, sizeof *list);

    for (i = 0; list && i < n; i++) {
        const struct segment *s = &c->segs.at[i];

        if (segtab_in_use(&c->segs, i) && atomic_load(&s->file_uses) == 0 &&
            (urgent || atomic_load(&s->file_asked) != OPENED || age_of(s, now) > OPENED_TICKS))
            list[found++] = (struct candidate){i, age_of(s, now)};
    }
    if (list)
        qsort(list, found, sizeof *list, by_age);
    for (i = 0; list && i < found && want; i++) {
        if (!segment_hold(&c->segs, list[i].number))
            continue;
        want -= shut(c, list[i].number);
        segment_release(&c->segs, list[i].number);
    }
    free(list);
}

bool files_room(const cistern *c)
{
    return atomic_load(&c->segs.open) < c->files->limit;
}

/* One more is to be opened. One opener at a time: others that look at the same moment would shut as
 * many again. False: it was not this one's turn. */
static bool make_room(cistern *c, bool urgent)
{
    struct files *f = c->files;
    uint32_t open = atomic_load(&c->segs.open), over = open >= f->limit ? open - f->limit + 1 : 0;
    bool mine;

    if (!over && !urgent)
        return true;
    (void)pthread_mutex_lock(&f->lock);
    mine = !f->shutting;
    f->shutting = true;
    (void)pthread_mutex_unlock(&f->lock);
    if (!mine)
        return false;
    shut_some(c, max_u64(1, over + f->limit / SHUT_PART), urgent);
    (void)pthread_mutex_lock(&f->lock);
    f->shutting = false;
    (void)pthread_mutex_unlock(&f->lock);
    return true;
}

void files_trim(cistern *c)
{
    struct files *f = c->files;

    if (atomic_load(&c->segs.open) <= f->limit)
        return;
    (void)pthread_mutex_lock(&f->lock);
    f->trim = true;
    (void)pthread_cond_signal(&f->wake);
    (void)pthread_mutex_unlock(&f->lock);
}

/* ---- Opening ---- */

static int open_by_name(cistern *c, uint32_t number, struct io_file *file)
{
    unsigned mode = IO_READ | (c->cfg.flags & CISTERN_OPEN_BUFFERED ? 0 : IO_DIRECT);
    char path[640], name[SEGMENT_NAME_MAX];

    segment_name(name, c->segs.at[number].writer, c->segs.at[number].seq, ".seg");
    (void)snprintf(path, sizeof path, "%s/%s", c->shard_path, name);
    return c->io->ops->file_open(c->io, path, mode, file);
}

/* The segment is held, and shut; of two who open it at a time the later one lets go of his. */
static int open_one(cistern *c, uint32_t number)
{
    struct segment *s = &c->segs.at[number];
    uint32_t epoch = atomic_load(&c->coming);
    struct io_file file = {.fd = -1};
    bool done = false;
    uint32_t tries;
    int rc;

    (void)make_room(c, false);
    rc = open_by_name(c, number, &file);
    for (tries = 0; (rc == -EMFILE || rc == -ENFILE) && tries < ROOM_TRIES; tries++) {
        if (!make_room(c, true)) /* the host has its own use for them; another one makes room */
            (void)usleep(1000);
        rc = open_by_name(c, number, &file);
    }
    (void)atomic_fetch_add(&c->files->answers, 1);
    fault_point("files.opened");
    if (rc)
        return rc;
    (void)pthread_mutex_lock(&c->files->lock);
    if (atomic_load(&s->file_uses) & SEGMENT_SHUT) {
        segtab_exchange(&c->segs, number, &file, epoch);
        atomic_store(&s->file_used, tick());
        atomic_store(&s->file_asked, OPENED); /* else the next one that is opened shuts it */
        (void)atomic_fetch_and(&s->file_uses, ~SEGMENT_SHUT);
        done = true;
    } else {
        answer(s, 1, 0);
    }
    (void)pthread_mutex_unlock(&c->files->lock);
    if (done)
        metric_add(&c->metrics, METRIC_data_files_opened, 1);
    else
        c->io->ops->file_close(c->io, &file);
    return 0;
}

int file_take_now(cistern *c, uint32_t number)
{
    enum file_state state = file_take(c, number);
    int rc = 0;

    if (state == FILE_SHUT && !(rc = open_one(c, number)))
        state = file_take(c, number);
    if (rc)
        return rc;
    return state == FILE_TAKEN ? 0 : state == FILE_SHUT ? -EAGAIN : -ESTALE;
}

static void ring_lanes(cistern *c)
{
    uint32_t i;

    for (i = 0; i < c->nlanes; i++)
        inbox_ring(&c->lanes[i].in);
}

/* The next one of the queue, or SEGTAB_MAX: only trim. False: it is to end. */
static bool next(struct files *f, uint32_t *number)
{
    bool go;

    (void)pthread_mutex_lock(&f->lock);
    while (!f->stop && !f->count && !f->trim)
        (void)pthread_cond_wait(&f->wake, &f->lock);
    go = !f->stop;
    *number = SEGTAB_MAX;
    if (f->count) {
        *number = f->queue[f->first];
        f->first = (f->first + 1) % SEGTAB_MAX;
        f->count--;
    }
    f->trim = false;
    (void)pthread_mutex_unlock(&f->lock);
    return go;
}

static void *opener_main(void *arg)
{
    cistern *c = arg;
    struct files *f = c->files;
    uint32_t number;

    while (next(f, &number)) {
        int rc;

        if (number == SEGTAB_MAX) {
            (void)make_room(c, false);
            continue;
        }
        if ((rc = open_one(c, number)))
            atomic_store(&c->segs.at[number].file_asked, rc);
        segment_release(&c->segs, number);
        ring_lanes(c);
    }
    if (number != SEGTAB_MAX)
        segment_release(&c->segs, number);
    (void)pthread_mutex_lock(&f->lock);
    f->ended++;
    (void)pthread_cond_broadcast(&f->changed);
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- Open and close ---- */

int files_open(cistern *c)
{
    uint64_t part = process_files_max() / FILES_PART;
    struct files *f = calloc(1, sizeof *f);
    pthread_condattr_t attr;

    if (!f || !(f->queue = calloc(SEGTAB_MAX, sizeof *f->queue))) {
        free(f);
        return err_set(-ENOMEM, "no memory for the table of open files");
    }
    f->limit = c->cfg.open_files ? c->cfg.open_files
                                 : (uint32_t)min_u64(max_u64(part, FILES_LEAST), SEGTAB_MAX);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->wake, NULL);
    (void)pthread_cond_init(&f->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    c->files = f;
    return 0;
}

int files_start(cistern *c)
{
    struct files *f = c->files;
    uint32_t want = c->io->inline_reads ? OPENERS_MEMORY : OPENERS;
    int rc = 0;

    while (!rc && f->threads < want) {
        rc = -pthread_create(&f->thread[f->threads], NULL, opener_main, c);
        f->threads += !rc;
    }
    return rc && !f->threads ? err_set(rc, "no thread that opens data files") : 0;
}

int files_stop(cistern *c, uint64_t deadline_ns)
{
    struct files *f = c->files;
    struct timespec until = clock_timespec(deadline_ns);
    uint32_t i;
    int rc = 0;

    if (!f)
        return 0;
    (void)pthread_mutex_lock(&f->lock);
    f->stop = true;
    (void)pthread_cond_broadcast(&f->wake);
    while (f->ended < f->threads && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    rc = f->ended == f->threads ? 0 : -EBUSY;
    (void)pthread_mutex_unlock(&f->lock);
    for (i = 0; i < f->threads; i++) {
        if (rc)
            (void)pthread_detach(f->thread[i]);
        else
            (void)pthread_join(f->thread[i], NULL);
    }
    f->threads = rc ? f->threads : 0;
    return rc;
}

void files_close(cistern *c)
{
    if (!c->files)
        return;
    free(c->files->queue);
    free(c->files);
    c->files = NULL;
}
