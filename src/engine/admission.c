/* admission.c - see admission.h. */
#include "engine/admission.h"

#include <errno.h>

#include "base/le.h"
#include "engine/policy.h"

#define ENTRIES_UNLIMITED (1u << 22) /* 21 MiB */

int admission_open(cistern *c, uint64_t capacity)
{
    uint64_t entries = ENTRIES_UNLIMITED;
    int rc;

    if (c->cfg.admission == ADMIT_ALL)
        return 0;
    if (capacity)
        entries = ghost_entries_for(capacity, c->cfg.block_extent * c->cfg.shards);
    rc = admit_create(c->cfg.admission, entries, &c->admit);
    return rc ? err_set(rc, "no memory for the filter of admission") : 0;
}

void admission_close(cistern *c)
{
    admit_free(c->admit);
    c->admit = NULL;
}

static uint64_t hash_of(const cistern_key *key)
{
    return le64_load(key->b);
}

/* What is stored costs nothing and is no question. */
static bool is_stored(const cistern *c, const struct op *op, uint32_t block)
{
    uint16_t given = 0;
    uint32_t p;

    for (p = 0; p < c->cfg.nparts; p++) {
        if (op_span(&c->ops, op, block, p)->count)
            given |= (uint16_t)(1u << p);
    }
    return (index_mask(c->index, &op->r.keys[block]) & given) == given;
}

static bool is_admitted(cistern *c, const struct op *op, uint32_t block)
{
    if (op->r.admit)
        return op->r.admit[block] || is_stored(c, op, block);
    return is_stored(c, op, block) || admit_put(c->admit, hash_of(&op->r.keys[block]));
}

static void refuse(cistern *c, struct op *op, uint32_t block)
{
    uint32_t p;

    for (p = 0; p < c->cfg.nparts; p++) {
        if (op_span(&c->ops, op, block, p)->count)
            *op_result(&c->ops, op, block, p) = CISTERN_NOT_ADMITTED;
    }
}

bool admission_decide(cistern *c, struct op *op)
{
    uint32_t i, refused = 0;

    if (!op->r.admit && !c->admit)
        return true;
    for (i = 0; i < op->r.blocks; i++) {
        if (is_admitted(c, op, i))
            continue;
        refuse(c, op, i);
        refused++;
    }
    metric_add(&c->metrics, METRIC_put_not_admitted_blocks, refused);
    return refused != op->r.blocks;
}

void admission_again(cistern *c, const cistern_key *key)
{
    if (c->admit)
        admit_again(c->admit, hash_of(key));
}

int cistern_admit(cistern *c, const cistern_key *keys, size_t n, uint8_t *out)
{
    size_t i;
    int rc = guard_check(c);

    if (rc)
        return rc;
    if ((n && !keys) || !out)
        return err_set(-EINVAL, "keys or the out-parameter is NULL");
    for (i = 0; i < n; i++)
        out[i] =
            !c->admit || index_mask(c->index, &keys[i]) || admit_put(c->admit, hash_of(&keys[i]));
    return 0;
}
