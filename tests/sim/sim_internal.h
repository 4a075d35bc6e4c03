/*
 * sim_internal.h - what the files of the simulated storage share. Everything is guarded by
 * simfs.lock.
 *
 * simfs.c: the whole, time, faults, processes. sim_files.c: bytes and names. sim_ring.c: memory,
 * rings, what is in flight. sim_verbs.c: the row of operations.
 */
#ifndef TESTS_SIM_SIM_INTERNAL_H
#define TESTS_SIM_SIM_INTERNAL_H

#include <pthread.h>

#include "base/bits.h"
#include "base/clock.h"
#include "simfs.h"

#define SIM_PATH  640
#define SIM_FILES 4096
#define SIM_NEVER UINT64_MAX
#define SECTOR    512u

/* Kinds of files, so that a fault's place in a run does not depend on names that are random. */
enum sim_class { CLASS_DATA, CLASS_TOC, CLASS_HEAD, CLASS_SMALL, CLASS_OTHER, SIM_CLASSES };

enum sim_verb {
    VERB_MEM_CREATE,
    VERB_MEM_WRAP,
    VERB_MEM_DESTROY,
    VERB_RING_CREATE,
    VERB_RING_DESTROY,
    VERB_PREP,
    VERB_SUBMIT,
    VERB_WAIT,
    VERB_FILE_OPEN,
    VERB_FILE_CLOSE,
    VERB_FILE_SYNC,
    VERB_FILE_TRUNCATE,
    VERB_FILE_ALLOCATE,
    VERB_MAKE_DIR,
    VERB_LIST,
    VERB_STAT,
    VERB_UNLINK,
    VERB_SYNC_DIR,
    VERB_SPACE,
    VERB_SMALL_READ,
    VERB_SMALL_WRITE,
    VERB_REMOVE_DIR,
    SIM_VERBS
};
extern const char *const sim_verb_names[SIM_VERBS];

struct sim_chunk {
    uint8_t *bytes;   /* chunk_bytes, or NULL */
    uint32_t len;     /* stored */
    uint32_t reserve; /* allocated ahead */
    uint8_t *durable; /* what a power cut may bring back; NULL: all is durable */
    uint32_t durable_len;
    uint8_t dirty[64]; /* bit per sector, relative to durable */
    uint8_t stuck[64]; /* of these: a sync failed, no later one makes them durable */
    uint32_t pending;  /* writes that landed and did not complete */
};

struct sim_inode {
    struct sim_inode *next;
    char path[SIM_PATH]; /* its first name */
    bool is_dir;
    uint64_t id;
    struct sim_chunk *chunks;
    uint32_t nchunks;
    uint64_t length, told_length, tell_at; /* true; what other hosts see; when they will see more */
    uint64_t durable_length;
    uint32_t writer_host; /* of the last write */
    uint32_t links, opens;
    uint64_t gone_at; /* virtual; when the last name went */
    bool reclaimed;
};

struct sim_name {
    char path[SIM_PATH];
    struct sim_inode *now, *durable;
};

struct sim_cached {
    char path[SIM_PATH];
    struct sim_inode *inode; /* NULL: it is not there */
    uint64_t until, size, size_until;
};

struct sim_host {
    struct sim_cached *cache;
    uint32_t ncache, room;
    uint64_t hung_until; /* real ns; 0 = not */
    bool down;
    uint32_t epoch; /* of its daemon */
};

struct sim_proc {
    struct sim_proc *next;
    struct simfs *fs;
    char name[48];
    uint32_t host, ordinal;
    bool dead, closed;
    uint64_t nth[SIM_VERBS][SIM_CLASSES][SIM_FAULT_KINDS];
};

struct sim_file {
    struct sim_inode *inode; /* NULL: free */
    struct sim_proc *proc;
    uint32_t epoch;
    bool writable, abandoned;
};

struct sim_mem {
    struct sim_mem *next;
    struct sim_proc *proc;
    uint8_t *base;
    size_t size;
    uint32_t epoch;
    bool wrapped;
};

struct sim_op {
    struct sim_op *next;
    struct sim_proc *proc;
    struct sim_ring *ring; /* NULL: nobody waits for it */
    struct sim_mem *mem;
    struct sim_inode *inode;
    struct sim_site *site;
    uint32_t host;
    bool read, submitted, landed, ready, pended;
    uint8_t *ptr, *snapshot;
    uint64_t offset, len, put, hash; /* put: bytes that landed */
    uint64_t land_at, done_at;       /* real */
    uint64_t stall_until;            /* virtual */
    void *userdata;
    int64_t result;
    enum sim_fault fault; /* SIM_FAULT_KINDS = none */
    uint64_t dice;
};

struct sim_ring {
    struct sim_ring *next;
    struct sim_proc *proc;
    uint32_t epoch, entries, in_flight;
    bool for_read;
};

struct simfs {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sim_options o;
    uint64_t started_ns, skew; /* virtual = (real - started) * factor + skew */
    struct sim_inode *inodes;
    uint64_t next_inode;
    struct sim_name *names;
    uint32_t nnames, names_room;
    struct sim_host hosts[SIM_HOSTS];
    struct sim_proc *procs;
    uint32_t nprocs;
    struct sim_file files[SIM_FILES];
    struct sim_mem *mems;
    struct sim_ring *rings;
    struct sim_op *ops, *ops_last;
    uint64_t dice; /* of what has no place of its own */
    uint32_t rates[SIM_FAULT_KINDS];
    enum sim_fault armed; /* SIM_FAULT_KINDS: none */
    uint64_t armed_n, armed_seen, fired;
    bool armed_sticky;
    const struct sim_site *armed_at; /* NULL: anywhere */
    uint32_t label;
    uint64_t stranger;
    struct sim_audit audit;
    pthread_t auditing; /* the thread inside a callback */
    bool in_audit;
    char violation[512];
};

/* ---- simfs.c ---- */
uint64_t sim_mix(uint64_t x);
uint64_t sim_roll(struct simfs *fs); /* the next number of the common dice */
uint64_t sim_virtual(const struct simfs *fs);
/* Whether this call meets the fault; counts it. *dice is a number for what the fault does. */
bool sim_fires(struct sim_proc *p, enum sim_verb verb, enum sim_class class, struct sim_site *site,
               enum sim_fault kind, uint64_t *dice);
struct sim_site *sim_site_of(const void *caller, enum sim_verb verb);
void sim_count(struct simfs *fs, struct sim_site *site, enum sim_fault kind);
void sim_kill_proc(struct sim_proc *p);
void sim_violate(struct simfs *fs, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Begins a verb: waits while the host hangs; 0, -EIO (killed), -ENOTCONN. The lock is held after
 * it, whatever it returns. */
int sim_enter(struct sim_proc *p, enum sim_verb verb, struct sim_site *site, bool may_wait);
void sim_leave(struct sim_proc *p);
enum sim_class sim_class_of(const char *path);

/* ---- sim_files.c ---- */
struct sim_inode *sim_lookup(struct sim_proc *p, const char *path); /* through the host's cache */
struct sim_name *sim_name_find(struct simfs *fs, const char *path);
struct sim_inode *sim_inode_new(struct simfs *fs, const char *path, bool is_dir);
bool sim_parent_there(struct simfs *fs, const char *path);
/* inode NULL: the name goes. */
void sim_name_set(struct sim_proc *p, const char *path, struct sim_inode *inode, bool durable);
void sim_names_sync(struct simfs *fs, const char *dir);
void sim_cache_drop(struct sim_proc *p, const char *path);
int64_t sim_bytes_read(struct simfs *fs, struct sim_inode *ino, uint64_t offset, uint8_t *to,
                       uint64_t len);
/* 0 or -ENOSPC. */
int sim_bytes_write(struct simfs *fs, struct sim_inode *ino, uint32_t host, uint64_t offset,
                    const uint8_t *from, uint64_t len);
int sim_reserve(struct simfs *fs, struct sim_inode *ino, uint64_t from, uint64_t len);
void sim_truncate(struct simfs *fs, struct sim_inode *ino, uint64_t size);
void sim_inode_sync(struct simfs *fs, struct sim_inode *ino);
void sim_inode_sync_failed(struct sim_inode *ino);
void sim_inode_tell(struct simfs *fs, struct sim_inode *ino); /* other hosts see its length */
uint64_t sim_size_seen(struct sim_proc *p, const char *path, struct sim_inode *ino);
uint64_t sim_inode_used(const struct simfs *fs, const struct sim_inode *ino);
uint64_t sim_used(const struct simfs *fs);
void sim_reclaim(struct simfs *fs);
void sim_files_cut(struct simfs *fs);
void sim_files_free(struct simfs *fs);
bool sim_chunks_pending(const struct simfs *fs, const struct sim_inode *ino, uint64_t offset,
                        uint64_t len);
void sim_chunks_pend(struct simfs *fs, struct sim_inode *ino, uint64_t offset, uint64_t len,
                     int by);

/* ---- sim_ring.c ---- */
int sim_mem_create(struct io *io, struct io_mem *m, size_t size, size_t block_size);
int sim_mem_wrap(struct io *io, struct io_mem *m, void *base, size_t size);
void sim_mem_destroy(struct io *io, struct io_mem *m);
int sim_ring_create(struct io *io, struct io_ring *r, int entries, bool for_read);
void sim_ring_destroy(struct io *io, struct io_ring *r);
int sim_prep(struct io *io, struct io_ring *r, const struct io_mem *m, void *ptr, struct io_file *f,
             uint64_t offset, uint64_t len, void *userdata);
int sim_submit(struct io *io, struct io_ring *r);
int sim_wait(struct io *io, struct io_ring *r, struct io_done *done, int max, int min,
             uint64_t timeout_ns);
void sim_ops_of_dead(struct sim_proc *p);
void sim_ops_cut(struct simfs *fs);
void sim_ops_of_daemon(struct simfs *fs, uint32_t host);
/* Does all that is due. Returns when something may be due next (real). */
uint64_t sim_pump(struct simfs *fs);
void sim_rings_free(struct simfs *fs);

/* ---- sim_verbs.c ---- */
extern const struct io_ops sim_ops_hf3fs, sim_ops_local;

#endif
