/*
 * failat.c - see failat.h.
 */
#include "failat.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"

#define ALLOC_SITES 256

/* ---- Allocations of the library that fail ---- */

static atomic_ulong alloc_seen, alloc_n; /* n 0: none fails */
static atomic_bool alloc_fired;
static struct {
    const void *caller;
    unsigned long hits;
} alloc_sites[ALLOC_SITES]; /* guarded by nothing: one allocation fails a round */
static unsigned nalloc_sites;

#if FAILAT_COUNTING
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

static bool alloc_fails(const void *caller)
{
    unsigned i;

    if (sim_depth || !atomic_load(&alloc_n) ||
        atomic_fetch_add(&alloc_seen, 1) + 1 != atomic_load(&alloc_n))
        return false;
    atomic_store(&alloc_fired, true);
    for (i = 0; i < nalloc_sites && alloc_sites[i].caller != caller; i++)
        ;
    if (i == nalloc_sites && i < ALLOC_SITES)
        alloc_sites[nalloc_sites++].caller = caller;
    if (i < ALLOC_SITES)
        alloc_sites[i].hits++;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_aligned_alloc(align, size);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    if (alloc_fails(__builtin_return_address(0))) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, size, prot, flags, fd, offset);
}
#endif

/* ---- Arming ---- */

static const struct sim_site *only_at; /* the round's fault comes there; NULL: at the n-th call */

void failat_arm(struct simfs *fs, uint32_t kind, uint64_t n, bool sticky)
{
    atomic_store(&alloc_fired, false);
    atomic_store(&alloc_seen, 0);
    if (kind == FAILAT_ALLOC)
        atomic_store(&alloc_n, n);
    else if (only_at)
        simfs_arm_at(fs, (enum sim_fault)kind, only_at);
    else
        simfs_arm(fs, kind == FAILAT_POWER ? SIM_KILL : (enum sim_fault)kind, n, sticky);
}

bool failat_fired(struct simfs *fs, uint32_t kind)
{
    return kind == FAILAT_ALLOC ? atomic_load(&alloc_fired) : simfs_fired(fs) != 0;
}

bool failat_disarm(struct simfs *fs, uint32_t kind)
{
    bool fired = failat_fired(fs, kind);

    atomic_store(&alloc_n, 0);
    simfs_calm(fs);
    simfs_capacity(fs, 0);
    return fired;
}

/* ---- Loops ---- */

static const char *kind_name(uint32_t kind)
{
    return kind == FAILAT_ALLOC   ? "allocation"
           : kind == FAILAT_POWER ? "power_cut"
                                  : sim_fault_names[kind];
}

/* How many call sites it hit more often than `before` says; brings that up to date. */
static uint32_t sites_hit(uint32_t kind, uint64_t before[SIM_SITES_MAX + ALLOC_SITES])
{
    uint32_t n, i, hit = 0;
    const struct sim_site *s = simfs_sites(&n);

    for (i = 0; i < n && kind < SIM_FAULT_KINDS; i++) {
        hit += s[i].hits[kind] != before[i];
        before[i] = s[i].hits[kind];
    }
    for (i = 0; i < nalloc_sites && kind == FAILAT_ALLOC; i++) {
        hit += alloc_sites[i].hits != before[SIM_SITES_MAX + i];
        before[SIM_SITES_MAX + i] = alloc_sites[i].hits;
    }
    return hit;
}

/* True: the loop came to an end and found nothing. */
static bool loop(const struct failat *f, uint32_t op, uint32_t kind, bool sticky)
{
    static uint64_t before[SIM_SITES_MAX + ALLOC_SITES];
    char finding[512] = "";
    uint64_t n = 0, start = clock_ns();

    (void)sites_hit(kind, before);
    while (n < f->rounds && !finding[0] &&
           f->round(op, kind, n + 1, sticky, finding, sizeof finding))
        n++;
    if (!finding[0] && n == 0)
        (void)snprintf(finding, sizeof finding, "it never fired");
    if (!finding[0] && n == f->rounds)
        (void)snprintf(finding, sizeof finding, "no end");
    printf("%-14s %-12s %-6s n = %-4llu %2u sites %6llu ms%s%s\n", f->name(op), kind_name(kind),
           sticky ? "sticky" : "", (unsigned long long)n, sites_hit(kind, before),
           (unsigned long long)((clock_ns() - start) / NS_PER_MS), finding[0] ? "  WRONG: " : "",
           finding);
    (void)fflush(stdout);
    return !finding[0];
}

static bool was_hit(const struct sim_site *s)
{
    uint32_t k;

    for (k = 0; k < SIM_FAULT_KINDS && !s->hits[k]; k++)
        ;
    return k < SIM_FAULT_KINDS;
}

/* Which thread comes first decides whose call is the n-th: places that were met while a fault was
 * armed and never had it get one of their own. True: nothing was found. */
static bool missed_sites(const struct failat *f, uint32_t op)
{
    char finding[512] = "";
    uint32_t i, n, kind, rounds = 0, hit = 0;
    const struct sim_site *s = simfs_sites(&n);

    for (i = 0; i < n && !finding[0]; i++) {
        for (kind = 0; kind < SIM_FAULT_KINDS && !was_hit(&s[i]) && !finding[0]; kind++) {
            if (!s[i].met[kind] || kind == SIM_KILL)
                continue;
            only_at = &s[i];
            rounds++;
            (void)f->round(op, kind, 1, false, finding, sizeof finding);
            only_at = NULL;
            hit += was_hit(&s[i]);
        }
    }
    if (rounds)
        printf("%-14s places that were missed: %u rounds, %u hit%s%s\n", f->name(op), rounds, hit,
               finding[0] ? "  WRONG: " : "", finding);
    (void)fflush(stdout);
    return !finding[0];
}

static int write_sites(const char *path)
{
    FILE *f = fopen(path, "w");
    uint32_t n, i, k;
    const struct sim_site *s = simfs_sites(&n);

    if (!f)
        return 1;
    for (i = 0; i < n; i++) {
        uint64_t hits = 0;

        for (k = 0; k < SIM_FAULT_KINDS; k++)
            hits += s[i].hits[k];
        fprintf(f, "%s %p %llu %llu\n", s[i].verb, s[i].caller, (unsigned long long)s[i].calls,
                (unsigned long long)hits);
    }
    for (i = 0; i < nalloc_sites; i++)
        fprintf(f, "alloc %p %lu %lu\n", alloc_sites[i].caller, alloc_sites[i].hits,
                alloc_sites[i].hits);
    return fclose(f);
}

static int list_operations(const struct failat *f)
{
    uint32_t i;

    for (i = 0; i < f->count; i++)
        printf("%s\n", f->name(i));
    return 0;
}

static void run_operation(const struct failat *f, uint32_t op, uint32_t *passed, uint32_t *failed)
{
    uint32_t kind;

    for (kind = 0; kind < FAILAT_KINDS; kind++) {
        if (!(f->kinds(op) & 1u << kind))
            continue;
        ++*(loop(f, op, kind, false) ? passed : failed);
        if (f->stays & 1u << kind && !(f->stays_not && f->stays_not(op)))
            ++*(loop(f, op, kind, true) ? passed : failed);
    }
    if (!missed_sites(f, op))
        ++*failed;
}

int failat_main(const struct failat *f, int argc, char **argv)
{
    const char *only = NULL, *sites = NULL;
    uint32_t passed = 0, failed = 0, i;
    int a;

    for (a = 1; a < argc; a++) {
        if (strcmp(argv[a], "--sites") == 0 && a + 1 < argc)
            sites = argv[++a];
        else if (strcmp(argv[a], "--list") != 0)
            only = argv[a];
        else
            return list_operations(f);
    }
    for (i = 0; i < f->count; i++) {
        if (!only || strcmp(only, f->name(i)) == 0)
            run_operation(f, i, &passed, &failed);
    }
    if (sites && write_sites(sites))
        failed++;
    printf("\n%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
