/*
 * gate.h - whether a run is worth loading: from what the lanes measured, and the engine's own rate.
 *
 * Each lane adds up the bytes it verified and the time it had work, and lets both fade, so that the
 * last second of work counts most: what an engine got, not what the device could do. A load waits
 * for the bytes asked for before it, then takes its own at that rate; when computing the same
 * tokens takes less time, the match answers a miss. Off while the engine's rate is not known; open
 * while nothing was measured. Since what is refused measures nothing, one run in GATE_TRY_NS is let
 * through.
 *
 * Threads: a meter belongs to its lane, but for `rate`, which any thread reads. gate_refuses() is
 * pure.
 */
#ifndef ENGINE_GATE_H
#define ENGINE_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "index/index.h"

#define GATE_TRY_NS NS_PER_S

struct gate_meter {
    uint64_t bytes, ns;    /* faded sums */
    uint64_t since_ns;     /* busy since, or since the last sample; 0 = idle */
    uint64_t got;          /* bytes since then */
    _Atomic uint64_t rate; /* bytes per second; 0 = not known */
};

/* Once in a lane's turn: whether it has work now. */
void gate_meter_turn(struct gate_meter *m, bool busy, uint64_t now);

struct gate_facts {
    uint64_t prefill_rate;  /* tokens per second; 0 = not known */
    uint64_t tokens, bytes; /* of the run, on this shard */
    uint64_t waiting;       /* bytes asked for before and not delivered */
    uint64_t rate;          /* bytes per second of all lanes together; 0 = not known */
    uint32_t lanes;
    uint32_t shares; /* lanes that will work on the run */
};

/* Loading takes longer than computing. */
bool gate_refuses(const struct gate_facts *f);
/* Bytes of a run of blocks, as the policies of the parts want them. */
uint64_t gate_run_bytes(const struct match_rules *rules, const uint64_t *part_bytes,
                        uint32_t nparts, uint32_t blocks);

#endif
