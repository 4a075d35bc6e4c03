/*
 * ranks.c - breakers of the other ranks: what one rank cannot load, no rank needs to.
 *
 * A block is whole only when every shard can load its slice. So while a rank of this machine finds
 * nothing, the matches of the others answer 0: their loads would be for nothing. Its head says so
 * (FORMAT.md, health). Ranks are told apart from other engines by the host alone; a shard counts as
 * broken when all of its live writers here say that they are, so that a dead rank's last word does
 * not outlive the start of the next, and a second engine is not stopped by the first.
 *
 * The word is good for a short time: a rank whose breaker is open writes its head with every probe
 * (fence.c), so one whose counter stood for a few of these by our own clock was killed, or cannot
 * write either. Then its own matches say what it cannot load.
 */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/follow.h"

#define WORD_PROBES 5u /* that a head may miss before its word is void */
#define WORD_POLLS  2u /* that we may be late to look */

/* The ranks of one engine are configured alike. */
static bool is_void(const cistern *c, const struct peer *p, uint64_t boot_ns)
{
    uint64_t life = WORD_PROBES * c->breaker.probe_ns + WORD_POLLS * c->cfg.poll_ms * NS_PER_MS;

    return boot_ns > p->changed_ns && boot_ns - p->changed_ns > life;
}

void ranks_look(cistern *c)
{
    const struct peers *p = &c->follower->peers;
    bool good[CISTERN_MAX_SHARDS] = {false}, ill[CISTERN_MAX_SHARDS] = {false};
    uint64_t boot_ns = clock_boot_ns();
    uint32_t i, count = 0, before;
    char host[64] = "";

    (void)gethostname(host, sizeof host - 1);
    for (i = 0; i < p->count; i++) {
        const struct peer *peer = &p->at[i];

        if (peer->state != PEER_LIVE || !peer->headed || peer->shard >= c->cfg.shards ||
            peer->shard == c->cfg.shard || strncmp(peer->head.host, host, sizeof host) != 0)
            continue;
        if (!(peer->head.health & HEAD_HEALTH_BREAKER))
            good[peer->shard] = true;
        else if (!is_void(c, peer, boot_ns))
            ill[peer->shard] = true;
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
