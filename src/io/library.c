/*
 * library.c - finds and loads a libhf3fs_api_shared.so.
 *
 * Two libraries carry that SONAME: the real 3FS client and the drop-in. Both may be in one process
 * (the host program may have loaded either before us), so a library is only ever opened by absolute
 * path and RTLD_LOCAL, and afterwards every symbol must come from that very file. Absent and broken
 * are different answers: the search goes on past the first and stops at the second.
 *
 * Threads: any. Nothing is kept between calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/dl.h"
#include "cistern.h"
#include "io/io_internal.h"

/* The real client makes a table with an entry per possible descriptor when it is loaded. */
#define MAX_HARD_FILES (1u << 20)

static const char *const usrbio_symbols[] = {
    "hf3fs_is_hf3fs",     "hf3fs_extract_mount_point",
    "hf3fs_iovcreate",    "hf3fs_iovwrap",
    "hf3fs_iovunlink",    "hf3fs_iovdestroy",
    "hf3fs_iorcreate4",   "hf3fs_iordestroy",
    "hf3fs_reg_fd",       "hf3fs_dereg_fd",
    "hf3fs_prep_io",      "hf3fs_submit_ios",
    "hf3fs_wait_for_ios", "cistern_usrbio_info",
};
#define SYMBOLS  ARRAY_LEN(usrbio_symbols)
#define REQUIRED (SYMBOLS - 1)
_Static_assert(sizeof(struct usrbio_calls) == SYMBOLS * sizeof(void *), "one symbol per member");

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* dlopen may answer with an object that was loaded before; dlsym with a dependency's symbol. */
static int check_origin(const char *path, void *const *found)
{
    const void *base = NULL;
    Dl_info where;
    size_t i;

    for (i = 0; i < SYMBOLS; i++) {
        if (!found[i])
            continue;
        if (!dladdr(found[i], &where))
            return err_set(CISTERN_EPROVIDER, "%s: %s belongs to no loaded file", path,
                           usrbio_symbols[i]);
        if ((base && where.dli_fbase != base) || !same_file(where.dli_fname, path))
            return err_set(CISTERN_EPROVIDER, "%s was asked for, but %s comes from %s", path,
                           usrbio_symbols[i], where.dli_fname);
        base = where.dli_fbase;
    }
    return 0;
}

int library_load(const char *path, struct usrbio_library *lib)
{
    struct dl_symbol symbols[SYMBOLS];
    void *found[SYMBOLS] = {NULL};
    enum dl_outcome outcome;
    void *handle = NULL;
    char why[256] = "";
    size_t i;
    int rc;

    if (path[0] != '/' || strlen(path) >= sizeof lib->path)
        return err_set(CISTERN_ECONFIG, "the library's path must be absolute: %s", path);
    for (i = 0; i < SYMBOLS; i++)
        symbols[i] = (struct dl_symbol){usrbio_symbols[i], &found[i], i >= REQUIRED};
    outcome = dl_load(path, symbols, SYMBOLS, &handle, why, sizeof why);
    if (outcome == DL_ABSENT)
        return err_set(-ENOENT, "%s does not exist", path);
    if (outcome == DL_BROKEN)
        return err_set(CISTERN_EPROVIDER, "%s cannot be used: %s", path, why);
    rc = check_origin(path, found);
    if (rc) {
        (void)dlclose(handle);
        return rc;
    }
    lib->handle = handle;
    memcpy(&lib->call, found, sizeof lib->call);
    (void)snprintf(lib->path, sizeof lib->path, "%s", path);
    return 0;
}

void library_unload(struct usrbio_library *lib, bool real)
{
    if (lib->handle && !real)
        (void)dlclose(lib->handle);
    lib->handle = NULL;
}

int library_limit_files(const struct logger *log)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return err_set(-errno, "getrlimit(RLIMIT_NOFILE): %s", strerror(errno));
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max <= MAX_HARD_FILES)
        return 0;
    if (limit.rlim_cur > MAX_HARD_FILES)
        return err_set(CISTERN_EPROVIDER,
                       "the limit of open files is above %u, at which the 3FS client takes "
                       "gigabytes or dies; start the process with `ulimit -n %u`",
                       MAX_HARD_FILES, MAX_HARD_FILES);
    limit.rlim_max = MAX_HARD_FILES;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return err_set(CISTERN_EPROVIDER,
                       "the hard limit of open files cannot be lowered (%s); start the process "
                       "with `ulimit -Hn %u`",
                       strerror(errno), MAX_HARD_FILES);
    log_line(log, LOG_WARN, "hard limit of open files lowered to %u before loading the 3FS client",
             MAX_HARD_FILES);
    return 0;
}

/* An explicit path: absence is an error too. */
static int load_named(const char *path, const char *who, struct usrbio_library *lib)
{
    int rc = library_load(path, lib);

    if (rc == 0)
        return 0;
    err_prefix("%s", who);
    return rc == -ENOENT ? CISTERN_EPROVIDER : rc;
}

static int load_in(const char *dir, size_t dir_len, const char *sub, struct usrbio_library *lib)
{
    char path[512];
    int n = snprintf(path, sizeof path, "%.*s%s/" USRBIO_SONAME, (int)dir_len, dir, sub);

    if (n < 0 || (size_t)n >= sizeof path || path[0] != '/')
        return -ENOENT;
    return library_load(path, lib);
}

/* The same name found first by the loader may be the drop-in, put there on purpose or loaded before
 * by us: that is not the real one, look further. */
static int not_drop_in(int rc, struct usrbio_library *lib)
{
    if (rc == 0 && lib->call.info) {
        library_unload(lib, false);
        return -ENOENT;
    }
    return rc;
}

/* What dlopen of the plain name gives (rpath, LD_LIBRARY_PATH, cache), turned into its path. */
static int load_by_name(struct usrbio_library *lib)
{
    void *h = dlopen(USRBIO_SONAME, RTLD_NOW | RTLD_LOCAL);
    struct link_map *map = NULL;
    char path[PATH_MAX];
    int rc = -ENOENT;

    if (!h) {
        const char *why = dlerror();

        if (why && strstr(why, "No such file"))
            return -ENOENT;
        return err_set(CISTERN_EPROVIDER, "%s cannot be used: %s", USRBIO_SONAME, why ? why : "?");
    }
    if (dlinfo(h, RTLD_DI_LINKMAP, &map) == 0 && map && realpath(map->l_name, path))
        rc = not_drop_in(library_load(path, lib), lib);
    (void)dlclose(h);
    return rc;
}

static int load_on_path(const char *dirs, struct usrbio_library *lib)
{
    int rc = -ENOENT;

    while (dirs && *dirs && rc == -ENOENT) {
        size_t n = strcspn(dirs, ":");

        rc = not_drop_in(load_in(dirs, n, "", lib), lib);
        dirs += n + (dirs[n] == ':');
    }
    return rc;
}

int library_find_real(const char *provider_path, struct usrbio_library *lib)
{
    static const char usual[] =
        "/usr/local/lib:/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu:"
        "/usr/lib64:/usr/lib:/opt/3fs/lib:/opt/3fs/bin";
    const char *named = secure_getenv("CISTERN_HF3FS_LIB");
    int rc;

    if (provider_path)
        return load_named(provider_path, "provider_path", lib);
    if (named && *named)
        return load_named(named, "CISTERN_HF3FS_LIB", lib);
    rc = load_by_name(lib);
    if (rc == -ENOENT)
        rc = load_on_path(secure_getenv("LD_LIBRARY_PATH"), lib);
    if (rc == -ENOENT)
        rc = load_on_path(usual, lib);
    if (rc == -ENOENT)
        return err_set(CISTERN_EPROVIDER,
                       "the 3FS client %s was not found; name it in provider_path or "
                       "CISTERN_HF3FS_LIB",
                       USRBIO_SONAME);
    return rc;
}

/* Directory of the file that holds this function: libcistern.so, or a program linked with it. */
static int own_dir(char dir[PATH_MAX])
{
    Dl_info where;
    char *slash;

    if (!dladdr((const void *)usrbio_symbols, &where) || !realpath(where.dli_fname, dir))
        return -ENOENT;
    slash = strrchr(dir, '/');
    if (!slash)
        return -ENOENT;
    *slash = 0;
    return 0;
}

int library_find_local(const char *provider_path, struct usrbio_library *lib)
{
    const char *named = secure_getenv("CISTERN_LOCAL_LIB");
    char dir[PATH_MAX] = "";
    int rc = -ENOENT;

    if (provider_path)
        return load_named(provider_path, "provider_path", lib);
    if (named && *named)
        return load_named(named, "CISTERN_LOCAL_LIB", lib);
    if (own_dir(dir) == 0) {
        rc = load_in(dir, strlen(dir), "/hf3fs", lib);
        if (rc == -ENOENT)
            rc = load_in(dir, strlen(dir), "/cistern/hf3fs", lib);
    }
    if (rc == -ENOENT)
        return err_set(CISTERN_EPROVIDER,
                       "the drop-in %s was found neither in %s/hf3fs nor in %s/cistern/hf3fs; "
                       "name it in CISTERN_LOCAL_LIB",
                       USRBIO_SONAME, dir, dir);
    return rc;
}
