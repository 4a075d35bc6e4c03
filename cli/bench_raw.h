/*
 * bench_raw.h - the baselines: io_uring by hand, O_DIRECT, memcpy, and AES-256-GCM of OpenSSL.
 *
 * Reads go to the very files that the store wrote, at the places where its blocks lie. Writes go to
 * files of the size of the store's segments, one after another, allocated beforehand where the
 * store's are. One thread and one ring a lane, with few buffers of its own, registered where the
 * memlock limit allows. They lie in shared memory, as the store's staging does, because the kind of
 * page counts: an I/O of 1 MiB over 256 scattered pages is cut in two by many devices, and one in
 * huge pages (--raw-huge) costs next to no CPU.
 */
#ifndef CLI_BENCH_RAW_H
#define CLI_BENCH_RAW_H

#include "bench.h"
#include "bench_slices.h"

/* A stretch of a file. Adjacent ones of a list may be joined for reading in order. */
struct extent {
    uint32_t file; /* index in raw_files.paths */
    uint64_t offset, bytes;
};

struct extents {
    char **paths; /* absolute; owned */
    uint32_t npaths;
    struct extent *list; /* owned */
    size_t n;
};

void extents_release(struct extents *e);

struct raw_reader;
/* `joined`: neighbours become one stretch and are read in order by I/Os of io_bytes; else each
 * extent is read as a whole, chosen at random, by I/Os of at most io_bytes. */
int raw_reader_open(const struct bench_config *c, const struct extents *e, bool joined,
                    uint64_t io_bytes, struct raw_reader **out);
void raw_reader_close(struct raw_reader *r);
int raw_reader_run(void *arg, double seconds, struct slice *out);

struct raw_writer;
int raw_writer_open(const struct bench_config *c, const char *dir, bool allocate,
                    struct raw_writer **out);
void raw_writer_close(struct raw_writer *w);
int raw_writer_run(void *arg, double seconds, struct slice *out);
int raw_writer_sync(void *arg); /* fdatasync of what was written since the last one */
/* Makes the next file, untimed. */
int raw_writer_prepare(struct raw_writer *w);
/* Forgets the files, which the caller has removed or is about to. */
void raw_writer_restart(struct raw_writer *w);
/* Bytes written since the last restart. */
uint64_t raw_writer_bytes(const struct raw_writer *w);

struct copier {
    const struct bench_area *from, *to;
    size_t block, from_at, to_at;
    bool random;
    uint64_t seed;
};
const uint8_t *copier_source(struct copier *c);               /* the next block to copy */
int copier_run(void *arg, double seconds, struct slice *out); /* struct copier */

/* AES-256-GCM of OpenSSL alone, from one area to the other: what encryption takes at least with
 * that OpenSSL, and without a store. */
struct crypter {
    struct copier copy;
    bool encrypt;
    struct evp_cipher_ctx_st *ctx; /* owned */
    uint64_t nonce;
};
int crypter_open(struct crypter *k); /* CLI_OK or an exit code; crypter_close() either way */
void crypter_close(struct crypter *k);
int crypter_run(void *arg, double seconds, struct slice *out); /* struct crypter */

#endif
