/*
 * doctor.h - checks of a machine, a container and a mount before and while an engine runs there.
 *
 * A check looks and judges; it says what it saw, and what would mend it as a command or a line of
 * configuration that can be used as it stands. A check that could not look says *unknown*, never
 * *pass*. Checks run one after the other, each in a process of its own with a time limit, because a
 * dead mount keeps whoever asks it; when it has kept one check, the others do not ask it any more.
 *
 * Everything that is read from the system goes through doctor_path(), so that a directory can stand
 * in for it (--sysroot).
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "cistern.h"

enum doctor_state { DOCTOR_PASS, DOCTOR_WARN, DOCTOR_FAIL, DOCTOR_UNKNOWN };

struct doctor {
    const char *sysroot; /* "" = the machine itself */
    struct cistern_options options;
    int options_rc; /* of the environment; text in options_text */
    char options_text[256];
    char mount[PATH_MAX], root[PATH_MAX];
    uint64_t ranks, read_staging, write_staging;
    bool clean;
    struct cistern_cluster cluster;
    char cluster_text[512]; /* why there is none; "" = there is */
    char clusters_file[PATH_MAX], host[256];
};

struct doctor_finding {
    uint32_t state;
    char cause[512];
    char remedy[512]; /* "" when there is nothing to do */
};

/* What a check goes by; storage is found by the settings. */
enum doctor_needs { NEEDS_SYSTEM, NEEDS_SETTINGS, NEEDS_STORAGE };

struct doctor_check {
    const char *id;
    const char *title;
    enum doctor_needs needs;
    void (*run)(const struct doctor *d, struct doctor_finding *f);
};

/* Ended by an entry without an id. */
extern const struct doctor_check doctor_checks[];

/* ---- For checks ---- */

void doctor_say(struct doctor_finding *f, enum doctor_state state, const char *cause, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_mend(struct doctor_finding *f, const char *remedy, ...)
    __attribute__((format(printf, 2, 3)));
/* "/proc/meminfo" in the place that is looked at; returns out. */
const char *doctor_path(const struct doctor *d, const char *path, char out[PATH_MAX]);
/* The beginning of a small file, NUL-terminated, without the last newline. Its length or -errno. */
long doctor_read(const struct doctor *d, const char *path, char *out, size_t size);

/* Where a path is mounted, as the kernel says, by its spelling; strings are cut to fit. */
struct doctor_mount {
    char point[PATH_MAX], type[64], source[256], optional[128], super[256];
    uint32_t found;
};
int doctor_mount_of(const struct doctor *d, const char *path, struct doctor_mount *out);
/* What a path is when its links are followed, as an engine does; 0 or -errno. A mount point has
 * none, and is not asked: it may be dead. */
int doctor_real(const struct doctor *d, const char *path, char out[PATH_MAX]);
/* Where d->mount is mounted, links followed; 0 or -errno. */
int doctor_mount_here(const struct doctor *d, struct doctor_mount *out);
/* The same; false after a finding: it is not there, or the kernel does not say. */
bool doctor_mount_known(const struct doctor *d, struct doctor_mount *out, struct doctor_finding *f);
bool doctor_is_3fs(const struct doctor_mount *m);
/* Whether this looks like a container, and which sort ("Kubernetes", "Docker", ...); NULL: no. */
const char *doctor_container(const struct doctor *d);
/* Asks for the network cluster, and takes its mount where none is given. */
void doctor_take_cluster(struct doctor *d);
/* Both, or UINT64_MAX where they are more. */
uint64_t doctor_sum(uint64_t a, uint64_t b);
/* /dev/shm that the ranks need, without head-room; UINT64_MAX where that is more. */
uint64_t doctor_staging(const struct doctor *d);

void check_switches(const struct doctor *d, struct doctor_finding *f);
void check_mount(const struct doctor *d, struct doctor_finding *f);
void check_provider(const struct doctor *d, struct doctor_finding *f);
void check_cluster(const struct doctor *d, struct doctor_finding *f);
void check_client(const struct doctor *d, struct doctor_finding *f);
void check_root(const struct doctor *d, struct doctor_finding *f);
void check_ring(const struct doctor *d, struct doctor_finding *f);
void check_direct(const struct doctor *d, struct doctor_finding *f);
void check_clock(const struct doctor *d, struct doctor_finding *f);
void check_room(const struct doctor *d, struct doctor_finding *f);
void check_writers(const struct doctor *d, struct doctor_finding *f);
void check_shm_size(const struct doctor *d, struct doctor_finding *f);
void check_shm_free(const struct doctor *d, struct doctor_finding *f);
void check_shm_pages(const struct doctor *d, struct doctor_finding *f);
void check_shm_stale(const struct doctor *d, struct doctor_finding *f);
void check_memory(const struct doctor *d, struct doctor_finding *f);
void check_memlock(const struct doctor *d, struct doctor_finding *f);
void check_files(const struct doctor *d, struct doctor_finding *f);
void check_aio(const struct doctor *d, struct doctor_finding *f);
void check_uring(const struct doctor *d, struct doctor_finding *f);
void check_propagation(const struct doctor *d, struct doctor_finding *f);
void check_storage_node(const struct doctor *d, struct doctor_finding *f);
void check_rdma(const struct doctor *d, struct doctor_finding *f);
void check_cuda(const struct doctor *d, struct doctor_finding *f);

#endif
