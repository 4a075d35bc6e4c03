/*
 * fuzz_sealed.c - encrypted contents in the hands of somebody who has the files and not the key.
 *
 * Contents of a few frames are made and encrypted here, under fixed keys; the input says what is
 * changed in them. Whoever changes them can make right checksums, so that is done for him.
 * Promises: a record that the reader gives is the one that was written, at its place, whatever was
 * changed; without the key none is given; a wrapped key comes out of an untouched header page only;
 * any bytes as a key file give keys or an error that shows none of them.
 *
 * Input: one byte of how (toc_repair()), length and bytes of a key file, then changes: place in two
 * bytes, what is XORed in one.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "cistern.h"
#include "toc_reference.h"

#define FILE_BYTES  8192u
#define BLOCKS      70u /* more than one frame */
#define CHANGES_MAX 64u
#define SLOTS       4u

static const uint8_t segment_id[16] = "segment sixteen";
static const uint8_t segment_key[CRYPT_KEY] = "a key of thirty-two bytes, fixed";

static int memory_file(const void *bytes, size_t n, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, bytes, n) == (ssize_t)n);
    (void)snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static struct crypt *masters(const void *bytes, size_t n)
{
    struct crypt *k = NULL;
    char path[32];
    int fd = memory_file(bytes, n, path), rc = crypt_open(path, SLOTS, &k);

    (void)close(fd);
    FUZZ_CHECK(rc == 0 || (rc == CISTERN_ECONFIG && !k));
    return k;
}

/* ---- What is changed ---- */

struct written {
    uint8_t page[FORMAT_PAGE], file[FILE_BYTES];
    struct block_info blocks[BLOCKS];
    size_t len;
};

static void write_all(struct written *x, const struct crypt *k, struct cipher *cipher)
{
    struct toc_header h = {.segment_bytes = 1 << 20, .shards = 1, .flags = TOC_ENCRYPTED};
    struct toc_writer w;
    struct toc_batch b;
    uint32_t i;

    memcpy(h.segment_id, segment_id, sizeof segment_id);
    toc_header_encode(&h, x->page);
    FUZZ_CHECK(toc_wrap(k, cipher, segment_key, x->page) == 0);
    toc_writer_init(&w, segment_id);
    w.key = segment_key;
    w.cipher = cipher;
    toc_batch_begin(&b, &w, x->file, sizeof x->file);
    for (i = 0; i < BLOCKS; i++) {
        struct block_info *info = &x->blocks[i];

        memset(info->key, (int)i + 1, sizeof info->key);
        info->offset = i;
        info->mask = 1;
        info->parts = 1;
        info->length[0] = 1 + i;
        info->check[0] = 0x1234567890abcdefull * (i + 1);
        info->depth = i;
        FUZZ_CHECK(toc_batch_block(&b, info) == 0);
    }
    FUZZ_CHECK(toc_batch_end(&b, (uint64_t)BLOCKS * FORMAT_PAGE, 5) == 0);
    x->len = b.used;
}

/* ---- What is read then ---- */

static void frames_check(const struct written *x, struct cipher *cipher, const uint8_t *key,
                         bool untouched)
{
    struct toc_log found = {0};
    struct toc_sink sink = toc_log_sink(&found);
    struct toc_cursor c;
    size_t i;
    int end;

    toc_cursor_init(&c, segment_id);
    c.encrypted = true;
    c.key = key;
    c.cipher = cipher;
    end = toc_parse(&c, x->file, sizeof x->file, true, &sink);
    FUZZ_CHECK(end == TOC_END || end == TOC_TORN || end == TOC_LATER);
    FUZZ_CHECK(found.count <= BLOCKS && (key || !found.count));
    for (i = 0; i < found.count; i++) {
        FUZZ_CHECK(found.at[i].kind == RECORD_BLOCK);
        FUZZ_CHECK(memcmp(&found.at[i].block, &x->blocks[i], sizeof x->blocks[i]) == 0);
    }
    FUZZ_CHECK(!untouched || (end == TOC_END && (!key || found.count == BLOCKS)));
    toc_log_free(&found);
}

/* Bytes of the page that the wrapped key does not depend on: the checksum, and a reserved field. */
static bool is_free(size_t at)
{
    return (at >= 120 && at < 128) || (at >= 148 && at < 152) || at >= 200;
}

static void page_check(const struct written *x, const struct crypt *k, struct cipher *cipher,
                       bool changed)
{
    uint8_t key[CRYPT_KEY] = {0};
    int rc = toc_unwrap(k, cipher, x->page, key);

    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == CISTERN_EKEY);
    FUZZ_CHECK((rc == 0) == !changed);
    FUZZ_CHECK(rc ? !memcmp(key, (uint8_t[CRYPT_KEY]){0}, CRYPT_KEY)
                  : !memcmp(key, segment_key, CRYPT_KEY));
    FUZZ_CHECK(toc_unwrap(NULL, cipher, x->page, key) == CISTERN_EKEY);
}

static void change(struct written *x, struct fuzz_in *in, bool *file)
{
    uint32_t i;

    for (i = 0; i < CHANGES_MAX && in->left; i++) {
        uint32_t at = fuzz_u16(in) % (FORMAT_PAGE + FILE_BYTES);
        uint8_t by = fuzz_u8(in);

        if (at < FORMAT_PAGE) {
            x->page[at] ^= by;
        } else {
            x->file[at - FORMAT_PAGE] ^= by;
            *file |= by != 0;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size}, file;
    unsigned how = fuzz_u8(&in);
    struct written *x = calloc(1, sizeof *x), *before = calloc(1, sizeof *x);
    struct crypt *k;
    struct cipher *cipher;
    bool page_changed = false, file_changed = false;

    file = fuzz_part(&in, fuzz_u16(&in) % 4096);
    FUZZ_CHECK(cipher_open(&cipher) == 0);
    k = masters(file.at, file.left);
    crypt_close(k);
    k = masters(segment_key, sizeof segment_key);
    FUZZ_CHECK(k != NULL);
    write_all(x, k, cipher);
    *before = *x;
    change(x, &in, &file_changed);
    if (file_changed && (how & 3))
        toc_repair(x->file, sizeof x->file, FORMAT_PAGE, segment_id, how);

    for (size_t i = 0; i < FORMAT_PAGE; i++)
        page_changed |= !is_free(i) && x->page[i] != before->page[i];
    page_check(x, k, cipher, page_changed);
    frames_check(x, cipher, segment_key, !file_changed);
    frames_check(x, cipher, NULL, !file_changed);
    crypt_close(k);
    cipher_close(cipher);
    free(x);
    free(before);
    return 0;
}
