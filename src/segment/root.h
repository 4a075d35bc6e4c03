/*
 * root.h - the small files that make a directory a store: cistern.json and salt in the root,
 * space.json in a space. Read or made through struct io's small files, which are there whole or not
 * at all.
 *
 * Threads: any; calls may hang on a dead mount, so helper threads only. Two processes may prepare
 * the same directory at once: one makes each file, the other takes it as it is.
 */
#ifndef SEGMENT_ROOT_H
#define SEGMENT_ROOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern.h"
#include "io/io.h"
#include "segment/crypt.h"

#define ROOT_PLAIN     1 /* values of `format` in cistern.json */
#define ROOT_ENCRYPTED 2

#define ROOT_FILE     "cistern.json"
#define ROOT_SALT     "salt"
#define SPACE_FILE    "space.json"
#define SPACE_RETIRED "retired" /* its being there says that the space is; for people inside */

/* For a root that does not exist yet. */
struct root_params {
    uint64_t capacity_bytes; /* 0 = none */
    uint64_t segment_bytes;
    uint32_t silence_ms; /* 0 = not said */
    bool may_write;      /* false: nothing is made or mended */
    /* Not NULL: the root becomes an encrypted one if it is not, its current key this one's. */
    const struct crypt *crypt;
    bool look; /* an encrypted root is no error without its key: for tools that say what is there */
};

struct root_info {
    uint64_t capacity_bytes, segment_bytes, created_s; /* as cistern.json has them */
    uint32_t silence_ms; /* likewise; 0 = it says none, or none that can be */
    uint8_t salt[32];
    bool created; /* by this call */
    bool healed;  /* cistern.json could not be read as such and stands for params again */
    bool encrypted;
    uint8_t key_id[CRYPT_ID]; /* of the master key that cistern.json names */
};

/*
 * `root`: relative to the mount, without slashes at its ends; "" = the mount. Makes the root and
 * its files if they are missing. -ENOENT: missing, and may not write. CISTERN_EFORMAT: of a later
 * version. CISTERN_EKEY: encrypted, and the key was not given; the text names its id. -EBADMSG: the
 * salt is damaged; the text says what to do. Else what storage answered.
 */
int root_prepare(struct io *io, const char *root, const struct root_params *params,
                 struct root_info *out) MUST_CHECK;

/* What cistern.json says now. Any error: it could not be told. */
int root_capacity(struct io *io, const char *root, uint64_t *bytes) MUST_CHECK;
/* Likewise; *silence_ms 0: it says none. */
int root_silence(struct io *io, const char *root, uint32_t *silence_ms) MUST_CHECK;
/* Writes it with another capacity; the other members stay, also those that are not known. */
int root_set_capacity(struct io *io, const char *root, uint64_t bytes) MUST_CHECK;

/*
 * The directory of a space, <root>/<space_dir>, and its space.json. CISTERN_ESPACE: it belongs to
 * another space (the text names the field), or nothing shows that it belongs to this one. -ENOENT:
 * no such directory, and may not write. *healed: the directory is named after this space and has
 * shards, but its space.json was missing or another; it was put right if that is allowed.
 */
int space_prepare(struct io *io, const char *root, const char *space_dir,
                  const struct cistern_space *s, const uint8_t fingerprint[32], bool may_write,
                  bool *healed) MUST_CHECK;

#endif
