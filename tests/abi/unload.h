/*
 * unload.h - what both unload programs share: counting what a process has, and the rounds.
 *
 * A round loads the library by its path, uses it in a thread, and unloads it. After the first few
 * rounds (the loader and libc keep something for good) no thread, no descriptor and no memory may
 * be left over from one round to the next. The code itself stays mapped: both libraries are linked
 * with -z nodelete, for a thread that waits for dead storage may outlive them.
 */
#ifndef TESTS_ABI_UNLOAD_H
#define TESTS_ABI_UNLOAD_H

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WARM_UP    3
#define GROWTH_MIB 32 /* a staging area or an index that is forgotten in each round is more */

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
    struct dirent *e;
    int n = 0;

    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
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

/* 1: only the main thread is left. A joined thread may be listed for a moment longer. */
static int alone(void)
{
    int i;

    for (i = 0; i < 200 && entries("/proc/self/task") > 1; i++)
        usleep(10000);
    return entries("/proc/self/task") == 1;
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

static int check_round(int files)
{
    if (!alone())
        printf("left %d threads\n", entries("/proc/self/task") - 1);
    else if (entries("/proc/self/fd") != files)
        printf("left %d descriptors, %d before\n", entries("/proc/self/fd"), files);
    else
        return 0;
    return 1;
}

static int rounds(int argc, char **argv)
{
    int i, n, files = 0;
    long mib = 0;

    if (argc < 4)
        return 2;
    n = atoi(argv[3]);
    /* Each arena of libc would take 64 MiB of addresses at some time. */
    (void)mallopt(M_ARENA_MAX, 1);
    for (i = 0; i < n; i++) {
        if (one_round(argv[1], argv[2]))
            return 1;
        if (i + 1 == WARM_UP) {
            files = entries("/proc/self/fd");
            mib = address_space();
        }
        if (i >= WARM_UP && check_round(files)) {
            printf("in round %d\n", i);
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
