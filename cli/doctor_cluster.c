/*
 * doctor_cluster.c - the check that the storage is that of this host's network cluster: by the
 * clusters file, and by what the mount itself says it is.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define DEFAULT_FILE "/etc/cistern/clusters.json"
#define SOURCE       "hf3fs." /* and the cluster id, as the FUSE daemon mounts */

void doctor_take_cluster(struct doctor *d)
{
    char path[PATH_MAX];
    int rc;

    d->cluster.size = sizeof(d->cluster);
    /* Below a sysroot neither the file nor the name is this machine's. */
    if (!d->options.clusters && d->sysroot[0]) {
        (void)snprintf(d->clusters_file, sizeof(d->clusters_file), "%s",
                       doctor_path(d, DEFAULT_FILE, path));
        d->options.clusters = access(d->clusters_file, F_OK) == 0 ? d->clusters_file : "";
    }
    if (!d->options.host && d->sysroot[0] &&
        doctor_read(d, "/proc/sys/kernel/hostname", d->host, sizeof(d->host)) > 0)
        d->options.host = d->host;
    rc = cistern_cluster_look(&d->options, &d->cluster);
    if (rc)
        (void)snprintf(d->cluster_text, sizeof(d->cluster_text), "%s", cistern_error_text());
    else if (!d->options.mount && d->cluster.mount[0])
        d->options.mount = d->cluster.mount;
}

/* "stor-a" of a mount that says so, else "". */
static const char *says(const struct doctor_mount *m)
{
    size_t n = sizeof(SOURCE) - 1;

    return doctor_is_3fs(m) && strncmp(m->source, SOURCE, n) == 0 ? m->source + n : "";
}

static void nothing_described(const struct doctor *d, const struct doctor_mount *m,
                              struct doctor_finding *f)
{
    const char *id = says(m);

    if (!doctor_is_3fs(m)) {
        doctor_say(f, DOCTOR_PASS, "%s is no 3FS: there is no network cluster to be wrong",
                   d->mount);
    } else {
        doctor_say(f, DOCTOR_UNKNOWN,
                   "%s is 3FS cluster %s, and nothing says which one is of this host's network: "
                   "there is no " DEFAULT_FILE,
                   d->mount, *id ? id : "(not named)");
        doctor_mend(f,
                    "echo '{\"clusters\": [{\"name\": \"NAME\", \"hosts\": [\"HOST*\"], "
                    "\"storage\": \"%s\", \"mount\": \"%s\"}]}' >" DEFAULT_FILE,
                    *id ? id : "ID", d->mount);
    }
}

/* By the file it is this host's own; now the mount is asked. */
static void own_storage(const struct doctor *d, const struct doctor_mount *m,
                        struct doctor_finding *f)
{
    const struct cistern_cluster *c = &d->cluster;
    const char *id = says(m);

    if (!doctor_is_3fs(m)) {
        doctor_say(f, DOCTOR_WARN, "3FS cluster %s should be mounted at %s, and that is %s",
                   c->storage, d->mount, m->type);
        doctor_mend(f, "mount 3FS there: hf3fs_fuse_main with cluster_id %s, mountpoint %s",
                    c->storage, d->mount);
    } else if (!*id) {
        doctor_say(f, DOCTOR_UNKNOWN, "%.300s; the mount does not say which cluster it is",
                   c->text);
    } else if (strcmp(id, c->storage) != 0) {
        doctor_say(f, DOCTOR_FAIL,
                   "%s is 3FS cluster %s; network cluster %s, which this host %.64s is in, "
                   "has %s: reads leave the RDMA network",
                   d->mount, id, c->name, c->host, c->storage);
        doctor_mend(f, "umount %s, and mount %s there: hf3fs_fuse_main with cluster_id %s",
                    d->mount, c->storage, c->storage);
    } else {
        doctor_say(f, DOCTOR_PASS, "%.300s; the mount says so too", c->text);
    }
}

static void elsewhere(const struct doctor *d, const struct doctor_mount *m,
                      struct doctor_finding *f)
{
    const struct cistern_cluster *c = &d->cluster;

    if (doctor_is_3fs(m)) {
        doctor_say(f, DOCTOR_FAIL, "%s is 3FS, and no network cluster in %s has it; %.200s",
                   d->mount, c->file, c->text);
        if (c->mount[0])
            doctor_mend(f, "export CISTERN_MOUNT=%s", c->mount);
        else
            doctor_mend(f, "describe it in %s", c->file);
    } else {
        doctor_say(f, DOCTOR_PASS, "%s is %s, storage of no network cluster", d->mount, m->type);
    }
}

void check_cluster(const struct doctor *d, struct doctor_finding *f)
{
    const struct cistern_cluster *c = &d->cluster;
    struct doctor_mount m;

    if (d->cluster_text[0]) {
        doctor_say(f, DOCTOR_FAIL, "%s", d->cluster_text);
        doctor_mend(f, "correct what is named, then see: cistern clusters");
        return;
    }
    switch (c->verdict) {
    case CISTERN_CLUSTER_NONE:
        if (doctor_mount_known(d, &m, f))
            nothing_described(d, &m, f);
        break;
    case CISTERN_CLUSTER_OWN:
        if (doctor_mount_known(d, &m, f))
            own_storage(d, &m, f);
        break;
    case CISTERN_CLUSTER_ELSEWHERE:
        if (doctor_mount_known(d, &m, f))
            elsewhere(d, &m, f);
        break;
    case CISTERN_CLUSTER_CROSSED:
        doctor_say(f, DOCTOR_WARN, "%s", c->text);
        doctor_mend(f, "unset CISTERN_CROSS_CLUSTER CISTERN_MOUNT");
        break;
    default: /* an open would be refused */
        doctor_say(f, DOCTOR_FAIL, "%s", c->text);
        if (c->name[0])
            doctor_mend(f, "export CISTERN_MOUNT=%s", c->mount);
        else
            doctor_mend(f,
                        "name the cluster, export CISTERN_CLUSTER=%s, or add %.64s to its "
                        "hosts in %s",
                        c->other[0] ? c->other : "NAME", c->host, c->file);
        break;
    }
}
