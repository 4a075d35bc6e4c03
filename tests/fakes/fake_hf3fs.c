/*
 * fake_hf3fs.c - a stand-in for the real 3FS client: its shape and its sharp edges, on ordinary
 * files.
 *
 * It keeps what it was told in `fake_state`, which a test finds with dlsym. Bytes move in
 * hf3fs_wait_for_ios. One thread at a time.
 */
#include <errno.h>
#include <fcntl.h>
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

struct fake_io {
    void *ptr;
    int fd;
    uint64_t off, len;
    const void *userdata;
    bool used;
};

struct fake_ring {
    int entries;
    struct fake_io io[];
};

EXPORT bool hf3fs_is_hf3fs(int fd)
{
    return fcntl(fd, F_GETFD) >= 0 && (fake_state.is_hf3fs || getenv("FAKE_IS_HF3FS"));
}

EXPORT int hf3fs_extract_mount_point(char *mount, int size, const char *path)
{
    (void)mount;
    (void)size;
    (void)path;
    return -1;
}

static void link_name(char *name, size_t size, const char *mp, const char *id)
{
    uint64_t a, b;

    memcpy(&a, id, 8);
    memcpy(&b, id + 8, 8);
    (void)snprintf(name, size, "%s/3fs-virt/iovs/fake-%016llx%016llx", mp, (unsigned long long)a,
                   (unsigned long long)b);
}

static void note_maker(void)
{
    static pid_t last;

    if (gettid() != last)
        fake_state.makers++;
    last = gettid();
}

EXPORT int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block_size,
                           int numa)
{
    static int next;
    char shm[64], link[400];
    void *base;
    int fd;

    note_maker();
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
    iov->numa = numa;
    (void)snprintf(iov->mount_point, sizeof iov->mount_point, "%s", mp);
    (void)snprintf(fake_state.mount, sizeof fake_state.mount, "%s", mp);
    fake_state.iov_size = size;
    fake_state.iov_block = block_size;
    fake_state.iovs++;
    return 0;
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
    link_name(link, sizeof link, iov->mount_point, iov->id);
    (void)unlink(link);
    (void)unlink(iov->iovh);
    (void)munmap(iov->base, iov->size);
    free(iov->iovh);
    iov->iovh = NULL;
    fake_state.iovs--;
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

EXPORT int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mp, int entries, bool for_read,
                            int io_depth, int timeout, int numa, uint64_t flags)
{
    struct fake_ring *r;

    note_maker();
    if (fake_state.iorcreate_rc)
        return fake_state.iorcreate_rc;
    r = calloc(1, sizeof *r + (size_t)entries * sizeof r->io[0]);
    if (!r)
        return -ENOMEM;
    memset(ior, 0, sizeof *ior);
    r->entries = entries;
    ior->iorh = r;
    ior->for_read = for_read;
    (void)snprintf(fake_state.mount, sizeof fake_state.mount, "%s", mp);
    fake_state.ring_entries = entries;
    fake_state.ring_for_read = for_read;
    fake_state.ring_depth = io_depth;
    fake_state.ring_timeout = timeout;
    fake_state.ring_numa = numa;
    fake_state.ring_flags = flags;
    fake_state.rings++;
    return 0;
}

EXPORT void hf3fs_iordestroy(struct hf3fs_ior *ior)
{
    if (!ior->iorh)
        return;
    free(ior->iorh);
    ior->iorh = NULL;
    fake_state.rings--;
}

EXPORT int hf3fs_reg_fd(int fd, uint64_t flags)
{
    (void)flags;
    if (fake_state.reg_fd_rc)
        return fake_state.reg_fd_rc;
    fake_state.files++;
    return -fd;
}

EXPORT void hf3fs_dereg_fd(int fd)
{
    fake_state.files--;
    if (fcntl(fd, F_GETFD) < 0)
        fake_state.closed_too_early++;
}

#ifndef FAKE_MISSING
EXPORT int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read,
                         void *ptr, int fd, size_t off, uint64_t len, const void *userdata)
{
    struct fake_ring *r = ior->iorh;
    uint8_t *p = ptr;
    int i;

    if (fake_state.prep_rc)
        return fake_state.prep_rc;
    if (read != ior->for_read || p < iov->base || p + len > iov->base + iov->size)
        return -EINVAL;
    for (i = 0; i < r->entries && r->io[i].used; i++)
        ;
    if (i == r->entries)
        return -EAGAIN;
    r->io[i] = (struct fake_io){ptr, fd, off, len, userdata, true};
    return i;
}
#endif

EXPORT int hf3fs_submit_ios(const struct hf3fs_ior *ior)
{
    return ior->iorh ? 0 : -EINVAL;
}

static int64_t run(const struct hf3fs_ior *ior, const struct fake_io *io)
{
    ssize_t n = ior->for_read ? pread(io->fd, io->ptr, io->len, (off_t)io->off)
                              : pwrite(io->fd, io->ptr, io->len, (off_t)io->off);

    return n < 0 ? -errno : n;
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
    if (fake_state.step_us)
        (void)usleep((useconds_t)fake_state.step_us);
    else if (fake_state.wait_ms > 0 && fake_state.lose)
        (void)clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, until, NULL);
}

EXPORT int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int cqec,
                              int min_results, const struct timespec *until)
{
    struct fake_ring *r = ior->iorh;
    int i, n = 0;

    (void)min_results;
    note_deadline(until);
    for (i = 0; i < r->entries && n < cqec; i++) {
        if (!r->io[i].used || fake_state.lose)
            continue;
        cqes[n].index = i;
        cqes[n].result = run(ior, &r->io[i]);
        cqes[n].userdata = r->io[i].userdata;
        r->io[i].used = false;
        n++;
    }
    return n;
}
#endif
