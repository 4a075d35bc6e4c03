/*
 * usrbio_model.c - see usrbio_model.h.
 */
#include "usrbio_model.h"

#include <errno.h>

#include "base/bits.h"

uint8_t model_byte(uint64_t offset)
{
    return (uint8_t)(1 + (offset * 0x9e3779b97f4a7c15ull >> 56) % 255);
}

static bool overlap(const struct model_io *a, const struct model_io *b)
{
    return a->object == b->object && a->at < b->at + b->len && b->at < a->at + a->len;
}

bool model_io_begin(struct model *m, struct model_io *io)
{
    const struct model_iov *v = &m->iovs[io->iov];
    unsigned r, i;

    if (!io->read && io->at + io->len > v->valid)
        return false; /* what lies there may be anything */
    for (r = 0; r < IORS; r++) {
        for (i = 0; i < IO_MAX; i++) {
            struct model_io *other = &m->iors[r].io[i];

            if (!other->out || !overlap(other, io))
                continue;
            if (!other->read || !io->read)
                return false;
            other->judged = io->judged = false;
        }
    }
    for (i = 0; i < io->len && io->at + i < v->valid; i++)
        io->ptr[i] = io->read ? 0xee : model_byte(io->off + i);
    if (io->at + io->len > v->valid) {
        io->beyond = true;
        io->judged = false;
    }
    return true;
}

void model_io_sent(struct model *m, unsigned ring, int slot, const struct model_io *io)
{
    struct model_ior *r = &m->iors[ring];

    FUZZ_CHECK(slot >= 0 && slot < r->entries && !r->io[slot].out);
    r->io[slot] = *io;
    r->io[slot].out = true;
    r->out++;
    FUZZ_CHECK(r->out <= r->entries);
}

static void bytes_check(const struct model_io *io, uint64_t got)
{
    uint64_t i;

    for (i = 0; i < io->len; i++) {
        if (i < got)
            FUZZ_CHECK(io->ptr[i] == 0 || io->ptr[i] == model_byte(io->off + i));
        else
            FUZZ_CHECK(io->ptr[i] == 0xee); /* behind the result nothing was touched */
    }
}

void model_io_done(struct model *m, unsigned ring, const struct hf3fs_cqe *cqe)
{
    static const int allowed[] = {EINVAL, EBADF,  EACCES, EFBIG,  ENODATA,
                                  EIO,    ENOSPC, EISDIR, ENOMEM, EROFS};
    struct model_ior *r = &m->iors[ring];
    struct model_io *io;
    unsigned i;

    FUZZ_CHECK(cqe->index >= 0 && cqe->index < r->entries && r->io[cqe->index].out);
    FUZZ_CHECK(cqe->userdata == &r->io[cqe->index] || cqe->userdata == NULL);
    FUZZ_CHECK(cqe->reserved == 0x5a5a5a5a);
    io = &r->io[cqe->index];
    if (cqe->result < 0) {
        for (i = 0; i < ARRAY_LEN(allowed) && cqe->result != -allowed[i]; i++)
            ;
        FUZZ_CHECK(i < ARRAY_LEN(allowed) || (io->beyond && cqe->result == -EFAULT));
    } else {
        FUZZ_CHECK((uint64_t)cqe->result <= io->len);
        FUZZ_CHECK(io->read || (uint64_t)cqe->result == io->len);
        if (io->read && io->judged)
            bytes_check(io, (uint64_t)cqe->result);
    }
    io->out = false;
    r->out--;
}

void model_iov_gone(struct model *m, unsigned iov)
{
    unsigned r, i;

    for (r = 0; r < IORS; r++) {
        for (i = 0; i < IO_MAX; i++) {
            if (m->iors[r].io[i].iov == iov)
                m->iors[r].io[i].judged = false;
        }
    }
    m->iovs[iov].live = false;
}
