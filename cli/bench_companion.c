/*
 * bench_companion.c - the other process of `cistern bench share`. See bench_companion.h.
 */
#include "bench_companion.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

enum { OPEN = 'o', CLOSE = 'c', GO = 'g', STOP = 's', GOOD = 'k', BAD = 'x', PERIOD_MS = 200 };

/* ---- The other process ---- */

struct child {
    struct bench_store store;
    uint8_t *block;
    uint64_t stored;
    bool working;
};

static char child_open(struct child *x)
{
    struct cistern_options o;

    store_options(&x->store, &o);
    o.read_iov_bytes = o.write_iov_bytes = 64ull << 20;
    return cistern_open(&o, &x->store.handle) == 0 ? GOOD : BAD;
}

static char child_close(struct child *x)
{
    int r = cistern_close(x->store.handle);

    x->store.handle = NULL;
    x->working = false;
    return r == 0 ? GOOD : BAD;
}

/* A block that nobody else has; dropped under pressure is fine. */
static void child_put(struct child *x)
{
    uint64_t name[2] = {UINT64_MAX, x->stored++};
    struct cistern_vec vecs[CISTERN_MAX_PARTS];
    struct cistern_span spans[CISTERN_MAX_PARTS];
    uint8_t results[CISTERN_MAX_PARTS];
    struct cistern_event e;
    cistern_key root, key;
    struct cistern_request r = {
        .size = sizeof(r), .keys = &key, .spans = spans, .results = results, .blocks = 1};
    uint64_t part = x->store.c->block / x->store.c->parts, p;

    for (p = 0; p < x->store.c->parts; p++) {
        vecs[p] = (struct cistern_vec){x->block + p * part, part};
        spans[p] = (struct cistern_span){&vecs[p], 1};
    }
    x->working = cistern_key_root(x->store.handle, NULL, &root) == 0 &&
                 cistern_key_from_hash(&root, name, sizeof(name), &key) == 0 &&
                 cistern_put_sync(x->store.handle, &r, &e) == 0;
}

static char child_obey(struct child *x, char command)
{
    switch (command) {
    case OPEN:
        return child_open(x);
    case CLOSE:
        return child_close(x);
    case GO:
    case STOP:
        x->working = command == GO;
        return GOOD;
    }
    return BAD;
}

/* Ends when the other end of the socket is closed. */
static _Noreturn void child_run(int fd, const struct bench_config *c, struct bench_place *place)
{
    struct child x = {.store = {.c = c, .place = place}};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    store_space(&x.store);
    x.block = calloc(1, c->block);
    while (x.block != NULL) {
        int n = poll(&p, 1, PERIOD_MS);

        if (n == 0 && x.working)
            child_put(&x);
        if (n <= 0)
            continue;
        if (read(fd, &byte, 1) != 1)
            break;
        byte = child_obey(&x, byte);
        if (write(fd, &byte, 1) != 1)
            break;
    }
    (void)cistern_close(x.store.handle);
    _exit(0);
}

/* ---- This process ---- */

int companion_start(struct companion *p, const struct bench_config *c,
                    const struct bench_place *place)
{
    struct bench_place copy = *place;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return cli_fail(CLI_ENVIRONMENT, "socketpair: %s", strerror(errno));
    p->pid = fork();
    if (p->pid == 0) {
        close(ends[0]);
        child_run(ends[1], c, &copy);
    }
    close(ends[1]);
    p->fd = ends[0];
    if (p->pid > 0)
        return CLI_OK;
    close(ends[0]);
    p->pid = 0;
    return cli_fail(CLI_ENVIRONMENT, "fork: %s", strerror(errno));
}

static int command(struct companion *p, char what)
{
    char answer = BAD;

    if (write(p->fd, &what, 1) == 1 && read(p->fd, &answer, 1) == 1 && answer == GOOD)
        return CLI_OK;
    return cli_fail(CLI_IO, "the second process of the bench failed at '%c'", what);
}

int companion_open(struct companion *p)
{
    return command(p, OPEN);
}

int companion_work(struct companion *p, bool on)
{
    return command(p, on ? GO : STOP);
}

int companion_close(struct companion *p)
{
    return command(p, CLOSE);
}

void companion_end(struct companion *p)
{
    if (p->pid == 0)
        return;
    close(p->fd);
    (void)waitpid(p->pid, NULL, 0);
    p->pid = 0;
}
