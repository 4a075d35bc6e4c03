/*
 * gc.c - cistern_gc(): litter of writers that ended, and the removing that wipe shares.
 */
#include <errno.h>
#include <stdio.h>

#include "admin/pins.h"
#include "admin/removal.h"
#include "engine/config.h"

int remover_open(struct remover *r, const struct cistern_admin *a,
                 const struct cistern_removal_sum *sum)
{
    struct cistern_removal_sum own;

    if (!r->callback || (sum && config_take_struct(&own, sizeof own, sum)))
        return err_set(-EINVAL, "callback is NULL, or the sum's size is not set");
    return admin_open(&r->ad, a);
}

int remover_close(struct remover *r, int rc, struct cistern_removal_sum *sum)
{
    rc = admin_result(&r->ad, rc);
    survey_free(&r->v);
    admin_close(&r->ad);
    if (!rc && sum)
        admin_give(sum, &r->sum, sizeof r->sum);
    return rc;
}

int remover_take(struct remover *r, const struct litter *l, const char *why, bool is_dir,
                 bool allowed)
{
    struct cistern_removal item = {.space = l->space,
                                   .path = l->path,
                                   .why = why,
                                   .disk_bytes = l->disk_bytes,
                                   .is_dir = is_dir};

    if (!allowed)
        item.result = 2;
    else if (r->ad.opt.flags & CISTERN_ADMIN_DRY_RUN)
        item.result = 1;
    else
        item.result = is_dir ? litter_remove(&r->ad, l->path, true) : litter_collect(&r->ad, l);
    if (is_dir && item.result == -ENOTEMPTY)
        return 0; /* what is not ours is in it, or came meanwhile */
    if (item.result < 0)
        r->sum.failed++;
    else if (item.result == 2)
        r->sum.waiting++;
    else if (!is_dir) {
        r->sum.files++;
        r->sum.disk_bytes += l->disk_bytes;
    }
    return admin_answer(&r->ad, r->callback(r->arg, &item));
}

static int on_litter(void *arg, const struct litter *l)
{
    return remover_take(arg, l, litter_why(l->kind), false, survey_ended(l->state));
}

static int on_pin(void *arg, const struct pins_item *p)
{
    struct litter l = {
        .kind = LITTER_TEMPORARY, .space = p->space->name, .disk_bytes = p->file->stat.disk_bytes};

    if (p->rc || p->holds)
        return 0;
    (void)snprintf(l.path, sizeof l.path, "%s", p->path);
    return remover_take(arg, &l, "a pin that expired", false, true);
}

int cistern_gc(const struct cistern_admin *a,
               int (*callback)(void *arg, const struct cistern_removal *removal), void *arg,
               struct cistern_removal_sum *sum)
{
    struct remover r = {.callback = callback, .arg = arg};
    int rc = remover_open(&r, a, sum);

    if (rc)
        return rc;
    admin_warn_of_silence(&r.ad);
    rc = survey_take(&r.ad, true, &r.v);
    if (!rc && litter_waits(&r.v))
        rc = survey_watch(&r.ad, &r.v);
    rc = rc ? rc : litter_visit(&r.v, on_litter, &r);
    rc = rc ? rc : pins_visit(&r.ad, &r.v, on_pin, &r);
    return remover_close(&r, rc, sum);
}
