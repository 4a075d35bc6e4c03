/*
 * header.c - the header page of contents, and the head of a writer. Pure functions; decoding takes
 * any bytes and believes nothing before the checksum.
 */
#include "segment/toc.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "base/le.h"
#include "cistern.h"
#include "segment/segment_internal.h"

#define TOC_AT(field)  offsetof(struct toc_header, field)
#define HEAD_AT(field) offsetof(struct head_record, field)
#define SHARDS_MAX     256u
#define SEQ_END        (1ull << 32)

void toc_header_sum(void *page)
{
    alignas(64) uint8_t scratch[FORMAT_PAGE];

    le64_store((uint8_t *)page + TOC_AT(checksum),
               checksum_without(page, FORMAT_PAGE, TOC_AT(checksum), scratch));
}

void toc_header_encode(const struct toc_header *h, void *page)
{
    uint8_t *p = page;
    unsigned i;

    memset(p, 0, FORMAT_PAGE);
    le64_store(p + TOC_AT(magic), FORMAT_TOC_MAGIC);
    le32_store(p + TOC_AT(version), FORMAT_VERSION);
    le32_store(p + TOC_AT(header_bytes), FORMAT_PAGE);
    memcpy(p + TOC_AT(space), h->space, sizeof h->space);
    memcpy(p + TOC_AT(segment_id), h->segment_id, sizeof h->segment_id);
    le64_store(p + TOC_AT(writer), h->writer);
    le64_store(p + TOC_AT(seq), h->seq);
    le32_store(p + TOC_AT(shard), h->shard);
    le32_store(p + TOC_AT(shards), h->shards);
    le64_store(p + TOC_AT(created_s), h->created_s);
    le64_store(p + TOC_AT(segment_bytes), h->segment_bytes);
    le32_store(p + TOC_AT(flags), h->flags);
    for (i = 0; i < 3; i++)
        le32_store(p + TOC_AT(reserved) + 4u * i, h->reserved[i]);
    toc_header_sum(p);
}

/* The checksum is good: a version that we know and a page that makes sense? */
static int toc_header_judge(const struct toc_header *h)
{
    if (h->version != FORMAT_VERSION)
        return err_set(CISTERN_EFORMAT, "contents of format version %u, this library reads %u",
                       h->version, FORMAT_VERSION);
    if (h->flags & ~TOC_ENCRYPTED)
        return err_set(CISTERN_EFORMAT, "contents with flags %#x that this library does not know",
                       h->flags);
    if (h->header_bytes != FORMAT_PAGE || h->shards < 1 || h->shards > SHARDS_MAX ||
        h->shard >= h->shards || h->seq >= SEQ_END)
        return err_set(-EBADMSG, "header of contents contradicts itself");
    return 0;
}

int toc_header_decode(const void *page, struct toc_header *out)
{
    alignas(64) uint8_t p[FORMAT_PAGE];
    struct toc_header h = {0};
    uint64_t sum = checksum_without(page, FORMAT_PAGE, TOC_AT(checksum), p);
    unsigned i;
    int rc;

    h.magic = le64_load(p + TOC_AT(magic));
    if (h.magic != FORMAT_TOC_MAGIC)
        return err_set(-EBADMSG, "no header of contents");
    h.checksum = le64_load((const uint8_t *)page + TOC_AT(checksum));
    if (h.checksum != sum)
        return err_set(-EBADMSG, "checksum of the header of contents is wrong");
    h.version = le32_load(p + TOC_AT(version));
    h.header_bytes = le32_load(p + TOC_AT(header_bytes));
    memcpy(h.space, p + TOC_AT(space), sizeof h.space);
    memcpy(h.segment_id, p + TOC_AT(segment_id), sizeof h.segment_id);
    h.writer = le64_load(p + TOC_AT(writer));
    h.seq = le64_load(p + TOC_AT(seq));
    h.shard = le32_load(p + TOC_AT(shard));
    h.shards = le32_load(p + TOC_AT(shards));
    h.created_s = le64_load(p + TOC_AT(created_s));
    h.segment_bytes = le64_load(p + TOC_AT(segment_bytes));
    h.flags = le32_load(p + TOC_AT(flags));
    for (i = 0; i < 3; i++)
        h.reserved[i] = le32_load(p + TOC_AT(reserved) + 4u * i);
    rc = toc_header_judge(&h);
    if (rc == 0)
        *out = h;
    return rc;
}

void head_encode(const struct head_record *h, const uint32_t *touches, size_t n, void *page)
{
    alignas(64) uint8_t scratch[FORMAT_PAGE];
    uint8_t *p = page;
    size_t i;

    memset(p, 0, FORMAT_PAGE);
    le64_store(p + HEAD_AT(magic), FORMAT_HEAD_MAGIC);
    le32_store(p + HEAD_AT(version), FORMAT_VERSION);
    le32_store(p + HEAD_AT(state), h->state);
    memcpy(p + HEAD_AT(space), h->space, sizeof h->space);
    le64_store(p + HEAD_AT(writer), h->writer);
    le64_store(p + HEAD_AT(counter), h->counter);
    le32_store(p + HEAD_AT(shard), h->shard);
    le32_store(p + HEAD_AT(shards), h->shards);
    le64_store(p + HEAD_AT(first_seq), h->first_seq);
    le64_store(p + HEAD_AT(next_seq), h->next_seq);
    le64_store(p + HEAD_AT(published), h->published);
    le64_store(p + HEAD_AT(written_s), h->written_s);
    le32_store(p + HEAD_AT(pid), h->pid);
    le32_store(p + HEAD_AT(health), h->health);
    memcpy(p + HEAD_AT(host), h->host, strnlen(h->host, sizeof h->host - 1));
    le32_store(p + HEAD_AT(generation), h->generation);
    for (i = 0; i < n && i < HEAD_TOUCHES_MAX; i++)
        le32_store(p + HEAD_TOUCHES_AT + 4u * i, touches[i]);
    le64_store(p + HEAD_AT(checksum), checksum_without(p, FORMAT_PAGE, HEAD_AT(checksum), scratch));
}

static int head_judge(const struct head_record *h)
{
    if (h->version != FORMAT_VERSION)
        return err_set(CISTERN_EFORMAT, "head of format version %u, this library reads %u",
                       h->version, FORMAT_VERSION);
    if ((h->state != HEAD_LIVE && h->state != HEAD_CLOSED) || h->shards < 1 ||
        h->shards > SHARDS_MAX || h->shard >= h->shards || h->first_seq > h->next_seq ||
        h->next_seq > SEQ_END || h->host[sizeof h->host - 1] != '\0')
        return err_set(-EBADMSG, "head contradicts itself");
    return 0;
}

int head_decode(const void *page, struct head_record *out)
{
    alignas(64) uint8_t p[FORMAT_PAGE];
    struct head_record h = {0};
    uint64_t sum = checksum_without(page, FORMAT_PAGE, HEAD_AT(checksum), p);
    int rc;

    h.magic = le64_load(p + HEAD_AT(magic));
    if (h.magic != FORMAT_HEAD_MAGIC)
        return err_set(-EBADMSG, "no head");
    h.checksum = le64_load((const uint8_t *)page + HEAD_AT(checksum));
    if (h.checksum != sum)
        return err_set(-EBADMSG, "checksum of the head is wrong");
    h.version = le32_load(p + HEAD_AT(version));
    h.state = le32_load(p + HEAD_AT(state));
    memcpy(h.space, p + HEAD_AT(space), sizeof h.space);
    h.writer = le64_load(p + HEAD_AT(writer));
    h.counter = le64_load(p + HEAD_AT(counter));
    h.shard = le32_load(p + HEAD_AT(shard));
    h.shards = le32_load(p + HEAD_AT(shards));
    h.first_seq = le64_load(p + HEAD_AT(first_seq));
    h.next_seq = le64_load(p + HEAD_AT(next_seq));
    h.published = le64_load(p + HEAD_AT(published));
    h.written_s = le64_load(p + HEAD_AT(written_s));
    h.pid = le32_load(p + HEAD_AT(pid));
    h.health = le32_load(p + HEAD_AT(health));
    memcpy(h.host, p + HEAD_AT(host), sizeof h.host);
    h.generation = le32_load(p + HEAD_AT(generation));
    rc = head_judge(&h);
    if (rc == 0)
        *out = h;
    return rc;
}

void head_touches(const void *page, uint32_t *touches, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        touches[i] =
            i < HEAD_TOUCHES_MAX ? le32_load((const uint8_t *)page + HEAD_TOUCHES_AT + 4u * i) : 0;
}
