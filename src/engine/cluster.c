/*
 * cluster.c - see cluster.h: the cluster of a host, and whose storage a path is.
 */
#include "engine/cluster.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/config.h"
#include "io/hostfile.h"

static const char *match(const struct cluster *c, const char *host)
{
    const char *pattern;
    size_t i;

    for (i = 0; (pattern = cluster_pattern(c, i)); i++) {
        if (fnmatch(pattern, host, FNM_CASEFOLD | FNM_NOESCAPE) == 0)
            return pattern;
    }
    return NULL;
}

static const struct cluster *by_name(const struct clusters *c, const char *name)
{
    size_t i;

    for (i = 0; i < c->count; i++) {
        if (strcmp(c->list[i].name, name) == 0)
            return &c->list[i];
    }
    return NULL;
}

int clusters_own(const struct clusters *c, const char *file, const char *host, const char *named,
                 const struct cluster **own, const char **pattern)
{
    const struct cluster *found = NULL;
    const char *because = NULL, *also;
    size_t i;

    if (named) {
        found = by_name(c, named);
        if (!found)
            return err_set(CISTERN_ECLUSTER,
                           "there is no network cluster %.64s in %.200s; the first is %s", named,
                           file, c->list[0].name);
    }
    for (i = 0; i < c->count && !named; i++) {
        also = match(&c->list[i], host);
        if (also && found)
            return err_set(CISTERN_ECLUSTER,
                           "%.120s: host %.100s is in two network clusters, %s by pattern %.60s "
                           "and %s by %.60s: change a pattern, or name one: CISTERN_CLUSTER=%s",
                           file, host, found->name, because, c->list[i].name, also, found->name);
        if (also) {
            found = &c->list[i];
            because = also;
        }
    }
    *own = found;
    *pattern = because;
    return 0;
}

/* ---- Paths ---- */

int cluster_path(const char *mount, const char *root, char *out, size_t size)
{
    const char *from[2] = {mount, root}, *end;
    size_t used = 0, n;
    int i;

    for (i = 0; i < 2; i++) {
        for (; *from[i]; from[i] = end) {
            from[i] += strspn(from[i], "/");
            n = strcspn(from[i], "/");
            end = from[i] + n;
            if (n == 0 || (n == 1 && *from[i] == '.'))
                continue;
            if (n == 2 && from[i][0] == '.' && from[i][1] == '.') {
                while (used && out[--used] != '/')
                    ;
                continue;
            }
            if (used + n + 2 > size)
                return -ENAMETOOLONG;
            out[used++] = '/';
            memcpy(out + used, from[i], n);
            used += n;
        }
    }
    if (used == 0)
        out[used++] = '/';
    out[used] = '\0';
    return 0;
}

/* Whose mount this path is on: the longest wins, and of equal ones that of `storage`. */
static const struct cluster *by_path(const struct clusters *c, const char *path,
                                     const char *storage)
{
    const struct cluster *best = NULL;
    size_t longest = 0, i;

    for (i = 0; i < c->count; i++) {
        size_t n = strlen(c->list[i].mount);

        if (strncmp(path, c->list[i].mount, n) != 0 || (path[n] && path[n] != '/') || n < longest)
            continue;
        if (n > longest || strcmp(c->list[i].storage, storage) == 0)
            best = &c->list[i];
        longest = n;
    }
    return best;
}

static const struct cluster *by_storage(const struct clusters *c, const char *storage)
{
    size_t i;

    for (i = 0; i < c->count; i++) {
        if (strcmp(c->list[i].storage, storage) == 0)
            return &c->list[i];
    }
    return NULL;
}

/* ---- The verdict ---- */

/* What does not fit is cut off: names come first, so that long ones take it from the rest. */
static void say(char *buf, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(char *buf, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(buf, size, format, args);
    va_end(args);
}

static void say_own(const struct cistern_cluster *o, char *buf, size_t size)
{
    if (!o->name[0])
        say(buf, size, "no pattern in %.160s matches this host %.100s", o->file, o->host);
    else
        say(buf, size,
            "this host %.64s is in network cluster %s, uses 3FS cluster %s mounted at %.120s, "
            "because %s%.64s",
            o->host, o->name, o->storage, o->mount, o->pattern[0] ? "pattern " : "it is named",
            o->pattern);
}

static void say_other(struct cistern_cluster *o, const char *own)
{
    char whose[160];

    if (o->other[0])
        say(whose, sizeof whose, "of network cluster %s (3FS cluster %s)", o->other,
            o->other_storage);
    else
        say(whose, sizeof whose, "of 3FS cluster %s, which no network cluster has",
            o->other_storage);
    if (o->verdict == CISTERN_CLUSTER_CROSSED)
        say(o->text, sizeof o->text, "%.100s is storage %s, crossed to on purpose: %s", o->path,
            whose, own);
    else if (o->name[0])
        say(o->text, sizeof o->text,
            "%.80s is storage %s; %.200s: use a mount of its own cluster, or cross on purpose: "
            "CISTERN_CROSS_CLUSTER=1",
            o->path, whose, own);
    else
        say(o->text, sizeof o->text,
            "%.80s is storage %s; %.200s: add it to hosts there, or name its cluster: "
            "CISTERN_CLUSTER=NAME",
            o->path, whose, own);
}

void clusters_judge(const struct clusters *c, bool cross, struct cistern_cluster *o)
{
    const struct cluster *there = by_path(c, o->path, o->storage), *whose;
    const char *storage = o->mounted[0] ? o->mounted : there ? there->storage : "";
    char own[512];

    whose = o->mounted[0] ? by_storage(c, o->mounted) : there;
    say_own(o, own, sizeof own);
    if (!o->path[0]) {
        o->verdict = CISTERN_CLUSTER_UNKNOWN;
        say(o->text, sizeof o->text,
            "%s, and no mount is given: add it to hosts there, or name its cluster: "
            "CISTERN_CLUSTER=NAME",
            own);
    } else if (o->name[0] && strcmp(storage, o->storage) == 0) {
        o->verdict = CISTERN_CLUSTER_OWN;
        say(o->text, sizeof o->text, "%s", own);
    } else if (!*storage || (!whose && !o->name[0])) {
        o->verdict = CISTERN_CLUSTER_ELSEWHERE;
        say(o->text, sizeof o->text, "%.100s is storage of no network cluster; %s", o->path, own);
    } else {
        o->verdict = cross ? CISTERN_CLUSTER_CROSSED : CISTERN_CLUSTER_REFUSED;
        (void)snprintf(o->other, sizeof o->other, "%s", whose ? whose->name : "");
        (void)snprintf(o->other_storage, sizeof o->other_storage, "%s", storage);
        say_other(o, own);
    }
}

/* ---- From options ---- */

/* 0: *out is filled; -ENOENT: nothing describes clusters. */
static int load(const struct cistern_options *o, const char *file, struct clusters *out)
{
    char *text;
    int64_t n;
    int rc;

    if (!*file)
        return -ENOENT;
    text = malloc(CLUSTERS_BYTES);
    if (!text)
        return err_set(-ENOMEM, "no memory to read %.200s", file);
    n = hostfile_read(file, text, CLUSTERS_BYTES);
    if (n == -ENOENT && !o->clusters)
        rc = -ENOENT;
    else if (n < 0)
        rc = err_set(CISTERN_ECLUSTER, "the clusters file %.200s cannot be read: %s", file,
                     n == -EFBIG ? "it is longer than 256 KiB" : cistern_error_string((int)n));
    else
        rc = clusters_parse(file, text, (size_t)n, out);
    free(text);
    return rc;
}

static int take_host(const struct cistern_options *o, char *host, size_t size)
{
    if (o->host && strlen(o->host) >= size)
        return err_set(CISTERN_ECLUSTER, "host is longer than %zu bytes", size - 1);
    if (o->host)
        (void)snprintf(host, size, "%s", o->host);
    else if (gethostname(host, size - 1) != 0 || !*host)
        return err_set(CISTERN_ECLUSTER, "this machine has no host name: set CISTERN_HOST");
    host[size - 1] = '\0';
    return 0;
}

static int answer(const struct clusters *c, const struct cistern_options *o,
                  struct cistern_cluster *x)
{
    const struct cluster *own = NULL;
    const char *pattern = NULL, *mount = o->mount;
    int rc;

    if ((rc = take_host(o, x->host, sizeof x->host)) ||
        (rc = clusters_own(c, x->file, x->host, o->cluster, &own, &pattern)))
        return rc;
    if (own) {
        (void)snprintf(x->name, sizeof x->name, "%s", own->name);
        (void)snprintf(x->storage, sizeof x->storage, "%s", own->storage);
        (void)snprintf(x->mount, sizeof x->mount, "%s", own->mount);
        (void)snprintf(x->pattern, sizeof x->pattern, "%s", pattern ? pattern : "");
        mount = mount ? mount : own->mount;
    }
    if (mount && (mount[0] != '/' ||
                  cluster_path(mount, o->root ? o->root : CONFIG_ROOT, x->path, sizeof x->path)))
        return err_set(CISTERN_ECONFIG,
                       "the mount point '%.200s' must be an absolute path of at "
                       "most 255 bytes",
                       mount);
    if (x->path[0] && (rc = mounted_3fs(x->path, x->mounted, sizeof x->mounted)))
        return err_set(rc, "/proc/self/mountinfo cannot be read: %s", cistern_error_string(rc));
    clusters_judge(c, o->cross_cluster > 0, x);
    return 0;
}

int cluster_look(const struct cistern_options *o, struct cistern_cluster *out)
{
    const char *file = o->clusters ? o->clusters : CLUSTERS_DEFAULT;
    struct cistern_cluster x = {.size = sizeof x};
    struct clusters c = {0};
    int rc = load(o, file, &c);

    if (rc == -ENOENT && o->cluster)
        return err_set(CISTERN_ECLUSTER,
                       "network cluster %.64s is named, and nothing describes it: there is no %s",
                       o->cluster, *file ? file : "clusters file");
    if (rc && rc != -ENOENT)
        return rc;
    if (rc == 0) {
        (void)snprintf(x.file, sizeof x.file, "%s", file);
        rc = answer(&c, o, &x);
        clusters_release(&c);
        if (rc)
            return rc;
    } else {
        (void)snprintf(x.text, sizeof x.text, "no network clusters are described: there is no %s",
                       *file ? file : "clusters file");
    }
    *out = x;
    return 0;
}

int cistern_cluster_look(const struct cistern_options *o, struct cistern_cluster *out)
{
    struct cistern_options own;
    struct cistern_cluster theirs, x;
    size_t size;
    int rc;

    if ((rc = config_take_struct(&own, sizeof own, o)) ||
        (rc = config_take_struct(&theirs, sizeof theirs, out)) || (rc = cluster_look(&own, &x)))
        return rc;
    size = x.size = out->size;
    memcpy(out, &x, size < sizeof x ? size : sizeof x);
    return 0;
}

int cistern_cluster_list(const struct cistern_options *o,
                         int (*callback)(void *arg, const struct cistern_cluster_entry *e),
                         void *arg)
{
    struct cistern_options own;
    struct clusters c = {0};
    size_t i, j;
    int rc;

    if ((rc = config_take_struct(&own, sizeof own, o)))
        return rc;
    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    rc = load(&own, own.clusters ? own.clusters : CLUSTERS_DEFAULT, &c);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    for (i = 0; i < c.count && !rc; i++) {
        const char *patterns[CLUSTER_PATTERNS];
        struct cistern_cluster_entry e = {.name = c.list[i].name,
                                          .storage = c.list[i].storage,
                                          .mount = c.list[i].mount,
                                          .patterns = patterns};

        for (j = 0; j < CLUSTER_PATTERNS && (patterns[j] = cluster_pattern(&c.list[i], j)); j++)
            ;
        e.npatterns = (uint32_t)j;
        rc = callback(arg, &e);
    }
    clusters_release(&c);
    return rc;
}
