/*
 * admin.c - opens a mount for the operator's functions, and reads through one ring.
 *
 * Nothing here writes. A read that storage does not answer in time ends the function: its memory is
 * then left to the process, because storage may still write to it.
 */
#include "admin/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "key/grow.h"

#define SILENCE_MS   60000u
#define READ_PATIENT 10u /* times read_timeout_ms: nobody's request waits for us */
#define SHOW_NS      (100 * NS_PER_MS)
#define SINGLE       ADMIN_WINDOW /* the piece of single reads */

int admin_open(struct admin *ad, const struct cistern_admin *a)
{
    struct io_options io;
    int rc;

    *ad = (struct admin){0};
    if (grow_take(&ad->opt, sizeof ad->opt, a) || !ad->opt.store)
        return err_set(-EINVAL, "admin: NULL, size is not set, unknown fields are, or no store");
    if ((rc = config_make(ad->opt.store, 0, &ad->cfg)))
        return rc;
    config_log_cluster(&ad->cfg);
    ad->timeout_ns = (uint64_t)READ_PATIENT * ad->cfg.read_timeout_ms * NS_PER_MS;
    io = (struct io_options){.mount = ad->cfg.mount,
                             .provider = ad->cfg.provider,
                             .log = ad->cfg.log,
                             .provider_path =
                                 ad->cfg.provider_path[0] ? ad->cfg.provider_path : NULL};
    if (ad->cfg.encryption_key_file[0])
        rc = crypt_open(ad->cfg.encryption_key_file, 0, &ad->crypt);
    if (!rc && ad->crypt)
        rc = cipher_open(&ad->cipher);
    rc = rc ? rc : io_open(&io, &ad->io);
    if (!rc && !ad->opt.silence_ms)
        ad->opt.silence_ms = admin_root_silence(ad);
    if (!rc)
        rc = io_mem_reserve(ad->io, &ad->mem, (size_t)(ADMIN_WINDOW + 1) * ADMIN_PIECE, 0);
    if (!rc) {
        rc = ad->io->ops->ring_create(ad->io, &ad->ring, ADMIN_WINDOW + 1, true);
        ad->ring_open = rc == 0;
    }
    if (rc)
        admin_close(ad);
    return rc;
}

uint32_t admin_root_silence(const struct admin *ad)
{
    uint32_t ms = 0;

    return root_silence(ad->io, ad->cfg.root, &ms) == 0 && ms ? ms : SILENCE_MS;
}

void admin_warn_of_silence(const struct admin *ad)
{
    uint32_t of_root = admin_root_silence(ad);

    if (ad->opt.silence_ms < of_root)
        log_line(&ad->cfg.log, LOG_WARN,
                 "a silence of %u ms is shorter than the %u ms of this root: a writer that lives "
                 "and has nothing to do may count as ended",
                 ad->opt.silence_ms, of_root);
}

void admin_close(struct admin *ad)
{
    bool owned = ad->ring_open && ad->ring.inflight;

    if (ad->ring_open)
        ad->io->ops->ring_destroy(ad->io, &ad->ring);
    if (ad->io && ad->mem.base && !owned)
        ad->io->ops->mem_destroy(ad->io, &ad->mem);
    if (ad->io && !owned)
        io_close(ad->io);
    cipher_close(ad->cipher);
    crypt_close(ad->crypt);
    ad->io = NULL;
    ad->crypt = NULL;
    ad->cipher = NULL;
    ad->ring_open = false;
}

int admin_path(const struct admin *ad, char out[ADMIN_PATH], const char *a, const char *b)
{
    const char *root = ad->cfg.root;
    int n = snprintf(out, ADMIN_PATH, "%s%s%s%s%s", root, *root && (*a || *b) ? "/" : "", a,
                     *a && *b ? "/" : "", b);

    return n >= 0 && n < (int)ADMIN_PATH ? 0 : err_set(-ENAMETOOLONG, "path too long: %s/%s", a, b);
}

int admin_key_fits(const struct admin *ad, const struct root_info *root)
{
    return ad->crypt && !root->encrypted
               ? err_set(CISTERN_EKEY,
                         "%s/%s is not encrypted: open it once with the key, or leave the key out",
                         ad->io->mount, ad->cfg.root)
               : 0;
}

int admin_sync_dir(struct admin *ad, const char *dir)
{
    int rc = ad->io->ops->sync_dir(ad->io, dir);

    return rc == -EACCES || rc == -EPERM ? 0 : rc;
}

bool admin_wants_space(const struct admin *ad, const char *dir)
{
    return !ad->opt.space || strncmp(dir, ad->opt.space, strlen(ad->opt.space)) == 0;
}

int admin_answer(struct admin *ad, int answer)
{
    if (!answer)
        return 0;
    ad->stopped = answer;
    return -ECANCELED;
}

int admin_result(const struct admin *ad, int rc)
{
    return rc == -ECANCELED && ad->stopped ? ad->stopped : rc;
}

int admin_progress(struct admin *ad, const char *doing)
{
    struct cistern_progress p = {.doing = doing, .done = ad->done, .total = ad->total};
    uint64_t t = clock_ns();

    if (!ad->opt.progress || t - ad->shown_ns < SHOW_NS)
        return 0;
    ad->shown_ns = t;
    return admin_answer(ad, ad->opt.progress(ad->opt.progress_arg, &p));
}

static void sleep_ns(uint64_t ns)
{
    struct timespec t = clock_timespec(ns);

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        ;
}

int admin_sleep(struct admin *ad, const char *doing, uint64_t ms)
{
    uint64_t from = clock_ns(), until = from + ms * NS_PER_MS, now;
    int rc = 0;

    ad->total = ms;
    while (!rc && (now = clock_ns()) < until) {
        ad->done = (now - from) / NS_PER_MS;
        rc = admin_progress(ad, doing);
        sleep_ns(min_u64(until - now, SHOW_NS));
    }
    ad->done = ad->total = 0;
    return rc;
}

void admin_pace(struct admin *ad, uint64_t bytes)
{
    uint64_t due, now = clock_ns();

    if (!ad->opt.rate_bytes)
        return;
    if (!ad->paced_from)
        ad->paced_from = now;
    ad->paced += bytes;
    due = ad->paced_from +
          (uint64_t)((double)ad->paced / (double)ad->opt.rate_bytes * (double)NS_PER_S);
    if (due > now)
        sleep_ns(due - now);
}

void *admin_grow(void *list, size_t count, size_t size)
{
    void **at = list;
    char *p = *at;

    if ((count & (count - 1)) == 0) { /* 0, 1, 2, 4, ... are full */
        p = realloc(p, (count ? 2 * count : 1) * size);
        if (!p) {
            (void)err_set(-ENOMEM, "no memory for what the directory holds");
            return NULL;
        }
        *at = p;
    }
    memset(p + count * size, 0, size);
    return p + count * size;
}

bool admin_ends_all(int rc)
{
    return rc == -ETIMEDOUT || rc == -EBUSY || rc == -ENOMEM || rc == -ECANCELED;
}

void admin_give(void *theirs, void *own, size_t own_size)
{
    size_t size;

    memcpy(&size, theirs, sizeof size);
    memcpy(own, &size, sizeof size);
    memcpy(theirs, own, size < own_size ? size : own_size);
}

/* ---- Reading ---- */

/* -EAGAIN is an answer of the moment: full, or nobody home. */
static bool again(int rc, uint64_t until)
{
    if (rc != -EAGAIN || clock_ns() >= until)
        return false;
    sleep_ns(NS_PER_MS);
    return true;
}

int admin_send(struct admin *ad, struct io_ring *r, uint8_t *at, struct io_file *f, uint64_t offset,
               uint64_t len, uintptr_t tag)
{
    uint64_t until = clock_ns() + ad->timeout_ns;
    int rc;

    do {
        rc = ad->io->ops->prep(ad->io, r, &ad->mem, at, f, offset, len, (void *)tag);
    } while (again(rc, until));
    return rc < 0 ? err_set(rc, "I/O cannot be sent: %s", cistern_error_string(rc)) : 0;
}

int admin_submit(struct admin *ad, struct io_ring *r)
{
    uint64_t until = clock_ns() + ad->timeout_ns;
    int rc;

    do {
        rc = ad->io->ops->submit(ad->io, r);
    } while (again(rc, until));
    return rc < 0 ? err_set(rc, "I/O cannot be sent: %s", cistern_error_string(rc)) : 0;
}

static int send(struct admin *ad, struct io_file *f, uint32_t slot, uint64_t offset, uint32_t len,
                uintptr_t tag)
{
    return admin_send(ad, &ad->ring, ad->mem.base + (size_t)slot * ADMIN_PIECE, f, offset, len,
                      tag);
}

/* One answer; its tag. */
static int receive(struct admin *ad, uintptr_t *tag, int64_t *result)
{
    struct io_done done;
    int n = ad->io->ops->wait(ad->io, &ad->ring, &done, 1, 1, ad->timeout_ns);

    if (n != 1)
        return err_set(n < 0 ? n : -ETIMEDOUT, "storage does not answer reads");
    *tag = (uintptr_t)done.userdata;
    *result = done.result;
    return 0;
}

int64_t admin_read(struct admin *ad, struct io_file *f, uint64_t offset, uint32_t len,
                   const uint8_t **out)
{
    uintptr_t tag = 0;
    int64_t result = 0;
    int rc;

    if (ad->ring.inflight)
        return err_set(-EBUSY, "an earlier read has not been answered");
    if (!(rc = send(ad, f, SINGLE, offset, len, 1)) && !(rc = admin_submit(ad, &ad->ring)))
        rc = receive(ad, &tag, &result);
    *out = ad->mem.base + (size_t)SINGLE * ADMIN_PIECE;
    return rc ? rc : result;
}

void admin_stream_begin(struct admin_stream *s, struct admin *ad, struct io_file *file,
                        const uint64_t *plan, size_t count)
{
    *s = (struct admin_stream){.ad = ad, .file = file, .plan = plan, .count = count};
}

static int stream_send(struct admin_stream *s)
{
    bool any = false;
    int rc = 0;

    while (!rc && s->sent < s->count && s->sent < s->taken + ADMIN_WINDOW) {
        uint32_t slot = (uint32_t)(s->sent % ADMIN_WINDOW);

        s->here[slot] = false;
        rc = send(s->ad, s->file, slot, s->plan[s->sent] * ADMIN_PIECE, ADMIN_PIECE, s->sent + 1);
        if (!rc) {
            s->sent++;
            any = true;
        }
    }
    if (any) { /* also what was prepared before a failure: storage has its memory */
        int sent = admin_submit(s->ad, &s->ad->ring);

        rc = rc ? rc : sent;
    }
    return rc;
}

static int stream_receive(struct admin_stream *s)
{
    uintptr_t tag = 0;
    int64_t result = 0;
    int rc = receive(s->ad, &tag, &result);

    if (rc)
        return rc;
    s->result[(tag - 1) % ADMIN_WINDOW] = result;
    s->here[(tag - 1) % ADMIN_WINDOW] = true;
    return 0;
}

/* An earlier piece once more: everything in flight comes in first, for the ring's sake. */
static int64_t stream_again(struct admin_stream *s, size_t i, const uint8_t **out)
{
    int rc = 0;

    while (!rc && s->ad->ring.inflight)
        rc = stream_receive(s);
    return rc ? rc : admin_read(s->ad, s->file, s->plan[i] * ADMIN_PIECE, ADMIN_PIECE, out);
}

/* What is passed over must have come in before its place is used again. */
static int stream_skip(struct admin_stream *s, size_t i)
{
    int rc = 0;

    while (s->taken < i && s->taken < s->sent && !rc) {
        if (s->here[s->taken % ADMIN_WINDOW])
            s->taken++;
        else
            rc = stream_receive(s);
    }
    if (!rc && s->taken < i)
        s->sent = s->taken = i;
    return rc;
}

int64_t admin_stream_piece(struct admin_stream *s, size_t i, const uint8_t **out)
{
    uint32_t slot = (uint32_t)(i % ADMIN_WINDOW);
    bool fresh = i >= s->seen;
    int rc;

    if (i < s->taken)
        return stream_again(s, i, out);
    if ((rc = stream_skip(s, i)) || (rc = stream_send(s)))
        return rc;
    while (!s->here[slot])
        if ((rc = stream_receive(s)))
            return rc;
    if (fresh) {
        s->seen = i + 1;
        if (s->result[slot] > 0)
            admin_pace(s->ad, (uint64_t)s->result[slot]);
        if ((rc = admin_progress(s->ad, "reading")))
            return rc;
    }
    *out = s->ad->mem.base + (size_t)slot * ADMIN_PIECE;
    return s->result[slot];
}

int admin_stream_end(struct admin_stream *s)
{
    int rc = 0;

    if (!s->ad || !s->ad->ring.inflight) /* NULL: it never began */
        return 0;
    (void)s->ad->io->ops->submit(s->ad->io, &s->ad->ring); /* what an earlier failure kept back */
    while (!rc && s->ad->ring.inflight)
        rc = stream_receive(s);
    return rc;
}
