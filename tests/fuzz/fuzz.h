/*
 * fuzz.h - what the fuzz targets share: taking an input apart, saying what does not hold, and the
 * checksums of the format. A target is one program with LLVMFuzzerTestOneInput(); it is run by one
 * thread and keeps nothing from one input to the next, so that an input alone repeats a finding.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A promise that must hold for every input. */
#define FUZZ_CHECK(what)                                                                           \
    ((what) ? (void)0 : fuzz_broken(__FILE__, __LINE__, __func__, #what, err_text()))

const char *err_text(void);

__attribute__((noreturn)) static inline void
fuzz_broken(const char *file, int line, const char *function, const char *what, const char *text)
{
    fprintf(stderr, "%s:%d: error: %s: does not hold: %s (last failure: %s)\n", file, line,
            function, what, text);
    abort();
}

/* What is left of an input. Taking more than there is gives zeros. */
struct fuzz_in {
    const uint8_t *at;
    size_t left;
};

static inline uint64_t fuzz_int(struct fuzz_in *in, unsigned bytes)
{
    uint64_t v = 0;
    unsigned i;

    for (i = 0; i < bytes && in->left; i++) {
        v |= (uint64_t)*in->at++ << (8 * i);
        in->left--;
    }
    return v;
}

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    return (uint8_t)fuzz_int(in, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_in *in)
{
    return (uint16_t)fuzz_int(in, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_in *in)
{
    return (uint32_t)fuzz_int(in, 4);
}

static inline uint64_t fuzz_u64(struct fuzz_in *in)
{
    return fuzz_int(in, 8);
}

static inline void fuzz_bytes(struct fuzz_in *in, void *to, size_t n)
{
    size_t got = n < in->left ? n : in->left;

    memset(to, 0, n);
    if (got)
        memcpy(to, in->at, got);
    in->at += got;
    in->left -= got;
}

/* The next `n` bytes, or as many as there are, without copying. */
static inline struct fuzz_in fuzz_part(struct fuzz_in *in, size_t n)
{
    struct fuzz_in part = {in->at, n < in->left ? n : in->left};

    in->at += part.left;
    in->left -= part.left;
    return part;
}

/* Bytes with a 16-bit length before them. */
static inline struct fuzz_in fuzz_blob(struct fuzz_in *in)
{
    return fuzz_part(in, fuzz_u16(in));
}

/* A copy that ends where its memory ends, so that a look behind it is noticed. For free(). */
static inline void *fuzz_copy(const void *bytes, size_t n)
{
    void *p = malloc(n ? n : 1);

    if (!p)
        abort();
    if (n)
        memcpy(p, bytes, n);
    return p;
}

/* The part as a string of exactly its length; a zero byte ends it earlier. For free(). */
static inline char *fuzz_string(struct fuzz_in part)
{
    size_t n = strnlen((const char *)part.at, part.left);
    char *s = malloc(n + 1);

    if (!s)
        abort();
    if (n)
        memcpy(s, part.at, n);
    s[n] = 0;
    return s;
}

/* XXH3-64 of bytes[0..len) with the eight bytes at `field` taken as zero, by a code path of its
 * own: what the format says, not what the library does. */
uint64_t fuzz_checksum(const void *bytes, size_t len, size_t field);

#endif
