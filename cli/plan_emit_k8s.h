/*
 * plan_emit_k8s.h - a plan as a StatefulSet, and as values for a chart that has such a template.
 */
#ifndef CLI_PLAN_EMIT_K8S_H
#define CLI_PLAN_EMIT_K8S_H

#include <stdbool.h>
#include <stddef.h>

#include "plan_emit.h"

int plan_emit_k8s(const struct plan_place *p, const struct plan_model *m,
                  const struct plan_input *in, const struct plan_sizes *s);
int plan_emit_helm(const struct plan_place *p, const struct plan_model *m,
                   const struct plan_input *in, const struct plan_sizes *s);
/* The directory of plan_shared_dir(): does the FUSE service mount into it, or the node? */
bool plan_mount_is_served(const char *shared);
/* The directory that is mounted from the host, "/3fs/stage/" for "/3fs/stage/3fs/". */
void plan_shared_dir(const char *mount, char *out, size_t size);

#endif
