/*
 * skewed_clock.c - preloaded into a process it moves that process's wall clock by SKEW_SECONDS.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *t)
{
    const char *skew = getenv("SKEW_SECONDS");
    int rc = (int)syscall(SYS_clock_gettime, id, t);

    if (rc == 0 && id == CLOCK_REALTIME && skew)
        t->tv_sec += atol(skew);
    return rc;
}
