/*
 * target.c - finds the directory that a verb looks at and says plainly when it is not one of ours.
 */
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "cli.h"

#define ROOT_FILE "cistern.json"

/* Is there a file `name` in the directory `dir`? */
static bool file_in(const char *dir, const char *name)
{
    char path[PATH_MAX + 16];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int root_check(const struct target *t, bool damaged)
{
    struct stat st;

    if (stat(t->root_path, &st) != 0) {
        if (errno == ENOENT && file_in(t->mount_path, ROOT_FILE))
            return cli_fail(CLI_ENVIRONMENT,
                            "%s does not exist, but %s itself is a Cistern root: give its parent "
                            "directory as --mount and its last name as --root",
                            t->root_path, t->mount_path);
        return cli_fail(CLI_ENVIRONMENT, "root %s: %s; name another with --root", t->root_path,
                        strerror(errno));
    }
    if (!S_ISDIR(st.st_mode) || (!damaged && !file_in(t->root_path, ROOT_FILE)))
        return cli_fail(CLI_ENVIRONMENT,
                        "%s is not a Cistern root: there is no " ROOT_FILE
                        " in it; name the right one with --mount and --root",
                        t->root_path);
    return CLI_OK;
}

/* Before the mount is touched: it may be another cluster's, or is to be found first. */
static int take_cluster(struct target *t)
{
    struct cistern_cluster *c = &t->cluster;
    int r;

    c->size = sizeof(*c);
    r = cistern_cluster_look(&t->options, c);
    if (r != 0)
        return cli_fail_lib(r, "network clusters");
    if (c->verdict == CISTERN_CLUSTER_REFUSED || c->verdict == CISTERN_CLUSTER_UNKNOWN)
        return cli_fail(CLI_ENVIRONMENT, "%s (CISTERN_ECLUSTER)", c->text);
    if (c->verdict == CISTERN_CLUSTER_CROSSED)
        cli_note("cistern: %s", c->text);
    if (t->options.mount == NULL && c->mount[0] != '\0')
        t->options.mount = c->mount;
    return CLI_OK;
}

static int resolve(struct target *t)
{
    struct cistern_options *o = &t->options;
    int r;

    memset(o, 0, sizeof(*o));
    o->size = sizeof(*o);
    r = cistern_options_from_env(o);
    if (r != 0)
        return cli_fail_lib(r, "the environment");
    if (t->mount != NULL)
        o->mount = t->mount;
    if (t->root != NULL)
        o->root = t->root;
    r = take_cluster(t);
    if (r != CLI_OK)
        return r;
    if (o->mount == NULL)
        o->mount = "/3fs/stage/3fs/";
    if (o->root == NULL)
        o->root = "rtp_llm/";
    if (t->provider != NULL)
        o->provider = t->provider;
    if (t->provider_path != NULL)
        o->provider_path = t->provider_path;
    if (t->key_file != NULL)
        o->encryption_key_file = t->key_file;
    if (realpath(o->mount, t->mount_path) == NULL)
        return cli_fail(CLI_ENVIRONMENT, "mount %s: %s; name another with --mount", o->mount,
                        strerror(errno));
    o->mount = t->mount_path;
    if (snprintf(t->root_path, sizeof(t->root_path), "%s/%s",
                 strcmp(t->mount_path, "/") == 0 ? "" : t->mount_path,
                 o->root) >= (int)sizeof(t->root_path))
        return cli_fail(CLI_USAGE, "--root: the path is too long");
    r = (int)strlen(t->root_path);
    while (r > 1 && t->root_path[r - 1] == '/')
        t->root_path[--r] = '\0';
    return CLI_OK;
}

int target_resolve(struct target *t)
{
    int r = resolve(t);

    return r == CLI_OK ? root_check(t, false) : r;
}

int target_resolve_damaged(struct target *t)
{
    int r = resolve(t);

    return r == CLI_OK ? root_check(t, true) : r;
}

int target_resolve_new(struct target *t)
{
    return resolve(t);
}

/* Up from the root to what is to be the mount: its parent, or where the FUSE mount begins. */
static void mount_of(char *path)
{
    struct stat here, above;
    struct statfs fs;
    char up[PATH_MAX + 4];
    char *slash;

    while ((slash = strrchr(path, '/')) != NULL) {
        if (slash == path)
            slash++;
        *slash = '\0';
        if (path[1] == '\0' || statfs(path, &fs) != 0 || fs.f_type != FUSE_SUPER_MAGIC)
            return;
        snprintf(up, sizeof(up), "%s/..", path);
        if (stat(path, &here) != 0 || stat(up, &above) != 0 || here.st_dev != above.st_dev)
            return;
    }
}

/* A word that names storage of another cluster is not even looked at. */
static int word_is_ours(const char *word)
{
    struct cistern_options o = {.size = sizeof(o)};
    struct cistern_cluster c = {.size = sizeof(c)};
    int r = cistern_options_from_env(&o);

    if (r != 0)
        return cli_fail_lib(r, "the environment");
    if (word[0] != '/')
        return CLI_OK;
    o.mount = word;
    o.root = ".";
    r = cistern_cluster_look(&o, &c);
    if (r != 0)
        return cli_fail_lib(r, "network clusters");
    return c.verdict == CISTERN_CLUSTER_REFUSED
               ? cli_fail(CLI_ENVIRONMENT, "%s (CISTERN_ECLUSTER)", c.text)
               : CLI_OK;
}

int target_word(struct target *t, const char *word)
{
    char *full;
    size_t skip;
    int r;

    if (word == NULL)
        return CLI_OK;
    if (t->mount != NULL || t->root != NULL)
        return cli_fail(CLI_USAGE, "%s: give the root as a word, or with --mount and --root", word);
    r = word_is_ours(word);
    if (r != CLI_OK)
        return r;
    full = realpath(word, NULL);
    if (full == NULL)
        return cli_fail(CLI_ENVIRONMENT, "root %s: %s", word, strerror(errno));
    snprintf(t->word_mount, sizeof(t->word_mount), "%s", full);
    mount_of(t->word_mount);
    skip = strlen(t->word_mount);
    skip += full[skip] == '/';
    snprintf(t->word_root, sizeof(t->word_root), "%s", full + skip);
    free(full);
    if (t->word_root[0] == '\0')
        return cli_fail(CLI_USAGE, "%s: a root is a directory below a mount", word);
    t->mount = t->word_mount;
    t->root = t->word_root;
    return CLI_OK;
}
