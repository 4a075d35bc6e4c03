/*
 * fuzz_clusters.c - a clusters file, a host, a path, and what the kernel says is mounted.
 *
 * Input: text of the file up to a zero byte, the host likewise, the path likewise, the rest is a
 * mountinfo. Promises: what is refused says where and leaves the result alone; of what is taken
 * names are unique and plain, mounts are absolute and as short as they can be; a host is in one
 * cluster by a pattern of that cluster, or in none; own storage is never refused, another's is
 * never opened unless that was said; a path is made plain once and for all.
 */
#include <string.h>

#include "engine/cluster.h"
#include "fuzz.h"
#include "io/hostfile.h"

#define WORD "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

/* The input up to a zero byte, as a string of its own. */
static char *take(struct fuzz_in *in)
{
    const uint8_t *end = memchr(in->at, 0, in->left);
    char *s = fuzz_string(fuzz_part(in, end ? (size_t)(end - in->at) : in->left));

    (void)fuzz_u8(in);
    return s;
}

static void list_check(const struct clusters *c)
{
    char again[CLUSTER_PATH];
    size_t i, j;

    FUZZ_CHECK(c->count >= 1 && c->count <= CLUSTERS_MOST);
    for (i = 0; i < c->count; i++) {
        const struct cluster *x = &c->list[i];
        size_t n = strlen(x->name), s = strlen(x->storage);

        FUZZ_CHECK(n && n < 64 && strspn(x->name, WORD) == n);
        FUZZ_CHECK(s && s < 32 && strspn(x->storage, WORD) == s);
        FUZZ_CHECK(x->mount[0] == '/' && x->mount[1]);
        FUZZ_CHECK(cluster_path(x->mount, "", again, sizeof again) == 0);
        FUZZ_CHECK(strcmp(again, x->mount) == 0);
        for (j = 0; j < i; j++)
            FUZZ_CHECK(strcmp(c->list[j].name, x->name) != 0);
        for (j = 0; j <= CLUSTER_PATTERNS && cluster_pattern(x, j); j++)
            ;
        FUZZ_CHECK(j <= CLUSTER_PATTERNS);
    }
}

static bool has_pattern(const struct cluster *c, const char *pattern)
{
    const char *p;
    size_t i;

    for (i = 0; (p = cluster_pattern(c, i)); i++) {
        if (p == pattern)
            return true;
    }
    return false;
}

static void host_check(const struct clusters *c, const char *host, const char *path,
                       const char *mountinfo)
{
    const struct cluster *own = NULL;
    struct cistern_cluster x = {.size = sizeof x, .file = "f", .host = "h"};
    const char *pattern = NULL;
    int cross, rc = clusters_own(c, "f", host, NULL, &own, &pattern);

    FUZZ_CHECK(rc == 0 || (rc == CISTERN_ECLUSTER && *err_text() && !own && !pattern));
    FUZZ_CHECK(!own == !pattern && (!own || has_pattern(own, pattern)));
    if (own) {
        (void)snprintf(x.name, sizeof x.name, "%s", own->name);
        (void)snprintf(x.storage, sizeof x.storage, "%s", own->storage);
        (void)snprintf(x.mount, sizeof x.mount, "%s", own->mount);
        (void)snprintf(x.pattern, sizeof x.pattern, "%s", pattern);
    }
    if (cluster_path(path, "", x.path, sizeof x.path))
        return;
    mounted_3fs_in(mountinfo, x.path, x.mounted, sizeof x.mounted);
    for (cross = 0; cross < 2; cross++) {
        clusters_judge(c, cross, &x);
        FUZZ_CHECK(*x.text && x.verdict != CISTERN_CLUSTER_UNKNOWN);
        FUZZ_CHECK(x.verdict != (cross ? CISTERN_CLUSTER_REFUSED : CISTERN_CLUSTER_CROSSED));
        if (own && x.mounted[0])
            FUZZ_CHECK((strcmp(x.mounted, own->storage) == 0) ==
                       (x.verdict == CISTERN_CLUSTER_OWN));
        if (own && !x.mounted[0] && strcmp(x.path, own->mount) == 0)
            FUZZ_CHECK(x.verdict == CISTERN_CLUSTER_OWN);
    }
}

static void path_check(const char *path)
{
    char once[512], twice[512];

    if (cluster_path(path, "", once, sizeof once))
        return;
    FUZZ_CHECK(once[0] == '/' && !strstr(once, "//") && !strstr(once, "/./"));
    FUZZ_CHECK(!strstr(once, "/../") && (!once[1] || once[strlen(once) - 1] != '/'));
    FUZZ_CHECK(cluster_path(once, "", twice, sizeof twice) == 0 && strcmp(once, twice) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    char *text = take(&in), *host = take(&in), *path = take(&in), *mountinfo = fuzz_string(in);
    struct clusters c = {0};
    int rc = clusters_parse("f", text, strlen(text), &c);

    FUZZ_CHECK(rc == 0 || (rc == CISTERN_ECLUSTER && strncmp(err_text(), "f: ", 3) == 0));
    path_check(path);
    if (rc) {
        FUZZ_CHECK(!c.json && !c.list && !c.count);
    } else {
        list_check(&c);
        host_check(&c, host, path, mountinfo);
        clusters_release(&c);
    }
    free(text);
    free(host);
    free(path);
    free(mountinfo);
    return 0;
}
