/*
 * notes_file.h - notes as the contents of a segment of their own: a new writer of the shard, which
 * closed; no blocks, an empty data file. Any version reads it as it reads any other.
 *
 * Threads: any; blocks on storage.
 */
#ifndef ENGINE_NOTES_FILE_H
#define ENGINE_NOTES_FILE_H

#include "engine/engine.h"

/* Where they go. `of`: the header of any contents of that shard. */
struct notes_file {
    struct io *io;
    struct crypt *crypt; /* NULL: the root is plain */
    struct cipher *cipher;
    const char *dir; /* of the shard, relative to the mount */
    const struct toc_header *of;
};

/* They are synced, with their name, when this returns 0; else nothing of them is left, as far as
 * storage allows. */
int notes_file_write(const struct notes_file *f, const struct dead_note *notes,
                     size_t n) MUST_CHECK;

#endif
