/*
 * retire.h - a space whose model is not served any more.
 *
 * A file `retired` beside space.json says so; what is in it is for people. A handle on such a space
 * stays of use: what is stored is found and read until it is evicted. Nothing new is stored: puts
 * are dropped and counted, blocks are not carried over. Its segments are the first that an eviction
 * takes (usage.c gives the space POLICY_RANK_EXPIRED). The file's going ends all of that.
 *
 * The engine never makes or removes the file: that is cistern_retire() (admin/retire.c).
 */
#ifndef ENGINE_RETIRE_H
#define ENGINE_RETIRE_H

#include "engine/engine.h"

/* Looks whether this handle's space is retired; what cannot be told stays as it was. Blocks on
 * storage: the opener, and the keeper. */
void retire_look(cistern *c);

/* A put is to be dropped for it; counts it. */
static inline bool retire_drops(cistern *c, uint32_t blocks)
{
    if (!atomic_load_explicit(&c->retired, memory_order_relaxed))
        return false;
    metric_add(&c->metrics, METRIC_put_dropped_retired_blocks, blocks);
    return true;
}

#endif
