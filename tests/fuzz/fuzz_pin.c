/*
 * fuzz_pin.c - pins, and their names.
 *
 * Input: one byte of how (1: a right checksum, 2: right magic, version and flags, 4: as many keys
 * as there are bytes for), then the file. Promises: what is refused leaves the result alone;
 * nothing with a wrong checksum is taken; what is taken has its keys inside the file and a label
 * that ends, and is the same when it was written and read again. A name that is taken is the one
 * that would be written.
 */
#include <errno.h>

#include "base/le.h"
#include "cistern.h"
#include "fuzz.h"
#include "segment/pin.h"

#define AT(field) offsetof(struct pin_header, field)
#define HEAD      sizeof(struct pin_header)

static void repair(uint8_t *file, size_t len, unsigned how)
{
    if (len < HEAD)
        return;
    if (how & 2) {
        le64_store(file + AT(magic), FORMAT_PIN_MAGIC);
        le32_store(file + AT(version), FORMAT_VERSION);
        le32_store(file + AT(flags), 0);
    }
    if (how & 4)
        le32_store(file + AT(keys), (uint32_t)((len - HEAD) / 32));
    if (how & 1)
        le64_store(file + AT(checksum), fuzz_checksum(file, len, AT(checksum)));
}

static void taken_check(const uint8_t *file, size_t len, const struct pin_record *p)
{
    uint8_t *again = malloc(len);
    struct pin_record second;

    FUZZ_CHECK(le64_load(file + AT(checksum)) == fuzz_checksum(file, len, AT(checksum)));
    FUZZ_CHECK(p->nkeys >= 1 && p->nkeys <= PIN_KEYS_MAX && len == HEAD + 32 * (size_t)p->nkeys);
    FUZZ_CHECK(p->keys == file + HEAD && memchr(p->label, 0, sizeof p->label));
    pin_encode(p, again);
    FUZZ_CHECK(pin_decode(again, len, &second) == 0);
    FUZZ_CHECK(memcmp(second.keys, p->keys, 32 * (size_t)p->nkeys) == 0);
    FUZZ_CHECK(second.expires_s == p->expires_s && second.created_s == p->created_s);
    FUZZ_CHECK(second.bytes == p->bytes && strcmp(second.label, p->label) == 0);
    FUZZ_CHECK(memcmp(second.space, p->space, sizeof p->space) == 0);
    free(again);
}

static void name_check(const uint8_t *data, size_t size)
{
    char *name = fuzz_string((struct fuzz_in){data, size < 40 ? size : 40}), again[PIN_NAME_MAX];
    uint64_t id;

    if (pin_name_parse(name, &id)) {
        pin_name(again, id);
        FUZZ_CHECK(strcmp(again, name) == 0);
    }
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = fuzz_u8(&in);
    size_t len = size ? size - 1 : 0;
    uint8_t *file = malloc(len ? len : 1);
    struct pin_record p, untouched;
    int rc;

    name_check(data + (size > 0), len);
    fuzz_bytes(&in, file, len);
    repair(file, len, how);
    memset(&p, 0xa5, sizeof p);
    untouched = p;
    rc = pin_decode(file, len, &p);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == CISTERN_EFORMAT);
    if (rc == 0)
        taken_check(file, len, &p);
    else
        FUZZ_CHECK(memcmp(&p, &untouched, sizeof p) == 0);
    free(file);
    return 0;
}
