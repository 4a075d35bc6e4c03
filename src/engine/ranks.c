/*
 * ranks.c - breakers of the other ranks: what one rank cannot load, no rank needs to.
 *
 * A block is whole only when every shard can load its slice. So while a rank of this machine finds
 * nothing, the matches of the others answer 0: their loads would be for nothing. Its head says so
 * (FORMAT.md, health). Ranks are told apart from other engines by the host alone; a shard counts as
 * broken when all of its live writers here say that they are, so that a dead rank's last word does
 * not outlive the start of the next, and a second engine is not stopped by the first.
 */
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/follow.h"

void ranks_look(cistern *c)
{
    const struct peers *p = &c->follower->peers;
    bool good[CISTERN_MAX_SHARDS] = {false}, ill[CISTERN_MAX_SHARDS] = {false};
    uint32_t i, count = 0, before;
    char host[64] = "";

    (void)gethostname(host, sizeof host - 1);
    for (i = 0; i < p->count; i++) {
        const struct peer *peer = &p->at[i];

        if (peer->state != PEER_LIVE || !peer->headed || peer->shard >= c->cfg.shards ||
            peer->shard == c->cfg.shard || strncmp(peer->head.host, host, sizeof host) != 0)
            continue;
        if (peer->head.health & HEAD_HEALTH_BREAKER)
            ill[peer->shard] = true;
        else
            good[peer->shard] = true;
    }
    for (i = 0; i < c->cfg.shards && c->breaker.limit; i++)
        count += ill[i] && !good[i];
    before = atomic_exchange(&c->ranks_ill, count);
    if (!before != !count)
        log_line(&c->cfg.log, LOG_WARN,
                 count ? "another rank finds nothing: its breaker is open; matches answer 0"
                       : "the other ranks' breakers are closed again");
    metric_set(&c->metrics, METRIC_breaker_ranks, count);
}
