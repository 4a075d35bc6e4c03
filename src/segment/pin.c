/*
 * pin.c - bytes and names of pins. See pin.h; docs/FORMAT.md, "Pins".
 */
#include "segment/pin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "cistern.h"

#define AT(field)   offsetof(struct pin_header, field)
#define NAME_DIGITS 16

void pin_name(char out[PIN_NAME_MAX], uint64_t id)
{
    (void)snprintf(out, PIN_NAME_MAX, "%016" PRIx64 ".pin", id);
}

bool pin_name_parse(const char *name, uint64_t *id)
{
    char check[PIN_NAME_MAX];
    uint64_t v;

    if (strspn(name, "0123456789abcdef") != NAME_DIGITS || sscanf(name, "%16" SCNx64, &v) != 1)
        return false;
    pin_name(check, v);
    if (strcmp(check, name) != 0)
        return false;
    *id = v;
    return true;
}

/* Of everything, the checksum itself taken as zero. */
static uint64_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t head[sizeof(struct pin_header)];
    struct hash64_state s;

    memcpy(head, bytes, sizeof head);
    memset(head + AT(checksum), 0, 8);
    hash64_begin(&s);
    hash64_add(&s, head, sizeof head);
    hash64_add(&s, bytes + sizeof head, len - sizeof head);
    return hash64_end(&s);
}

void pin_encode(const struct pin_record *p, void *out)
{
    uint8_t *b = out;
    size_t len = sizeof(struct pin_header) + 32 * (size_t)p->nkeys;

    memset(b, 0, sizeof(struct pin_header));
    le64_store(b + AT(magic), FORMAT_PIN_MAGIC);
    le32_store(b + AT(version), FORMAT_VERSION);
    memcpy(b + AT(space), p->space, sizeof p->space);
    le64_store(b + AT(created_s), p->created_s);
    le64_store(b + AT(expires_s), p->expires_s);
    le64_store(b + AT(bytes), p->bytes);
    le32_store(b + AT(keys), p->nkeys);
    memcpy(b + AT(label), p->label, strnlen(p->label, sizeof p->label - 1));
    memcpy(b + sizeof(struct pin_header), p->keys, 32 * (size_t)p->nkeys);
    le64_store(b + AT(checksum), checksum(b, len));
}

int pin_decode(const void *bytes, size_t len, struct pin_record *out)
{
    const uint8_t *b = bytes;
    struct pin_record p = {.keys = b + sizeof(struct pin_header)};

    if (len < sizeof(struct pin_header) || le64_load(b) != FORMAT_PIN_MAGIC)
        return err_set(-EBADMSG, "no pin");
    if (le64_load(b + AT(checksum)) != checksum(b, len))
        return err_set(-EBADMSG, "checksum of the pin is wrong");
    if (le32_load(b + AT(version)) != FORMAT_VERSION || le32_load(b + AT(flags)))
        return err_set(CISTERN_EFORMAT, "a pin of format version %u, flags %#x",
                       le32_load(b + AT(version)), le32_load(b + AT(flags)));
    p.nkeys = le32_load(b + AT(keys));
    memcpy(p.space, b + AT(space), sizeof p.space);
    p.created_s = le64_load(b + AT(created_s));
    p.expires_s = le64_load(b + AT(expires_s));
    p.bytes = le64_load(b + AT(bytes));
    memcpy(p.label, b + AT(label), sizeof p.label);
    if (p.nkeys < 1 || p.nkeys > PIN_KEYS_MAX ||
        len != sizeof(struct pin_header) + 32 * (size_t)p.nkeys || p.label[sizeof p.label - 1])
        return err_set(-EBADMSG, "the pin contradicts itself");
    *out = p;
    return 0;
}
