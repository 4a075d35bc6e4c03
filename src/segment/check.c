/*
 * check.c - checksums of the format. Pure functions.
 *
 * A check is the hash of the payload XORed with the hash of its identity: XOR, so that a block that
 * is carried to another place is re-mixed with two short hashes and none of its bytes.
 */
#include "segment/toc.h"

#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "segment/segment_internal.h"

void identity_encode(const struct check_identity *identity,
                     uint8_t b[sizeof(struct check_identity)])
{
    memcpy(b + offsetof(struct check_identity, space), identity->space, 32);
    memcpy(b + offsetof(struct check_identity, segment_id), identity->segment_id, 16);
    memcpy(b + offsetof(struct check_identity, key), identity->key, 32);
    le64_store(b + offsetof(struct check_identity, offset), identity->offset);
    le32_store(b + offsetof(struct check_identity, length), identity->length);
    le32_store(b + offsetof(struct check_identity, part), identity->part);
}

uint64_t format_check(const struct check_identity *identity, uint64_t payload_hash)
{
    uint8_t b[sizeof(struct check_identity)];

    identity_encode(identity, b);
    return payload_hash ^ hash64(b, sizeof b);
}

uint64_t checksum_without(const void *bytes, size_t len, size_t field, void *scratch)
{
    memcpy(scratch, bytes, len);
    memset((uint8_t *)scratch + field, 0, 8);
    return hash64(scratch, len);
}
