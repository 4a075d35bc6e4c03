/*
 * gone.c - see gone.h.
 */
#include "engine/gone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/evict.h"
#include "engine/follow.h"
#include "engine/writer_internal.h"

#define SWEEP 256u /* names that one sweep asks for */

static int stat_file(cistern *c, uint32_t shard, uint64_t writer, uint64_t seq, const char *suffix)
{
    char name[SEGMENT_NAME_MAX], dir[544], path[640];
    struct io_stat st;

    follow_dir(c, shard, dir);
    segment_name(name, writer, seq, suffix);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return c->io->ops->stat(c->io, path, &st);
}

bool gone_file(cistern *c, uint32_t shard, uint64_t writer, uint64_t seq, const char *suffix)
{
    return stat_file(c, shard, writer, seq, suffix) == -ENOENT;
}

bool gone_not_yet(cistern *c, uint32_t number)
{
    struct writer *w = c->writer;
    bool found = false;
    uint32_t i;

    if (!w || !c->segs.at[number].own)
        return false;
    (void)pthread_mutex_lock(&w->lock);
    for (i = 0; i < WSEGS; i++)
        found |= w->segs[i].stage != WSEG_FREE && w->segs[i].number == number;
    (void)pthread_mutex_unlock(&w->lock);
    return found;
}

void gone_forget(cistern *c, uint32_t number)
{
    others_forget(c, &c->segs.at[number]);
    (void)segment_forget(c, number);
    metric_add(&c->metrics, METRIC_segments_gone, 1); /* whoever waits for it finds nothing */
    keeper_ask(c, KEEPER_COLLECT);                    /* it closes the data file */
}

/* 0: its contents are there; -ENOENT: they were not, and it is forgotten; else nobody knows. The
 * segment is held or nobody else forgets it. */
static int ask(cistern *c, uint32_t number)
{
    const struct segment *s = &c->segs.at[number];
    int rc;

    if (gone_not_yet(c, number))
        return 0;
    rc = stat_file(c, s->shard, s->writer, s->seq, ".toc");
    if (rc == -ENOENT) {
        peer_look_again(peers_find(&c->follower->peers, s->shard, s->writer), s->seq);
        gone_forget(c, number);
    }
    return rc;
}

/* ---- Doubts ---- */

int doubts_open(cistern *c)
{
    c->doubts = calloc(1, sizeof *c->doubts);
    if (!c->doubts)
        return err_set(-ENOMEM, "no memory for the follower");
    return -pthread_mutex_init(&c->doubts->lock, NULL);
}

void doubts_close(cistern *c)
{
    free(c->doubts);
    c->doubts = NULL;
}

void doubt_raise(cistern *c, const struct index_place *place, int error)
{
    struct doubts *d = c->doubts;
    bool there = false;
    uint32_t i;

    (void)pthread_mutex_lock(&d->lock);
    for (i = 0; i < d->count && !there; i++)
        there = d->at[i].segment == place->segment && d->at[i].offset == place->info.offset;
    if (!there && d->count < DOUBTS) {
        struct doubt *x = &d->at[d->count];

        *x =
            (struct doubt){.segment = place->segment, .offset = place->info.offset, .error = error};
        memcpy(x->key.b, place->info.key, sizeof x->key.b);
        memcpy(x->id, c->segs.at[place->segment].id, sizeof x->id);
        (void)atomic_fetch_add(&d->count, 1);
    }
    (void)pthread_mutex_unlock(&d->lock);
    if (!there)
        follower_wake(c);
}

static bool take(struct doubts *d, struct doubt *out)
{
    bool any;

    (void)pthread_mutex_lock(&d->lock);
    any = d->count != 0;
    if (any)
        *out = d->at[atomic_fetch_sub(&d->count, 1) - 1];
    (void)pthread_mutex_unlock(&d->lock);
    return any;
}

/* Its data file is lost, or a host of 3FS does not see it yet: what its contents say of others
 * counts, and another writer's blocks come back if it comes to light soon (look.c). */
static void data_lost(cistern *c, uint32_t number)
{
    const struct segment *s = &c->segs.at[number];

    if (!gone_file(c, s->shard, s->writer, s->seq, ".seg"))
        return;
    metric_add(&c->metrics, METRIC_data_missing, 1);
    peer_look_again(peers_find(&c->follower->peers, s->shard, s->writer), s->seq);
    gone_forget(c, number);
}

static void settle(cistern *c, const struct doubt *x)
{
    if (!segment_hold(&c->segs, x->segment))
        return; /* forgotten meanwhile */
    if (memcmp(c->segs.at[x->segment].id, x->id, sizeof x->id) != 0 || ask(c, x->segment)) {
        /* another one, or there is nothing to decide */
    } else if (x->error == DOUBT_NO_FILE) {
        data_lost(c, x->segment);
    } else if (x->error == -EBADMSG) {
        metric_add(&c->metrics, METRIC_bad_length_blocks, 1);
        engine_bad_copy(c, &x->key, x->segment, x->offset, DEAD_LENGTH);
    }
    segment_release(&c->segs, x->segment);
}

void doubts_settle(cistern *c)
{
    struct doubt x;

    while (atomic_load(&c->doubts->count) && take(c->doubts, &x))
        settle(c, &x);
}

/* ---- Without listings ---- */

void gone_sweep(cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count), *at = &c->follower->sweep_next;

    for (i = 0; i < SWEEP && i < n; i++) {
        uint32_t number = (*at)++ % n;

        if (segtab_in_use(&c->segs, number))
            (void)ask(c, number);
    }
}
