/*
 * shmlink.c - objects in /dev/shm: which one is mapped at an address, and the symlinks in
 * <mount>/3fs-virt/iovs by which the real client's daemon finds memory that is not its own.
 *
 * A link's name is the lower-case text of the iov's id, with ".b<block size>" behind it when there
 * is one. Threads: any.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bits.h"
#include "cistern.h"
#include "io/io_internal.h"

#define LINK_DIR "3fs-virt/iovs"

int uuid_make(uint8_t id[16])
{
    ssize_t n;

    do {
        n = getrandom(id, 16, 0);
    } while (n < 0 && errno == EINTR);
    if (n != 16)
        return err_set(-EIO, "getrandom: %s", strerror(errno));
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return 0;
}

static void uuid_text(const char id[16], char text[37])
{
    size_t i, at = 0;

    for (i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        (void)snprintf(text + at, 3, "%02x", (unsigned)(uint8_t)id[i]);
        at += 2;
    }
}

/* Path of the iov's link. */
static int link_path(const char *point, const struct hf3fs_iov *iov, char path[SHM_PATH_MAX + 64])
{
    char text[37], block[32] = "";
    int n;

    uuid_text(iov->id, text);
    if (iov->block_size)
        (void)snprintf(block, sizeof block, ".b%zu", iov->block_size);
    n = snprintf(path, SHM_PATH_MAX + 64, "%s/" LINK_DIR "/%s%s", point, text, block);
    return n > 0 && n < SHM_PATH_MAX + 64 ? 0 : err_set(-ENAMETOOLONG, "%s is too long", point);
}

int iov_link_make(const char *point, const struct hf3fs_iov *iov, const char *target)
{
    char link[SHM_PATH_MAX + 64];
    int rc = link_path(point, iov, link);

    if (rc)
        return rc;
    if (symlink(target, link) != 0)
        return err_set(-errno, "memory cannot be registered as %s: %s", link, strerror(errno));
    return 0;
}

void iov_link_remove(const char *point, const struct hf3fs_iov *iov)
{
    char link[SHM_PATH_MAX + 64];

    if (link_path(point, iov, link) == 0)
        (void)unlink(link);
}

struct vma {
    uint64_t start, end, offset;
    char shared;
    char path[SHM_PATH_MAX];
};

static bool vma_parse(const char *line, struct vma *v)
{
    char rest[SHM_PATH_MAX] = "";
    size_t n;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %" SCNx64 " %*s %*s %299[^\n]", &v->start,
               &v->end, &v->shared, &v->offset, rest) < 4)
        return false;
    n = strspn(rest, " ");
    memmove(v->path, rest + n, strlen(rest + n) + 1);
    return true;
}

/* Adds one mapping to what is covered so far: it must go on where that ended, in the same file. */
static bool vma_continues(const struct vma *v, uint64_t base, uint64_t covered, const char *path)
{
    return v->start == base + covered && v->offset == covered && v->shared == 's' &&
           strncmp(v->path, SHM_DIR "/", sizeof SHM_DIR) == 0 && !strstr(v->path, " (deleted)") &&
           (covered == 0 || strcmp(v->path, path) == 0);
}

int shm_path_of_mapping(const void *base, size_t size, char path[SHM_PATH_MAX])
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t covered = 0;
    char line[512];
    struct vma v;

    if (!maps)
        return err_set(-errno, "/proc/self/maps: %s", strerror(errno));
    while (covered < size && fgets(line, sizeof line, maps)) {
        if (!vma_parse(line, &v) || !vma_continues(&v, (uintptr_t)base, covered, path))
            continue;
        (void)snprintf(path, SHM_PATH_MAX, "%s", v.path);
        covered += v.end - v.start;
    }
    (void)fclose(maps);
    if (covered < size)
        return err_set(CISTERN_EMEMORY,
                       "3FS reaches only memory of cistern_memory_alloc() and shared mappings of "
                       "a named file in " SHM_DIR " from its beginning");
    return 0;
}
