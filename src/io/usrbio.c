/*
 * usrbio.c - the rows of struct io_ops over a loaded USRBIO library: rings and memory here, file
 * verbs in verbs.c and smallfile.c. The three sign conventions of the foreign API end in this
 * folder.
 *
 * How the rules for clients of the real library are kept:
 *
 *   rule                                        where
 *   1  dlopen, absent is an answer              library.c; loader.c
 *      is_hf3fs before any create               open_real() in loader.c
 *      free space of /dev/shm                   memreserve.c
 *      creates off the serving path             io.h: helper threads only (engine: open)
 *   2  memory once per process, at start        pool.c; fork: the engine refuses in a child
 *      one creating thread for the links        creator.c
 *      iovunlink at once                        memreserve.c
 *      one test I/O before ready                engine: open
 *   3  io_depth 0, timeout 0, flags 0 or 1      ring_create()
 *      one owner thread per ring                io.h (engine: a lane owns its rings)
 *   4  hard limit of open files                 library_limit_files() in library.c
 *   5  reg_fd > 0 is an error                   verb_file_open() in verbs.c
 *      dereg, then close                        verb_file_close() in verbs.c
 *   6  -EAGAIN: submit, reap, retry             io.h: prep (engine: lanes count their own)
 *   7  submit after a partial prep failure      engine: lanes
 *   8  CLOCK_REALTIME deadlines in slices       ring_wait()
 *      quarantine of what is overdue            pool.c, ring_destroy() (engine: lanes, breaker)
 *   9  match by userdata, exact length          ring_wait() keeps userdata; engine: lanes
 *   10 identity and checksum of every block     segment (contents), mem.c (hash)
 *   11 whole chunks, never in place             segment
 *   12 other hosts see names late               segment: heads and contents are read by USRBIO
 *   13 explicit deletion                        engine
 *   14 rings before memory at the end           engine: close
 *      own mount only                           verb_file_open() refuses a file of another device
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "cistern.h"
#include "io/io_internal.h"

#define WAIT_BATCH    64
#define WAIT_SLICE_NS (100 * NS_PER_MS)
#define WAIT_MAX_NS   (3600 * NS_PER_S)

struct mem_wish {
    struct usrbio *u;
    struct io_mem *m;
    size_t size, block_size;
};

static int mem_make(void *arg)
{
    struct mem_wish *w = arg;

    return w->u->lib.call.iovcreate(&w->m->iov, w->u->point, w->size, w->block_size, -1);
}

static int mem_create(struct io *io, struct io_mem *m, size_t size, size_t block_size)
{
    struct usrbio *u = io->private_data;
    struct mem_wish w = {u, m, size, block_size};
    int rc;

    if (size == 0 || block_size > size)
        return err_set(-EINVAL, "memory of %zu bytes in blocks of %zu", size, block_size);
    memset(m, 0, sizeof *m);
    rc = u->real ? creator_call(mem_make, &w) : mem_make(&w);
    if (rc)
        return err_set(rc, "hf3fs_iovcreate of %zu bytes on %s: %s%s", size, u->point,
                       strerror(-rc),
                       rc == -EINVAL || rc == -ENOENT
                           ? " (do this process and the FUSE daemon share /dev/shm and the mount?)"
                           : "");
    m->base = m->iov.base;
    m->size = size;
    return 0;
}

struct link_wish {
    struct usrbio *u;
    struct io_mem *m;
    const char *target;
};

static int link_make(void *arg)
{
    struct link_wish *w = arg;

    return iov_link_make(w->u->point, &w->m->iov, w->target);
}

/* The real library only reaches memory that has a link; the drop-in needs none. */
static int mem_wrap(struct io *io, struct io_mem *m, void *base, size_t size)
{
    struct usrbio *u = io->private_data;
    char target[SHM_PATH_MAX];
    uint8_t id[16];
    int rc;

    if (!base || size == 0)
        return err_set(-EINVAL, "no memory was given to register");
    rc = u->real ? shm_path_of_mapping(base, size, target) : 0;
    if (rc == 0)
        rc = uuid_make(id);
    if (rc)
        return rc;
    memset(m, 0, sizeof *m);
    rc = u->lib.call.iovwrap(&m->iov, base, id, u->point, size, 0, -1);
    if (rc)
        return err_set(rc, "hf3fs_iovwrap of %zu bytes: %s", size, strerror(-rc));
    if (u->real) {
        struct link_wish w = {u, m, target};

        rc = creator_call(link_make, &w);
        if (rc)
            return rc;
    }
    m->base = base;
    m->size = size;
    m->wrapped = true;
    return 0;
}

static void mem_destroy(struct io *io, struct io_mem *m)
{
    struct usrbio *u = io->private_data;

    if (!m->base)
        return;
    if (!m->wrapped)
        u->lib.call.iovdestroy(&m->iov);
    else if (u->real)
        iov_link_remove(u->point, &m->iov);
    memset(m, 0, sizeof *m);
}

struct ring_wish {
    struct usrbio *u;
    struct io_ring *r;
    int entries;
    bool for_read;
};

static int ring_make(void *arg)
{
    struct ring_wish *w = arg;
    uint64_t flags = w->for_read ? HF3FS_IOR_ALLOW_READ_UNCOMMITTED : 0;

    return w->u->lib.call.iorcreate4(&w->r->ior, w->u->point, w->entries, w->for_read, 0, 0, -1,
                                     flags);
}

static int ring_create(struct io *io, struct io_ring *r, int entries, bool for_read)
{
    struct usrbio *u = io->private_data;
    struct ring_wish w = {u, r, entries, for_read};
    int rc;

    if (entries < 1)
        return err_set(-EINVAL, "a ring of %d entries", entries);
    memset(r, 0, sizeof *r);
    rc = u->real ? creator_call(ring_make, &w) : ring_make(&w);
    if (rc)
        return err_set(rc, "hf3fs_iorcreate4 of %d entries on %s: %s", entries, u->point,
                       strerror(-rc));
    r->entries = entries;
    r->for_read = for_read;
    return 0;
}

static void ring_destroy(struct io *io, struct io_ring *r)
{
    struct usrbio *u = io->private_data;

    if (r->entries == 0)
        return;
    if (r->inflight == 0)
        u->lib.call.iordestroy(&r->ior);
    memset(r, 0, sizeof *r);
}

static int ring_prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr,
                     struct io_file *f, uint64_t offset, uint64_t len, void *userdata)
{
    struct usrbio *u = io->private_data;
    int rc = u->lib.call.prep_io(&r->ior, &m->iov, r->for_read, ptr, f->fd, offset, len, userdata);

    if (rc < 0)
        return rc;
    r->inflight++;
    return 0;
}

static int ring_submit(struct io *io, struct io_ring *r)
{
    struct usrbio *u = io->private_data;

    return u->lib.call.submit_ios(&r->ior);
}

/* One call of the library, at most `timeout_ns`; the time of day is read at the last moment. */
static int wait_once(struct usrbio *u, struct io_ring *r, struct io_done *done, int max, int min,
                     uint64_t timeout_ns)
{
    struct hf3fs_cqe cqes[WAIT_BATCH];
    struct timespec until = {0, 0}; /* in the past: a poll */
    int i, n;

    if (max > WAIT_BATCH)
        max = WAIT_BATCH;
    if (timeout_ns)
        until = clock_realtime_after(timeout_ns);
    n = u->lib.call.wait_for_ios(&r->ior, cqes, max, min, &until);
    for (i = 0; i < n; i++) {
        done[i].userdata = (void *)(uintptr_t)cqes[i].userdata;
        done[i].result = cqes[i].result;
    }
    if (n > 0)
        r->inflight -= n;
    return n;
}

/*
 * The deadline is kept on the monotonic clock, in slices, so that a step of the time of day costs
 * one slice of waiting too much or too little at most.
 */
static int ring_wait(struct io *io, struct io_ring *r, struct io_done *done, int max, int min,
                     uint64_t timeout_ns)
{
    struct usrbio *u = io->private_data;
    uint64_t now, until;
    int n, got;

    if (max < 1)
        return -EINVAL;
    if (min > max)
        min = max;
    if (min <= 0 || timeout_ns == 0)
        return wait_once(u, r, done, max, 0, 0);
    now = clock_ns();
    until = now + min_u64(timeout_ns, WAIT_MAX_NS);
    for (got = 0; got < min && now < until; now = clock_ns()) {
        n = wait_once(u, r, done + got, max - got, min - got, min_u64(until - now, WAIT_SLICE_NS));
        if (n < 0)
            return got ? got : n;
        got += n;
    }
    return got;
}

/* A mount that is gone leaves an empty directory behind, which is not 3FS. */
static int usrbio_renew(struct io *io)
{
    struct usrbio *u = io->private_data;
    struct stat st;
    int rc = 0, fd = open(io->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        rc = -errno;
    else if (u->real && !u->lib.call.is_hf3fs(fd))
        rc = -ENOTCONN;
    if (!rc) {
        atomic_store(&u->dev, st.st_dev);
        rc = dup3(fd, u->dir, O_CLOEXEC) < 0 ? -errno : 0; /* its users never see it closed */
    }
    (void)close(fd);
    return rc;
}

static void usrbio_close(struct io *io)
{
    struct usrbio *u = io->private_data;

    if (u->dir >= 0)
        (void)close(u->dir);
    library_unload(&u->lib, u->real);
    free(u);
    io->private_data = NULL;
}

/* The rows differ in name only; what differs in behaviour asks struct usrbio. */
#define ROW(row_name)                                                                              \
    {                                                                                              \
        .name = row_name, .mem_create = mem_create, .mem_wrap = mem_wrap,                          \
        .mem_destroy = mem_destroy, .ring_create = ring_create, .ring_destroy = ring_destroy,      \
        .prep = ring_prep, .submit = ring_submit, .wait = ring_wait, .file_open = verb_file_open,  \
        .file_close = verb_file_close, .file_sync = verb_file_sync,                                \
        .file_truncate = verb_file_truncate, .file_allocate = verb_file_allocate,                  \
        .make_dir = verb_make_dir, .list = verb_list, .stat = verb_stat, .unlink = verb_unlink,    \
        .sync_dir = verb_sync_dir, .space = verb_space, .small_read = verb_small_read,             \
        .small_write = verb_small_write, .close = usrbio_close, .remove_dir = verb_remove_dir,     \
        .renew = usrbio_renew,                                                                     \
    }

const struct io_ops usrbio_ops_hf3fs = ROW("hf3fs");
const struct io_ops usrbio_ops_local = ROW("local");
