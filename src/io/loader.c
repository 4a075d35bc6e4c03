/*
 * loader.c - io_open(): checks the mount and chooses what stands behind it.
 *
 *   "hf3fs"  the real client; the mount must be 3FS (hf3fs_is_hf3fs on an open directory)
 *   "local"  the drop-in; the mount gets the marker file by which the drop-in knows it
 *   "auto"   the real client when the mount is 3FS, else the drop-in
 *
 * For "auto" the kernel is asked first, by the ioctl behind hf3fs_is_hf3fs, so that no foreign
 * library is loaded into a process that does not need it; a library that was named explicitly is
 * asked itself. On a 3FS mount "auto" never falls back to the drop-in: writes through FUSE have
 * other rules of visibility.
 *
 * Threads: any. May hang on a dead mount.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "cistern.h"
#include "io/hook.h"
#include "io/io_internal.h"

#define MARKER            ".cistern-mount"
#define HF3FS_IOCTL_MAGIC 0x80046802ul /* GET_MAGIC_NUM: u32 */

static int mount_open(const char *mount, struct io *io, struct usrbio *u)
{
    size_t n = strlen(mount);
    struct stat st;

    while (n > 1 && mount[n - 1] == '/')
        n--;
    if (mount[0] != '/')
        return err_set(CISTERN_ECONFIG, "mount must be an absolute path, not \"%s\"", mount);
    if (n >= sizeof io->mount)
        return err_set(CISTERN_ECONFIG, "mount is longer than %zu bytes", sizeof io->mount - 1);
    memcpy(io->mount, mount, n);
    io->mount[n] = 0;
    u->dir = open(io->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (u->dir < 0 || fstat(u->dir, &st) != 0) {
        int e = errno;

        if (e == ENOENT)
            return err_set(CISTERN_EMOUNT, "the mount point %s does not exist", io->mount);
        return err_set(CISTERN_EMOUNT, "the mount point %s cannot be opened: %s", io->mount,
                       strerror(e));
    }
    u->dev = st.st_dev;
    return 0;
}

static bool kernel_says_3fs(int dir)
{
    uint32_t magic = 0;

    return ioctl(dir, HF3FS_IOCTL_MAGIC, &magic) == 0 && magic == HF3FS_SUPER_MAGIC;
}

/* Another copy of these symbols in the global scope would catch the client's calls to itself. */
static int check_interposed(const struct usrbio_library *lib)
{
    Dl_info ours, theirs;
    void *global = dlsym(RTLD_DEFAULT, "hf3fs_iorcreate4");

    if (!global || global == (void *)lib->call.iorcreate4)
        return 0;
    if (!dladdr(global, &theirs) || !dladdr((void *)lib->call.iorcreate4, &ours))
        return 0;
    return err_set(CISTERN_EPROVIDER,
                   "%s cannot be used: %s is loaded globally and would catch its calls",
                   ours.dli_fname, theirs.dli_fname);
}

static int open_real(const struct io_options *o, struct io *io, struct usrbio *u)
{
    int rc = library_limit_files(&io->log);

    if (rc == 0)
        rc = library_find_real(o->provider_path, &u->lib);
    if (rc)
        return rc;
    u->real = true;
    if (u->lib.call.info)
        return err_set(CISTERN_EPROVIDER,
                       "%s is Cistern's drop-in, not the 3FS client; use provider \"local\" or "
                       "name the 3FS client in provider_path",
                       u->lib.path);
    rc = check_interposed(&u->lib);
    if (rc)
        return rc;
    if (!u->lib.call.is_hf3fs(u->dir))
        return err_set(CISTERN_EMOUNT, "%s is not on 3FS (says %s); is the FUSE daemon running?",
                       io->mount, u->lib.path);
    return 0;
}

static int open_local(const char *provider_path, struct io *io, struct usrbio *u)
{
    int fd, rc = library_find_local(provider_path, &u->lib);

    if (rc)
        return rc;
    u->real = false;
    if (u->lib.call.is_hf3fs(u->dir))
        return 0;
    fd = openat(u->dir, MARKER, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(CISTERN_EMOUNT, "%s/%s cannot be made: %s", io->mount, MARKER,
                       strerror(errno));
    (void)close(fd);
    if (!u->lib.call.is_hf3fs(u->dir))
        return err_set(CISTERN_EMOUNT, "%s does not accept %s as its mount", u->lib.path,
                       io->mount);
    return 0;
}

/* "auto" with a library that somebody named: what it is decides, then what it says. */
static int open_named(const struct io_options *o, struct io *io, struct usrbio *u)
{
    const char *path = o->provider_path ? o->provider_path : secure_getenv("CISTERN_HF3FS_LIB");
    int rc = library_limit_files(&io->log);
    bool real;

    if (rc == 0)
        rc = library_find_real(o->provider_path, &u->lib);
    if (rc)
        return rc;
    if (u->lib.call.info) {
        library_unload(&u->lib, false);
        return open_local(path, io, u);
    }
    real = u->lib.call.is_hf3fs(u->dir);
    library_unload(&u->lib, true);
    return real ? open_real(o, io, u) : open_local(NULL, io, u);
}

static int choose(const struct io_options *o, struct io *io, struct usrbio *u)
{
    const char *provider = o->provider && *o->provider ? o->provider : "auto";
    const char *named = secure_getenv("CISTERN_HF3FS_LIB");

    if (strcmp(provider, "hf3fs") == 0)
        return open_real(o, io, u);
    if (strcmp(provider, "local") == 0)
        return open_local(o->provider_path, io, u);
    if (strcmp(provider, "auto") != 0)
        return err_set(CISTERN_ECONFIG,
                       "provider is \"%s\"; it can be \"auto\", \"hf3fs\" or \"local\"", provider);
    if (kernel_says_3fs(u->dir))
        return open_real(o, io, u);
    if (o->provider_path || (named && *named))
        return open_named(o, io, u);
    return open_local(NULL, io, u);
}

static void describe(struct io *io, struct usrbio *u)
{
    int n = u->lib.call.extract_mount_point(u->point, (int)sizeof u->point, io->mount);

    if (n <= 0 || (size_t)n > sizeof u->point)
        (void)snprintf(u->point, sizeof u->point, "%s", io->mount);
    (void)snprintf(io->provider_path, sizeof io->provider_path, "%s", u->lib.path);
    if (!u->lib.call.info || u->lib.call.info(io->mount, io->backend, sizeof io->backend) < 0)
        (void)snprintf(io->backend, sizeof io->backend, "backend=%s", u->real ? "hf3fs" : "other");
    io->inline_reads = strstr(io->backend, "backend=inline") != NULL;
}

int (*io_open_hook)(const struct io_options *o, struct io **out);

int io_open(const struct io_options *o, struct io **out)
{
    struct usrbio *u;
    struct io *io;
    int rc = -ENOMEM;

    if (io_open_hook)
        return io_open_hook(o, out);
    u = calloc(1, sizeof *u);
    io = calloc(1, sizeof *io);
    if (!u || !io || !o->mount) {
        free(u);
        free(io);
        return !u || !io ? rc : err_set(CISTERN_ECONFIG, "mount is not set");
    }
    u->dir = -1;
    io->log = o->log;
    io->private_data = u;
    rc = mount_open(o->mount, io, u);
    if (rc == 0)
        rc = choose(o, io, u);
    io->ops = u->real ? &usrbio_ops_hf3fs : &usrbio_ops_local;
    if (rc) {
        io_close(io);
        return rc;
    }
    describe(io, u);
    log_line(&io->log, LOG_INFO, "%s: provider %s, %s, %s", io->mount, io->ops->name,
             io->provider_path, io->backend);
    *out = io;
    return 0;
}

void io_close(struct io *io)
{
    if (!io)
        return;
    if (io->ops->close)
        io->ops->close(io);
    free(io);
}
