/*
 * admin.h - what the operator's functions share: a mount opened for looking, reads through a ring,
 * and the clock of their progress.
 *
 * One thread per call. Reads have a deadline; when storage does not answer, the function fails and
 * the memory that storage still owns is left to the process.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern_admin.h"
#include "engine/config.h"
#include "io/io.h"
#include "segment/crypt.h"
#include "segment/root.h"

#define ADMIN_PIECE  (1u << 20) /* bytes of one read */
#define ADMIN_WINDOW 8u         /* reads in flight */
#define ADMIN_PATH   768u

struct admin {
    struct cistern_admin opt; /* grown to our size, defaults filled in */
    struct config cfg;
    struct io *io;
    struct io_mem mem; /* ADMIN_WINDOW pieces for a stream, one for single reads */
    struct io_ring ring;
    bool ring_open;
    struct crypt *crypt; /* NULL: no key file was given, and encrypted segments are locked */
    struct cipher *cipher;
    uint64_t timeout_ns;            /* of one read */
    uint64_t paced_from, paced;     /* the rate limit: since when, how many bytes */
    uint64_t shown_ns, done, total; /* progress */
    int stopped;                    /* a callback's non-zero answer */
};

int admin_open(struct admin *ad, const struct cistern_admin *a) MUST_CHECK;
void admin_close(struct admin *ad); /* accepts a zeroed one */

/* In which a head of this root changes at least once while its writer lives: as cistern.json says,
 * else the default of engines. */
uint32_t admin_root_silence(const struct admin *ad);
/* Says so when the caller's silence is shorter than that. */
void admin_warn_of_silence(const struct admin *ad);

/* "<root>/<a>/<b>" without empty pieces. -ENAMETOOLONG. */
int admin_path(const struct admin *ad, char out[ADMIN_PATH], const char *a,
               const char *b) MUST_CHECK;
/* CISTERN_EKEY: a key was given, and the root is plain: nobody would believe what is written with
 * it. */
int admin_key_fits(const struct admin *ad, const struct root_info *root) MUST_CHECK;
/* Names that were made and removed in it last. A directory that may not be read cannot be synced:
 * what was done in it is as safe as it gets. */
int admin_sync_dir(struct admin *ad, const char *dir) MUST_CHECK;
bool admin_wants_space(const struct admin *ad, const char *dir);
/* What a callback answered: 0, or -ECANCELED from here up, where admin_result() gives the answer
 * back. */
int admin_answer(struct admin *ad, int answer) MUST_CHECK;
int admin_result(const struct admin *ad, int rc) MUST_CHECK;
/* Tells the caller, at most ten times a second. */
int admin_progress(struct admin *ad, const char *doing) MUST_CHECK;
/* Waits until the caller may have `bytes` more, by the rate limit. */
void admin_pace(struct admin *ad, uint64_t bytes);
/* Sleeps, telling the caller now and then. */
int admin_sleep(struct admin *ad, const char *doing, uint64_t ms) MUST_CHECK;

/* prep and submit of the table of operations, tried again while they say -EAGAIN. */
int admin_send(struct admin *ad, struct io_ring *r, uint8_t *at, struct io_file *f, uint64_t offset,
               uint64_t len, uintptr_t tag) MUST_CHECK;
int admin_submit(struct admin *ad, struct io_ring *r) MUST_CHECK;

/* Up to ADMIN_PIECE bytes at any offset, in memory that the next single read uses again. Bytes
 * read, fewer at the end of the file, or what storage answered; -ETIMEDOUT. */
int64_t admin_read(struct admin *ad, struct io_file *f, uint64_t offset, uint32_t len,
                   const uint8_t **out) MUST_CHECK;

/* Whole pieces of one file in the order of a plan, read ahead. */
struct admin_stream {
    struct admin *ad;
    struct io_file *file;
    const uint64_t *plan; /* piece numbers, ascending */
    size_t count, sent, taken, seen;
    int64_t result[ADMIN_WINDOW];
    bool here[ADMIN_WINDOW];
};
void admin_stream_begin(struct admin_stream *s, struct admin *ad, struct io_file *file,
                        const uint64_t *plan, size_t count);
/* Piece plan[i]: its bytes (fewer than ADMIN_PIECE: the file ends) or a negative errno. Asking for
 * a later i gives up the earlier ones; an earlier one is read again. -ETIMEDOUT and -ECANCELED end
 * the stream. */
int64_t admin_stream_piece(struct admin_stream *s, size_t i, const uint8_t **out) MUST_CHECK;
int admin_stream_end(struct admin_stream *s); /* waits for what is in flight */

/* Copies a result into a caller's struct that begins with its size. */
void admin_give(void *theirs, void *own, size_t own_size);

/* Storage that does not answer, a caller that has had enough, and no memory end everything; other
 * errors are one file's. */
bool admin_ends_all(int rc);

/* Room for one more element of `size` bytes behind `count`, zeroed; NULL: no memory. */
void *admin_grow(void *list, size_t count, size_t size);

#endif
