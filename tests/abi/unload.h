/*
 * unload.h - what both unload programs share: counting what a process has, and the rounds.
 *
 * A round loads the library by its path, uses it in a thread, and unloads it. After the first few
 * rounds (the loader and libc keep something for good) no thread, no descriptor, no mapping of the
 * library and no memory may be left over from one round to the next.
 */
#ifndef TESTS_ABI_UNLOAD_H
#define TESTS_ABI_UNLOAD_H

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_UP    3
#define GROWTH_MIB 128 /* arenas of libc may still come; a leak of the staging areas is more */

struct use {
    void *library;
    const char *dir;
    const char *why; /* NULL = worked */
};

/* Of the library under test: sets why on failure. */
static void *use_it(void *arg);

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static int mapped(const char *name)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    int n = 0;

    while (f && fgets(line, sizeof line, f))
        n += strstr(line, name) != NULL;
    if (f)
        fclose(f);
    return n;
}

/* Address space in MiB: a mapping that is forgotten in each round adds up. */
static long address_space(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = 0;

    if (f) {
        if (fscanf(f, "%ld", &pages) != 1)
            pages = 0;
        fclose(f);
    }
    return pages * sysconf(_SC_PAGESIZE) >> 20;
}

static int one_round(const char *path, const char *dir)
{
    struct use use = {dlopen(path, RTLD_NOW | RTLD_LOCAL), dir, NULL};
    pthread_t thread;

    if (!use.library) {
        printf("dlopen: %s\n", dlerror());
        return 1;
    }
    if (pthread_create(&thread, NULL, use_it, &use) || pthread_join(thread, NULL)) {
        printf("no thread\n");
        return 1;
    }
    if (use.why)
        printf("use: %s\n", use.why);
    if (dlclose(use.library)) {
        printf("dlclose: %s\n", dlerror());
        return 1;
    }
    return use.why != NULL;
}

/* `stays`: the library is linked with -z nodelete, its code remains mapped on purpose. */
static int rounds(int argc, char **argv, int stays)
{
    int i, n, threads = 0, files = 0;
    long mib = 0;

    if (argc < 4)
        return 2;
    n = atoi(argv[3]);
    for (i = 0; i < n; i++) {
        if (one_round(argv[1], argv[2]))
            return 1;
        if (i + 1 == WARM_UP) {
            threads = entries("/proc/self/task");
            files = entries("/proc/self/fd");
            mib = address_space();
        }
        if (i < WARM_UP)
            continue;
        if (entries("/proc/self/task") != threads || entries("/proc/self/fd") != files) {
            printf("round %d left a thread or a descriptor: %d and %d entries, %d and %d before\n",
                   i, entries("/proc/self/task"), entries("/proc/self/fd"), threads, files);
            return 1;
        }
        if (!stays && mapped(argv[1])) {
            printf("round %d: %s is still mapped\n", i, argv[1]);
            return 1;
        }
    }
    if (n > WARM_UP && address_space() > mib + GROWTH_MIB) {
        printf("address space grew from %ld to %ld MiB\n", mib, address_space());
        return 1;
    }
    printf("%d rounds, %ld MiB of address space after %d of them, %ld at the end\n", n, mib,
           WARM_UP, address_space());
    return 0;
}

#endif
