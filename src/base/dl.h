/*
 * dl.h - dlopen with three outcomes: loaded, absent, broken. Absent is normal; broken deserves a
 * word.
 */
#ifndef BASE_DL_H
#define BASE_DL_H

#include <stddef.h>

enum dl_outcome { DL_LOADED, DL_ABSENT, DL_BROKEN };

struct dl_symbol {
    const char *name;
    void **target; /* set when the library loads; untouched else */
    int optional;
};

/*
 * Loads `path` (RTLD_NOW | RTLD_LOCAL) and resolves all symbols. DL_ABSENT: no such file (or no
 * such soname). DL_BROKEN: it is there but does not load, or lacks a symbol that is not optional;
 * why[] says which. The handle is closed again unless DL_LOADED.
 */
enum dl_outcome dl_load(const char *path, const struct dl_symbol *symbols, size_t n, void **handle,
                        char *why, size_t why_size);

#endif
