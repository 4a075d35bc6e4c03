/*
 * sampler.c - every 100 ms, what the directory takes: disk bytes of all files in it, and of those
 * that nobody can find any more and a worker holds open.
 *
 * Nobody can look at all files at one moment. So each sample looks twice, and what counts is what
 * both looks saw, each file once however many hold it, with the smaller of its two sizes: files
 * grow, then are cut once, so at the moment between the looks they took that much at least. A file
 * that went before the second look, and the one that took its room, are not both counted; a sum
 * above the bound is a real one. Names are looked at before descriptors, so that a file that is
 * unlinked meanwhile is not missed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stress.h"

enum { FILES = 1 << 16, SAMPLE_US = 100000 };

struct seen {
    uint64_t inode, bytes;
    int64_t born_s, born_ns; /* a number is given out again; tmpfs and ext4 know the birth */
    bool unlinked;
};

struct look {
    struct seen at[FILES];
    size_t count;
};

static struct look looks[2], *look_now;

static void see(int dir, const char *name, int flags, bool unlinked)
{
    struct seen *s = &look_now->at[look_now->count];
    struct statx st;

    if (statx(dir, name, flags, STATX_TYPE | STATX_INO | STATX_BLOCKS | STATX_BTIME, &st) ||
        !S_ISREG(st.stx_mode))
        return;
    if (look_now->count + 1 == FILES) {
        (void)fprintf(stderr, "too many files for a sample\n");
        exit(1);
    }
    *s = (struct seen){.inode = st.stx_ino,
                       .bytes = st.stx_blocks * 512,
                       .born_s = st.stx_btime.tv_sec,
                       .born_ns = st.stx_btime.tv_nsec,
                       .unlinked = unlinked};
    look_now->count++;
}

static int see_named(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)where;
    if (kind == FTW_F)
        see(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, false);
    return 0;
}

static void see_unlinked(uint64_t pid, const char *dir)
{
    char fds[64], link[512];
    struct dirent *e;
    DIR *d;

    (void)snprintf(fds, sizeof fds, "/proc/%llu/fd", (unsigned long long)pid);
    if (!(d = opendir(fds)))
        return;
    while ((e = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);

        if (n < 11 || strncmp(link, dir, strlen(dir)) != 0)
            continue;
        link[n] = 0;
        if (strcmp(link + n - 10, " (deleted)") == 0)
            see(dirfd(d), e->d_name, 0, true);
    }
    (void)closedir(d);
}

static int by_file(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;

    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    if (a->born_s != b->born_s)
        return a->born_s < b->born_s ? -1 : 1;
    return a->born_ns < b->born_ns ? -1 : a->born_ns > b->born_ns;
}

/* Each file once; named, if it was when first seen. */
static void drop_doubles(struct look *l)
{
    size_t i, n = 0;

    qsort(l->at, l->count, sizeof l->at[0], by_file);
    for (i = 0; i < l->count; i++) {
        if (n && by_file(&l->at[n - 1], &l->at[i]) == 0) {
            l->at[n - 1].unlinked &= l->at[i].unlinked;
            if (l->at[i].bytes < l->at[n - 1].bytes)
                l->at[n - 1].bytes = l->at[i].bytes;
        } else {
            l->at[n++] = l->at[i];
        }
    }
    l->count = n;
}

static void look(struct look *l, const char *dir, const struct progress *all, uint32_t workers)
{
    uint32_t i;

    l->count = 0;
    look_now = l;
    (void)nftw(dir, see_named, 16, FTW_PHYS);
    for (i = 0; i < workers; i++)
        see_unlinked(atomic_load(&all[i].pid), dir);
    drop_doubles(l);
}

static uint64_t in_both(uint64_t *unlinked)
{
    const struct look *a = &looks[0], *b = &looks[1];
    size_t i = 0, j = 0;
    uint64_t sum = 0;

    *unlinked = 0;
    while (i < a->count && j < b->count) {
        int order = by_file(&a->at[i], &b->at[j]);

        if (order == 0) {
            uint64_t x = a->at[i].bytes, y = b->at[j].bytes, least = x < y ? x : y;

            sum += least;
            *unlinked += b->at[j].unlinked ? least : 0;
        }
        i += order <= 0;
        j += order >= 0;
    }
    return sum;
}

_Noreturn void sample(const char *dir, struct progress *own, struct progress *all, uint32_t workers)
{
    uint64_t sum, unlinked;

    (void)setpriority(PRIO_PROCESS, 0, -15); /* as root: it must not wait behind the workers */
    for (;;) {
        look(&looks[0], dir, all, workers);
        look(&looks[1], dir, all, workers);
        sum = in_both(&unlinked);
        atomic_store(&own->hits, sum);
        if (sum > atomic_load(&own->stored)) {
            atomic_store(&own->stored, sum);
            atomic_store(&own->evicted, unlinked);
        }
        (void)atomic_fetch_add(&own->ops, 1);
        (void)usleep(SAMPLE_US);
    }
}
