/*
 * bench_place.c - finds or makes the directory that a bench works in, and gives it back.
 */
#include "bench_place.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli.h"
#include "text.h"

#define XFS_MAGIC 0x58465342
#define OPEN_DIRS 16 /* descriptors that a walk may hold */

/* What the drop-in makes in a mount directory. */
static const char *const mount_files[] = {"3fs-virt", ".cistern-mount"};
#define MOUNT_FILES (sizeof(mount_files) / sizeof(mount_files[0]))

static void kind_find(struct bench_place *p, long magic)
{
    static const struct {
        long magic;
        const char *name;
    } kinds[] = {{TMPFS_MAGIC, "tmpfs"},
                 {RAMFS_MAGIC, "ramfs"},
                 {EXT4_SUPER_MAGIC, "ext4"},
                 {XFS_MAGIC, "xfs"},
                 {BTRFS_SUPER_MAGIC, "btrfs"},
                 {NFS_SUPER_MAGIC, "nfs"},
                 {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
                 {FUSE_SUPER_MAGIC, "fuse"}};
    size_t i;

    p->memory_backed = magic == TMPFS_MAGIC || magic == RAMFS_MAGIC;
    snprintf(p->kind, sizeof(p->kind), "0x%lx", (unsigned long)magic);
    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].magic == magic)
            snprintf(p->kind, sizeof(p->kind), "%s", kinds[i].name);
}

static bool exists(const char *dir, const char *name)
{
    char path[2 * PATH_MAX];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return lstat(path, &st) == 0;
}

/* The mount directory: given, made as given, or a fresh one below the current directory. */
static int mount_find(struct bench_place *p, const struct bench_config *c)
{
    char made[] = "cistern-bench-XXXXXX";
    const char *dir = c->dir;

    if (dir == NULL) {
        dir = mkdtemp(made);
        if (dir == NULL)
            return cli_fail(CLI_ENVIRONMENT,
                            "cannot make a directory here: %s; name one with --dir",
                            strerror(errno));
        p->made_mount = true;
    } else if (mkdir(dir, 0700) == 0) {
        p->made_mount = true;
    } else if (errno != EEXIST) {
        return cli_fail(CLI_ENVIRONMENT, "--dir %s: %s", dir, strerror(errno));
    }
    if (realpath(dir, p->mount) == NULL)
        return cli_fail(CLI_ENVIRONMENT, "--dir %s: %s", dir, strerror(errno));
    return CLI_OK;
}

int place_open(struct bench_place *p, const struct bench_config *c, bool fresh)
{
    struct statfs fs;
    size_t i;
    int r;

    memset(p, 0, sizeof(*p));
    r = mount_find(p, c);
    if (r != CLI_OK)
        return r;
    if (statfs(p->mount, &fs) != 0)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", p->mount, strerror(errno));
    kind_find(p, (long)fs.f_type);
    for (i = 0; i < MOUNT_FILES; i++)
        p->had[i] = exists(p->mount, mount_files[i]);
    if (c->root != NULL)
        snprintf(p->root, sizeof(p->root), "%s", c->root);
    else
        snprintf(p->root, sizeof(p->root), "cistern-bench.%d", (int)getpid());
    snprintf(p->raw, sizeof(p->raw), "%s/cistern-raw.%d", p->mount, (int)getpid());
    if (!fresh)
        return CLI_OK;
    if (exists(p->mount, p->root))
        return cli_fail(CLI_ENVIRONMENT,
                        "%s/%s exists already; a bench that writes wants a root of its own: name "
                        "another with --root, or remove it",
                        p->mount, p->root);
    p->made_root = true;
    if (mkdir(p->raw, 0700) != 0)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", p->raw, strerror(errno));
    p->made_raw = true;
    return CLI_OK;
}

int place_room(const struct bench_place *p, uint64_t bytes)
{
    char need[32], have[32];
    struct statvfs v;
    uint64_t room;

    if (statvfs(p->mount, &v) != 0)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", p->mount, strerror(errno));
    room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room >= bytes)
        return CLI_OK;
    return cli_fail(CLI_ENVIRONMENT,
                    "%s has %s of room and the bench needs %s: ask for less with --total, or name "
                    "another place with --dir",
                    p->mount, text_size(room, have, sizeof(have)),
                    text_size(bytes, need, sizeof(need)));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_tree(const char *path)
{
    if (nftw(path, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        cli_note("cistern: %s could not be removed: %s", path, strerror(errno));
}

static void root_remove(const struct bench_place *p)
{
    char path[2 * PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", p->mount, p->root);
    remove_tree(path);
}

static int wait_for_disk(const struct bench_place *p)
{
    int fd = open(p->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = CLI_OK;

    if (fd < 0 || syncfs(fd) != 0)
        r = cli_fail(CLI_IO, "%s: %s", p->mount, strerror(errno));
    if (fd >= 0)
        close(fd);
    return r;
}

int place_clear_root(const struct bench_place *p)
{
    root_remove(p);
    return wait_for_disk(p);
}

int place_clear_raw(const struct bench_place *p)
{
    remove_tree(p->raw);
    if (mkdir(p->raw, 0700) != 0)
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", p->raw, strerror(errno));
    return wait_for_disk(p);
}

void place_close(struct bench_place *p, bool keep)
{
    char path[2 * PATH_MAX];
    size_t i;

    if (p->made_raw)
        remove_tree(p->raw);
    if (keep && p->made_root) {
        cli_note("kept: --mount %s --root %s", p->mount, p->root);
        return;
    }
    if (p->made_mount) {
        remove_tree(p->mount);
        return;
    }
    if (p->made_root)
        root_remove(p);
    for (i = 0; p->made_root && i < MOUNT_FILES; i++) {
        snprintf(path, sizeof(path), "%s/%s", p->mount, mount_files[i]);
        if (!p->had[i])
            remove_tree(path);
    }
}

static bool is_data(const char *path, int type)
{
    size_t len = strlen(path);

    return type == FTW_F && len > 4 && strcmp(path + len - 4, ".seg") == 0;
}

static uint64_t disk_bytes; /* of a walk under way; nftw has no argument for its visitor */

static int count_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)at;
    if (is_data(path, type))
        disk_bytes += (uint64_t)st->st_blocks * 512;
    return 0;
}

bool place_allocates(const struct bench_place *p, uint64_t used)
{
    char path[2 * PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", p->mount, p->root);
    disk_bytes = 0;
    (void)nftw(path, count_one, OPEN_DIRS, FTW_PHYS);
    return disk_bytes > used + used / 4;
}

static int hollow_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    int fd, r;

    (void)at;
    if (!is_data(path, type) || st->st_blocks == 0)
        return 0;
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st->st_size) == 0 ? 0 : errno;
    close(fd);
    return r;
}

int place_hollow(const struct bench_place *p)
{
    char path[2 * PATH_MAX];
    int r;

    snprintf(path, sizeof(path), "%s/%s", p->mount, p->root);
    r = nftw(path, hollow_one, OPEN_DIRS, FTW_PHYS);
    if (r == 0)
        return CLI_OK;
    return cli_fail(CLI_ENVIRONMENT,
                    "cannot punch holes in %s: %s; ask for fewer blocks with "
                    "--count",
                    path, strerror(r > 0 ? r : errno));
}
