/*
 * deleted.h - whether this process still has a data file open that was removed: its room is not
 * free.
 */
#ifndef HARNESS_DELETED_H
#define HARNESS_DELETED_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static inline bool holds_deleted_data(void)
{
    char path[300], target[512];
    bool found = false;
    struct dirent *e;
    DIR *d = opendir("/proc/self/fd");
    ssize_t n;

    assert_non_null(d);
    while ((e = readdir(d))) {
        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        found |= strstr(target, ".seg (deleted)") != NULL;
    }
    (void)closedir(d);
    return found;
}

#endif
