/*
 * usrbio_model.h - what a careful client of the drop-in knows: its files, memory and rings, and the
 * I/O that it has out. fuzz_usrbio.c makes the calls, this says whether the answers may be.
 *
 * Byte o of every file is 0 or model_byte(o), so whatever is read can be judged without knowing
 * which of several I/Os came first. Memory of I/O that is out is not given to other I/O, unless
 * both read; then what they read is not judged.
 */
#ifndef TESTS_FUZZ_USRBIO_MODEL_H
#define TESTS_FUZZ_USRBIO_MODEL_H

#include "fuzz.h"
#include "hf3fs_usrbio.h"

#define IOVS   4
#define IORS   3
#define FILES  6
#define IO_MAX 65

struct model_iov {
    struct hf3fs_iov iov;
    bool live;
    unsigned object; /* the same for all handles of one memory */
    size_t valid;    /* bytes of it that can be touched */
    size_t bytes;    /* of the object */
    void *wrapped;   /* for free() */
};

struct model_io {
    bool out, judged, read;
    bool beyond; /* goes beyond the memory that is there: may end with -EFAULT */
    unsigned iov, object;
    uint8_t *ptr;
    size_t at; /* in the object */
    uint64_t off, len;
};

struct model_ior {
    struct hf3fs_ior ior;
    bool live, exact; /* exact: only whole batches start, so waiting may be in vain */
    int entries, out;
    struct model_io io[IO_MAX];
};

struct model {
    struct model_iov iovs[IOVS];
    struct model_ior iors[IORS];
    int fds[FILES], handles[FILES]; /* handle: what hf3fs_reg_fd() gave; 1: none */
    unsigned objects;
    bool strict_exact;
};

uint8_t model_byte(uint64_t offset);
/* May this I/O be sent? Marks what can no longer be judged and, for a write, fills the memory. */
bool model_io_begin(struct model *m, struct model_io *io);
void model_io_sent(struct model *m, unsigned ring, int slot, const struct model_io *io);
/* A completion: is it one of ours, with a result and bytes that it may have? */
void model_io_done(struct model *m, unsigned ring, const struct hf3fs_cqe *cqe);
/* The memory of a handle goes: what is out on it is not judged any more. */
void model_iov_gone(struct model *m, unsigned iov);

#endif
