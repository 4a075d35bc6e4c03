/*
 * unload_usrbio.c - loads the drop-in, writes and reads a file through its rings, unloads.
 *
 *   unload_usrbio LIBRARY DIR ROUNDS
 */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "hf3fs_usrbio.h"
#include "unload.h"

enum { BYTES = 65536 };

static struct {
    __typeof__(hf3fs_iovcreate) *iovcreate;
    __typeof__(hf3fs_iovdestroy) *iovdestroy;
    __typeof__(hf3fs_iorcreate4) *iorcreate4;
    __typeof__(hf3fs_iordestroy) *iordestroy;
    __typeof__(hf3fs_reg_fd) *reg_fd;
    __typeof__(hf3fs_dereg_fd) *dereg_fd;
    __typeof__(hf3fs_prep_io) *prep_io;
    __typeof__(hf3fs_submit_ios) *submit_ios;
    __typeof__(hf3fs_wait_for_ios) *wait_for_ios;
} call;

static const char *resolve(void *library)
{
    static const char *const names[] = {
        "hf3fs_iovcreate",  "hf3fs_iovdestroy", "hf3fs_iorcreate4",
        "hf3fs_iordestroy", "hf3fs_reg_fd",     "hf3fs_dereg_fd",
        "hf3fs_prep_io",    "hf3fs_submit_ios", "hf3fs_wait_for_ios",
    };
    void **slots = (void **)&call;
    size_t i;

    for (i = 0; i < sizeof names / sizeof *names; i++) {
        slots[i] = dlsym(library, names[i]);
        if (!slots[i])
            return names[i];
    }
    return NULL;
}

/* One I/O of BYTES on a ring of its own. */
static int move(struct hf3fs_iov *iov, const char *dir, int fd, bool read)
{
    struct hf3fs_ior ior;
    struct hf3fs_cqe cqe = {.result = -1};
    struct timespec until;
    int n = -1;

    if (call.iorcreate4(&ior, dir, 4, read, 0, 0, -1, 0))
        return -1;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    if (call.prep_io(&ior, iov, read, iov->base, fd, 0, BYTES, NULL) >= 0 &&
        call.submit_ios(&ior) == 0)
        n = call.wait_for_ios(&ior, &cqe, 1, 1, &until);
    call.iordestroy(&ior);
    return n == 1 && cqe.result == BYTES ? 0 : -1;
}

static void *use_it(void *arg)
{
    struct use *use = arg;
    struct hf3fs_iov iov;
    char path[512];
    int fd = -1, registered = 1;

    use->why = resolve(use->library);
    if (use->why)
        return NULL;
    (void)snprintf(path, sizeof path, "%s/3fs-virt", use->dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/3fs-virt/iovs", use->dir);
    (void)mkdir(path, 0700);
    if (call.iovcreate(&iov, use->dir, BYTES, 0, -1)) {
        use->why = "iovcreate";
        return NULL;
    }
    (void)snprintf(path, sizeof path, "%s/data", use->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        registered = call.reg_fd(fd, 0);
    memset(iov.base, 0x5c, BYTES);
    if (registered > 0)
        use->why = "reg_fd";
    else if (move(&iov, use->dir, fd, false))
        use->why = "write";
    memset(iov.base, 0, BYTES);
    if (!use->why && (move(&iov, use->dir, fd, true) || iov.base[7] != 0x5c))
        use->why = "read";
    if (registered <= 0)
        call.dereg_fd(fd);
    if (fd >= 0)
        close(fd);
    call.iovdestroy(&iov);
    return NULL;
}

int main(int argc, char **argv)
{
    return rounds(argc, argv);
}
