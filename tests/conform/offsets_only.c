/*
 * offsets_only.c - a client written from the specification's numbers alone. It includes no header
 * of the interface: structures are byte arrays, fields are read at their offsets, prototypes are
 * its own.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern int hf3fs_iovcreate(void *iov, const char *mp, size_t size, size_t block_size, int numa);
extern void hf3fs_iovdestroy(void *iov);
extern int hf3fs_iorcreate4(void *ior, const char *mp, int entries, bool for_read, int io_depth,
                            int timeout, int numa, uint64_t flags);
extern int hf3fs_iorcreate3(void *ior, const char *mp, int entries, bool for_read, int io_depth,
                            int priority, int timeout, int numa);
extern void hf3fs_iordestroy(void *ior);
extern int hf3fs_prep_io(const void *ior, const void *iov, bool read, void *ptr, int fd, size_t off,
                         uint64_t len, const void *userdata);
extern int hf3fs_submit_ios(const void *ior);
extern int hf3fs_wait_for_ios(const void *ior, void *cqes, int cqec, int min_results,
                              const void *abs_timeout);

int offsets_only_run(const char *mp, int fd, const uint8_t *expect, size_t size);

#define IOV_SIZE 312
#define IOR_SIZE 600
#define CQE_SIZE 24

#define FIELD(type, memory, offset)                                                                \
    (__extension__({                                                                               \
        type value_;                                                                               \
        memcpy(&value_, (const uint8_t *)(memory) + (offset), sizeof(value_));                     \
        value_;                                                                                    \
    }))

#define NEED(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "offsets_only.c:%d: %s\n", __LINE__, #condition);                      \
            return __LINE__;                                                                       \
        }                                                                                          \
    } while (0)

static int check_iov(const uint8_t *iov, const char *mp, size_t size)
{
    NEED(FIELD(void *, iov, 0) != NULL); /* base */
    NEED((uintptr_t)FIELD(void *, iov, 0) % 4096 == 0);
    NEED(FIELD(void *, iov, 8) != NULL);           /* iovh */
    NEED((iov[16 + 6] & 0xf0) == 0x40);            /* id: a random uuid, raw */
    NEED(strcmp((const char *)iov + 32, mp) == 0); /* mount_point */
    NEED(FIELD(size_t, iov, 288) == size);         /* size */
    NEED(FIELD(size_t, iov, 296) == 4096);         /* block_size */
    NEED(FIELD(int, iov, 304) == -1);              /* numa */
    return 0;
}

static int check_rings(const char *mp)
{
    uint8_t ior[IOR_SIZE + 16];

    memset(ior, 0xa5, sizeof(ior));
    NEED(hf3fs_iorcreate3(ior, mp, 16, false, -4, 1, 250, -1) == 0);
    NEED(FIELD(void *, ior, 0) != NULL);            /* iov.base */
    NEED(FIELD(size_t, ior, 288) == 5776);          /* iov.size for 16 entries */
    NEED(FIELD(void *, ior, 312) != NULL);          /* iorh */
    NEED(strcmp((const char *)ior + 320, mp) == 0); /* mount_point */
    NEED(FIELD(uint8_t, ior, 576) == 0);            /* for_read */
    NEED(FIELD(int, ior, 580) == -4);               /* io_depth */
    NEED(FIELD(int, ior, 584) == 1);                /* priority */
    NEED(FIELD(int, ior, 588) == 250);              /* timeout */
    NEED(FIELD(uint64_t, ior, 592) == 0);           /* flags */
    for (int i = IOR_SIZE; i < IOR_SIZE + 16; i++)
        NEED(ior[i] == 0xa5); /* nothing beyond the structure */
    hf3fs_iordestroy(ior);
    NEED(FIELD(void *, ior, 312) == NULL);
    NEED(hf3fs_iorcreate4(ior, mp, 1, true, 0, 7, -1, 3) == 0);
    NEED(FIELD(uint8_t, ior, 576) == 1);
    NEED(FIELD(int, ior, 584) == 0);
    NEED(FIELD(int, ior, 588) == 7);
    NEED(FIELD(uint64_t, ior, 592) == 3);
    NEED(FIELD(size_t, ior, 288) == 4336);
    hf3fs_iordestroy(ior);
    return 0;
}

/* Reads `size` bytes of `fd` as sixteen I/Os and compares them with what the other client wrote. 0,
 * or a line. */
int offsets_only_run(const char *mp, int fd, const uint8_t *expect, size_t size)
{
    uint8_t iov[IOV_SIZE + 16], ior[IOR_SIZE], cqes[16 * CQE_SIZE], *base;
    size_t part = size / 16;
    int rc;

    rc = check_rings(mp);
    if (rc != 0)
        return rc;
    memset(iov, 0xa5, sizeof(iov));
    memset(cqes, 0xa5, sizeof(cqes));
    NEED(hf3fs_iovcreate(iov, mp, size, 4096, -1) == 0);
    rc = check_iov(iov, mp, size);
    if (rc != 0)
        return rc;
    for (int i = IOV_SIZE; i < IOV_SIZE + 16; i++)
        NEED(iov[i] == 0xa5);
    base = FIELD(uint8_t *, iov, 0);
    NEED(hf3fs_iorcreate4(ior, mp, 16, true, 0, 0, -1, 0) == 0);
    for (size_t i = 0; i < 16; i++)
        NEED(hf3fs_prep_io(ior, iov, true, base + i * part, fd, i * part, part,
                           (void *)(i + 1000)) == (int)i);
    NEED(hf3fs_submit_ios(ior) == 0);
    NEED(hf3fs_wait_for_ios(ior, cqes, 16, 16, NULL) == 16);
    for (size_t i = 0; i < 16; i++) {
        const uint8_t *cqe = cqes + i * CQE_SIZE;
        int index = FIELD(int32_t, cqe, 0);

        NEED(index >= 0 && index < 16);
        NEED(FIELD(uint32_t, cqe, 4) == 0xa5a5a5a5); /* reserved: never written */
        NEED(FIELD(int64_t, cqe, 8) == (int64_t)part);
        NEED(FIELD(uintptr_t, cqe, 16) == (uintptr_t)index + 1000);
    }
    NEED(memcmp(base, expect, size) == 0);
    hf3fs_iordestroy(ior);
    hf3fs_iovdestroy(iov);
    NEED(FIELD(void *, iov, 8) == NULL);
    return 0;
}
