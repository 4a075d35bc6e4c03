/*
 * fakes.h - stand-in libraries for the loaders, and how tests find and steer them.
 *
 * Each variant is a libhf3fs_api_shared.so in a folder of its own below $(O)/tests/fakes:
 *   real       complete; moves bytes with pread and pwrite, records what it was told
 *   missing    like real, but without hf3fs_prep_io
 *   undefined  needs a symbol that nobody has, so that it does not load
 *   wrapper    has none of the symbols and is linked to a library that has them
 * and a libcuda.so.1: cuda-ok, cuda-missing (without cuMemcpyHtoD_v2), cuda-fail (cuInit fails),
 * cuda-busy (no context can be made), cuda-unpinned (memory of the host cannot be pinned).
 */
#ifndef TESTS_FAKES_H
#define TESTS_FAKES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "fake_state" in the library: what it was told, what it is to do, what was done against the rules
 * for clients of 3FS. */
struct fake_state {
    /* answers; the numbers replace the call's own result when not 0 */
    bool is_hf3fs; /* FAKE_IS_HF3FS in the environment says it too */
    int iovcreate_rc, iorcreate_rc, reg_fd_rc, prep_rc, read_rc, write_rc;
    int again_every; /* every so many-th prep finds the ring full */
    int short_by;    /* reads give so many bytes less */
    int lose;        /* while not 0, nothing completes */
    int step_us;     /* a wait that has nothing sleeps this long and returns early */
    bool backwards;  /* the last prepared completes first */

    /* the last create */
    char mount[256];
    int ring_entries, ring_depth, ring_timeout, ring_numa;
    bool ring_for_read;
    uint64_t ring_flags;

    int iovs, rings, files;  /* alive */
    int iovs_made, unlinked; /* calls */
    int asked;               /* calls of is_hf3fs */
    int makers;              /* threads that made rings or memory */
    int preps, waits;
    int64_t wait_ms; /* of the last wait: deadline minus time of day */

    /* against the rules */
    int unasked;          /* made before is_hf3fs was asked */
    int closed_too_early; /* dereg of a descriptor that was closed already */
    int waits_without_deadline;
    int rings_shared;   /* two threads prepared on one ring */
    int buffers_shared; /* read into a buffer that storage still had */
    int crossings;      /* I/O across a block of its iov */
    int memory_freed_busy, rings_freed_busy, files_freed_busy; /* with I/O in flight */
};

/* The fake libcuda's; "fake_cuda" in the library. */
struct fake_cuda {
    bool outside;  /* addresses belong to no context */
    int fail_copy; /* not 0: the answer of the copies */
    int inits, pushes, pops, copies_without_context, retains, registered;
    void *base[4]; /* device memory: [base, base + len) is in context i + 1 */
    size_t len[4];
};

/* A path below the build folder: $CISTERN_BUILD, or two above the folder of this program. */
static inline const char *build_path(const char *rest)
{
    static char path[PATH_MAX + 128];
    const char *build = getenv("CISTERN_BUILD");
    char self[PATH_MAX];
    int i;

    if (build && *build) {
        (void)snprintf(path, sizeof path, "%s/%s", build, rest);
        return path;
    }
    memset(self, 0, sizeof self);
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0)
        for (i = 0; i < 3; i++)
            *strrchr(self, '/') = 0;
    (void)snprintf(path, sizeof path, "%s/%s", self, rest);
    return path;
}

static inline const char *fake_path(const char *variant)
{
    char rest[128];

    (void)snprintf(rest, sizeof rest, "tests/fakes/%s/libhf3fs_api_shared.so", variant);
    return build_path(rest);
}

static inline const char *drop_in_path(void)
{
    return build_path("hf3fs/libhf3fs_api_shared.so");
}

#endif
