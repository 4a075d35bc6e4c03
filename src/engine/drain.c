/*
 * drain.c - the orderly end of an engine that was told to go: no new puts, and what was accepted is
 * published and synced, as far as the time allows.
 */
#include <errno.h>

#include "base/clock.h"
#include "engine/engine.h"

int cistern_drain(cistern *c, uint32_t timeout_ms)
{
    uint32_t left;
    int rc = guard_check(c);

    if (rc || !c->writer)
        return rc;
    if (!atomic_exchange(&c->draining, 1))
        log_line(&c->cfg.log, LOG_INFO, "draining: %u puts are open", ops_puts_open(&c->ops));
    rc = cistern_flush(c, timeout_ms);
    left = ops_puts_open(&c->ops);
    return left && (!rc || rc == -ETIMEDOUT) ? (int)left : rc;
}
