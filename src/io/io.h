/*
 * io.h - the one seam to storage, shaped like the ring of USRBIO because the foreign API is.
 *
 * A `struct io` is a mount with one provider behind it: a row of operations (struct io_ops). Rows:
 * the drop-in and the real 3FS client, both by dlopen of an absolute path, RTLD_LOCAL; tests bring
 * their own (simulators, decorators). Nothing outside src/io and src/usrbio calls pread, pwrite,
 * fsync, rename or io_uring.
 *
 * Threads: rings belong to one thread at a time; everything else may be called from any thread.
 * File verbs, and whatever makes or destroys memory and rings, may hang on a dead mount: call them
 * on helper threads only. Errors: negative errno or
 * CISTERN_E*, always this one convention (the three of USRBIO end here).
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/log.h"
#include "hf3fs_usrbio.h"

/* Memory that rings can reach. Owned by whoever created it. */
struct io_mem {
    uint8_t *base;
    size_t size;
    struct hf3fs_iov iov;
    bool wrapped;
};

struct io_ring {
    struct hf3fs_ior ior;
    int entries;
    bool for_read;
    int inflight; /* prepared and not reaped; the row keeps it */
};

/* A file that rings can reach; fd >= 0 when open. */
struct io_file {
    int fd;
    bool registered;
};

struct io_done {
    void *userdata;
    int64_t result; /* bytes, or negative errno */
};

struct io_stat {
    uint64_t size, disk_bytes, mtime_s;
    uint64_t mtime_ns; /* since 1970; 0: this row knows seconds only */
    uint32_t mode;     /* permission bits */
    bool is_dir;
};

struct io_space {
    uint64_t total_bytes, free_bytes;
};

enum io_open_mode {
    IO_READ = 0,
    IO_WRITE = 1,  /* read and write */
    IO_CREATE = 2, /* with IO_WRITE: must not exist */
    IO_DIRECT = 4  /* O_DIRECT where the file system takes it, silently without elsewhere */
};

struct io;

struct io_ops {
    const char *name; /* "hf3fs", "local", ... */
    int (*mem_create)(struct io *io, struct io_mem *m, size_t size, size_t block_size);
    int (*mem_wrap)(struct io *io, struct io_mem *m, void *base, size_t size);
    void (*mem_destroy)(struct io *io, struct io_mem *m);
    int (*ring_create)(struct io *io, struct io_ring *r, int entries, bool for_read);
    /* A ring with I/O in flight is left to the process: never waits for storage. */
    void (*ring_destroy)(struct io *io, struct io_ring *r);
    /* -EAGAIN: full; submit, wait, try again. The memory belongs to storage from here on, and may
     * be read or written before submit. */
    int (*prep)(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr,
                struct io_file *f, uint64_t offset, uint64_t len, void *userdata);
    int (*submit)(struct io *io, struct io_ring *r);
    /* Waits for at least min of them, at most timeout_ns; returns how many, in any order. 0 = none
     * in time: what is in flight stays so. */
    int (*wait)(struct io *io, struct io_ring *r, struct io_done *done, int max, int min,
                uint64_t timeout_ns);

    /* File verbs. Paths are relative to the mount. */
    int (*file_open)(struct io *io, const char *path, unsigned mode, struct io_file *f);
    void (*file_close)(struct io *io, struct io_file *f);
    int (*file_sync)(struct io *io,
                     struct io_file *f); /* data, and what is needed to read it back */
    int (*file_truncate)(struct io *io, struct io_file *f, uint64_t size);
    int (*file_allocate)(struct io *io, struct io_file *f, uint64_t from,
                         uint64_t len);               /* -EOPNOTSUPP is normal */
    int (*make_dir)(struct io *io, const char *path); /* 0 also when it exists */
    int (*list)(struct io *io, const char *path, int (*visit)(void *arg, const char *name),
                void *arg);
    int (*stat)(struct io *io, const char *path, struct io_stat *out);
    int (*unlink)(struct io *io, const char *path);
    int (*sync_dir)(struct io *io, const char *path);
    int (*space)(struct io *io, struct io_space *out);
    /* Small files as a whole. write: to a temporary name, synced, then renamed, so that it is there
     * whole or not at all; -EEXIST when `exclusive` and present. */
    int64_t (*small_read)(struct io *io, const char *path, void *buf, size_t size);
    int (*small_write)(struct io *io, const char *path, const void *data, size_t len,
                       bool exclusive);
    void (*close)(struct io *io);
    int (*remove_dir)(struct io *io, const char *path); /* an empty one; NULL: this row cannot */
    /* The mount may be another one by now (its daemon died and came back): paths lead into what is
     * there now, files and rings of before stay as they are. NULL: there is nothing to do. */
    int (*renew)(struct io *io);
};

struct io {
    const struct io_ops *ops;
    struct logger log;
    char mount[256];
    char provider_path[512]; /* of the library; "" for a row without one */
    char backend[256];       /* one line of "key=value" for people */
    bool inline_reads; /* submit itself does the read (drop-in on tmpfs): keep few in flight */
    void *private_data;
};

struct io_options {
    const char *mount;         /* absolute */
    const char *provider;      /* "auto", "hf3fs", "local"; NULL = auto */
    const char *provider_path; /* NULL = searched */
    struct logger log;
};

/*
 * Chooses and loads the provider and checks the mount. May hang on a dead mount: helper threads
 * only. CISTERN_EMOUNT, CISTERN_EPROVIDER, CISTERN_ECONFIG with a text that says what to do.
 */
int io_open(const struct io_options *o, struct io **out) MUST_CHECK;
void io_close(struct io *io); /* NULL is fine */

/* Staging memory: checks that /dev/shm can hold it and reserves every page (CISTERN_ESTAGING
 * instead of a SIGBUS later), unlinks its name at once. */
int io_mem_reserve(struct io *io, struct io_mem *m, size_t size, size_t block_size) MUST_CHECK;

#endif
