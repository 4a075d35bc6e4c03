/*
 * bad.c - a copy that turned out bad, and a segment that has many of them.
 *
 * A bad copy is forgotten: in the index, in the table of what is not tried again, and on disk when
 * this handle writes. A segment with several is set aside as a whole, which is remembered on disk
 * as well, so that other handles, and later ones, leave it alone.
 *
 * A machine with bad memory of its own finds everything bad. So only so many segments are set aside
 * by one handle for the others; what comes after that, it believes for itself alone.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/heat.h"

#define ASIDE_MOST 16u

bool engine_is_aside(const cistern *c, uint32_t segment)
{
    return atomic_load_explicit(&c->segs.at[segment].bad, memory_order_relaxed) >=
           c->cfg.aside_failures;
}

void engine_aside(cistern *c, uint32_t segment)
{
    atomic_store(&c->segs.at[segment].bad, c->cfg.aside_failures);
    (void)index_remove_segment(c->index, segment);
}

static void note_on_disk(cistern *c, const struct dead_note *note)
{
    if (c->writer && writer_push_dead(c, note, 1))
        log_line(&c->cfg.log, LOG_WARN,
                 "too many bad blocks at once: this one is remembered until the restart only");
}

static void set_aside(cistern *c, uint32_t segment, uint8_t reason)
{
    const struct segment *s = &c->segs.at[segment];
    struct dead_note note = {.offset = DEAD_NOTE_ASIDE, .reason = reason};
    bool tell = atomic_fetch_add(&c->asides, 1) < ASIDE_MOST;
    uint64_t gone = index_remove_segment(c->index, segment);

    metric_add(&c->metrics, METRIC_segments_aside, 1);
    log_line(&c->cfg.log, LOG_ERROR,
             "segment %llu of writer %016llx has %u bad blocks and is set aside, with %llu more%s",
             (unsigned long long)s->seq, (unsigned long long)s->writer, c->cfg.aside_failures,
             (unsigned long long)gone,
             tell ? "" : "; not remembered on disk: is this machine's memory sound?");
    memcpy(note.segment_id, s->id, sizeof note.segment_id);
    if (tell)
        note_on_disk(c, &note);
}

void engine_bad_copy(cistern *c, const cistern_key *key, uint32_t segment, uint32_t offset,
                     uint8_t reason)
{
    struct dead_note note = {.offset = offset, .reason = reason};

    negative_add(&c->negative, key, segment, offset, clock_ns() + c->cfg.negative_ms * NS_PER_MS);
    if (!index_remove_copy(c->index, key, segment, offset))
        return;
    heat_lost(&c->segs.at[segment], 1);
    log_line(&c->cfg.log, LOG_WARN,
             "a block of segment %u at page %u is not what was stored (reason %u): forgotten",
             segment, offset, reason);
    memcpy(note.key, key->b, sizeof note.key);
    memcpy(note.segment_id, c->segs.at[segment].id, sizeof note.segment_id);
    note_on_disk(c, &note);
    if (atomic_fetch_add(&c->segs.at[segment].bad, 1) + 1 == c->cfg.aside_failures)
        set_aside(c, segment, reason);
}
