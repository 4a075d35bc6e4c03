/*
 * cluster.h - network clusters: which storage is near this host, and what is another cluster's.
 *
 * A small JSON file, the same on all hosts, describes them: {"clusters": [{"name", "hosts",
 * "storage", "mount"}]}. Reading data of a 3FS cluster from outside of its RDMA network costs what
 * RDMA was there to save, so a handle uses the storage of its own cluster and crosses only when it
 * is told to.
 *
 * Paths are compared as they are written, links are not followed: nothing here touches storage.
 * What the kernel says is mounted at a path goes before what the file says. Threads: any, no state.
 */
#ifndef ENGINE_CLUSTER_H
#define ENGINE_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "cistern.h"

#define CLUSTERS_DEFAULT "/etc/cistern/clusters.json"
#define CLUSTERS_BYTES   (256u * 1024u) /* longest file */
#define CLUSTERS_MOST    256u
#define CLUSTER_PATTERNS 256u /* of one cluster */
#define CLUSTER_PATH     256u /* of a mount, with its end */

struct json_t;

/* One entry; strings belong to the list. */
struct cluster {
    const char *name, *storage;
    char mount[CLUSTER_PATH];   /* no slash at the end */
    const struct json_t *hosts; /* array of patterns; NULL = none */
};

/* Owned by whoever parsed it. A zeroed one may be released. */
struct clusters {
    struct json_t *json;
    struct cluster *list;
    size_t count;
};

/* CISTERN_ECLUSTER: the text has `file` and the line or the member. -ENOMEM. */
int clusters_parse(const char *file, const char *text, size_t len, struct clusters *out) MUST_CHECK;
void clusters_release(struct clusters *c);
/* The i-th pattern of a cluster; NULL behind the last. */
const char *cluster_pattern(const struct cluster *c, size_t i);

/* The cluster of `host`, or that with the name `named` unless that is NULL. *own is NULL when no
 * pattern matches; *pattern is NULL when it was named. CISTERN_ECLUSTER: two match, or no such
 * name. */
int clusters_own(const struct clusters *c, const char *file, const char *host, const char *named,
                 const struct cluster **own, const char **pattern) MUST_CHECK;

/* "mount/root" without doubled slashes, "." and ".."; -ENAMETOOLONG. */
int cluster_path(const char *mount, const char *root, char *out, size_t size) MUST_CHECK;

/* Fills in `verdict`, whose storage out->path is and a sentence, from what stands in `out` (file,
 * host, name, storage, mount, pattern, path, mounted). `cross`: it may be another cluster's. */
void clusters_judge(const struct clusters *c, bool cross, struct cistern_cluster *out);

/* All of it: reads the file that the options name and answers. Reads that file, the host name and
 * /proc/self/mountinfo. CISTERN_ECLUSTER; a refusal is an answer and no error here. */
int cluster_look(const struct cistern_options *o, struct cistern_cluster *out) MUST_CHECK;

#endif
