/*
 * cistern_admin.h - the operator's side of Cistern: check a root directory, without opening a
 * space.
 *
 * Engines do not need this header; `cistern fsck` and its neighbours are made from it.
 *
 * Threads and time. Every function here blocks, on storage and some on purpose for as long as
 * silence_ms; call them where that is all right. No handle is involved; two calls may run at once.
 * Callbacks run on the calling thread and must not call the library, except that they may use
 * cistern_error_*(). A non-zero result of a callback ends the function, which returns it (let it be
 * negative where a count is returned). Strings
 * that a callback gets live for the callback only.
 *
 * Other processes. Everything here may run while engines use the root. What removes files touches
 * only those of a writer that ended: one that closed its head, or whose head and files did not
 * change while they were watched for silence_ms and whose process, if it is one of this host, is
 * gone. Payloads that verify are removed by cistern_wipe() alone.
 *
 * Paths in reports are relative to the mount. Errors are those of cistern.h.
 */
#ifndef CISTERN_ADMIN_H
#define CISTERN_ADMIN_H

#include "cistern.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cistern_admin_flags {
    CISTERN_ADMIN_DRY_RUN = 1, /* say what would be removed, remove nothing */
    CISTERN_ADMIN_REPAIR = 2,  /* fsck: mend what can be mended without losing anything */
    CISTERN_ADMIN_FORCE = 4,   /* wipe: also where a writer may be alive, and with any silence_ms */
    CISTERN_ADMIN_SALT = 8,    /* export: put the root's salt into the file */
    CISTERN_ADMIN_READ = 16    /* explain: read the payloads too */
};

struct cistern_progress {
    const char *doing;    /* "watching heads", "reading", ... static */
    uint64_t done, total; /* bytes; of "watching heads": milliseconds. total 0 = not known */
};

/* What all functions here take. Pointers need to live until the call returns. */
struct cistern_admin {
    size_t size;
    /* Required; mount, root, provider, provider_path, read_timeout_ms, write_timeout_ms, log are
     * used. */
    const struct cistern_options *store;
    const char *space; /* only spaces whose directory's name begins so (wipe: is so); NULL = all */
    uint32_t flags;    /* enum cistern_admin_flags */
    uint32_t silence_ms; /* how long a head must not change; 0 = as cistern.json says, else 60,000.
                            Heads of idle writers change four times in that, so a shorter one may
                            take the living for dead: gc and fsck warn, wipe refuses */
    uint64_t rate_bytes; /* most bytes of payload that are read a second; 0 = no limit */
    int (*progress)(void *arg, const struct cistern_progress *p); /* NULL = not asked for */
    void *progress_arg;
};

/* ---- fsck */

enum cistern_severity {
    CISTERN_NOTE = 0, /* worth knowing; nothing is wrong */
    CISTERN_WARN = 1, /* somebody should look; blocks may have become misses */
    CISTERN_BAD = 2   /* blocks are lost, or the store cannot be opened as it is */
};

/* A check, as documented in docs/FSCK.md. Ids never change their meaning. */
struct cistern_check {
    const char *id;      /* "CF101"; static, like all here */
    uint32_t severity;   /* enum cistern_severity */
    uint32_t repairable; /* fsck with CISTERN_ADMIN_REPAIR mends it where its writer has ended */
    const char *title, *meaning, *advice;
};
/* Fills up to max; returns how many there are. */
CISTERN_API int cistern_fsck_checks(struct cistern_check *out, int max);

enum cistern_repair {
    CISTERN_REPAIR_NONE = 0,   /* not asked for, or there is nothing to mend */
    CISTERN_REPAIR_DONE = 1,   /* mended */
    CISTERN_REPAIR_WAITS = 2,  /* its writer may be alive: left alone */
    CISTERN_REPAIR_FAILED = 3, /* storage refused; `detail` says how */
    CISTERN_REPAIR_WOULD = 4   /* would be mended, but for CISTERN_ADMIN_DRY_RUN */
};

struct cistern_finding {
    const struct cistern_check *check;
    const char *path;   /* the file or directory */
    const char *detail; /* what exactly, with numbers */
    uint32_t repair;    /* enum cistern_repair */
};

struct cistern_fsck_sum {
    size_t size;
    uint64_t spaces, shards, writers, segments, blocks, files;
    uint64_t disk_bytes, capacity_bytes; /* capacity 0 = not limited */
    uint64_t notes, warnings, errors;    /* findings, repaired ones included */
    uint64_t repaired;
    uint64_t unrepaired; /* warnings and errors that are still there */
};

/*
 * Looks at everything but payloads. -ENOENT: no such directory, or nothing in it is a store's.
 * `sum` may be NULL.
 */
CISTERN_API CISTERN_MUST int cistern_fsck(const struct cistern_admin *a,
                                          int (*callback)(void *arg,
                                                          const struct cistern_finding *finding),
                                          void *arg, struct cistern_fsck_sum *sum);

/* ---- verify */

enum cistern_block_state {
    CISTERN_BLOCK_GOOD = 0,
    CISTERN_BLOCK_CHECKSUM = 1, /* the bytes are not what was stored */
    CISTERN_BLOCK_SHORT = 2,    /* the data file ends inside the block */
    CISTERN_BLOCK_MISSING = 3,  /* there is no data file */
    CISTERN_BLOCK_IO = 4        /* storage failed; `error` says how */
};

/* A bad block, or the end of a segment (`segment_done`). */
struct cistern_verify_item {
    const char *space, *path; /* of the data file */
    uint32_t shard, segment_done;
    /* segment_done: */
    uint64_t blocks, dead, bad, bytes; /* dead ones are not read; bytes of payload that were */
    const char *note;                  /* "" or why the segment was left out */
    /* a bad block: */
    uint32_t state; /* enum cistern_block_state */
    uint32_t part;
    uint64_t offset, length; /* of the part in the data file */
    int32_t error;
    cistern_key key;
};

struct cistern_verify_sum {
    size_t size;
    uint64_t segments, blocks, dead, bad_blocks, bytes;
    uint64_t unreadable; /* segments whose contents are not valid, or end torn */
    uint64_t nanoseconds;
};

/* Reads every payload that contents name and nobody declared dead, and checks it. Marks nothing:
 * only a writer declares blocks dead, and a get does it by itself. */
CISTERN_API CISTERN_MUST int cistern_verify(const struct cistern_admin *a,
                                            int (*callback)(void *arg,
                                                            const struct cistern_verify_item *item),
                                            void *arg, struct cistern_verify_sum *sum);

/* ---- gc and wipe */

struct cistern_removal {
    const char *space; /* directory; "" = in the root */
    const char *path;
    const char *why;
    uint64_t disk_bytes;
    uint32_t is_dir;
    int32_t result; /* 0 = removed; 1 = would be; 2 = left, its writer may be alive, or as `why`
                       says; < 0 failed */
};
struct cistern_removal_sum {
    size_t size;
    uint64_t files, disk_bytes; /* removed, or that would be */
    uint64_t waiting;           /* left because a writer may be alive */
    uint64_t failed;
    /* Wipe of a tenant: its blocks that were found, deleted ones too, and the blocks of others that
     * go along because they lie in the same segments. */
    uint64_t tenant_blocks, tenant_bytes;
    uint64_t other_blocks, other_bytes;
};

/*
 * Removes what nobody needs of writers that ended: files of segments in which nothing was
 * published, data that no contents name, contents that name nothing, heads without segments,
 * temporary files, pins that expired.
 */
CISTERN_API CISTERN_MUST int cistern_gc(const struct cistern_admin *a,
                                        int (*callback)(void *arg,
                                                        const struct cistern_removal *removal),
                                        void *arg, struct cistern_removal_sum *sum);

struct cistern_shrink {
    size_t size;
    uint64_t to_bytes; /* what the files of the root may take afterwards */
    uint32_t grace_ms; /* between contents and data: longer than any reader's deadline and its next
                          look; 0 = as an engine with the options of a->store */
};
struct cistern_shrink_sum {
    size_t size;
    uint64_t used_bytes;             /* before */
    uint64_t segments, bytes, files; /* that went, or would go */
    uint64_t kept;    /* segments left because of pins, or of notes about others that nobody else
                         has; or because nobody can tell: not read, or encrypted and no key given */
    uint64_t missing; /* bytes above to_bytes that could not be evicted */
    uint64_t failed;  /* files that could not be removed */
};
/*
 * Evicts segments by the policy of the engines until the root takes at most to_bytes, in two steps
 * with a grace between them, data at no more than a->rate_bytes a second; with
 * CISTERN_ADMIN_DRY_RUN says what would go. Only what engines may evict of each other, of the
 * spaces that a->space admits: sealed segments, of writers that live all but the last. When that is
 * not enough, those that did not close are watched for silence_ms. Used blocks are not carried
 * over: an engine that is given a smaller capacity does that.
 */
CISTERN_API CISTERN_MUST int
cistern_shrink(const struct cistern_admin *a, const struct cistern_shrink *how,
               int (*callback)(void *arg, const struct cistern_removal *removal), void *arg,
               struct cistern_shrink_sum *sum);

struct cistern_wipe {
    size_t size;
    const char *model;     /* only spaces of this model, by space.json; NULL = any */
    uint64_t older_than_s; /* only spaces in which nothing was written for so long; 0 = any */
    /* Not whole spaces but the blocks of this tenant in them, as of cistern_identity.tenant. */
    const void *tenant;
    size_t tenant_len; /* 0 = whole spaces */
    uint32_t grace_ms; /* with a tenant: as of cistern_shrink */
};
/*
 * Removes whole spaces: those that a->space, `model` and `older_than_s` all admit. a->space here is
 * no beginning but the name of a directory or of a space, "bench" for "bench-<digits>" and not for
 * "bench2-<digits>", or that with some of the digits, if only one directory has them. A space with
 * a writer that may be alive is left (result 2), unless CISTERN_ADMIN_FORCE: then such a writer
 * goes on into files without names and what it stores is lost, until its segment is full and it
 * makes the space anew; its engine stays right. -EINVAL: silence_ms is shorter than the root's, and
 * it is not forced. cistern.json and salt stay, and so do files that are not Cistern's and the
 * directories that hold them.
 *
 * With a tenant: nobody finds a block of it afterwards, and who has one of these spaces open now
 * not either, as soon as it hears of it, as of a deletion; engines go on. The bytes go with the
 * segments that hold them, whoever writes there: sealed ones, in two steps with a grace between
 * them, and with them what they hold of others, pinned or not. A segment that may still grow is
 * left (result 2): wipe again when its writer has closed it. So is what cannot be read. Pins of
 * nothing but the tenant's blocks go too. CISTERN_ADMIN_FORCE only admits a short silence_ms. What
 * the tenant's engines store meanwhile may stay. Data files without contents go as well: whose they
 * are cannot be told. Nor can it of what a process wrote to a segment and died before it named it.
 * -EINVAL: with older_than_s, which the notes about the tenant would make untrue half-way.
 */
CISTERN_API CISTERN_MUST int
cistern_wipe(const struct cistern_admin *a, const struct cistern_wipe *w,
             int (*callback)(void *arg, const struct cistern_removal *removal), void *arg,
             struct cistern_removal_sum *sum);

/* ---- export and import */

struct cistern_transfer_sum {
    size_t size;
    uint64_t segments, blocks, bytes; /* bytes of payload */
    uint64_t skipped;                 /* export: blocks that did not verify; they are left out */
    char space[192];                  /* directory of the space */
};

/*
 * Writes one space as a stream of bytes, docs/FORMAT.md "Export". a->space must admit exactly one
 * space (CISTERN_ESPACE). Every block is verified on the way; blocks that are not good are left
 * out and counted. `write` takes all of the bytes and returns 0, or ends the export.
 */
CISTERN_API CISTERN_MUST int cistern_export(const struct cistern_admin *a,
                                            int (*write)(void *arg, const void *data, size_t len),
                                            void *arg, struct cistern_transfer_sum *sum);
/*
 * Reads such a stream into the root, as the segments of a new writer that is closed. `read` returns
 * how many bytes it gave, 0 at the end, or a negative errno. Every block is verified before
 * anything becomes visible, which happens at the end, one small write a segment. -EBADMSG: not an
 * export, damaged, or cut. CISTERN_ESPACE: made under another salt, so that no key would ever be
 * asked for. A root that does not exist is made if the stream brings its salt. -ENOSPC: it does not
 * fit the capacity of the root beside what is there; nothing is evicted for it.
 */
CISTERN_API CISTERN_MUST int cistern_import(const struct cistern_admin *a,
                                            int64_t (*read)(void *arg, void *buf, size_t len),
                                            void *arg, struct cistern_transfer_sum *sum);

/* ---- prefixes: what pin and warm are about */

/* The blocks of one prompt, by key or by tokens; exactly one of the two. */
struct cistern_prefix {
    size_t size;
    const cistern_key *keys; /* in order */
    size_t nkeys;
    const uint32_t *tokens; /* block_tokens comes from the space's space.json */
    size_t ntokens;
    const struct cistern_identity *identity; /* for tokens; NULL = nobody in particular */
};

/* ---- pin
 *
 * A pin is a small file in the directory of a space that names keys, docs/FORMAT.md "Pins". As long
 * as it stands no writer of this version evicts the last copy of a block that it names, whatever is
 * lacking. Blocks that are not stored yet are kept once they are. Stronger than a pin are
 * cistern_wipe(), a deletion, a retired model, a time to live, and a copy that is bad.
 */

struct cistern_pin_new {
    size_t size;
    const char *label;  /* for people, and for removal; at most 63 bytes; NULL = none */
    uint64_t expires_s; /* seconds since 1970; 0 = never */
};
struct cistern_pin_sum {
    size_t size;
    uint64_t keys;
    uint64_t missing; /* keys that are not stored on every shard now; they count as full blocks */
    uint64_t bytes;   /* that the blocks take on all shards */
    uint64_t total_bytes; /* of all pins of the root with this one */
    uint64_t most_bytes;  /* that they may have: half of the capacity; 0 = not limited */
    char id[17];
};
/*
 * Pins a prefix, at most 65,536 keys. a->space must admit exactly one space (CISTERN_ESPACE).
 * -EDQUOT: together with the other pins it would keep more than half of the capacity of the root.
 * With CISTERN_ADMIN_DRY_RUN only counts.
 */
CISTERN_API CISTERN_MUST int cistern_pin_add(const struct cistern_admin *a,
                                             const struct cistern_prefix *prefix,
                                             const struct cistern_pin_new *how,
                                             struct cistern_pin_sum *sum);

enum cistern_pin_state {
    CISTERN_PIN_HOLDS = 0,
    CISTERN_PIN_EXPIRED = 1, /* keeps nothing any more; cistern_gc() removes it */
    CISTERN_PIN_BAD = 2      /* damaged, of another space or of a later version: keeps nothing */
};
struct cistern_pin {
    const char *space, *path, *id, *label;
    uint64_t created_s, expires_s, bytes;
    uint32_t keys, state; /* enum cistern_pin_state */
};
/* The pins of all spaces that a->space admits. */
CISTERN_API CISTERN_MUST int
cistern_pin_list(const struct cistern_admin *a,
                 int (*callback)(void *arg, const struct cistern_pin *pin), void *arg);
/* Removes the pins with this id or label; `callback`, NULL or not, is told of each. Returns how
 * many. */
CISTERN_API CISTERN_MUST int
cistern_pin_remove(const struct cistern_admin *a, const char *id_or_label,
                   int (*callback)(void *arg, const struct cistern_pin *pin), void *arg);

/* ---- explain */

enum cistern_reason {
    CISTERN_WHY_HERE = 0,     /* a good copy is stored (READ: and its payload was verified) */
    CISTERN_WHY_NEVER = 1,    /* no contents name the key, and nothing is known to be gone */
    CISTERN_WHY_SPACE = 2,    /* stored, in another space */
    CISTERN_WHY_SALT = 3,     /* would be found under another identity or salt */
    CISTERN_WHY_DEAD = 4,     /* stored and declared dead; `detail` says why */
    CISTERN_WHY_ASIDE = 5,    /* its segment was set aside */
    CISTERN_WHY_DATA = 6,     /* contents name it, the data file is gone or too short */
    CISTERN_WHY_BAD = 7,      /* READ: the payload does not verify */
    CISTERN_WHY_SHARD = 8,    /* stored, but not on every shard */
    CISTERN_WHY_PARTS = 9,    /* stored, but a part that its policy needs is absent */
    CISTERN_WHY_EVICTED = 10, /* no contents name it; it was evicted, or may have been: `detail` */
    CISTERN_WHY_GATED = 11,   /* all is stored, but loading takes longer than computing */
    CISTERN_WHY_BREAKER = 12  /* the breaker of a writer is open: on its host nothing matches */
};

struct cistern_explanation {
    uint32_t index; /* in keys */
    uint32_t why;   /* enum cistern_reason */
    cistern_key key;
    const char *path;   /* of the copy that is meant; "" = none */
    const char *detail; /* a sentence */
    uint64_t offset;
    uint32_t shard, parts; /* mask */
    uint32_t pinned;       /* a pin keeps it from eviction */
};

struct cistern_explain {
    size_t size;
    const cistern_key *keys; /* of one prompt, in order */
    size_t nkeys;
    /* Tokens instead of keys: block_tokens comes from the space's space.json. */
    const uint32_t *tokens;
    size_t ntokens;
    const struct cistern_identity *identity; /* for tokens; NULL = nobody in particular */
    /* For the cost gate, as an engine has them: tokens a second that it computes, and bytes a
     * second that a shard loads; read_rate 0 = measured, with CISTERN_ADMIN_READ. */
    uint64_t prefill_rate, read_rate;
};

/*
 * Why a run ends where it ends, as far as files tell: not what a process has in its memory (what
 * its gate measured, writers not taken up yet). Calls back for every key up to and including the
 * first that is not CISTERN_WHY_HERE. Returns the number of leading blocks that are good. An open
 * breaker, and a gate that refuses the run, end it at the first block. a->space must admit exactly
 * one space (CISTERN_ESPACE); the others are where a missing key is looked for.
 */
CISTERN_API CISTERN_MUST int64_t
cistern_explain(const struct cistern_admin *a, const struct cistern_explain *e,
                int (*callback)(void *arg, const struct cistern_explanation *x), void *arg);

/* ---- retire */

struct cistern_retire {
    size_t size;
    const char *model; /* only spaces of this model, by space.json; NULL = any */
    uint32_t undo;     /* 1 = take the mark away */
};

struct cistern_retired {
    const char *space; /* directory */
    uint32_t retired;  /* 1: the space is retired now (DRY_RUN: would be) */
    uint32_t changed;  /* 0: it was so before */
    int32_t result;    /* 0, or why it stayed as it was */
};

/*
 * Marks whole spaces whose model is not served any more, or takes the mark away: those that
 * a->space and `model` both admit. What is in a retired space is evicted before everything else and
 * is not carried over; until then it is found and read as before. Nothing is stored in it: engines
 * that have it open, or open it later, go on, and their puts are dropped and counted. They see a
 * change within their next look, half a second to half a minute. Versions that do not know the mark
 * ignore it. Returns how many spaces were meant.
 */
CISTERN_API CISTERN_MUST int64_t
cistern_retire(const struct cistern_admin *a, const struct cistern_retire *how,
               int (*callback)(void *arg, const struct cistern_retired *x), void *arg);

/* ---- ttl */

struct cistern_ttl {
    size_t size;
    const char *model; /* only spaces of this model, by space.json; NULL = any */
    uint32_t change;   /* 1 = to `seconds`; 0 = only tell */
    uint32_t seconds;  /* 0 = blocks do not age */
};

struct cistern_space_ttl {
    const char *space; /* directory */
    uint32_t said;     /* 0: the space says nothing, each handle goes by its own ttl_seconds */
    uint32_t was;      /* in seconds, before; 0 = blocks did not age, or it was not said */
    uint32_t seconds;  /* now (DRY_RUN: then) */
    uint32_t changed;  /* 0: it was so before */
    int32_t result;    /* 0, or why it could not be read or changed; -EBADMSG: it was not valid */
};

/*
 * How long the blocks of whole spaces live (ttl_seconds of cistern.h), for all who share them:
 * those that a->space and `model` both admit. Handles that are open see a change within their next
 * look, half a second to half a minute. Versions that do not know of it go by their own option.
 * Returns how many spaces were meant.
 */
CISTERN_API CISTERN_MUST int64_t
cistern_ttl(const struct cistern_admin *a, const struct cistern_ttl *how,
            int (*callback)(void *arg, const struct cistern_space_ttl *x), void *arg);

/* ---- warm */

struct cistern_warm_sum {
    size_t size;
    uint64_t blocks;  /* of the prefix */
    uint64_t hits;    /* good on every shard */
    uint64_t missing; /* not stored, or not on every shard */
    uint64_t bad;     /* stored, and not good */
    uint64_t bytes;   /* that were read */
    uint64_t nanoseconds;
};
/*
 * Reads and verifies the blocks of a prefix on all shards, so that they come into whatever caches
 * the storage has, of this host (page cache, for readers that use it) and beyond; at most
 * a->rate_bytes a second. Calls back for every block that is not a hit. a->space must admit exactly
 * one space (CISTERN_ESPACE).
 */
CISTERN_API CISTERN_MUST int
cistern_warm(const struct cistern_admin *a, const struct cistern_prefix *prefix,
             int (*callback)(void *arg, const struct cistern_explanation *x), void *arg,
             struct cistern_warm_sum *sum);

/* ---- processes
 *
 * What the handles of this host report: see cistern_options.stat_page.
 */

struct cistern_process {
    const char *path; /* of its page */
    uint32_t pid;     /* as its own pid namespace counts */
    uint32_t handle;  /* which one of the process */
    uint32_t shard, shards;
    uint32_t stale;      /* 1: its numbers are old, but it has not ended: stopped, or starved */
    uint64_t age_ns;     /* of its numbers */
    uint64_t updates;    /* times that they were written */
    const char *version; /* of the library there; "" = not said, like all here */
    const char *mount, *root, *space, *model, *provider, *mode;
    const struct cistern_sample *samples;
    uint32_t nsamples;
};
struct cistern_process_query {
    size_t size;
    uint32_t pid;  /* 0 = all */
    uint32_t keep; /* 1 = leave the pages of processes that ended */
};
/*
 * Calls back for every handle of a live process whose page can be read: of the same user, or of all
 * for root. What is damaged, or of a later format, is left out. Pages of processes that certainly
 * ended are removed. q may be NULL. Returns how many handles there are.
 */
CISTERN_API CISTERN_MUST int
cistern_process_list(const struct cistern_process_query *q,
                     int (*callback)(void *arg, const struct cistern_process *p), void *arg);
/* The same as Prometheus reads it: see cistern_metrics_text(). 64 KiB for each handle are enough.
 */
CISTERN_API CISTERN_MUST int64_t cistern_process_text(const struct cistern_process_query *q,
                                                      char *buf, size_t size);

#ifdef __cplusplus
}
#endif
#endif
