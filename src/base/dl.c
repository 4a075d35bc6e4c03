/* dl.c - dlopen with three outcomes. No state; any thread. */
#include "base/dl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum dl_outcome open_failed(const char *path, char *why, size_t why_size)
{
    const char *text = dlerror();

    (void)snprintf(why, why_size, "%s", text ? text : "unknown error");
    if (strchr(path, '/'))
        return access(path, F_OK) == 0 ? DL_BROKEN : DL_ABSENT;
    return text && strncmp(text, path, strlen(path)) == 0 && strstr(text, "No such file")
               ? DL_ABSENT
               : DL_BROKEN;
}

enum dl_outcome dl_load(const char *path, const struct dl_symbol *symbols, size_t n, void **handle,
                        char *why, size_t why_size)
{
    void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    size_t i;

    if (!h)
        return open_failed(path, why, why_size);
    for (i = 0; i < n; i++) {
        if (!dlsym(h, symbols[i].name) && !symbols[i].optional) {
            (void)snprintf(why, why_size, "%s lacks the symbol %s", path, symbols[i].name);
            (void)dlclose(h);
            return DL_BROKEN;
        }
    }
    for (i = 0; i < n; i++)
        *symbols[i].target = dlsym(h, symbols[i].name);
    *handle = h;
    return DL_LOADED;
}
