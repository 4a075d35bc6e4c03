/*
 * ttl.c - cistern_ttl(): tells how long the blocks of a space live, or changes it.
 *
 * It is a small file of the space, there whole or not at all; what engines do about it is
 * engine/ttl.h. Done twice, the second time changes nothing.
 */
#include <errno.h>
#include <stdio.h>

#include "admin/survey.h"
#include "segment/ttl_file.h"

struct change {
    struct admin ad;
    struct survey v;
    struct cistern_ttl how;
    int (*callback)(void *arg, const struct cistern_space_ttl *x);
    void *arg;
    int64_t spaces;
};

static int take(struct change *ch, const struct survey_space *sp)
{
    struct cistern_space_ttl x = {.space = sp->name};
    char path[ADMIN_PATH];
    int rc = admin_path(&ch->ad, path, sp->name, SPACE_TTL);

    if (rc)
        return rc;
    rc = ttl_file_read(ch->ad.io, path, &x.seconds);
    x.said = rc == 0;
    x.was = x.seconds;
    x.result = rc == -ENOENT ? 0 : rc;
    if (ch->how.change && (!x.result || x.result == -EBADMSG)) {
        x.changed = !x.said || x.was != ch->how.seconds;
        x.result = 0;
        if (x.changed && !(ch->ad.opt.flags & CISTERN_ADMIN_DRY_RUN))
            x.result = ttl_file_write(ch->ad.io, path, ch->how.seconds, false);
        if (!x.result) {
            x.seconds = ch->how.seconds;
            x.said = 1;
        }
    }
    if (admin_ends_all(x.result))
        return err_set(x.result, "the time to live of %s cannot be %s: %s", sp->dir,
                       ch->how.change ? "changed" : "told", cistern_error_string(x.result));
    ch->spaces++;
    return admin_answer(&ch->ad, ch->callback(ch->arg, &x));
}

static int run(struct change *ch)
{
    size_t i;
    int rc = survey_take(&ch->ad, false, &ch->v);

    for (i = 0; i < ch->v.nspaces && !rc; i++)
        if (!ch->how.model || survey_model_is(&ch->v.spaces[i], ch->how.model))
            rc = take(ch, &ch->v.spaces[i]);
    return rc;
}

int64_t cistern_ttl(const struct cistern_admin *a, const struct cistern_ttl *how,
                    int (*callback)(void *arg, const struct cistern_space_ttl *x), void *arg)
{
    struct change ch = {.callback = callback, .arg = arg};
    int rc = config_take_struct(&ch.how, sizeof ch.how, how);

    if (rc)
        return rc;
    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    if ((rc = admin_open(&ch.ad, a)))
        return rc;
    rc = admin_result(&ch.ad, run(&ch));
    survey_free(&ch.v);
    admin_close(&ch.ad);
    return rc ? rc : ch.spaces;
}
