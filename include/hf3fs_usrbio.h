/*
 * hf3fs_usrbio.h - the native client interface of 3FS ("USRBIO"), as the Cistern drop-in offers it.
 *
 * Binary compatible with programs written for 3FS: same names, same structures, same SONAME
 * (libhf3fs_api_shared.so). The text is Cistern's own. Behind it is an ordinary directory on a
 * local or shared file system in place of a 3FS cluster.
 *
 * Words
 *   iov      memory that I/O may touch; an object in /dev/shm, or any memory given to hf3fs_iovwrap
 *   ior      one request ring, for reading or for writing, never both
 *   mount    a directory named in the environment variable CISTERN_USRBIO_ROOT (colon
 *            separated), or one that holds a file `.cistern-mount`, or one in which
 *            `3fs-virt/iovs` is a directory
 * Every directory inside a mount may be passed where a mount point is asked for.
 *
 * Signs differ between families of functions. They are part of the interface:
 *   iovcreate, iovopen, iovwrap   0, or a negative errno
 *   iorcreate*, submit_ios        0, or a negative errno
 *   prep_io                       slot number >= 0, or a negative errno
 *   wait_for_ios                  count >= 0, or -EINVAL; a timeout is no error
 *   reg_fd                        a handle <= 0, or a POSITIVE errno
 *   hardlink, punchhole           0, or a POSITIVE errno
 *   extract_mount_point           strlen + 1, or -1
 * errno is not part of the interface; only after hardlink and punchhole does it equal the result,
 * because clients read it there.
 *
 * Environment, read at the first call of a process
 *   CISTERN_USRBIO_ROOT     see above (read whenever a mount is looked for)
 *   CISTERN_USRBIO_BACKEND  auto (default), io_uring, threads or inline
 *   CISTERN_USRBIO_STRICT   1, all or a list of holes, crossing, exact, overlap, stale: imitate the
 *                           sharp edges of the real library
 *   CISTERN_USRBIO_CHUNK    chunk size in bytes for hf3fs_punchhole
 *   CISTERN_USRBIO_FIXED    0: do not pin memory as fixed buffers
 *
 * Threads: one thread prepares and submits on a ring, any number wait on it. Memory and registered
 * files may be shared by any number of rings. Creating and destroying distinct objects is safe from
 * any thread. Fork: a child starts afresh; the parent's rings give -EINVAL in it, the parent's
 * memory remains usable.
 */
#ifndef CISTERN_HF3FS_USRBIO_H
#define CISTERN_HF3FS_USRBIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct timespec; /* strict C99 does not declare it in <time.h> */

#ifdef __cplusplus
extern "C" {
#endif

#define HF3FS_SUPER_MAGIC 0x8f3f5fff

/* Flags of hf3fs_iorcreate4. */
#define HF3FS_IOR_ALLOW_READ_UNCOMMITTED                                                           \
    1 /* no effect here: a local file has no pending versions */
#define HF3FS_IOR_FORBID_READ_HOLES                                                                \
    2 /* a hole with data after it inside one read gives -ENODATA                                  \
       */

/* Memory. The caller owns the structure; `iovh` and the mapping at `base` belong to the library. */
struct hf3fs_iov {
    uint8_t *base;
    void *iovh;  /* NULL: wrapped, or destroyed */
    char id[16]; /* raw bytes of the uuid in the link's name */
    char mount_point[256];
    size_t size;
    size_t block_size; /* 0: the whole iov is one block */
    int numa;          /* -1: none */
};

/* A ring. Capacity is exactly the number of entries asked for. */
struct hf3fs_ior {
    struct hf3fs_iov iov;
    void *iorh; /* NULL: destroyed */
    char mount_point[256];
    bool for_read;
    int io_depth;
    int priority;
    int timeout;
    uint64_t flags;
};

/* A completion. `reserved` is never written. */
struct hf3fs_cqe {
    int32_t index; /* what hf3fs_prep_io returned */
    int32_t reserved;
    int64_t result; /* bytes moved, or a negative errno */
    const void *userdata;
};

/* True if `fd` is open on a file or directory inside a mount. */
bool hf3fs_is_hf3fs(int fd);

/* Mount that holds `path` (which need not exist), without a trailing slash. Copied only if it fits
 * in `size`; the result is strlen + 1 either way, so a result above `size` means that the buffer is
 * too small. */
int hf3fs_extract_mount_point(char *hf3fs_mount_point, int size, const char *path);

/* New zero-filled memory of `size` bytes. Freed by hf3fs_iovdestroy. -ENOENT: `hf3fs_mount_point`
 * is in no mount. */
int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *hf3fs_mount_point, size_t size,
                    size_t block_size, int numa);

/* Memory that another process of this user created, found by its id. `size` is trusted. */
int hf3fs_iovopen(struct hf3fs_iov *iov, const uint8_t id[16], const char *hf3fs_mount_point,
                  size_t size, size_t block_size, int numa);

/* Removes the name in /dev/shm of memory created through this handle; everything else goes on. */
void hf3fs_iovunlink(struct hf3fs_iov *iov);

/* Unmaps and frees. Harmless on NULL, on wrapped memory and the second time. I/O still running
 * keeps its memory. */
void hf3fs_iovdestroy(struct hf3fs_iov *iov);

/* Any memory of the caller, which stays the caller's and must outlive its I/O. */
int hf3fs_iovwrap(struct hf3fs_iov *iov, void *base, const uint8_t id[16],
                  const char *hf3fs_mount_point, size_t size, size_t block_size, int numa);

/* Bytes of ring memory for `entries`; the inverse of hf3fs_io_entries. */
size_t hf3fs_ior_size(int entries);

/* A ring of `entries` slots. io_depth is a hint here (see CISTERN_USRBIO_STRICT); |io_depth| <=
 * entries where it is positive. In iorcreate4 there is no priority, and timeout comes before numa.
 */
int hf3fs_iorcreate(struct hf3fs_ior *ior, const char *hf3fs_mount_point, int entries,
                    bool for_read, int io_depth, int numa);
int hf3fs_iorcreate2(struct hf3fs_ior *ior, const char *hf3fs_mount_point, int entries,
                     bool for_read, int io_depth, int priority, int numa);
int hf3fs_iorcreate3(struct hf3fs_ior *ior, const char *hf3fs_mount_point, int entries,
                     bool for_read, int io_depth, int priority, int timeout, int numa);
int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *hf3fs_mount_point, int entries,
                     bool for_read, int io_depth, int timeout, int numa, uint64_t flags);

/* Frees the ring. Harmless on NULL and the second time. I/O still running on wrapped memory is
 * waited for, for 3 seconds at most: on storage that does not answer that memory must stay. */
void hf3fs_iordestroy(struct hf3fs_ior *ior);

/* Makes an open file usable. Result <= 0 is a handle, > 0 an errno. `flags` is ignored. */
int hf3fs_reg_fd(int fd, uint64_t flags);

/* Takes the descriptor that was registered. I/O already prepared is not affected. */
void hf3fs_dereg_fd(int fd);

/* Slots of the ring. */
int hf3fs_io_entries(const struct hf3fs_ior *ior);

/* Prepares one I/O between `ptr` (inside `iov`) and offset `off` of a registered file, named by its
 * descriptor or by the handle of hf3fs_reg_fd. The memory is in use from here until the completion
 * is reaped. Result: slot number, or -EAGAIN when all slots are taken, -EINVAL, -EBADF (not
 * registered), -EACCES (wrong access mode). */
int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read, void *ptr,
                  int fd, size_t off, uint64_t len, const void *userdata);

/* Starts what was prepared. */
int hf3fs_submit_ios(const struct hf3fs_ior *ior);

/* Reaps up to `cqec` completions. Blocks until there are `min_results` (clamped to cqec; <= 0
 * polls) or until `abs_timeout`, an absolute CLOCK_REALTIME time; NULL waits for ever, a past time
 * polls. */
int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int cqec,
                       int min_results, const struct timespec *abs_timeout);

/* Hard link inside a mount. 0 or a positive errno. */
int hf3fs_hardlink(const char *target, const char *link_name);

/* Frees the ranges [start[i], end[i]), whose bounds are multiples of the chunk size (1 MiB, or the
 * environment variable CISTERN_USRBIO_CHUNK in bytes). n <= 1000. 0 or a positive errno. */
int hf3fs_punchhole(int fd, int n, const size_t *start, const size_t *end, size_t flags);

#if defined(__LP64__)
#ifdef __cplusplus
#define CISTERN_USRBIO_CHECK(what, text) static_assert(what, text)
#else
#define CISTERN_USRBIO_CHECK(what, text) _Static_assert(what, text)
#endif
#if (defined(__cplusplus) && __cplusplus >= 201103L) ||                                            \
    (!defined(__cplusplus) && defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L)
CISTERN_USRBIO_CHECK(sizeof(struct hf3fs_iov) == 312, "hf3fs_iov has 312 bytes");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, iovh) == 8, "hf3fs_iov.iovh");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, id) == 16, "hf3fs_iov.id");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, mount_point) == 32, "hf3fs_iov.mount_point");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, size) == 288, "hf3fs_iov.size");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, block_size) == 296, "hf3fs_iov.block_size");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_iov, numa) == 304, "hf3fs_iov.numa");
CISTERN_USRBIO_CHECK(sizeof(struct hf3fs_ior) == 600, "hf3fs_ior has 600 bytes");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, iorh) == 312, "hf3fs_ior.iorh");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, mount_point) == 320, "hf3fs_ior.mount_point");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, for_read) == 576, "hf3fs_ior.for_read");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, io_depth) == 580, "hf3fs_ior.io_depth");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, priority) == 584, "hf3fs_ior.priority");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, timeout) == 588, "hf3fs_ior.timeout");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_ior, flags) == 592, "hf3fs_ior.flags");
CISTERN_USRBIO_CHECK(sizeof(struct hf3fs_cqe) == 24, "hf3fs_cqe has 24 bytes");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_cqe, result) == 8, "hf3fs_cqe.result");
CISTERN_USRBIO_CHECK(offsetof(struct hf3fs_cqe, userdata) == 16, "hf3fs_cqe.userdata");
#endif
#undef CISTERN_USRBIO_CHECK
#endif

#ifdef __cplusplus
}
#endif

#endif /* CISTERN_HF3FS_USRBIO_H */
