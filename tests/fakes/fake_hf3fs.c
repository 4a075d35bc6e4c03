/*
 * fake_hf3fs.c - a stand-in for the real 3FS client: its shape and its sharp edges, on ordinary
 * files.
 *
 * It keeps what it was told, what a client did against the rules, and what it is to do wrong in
 * `fake_state`, which a test finds with dlsym. Bytes move in hf3fs_wait_for_ios, and only those of
 * I/O that was submitted. Any thread; one lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fakes.h"
#include "hf3fs_usrbio.h"

#define EXPORT __attribute__((visibility("default")))

#ifdef FAKE_UNDEFINED
int fake_symbol_that_nobody_has(void);
EXPORT int fake_needs_it(void);
int fake_needs_it(void)
{
    return fake_symbol_that_nobody_has();
}
#endif

#ifdef FAKE_WRAPPER
EXPORT int fake_wrapper(void);
int fake_wrapper(void)
{
    return 1;
}
#else

EXPORT struct fake_state fake_state;

enum { FDS = 4096 };

struct fake_io {
    uint8_t *ptr;
    int fd;
    uint64_t off, len;
    const void *userdata;
    bool used, submitted, crosses;
};

struct fake_ring {
    struct fake_ring *next;
    bool for_read;
    int entries, preparing;
    struct fake_io io[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_ring *rings; /* guarded by lock */
static bool registered[FDS];    /* guarded by lock */

static void enter(void)
{
    (void)pthread_mutex_lock(&lock);
}

static int leave(int rc)
{
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

/* I/O in flight that touches memory, or a file. */
static bool busy(const uint8_t *base, uint64_t len, int fd)
{
    for (struct fake_ring *r = rings; r; r = r->next) {
        for (int i = 0; i < r->entries; i++) {
            const struct fake_io *io = &r->io[i];

            if (io->used &&
                (io->fd == fd || (base && io->ptr < base + len && base < io->ptr + io->len)))
                return true;
        }
    }
    return false;
}

EXPORT bool hf3fs_is_hf3fs(int fd)
{
    fake_state.asked++;
    return fcntl(fd, F_GETFD) >= 0 && (fake_state.is_hf3fs || getenv("FAKE_IS_HF3FS"));
}

EXPORT int hf3fs_extract_mount_point(char *mount, int size, const char *path)
{
    (void)mount;
    (void)size;
    (void)path;
    return -1;
}

static void note_create(const char *mp)
{
    static pid_t last;

    if (gettid() != last)
        fake_state.makers++;
    last = gettid();
    fake_state.unasked += !fake_state.asked;
    (void)snprintf(fake_state.mount, sizeof fake_state.mount, "%s", mp);
}

static void link_name(char *name, size_t size, const char *mp, const char *id)
{
    uint64_t a, b;

    memcpy(&a, id, 8);
    memcpy(&b, id + 8, 8);
    (void)snprintf(name, size, "%s/3fs-virt/iovs/fake-%016llx%016llx", mp, (unsigned long long)a,
                   (unsigned long long)b);
}

static int iov_make(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block_size)
{
    static int next;
    char shm[64], link[400];
    void *base;
    int fd;

    note_create(mp);
    if (fake_state.iovcreate_rc)
        return fake_state.iovcreate_rc;
    memset(iov, 0, sizeof *iov);
    (void)snprintf(iov->id, sizeof iov->id, "%d-%d", (int)getpid(), ++next);
    (void)snprintf(shm, sizeof shm, "/dev/shm/hf3fs-iov-fake-%d-%d", (int)getpid(), next);
    fd = open(shm, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        return -EIO;
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    link_name(link, sizeof link, mp, iov->id);
    if (base == MAP_FAILED || symlink(shm, link) != 0) {
        (void)unlink(shm);
        return -ENOENT;
    }
    iov->base = base;
    iov->iovh = strdup(shm);
    iov->size = size;
    iov->block_size = block_size;
    iov->numa = -1;
    (void)snprintf(iov->mount_point, sizeof iov->mount_point, "%s", mp);
    fake_state.iovs++;
    fake_state.iovs_made++;
    return 0;
}

EXPORT int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block_size,
                           int numa)
{
    (void)numa;
    enter();
    return leave(iov_make(iov, mp, size, block_size));
}

EXPORT void hf3fs_iovunlink(struct hf3fs_iov *iov)
{
    (void)unlink(iov->iovh);
    fake_state.unlinked++;
}

EXPORT void hf3fs_iovdestroy(struct hf3fs_iov *iov)
{
    char link[400];

    if (!iov->iovh)
        return;
    enter();
    fake_state.memory_freed_busy += busy(iov->base, iov->size, -1);
    link_name(link, sizeof link, iov->mount_point, iov->id);
    (void)unlink(link);
    (void)unlink(iov->iovh);
    (void)munmap(iov->base, iov->size);
    free(iov->iovh);
    iov->iovh = NULL;
    fake_state.iovs--;
    (void)leave(0);
}

EXPORT int hf3fs_iovwrap(struct hf3fs_iov *iov, void *base, const uint8_t id[16], const char *mp,
                         size_t size, size_t block_size, int numa)
{
    memset(iov, 0, sizeof *iov);
    iov->base = base;
    memcpy(iov->id, id, 16);
    iov->size = size;
    iov->block_size = block_size;
    iov->numa = numa;
    (void)snprintf(iov->mount_point, sizeof iov->mount_point, "%s", mp);
    return 0;
}

static int ring_make(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read)
{
    struct fake_ring *r;

    note_create(mp);
    if (fake_state.iorcreate_rc)
        return fake_state.iorcreate_rc;
    r = calloc(1, sizeof *r + (size_t)entries * sizeof r->io[0]);
    if (!r)
        return -ENOMEM;
    memset(ior, 0, sizeof *ior);
    r->entries = entries;
    r->for_read = for_read;
    r->next = rings;
    rings = r;
    ior->iorh = r;
    ior->for_read = for_read;
    fake_state.rings++;
    return 0;
}

EXPORT int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int timeout, int numa, uint64_t flags)
{
    enter();
    fake_state.ring_entries = entries;
    fake_state.ring_for_read = for_read;
    fake_state.ring_depth = io_depth;
    fake_state.ring_timeout = timeout;
    fake_state.ring_numa = numa;
    fake_state.ring_flags = flags;
    return leave(ring_make(ior, mp, entries, for_read));
}

EXPORT void hf3fs_iordestroy(struct hf3fs_ior *ior)
{
    struct fake_ring **at = &rings, *r = ior->iorh;

    if (!r)
        return;
    enter();
    for (int i = 0; i < r->entries; i++)
        fake_state.rings_freed_busy += r->io[i].used;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r);
    ior->iorh = NULL;
    fake_state.rings--;
    (void)leave(0);
}

EXPORT int hf3fs_reg_fd(int fd, uint64_t flags)
{
    (void)flags;
    if (fake_state.reg_fd_rc)
        return fake_state.reg_fd_rc;
    if (fd < 0 || fd >= FDS || fcntl(fd, F_GETFD) < 0)
        return EBADF;
    enter();
    if (registered[fd])
        return leave(EINVAL);
    registered[fd] = true;
    fake_state.files++;
    return leave(-fd);
}

EXPORT void hf3fs_dereg_fd(int fd)
{
    enter();
    fake_state.closed_too_early += fcntl(fd, F_GETFD) < 0;
    fake_state.files_freed_busy += busy(NULL, 0, fd);
    if (fd >= 0 && fd < FDS && registered[fd]) {
        registered[fd] = false;
        fake_state.files--;
    }
    (void)leave(0);
}

#ifndef FAKE_MISSING
static bool crosses(const struct hf3fs_iov *iov, const uint8_t *p, uint64_t len)
{
    uint64_t off = (uint64_t)(p - iov->base);

    return iov->block_size && off / iov->block_size != (off + len - 1) / iov->block_size;
}

static int prepare(struct fake_ring *r, const struct hf3fs_iov *iov, uint8_t *p, int fd,
                   uint64_t off, uint64_t len, const void *userdata)
{
    int i;

    if (fd < 0 || fd >= FDS || !registered[fd])
        return -EBADF;
    if (fake_state.again_every && ++fake_state.preps % fake_state.again_every == 0)
        return -EAGAIN;
    for (i = 0; i < r->entries && r->io[i].used; i++)
        ;
    if (i == r->entries)
        return -EAGAIN;
    /* a buffer that storage still writes to is nobody else's */
    fake_state.buffers_shared += r->for_read && busy(p, len, -1);
    fake_state.crossings += crosses(iov, p, len);
    r->io[i] = (struct fake_io){p, fd, off, len, userdata, true, false, crosses(iov, p, len)};
    return i;
}

EXPORT int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read,
                         void *ptr, int fd, size_t off, uint64_t len, const void *userdata)
{
    struct fake_ring *r = ior->iorh;
    uint8_t *p = ptr;
    int rc;

    if (fake_state.prep_rc)
        return fake_state.prep_rc;
    if (read != ior->for_read || len == 0 || p < iov->base || p + len > iov->base + iov->size)
        return -EINVAL;
    if (__atomic_fetch_add(&r->preparing, 1, __ATOMIC_ACQ_REL))
        fake_state.rings_shared++;
    enter();
    rc = leave(prepare(r, iov, p, fd, off, len, userdata));
    (void)__atomic_fetch_sub(&r->preparing, 1, __ATOMIC_ACQ_REL);
    return rc;
}
#endif

EXPORT int hf3fs_submit_ios(const struct hf3fs_ior *ior)
{
    struct fake_ring *r = ior->iorh;

    if (!r)
        return -EINVAL;
    enter();
    for (int i = 0; i < r->entries; i++)
        r->io[i].submitted = r->io[i].used;
    return leave(0);
}

static int64_t run(const struct fake_ring *r, const struct fake_io *io)
{
    ssize_t n;

    if (io->crosses)
        return -EINVAL;
    if (r->for_read && fake_state.read_rc)
        return fake_state.read_rc;
    if (!r->for_read && fake_state.write_rc)
        return fake_state.write_rc;
    n = r->for_read ? pread(io->fd, io->ptr, io->len, (off_t)io->off)
                    : pwrite(io->fd, io->ptr, io->len, (off_t)io->off);
    if (r->for_read && n > fake_state.short_by)
        n -= fake_state.short_by;
    return n < 0 ? -errno : n;
}

static int reap(struct fake_ring *r, struct hf3fs_cqe *cqes, int cqec)
{
    int n = 0;

    for (int k = 0; k < r->entries && n < cqec && !fake_state.lose; k++) {
        int i = fake_state.backwards ? r->entries - 1 - k : k;

        if (!r->io[i].used || !r->io[i].submitted)
            continue;
        cqes[n].index = i;
        cqes[n].result = run(r, &r->io[i]);
        cqes[n].userdata = r->io[i].userdata;
        r->io[i].used = false;
        n++;
    }
    return n;
}

static void note_deadline(const struct timespec *until)
{
    struct timespec now;

    fake_state.waits++;
    if (!until) {
        fake_state.waits_without_deadline++;
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    fake_state.wait_ms =
        (until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000;
}

EXPORT int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int cqec,
                              int min_results, const struct timespec *until)
{
    struct fake_ring *r = ior->iorh;
    int n;

    if (!r || cqec <= 0)
        return -EINVAL;
    enter();
    note_deadline(until);
    n = leave(reap(r, cqes, cqec));
    if (n >= min_results || !until)
        return n;
    if (fake_state.step_us)
        (void)usleep((useconds_t)fake_state.step_us);
    else
        (void)clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, until, NULL);
    return n;
}
#endif
