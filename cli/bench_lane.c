/*
 * bench_lane.c - the raw loop: fill the ring, wait for one, take all, again.
 *
 * Threading: with one lane the caller's thread does it; with more, one thread each for the slice.
 * Failure: the first error ends the lane, what is in flight is waited for, the code goes up.
 */
#include "bench_lane.h"

#include <string.h>

#include "cli.h"

#define AREA_MAX (1ull << 30) /* the kernel registers buffers of at most 1 GiB */
#define HUGE     (2ull << 20)
/* Buffers for each I/O in flight. Few, as any program that does nothing else would have them: where
 * a host copies into the guest's memory, a small area stays in its cache and the baseline is the
 * faster for it. */
#define BUFFERS  2

int lane_open(struct lane *l, const struct bench_config *c, unsigned number)
{
    uint64_t size;
    struct iovec v;
    int r;

    l->number = number;
    l->depth = (unsigned)(c->depth / c->lanes ? c->depth / c->lanes : 1);
    size = (BUFFERS * l->depth * c->io_bytes + HUGE - 1) / HUGE * HUGE;
    if (size > AREA_MAX)
        size = AREA_MAX;
    r = c->raw_huge ? area_open_huge(&l->area, size, c->seed + number)
                    : area_open_shared(&l->area, size, c->seed + number);
    if (r != CLI_OK)
        return r;
    r = io_uring_queue_init(l->depth, &l->ring, 0);
    if (r < 0)
        return cli_fail(CLI_ENVIRONMENT,
                        "io_uring is not allowed here (%s), so there is no raw baseline",
                        strerror(-r));
    l->open = true;
    v = (struct iovec){l->area.base, l->area.size};
    l->fixed = io_uring_register_buffers(&l->ring, &v, 1) == 0;
    return CLI_OK;
}

void lane_close(struct lane *l)
{
    if (l->open)
        io_uring_queue_exit(&l->ring);
    l->open = false;
    area_close(&l->area);
}

static void prepare(struct lane *l, struct io_uring_sqe *sqe, const struct lane_io *io)
{
    void *buf = area_next(&l->area, &l->area_at, io->bytes);

    if (l->writes && l->fixed)
        io_uring_prep_write_fixed(sqe, io->fd, buf, io->bytes, io->offset, 0);
    else if (l->writes)
        io_uring_prep_write(sqe, io->fd, buf, io->bytes, io->offset);
    else if (l->fixed)
        io_uring_prep_read_fixed(sqe, io->fd, buf, io->bytes, io->offset, 0);
    else
        io_uring_prep_read(sqe, io->fd, buf, io->bytes, io->offset);
    io_uring_sqe_set_data64(sqe, io->bytes);
}

static unsigned fill(struct lane *l, unsigned inflight)
{
    struct io_uring_sqe *sqe;
    struct lane_io io;

    while (inflight < l->depth && l->status == CLI_OK) {
        l->status = l->next(l, &io);
        if (l->status != CLI_OK)
            break;
        sqe = io_uring_get_sqe(&l->ring);
        if (sqe == NULL)
            break;
        prepare(l, sqe, &io);
        inflight++;
    }
    return inflight;
}

static unsigned reap(struct lane *l)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&l->ring, head, cqe)
    {
        n++;
        if (cqe->res >= 0 && (uint64_t)cqe->res == cqe->user_data) {
            l->bytes += cqe->user_data;
            l->ops++;
        } else if (l->status == CLI_OK) {
            l->status = cli_fail(CLI_IO, "the raw baseline's %s of %llu bytes gave %s",
                                 l->writes ? "write" : "read", (unsigned long long)cqe->user_data,
                                 cqe->res < 0 ? strerror(-cqe->res) : "less than that");
        }
    }
    io_uring_cq_advance(&l->ring, n);
    return n;
}

static void lane_work(struct lane *l)
{
    unsigned inflight = 0;
    bool more = true;
    int r;

    while (more || inflight > 0) {
        if (more)
            inflight = fill(l, inflight);
        if (inflight == 0)
            break;
        r = io_uring_submit_and_wait(&l->ring, 1);
        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
            l->status = cli_fail(CLI_IO, "the raw baseline's io_uring: %s", strerror(-r));
            break;
        }
        inflight -= reap(l);
        more = l->status == CLI_OK && bench_now_ns() < l->until_ns && !bench_stopped;
    }
}

static void *lane_thread(void *arg)
{
    lane_work(arg);
    return NULL;
}

int lanes_run(struct lane *lanes, unsigned n, double seconds, struct slice *out)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    unsigned i, started = 0;
    int status = CLI_OK;

    for (i = 0; i < n; i++) {
        lanes[i].until_ns = until;
        lanes[i].bytes = lanes[i].ops = 0;
        lanes[i].status = CLI_OK;
    }
    for (started = 1; started < n; started++)
        if (pthread_create(&lanes[started].thread, NULL, lane_thread, &lanes[started]) != 0) {
            status = cli_fail(CLI_ENVIRONMENT, "cannot start a thread for the raw baseline");
            break;
        }
    lane_work(&lanes[0]);
    for (i = 1; i < started; i++)
        pthread_join(lanes[i].thread, NULL);
    for (i = 0; i < n; i++) {
        out->bytes += lanes[i].bytes;
        out->ops += lanes[i].ops;
        if (status == CLI_OK)
            status = lanes[i].status;
    }
    return status;
}
