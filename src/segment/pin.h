/*
 * pin.h - a pin: a small file in a space's directory that names keys whose blocks are to stay.
 *
 * A pin never changes: it is written once under a random name, and removed. Who may evict reads all
 * pins of the root. Pure functions on bytes; decoding takes any bytes and believes nothing before
 * the checksum.
 */
#ifndef SEGMENT_PIN_H
#define SEGMENT_PIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "segment/format.h"

#define PIN_NAME_MAX  24
#define PIN_KEYS_MAX  (1u << 16)
#define PIN_BYTES_MAX (sizeof(struct pin_header) + (size_t)PIN_KEYS_MAX * 32)

/* "<16 hex>.pin" */
void pin_name(char out[PIN_NAME_MAX], uint64_t id);
bool pin_name_parse(const char *name, uint64_t *id);

struct pin_record {
    uint8_t space[32];
    uint64_t created_s, expires_s; /* expires_s 0 = never */
    uint64_t bytes;                /* what the blocks take on all shards, as far as was known */
    uint32_t nkeys;
    char label[PIN_LABEL];
    const uint8_t *keys; /* nkeys of 32 bytes each; not owned */
};

/* Does it hold at this time (seconds since 1970)? */
static inline bool pin_holds(const struct pin_record *p, uint64_t now_s)
{
    return !p->expires_s || now_s < p->expires_s;
}

/* out: sizeof(struct pin_header) + 32 * nkeys bytes. */
void pin_encode(const struct pin_record *p, void *out);
/* p->keys points into bytes. 0; -EBADMSG: no pin, torn or rotten; CISTERN_EFORMAT: a later version.
 * The err text says more. */
int pin_decode(const void *bytes, size_t len, struct pin_record *out) MUST_CHECK;

#endif
