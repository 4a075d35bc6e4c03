/*
 * fuzz_usrbio.c - calls of the drop-in's 21 functions, in any order, with hostile arguments.
 *
 * Input: how (backend, sharp edges), then one call after the other: a byte of which, bytes of
 * arguments. Not made: what no library can survive or notice (memory that is not there, a ring used
 * by two threads, waiting without end for nothing). Promises: every answer is among those that
 * hf3fs_usrbio.h names; completions are of I/O that is out, once each; what is read was written
 * there; when all is closed no descriptor, mapping, ring, link or file is left.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "usrbio/state.h"
#include "usrbio_model.h"

#define FILE_BYTES 20000

static char base[64];
static struct model m;
static bool linked; /* names were made */
static bool mapped; /* memory was made or opened */

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=256";
}

/* ---- Arguments ---- */

static void path_in(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s", base, name);
}

/* A path, often a good one; NULL too. The buffer is the caller's. */
static const char *path_arg(struct fuzz_in *in, char buf[PATH_MAX + 600])
{
    static const char *const names[] = {"", "sub", "f0", "f1", "sub/../sub/", "none/at/all", "dir"};
    uint8_t which = fuzz_u8(in);
    size_t n;
    char *name;

    if (which < 128) {
        path_in(buf, PATH_MAX, names[which % ARRAY_LEN(names)]);
        return buf;
    }
    switch (which % 8) {
    case 0:
        return NULL;
    case 1:
        return "";
    case 2:
        return "/dev/shm";
    case 3:
        return "f0";
    case 4: /* about as long as mount points and paths may be */
        n = (which & 64 ? PATH_MAX : 256) - 3u + fuzz_u8(in) % 6;
        memset(buf, '/', n);
        memcpy(buf, base, strlen(base));
        buf[n] = 0;
        return buf;
    case 5:
        return "/nonexistent/a/b";
    default:
        name = fuzz_string(fuzz_part(in, 8));
        path_in(buf, PATH_MAX, name);
        free(name);
        return buf;
    }
}

static size_t size_arg(struct fuzz_in *in)
{
    static const size_t sizes[] = {
        65536, 65536, 4096, 1, 4095, 1 << 20, 0, (size_t)1 << 40, SIZE_MAX, (size_t)1 << 63, 12345};

    return sizes[fuzz_u8(in) % ARRAY_LEN(sizes)];
}

static size_t block_arg(struct fuzz_in *in)
{
    static const size_t sizes[] = {0, 0, 0, 4096, 1, 3000, 65536, SIZE_MAX, (size_t)1 << 41};

    return sizes[fuzz_u8(in) % ARRAY_LEN(sizes)];
}

static int int_arg(struct fuzz_in *in)
{
    static const int ints[] = {0, 0, 1, 2, -1, 8, -8, 64, 1000, INT_MAX, INT_MIN};

    return ints[fuzz_u8(in) % ARRAY_LEN(ints)];
}

static int entries_arg(struct fuzz_in *in)
{
    static const int ints[] = {8, 1, 2, 3, 64, 65, 5, 0, -1, INT_MIN, INT_MAX};

    return ints[fuzz_u8(in) % ARRAY_LEN(ints)];
}

static int fd_arg(struct fuzz_in *in)
{
    uint8_t which = fuzz_u8(in);
    unsigned i = which % FILES;

    switch (which >> 5) {
    case 5:
        return m.handles[i] <= 0 ? m.handles[i] : m.fds[i];
    case 6:
        return m.handles[i] <= 0 ? -m.handles[i] : m.fds[i];
    case 7:
        return (const int[]){-1, 999, INT_MAX, INT_MIN, 1 << 22, -(1 << 22), 1 << 21}[which % 7];
    default:
        return m.fds[i];
    }
}

static void known(int rc, const int *codes, size_t n)
{
    size_t i;

    for (i = 0; i < n && rc != codes[i]; i++)
        ;
    FUZZ_CHECK(i < n);
}

#define KNOWN(rc, ...)                                                                             \
    known(rc, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

/* ---- Memory ---- */

static void iov_drop(unsigned i)
{
    struct model_iov *v = &m.iovs[i];

    if (!v->live)
        return;
    model_iov_gone(&m, i);
    hf3fs_iovdestroy(&v->iov);
    FUZZ_CHECK(v->iov.iovh == NULL);
    hf3fs_iovdestroy(&v->iov); /* a second time is harmless */
}

static void iov_made(unsigned i, unsigned object, size_t bytes)
{
    struct model_iov *v = &m.iovs[i];

    mapped = true;
    v->live = true;
    v->object = object;
    v->bytes = bytes;
    v->valid = v->iov.size < bytes ? v->iov.size : bytes;
}

static void call_iovcreate(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600];
    unsigned i = fuzz_u8(in) % IOVS;
    const char *mp = path_arg(in, buf);
    size_t size = size_arg(in), block = block_arg(in), k;
    int numa = int_arg(in), rc;
    struct hf3fs_iov *iov = &m.iovs[i].iov;

    if (m.iovs[i].wrapped)
        return;
    iov_drop(i);
    rc = hf3fs_iovcreate(iov, mp, size, block, numa);
    KNOWN(rc, 0, -EINVAL, -ENOENT, -EIO, -ENOMEM, -ENAMETOOLONG, -ENOTDIR);
    if (rc)
        return;
    FUZZ_CHECK(mp && size && block <= size && iov->iovh && iov->base && iov->size == size);
    FUZZ_CHECK(iov->block_size == block && iov->numa == numa && !strcmp(iov->mount_point, mp));
    for (k = 0; k < size && k < 70000; k += 4096)
        FUZZ_CHECK(iov->base[k] == 0);
    iov_made(i, ++m.objects, size);
}

static void call_iovopen(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600];
    unsigned i = fuzz_u8(in) % IOVS, from = fuzz_u8(in) % IOVS;
    const char *mp = path_arg(in, buf);
    size_t size = size_arg(in), block = fuzz_u8(in) & 1 ? block_arg(in) : 0;
    struct model_iov *source = &m.iovs[from];
    uint8_t id[16], *given = id;
    int rc;

    if (m.iovs[i].wrapped || i == from)
        return;
    memcpy(id, source->iov.id, sizeof id);
    if (fuzz_u8(in) % 8 == 0)
        given = NULL;
    iov_drop(i);
    rc = hf3fs_iovopen(&m.iovs[i].iov, given, mp, size, block, 0);
    KNOWN(rc, 0, -EINVAL, -ENOENT, -EIO, -EPERM, -ENOMEM, -ENAMETOOLONG, -ENOTDIR);
    if (rc)
        return;
    FUZZ_CHECK(given && source->live && block == source->iov.block_size);
    iov_made(i, source->object, source->bytes);
}

static void call_iovwrap(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600];
    unsigned i = fuzz_u8(in) % IOVS;
    const char *mp = path_arg(in, buf);
    size_t size = fuzz_u16(in), block = block_arg(in);
    uint8_t id[16] = {1}, how = fuzz_u8(in);
    int rc;

    if (m.iovs[i].wrapped)
        return;
    iov_drop(i);
    m.iovs[i].wrapped = how & 1 ? NULL : malloc(size + 1);
    rc = hf3fs_iovwrap(&m.iovs[i].iov, m.iovs[i].wrapped, how & 2 ? NULL : id, mp, size, block,
                       int_arg(in));
    KNOWN(rc, 0, -EINVAL);
    FUZZ_CHECK((rc == 0) == (!(how & 2) && mp && strlen(mp) < 256));
    if (rc == 0)
        FUZZ_CHECK(m.iovs[i].iov.iovh == NULL && m.iovs[i].iov.size == size);
    if (rc == 0 && m.iovs[i].wrapped) {
        iov_made(i, ++m.objects, size);
    } else {
        free(m.iovs[i].wrapped);
        m.iovs[i].wrapped = NULL;
        m.iovs[i].live = false;
        m.iovs[i].iov = (struct hf3fs_iov){0};
    }
}

static void call_iovunlink(struct fuzz_in *in)
{
    uint8_t i = fuzz_u8(in);

    hf3fs_iovunlink(i & 128 ? NULL : &m.iovs[i % IOVS].iov);
}

static void call_iovdestroy(struct fuzz_in *in)
{
    uint8_t i = fuzz_u8(in);

    if (i & 128)
        hf3fs_iovdestroy(NULL);
    else if (m.iovs[i % IOVS].wrapped)
        hf3fs_iovdestroy(&m.iovs[i % IOVS].iov); /* nothing of the library's: stays usable */
    else
        iov_drop(i % IOVS);
}

/* ---- Rings ---- */

static void ior_drop(unsigned i)
{
    struct model_ior *r = &m.iors[i];

    if (!r->live)
        return;
    r->live = false;
    hf3fs_iordestroy(&r->ior);
    FUZZ_CHECK(r->ior.iorh == NULL);
    hf3fs_iordestroy(&r->ior);
    memset(r->io, 0, sizeof r->io); /* its memory may be used again */
    r->out = 0;
}

static int ior_make(struct fuzz_in *in, struct hf3fs_ior *ior, const char *mp, int entries,
                    bool for_read, int depth)
{
    int priority = int_arg(in), timeout = int_arg(in), numa = int_arg(in);
    uint64_t flags = fuzz_u8(in) & 1 ? fuzz_u64(in) : fuzz_u8(in) % 4;

    switch (fuzz_u8(in) % 4) {
    case 0:
        return hf3fs_iorcreate(ior, mp, entries, for_read, depth, numa);
    case 1:
        return hf3fs_iorcreate2(ior, mp, entries, for_read, depth, priority, numa);
    case 2:
        return hf3fs_iorcreate3(ior, mp, entries, for_read, depth, priority, timeout, numa);
    default:
        return hf3fs_iorcreate4(ior, mp, entries, for_read, depth, timeout, numa, flags);
    }
}

static void call_iorcreate(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600];
    uint8_t which = fuzz_u8(in);
    const char *mp = path_arg(in, buf);
    int entries = entries_arg(in), depth = int_arg(in), rc;
    struct model_ior *r = &m.iors[which % IORS];

    ior_drop(which % IORS);
    rc = ior_make(in, which & 128 ? NULL : &r->ior, mp, entries, which & 64, depth);
    KNOWN(rc, 0, -EINVAL, -ENOENT, -EIO, -ENOMEM, -ENAMETOOLONG, -ENOTDIR, -ENOSYS, -EPERM);
    if (rc)
        return;
    FUZZ_CHECK(mp && *mp && entries > 0 && depth <= entries && r->ior.iorh);
    FUZZ_CHECK(hf3fs_io_entries(&r->ior) == entries && r->ior.for_read == !!(which & 64));
    FUZZ_CHECK(r->ior.io_depth == depth && r->ior.iov.size == hf3fs_ior_size(entries));
    r->live = true;
    r->entries = entries;
    r->exact = m.strict_exact && depth > 0;
}

static void call_iordestroy(struct fuzz_in *in)
{
    uint8_t i = fuzz_u8(in);

    if (i & 128)
        hf3fs_iordestroy(NULL);
    else
        ior_drop(i % IORS);
}

static void call_sizes(struct fuzz_in *in)
{
    uint8_t i = fuzz_u8(in);
    int n = (int)fuzz_u16(in), got = hf3fs_io_entries(i & 128 ? NULL : &m.iors[i % IORS].ior);

    FUZZ_CHECK(hf3fs_ior_size(n) == 48 + 96 * ((size_t)n + 1) + 4096);
    FUZZ_CHECK(!m.iors[i % IORS].live || (i & 128) || got == m.iors[i % IORS].entries);
    FUZZ_CHECK(!(i & 128) || got == -EINVAL);
    (void)hf3fs_ior_size(int_arg(in));
}

/* ---- I/O ---- */

static uint64_t offset_arg(struct fuzz_in *in)
{
    static const uint64_t far[] = {1ull << 40, INT64_MAX, INT64_MAX - 100, UINT64_MAX, 1ull << 63};
    uint8_t which = fuzz_u8(in);

    return which >= 240 ? far[which % ARRAY_LEN(far)] : fuzz_u16(in) >> (which & 7);
}

/* Within the iov, or not; never memory that is not there. */
static void range_arg(struct fuzz_in *in, const struct model_iov *v, struct model_io *io)
{
    uint8_t how = fuzz_u8(in);

    io->at = fuzz_u16(in);
    io->len = fuzz_u16(in) >> (how & 7);
    if (how >= 248)
        io->len = UINT64_MAX - how % 4;
    else if (v->live && !(how & 32) && v->iov.size) {
        io->at %= v->iov.size;
        if (io->len > v->iov.size - io->at)
            io->len = v->iov.size - io->at;
    }
    io->ptr = how == 247 ? NULL : (uint8_t *)((uintptr_t)v->iov.base + io->at);
}

static bool range_inside(const struct model_iov *v, const struct model_io *io)
{
    return io->ptr && io->len && io->at <= v->iov.size && io->len <= v->iov.size - io->at;
}

static void call_prep(struct fuzz_in *in)
{
    unsigned ring = fuzz_u8(in) % IORS, slot;
    uint8_t which = fuzz_u8(in);
    struct model_ior *r = &m.iors[ring];
    struct model_io io = {.iov = which % IOVS, .judged = true};
    struct model_iov *v = &m.iovs[io.iov];
    bool other_way = which >= 248, inside;
    int fd = fd_arg(in), rc;

    io.off = offset_arg(in);
    io.object = v->object;
    range_arg(in, v, &io);
    io.read = r->live && r->ior.for_read;
    inside = v->live && r->live && !other_way && range_inside(v, &io);
    if (!v->live && v->iov.base)
        return; /* destroyed memory looks like wrapped memory: the caller's mistake */
    if (inside && !model_io_begin(&m, &io))
        return;
    for (slot = 0; slot < IO_MAX && r->io[slot].out; slot++)
        ; /* the lowest free one is handed out */
    rc = hf3fs_prep_io(which >= 240 && which < 244 ? NULL : &r->ior, &v->iov, io.read != other_way,
                       io.ptr, fd, io.off, io.len, slot < IO_MAX ? &r->io[slot] : NULL);
    KNOWN(rc < 0 ? rc : 0, 0, -EINVAL, -EBADF, -EACCES, -EAGAIN);
    FUZZ_CHECK(rc != -EAGAIN || (r->live && r->out == r->entries));
    if (rc < 0)
        return;
    FUZZ_CHECK(inside && rc == (int)slot);
    model_io_sent(&m, ring, rc, &io);
}

static void call_submit(struct fuzz_in *in)
{
    uint8_t i = fuzz_u8(in);
    int rc = hf3fs_submit_ios(i & 128 ? NULL : &m.iors[i % IORS].ior);

    FUZZ_CHECK(rc == (!(i & 128) && m.iors[i % IORS].live ? 0 : -EINVAL));
}

static void wait_and_check(unsigned ring, int cqec, int min, const struct timespec *until)
{
    struct model_ior *r = &m.iors[ring];
    struct hf3fs_cqe *cqes = malloc((cqec > 0 ? (size_t)cqec : 1) * sizeof *cqes);
    int i, rc;

    memset(cqes, 0x5a, (cqec > 0 ? (size_t)cqec : 1) * sizeof *cqes);
    rc = hf3fs_wait_for_ios(&r->ior, cqes, cqec, min, until);
    if (!r->live || cqec <= 0) {
        FUZZ_CHECK(rc == -EINVAL);
    } else {
        FUZZ_CHECK(rc >= 0 && rc <= cqec && rc <= r->out);
        FUZZ_CHECK(until || rc >= (min < cqec ? min : cqec));
        for (i = 0; i < rc; i++)
            model_io_done(&m, ring, &cqes[i]);
    }
    free(cqes);
}

static void call_wait(struct fuzz_in *in)
{
    static const struct timespec times[] = {
        {0, 0},         {-1, -1},        {INT64_MIN, 0},
        {0, INT64_MAX}, {0, INT64_MIN},  {INT64_MAX, INT64_MAX},
        {INT64_MAX, 0}, {1, 2000000000}, {INT64_MIN, INT64_MIN}};
    unsigned ring = fuzz_u8(in) % IORS;
    struct model_ior *r = &m.iors[ring];
    int cqec = (int)fuzz_u8(in) % 70 - 2, min = int_arg(in);
    uint8_t how = fuzz_u8(in);
    struct timespec until = times[how % ARRAY_LEN(times)];
    bool sure; /* that enough will complete */

    if (how & 64)
        min = r->out;
    sure = !r->exact && (min < cqec ? min : cqec) <= r->out;
    if (how & 128) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 500000; /* perhaps 10^9 and more */
    } else if (!sure && (until.tv_sec > 1 || until.tv_nsec > 0)) {
        until = times[0]; /* the future would be waited for */
    }
    wait_and_check(ring, cqec, min, (how & 32) && sure && r->live ? NULL : &until);
}

/* ---- Files ---- */

static void file_open(unsigned i)
{
    static const int flags[FILES] = {
        O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_APPEND, O_RDONLY | O_DIRECTORY, O_RDWR | O_DIRECT};
    static const char *const names[FILES] = {"f0", "f0", "f1", "f1", "sub", "f2"};
    char path[128];

    path_in(path, sizeof path, names[i]);
    m.fds[i] = open(path, flags[i] | O_CLOEXEC);
    if (m.fds[i] < 0 && (flags[i] & O_DIRECT)) /* tmpfs may not take it */
        m.fds[i] = open(path, O_RDWR | O_CLOEXEC);
    m.handles[i] = 1;
    FUZZ_CHECK(m.fds[i] >= 0);
}

static void call_reg_fd(struct fuzz_in *in)
{
    uint8_t which = fuzz_u8(in);
    unsigned i = which % FILES;
    int fd = which & 64 ? fd_arg(in) : m.fds[i], rc = hf3fs_reg_fd(fd, fuzz_u8(in));

    KNOWN(rc <= 0 ? 0 : rc, 0, EBADF, EINVAL, EMFILE, ENOMEM);
    if (rc > 0)
        return;
    FUZZ_CHECK(fcntl(fd, F_GETFD) >= 0 && fcntl(-rc, F_GETFD) >= 0);
    if (fd == m.fds[i])
        m.handles[i] = rc;
    else
        hf3fs_dereg_fd(fd);
}

static void call_dereg_fd(struct fuzz_in *in)
{
    hf3fs_dereg_fd(fd_arg(in));
}

/* Closed and opened again, with or without taking its registration back. */
static void call_reopen(struct fuzz_in *in)
{
    uint8_t which = fuzz_u8(in);

    if (which & 64)
        hf3fs_dereg_fd(m.fds[which % FILES]);
    close(m.fds[which % FILES]);
    file_open(which % FILES);
}

static void call_is_hf3fs(struct fuzz_in *in)
{
    int fd = fd_arg(in);
    bool is = hf3fs_is_hf3fs(fd);

    FUZZ_CHECK(!is || fcntl(fd, F_GETFD) >= 0);
}

static void call_extract(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600], *out, *known_out = NULL;
    const char *path = path_arg(in, buf);
    int size = int_arg(in), rc;
    uint8_t how = fuzz_u8(in);

    out = how & 1 ? NULL : malloc(size > 0 && size < 1 << 20 ? (size_t)size : 1);
    if (size > 1 << 20)
        size = 1;
    if (out && size > 0)
        memset(out, 'x', (size_t)size);
    rc = hf3fs_extract_mount_point(out, size, path);
    FUZZ_CHECK(rc == -1 || rc >= 2);
    if (rc > 0 && out && size > 0) {
        FUZZ_CHECK(rc > size || (int)strlen(out) + 1 == rc);
        FUZZ_CHECK(rc <= size || *out == 'x');
        known_out = rc <= size ? out : NULL;
    }
    if (known_out && rc > 2)
        FUZZ_CHECK(known_out[rc - 2] != '/' && !strncmp(known_out, "/", 1));
    free(out);
}

static void call_hardlink(struct fuzz_in *in)
{
    char buf[PATH_MAX + 600], buf2[PATH_MAX + 600];
    const char *target = path_arg(in, buf), *name = path_arg(in, buf2);
    int rc = hf3fs_hardlink(target, name);

    KNOWN(rc, 0, EINVAL, ENAMETOOLONG, ENOENT, EISDIR, ENOTTY, EEXIST, EXDEV, ENOTDIR, EPERM,
          EACCES);
    linked |= rc == 0;
}

static void call_punchhole(struct fuzz_in *in)
{
    size_t n = fuzz_u8(in) % 6, i, *start = malloc((n + 1) * sizeof *start);
    size_t *end = malloc((n + 1) * sizeof *end);
    uint8_t how = fuzz_u8(in);
    int fd = fd_arg(in), rc, count = how & 4 ? int_arg(in) : (int)n;

    for (i = 0; i < n; i++) {
        start[i] = (how & 1 ? offset_arg(in) : 0) & (how & 8 ? SIZE_MAX : ~(size_t)0xfffff);
        end[i] = start[i] + (how & 2 ? offset_arg(in) : (size_t)1 << 20);
    }
    if (count > (int)n && count <= 1000)
        count = (int)n; /* arrays are as long as said */
    rc = hf3fs_punchhole(fd, count, how & 16 ? NULL : start, how & 32 ? NULL : end, how);
    KNOWN(rc, 0, EINVAL, EBADF, ENOTTY, EFBIG, ENODEV, EACCES, EISDIR, EOPNOTSUPP, EPERM, ESPIPE);
    free(start);
    free(end);
}

static void call_truncate(struct fuzz_in *in)
{
    char path[128];
    uint8_t which = fuzz_u8(in);

    path_in(path, sizeof path, (const char *[]){"f0", "f1", "f2"}[which % 3]);
    FUZZ_CHECK(truncate(path, fuzz_u16(in)) == 0);
}

static void call_roots(struct fuzz_in *in)
{
    static const char *const roots[] = {"", ":", "/nonexistent", "/nonexistent::/dev/../dev/none"};

    setenv("CISTERN_USRBIO_ROOT", roots[fuzz_u8(in) % ARRAY_LEN(roots)], 1);
}

static void call_info(struct fuzz_in *in)
{
    extern int cistern_usrbio_info(const char *mp, char *buf, size_t size);
    char buf[PATH_MAX + 600];
    const char *mp = path_arg(in, buf);
    size_t size = fuzz_u8(in);
    char *out = malloc(size + 1);
    int rc = cistern_usrbio_info(mp, fuzz_u8(in) & 1 ? NULL : out, size);

    FUZZ_CHECK(rc == -EINVAL || rc > 20);
    free(out);
}

/* ---- From beginning to end ---- */

static void tidy_dir(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char name[PATH_MAX];

    while (d && (e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0 && errno == EISDIR) {
            tidy_dir(name);
            rmdir(name);
        }
    }
    if (d)
        closedir(d);
}

static void tidy(void)
{
    tidy_dir(base);
    rmdir(base);
}

static void file_put(const char *name)
{
    uint8_t bytes[FILE_BYTES];
    char path[128];
    int fd, i;

    for (i = 0; i < FILE_BYTES; i++)
        bytes[i] = model_byte((uint64_t)i);
    path_in(path, sizeof path, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes, FILE_BYTES) == FILE_BYTES);
    close(fd);
}

static void dir_fill(void)
{
    char path[128];

    file_put("f0");
    file_put("f1");
    file_put("f2");
    path_in(path, sizeof path, "sub");
    mkdir(path, 0700);
    path_in(path, sizeof path, ".cistern-mount");
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    snprintf(base, sizeof base, "/dev/shm/fuzz-usrbio-XXXXXX");
    if (!mkdtemp(base))
        abort();
    atexit(tidy);
    return 0;
}

/* Descriptors that are neither an io_uring's nor ours. */
static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    char to[64];
    int n = 0;

    while (d && (e = readdir(d))) {
        ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof to - 1);

        to[len > 0 ? len : 0] = 0;
        n += !strstr(to, "io_uring");
    }
    if (d)
        closedir(d);
    return n;
}

/* A mapping of memory for I/O that nobody has any more. */
static bool mapping_left(void)
{
    static char line[4096];
    FILE *f = fopen("/proc/self/maps", "re");
    bool left = false;

    while (f && !left && fgets(line, sizeof line, f))
        left = strstr(line, "hf3fs-iov-") != NULL;
    if (f)
        fclose(f);
    return left;
}

static int links(void)
{
    char path[128];
    struct dirent *e;
    int n = 0;
    DIR *d;

    path_in(path, sizeof path, "3fs-virt/iovs");
    d = opendir(path);
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* What a destroyed ring had in the kernel ends by itself. */
static bool settled(struct proc *proc)
{
    bool all;

    pthread_mutex_lock(&proc->lock);
    proc_sweep(proc);
    all = proc->iors == NULL && proc->zombies == NULL && proc->dead_count == 0;
    FUZZ_CHECK(proc->ior_count == 0);
    pthread_mutex_unlock(&proc->lock);
    return all;
}

static void begin(struct fuzz_in *in, struct proc *proc)
{
    static const enum backend backends[] = {BACKEND_AUTO, BACKEND_URING, BACKEND_THREADS,
                                            BACKEND_INLINE};
    static const char *const edges[] = {"",        "",     "", "all", "exact", "holes,crossing",
                                        "overlap", "stale"};
    uint8_t how = fuzz_u8(in);
    unsigned i;

    memset(&m, 0, sizeof m);
    linked = mapped = false;
    unsetenv("CISTERN_USRBIO_ROOT");
    proc->wanted = backends[how % ARRAY_LEN(backends)];
    strict_parse(&proc->strict, edges[how / 4 % ARRAY_LEN(edges)]);
    m.strict_exact = proc->strict.exact;
    dir_fill();
    for (i = 0; i < FILES; i++)
        file_open(i);
}

static void end(struct proc *proc, int fds_before)
{
    unsigned i;
    int n;

    for (i = 0; i < IORS; i++)
        ior_drop(i);
    for (i = 0; i < IOVS; i++) {
        if (!m.iovs[i].wrapped)
            iov_drop(i);
        free(m.iovs[i].wrapped);
    }
    strict_parse(&proc->strict, NULL);
    for (n = 0; n < 512; n++) /* numbers that were closed without deregistration too */
        regfd_remove(n);
    for (i = 0; i < FILES; i++)
        close(m.fds[i]);
    for (n = 0; !settled(proc); n++) {
        FUZZ_CHECK(n < 20000);
        usleep(200);
    }
    FUZZ_CHECK(descriptors() == fds_before);
    FUZZ_CHECK(!mapped || !mapping_left());
    FUZZ_CHECK(links() == 0);
    if (linked)
        tidy_dir(base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const calls[])(struct fuzz_in *) = {
        call_prep,      call_prep,       call_prep,       call_prep,      call_wait,
        call_wait,      call_submit,     call_iovcreate,  call_iovopen,   call_iovwrap,
        call_iorcreate, call_iorcreate,  call_reg_fd,     call_reg_fd,    call_dereg_fd,
        call_iovunlink, call_iovdestroy, call_iordestroy, call_sizes,     call_reopen,
        call_is_hf3fs,  call_extract,    call_hardlink,   call_punchhole, call_truncate,
        call_roots,     call_info};
    struct proc *proc = proc_enter();
    struct fuzz_in in = {data, size};
    int fds_before = descriptors(), left = 200;

    begin(&in, proc);
    while (in.left && left--)
        calls[fuzz_u8(&in) % ARRAY_LEN(calls)](&in);
    end(proc, fds_before);
    return 0;
}
