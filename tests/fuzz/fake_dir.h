/*
 * fake_dir.h - one directory in memory as a row of the I/O seam: for targets whose code reads files
 * through struct io. Files have a length that may be seen only in part, and the next operations can
 * be told to fail. Memory behind what a read gave is poisoned, so that a look at it is noticed.
 */
#ifndef TESTS_FUZZ_FAKE_DIR_H
#define TESTS_FUZZ_FAKE_DIR_H

#include "fuzz.h"
#include "io/io.h"

#define FAKE_FILES 32
#define FAKE_READS 16

struct fake_file {
    char name[64];  /* "": removed */
    uint8_t *bytes; /* malloc'd */
    size_t len, seen;
};

struct fake_read {
    uint8_t *to;
    uint64_t offset, len;
    int file;
    bool write;
    void *userdata;
};

/* Counts down; the operation that finds 0 fails. Negative: never. */
struct fake_faults {
    int open_fails, read_fails, wait_fails;
    size_t read_most; /* bytes that one read gives */
};

struct fake_dir {
    struct io io;
    struct fake_file files[FAKE_FILES];
    int count, open;
    struct fake_read reads[FAKE_READS]; /* under way */
    int nreads;
    struct fake_faults faults;
    int writes; /* small files written, directories made */
};

void fake_dir_init(struct fake_dir *d);
/* NULL: there is such a name, or too many. Takes `bytes`, malloc'd. */
struct fake_file *fake_dir_add(struct fake_dir *d, const char *name, uint8_t *bytes, size_t len);
struct fake_file *fake_dir_find(struct fake_dir *d, const char *path);
void fake_dir_no_faults(struct fake_dir *d);
void fake_dir_clear(struct fake_dir *d);

#endif
