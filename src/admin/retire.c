/*
 * retire.c - cistern_retire(): the mark of a space whose model is not served any more.
 *
 * The mark is a small file, there whole or not at all. Nothing else is touched: what engines do
 * about it is engine/retire.h. Done twice, the second time changes nothing.
 */
#include <errno.h>
#include <stdio.h>

#include "admin/survey.h"
#include "base/clock.h"

struct retire {
    struct admin ad;
    struct survey v;
    struct cistern_retire how;
    int (*callback)(void *arg, const struct cistern_retired *x);
    void *arg;
    int64_t spaces;
};

static int change(struct retire *r, const struct survey_space *sp)
{
    char path[ADMIN_PATH], text[64];
    int n, rc = admin_path(&r->ad, path, sp->name, SPACE_RETIRED);

    if (rc)
        return rc;
    if (r->how.undo) {
        rc = r->ad.io->ops->unlink(r->ad.io, path);
        return rc == -ENOENT ? 0 : rc;
    }
    n = snprintf(text, sizeof text, "{\"retired_s\": %llu}\n", (unsigned long long)clock_wall_s());
    rc = r->ad.io->ops->small_write(r->ad.io, path, text, (size_t)n, true);
    return rc == -EEXIST ? 0 : rc;
}

static int take(struct retire *r, const struct survey_space *sp)
{
    bool wanted = !r->how.undo;
    struct cistern_retired x = {
        .space = sp->name, .retired = wanted, .changed = sp->retired != wanted};

    if (x.changed && !(r->ad.opt.flags & CISTERN_ADMIN_DRY_RUN))
        x.result = change(r, sp);
    if (admin_ends_all(x.result))
        return err_set(x.result, "%s cannot be %s: %s", sp->dir, wanted ? "retired" : "taken back",
                       cistern_error_string(x.result));
    if (x.result)
        x.retired = sp->retired;
    r->spaces++;
    return admin_answer(&r->ad, r->callback(r->arg, &x));
}

static int run(struct retire *r)
{
    size_t i;
    int rc = survey_take(&r->ad, false, &r->v);

    for (i = 0; i < r->v.nspaces && !rc; i++)
        if (!r->how.model || survey_model_is(&r->v.spaces[i], r->how.model))
            rc = take(r, &r->v.spaces[i]);
    return rc;
}

int64_t cistern_retire(const struct cistern_admin *a, const struct cistern_retire *how,
                       int (*callback)(void *arg, const struct cistern_retired *x), void *arg)
{
    struct retire r = {.callback = callback, .arg = arg};
    int rc = config_take_struct(&r.how, sizeof r.how, how);

    if (rc)
        return rc;
    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    if ((rc = admin_open(&r.ad, a)))
        return rc;
    rc = admin_result(&r.ad, run(&r));
    survey_free(&r.v);
    admin_close(&r.ad);
    return rc ? rc : r.spaces;
}
