/*
 * warm.c - cistern_warm(): every payload of a prefix read once, by the way of an explain that
 * reads.
 */
#include <errno.h>

#include "admin/explain.h"
#include "base/clock.h"
#include "engine/config.h"

struct warm {
    struct explain x;
    int (*callback)(void *arg, const struct cistern_explanation *x);
    void *arg;
    struct cistern_warm_sum sum;
};

static int warm_key(struct warm *w, size_t key)
{
    struct explain_answer a;
    int rc = explain_key(&w->x, key, &a);

    if (rc)
        return rc;
    w->sum.blocks++;
    switch (a.out.why) {
    case CISTERN_WHY_HERE:
        w->sum.hits++;
        return 0;
    case CISTERN_WHY_BAD:
    case CISTERN_WHY_DATA:
    case CISTERN_WHY_DEAD:
    case CISTERN_WHY_ASIDE:
        w->sum.bad++;
        break;
    default:
        w->sum.missing++;
    }
    return w->callback ? explain_tell(&w->x, &a, w->callback, w->arg) : 0;
}

/* What there is to read, for the progress. */
static uint64_t bytes_found(const struct explain *x)
{
    uint64_t bytes = 0;
    size_t i;
    unsigned p;

    for (i = 0; i < x->ncopies; i++) {
        const struct explain_copy *c = &x->copies[i];
        bool newest =
            i == 0 || x->copies[i - 1].key != c->key || x->copies[i - 1].shard != c->shard;

        for (p = 0; p < c->info.parts && newest && c->space == x->space; p++)
            bytes += c->info.length[p];
    }
    return bytes;
}

int cistern_warm(const struct cistern_admin *a, const struct cistern_prefix *prefix,
                 int (*callback)(void *arg, const struct cistern_explanation *x), void *arg,
                 struct cistern_warm_sum *sum)
{
    struct warm w = {.callback = callback, .arg = arg};
    struct cistern_warm_sum theirs;
    uint64_t from;
    size_t i;
    int rc = sum ? config_take_struct(&theirs, sizeof theirs, sum) : 0;

    if (rc)
        return rc;
    rc = explain_begin(&w.x, a, prefix);
    w.x.ad.opt.flags |= CISTERN_ADMIN_READ;
    w.x.ad.done = 0;
    w.x.ad.total = bytes_found(&w.x);
    from = clock_ns();
    for (i = 0; i < w.x.nprompt && !rc; i++)
        rc = warm_key(&w, i);
    w.sum.nanoseconds = clock_ns() - from;
    w.sum.bytes = w.x.read_bytes;
    rc = admin_result(&w.x.ad, rc);
    explain_end(&w.x);
    if (!rc && sum)
        admin_give(sum, &w.sum, sizeof w.sum);
    return rc;
}
