/*
 * doctor_host.c - checks of memory and limits: /dev/shm, the container's memory, what a process may
 * hold.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"
#include "text.h"

#define GIB        (UINT64_C(1) << 30)
#define SHM        "/dev/shm"
#define SHM_HUGE   "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define SHM_PREFIX "hf3fs-iov-"
#define STALE_S    60 /* younger ones may be on their way into somebody's memory */
#define FILES_MOST 1048576u
#define FILES_FEW  1024u

static uint64_t with_room(uint64_t bytes)
{
    return doctor_sum(doctor_sum(bytes, bytes / 4), GIB - 1) / GIB * GIB;
}

static void mend_shm(const struct doctor *d, struct doctor_finding *f)
{
    const char *where = doctor_container(d);
    unsigned long long gib = with_room(doctor_staging(d)) / GIB;

    if (where && strcmp(where, "Kubernetes") == 0)
        doctor_mend(f,
                    "volumes: {name: shm-vol, emptyDir: {medium: Memory, sizeLimit: %lluGi}}, "
                    "mounted at /dev/shm; `cistern plan --tp %llu --emit k8s` writes it",
                    gib, (unsigned long long)d->ranks);
    else if (where)
        doctor_mend(f, "start the container with --shm-size=%llug", gib);
    else
        doctor_mend(f, "mount -o remount,size=%lluG /dev/shm", gib);
}

void check_shm_size(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX], has[32], needs[32];
    struct doctor_mount m;
    struct statvfs st;
    uint64_t size, need = doctor_staging(d);

    if (statvfs(doctor_path(d, SHM, path), &st) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s cannot be asked: %s", SHM, strerror(errno));
        return;
    }
    size = (uint64_t)st.f_blocks * st.f_frsize;
    (void)text_size(size, has, sizeof(has));
    (void)text_size(need, needs, sizeof(needs));
    if (doctor_mount_of(d, SHM, &m) == 0 && strcmp(m.type, "tmpfs") != 0) {
        doctor_say(f, DOCTOR_FAIL, "%s is %s and not in memory: staging there is disk I/O", SHM,
                   m.type);
        if (doctor_container(d))
            mend_shm(d, f);
        else
            doctor_mend(f, "mount -t tmpfs -o size=%lluG tmpfs /dev/shm",
                        (unsigned long long)(with_room(need) / GIB));
    } else if (size < need) {
        doctor_say(f, DOCTOR_FAIL, "%s holds %s; %llu ranks need %s of staging", SHM, has,
                   (unsigned long long)d->ranks, needs);
        mend_shm(d, f);
    } else if (size < doctor_sum(need, need / 8)) {
        doctor_say(f, DOCTOR_WARN, "%s holds %s, %llu ranks need %s: nothing is left for others",
                   SHM, has, (unsigned long long)d->ranks, needs);
        mend_shm(d, f);
    } else {
        doctor_say(f, DOCTOR_PASS, "%s holds %s, %llu ranks need %s", SHM, has,
                   (unsigned long long)d->ranks, needs);
    }
}

void check_shm_free(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX], has[32], needs[32];
    struct statvfs st;
    uint64_t size, room, need = doctor_staging(d);

    if (statvfs(doctor_path(d, SHM, path), &st) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s cannot be asked: %s", SHM, strerror(errno));
        return;
    }
    size = (uint64_t)st.f_blocks * st.f_frsize;
    room = (uint64_t)st.f_bavail * st.f_frsize;
    (void)text_size(room, has, sizeof(has));
    (void)text_size(need, needs, sizeof(needs));
    if (room >= need) {
        doctor_say(f, DOCTOR_PASS, "%s of %s are free", has, SHM);
    } else if (size < need) {
        doctor_say(f, DOCTOR_FAIL, "%s of %s are free, and all of it would not do", has, SHM);
        mend_shm(d, f);
    } else {
        doctor_say(f, DOCTOR_WARN,
                   "%s of %s are free, %s are needed; fine if the engine that "
                   "holds the rest runs already",
                   has, SHM, needs);
        doctor_mend(f, "cistern doctor --clean, or look for large files: ls -lS /dev/shm | head");
    }
}

/* Staging in large pages: fewer of them for the kernel to find and for the hash to walk through. */
void check_shm_pages(const struct doctor *d, struct doctor_finding *f)
{
    const char *where = doctor_container(d), *huge;
    struct doctor_mount m;
    char all[128] = "";

    /* One word of these holds for all mounts, whatever their options say. */
    (void)doctor_read(d, SHM_HUGE, all, sizeof(all));
    if (strstr(all, "[deny]")) {
        doctor_say(f, DOCTOR_WARN,
                   "large pages are denied to %s: a get costs about a fifth more CPU", SHM);
        doctor_mend(f, "echo never >" SHM_HUGE "%s", where ? ", by root of the node" : "");
        return;
    }
    if (strstr(all, "[force]")) {
        doctor_say(f, DOCTOR_PASS, "this machine gives all of %s large pages", SHM);
        return;
    }
    if (doctor_mount_of(d, SHM, &m) != 0 || strcmp(m.point, SHM) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/self/mountinfo does not say how %s is mounted", SHM);
        return;
    }
    huge = strstr(m.super, "huge=");
    if (huge &&
        (strncmp(huge, "huge=always", 11) == 0 || strncmp(huge, "huge=within_size", 16) == 0)) {
        doctor_say(f, DOCTOR_PASS, "%s gives staging large pages (%.*s)", SHM,
                   (int)strcspn(huge, ","), huge);
        return;
    }
    doctor_say(f, DOCTOR_WARN, "%s has small pages: a get costs about a fifth more CPU", SHM);
    if (where && strcmp(where, "Kubernetes") == 0)
        doctor_mend(f, "on the node, before the engine starts: mount -o remount,huge=within_size "
                       "/var/lib/kubelet/pods/UID/volumes/kubernetes.io~empty-dir/shm-vol");
    else
        doctor_mend(f, "mount -o remount,huge=within_size /dev/shm%s",
                    where ? ", by root of the node, before the engine starts" : "");
}

/* ---- What dead processes left in /dev/shm ---- */

/* Whether some process has the file open or mapped for writing, which keeps it from being leased:
 * the kernel knows of those in other containers too, where /proc shows this one's alone. -errno: it
 * does not say. */
static int is_held(int fd)
{
    if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0)
        return errno == EAGAIN ? 1 : -errno;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return 0;
}

struct stale {
    uint64_t files, bytes, removed, unsure;
};

static void count_stale(const struct doctor *d, DIR *dir, const char *name, struct stale *s)
{
    struct stat st;
    int fd, held;

    if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
        time(NULL) - st.st_mtime < STALE_S)
        return;
    fd = openat(dirfd(dir), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    held = fd < 0 ? -errno : is_held(fd);
    if (fd >= 0)
        (void)close(fd);
    if (held > 0 || held == -ENOENT)
        return;
    if (held < 0) {
        s->unsure++;
        return;
    }
    if (d->clean && (unlinkat(dirfd(dir), name, 0) == 0 || errno == ENOENT)) {
        s->removed++;
        return;
    }
    s->files++;
    s->bytes += (uint64_t)st.st_blocks * 512;
}

void check_shm_stale(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX], size[32];
    DIR *dir = opendir(doctor_path(d, SHM, path));
    struct stale s = {0};
    struct dirent *e;

    (void)signal(SIGIO, SIG_IGN); /* somebody opens a file that is leased here just now */
    if (!dir) {
        doctor_say(f, DOCTOR_UNKNOWN, "%s cannot be listed: %s", SHM, strerror(errno));
        return;
    }
    while ((e = readdir(dir))) {
        if (strncmp(e->d_name, SHM_PREFIX, sizeof(SHM_PREFIX) - 1) == 0)
            count_stale(d, dir, e->d_name, &s);
    }
    (void)closedir(dir);
    if (s.files) {
        doctor_say(f, DOCTOR_FAIL, "%llu files of dead processes hold %s of %s",
                   (unsigned long long)s.files, text_size(s.bytes, size, sizeof(size)), SHM);
        doctor_mend(f, "cistern doctor --only shm-stale --clean");
    } else if (s.unsure) {
        doctor_say(f, DOCTOR_UNKNOWN,
                   "%llu files " SHM_PREFIX "* may be in use: the kernel does not tell this user",
                   (unsigned long long)s.unsure);
        doctor_mend(f, "run it as root, or as the user of the engine");
    } else if (s.removed) {
        doctor_say(f, DOCTOR_PASS, "%llu files of dead processes were removed",
                   (unsigned long long)s.removed);
    } else {
        doctor_say(f, DOCTOR_PASS, "no " SHM_PREFIX "* of a dead process");
    }
}

/* ---- The container's memory ---- */

/* UINT64_MAX: no limit; false: not to be read. */
static bool read_limit(const struct doctor *d, const char *path, uint64_t *out)
{
    char buf[64];

    if (doctor_read(d, path, buf, sizeof(buf)) <= 0)
        return false;
    if (strcmp(buf, "max") == 0)
        *out = UINT64_MAX;
    else if (!text_number_parse(buf, 0, UINT64_MAX, out))
        return false;
    if (*out >= UINT64_C(1) << 62) /* how version 1 says: none */
        *out = UINT64_MAX;
    return true;
}

/* The smallest limit from the group of this process up to the root; in a container the group is
 * the root of what is mounted. */
static bool walk_up(const struct doctor *d, const char *top, const char *group, const char *file,
                    uint64_t *least)
{
    char path[2 * PATH_MAX], at[PATH_MAX];
    uint64_t limit;
    bool any = false;
    char *slash;

    (void)snprintf(at, sizeof(at), "%s", group);
    for (;;) {
        (void)snprintf(path, sizeof(path), "%s%s/%s", top, at, file);
        if (read_limit(d, path, &limit)) {
            any = true;
            *least = limit < *least ? limit : *least;
        }
        slash = strrchr(at, '/');
        if (!slash || !at[0])
            return any;
        *slash = '\0';
    }
}

static bool memory_limit(const struct doctor *d, uint64_t *least)
{
    char buf[8192], *save = NULL, *line, *group;
    bool any = false;

    *least = UINT64_MAX;
    if (doctor_read(d, "/proc/self/cgroup", buf, sizeof(buf)) < 0)
        return false;
    for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "0::", 3) == 0) {
            any |= walk_up(d, "/sys/fs/cgroup", strcmp(line + 3, "/") ? line + 3 : "", "memory.max",
                           least);
        } else if (strstr(line, ":memory:") && (group = strrchr(line, ':'))) {
            any |= walk_up(d, "/sys/fs/cgroup/memory", strcmp(group + 1, "/") ? group + 1 : "",
                           "memory.limit_in_bytes", least);
        }
    }
    return any;
}

static bool memory_total(const struct doctor *d, uint64_t *out)
{
    char buf[4096], *at;

    if (doctor_read(d, "/proc/meminfo", buf, sizeof(buf)) <= 0 || !(at = strstr(buf, "MemTotal:")))
        return false;
    *out = strtoull(at + 9, NULL, 10) * 1024;
    return *out > 0;
}

/* What may lie in /dev/shm; 0 = it is no memory-backed file system. */
static uint64_t shm_bytes(const struct doctor *d)
{
    char path[PATH_MAX];
    struct statfs st;

    if (statfs(doctor_path(d, SHM, path), &st) != 0 || st.f_type != TMPFS_MAGIC)
        return 0;
    return (uint64_t)st.f_blocks * (uint64_t)st.f_bsize;
}

void check_memory(const struct doctor *d, struct doctor_finding *f)
{
    char has[32], needs[32], shm[32];
    uint64_t limit, total, need = doctor_staging(d);
    bool known = memory_limit(d, &limit);

    if (!memory_total(d, &total)) {
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/meminfo cannot be read");
        return;
    }
    if (!known && doctor_container(d)) {
        doctor_say(f, DOCTOR_UNKNOWN, "the memory limit of this container cannot be read");
        return;
    }
    (void)text_size(need, needs, sizeof(needs));
    if (limit < total) {
        (void)text_size(limit, has, sizeof(has));
        doctor_say(f, limit < need ? DOCTOR_FAIL : DOCTOR_PASS,
                   "the memory limit is %s; what lies in /dev/shm counts, and staging takes %s",
                   has, needs);
    } else {
        (void)text_size(total, has, sizeof(has));
        doctor_say(f, total < need ? DOCTOR_FAIL : DOCTOR_PASS,
                   "no limit below the %s of the machine; staging takes %s", has, needs);
    }
    if (f->state == DOCTOR_PASS && limit < total && limit < shm_bytes(d)) {
        doctor_say(f, DOCTOR_WARN,
                   "the memory limit is %s and /dev/shm may grow to %s: who fills it is killed",
                   has, text_size(shm_bytes(d), shm, sizeof(shm)));
        need = shm_bytes(d) - shm_bytes(d) / 5; /* with_room() gives it back */
    }
    if (f->state != DOCTOR_PASS)
        doctor_mend(f,
                    "ask for %lluGi of memory or more (resources.limits.memory, docker run "
                    "--memory), or make threefs_read_iov_size and threefs_write_iov_size smaller",
                    (unsigned long long)(with_room(need) / GIB));
}

/* ---- Limits of a process ---- */

/* The soft limit of a line of /proc/self/limits; UINT64_MAX = unlimited. */
static bool soft_limit(const struct doctor *d, const char *name, uint64_t *out)
{
    char buf[4096], *at;

    if (doctor_read(d, "/proc/self/limits", buf, sizeof(buf)) <= 0 || !(at = strstr(buf, name)))
        return false;
    at += strlen(name);
    at += strspn(at, " ");
    if (strncmp(at, "unlimited", 9) == 0)
        *out = UINT64_MAX;
    else if (*at < '0' || *at > '9')
        return false;
    else
        *out = strtoull(at, NULL, 10);
    return true;
}

void check_memlock(const struct doctor *d, struct doctor_finding *f)
{
    char has[32], needs[32];
    uint64_t limit, need = doctor_sum(d->read_staging, d->write_staging);

    if (!soft_limit(d, "Max locked memory", &limit)) {
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/self/limits cannot be read");
        return;
    }
    (void)text_size(need, needs, sizeof(needs));
    if (limit == UINT64_MAX || limit >= need) {
        doctor_say(f, DOCTOR_PASS, "memlock allows the staging of a rank (%s) to be pinned", needs);
        return;
    }
    doctor_say(f, DOCTOR_WARN,
               "memlock is %s; to pin the staging of a rank %s are needed, without "
               "that I/O takes a little more CPU, and RDMA may refuse",
               text_size(limit, has, sizeof(has)), needs);
    doctor_mend(f, doctor_container(d)
                       ? "start the container with --ulimit memlock=-1:-1 "
                         "(Kubernetes: LimitMEMLOCK=infinity of the runtime's service)"
                       : "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity");
}

/* Too many: the 3FS client keeps something for each. The drop-in does not mind; and the limit of an
 * engine in a container may be another than that of a command there. */
static void too_many_files(const struct doctor *d, struct doctor_finding *f)
{
    const char *where = doctor_container(d);
    struct doctor_mount m;
    bool local = doctor_mount_here(d, &m) == 0 && !doctor_is_3fs(&m);

    doctor_say(
        f, local || where ? DOCTOR_WARN : DOCTOR_FAIL,
        "the limit of open files is above %u, where the 3FS client takes gigabytes or dies%s",
        FILES_MOST, where ? "; that of the engine may be another" : "");
    if (!where)
        doctor_mend(f, "ulimit -n %u; systemd: LimitNOFILE=%u", FILES_MOST, FILES_MOST);
    else if (strcmp(where, "Kubernetes") == 0)
        doctor_mend(
            f,
            "start the engine so: sh -c 'ulimit -n %u; exec ENGINE'; for all Pods of a node: "
            "LimitNOFILE=%u of the runtime's service",
            FILES_MOST, FILES_MOST);
    else
        doctor_mend(
            f,
            "start the container with --ulimit nofile=%u, or the engine so: sh -c 'ulimit -n "
            "%u; exec ENGINE'",
            FILES_MOST, FILES_MOST);
}

void check_files(const struct doctor *d, struct doctor_finding *f)
{
    uint64_t limit;

    if (!soft_limit(d, "Max open files", &limit)) {
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/self/limits cannot be read");
    } else if (limit > FILES_MOST) {
        too_many_files(d, f);
    } else if (limit < FILES_FEW) {
        doctor_say(f, DOCTOR_WARN,
                   "%llu files may be open: a store keeps an eighth of that many data files open "
                   "and opens others when they are read, which costs time on 3FS",
                   (unsigned long long)limit);
        doctor_mend(f, "ulimit -n 65536; systemd: LimitNOFILE=65536");
    } else {
        doctor_say(f, DOCTOR_PASS, "%llu files may be open", (unsigned long long)limit);
    }
}

void check_aio(const struct doctor *d, struct doctor_finding *f)
{
    char most[64], used[64];
    unsigned long long n, max;

    if (doctor_read(d, "/proc/sys/fs/aio-max-nr", most, sizeof(most)) <= 0 ||
        doctor_read(d, "/proc/sys/fs/aio-nr", used, sizeof(used)) <= 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/sys/fs/aio-max-nr cannot be read");
        return;
    }
    max = strtoull(most, NULL, 10);
    n = strtoull(used, NULL, 10);
    if (n + n / 10 < max) {
        doctor_say(f, DOCTOR_PASS, "%llu of %llu kernel AIO requests are reserved", n, max);
        return;
    }
    doctor_say(f, DOCTOR_WARN,
               "%llu of %llu kernel AIO requests are reserved: other programs on "
               "this host will be refused",
               n, max);
    doctor_mend(f, "sysctl -w fs.aio-max-nr=%llu", max * 4 > 1048576 ? max * 4 : 1048576);
}

void check_uring(const struct doctor *d, struct doctor_finding *f)
{
    struct io_uring_params p = {0};
    char buf[16] = "";
    long fd;

    (void)doctor_read(d, "/proc/sys/kernel/io_uring_disabled", buf, sizeof(buf));
    fd = strcmp(buf, "2") == 0 ? -1 : syscall(SYS_io_uring_setup, 2, &p);
    if (fd < 0 && (strcmp(buf, "2") == 0 || strcmp(buf, "1") == 0)) {
        doctor_say(f, DOCTOR_WARN,
                   "io_uring is switched off on this machine%s; threads do the I/O, "
                   "at more CPU",
                   buf[0] == '1' ? " for all but a group and the privileged" : "");
        doctor_mend(f, "sysctl -w kernel.io_uring_disabled=0");
        return;
    }
    if (fd >= 0) {
        (void)close((int)fd);
        doctor_say(f, DOCTOR_PASS, "io_uring works");
        return;
    }
    doctor_say(f, DOCTOR_WARN, "io_uring is refused (%s); threads do the I/O, at more CPU",
               strerror(errno));
    if (errno == EPERM)
        doctor_mend(f, "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp "
                       "profile of the container (docker run --security-opt seccomp=FILE)");
    else
        doctor_mend(f, "use a kernel of 5.15 or later with CONFIG_IO_URING");
}
