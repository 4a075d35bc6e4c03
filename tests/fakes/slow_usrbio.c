/*
 * slow_usrbio.c - the drop-in with storage behind it that hangs, fails and falls short on demand.
 *
 * It exports the functions of the drop-in and forwards to the one of the build folder, except for
 * I/O that a rule of `slow_state` catches: that is kept here, and answered by hf3fs_wait_for_ios
 * when the rule says so, with the bytes moved only then. Which file an I/O is for is read off the
 * name of its descriptor. A ring belongs to one thread at a time; creating rings may be done by
 * any.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hf3fs_usrbio.h"
#include "slow_usrbio.h"

#define EXPORT __attribute__((visibility("default")))
#define HELD   128
#define RINGS  64
#define PIECES 256
#define FILES  65536
#define STEP   200 /* us between looks */

EXPORT struct slow_state slow_state;

struct held_io {
    struct slow_rule *rule; /* NULL = free */
    int mode, error;
    void *ptr;
    int fd; /* our own duplicate */
    uint64_t off, len;
    const void *userdata;
};

struct ring {
    void *iorh; /* NULL = free */
    int daemon; /* that knows it */
    struct held_io held[HELD];
    int real; /* I/Os that the drop-in has */
};

/* Memory, and the daemon that knows it. */
struct piece {
    uint8_t *base; /* NULL = free */
    int daemon;
};

static struct piece pieces[PIECES]; /* guarded by lock */
static _Atomic int file_daemon[FILES];
static struct slow_rule unknown = {.mode = SLOW_HANG};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ring rings[RINGS]; /* `iorh` guarded by lock */
static void *drop_in;            /* guarded by lock */

static void *real(const char *name)
{
    char path[PATH_MAX];
    Dl_info here;
    void *f;

    (void)pthread_mutex_lock(&lock);
    if (!drop_in && dladdr(&slow_state, &here)) {
        (void)snprintf(path, sizeof path, "%s", here.dli_fname);
        *strrchr(path, '/') = 0;
        (void)strncat(path, "/../../../hf3fs/libhf3fs_api_shared.so",
                      sizeof path - strlen(path) - 1);
        drop_in = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    f = drop_in ? dlsym(drop_in, name) : NULL;
    (void)pthread_mutex_unlock(&lock);
    if (!f)
        (void)fprintf(stderr, "slow_usrbio: no %s: %s\n", name, dlerror());
    return f;
}

#define REAL(name) ((__typeof__(&name))real(#name))

/* A test in another process: while the file $SLOW_USRBIO_HANG exists, all reads and writes of data
 * and contents hang; while $SLOW_USRBIO_DEAD exists, the daemon is dead. */
static void obey_file(void)
{
    const char *path = getenv("SLOW_USRBIO_HANG"), *dead = getenv("SLOW_USRBIO_DEAD");
    int i, mode;

    if (dead) {
        mode = access(dead, F_OK) == 0;
        (void)pthread_mutex_lock(&lock);
        atomic_fetch_add(&slow_state.daemon, !mode && atomic_load(&slow_state.dead));
        atomic_store(&slow_state.dead, mode);
        (void)pthread_mutex_unlock(&lock);
    }
    if (!path)
        return;
    mode = access(path, F_OK) == 0 ? SLOW_HANG : SLOW_PASS;
    for (i = 0; i < SLOW_OTHER; i++) {
        atomic_store(&slow_state.read[i].mode, mode);
        atomic_store(&slow_state.write[i].mode, mode);
    }
}

/* ---- The daemon ---- */

static bool is_dead(void)
{
    obey_file();
    return atomic_load(&slow_state.dead) != 0;
}

static void piece_note(uint8_t *base)
{
    int i;

    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < PIECES && pieces[i].base; i++)
        ;
    if (i < PIECES)
        pieces[i] = (struct piece){base, atomic_load(&slow_state.daemon)};
    (void)pthread_mutex_unlock(&lock);
}

static void piece_forget(const uint8_t *base)
{
    int i;

    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < PIECES; i++) {
        if (pieces[i].base == base)
            pieces[i].base = NULL;
    }
    (void)pthread_mutex_unlock(&lock);
}

/* The daemon that is there knows the ring, the memory and the file. */
static bool is_known(const struct ring *r, const struct hf3fs_iov *iov, int fd)
{
    int i, now = atomic_load(&slow_state.daemon);
    bool known = !atomic_load(&slow_state.dead) && r->daemon == now &&
                 (fd < 0 || fd >= FILES || atomic_load(&file_daemon[fd]) == now);

    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < PIECES; i++)
        known &= pieces[i].base != iov->base || pieces[i].daemon == now;
    (void)pthread_mutex_unlock(&lock);
    return known;
}

/* What is held owns its memory. */
static void watch_memory(const uint8_t *ptr, uint64_t len)
{
    int i, j;

    if (!atomic_load(&slow_state.held))
        return;
    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < RINGS; i++) {
        for (j = 0; rings[i].iorh && j < HELD; j++) {
            const struct held_io *io = &rings[i].held[j];
            const uint8_t *at = io->ptr;

            if (io->rule && at < ptr + len && ptr < at + io->len)
                atomic_fetch_add(&slow_state.clashes, 1);
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

/* ---- What is forwarded as it is ---- */

EXPORT int cistern_usrbio_info(const char *mp, char *buf, size_t size);
EXPORT int cistern_usrbio_info(const char *mp, char *buf, size_t size)
{
    return REAL(cistern_usrbio_info)(mp, buf, size);
}
EXPORT bool hf3fs_is_hf3fs(int fd)
{
    return REAL(hf3fs_is_hf3fs)(fd);
}
EXPORT int hf3fs_extract_mount_point(char *mount, int size, const char *path)
{
    return REAL(hf3fs_extract_mount_point)(mount, size, path);
}
EXPORT int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block,
                           int numa)
{
    int rc = is_dead() ? -ENOTCONN : REAL(hf3fs_iovcreate)(iov, mp, size, block, numa);
    long bytes, most = atomic_load(&slow_state.most);

    if (rc)
        return rc;
    atomic_fetch_add(&slow_state.mems, 1);
    bytes = atomic_fetch_add(&slow_state.bytes, (long)size) + (long)size;
    while (bytes > most && !atomic_compare_exchange_weak(&slow_state.most, &most, bytes))
        ;
    piece_note(iov->base);
    return 0;
}
EXPORT int hf3fs_iovopen(struct hf3fs_iov *iov, const uint8_t id[16], const char *mp, size_t size,
                         size_t block, int numa)
{
    return REAL(hf3fs_iovopen)(iov, id, mp, size, block, numa);
}
EXPORT void hf3fs_iovunlink(struct hf3fs_iov *iov)
{
    REAL(hf3fs_iovunlink)(iov);
}
EXPORT void hf3fs_iovdestroy(struct hf3fs_iov *iov)
{
    if (iov && iov->iovh) {
        atomic_fetch_sub(&slow_state.mems, 1);
        atomic_fetch_sub(&slow_state.bytes, (long)iov->size);
        piece_forget(iov->base);
    }
    REAL(hf3fs_iovdestroy)(iov);
}
EXPORT int hf3fs_iovwrap(struct hf3fs_iov *iov, void *base, const uint8_t id[16], const char *mp,
                         size_t size, size_t block, int numa)
{
    int rc = REAL(hf3fs_iovwrap)(iov, base, id, mp, size, block, numa);

    piece_forget(base);
    if (!rc)
        piece_note(base);
    return rc;
}
EXPORT size_t hf3fs_ior_size(int entries)
{
    return REAL(hf3fs_ior_size)(entries);
}
EXPORT int hf3fs_io_entries(const struct hf3fs_ior *ior)
{
    return REAL(hf3fs_io_entries)(ior);
}
EXPORT int hf3fs_hardlink(const char *target, const char *link_name)
{
    return REAL(hf3fs_hardlink)(target, link_name);
}
EXPORT int hf3fs_punchhole(int fd, int n, const size_t *start, const size_t *end, size_t flags)
{
    return REAL(hf3fs_punchhole)(fd, n, start, end, flags);
}
EXPORT void hf3fs_dereg_fd(int fd)
{
    REAL(hf3fs_dereg_fd)(fd);
}
EXPORT int hf3fs_reg_fd(int fd, uint64_t flags)
{
    while (atomic_load(&slow_state.hang_open))
        (void)usleep(STEP);
    if (is_dead())
        return ENOTCONN;
    if (fd >= 0 && fd < FILES)
        atomic_store(&file_daemon[fd], atomic_load(&slow_state.daemon));
    return REAL(hf3fs_reg_fd)(fd, flags);
}

/* ---- Rings ---- */

static struct ring *ring_of(const struct hf3fs_ior *ior)
{
    struct ring *r = NULL;
    int i;

    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < RINGS && !r; i++) {
        if (ior->iorh && rings[i].iorh == ior->iorh)
            r = &rings[i];
    }
    (void)pthread_mutex_unlock(&lock);
    return r;
}

static int ring_note(const struct hf3fs_ior *ior, int rc)
{
    int i;

    if (rc)
        return rc;
    (void)pthread_mutex_lock(&lock);
    for (i = 0; i < RINGS && rings[i].iorh; i++)
        ;
    if (i < RINGS) {
        memset(&rings[i], 0, sizeof rings[i]);
        rings[i].iorh = ior->iorh;
        rings[i].daemon = atomic_load(&slow_state.daemon);
    }
    (void)pthread_mutex_unlock(&lock);
    atomic_fetch_add(&slow_state.rings, 1);
    return 0;
}

EXPORT int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int timeout, int numa, uint64_t flags)
{
    while (atomic_load(&slow_state.hang_ring))
        (void)usleep(STEP);
    if (is_dead())
        return -ENOTCONN;
    return ring_note(
        ior, REAL(hf3fs_iorcreate4)(ior, mp, entries, for_read, io_depth, timeout, numa, flags));
}
EXPORT int hf3fs_iorcreate3(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int priority, int timeout, int numa)
{
    return ring_note(
        ior, REAL(hf3fs_iorcreate3)(ior, mp, entries, for_read, io_depth, priority, timeout, numa));
}
EXPORT int hf3fs_iorcreate2(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int priority, int numa)
{
    return ring_note(ior,
                     REAL(hf3fs_iorcreate2)(ior, mp, entries, for_read, io_depth, priority, numa));
}
EXPORT int hf3fs_iorcreate(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                           int io_depth, int numa)
{
    return ring_note(ior, REAL(hf3fs_iorcreate)(ior, mp, entries, for_read, io_depth, numa));
}

EXPORT void hf3fs_iordestroy(struct hf3fs_ior *ior)
{
    struct ring *r = ior ? ring_of(ior) : NULL;
    int i;

    for (i = 0; r && i < HELD; i++) {
        if (!r->held[i].rule)
            continue;
        (void)close(r->held[i].fd);
        atomic_fetch_sub(&slow_state.held, 1);
        atomic_fetch_add(&slow_state.dropped, 1);
    }
    if (r) {
        (void)pthread_mutex_lock(&lock);
        r->iorh = NULL;
        (void)pthread_mutex_unlock(&lock);
        atomic_fetch_sub(&slow_state.rings, 1);
    }
    REAL(hf3fs_iordestroy)(ior);
}

/* ---- I/O ---- */

static enum slow_file kind_of(int fd)
{
    char link[64], path[PATH_MAX];
    const char *dot;
    ssize_t n;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    dot = strrchr(path, '.');
    if (dot && strncmp(dot, ".seg", 4) == 0)
        return SLOW_DATA;
    if (dot && strncmp(dot, ".toc", 4) == 0)
        return SLOW_TOC;
    return dot && strncmp(dot, ".head", 5) == 0 ? SLOW_HEAD : SLOW_OTHER;
}

static bool takes_one(_Atomic int *count)
{
    int n = atomic_load(count);

    while (n > 0) {
        if (atomic_compare_exchange_weak(count, &n, n - 1))
            return true;
    }
    return false;
}

static bool below_most(struct slow_rule *rule)
{
    int most = atomic_load(&rule->most);

    return !most || atomic_load(&rule->hits) < most;
}

static int hold(struct ring *r, struct slow_rule *rule, int mode, void *ptr, int fd, size_t off,
                uint64_t len, const void *userdata)
{
    int i;

    for (i = 0; i < HELD && r->held[i].rule; i++)
        ;
    if (i == HELD)
        return -EAGAIN;
    r->held[i] = (struct held_io){.rule = rule,
                                  .mode = mode,
                                  .error = atomic_load(&rule->error),
                                  .ptr = ptr,
                                  .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
                                  .off = off,
                                  .len = len,
                                  .userdata = userdata};
    atomic_fetch_add(&rule->hits, 1);
    atomic_fetch_add(&slow_state.held, 1);
    return 1000 + i;
}

EXPORT int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read,
                         void *ptr, int fd, size_t off, uint64_t len, const void *userdata)
{
    enum slow_file kind = kind_of(fd);
    struct slow_rule *rule = read ? &slow_state.read[kind] : &slow_state.write[kind];
    struct ring *r = ring_of(ior);
    int rc, mode;

    obey_file();
    mode = atomic_load(&rule->mode);
    if (takes_one(&slow_state.prep_again))
        return -EAGAIN;
    atomic_fetch_add(&slow_state.reads, read);
    watch_memory(ptr, len);
    if (r && !is_known(r, iov, fd)) {
        atomic_fetch_add(&slow_state.unknown, 1);
        return hold(r, &unknown, SLOW_HANG, ptr, fd, off, len, userdata);
    }
    if (r && mode != SLOW_PASS && !takes_one(&rule->after) && below_most(rule))
        return hold(r, rule, mode, ptr, fd, off, len, userdata);
    rc = REAL(hf3fs_prep_io)(ior, iov, read, ptr, fd, off, len, userdata);
    if (r && rc >= 0)
        r->real++;
    return rc;
}

EXPORT int hf3fs_submit_ios(const struct hf3fs_ior *ior)
{
    if (takes_one(&slow_state.submit_again))
        return -EAGAIN;
    return REAL(hf3fs_submit_ios)(ior);
}

static int64_t perform(const struct hf3fs_ior *ior, const struct held_io *io)
{
    uint64_t len = io->mode == SLOW_SHORT ? io->len / 2 : io->len;
    ssize_t n;

    if (io->mode == SLOW_FAIL)
        return -io->error;
    if (io->mode == SLOW_HANG)
        atomic_fetch_add(&slow_state.late, 1);
    if (io->mode == SLOW_HANG && atomic_load(&slow_state.drop_late))
        return -EIO;
    n = ior->for_read ? pread(io->fd, io->ptr, len, (off_t)io->off)
                      : pwrite(io->fd, io->ptr, len, (off_t)io->off);
    return n < 0 ? -errno : n;
}

/* Answers what was held and is due. */
static int take_held(const struct hf3fs_ior *ior, struct ring *r, struct hf3fs_cqe *cqes, int room)
{
    int i, n = 0;

    for (i = 0; r && i < HELD && n < room; i++) {
        struct held_io *io = &r->held[i];

        if (!io->rule || r->daemon != atomic_load(&slow_state.daemon) ||
            atomic_load(&slow_state.dead) ||
            (io->mode == SLOW_HANG && atomic_load(&io->rule->mode) == SLOW_HANG))
            continue;
        cqes[n].index = 1000 + i;
        cqes[n].result = perform(ior, io);
        cqes[n].userdata = io->userdata;
        (void)close(io->fd);
        io->rule = NULL;
        atomic_fetch_sub(&slow_state.held, 1);
        n++;
    }
    return n;
}

static bool before(const struct timespec *until)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return !until || now.tv_sec < until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec < until->tv_nsec);
}

EXPORT int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int cqec,
                              int min_results, const struct timespec *until)
{
    static const struct timespec past = {0, 0};
    struct ring *r = ring_of(ior);
    int n = 0, got;

    atomic_fetch_add(&slow_state.waits, 1);
    for (;;) {
        obey_file();
        n += take_held(ior, r, cqes + n, cqec - n);
        if (n < cqec) {
            got = REAL(hf3fs_wait_for_ios)(ior, cqes + n, cqec - n, 0, &past);
            if (got < 0)
                return n ? n : got;
            n += got;
            if (r)
                r->real -= got;
        }
        if (n >= min_results || n >= cqec || !before(until))
            return n;
        (void)usleep(STEP);
    }
}
