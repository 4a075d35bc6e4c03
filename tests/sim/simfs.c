/*
 * simfs.c - the simulated file system as a whole: making it, virtual time, faults and their counts,
 * processes and their ends. The model is in simfs.h.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/hook.h"

#define SIM_TEXT(name, text) text,
const char *const sim_fault_names[SIM_FAULT_KINDS] = {SIM_FAULTS(SIM_TEXT)};
const char *const sim_verb_names[SIM_VERBS] = {
    "mem_create",    "mem_wrap",   "mem_destroy", "ring_create", "ring_destroy", "prep",
    "submit",        "wait",       "file_open",   "file_close",  "file_sync",    "file_truncate",
    "file_allocate", "make_dir",   "list",        "stat",        "unlink",       "sync_dir",
    "space",         "small_read", "small_write", "remove_dir"};

const struct sim_manners sim_manners_local = {0};
const struct sim_manners sim_manners_3fs = {.negative_lookups = true,
                                            .entry_cache = true,
                                            .lagging_length = true,
                                            .pending_stalls = true,
                                            .chunk_atomic = true,
                                            .late_reclamation = true,
                                            .acks_durable = true,
                                            .no_allocate = true};

static sim_cover own_coverage;
sim_cover *sim_coverage = &own_coverage;
static struct sim_site sites[SIM_SITES_MAX]; /* guarded by the lock of the one simfs */
static uint32_t nsites;
static struct simfs *mounted;
_Thread_local int sim_depth;

/* ---- Numbers ---- */

uint64_t sim_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint64_t sim_roll(struct simfs *fs)
{
    return sim_mix(fs->o.seed ^ sim_mix(++fs->dice));
}

uint64_t sim_virtual(const struct simfs *fs)
{
    return (clock_ns() - fs->started_ns) * fs->o.factor + fs->skew;
}

/* ---- Counting ---- */

struct sim_site *sim_site_of(const void *caller, enum sim_verb verb)
{
    uint32_t i;

    for (i = 0; i < nsites; i++) {
        if (sites[i].caller == caller && sites[i].verb == sim_verb_names[verb])
            break;
    }
    if (i == SIM_SITES_MAX)
        i--;
    if (i == nsites)
        sites[nsites++] = (struct sim_site){.caller = caller, .verb = sim_verb_names[verb]};
    return &sites[i];
}

const struct sim_site *simfs_sites(uint32_t *n)
{
    *n = nsites;
    return sites;
}

void sim_count(struct simfs *fs, struct sim_site *site, enum sim_fault kind)
{
    (void)__atomic_fetch_add(&(*sim_coverage)[fs->label][kind], 1, __ATOMIC_RELAXED);
    if (site)
        site->hits[kind]++;
}

bool sim_fires(struct sim_proc *p, enum sim_verb verb, enum sim_class class, struct sim_site *site,
               enum sim_fault kind, uint64_t *dice)
{
    struct simfs *fs = p->fs;
    uint64_t x = sim_mix(fs->o.seed ^ sim_mix((uint64_t)kind << 32 | (uint64_t)verb << 16 | class)),
             nth = ++p->nth[verb][class][kind];
    bool hit;

    x = sim_mix(x ^ sim_mix((uint64_t)p->ordinal << 40 | nth));
    *dice = sim_mix(x);
    if (fs->armed == kind && site)
        site->met[kind] = true;
    if (fs->armed == kind && (!fs->armed_at || fs->armed_at == site)) {
        fs->armed_seen++;
        hit = fs->armed_seen == fs->armed_n || (fs->armed_sticky && fs->armed_seen > fs->armed_n);
    } else {
        hit = x % 10000 < fs->rates[kind];
    }
    if (hit) {
        fs->fired += fs->armed == kind;
        sim_count(fs, site, kind);
    }
    return hit;
}

void sim_violate(struct simfs *fs, const char *format, ...)
{
    va_list args;

    if (fs->violation[0])
        return;
    va_start(args, format);
    (void)vsnprintf(fs->violation, sizeof fs->violation, format, args);
    va_end(args);
}

/* ---- The lock, which an audit callback holds already ---- */

static void lock(struct simfs *fs)
{
    if (!(fs->in_audit && pthread_equal(fs->auditing, pthread_self())))
        (void)pthread_mutex_lock(&fs->lock);
}

static void unlock(struct simfs *fs)
{
    if (!(fs->in_audit && pthread_equal(fs->auditing, pthread_self())))
        (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_violate(struct simfs *fs, const char *format, ...)
{
    va_list args;

    lock(fs);
    if (!fs->violation[0]) {
        va_start(args, format);
        (void)vsnprintf(fs->violation, sizeof fs->violation, format, args);
        va_end(args);
    }
    unlock(fs);
}

const char *simfs_violation(struct simfs *fs)
{
    return fs->violation;
}

/* ---- Making ---- */

static int open_hook(const struct io_options *o, struct io **out)
{
    unsigned host;
    char name[48];
    int rc;

    if (!mounted || sscanf(o->mount, "/sim/%u/%47s", &host, name) != 2 || host >= SIM_HOSTS)
        return err_set(-ENOENT, "%s is no simulated mount", o->mount);
    rc = simfs_io_open(mounted, host, name, out);
    if (!rc)
        (*out)->log = o->log;
    return rc;
}

struct simfs *simfs_new(const struct sim_options *o)
{
    struct simfs *fs = calloc(1, sizeof *fs);
    pthread_condattr_t attr;

    if (!fs)
        return NULL;
    fs->o = *o;
    if (!fs->o.chunk_bytes)
        fs->o.chunk_bytes = 64 << 10;
    if (fs->o.chunk_bytes > 64 * 8 * SECTOR)
        fs->o.chunk_bytes = 64 * 8 * SECTOR;
    if (!fs->o.late_ns)
        fs->o.late_ns = 200 * NS_PER_MS;
    fs->armed = SIM_FAULT_KINDS;
    fs->started_ns = clock_ns();
    (void)pthread_mutex_init(&fs->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&fs->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    mounted = fs;
    io_open_hook = open_hook;
    return fs;
}

void simfs_free(struct simfs *fs)
{
    struct sim_proc *p, *next;
    uint32_t i;

    if (!fs)
        return;
    mounted = NULL;
    io_open_hook = NULL;
    sim_rings_free(fs);
    sim_files_free(fs);
    for (p = fs->procs; p; p = next) {
        next = p->next;
        free(p);
    }
    for (i = 0; i < SIM_HOSTS; i++)
        free(fs->hosts[i].cache);
    (void)pthread_cond_destroy(&fs->changed);
    (void)pthread_mutex_destroy(&fs->lock);
    free(fs);
}

const char *simfs_mount(char buf[64], uint32_t host, const char *process)
{
    (void)snprintf(buf, 64, "/sim/%u/%s", host, process);
    return buf;
}

int simfs_io_open(struct simfs *fs, uint32_t host, const char *process, struct io **out)
{
    struct sim_proc *p;
    struct io *io;

    sim_depth++;
    p = calloc(1, sizeof *p);
    sim_depth--;
    io = calloc(1, sizeof *io); /* freed by io_close(): the library's */
    if (!p || !io) {
        free(p);
        free(io);
        return -ENOMEM;
    }
    (void)snprintf(p->name, sizeof p->name, "%s", process);
    p->fs = fs;
    p->host = host;
    io->ops = fs->o.manners.acks_durable ? &sim_ops_hf3fs : &sim_ops_local;
    io->private_data = p;
    (void)snprintf(io->backend, sizeof io->backend, "backend=simulated");
    (void)simfs_mount(io->mount, host, process);
    (void)pthread_mutex_lock(&fs->lock);
    p->ordinal = fs->nprocs++;
    p->next = fs->procs;
    fs->procs = p;
    (void)pthread_mutex_unlock(&fs->lock);
    *out = io;
    return 0;
}

/* ---- Verbs begin and end here ---- */

static bool hangs(const struct simfs *fs, const struct sim_proc *p)
{
    return fs->hosts[p->host].hung_until > clock_ns();
}

int sim_enter(struct sim_proc *p, enum sim_verb verb, struct sim_site *unused, bool may_wait)
{
    struct simfs *fs = p->fs;
    uint64_t dice;

    (void)unused;
    sim_depth++;
    (void)pthread_mutex_lock(&fs->lock);
    while (may_wait && !p->dead && hangs(fs, p)) {
        struct timespec until = clock_timespec(fs->hosts[p->host].hung_until);

        (void)pthread_cond_timedwait(&fs->changed, &fs->lock, &until);
    }
    /* A wait does nothing that others see, and how often it is called is up to the clock. */
    if (!p->dead && verb != VERB_WAIT && (fs->armed == SIM_KILL || fs->rates[SIM_KILL]) &&
        sim_fires(p, verb, CLASS_OTHER, NULL, SIM_KILL, &dice))
        sim_kill_proc(p);
    if (p->dead)
        return -EIO;
    if (may_wait && fs->hosts[p->host].down)
        return -ENOTCONN;
    return 0;
}

void sim_leave(struct sim_proc *p)
{
    (void)pthread_mutex_unlock(&p->fs->lock);
    sim_depth--;
}

enum sim_class sim_class_of(const char *path)
{
    const char *name = strrchr(path, '/'), *dot = strrchr(path, '.');

    name = name ? name + 1 : path;
    if (dot && strcmp(dot, ".seg") == 0)
        return CLASS_DATA;
    if (dot && strcmp(dot, ".toc") == 0)
        return CLASS_TOC;
    if (dot && strcmp(dot, ".head") == 0)
        return CLASS_HEAD;
    if (strcmp(name, "salt") == 0 || (dot && strcmp(dot, ".json") == 0))
        return CLASS_SMALL;
    return CLASS_OTHER;
}

/* ---- Time ---- */

uint64_t simfs_now(struct simfs *fs)
{
    uint64_t now;

    lock(fs);
    now = sim_virtual(fs);
    unlock(fs);
    return now;
}

void simfs_advance(struct simfs *fs, uint64_t virtual_ns)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->skew += virtual_ns;
    sim_reclaim(fs);
    (void)sim_pump(fs);
    (void)pthread_cond_broadcast(&fs->changed);
    (void)pthread_mutex_unlock(&fs->lock);
}

/* ---- Faults ---- */

void simfs_rate(struct simfs *fs, enum sim_fault kind, uint32_t per_10000)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->rates[kind] = per_10000;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_calm(struct simfs *fs)
{
    uint32_t i;

    (void)pthread_mutex_lock(&fs->lock);
    memset(fs->rates, 0, sizeof fs->rates);
    fs->armed = SIM_FAULT_KINDS;
    for (i = 0; i < SIM_HOSTS; i++) {
        fs->hosts[i].hung_until = 0;
        fs->hosts[i].down = false;
    }
    (void)sim_pump(fs);
    (void)pthread_cond_broadcast(&fs->changed);
    (void)pthread_mutex_unlock(&fs->lock);
}

static void arm(struct simfs *fs, enum sim_fault kind, uint64_t n, bool sticky,
                const struct sim_site *at)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->armed = kind;
    fs->armed_n = n;
    fs->armed_sticky = sticky;
    fs->armed_at = at;
    fs->armed_seen = fs->fired = 0;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_arm(struct simfs *fs, enum sim_fault kind, uint64_t n, bool sticky)
{
    arm(fs, kind, n, sticky, NULL);
}

void simfs_arm_at(struct simfs *fs, enum sim_fault kind, const struct sim_site *site)
{
    arm(fs, kind, 1, false, site);
}

uint64_t simfs_fired(struct simfs *fs)
{
    uint64_t n;

    (void)pthread_mutex_lock(&fs->lock);
    n = fs->fired;
    (void)pthread_mutex_unlock(&fs->lock);
    return n;
}

void simfs_label(struct simfs *fs, uint32_t label)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->label = label % SIM_LABELS;
    (void)pthread_mutex_unlock(&fs->lock);
}

void sim_kill_proc(struct sim_proc *p)
{
    struct simfs *fs = p->fs;
    uint32_t i;

    if (p->dead)
        return;
    p->dead = true;
    sim_ops_of_dead(p);
    for (i = 0; i < SIM_FILES; i++) {
        if (fs->files[i].proc == p && fs->files[i].inode && !fs->files[i].abandoned) {
            fs->files[i].abandoned = true;
            fs->files[i].inode->opens--;
            sim_inode_tell(fs, fs->files[i].inode);
        }
    }
    (void)pthread_cond_broadcast(&fs->changed);
}

static bool is(const struct sim_proc *p, const char *process)
{
    return !p->closed && strcmp(p->name, process) == 0;
}

void simfs_kill(struct simfs *fs, const char *process)
{
    struct sim_proc *p;

    (void)pthread_mutex_lock(&fs->lock);
    for (p = fs->procs; p; p = p->next) {
        if (is(p, process) && !p->dead) {
            sim_count(fs, NULL, SIM_KILL);
            sim_kill_proc(p);
        }
    }
    (void)pthread_mutex_unlock(&fs->lock);
}

bool simfs_killed(struct simfs *fs, const char *process)
{
    bool dead = false;
    struct sim_proc *p;

    (void)pthread_mutex_lock(&fs->lock);
    for (p = fs->procs; p; p = p->next)
        dead |= is(p, process) && p->dead;
    (void)pthread_mutex_unlock(&fs->lock);
    return dead;
}

void simfs_power_cut(struct simfs *fs)
{
    struct sim_proc *p;
    uint32_t i;

    (void)pthread_mutex_lock(&fs->lock);
    sim_count(fs, NULL, SIM_POWER_CUT);
    for (p = fs->procs; p; p = p->next)
        sim_kill_proc(p);
    sim_ops_cut(fs);
    sim_files_cut(fs);
    for (i = 0; i < SIM_HOSTS; i++)
        fs->hosts[i].ncache = 0;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_hang(struct simfs *fs, uint32_t host, uint64_t real_ns)
{
    (void)pthread_mutex_lock(&fs->lock);
    sim_count(fs, NULL, SIM_HANG);
    fs->hosts[host].hung_until = clock_ns() + real_ns;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_daemon_dies(struct simfs *fs, uint32_t host)
{
    (void)pthread_mutex_lock(&fs->lock);
    sim_count(fs, NULL, SIM_DAEMON_DEATH);
    fs->hosts[host].down = true;
    fs->hosts[host].epoch++;
    sim_ops_of_daemon(fs, host);
    fs->hosts[host].ncache = 0;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_daemon_returns(struct simfs *fs, uint32_t host)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->hosts[host].down = false;
    (void)pthread_cond_broadcast(&fs->changed);
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_stranger(struct simfs *fs, uint64_t bytes)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->stranger = bytes;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_capacity(struct simfs *fs, uint64_t bytes)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->o.capacity_bytes = bytes;
    (void)pthread_mutex_unlock(&fs->lock);
}

void simfs_set_audit(struct simfs *fs, const struct sim_audit *audit)
{
    (void)pthread_mutex_lock(&fs->lock);
    fs->audit = *audit;
    (void)pthread_mutex_unlock(&fs->lock);
}

/* ---- Looking and damaging ---- */

int64_t simfs_peek(struct simfs *fs, const char *path, uint64_t offset, void *buf, size_t len)
{
    struct sim_name *n;
    int64_t got = -ENOENT;

    lock(fs);
    n = sim_name_find(fs, path);
    if (n && n->now && !n->now->is_dir)
        got = sim_bytes_read(fs, n->now, offset, buf, len);
    unlock(fs);
    return got;
}

int simfs_poke(struct simfs *fs, const char *path, uint64_t offset, const void *buf, size_t len)
{
    struct sim_name *n;
    int rc = -ENOENT;

    lock(fs);
    n = sim_name_find(fs, path);
    if (n && n->now && !n->now->is_dir) {
        sim_count(fs, NULL, SIM_ROT);
        rc = sim_bytes_write(fs, n->now, n->now->writer_host, offset, buf, len);
    }
    unlock(fs);
    return rc;
}

void simfs_each(struct simfs *fs, const char *suffix, void (*visit)(void *arg, const char *path),
                void *arg)
{
    char path[SIM_PATH];
    uint32_t i;

    for (i = 0;; i++) {
        bool more, take;
        size_t n;

        lock(fs);
        more = i < fs->nnames;
        take = more && fs->names[i].now;
        if (take)
            memcpy(path, fs->names[i].path, sizeof path);
        unlock(fs);
        if (!more)
            break;
        n = take ? strlen(path) : 0;
        if (n >= strlen(suffix) && n && strcmp(path + n - strlen(suffix), suffix) == 0)
            visit(arg, path);
    }
}

uint64_t simfs_used(struct simfs *fs)
{
    uint64_t n;

    lock(fs);
    n = sim_used(fs) - fs->stranger;
    unlock(fs);
    return n;
}

uint64_t simfs_named(struct simfs *fs)
{
    const struct sim_inode *ino;
    uint64_t n = 0;

    lock(fs);
    for (ino = fs->inodes; ino; ino = ino->next) {
        if (ino->links || ino->opens)
            n += sim_inode_used(fs, ino);
    }
    unlock(fs);
    return n;
}

uint64_t simfs_in_flight(struct simfs *fs, const char *process)
{
    struct sim_op *op;
    uint64_t n = 0;

    lock(fs);
    for (op = fs->ops; op; op = op->next)
        n += strcmp(op->proc->name, process) == 0 && !op->ready;
    unlock(fs);
    return n;
}
