/*
 * cistern.h - a persistent second tier for the KV cache of an LLM inference engine.
 *
 * An engine hands finished KV blocks to cistern_put() and asks for them again with cistern_match()
 * and cistern_get(), in the same process, in a later one, or on another machine that mounts the
 * same directory. Blocks lie in a few large files on 3FS, or on any other file system through the
 * drop-in library that comes with Cistern.
 *
 * Promise. A get reports CISTERN_HIT for a part only after its bytes were checked against the
 * identity (space, key, part, place) and the checksum that were stored with them. Everything else
 * is a miss or an error, never wrong bytes.
 *
 * Durability. It is a cache: a put may be dropped, and says so. A put reported CISTERN_STORED
 * survives the death of the process (SIGKILL included). It survives a power cut once it was synced:
 * at the latest `sync_ms` after the put, or when cistern_flush() has returned 0.
 *
 * Threads. Every function may be called from any thread at any time, except that cistern_close()
 * must be the last call on a handle and its memory. Callers of one handle never wait for storage
 * unless the function says "blocks".
 *
 * Fork. A handle belongs to the process that opened it. In a forked child every call on it fails
 * with CISTERN_EFORKED and touches nothing; open a new handle there, or exec.
 *
 * Two processes. Any number of processes may open one directory. One process opens a given (space,
 * shard) once; a second open of it for writing in the same process fails with CISTERN_ESHARD. Two
 * processes that store the same block cost space, never correctness.
 *
 * Sharing. What others store becomes a match by itself. On the same host, as the same user and with
 * a /dev/shm in common: some milliseconds after it was stored. Elsewhere, and always at the latest:
 * poll_ms after its writer's head says so, for a writer that is known; list_ms for a new one (to
 * both add what the file system needs to show a change to another host). What others took away is
 * forgotten within list_ms; until then it is a miss at the get. cistern_refresh() waits for all of
 * that. A writer whose head did not change for silence_ms counts as ended; one that could not write
 * it for half of that (storage hung, the process was stopped) goes on under another name, and puts
 * that were under way are errors.
 *
 * Errors. Functions return 0 or a count, or a negative errno value, or one of the CISTERN_E*
 * values, also negative. Out-parameters are untouched on failure. cistern_error_text() has a
 * sentence of detail about this thread's last failure. A miss is a result, not an error. No
 * function aborts, exits or prints.
 *
 * Structs that begin with `size` grow: set it to sizeof the struct; zero in a field means its
 * default; bytes beyond the library's own size must be zero.
 */
#ifndef CISTERN_H
#define CISTERN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CISTERN_API  __attribute__((visibility("default")))
#define CISTERN_MUST __attribute__((warn_unused_result))
#else
#define CISTERN_API
#define CISTERN_MUST
#endif

#define CISTERN_VERSION_MAJOR 0
#define CISTERN_VERSION_MINOR 1
#define CISTERN_MAX_PARTS     16
#define CISTERN_MAX_SHARDS    256

/* Errors beside errno. The table with names and sentences is src/base/errors.def. */
enum cistern_error {
    CISTERN_EDISABLED = -5001, /* the tier is switched off (reuse_cache / enable_3fs) */
    CISTERN_ECONFIG = -5002,   /* an option has a value that cannot work; the text names it */
    CISTERN_EMOUNT = -5003,    /* the mount point is missing, or is not what the provider needs */
    CISTERN_EPROVIDER = -5004, /* the USRBIO library is absent, broken or incomplete */
    CISTERN_ESPACE = -5005,   /* the directory belongs to another space; the text names the field */
    CISTERN_EFORMAT = -5006,  /* written by a version that this one cannot read */
    CISTERN_ESTAGING = -5007, /* /dev/shm cannot hold the staging areas */
    CISTERN_ESHARD = -5008,   /* this process has this shard open already */
    CISTERN_EFORKED = -5009,  /* the handle belongs to the parent process */
    CISTERN_ETRIPPED = -5010, /* a broken invariant was found; the handle answers misses only */
    CISTERN_EMEMORY = -5011,  /* registered memory of a kind that this provider cannot reach */
    CISTERN_EKEY = -5012,     /* encrypted with a key that was not given; the text names its id */
    CISTERN_ECLUSTER = -5013  /* storage of another network cluster, or the cluster of this host
                                 cannot be told; the text names both and what to do */
};

/* The name ("CISTERN_ESPACE", "EIO") and the sentence of a negative code. Static strings; never
 * NULL. */
CISTERN_API const char *cistern_error_name(int code);
CISTERN_API const char *cistern_error_string(int code);
/* Detail of the last failure on this thread; "" when there was none. Valid until this thread's next
 * call. */
CISTERN_API const char *cistern_error_text(void);
/* "0.1.0" */
CISTERN_API const char *cistern_version(void);

/* ---- What makes blocks interchangeable
 * ------------------------------------------------------------------------- */

enum cistern_policy {
    CISTERN_PART_ALL = 0,  /* needed in every block of a run: attention KV */
    CISTERN_PART_LAST = 1, /* needed in the last block of a run only: recurrent state */
    CISTERN_PART_TRAILING =
        2 /* needed in the last `window` blocks of a run: sliding-window attention */
};

struct cistern_part {
    const char *name; /* [a-z0-9_], at most 31 bytes, unique in its space */
    uint64_t bytes; /* the most bytes that this part of one block of one shard has; at most 1 GiB */
    uint32_t policy; /* enum cistern_policy */
    uint32_t window; /* blocks, for CISTERN_PART_TRAILING */
};

/* Every field is part of the identity. Strings are UTF-8 without control characters; NULL counts as
 * "". */
struct cistern_space {
    size_t size;
    const char *name;  /* readable start of the directory's name: [A-Za-z0-9._-], at most 64 bytes;
                          "" = "space" */
    const char *model; /* required */
    const char *revision;  /* of the weights: a hash, a tag */
    uint64_t epoch;        /* of the weights, for models that are trained on while they serve */
    const char *dtype;     /* of the KV, such as "bf16", "fp8_e4m3"; required */
    const char *layout;    /* name and version of the KV layout inside a block */
    const char *extra;     /* anything else that must agree */
    uint32_t block_tokens; /* tokens per block; required */
    uint32_t layers, kv_heads, head_dim;
    uint32_t shards; /* slices that one block is cut into, 1..256; 0 = 1 */
    uint32_t nparts; /* 1..16 */
    const struct cistern_part *parts;
};

/* ---- Options
 * -------------------------------------------------------------------------------------------------
 */

enum cistern_log_level { CISTERN_LOG_ERROR, CISTERN_LOG_WARN, CISTERN_LOG_INFO, CISTERN_LOG_DEBUG };
/* May be called from any thread of the library; must not call the library. `line` has no newline.
 * cistern_close(), and cistern_open() when it fails, wait for a call that is under way: it must not
 * wait for what their callers hold. */
typedef void (*cistern_log_fn)(void *arg, int level, const char *line);

enum cistern_open_flags {
    CISTERN_OPEN_MATCH_ONLY =
        1, /* for schedulers that own no KV: no staging, no head; put and get are refused */
    CISTERN_OPEN_READ_ONLY = 2, /* match and get; put is refused; writes nothing in the directory */
    CISTERN_OPEN_BUFFERED = 4,  /* never O_DIRECT for data */
    CISTERN_OPEN_NO_FOLLOW = 8, /* others' blocks are taken up at the open and by cistern_refresh()
                                   only; what others evict is forgotten all the same */
    CISTERN_OPEN_NO_BELL = 16   /* polling only, on this host too */
};

/* Pointers need to live until cistern_open() returns, except log and log_arg: until cistern_close()
 * returns. */
struct cistern_options {
    size_t size;
    int32_t reuse_cache; /* 0 = not said (counts as off), 1 = on, -1 = off */
    int32_t enable_3fs;  /* likewise; on needs reuse_cache on */
    const char *mount;   /* default "/3fs/stage/3fs/" */
    const char *root;    /* below the mount, made if absent; default "rtp_llm/" */
    const char
        *provider; /* "auto" (3FS where the mount is 3FS, else the drop-in), "hf3fs", "local" */
    const char *provider_path; /* absolute path of libhf3fs_api_shared.so; default: searched */
    const struct cistern_space *space; /* required */
    const char *space_dir;             /* open exactly this directory below the root, or fail with
                                          CISTERN_ESPACE; default: derived */
    uint32_t shard;                    /* 0 .. space->shards - 1 */
    uint32_t flags;                    /* enum cistern_open_flags */
    uint64_t read_iov_bytes, write_iov_bytes; /* staging, each 4 GiB by default */
    uint32_t open_timeout_ms;                 /* 30,000 */
    uint32_t match_timeout_ms; /* 1,000: for the engine's match over all ranks; a match itself never
                                  waits */
    uint32_t get_timeout_ms, put_timeout_ms;    /* 3,000: one get or put */
    uint32_t read_timeout_ms, write_timeout_ms; /* 1,000 and 2,000: one storage operation */
    uint32_t io_blocks;      /* max_block_size_per_item: blocks that one I/O may join; 16 */
    uint32_t io_bytes;       /* most bytes of one I/O: 1 MiB; a multiple of 4 KiB */
    uint32_t lanes;          /* I/O threads: 1 .. 64; default by the number of CPUs, at most 8 */
    uint32_t depth;          /* I/Os in flight per lane and direction; 32 */
    uint32_t max_ops;        /* gets and puts that may be open at once; 256 */
    uint64_t max_blocks;     /* address space that the index reserves; 64 Mi blocks */
    uint64_t capacity_bytes; /* of the root, all spaces together; written at its creation, then what
                                cistern.json says holds; sets the segment size; 0 = not limited */
    uint64_t segment_bytes;  /* default capacity / 64 within 64 MiB .. 1 GiB; 256 MiB without a
                                capacity */
    uint32_t sync_ms; /* data and contents are synced this long after they were written; 2,000 */
    uint32_t close_timeout_ms; /* 5,000 */
    cistern_log_fn log;
    void *log_arg;
    uint32_t poll_ms;    /* how often the heads of other live writers are read; 1,000 */
    uint32_t list_ms;    /* how often directories are listed for new writers; 5,000 */
    uint32_t silence_ms; /* a writer whose head did not change for so long has ended; 60,000. Of
                            the root: it is written into cistern.json when that is made, and goes
                            before what later handles ask for, who are told by a warning */
    int32_t breaker; /* 0 or 1 = on, -1 = off: when storage fails again and again, everything is a
                        miss at once until it answers again */
    uint32_t breaker_failures; /* timeouts or errors in a row that open it; 4 */
    uint32_t breaker_probe_ms; /* while it is open one small read this often tries storage; 1,000 */
    uint32_t negative_ms;      /* a copy that was bad is not tried again for so long; 30,000 */
    uint32_t aside_failures;   /* bad blocks of one segment that set it aside, on disk as well; 8 */
    uint64_t free_floor_bytes; /* free space of the file system that the root leaves to others; 0 */
    uint32_t evict_grace_ms;   /* between a segment's eviction and the removal of its data; default
                                  get_timeout_ms + list_ms + poll_ms */
    int32_t carry_over;    /* 0 or 1 = on, -1 = off: blocks that were used outlive their segment */
    uint32_t prefill_rate; /* tokens a second that the engine computes: a run that loads slower is
                              no match; 0 = not known, every run is */
    const char *admission; /* which blocks are stored: "all", or "reused": those that are put a
                              second time; default "all" */
    uint64_t write_budget_bytes_per_day; /* most bytes of blocks that this handle writes in any 24
                              hours, carried ones included; what is beyond is dropped. A quarter of
                              it may be saved up, and nothing is at the open. 0 = not limited */
    uint64_t write_bandwidth; /* bytes a second at which puts and carried blocks are written; puts
                                 wait, until their deadline; 0 = not limited */
    uint64_t read_bandwidth;  /* bytes a second at which blocks are read to be carried over; no get
                                 waits; 0 = not limited */
    const char *encryption_key_file; /* the root is encrypted with the key in this file, or becomes
                                        so: 64 hex digits or 32 raw bytes, readable by its owner
                                        only; older keys may follow on further lines. Plain segments
                                        that are there are not read any more. NULL = plain; an
                                        encrypted root is then refused (CISTERN_EKEY) */
    uint32_t ttl_seconds;  /* blocks of this shard, whoever stored them, are evicted when they are
                              older: after ttl_seconds at the earliest, after one and a half times
                              that and a minute at the latest, while a handle that writes is open.
                              Nothing is carried over then. Of the space: the first handle that
                              writes and is given one leaves it in a file of the space, and it goes
                              before what later handles ask for, who are told by a warning;
                              cistern_ttl() changes it. 0 = what the space says */
    uint32_t shadow_every; /* every so manieth run of hits is to be computed as well and compared:
                              see cistern_shadow_due(); 0 = none */
    int32_t cross_cluster; /* 1 = storage of another network cluster may be opened; 0 or -1 = it is
                              refused (CISTERN_ECLUSTER). See cistern_cluster_look() */
    const char *clusters;  /* file that describes network clusters; default
                              /etc/cistern/clusters.json where there is one; "" = none */
    const char *cluster;   /* the network cluster of this host; default: the one that has a pattern
                              for its name */
    const char *host;      /* that name; default: the machine's. In a container: of its node */
    int32_t stat_page;   /* 0 or 1 = on, -1 = off: twice a second the numbers of the handle go to a
                            file of about 14 KiB in /dev/shm, readable by its user, where `cistern
                            metrics` and `cistern stat` find them. Without /dev/shm it is off */
    uint32_t open_files; /* data files that stay open when nobody reads them, of two descriptors
                            each; default an eighth of RLIMIT_NOFILE, a quarter of the descriptors.
                            Further ones are opened when they are read */
};

/*
 * One option by name, as a flag or an environment variable spells it: "reuse_cache",
 * "--enable_3fs", "THREEFS_READ_IOV_SIZE", "threefs_mountpoint", ... Sizes take K, M, G, T;
 * booleans take 1/0, true/false, on/off, yes/no. String options keep the pointer `value`. -ENOENT:
 * no such option; CISTERN_ECONFIG: bad value.
 */
CISTERN_API CISTERN_MUST int cistern_options_set(struct cistern_options *o, const char *name,
                                                 const char *value);
/* Takes every option that the environment sets: RTP-LLM's names in capitals, and CISTERN_<NAME> for
 * all. */
CISTERN_API CISTERN_MUST int cistern_options_from_env(struct cistern_options *o);
/* Takes "--name value" and "--name=value" of known options out of argv and closes the gap; the rest
 * is left. */
CISTERN_API CISTERN_MUST int cistern_options_from_args(struct cistern_options *o, int *argc,
                                                       char **argv);

/* ---- Network clusters
 * ------------------------------------------------------------------------------------------- */

/*
 * Between RDMA networks a read loses what RDMA is for, so each network cluster has a 3FS cluster of
 * its own, and a handle uses that of its host. A file, the same everywhere, says which that is:
 *
 *   {"clusters": [{"name": "na61", "hosts": ["web-1*", "*.na61.example"], "storage": "stor-a",
 *                  "mount": "/3fs/a"}, ...]}
 *
 * `hosts` are patterns of fnmatch(3), without regard to case; `storage` is the cluster id of 3FS.
 * Nothing else may stand there. With such a file every open, and every function that takes options
 * and looks at a root, goes by it before any storage is touched: without a mount in the options the
 * mount is that of the host's cluster; a path on the mount of another cluster, or where the kernel
 * says that another 3FS cluster is mounted, is refused unless cross_cluster is 1, which is logged.
 * A path on no cluster's mount may be used. Paths are compared as written, links not followed.
 */
enum cistern_cluster_verdict {
    CISTERN_CLUSTER_NONE = 0, /* nothing describes clusters */
    CISTERN_CLUSTER_OWN = 1,  /* the storage of this host's cluster */
    CISTERN_CLUSTER_ELSEWHERE =
        2,                       /* storage of no network cluster: a directory of this host, say */
    CISTERN_CLUSTER_CROSSED = 3, /* of another cluster, and cross_cluster is 1 */
    CISTERN_CLUSTER_REFUSED = 4, /* of another cluster: an open fails with CISTERN_ECLUSTER */
    CISTERN_CLUSTER_UNKNOWN = 5  /* no mount is given, and no pattern fits: likewise */
};

/* Strings that do not apply are "". */
struct cistern_cluster {
    size_t size;
    uint32_t verdict; /* enum cistern_cluster_verdict */
    uint32_t unused;
    char file[512];
    char host[256];
    char name[64]; /* of this host's cluster, its storage and its mount */
    char storage[32];
    char mount[256];
    char pattern[256];      /* that matched; "" = the cluster was named */
    char path[640];         /* what would be opened: mount and root */
    char mounted[64];       /* the 3FS cluster that the kernel says is mounted there */
    char other[64];         /* CROSSED, REFUSED: the cluster whose storage that is ... */
    char other_storage[64]; /* ... and its 3FS cluster */
    char text[512];         /* all of it in a sentence */
};

/*
 * What an open with these options would go by. A refusal is an answer, not a failure;
 * CISTERN_ECLUSTER: the file cannot be read or is wrong (the text names the line or the member),
 * two clusters claim the host, or the one that was named does not exist. Reads the file and
 * /proc/self/mountinfo, no storage.
 */
CISTERN_API CISTERN_MUST int cistern_cluster_look(const struct cistern_options *o,
                                                  struct cistern_cluster *out);

struct cistern_cluster_entry {
    const char *name, *storage, *mount;
    const char *const *patterns;
    uint32_t npatterns;
};
/* Calls back for every cluster of the file, in its order, until a callback does not return 0, and
 * returns that. Strings are valid during the callback. */
CISTERN_API CISTERN_MUST int
cistern_cluster_list(const struct cistern_options *o,
                     int (*callback)(void *arg, const struct cistern_cluster_entry *e), void *arg);

/* ---- Open and close
 * ------------------------------------------------------------------------------------------- */

typedef struct cistern cistern;

/*
 * Opens the shard of the space, making root, space and shard if they do not exist, and builds the
 * index from the contents of all its writers. Blocks, at most open_timeout_ms; then fails with
 * -ETIMEDOUT and leaves the rest to a helper thread, which holds the shard (CISTERN_ESHARD) until
 * storage has let it tidy up. CISTERN_EDISABLED unless reuse_cache and enable_3fs are both on.
 */
CISTERN_API CISTERN_MUST int cistern_open(const struct cistern_options *o, cistern **out);

/*
 * Ends all operations (their completions are lost), writes out what was accepted, seals, and frees
 * the handle. Blocks at most about close_timeout_ms, also on a dead mount; what storage still owns
 * then is left behind. Returns 0 or what was lost. NULL is fine.
 */
CISTERN_API int cistern_close(cistern *c);

/* ---- Keys
 * ------------------------------------------------------------------------------------------------------
 */

typedef struct cistern_key {
    uint8_t b[32];
} cistern_key;

struct cistern_identity {
    size_t size;
    const void *tenant; /* salt of the tenant: nobody else's blocks are found or guessed */
    size_t tenant_len;
    const char *lora;    /* adapter and its version */
    const void *content; /* digest of content that stands before the tokens */
    size_t content_len;
};

/* The key that a chain starts from; mixes in the root's own salt. `id` may be NULL. No system call.
 */
CISTERN_API CISTERN_MUST int cistern_key_root(const cistern *c, const struct cistern_identity *id,
                                              cistern_key *out);
/*
 * Keys of the full blocks among tokens[0..ntokens), chained from parent: a root or the key of the
 * block before. keys has room for ntokens / block_tokens. Returns that number. Pure function; any
 * thread, no handle.
 */
CISTERN_API CISTERN_MUST int64_t cistern_key_chain(const cistern_key *parent,
                                                   const uint32_t *tokens, size_t ntokens,
                                                   uint32_t block_tokens, cistern_key *keys);
/* The key of a block that the engine names with a hash of its own, 1 .. 4096 bytes. `root` is a
 * cistern_key_root(). */
CISTERN_API CISTERN_MUST int cistern_key_from_hash(const cistern_key *root, const void *hash,
                                                   size_t len, cistern_key *out);
/* A new parent that mixes content (an image's digest, say) into the chain at this place. */
CISTERN_API CISTERN_MUST int cistern_key_mix(const cistern_key *parent, const void *content,
                                             size_t len, cistern_key *out);

/* ---- Match
 * -----------------------------------------------------------------------------------------------------
 */

struct cistern_match {
    uint32_t blocks; /* leading blocks that can be loaded: every part's policy holds on every shard
                        as far as known */
    uint32_t have;   /* leading blocks of which this shard has at least one part */
    uint64_t ticket; /* pins them; 0 = nothing matched, or all tickets are out (the match is still
                        good) */
};

/* Memory only: no system call, no lock that a put can hold. A block of another writer counts once
 * it was taken up. `blocks` is 0 while the breaker is open, here or on another rank of this
 * machine, and for a run that would load slower than it computes (prefill_rate). */
CISTERN_API CISTERN_MUST int cistern_match(cistern *c, const cistern_key *keys, size_t n,
                                           struct cistern_match *out);
/* Gives the pins back. A get that is given the ticket does so itself at its completion. 0 is fine.
 */
CISTERN_API int cistern_ticket_release(cistern *c, uint64_t ticket);
/* out[i] = bit mask of the parts that this shard has of keys[i] (0 = none). */
CISTERN_API CISTERN_MUST int cistern_exists(cistern *c, const cistern_key *keys, size_t n,
                                            uint16_t *out);
/* Tells that tier 1 served these blocks, so that they do not look cold. */
CISTERN_API int cistern_touch(cistern *c, const cistern_key *keys, size_t n);
/*
 * Which of these blocks a put should store: out[i] = 1 or 0. With admission "all" everything. With
 * "reused" what this shard has, and what was asked about before, by this call or by a put without a
 * mask; the question is remembered, in memory only, for about four capacities of blocks. For
 * engines with several shards: one process asks once for each put, and all ranks give the answer to
 * their puts as request.admit, so that a block is stored on all shards or on none. Without a mask
 * every handle asks itself: the same answers as long as all ranks put the same blocks since they
 * were opened, and where they do not a block may lie on some shards only until it is put again. A
 * block that was admitted and then dropped is admitted the next time. Memory only.
 */
CISTERN_API CISTERN_MUST int cistern_admit(cistern *c, const cistern_key *keys, size_t n,
                                           uint8_t *out);
/* Forgets these blocks on this shard, also after a restart. Returns how many there were. */
CISTERN_API CISTERN_MUST int64_t cistern_delete(cistern *c, const cistern_key *keys, size_t n);
/*
 * Writes another capacity of the root, 0 = not limited, to its cistern.json. Every process that
 * writes takes it up within its next look, half a second to half a minute. Blocks, at most
 * open_timeout_ms. -EINVAL: less than two segments of this handle (`segment_bytes` of
 * cistern_describe()); nothing was changed. A root that is to be smaller still is opened anew.
 */
CISTERN_API CISTERN_MUST int cistern_set_capacity(cistern *c, uint64_t bytes);
/* Takes up what other writers published since. Blocks, at most timeout_ms (0 = read_timeout_ms);
 * -EIO at once while the breaker is open. */
CISTERN_API CISTERN_MUST int cistern_refresh(cistern *c, uint32_t timeout_ms);

/* ---- Get and put
 * ------------------------------------------------------------------------------------------------
 */

enum cistern_result {
    CISTERN_NONE = 0, /* not asked for, or the operation has not come to it */
    CISTERN_HIT = 1,  /* get: verified bytes are at the destination */
    CISTERN_MISS = 2, /* get: not stored, or stored and not good */
    CISTERN_STORED =
        3, /* put: published; a process that opens the directory from now on finds it */
    CISTERN_PRESENT = 4,     /* put: was there already */
    CISTERN_UNDERWAY = 5,    /* put: another put of this process is storing it */
    CISTERN_DROPPED = 6,     /* put: no room to take it, or the deadline passed */
    CISTERN_ERROR = 7,       /* storage failed or did not answer in time */
    CISTERN_NOT_ADMITTED = 8 /* put: not stored on purpose, see cistern_admit() */
};

struct cistern_vec {
    void *base;
    size_t len;
};
/* The pieces of one part of one block, in order; count 0 = absent (put) or not wanted (get). A get
 * takes all parts of a block from one copy, the newest: put the parts of a block together. */
struct cistern_span {
    const struct cistern_vec *vecs;
    uint32_t count;
};

enum cistern_mem { CISTERN_MEM_HOST = 0, CISTERN_MEM_CUDA = 1 };

enum cistern_request_flags {
    CISTERN_GET_DIRECT = 1, /* read straight into registered memory; see cistern_memory below */
    CISTERN_GET_BY_PART =
        2 /* complete part 0 of all blocks before part 1, with a CISTERN_EV_PART event each */
};

typedef struct cistern_memory cistern_memory;

/*
 * A get or a put of `blocks` blocks. keys, spans, vecs, results and memory must stay as they are
 * until the completion was taken from cistern_poll() or cistern_wait(); so must the sources of a
 * put. A get's destinations are written between the call and its completion; those of a part that
 * is no hit hold anything. After a completion the library touches none of them, also when storage
 * still owes an answer, except for CISTERN_GET_DIRECT: there until CISTERN_EV_BUFFER_FREE.
 */
struct cistern_request {
    size_t size;
    const cistern_key *keys;
    const struct cistern_span *spans; /* blocks x nparts, block by block */
    uint8_t *results; /* blocks x nparts of enum cistern_result, written by the library */
    uint32_t blocks;  /* at least 1 */
    uint32_t first; /* place of keys[0] in its chain; parents are stored and kept before children */
    uint32_t flags; /* enum cistern_request_flags */
    uint32_t mem;   /* enum cistern_mem of all vecs */
    uint32_t timeout_ms;    /* 0 = get_timeout_ms or put_timeout_ms */
    uint64_t ticket;        /* of a match, or 0 */
    uint64_t cookie;        /* comes back in the events */
    cistern_memory *memory; /* for CISTERN_GET_DIRECT */
    const uint8_t *admit;   /* put: one byte a block, 0 = do not store it; NULL = as `admission` of
                               this handle says. Read during the call only */
};

/*
 * Start an operation and return at once; *op names it. A span's length must be the part's stored
 * length for a get (else that part is a miss) and at most the part's `bytes` for a put. -EAGAIN:
 * max_ops operations are open; poll. A tripped handle completes gets as misses and puts as dropped;
 * so does one whose breaker is open, with status 0.
 */
CISTERN_API CISTERN_MUST int cistern_get(cistern *c, const struct cistern_request *r, uint64_t *op);
CISTERN_API CISTERN_MUST int cistern_put(cistern *c, const struct cistern_request *r, uint64_t *op);

enum cistern_event_kind {
    CISTERN_EV_DONE = 1, /* the operation is complete; its id is free */
    CISTERN_EV_PART = 2, /* parts 0 .. part of all blocks have their results */
    CISTERN_EV_BUFFER_FREE =
        3 /* storage has let go of the destinations of a CISTERN_GET_DIRECT; follows DONE */
};

struct cistern_event {
    uint64_t op, cookie;
    uint32_t kind;  /* enum cistern_event_kind */
    int32_t status; /* 0, -ETIMEDOUT when the deadline ended it, or CISTERN_ETRIPPED */
    uint32_t part;
    uint32_t run;    /* get: leading blocks whose asked-for parts are all hits; put: all stored,
                        present or under way */
    uint32_t hits;   /* blocks all of whose asked-for parts are hits; put: stored or present */
    uint32_t misses; /* blocks that are not; put: dropped, not admitted or failed */
    uint32_t errors; /* of the misses: storage failed */
    uint32_t flags;  /* 0 */
    uint64_t bytes;  /* get: verified; put: written */
    uint64_t nanoseconds; /* from the call to the completion */
};

/* Takes up to max events; 0 = none now. Does not block. */
CISTERN_API CISTERN_MUST int cistern_poll(cistern *c, struct cistern_event *events, int max);
/* Readable while events wait. Owned by the handle; for poll/epoll only, never read or closed by the
 * caller. */
CISTERN_API int cistern_event_fd(const cistern *c);
/* Blocks for the CISTERN_EV_DONE of one operation and takes it; other events stay. -ETIMEDOUT: not
 * yet. */
CISTERN_API CISTERN_MUST int cistern_wait(cistern *c, uint64_t op, uint32_t timeout_ms,
                                          struct cistern_event *event);
/* A get or put and its wait. Blocks at most the operation's deadline and a little. -ETIMEDOUT: a
 * thread of the library stands still for a second; the operation has not ended, and its memory is
 * still the library's. */
CISTERN_API CISTERN_MUST int cistern_get_sync(cistern *c, const struct cistern_request *r,
                                              struct cistern_event *event);
CISTERN_API CISTERN_MUST int cistern_put_sync(cistern *c, const struct cistern_request *r,
                                              struct cistern_event *event);
/* Blocks until everything put before is published and synced; -ETIMEDOUT (at once with 0), or the
 * first error of a sync. */
CISTERN_API CISTERN_MUST int cistern_flush(cistern *c, uint32_t timeout_ms);
/*
 * For an engine that was told to end: every later put is dropped at once, what was accepted is
 * published and synced; matches and gets go on. Blocks, at most timeout_ms. 0: nothing was left;
 * above 0: so many puts were still open; -ETIMEDOUT: all is published, not all is synced; or the
 * first error of a sync. There is no way back but to close and open.
 */
CISTERN_API CISTERN_MUST int cistern_drain(cistern *c, uint32_t timeout_ms);

/* ---- Shadow compare
 *
 * For an engine that suspects its cache, or itself: now and then a block that was a hit is computed
 * all the same, and compared with a fresh, verified read of what is stored. Equal: both are
 * cleared. Not equal: the store still gives what was put under this key, so it was put wrong or
 * computed otherwise; unless what the hit had brought (`loaded`) was not that, then it changed on
 * its way or in the engine's memory.
 */

/* 1: compute the run of hits that was just loaded, too; 0: not this one. Counts its calls; with
 * shadow_every = n each n-th is due, of this handle. One process asks for all shards. */
CISTERN_API int cistern_shadow_due(cistern *c);

enum cistern_shadow_verdict {
    CISTERN_SHADOW_SAME = 0,
    CISTERN_SHADOW_COMPUTED = 1, /* computed otherwise than it is stored */
    CISTERN_SHADOW_LOADED = 2,   /* what the hit had brought is not what is stored */
    CISTERN_SHADOW_GONE = 3      /* cannot be said: not stored any more, or it cannot be read now */
};

struct cistern_shadow {
    size_t size;
    const cistern_key *key;
    uint32_t part;
    uint32_t timeout_ms; /* 0 = get_timeout_ms */
    /* Host memory, together as long as the stored part. */
    const struct cistern_span *computed;
    const struct cistern_span *loaded; /* what the get gave; NULL = not kept */
    /* Where `computed` differs from `stored` by more than the engine tolerates: the first such
     * offset, or len. Called for each vec of `computed`. NULL: every bit counts. `loaded` is always
     * compared bit for bit. */
    size_t (*differs)(void *arg, const void *stored, const void *computed, size_t len);
    void *arg;
};

/*
 * Reads the stored part once more and compares. Returns an enum cistern_shadow_verdict, or a
 * negative code; *offset, unless NULL, is the first differing byte of the part. Counts
 * (shadow_checked, shadow_differs), and the handle's first difference goes to the log with key,
 * part, offset and place. Blocks, and allocates: not for the path of a request.
 */
CISTERN_API CISTERN_MUST int cistern_shadow_report(cistern *c, const struct cistern_shadow *s,
                                                   uint64_t *offset);

/* ---- Registered memory
 * ------------------------------------------------------------------------------------------ */

/*
 * Memory for CISTERN_GET_DIRECT. With the drop-in, any memory; with 3FS, what
 * cistern_memory_alloc() gave or a mapping of a file in /dev/shm from its beginning (else
 * CISTERN_EMEMORY). Blocks. release: -EBUSY while a read owns part of it.
 */
CISTERN_API CISTERN_MUST int cistern_memory_alloc(cistern *c, size_t bytes, cistern_memory **out,
                                                  void **base);
CISTERN_API CISTERN_MUST int cistern_memory_register(cistern *c, void *base, size_t bytes,
                                                     cistern_memory **out);
CISTERN_API CISTERN_MUST int cistern_memory_release(cistern *c, cistern_memory *m);

/* ---- Looking at it
 * ------------------------------------------------------------------------------------------------
 */

/* Counters since open, and gauges. Documented one by one in src/metrics/metrics.def and
 * docs/METRICS.md. */
struct cistern_metric {
    const char *name; /* such as "get_hit_blocks"; static */
    const char *help;
    uint64_t value;
    uint32_t is_gauge;
};
/* Fills up to max; returns how many there are. */
CISTERN_API int cistern_metrics(const cistern *c, struct cistern_metric *out, int max);
/*
 * The same, and histograms, as Prometheus reads it (text format 0.0.4), for an engine with an HTTP
 * server of its own. Like snprintf: writes at most size bytes, the last one a NUL, and returns the
 * length of the whole, or a negative error. 64 KiB are enough. Allocates; does not wait for
 * storage.
 */
CISTERN_API int64_t cistern_metrics_text(const cistern *c, char *buf, size_t size);

enum cistern_sample_kind { CISTERN_COUNTER = 0, CISTERN_GAUGE = 1, CISTERN_HISTOGRAM = 2 };
/* One number, or histogram, of a handle as it was reported: see cistern_process_list(). */
struct cistern_sample {
    const char *name, *help;
    uint32_t kind;          /* enum cistern_sample_kind */
    uint32_t buckets;       /* of a histogram: how many bounds */
    uint64_t value;         /* of a histogram: the sum */
    const uint64_t *bounds; /* upper ones, rising */
    const uint64_t *counts; /* buckets + 1, each by itself; the last is of what is above all */
};
/* Lines of "key=value" about the handle: provider, backend, directory, staging, lanes, tripped ...
 * Returns the length. */
CISTERN_API int cistern_describe(const cistern *c, char *buf, size_t size);

enum cistern_item_kind {
    CISTERN_ITEM_ROOT,
    CISTERN_ITEM_SPACE,
    CISTERN_ITEM_SHARD,
    CISTERN_ITEM_WRITER,
    CISTERN_ITEM_SEGMENT,
    CISTERN_ITEM_BLOCK
};
struct cistern_item {
    uint32_t kind; /* enum cistern_item_kind */
    uint32_t shard, shards;
    uint32_t parts;      /* block: mask of its parts */
    const char *space;   /* directory of the space */
    const char *name;    /* file or directory, relative to the mount */
    const char *note;    /* "" or what is wrong with it */
    uint64_t blocks;     /* valid entries */
    uint64_t dead;       /* entries that were deleted or found bad */
    uint64_t bytes;      /* payload bytes; of a block: stored length of all parts */
    uint64_t disk_bytes; /* allocated on disk */
    uint64_t offset;     /* block: place in its segment */
    uint64_t created_s;  /* seconds since 1970; 0 = unknown */
    cistern_key key;     /* block */
    uint32_t encrypted;  /* segment, block: 1 = encrypted */
    uint8_t key_id[8];   /* of these: the master key that they need */
};
/*
 * Walks a directory without opening a space (mount, root, provider, timeouts of `o` are used):
 * root, then each space, its shards, their writers, segments, blocks, each before its children, as
 * deep as `depth` (an enum cistern_item_kind). A callback's non-zero result ends the walk and is
 * returned. Strings live for the callback only. Blocks.
 */
CISTERN_API CISTERN_MUST int
cistern_scan(const struct cistern_options *o, uint32_t depth,
             int (*callback)(void *arg, const struct cistern_item *item), void *arg);

#ifdef __cplusplus
}
#endif
#endif
