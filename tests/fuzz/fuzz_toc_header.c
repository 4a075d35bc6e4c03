/*
 * fuzz_toc_header.c - the header page of contents.
 *
 * Input: one byte of how (1: a right checksum, 2: right magic, version and size, 4: numbers near
 * their bounds), then the page, zeros behind its end. Promises: what is refused leaves the result
 * alone; nothing with a wrong checksum is taken; what is taken says only what a header may say, and
 * is the same when it was written and read again.
 */
#include <errno.h>

#include "base/le.h"
#include "cistern.h"
#include "fuzz.h"
#include "segment/toc.h"

#define SEQ_END   (1ull << 32)
#define AT(field) offsetof(struct toc_header, field)

static void page_repair(uint8_t *page, unsigned how)
{
    if (how & 2) {
        le64_store(page + AT(magic), FORMAT_TOC_MAGIC);
        le32_store(page + AT(version), FORMAT_VERSION);
        le32_store(page + AT(header_bytes), FORMAT_PAGE);
    }
    if (how & 4) { /* numbers near their bounds */
        le32_store(page + AT(shard), le32_load(page + AT(shard)) % 260);
        le32_store(page + AT(shards), le32_load(page + AT(shards)) % 260);
        le64_store(page + AT(seq), le64_load(page + AT(seq)) % (SEQ_END + 2));
    }
    if (how & 1)
        le64_store(page + AT(checksum), fuzz_checksum(page, FORMAT_PAGE, AT(checksum)));
}

static void taken_check(const uint8_t *page, const struct toc_header *h)
{
    uint8_t *again = fuzz_copy(page, FORMAT_PAGE);
    struct toc_header second;

    FUZZ_CHECK(le64_load(page + AT(checksum)) == fuzz_checksum(page, FORMAT_PAGE, AT(checksum)));
    FUZZ_CHECK(h->magic == FORMAT_TOC_MAGIC && h->version == FORMAT_VERSION &&
               !(h->flags & ~TOC_ENCRYPTED));
    FUZZ_CHECK(h->shards >= 1 && h->shards <= 256 && h->shard < h->shards);
    FUZZ_CHECK(h->seq < SEQ_END && h->header_bytes == FORMAT_PAGE);
    FUZZ_CHECK(memcmp(page + AT(space), h->space, 32) == 0);
    FUZZ_CHECK(memcmp(page + AT(segment_id), h->segment_id, 16) == 0);
    toc_header_encode(h, again);
    /* Only reserved bytes, which readers do not look at, may be other ones now. */
    FUZZ_CHECK(memcmp(again, page, AT(reserved)) == 0);
    FUZZ_CHECK(toc_header_decode(again, &second) == 0);
    second.checksum = h->checksum; /* covers the reserved bytes */
    FUZZ_CHECK(memcmp(&second, h, sizeof second) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = fuzz_u8(&in);
    uint8_t *page = malloc(FORMAT_PAGE);
    struct toc_header h, untouched;
    int rc;

    fuzz_bytes(&in, page, FORMAT_PAGE);
    page_repair(page, how);
    memset(&h, 0xa5, sizeof h);
    untouched = h;
    rc = toc_header_decode(page, &h);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == CISTERN_EFORMAT);
    if (rc == 0)
        taken_check(page, &h);
    else
        FUZZ_CHECK(memcmp(&h, &untouched, sizeof h) == 0);
    free(page);
    return 0;
}
