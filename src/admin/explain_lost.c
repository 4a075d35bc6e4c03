/*
 * explain_lost.c - what files tell of blocks that no contents name, and of runs that are stored and
 * not matched all the same.
 *
 * What was evicted leaves no trace of its keys. A hole in the numbers that a head says were
 * published is a segment that is gone, and a child that is stored had a parent: both are told, and
 * what cannot be known is told as such.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "admin/explain.h"
#include "base/clock.h"

/* Published segments of a writer that have no contents any more. */
static uint64_t writer_gone(const struct survey_shard *sh, const struct survey_writer *w)
{
    uint64_t left = 0;
    size_t i;

    if (!w->has_head || w->head_rc)
        return 0;
    for (i = w->first; i < w->first + w->count; i++)
        left += sh->segments[i].has_toc && sh->segments[i].seq < w->head.next_seq;
    return w->head.next_seq - left;
}

uint64_t explain_gone(const struct explain *x, uint32_t shard)
{
    uint64_t gone = 0;
    size_t i, j;

    for (i = 0; i < x->space->nshards; i++) {
        const struct survey_shard *sh = &x->space->shards[i];

        for (j = 0; j < sh->nwriters && (shard == UINT32_MAX || sh->shard == shard); j++)
            gone += writer_gone(sh, &sh->writers[j]);
    }
    return gone;
}

static bool child_is_stored(const struct explain *x, size_t key)
{
    size_t i;

    for (i = 0; i < x->ncopies; i++)
        if (x->copies[i].key > key && x->copies[i].key < x->nprompt &&
            x->copies[i].space == x->space)
            return true;
    return false;
}

uint32_t explain_lost(const struct explain *x, size_t key, char *detail, size_t size)
{
    uint64_t gone = explain_gone(x, UINT32_MAX);

    if (child_is_stored(x, key)) {
        (void)snprintf(
            detail, size,
            "no contents name it, but later blocks of this prompt are stored, and parents "
            "are stored before children: it was evicted%s",
            gone ? "" : ", or its put was dropped");
        return CISTERN_WHY_EVICTED;
    }
    if (gone) {
        (void)snprintf(detail, size,
                       "no contents name it: evicted or never stored; %" PRIu64
                       " segments of this space are gone, and nothing tells which blocks they had",
                       gone);
        return CISTERN_WHY_EVICTED;
    }
    (void)snprintf(
        detail, size,
        "no contents name it, and no segment is known to be gone: it was never stored, or "
        "nothing is left of its writer");
    return CISTERN_WHY_NEVER;
}

/* A head that was not written for longer than silence is of a writer that ended, by its own date.
 */
static bool is_ill(const struct explain *x, const struct survey_writer *w)
{
    return w->has_head && !w->head_rc && w->head.state != HEAD_CLOSED &&
           w->head.health & HEAD_HEALTH_BREAKER &&
           w->head.written_s + x->ad.opt.silence_ms / 1000 >= clock_wall_s();
}

bool explain_breaker(const struct explain *x, int64_t run, char *detail, size_t size)
{
    size_t i, j;

    for (i = 0; i < x->space->nshards; i++) {
        const struct survey_shard *sh = &x->space->shards[i];

        for (j = 0; j < sh->nwriters; j++) {
            const struct survey_writer *w = &sh->writers[j];

            if (!is_ill(x, w))
                continue;
            if (detail)
                (void)snprintf(detail, size,
                               "the breaker of writer %016" PRIx64
                               " is open (shard %u, host %.64s, process %u): matches on that host "
                               "answer 0 until its storage is read again; by the files the run has "
                               "%" PRId64 " blocks",
                               w->id, sh->shard, w->head.host, w->head.pid, run);
            return true;
        }
    }
    return false;
}

int explain_gate(const struct explain *x, const struct cistern_explain *e, int64_t run, uint64_t ns,
                 bool *refused, char *detail, size_t size)
{
    double rate = (double)e->read_rate, load, compute, bytes = (double)run * (double)x->block_bytes;

    *refused = false;
    if (!e->prefill_rate || !run)
        return 0;
    if (!rate && !(x->ad.opt.flags & CISTERN_ADMIN_READ))
        return err_set(-EINVAL,
                       "the cost gate needs a read rate: give one, or let payloads be read");
    if (!rate)
        rate = (double)x->read_bytes * (double)NS_PER_S / (double)(ns ? ns : 1);
    load = bytes / (rate > 0 ? rate : 1);
    compute = (double)run * x->block_tokens / (double)e->prefill_rate;
    *refused = load > compute;
    if (*refused)
        (void)snprintf(detail, size,
                       "the cost gate: %" PRId64 " blocks are stored; a shard loads %.0f bytes at "
                       "%.0f a second in %.1f ms, and computing takes %.1f ms",
                       run, bytes, rate, load * 1e3, compute * 1e3);
    return 0;
}
