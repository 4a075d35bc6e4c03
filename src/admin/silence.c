/*
 * silence.c - who has ended: the only question whose wrong answer could cost somebody a block.
 *
 * A closed head is an answer at once. Else the writer's head and the names, sizes and times of its
 * files must be the same in two pictures that lie silence_ms apart by our own clock, and no process
 * of this host may bear the number in its head. A number may have been given to another process
 * since; of several heads with one number and one generation the one written last is that process,
 * because a process has a shard open for writing once. Any doubt means alive.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "admin/survey.h"

bool survey_ended(enum owner_state s)
{
    return s == OWNER_CLOSED || s == OWNER_SILENT;
}

/* Is there a process of this host that may be the one that wrote the head? */
static bool process_seen(const struct survey_shard *sh, const struct survey_writer *w)
{
    char host[sizeof w->head.host] = "";
    size_t i;

    if (w->head_rc || !w->has_head || !w->head.pid || w->head.pid > INT32_MAX ||
        gethostname(host, sizeof host - 1) != 0 || strcmp(host, w->head.host) != 0)
        return false;
    if (kill((pid_t)w->head.pid, 0) != 0 && errno == ESRCH)
        return false;
    for (i = 0; i < sh->nwriters; i++) {
        const struct survey_writer *o = &sh->writers[i];

        if (o != w && o->has_head && !o->head_rc && o->head.pid == w->head.pid &&
            o->head.generation == w->head.generation && strcmp(o->head.host, host) == 0 &&
            o->head.written_s > w->head.written_s)
            return false;
    }
    return true;
}

static const struct survey_writer *writer_before(const struct survey_shard *sh, uint64_t id)
{
    size_t i;

    for (i = 0; sh && i < sh->nwriters; i++)
        if (sh->writers[i].id == id)
            return &sh->writers[i];
    return NULL;
}

static void judge_others(const struct survey_others *before, struct survey_others *now)
{
    size_t i, j;

    for (i = 0; i < now->count; i++) {
        struct survey_other *o = &now->at[i];

        o->state = OWNER_LIVE;
        for (j = 0; before && j < before->count; j++) {
            const struct survey_other *b = &before->at[j];

            if (strcmp(b->name, o->name) == 0 && b->stat.size == o->stat.size &&
                b->stat.mtime_s == o->stat.mtime_s)
                o->state = OWNER_SILENT;
        }
    }
}

static void judge_shard(const struct survey_shard *before, struct survey_shard *now)
{
    size_t i;

    for (i = 0; i < now->nwriters; i++) {
        struct survey_writer *w = &now->writers[i];
        const struct survey_writer *b = writer_before(before, w->id);

        if (w->state != OWNER_CLOSED)
            w->state =
                b && b->picture == w->picture && !process_seen(now, w) ? OWNER_SILENT : OWNER_LIVE;
    }
    judge_others(before ? &before->others : NULL, &now->others);
}

void survey_judge(const struct survey *before, struct survey *now)
{
    size_t i, j, k;

    for (i = 0; i < now->nspaces; i++) {
        const struct survey_space *old = NULL;
        struct survey_space *sp = &now->spaces[i];

        for (k = 0; k < before->nspaces; k++)
            if (strcmp(before->spaces[k].name, sp->name) == 0)
                old = &before->spaces[k];
        for (j = 0; j < sp->nshards; j++) {
            const struct survey_shard *o = NULL;

            for (k = 0; old && k < old->nshards; k++)
                if (strcmp(old->shards[k].dir, sp->shards[j].dir) == 0)
                    o = &old->shards[k];
            judge_shard(o, &sp->shards[j]);
        }
        judge_others(old ? &old->others : NULL, &sp->others);
    }
    judge_others(&before->others, &now->others);
}

int survey_watch(struct admin *ad, struct survey *v)
{
    struct survey later = {0};
    int rc = admin_sleep(ad, "watching heads", ad->opt.silence_ms);

    if (rc || (rc = survey_take(ad, true, &later)))
        return rc;
    survey_judge(v, &later);
    survey_free(v);
    *v = later;
    return 0;
}
