/*
 * state.h - what the files of the drop-in share: slots, rings (`struct ior`), process-wide
 * io_urings, registered files, the per-process state.
 *
 * A slot is one I/O from prep to reap. It is FREE, then on exactly one list: PREPARED (prep to
 * submit), LAZY (an inline read that a waiter will run), BUSY (kernel or worker thread has it),
 * DONE (completed, not yet reaped).
 *
 * Locks, in the order in which they may nest:
 *   proc.lock > uring.cq_lock > uring.sq_lock > ior.lock;   regfd.lock and pool.lock are leaves.
 * No lock is held while data moves, except sq_lock during the io_uring_enter that submits.
 *
 * Failure policy: an I/O that fails has a negative errno as its result; nothing here prints, exits
 * or aborts.
 */
#ifndef CISTERN_USRBIO_STATE_H
#define CISTERN_USRBIO_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <liburing.h>

#include "hf3fs_usrbio.h"
#include "usrbio/lock.h"

#define MUST_CHECK __attribute__((warn_unused_result))

enum backend {
    BACKEND_AUTO,
    BACKEND_URING,
    BACKEND_THREADS,
    BACKEND_INLINE,
};

enum slot_state {
    SLOT_FREE,
    SLOT_PREPARED,
    SLOT_LAZY,
    SLOT_BUSY,
    SLOT_DONE,
};

struct ior;

/* Guarded by ior.lock while FREE, PREPARED, LAZY or DONE; owned by whoever runs it while BUSY. */
struct slot {
    struct ior *ior;
    struct regfd *file; /* referenced from prep to completion, see ior_file_get */
    uint8_t *ptr;
    uint64_t off;
    uint64_t len;
    uint64_t moved; /* bytes so far */
    int64_t result; /* valid when DONE; preset to an error by prep or by strict mode */
    const void *userdata;
    struct slot *next;
    int unit; /* of fixed buffers; -1: none */
    uint8_t state;
    uint8_t retries;
    bool buffered; /* O_DIRECT was given up for this I/O */
    bool wrapped;  /* memory that the caller may free once the ring is gone */
};

struct slot_list {
    struct slot *head;
    struct slot **tail;
};

static inline void list_init(struct slot_list *list)
{
    list->head = NULL;
    list->tail = &list->head;
}

static inline void list_push(struct slot_list *list, struct slot *slot)
{
    slot->next = NULL;
    *list->tail = slot;
    list->tail = &slot->next;
}

static inline void list_push_front(struct slot_list *list, struct slot *slot)
{
    if (list->head == NULL)
        list->tail = &slot->next;
    slot->next = list->head;
    list->head = slot;
}

/* Appends all of `from`, which becomes empty. */
static inline void list_move(struct slot_list *to, struct slot_list *from)
{
    if (from->head != NULL) {
        *to->tail = from->head;
        to->tail = from->tail;
    }
    list_init(from);
}

static inline struct slot *list_pop(struct slot_list *list)
{
    struct slot *slot = list->head;

    if (slot == NULL)
        return NULL;
    list->head = slot->next;
    if (list->head == NULL)
        list->tail = &list->head;
    return slot;
}

/* Behind hf3fs_ior.iorh. Fields without a note are constant after creation; the rest is guarded by
 * `lock`. */
struct ior {
    uint64_t generation; /* of the process that made it; another one gets -EINVAL */
    int entries;
    int io_depth;
    bool for_read;
    bool forbid_holes;
    enum backend backend; /* where files on ordinary file systems go: never AUTO */
    struct uring *uring;  /* if backend is BACKEND_URING */
    void *client_base;    /* the memory shown in hf3fs_ior.iov */
    size_t client_size;

    struct lock lock;
    struct slot *slots;
    uint64_t *free_bits; /* 1: free */
    int free_hint;       /* no free bit in words below this one */
    struct slot_list prepared;
    struct slot_list backlog; /* started, but the io_uring had no room */
    struct slot_list lazy;
    struct slot_list done;
    unsigned done_count;
    unsigned busy;      /* slots BUSY */
    struct regfd *file; /* one reference shared by `file_users` slots; NULL: none */
    unsigned file_users;
    unsigned busy_wrapped;             /* of those, on memory that is not ours */
    unsigned wake_at;                  /* done_count at which sleeping waiters want to know */
    unsigned sleepers;                 /* waiters on `seq` */
    bool leader_here;                  /* the leader of our uring sleeps on behalf of this ring */
    bool dead;                         /* destroyed; freed once nothing is BUSY */
    _Atomic uint32_t seq;              /* futex word */
    _Atomic unsigned waiting_to_start; /* length of `prepared`; read without the lock as a hint */

    struct ior *next, **link;                   /* all rings of the process; guarded by proc.lock */
    struct ior *stalled_next;                   /* guarded by uring.sq_lock */
    bool stalled;                               /* likewise */
    struct ior *sleeping_next, **sleeping_link; /* rings with sleepers; guarded by uring.cq_lock */
};

/* One io_uring, shared by any number of rings. */
struct uring {
    struct io_uring ring;
    unsigned sq_mask, sq_entries;
    unsigned cq_mask;
    unsigned limit;         /* I/Os in flight that the completion queue surely takes */
    _Atomic unsigned users; /* rings on it */
    unsigned index;

    struct lock cq_lock;
    bool led;               /* a leader sleeps in the kernel */
    unsigned leader_min;    /* completions it waits for */
    unsigned waiters;       /* leader and sleepers */
    struct ior *sleeping;   /* rings with sleepers */
    struct slot_list retry; /* I/Os that moved less than asked */
    _Atomic bool leftover;  /* hint: `retry` or `stalled` is not empty */

    struct lock sq_lock;
    unsigned sq_tail;    /* our copy of the submission tail */
    struct ior *stalled; /* rings that found no room */
    uint32_t *fixed;     /* per unit: pages moved so far, or its state; NULL: no table */
    _Atomic unsigned inflight;
};

/* A registered file. Memory is type-stable: entries are recycled, never returned to the allocator.
 */
struct regfd {
    _Atomic unsigned refs;   /* 0: on the free list */
    int orig;                /* the caller's number */
    int dup;                 /* ours */
    int io_fd;               /* what I/O uses: `dup`, or reopened without O_APPEND */
    _Atomic int buffered_fd; /* reopened without O_DIRECT; -1: not yet */
    _Atomic int seek_fd;     /* private file offset for SEEK_DATA; -1: not yet */
    uint64_t dev, ino;       /* of the file: a child may have other ones under its numbers */
    int access;              /* O_ACCMODE at registration */
    int open_flags;
    int rw_flags;               /* RWF_NOAPPEND where reopening was refused */
    unsigned align;             /* O_DIRECT alignment; 1: unknown, 0: not O_DIRECT */
    _Atomic uint64_t size_seen; /* the file was this long once */
    bool in_memory;             /* tmpfs and its kind: run inline */
    bool regular;
    struct regfd *free_next;
};

struct strict {
    bool holes;    /* reads end where data ends */
    bool crossing; /* I/O across a block of its iov fails */
    bool exact;    /* only whole batches of io_depth start */
    bool overlap;  /* overlapping read buffers fail their batch */
    bool stale;    /* a number closed without dereg stays poisoned */
};

/* A mapping whose iov was destroyed while I/O was running on it. */
struct zombie {
    uint8_t *base;
    size_t size;
    struct zombie *next;
};

#define URINGS_MAX  16
#define FIXED_UNITS 1024

/* Memory that may be registered with the io_urings. Set before its number is known to anybody. */
struct fixed_unit {
    uint8_t *_Atomic base; /* NULL: number is free */
    _Atomic size_t size;
};

/* Per process; a forked child finds it stale and starts afresh. */
struct proc {
    pthread_mutex_t lock;
    enum backend wanted;  /* as configured */
    enum backend backend; /* as probed; AUTO: not yet */
    struct strict strict;
    size_t chunk;
    unsigned urings_max;
    struct uring *urings[URINGS_MAX];
    struct ior *iors;
    unsigned ior_count; /* living ones */
    unsigned dead_count;
    struct zombie *zombies;
    struct fixed_unit units[FIXED_UNITS];
    _Atomic bool fixed_refused; /* the kernel would not pin more */
};

/* proc.c */
uint64_t proc_generation(void);     /* 0: nothing set up in this process yet */
struct proc *proc_enter(void);      /* sets up if need be */
extern struct proc the_proc;        /* stale in a forked child until it enters */
void proc_sweep(struct proc *proc); /* frees what finished late; proc.lock held */

/* ior.c */
int ior_create(struct ior **out, int entries, bool for_read, int io_depth,
               uint64_t flags) MUST_CHECK;
void ior_destroy(struct ior *ior);
void ior_free(struct ior *ior);
bool ior_is_ours(const struct ior *ior);
struct regfd *ior_file_get(struct ior *ior, int fd, int *err);           /* lock held */
void ior_file_put(struct ior *ior, struct regfd *file);                  /* lock held */
struct slot *ior_take_slot(struct ior *ior);                             /* lock held */
unsigned ior_reap(struct ior *ior, struct hf3fs_cqe *out, unsigned max); /* lock held */
bool ior_finish(struct ior *ior, struct slot *slot,
                int64_t result);                      /* lock held; true: wake `seq` */
void ior_complete(struct slot *slot, int64_t result); /* no lock held */
bool ior_touches(struct ior *ior, const uint8_t *base, size_t size);

/* flow.c */
bool flow_start(struct ior *ior, bool enter); /* true: something waits in the submission queue */
void flow_unstall(struct ior *ior);           /* sq_lock held */
int flow_wait(struct ior *ior, struct hf3fs_cqe *out, unsigned max, unsigned min,
              const struct timespec *until);

/* uring.c */
int uring_create(struct uring **out) MUST_CHECK;
void uring_destroy(struct uring *uring);
bool uring_queue(struct uring *uring, struct slot *slot); /* sq_lock held; false: no room */
void uring_publish(struct uring *uring);                  /* sq_lock held */
void uring_submit(struct uring *uring);                   /* sq_lock held */
bool uring_drain(struct uring *uring);                    /* cq_lock held; true: something came */
bool uring_has_completions(struct uring *uring);          /* a hint, no lock held */
void uring_after_drain(struct uring *uring);              /* no lock held */
void uring_wake_leader(struct uring *uring);              /* cq_lock held */
int uring_enter_wait(struct uring *uring, unsigned min, const struct timespec *until);
unsigned uring_unsubmitted(struct uring *uring);

/* rw.c */
enum step { STEP_AGAIN, STEP_DONE };
void rw_begin(struct slot *slot); /* before the first step */
int rw_fd(struct slot *slot);
uint32_t rw_length(const struct slot *slot);
enum step rw_step(struct slot *slot, int64_t res); /* STEP_DONE: slot->result is final */
int64_t rw_run(struct slot *slot);                 /* the whole I/O, in this thread */

/* pool.c */
void pool_push(struct slot_list *list, unsigned count);
void pool_stop(void);
void pool_reset_after_fork(void);
unsigned pool_threads(void);

/* regfd.c */
int regfd_add(int fd) MUST_CHECK;
void regfd_remove(int fd);
struct regfd *regfd_peek(int fd, int *err); /* no reference: only to be compared */
struct regfd *regfd_get(int fd, int *err);
void regfd_put(struct regfd *file);
int regfd_buffered(struct regfd *file);
int regfd_seek(struct regfd *file); /* -1: none to be had */
void regfd_reset_after_fork(void);

/* fixed.c */
void fixed_attach(struct uring *uring);
bool fixed_use(struct uring *uring, const struct slot *slot);
int fixed_assign(struct proc *proc, uint8_t *base, size_t size);
void fixed_release(struct proc *proc, int first, size_t size);
int fixed_unit_of(int first, size_t off, uint64_t len);

/* strict.c */
void strict_parse(struct strict *strict, const char *text);
void strict_pick(struct ior *ior, struct slot_list *out); /* ior.lock held */
bool strict_clip(struct slot *slot);                      /* true: slot->result is final */
int strict_describe(const struct strict *strict, char *buf, size_t size);

#endif
