/*
 * iov.c - memory for I/O: objects in /dev/shm with a link in the mount's directory, memory of other
 * processes found through such links, and memory of the caller.
 *
 * I/O needs only base and size. Names and links exist for the sake of other processes and of
 * programs that look at them. Destroying memory on which I/O still runs keeps the mapping until
 * that I/O is over.
 */
#include "usrbio/iov.h"
#include "usrbio/mount.h"
#include "usrbio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHM_DIR "/dev/shm/"

/* Behind hf3fs_iov.iovh. Owned by the structure that points to it. */
struct iov {
    uint64_t generation; /* of the process that made it: only that one removes names */
    bool creator;
    uint8_t *base;
    size_t size;
    int first_unit; /* of fixed buffers; -1: none */
    char shm[64];   /* path in /dev/shm; "" once unlinked */
    char *link;     /* NULL: none */
};

static int uuid_new(uint8_t id[16])
{
    if (getrandom(id, 16, 0) != 16)
        return -EIO;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return 0;
}

static void uuid_text(const uint8_t id[16], char text[37])
{
    static const char hex[] = "0123456789abcdef";
    char *p = text;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[id[i] >> 4];
        *p++ = hex[id[i] & 15];
    }
    *p = '\0';
}

static char *link_path(const char *dir, const uint8_t id[16], size_t block_size)
{
    char uuid[37], *path = NULL;
    int n;

    uuid_text(id, uuid);
    if (block_size > 0)
        n = asprintf(&path, "%s/%s.b%zu", dir, uuid, block_size);
    else
        n = asprintf(&path, "%s/%s", dir, uuid);
    return n < 0 ? NULL : path;
}

/*
 * The name of the link says how memory is cut into blocks, not what was passed to hf3fs_iovwrap:
 * some clients make a link without a block size and wrap the memory with the size of one transfer.
 */
bool iov_is_one_block(const struct hf3fs_iov *iov)
{
    char dir[PATH_MAX], *link;
    struct stat st;
    bool yes;

    if (iov->iovh != NULL || mount_iovs_dir(iov->mount_point, dir, sizeof(dir)) != 0)
        return false;
    link = link_path(dir, (const uint8_t *)iov->id, 0);
    yes = link != NULL && lstat(link, &st) == 0;
    free(link);
    return yes;
}

/* Best effort, before the first touch. */
static void bind_numa(void *base, size_t size, int numa)
{
    unsigned long mask[16] = {0};

    if (numa < 0 || (size_t)numa >= sizeof(mask) * 8)
        return;
    mask[numa / 64] = 1ul << (numa % 64);
    (void)syscall(SYS_mbind, base, size, 1 /* MPOL_PREFERRED */, mask, sizeof(mask) * 8, 0);
}

void iov_fill(struct hf3fs_iov *iov, void *base, const uint8_t id[16], const char *mp, size_t size,
              size_t block_size, int numa)
{
    iov->base = base;
    iov->iovh = NULL;
    memcpy(iov->id, id, sizeof(iov->id));
    memset(iov->mount_point, 0, sizeof(iov->mount_point));
    memcpy(iov->mount_point, mp, strlen(mp));
    iov->size = size;
    iov->block_size = block_size;
    iov->numa = numa;
    bind_numa(base, size, numa);
}

static int shm_new(char *path, size_t path_size, size_t size, void **base)
{
    uint8_t id[16];
    char uuid[37];
    int fd, rc = 0;

    rc = uuid_new(id);
    if (rc != 0)
        return rc;
    uuid_text(id, uuid);
    snprintf(path, path_size, SHM_DIR "hf3fs-iov-%s", uuid);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return -EIO;
    *base = MAP_FAILED;
    if (size <= (size_t)INT64_MAX && ftruncate(fd, (off_t)size) == 0)
        *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (*base != MAP_FAILED)
        return 0;
    unlink(path);
    return -EIO;
}

int iov_create(struct hf3fs_iov *iov, const char *mp, size_t size, size_t block_size, int numa)
{
    struct proc *proc = proc_enter();
    char dir[PATH_MAX];
    struct iov *own;
    uint8_t id[16];
    void *base = MAP_FAILED;
    int rc, place;

    place = mount_iovs_dir(mp, dir, sizeof(dir));
    if (place < 0)
        return place;
    own = calloc(1, sizeof(*own));
    if (own == NULL)
        return -ENOMEM;
    rc = uuid_new(id);
    if (rc == 0)
        rc = shm_new(own->shm, sizeof(own->shm), size, &base);
    if (rc != 0)
        goto out;
    if (place != MOUNT_READ_ONLY) {
        own->link = link_path(dir, id, block_size);
        rc = own->link == NULL                                     ? -ENOMEM
             : symlink(own->shm, own->link) == 0 || errno == EROFS ? 0
                                                                   : -errno;
    }
    if (rc != 0)
        goto out;
    own->creator = true;
    own->base = base;
    own->size = size;
    own->first_unit = -1;
    own->generation = proc_generation();
    iov_fill(iov, base, id, mp, size, block_size, numa);
    iov->iovh = own;
    pthread_mutex_lock(&proc->lock);
    own->first_unit = fixed_assign(proc, base, size);
    proc_sweep(proc);
    pthread_mutex_unlock(&proc->lock);
    return 0;
out:
    if (base != MAP_FAILED) {
        munmap(base, size);
        unlink(own->shm);
    }
    free(own->link);
    free(own);
    return rc;
}

/* The object that a link of this user leads to. */
static int link_resolve(const char *link, char *target)
{
    struct stat st;

    if (lstat(link, &st) != 0)
        return -errno;
    if (st.st_uid != geteuid())
        return -EPERM;
    if (realpath(link, target) == NULL)
        return -errno;
    return strncmp(target, SHM_DIR, sizeof(SHM_DIR) - 1) == 0 ? 0 : -EINVAL;
}

int iov_open(struct hf3fs_iov *iov, const uint8_t id[16], const char *mp, size_t size,
             size_t block_size, int numa)
{
    char dir[PATH_MAX], target[PATH_MAX];
    struct iov *own;
    void *base;
    char *link;
    int rc, fd;

    proc_enter();
    rc = mount_iovs_dir(mp, dir, sizeof(dir));
    if (rc != 0)
        return rc < 0 ? rc : -ENOENT;
    link = link_path(dir, id, block_size);
    if (link == NULL)
        return -ENOMEM;
    rc = link_resolve(link, target);
    free(link);
    if (rc != 0)
        return rc;
    fd = open(target, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -EIO;
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (base == MAP_FAILED)
        return -EIO;
    own = calloc(1, sizeof(*own));
    if (own == NULL) {
        munmap(base, size);
        return -ENOMEM;
    }
    own->generation = proc_generation();
    own->first_unit = -1;
    iov_fill(iov, base, id, mp, size, block_size, -1);
    iov->numa = numa;
    iov->iovh = own;
    return 0;
}

int iov_unit(const struct hf3fs_iov *iov, const uint8_t *ptr, uint64_t len)
{
    const struct iov *own = iov->iovh;

    if (own == NULL || own->first_unit < 0 || own->generation != proc_generation())
        return -1;
    if (ptr < own->base || ptr + len > own->base + own->size)
        return -1; /* the caller changed its structure */
    return fixed_unit_of(own->first_unit, (size_t)(ptr - own->base), len);
}

void iov_unlink(struct hf3fs_iov *iov)
{
    struct iov *own = iov->iovh;

    if (own->creator && own->shm[0] != '\0' && own->generation == proc_generation())
        unlink(own->shm);
    own->shm[0] = '\0';
}

/* Unmaps now, or once the I/O that still runs on it is over. */
static void memory_release(uint8_t *base, size_t size, int first_unit)
{
    struct proc *proc = proc_enter();
    struct zombie *zombie = NULL;
    bool busy = false;

    pthread_mutex_lock(&proc->lock);
    if (first_unit >= 0)
        fixed_release(proc, first_unit, size);
    for (struct ior *ior = proc->iors; ior != NULL && !busy; ior = ior->next)
        busy = ior_touches(ior, base, size);
    if (busy) {
        zombie = malloc(sizeof(*zombie));
        if (zombie != NULL) {
            *zombie = (struct zombie){.base = base, .size = size, .next = proc->zombies};
            proc->zombies = zombie;
        }
    } else {
        munmap(base, size);
    }
    proc_sweep(proc);
    pthread_mutex_unlock(&proc->lock);
}

void iov_destroy(struct hf3fs_iov *iov)
{
    struct iov *own = iov->iovh;

    iov->iovh = NULL;
    if (own->creator && own->generation == proc_generation()) {
        if (own->link != NULL)
            unlink(own->link);
        if (own->shm[0] != '\0')
            unlink(own->shm);
    }
    memory_release(iov->base, iov->size,
                   own->generation == proc_generation() ? own->first_unit : -1);
    free(own->link);
    free(own);
}
