/*
 * plan_emit.h - a plan as configuration for where the engine runs. To stdout; deterministic.
 */
#ifndef CLI_PLAN_EMIT_H
#define CLI_PLAN_EMIT_H

#include <stddef.h>

#include "plan.h"

/* Where an engine looks when nobody tells it. */
#define PLAN_MOUNT "/3fs/stage/3fs/"
#define PLAN_ROOT  "rtp_llm/"

struct plan_place {
    const char *name;            /* of the workload */
    const char *image;           /* of the engine, with cistern in it */
    const char *mount;           /* PLAN_MOUNT: where the engine sees storage */
    const char *root;            /* PLAN_ROOT: the directory below it */
    const char *fuse_service;    /* value of the label that brings the 3FS client */
    const char *storage_release; /* of the storage pods, which must not share the node */
};

/* Variables of the engine with numbers that the plan came to, beside the two switches. */
struct plan_env {
    const char *name;
    unsigned long long value;
};
#define PLAN_ENV 3
/* How many were written to out. Staging is named where it is not the default of the engine. */
size_t plan_env(const struct plan_input *in, const struct plan_sizes *s,
                struct plan_env out[PLAN_ENV]);

/* `kind`: rtp, k8s, helm, docker or systemd; anything else is CLI_USAGE after a message. */
int plan_emit(const char *kind, const struct plan_place *p, const struct plan_model *m,
              const struct plan_input *in, const struct plan_sizes *s);

#endif
