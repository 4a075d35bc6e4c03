/*
 * fake_dir.c - see fake_dir.h. Only the last component of a path counts. One thread.
 */
#include "fake_dir.h"

#include <errno.h>
#include <sanitizer/asan_interface.h>

static struct fake_dir *dir_of(struct io *io)
{
    return io->private_data;
}

static bool fires(int *counter)
{
    return *counter >= 0 && (*counter)-- == 0;
}

struct fake_file *fake_dir_find(struct fake_dir *d, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int i;

    for (i = 0; *name && i < d->count; i++) {
        if (strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    }
    return NULL;
}

struct fake_file *fake_dir_add(struct fake_dir *d, const char *name, uint8_t *bytes, size_t len)
{
    struct fake_file *f = d->count < FAKE_FILES && strlen(name) < sizeof f->name ? d->files : NULL;

    if (!f || fake_dir_find(d, name)) {
        free(bytes);
        return NULL;
    }
    f = &d->files[d->count++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->bytes = bytes;
    f->len = f->seen = len;
    return f;
}

void fake_dir_no_faults(struct fake_dir *d)
{
    d->faults = (struct fake_faults){-1, -1, -1, SIZE_MAX};
}

void fake_dir_clear(struct fake_dir *d)
{
    int i;

    FUZZ_CHECK(d->open == 0 && d->nreads == 0);
    for (i = 0; i < d->count; i++)
        free(d->files[i].bytes);
    d->count = d->writes = 0;
    fake_dir_no_faults(d);
}

/* ---- Memory and rings ---- */

/* The last one is kept for the next input: making it anew costs more than most inputs. */
static struct io_mem spare;

static int mem_create(struct io *io, struct io_mem *m, size_t size, size_t block_size)
{
    (void)io;
    (void)block_size;
    if (spare.size == size) {
        *m = spare;
        spare = (struct io_mem){0};
        return 0;
    }
    m->base = aligned_alloc(4096, size);
    m->size = size;
    return m->base ? 0 : -ENOMEM;
}

static void mem_destroy(struct io *io, struct io_mem *m)
{
    (void)io;
    ASAN_UNPOISON_MEMORY_REGION(m->base, m->size);
    free(spare.base);
    spare = *m;
    *m = (struct io_mem){0};
}

static int ring_create(struct io *io, struct io_ring *r, int entries, bool for_read)
{
    (void)io;
    *r = (struct io_ring){.entries = entries, .for_read = for_read};
    return 0;
}

static void ring_destroy(struct io *io, struct io_ring *r)
{
    (void)io;
    (void)r;
}

static int prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr,
                struct io_file *f, uint64_t offset, uint64_t len, void *userdata)
{
    struct fake_dir *d = dir_of(io);
    uint8_t *to = ptr;

    FUZZ_CHECK(f->fd >= 0 && f->fd < d->count && len > 0);
    FUZZ_CHECK(to >= m->base && len <= m->size && to - m->base <= (ptrdiff_t)(m->size - len));
    if (d->nreads == FAKE_READS || d->nreads == r->entries)
        return -EAGAIN;
    ASAN_UNPOISON_MEMORY_REGION(to, len);
    d->reads[d->nreads++] = (struct fake_read){to, offset, len, f->fd, !r->for_read, userdata};
    return 0;
}

static int submit(struct io *io, struct io_ring *r)
{
    (void)io;
    (void)r;
    return 0;
}

static int64_t read_now(struct fake_dir *d, const struct fake_read *r)
{
    const struct fake_file *f = &d->files[r->file];
    size_t n = r->offset < f->seen ? f->seen - (size_t)r->offset : 0;

    if (fires(&d->faults.read_fails))
        return -EIO;
    n = n < r->len ? n : (size_t)r->len;
    n = n < d->faults.read_most ? n : d->faults.read_most;
    if (n)
        memcpy(r->to, f->bytes + r->offset, n);
    ASAN_POISON_MEMORY_REGION(r->to + n, r->len - n);
    return (int64_t)n;
}

static int64_t write_now(struct fake_dir *d, const struct fake_read *r)
{
    struct fake_file *f = &d->files[r->file];
    size_t end = (size_t)(r->offset + r->len);

    if (fires(&d->faults.read_fails))
        return -EIO;
    if (end > f->len) {
        f->bytes = realloc(f->bytes, end);
        memset(f->bytes + f->len, 0, end - f->len);
        f->len = f->seen = end;
    }
    memcpy(f->bytes + r->offset, r->to, r->len);
    return (int64_t)r->len;
}

static int wait(struct io *io, struct io_ring *ring, struct io_done *done, int max, int min,
                uint64_t timeout_ns)
{
    struct fake_dir *d = dir_of(io);
    int n = 0;

    (void)ring;
    if (min > 0 && timeout_ns == 0)
        return 0; /* no time was given */
    if (min > 0 && fires(&d->faults.wait_fails))
        return -EIO;
    while (n < max && d->nreads > 0) { /* the last one first: order is not promised */
        const struct fake_read *r = &d->reads[--d->nreads];

        done[n++] = (struct io_done){r->userdata, r->write ? write_now(d, r) : read_now(d, r)};
    }
    return n;
}

/* ---- Files ---- */

static int file_open(struct io *io, const char *path, unsigned mode, struct io_file *f)
{
    struct fake_dir *d = dir_of(io);
    struct fake_file *found = fake_dir_find(d, path);

    if (fires(&d->faults.open_fails))
        return -EMFILE;
    if (found && (mode & IO_CREATE))
        return -EEXIST;
    if (!found && (mode & IO_CREATE))
        found = fake_dir_add(d, strrchr(path, '/') ? strrchr(path, '/') + 1 : path, NULL, 0);
    if (!found)
        return mode & IO_CREATE ? -ENOSPC : -ENOENT;
    f->fd = (int)(found - d->files);
    d->open++;
    return 0;
}

static void file_close(struct io *io, struct io_file *f)
{
    FUZZ_CHECK(f->fd >= 0);
    f->fd = -1;
    dir_of(io)->open--;
}

static int file_sync(struct io *io, struct io_file *f)
{
    FUZZ_CHECK(f->fd >= 0);
    return fires(&dir_of(io)->faults.open_fails) ? -EIO : 0;
}

static int stat_file(struct io *io, const char *path, struct io_stat *out)
{
    const struct fake_file *f = fake_dir_find(dir_of(io), path);

    if (!f)
        return -ENOENT;
    *out = (struct io_stat){.size = f->len, .disk_bytes = f->len};
    return 0;
}

static int unlink_file(struct io *io, const char *path)
{
    struct fake_file *f = fake_dir_find(dir_of(io), path);

    if (!f)
        return -ENOENT;
    f->name[0] = 0;
    return 0;
}

static void close_io(struct io *io)
{
    (void)io;
}

static int make_dir(struct io *io, const char *path)
{
    (void)path;
    dir_of(io)->writes++;
    return 0;
}

static int list(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                void *arg)
{
    struct fake_dir *d = dir_of(io);
    int i, rc = fires(&d->faults.open_fails) ? -EACCES : 0;

    (void)path;
    for (i = 0; rc == 0 && i < d->count; i++)
        rc = !d->files[i].name[0] ? 0 : visit(arg, d->files[i].name);
    return rc;
}

static int sync_dir(struct io *io, const char *path)
{
    (void)io;
    (void)path;
    return 0;
}

static int64_t small_read(struct io *io, const char *path, void *buf, size_t size)
{
    struct fake_dir *d = dir_of(io);
    const struct fake_file *f = fake_dir_find(d, path);

    if (fires(&d->faults.read_fails))
        return -EIO;
    if (!f)
        return -ENOENT;
    if (f->len)
        memcpy(buf, f->bytes, f->len < size ? f->len : size);
    return f->len <= size ? (int64_t)f->len : -EFBIG;
}

static int small_write(struct io *io, const char *path, const void *data, size_t len,
                       bool exclusive)
{
    struct fake_dir *d = dir_of(io);
    struct fake_file *f = fake_dir_find(d, path);
    const char *slash = strrchr(path, '/');

    if (fires(&d->faults.wait_fails))
        return -ENOSPC;
    d->writes++;
    if (f && exclusive)
        return -EEXIST;
    if (!f)
        return fake_dir_add(d, slash ? slash + 1 : path, fuzz_copy(data, len), len) ? 0 : -ENOSPC;
    free(f->bytes);
    f->bytes = fuzz_copy(data, len);
    f->len = f->seen = len;
    return 0;
}

void fake_dir_init(struct fake_dir *d)
{
    /* "local": what is read is at hand, and no threads are started to open it. */
    static const struct io_ops ops = {.name = "local",
                                      .mem_create = mem_create,
                                      .mem_destroy = mem_destroy,
                                      .ring_create = ring_create,
                                      .ring_destroy = ring_destroy,
                                      .prep = prep,
                                      .submit = submit,
                                      .wait = wait,
                                      .file_open = file_open,
                                      .file_close = file_close,
                                      .file_sync = file_sync,
                                      .stat = stat_file,
                                      .unlink = unlink_file,
                                      .remove_dir = sync_dir,
                                      .close = close_io,
                                      .make_dir = make_dir,
                                      .list = list,
                                      .sync_dir = sync_dir,
                                      .small_read = small_read,
                                      .small_write = small_write};

    *d = (struct fake_dir){.io = {.ops = &ops, .mount = "/mount"}};
    d->io.private_data = d;
    fake_dir_no_faults(d);
}
