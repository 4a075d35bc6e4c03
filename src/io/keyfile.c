/*
 * keyfile.c - see keyfile.h. The mode is looked at through the open file, so that what is read is
 * what was judged. Threads: any.
 */
#include "io/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int judge(int fd, const char *path)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_set(-errno, "the key file %s cannot be looked at", path);
    if (!S_ISREG(st.st_mode))
        return err_set(-EINVAL, "the key file %s is no regular file", path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return err_set(-EACCES, "the key file %s is open to others (mode %03o): chmod 600 %s", path,
                       (unsigned)(st.st_mode & 0777), path);
    return 0;
}

int64_t keyfile_read(const char *path, void *buf, size_t size)
{
    size_t got = 0;
    char more;
    ssize_t n = 1;
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return err_set(-errno, "the key file %s cannot be opened: %s", path,
                       errno == ENOENT ? "there is no such file" : "it may not be read");
    rc = judge(fd, path);
    while (!rc && got < size && n != 0) {
        n = pread(fd, (char *)buf + got, size - got, (off_t)got);
        if (n < 0 && errno != EINTR)
            rc = err_set(-errno, "the key file %s cannot be read", path);
        got += n > 0 ? (size_t)n : 0;
    }
    if (!rc && got == size && pread(fd, &more, 1, (off_t)size) > 0)
        rc = err_set(-EFBIG, "the key file %s is too long", path);
    (void)close(fd);
    return rc ? rc : (int64_t)got;
}
