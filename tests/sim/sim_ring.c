/*
 * sim_ring.c - memory, rings and what is in flight. Whoever calls in moves everything on that is
 * due: there is no thread behind the simulator.
 *
 * Life of an I/O: prepared (its faults are decided) - submitted - landed (bytes moved) - ready (its
 * ring may have the completion) - handed out. With `pending` chunks there is time between landing
 * and ready. Guarded by the lock.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"

#define CALLER __builtin_return_address(0)

static struct sim_proc *proc_of(struct io *io)
{
    return io->private_data;
}

/* A verb that makes something: its site is counted, ring_error may hit. */
static int enter_make(struct sim_proc *p, enum sim_verb verb, const void *caller)
{
    int rc = sim_enter(p, verb, NULL, true);
    struct sim_site *site = sim_site_of(caller, verb);
    uint64_t dice;

    site->calls++;
    if (!rc && sim_fires(p, verb, CLASS_OTHER, site, SIM_RING_ERROR, &dice))
        rc = dice & 1 ? -EIO : -ENOMEM;
    return rc;
}

/* ---- Memory ---- */

static int mem_add(struct sim_proc *p, struct io_mem *m, void *base, size_t size, bool wrapped)
{
    struct sim_mem *mem = calloc(1, sizeof *mem);

    if (!mem)
        return -ENOMEM;
    *mem = (struct sim_mem){.next = p->fs->mems,
                            .proc = p,
                            .base = base,
                            .size = size,
                            .epoch = p->fs->hosts[p->host].epoch,
                            .wrapped = wrapped};
    p->fs->mems = mem;
    *m = (struct io_mem){.base = base, .size = size, .wrapped = wrapped};
    m->iov.base = base;
    m->iov.size = size;
    m->iov.iovh = mem;
    return 0;
}

int sim_mem_create(struct io *io, struct io_mem *m, size_t size, size_t block_size)
{
    struct sim_proc *p = proc_of(io);
    int rc = enter_make(p, VERB_MEM_CREATE, CALLER);
    void *base = MAP_FAILED;

    (void)block_size;
    if (!rc)
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!rc)
        rc = base == MAP_FAILED ? -ENOMEM : mem_add(p, m, base, size, false);
    sim_leave(p);
    return rc ? err_set(rc, "simulated: no memory for rings") : 0;
}

int sim_mem_wrap(struct io *io, struct io_mem *m, void *base, size_t size)
{
    struct sim_proc *p = proc_of(io);
    int rc = enter_make(p, VERB_MEM_WRAP, CALLER);

    if (!rc)
        rc = mem_add(p, m, base, size, true);
    sim_leave(p);
    return rc ? err_set(rc, "simulated: memory cannot be registered") : 0;
}

static void mem_drop(struct simfs *fs, struct sim_mem *mem)
{
    struct sim_mem **at = &fs->mems;

    while (*at != mem)
        at = &(*at)->next;
    *at = mem->next;
    if (!mem->wrapped)
        (void)munmap(mem->base, mem->size);
    free(mem);
}

void sim_mem_destroy(struct io *io, struct io_mem *m)
{
    struct sim_proc *p = proc_of(io);
    struct sim_mem *mem = m->iov.iovh;
    struct sim_op *op;

    (void)sim_enter(p, VERB_MEM_DESTROY, NULL, false);
    sim_site_of(CALLER, VERB_MEM_DESTROY)->calls++;
    for (op = p->fs->ops; op && mem; op = op->next) {
        if (op->mem == mem && !op->ready) {
            sim_violate(p->fs, "%s: memory is destroyed while storage owns part of it", p->name);
            op->result = -EIO;
            op->ready = op->landed = true;
        }
    }
    if (mem)
        mem_drop(p->fs, mem);
    *m = (struct io_mem){0};
    sim_leave(p);
}

/* ---- Rings ---- */

int sim_ring_create(struct io *io, struct io_ring *r, int entries, bool for_read)
{
    struct sim_proc *p = proc_of(io);
    int rc = enter_make(p, VERB_RING_CREATE, CALLER);
    struct sim_ring *ring = rc ? NULL : calloc(1, sizeof *ring);

    *r = (struct io_ring){0};
    if (!rc && !ring)
        rc = -ENOMEM;
    if (!rc) {
        *ring = (struct sim_ring){.next = p->fs->rings,
                                  .proc = p,
                                  .epoch = p->fs->hosts[p->host].epoch,
                                  .entries = (uint32_t)entries,
                                  .for_read = for_read};
        p->fs->rings = ring;
        r->ior.iorh = ring;
        r->entries = entries;
        r->for_read = for_read;
    }
    sim_leave(p);
    return rc ? err_set(rc, "simulated: no ring") : 0;
}

static void op_drop(struct simfs *fs, struct sim_op *op, struct sim_op *before)
{
    if (before)
        before->next = op->next;
    else
        fs->ops = op->next;
    if (fs->ops_last == op)
        fs->ops_last = before;
    free(op->snapshot);
    free(op);
}

void sim_ring_destroy(struct io *io, struct io_ring *r)
{
    struct sim_proc *p = proc_of(io);
    struct sim_ring *ring = r->ior.iorh, **at = &p->fs->rings;
    struct sim_op *op;

    (void)sim_enter(p, VERB_RING_DESTROY, NULL, false);
    sim_site_of(CALLER, VERB_RING_DESTROY)->calls++;
    if (ring) {
        for (op = p->fs->ops; op; op = op->next) {
            if (op->ring == ring)
                op->ring = NULL;
        }
        while (*at != ring)
            at = &(*at)->next;
        *at = ring->next;
        free(ring);
    }
    *r = (struct io_ring){0};
    sim_leave(p);
}

/* ---- Preparing ---- */

/* Which fault an I/O meets, if any. */
static void choose_fault(struct sim_op *op, enum sim_class class)
{
    static const enum sim_fault reads[] = {SIM_READ_ERROR, SIM_SHORT_READ, SIM_BIT_FLIP,
                                           SIM_MISDIRECTED, SIM_LATE};
    static const enum sim_fault writes[] = {SIM_WRITE_ERROR, SIM_SHORT_WRITE, SIM_TORN_WRITE,
                                            SIM_LATE};
    const enum sim_fault *kinds = op->read ? reads : writes;
    size_t i, n = op->read ? ARRAY_LEN(reads) : ARRAY_LEN(writes);

    op->fault = SIM_FAULT_KINDS;
    for (i = 0; i < n; i++) {
        uint64_t dice;

        if (sim_fires(op->proc, VERB_PREP, class, op->site, kinds[i], &dice) &&
            op->fault == SIM_FAULT_KINDS) {
            op->fault = kinds[i];
            op->dice = dice;
        }
    }
}

static void set_times(struct sim_op *op, uint64_t now)
{
    const struct sim_options *o = &op->proc->fs->o;

    op->land_at = op->done_at = now;
    if (op->fault != SIM_LATE)
        return;
    op->done_at = now + o->late_ns + op->dice % (o->late_ns / 2 + 1);
    if (op->dice >> 62) /* mostly: the memory is used late, too */
        op->land_at = op->done_at;
}

static void watch_memory(struct simfs *fs, const struct sim_op *op)
{
    const struct sim_op *other;

    for (other = fs->ops; other; other = other->next) {
        if (!op->read && !other->read && !other->ready && other->inode == op->inode &&
            op->offset < other->offset + other->len && other->offset < op->offset + op->len)
            sim_violate(fs, "%s: two writes are under way to %s at %llu", op->proc->name,
                        op->inode->path, (unsigned long long)op->offset);
        if (other->mem != op->mem || other->snapshot) /* what was not handed out is storage's */
            continue;
        if (other->ptr < op->ptr + op->len && op->ptr < other->ptr + other->len &&
            (op->read || other->read))
            sim_violate(fs,
                        "%s: a %s of %s at %llu was given memory that storage owns for a %s of %s "
                        "at %llu",
                        op->proc->name, op->read ? "read" : "write", op->inode->path,
                        (unsigned long long)op->offset, other->read ? "read" : "write",
                        other->inode->path, (unsigned long long)other->offset);
    }
}

static int prep_checked(struct sim_proc *p, struct sim_ring *ring, struct sim_mem *mem, void *ptr,
                        struct sim_file *f, uint64_t offset, uint64_t len, void *userdata,
                        struct sim_site *site)
{
    struct simfs *fs = p->fs;
    enum sim_class class = sim_class_of(f->inode->path);
    struct sim_op *op = calloc(1, sizeof *op);

    if (!op)
        return -ENOMEM;
    *op = (struct sim_op){.proc = p,
                          .ring = ring,
                          .mem = mem,
                          .inode = f->inode,
                          .site = site,
                          .host = p->host,
                          .read = ring->for_read,
                          .ptr = ptr,
                          .offset = offset,
                          .len = len,
                          .userdata = userdata};
    choose_fault(op, class);
    set_times(op, clock_ns());
    if (ring->epoch != fs->hosts[p->host].epoch || mem->epoch != fs->hosts[p->host].epoch ||
        f->epoch != fs->hosts[p->host].epoch || fs->hosts[p->host].down)
        op->land_at = op->done_at = SIM_NEVER; /* a daemon that does not know them */
    watch_memory(fs, op);
    if (!op->read) {
        op->hash = hash64(ptr, len);
        if (fs->audit.write) {
            fs->auditing = pthread_self();
            fs->in_audit = true;
            fs->audit.write(fs->audit.arg, f->inode->path, offset, ptr, len);
            fs->in_audit = false;
        }
    }
    if (fs->ops_last)
        fs->ops_last->next = op;
    else
        fs->ops = op;
    fs->ops_last = op;
    ring->in_flight++;
    return 0;
}

int sim_prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr, struct io_file *f,
             uint64_t offset, uint64_t len, void *userdata)
{
    struct sim_proc *p = proc_of(io);
    struct sim_ring *ring = r->ior.iorh;
    struct sim_mem *mem = m->iov.iovh;
    int rc = sim_enter(p, VERB_PREP, NULL, false);
    struct sim_site *site = sim_site_of(CALLER, VERB_PREP);
    uint64_t dice, at = (uint64_t)((uint8_t *)ptr - m->base);

    site->calls++;
    if (!rc && (f->fd < 0 || f->fd >= (int)SIM_FILES || !p->fs->files[f->fd].inode ||
                p->fs->files[f->fd].proc != p)) {
        sim_violate(p->fs, "%s: I/O on a file that is not open", p->name);
        rc = -EBADF;
    }
    if (!rc && (len == 0 || at > m->size || len > m->size - at)) {
        sim_violate(p->fs, "%s: I/O outside its memory", p->name);
        rc = -EINVAL;
    }
    if (!rc && !ring->for_read && !p->fs->files[f->fd].writable)
        rc = -EACCES;
    if (!rc && ring->in_flight >= ring->entries)
        rc = -EAGAIN;
    if (!rc && sim_fires(p, VERB_PREP, CLASS_OTHER, site, SIM_BUSY, &dice))
        rc = -EAGAIN;
    if (!rc && sim_fires(p, VERB_PREP, CLASS_OTHER, site, SIM_RING_ERROR, &dice))
        rc = dice & 1 ? -EIO : -ENOMEM;
    if (!rc)
        rc = prep_checked(p, ring, mem, ptr, &p->fs->files[f->fd], offset, len, userdata, site);
    if (!rc)
        r->inflight++;
    sim_leave(p);
    return rc;
}

int sim_submit(struct io *io, struct io_ring *r)
{
    struct sim_proc *p = proc_of(io);
    int rc = sim_enter(p, VERB_SUBMIT, NULL, false);
    struct sim_site *site = sim_site_of(CALLER, VERB_SUBMIT);
    struct sim_op *op;
    uint64_t dice;

    site->calls++;
    if (!rc && sim_fires(p, VERB_SUBMIT, CLASS_OTHER, site, SIM_BUSY, &dice))
        rc = -EAGAIN;
    if (!rc && sim_fires(p, VERB_SUBMIT, CLASS_OTHER, site, SIM_RING_ERROR, &dice))
        rc = -EIO;
    for (op = p->fs->ops; op && !rc; op = op->next) {
        if (op->ring == r->ior.iorh)
            op->submitted = true;
    }
    sim_leave(p);
    return rc;
}

/* ---- Landing ---- */

static const uint8_t *source_of(struct simfs *fs, struct sim_op *op)
{
    const uint8_t *from = op->snapshot ? op->snapshot : op->ptr;

    if (!op->put && hash64(from, op->len) != op->hash)
        sim_violate(fs, "%s: the source of a write of %s at %llu changed while storage owned it",
                    op->proc->name, op->inode->path, (unsigned long long)op->offset);
    return from;
}

/* How many bytes of a write land that is cut short or torn. */
static uint64_t torn_at(const struct simfs *fs, const struct sim_op *op)
{
    uint64_t unit = fs->o.manners.chunk_atomic ? fs->o.chunk_bytes : SECTOR;
    uint64_t cut = op->offset + op->dice % op->len;

    cut = round_down(cut, unit);
    return cut > op->offset ? cut - op->offset : 0;
}

/* One step of a write: the whole, or one chunk. True: all that will land has landed. */
static bool land_write(struct simfs *fs, struct sim_op *op)
{
    uint64_t most = op->len, n;
    const uint8_t *from = source_of(fs, op);
    int rc;

    if (op->fault == SIM_WRITE_ERROR) {
        op->result = op->dice % 4 ? -EIO : -ENOSPC;
        return true;
    }
    if (op->fault == SIM_TORN_WRITE || op->fault == SIM_SHORT_WRITE)
        most = max_u64(torn_at(fs, op), op->put); /* a power cut finds some of it landed */
    n = most - op->put;
    if (fs->o.manners.chunk_atomic)
        n = min_u64(n, fs->o.chunk_bytes - (op->offset + op->put) % fs->o.chunk_bytes);
    rc = n ? sim_bytes_write(fs, op->inode, op->host, op->offset + op->put, from + op->put, n) : 0;
    if (rc) {
        op->result = rc;
        return true;
    }
    op->put += n;
    op->result = op->fault == SIM_TORN_WRITE ? -EIO : (int64_t)op->put;
    return op->put >= most;
}

static void flip(uint8_t *buf, int64_t len, uint64_t dice)
{
    if (len > 0)
        buf[dice % (uint64_t)len] ^= (uint8_t)(1u << (dice >> 40) % 8);
}

/* Where a misdirected read goes: another page of the file, or the same page of another. */
static int64_t read_elsewhere(struct simfs *fs, struct sim_op *op)
{
    uint64_t pages = op->inode->length / PAGE_BYTES + 1, steps = (op->dice >> 32) % 16;
    struct sim_inode *ino = fs->inodes;

    if (op->dice & 1)
        return sim_bytes_read(fs, op->inode, (op->dice >> 8) % pages * PAGE_BYTES, op->ptr,
                              op->len);
    while (steps-- && ino->next)
        ino = ino->next;
    return sim_bytes_read(fs, ino, op->offset, op->ptr, op->len);
}

static void land_read(struct simfs *fs, struct sim_op *op)
{
    if (op->fault == SIM_READ_ERROR) {
        op->result = -EIO;
        return;
    }
    op->result = op->fault == SIM_MISDIRECTED
                     ? read_elsewhere(fs, op)
                     : sim_bytes_read(fs, op->inode, op->offset, op->ptr, op->len);
    if (op->fault == SIM_BIT_FLIP)
        flip(op->ptr, op->result, op->dice);
    if (op->fault == SIM_SHORT_READ && op->result > 0)
        op->result = (int64_t)(op->dice % (uint64_t)op->result);
}

static bool stalled(struct simfs *fs, struct sim_op *op)
{
    uint64_t now = sim_virtual(fs);

    if (!op->read || !fs->o.committed_reads || !fs->o.manners.pending_stalls)
        return false;
    if (now < op->stall_until)
        return true;
    if (!sim_chunks_pending(fs, op->inode, op->offset, op->len))
        return false;
    op->stall_until = now + 5 * SIM_S;
    return true;
}

/* The chunks of a write have a version that is not committed. */
static void pend(struct simfs *fs, struct sim_op *op, bool on)
{
    if (!op->read && op->pended != on)
        sim_chunks_pend(fs, op->inode, op->offset, op->len, on ? 1 : -1);
    op->pended = on && !op->read;
}

/* Moves one I/O on as far as it goes now; returns when to look again (real). */
static uint64_t move_on(struct simfs *fs, struct sim_op *op, uint64_t now)
{
    struct sim_host *h = &fs->hosts[op->host];

    if (op->ready || !op->submitted || op->land_at == SIM_NEVER)
        return SIM_NEVER;
    if (h->down || h->hung_until > now)
        return h->down ? SIM_NEVER : h->hung_until;
    if (!op->landed && now < op->land_at)
        return op->land_at;
    if (!op->landed && stalled(fs, op))
        return fs->o.factor
                   ? now + (op->stall_until - sim_virtual(fs)) / fs->o.factor + NS_PER_MS / 10
                   : SIM_NEVER;
    if (!op->landed && op->read) {
        land_read(fs, op);
        op->landed = true;
    } else if (!op->landed) {
        pend(fs, op, true);
        op->landed = land_write(fs, op);
        if (!op->landed)
            return now; /* the next chunk at the next look */
    }
    if (now < op->done_at)
        return op->done_at;
    pend(fs, op, false);
    op->ready = true;
    return SIM_NEVER;
}

uint64_t simfs_unsettled(struct simfs *fs)
{
    struct sim_op *op;
    uint64_t n = 0;

    (void)pthread_mutex_lock(&fs->lock);
    (void)sim_pump(fs);
    for (op = fs->ops; op; op = op->next)
        n += !op->read && !op->ready && op->submitted && op->land_at != SIM_NEVER;
    (void)pthread_mutex_unlock(&fs->lock);
    return n;
}

uint64_t sim_pump(struct simfs *fs)
{
    struct sim_op *op, *before = NULL, *next;
    uint64_t now = clock_ns(), soonest = SIM_NEVER;

    for (op = fs->ops; op; op = next) {
        uint64_t at = move_on(fs, op, now);

        next = op->next;
        soonest = min_u64(soonest, at);
        if (op->ready && !op->ring)
            op_drop(fs, op, before);
        else
            before = op;
    }
    return soonest;
}

/* Takes a completion out of the list; NULL: none is ready. */
static bool take_ready(struct simfs *fs, struct sim_ring *ring, uint32_t skip, struct io_done *done)
{
    struct sim_op *op, *before = NULL, *found = NULL, *found_before = NULL;

    for (op = fs->ops; op; before = op, op = op->next) {
        if (op->ring != ring || !op->ready)
            continue;
        found = op;
        found_before = before;
        if (!skip--)
            break;
    }
    if (!found)
        return false;
    *done = (struct io_done){.userdata = found->userdata, .result = found->result};
    ring->in_flight--;
    op_drop(fs, found, found_before);
    return true;
}

int sim_wait(struct io *io, struct io_ring *r, struct io_done *done, int max, int min,
             uint64_t timeout_ns)
{
    struct sim_proc *p = proc_of(io);
    struct simfs *fs = p->fs;
    int n = 0, rc = sim_enter(p, VERB_WAIT, NULL, false);
    struct sim_site *site = sim_site_of(CALLER, VERB_WAIT);
    uint64_t until = clock_ns() + min_u64(timeout_ns, 3600 * NS_PER_S), dice = 0;
    bool shuffle = !rc && sim_fires(p, VERB_WAIT, CLASS_OTHER, site, SIM_REORDER, &dice);

    site->calls++;
    if (!rc && sim_fires(p, VERB_WAIT, CLASS_OTHER, site, SIM_WAIT_ERROR, &dice)) {
        sim_leave(p);
        return -EIO;
    }
    for (;;) {
        uint64_t soonest = sim_pump(fs), now = clock_ns();
        struct timespec t;

        while (n < max && take_ready(fs, r->ior.iorh, shuffle ? (dice >>= 2) % 4 : 0, &done[n])) {
            n++;
            if (shuffle && n >= min && n && dice % 3 == 0)
                break;
        }
        if (n >= min || now >= until || p->dead)
            break;
        if (soonest <= now)
            continue;
        t = clock_timespec(min_u64(min_u64(soonest, until), now + 50 * NS_PER_MS));
        (void)pthread_cond_timedwait(&fs->changed, &fs->lock, &t);
    }
    r->inflight -= n;
    sim_leave(p);
    return n;
}

/* ---- Ends ---- */

/* The process is gone: what it was writing lands later or not, from what memory held at its death;
 * what it was reading goes nowhere. Its threads, which run on, hear -EIO. */
void sim_ops_of_dead(struct sim_proc *p)
{
    struct simfs *fs = p->fs;
    struct sim_op *op, *twin, *last = fs->ops_last;
    uint64_t now = clock_ns();

    for (op = fs->ops; op; op = op == last ? NULL : op->next) {
        if (op->proc != p || op->ready)
            continue;
        twin =
            op->read || sim_roll(fs) % 2 || op->land_at == SIM_NEVER ? NULL : malloc(sizeof *twin);
        if (twin) {
            *twin = *op;
            twin->snapshot = malloc(op->len);
            twin->next = NULL;
            twin->ring = NULL;
            twin->mem = NULL;
            twin->submitted = true;
            twin->land_at = twin->done_at = now + sim_roll(fs) % (2 * fs->o.late_ns);
            if (twin->snapshot) {
                memcpy(twin->snapshot, op->snapshot ? op->snapshot : op->ptr, op->len);
                fs->ops_last->next = twin;
                fs->ops_last = twin;
            } else {
                free(twin);
                twin = NULL;
            }
        }
        if (twin)
            op->pended = false;
        pend(fs, op, false);
        op->landed = op->ready = true;
        op->result = -EIO;
    }
}

/* The power goes: what is in flight lands torn or not at all. */
void sim_ops_cut(struct simfs *fs)
{
    struct sim_op *op, *next, *before = NULL;

    for (op = fs->ops; op; op = next) {
        next = op->next;
        if (op->ready) {
            before = op;
            continue;
        }
        if (!op->read && sim_roll(fs) % 2 && op->snapshot) {
            op->fault = SIM_TORN_WRITE;
            op->dice = sim_roll(fs);
            while (!land_write(fs, op))
                ;
        }
        pend(fs, op, false);
        op_drop(fs, op, before);
    }
}

/* The daemon of a host is gone: what it had sent may have landed, nothing completes. */
void sim_ops_of_daemon(struct simfs *fs, uint32_t host)
{
    struct sim_op *op;

    for (op = fs->ops; op; op = op->next) {
        if (op->host != host || op->ready || op->snapshot)
            continue;
        while (!op->read && !op->landed && op->submitted && sim_roll(fs) % 2)
            op->landed = land_write(fs, op);
        pend(fs, op, false);
        op->land_at = SIM_NEVER;
    }
}

void sim_rings_free(struct simfs *fs)
{
    struct sim_ring *r, *next;

    while (fs->ops)
        op_drop(fs, fs->ops, NULL);
    while (fs->mems)
        mem_drop(fs, fs->mems);
    for (r = fs->rings; r; r = next) {
        next = r->next;
        free(r);
    }
}
