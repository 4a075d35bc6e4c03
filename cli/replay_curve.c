/*
 * replay_curve.c - hits of a least-recently-used cache for every size at once.
 *
 * The stack distance of a block is how many blocks were used since it was: with room for more it is
 * still there. A tree of counts over moments of use answers that in O(log n). A leading run ends at
 * the first block that is not there, so what counts of a block is the largest distance among those
 * from the first one of its request on. Distances are those at the moment of the match: before any
 * block of the request is used again.
 */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "replay.h"

struct tree {
    uint32_t *at; /* counts, 1 .. n, as a binary indexed tree */
    size_t n;
};

static void tree_add(struct tree *t, size_t i, int32_t by)
{
    for (; i <= t->n; i += i & -i)
        t->at[i] += (uint32_t)by;
}

static uint64_t tree_sum(const struct tree *t, size_t i)
{
    uint64_t sum = 0;

    for (; i; i -= i & -i)
        sum += t->at[i];
    return sum;
}

/* Moments are numbered from 1; 0 = never used. */
static void one_request(const struct replay_trace *t, const struct replay_request *r,
                        struct tree *tree, size_t *last, size_t *moment, uint32_t *used,
                        struct replay_curve *out)
{
    uint64_t most = 0, distance;
    uint32_t k, id;

    for (k = 0; k < r->count; k++) {
        id = t->ids[r->first + k];
        if (!last[id])
            break;
        distance = *used - tree_sum(tree, last[id]) + 1;
        most = distance > most ? distance : most;
        out->at[most]++;
    }
    for (k = 0; k < r->count; k++) {
        id = t->ids[r->first + k];
        if (last[id])
            tree_add(tree, last[id], -1);
        else
            (*used)++;
        last[id] = ++*moment;
        tree_add(tree, *moment, 1);
    }
    out->references += r->count;
}

int replay_curve_make(const struct replay_trace *t, struct replay_curve *out)
{
    struct tree tree = {NULL, 0};
    size_t *last, moment = 0, i;
    uint32_t used = 0;

    memset(out, 0, sizeof(*out));
    for (i = 0; i < t->nrequests; i++)
        tree.n += t->requests[i].count;
    tree.at = calloc(tree.n + 1, sizeof(*tree.at));
    last = calloc(t->blocks, sizeof(*last));
    out->blocks = t->distinct;
    out->at = calloc((size_t)t->distinct + 2, sizeof(*out->at));
    if (tree.at && last && out->at) {
        for (i = 0; i < t->nrequests; i++)
            one_request(t, &t->requests[i], &tree, last, &moment, &used, out);
    }
    i = tree.at && last && out->at;
    free(tree.at);
    free(last);
    return i ? CLI_OK : cli_fail(CLI_ENVIRONMENT, "out of memory for the curve");
}

uint64_t replay_curve_hits(const struct replay_curve *c, uint64_t capacity)
{
    uint64_t hits = 0, d;

    for (d = 1; d <= c->blocks && d <= capacity; d++)
        hits += c->at[d];
    return hits;
}

void replay_curve_free(struct replay_curve *c)
{
    free(c->at);
    memset(c, 0, sizeof(*c));
}
