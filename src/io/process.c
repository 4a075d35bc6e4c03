/* process.c - see process.h. */
#include "io/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_FIELD 22 /* of /proc/PID/stat, the first one being 1 */

uint64_t process_start_ticks(uint32_t pid)
{
    char path[48] = "/proc/self/stat", line[1024], *at;
    uint64_t ticks = 0;
    ssize_t n;
    int fd, field;

    if (pid)
        (void)snprintf(path, sizeof path, "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, line, sizeof line - 1);
    (void)close(fd);
    line[n > 0 ? n : 0] = 0;
    at = strrchr(line, ')'); /* the second field is a name and may hold anything */
    for (field = 2; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at && sscanf(at, " %" SCNu64, &ticks) == 1 ? ticks : 0;
}

uint64_t process_files_max(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

uint64_t process_pid_namespace(void)
{
    struct stat st;

    return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}
