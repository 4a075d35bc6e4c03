/*
 * sim_verbs.c - the row of operations of the simulated file system: file verbs here, rings in
 * sim_ring.c. Each verb counts its call site, may hang with its host, and may meet its fault.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CALLER __builtin_return_address(0)

static struct sim_proc *proc_of(struct io *io)
{
    return io->private_data;
}

static const char *relative(const char *path, char out[SIM_PATH])
{
    size_t n;

    while (*path == '/')
        path++;
    (void)snprintf(out, SIM_PATH, "%s", path);
    for (n = strlen(out); n && out[n - 1] == '/';)
        out[--n] = 0;
    return out;
}

/* Enters a verb and lets its fault hit. The lock is held after it. */
static int enter(struct io *io, enum sim_verb verb, enum sim_class class, enum sim_fault kind,
                 const void *caller)
{
    struct sim_proc *p = proc_of(io);
    int rc = sim_enter(p, verb, NULL, true);
    struct sim_site *site = sim_site_of(caller, verb);
    static const int errors[] = {-EIO, -EIO, -ENOMEM, -EMFILE, -ENOSPC};
    uint64_t dice;

    site->calls++;
    if (rc || !sim_fires(p, verb, class, site, kind, &dice))
        return rc;
    switch (kind) {
    case SIM_OPEN_ERROR:
        return errors[dice % 4];
    case SIM_ALLOC_ERROR:
        return dice % 2 ? -ENOSPC : errors[dice % 3];
    case SIM_SYNC_ERROR:
        return dice % 4 ? -EIO : -ENOSPC;
    case SIM_VERB_ERROR:
        return errors[dice % 3];
    default:
        return -EIO;
    }
}

static int leave(struct io *io, int rc)
{
    sim_leave(proc_of(io));
    return rc;
}

/* ---- Open files ---- */

static struct sim_file *file_of(struct io *io, const struct io_file *f)
{
    struct sim_proc *p = proc_of(io);

    return f->fd >= 0 && f->fd < (int)SIM_FILES && p->fs->files[f->fd].inode &&
                   p->fs->files[f->fd].proc == p
               ? &p->fs->files[f->fd]
               : NULL;
}

static int find_or_make(struct sim_proc *p, const char *path, unsigned mode, struct sim_inode **out)
{
    struct sim_name *n;

    if (!(mode & IO_CREATE)) {
        *out = sim_lookup(p, path);
        if (!*out)
            return -ENOENT;
        return (*out)->is_dir ? -EISDIR : 0;
    }
    n = sim_name_find(p->fs, path);
    if (n && n->now)
        return -EEXIST;
    if (!sim_parent_there(p->fs, path))
        return -ENOENT;
    if (p->fs->o.capacity_bytes && sim_used(p->fs) + PAGE_BYTES > p->fs->o.capacity_bytes) {
        sim_count(p->fs, NULL, SIM_ENOSPC);
        return -ENOSPC;
    }
    *out = sim_inode_new(p->fs, path, false);
    if (!*out)
        return -ENOMEM;
    (*out)->writer_host = p->host;
    sim_name_set(p, path, *out, false);
    return 0;
}

static int file_open(struct io *io, const char *where, unsigned mode, struct io_file *f)
{
    struct sim_proc *p = proc_of(io);
    struct sim_inode *ino = NULL;
    char path[SIM_PATH];
    int rc, fd;

    (void)relative(where, path);
    rc = enter(io, VERB_FILE_OPEN, sim_class_of(path), SIM_OPEN_ERROR, CALLER);
    for (fd = 0; !rc && p->fs->files[fd].inode; fd++)
        rc = fd == (int)SIM_FILES - 1 ? -EMFILE : 0;
    if (!rc)
        rc = find_or_make(p, path, mode, &ino);
    if (!rc) {
        p->fs->files[fd] = (struct sim_file){.inode = ino,
                                             .proc = p,
                                             .epoch = p->fs->hosts[p->host].epoch,
                                             .writable = (mode & IO_WRITE) != 0};
        ino->opens++;
        f->fd = fd;
        f->registered = true;
    }
    return leave(io, rc);
}

static void file_close(struct io *io, struct io_file *f)
{
    struct sim_file *file;
    int rc = sim_enter(proc_of(io), VERB_FILE_CLOSE, NULL, true);

    (void)rc;
    sim_site_of(CALLER, VERB_FILE_CLOSE)->calls++;
    file = file_of(io, f);
    if (file && !file->abandoned) {
        file->inode->opens--;
        sim_inode_tell(proc_of(io)->fs, file->inode);
    }
    if (file)
        *file = (struct sim_file){0};
    else if (f->fd >= 0)
        sim_violate(proc_of(io)->fs, "%s: a file is closed that is not open", proc_of(io)->name);
    sim_reclaim(proc_of(io)->fs);
    f->fd = -1;
    f->registered = false;
    (void)leave(io, 0);
}

/* Verbs on an open file. */
static int enter_file(struct io *io, const struct io_file *f, enum sim_verb verb,
                      enum sim_fault kind, const void *caller, struct sim_file **out)
{
    struct sim_proc *p = proc_of(io);
    enum sim_class class = CLASS_OTHER;
    int rc;

    (void)pthread_mutex_lock(&p->fs->lock);
    *out = file_of(io, f);
    if (*out)
        class = sim_class_of((*out)->inode->path);
    (void)pthread_mutex_unlock(&p->fs->lock);
    rc = enter(io, verb, class, kind, caller);
    if (!rc && !*out)
        rc = -EBADF;
    if (!rc && (*out)->epoch != p->fs->hosts[p->host].epoch)
        rc = -ENOTCONN;
    return rc;
}

static int file_sync(struct io *io, struct io_file *f)
{
    struct sim_file *file;
    int rc = enter_file(io, f, VERB_FILE_SYNC, SIM_SYNC_ERROR, CALLER, &file);

    if (!rc)
        sim_inode_sync(proc_of(io)->fs, file->inode);
    else if (file && !proc_of(io)->dead)
        sim_inode_sync_failed(file->inode);
    return leave(io, rc);
}

static int file_truncate(struct io *io, struct io_file *f, uint64_t size)
{
    struct sim_file *file;
    int rc = enter_file(io, f, VERB_FILE_TRUNCATE, SIM_VERB_ERROR, CALLER, &file);

    if (!rc)
        sim_truncate(proc_of(io)->fs, file->inode, size);
    return leave(io, rc);
}

static int file_allocate(struct io *io, struct io_file *f, uint64_t from, uint64_t len)
{
    struct sim_file *file;
    int rc = enter_file(io, f, VERB_FILE_ALLOCATE, SIM_ALLOC_ERROR, CALLER, &file);

    if (!rc && proc_of(io)->fs->o.manners.no_allocate)
        rc = -EOPNOTSUPP;
    if (!rc)
        rc = sim_reserve(proc_of(io)->fs, file->inode, from, len);
    return leave(io, rc);
}

/* ---- Names ---- */

static int make_dir(struct io *io, const char *where)
{
    struct sim_proc *p = proc_of(io);
    struct sim_name *n;
    struct sim_inode *ino;
    char path[SIM_PATH];
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_MAKE_DIR, CLASS_OTHER, SIM_VERB_ERROR, CALLER);
    n = sim_name_find(p->fs, path);
    if (rc || !path[0])
        return leave(io, rc);
    if (n && n->now)
        return leave(io, n->now->is_dir ? 0 : -ENOTDIR);
    if (!sim_parent_there(p->fs, path))
        return leave(io, -ENOENT);
    ino = sim_inode_new(p->fs, path, true);
    if (ino)
        sim_name_set(p, path, ino, false);
    return leave(io, ino ? 0 : -ENOMEM);
}

/* The callback runs without the lock: it may call the table. */
static int list(struct io *io, const char *where, int (*visit)(void *arg, const char *name),
                void *arg)
{
    struct sim_proc *p = proc_of(io);
    char path[SIM_PATH], *names = NULL;
    size_t dir, n = 0;
    uint32_t i;
    int rc;

    (void)relative(where, path);
    dir = strlen(path);
    rc = enter(io, VERB_LIST, CLASS_OTHER, SIM_VERB_ERROR, CALLER);
    if (!rc && dir) {
        struct sim_name *d = sim_name_find(p->fs, path);

        rc = !d || !d->now ? -ENOENT : d->now->is_dir ? 0 : -ENOTDIR;
    }
    if (!rc)
        names = calloc(p->fs->nnames + 1, SIM_PATH);
    for (i = 0; names && i < p->fs->nnames; i++) {
        const struct sim_name *s = &p->fs->names[i];
        const char *rest = s->path + dir + (dir != 0);

        if (s->now && strncmp(s->path, path, dir) == 0 && (!dir || s->path[dir] == '/') && *rest &&
            !strchr(rest, '/'))
            (void)snprintf(names + SIM_PATH * n++, SIM_PATH, "%s", rest);
    }
    (void)leave(io, 0);
    for (i = 0; !rc && i < n; i++)
        rc = visit(arg, names + (size_t)SIM_PATH * i);
    free(names);
    return rc;
}

static int stat_path(struct io *io, const char *where, struct io_stat *out)
{
    struct sim_proc *p = proc_of(io);
    struct sim_inode *ino = NULL;
    char path[SIM_PATH];
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_STAT, sim_class_of(path), SIM_VERB_ERROR, CALLER);
    if (!rc && !(ino = sim_lookup(p, path)))
        rc = -ENOENT;
    if (!rc)
        *out = (struct io_stat){.size = sim_size_seen(p, path, ino),
                                .disk_bytes = sim_inode_used(p->fs, ino),
                                .mtime_s = sim_virtual(p->fs) / SIM_S,
                                .mode = ino->is_dir ? 0700 : 0600,
                                .is_dir = ino->is_dir};
    return leave(io, rc);
}

static int unlink_path(struct io *io, const char *where)
{
    struct sim_proc *p = proc_of(io);
    struct sim_name *n;
    char path[SIM_PATH];
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_UNLINK, sim_class_of(path), SIM_UNLINK_ERROR, CALLER);
    n = sim_name_find(p->fs, path);
    if (!rc && (!n || !n->now)) {
        sim_cache_drop(p, path);
        rc = -ENOENT;
    }
    if (!rc && n->now->is_dir)
        rc = -EISDIR;
    if (!rc && p->fs->audit.unlink) {
        p->fs->auditing = pthread_self();
        p->fs->in_audit = true;
        p->fs->audit.unlink(p->fs->audit.arg, path);
        p->fs->in_audit = false;
    }
    if (!rc)
        sim_name_set(p, path, NULL, false);
    return leave(io, rc);
}

static int remove_dir(struct io *io, const char *where)
{
    struct sim_proc *p = proc_of(io);
    struct sim_name *n;
    char path[SIM_PATH];
    uint32_t i;
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_REMOVE_DIR, CLASS_OTHER, SIM_UNLINK_ERROR, CALLER);
    n = sim_name_find(p->fs, path);
    if (!rc && (!n || !n->now))
        rc = -ENOENT;
    if (!rc && !n->now->is_dir)
        rc = -ENOTDIR;
    for (i = 0; !rc && i < p->fs->nnames; i++) {
        const char *s = p->fs->names[i].path;

        if (p->fs->names[i].now && strncmp(s, path, strlen(path)) == 0 && s[strlen(path)] == '/')
            rc = -ENOTEMPTY;
    }
    if (!rc)
        sim_name_set(p, path, NULL, false);
    return leave(io, rc);
}

static int sync_dir(struct io *io, const char *where)
{
    char path[SIM_PATH];
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_SYNC_DIR, CLASS_OTHER, SIM_SYNC_ERROR, CALLER);
    if (!rc)
        sim_names_sync(proc_of(io)->fs, path);
    return leave(io, rc);
}

static int space(struct io *io, struct io_space *out)
{
    struct simfs *fs = proc_of(io)->fs;
    int rc = enter(io, VERB_SPACE, CLASS_OTHER, SIM_VERB_ERROR, CALLER);
    uint64_t used = sim_used(fs);

    if (!rc) {
        out->total_bytes = fs->o.capacity_bytes ? fs->o.capacity_bytes : 1ull << 50;
        out->free_bytes = out->total_bytes - min_u64(out->total_bytes, used);
    }
    return leave(io, rc);
}

/* ---- Small files ---- */

static int64_t small_read(struct io *io, const char *where, void *buf, size_t size)
{
    struct sim_proc *p = proc_of(io);
    struct sim_inode *ino = NULL;
    char path[SIM_PATH];
    int64_t n = 0;
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_SMALL_READ, sim_class_of(path), SIM_VERB_ERROR, CALLER);
    if (!rc && !(ino = sim_lookup(p, path)))
        rc = -ENOENT;
    if (!rc && ino->is_dir)
        rc = -EISDIR;
    if (!rc)
        n = sim_bytes_read(p->fs, ino, 0, buf, size);
    if (!rc && ino->length > size)
        rc = -EFBIG;
    sim_leave(p);
    return rc ? rc : n;
}

/* Durable when it returns 0, as that of the other rows: they sync file and directory. */
static int small_write(struct io *io, const char *where, const void *data, size_t len,
                       bool exclusive)
{
    struct sim_proc *p = proc_of(io);
    struct sim_inode *ino = NULL;
    struct sim_name *n;
    char path[SIM_PATH];
    int rc;

    (void)relative(where, path);
    rc = enter(io, VERB_SMALL_WRITE, sim_class_of(path), SIM_VERB_ERROR, CALLER);
    n = sim_name_find(p->fs, path);
    if (!rc && exclusive && n && n->now)
        rc = -EEXIST;
    if (!rc && !sim_parent_there(p->fs, path))
        rc = -ENOENT;
    if (!rc && !(ino = sim_inode_new(p->fs, path, false)))
        rc = -ENOMEM;
    if (!rc)
        rc = sim_bytes_write(p->fs, ino, p->host, 0, data, len);
    if (!rc) {
        sim_inode_sync(p->fs, ino);
        sim_name_set(p, path, ino, true);
    } else if (ino) {
        sim_truncate(p->fs, ino, 0);
        ino->reclaimed = true;
    }
    return leave(io, rc);
}

static void close_io(struct io *io)
{
    struct sim_proc *p = proc_of(io);
    uint32_t i;

    (void)pthread_mutex_lock(&p->fs->lock);
    for (i = 0; i < SIM_FILES; i++) {
        if (p->fs->files[i].inode && p->fs->files[i].proc == p && !p->dead)
            sim_violate(p->fs, "%s: the mount is closed while %s is open", p->name,
                        p->fs->files[i].inode->path);
    }
    p->closed = true;
    (void)pthread_mutex_unlock(&p->fs->lock);
}

#define ROW(row_name)                                                                              \
    {                                                                                              \
        .name = row_name, .mem_create = sim_mem_create, .mem_wrap = sim_mem_wrap,                  \
        .mem_destroy = sim_mem_destroy, .ring_create = sim_ring_create,                            \
        .ring_destroy = sim_ring_destroy, .prep = sim_prep, .submit = sim_submit,                  \
        .wait = sim_wait, .file_open = file_open, .file_close = file_close,                        \
        .file_sync = file_sync, .file_truncate = file_truncate, .file_allocate = file_allocate,    \
        .make_dir = make_dir, .list = list, .stat = stat_path, .unlink = unlink_path,              \
        .sync_dir = sync_dir, .space = space, .small_read = small_read,                            \
        .small_write = small_write, .close = close_io, .remove_dir = remove_dir,                   \
    }

const struct io_ops sim_ops_hf3fs = ROW("hf3fs");
const struct io_ops sim_ops_local = ROW("local");
