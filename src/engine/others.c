/*
 * others.c - keeps presence from growing for ever: it cannot take out what lay in a segment of
 * another shard, because it has fingerprints and no segments. When a quarter of what went in is
 * gone, a new table is filled from the contents that are there, beside the old one, and takes its
 * place. A match that began with the old one ends with it; it is freed when there was a moment
 * without a match.
 *
 * Reading all contents of the other shards costs 64 bytes a block, once in a quarter of a turnover.
 * When it fails the old table stays.
 *
 * Threads: the follower's. Matches go through others_enter() and others_leave() (engine.h).
 */
#include <errno.h>
#include <stdbool.h>

#include "engine/follow.h"

#define STALE_LEAST 256u /* blocks */
#define STALE_SHARE 4u

void others_forget(cistern *c, const struct segment *s)
{
    if (s->shard != c->cfg.shard)
        c->follower->stale += s->cursor.blocks;
}

static bool of_others(const cistern *c, uint32_t number)
{
    return segtab_in_use(&c->segs, number) && c->segs.at[number].shard != c->cfg.shard;
}

static uint64_t blocks_there(const cistern *c)
{
    uint32_t i, n = atomic_load(&c->segs.count);
    uint64_t blocks = 0;

    for (i = 0; i < n; i++)
        blocks += of_others(c, i) ? c->segs.at[i].cursor.blocks : 0;
    return blocks;
}

static int read_all(cistern *c)
{
    struct contents_list *list = &c->follower->contents;
    uint32_t i, n = atomic_load(&c->segs.count);
    struct contents_job *job;
    char dir[544];
    size_t j;
    int rc;

    list->count = 0;
    for (i = 0; i < n; i++) {
        const struct segment *s = &c->segs.at[i];

        if (!of_others(c, i))
            continue;
        follow_dir(c, s->shard, dir);
        if (!(job = contents_list_add(list, dir, s->shard, s->writer)))
            return -ENOMEM;
        job->seq = s->seq;
        job->fresh = true;
    }
    rc = follow_take(c, list);
    for (j = 0; j < list->count && !rc; j++)
        rc = list->at[j].result == -ENOENT ? 0 : list->at[j].result; /* gone: that is all right */
    return rc;
}

static void rebuild(cistern *c)
{
    struct follower *f = c->follower;
    int rc = presence_open(c->cfg.max_blocks, c->cfg.shards, &f->fresh);

    if (!rc)
        rc = read_all(c);
    follow_release(c, &f->contents);
    contents_list_free(&f->contents);
    if (rc) {
        presence_close(f->fresh);
        f->fresh = NULL;
        f->stale /= 2; /* not at the very next listing */
        return;
    }
    presence_settle(f->fresh);
    f->retired = atomic_exchange(&c->others, f->fresh);
    f->fresh = NULL;
    f->stale = 0;
    metric_add(&c->metrics, METRIC_presence_rebuilds, 1);
}

void others_tidy(cistern *c)
{
    struct follower *f = c->follower;

    /* Whoever has the old table counted itself before it was exchanged. */
    if (f->retired && !atomic_load(&c->matching)) {
        presence_close(f->retired);
        f->retired = NULL;
    }
    if (atomic_load(&c->others) && !f->retired && f->stale >= STALE_LEAST &&
        f->stale >= blocks_there(c) / STALE_SHARE)
        rebuild(c);
}
