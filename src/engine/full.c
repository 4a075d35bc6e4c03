/*
 * full.c - a write that a full file system refused: the keeper is asked to make room, then the
 * group is sent once more; when it is refused again its blocks are errors and puts are dropped for
 * a while. The same for a write that came back short, which is how a full file system often begins
 * to say so: it is sent again without asking.
 *
 * Until the keeper has answered nothing is sent; an answer that does not come is a no.
 * Threads: the write lane; `room_made` is the keeper's.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/writer_internal.h"

#define TRIES   2u
#define WAIT_NS NS_PER_S /* for the keeper */

static bool says_full(int64_t result)
{
    return result == -ENOSPC || result == -EDQUOT;
}

bool full_retry(struct writer *w, struct wgroup *g, int64_t result)
{
    if (g->late || g->error || g->tries >= TRIES || (result < 0 && !says_full(result)))
        return false;
    g->again = true;
    g->full |= says_full(result);
    g->issued = g->len; /* the rest of it would fare no better */
    if (w->issue == g)
        w->issue = g->link;
    return true;
}

static void send_again(struct writer *w, struct wgroup *g)
{
    metric_add(&w->c->metrics, METRIC_full_retries, g->full);
    g->again = g->full = false;
    g->issued = 0;
    g->tries++;
    for (w->issue = w->order; w->issue && w->issue->issued >= w->issue->len;)
        w->issue = w->issue->link;
}

static void give_up(struct writer *w, struct wgroup *g)
{
    g->again = g->full = false;
    g->error = -ENOSPC;
    writer_pause_if_full(w, -ENOSPC);
}

void full_settled(struct writer *w, struct wgroup *g)
{
    if (!g->again)
        return;
    if (g->error || g->late) {
        g->again = g->full = false;
    } else if (!g->full || (w->room_made_ns && clock_ns() - w->room_made_ns < WAIT_NS)) {
        send_again(w, g);
    } else if (!w->room_asked) {
        atomic_store(&w->room_made, ROOM_UNKNOWN);
        w->room_asked = true;
        w->room_until_ns = clock_ns() + WAIT_NS;
        keeper_ask(w->c, KEEPER_ROOM);
    }
}

void full_frames(struct writer *w, int64_t result)
{
    if (result < 0)
        writer_pause_if_full(w, (int)result);
    if (says_full(result))
        keeper_ask(w->c, KEEPER_ROOM); /* for the segment after this one */
}

void full_check(struct writer *w, uint64_t now)
{
    uint32_t made = atomic_load(&w->room_made);
    struct wgroup *g;

    if (!w->room_asked || (made == ROOM_UNKNOWN && now < w->room_until_ns))
        return;
    w->room_asked = false;
    w->room_made_ns = made == ROOM_MADE ? now : 0;
    for (g = w->order; g; g = g->link) {
        if (!g->again || g->ios)
            continue;
        if (made == ROOM_MADE)
            send_again(w, g);
        else
            give_up(w, g);
    }
}
