/*
 * hostfile.c - see hostfile.h. Threads: any. Nothing is kept between calls.
 *
 * The FUSE daemon of 3FS mounts with the source "hf3fs.<cluster id>".
 */
#include "io/hostfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNTINFO  "/proc/self/mountinfo"
#define INFO_BYTES (4u << 20)
#define SOURCE     "hf3fs."

/* Up to `size` bytes; fewer only at the end of the file. */
static int64_t read_some(int fd, char *buf, size_t size)
{
    size_t got = 0;
    ssize_t n = 1;

    while (got < size && n != 0) {
        n = read(fd, buf + got, size - got);
        if (n < 0 && errno != EINTR)
            return -errno;
        got += n > 0 ? (size_t)n : 0;
    }
    return (int64_t)got;
}

int64_t hostfile_read(const char *path, void *buf, size_t size)
{
    struct stat st;
    int64_t n;
    char more;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0)
        n = -errno;
    else if (!S_ISREG(st.st_mode))
        n = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    else
        n = read_some(fd, buf, size);
    if (n == (int64_t)size && read(fd, &more, 1) > 0)
        n = -EFBIG;
    (void)close(fd);
    return n;
}

/* The n-th field of a line, counted from 0. */
static const char *field(const char *line, const char *end, int n, size_t *len)
{
    for (; n && line < end; n--) {
        const char *space = memchr(line, ' ', (size_t)(end - line));

        line = space ? space + 1 : end;
    }
    *len = 0;
    while (line + *len < end && line[*len] != ' ')
        ++*len;
    return line;
}

/* Length of a mount point if the path is at or below it, else -1. The kernel writes a space as
 * \040; `at` has it so, `path` as it is. */
static long covers(const char *at, size_t len, const char *path)
{
    size_t i = 0, n = 0;

    while (i < len) {
        char c = at[i];

        if (c == '\\' && i + 3 < len) {
            c = (char)((at[i + 1] - '0') * 64 + (at[i + 2] - '0') * 8 + (at[i + 3] - '0'));
            i += 3;
        }
        i++;
        if (path[n] != c)
            return n && i == len && c == '/' && !path[n] ? (long)n : -1;
        n++;
    }
    if (n && path[n - 1] == '/') /* the root directory */
        n--;
    return path[n] == '/' || path[n] == '\0' ? (long)n : -1;
}

void mounted_3fs_in(const char *mountinfo, const char *path, char *id, size_t size)
{
    const char *line = mountinfo, *end, *source = NULL;
    size_t source_len = 0, len;
    long longest = -1;

    for (; *line; line = *end ? end + 1 : end) {
        const char *point, *dash;
        long n;

        end = line + strcspn(line, "\n");
        point = field(line, end, 4, &len);
        n = covers(point, len, path);
        dash = memmem(point, (size_t)(end - point), " - ", 3);
        /* The longest, and of equal ones the last: it lies on top. */
        if (!len || n < longest || n < 0 || !dash)
            continue;
        longest = n;
        source = field(dash + 3, end, 1, &source_len);
    }
    id[0] = '\0';
    len = sizeof SOURCE - 1;
    if (source && source_len > len && source_len - len < size &&
        strncmp(source, SOURCE, len) == 0) {
        memcpy(id, source + len, source_len - len);
        id[source_len - len] = '\0';
    }
}

int mounted_3fs(const char *path, char *id, size_t size)
{
    char *text = malloc(INFO_BYTES + 1);
    int64_t n;

    if (!text)
        return -ENOMEM;
    n = hostfile_read(MOUNTINFO, text, INFO_BYTES);
    if (n >= 0) {
        text[n] = '\0';
        mounted_3fs_in(text, path, id, size);
    }
    free(text);
    return n < 0 ? (int)n : 0;
}
