/*
 * memroom.c - how much memory the kernel could still hand out without killing somebody.
 *
 * /dev/shm may be larger than what is left of the machine or of the container; filling it then ends
 * in the OOM killer, not in an error. The answer is the smaller of what /proc/meminfo calls
 * available and the room below the cgroup's limit (version 2), its page cache counted as room.
 * Unknown means no limit. Threads: any.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "io/io_internal.h"

#define CGROUP_DIR "/sys/fs/cgroup"

/* The number behind `name` at the beginning of a line. */
static bool value_of(const char *path, const char *name, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    size_t n = strlen(name);
    char line[256];
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, name, n) == 0 && sscanf(line + n, " %" SCNu64, out) == 1;
    if (f)
        (void)fclose(f);
    return found;
}

static bool cgroup_dir(char dir[PATH_MAX])
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX - sizeof CGROUP_DIR];
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        found = strncmp(line, "0::/", 4) == 0;
    }
    if (f)
        (void)fclose(f);
    if (found)
        (void)snprintf(dir, PATH_MAX, CGROUP_DIR "%s", line + 3);
    return found;
}

static uint64_t cgroup_room(void)
{
    char dir[PATH_MAX], path[PATH_MAX + 32];
    uint64_t limit, used, cache = 0;

    if (!cgroup_dir(dir))
        return UINT64_MAX;
    (void)snprintf(path, sizeof path, "%s/memory.max", dir);
    if (!value_of(path, "", &limit)) /* "max" is no number */
        return UINT64_MAX;
    (void)snprintf(path, sizeof path, "%s/memory.current", dir);
    if (!value_of(path, "", &used))
        return UINT64_MAX;
    (void)snprintf(path, sizeof path, "%s/memory.stat", dir);
    (void)value_of(path, "inactive_file ", &cache);
    used -= min_u64(used, cache);
    return limit - min_u64(limit, used);
}

uint64_t memory_room(void)
{
    uint64_t kib, room = cgroup_room();

    if (value_of("/proc/meminfo", "MemAvailable:", &kib))
        room = min_u64(room, kib << 10);
    return room;
}
