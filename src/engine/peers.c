/*
 * peers.c - the table of other writers. See peers.h.
 */
#include "engine/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/engine.h"
#include "engine/follow.h"

void peers_open(struct peers *p)
{
    *p = (struct peers){0};
    (void)pthread_mutex_init(&p->lock, NULL);
}

void peers_close(struct peers *p, struct io *io)
{
    uint32_t i;

    for (i = 0; i < p->count; i++) {
        if (p->at[i].file.fd >= 0)
            io->ops->file_close(io, &p->at[i].file);
    }
    free(p->at);
    free(p->slots);
    p->at = NULL;
    p->slots = NULL;
    p->count = p->room = p->mask = 0;
}

/* Names of writers are random. */
static uint32_t home(const struct peers *p, uint32_t shard, uint64_t writer)
{
    return ((uint32_t)(writer ^ writer >> 32) + shard * 0x9e3779b1u) & p->mask;
}

struct peer *peers_find(const struct peers *p, uint32_t shard, uint64_t writer)
{
    uint32_t i;

    if (!p->slots)
        return NULL;
    for (i = home(p, shard, writer); p->slots[i]; i = (i + 1) & p->mask) {
        struct peer *peer = &p->at[p->slots[i] - 1];

        if (peer->writer == writer && peer->shard == shard)
            return peer;
    }
    return NULL;
}

static void put_slot(struct peers *p, uint32_t place)
{
    uint32_t i = home(p, p->at[place].shard, p->at[place].writer);

    while (p->slots[i])
        i = (i + 1) & p->mask;
    p->slots[i] = place + 1;
}

/* Twice the room; the lock is held. */
static int grow(struct peers *p)
{
    uint32_t room = p->room ? 2 * p->room : 64, i;
    struct peer *at = realloc(p->at, room * sizeof *at);
    uint32_t *slots;

    if (!at)
        return -ENOMEM;
    p->at = at;
    slots = calloc(2 * (size_t)room, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    free(p->slots);
    p->slots = slots;
    p->mask = 2 * room - 1;
    p->room = room;
    for (i = 0; i < p->count; i++)
        put_slot(p, i);
    return 0;
}

struct peer *peers_get(struct peers *p, uint32_t shard, uint64_t writer, uint64_t boot_ns)
{
    struct peer *found = peers_find(p, shard, writer);

    if (found)
        return found;
    (void)pthread_mutex_lock(&p->lock);
    if (p->count < p->room || grow(p) == 0) {
        found = &p->at[p->count];
        *found = (struct peer){.writer = writer,
                               .shard = shard,
                               .state = PEER_LIVE,
                               .moved = true,
                               .file = {.fd = -1},
                               .changed_ns = boot_ns};
        put_slot(p, p->count++);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return found;
}

void peers_sweep(struct peers *p, struct io *io, uint32_t listing)
{
    uint32_t i, kept = 0;

    for (i = 0; i < p->count; i++) {
        if (p->at[i].seen != listing && p->at[i].file.fd >= 0)
            io->ops->file_close(io, &p->at[i].file); /* may hang: not under the lock */
    }
    (void)pthread_mutex_lock(&p->lock);
    for (i = 0; i < p->count; i++) {
        if (p->at[i].seen == listing)
            p->at[kept++] = p->at[i];
    }
    if (kept < p->count) {
        p->count = kept;
        memset(p->slots, 0, ((size_t)p->mask + 1) * sizeof *p->slots);
        for (i = 0; i < kept; i++)
            put_slot(p, i);
    }
    (void)pthread_mutex_unlock(&p->lock);
}

/* The head says something new; the lock is held. */
static void take_head(struct peer *peer, const struct head_record *h, uint64_t after_ns)
{
    peer->head = *h;
    peer->headed = true;
    peer->state = h->state == HEAD_CLOSED ? PEER_CLOSED : PEER_LIVE;
    peer->settled = false;
    peer->moved = true;
    peer->tries = 0;
    peer->changed_ns = after_ns;
}

bool peer_looked(struct peers *p, struct peer *peer, int rc, const struct head_record *h,
                 uint64_t before_ns, uint64_t after_ns, uint64_t silence_ns)
{
    bool none = rc == -ENOENT || rc == -ENODATA || rc == -EBADMSG, lives = false;
    enum peer_state was = peer->state;
    uint64_t since;

    if (rc && !none)
        return false;
    (void)pthread_mutex_lock(&p->lock);
    peer->checked_ns = before_ns;
    peer->none_ns = !none ? 0 : peer->none_ns ? peer->none_ns : before_ns;
    since = max_u64(peer->changed_ns, peer->none_ns);
    if (!rc && (!peer->headed || h->counter != peer->head.counter)) {
        take_head(peer, h, after_ns);
        lives = was != PEER_LIVE; /* also when it closed by now */
    } else if (peer->state == PEER_LIVE && before_ns > since && before_ns - since >= silence_ns) {
        peer->state = PEER_SILENT;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return lives;
}

enum peer_state peers_writer_state(struct cistern *c, uint32_t shard, uint64_t writer)
{
    struct follower *f = c->follower;
    enum peer_state state = PEER_UNKNOWN;
    const struct peer *peer;

    if (shard == c->cfg.shard && writer_is_own(c, writer))
        return PEER_LIVE;
    if (!f)
        return state;
    (void)pthread_mutex_lock(&f->peers.lock);
    peer = peers_find(&f->peers, shard, writer);
    if (peer)
        state = peer->state;
    (void)pthread_mutex_unlock(&f->peers.lock);
    return state;
}
