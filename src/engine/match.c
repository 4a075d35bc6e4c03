/*
 * match.c - questions that memory answers: match, exists, touch, delete, and the tickets of
 * matches.
 *
 * A ticket is a number in a fixed table: it says until when segments that were matched may not be
 * taken away. Nothing here makes a system call, except delete's ring of the write lane's bell.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/carry.h"
#include "engine/capacity.h"
#include "engine/engine.h"

#define PIN_EVERY 32u /* blocks of a run whose segment is looked up */

static int check_keys(const cistern *c, const cistern_key *keys, size_t n, const void *out)
{
    int rc = guard_check(c);

    if (!rc && ((n && !keys) || !out))
        rc = err_set(-EINVAL, "keys or the out-parameter is NULL");
    return rc;
}

/* Tries a few slots; a ticket is worth less than the time to search them all. */
static uint64_t ticket_take(cistern *c)
{
    uint64_t ticket, none;
    int i;

    for (i = 0; i < 8; i++) {
        ticket = atomic_fetch_add_explicit(&c->ticket_seq, 1, memory_order_relaxed) + TICKETS;
        none = 0;
        if (atomic_compare_exchange_strong(&c->tickets[ticket % TICKETS], &none, ticket))
            return ticket;
    }
    return 0;
}

static void pin_block(cistern *c, const cistern_key *key, uint64_t until_ns)
{
    struct index_place place;

    if (index_find(c->index, key, &place))
        atomic_store_explicit(&c->segs.at[place.segment].pinned_ns, until_ns, memory_order_relaxed);
}

/* The segments of a run that is about to be read are not chosen for eviction for a while. A sample
 * of its blocks will do: they lie side by side. */
static void pin_run(cistern *c, const cistern_key *keys, uint32_t blocks)
{
    uint64_t until = clock_ns() + c->cfg.get_timeout_ms * NS_PER_MS;
    uint32_t i;

    for (i = 0; i < blocks; i += PIN_EVERY)
        pin_block(c, &keys[i], until);
    if (blocks)
        pin_block(c, &keys[blocks - 1], until);
}

static void match_all(cistern *c, const cistern_key *keys, size_t n, struct match_answer *answer)
{
    const struct presence *others = others_enter(c);

    index_match(c->index, others, &c->cfg.rules, keys, n, answer);
    others_leave(c);
}

static void count_match(cistern *c, size_t keys, uint32_t blocks, uint64_t ns)
{
    struct metrics *m = &c->metrics;

    metric_add(m, METRIC_match_calls, 1);
    metric_add(m, METRIC_match_keys, keys);
    metric_add(m, METRIC_match_blocks, blocks);
    metric_add(m, METRIC_match_hit_calls, blocks != 0);
    metric_add(m, METRIC_match_ns, ns);
    metric_add(m, METRIC_spent_ns, ns);
    metric_record(m, HISTOGRAM_match_latency_ns, ns);
    metric_record(m, HISTOGRAM_match_asked_blocks, keys);
    metric_record(m, HISTOGRAM_match_found_blocks, blocks);
}

int cistern_match(cistern *c, const cistern_key *keys, size_t n, struct cistern_match *out)
{
    uint64_t start = clock_ns();
    struct match_answer answer = {0};
    int rc = check_keys(c, keys, n, out);
    bool stopped;

    if (rc)
        return rc;
    stopped = engine_stops_matches(c);
    metric_add(&c->metrics, METRIC_breaker_matches, stopped);
    metric_add(&c->metrics, METRIC_match_failed_calls, stopped || engine_tripped(c));
    if (n && !engine_tripped(c) && !stopped)
        match_all(c, keys, n, &answer);
    if (engine_gates(c, answer.blocks))
        answer.blocks = 0;
    if (c->capacity)
        pin_run(c, keys, answer.blocks);
    *out = (struct cistern_match){
        .blocks = answer.blocks, .have = answer.have, .ticket = answer.blocks ? ticket_take(c) : 0};
    count_match(c, n, answer.blocks, clock_ns() - start);
    return 0;
}

int cistern_ticket_release(cistern *c, uint64_t ticket)
{
    uint64_t mine = ticket;
    int rc = guard_check(c);

    if (rc || !ticket)
        return rc;
    if (!atomic_compare_exchange_strong(&c->tickets[ticket % TICKETS], &mine, 0))
        return err_set(-EINVAL, "ticket %llu is not out", (unsigned long long)ticket);
    return 0;
}

int cistern_exists(cistern *c, const cistern_key *keys, size_t n, uint16_t *out)
{
    size_t i;
    int rc = check_keys(c, keys, n, out);

    for (i = 0; !rc && i < n; i++) {
        if (i + 8 < n)
            index_prefetch(c->index, &keys[i + 8]);
        out[i] = engine_tripped(c) ? 0 : index_mask(c->index, &keys[i]);
    }
    return rc;
}

int cistern_touch(cistern *c, const cistern_key *keys, size_t n)
{
    struct index_place place;
    size_t i;
    int rc = check_keys(c, keys, n, c);

    for (i = 0; !rc && i < n; i++) {
        if (!index_find(c->index, &keys[i], &place))
            continue;
        (void)atomic_fetch_add_explicit(&c->segs.at[place.segment].touches, 1,
                                        memory_order_relaxed);
        heat_used(c, &keys[i]);
    }
    return rc;
}

/* Every copy that the index has of a key; how many there were, or -EAGAIN. */
static int delete_copies(cistern *c, const cistern_key *key)
{
    struct index_place place;
    int copies = 0;

    while (index_find(c->index, key, &place)) {
        struct dead_note note = {.offset = place.info.offset, .reason = DEAD_DELETED};

        memcpy(note.key, key->b, sizeof note.key);
        memcpy(note.segment_id, c->segs.at[place.segment].id, sizeof note.segment_id);
        if (writer_push_dead(c, &note, 1))
            return -EAGAIN;
        if (!index_remove_copy(c->index, key, place.segment, place.info.offset))
            continue;
        heat_lost(&c->segs.at[place.segment], 1);
        copies++;
    }
    return copies;
}

/* Forgets every copy of a key; how many copies there were, or -EAGAIN. One that is carried over may
 * come into the index just behind us: either it is found here, or the lane finds that it was
 * deleted. */
static int delete_one(cistern *c, const cistern_key *key)
{
    uint32_t cleared = carry_cleared(c);
    int copies = delete_copies(c, key), more = 0;

    fault_point("delete.looked");
    if (copies >= 0 && (carry_erase(c, key) || carry_cleared(c) != cleared))
        more = delete_copies(c, key);
    return more < 0 ? more : copies + more;
}

int64_t cistern_delete(cistern *c, const cistern_key *keys, size_t n)
{
    int64_t blocks = 0;
    size_t i;
    int rc = check_keys(c, keys, n, c);

    if (rc)
        return rc;
    if (!c->writer)
        return err_set(-EROFS, "this handle was opened without writing: it deletes nothing");
    for (i = 0; i < n; i++) {
        rc = delete_one(c, &keys[i]);
        if (rc < 0)
            return blocks ? blocks
                          : err_set(rc, "too many deletions are under way: flush, then go on");
        blocks += rc > 0;
    }
    metric_add(&c->metrics, METRIC_deleted_blocks, (uint64_t)blocks);
    return blocks;
}

int cistern_refresh(cistern *c, uint32_t timeout_ms)
{
    uint64_t ms = timeout_ms;
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (engine_stops_gets(c))
        return err_set(-EIO, "storage does not answer: the breaker is open");
    if (!ms)
        ms = c->cfg.read_timeout_ms;
    return follower_refresh_wait(c, clock_ns() + ms * NS_PER_MS);
}

int cistern_key_root(const cistern *c, const struct cistern_identity *id, cistern_key *out)
{
    struct cistern_identity own = {.size = sizeof own};
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!out)
        return err_set(-EINVAL, "out is NULL");
    if (id && (rc = config_take_struct(&own, sizeof own, id)))
        return rc;
    return key_root(c->salt, &own, out);
}
