/*
 * regfd.c - registered files: a table from descriptor numbers to entries.
 *
 * Both the caller's number and our duplicate lead to the same entry. Looking up takes no lock:
 * leaves of the table are never freed, entries are recycled, and a reference taken on an entry
 * counts only if the table still names it afterwards. The duplicate stays open until the last I/O
 * that uses it is over.
 *
 * A number that was closed without deregistration and is used again for another file is noticed at
 * its next registration and replaced; strict mode answers EINVAL instead, as the real library does.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LEAF_BITS 10
#define LEAF_SIZE (1u << LEAF_BITS)
#define LEAVES    (1u << 12)
#define FD_LIMIT  (LEAVES * LEAF_SIZE)

struct leaf {
    struct regfd *_Atomic entry[LEAF_SIZE];
};

static struct leaf *_Atomic table[LEAVES];
static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* guards changes of the table, and the free list */
static struct regfd *free_list;

/* Positioned writes through a descriptor with O_APPEND go where they should. */
static int plain_writes(int open_flags)
{
#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20 /* an older kernel answers EOPNOTSUPP */
#endif
    return (open_flags & O_APPEND) != 0 && (open_flags & O_ACCMODE) != O_RDONLY ? RWF_NOAPPEND : 0;
}

/* In a child: the number names what it named in the parent. */
static bool still_names(int fd, const struct regfd *file)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_dev == file->dev &&
           (uint64_t)st.st_ino == file->ino;
}

/* The child's descriptors are of another moment than its memory, and it may have closed some and
 * opened others before it comes here. What is left of the parent's is used; nothing is closed. */
static struct regfd *inherited(struct regfd *file, int number)
{
    if (atomic_load(&file->refs) == 0 || !still_names(file->dup, file) ||
        !still_names(number, file))
        return NULL;
    if (!still_names(file->io_fd, file)) {
        file->io_fd = file->dup;
        file->rw_flags = plain_writes(file->open_flags);
    }
    if (!still_names(atomic_load(&file->buffered_fd), file))
        atomic_store(&file->buffered_fd, -1);
    if (!still_names(atomic_load(&file->seek_fd), file))
        atomic_store(&file->seek_fd, -1);
    return file;
}

void regfd_reset_after_fork(void)
{
    unsigned i, k;

    pthread_mutex_init(&lock, NULL);
    for (i = 0; i < LEAVES; i++) {
        struct leaf *leaf = atomic_load(&table[i]);

        for (k = 0; leaf != NULL && k < LEAF_SIZE; k++) {
            struct regfd *file = atomic_load(&leaf->entry[k]);

            if (file != NULL)
                atomic_store(&leaf->entry[k], inherited(file, (int)(i * LEAF_SIZE + k)));
        }
    }
}

static struct regfd *_Atomic *place_of(int fd, bool make)
{
    struct leaf *leaf;

    if (fd < 0 || (unsigned)fd >= FD_LIMIT)
        return NULL;
    leaf = atomic_load_explicit(&table[(unsigned)fd >> LEAF_BITS], memory_order_acquire);
    if (leaf == NULL && make) {
        leaf = calloc(1, sizeof(*leaf));
        if (leaf != NULL)
            atomic_store_explicit(&table[(unsigned)fd >> LEAF_BITS], leaf, memory_order_release);
    }
    return leaf != NULL ? &leaf->entry[(unsigned)fd & (LEAF_SIZE - 1)] : NULL;
}

static void entry_close(struct regfd *file)
{
    int buffered = atomic_load(&file->buffered_fd), seek = atomic_load(&file->seek_fd);

    if (buffered >= 0)
        close(buffered);
    if (seek >= 0)
        close(seek);
    if (file->io_fd >= 0 && file->io_fd != file->dup)
        close(file->io_fd);
    if (file->dup >= 0)
        close(file->dup);
}

void regfd_put(struct regfd *file)
{
    if (file == NULL || atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
        return;
    entry_close(file);
    pthread_mutex_lock(&lock);
    file->free_next = free_list;
    free_list = file;
    pthread_mutex_unlock(&lock);
}

static struct regfd *_Atomic *place_named(int fd, int *err)
{
    *err = EINVAL;
    if (fd <= -(int)FD_LIMIT || fd >= (int)FD_LIMIT)
        return NULL;
    *err = EBADF;
    return place_of(fd < 0 ? -fd : fd, false);
}

struct regfd *regfd_peek(int fd, int *err)
{
    struct regfd *_Atomic *place = place_named(fd, err);

    return place != NULL ? atomic_load_explicit(place, memory_order_acquire) : NULL;
}

/* The entry of a descriptor, of its duplicate or of minus its duplicate. NULL: *err says why. */
struct regfd *regfd_get(int fd, int *err)
{
    struct regfd *_Atomic *place = place_named(fd, err);

    while (place != NULL) {
        struct regfd *file = atomic_load_explicit(place, memory_order_acquire);
        unsigned refs;

        if (file == NULL)
            break;
        refs = atomic_load_explicit(&file->refs, memory_order_relaxed);
        while (refs > 0 &&
               !atomic_compare_exchange_weak_explicit(&file->refs, &refs, refs + 1,
                                                      memory_order_acquire, memory_order_relaxed))
            ;
        if (refs == 0)
            continue; /* being taken out of the table */
        if (atomic_load_explicit(place, memory_order_acquire) == file)
            return file;
        regfd_put(file);
    }
    return NULL;
}

static int reopen(int fd, int flags)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_APPEND)) | O_CLOEXEC);
}

/* Opens at most one descriptor into `place`. */
static int open_once(struct regfd *file, _Atomic int *place, int flags)
{
    int fd = atomic_load_explicit(place, memory_order_acquire);
    int none = -1;

    if (fd >= 0)
        return fd;
    fd = reopen(file->dup, flags);
    if (fd < 0)
        return -1;
    if (atomic_compare_exchange_strong(place, &none, fd))
        return fd;
    close(fd);
    return none;
}

/* The descriptor for I/O that O_DIRECT refuses. Falls back to the one that will say EINVAL. */
int regfd_buffered(struct regfd *file)
{
    int fd = open_once(file, &file->buffered_fd, file->open_flags & ~O_DIRECT);

    return fd >= 0 ? fd : file->io_fd;
}

int regfd_seek(struct regfd *file)
{
    return file->regular ? open_once(file, &file->seek_fd, O_RDONLY) : -1;
}

static bool fs_in_memory(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return false;
    return fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
}

/* What O_DIRECT asks of offsets, lengths and memory. 1: the file system does not say; then the call
 * itself will, with EINVAL. */
static unsigned direct_align(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx sx;
    unsigned align;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
        (sx.stx_mask & STATX_DIOALIGN) != 0) {
        align = sx.stx_dio_mem_align > sx.stx_dio_offset_align ? sx.stx_dio_mem_align
                                                               : sx.stx_dio_offset_align;
        if (align > 1 && (align & (align - 1)) == 0)
            return align;
    }
#endif
    (void)fd;
    return 1;
}

static struct regfd *entry_new(void)
{
    struct regfd *file;

    pthread_mutex_lock(&lock);
    file = free_list;
    if (file != NULL)
        free_list = file->free_next;
    pthread_mutex_unlock(&lock);
    return file != NULL ? file : calloc(1, sizeof(*file));
}

static int entry_fill(struct regfd *file, int fd, int dup, int flags)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return errno;
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    file->orig = fd;
    file->dup = file->io_fd = dup;
    atomic_store(&file->buffered_fd, -1);
    atomic_store(&file->seek_fd, -1);
    file->access = flags & O_ACCMODE;
    file->open_flags = flags;
    file->rw_flags = 0;
    file->align = (flags & O_DIRECT) != 0 ? direct_align(fd) : 0;
    atomic_store(&file->size_seen, (uint64_t)st.st_size);
    file->in_memory = fs_in_memory(fd);
    file->regular = S_ISREG(st.st_mode);
    if ((flags & O_APPEND) != 0 && file->access != O_RDONLY) {
        int plain = reopen(dup, flags);

        if (plain >= 0)
            file->io_fd = plain;
        else
            file->rw_flags = plain_writes(flags);
    }
    return 0;
}

/* The same open file? kcmp may be forbidden; then the numbers are taken to name different ones. */
static bool same_file(int a, int b)
{
    return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

/* Takes the entry out of the table; lock held. The caller drops the table's reference. */
static void entry_unlink(struct regfd *file)
{
    int numbers[] = {file->orig, file->dup};

    for (int i = 0; i < 2; i++) {
        struct regfd *_Atomic *place = place_of(numbers[i], false);

        if (place != NULL && atomic_load(place) == file)
            atomic_store_explicit(place, NULL, memory_order_release);
    }
}

/* Puts the entry under both numbers. A stale entry found there is returned, to be dropped without
 * the lock. */
static int entry_publish(struct regfd *file, struct regfd *stale[2])
{
    const struct strict *strict = &the_proc.strict;
    struct regfd *_Atomic *places[] = {place_of(file->orig, true), place_of(file->dup, true)};

    if (places[0] == NULL || places[1] == NULL)
        return EMFILE;
    for (int i = 0; i < 2; i++) {
        struct regfd *old = atomic_load(places[i]);

        if (old == NULL)
            continue;
        if (strict->stale || (i == 0 && same_file(old->dup, file->dup)))
            return EINVAL;
        entry_unlink(old);
        stale[i] = old;
    }
    atomic_store_explicit(&file->refs, 1, memory_order_relaxed);
    atomic_store_explicit(places[0], file, memory_order_release);
    atomic_store_explicit(places[1], file, memory_order_release);
    return 0;
}

int regfd_add(int fd)
{
    struct regfd *file, *stale[2] = {NULL, NULL};
    int flags = fcntl(fd, F_GETFL);
    int dup, rc;

    if (flags < 0 || fd < 0 || (unsigned)fd >= FD_LIMIT)
        return EBADF;
    dup = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (dup < 0)
        return errno;
    file = entry_new();
    if (file == NULL) {
        close(dup);
        return ENOMEM;
    }
    rc = entry_fill(file, fd, dup, flags);
    if (rc == 0) {
        pthread_mutex_lock(&lock);
        rc = entry_publish(file, stale);
        pthread_mutex_unlock(&lock);
    } else {
        file->dup = file->io_fd = dup;
        atomic_store(&file->buffered_fd, -1);
        atomic_store(&file->seek_fd, -1);
    }
    for (int i = 0; i < 2; i++)
        regfd_put(stale[i]);
    if (rc != 0) {
        atomic_store(&file->refs, 1);
        regfd_put(file);
        return rc;
    }
    return -dup;
}

void regfd_remove(int fd)
{
    struct regfd *_Atomic *place = place_of(fd, false);
    struct regfd *file;

    if (place == NULL)
        return;
    if (the_proc.strict.stale && fcntl(fd, F_GETFD) < 0)
        return;
    pthread_mutex_lock(&lock);
    file = atomic_load(place);
    if (file != NULL)
        entry_unlink(file);
    pthread_mutex_unlock(&lock);
    regfd_put(file);
}
