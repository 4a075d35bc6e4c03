/*
 * guard.c - what keeps a handle from doing harm: the fork guard, the registry of open shards, the
 * trip.
 *
 * The fork guard is a page that the kernel wipes in a child (MADV_WIPEONFORK): a check is one load,
 * no system call. The registry is the only state that a process has beside its handles; a child
 * ignores what its parent noted there.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "engine/engine.h"

#define REGISTRY_MAX 256

static _Atomic pid_t registry_owner; /* 0 = nobody holds it */
static struct {
    cistern *handle;
    pid_t pid;
} registry[REGISTRY_MAX]; /* guarded by registry_lock() */

/*
 * A lock that a fork cannot leave locked: in the child the owner is another process, and what it
 * was doing went on there.
 */
static void registry_lock(void)
{
    pid_t me = getpid(), seen = 0;

    while (!atomic_compare_exchange_weak(&registry_owner, &seen, me)) {
        if (seen == me) {
            (void)sched_yield();
            seen = 0;
        }
    }
}

static void registry_unlock(void)
{
    atomic_store(&registry_owner, 0);
}

int guard_open(cistern *c)
{
    uint32_t *page =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return err_set(-ENOMEM, "no memory for the fork guard");
    if (madvise(page, PAGE_BYTES, MADV_WIPEONFORK)) {
        int rc = -errno;

        (void)munmap(page, PAGE_BYTES);
        return err_set(rc, "this kernel has no MADV_WIPEONFORK (Linux 4.14 has it)");
    }
    *page = 1;
    c->alive = page;
    return 0;
}

void guard_close(cistern *c)
{
    if (c->alive)
        (void)munmap((void *)(uintptr_t)c->alive, PAGE_BYTES);
    c->alive = NULL;
}

int guard_check(const cistern *c)
{
    if (!c)
        return err_set(-EINVAL, "the handle is NULL");
    if (!*(const volatile uint32_t *)c->alive)
        return err_set(CISTERN_EFORKED,
                       "this handle was opened before a fork: open one in the child");
    return 0;
}

/* Only handles that write exclude each other: readers of one shard may be many. */
int registry_add(cistern *c)
{
    pid_t pid = getpid();
    int i, room = -1, rc = 0;

    if (c->cfg.flags & (CISTERN_OPEN_MATCH_ONLY | CISTERN_OPEN_READ_ONLY))
        return 0;
    registry_lock();
    for (i = 0; i < REGISTRY_MAX && !rc; i++) {
        if (!registry[i].handle || registry[i].pid != pid)
            room = i;
        else if (strcmp(registry[i].handle->registry_name, c->registry_name) == 0)
            rc = err_set(CISTERN_ESHARD,
                         "shard %u of this space is open already in this process: close that "
                         "handle first, or open read-only",
                         c->cfg.shard);
    }
    if (!rc && room < 0)
        rc = err_set(-EMFILE, "%d shards are open in this process", REGISTRY_MAX);
    if (!rc) {
        registry[room].handle = c;
        registry[room].pid = pid;
    }
    registry_unlock();
    return rc;
}

void registry_remove(cistern *c)
{
    int i;

    registry_lock();
    for (i = 0; i < REGISTRY_MAX; i++) {
        if (registry[i].handle == c)
            registry[i].handle = NULL;
    }
    registry_unlock();
}

void engine_trip(cistern *c, const char *reason, int line)
{
    const char *none = NULL;

    if (!atomic_compare_exchange_strong(&c->tripped, &none, reason))
        return;
    metric_set(&c->metrics, METRIC_tripped, 1);
    log_line(&c->cfg.log, LOG_ERROR,
             "tripped: %s does not hold (line %d); every answer is a miss from now on", reason,
             line);
}
