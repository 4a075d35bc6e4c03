/*
 * io_internal.h - what the files of src/io share: the loaded library and the mount of the two
 * USRBIO rows.
 */
#ifndef IO_IO_INTERNAL_H
#define IO_IO_INTERNAL_H

#include <stdatomic.h>

#include "io/io.h"

#define USRBIO_SONAME "libhf3fs_api_shared.so"

/* The functions in use, in the order of usrbio_symbols[] in library.c. */
struct usrbio_calls {
    __typeof__(hf3fs_is_hf3fs) *is_hf3fs;
    __typeof__(hf3fs_extract_mount_point) *extract_mount_point;
    __typeof__(hf3fs_iovcreate) *iovcreate;
    __typeof__(hf3fs_iovwrap) *iovwrap;
    __typeof__(hf3fs_iovunlink) *iovunlink;
    __typeof__(hf3fs_iovdestroy) *iovdestroy;
    __typeof__(hf3fs_iorcreate4) *iorcreate4;
    __typeof__(hf3fs_iordestroy) *iordestroy;
    __typeof__(hf3fs_reg_fd) *reg_fd;
    __typeof__(hf3fs_dereg_fd) *dereg_fd;
    __typeof__(hf3fs_prep_io) *prep_io;
    __typeof__(hf3fs_submit_ios) *submit_ios;
    __typeof__(hf3fs_wait_for_ios) *wait_for_ios;
    /* Only the drop-in has it, so it also tells the two apart. */
    int (*info)(const char *path, char *buf, size_t size);
};

struct usrbio_library {
    void *handle;
    char path[512];
    struct usrbio_calls call;
};

/* Behind io->private_data of the rows "hf3fs" and "local". Constant after io_open(), but for what
 * `dir` leads to and `dev` when the mount is another one (usrbio_renew). */
struct usrbio {
    struct usrbio_library lib;
    char point[256];      /* what the library calls the mount point; io->mount may lie below it */
    int dir;              /* of io->mount, O_DIRECTORY */
    _Atomic uint64_t dev; /* st_dev of dir */
    bool real;            /* the 3FS client, not the drop-in */
};

extern const struct io_ops usrbio_ops_hf3fs, usrbio_ops_local;

/* NULL when another row is behind io. */
static inline struct usrbio *usrbio_of(const struct io *io)
{
    return io->ops == &usrbio_ops_hf3fs || io->ops == &usrbio_ops_local ? io->private_data : NULL;
}

/*
 * library.c: loads one library by absolute path. -ENOENT: no such file; CISTERN_EPROVIDER: it is
 * there and cannot be used (the text says why).
 */
int library_load(const char *path, struct usrbio_library *lib) MUST_CHECK;
/* dlclose, except of the real client: its threads would run on unmapped code. */
void library_unload(struct usrbio_library *lib, bool real);
/* Makes the hard limit of open files one that the real client survives at load. */
int library_limit_files(const struct logger *log) MUST_CHECK;
/* Finds and loads the real client (explicit path, environment, loader's search, usual places). */
int library_find_real(const char *provider_path, struct usrbio_library *lib) MUST_CHECK;
/* Finds and loads the drop-in (explicit path, environment, beside libcistern.so). */
int library_find_local(const char *provider_path, struct usrbio_library *lib) MUST_CHECK;

/* shmlink.c: objects in /dev/shm and the symlinks below 3fs-virt/iovs that name them. */
#define SHM_DIR      "/dev/shm"
#define SHM_PATH_MAX 300
int iov_link_make(const char *point, const struct hf3fs_iov *iov, const char *target) MUST_CHECK;
void iov_link_remove(const char *point, const struct hf3fs_iov *iov);
/* The file in /dev/shm that is mapped shared at [base, base + size) from its beginning;
 * CISTERN_EMEMORY. */
int shm_path_of_mapping(const void *base, size_t size, char path[SHM_PATH_MAX]) MUST_CHECK;
/* A random version-4 uuid. */
int uuid_make(uint8_t id[16]) MUST_CHECK;

/* creator.c: runs make(arg) on the one thread that makes what the real client's daemon cleans up
 * after a crash; returns its result, and its error text here. */
int creator_call(int (*make)(void *arg), void *arg) MUST_CHECK;

/* memroom.c: bytes that the machine and the cgroup could still give; UINT64_MAX = unknown. */
uint64_t memory_room(void);

/* verbs.c: the file verbs of both rows. */
int verb_file_open(struct io *io, const char *path, unsigned mode, struct io_file *f);
void verb_file_close(struct io *io, struct io_file *f);
int verb_file_sync(struct io *io, struct io_file *f);
int verb_file_truncate(struct io *io, struct io_file *f, uint64_t size);
int verb_file_allocate(struct io *io, struct io_file *f, uint64_t from, uint64_t len);
int verb_make_dir(struct io *io, const char *path);
int verb_list(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
              void *arg);
int verb_stat(struct io *io, const char *path, struct io_stat *out);
int verb_unlink(struct io *io, const char *path);
int verb_remove_dir(struct io *io, const char *path);
int verb_sync_dir(struct io *io, const char *path);
int verb_space(struct io *io, struct io_space *out);

/* smallfile.c: whole small files. */
int64_t verb_small_read(struct io *io, const char *path, void *buf, size_t size);
int verb_small_write(struct io *io, const char *path, const void *data, size_t len, bool exclusive);

/* EINTR-safe open below the mount with O_CLOEXEC; an fd or a negative errno. */
int mount_openat(const struct io *io, const char *path, int flags, unsigned mode) MUST_CHECK;
/* `path` without slashes in front, so that it cannot leave the mount that way; "." when empty. */
const char *mount_relative(const char *path);

#endif
