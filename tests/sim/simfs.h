/*
 * simfs.h - simulated storage: one file system in memory under any number of `struct io` handles,
 * which stand for processes on several hosts. For tests only.
 *
 * A process is what one mount string names, "/sim/<host>/<process>". Threads, deadlines and the
 * engine are real; storage is not. What a seed repeats: which call of which verb on which kind of
 * file of which process meets which fault, and what the fault does. What it does not repeat: the
 * interleaving of threads.
 *
 * The fault model. Each kind has a rate of its own (out of 10,000 calls that could meet it), or is
 * armed to hit exactly the n-th such call (and all later ones, if sticky). Each hit is counted per
 * kind, per call site of the table of operations, and per operation that the test says it is in.
 *
 *   read_error     the completion of a read is -EIO
 *   write_error    the completion of a write is -EIO or -ENOSPC; nothing of it lands
 *   sync_error     a sync fails (-EIO, -ENOSPC); what was to be synced stays un-synced for good
 *   open_error     opening or making a file fails (-EIO, -EMFILE, -ENOMEM; making also -ENOSPC)
 *   alloc_error    file_allocate fails (-EIO, -ENOSPC, -ENOMEM)
 *   unlink_error   -EIO
 *   verb_error     every other file verb fails (-EIO, -ENOMEM)
 *   ring_error     mem_create, mem_wrap, ring_create, prep or submit fails (-EIO, -ENOMEM)
 *   wait_error     wait says -EIO and hands nothing out
 *   busy           prep or submit says -EAGAIN
 *   short_read     a read ends early and says so
 *   bit_flip       a read is right but for one bit; the file is not changed
 *   misdirected    a read brings bytes of another place of the same or of another file
 *   short_write    a write lands in part and says how much
 *   torn_write     a write lands in part, cut at a chunk (3FS) or at 512 bytes, and says -EIO
 *   late           a read or write completes after `late_ns`, in the past of every deadline of the
 *                  store under test; its memory is read or written until then
 *   reorder        completions are handed out in any order, and not all that are ready at once
 *
 * At any moment, by call:
 *   kill           the process stops: nothing that it calls has an effect; what it had in flight
 *                  lands later or never, each I/O on its own; also armed: at the n-th call of all
 *   power cut      everybody is killed; what was not synced is, per 512 bytes, there or not; names
 *                  in directories that were not synced are there or not
 *   hang           nothing completes and no verb returns on one host, for a time that ends
 *   daemon death   what is in flight on one host never completes and verbs say -ENOTCONN; when the
 *                  daemon is back, verbs work and rings, memory and files from before do not
 *   rot            bytes of a file are changed where they lie
 *   a stranger     takes space of the capacity; more than there is: -ENOSPC for all
 *
 * The manners of 3FS, each with a switch (struct sim_manners). All times below are virtual: they
 * run `factor` times as fast as the clock of the machine, and simfs_advance() jumps.
 *
 * What is watched all the time (simfs_violation() has the first finding): memory that is given to a
 * second I/O while storage owns it, the source of a write that changes under it, two writes under
 * way to one place of a file,
 * memory that is destroyed under an I/O, I/O on a closed file, a read through a closed handle.
 *
 * Locks: one, for everything. No function here may be called from an audit callback, except
 * simfs_peek().
 */
#ifndef TESTS_SIM_SIMFS_H
#define TESTS_SIM_SIMFS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "io/io.h"

#define SIM_FAULTS(X)                                                                              \
    X(READ_ERROR, "read_error")                                                                    \
    X(WRITE_ERROR, "write_error")                                                                  \
    X(SYNC_ERROR, "sync_error")                                                                    \
    X(OPEN_ERROR, "open_error")                                                                    \
    X(ALLOC_ERROR, "alloc_error")                                                                  \
    X(UNLINK_ERROR, "unlink_error")                                                                \
    X(VERB_ERROR, "verb_error")                                                                    \
    X(RING_ERROR, "ring_error")                                                                    \
    X(WAIT_ERROR, "wait_error")                                                                    \
    X(BUSY, "busy")                                                                                \
    X(SHORT_READ, "short_read")                                                                    \
    X(BIT_FLIP, "bit_flip")                                                                        \
    X(MISDIRECTED, "misdirected")                                                                  \
    X(SHORT_WRITE, "short_write")                                                                  \
    X(TORN_WRITE, "torn_write")                                                                    \
    X(LATE, "late")                                                                                \
    X(REORDER, "reorder")                                                                          \
    X(KILL, "kill")                                                                                \
    X(POWER_CUT, "power_cut")                                                                      \
    X(HANG, "hang")                                                                                \
    X(DAEMON_DEATH, "daemon_death")                                                                \
    X(ROT, "rot")                                                                                  \
    X(ENOSPC, "enospc")

enum sim_fault {
#define SIM_ENUM(name, text) SIM_##name,
    SIM_FAULTS(SIM_ENUM)
#undef SIM_ENUM
        SIM_FAULT_KINDS
};
extern const char *const sim_fault_names[SIM_FAULT_KINDS];

#define SIM_HOSTS  4
#define SIM_LABELS 16

#define SIM_S NS_PER_S /* of virtual time */

struct sim_manners {
    bool negative_lookups; /* a host that missed a name misses it for 5 s more */
    bool entry_cache;      /* a host sees names and attributes of 30 s ago */
    bool lagging_length;   /* the size that stat tells lags by 30 s on other hosts, until a sync or
                              close of the writer */
    bool pending_stalls;   /* a plain read of a chunk with a write under way waits in steps of 5 s;
                              rings that allow uncommitted reads see the pending bytes */
    bool chunk_atomic;     /* a write lands chunk by chunk, each at its own moment */
    bool late_reclamation; /* unlinked files keep their space for 5 min, then lose their bytes under
                              readers: 0 or short reads, no error */
    bool acks_durable;     /* a completed write survives a power cut; names do at once */
    bool no_allocate;      /* file_allocate is -EOPNOTSUPP */
};
/* All of them; none: a local file system. */
extern const struct sim_manners sim_manners_3fs, sim_manners_local;

struct sim_options {
    uint64_t seed;
    struct sim_manners manners;
    uint32_t chunk_bytes;    /* 64 KiB */
    uint64_t capacity_bytes; /* 0 = no end */
    uint32_t factor;         /* virtual over real time; 0: virtual time only jumps */
    uint64_t late_ns;        /* real; 200 ms */
    bool committed_reads;    /* rings wait for pending chunks; off as in the rows of src/io */
};

/* What may watch, under the lock: bytes on their way to a file at the moment of prep (before any of
 * them landed), and names that go. */
struct sim_audit {
    void (*write)(void *arg, const char *path, uint64_t offset, const uint8_t *bytes, size_t len);
    void (*unlink)(void *arg, const char *path);
    void *arg;
};

struct simfs;

/* Makes it and puts it under io_open(). One at a time. */
struct simfs *simfs_new(const struct sim_options *o);
/* All handles are closed or killed. Memory that handles left behind goes here. */
void simfs_free(struct simfs *fs);
/* "/sim/<host>/<process>" for options.mount; returns buf. */
const char *simfs_mount(char buf[64], uint32_t host, const char *process);
/* What io_open() does, for clients that use the table of operations themselves. */
int simfs_io_open(struct simfs *fs, uint32_t host, const char *process, struct io **out) MUST_CHECK;

/* ---- Time ---- */
uint64_t simfs_now(struct simfs *fs); /* virtual ns */
void simfs_advance(struct simfs *fs, uint64_t virtual_ns);

/* ---- Faults ---- */
struct sim_site;
void simfs_rate(struct simfs *fs, enum sim_fault kind, uint32_t per_10000);
void simfs_calm(struct simfs *fs); /* all rates 0, nothing armed, hangs end, daemons are back */
/* SIM_KILL: at the n-th call of all verbs; n from 1. */
void simfs_arm(struct simfs *fs, enum sim_fault kind, uint64_t n, bool sticky);
/* The first call that comes from there. */
void simfs_arm_at(struct simfs *fs, enum sim_fault kind, const struct sim_site *site);
uint64_t simfs_fired(struct simfs *fs); /* hits since the last simfs_arm() */
void simfs_label(struct simfs *fs, uint32_t label);
void simfs_kill(struct simfs *fs, const char *process);
bool simfs_killed(struct simfs *fs, const char *process);
void simfs_power_cut(struct simfs *fs);
void simfs_hang(struct simfs *fs, uint32_t host, uint64_t real_ns);
void simfs_daemon_dies(struct simfs *fs, uint32_t host);
void simfs_daemon_returns(struct simfs *fs, uint32_t host);
void simfs_stranger(struct simfs *fs, uint64_t bytes); /* in all */
void simfs_capacity(struct simfs *fs, uint64_t bytes);
void simfs_set_audit(struct simfs *fs, const struct sim_audit *audit);

/* ---- Looking and damaging, past all manners ---- */
/* Bytes of a file as they lie; -ENOENT. From an audit callback too. */
int64_t simfs_peek(struct simfs *fs, const char *path, uint64_t offset, void *buf, size_t len);
int simfs_poke(struct simfs *fs, const char *path, uint64_t offset, const void *buf, size_t len);
/* Each path that ends in `suffix`; the callback may peek and poke. */
void simfs_each(struct simfs *fs, const char *suffix, void (*visit)(void *arg, const char *path),
                void *arg);
uint64_t simfs_used(struct simfs *fs);  /* bytes of all files, unlinked and open ones included */
uint64_t simfs_named(struct simfs *fs); /* of these: those that have a name or are open */
uint64_t simfs_in_flight(struct simfs *fs, const char *process);
uint64_t simfs_unsettled(struct simfs *fs); /* writes that may still land */

/* ---- Findings and counts ---- */
/* "" or the first finding; `fs` keeps it. */
const char *simfs_violation(struct simfs *fs);
void simfs_violate(struct simfs *fs, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* [label][kind], added up over all simfs of the process; may be moved to shared memory first. */
typedef uint64_t sim_cover[SIM_LABELS][SIM_FAULT_KINDS];
extern sim_cover *sim_coverage;

/* A place in the code that calls the table of operations. */
struct sim_site {
    const void *caller; /* return address */
    const char *verb;
    uint64_t calls, hits[SIM_FAULT_KINDS];
    bool met[SIM_FAULT_KINDS]; /* it was called while that kind was armed */
};
#define SIM_SITES_MAX 512
/* Inside the simulator: what this thread allocates now is not the library's. */
extern _Thread_local int sim_depth;
/* Of the process, over all simfs; *n is how many there are. */
const struct sim_site *simfs_sites(uint32_t *n);

#endif
