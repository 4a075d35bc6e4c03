/*
 * fuzz_head.c - the head of a writer and its touch counters.
 *
 * Input and promises as in fuzz_toc_header.c. Beyond them: the host's name ends inside its field,
 * the range of live segments is one, and no counter is read from behind the page.
 */
#include <errno.h>

#include "base/le.h"
#include "cistern.h"
#include "fuzz.h"
#include "segment/toc.h"

#define AT(field) offsetof(struct head_record, field)

static void page_repair(uint8_t *page, unsigned how)
{
    if (how & 2) {
        le64_store(page + AT(magic), FORMAT_HEAD_MAGIC);
        le32_store(page + AT(version), FORMAT_VERSION);
    }
    if (how & 4) { /* numbers near their bounds */
        le32_store(page + AT(state), le32_load(page + AT(state)) % 4);
        le32_store(page + AT(shard), le32_load(page + AT(shard)) % 260);
        le32_store(page + AT(shards), le32_load(page + AT(shards)) % 260);
        le64_store(page + AT(first_seq), le64_load(page + AT(first_seq)) % 8);
        le64_store(page + AT(next_seq), le64_load(page + AT(next_seq)) % 8);
    }
    if (how & 1)
        le64_store(page + AT(checksum), fuzz_checksum(page, FORMAT_PAGE, AT(checksum)));
}

static void touches_check(const uint8_t *page, const uint32_t *touches, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        FUZZ_CHECK(
            touches[i] ==
            (i < HEAD_TOUCHES_MAX ? le32_load(page + HEAD_TOUCHES_AT + sizeof *touches * i) : 0));
}

static void taken_check(const uint8_t *page, const struct head_record *h, size_t n)
{
    uint8_t *again = fuzz_copy(page, FORMAT_PAGE);
    uint32_t *touches = malloc((n + 1) * sizeof *touches);
    struct head_record second, first = *h;

    FUZZ_CHECK(le64_load(page + AT(checksum)) == fuzz_checksum(page, FORMAT_PAGE, AT(checksum)));
    FUZZ_CHECK(h->state == HEAD_LIVE || h->state == HEAD_CLOSED);
    FUZZ_CHECK(h->shards >= 1 && h->shards <= 256 && h->shard < h->shards);
    FUZZ_CHECK(h->first_seq <= h->next_seq && h->next_seq <= 1ull << 32);
    FUZZ_CHECK(memchr(h->host, 0, sizeof h->host) != NULL);
    head_touches(page, touches, n);
    touches_check(page, touches, n);
    head_encode(h, touches, n, again);
    touches_check(again, touches, n < HEAD_TOUCHES_MAX ? n : HEAD_TOUCHES_MAX);
    FUZZ_CHECK(memcmp(again, page, AT(host)) == 0);
    FUZZ_CHECK(head_decode(again, &second) == 0);
    /* What stands behind the end of the host's name is not written again. */
    memset(first.host + strlen(first.host), 0, sizeof first.host - strlen(first.host));
    first.checksum = second.checksum;
    FUZZ_CHECK(memcmp(&second, &first, sizeof second) == 0);
    free(touches);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = fuzz_u8(&in);
    size_t n = fuzz_u16(&in) % (2 * HEAD_TOUCHES_MAX);
    uint8_t *page = malloc(FORMAT_PAGE);
    struct head_record h, untouched;
    int rc;

    fuzz_bytes(&in, page, FORMAT_PAGE);
    page_repair(page, how);
    memset(&h, 0xa5, sizeof h);
    untouched = h;
    rc = head_decode(page, &h);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == CISTERN_EFORMAT);
    if (rc == 0)
        taken_check(page, &h, n);
    else
        FUZZ_CHECK(memcmp(&h, &untouched, sizeof h) == 0);
    free(page);
    return 0;
}
