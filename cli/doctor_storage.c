/*
 * doctor_storage.c - checks of the mount and of the root directory in it. What has to be written is
 * written to files of our own, which are removed again; those of a doctor that was killed by a
 * later one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "doctor.h"
#include "text.h"

#define DEFAULT_MOUNT "/3fs/stage/3fs"
#define PAGE          4096
#define SKEW_WARN_S   2
#define SKEW_FAIL_S   60
#define ROOM_SEGMENTS (UINT64_C(512) << 20) /* two segments of the default size */
#define MANY_WRITERS  1000
#define SILENT_S      60 /* as the others count a writer as ended */

/* And letters by chance: hosts and containers have the same PIDs. */
#define OURS   ".cistern-doctor-"
#define LEFT_S 3600 /* no check takes so long: whoever made it was killed */

void check_mount(const struct doctor *d, struct doctor_finding *f)
{
    struct doctor_mount m;
    struct stat st;

    if (stat(d->mount, &st) != 0) {
        doctor_say(f, DOCTOR_FAIL, "%s: %s", d->mount, strerror(errno));
        if (errno == ENOTCONN || errno == EIO)
            doctor_mend(f, "the FUSE daemon is gone: umount -l %s, then start hf3fs_fuse_main anew",
                        d->mount);
        else if (doctor_container(d))
            doctor_mend(f,
                        "mount the volume of 3FS above %s with mountPropagation: HostToContainer; "
                        "elsewhere name a directory with CISTERN_MOUNT",
                        d->mount);
        else
            doctor_mend(f, "mount 3FS there, or name a directory: export CISTERN_MOUNT=/path");
        return;
    }
    if (!S_ISDIR(st.st_mode)) {
        doctor_say(f, DOCTOR_FAIL, "%s is not a directory", d->mount);
        doctor_mend(f, "name a directory: export CISTERN_MOUNT=/path");
        return;
    }
    if (doctor_mount_here(d, &m) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s is there; /proc/self/mountinfo does not say what it is",
                   d->mount);
        return;
    }
    doctor_say(f, DOCTOR_PASS, "%s, %s mounted at %s", d->mount, m.type, m.point);
}

void check_provider(const struct doctor *d, struct doctor_finding *f)
{
    const char *wanted = d->options.provider ? d->options.provider : "auto";
    struct doctor_mount m;
    bool real;

    if (!doctor_mount_known(d, &m, f))
        return;
    real = doctor_is_3fs(&m);
    if (!real && strcmp(wanted, "hf3fs") == 0) {
        doctor_say(f, DOCTOR_FAIL, "the provider is hf3fs, and %s is %s", d->mount, m.type);
        doctor_mend(f, "mount 3FS at %s, or use provider auto: export CISTERN_PROVIDER=auto",
                    d->mount);
    } else if (real && strcmp(wanted, "local") == 0) {
        doctor_say(f, DOCTOR_WARN,
                   "%s is 3FS, and the provider is local: I/O goes through the "
                   "kernel instead of USRBIO",
                   d->mount);
        doctor_mend(f, "export CISTERN_PROVIDER=auto");
    } else if (!real && strncmp(d->mount, DEFAULT_MOUNT, sizeof(DEFAULT_MOUNT) - 1) == 0) {
        doctor_say(f, DOCTOR_WARN,
                   "%s is where 3FS is expected, and it is %s: what is stored there "
                   "stays on this host",
                   d->mount, m.type);
        doctor_mend(f,
                    "mount 3FS there; for a local store on purpose use another directory: export "
                    "CISTERN_MOUNT=/path");
    } else if (real) {
        doctor_say(f, DOCTOR_PASS, "3FS (%s), by its own client", m.type);
    } else {
        doctor_say(f, DOCTOR_PASS, "%s, by the drop-in for the 3FS client", m.type);
    }
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    if (path[0])
        (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The root alone may be this user's, and not the mount that it lies in. */
static const char *writable(const struct doctor *d)
{
    return access(d->mount, W_OK) != 0 && access(d->root, W_OK) == 0 ? d->root : d->mount;
}

/* The drop-in makes a mount of a directory when it is used for the first time, and an engine may be
 * doing that now: what a check needs is made in a directory of its own, which takes all of it away
 * again. `own` is "" where there is none: 3FS, or a mount that cannot be written. */
static struct cistern_options in_own_mount(const struct doctor *d, char own[PATH_MAX])
{
    struct cistern_options o = d->options;
    struct doctor_mount m;

    own[0] = '\0';
    if (doctor_mount_here(d, &m) != 0 || doctor_is_3fs(&m))
        return o;
    (void)snprintf(own, PATH_MAX, "%.*s/" OURS "mount-XXXXXX", PATH_MAX / 2, writable(d));
    if (!mkdtemp(own))
        own[0] = '\0';
    else
        o.mount = own;
    return o;
}

static int ignore_item(void *arg, const struct cistern_item *item)
{
    (void)arg;
    (void)item;
    return 1; /* one is enough */
}

/* The loader of the library is asked itself: where it searches and what must be there is its. */
void check_client(const struct doctor *d, struct doctor_finding *f)
{
    char own[PATH_MAX];
    struct cistern_options o = in_own_mount(d, own);
    int rc = cistern_scan(&o, CISTERN_ITEM_ROOT, ignore_item, NULL);

    remove_tree(own);
    if (rc == CISTERN_EPROVIDER) {
        doctor_say(f, DOCTOR_FAIL, "%s", cistern_error_text());
        doctor_mend(f, "install the 3FS client, or name its library: export "
                       "CISTERN_PROVIDER_PATH=/path/libhf3fs_api_shared.so");
    } else if (rc == CISTERN_EMOUNT) {
        doctor_say(f, DOCTOR_UNKNOWN, "no mount to try it on: %s", cistern_error_text());
    } else if (rc < 0 && rc != -ENOENT) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s", cistern_error_text());
    } else {
        doctor_say(f, DOCTOR_PASS, "libhf3fs_api_shared.so is loadable and complete");
    }
}

/* ---- Writing a little ---- */

/* In the root, or above it where the root is still to be made. -1: errno says why. */
static int make_probe(const struct doctor *d, char path[PATH_MAX])
{
    struct stat st;
    const char *dir = stat(d->root, &st) == 0 ? d->root : d->mount;

    if (snprintf(path, PATH_MAX, "%s/" OURS "XXXXXX", dir) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return mkostemp(path, O_CLOEXEC);
}

/* What this user's doctors that were killed left in a directory, by the clock of the storage. */
static void remove_left(const char *path, time_t now)
{
    char at[PATH_MAX];
    DIR *dir = opendir(path);
    struct dirent *e;
    struct stat st;

    while (dir && (e = readdir(dir))) {
        if (strncmp(e->d_name, OURS, sizeof(OURS) - 1) == 0 &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_uid == geteuid() && now - st.st_mtime > LEFT_S &&
            snprintf(at, sizeof(at), "%s/%s", path, e->d_name) < PATH_MAX)
            remove_tree(at);
    }
    if (dir)
        (void)closedir(dir);
}

void check_root(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX];
    struct stat st, probe;
    bool there = stat(d->root, &st) == 0;
    int fd;

    if (!there && errno != ENOENT) {
        doctor_say(f, DOCTOR_FAIL, "%s: %s", d->root, strerror(errno));
        doctor_mend(f, "see the check of the mount");
        return;
    }
    if (there && !S_ISDIR(st.st_mode)) {
        doctor_say(f, DOCTOR_FAIL, "%s is not a directory", d->root);
        doctor_mend(f, "move it away, or name another: export CISTERN_ROOT=name/");
        return;
    }
    fd = make_probe(d, path);
    if (fd < 0) {
        doctor_say(f, DOCTOR_FAIL, "%s cannot be written as user %u: %s",
                   there ? d->root : d->mount, (unsigned)geteuid(), strerror(errno));
        if (errno == EROFS)
            doctor_mend(f, "mount -o remount,rw %s", d->mount);
        else if (access(d->mount, F_OK) != 0) /* made by hand it would hide that */
            doctor_mend(f, "see the check of the mount");
        else
            doctor_mend(f, "mkdir -p %s && chown -R %u %s", d->root, (unsigned)geteuid(), d->root);
        return;
    }
    if (fstat(fd, &probe) == 0) {
        remove_left(d->mount, probe.st_mtime);
        remove_left(d->root, probe.st_mtime);
    }
    (void)close(fd);
    (void)unlink(path);
    if (there && (st.st_mode & 077) && st.st_uid == geteuid()) {
        doctor_say(f, DOCTOR_WARN,
                   "%s is open to others (mode %o): whoever reads it can rebuild "
                   "prompts",
                   d->root, (unsigned)st.st_mode & 0777);
        doctor_mend(f, "chmod 700 %s", d->root);
        return;
    }
    doctor_say(f, DOCTOR_PASS,
               there ? "%s is there and can be written" : "%s is not there yet; it can be made",
               d->root);
}

void check_direct(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX];
    void *page = NULL;
    int probe = make_probe(d, path), fd, error;
    ssize_t n;

    if (probe < 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "no file can be made to try it: %s", strerror(errno));
        return;
    }
    (void)close(probe);
    fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
    if (fd < 0 || posix_memalign(&page, PAGE, PAGE) != 0) {
        doctor_say(f, DOCTOR_WARN,
                   "the file system refuses O_DIRECT: reads go through the page "
                   "cache, and take its memory");
        doctor_mend(f, "none is needed; a file system with O_DIRECT (3FS, ext4, XFS) is faster");
        (void)unlink(path);
        return;
    }
    memset(page, 0x5a, PAGE);
    n = pwrite(fd, page, PAGE, 0);
    error = n < 0 ? errno : 0;
    (void)close(fd);
    (void)unlink(path);
    free(page);
    if (n == PAGE)
        doctor_say(f, DOCTOR_PASS, "O_DIRECT works");
    else
        doctor_say(f, DOCTOR_WARN, "a write with O_DIRECT failed: %s", strerror(error));
}

void check_clock(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX];
    struct timespec now;
    struct stat st;
    int fd = make_probe(d, path), rc;
    double skew;

    if (fd < 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "no file can be made to try it: %s", strerror(errno));
        return;
    }
    rc = write(fd, "x", 1) == 1 && fsync(fd) == 0 && fstat(fd, &st) == 0 ? 0 : -errno;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)close(fd);
    (void)unlink(path);
    if (rc) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s: %s", path, strerror(-rc));
        return;
    }
    skew =
        (double)(now.tv_sec - st.st_mtim.tv_sec) + (double)(now.tv_nsec - st.st_mtim.tv_nsec) / 1e9;
    if (skew > -SKEW_WARN_S && skew < SKEW_WARN_S) {
        doctor_say(f, DOCTOR_PASS, "this host and the storage agree on the time");
        return;
    }
    doctor_say(
        f, skew > -SKEW_FAIL_S && skew < SKEW_FAIL_S ? DOCTOR_WARN : DOCTOR_FAIL,
        "this host's clock is %.1f s %s that of the storage: ages and times to live are wrong "
        "by as much",
        skew < 0 ? -skew : skew, skew > 0 ? "ahead of" : "behind");
    doctor_mend(f, "chronyc makestep, or: systemctl restart systemd-timesyncd");
}

static bool has_store(const struct doctor *d)
{
    char path[2 * PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/cistern.json", d->root);
    return access(path, F_OK) == 0;
}

/* A store that is bounded by the file system or the floor is always short of room, and evicts. */
void check_room(const struct doctor *d, struct doctor_finding *f)
{
    char has[32], needs[32];
    struct statvfs st;
    uint64_t room, size, need = doctor_sum(d->options.free_floor_bytes, ROOM_SEGMENTS);

    if (statvfs(d->mount, &st) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s cannot be asked: %s", d->mount, strerror(errno));
        return;
    }
    room = (uint64_t)st.f_bavail * st.f_frsize;
    size = (uint64_t)st.f_blocks * st.f_frsize;
    (void)text_size(room, has, sizeof(has));
    if (room < need && has_store(d)) {
        doctor_say(f, DOCTOR_WARN, "%s are free on %s, less than %s: what is stored makes room",
                   has, d->mount, text_size(need, needs, sizeof(needs)));
        doctor_mend(f,
                    "none is needed where the file system or CISTERN_FREE_FLOOR_BYTES bounds the "
                    "store; `cistern gc` removes what dead writers left");
    } else if (room < need) {
        doctor_say(f, DOCTOR_FAIL, "%s are free on %s, at least %s are needed", has, d->mount,
                   text_size(need, needs, sizeof(needs)));
        doctor_mend(
            f, "make room, or bound the store: export CISTERN_CAPACITY_BYTES=SIZE; `cistern gc` "
               "removes what dead writers left");
    } else if (d->options.capacity_bytes > size) {
        doctor_say(f, DOCTOR_WARN, "the capacity is %s, and %s holds less in all",
                   text_size(d->options.capacity_bytes, needs, sizeof(needs)), d->mount);
        doctor_mend(f, "export CISTERN_CAPACITY_BYTES=%llu", (unsigned long long)(size / 10 * 9));
    } else {
        doctor_say(f, DOCTOR_PASS, "%s are free on %s", has, d->mount);
    }
}

/* ---- Through the library ---- */

struct counted {
    const struct doctor *d;
    uint64_t writers, at_work, silent, notes;
    char note[256];
};

/* A writer that lives changes its head all the time. */
static void count_lease(struct counted *n, const char *head)
{
    char path[2 * PATH_MAX];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/%s", n->d->mount, head);
    if (stat(path, &st) != 0)
        return;
    if (time(NULL) - st.st_mtime < SILENT_S)
        n->at_work++;
    else
        n->silent++;
}

static int count_item(void *arg, const struct cistern_item *item)
{
    struct counted *n = arg;
    bool closed = item->kind == CISTERN_ITEM_WRITER && strcmp(item->note, "closed") == 0;

    if (item->kind == CISTERN_ITEM_WRITER) {
        n->writers++;
        if (!item->note[0])
            count_lease(n, item->name);
    }
    if (item->note[0] && !closed) {
        if (!n->notes++)
            (void)snprintf(n->note, sizeof(n->note), "%.150s: %.90s", item->name, item->note);
    }
    return 0;
}

void check_writers(const struct doctor *d, struct doctor_finding *f)
{
    struct counted n = {.d = d};
    char path[2 * PATH_MAX];
    int rc = -ENOENT;

    (void)snprintf(path, sizeof(path), "%s/cistern.json", d->root);
    if (access(d->mount, F_OK) != 0 || access(path, F_OK) == 0 || errno != ENOENT)
        rc = cistern_scan(&d->options, CISTERN_ITEM_SEGMENT, count_item, &n);
    if (rc == -ENOENT) {
        doctor_say(f, DOCTOR_PASS, "nothing is stored in %s yet", d->root);
    } else if (rc == CISTERN_EFORMAT) {
        doctor_say(f, DOCTOR_FAIL, "%s", cistern_error_text());
        doctor_mend(f, "use the version that wrote it, or another root: export CISTERN_ROOT=name/");
    } else if (rc < 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s", cistern_error_text());
    } else if (n.notes) {
        doctor_say(f, DOCTOR_WARN, "%llu things to look at, the first: %s",
                   (unsigned long long)n.notes, n.note);
        doctor_mend(f, "cistern fsck %s", d->root);
    } else if (n.writers > MANY_WRITERS) {
        doctor_say(f, DOCTOR_WARN, "%llu writers have left files here: opening takes longer",
                   (unsigned long long)n.writers);
        doctor_mend(f, "cistern gc %s", d->root);
    } else {
        doctor_say(f, DOCTOR_PASS,
                   "%llu writers have stored here: %llu at work, %llu silent for a minute, the "
                   "others closed",
                   (unsigned long long)n.writers, (unsigned long long)n.at_work,
                   (unsigned long long)n.silent);
    }
}

static int put_and_get(cistern *c, struct cistern_event *ev)
{
    static uint8_t out[PAGE], in[PAGE];
    struct cistern_vec vec = {out, PAGE};
    struct cistern_span span = {&vec, 1};
    cistern_key key = {{0x5a}};
    uint8_t result = 0;
    struct cistern_request r = {
        .size = sizeof(r), .keys = &key, .spans = &span, .results = &result, .blocks = 1};
    int rc;

    memset(out, 0xa5, sizeof(out));
    rc = cistern_put_sync(c, &r, ev);
    if (rc || result != CISTERN_STORED)
        return rc ? rc : ev->status ? ev->status : -EIO;
    vec.base = in;
    rc = cistern_get_sync(c, &r, ev);
    if (rc || result != CISTERN_HIT)
        return rc ? rc : ev->status ? ev->status : -EIO;
    return memcmp(out, in, PAGE) == 0 ? 0 : -EBADMSG;
}

/* Small, and nothing of what bounds or sorts out an engine's blocks: one block is put once. */
static void for_one_block(struct cistern_options *o)
{
    o->reuse_cache = o->enable_3fs = 1;
    o->space_dir = NULL;
    o->shard = 0;
    o->read_iov_bytes = o->write_iov_bytes = 4 << 20;
    o->segment_bytes = 1 << 20;
    o->lanes = 1;
    o->flags = 0;
    o->admission = NULL;
    o->capacity_bytes = o->free_floor_bytes = 0;
    o->write_budget_bytes_per_day = o->write_bandwidth = o->read_bandwidth = 0;
    o->ttl_seconds = o->shadow_every = 0;
}

/* A new directory for a store, as a root below the mount; `path` is all of it. NULL: errno says
 * why. */
static const char *ring_root(const struct doctor *d, const char *own, char path[PATH_MAX])
{
    const char *mount = own[0] ? own : d->mount;

    (void)snprintf(path, PATH_MAX, "%.*s/" OURS "root-XXXXXX", PATH_MAX / 2,
                   own[0] ? own : writable(d));
    return mkdtemp(path) ? path + strlen(mount) + 1 : NULL;
}

/* A store of one block, in a directory of its own beside the root. */
void check_ring(const struct doctor *d, struct doctor_finding *f)
{
    const struct cistern_part part = {.name = "kv", .bytes = PAGE};
    const struct cistern_space space = {.size = sizeof(space),
                                        .name = "doctor",
                                        .model = "doctor",
                                        .dtype = "u8",
                                        .block_tokens = 1,
                                        .nparts = 1,
                                        .parts = &part};
    char root[PATH_MAX], own[PATH_MAX];
    struct cistern_options o = in_own_mount(d, own);
    struct cistern_event ev = {0};
    cistern *c = NULL;
    int rc;

    for_one_block(&o);
    o.space = &space;
    o.root = ring_root(d, own, root);
    if (!o.root) {
        doctor_say(f, DOCTOR_FAIL, "no directory for it can be made in %s: %s", d->mount,
                   strerror(errno));
        doctor_mend(f, "see the checks above for what is missing");
        return;
    }
    rc = cistern_open(&o, &c);
    if (rc == 0)
        rc = put_and_get(c, &ev);
    if (rc)
        doctor_say(f, DOCTOR_FAIL, "a write and a read of 4 KiB through a ring failed: %s",
                   cistern_error_text()[0] ? cistern_error_text() : cistern_error_string(rc));
    else
        doctor_say(f, DOCTOR_PASS, "4 KiB were written and read through a ring in %.1f ms",
                   (double)ev.nanoseconds / 1e6);
    if (rc == -ETIMEDOUT)
        doctor_mend(f, "the storage does not answer: is hf3fs_fuse_main alive, is its cluster?");
    else if (rc)
        doctor_mend(f, "see the checks above for what is missing");
    (void)cistern_close(c);
    remove_tree(own[0] ? own : root);
}
